//! `graph`: the topology as far as this node knows it.
//!
//! A distance-vector node knows its own links and, for everyone else, a next hop and a cost. The
//! graph says which is which instead of drawing guesses as links.

use serde::{Deserialize, Serialize};

/// Nodes and what joins them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    /// This node first, then by node id.
    pub nodes: Vec<GraphNode>,
    /// Links first, then routes.
    pub links: Vec<GraphLink>,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GraphNode {
    /// Public key.
    pub node_id: String,
    /// Mesh address.
    pub address: String,
    /// Its name, where known.
    pub name: Option<String>,
    /// `router` or `stub`, where known.
    pub class: Option<String>,
    /// Whether it is the node that was asked.
    pub local: bool,
}

/// One link, or one route that stands for unknown links.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GraphLink {
    /// Node id of this node (link) or of the next hop (route).
    pub from: String,
    /// Node id of the neighbour (link) or of the destination (route).
    pub to: String,
    /// Seen or inferred.
    pub kind: LinkKind,
    /// Cost from `from` to `to`.
    pub metric_ms: Option<u64>,
    /// Carrier of a link.
    pub carrier: Option<String>,
    /// Round trip of a link.
    pub rtt_ms: Option<f64>,
}

/// How a line of the graph is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkKind {
    /// A live link of this node.
    Link,
    /// Reached beyond that neighbour, over links this node does not see.
    Route,
}

impl LinkKind {
    /// The word in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Route => "route",
        }
    }
}
