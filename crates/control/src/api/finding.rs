//! How this node finds others, as `netcheck` tells it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What is known of other nodes, and from where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Links this node keeps by itself.
    pub target: u64,
    /// Links that stand and that it chose.
    pub chosen: u64,
    /// Known nodes by where they were heard of: `lan`, `remembered`, `exchange`, `caller`, `directory`.
    pub known: BTreeMap<String, u64>,
    /// Known nodes that were reached, and are tried at the next start.
    pub remembered: u64,
    /// Refused records by reason: `malformed`, `forged`, `misplaced`, `expired`, `too_long`, `older`.
    pub refused: BTreeMap<String, u64>,
    /// Where this node says it may be reached, with carriers.
    pub places: Vec<String>,
    /// Whether neighbours may tell others.
    pub shared: bool,
    /// The local networks; `null` if switched off.
    pub lan: Option<FindingLan>,
    /// The directory; `null` if switched off.
    pub directory: Option<FindingDirectory>,
}

/// Announcements on local networks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingLan {
    /// Interfaces that are spoken on.
    pub interfaces: Vec<String>,
    /// Announcements heard.
    pub heard: u64,
    /// Messages that were too many.
    pub dropped: u64,
}

/// The directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingDirectory {
    /// This node's name in it.
    pub peer_id: String,
    /// Members it knows.
    pub peers: u64,
    /// Members it is connected with.
    pub connected: u64,
    /// Whether it answers others.
    pub serving: bool,
    /// `public`, `private` or `unknown`: whether others say that they reach its port.
    pub reachability: String,
    /// Its record is in it.
    pub published: bool,
    /// Records it keeps for others.
    pub records: u64,
    /// Records it refused, by reason.
    pub refused: BTreeMap<String, u64>,
}
