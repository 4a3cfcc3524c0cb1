//! `status` and `key`: who this node is and how it is.

use serde::{Deserialize, Serialize};
use sinew_types::Identity;

/// One screen about the node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Public key of the node.
    pub node_id: String,
    /// Its mesh address.
    pub address: String,
    /// The configured name.
    pub name: Option<String>,
    /// `router` or `stub`.
    pub class: String,
    /// Version of the daemon.
    pub version: String,
    /// Since the daemon started.
    pub uptime_ms: u64,
    /// Whether everything configured is set up and, if peers are configured, at least one is up.
    pub ready: bool,
    /// Peers with a live link.
    pub peers_up: u64,
    /// Peers configured, added or connected.
    pub peers_total: u64,
    /// Destinations that can be reached.
    pub routes: u64,
    /// Sessions that can carry data.
    pub sessions: u64,
    /// Name of the TUN interface; `null` when `[tun] enabled = false`.
    pub tun: Option<String>,
    /// MTU of that interface.
    pub mtu: Option<u32>,
    /// What is left to the kernel, as `[offload]` and the tests at start decided.
    pub offload: Offload,
    /// Where others reach this node.
    pub listeners: Vec<Listener>,
    /// What is known of this node's place in the network.
    #[serde(default)]
    pub reach: Reach,
    /// What is wrong; empty when all is well.
    pub health: Vec<Health>,
}

/// Where others see this node, and what that says of the translator in between.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// Whether direct paths to nodes behind relays are looked for.
    pub direct: bool,
    /// Addresses at which others see it, its own aside.
    pub reflexive: Vec<String>,
    /// How IPv4 is mapped: `none`, `endpoint-independent`, `address-dependent`,
    /// `address-and-port-dependent` (RFC 4787) or `unknown`.
    pub mapping_ipv4: String,
    /// The same for IPv6.
    pub mapping_ipv6: String,
}

/// What is left to the kernel: each `on` or `off`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offload {
    /// Super-packets from the TUN interface; `null` without one.
    pub tun_read: Option<String>,
    /// Super-packets to the TUN interface; `null` without one.
    pub tun_write: Option<String>,
    /// Many datagrams sent in one call.
    pub udp_send: String,
    /// Many datagrams received in one.
    pub udp_receive: String,
    /// Why something is off, or not all of it on, that the configuration did not switch off.
    pub notes: Vec<String>,
}

/// One bound socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// `udp` or `tcp`.
    pub carrier: String,
    /// The bound address, such as `0.0.0.0:7463`.
    pub address: String,
    /// Addresses with port under which other machines reach it, best first: `address` itself, or
    /// for a wildcard every global address of the host's interfaces (never a mesh address).
    pub endpoints: Vec<String>,
}

/// One finding about the node's health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Stable word, such as `no_peers`.
    pub code: String,
    /// How bad.
    pub severity: Severity,
    /// What is wrong.
    pub text: String,
    /// What to do.
    pub fix: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Works, but not as it should.
    Warning,
    /// Something configured does not work.
    Error,
}

impl Severity {
    /// The word in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// The names of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// The public key.
    pub node_id: String,
    /// The mesh address that belongs to it.
    pub address: String,
    /// The derived libp2p key's PeerId.
    pub peer_id: String,
}

impl Key {
    /// The public names of `identity`.
    pub fn of(identity: &Identity) -> Self {
        let node = identity.node_id();
        Self { node_id: node.to_string(), address: node.address().to_string(), peer_id: identity.peer_id() }
    }
}
