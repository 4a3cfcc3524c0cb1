//! Our own origin: which seqno it has, when it gets a new one, and what others' records do to it.
//!
//! The seqno is the time in milliseconds (routing §4.3), so a restart needs no memory. A request
//! raises it by the clock, never to the number asked for: else one liar could use up all numbers.
//! It jumps past a higher one only when shown our own signature under it, and not even then
//! beyond ten minutes ahead of network time: a clock that was wrong once must not lock us out
//! (routing-model D6, protocol finding 23).

use std::sync::Arc;

use sinew_types::{Budget, Domain, Instant, Metric, NodeId, Rng, Seqno};
use sinew_wire::routing::OriginRecord;

use crate::chain::{ChainKey, Proof};
use crate::clock::NetworkClock;
use crate::config::{Config, EXPIRY};
use crate::destination::{Destination, FORCE};
use crate::event::Event;
use crate::neighbour::Slot;
use crate::rank::PackedRank;
use crate::router::Router;
use crate::table::Key;
use crate::verifier::{Origin, Verifier};

/// Requests may raise our seqno once a second, three times at once (routing §4.5).
const RAISE_RATE: u64 = 1;
const RAISE_BURST: u64 = 3;

/// One jump follows a restart with an old clock, seldom two; more means a second host.
const JUMPS_SUSPECT: u8 = 3;

/// The state of our own origin.
#[derive(Debug)]
pub(crate) struct OwnOrigin {
    pub(crate) seqno: Seqno,
    /// How often we had to jump past a record of ours that we did not sign in this life.
    jumps: u8,
    /// Its destination, once it is in the table.
    pub(crate) key: Option<Key>,
    raises: Budget,
}

impl OwnOrigin {
    /// The origin as it is at start, and its destination.
    pub(crate) fn first(
        config: &Config,
        rng: &mut Rng,
        clock: &NetworkClock,
        verifier: &dyn Verifier,
        now: Instant,
    ) -> (Self, Destination) {
        let time = clock.seqno(now);
        let kept = config.seqno.filter(|&kept| !clock.is_ahead(kept, now));
        let seqno = kept.map_or(time, |kept| time.max(kept.next()));
        let proof = sign(config, rng, verifier, seqno);
        let mut destination = Destination::new(Arc::clone(&proof.origin), now);
        destination.is_self = true;
        destination.admitted = true;
        destination.exempt = true;
        destination.own = Some(PackedRank::new(seqno, Metric::ZERO));
        destination.fd = destination.own;
        destination.proofs = vec![proof];
        let raises = Budget::new(RAISE_RATE, RAISE_BURST, now);
        (Self { seqno, jumps: 0, key: None, raises }, destination)
    }

    pub(crate) const fn at(mut self, key: Key) -> Self {
        self.key = Some(key);
        self
    }
}

/// A new record and the start of its chain, which only we know.
fn sign(config: &Config, rng: &mut Rng, verifier: &dyn Verifier, seqno: Seqno) -> Proof {
    let node = config.identity.node_id();
    let addr = node.address();
    let h0 = rng.array();
    let anchor = verifier.advance(&ChainKey { addr, seqno }, Metric::ZERO, &h0, Metric::UNREACHABLE);
    let mut record = OriginRecord {
        node: *node.as_bytes(),
        seqno,
        class: config.class,
        landmark: false,
        landmark_power: 0,
        anchor,
        expiry_min: u16::try_from(EXPIRY.as_secs() / 60).unwrap_or(u16::MAX),
        locator: Vec::new(),
        signature: [0; 64],
    };
    record.signature = config.identity.sign(Domain::ORIGIN, &record.signed_bytes());
    let mut proof = Proof::new(Arc::new(Origin { record, node, addr }), Instant::FAR_FUTURE);
    (proof.low, proof.value) = (Metric::ZERO, h0);
    proof
}

impl Router {
    /// Signs a record of `seqno`. Neighbours who asked hear at once, the others when it is much
    /// newer than what they know.
    fn issue(&mut self, seqno: Seqno, now: Instant) {
        let Some((key, dest)) = self.own.key.and_then(|key| Some((key, self.table.get_mut(key)?))) else {
            return;
        };
        let proof = sign(&self.config, &mut self.rng, self.verifier.as_ref(), seqno);
        dest.origin = Arc::clone(&proof.origin);
        dest.proofs = vec![proof];
        dest.own = Some(PackedRank::new(seqno, Metric::ZERO));
        dest.fd = dest.own;
        self.own.seqno = seqno;
        self.events.push_back(Event::OwnSeqno(seqno));
        self.sync(key, now);
    }

    /// A new seqno by the clock, above the present one.
    fn raise(&mut self, now: Instant) {
        let seqno = self.clock.seqno(now).max(self.own.seqno.next());
        self.issue(seqno, now);
    }

    /// A neighbour wants our own origin at `seqno` or newer.
    pub(crate) fn answer_as_origin(&mut self, slot: Slot, seqno: Seqno, now: Instant) {
        let Some(key) = self.own.key else { return };
        if self.own.seqno < seqno {
            if self.own.raises.try_take(now) {
                self.raise(now);
            } else {
                // Too often: it is answered when the next raise is due.
                if let Some(dest) = self.table.get_mut(key) {
                    dest.add_want(slot, seqno, now);
                }
                self.plan_own_raise(key, now);
                return;
            }
        }
        self.mark(key, slot, FORCE, now);
    }

    fn plan_own_raise(&mut self, key: Key, now: Instant) {
        let at = self.own.raises.ready_at(now).unwrap_or(now);
        self.set_timer(key, at);
    }

    /// The raise that was put off.
    pub(crate) fn late_raise(&mut self, key: Key, now: Instant) {
        if !self.own.raises.try_take(now) {
            return self.plan_own_raise(key, now);
        }
        self.raise(now);
        let Some(dest) = self.table.get_mut(key) else { return };
        for want in std::mem::take(&mut dest.wants) {
            self.mark(key, want.slot, FORCE, now);
        }
    }

    /// Our own origin under somebody else's hand, or from a former life.
    pub(crate) fn hear_own_record(&mut self, origin: &Origin, now: Instant) {
        let heard = origin.record.seqno;
        let ours = self.own.key.and_then(|key| self.table.get(key)).map(|dest| &dest.origin);
        if ours.is_some_and(|ours| ours.record == origin.record) {
            return;
        }
        let newer = heard >= self.own.seqno && !self.clock.is_ahead(heard, now);
        // Two hosts with one key would leap over each other without end; the budget slows them.
        if !newer || !self.own.raises.try_take(now) {
            return;
        }
        self.own.jumps = self.own.jumps.saturating_add(1);
        if self.own.jumps == JUMPS_SUSPECT {
            self.events.push_back(Event::DuplicateIdentity(self.me));
        }
        let seqno = self.clock.seqno(now).max(heard.next());
        self.issue(seqno, now);
    }

    /// Refreshes our record when its time has come, by network time.
    pub(crate) fn check_own_age(&mut self, now: Instant) {
        if self.clock.is_stale(self.own.seqno, now) {
            self.raise(now);
        }
    }

    /// A seqno from a clock that was once wrong is of no use: nobody accepts it.
    pub(crate) fn check_own_ahead(&mut self, now: Instant) {
        if self.clock.is_ahead(self.own.seqno, now) {
            self.issue(self.clock.seqno(now), now);
        }
    }

    /// A neighbour's own record: a vote on what time it is.
    pub(crate) fn hear_clock(&mut self, slot: Slot, seqno: Seqno, now: Instant) {
        let vote = self.clock.vote(seqno, now);
        let Some(neighbour) = self.neighbours.get_mut(slot) else { return };
        neighbour.clock_vote = Some(vote);
        self.recount_votes(now);
    }

    pub(crate) fn recount_votes(&mut self, now: Instant) {
        let votes = self.neighbours.iter().filter_map(|(_, n)| n.clock_vote);
        self.clock.correct(votes);
        self.check_own_age(now);
    }

    /// Whether `node` is ourselves.
    pub(crate) fn is_me(&self, node: &NodeId) -> bool {
        *node == self.me
    }
}

#[cfg(test)]
mod tests;
