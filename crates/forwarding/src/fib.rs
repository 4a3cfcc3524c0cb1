//! The forwarding table: where a packet for each mesh address goes next.
//!
//! Data threads read an immutable snapshot (`Arc<Fib>`); the node changes its own copy with
//! `Arc::make_mut` and hands out the next one. Exact match only: every destination is one address.
//! Addresses are hashes of keys that anyone may choose, so the table's hash is seeded: nobody can
//! prepare addresses that fall together.

use core::fmt;

use rustc_hash::{FxHashMapSeed, FxSeededState};
use sinew_types::{MeshAddr, Rank};

/// What is known of one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FibEntry {
    /// The neighbour to hand it to; the destination itself if `direct`.
    pub next_hop: MeshAddr,
    /// This node's feasibility distance, the watermark of what it forwards.
    pub fd: Rank,
    /// Whether the destination is a neighbour, reached by its own session.
    pub direct: bool,
    /// The largest inner packet known to reach it, in bytes.
    pub mtu: u16,
}

/// A snapshot of the forwarding table.
#[derive(Clone)]
pub struct Fib {
    local: MeshAddr,
    entries: FxHashMapSeed<MeshAddr, FibEntry>,
}

impl Fib {
    /// An empty table of the node at `local`; `seed` is random and private to the node.
    pub fn new(local: MeshAddr, seed: u64) -> Self {
        Self { local, entries: FxHashMapSeed::with_hasher(FxSeededState::with_seed(seed as usize)) }
    }

    /// This node's own address.
    pub const fn local(&self) -> MeshAddr {
        self.local
    }

    /// Adds or replaces the entry of `addr`. The node's own address gets none.
    pub fn set(&mut self, addr: MeshAddr, entry: FibEntry) {
        if addr != self.local {
            self.entries.insert(addr, entry);
        }
    }

    /// Changes the inner MTU of `addr`, if it has an entry.
    pub fn set_mtu(&mut self, addr: &MeshAddr, mtu: u16) {
        if let Some(entry) = self.entries.get_mut(addr) {
            entry.mtu = mtu;
        }
    }

    /// Removes the entry of `addr` and returns it.
    pub fn remove(&mut self, addr: &MeshAddr) -> Option<FibEntry> {
        self.entries.remove(addr)
    }

    /// The entry of `addr`.
    pub fn get(&self, addr: &MeshAddr) -> Option<&FibEntry> {
        self.entries.get(addr)
    }

    /// How many destinations there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no destination.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All destinations in the order of their addresses, for people; never for the fast path.
    pub fn sorted(&self) -> Vec<(MeshAddr, FibEntry)> {
        let mut all: Vec<_> = self.entries.iter().map(|(&addr, &entry)| (addr, entry)).collect();
        all.sort_unstable_by_key(|&(addr, _)| addr);
        all
    }
}

impl fmt::Debug for Fib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fib").field("local", &self.local).field("entries", &self.sorted()).finish()
    }
}
