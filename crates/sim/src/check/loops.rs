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
    pub(crate) fn look(&mut self, hosts: &[Host], touched: usize, now: Instant) -> Result<(), Violation> {
        for at in 0..self.followed.len() {
            let dst = self.followed[at];
            let next = next_hop(&hosts[touched], &hosts[dst].addr);
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
    pub(crate) fn look_at_all(&mut self, hosts: &[Host], now: Instant) -> Result<(), Violation> {
        for dst in 0..hosts.len() {
            // The walk that last passed a host; meeting one of the present walk means a cycle.
            let mut walked = vec![usize::MAX; hosts.len()];
            for start in 0..hosts.len() {
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

    fn next(&self, hosts: &[Host], at: usize, dst: usize) -> Option<usize> {
        self.number_of(&next_hop(&hosts[at], &hosts[dst].addr)?)
    }

    /// Follows the next hops from `start`; an error if they lead back to it through live adjacencies.
    fn walk(&mut self, hosts: &[Host], start: usize, dst: usize, now: Instant) -> Result<(), Violation> {
        let (mut at, mut path, mut alive) = (start, vec![start], true);
        while let Some(next) = self.next(hosts, at, dst) {
            alive &= adjacent(&hosts[at], &hosts[next]);
            if next == start {
                if alive {
                    let text = format!("the next hops toward host {dst} form the cycle {path:?}");
                    return Err(Violation::new(now, "loops", text));
                }
                self.suspects.insert((dst, start));
                return Ok(());
            }
            if next == dst || path.len() > hosts.len() {
                break;
            }
            path.push(next);
            at = next;
        }
        Ok(())
    }
}

fn next_hop(host: &Host, dst: &MeshAddr) -> Option<MeshAddr> {
    host.node.as_ref()?.next_hop(dst)
}

/// Whether both hold the same adjacency.
pub(crate) fn adjacent(a: &Host, b: &Host) -> bool {
    let adj = |host: &Host, peer: &Host| host.node.as_ref()?.adjacency(&peer.addr);
    matches!((adj(a, b), adj(b, a)), (Some(here), Some(there)) if here == there)
}
