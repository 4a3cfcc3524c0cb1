//! The daemon's configuration file: TOML, judged whole before anything is started.
//!
//! Reading goes in three steps. `schema` is the file's shape (serde, unknown keys refused),
//! `check` turns it into [`Config`], whose every value is usable as it stands, and collects all
//! mistakes at once, and `diagnose` finds the line of each mistake and names the remedy. `keys` is
//! the one list of keys that the messages, [`fn@diff`] and the schema's tests rely on.
//!
//! Sections of later versions are known to the schema, so that a file for a newer daemon gets an
//! exact answer ("not in this version") instead of "unknown key"; nothing is silently ignored.

mod check;
mod diagnose;
mod diff;
mod edit;
mod finding;
mod gateway;
mod inbound;
mod keys;
mod limits;
mod metrics;
mod schema;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use sinew_types::{Class, NodeId, PeerUri, Rate};

pub use diagnose::{ConfigError, Diagnostic};
pub use diff::{Change, Effect, diff};
pub use edit::{EditError, add_peer, remove_peer, save};
pub use finding::{Discovery, Peering};
pub use gateway::{AccessLog, Acme, CertificateFiles, Gateway, PublishAccept};
pub use inbound::{Inbound, InboundRule, Service};
pub use metrics::Metrics;

/// Everything the daemon is told; defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Who this node is.
    pub node: Node,
    /// Who may link.
    pub mesh: Mesh,
    /// Where to listen.
    pub listen: Listen,
    /// What WebSocket and QUIC listeners show.
    pub tls: Tls,
    /// How to get out.
    pub proxy: Proxy,
    /// Which paths are looked for.
    pub reach: Reach,
    /// What is carried for others.
    pub transit: Transit,
    /// Whom to connect to. One node may appear with several endpoints.
    pub peers: Vec<Peer>,
    /// The local interface.
    pub tun: Tun,
    /// What is left to the kernel.
    pub offload: Offload,
    /// How nodes are found.
    pub discovery: Discovery,
    /// How many links there are.
    pub peering: Peering,
    /// The operators' socket.
    pub control: Control,
    /// Where numbers are read.
    pub metrics: Metrics,
    /// Names.
    pub dns: Dns,
    /// Present: this node is a public gateway.
    pub gateway: Option<Gateway>,
}

/// `[node]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The secret key; made on first start.
    pub key_file: PathBuf,
    /// For people.
    pub name: Option<String>,
    /// Small persistent state.
    pub state_dir: PathBuf,
    /// Router or stub; a stub also where `[transit]` is switched off.
    pub class: Class,
}

/// `[mesh]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mesh {
    /// The mesh's secret; none = open mesh.
    pub secret_file: Option<PathBuf>,
    /// Who may link.
    pub accept: Accept,
}

/// Who may link to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// Anyone who holds the mesh secret (or anyone, without one).
    Any,
    /// Only configured peers and members.
    Listed,
}

impl Accept {
    /// The word in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Listed => "listed",
        }
    }
}

/// `[listen]`: no two entries of one carrier overlap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// UDP sockets. Empty: only outgoing links, from a port of the system's choice.
    pub udp: Vec<SocketAddr>,
    /// TCP sockets.
    pub tcp: Vec<SocketAddr>,
    /// QUIC sockets.
    pub quic: Vec<SocketAddr>,
    /// TCP sockets for WebSockets over TLS.
    pub wss: Vec<SocketAddr>,
}

/// `[tls]`: without files a listener makes a certificate of its own at each start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Chain of certificates and key of the first, as PEM files.
    pub files: Option<(PathBuf, PathBuf)>,
}

/// `[proxy]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxy {
    /// Host and port of an HTTP proxy that WebSockets go through.
    pub http: Option<String>,
}

/// `[reach]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Whether direct paths to nodes behind relays are looked for; they tell the other our addresses.
    pub direct: bool,
    /// Whether the router in front of this host is asked to pass on a port.
    pub port_mapping: bool,
    /// Whether paths over the host's other uplinks stand by.
    pub uplinks: bool,
}

/// `[transit]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transit {
    /// Whether packets between others are carried at all: false for a stub, however it was written.
    pub enabled: bool,
    /// For all of them together.
    pub limit: Option<Rate>,
}

/// One `[[peer]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who and where.
    pub uri: PeerUri,
    /// Milliseconds added to the metric, at most [`Peer::MAX_COST`].
    pub cost: u16,
    /// What may be sent to it; of several entries for one node the least counts.
    pub limit: Option<Rate>,
}

impl Peer {
    /// Above this a link would count as unreachable (metric cap, protocol A6).
    pub const MAX_COST: u16 = 2000;
}

/// `[tun]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tun {
    /// False: the node only carries traffic of others.
    pub enabled: bool,
    /// Interface name, at most 15 bytes.
    pub name: String,
    /// Interface MTU.
    pub mtu: Mtu,
    /// What may come in.
    pub inbound: Inbound,
}

/// MTU of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mtu {
    /// Chosen from what the underlay carries.
    Auto,
    /// At least 1280 (RFC 8200 §5).
    Fixed(u16),
}

/// `[offload]`: what is left to the kernel, by direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Super-packets from the local kernel (TSO and USO).
    pub tun_read: Switch,
    /// Super-packets to the local kernel.
    pub tun_write: Switch,
    /// Many datagrams to the network in one call (UDP_SEGMENT).
    pub udp_send: Switch,
    /// Many datagrams from the network in one call (UDP_GRO).
    pub udp_receive: Switch,
}

/// How one direction is decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Switch {
    /// Tested at start; off where that fails.
    #[default]
    Auto,
    /// On, not tested.
    On,
    /// Off.
    Off,
}

impl Switch {
    /// The word in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

/// `[control]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Path of the unix socket.
    pub socket: PathBuf,
}

/// `[dns]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// Whether this node answers names of nodes and workloads.
    pub enabled: bool,
    /// The domain under which they stand.
    pub domain: String,
    /// `[[dns.forward]]`: domains that name servers of their own know. No domain twice.
    pub forward: Vec<Forward>,
}

/// One `[[dns.forward]]`: questions about a domain and all below it go to these servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// In lower case, without a dot at the end; not the mesh's own.
    pub domain: String,
    /// At most [`Forward::SERVERS_MAX`]; nobody is asked if there are none.
    pub servers: Vec<SocketAddr>,
}

impl Forward {
    /// They share two seconds, so that each has time to answer.
    pub const SERVERS_MAX: usize = 3;
    /// Rules are looked through for every question.
    pub const RULES_MAX: usize = 64;
    /// Port of a server that is written without one.
    pub const PORT: u16 = 53;
}

impl std::fmt::Display for Forward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let servers: Vec<_> = self.servers.iter().map(ToString::to_string).collect();
        let servers = if servers.is_empty() { "nobody".to_owned() } else { servers.join(", ") };
        write!(f, "{} to {servers}", self.domain)
    }
}

/// A configuration together with the text it came from, so that it can be shown, edited and
/// pointed into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFile {
    /// Where it was read.
    pub path: PathBuf,
    /// The file's text.
    pub text: String,
    /// What it says.
    pub config: Config,
}

impl ConfigFile {
    /// Reads and judges a file.
    ///
    /// # Errors
    /// Every mistake with file, line, key and remedy.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::unreadable(path, &error))?;
        Self::parse(path, text)
    }

    /// Judges `text`; `path` serves the messages.
    ///
    /// # Errors
    /// As [`ConfigFile::read`].
    pub fn parse(path: &Path, text: String) -> Result<Self, ConfigError> {
        let config = check::config(path, &text)?;
        Ok(Self { path: path.to_owned(), text, config })
    }

    /// Refuses this node's own key among the peers; known only once the key file is read.
    ///
    /// # Errors
    /// The `[[peer]]` that names `own`.
    pub fn check_identity(&self, own: &NodeId) -> Result<(), ConfigError> {
        check::identity(self, own)
    }
}

/// Whether a peer may be added to a running node: the rules of `[[peer]]` for one URI.
///
/// # Errors
/// What is wrong with it, in one line.
pub fn check_peer(own: &NodeId, uri: &str, cost: u16) -> Result<Peer, String> {
    check::peer(own, uri, cost)
}

#[cfg(test)]
mod tests;
