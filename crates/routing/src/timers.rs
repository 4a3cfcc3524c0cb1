//! Time: repeated requests, batches of small changes, refresh and expiry.
//!
//! A destination has a timer only while something is missing; a mesh at rest wakes once a minute
//! for the sweep.

use std::time::Duration;

use sinew_types::Instant;

use crate::config::{RETRY, SILENCE};
use crate::destination::{FORCE, LAZY, PROVEN};
use crate::router::Router;
use crate::rules::Rule;
use crate::selection::Survey;
use crate::table::Key;

/// Repetitions after which nobody else is expected to have a way to what has none, 1.3 s after it was lost.
const ACQUIT: u8 = 2;
/// Expiry, refresh and other things without hurry.
const SWEEP: Duration = Duration::from_secs(60);

impl Router {
    /// When to call [`handle_timeout`](Self::handle_timeout) next, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let retry = self.timers.first().map(|&(at, _)| (at, "routing retry"));
        let batch = self.batches.first().map(|&(at, _)| (at, "routing batch"));
        let sweep = Some((self.sweep_at, "routing sweep"));
        [retry, batch, sweep].into_iter().flatten().min_by_key(|&(at, _)| at)
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(at, slot)) = self.batches.first()
            && at <= now
        {
            self.batches.pop_first();
            self.release_batch(slot, now);
        }
        while let Some(&(at, key)) = self.timers.first()
            && at <= now
        {
            self.timers.pop_first();
            if let Some(dest) = self.table.get_mut(key) {
                dest.timer = Instant::FAR_FUTURE;
                self.fire(key, now);
            }
        }
        if self.sweep_at <= now {
            self.plan_sweep(now);
            self.sweep(now);
        }
    }

    pub(crate) fn set_timer(&mut self, key: Key, at: Instant) {
        let Some(dest) = self.table.get_mut(key).filter(|dest| dest.timer != at) else { return };
        self.timers.remove(&(dest.timer, key));
        dest.timer = at;
        if at != Instant::FAR_FUTURE {
            self.timers.insert((at, key));
        }
    }

    /// Sets the destination's timer by what is missing.
    pub(crate) fn schedule(&mut self, key: Key, found: &Survey, now: Instant) {
        let better =
            self.rules.hold(Rule::AskForBetter) && found.better_out_of_reach(self.config.significance);
        let Some(dest) = self.table.get_mut(key) else { return };
        let starved = dest.admitted && dest.next_hop.is_none() && dest.fd.is_some() && dest.advertised();
        let missing = starved || !dest.wants.is_empty() || better || found.unproven;
        if !missing {
            (dest.step, dest.retry_at) = (0, Instant::FAR_FUTURE);
        } else if dest.retry_at == Instant::FAR_FUTURE {
            dest.retry_at = now + RETRY[0];
        }
        let silent_at = dest.touched + SILENCE;
        let quiet = dest.next_hop.is_none() && silent_at > now;
        let at = if quiet { dest.retry_at.min(silent_at) } else { dest.retry_at };
        self.set_timer(key, at);
    }

    fn fire(&mut self, key: Key, now: Instant) {
        let Some(dest) = self.table.get_mut(key) else { return };
        if dest.is_self {
            return self.late_raise(key, now);
        }
        if dest.retry_at <= now {
            let step = usize::from(dest.step).min(RETRY.len() - 1);
            dest.step = dest.step.saturating_add(1);
            dest.retry_at = now + RETRY[(step + 1).min(RETRY.len() - 1)];
            let in_vain = dest.next_hop.is_none() && dest.step >= ACQUIT;
            self.retry(key, now);
            if in_vain {
                // D13: the others' ways may all lead through us.
                self.doubts.spare(key, now);
            }
        }
        self.reselect(key, now);
    }

    /// Small changes have waited long enough for company.
    fn release_batch(&mut self, slot: crate::neighbour::Slot, now: Instant) {
        let Some(neighbour) = self.neighbours.get_mut(slot) else { return };
        neighbour.lazy_at = None;
        for key in std::mem::take(&mut neighbour.lazy) {
            let Some(dest) = self.table.get_mut(key) else { continue };
            dest.link_mut(slot).set(LAZY, false);
            if self.need_of(key, slot) != crate::feasibility::Need::Nothing {
                self.mark(key, slot, 0, now);
            }
        }
    }

    pub(crate) fn plan_sweep(&mut self, now: Instant) {
        self.sweep_at = now + SWEEP;
    }

    fn sweep(&mut self, now: Instant) {
        self.check_own_ahead(now);
        self.check_own_age(now);
        self.expire_doubts(now);
        for key in self.table.keys() {
            self.expire_proofs(key, now);
        }
        for slot in self.neighbours.slots() {
            self.ask_again_for_missing(slot);
        }
        self.show_what_is_newer();
        self.fill_vicinity(now);
    }

    /// A seqno past its hour proves nothing any more; an origin without a newer one is gone.
    fn expire_proofs(&mut self, key: Key, now: Instant) {
        let Some(dest) = self.table.get_mut(key) else { return };
        if dest.proofs.iter().all(|proof| proof.expires > now) {
            return;
        }
        dest.proofs.retain(|proof| proof.expires > now);
        let proofs = std::mem::take(&mut dest.proofs);
        for link in &mut dest.links {
            let proven = |seqno| proofs.iter().any(|proof| proof.seqno() == seqno);
            if link.has(PROVEN) && link.adv.is_some_and(|adv| !proven(adv.seqno())) {
                link.adv = None;
                link.set(PROVEN | FORCE, false);
            }
        }
        dest.proofs = proofs;
        self.reselect(key, now);
    }

    /// Records that could not be had, or were refused while the clocks differed.
    fn ask_again_for_missing(&mut self, slot: crate::neighbour::Slot) {
        let Some(neighbour) = self.neighbours.get_mut(slot) else { return };
        neighbour.bad = neighbour.bad.saturating_sub(1);
        let missing: Vec<_> = neighbour.missing.iter().copied().collect();
        for addr in missing {
            self.request_record(slot, addr);
        }
    }
}
