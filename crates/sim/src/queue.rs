//! What will happen, in order of time, and of asking where times are equal.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::net::SocketAddr;

use sinew_types::{Instant, PathAddr};

use crate::fault::Fault;

/// One thing that happens.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    /// A datagram arrives at whoever has the address `to` by then.
    Datagram { to: SocketAddr, from: PathAddr, ecn: u8, bytes: Vec<u8> },
    /// A node was started and has something to say already.
    Started { host: usize },
    /// A host may have something to do.
    Wake { host: usize },
    /// A flow sends its next packet.
    Flow { flow: usize },
    /// A fault begins or ends.
    Fault(Fault),
    /// A record arrives on a stream.
    Record { stream: u32, to: usize, bytes: Vec<u8> },
    /// A stream stands at its opener's end, or has failed.
    Connected { stream: u32 },
    /// An end learns that its stream is gone.
    Closed { stream: u32, to: usize },
}

#[derive(Debug)]
struct Entry {
    at: Instant,
    seq: u64,
    what: Happening,
}

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Entry>,
    seq: u64,
}

impl Queue {
    pub(crate) fn push(&mut self, at: Instant, what: Happening) {
        self.seq += 1;
        self.heap.push(Entry { at, seq: self.seq, what });
    }

    /// The next thing that happens up to `until`.
    pub(crate) fn pop_until(&mut self, until: Instant) -> Option<(Instant, Happening)> {
        if self.heap.peek().is_none_or(|entry| entry.at > until) {
            return None;
        }
        self.heap.pop().map(|entry| (entry.at, entry.what))
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }
}

impl Ord for Entry {
    /// Reversed: the heap gives its greatest first, we want the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.seq).cmp(&(self.at, self.seq))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_happen_in_order_of_time_and_then_of_asking() {
        let mut queue = Queue::default();
        for (us, host) in [(5, 0), (3, 1), (5, 2), (3, 3)] {
            queue.push(Instant::from_micros(us), Happening::Wake { host });
        }
        let mut order = Vec::new();
        while let Some((at, Happening::Wake { host })) = queue.pop_until(Instant::from_micros(4)) {
            order.push((at.as_micros(), host));
        }
        assert_eq!(order, [(3, 1), (3, 3)]);
        assert_eq!(queue.len(), 2);
    }
}
