//! Who has a place in the machine's tables: entering, leaving, limits, known endpoints.

use std::sync::Arc;
use std::time::Duration;

use sinew_types::{Instant, NodeId, PathAddr};

use super::Sessions;
use crate::association::Association;
use crate::event::{CloseReason, Event, Target};
use crate::handshake::gate::Pending;
use crate::keys::Traffic;
use crate::ratelimit::SourceKey;

/// Most associations (protocol A2).
const MAX_SESSIONS: usize = 16_384;
/// Most endpoints remembered for [`Sessions::unknown_index`].
const MAX_ENDPOINTS: usize = 4096;
/// How often an unknown index from one endpoint may make us send HS1.
const HELLO_PAUSE: Duration = Duration::from_secs(1);
/// A session that received something so recently has not lost its keys.
const HEALTHY: Duration = Duration::from_secs(2);

impl Sessions {
    /// A record with an unknown receiver index came from there. Strangers get no answer; to the
    /// endpoint of a peer that we dial or had as a neighbour goes an HS1, at most one a second,
    /// since one of us has lost its state (protocol A3).
    pub fn unknown_index(&mut self, from: PathAddr, now: Instant) {
        let now = self.core.tick(now);
        let Some((peer, last)) = self.endpoints.get_mut(&(from.carrier, from.remote)) else { return };
        if last.is_some_and(|last| now.since(last) < HELLO_PAUSE) {
            return;
        }
        let peer = *peer;
        let healthy = |association: &Association| {
            let heard = Instant::from_micros(association.traffic.last_rx_us());
            association.up && now.since(heard) < HEALTHY
        };
        if self.peers.get(&peer).is_some_and(healthy) {
            return;
        }
        *last = Some(now);
        if self.enter(peer, now) {
            self.with(peer, now, |association, core| {
                association.wants_adjacency |= core.config.adjacency;
                association.hurry(Target::Direct(from), core, now);
            });
        }
    }

    pub(super) fn remove(&mut self, peer: NodeId, reason: CloseReason, now: Instant) {
        let Some(mut association) = self.peers.remove(&peer) else { return };
        let was_up = association.up;
        association.dismantle(&mut self.core, now);
        self.addresses.remove(&association.addr);
        if let Some(group) = association.group
            && let Some(count) = self.groups.get_mut(&group)
        {
            *count -= 1;
            if *count == 0 {
                self.groups.remove(&group);
            }
        }
        self.timers.set(peer, None);
        self.core.ready.remove(&peer);
        if was_up {
            self.core.event(Event::Closed { peer, reason });
        }
    }

    pub(super) fn remember(&mut self, path: &PathAddr, peer: NodeId) {
        let endpoint = (path.carrier, path.remote);
        let last =
            self.endpoints.get(&endpoint).filter(|(node, _)| *node == peer).and_then(|(_, last)| *last);
        if self.endpoints.len() < MAX_ENDPOINTS || self.endpoints.contains_key(&endpoint) {
            self.endpoints.insert(endpoint, (peer, last));
        }
    }

    /// Makes sure that `peer`, whom we want to reach, has an association.
    pub(super) fn enter(&mut self, peer: NodeId, now: Instant) -> bool {
        let (own, traffic) = match self.gate.pending.get(&peer) {
            Some(pending) => (pending.own, Arc::clone(pending.open.traffic())),
            None => (self.core.association_id(), Arc::default()),
        };
        self.enter_as(peer, own, traffic, now)
    }

    fn enter_as(&mut self, peer: NodeId, own: u64, traffic: Arc<Traffic>, now: Instant) -> bool {
        if self.peers.contains_key(&peer) {
            return true;
        }
        if self.addresses.contains_key(&peer.address()) || !self.has_free_slot(now) {
            return false;
        }
        let association = Association::new(peer, own, traffic, &mut self.core, now);
        self.addresses.insert(association.addr, peer);
        self.peers.insert(peer, association);
        true
    }

    /// Whether a stranger's source has its share of the table already.
    pub(crate) fn is_crowded(&self, source: SourceKey) -> bool {
        let limit = self.core.config.unlisted_per_source;
        self.groups.get(&source.group()).is_some_and(|&count| count >= limit)
    }

    /// Makes an entry for a peer whose first record has opened; `false` if there is no room.
    pub(crate) fn admit(&mut self, peer: &NodeId, pending: &Pending, now: Instant) -> bool {
        if self.peers.contains_key(peer) {
            return true;
        }
        let (stranger, source) = (!self.listed.contains(peer), pending.source);
        let traffic = Arc::clone(pending.open.traffic());
        if stranger && self.is_crowded(source) || !self.enter_as(*peer, pending.own, traffic, now) {
            return false;
        }
        if stranger && let Some(association) = self.peers.get_mut(peer) {
            association.group = Some(source.group());
            *self.groups.entry(source.group()).or_default() += 1;
        }
        true
    }

    /// protocol A2: idle unlisted sessions make room, neighbours and the listed never.
    fn has_free_slot(&mut self, now: Instant) -> bool {
        if self.peers.len() < MAX_SESSIONS {
            return true;
        }
        let expendable = |(peer, association): &(&NodeId, &Association)| {
            association.adjacency.number().is_none() && !association.outbound && !self.listed.contains(*peer)
        };
        let candidates = self.peers.iter().filter(expendable);
        let victim = candidates.min_by_key(|(_, a)| a.traffic.last_rx_us()).map(|(peer, _)| *peer);
        if let Some(victim) = victim {
            self.remove(victim, CloseReason::Evicted, now);
        }
        victim.is_some()
    }
}
