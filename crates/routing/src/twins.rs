//! How an origin hears of a record of its own that it has not issued (routing-model D12).
//!
//! Two hosts with one key each have their neighbourhood, and at the border between them nothing is
//! wrong: the nearer one is selected, whatever the other's seqno. So whoever holds a newer record
//! than its next hop speaks of shows it: hop by hop it comes to the origin, who knows whether it
//! signed that itself. And whoever spoke of the newer one is owed word as soon as ours overtakes
//! it, against D8; else the answer would end where the two meet.
//!
//! Two hosts that began in the same millisecond have records of one seqno, neither of them newer.
//! Whoever holds both acts as if the neighbour with the second one had asked for the next seqno: the
//! request shows that record to the origin that has not signed it, which leaps over it.
//!
//! An honest origin with several neighbours is shown its own words now and then; that costs one
//! ORIGIN a seqno and hop, and bounds hold it ([`SHOWS_AT_ONCE`], [`SHOWS_PER_SWEEP`]).

use sinew_types::{Class, Instant, MeshAddr, Seqno};

use crate::config::{SHOWS_AT_ONCE, SHOWS_PER_SWEEP};
use crate::destination::OWED;
use crate::neighbour::Slot;
use crate::rank::PackedRank;
use crate::router::Router;
use crate::table::Key;

impl Router {
    /// A neighbour knows of this seqno of somebody else's origin: a newer one than ours, or ours by
    /// another record.
    pub(crate) fn heard_newer(&mut self, slot: Slot, origin: &MeshAddr, seqno: Seqno, now: Instant) {
        let Some((key, dest)) = self.table.find(origin).and_then(|key| Some((key, self.table.get_mut(key)?)))
        else {
            return;
        };
        // What the next hop says is ours in a moment.
        if dest.next_hop.is_none_or(|hop| hop == slot) {
            return;
        }
        let own = dest.own.map(PackedRank::seqno);
        let rival = own == Some(seqno) && dest.proof(seqno).is_some_and(|proof| proof.rival.is_some());
        if own.is_some_and(|own| own < seqno) {
            dest.link_mut(slot).set(OWED, true);
        }
        if rival {
            self.answer_as_relay(key, slot, seqno.next(), now);
        }
        self.show_neighbour(key);
    }

    /// An origin next to us that speaks of an older seqno than others do, or than it did before it
    /// went, is shown the newest record at once; also if others were here first, so that by its older
    /// word it is no next hop.
    pub(crate) fn show_neighbour(&mut self, key: Key) {
        // Without a route there is nothing to compare with yet.
        let routed = self.table.get(key).filter(|dest| dest.next_hop.is_some());
        let Some(slot) = routed.and_then(|dest| self.neighbours.slot_of(&dest.origin.node)) else { return };
        if self.neighbours.get(slot).is_some_and(|n| n.shows_left > 0)
            && self.show(key, slot)
            && let Some(neighbour) = self.neighbours.get_mut(slot)
        {
            neighbour.shows_left -= 1;
        }
    }

    /// Shows a neighbour the newest record, unless it knows it or was shown it; whether it will be.
    fn show(&mut self, key: Key, to: Slot) -> bool {
        // A stub speaks for itself alone.
        if self.config.class == Class::Stub {
            return false;
        }
        let Some(dest) = self.table.get_mut(key).filter(|dest| dest.lags(to)) else { return false };
        let newest = dest.origin.record.seqno;
        let (Some(neighbour), true) = (self.neighbours.get_mut(to), dest.shown < Some(newest)) else {
            return false;
        };
        dest.shown = Some(newest);
        neighbour.shows.insert(key);
        self.neighbours.mark_ready(to);
        true
    }

    /// Shows each next hop what it lacks, some at a time.
    pub(crate) fn show_what_is_newer(&mut self) {
        for slot in self.neighbours.slots() {
            let left = self.neighbours.get_mut(slot).map(|n| &mut n.shows_left);
            left.into_iter().for_each(|left| *left = SHOWS_AT_ONCE);
        }
        let mut shown = 0;
        for key in self.table.keys() {
            let hop = self.table.get(key).and_then(|dest| dest.next_hop);
            shown += usize::from(hop.is_some_and(|hop| self.show(key, hop)));
            if shown == SHOWS_PER_SWEEP {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests;
