//! What will happen, in order of time, and of asking where times are equal.

use std::cmp::Reverse;
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

/// When, in which order of asking, and in which slot it lies; reversed, because the heap gives its
/// greatest first and we want the earliest.
type Entry = Reverse<(Instant, u64, usize)>;

/// The queue. The heap moves small entries about; what happens stays where it was put.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Entry>,
    slots: Vec<Option<Happening>>,
    free: Vec<usize>,
    seq: u64,
}

impl Queue {
    pub(crate) fn push(&mut self, at: Instant, what: Happening) {
        let slot = self.free.pop().unwrap_or(self.slots.len());
        match self.slots.get_mut(slot) {
            Some(place) => *place = Some(what),
            None => self.slots.push(Some(what)),
        }
        self.seq += 1;
        self.heap.push(Reverse((at, self.seq, slot)));
    }

    /// The next thing that happens up to `until`.
    pub(crate) fn pop_until(&mut self, until: Instant) -> Option<(Instant, Happening)> {
        if self.heap.peek().is_none_or(|&Reverse((at, ..))| at > until) {
            return None;
        }
        let Reverse((at, _, slot)) = self.heap.pop()?;
        self.free.push(slot);
        self.slots[slot].take().map(|what| (at, what))
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }
}

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
