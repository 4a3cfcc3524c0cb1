//! What neighbours say: every message is checked before anything depends on it.
//!
//! A frame is applied message by message. A bad one is counted against the neighbour and skipped;
//! the good ones stand. Nothing unverified sets a feasibility distance or is passed on (protocol
//! A6, finding 17), and no destination exists without a record signed by its own key.

use std::sync::Arc;
use std::time::Duration;

use sinew_types::{Class, DropReason, Instant, MeshAddr, Metric, NodeId, Seqno};
use sinew_wire::routing::{OriginRecord, RoutingFrame, RoutingMessage};

use crate::chain::{ChainValue, Proof};
use crate::config::{BAD_PAUSE, BAD_VALUES};
use crate::destination::{Destination, FORCE, PROVEN, RECORD};
use crate::error::Misbehaviour;
use crate::event::Event;
use crate::neighbour::Slot;
use crate::rank::PackedRank;
use crate::router::Router;
use crate::rules::Rule;
use crate::table::Key;
use crate::verifier::Origin;

/// A neighbour's claim to have a route.
#[derive(Clone, Copy)]
struct Claim {
    seqno: Seqno,
    metric: Metric,
    chain: ChainValue,
}

/// Faults that only a liar or a broken program makes; others happen to the honest too.
const fn is_bad(reason: DropReason) -> bool {
    matches!(reason, DropReason::ForgedOrigin | DropReason::UnprovenMetric | DropReason::BadControl)
}

impl Router {
    /// Takes a frame from a neighbour. When it returns, drain [`poll_change`](Self::poll_change),
    /// publish the table, and only then let the frame be acknowledged as processed.
    ///
    /// # Errors
    /// [`Misbehaviour`] if something in it was bad; the rest has been applied. The adjacency is
    /// to be closed if [`Misbehaviour::close_for`] says so.
    pub fn handle_frame(&mut self, node: &NodeId, frame: &[u8], now: Instant) -> Result<(), Misbehaviour> {
        let Some(slot) = self.neighbours.slot_of(node) else {
            return Err(Misbehaviour { reason: DropReason::WrongAdjacency, close_for: None });
        };
        self.stats.frames_received += 1;
        let mut first = None;
        for message in RoutingFrame::parse(frame) {
            let result = match message {
                Ok(message) => {
                    self.stats.received.add(&message);
                    self.handle_message(slot, message, now)
                }
                Err(_) => Err(DropReason::Malformed),
            };
            if let Err(reason) = result {
                self.stats.drops.count(reason);
                first = first.or_else(|| self.blame(slot, reason));
            }
        }
        first.map_or(Ok(()), |reason| Err(self.verdict(slot, reason)))
    }

    /// Counts a fault against the neighbour, if it is one.
    fn blame(&mut self, slot: Slot, reason: DropReason) -> Option<DropReason> {
        let malformed = reason == DropReason::Malformed;
        let neighbour = self.neighbours.get_mut(slot).filter(|_| malformed || is_bad(reason))?;
        // Bytes that are no message at all: nothing after them can be understood either.
        neighbour.bad = neighbour.bad.saturating_add(if malformed { BAD_VALUES } else { 1 });
        Some(reason)
    }

    fn verdict(&self, slot: Slot, reason: DropReason) -> Misbehaviour {
        let over = self.neighbours.get(slot).is_some_and(|n| n.bad >= BAD_VALUES);
        Misbehaviour { reason, close_for: over.then_some(BAD_PAUSE) }
    }

    fn handle_message(
        &mut self,
        slot: Slot,
        message: RoutingMessage,
        now: Instant,
    ) -> Result<(), DropReason> {
        match message {
            RoutingMessage::Hint { floor, class, radius, k: _ } => {
                self.on_hint(slot, floor, class, radius, now)
            }
            RoutingMessage::Origin(record) => self.on_origin(slot, &record, now),
            RoutingMessage::Update { origin, seqno, metric, chain } => {
                self.on_update(slot, origin, Claim { seqno, metric, chain }, now)
            }
            RoutingMessage::Retract { origin } => self.on_retract(slot, origin, now),
            RoutingMessage::SeqnoRequest { origin, seqno } => {
                self.on_seqno_request(slot, origin, seqno, now);
                Ok(())
            }
            RoutingMessage::RouteRequest { origin } => self.tell_again(slot, origin, FORCE, now),
            RoutingMessage::RecordRequest { origin } => self.tell_again(slot, origin, FORCE | RECORD, now),
        }
    }

    fn on_hint(
        &mut self,
        slot: Slot,
        floor: u16,
        class: Class,
        radius: u16,
        now: Instant,
    ) -> Result<(), DropReason> {
        let neighbour = self.neighbours.get_mut(slot).ok_or(DropReason::WrongAdjacency)?;
        let floor = Metric::new(floor);
        // What it is was settled in the handshake.
        if class != neighbour.class || !floor.is_reachable() {
            return Err(DropReason::BadControl);
        }
        let cost_changed = neighbour.set_floor(floor);
        let radius = if class == Class::Stub { Metric::ZERO } else { Metric::new(radius) };
        let radius_changed = std::mem::replace(&mut neighbour.radius, radius) != radius;
        if cost_changed {
            self.reselect_through(slot, now);
        }
        if radius_changed {
            self.sync_neighbour(slot, now);
            self.neighbours.update_listener(slot);
        }
        Ok(())
    }

    fn on_origin(&mut self, slot: Slot, record: &OriginRecord, now: Instant) -> Result<(), DropReason> {
        let neighbour = self.neighbours.get_mut(slot).ok_or(DropReason::WrongAdjacency)?;
        neighbour.signatures.charge(1, now);
        let (id, stub) = (neighbour.id, neighbour.class == Class::Stub);
        self.stats.signatures += 1;
        let origin = self.verifier.verify_origin(record).ok_or(DropReason::ForgedOrigin)?;
        if self.is_me(&origin.node) {
            self.hear_own_record(slot, &origin, now);
            return Ok(());
        }
        if origin.node == id {
            self.hear_clock(slot, record.seqno, now);
        } else if stub {
            return Err(DropReason::BadControl);
        }
        let life = Duration::from_secs(u64::from(record.expiry_min) * 60);
        let left = self.clock.remaining(record.seqno, life, now).ok_or(DropReason::Replayed)?;
        let addr = origin.addr;
        self.keep_record(origin, now + left, now)?;
        if let Some(neighbour) = self.neighbours.get_mut(slot) {
            neighbour.missing.remove(&addr);
        }
        self.heard_newer(slot, &addr, record.seqno, now);
        Ok(())
    }

    /// Keeps a verified record; a destination begins here and nowhere else.
    fn keep_record(&mut self, origin: Arc<Origin>, expires: Instant, now: Instant) -> Result<(), DropReason> {
        let (node, addr) = (origin.node, origin.addr);
        let Some(key) = self.table.find(&addr) else {
            if !self.has_room_for(&node) {
                return Err(DropReason::TableFull);
            }
            let mut dest = Destination::new(Arc::clone(&origin), now);
            dest.add_proof(Proof::new(origin, expires));
            let key = self.table.insert(dest);
            self.welcome(key, now);
            return Ok(());
        };
        self.touch(key, now);
        let Some(dest) = self.table.get_mut(key) else { return Ok(()) };
        // A1: a second key with an address already present is refused.
        if dest.origin.node != node {
            return Err(DropReason::BadControl);
        }
        let landmark = dest.origin.record.landmark;
        match dest.proof_mut(origin.record.seqno) {
            None => dest.add_proof(Proof::new(origin, expires)),
            Some(known) if known.origin.record == origin.record => {}
            Some(known) => {
                // A6: two records, one seqno: the first stays, and the owner has to know.
                if known.rival.replace(origin).is_none() {
                    self.events.push_back(Event::DuplicateIdentity(node));
                }
            }
        }
        if self.table.get(key).is_some_and(|dest| dest.origin.record.landmark != landmark) {
            self.refresh_exemption(&node, now);
            self.sync(key, now);
        }
        Ok(())
    }

    fn on_update(
        &mut self,
        slot: Slot,
        origin: MeshAddr,
        claim: Claim,
        now: Instant,
    ) -> Result<(), DropReason> {
        let found = self.table.find(&origin);
        if found == self.own.key {
            return Ok(());
        }
        let metric = self.check_claim(slot, &origin, &claim)?;
        let Some(key) = found else {
            if self.neighbours.get_mut(slot).is_some_and(|n| n.note_missing(origin)) {
                self.request_record(slot, origin);
            }
            return Ok(());
        };
        self.touch(key, now);
        let proof = self.prove_claim(key, slot, &claim, now);
        let Some(dest) = self.table.get_mut(key) else { return Ok(()) };
        let starved = dest.next_hop.is_none();
        if self.rules.hold(Rule::CancelWants) {
            dest.cancel_want(slot);
        }
        let link = dest.link_mut(slot);
        let rank = PackedRank::new(claim.seqno, metric);
        // What could not be proved a moment ago and is said again is left to the retry timer, or
        // a record that we refuse would go to and fro without end.
        let again = link.adv == Some(rank) && !link.has(PROVEN);
        link.adv = proof.ok().map(|_| rank);
        link.set(PROVEN, proof == Ok(true));
        self.reselect(key, now);
        self.heard_newer(slot, &origin, claim.seqno, now);
        self.show_neighbour(key);
        self.after_update(key, slot, starved, now);
        if proof == Ok(false) && !again {
            self.ask_for_records(key);
        }
        proof.map(|_| ())
    }

    /// What an update asks of us once it is in the table.
    fn after_update(&mut self, key: Key, slot: Slot, starved: bool, now: Instant) {
        self.consider(key, now);
        let Some(dest) = self.table.get(key) else { return };
        let still = starved && dest.admitted && dest.next_hop.is_none();
        let seqno = dest.next_seqno().filter(|_| still && dest.adv(slot).is_some());
        if let Some(seqno) = seqno {
            self.request(key, slot, seqno);
        }
    }

    /// Claims that are wrong whatever the chain says; else the neighbour's own metric, its floor
    /// taken off.
    fn check_claim(&self, slot: Slot, origin: &MeshAddr, claim: &Claim) -> Result<Metric, DropReason> {
        let neighbour = self.neighbours.get(slot).ok_or(DropReason::WrongAdjacency)?;
        let direct = neighbour.addr == *origin;
        let floor = neighbour.floor_in.ok_or(DropReason::BadControl)?;
        let metric = claim.metric.minus(floor);
        // Only an origin is at no distance from itself; the cap is no route (A6).
        let possible = claim.metric >= floor && claim.metric.is_reachable();
        let honest = direct || (metric > Metric::ZERO && neighbour.class == Class::Router);
        if possible && honest { Ok(metric) } else { Err(DropReason::BadControl) }
    }

    /// Whether a claim is proved; `Ok(false)` when we lack the record to tell.
    fn prove_claim(&mut self, key: Key, slot: Slot, claim: &Claim, now: Instant) -> Result<bool, DropReason> {
        let Some(dest) = self.table.get_mut(key) else { return Ok(false) };
        let Some(proof) = dest.proof_mut(claim.seqno) else { return Ok(false) };
        let price = proof.price(claim.metric);
        let genuine = proof.verify(claim.metric, &claim.chain, self.verifier.as_ref());
        let contested = proof.rival.is_some();
        self.stats.hashes += price;
        if let Some(neighbour) = self.neighbours.get_mut(slot) {
            neighbour.hashes.charge(price, now);
        }
        match (genuine, contested) {
            (true, _) => Ok(true),
            // It may carry the other record's chain, which we do not keep: nobody is to blame.
            (false, true) => Ok(false),
            (false, false) => Err(DropReason::UnprovenMetric),
        }
    }

    fn on_retract(&mut self, slot: Slot, origin: MeshAddr, now: Instant) -> Result<(), DropReason> {
        let neighbour = self.neighbours.get_mut(slot).ok_or(DropReason::WrongAdjacency)?;
        neighbour.missing.remove(&origin);
        let Some(key) = self.table.find(&origin) else { return Ok(()) };
        self.touch(key, now);
        if let Some(dest) = self.table.get_mut(key) {
            let link = dest.link_mut(slot);
            link.adv = None;
            link.set(PROVEN, false);
        }
        self.reselect(key, now);
        Ok(())
    }

    fn on_seqno_request(&mut self, slot: Slot, origin: MeshAddr, seqno: Seqno, now: Instant) {
        let Some(key) = self.table.find(&origin) else { return };
        self.touch(key, now);
        if Some(key) == self.own.key {
            self.answer_as_origin(slot, seqno, now);
        } else {
            self.answer_as_relay(key, slot, seqno, now);
        }
    }

    /// Says again what was said, if anything was (ROUTE_REQUEST, RECORD_REQUEST).
    fn tell_again(&mut self, slot: Slot, origin: MeshAddr, how: u8, now: Instant) -> Result<(), DropReason> {
        let Some(key) = self.table.find(&origin) else { return Ok(()) };
        self.touch(key, now);
        let told = self.table.get(key).and_then(|dest| dest.link(slot)).and_then(|link| link.told());
        if told.is_some() {
            self.mark(key, slot, how, now);
        }
        Ok(())
    }
}
