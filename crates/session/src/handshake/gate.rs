//! What the responder side keeps: the pending slots, and the limits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sinew_noise::CookieJar;
use sinew_types::{Instant, NodeId, PathAddr};
use sinew_wire::handshake::HS2_LEN;

use crate::association::Told;
use crate::event::Arrival;
use crate::keys::{OpenEpoch, SealEpoch};
use crate::ratelimit::{Buckets, Load, Shares, SourceKey};
use crate::shared::Core;
use crate::stamps::Stamps;

pub(super) const MAX_PENDING: usize = 1024;
pub(super) const PENDING_LIFE: Duration = Duration::from_secs(10);
/// How often a repeated HS1 gets its HS2 again.
pub(super) const MAX_RESENDS: u8 = 5;
/// Sources that an HS2 went to and whose first record therefore proves the path.
const MAX_ANSWERED: usize = 4;
const STALE_PAUSE: Duration = Duration::from_secs(1);
const MAX_STALE_NOTES: usize = 4096;

/// An answered HS1 that waits for its first record.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(super) digest: [u8; 32],
    pub(super) hs2: [u8; HS2_LEN],
    pub(super) resends: u8,
    /// Where HS2 went to.
    pub(super) answered: Vec<PathAddr>,
    pub(crate) open: Arc<OpenEpoch>,
    pub(super) seal: Arc<SealEpoch>,
    pub(crate) own: u64,
    pub(super) their: u64,
    pub(super) generation: u32,
    pub(super) stamp: u64,
    pub(super) told: Told,
    pub(super) wants_adjacency: bool,
    pub(super) inside: bool,
    pub(super) expires: Instant,
    pub(crate) source: SourceKey,
}

/// Everything the responder side keeps, all of it bounded.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(super) jar: CookieJar,
    pub(super) buckets: Buckets,
    pub(super) shares: Shares,
    pub(crate) load: Load,
    pub(super) stamps: Stamps,
    pub(crate) pending: BTreeMap<NodeId, Pending>,
    pub(super) by_digest: BTreeMap<[u8; 32], NodeId>,
    pub(super) expiry: BTreeSet<(Instant, NodeId)>,
    /// When an identity last got a stale answer.
    stale_notes: BTreeMap<NodeId, Instant>,
    /// X25519 keys of the listed, to be looked up before anything dear is done.
    pub(super) listed_keys: BTreeSet<[u8; 32]>,
    /// Whose they are.
    listed: BTreeMap<NodeId, [u8; 32]>,
}

impl Gate {
    pub(crate) fn new(seed: [u8; 32], now: Instant) -> Self {
        Self {
            jar: CookieJar::new(seed, now),
            buckets: Buckets::default(),
            shares: Shares::default(),
            load: Load::default(),
            stamps: Stamps::default(),
            pending: BTreeMap::new(),
            by_digest: BTreeMap::new(),
            expiry: BTreeSet::new(),
            stale_notes: BTreeMap::new(),
            listed_keys: BTreeSet::new(),
            listed: BTreeMap::new(),
        }
    }

    pub(crate) fn set_listed(&mut self, listed: &BTreeSet<NodeId>) {
        // A key costs a square root, and of thousands of members one is new.
        let known = core::mem::take(&mut self.listed);
        let key = |node: &NodeId| known.get(node).copied().unwrap_or_else(|| node.x25519());
        self.listed = listed.iter().map(|node| (*node, key(node))).collect();
        self.listed_keys = self.listed.values().copied().collect();
    }

    pub(crate) fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.expiry.first().map(|&(at, _)| (at, "pending handshake"))
    }

    pub(super) fn insert(&mut self, peer: NodeId, pending: Pending) {
        self.by_digest.insert(pending.digest, peer);
        self.expiry.insert((pending.expires, peer));
        self.pending.insert(peer, pending);
    }

    pub(crate) fn take(&mut self, peer: &NodeId) -> Option<Pending> {
        let pending = self.pending.remove(peer)?;
        self.by_digest.remove(&pending.digest);
        self.expiry.remove(&(pending.expires, *peer));
        Some(pending)
    }

    /// Empties the slot of `peer`; its epoch never comes to life.
    pub(crate) fn drop_pending(&mut self, peer: &NodeId, core: &mut Core, now: Instant) {
        if let Some(pending) = self.take(peer) {
            pending.discard(core, now);
        }
    }

    pub(crate) fn expire(&mut self, core: &mut Core, now: Instant) {
        while let Some(&(at, peer)) = self.expiry.first()
            && at <= now
        {
            self.drop_pending(&peer, core, now);
        }
    }

    /// Whether `peer` may have a stale answer now without a cookie.
    pub(super) fn may_answer_stale(&mut self, peer: NodeId, now: Instant) -> bool {
        if self.stale_notes.get(&peer).is_some_and(|&last| now.since(last) < STALE_PAUSE) {
            return false;
        }
        if self.stale_notes.len() >= MAX_STALE_NOTES {
            self.stale_notes.retain(|_, last| now.since(*last) < STALE_PAUSE);
            if self.stale_notes.len() >= MAX_STALE_NOTES {
                return false;
            }
        }
        self.stale_notes.insert(peer, now);
        true
    }
}

impl Pending {
    pub(super) fn discard(&self, core: &mut Core, now: Instant) {
        self.seal.kill();
        core.keys.remove_epoch(self.open.index());
        core.indexes.release(self.open.index(), now);
    }
}

impl Pending {
    pub(super) fn note_answered(&mut self, from: &Arrival) {
        if let Arrival::Direct(path) = *from
            && !self.answered.contains(&path)
            && self.answered.len() < MAX_ANSWERED
        {
            self.answered.push(path);
        }
    }
}
