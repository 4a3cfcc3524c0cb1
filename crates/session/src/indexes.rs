//! Receiver indices: drawn at random, unique in the node, and not used again for a while.
//!
//! A record that is still under way when its epoch ends must not meet a new epoch under the same
//! number; so a released index rests for 200 s (protocol A3).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use sinew_types::{Instant, NodeId, Rng};

const REST: Duration = Duration::from_secs(200);

/// Which index belongs to whom. Handshakes are admitted at about 1000/s at most, which bounds what
/// rests here.
#[derive(Debug, Default)]
pub(crate) struct Indexes {
    owners: BTreeMap<u32, NodeId>,
    resting: BTreeSet<u32>,
    wake: VecDeque<(Instant, u32)>,
}

impl Indexes {
    /// A fresh index, never 0.
    pub(crate) fn allocate(&mut self, owner: NodeId, rng: &mut Rng, now: Instant) -> u32 {
        self.wake_up(now);
        loop {
            let index = rng.u32();
            if index != 0 && !self.resting.contains(&index) && !self.owners.contains_key(&index) {
                self.owners.insert(index, owner);
                return index;
            }
        }
    }

    pub(crate) fn owner(&self, index: u32) -> Option<NodeId> {
        self.owners.get(&index).copied()
    }

    pub(crate) fn release(&mut self, index: u32, now: Instant) {
        if self.owners.remove(&index).is_some() && self.resting.insert(index) {
            self.wake.push_back((now + REST, index));
        }
    }

    fn wake_up(&mut self, now: Instant) {
        while let Some(&(until, index)) = self.wake.front()
            && until <= now
        {
            self.wake.pop_front();
            self.resting.remove(&index);
        }
    }
}

#[cfg(test)]
mod tests {
    use sinew_types::Identity;

    use super::*;

    #[test]
    fn a_released_index_rests_for_two_hundred_seconds() {
        let owner = Identity::from_seed([1; 32]).node_id();
        let mut indexes = Indexes::default();
        let seed = || Rng::new([3; 32]);
        let first = indexes.allocate(owner, &mut seed(), Instant::ZERO);
        indexes.release(first, Instant::ZERO);
        let early = Instant::from_micros(199_999_999);
        let second = indexes.allocate(owner, &mut seed(), early);
        assert_ne!(second, first, "the same random number, but it rests");
        let late = Instant::from_micros(200_000_000);
        assert_eq!(indexes.allocate(owner, &mut seed(), late), first);
    }
}
