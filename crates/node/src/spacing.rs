//! At most one of something per mesh address and interval, for things that others can provoke.

use std::collections::BTreeMap;
use std::time::Duration;

use sinew_types::{Instant, MeshAddr};

/// Addresses remembered; while the table is full, nothing new is allowed.
const CAPACITY: usize = 1024;

/// When each address last had its turn.
#[derive(Debug)]
pub(crate) struct Spacing {
    interval: Duration,
    last: BTreeMap<MeshAddr, Instant>,
}

impl Spacing {
    pub(crate) const fn new(interval: Duration) -> Self {
        Self { interval, last: BTreeMap::new() }
    }

    /// Whether `addr` may have a turn now; if so, it has had it.
    pub(crate) fn allow(&mut self, addr: MeshAddr, now: Instant) -> bool {
        if self.last.len() >= CAPACITY {
            let interval = self.interval;
            self.last.retain(|_, &mut last| now.since(last) < interval);
        }
        let free = self.last.get(&addr).is_none_or(|&last| now.since(last) >= self.interval);
        let allowed = free && self.last.len() < CAPACITY;
        if allowed {
            self.last.insert(addr, now);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use sinew_types::Identity;

    use super::*;

    #[test]
    fn one_turn_an_interval_and_a_bounded_table() {
        let mut spacing = Spacing::new(Duration::from_secs(1));
        let addr = |n: u16| {
            let mut seed = [0; 32];
            seed[..2].copy_from_slice(&n.to_le_bytes());
            Identity::from_seed(seed).node_id().address()
        };
        let at = |ms: u64| Instant::from_micros(ms * 1000);
        assert!(spacing.allow(addr(0), at(0)));
        assert!(!spacing.allow(addr(0), at(999)));
        assert!(spacing.allow(addr(0), at(1000)));
        for n in 1..2000 {
            spacing.allow(addr(n), at(1500));
        }
        assert!(spacing.last.len() <= CAPACITY);
        assert!(spacing.allow(addr(0), at(3000)), "room is made again once turns have passed");
    }
}
