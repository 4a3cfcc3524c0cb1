//! No cycle among the next hops toward any destination, over adjacencies that both ends hold
//! (routing-model S1).
//!
//! After every event the touched host's next hops are compared with what they were, and where one
//! changed the path is walked. In large networks this covers a fixed sample of destinations; all
//! of them are walked at intervals ([`Loops::look_at_all`]). A cycle that runs through an
//! adjacency which one end has given up is a black hole until the other end notices, not a loop:
//! it is remembered and looked at again after every event, in case it comes to life.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;
use sinew_types::{Instant, MeshAddr};

use super::Violation;
use crate::host::Host;

/// Up to this size of the network every destination is followed after every event; beyond it, so
/// many of them, or the checker would cost more than the nodes.
const ALL_FOLLOWED: usize = 200;
const FOLLOWED: usize = 64;

/// What the checker looks at.
pub(crate) trait Tables {
    /// How many hosts there are.
    fn count(&self) -> usize;
    /// The next hop of `host` toward host `dst`.
    fn next_hop(&self, host: usize, dst: usize) -> Option<MeshAddr>;
    /// Whether both hold the same adjacency.
    fn adjacent(&self, a: usize, b: usize) -> bool;
}

impl Tables for [Host] {
    fn count(&self) -> usize {
        self.len()
    }

    fn next_hop(&self, host: usize, dst: usize) -> Option<MeshAddr> {
        self[host].node.as_ref()?.next_hop(&self[dst].addr)
    }

    fn adjacent(&self, a: usize, b: usize) -> bool {
        let adj = |host: usize, peer: usize| self[host].node.as_ref()?.adjacency(&self[peer].addr);
        matches!((adj(a, b), adj(b, a)), (Some(here), Some(there)) if here == there)
    }
}

/// The checker.
#[derive(Debug)]
pub(crate) struct Loops {
    numbers: FxHashMap<MeshAddr, usize>,
    followed: Vec<usize>,
    /// The last seen next hop of each host toward each followed destination.
    last: Vec<Option<MeshAddr>>,
    /// Destination and a host on a cycle that is not alive.
    suspects: BTreeSet<(usize, usize)>,
}

impl Loops {
    pub(crate) fn new(addrs: &[MeshAddr]) -> Self {
        let numbers = addrs.iter().enumerate().map(|(number, &addr)| (addr, number)).collect();
        let followed = if addrs.len() <= ALL_FOLLOWED { addrs.len() } else { FOLLOWED };
        let step = addrs.len().div_ceil(followed.max(1)).max(1);
        let followed: Vec<_> = (0..addrs.len()).step_by(step).collect();
        Self { numbers, last: vec![None; addrs.len() * followed.len()], followed, suspects: BTreeSet::new() }
    }

    /// The host with this mesh address.
    pub(crate) fn number_of(&self, addr: &MeshAddr) -> Option<usize> {
        self.numbers.get(addr).copied()
    }

    /// Host `touched` has had an input.
    pub(crate) fn look(
        &mut self,
        hosts: &(impl Tables + ?Sized),
        touched: usize,
        now: Instant,
    ) -> Result<(), Violation> {
        for at in 0..self.followed.len() {
            let dst = self.followed[at];
            let next = hosts.next_hop(touched, dst);
            let last = &mut self.last[touched * self.followed.len() + at];
            if *last != next {
                *last = next;
                self.walk(hosts, touched, dst, now)?;
            }
        }
        if !self.suspects.is_empty() {
            for (dst, host) in core::mem::take(&mut self.suspects) {
                self.walk(hosts, host, dst, now)?;
            }
        }
        Ok(())
    }

    /// Every path of the whole network.
    pub(crate) fn look_at_all(
        &mut self,
        hosts: &(impl Tables + ?Sized),
        now: Instant,
    ) -> Result<(), Violation> {
        for dst in 0..hosts.count() {
            // The walk that last passed a host; meeting one of the present walk means a cycle.
            let mut walked = vec![usize::MAX; hosts.count()];
            for start in 0..hosts.count() {
                let mut at = start;
                while at != dst && walked[at] == usize::MAX {
                    walked[at] = start;
                    match self.next(hosts, at, dst) {
                        Some(next) => at = next,
                        None => break,
                    }
                    if walked[at] == start {
                        self.walk(hosts, at, dst, now)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn next(&self, hosts: &(impl Tables + ?Sized), at: usize, dst: usize) -> Option<usize> {
        self.number_of(&hosts.next_hop(at, dst)?)
    }

    /// Follows the next hops from `start`; an error if they lead back to it through live adjacencies.
    fn walk(
        &mut self,
        hosts: &(impl Tables + ?Sized),
        start: usize,
        dst: usize,
        now: Instant,
    ) -> Result<(), Violation> {
        let (mut at, mut path, mut alive) = (start, vec![start], true);
        while let Some(next) = self.next(hosts, at, dst) {
            alive &= hosts.adjacent(at, next);
            if next == start {
                if alive {
                    let text = format!("the next hops toward host {dst} form the cycle {path:?}");
                    return Err(Violation::new(now, "loops", text));
                }
                self.suspects.insert((dst, start));
                return Ok(());
            }
            if next == dst || path.len() > hosts.count() {
                break;
            }
            path.push(next);
            at = next;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sinew_types::Identity;

    use super::*;

    /// Next hops toward host 0, and the adjacencies that are dead.
    #[derive(Default)]
    struct Fake {
        next: Vec<Option<usize>>,
        dead: Vec<(usize, usize)>,
    }

    fn addrs() -> Vec<MeshAddr> {
        (0..4).map(|seed| Identity::from_seed([seed; 32]).node_id().address()).collect()
    }

    impl Tables for Fake {
        fn count(&self) -> usize {
            self.next.len()
        }

        fn next_hop(&self, host: usize, dst: usize) -> Option<MeshAddr> {
            self.next[host].filter(|_| dst == 0).map(|next| addrs()[next])
        }

        fn adjacent(&self, a: usize, b: usize) -> bool {
            !self.dead.contains(&(a, b))
        }
    }

    fn cycle() -> Fake {
        Fake { next: vec![None, Some(2), Some(3), Some(1)], dead: Vec::new() }
    }

    #[test]
    fn a_cycle_is_seen_by_whoever_closes_it() {
        let mut loops = Loops::new(&addrs());
        let mut fake = cycle();
        fake.next[3] = Some(0);
        for host in 0..4 {
            assert!(loops.look(&fake, host, Instant::ZERO).is_ok());
        }
        fake.next[3] = Some(1);
        assert!(loops.look(&fake, 1, Instant::ZERO).is_ok(), "nothing changed there");
        assert!(loops.look(&fake, 3, Instant::ZERO).is_err());
        assert!(Loops::new(&addrs()).look_at_all(&fake, Instant::ZERO).is_err());
    }

    #[test]
    fn a_dead_cycle_is_a_loop_once_it_comes_to_life() {
        let mut loops = Loops::new(&addrs());
        let mut fake = Fake { dead: vec![(2, 3)], ..cycle() };
        for host in 0..4 {
            assert!(loops.look(&fake, host, Instant::ZERO).is_ok());
        }
        fake.dead.clear();
        assert!(loops.look(&fake, 0, Instant::ZERO).is_err(), "whoever is touched");
    }

    #[test]
    fn paths_that_end_or_meet_are_no_cycles() {
        let mut loops = Loops::new(&addrs());
        let fake = Fake { next: vec![None, Some(0), Some(1), Some(1)], dead: Vec::new() };
        assert!(loops.look_at_all(&fake, Instant::ZERO).is_ok());
        assert!((0..4).all(|host| loops.look(&fake, host, Instant::ZERO).is_ok()));
    }
}
