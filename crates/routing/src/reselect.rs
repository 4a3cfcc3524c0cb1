//! The one place that decides (routing-model D11): next hop, own rank and feasibility distance
//! change here, and here it is found out whom to tell.
//!
//! **Why there is no loop.** If A selects B for some destination, then FD_B < FD_A. For A selects
//! only what is strictly better than its own FD, and B's FD is never worse than anything B has
//! said since it last forgot it. B forgets only when the stream proves that nobody who was told
//! still selects it: everyone has processed the retraction, or the adjacency is closed. So FDs
//! fall strictly along every chain of next hops, whatever is delayed, evicted or restarted.

use sinew_types::{Class, Instant, Metric, Seqno};

use crate::config::{BATCH, SILENCE};
use crate::destination::{Destination, FORCE, LAZY, OWED, RECORD, Told, URGENT};
use crate::feasibility::{Need, need};
use crate::neighbour::{Neighbour, Slot};
use crate::rank::PackedRank;
use crate::router::{Change, Router};
use crate::rules::Rule;
use crate::selection::{Survey, survey};
use crate::table::Key;

/// Place in a neighbour's list: retractions first, then ourselves, landmarks, and the others
/// nearest first (routing §4.4 rule 2).
fn urgency(dest: &Destination) -> u16 {
    match dest.own {
        None => 0,
        Some(_) if dest.is_self => 1,
        Some(_) if dest.origin.record.landmark => 2,
        Some(own) => 3 + own.metric().units(),
    }
}

impl Router {
    /// Chooses again. Everything that changes what the neighbours say, what we may use or what a
    /// link costs ends here.
    pub(crate) fn reselect(&mut self, key: Key, now: Instant) {
        let Some(dest) = self.table.get_mut(key) else { return };
        dest.expire_wants(now);
        if dest.is_self {
            return self.sync(key, now);
        }
        let found = survey(dest, &self.neighbours, self.doubts.of(key), self.rules);
        let had = dest.next_hop.is_some();
        let before = ((dest.next_hop, dest.own), dest.fd);
        let request = self.adopt(key, &found);
        let Some(dest) = self.table.get(key) else { return };
        let (lost, ask) = (had && dest.next_hop.is_none() && dest.admitted, dest.next_seqno());
        let route = (dest.next_hop, dest.own);
        if before != (route, dest.fd) {
            self.note_change(key);
        }
        if let Some((slot, seqno)) = request {
            self.request(key, slot, seqno);
        }
        // Nobody has to hear anything new while the route stays what it is.
        if before.0 != route {
            self.sync(key, now);
        }
        if lost && let Some(seqno) = ask {
            self.ask_everyone(key, seqno);
        }
        self.schedule(key, &found, now);
        self.settle(key, now);
    }

    /// Takes over what the survey found; a request that a new next hop has to be sent.
    fn adopt(&mut self, key: Key, found: &Survey) -> Option<(Slot, Seqno)> {
        let cancel = self.rules.hold(Rule::CancelWants);
        let dest = self.table.get_mut(key)?;
        let Some(pick) = found.best else {
            (dest.next_hop, dest.own) = (None, None);
            return None;
        };
        let moved = dest.next_hop != Some(pick.slot);
        if moved {
            dest.shown = None;
        }
        dest.next_hop = Some(pick.slot);
        dest.link_mut(pick.slot).set(OWED, false);
        dest.own = Some(pick.own);
        dest.fd = dest.fd.max(Some(pick.own));
        if cancel {
            dest.cancel_want(pick.slot);
        }
        if dest.asked.is_some_and(|seqno| seqno <= pick.own.seqno()) {
            dest.asked = None;
        }
        dest.asked.filter(|_| moved).map(|seqno| (pick.slot, seqno))
    }

    pub(crate) fn note_change(&mut self, key: Key) {
        if let Some(dest) = self.table.get_mut(key)
            && !std::mem::replace(&mut dest.changed, true)
        {
            self.changes.push_back(Change::Look(key));
        }
    }

    /// Finds out whom to tell.
    pub(crate) fn sync(&mut self, key: Key, now: Instant) {
        let Some(dest) = self.table.get(key) else { return };
        let slots = if dest.is_self { self.neighbours.slots() } else { self.neighbours.listeners().to_vec() };
        for slot in slots {
            match self.need_of(key, slot) {
                Need::Nothing => {}
                Need::Soon => self.mark(key, slot, LAZY, now),
                Need::Now => self.mark(key, slot, 0, now),
            }
        }
    }

    /// What a neighbour should know of a destination; `None` for nothing.
    pub(crate) fn want(&self, dest: &Destination, slot: Slot, neighbour: &Neighbour) -> Option<PackedRank> {
        let own = dest.own?;
        let wire = own.metric().plus(neighbour.floor_out);
        // The cap proves nothing, everybody knows the anchor (protocol A6).
        if !wire.is_reachable() {
            return None;
        }
        if dest.is_self {
            return Some(own);
        }
        let far = wire > neighbour.radius && !dest.origin.record.landmark;
        let silent = dest.next_hop == Some(slot) || far || !self.tells_others(dest, neighbour);
        (!silent).then_some(own)
    }

    /// Whether we would ever speak to this neighbour of this destination: a stub speaks for itself
    /// alone and is told nothing, and nobody is told the way to himself.
    pub(crate) fn tells_others(&self, dest: &Destination, neighbour: &Neighbour) -> bool {
        self.config.class == Class::Router
            && neighbour.radius > Metric::ZERO
            && dest.origin.node != neighbour.id
    }

    pub(crate) fn need_of(&self, key: Key, slot: Slot) -> Need {
        let (Some(dest), Some(neighbour)) = (self.table.get(key), self.neighbours.get(slot)) else {
            return Need::Nothing;
        };
        let link = dest.link(slot);
        let want = self.want(dest, slot, neighbour);
        let told = link.and_then(|link| link.told());
        let newest = dest.own.is_some_and(|own| own.seqno() >= dest.origin.record.seqno);
        let owed = newest && link.is_some_and(|link| link.has(OWED));
        let plain = need(want, told, dest.want(slot), owed, self.config.significance);
        let forced = want.is_some() && link.is_some_and(|link| link.has(FORCE));
        if forced { Need::Now } else { plain }
    }

    /// Puts a destination on a neighbour's list: at once, or (`LAZY`) when the batch is due.
    /// `FORCE` and `RECORD` say what must be in the message.
    pub(crate) fn mark(&mut self, key: Key, slot: Slot, how: u8, now: Instant) {
        let Some((dest, neighbour)) = self.table.get_mut(key).zip(self.neighbours.get_mut(slot)) else {
            return;
        };
        let order = urgency(dest);
        let link = dest.link_mut(slot);
        link.set(how & (FORCE | RECORD), true);
        if link.has(URGENT) || (how == LAZY && link.has(LAZY)) {
            return;
        }
        if how == LAZY {
            link.set(LAZY, true);
            neighbour.lazy.push(key);
            if neighbour.lazy_at.is_none() {
                neighbour.lazy_at = Some(now + BATCH);
                self.batches.insert((now + BATCH, slot));
            }
            return;
        }
        link.set(URGENT, true);
        neighbour.urgent.insert((order, key));
        self.neighbours.mark_ready(slot);
    }

    /// Everything a neighbour may have to be told, after it came up or changed its wishes.
    pub(crate) fn sync_neighbour(&mut self, slot: Slot, now: Instant) {
        for key in self.table.keys() {
            if self.need_of(key, slot) != Need::Nothing {
                self.mark(key, slot, 0, now);
            }
        }
    }

    /// Something was said about a destination.
    pub(crate) fn touch(&mut self, key: Key, now: Instant) {
        let Some(dest) = self.table.get_mut(key) else { return };
        // An FD from a clock far ahead can never be met again. Talk must not keep it alive:
        // silence only saves messages (D7), it keeps nobody safe.
        let poisoned = dest.fd.is_some_and(|fd| self.clock.is_ahead(fd.seqno(), now));
        if poisoned {
            return;
        }
        dest.touched = now;
        // Confirmations may all have come while it was spoken of: somebody has to look again.
        if dest.next_hop.is_none() && !dest.is_self && dest.timer > now + SILENCE {
            self.set_timer(key, now + SILENCE);
        }
    }

    /// Whether nobody can still be forwarding through us on the strength of our FD: everyone who
    /// was told has processed the retraction, or is gone.
    fn is_released(&self, dest: &Destination) -> bool {
        let tombstones = self.rules.hold(Rule::Tombstone);
        dest.links.iter().all(|link| match link.state() {
            Told::Never => true,
            Told::Rank(_) => !tombstones,
            Told::Retracted(at) => {
                !tombstones || self.neighbours.get(link.slot).is_none_or(|n| n.processed >= at)
            }
        })
    }

    /// Forgets the FD where that is safe, and the whole destination where nothing is left of it.
    pub(crate) fn settle(&mut self, key: Key, now: Instant) {
        let Some(dest) = self.table.get(key) else { return };
        if dest.is_self || dest.next_hop.is_some() || !self.is_released(dest) {
            return;
        }
        let silent = dest.touched + SILENCE <= now;
        let hasty = !self.rules.hold(Rule::SilenceBeforeForgetting);
        if dest.fd.is_some() && (!dest.admitted || silent || hasty) {
            if let Some(dest) = self.table.get_mut(key) {
                dest.fd = None;
                dest.asked = None;
                dest.wants.clear();
            }
            self.reselect(key, now);
        } else if dest.fd.is_none() && silent && !dest.advertised() {
            self.remove(key);
        }
    }

    fn remove(&mut self, key: Key) {
        let Some(gone) = self.table.remove(key) else { return };
        self.timers.remove(&(gone.timer, key));
        self.doubts.forget(key);
        self.admission.left(&gone);
        if gone.changed {
            let change = self.route_change(&gone);
            self.changes.push_back(Change::Gone(change));
        }
    }

    /// Takes a destination out of the vicinity. Its FD stays as a tombstone until everyone who
    /// was told has confirmed that it is over (routing §4.4 rule 4).
    pub(crate) fn evict(&mut self, key: Key, hold_until: Instant, now: Instant) {
        let Some(dest) = self.table.get_mut(key).filter(|dest| dest.admitted && !dest.is_self) else {
            return;
        };
        dest.admitted = false;
        dest.hold_until = hold_until;
        dest.asked = None;
        dest.wants.clear();
        if !self.rules.hold(Rule::Tombstone) {
            dest.fd = None;
        }
        self.admission.evicted(self.table.get(key));
        self.reselect(key, now);
    }

    /// Takes a destination into the vicinity. An FD that is still there still counts.
    pub(crate) fn admit(&mut self, key: Key, now: Instant) {
        let Some(dest) = self.table.get_mut(key).filter(|dest| !dest.admitted) else { return };
        dest.admitted = true;
        self.admission.admitted(self.table.get(key));
        self.reselect(key, now);
        let starved = self.table.get(key).filter(|dest| dest.next_hop.is_none()).and_then(|d| d.next_seqno());
        if let Some(seqno) = starved {
            self.ask_everyone(key, seqno);
        }
    }
}
