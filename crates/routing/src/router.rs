//! The machine: neighbours come and go, frames come in, frames and table changes go out.
//!
//! The work is divided by what it is about: [`receive`](crate::receive) understands messages,
//! [`reselect`](crate::reselect) decides (nothing else touches a route), [`transmit`](crate::transmit)
//! words the frames, [`requests`](crate::requests), [`timers`](crate::timers),
//! [`origin`](crate::origin) and [`admission`](crate::admission) do what their names say.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use sinew_types::{Class, Instant, MeshAddr, Metric, NodeId, Rank, Rng, Seqno, UnixMicros};

use crate::admission::Admission;
use crate::clock::NetworkClock;
use crate::config::Config;
use crate::destination::Destination;
use crate::doubt::Doubts;
use crate::event::{Advertisement, Event, RouteChange, RouteView};
use crate::neighbour::{Neighbour, Neighbours, Slot};
use crate::origin::OwnOrigin;
use crate::rank::PackedRank;
use crate::rules::{Rule, Rules};
use crate::selection::selectable;
use crate::stats::Stats;
use crate::table::{Key, Table};
use crate::verifier::{DirectVerifier, Verifier};

/// A change of the forwarding table that waits to be taken.
#[derive(Debug)]
pub(crate) enum Change {
    /// Whatever the destination's route is by then.
    Look(Key),
    /// The destination is gone.
    Gone(RouteChange),
}

/// The routing of one node.
///
/// One input, then drain: after any `handle_*`, `neighbour_*`, `set_*` or `on_*` call take all of
/// [`poll_change`](Self::poll_change) and [`poll_event`](Self::poll_event), then build frames with
/// [`poll_frame`](Self::poll_frame) for the [`dirty_neighbours`](Self::dirty_neighbours) whose
/// channel has room, and sleep until [`poll_timeout`](Self::poll_timeout).
#[derive(Debug)]
pub struct Router {
    pub(crate) config: Config,
    pub(crate) me: NodeId,
    pub(crate) verifier: Arc<dyn Verifier>,
    pub(crate) rng: Rng,
    pub(crate) clock: NetworkClock,
    pub(crate) own: OwnOrigin,
    pub(crate) neighbours: Neighbours,
    pub(crate) table: Table,
    pub(crate) admission: Admission,
    pub(crate) doubts: Doubts,
    /// When to look at a destination again.
    pub(crate) timers: BTreeSet<(Instant, Key)>,
    /// When a neighbour's batch of small changes is due.
    pub(crate) batches: BTreeSet<(Instant, Slot)>,
    pub(crate) sweep_at: Instant,
    pub(crate) changes: VecDeque<Change>,
    pub(crate) events: VecDeque<Event>,
    pub(crate) stats: Stats,
    pub(crate) rules: Rules,
}

impl Router {
    /// A router that checks everything itself. `unix` is the wall clock at `now`.
    pub fn new(config: Config, seed: [u8; 32], unix: UnixMicros, now: Instant) -> Self {
        Self::with_verifier(config, seed, unix, now, Arc::new(DirectVerifier::default()))
    }

    /// A router that shares its checks with others.
    pub fn with_verifier(
        config: Config,
        seed: [u8; 32],
        unix: UnixMicros,
        now: Instant,
        verifier: Arc<dyn Verifier>,
    ) -> Self {
        let mut rng = Rng::new(seed);
        let clock = NetworkClock::new(unix, rng.u64(), now);
        let me = config.identity.node_id();
        let mut table = Table::default();
        let (own, destination) = OwnOrigin::first(&config, &mut rng, &clock, verifier.as_ref(), now);
        let own = own.at(table.insert(destination));
        let mut router = Self {
            admission: Admission::new(config.k),
            doubts: Doubts::default(),
            config,
            me,
            verifier,
            rng,
            clock,
            events: VecDeque::from([Event::OwnSeqno(own.seqno)]),
            own,
            neighbours: Neighbours::default(),
            table,
            timers: BTreeSet::new(),
            batches: BTreeSet::new(),
            sweep_at: now,
            changes: VecDeque::new(),
            stats: Stats::default(),
            rules: Rules::default(),
        };
        router.plan_sweep(now);
        router
    }

    /// Corrects the wall clock: it is `unix` at `now`.
    pub fn set_unix(&mut self, unix: UnixMicros, now: Instant) {
        self.clock.set_unix(unix, now);
        self.check_own_age(now);
    }

    /// An adjacency opened; a former one with the same node is closed first (routing-model D1).
    ///
    /// `cost` is what the link adds to a path, already damped. `floor` is the part of it that we
    /// add before sending (protocol A6), constant for the life of the adjacency.
    pub fn neighbour_up(&mut self, node: NodeId, cost: Metric, floor: Metric, class: Class, now: Instant) {
        if node == self.me {
            return;
        }
        match self.neighbours.slot_of(&node).and_then(|slot| self.neighbours.get_mut(slot)) {
            Some(old) if !self.rules.hold(Rule::FreshIncarnation) => {
                (old.sent, old.processed, old.hint_due) = (0, 0, true);
                return;
            }
            Some(_) => self.neighbour_down(&node, now),
            None => {}
        }
        let Some(slot) = self.neighbours.insert(Neighbour::new(node, class, cost, floor, now)) else {
            return;
        };
        self.refresh_exemption(&node, now);
        self.sync_neighbour(slot, now);
    }

    /// An adjacency closed: all that came through it or was told over it is void at once,
    /// whatever the other end knows (routing-model `close_end`).
    pub fn neighbour_down(&mut self, node: &NodeId, now: Instant) {
        let Some(slot) = self.neighbours.remove(node) else { return };
        self.batches.retain(|&(_, s)| s != slot);
        // Its going is a word about it: what it said last outlives a restart, and is shown to who
        // comes back with less (D6, D12).
        if let Some(key) = self.table.find(&node.address()) {
            self.touch(key, now);
        }
        for key in self.table.keys() {
            let Some(dest) = self.table.get_mut(key) else { continue };
            if dest.remove_link(slot).is_some() || dest.next_hop == Some(slot) {
                self.reselect(key, now);
            }
        }
        self.refresh_exemption(node, now);
        self.recount_votes(now);
    }

    /// The link to a neighbour now costs `cost`, already damped.
    pub fn set_cost(&mut self, node: &NodeId, cost: Metric, now: Instant) {
        let Some(slot) = self.neighbours.slot_of(node) else { return };
        if self.neighbours.get_mut(slot).is_some_and(|n| n.set_cost(cost)) {
            self.reselect_through(slot, now);
        }
    }

    /// Reselects everything that `slot` advertises, after its cost changed.
    pub(crate) fn reselect_through(&mut self, slot: Slot, now: Instant) {
        for key in self.table.keys() {
            if self.table.get(key).is_some_and(|dest| dest.adv(slot).is_some()) {
                self.reselect(key, now);
            }
        }
    }

    /// The next change of the forwarding table.
    pub fn poll_change(&mut self) -> Option<RouteChange> {
        while let Some(change) = self.changes.pop_front() {
            match change {
                Change::Gone(change) => return Some(change),
                Change::Look(key) => {
                    let Some(dest) = self.table.get_mut(key) else { continue };
                    dest.changed = false;
                    let dest = self.table.get(key)?;
                    return Some(self.route_change(dest));
                }
            }
        }
        None
    }

    pub(crate) fn route_change(&self, dest: &Destination) -> RouteChange {
        let next_hop = dest.next_hop.and_then(|slot| self.neighbours.get(slot)).map(|n| n.id);
        RouteChange {
            node: dest.origin.node,
            addr: dest.origin.addr,
            class: dest.origin.record.class,
            next_hop,
            fd: next_hop.and(dest.fd).map(PackedRank::rank),
            metric: dest.metric(),
        }
    }

    /// The next thing worth knowing.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Neighbours for which [`poll_frame`](Self::poll_frame) has something to say.
    pub fn dirty_neighbours(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.neighbours.ready().map(|neighbour| neighbour.id)
    }

    /// Whether anything at all waits to be sent, and to whom first.
    pub fn wants_to_send(&self) -> Option<NodeId> {
        self.dirty_neighbours().next()
    }

    /// Until when frames of this neighbour should be kept back, because what it made us check
    /// exceeds its share (protocol A5: withheld credit, never a dropped message).
    pub fn busy_until(&self, node: &NodeId, now: Instant) -> Option<Instant> {
        let neighbour = self.neighbours.get(self.neighbours.slot_of(node)?)?;
        neighbour.hashes.ready_at(now).max(neighbour.signatures.ready_at(now))
    }

    /// Our own rank: seqno and metric zero.
    pub fn own_rank(&self) -> Rank {
        Rank { seqno: self.own.seqno, metric: Metric::ZERO }
    }

    /// Our own seqno, for stable storage.
    pub const fn own_seqno(&self) -> Seqno {
        self.own.seqno
    }

    /// The node behind an address, if its record is known.
    pub fn node_of(&self, addr: &MeshAddr) -> Option<NodeId> {
        self.table.find(addr).and_then(|key| self.table.get(key)).map(|dest| dest.origin.node)
    }

    /// What the selected way to an address costs; `None` without one.
    pub fn metric_of(&self, addr: &MeshAddr) -> Option<Metric> {
        let dest = self.table.find(addr).and_then(|key| self.table.get(key))?;
        Some(dest.metric()).filter(|metric| metric.is_reachable())
    }

    /// A stub's answer for every destination it has no route to: the nearest router it is
    /// attached to. `None` on a router, which knows where everybody is.
    pub fn default_next_hop(&self) -> Option<NodeId> {
        if self.config.class == Class::Router {
            return None;
        }
        let upstreams = self.neighbours.iter().filter(|(_, n)| n.class == Class::Router);
        upstreams.min_by_key(|(_, n)| (n.cost(), n.id)).map(|(_, n)| n.id)
    }

    /// How many destinations are known, ourselves included.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Never: a router knows itself.
    pub fn is_empty(&self) -> bool {
        self.table.len() == 0
    }

    /// Counters.
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Every destination with all that is said about it, in the order of node ids.
    pub fn routes(&self) -> Vec<RouteView> {
        let others = self.table.iter().filter(|(_, dest)| !dest.is_self);
        let mut views: Vec<_> = others.map(|(_, dest)| self.view(dest)).collect();
        views.sort_unstable_by_key(|view| view.node);
        views
    }

    fn view(&self, dest: &Destination) -> RouteView {
        let change = self.route_change(dest);
        let says = |(slot, neighbour): (Slot, &Neighbour)| {
            let link = dest.link(slot)?;
            let adv = link.adv?;
            Some(Advertisement {
                neighbour: neighbour.id,
                rank: adv.rank(),
                metric: adv.metric().plus(neighbour.cost()),
                feasible: selectable(dest, slot, adv, self.rules),
                proven: link.has(crate::destination::PROVEN),
                selected: dest.next_hop == Some(slot),
            })
        };
        RouteView {
            node: change.node,
            addr: change.addr,
            class: change.class,
            own: dest.own.map(PackedRank::rank),
            fd: dest.fd.map(PackedRank::rank),
            next_hop: change.next_hop,
            admitted: dest.admitted,
            advertisements: self.neighbours.iter().filter_map(says).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
