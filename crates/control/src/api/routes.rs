//! `routes`: what the router knows, and why it chose so.

use serde::{Deserialize, Serialize};

/// Which routes to list (`?show=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoutesShow {
    /// The one in use for each destination.
    #[default]
    Selected,
    /// Every advertisement held.
    All,
}

/// A list of routes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Routes {
    /// Ordered by destination, the selected one first.
    pub routes: Vec<Route>,
}

/// One route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Mesh address reached.
    pub destination: String,
    /// Node that has it.
    pub node_id: String,
    /// Neighbour that packets go to; `null` for this node itself.
    pub next_hop: Option<String>,
    /// Cost; `null` when withdrawn.
    pub metric_ms: Option<u64>,
    /// Links on the way, where known.
    pub hops: Option<u32>,
    /// Sequence number of the origin.
    pub seqno: u64,
    /// Whether loop freedom allows its use (RFC 8966 §3.5.1).
    pub feasible: bool,
    /// Whether packets take it.
    pub selected: bool,
    /// Since it was last told.
    pub age_ms: u64,
    /// Where it comes from.
    pub origin: RouteOrigin,
}

/// Where a route comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteOrigin {
    /// This node itself.
    Local,
    /// A direct neighbour's own address.
    Neighbour,
    /// Told by a neighbour about another node.
    Learned,
}

impl RouteOrigin {
    /// The word in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Neighbour => "neighbour",
            Self::Learned => "learned",
        }
    }
}

/// Asks how packets to one destination go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteQuery {
    /// Mesh address, node id, unique beginning of one, or name.
    pub target: String,
}

/// The decision for one destination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteAnswer {
    /// The destination's address.
    pub destination: String,
    /// The destination's node.
    pub node_id: String,
    /// Whether packets can go there now.
    pub reachable: bool,
    /// Why this route and no other, in one line.
    pub decision: String,
    /// Every advertisement for it.
    pub routes: Vec<Route>,
}
