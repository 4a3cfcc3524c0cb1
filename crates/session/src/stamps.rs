//! The highest confirmed stamp of each identity, least recently used out first (protocol A2).
//!
//! Losing an entry is harmless: a replayed handshake then gets a pending slot, which nothing ever
//! confirms.

use std::collections::BTreeMap;

use sinew_types::NodeId;

const MAX_STAMPS: usize = 65_536;

/// A bounded map from identity to stamp.
#[derive(Debug, Default)]
pub(crate) struct Stamps {
    stamps: BTreeMap<NodeId, (u64, u64)>,
    by_use: BTreeMap<u64, NodeId>,
    uses: u64,
}

impl Stamps {
    /// The last confirmed stamp of `peer`, 0 if unknown.
    pub(crate) fn get(&self, peer: &NodeId) -> u64 {
        self.stamps.get(peer).map_or(0, |&(stamp, _)| stamp)
    }

    /// Notes a confirmed stamp; it never goes back.
    pub(crate) fn raise(&mut self, peer: NodeId, stamp: u64) {
        self.uses += 1;
        let (old, used) = self.stamps.get(&peer).copied().unwrap_or((0, 0));
        self.by_use.remove(&used);
        self.stamps.insert(peer, (old.max(stamp), self.uses));
        self.by_use.insert(self.uses, peer);
        if self.stamps.len() > MAX_STAMPS
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.stamps.remove(&oldest);
        }
    }
}
