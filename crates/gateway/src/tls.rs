//! Certificates by name, exchanged while connections come in, and the TLS settings around them.
//!
//! The table of certificates is one value behind one pointer: a handshake that has begun keeps the
//! one it found. Settings differ only where clients must show certificates; each of those has session
//! tickets of its own, or a ticket of an open host would open a closed one.

use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use rustc_hash::FxHashMap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

/// Protocol by which a certificate authority asks for the proof of RFC 8737.
pub const ACME_TLS: &[u8] = b"acme-tls/1";

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {path}: {error}")]
    File {
        /// Which.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// Others could read the key.
    #[error("{0} must be readable by its owner alone (mode 0600)")]
    Mode(String),
    /// Not PEM, or not what it should hold.
    #[error("{0}")]
    Content(String),
}

/// A chain of certificates with its private key.
#[derive(Clone, Debug)]
pub struct Certificate(Arc<CertifiedKey>);

impl Certificate {
    /// From PEM text.
    ///
    /// # Errors
    /// It is no chain, no key, or they do not belong together.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let content =
            |what: &str, error: &dyn std::fmt::Display| CertificateError::Content(format!("{what}: {error}"));
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
        let chain = chain.map_err(|error| content("certificate", &error))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| content("key", &error))?;
        Self::from_der(chain, key)
    }

    /// From their binary form.
    ///
    /// # Errors
    /// As [`Certificate::from_pem`].
    pub fn from_der(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, CertificateError> {
        if chain.is_empty() {
            return Err(CertificateError::Content("no certificate in it".into()));
        }
        let certified = CertifiedKey::from_der(chain, key, &provider());
        let certified = certified.map_err(|error| CertificateError::Content(error.to_string()))?;
        Ok(Self(Arc::new(certified)))
    }

    /// For [`Certificates::set_challenge`]: one whose critical extension (RFC 8737, 3) no verifier knows,
    /// so that it is not held against its key either.
    ///
    /// # Errors
    /// There is no certificate, or no usable key.
    pub fn challenge_from_der(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, CertificateError> {
        if chain.is_empty() {
            return Err(CertificateError::Content("no certificate in it".into()));
        }
        let key = provider().key_provider.load_private_key(key);
        let key = key.map_err(|error| CertificateError::Content(error.to_string()))?;
        Ok(Self(Arc::new(CertifiedKey::new(chain, key))))
    }

    /// From PEM files; that of the key must be a regular file that nobody else can read.
    ///
    /// # Errors
    /// The files cannot be read, others can read the key, or as [`Certificate::from_pem`].
    pub fn from_files(chain: &Path, key: &Path) -> Result<Self, CertificateError> {
        let file = |path: &Path, error| CertificateError::File { path: path.display().to_string(), error };
        let chain_pem = std::fs::read(chain).map_err(|error| file(chain, error))?;
        Self::from_pem(&chain_pem, &read_key(key)?)
    }

    /// The certificates, the server's own first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.0.cert
    }
}

fn read_key(path: &Path) -> Result<Vec<u8>, CertificateError> {
    let shown = || path.display().to_string();
    let failed = |error| CertificateError::File { path: shown(), error };
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.read(true).custom_flags(nix::libc::O_NOFOLLOW).open(path).map_err(failed)?;
    // Of the open file, so that it cannot be exchanged in between.
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() || meta.mode() & 0o077 != 0 {
        return Err(CertificateError::Mode(shown()));
    }
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut file, &mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// The one provider of cryptography, named wherever one is needed.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

#[derive(Clone, Debug, Default)]
struct Table {
    exact: FxHashMap<String, Certificate>,
    /// By what follows the `*.`.
    wildcard: FxHashMap<String, Certificate>,
}

impl Table {
    fn get(&self, host: &str) -> Option<&Certificate> {
        let wildcard = || self.wildcard.get(host.split_once('.')?.1);
        self.exact.get(host).or_else(wildcard)
    }

    fn map(&mut self, host: &str) -> (&mut FxHashMap<String, Certificate>, String) {
        match host.strip_prefix("*.") {
            Some(rest) => (&mut self.wildcard, rest.to_ascii_lowercase()),
            None => (&mut self.exact, host.to_ascii_lowercase()),
        }
    }
}

/// Certificates by host name; `*.example.org` covers names of one label more.
#[derive(Debug, Default)]
pub struct Certificates {
    table: ArcSwap<Table>,
    challenges: ArcSwap<FxHashMap<String, Certificate>>,
    /// Answers to HTTP-01 challenges: key authorisations by token.
    answers: ArcSwap<FxHashMap<String, String>>,
    /// Whose certificate clients get that name no host.
    default: ArcSwapOption<String>,
}

impl Certificates {
    /// An empty table.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Uses `certificate` for these names in every handshake from now on.
    pub fn set(&self, hosts: &[impl AsRef<str>], certificate: &Certificate) {
        self.table.rcu(|table| {
            let mut table = Table::clone(table);
            for host in hosts {
                let (map, name) = table.map(host.as_ref());
                map.insert(name, certificate.clone());
            }
            table
        });
    }

    /// Has no certificate for this name from now on.
    pub fn remove(&self, host: &str) {
        self.table.rcu(|table| {
            let mut table = Table::clone(table);
            let (map, name) = table.map(host);
            map.remove(&name);
            table
        });
    }

    /// The certificate that a client asking for `host` gets.
    pub fn get(&self, host: &str) -> Option<Certificate> {
        self.table.load().get(host).cloned()
    }

    /// Answers TLS-ALPN-01 challenges for `host` with this certificate, until it is taken away.
    pub fn set_challenge(&self, host: &str, certificate: Option<Certificate>) {
        self.challenges.rcu(|challenges| {
            let mut challenges = FxHashMap::clone(challenges);
            match &certificate {
                Some(certificate) => challenges.insert(host.to_ascii_lowercase(), certificate.clone()),
                None => challenges.remove(&host.to_ascii_lowercase()),
            };
            challenges
        });
    }

    /// Answers the HTTP-01 challenge `token` on plain HTTP, or no longer.
    pub fn set_answer(&self, token: &str, answer: Option<&str>) {
        self.answers.rcu(|answers| {
            let mut answers = FxHashMap::clone(answers);
            match answer {
                Some(answer) => answers.insert(token.to_owned(), answer.to_owned()),
                None => answers.remove(token),
            };
            answers
        });
    }

    /// The answer to the HTTP-01 challenge `token`.
    pub(crate) fn answer(&self, token: &str) -> Option<String> {
        self.answers.load().get(token).cloned()
    }

    pub(crate) fn set_default(&self, host: Option<&str>) {
        self.default.store(host.map(|host| Arc::new(host.to_owned())));
    }

    /// Whether a TLS-ALPN-01 challenge for `host` is under way here.
    pub fn has_challenge(&self, host: &str) -> bool {
        self.challenges.load().contains_key(host)
    }
}

#[derive(Debug)]
struct ByName(Arc<Certificates>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        match hello.server_name() {
            Some(name) => Some(self.0.get(&name.to_ascii_lowercase())?.0),
            None => Some(self.0.get(self.0.default.load().as_deref()?)?.0),
        }
    }
}

#[derive(Debug)]
struct Challenge(Arc<Certificates>);

impl ResolvesServerCert for Challenge {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let challenges = self.0.challenges.load();
        Some(challenges.get(&hello.server_name()?.to_ascii_lowercase())?.0.clone())
    }
}

/// Settings for hosts whose clients need no certificate.
pub(crate) fn open_settings(certificates: &Arc<Certificates>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let config = builder.with_no_client_auth().with_cert_resolver(Arc::new(ByName(certificates.clone())));
    finish(config)
}

/// Settings for hosts whose clients must show a certificate of one of these authorities.
pub(crate) fn closed_settings(
    certificates: &Arc<Certificates>,
    authorities: &str,
) -> Result<Arc<ServerConfig>, String> {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(authorities.as_bytes()) {
        let authority = authority.map_err(|error| error.to_string())?;
        roots.add(authority).map_err(|error| error.to_string())?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let verifier = verifier.build().map_err(|error| error.to_string())?;
    let builder = ServerConfig::builder_with_provider(provider());
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    let resolver = Arc::new(ByName(certificates.clone()));
    let config = builder.with_client_cert_verifier(verifier).with_cert_resolver(resolver);
    finish(config).map_err(|error| error.to_string())
}

/// Settings that answer challenges and carry nothing else.
pub(crate) fn challenge_settings(
    certificates: &Arc<Certificates>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let resolver = Arc::new(Challenge(certificates.clone()));
    let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
    config.alpn_protocols = vec![ACME_TLS.to_vec()];
    Ok(Arc::new(config))
}

fn finish(mut config: ServerConfig) -> Result<Arc<ServerConfig>, rustls::Error> {
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    // Tickets carry sessions; a table of them would only take room.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 1;
    config.ignore_client_order = true;
    Ok(Arc::new(config))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    pub(crate) fn self_signed(host: &str) -> (String, String) {
        let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn certificate(host: &str) -> Certificate {
        let (chain, key) = self_signed(host);
        Certificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap()
    }

    #[test]
    fn a_name_has_its_own_certificate_before_the_wildcards() {
        let certificates = Certificates::new();
        let (own, wild) = (certificate("a.example.org"), certificate("*.example.org"));
        certificates.set(&["*.Example.org"], &wild);
        certificates.set(&["a.example.org"], &own);
        let is = |host: &str, expected: &Certificate| {
            certificates.get(host).is_some_and(|found| found.chain() == expected.chain())
        };
        assert!(is("a.example.org", &own));
        assert!(is("b.example.org", &wild));
        assert!(certificates.get("example.org").is_none());
        assert!(certificates.get("x.b.example.org").is_none(), "one label only");
        certificates.remove("a.example.org");
        assert!(is("a.example.org", &wild));
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (chain, key) = (dir.path().join("chain.pem"), dir.path().join("key.pem"));
        let (chain_pem, key_pem) = self_signed("a.example");
        std::fs::write(&chain, chain_pem).unwrap();
        std::fs::write(&key, key_pem).unwrap();
        for (mode, good) in [(0o644, false), (0o640, false), (0o600, true), (0o400, true)] {
            std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
            let result = Certificate::from_files(&chain, &key);
            assert_eq!(result.is_ok(), good, "{mode:o}: {result:?}");
        }
        let link = dir.path().join("link.pem");
        std::os::unix::fs::symlink(&key, &link).unwrap();
        assert!(Certificate::from_files(&chain, &link).is_err(), "a link");
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let (chain, _) = self_signed("a.example");
        let (_, key) = self_signed("b.example");
        let error = Certificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("key"), "{error}");
    }
}
