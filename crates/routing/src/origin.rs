//! Our own origin: which seqno it has, when it gets a new one, and what others' records do to it.
//!
//! The seqno is the time in milliseconds (routing §4.3), so a restart needs no memory. A request
//! raises it by the clock, never to the number asked for: else one liar could use up all numbers.
//! It jumps past a higher one only when shown our own signature under it, and not even then
//! beyond ten minutes ahead of network time: a clock that was wrong once must not lock us out
//! (routing-model D6, protocol finding 23).
//!
//! **A second host with our key** leaps over what we issue, as we leap over what it does. To tell
//! it from a former life of ours, whose records may be about for an hour, a record that leaps says
//! over what: its chain does not start at random but at a value that our key makes of the record
//! leapt over. Nobody else can see that. A record that is not ours and starts where only an answer
//! to one of *this* life can start was signed by somebody who is alive now (protocol A6.5).

use std::collections::VecDeque;
use std::sync::Arc;

use sinew_types::{Budget, Domain, Instant, Metric, NodeId, Rng, Seqno};
use sinew_wire::routing::OriginRecord;

use crate::chain::{ChainKey, ChainValue, Proof};
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

/// So many of our own records are remembered, to know what answers them.
const ISSUED_MAX: usize = 8;

/// The state of our own origin.
#[derive(Debug)]
pub(crate) struct OwnOrigin {
    pub(crate) seqno: Seqno,
    /// The anchors of the records signed in this life, the newest last.
    issued: VecDeque<ChainValue>,
    /// A record to leap over as soon as the budget allows.
    leap: Option<Leap>,
    /// The last foreign record that was looked at: the check is costly.
    judged: Option<ChainValue>,
    /// Its destination, once it is in the table.
    pub(crate) key: Option<Key>,
    raises: Budget,
}

/// Over what our next record has to leap.
#[derive(Clone, Copy, Debug)]
struct Leap {
    heard: Seqno,
    /// The anchor of the record heard, if it is not of this life.
    over: Option<ChainValue>,
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
        let proof = sign(config, rng.array(), verifier, seqno);
        let issued = VecDeque::from([proof.origin.record.anchor]);
        let mut destination = Destination::new(Arc::clone(&proof.origin), now);
        destination.is_self = true;
        destination.admitted = true;
        destination.exempt = true;
        destination.own = Some(PackedRank::new(seqno, Metric::ZERO));
        destination.fd = destination.own;
        destination.proofs = vec![proof];
        let raises = Budget::new(RAISE_RATE, RAISE_BURST, now);
        (Self { seqno, issued, leap: None, judged: None, key: None, raises }, destination)
    }

    pub(crate) const fn at(mut self, key: Key) -> Self {
        self.key = Some(key);
        self
    }
}

/// Where the chain of a record of `seqno` starts that leaps over the one with the anchor `over`:
/// unknown to all who lack our key, and fresh, since no two leaps are over one record to one seqno.
fn leap_start(config: &Config, over: &ChainValue, seqno: Seqno) -> ChainValue {
    config.identity.chain_start(&[over.as_slice(), &seqno.value().to_le_bytes()].concat())
}

/// A new record whose chain starts at `h0`, which only we know.
fn sign(config: &Config, h0: ChainValue, verifier: &dyn Verifier, seqno: Seqno) -> Proof {
    let node = config.identity.node_id();
    let addr = node.address();
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
        let over = self.own.leap.take_if(|leap| leap.heard < seqno).and_then(|leap| leap.over);
        let h0 = over.map_or_else(|| self.rng.array(), |over| leap_start(&self.config, &over, seqno));
        let proof = sign(&self.config, h0, self.verifier.as_ref(), seqno);
        if self.own.issued.len() >= ISSUED_MAX {
            self.own.issued.pop_front();
        }
        self.own.issued.push_back(proof.origin.record.anchor);
        dest.origin = Arc::clone(&proof.origin);
        dest.proofs = vec![proof];
        dest.own = Some(PackedRank::new(seqno, Metric::ZERO));
        dest.fd = dest.own;
        self.own.seqno = seqno;
        self.events.push_back(Event::OwnSeqno(seqno));
        self.sync(key, now);
    }

    /// A new seqno by the clock, above the present one and what has to be leapt over.
    fn raise(&mut self, now: Instant) {
        let above = self.own.leap.map_or(self.own.seqno, |leap| leap.heard.max(self.own.seqno));
        self.issue(self.clock.seqno(now).max(above.next()), now);
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

    /// Our own origin by somebody else's hand, from a former life, or round the corner.
    pub(crate) fn hear_own_record(&mut self, slot: Slot, origin: &Origin, now: Instant) {
        let record = &origin.record;
        let (heard, ours) = (record.seqno, self.own.issued.contains(&record.anchor));
        if ours && heard == self.own.seqno {
            return;
        }
        if !ours && self.answers_ours(slot, origin, now) {
            self.events.push_back(Event::DuplicateIdentity(self.me));
        }
        if heard < self.own.seqno || self.clock.is_ahead(heard, now) {
            return;
        }
        self.own.leap = Some(Leap { heard, over: (!ours).then_some(record.anchor) });
        // Who showed it hears the answer at once, or two hosts with one key would hardly meet.
        self.answer_as_origin(slot, heard.next(), now);
    }

    /// Whether a record that we did not sign leaps over one that we signed in this life: then
    /// another host with our key has heard of it (protocol A6.5).
    fn answers_ours(&mut self, slot: Slot, origin: &Origin, now: Instant) -> bool {
        let (seqno, anchor) = (origin.record.seqno, origin.record.anchor);
        if self.own.judged.replace(anchor) == Some(anchor) {
            return false;
        }
        let key = ChainKey { addr: origin.addr, seqno };
        let ends_there = |ours: &ChainValue| {
            let h0 = leap_start(&self.config, ours, seqno);
            self.verifier.advance(&key, Metric::ZERO, &h0, Metric::UNREACHABLE) == anchor
        };
        let answers = self.own.issued.iter().any(ends_there);
        let price = self.own.issued.len() as u64 * u64::from(Metric::UNREACHABLE.units());
        if let Some(neighbour) = self.neighbours.get_mut(slot) {
            neighbour.hashes.charge(price, now);
        }
        answers
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
