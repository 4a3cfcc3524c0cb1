//! What a router reports: changes for the forwarding table, and things worth remembering.

use sinew_types::{Class, MeshAddr, Metric, NodeId, Rank, Seqno};

/// One line of the forwarding table has changed.
///
/// Changes are drained and published before anything else leaves the node: a frame is
/// acknowledged as processed only when the table that follows from it is in force
/// (routing-model D3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteChange {
    /// The destination.
    pub node: NodeId,
    /// Its address.
    pub addr: MeshAddr,
    /// Its class.
    pub class: Class,
    /// The neighbour to send to; `None` takes the line out.
    pub next_hop: Option<NodeId>,
    /// Our feasibility distance, the watermark of what we forward; `None` without a route.
    pub fd: Option<Rank>,
    /// The whole path's metric, [`Metric::UNREACHABLE`] without a route.
    pub metric: Metric,
}

/// Something the node should know of, apart from routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Our origin has a new seqno; keep it in stable storage.
    OwnSeqno(Seqno),
    /// Two hosts sign with this key.
    DuplicateIdentity(NodeId),
}

/// One destination as people ask for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteView {
    /// The destination.
    pub node: NodeId,
    /// Its address.
    pub addr: MeshAddr,
    /// Its class.
    pub class: Class,
    /// Our rank for it, if there is a route.
    pub own: Option<Rank>,
    /// The feasibility distance.
    pub fd: Option<Rank>,
    /// The selected neighbour.
    pub next_hop: Option<NodeId>,
    /// Whether it is within the vicinity we keep.
    pub admitted: bool,
    /// What the neighbours say, in the order of their ids.
    pub advertisements: Vec<Advertisement>,
}

/// What one neighbour says about a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// Who says so.
    pub neighbour: NodeId,
    /// The neighbour's own rank.
    pub rank: Rank,
    /// The path's metric through this neighbour.
    pub metric: Metric,
    /// Whether it may be selected without a loop.
    pub feasible: bool,
    /// Whether its metric has been proved.
    pub proven: bool,
    /// Whether it is the one in use.
    pub selected: bool,
}
