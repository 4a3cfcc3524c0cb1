//! The state of one destination (routing-model §2), kept small: a large mesh has millions.
//!
//! Everything here is passive: `next_hop`, `own` and `fd` change in one place alone, in
//! [`crate::reselect`] (routing-model D11).

use std::sync::Arc;

use sinew_types::{Instant, Metric, Seqno};

use crate::chain::Proof;
use crate::config::WANT_EXPIRY;
use crate::neighbour::Slot;
use crate::rank::PackedRank;
use crate::verifier::Origin;

/// The advertised metric has been proved.
pub(crate) const PROVEN: u8 = 1 << 0;
/// In the neighbour's set of urgent destinations.
pub(crate) const URGENT: u8 = 1 << 1;
/// In the neighbour's list of destinations that wait for company.
pub(crate) const LAZY: u8 = 1 << 2;
/// Must be told again even if nothing changed.
pub(crate) const FORCE: u8 = 1 << 3;
/// The record must go with it.
pub(crate) const RECORD: u8 = 1 << 4;

/// [`Link::said`] is a rank.
const TOLD: u8 = 1 << 5;
/// [`Link::said`] is the ordinal of a frame.
const RETRACTED: u8 = 1 << 6;

/// The neighbour has heard of a newer seqno than we could tell: it hears when ours is the newest.
pub(crate) const OWED: u8 = 1 << 7;

/// What we have told a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// Nothing in this incarnation.
    Never,
    /// Our rank.
    Rank(PackedRank),
    /// That we have no route, in the frame of this ordinal. Until the neighbour has processed
    /// that frame it may still forward through us.
    Retracted(u64),
}

/// A destination seen from one neighbour.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) slot: Slot,
    pub(crate) flags: u8,
    /// What the neighbour says of itself: its rank, our link not included.
    pub(crate) adv: Option<PackedRank>,
    /// What we said, in one word; the flags say how to read it. See [`Self::state`].
    said: u64,
}

impl Link {
    const fn new(slot: Slot) -> Self {
        Self { slot, flags: 0, adv: None, said: 0 }
    }

    pub(crate) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(crate) const fn set(&mut self, flag: u8, on: bool) {
        if on { self.flags |= flag } else { self.flags &= !flag }
    }

    /// The rank we told, if that is the last thing we said.
    pub(crate) fn told(&self) -> Option<PackedRank> {
        if self.has(TOLD) { PackedRank::from_bits(self.said) } else { None }
    }

    /// The last thing we said.
    pub(crate) fn state(&self) -> Told {
        match self.told() {
            Some(rank) => Told::Rank(rank),
            None if self.has(RETRACTED) => Told::Retracted(self.said),
            None => Told::Never,
        }
    }

    /// Remembers what we just said.
    pub(crate) fn say(&mut self, told: Told) {
        self.set(FORCE | RECORD | TOLD | RETRACTED | OWED, false);
        match told {
            Told::Never => {}
            Told::Rank(rank) => {
                self.set(TOLD, true);
                self.said = rank.to_bits();
            }
            Told::Retracted(ordinal) => {
                self.set(RETRACTED, true);
                self.said = ordinal;
            }
        }
    }
}

/// A neighbour's pending request: it wants this seqno or a newer one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Want {
    pub(crate) slot: Slot,
    pub(crate) seqno: Seqno,
    pub(crate) heard: Instant,
}

/// One destination.
#[derive(Debug)]
pub(crate) struct Destination {
    /// Who it is, by the newest record we have.
    pub(crate) origin: Arc<Origin>,
    /// It is ourselves.
    pub(crate) is_self: bool,
    /// Within the vicinity we keep.
    pub(crate) admitted: bool,
    /// Kept whatever the vicinity: a landmark or a direct neighbour.
    pub(crate) exempt: bool,
    /// A change waits to be taken by the node.
    pub(crate) changed: bool,
    /// Which pause of the retry timer is next.
    pub(crate) step: u8,
    pub(crate) next_hop: Option<Slot>,
    pub(crate) own: Option<PackedRank>,
    pub(crate) fd: Option<PackedRank>,
    /// The newest seqno whose record was shown: to the next hop, or to the origin if it is a neighbour.
    pub(crate) shown: Option<Seqno>,
    /// The highest seqno asked for on behalf of others.
    pub(crate) asked: Option<Seqno>,
    /// Sorted by slot; only neighbours that said or were told something.
    pub(crate) links: Vec<Link>,
    pub(crate) wants: Vec<Want>,
    /// One per seqno in use.
    pub(crate) proofs: Vec<Proof>,
    /// When it was last spoken of.
    pub(crate) touched: Instant,
    /// When to repeat requests; [`Instant::FAR_FUTURE`] if nothing is missing.
    pub(crate) retry_at: Instant,
    /// The entry in the router's timers, [`Instant::FAR_FUTURE`] if there is none.
    pub(crate) timer: Instant,
    /// Not admitted before this.
    pub(crate) hold_until: Instant,
}

impl Destination {
    pub(crate) fn new(origin: Arc<Origin>, now: Instant) -> Self {
        Self {
            origin,
            is_self: false,
            admitted: false,
            exempt: false,
            changed: false,
            step: 0,
            next_hop: None,
            own: None,
            fd: None,
            shown: None,
            asked: None,
            links: Vec::new(),
            wants: Vec::new(),
            proofs: Vec::new(),
            touched: now,
            retry_at: Instant::FAR_FUTURE,
            timer: Instant::FAR_FUTURE,
            hold_until: Instant::ZERO,
        }
    }

    fn place(&self, slot: Slot) -> Result<usize, usize> {
        self.links.binary_search_by_key(&slot, |link| link.slot)
    }

    pub(crate) fn link(&self, slot: Slot) -> Option<&Link> {
        self.place(slot).ok().map(|at| &self.links[at])
    }

    /// The link of `slot`, made if there is none.
    pub(crate) fn link_mut(&mut self, slot: Slot) -> &mut Link {
        let at = self.place(slot).unwrap_or_else(|at| {
            // A large mesh has millions of these lists: no room to spare.
            self.links.reserve_exact(1);
            self.links.insert(at, Link::new(slot));
            at
        });
        &mut self.links[at]
    }

    pub(crate) fn remove_link(&mut self, slot: Slot) -> Option<Link> {
        self.cancel_want(slot);
        self.place(slot).ok().map(|at| self.links.remove(at))
    }

    pub(crate) fn advertised(&self) -> bool {
        self.links.iter().any(|link| link.adv.is_some())
    }

    pub(crate) fn adv(&self, slot: Slot) -> Option<PackedRank> {
        self.link(slot).and_then(|link| link.adv)
    }

    /// Whether this neighbour's word is older than a record that we can show it.
    pub(crate) fn lags(&self, slot: Slot) -> bool {
        let newest = self.origin.record.seqno;
        let older = self.adv(slot).is_some_and(|adv| adv.seqno() < newest);
        older && self.proof(newest).is_some()
    }

    /// The record that this neighbour lacks: the newest, or the second one of the seqno that it has.
    pub(crate) fn to_show(&self, slot: Slot) -> Option<&Origin> {
        if self.lags(slot) {
            return Some(&self.origin);
        }
        let told = self.adv(slot).and_then(|adv| self.proof(adv.seqno()));
        told.and_then(|proof| proof.rival.as_deref())
    }

    pub(crate) fn proof(&self, seqno: Seqno) -> Option<&Proof> {
        self.proofs.iter().find(|proof| proof.seqno() == seqno)
    }

    pub(crate) fn proof_mut(&mut self, seqno: Seqno) -> Option<&mut Proof> {
        self.proofs.iter_mut().find(|proof| proof.seqno() == seqno)
    }

    /// Adds a proof; those that no advertisement needs any more make room.
    pub(crate) fn add_proof(&mut self, proof: Proof) {
        let newest = self.origin.record.seqno;
        let links = &self.links;
        self.proofs.retain(|old| {
            let seqno = old.seqno();
            seqno == newest
                || links.iter().any(|l| l.has(PROVEN) && l.adv.is_some_and(|a| a.seqno() == seqno))
        });
        if proof.seqno() > newest {
            self.origin = Arc::clone(&proof.origin);
        }
        self.proofs.reserve_exact(1);
        self.proofs.push(proof);
    }

    pub(crate) fn want(&self, slot: Slot) -> Option<Seqno> {
        self.wants.iter().find(|want| want.slot == slot).map(|want| want.seqno)
    }

    /// The freshest seqno that neighbours wait for.
    pub(crate) fn wanted(&self) -> Option<Seqno> {
        self.wants.iter().map(|want| want.seqno).max()
    }

    pub(crate) fn add_want(&mut self, slot: Slot, seqno: Seqno, now: Instant) {
        match self.wants.iter_mut().find(|want| want.slot == slot) {
            Some(want) => (want.seqno, want.heard) = (want.seqno.max(seqno), now),
            None => self.wants.push(Want { slot, seqno, heard: now }),
        }
    }

    pub(crate) fn cancel_want(&mut self, slot: Slot) {
        self.wants.retain(|want| want.slot != slot);
    }

    /// Requests not repeated for long are void (routing-model D4).
    pub(crate) fn expire_wants(&mut self, now: Instant) {
        self.wants.retain(|want| want.heard + WANT_EXPIRY > now);
    }

    /// The next seqno that would make any metric feasible.
    pub(crate) fn next_seqno(&self) -> Option<Seqno> {
        self.fd.map(|fd| fd.seqno().next())
    }

    /// The whole path's metric, the cap without a route.
    pub(crate) fn metric(&self) -> Metric {
        self.own.map_or(Metric::UNREACHABLE, PackedRank::metric)
    }
}

#[cfg(test)]
mod tests;
