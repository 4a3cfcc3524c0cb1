//! What we know of a neighbour, and what we owe it.
//!
//! There is no queue of messages: a neighbour has a set of destinations whose state it may have
//! to be told, and the words are chosen when a frame is built (protocol A5). So memory is bounded
//! by the table, and a route that is lost and found again before the window opens costs nothing.
//!
//! Neighbours live in small slots, so that a destination can name one in two bytes. A slot is
//! used again only after every mention of it is gone ([`crate::Router::neighbour_down`]).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use sinew_types::{Budget, Class, Instant, MeshAddr, Metric, NodeId, Seqno};

use crate::config::{HASH_BURST, HASH_RATE, SHOWS_AT_ONCE, SIGNATURE_BURST, SIGNATURE_RATE};
use crate::table::Key;

/// Index of a neighbour.
pub(crate) type Slot = u16;

/// Destinations that a neighbour advertises and we cannot prove, remembered per neighbour.
const MISSING_MAX: usize = 256;

/// One live adjacency.
#[derive(Debug)]
pub(crate) struct Neighbour {
    pub(crate) id: NodeId,
    pub(crate) addr: MeshAddr,
    pub(crate) class: Class,
    cost: Metric,
    /// What we add before sending to it (protocol A6).
    pub(crate) floor_out: Metric,
    /// What it says it adds; none before its HINT.
    pub(crate) floor_in: Option<Metric>,
    /// The highest it ever said: our link's cost never falls below, so what we make of its
    /// metrics stays provable.
    floor_max: Metric,
    /// It wants to hear of nothing farther than this.
    pub(crate) radius: Metric,
    /// What its newest own record says about our clock.
    pub(crate) clock_vote: Option<i64>,

    pub(crate) hint_due: bool,
    /// Destinations to look at when a frame is built, retractions first, then nearest first.
    pub(crate) urgent: BTreeSet<(u16, Key)>,
    /// Destinations whose change waits for company until `lazy_at`.
    pub(crate) lazy: Vec<Key>,
    pub(crate) lazy_at: Option<Instant>,
    /// Destinations whose newest record it lacks.
    pub(crate) shows: BTreeSet<Key>,
    /// How many more it is shown at once before the next sweep.
    pub(crate) shows_left: u8,
    pub(crate) seqno_requests: BTreeMap<Key, Seqno>,
    pub(crate) record_requests: BTreeSet<MeshAddr>,
    /// Advertised by it, unknown to us: their records are asked for now and then.
    pub(crate) missing: BTreeSet<MeshAddr>,

    /// Frames sent.
    pub(crate) sent: u64,
    /// Frames it has confirmed as processed.
    pub(crate) processed: u64,
    /// Retractions not yet confirmed: the frame that carried them, and for which destination.
    pub(crate) retracts: VecDeque<(u64, Key)>,

    pub(crate) hashes: Budget,
    pub(crate) signatures: Budget,
    pub(crate) bad: u32,
}

impl Neighbour {
    pub(crate) fn new(id: NodeId, class: Class, cost: Metric, floor: Metric, now: Instant) -> Self {
        Self {
            id,
            addr: id.address(),
            class,
            cost: cost.max(Metric::ONE),
            floor_out: floor.max(Metric::ONE),
            floor_in: None,
            floor_max: Metric::ZERO,
            radius: if class == Class::Stub { Metric::ZERO } else { Metric::UNREACHABLE },
            clock_vote: None,
            hint_due: true,
            urgent: BTreeSet::new(),
            lazy: Vec::new(),
            lazy_at: None,
            shows: BTreeSet::new(),
            shows_left: SHOWS_AT_ONCE,
            seqno_requests: BTreeMap::new(),
            record_requests: BTreeSet::new(),
            missing: BTreeSet::new(),
            sent: 0,
            processed: 0,
            retracts: VecDeque::new(),
            hashes: Budget::new(HASH_RATE, HASH_BURST, now),
            signatures: Budget::new(SIGNATURE_RATE, SIGNATURE_BURST, now),
            bad: 0,
        }
    }

    /// What this hop adds to a path.
    pub(crate) fn cost(&self) -> Metric {
        self.cost.max(self.floor_max)
    }

    /// Takes a new link cost; whether anything changed.
    pub(crate) fn set_cost(&mut self, cost: Metric) -> bool {
        let before = self.cost();
        self.cost = cost.max(Metric::ONE);
        before != self.cost()
    }

    /// Takes the floor it announces; whether our cost changed by it.
    pub(crate) fn set_floor(&mut self, floor: Metric) -> bool {
        let before = self.cost();
        self.floor_in = Some(floor);
        self.floor_max = self.floor_max.max(floor);
        before != self.cost()
    }

    /// Remembers that it advertises something we have no record of; whether that is new.
    pub(crate) fn note_missing(&mut self, origin: MeshAddr) -> bool {
        self.missing.len() < MISSING_MAX && self.missing.insert(origin)
    }
}

/// All live adjacencies.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    slots: Vec<Option<Neighbour>>,
    by_id: BTreeMap<NodeId, Slot>,
    /// Neighbours that have something to send.
    ready: BTreeSet<Slot>,
    /// Neighbours that want to hear of others than ourselves.
    listeners: Vec<Slot>,
}

impl Neighbours {
    /// Takes a free slot; `None` when all 65,536 are in use.
    pub(crate) fn insert(&mut self, neighbour: Neighbour) -> Option<Slot> {
        let free = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        let slot = Slot::try_from(free).ok()?;
        self.by_id.insert(neighbour.id, slot);
        self.ready.insert(slot);
        if free == self.slots.len() {
            self.slots.push(None);
        }
        self.slots[free] = Some(neighbour);
        self.update_listener(slot);
        Some(slot)
    }

    pub(crate) fn remove(&mut self, id: &NodeId) -> Option<Slot> {
        let slot = self.by_id.remove(id)?;
        self.slots[usize::from(slot)] = None;
        self.ready.remove(&slot);
        self.update_listener(slot);
        Some(slot)
    }

    /// Keeps the list of listeners in step with a neighbour's radius.
    pub(crate) fn update_listener(&mut self, slot: Slot) {
        let listens = self.get(slot).is_some_and(|n| n.radius > Metric::ZERO);
        match (self.listeners.binary_search(&slot), listens) {
            (Err(at), true) => self.listeners.insert(at, slot),
            (Ok(at), false) => drop(self.listeners.remove(at)),
            _ => {}
        }
    }

    pub(crate) fn listeners(&self) -> &[Slot] {
        &self.listeners
    }

    pub(crate) fn slot_of(&self, id: &NodeId) -> Option<Slot> {
        self.by_id.get(id).copied()
    }

    pub(crate) fn get(&self, slot: Slot) -> Option<&Neighbour> {
        self.slots.get(usize::from(slot))?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut Neighbour> {
        self.slots.get_mut(usize::from(slot))?.as_mut()
    }

    /// All of them, in the order of their ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Slot, &Neighbour)> {
        self.by_id.values().filter_map(|&slot| Some((slot, self.get(slot)?)))
    }

    pub(crate) fn slots(&self) -> Vec<Slot> {
        self.by_id.values().copied().collect()
    }

    /// Neighbours with something to send, in slot order.
    pub(crate) fn ready(&self) -> impl Iterator<Item = &Neighbour> {
        self.ready.iter().filter_map(|&slot| self.get(slot))
    }

    pub(crate) fn mark_ready(&mut self, slot: Slot) {
        self.ready.insert(slot);
    }

    pub(crate) fn clear_ready(&mut self, slot: Slot) {
        self.ready.remove(&slot);
    }
}
