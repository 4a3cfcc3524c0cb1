//! What a node is told when it starts; everything else it finds out.

use std::collections::BTreeMap;
use std::sync::Arc;

use sinew_directory::PeeringConfig;
use sinew_forwarding::InboundPolicy;
use sinew_forwarding::offload::Offloads;
use sinew_session::Accept;
use sinew_types::{Class, Identity, Metric, NodeId, PeerUri, Rate, UnixMicros};

/// A node's settings. Those that may change while it runs have setters on [`crate::Node`].
#[derive(Clone, Debug)]
pub struct Config {
    /// The secret key.
    pub identity: Arc<Identity>,
    /// Name for people, at most 64 bytes.
    pub name: String,
    /// Router or stub.
    pub class: Class,
    /// Mesh secrets: none, one, or two while one replaces the other.
    pub secrets: Vec<[u8; 32]>,
    /// Whether strangers may link.
    pub accept: Accept,
    /// Who may open flows to this node's own address.
    pub inbound: InboundPolicy,
    /// Configured peers.
    pub peers: Vec<PeerConfig>,
    /// MTU of the TUN device, in bytes.
    pub device_mtu: u16,
    /// What the TUN device takes from us; what it does not is split and finished first.
    pub offloads: Offloads,
    /// Local UDP sockets that peers are dialled through; see [`crate::Node::set_udp_sockets`].
    pub udp_sockets: Vec<UdpSocket>,
    /// Whether direct paths to nodes behind relays are looked for; they tell the other our addresses.
    pub direct: bool,
    /// Links that are kept without being configured.
    pub peering: PeeringConfig,
    /// What may be sent at most.
    pub limits: Limits,
    /// Routers kept in the table.
    pub max_routes: usize,
    /// The wall clock at start.
    pub unix: UnixMicros,
}

/// Bandwidth that operators set; what the control side sends counts for none of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// For all traffic between others together.
    pub transit: Option<Rate>,
    /// To each of these peers.
    pub peers: BTreeMap<NodeId, Rate>,
    /// To each peer that is not among them.
    pub other_peers: Option<Rate>,
}

impl Limits {
    /// What may go to `peer`.
    pub fn of(&self, peer: &NodeId) -> Option<Rate> {
        self.peers.get(peer).copied().or(self.other_peers)
    }
}

/// One of our own UDP sockets, by the number that [`sinew_types::PathAddr::local`] carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpSocket {
    /// The number.
    pub local: u32,
    /// Its address family.
    pub ipv6: bool,
}

/// A peer to keep a link to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// Who and where.
    pub uri: PeerUri,
    /// Added to the metric of its link.
    pub cost: Metric,
}
