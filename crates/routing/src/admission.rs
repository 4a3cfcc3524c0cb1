//! Which origins a node keeps when there are more than K (routing §4.4 rule 1).
//!
//! Half of the room goes to the nearest, the other half is shared evenly among next hops, so
//! that a crowd behind one neighbour cannot push out everything else. Landmarks and direct
//! neighbours take no room. Admission needs a clear advantage (0.9 of the boundary), eviction
//! waits until there are 1.25 K and then cuts to K at once, and an evicted origin stays out for
//! a minute: together they keep the boundary from flapping.
//!
//! A neighbour is told the radius of what is kept (HINT) and leaves out what lies beyond.

use std::collections::BTreeMap;

use sinew_types::{Class, Instant, Metric, NodeId};

use crate::config::READMIT_HOLD;
use crate::destination::{Destination, PROVEN};
use crate::neighbour::Slot;
use crate::router::Router;
use crate::table::Key;

/// Destinations beyond twice K that may be known, for neighbours and small K.
const SLACK: usize = 64;

/// Order of preference: routers before stubs, near before far.
pub(crate) type Order = (Class, Metric);

/// The boundary of the vicinity.
#[derive(Debug)]
pub(crate) struct Admission {
    k: usize,
    /// Admitted destinations that count against K.
    counted: usize,
    /// The farthest place within K, once something had to be evicted.
    boundary: Option<Order>,
    /// The farthest that was kept then.
    radius: Metric,
}

impl Admission {
    pub(crate) const fn new(k: usize) -> Self {
        Self { k, counted: 0, boundary: None, radius: Metric::UNREACHABLE }
    }

    pub(crate) const fn radius(&self) -> Metric {
        self.radius
    }

    fn counts(dest: &Destination) -> bool {
        dest.admitted && !dest.exempt
    }

    pub(crate) fn admitted(&mut self, dest: Option<&Destination>) {
        self.counted += usize::from(dest.is_some_and(|dest| !dest.exempt));
    }

    pub(crate) fn evicted(&mut self, dest: Option<&Destination>) {
        self.counted -= usize::from(dest.is_some_and(|dest| !dest.exempt));
    }

    pub(crate) fn left(&mut self, dest: &Destination) {
        self.counted -= usize::from(Self::counts(dest));
    }

    const fn overfull(&self) -> bool {
        self.counted > self.k + self.k / 4
    }

    /// Whether a newcomer at `order` may come in.
    fn lets_in(&self, order: Order) -> bool {
        let clearly_nearer = |boundary: Order| {
            let distance = u32::from(order.1.units()) * 10;
            order.0 < boundary.0 || (order.0 == boundary.0 && distance < u32::from(boundary.1.units()) * 9)
        };
        let near_enough = order.1.is_reachable() && self.boundary.is_none_or(clearly_nearer);
        self.counted < self.k || near_enough
    }
}

/// One admitted destination, as the choice sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) order: Order,
    pub(crate) next_hop: Option<Slot>,
    pub(crate) key: Key,
}

/// Sorts `entries` so that the first `k` are the ones to keep: half by distance alone, the rest
/// taken from the next hops in turn.
pub(crate) fn rank_for_keeping(mut entries: Vec<Entry>, k: usize) -> Vec<Entry> {
    entries.sort_unstable_by_key(|entry| (entry.order, entry.key));
    let rest = entries.split_off(k.div_ceil(2).min(entries.len()));
    let mut served = BTreeMap::<Slot, u32>::new();
    let mut turns: Vec<_> = rest
        .into_iter()
        .map(|entry| {
            // Who has no route has no turn.
            let Some(next_hop) = entry.next_hop else { return (u32::MAX, entry) };
            let turn = served.entry(next_hop).or_default();
            *turn += 1;
            (*turn, entry)
        })
        .collect();
    turns.sort_by_key(|&(turn, entry)| (turn, entry.order, entry.key));
    entries.extend(turns.into_iter().map(|(_, entry)| entry));
    entries
}

impl Router {
    /// Whether a destination that is not known yet may be.
    pub(crate) fn has_room_for(&self, node: &NodeId) -> bool {
        self.table.len() < 2 * self.config.k + SLACK || self.neighbours.slot_of(node).is_some()
    }

    /// A destination just became known.
    pub(crate) fn welcome(&mut self, key: Key, now: Instant) {
        let Some(node) = self.table.get(key).map(|dest| dest.origin.node) else { return };
        self.refresh_exemption(&node, now);
        self.consider(key, now);
        self.reselect(key, now);
    }

    /// Keeps the exemption of neighbours and landmarks up to date.
    pub(crate) fn refresh_exemption(&mut self, node: &NodeId, now: Instant) {
        let direct = self.neighbours.slot_of(node).is_some();
        let Some(key) = self.table.find(&node.address()) else { return };
        let Some(dest) = self.table.get_mut(key).filter(|dest| !dest.is_self) else { return };
        let exempt = direct || dest.origin.record.landmark;
        if dest.exempt != exempt {
            self.admission.left(dest);
            dest.exempt = exempt;
            if dest.admitted {
                self.admission.admitted(Some(dest));
            }
            self.consider(key, now);
        }
    }

    /// Admits a destination if there is room or it is near enough.
    pub(crate) fn consider(&mut self, key: Key, now: Instant) {
        let Some(dest) = self.table.get(key).filter(|dest| !dest.admitted) else { return };
        let order = (dest.origin.record.class, self.offered(dest));
        let wanted = dest.exempt || (dest.hold_until <= now && self.admission.lets_in(order));
        if !wanted {
            return;
        }
        self.admit(key, now);
        if self.admission.overfull() {
            self.trim(now);
        }
    }

    /// The shortest proven path on offer, feasible or not.
    fn offered(&self, dest: &Destination) -> Metric {
        let proven = dest.links.iter().filter(|link| link.has(PROVEN));
        let metrics = proven.filter_map(|l| Some(l.adv?.metric().plus(self.neighbours.get(l.slot)?.cost())));
        metrics.min().unwrap_or(Metric::UNREACHABLE)
    }

    /// Cuts the vicinity to K.
    fn trim(&mut self, now: Instant) {
        let counted = self.table.iter().filter(|(_, dest)| Admission::counts(dest));
        let entries: Vec<_> = counted
            .map(|(key, dest)| Entry {
                order: (dest.origin.record.class, dest.metric()),
                next_hop: dest.next_hop,
                key,
            })
            .collect();
        let k = self.config.k;
        self.admission.boundary = boundary(&entries, k);
        let ranked = rank_for_keeping(entries, k);
        let (keep, evict) = ranked.split_at(k.min(ranked.len()));
        self.admission.radius = radius(keep, self.admission.boundary);
        for entry in evict {
            self.evict(entry.key, now + READMIT_HOLD, now);
        }
        self.announce_radius();
    }

    /// Lets in whom there is room for, once enough have left.
    pub(crate) fn fill_vicinity(&mut self, now: Instant) {
        if self.admission.boundary.is_some() && self.admission.counted < self.config.k / 10 * 9 {
            self.admission.boundary = None;
            self.admission.radius = Metric::UNREACHABLE;
            self.announce_radius();
        }
        for key in self.table.keys() {
            self.consider(key, now);
        }
    }

    fn announce_radius(&mut self) {
        for slot in self.neighbours.slots() {
            if let Some(neighbour) = self.neighbours.get_mut(slot) {
                neighbour.hint_due = true;
                self.neighbours.mark_ready(slot);
            }
        }
    }
}

fn boundary(entries: &[Entry], k: usize) -> Option<Order> {
    let mut orders: Vec<_> = entries.iter().map(|entry| entry.order).collect();
    orders.sort_unstable();
    orders.get(k.checked_sub(1)?).copied()
}

/// How far the farthest kept one is. While only stubs had to go, routers are wanted from anywhere.
fn radius(keep: &[Entry], boundary: Option<Order>) -> Metric {
    match boundary {
        Some((Class::Router, _)) => {
            keep.iter().map(|entry| entry.order.1).max().unwrap_or(Metric::UNREACHABLE)
        }
        _ => Metric::UNREACHABLE,
    }
}

#[cfg(test)]
mod tests;
