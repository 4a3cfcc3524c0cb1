//! `sessions` and `drops`: who we share keys with, and what was refused.

use serde::{Deserialize, Serialize};

/// All sessions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sessions {
    /// Ordered by node id.
    pub sessions: Vec<Session>,
}

/// One end-to-end session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// The other end.
    pub node_id: String,
    /// Its mesh address.
    pub address: String,
    /// `udp/10.0.0.2:7463` when direct, `via NODEID` when routed, `null` without a way.
    pub path: Option<String>,
    /// Whether packets go straight to the other end.
    pub direct: bool,
    /// Round trip.
    pub rtt_ms: Option<f64>,
    /// `chacha20-poly1305` or `aes-256-gcm`.
    pub cipher: Option<String>,
    /// Since the keys were agreed.
    pub rekey_age_ms: Option<u64>,
    /// Received.
    pub rx_bytes: u64,
    /// Sent.
    pub tx_bytes: u64,
    /// Packets of this session that were dropped.
    pub drops: u64,
}

/// Packets that went no further, since the daemon started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drops {
    /// Sum over all reasons.
    pub total: u64,
    /// Reasons that happened, in the fixed order of `DropReason`.
    pub drops: Vec<DropCount>,
}

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropCount {
    /// Stable word.
    pub reason: String,
    /// How many packets.
    pub count: u64,
}

impl From<&sinew_types::Drops> for Drops {
    fn from(drops: &sinew_types::Drops) -> Self {
        let drops: Vec<_> = drops
            .iter()
            .map(|(reason, count)| DropCount { reason: reason.as_str().to_owned(), count })
            .collect();
        Self { total: drops.iter().map(|drop| drop.count).sum(), drops }
    }
}
