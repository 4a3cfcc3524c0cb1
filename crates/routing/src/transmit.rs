//! Wording of frames, as late as possible.
//!
//! A frame is made when the channel has room, from the state of that moment. What was lost and
//! found in between is never mentioned; that is safe because what was told before stays the
//! measure (`told`) until something else is on its way.

use sinew_types::{Class, Instant, NodeId};
use sinew_wire::routing::{FRAME_MAX, FrameBuilder, RoutingMessage};

use crate::destination::{FORCE, RECORD, Told, URGENT};
use crate::feasibility::Need;
use crate::neighbour::Slot;
use crate::rank::PackedRank;
use crate::router::Router;
use crate::rules::Rule;
use crate::stats::{UPDATE_LEN, origin_len};
use crate::table::Key;

/// A frame in the making.
struct Draft<'a> {
    builder: FrameBuilder<'a>,
    room: usize,
}

impl Draft<'_> {
    fn put(&mut self, router: &mut Router, message: &RoutingMessage, len: usize) -> bool {
        let fits = len <= self.room && self.builder.push(message);
        if fits {
            self.room -= len;
            router.stats.sent.add(message);
        }
        fits
    }
}

/// Length of everything but ORIGIN and UPDATE, at most.
const SMALL: usize = 25;

impl Router {
    /// Builds the next frame for a neighbour at the end of `out`: at most
    /// [`FRAME_MAX`] bytes. `false` if there is nothing to say.
    ///
    /// Frames to one neighbour are numbered from 1 since it came up; each `true` is one number,
    /// to be named in [`on_processed`](Self::on_processed).
    pub fn poll_frame(&mut self, node: &NodeId, now: Instant, out: &mut Vec<u8>) -> bool {
        let Some(slot) = self.neighbours.slot_of(node) else { return false };
        let mut draft = Draft { builder: FrameBuilder::new(out), room: FRAME_MAX };
        let done = self.put_hint(slot, &mut draft)
            && self.put_shows(slot, &mut draft)
            && self.put_seqno_requests(slot, &mut draft)
            && self.put_record_requests(slot, &mut draft)
            && self.put_routes(slot, now, &mut draft);
        let made = !draft.builder.is_empty();
        if done {
            self.neighbours.clear_ready(slot);
        }
        if made && let Some(neighbour) = self.neighbours.get_mut(slot) {
            neighbour.sent += 1;
            self.stats.frames_sent += 1;
        }
        made
    }

    /// The neighbour has processed our frames up to `ordinal`, its forwarding table included
    /// (routing-model D3). Feasibility distances held for it may go.
    pub fn on_processed(&mut self, node: &NodeId, ordinal: u64, now: Instant) {
        let Some(neighbour) = self.neighbours.slot_of(node).and_then(|s| self.neighbours.get_mut(s)) else {
            return;
        };
        let position = self.rules.hold(Rule::AckIsPosition);
        let upto = if position { ordinal.min(neighbour.sent) } else { neighbour.sent };
        neighbour.processed = neighbour.processed.max(upto);
        let done = neighbour.retracts.partition_point(|&(at, _)| at <= upto);
        let released: Vec<_> = neighbour.retracts.drain(..done).collect();
        for (_, key) in released {
            self.settle(key, now);
        }
    }

    fn put_hint(&mut self, slot: Slot, draft: &mut Draft<'_>) -> bool {
        let Some(neighbour) = self.neighbours.get(slot).filter(|n| n.hint_due) else { return true };
        let stub = self.config.class == Class::Stub;
        let hint = RoutingMessage::Hint {
            floor: neighbour.floor_out.units(),
            class: self.config.class,
            k: if stub { 0 } else { u16::try_from(self.config.k).unwrap_or(u16::MAX) },
            radius: if stub { 0 } else { self.admission.radius().units() },
        };
        let fits = draft.put(self, &hint, SMALL);
        if fits && let Some(neighbour) = self.neighbours.get_mut(slot) {
            neighbour.hint_due = false;
        }
        fits
    }

    fn put_shows(&mut self, slot: Slot, draft: &mut Draft<'_>) -> bool {
        while let Some(&key) = self.neighbours.get(slot).and_then(|n| n.shows.first()) {
            let shown = self.table.get(key).filter(|dest| dest.lags(slot)).map(|dest| &dest.origin.record);
            if let Some(record) = shown.cloned()
                && !draft.put(self, &RoutingMessage::Origin(record.clone()), origin_len(&record))
            {
                return false;
            }
            if let Some(neighbour) = self.neighbours.get_mut(slot) {
                neighbour.shows.remove(&key);
            }
        }
        true
    }

    fn put_seqno_requests(&mut self, slot: Slot, draft: &mut Draft<'_>) -> bool {
        while let Some((&key, &seqno)) =
            self.neighbours.get(slot).and_then(|n| n.seqno_requests.first_key_value())
        {
            if !self.put_seqno_request(key, slot, seqno, draft) {
                return false;
            }
            if let Some(neighbour) = self.neighbours.get_mut(slot) {
                neighbour.seqno_requests.remove(&key);
            }
        }
        true
    }

    fn put_seqno_request(
        &mut self,
        key: Key,
        slot: Slot,
        seqno: sinew_types::Seqno,
        draft: &mut Draft<'_>,
    ) -> bool {
        let Some(dest) = self.table.get(key) else { return true };
        // It has answered in the meantime.
        if dest.adv(slot).is_some_and(|adv| adv.seqno() >= seqno) {
            return true;
        }
        let request = RoutingMessage::SeqnoRequest { origin: dest.origin.addr, seqno };
        // D6: an origin jumps past another number only if shown its own signature under it.
        let shown = dest.to_show(slot).map(|origin| origin.record.clone());
        let extra = shown.as_ref().map_or(0, origin_len);
        if draft.room < SMALL + extra {
            return false;
        }
        if let Some(shown) = shown {
            draft.put(self, &RoutingMessage::Origin(shown), extra);
        }
        draft.put(self, &request, SMALL)
    }

    fn put_record_requests(&mut self, slot: Slot, draft: &mut Draft<'_>) -> bool {
        while let Some(&origin) = self.neighbours.get(slot).and_then(|n| n.record_requests.first()) {
            if !draft.put(self, &RoutingMessage::RecordRequest { origin }, SMALL) {
                return false;
            }
            if let Some(neighbour) = self.neighbours.get_mut(slot) {
                neighbour.record_requests.remove(&origin);
            }
        }
        true
    }

    fn put_routes(&mut self, slot: Slot, now: Instant, draft: &mut Draft<'_>) -> bool {
        while let Some((order, key)) = self.neighbours.get_mut(slot).and_then(|n| n.urgent.pop_first()) {
            if !self.put_route(key, slot, draft) {
                if let Some(neighbour) = self.neighbours.get_mut(slot) {
                    neighbour.urgent.insert((order, key));
                }
                return false;
            }
            if let Some(dest) = self.table.get_mut(key) {
                dest.link_mut(slot).set(URGENT, false);
            }
            self.settle(key, now);
        }
        true
    }

    /// Says what is to be said of one destination; `false` if it does not fit any more.
    fn put_route(&mut self, key: Key, slot: Slot, draft: &mut Draft<'_>) -> bool {
        if self.need_of(key, slot) == Need::Nothing {
            if let Some(dest) = self.table.get_mut(key) {
                dest.link_mut(slot).set(FORCE | RECORD, false);
            }
            return true;
        }
        let (Some(dest), Some(neighbour)) = (self.table.get(key), self.neighbours.get(slot)) else {
            return true;
        };
        match self.want(dest, slot, neighbour) {
            Some(want) => self.put_update(key, slot, want, draft),
            None => self.put_retract(key, slot, draft),
        }
    }

    fn put_retract(&mut self, key: Key, slot: Slot, draft: &mut Draft<'_>) -> bool {
        let Some(origin) = self.table.get(key).map(|dest| dest.origin.addr) else { return true };
        if !draft.put(self, &RoutingMessage::Retract { origin }, SMALL) {
            return false;
        }
        if let Some((dest, neighbour)) = self.table.get_mut(key).zip(self.neighbours.get_mut(slot)) {
            let ordinal = neighbour.sent + 1;
            dest.link_mut(slot).say(Told::Retracted(ordinal));
            neighbour.retracts.push_back((ordinal, key));
        }
        true
    }

    fn put_update(&mut self, key: Key, slot: Slot, want: PackedRank, draft: &mut Draft<'_>) -> bool {
        let (Some(dest), Some(neighbour)) = (self.table.get(key), self.neighbours.get(slot)) else {
            return true;
        };
        let (seqno, link) = (want.seqno(), dest.link(slot));
        let metric = want.metric().plus(neighbour.floor_out);
        let Some(proof) = dest.proof(seqno) else { return true };
        let Some(chain) = proof.prove(metric, self.verifier.as_ref()) else { return true };
        // The record goes ahead of the first word about a seqno, unless the neighbour itself told
        // us that seqno or a newer one.
        let known = |rank: Option<PackedRank>| rank.map(PackedRank::seqno);
        let has = known(link.and_then(|l| l.told())) == Some(seqno) || known(dest.adv(slot)) >= Some(seqno);
        let asked = link.is_some_and(|link| link.has(RECORD));
        let origin = (!has || asked).then(|| proof.origin.record.clone());
        let update = RoutingMessage::Update { origin: dest.origin.addr, seqno, metric, chain };
        let extra = origin.as_ref().map_or(0, origin_len);
        if draft.room < UPDATE_LEN + extra {
            return false;
        }
        if let Some(record) = origin {
            draft.put(self, &RoutingMessage::Origin(record), extra);
        }
        draft.put(self, &update, UPDATE_LEN);
        if let Some(dest) = self.table.get_mut(key) {
            dest.link_mut(slot).say(Told::Rank(want));
            if dest.want(slot).is_some_and(|wanted| wanted <= seqno) {
                dest.cancel_want(slot);
            }
        }
        true
    }
}
