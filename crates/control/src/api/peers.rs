//! `peers`: the direct neighbours, configured or not.

use serde::{Deserialize, Serialize};

/// All peers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peers {
    /// Ordered by node id.
    pub peers: Vec<Peer>,
}

/// One peer and its link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Public key.
    pub node_id: String,
    /// Mesh address.
    pub address: String,
    /// The name it gave itself.
    pub name: Option<String>,
    /// Underlay address in use, or the one tried last.
    pub endpoint: Option<String>,
    /// Carrier of that path.
    pub carrier: Option<String>,
    /// The interface that it leaves by, on a host with several uplinks, or where the node listens at certain
    /// addresses.
    #[serde(default)]
    pub interface: Option<String>,
    /// Who opened the link.
    pub direction: Direction,
    /// What it is doing.
    pub state: PeerState,
    /// Whether it comes from the configuration or `peers add`; others came in.
    pub configured: bool,
    /// How this node came to it: `configured`, `ticket`, `incoming`, or where it was heard of (`lan`,
    /// `directory`, `exchange`, `caller`, `remembered`).
    #[serde(default)]
    pub source: String,
    /// Round trip, smoothed.
    pub rtt_ms: Option<f64>,
    /// Mean deviation of the round trip.
    pub jitter_ms: Option<f64>,
    /// Share of probes lost, 0 to 1.
    pub loss: Option<f64>,
    /// Largest inner packet of the path.
    pub mtu: Option<u32>,
    /// Received.
    pub rx_bytes: u64,
    /// Sent.
    pub tx_bytes: u64,
    /// Received per second, over the last seconds.
    pub rx_rate: u64,
    /// Sent per second, over the last seconds.
    pub tx_rate: u64,
    /// What may be sent to it, in bytes per second; `null` = no limit.
    #[serde(default)]
    pub limit: Option<u64>,
    /// Since the link came up; `null` while it is not.
    pub uptime_ms: Option<u64>,
    /// Since the last handshake.
    pub handshake_age_ms: Option<u64>,
    /// Cipher of the session.
    pub cipher: Option<String>,
    /// Protocol or program version of the peer.
    pub version: Option<String>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}

/// Who opened the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The peer did.
    In,
    /// This node did, or would.
    Out,
}

impl Direction {
    /// The word in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// What a peer's link is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerState {
    /// Carries data and routes.
    Up,
    /// A handshake is under way.
    Connecting,
    /// The last attempt failed; another follows.
    Waiting,
    /// Gone, and nothing to try.
    Down,
}

impl PeerState {
    /// The word in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Connecting => "connecting",
            Self::Waiting => "waiting",
            Self::Down => "down",
        }
    }
}

/// Adds a peer to the running node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerAdd {
    /// `sinew://NODEID@host:port?via=udp,tcp`.
    pub uri: String,
    /// Milliseconds added to the metric.
    #[serde(default)]
    pub cost: u16,
    /// Also write it into the configuration file.
    #[serde(default)]
    pub save: bool,
}

/// Removes a peer from the running node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerRemove {
    /// Node id, unique beginning of one, name or mesh address.
    pub target: String,
    /// Also take it out of the configuration file.
    #[serde(default)]
    pub save: bool,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerChanged {
    /// The peer.
    pub node_id: String,
    /// Whether the running node changed; false when it was so already.
    pub changed: bool,
    /// The configuration file that was rewritten; `null` without `save`.
    pub saved: Option<String>,
}
