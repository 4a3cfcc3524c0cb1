//! What a scrape gets from the loop and from the gateway's desk: copies of their counters, nothing worked out.

use sinew_control::api::{GatewayCertificate, GatewayService, Health};
use sinew_node::{Counts, PeerStatus, Status};
use sinew_types::Drops;

use crate::view::Names;

/// The node's.
#[derive(Clone, Debug)]
pub(crate) struct NodeNumbers {
    pub(crate) status: Status,
    /// Whether no peers are configured, or at least one is up.
    pub(crate) ready: bool,
    pub(crate) health: Vec<Health>,
    pub(crate) peers: Vec<PeerStatus>,
    /// Names that those peers gave themselves.
    pub(crate) names: Names,
    pub(crate) drops: Drops,
    pub(crate) counts: Counts,
}

/// The gateway's.
#[derive(Clone, Debug, Default)]
pub(crate) struct GatewayNumbers {
    /// Client connections so far.
    pub(crate) connections: u64,
    /// What was turned away, by reason; all reasons.
    pub(crate) refused: Vec<(&'static str, u64)>,
    /// Responses by host, from 1xx to 5xx; a host may be there more than once.
    pub(crate) requests: Vec<(String, [u64; 5])>,
    pub(crate) services: Vec<GatewayService>,
    pub(crate) certificates: Vec<GatewayCertificate>,
    /// When a follower has heard its registrar last, Unix time, seconds.
    pub(crate) names_heard: Option<u64>,
}
