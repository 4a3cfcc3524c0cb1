//! Certificates from an ACME authority (RFC 8555), kept for a changing set of hosts.
//!
//! ```text
//!  set_hosts ─▶ Book: who is due, how long to wait ─▶ one order each ─▶ Install (hot swap)
//!                 ▲        (pure, virtual time)          │    ▲
//!                 └──── issued, failed, ARI window ◀─────┘    └─▶ Challenges: proofs while they last
//!  Texts ─▶ answers for `_acme-challenge.…`, UDP and TCP       files: account, keys, chains, failures (0600)
//! ```
//!
//! The crate knows no web server. Whoever has one gives it two things: [`Challenges`], where proofs are
//! shown to the authority, and [`Install`], which takes finished certificates into use.
//!
//! ```no_run
//! # use std::{net::{TcpListener, UdpSocket}, sync::Arc};
//! # use sinew_acme::*;
//! # struct Front;
//! # impl Challenges for Front { fn set(&self, _: &Proof) {} fn clear(&self, _: &Proof) {} }
//! # impl Install for Front { fn install(&self, _: &str, _: Pair) -> Result<(), String> { Ok(()) } fn remove(&self, _: &str) {} }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut options = Options::new("/var/lib/sinew/acme");
//! options.contact = vec!["mailto:ops@example.org".into()];
//! // Starts a thread: after the process has given up its privileges; the state folder must stay writable.
//! let manager = Manager::start(options, Arc::new(Front), Arc::new(Front))?;
//! manager.set_hosts(vec![
//!     Wanted::new("app.example.org", &[ChallengeKind::TlsAlpn01, ChallengeKind::Http01]),
//!     Wanted::new("*.gw.example.org", &[ChallengeKind::Dns01]),
//! ]);
//! // For DNS-01: `Challenges::set` puts `Proof::Dns` into the table with `Texts::set`.
//! let texts = Texts::new("ns.gw.example.org");
//! texts.set_hosts(&["*.gw.example.org"]);
//! manager.serve_dns(&texts, UdpSocket::bind("[::]:53")?, TcpListener::bind("[::]:53")?)?;
//! for host in manager.status() {
//!     println!("{} {:?}", host.host, host.state);
//! }
//! # Ok(()) }
//! ```
//!
//! * [`Manager::set_hosts`] may be called at any time and says everything that is wanted; hosts whose
//!   certificate is on disk are installed at once, without an order.
//! * A host that is no longer wanted is removed from use; its files stay until they expire, so that a
//!   service that comes back does not cost another order.
//! * Failures are written down: a restart does not begin to knock again.
//!
//! For operators: `docs/operating/certificates.md`.

mod book;
mod folder;
mod manager;
mod order;
mod texts;
mod web;
mod x509;

use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};

pub use book::{HostState, HostStatus, Rules};
pub use manager::{Manager, StartError};
pub use texts::{TextCounts, Texts};

/// Where Let's Encrypt is.
pub const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// How to prove that a host is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChallengeKind {
    /// A TLS handshake on port 443 with a certificate that holds the proof (RFC 8737).
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// A file over plain HTTP on port 80 (RFC 8555, 8.3).
    #[serde(rename = "http-01")]
    Http01,
    /// A TXT record; the only one for wildcards (RFC 8555, 8.4).
    #[serde(rename = "dns-01")]
    Dns01,
}

impl ChallengeKind {
    /// As the protocol writes it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Http01 => "http-01",
            Self::Dns01 => "dns-01",
        }
    }
}

/// A host that needs a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Its name in lower case; `*.` in front for all names of one label more.
    pub host: String,
    /// Ways to prove it, in the order in which they are tried: one an attempt.
    pub challenges: Vec<ChallengeKind>,
}

impl Wanted {
    /// A host and the ways to prove it.
    pub fn new(host: impl Into<String>, challenges: &[ChallengeKind]) -> Self {
        Self { host: host.into(), challenges: challenges.to_vec() }
    }
}

/// A chain of certificates (the host's own first) with its private key.
#[derive(Debug)]
pub struct Pair {
    /// The chain.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key.
    pub key: PrivateKeyDer<'static>,
}

impl Clone for Pair {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

/// What the authority is to find.
#[derive(Clone, Debug)]
pub enum Proof {
    /// Handshakes for `host` that offer `acme-tls/1` alone get this certificate.
    TlsAlpn {
        /// The name in the hello.
        host: String,
        /// What it is shown.
        certificate: Pair,
    },
    /// `http://HOST/.well-known/acme-challenge/TOKEN` is `answer`.
    Http {
        /// Whom it is asked of.
        host: String,
        /// Last part of the path.
        token: String,
        /// The body.
        answer: String,
    },
    /// `name` has a TXT record `value`, beside others it may have.
    Dns {
        /// `_acme-challenge.HOST`.
        name: String,
        /// The text.
        value: String,
    },
}

/// Shows proofs. What is set must be visible from outside when `set` returns.
pub trait Challenges: Send + Sync + 'static {
    /// Shows it from now on.
    fn set(&self, proof: &Proof);
    /// Shows it no longer.
    fn clear(&self, proof: &Proof);
}

/// Takes certificates into use.
pub trait Install: Send + Sync + 'static {
    /// Uses `pair` for new handshakes of `host` from now on; also at every renewal.
    ///
    /// # Errors
    /// Why it cannot be used. It is then ordered again, not sooner than after a failure.
    fn install(&self, host: &str, pair: Pair) -> Result<(), String>;
    /// The host is no longer wanted.
    fn remove(&self, host: &str);
}

/// How certificates are ordered.
#[derive(Clone)]
pub struct Options {
    /// The authority's directory.
    pub directory: String,
    /// PEM text of the authorities that the *directory's own* TLS certificate may come from; none for
    /// those of the system (`/etc/ssl/certs/ca-certificates.crt`), which are read at the start.
    pub roots: Option<Vec<u8>>,
    /// `mailto:` addresses for the account.
    pub contact: Vec<String>,
    /// Key identifier and key of an external account (RFC 8555, 7.3.4), for authorities that ask for one.
    pub external_account: Option<(String, Vec<u8>)>,
    /// Where account, keys and certificates are kept. Made if missing; each authority has a folder of
    /// its own in it, so that a change of authority orders anew.
    pub folder: PathBuf,
    /// When to renew and how long to wait.
    pub rules: Rules,
    /// How long an order may take until it counts as failed.
    pub patience: Duration,
}

impl Options {
    /// Let's Encrypt, and the usual times.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            directory: LETS_ENCRYPT.to_owned(),
            roots: None,
            contact: Vec::new(),
            external_account: None,
            folder: folder.into(),
            rules: Rules::default(),
            patience: Duration::from_secs(180),
        }
    }

    /// Reads the system's roots now, unless others are given: for a process that gives up the right to.
    ///
    /// # Errors
    /// [`StartError::Roots`].
    pub fn read_roots(&mut self) -> Result<(), StartError> {
        self.roots = Some(manager::roots(self)?);
        Ok(())
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the external account's key.
        out.debug_struct("Options")
            .field("directory", &self.directory)
            .field("contact", &self.contact)
            .field("folder", &self.folder)
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}
