//! Neighbours that swallow: what went towards a destination over them was not answered, end to end.
//!
//! Nothing in a metric shows who drops what he attracts (routing §4.8), but whoever sent a packet knows
//! that no answer came. A neighbour that is doubted for a destination is passed over for that one, for a
//! while, if somebody else offers a way (D13). What is selected is feasible as ever, so no loop closes; if
//! nothing feasible is left, the destination starves and asks for a newer seqno, as always; if that is not
//! answered, nobody else has a way (what they offer may lead through us), and all are acquitted. Where all
//! are doubted, nothing changes: a destination that is silent by itself stays where it is.

use std::collections::BTreeMap;
use std::time::Duration;

use sinew_types::{Instant, MeshAddr, NodeId};

use crate::router::Router;
use crate::selection::offered_beside;
use crate::table::Key;

/// How long a neighbour is passed over.
const LASTS: Duration = Duration::from_secs(300);
/// How long nobody is doubted after all were acquitted: both sides of a session need a quiet while to find each other,
/// and would else take turns in being without a way.
const SPARED: Duration = Duration::from_secs(10);
/// Most destinations that somebody is doubted for, and most neighbours for each.
const MAX: (usize, usize) = (256, 128);

/// Until when each neighbour is passed over for one destination.
pub(crate) type Doubted = BTreeMap<NodeId, Instant>;

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Doubts {
    of: BTreeMap<Key, Doubted>,
    /// Until when nobody is doubted for a destination, since nobody else had a way.
    spared: BTreeMap<Key, Instant>,
}

impl Doubts {
    pub(crate) fn of(&self, key: Key) -> Option<&Doubted> {
        self.of.get(&key)
    }

    pub(crate) fn forget(&mut self, key: Key) {
        self.of.remove(&key);
        self.spared.remove(&key);
    }

    /// Nobody else has a way: whoever was doubted is not, for now.
    pub(crate) fn spare(&mut self, key: Key, now: Instant) {
        if self.of.remove(&key).is_some() && self.spared.len() < MAX.0 {
            self.spared.insert(key, now + SPARED);
        }
    }

    fn is_spared(&self, key: Key, now: Instant) -> bool {
        self.spared.get(&key).is_some_and(|until| *until > now)
    }

    fn acquit(&mut self, key: Key, neighbour: &NodeId) {
        if let Some(doubted) = self.of.get_mut(&key) {
            doubted.remove(neighbour);
        }
    }

    fn note(&mut self, key: Key, neighbour: NodeId, until: Instant) {
        if !self.of.contains_key(&key) && self.of.len() >= MAX.0 {
            return;
        }
        let doubted = self.of.entry(key).or_default();
        if doubted.len() < MAX.1 || doubted.contains_key(&neighbour) {
            doubted.insert(neighbour, until);
        }
    }

    /// Forgets what is over; for which destinations something was.
    fn expire(&mut self, now: Instant) -> Vec<Key> {
        let mut over = Vec::new();
        self.spared.retain(|_, until| *until > now);
        self.of.retain(|&key, doubted| {
            let before = doubted.len();
            doubted.retain(|_, until| *until > now);
            if doubted.len() < before {
                over.push(key);
            }
            !doubted.is_empty()
        });
        over
    }
}

impl Router {
    /// The neighbour that is sent what is for `addr`.
    pub fn next_hop(&self, addr: &MeshAddr) -> Option<NodeId> {
        let dest = self.table.find(addr).and_then(|key| self.table.get(key))?;
        dest.next_hop.and_then(|slot| self.neighbours.get(slot)).map(|neighbour| neighbour.id)
    }

    /// Whether a neighbour is passed over for a destination.
    pub fn is_doubted(&self, addr: &MeshAddr, neighbour: &NodeId) -> bool {
        let doubted = self.table.find(addr).and_then(|key| self.doubts.of(key));
        doubted.is_some_and(|doubted| doubted.contains_key(neighbour))
    }

    /// What went to `addr` over these neighbours was not answered (D13); what came over `carried` did arrive.
    pub fn doubt(&mut self, addr: &MeshAddr, neighbours: &[NodeId], carried: Option<NodeId>, now: Instant) {
        let Some(key) = self.table.find(addr).filter(|key| !self.doubts.is_spared(*key, now)) else { return };
        if let Some(neighbour) = carried {
            self.doubts.acquit(key, &neighbour);
        }
        let note = |doubts: &mut Doubts| {
            neighbours.iter().for_each(|&neighbour| doubts.note(key, neighbour, now + LASTS));
        };
        note(&mut self.doubts);
        // With nobody left it may have been the other side's way: all have another turn, but for the last.
        let left = self.table.get(key).zip(self.doubts.of(key));
        if left.is_some_and(|(dest, doubted)| !offered_beside(dest, &self.neighbours, doubted)) {
            self.doubts.of.remove(&key);
            note(&mut self.doubts);
        }
        self.reselect(key, now);
    }

    pub(crate) fn expire_doubts(&mut self, now: Instant) {
        for key in self.doubts.expire(now) {
            self.reselect(key, now);
        }
    }
}
