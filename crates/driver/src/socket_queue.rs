//! A socket's receive buffer as the queue it is: long enough for a burst, but not to stand in.
//!
//! When this node is slower than its senders, the buffer fills and everybody waits the whole of it.
//! So it is managed as a router manages its queues: where datagrams keep waiting too long (CoDel,
//! RFC 8289), one of them gets the mark "congestion experienced" as if the last router had set it.
//! What that means to the flow inside is RFC 6040's affair: its mark, or one loss.

use std::time::Duration;

use sinew_carrier::Batch;
use sinew_types::Instant;

use crate::codel::CoDel;

/// ECN bits of a datagram that met congestion (RFC 3168).
pub(crate) const CONGESTION_EXPERIENCED: u8 = 3;
/// Waiting that is no burst any more, and for how long it may last.
const TARGET: Duration = Duration::from_millis(3);
const INTERVAL: Duration = Duration::from_millis(50);
/// Only a flow of datagrams this long is told: it fills the queue, a sparse one suffers from it.
const BULK: usize = 1000;
/// A wait beyond this is a clock that was set.
const ABSURD: Duration = Duration::from_secs(10);

/// How long datagrams wait in one socket.
#[derive(Debug)]
pub(crate) struct SocketQueue {
    codel: CoDel,
    /// Somebody is to be told, but no bulk flow came by yet.
    owed: bool,
}

impl Default for SocketQueue {
    fn default() -> Self {
        Self { codel: CoDel::new(TARGET, INTERVAL), owed: false }
    }
}

impl SocketQueue {
    /// Whether the first datagram of this batch is to be marked. `unix` is the time since 1970.
    pub(crate) fn tells(&mut self, batch: &Batch, unix: Duration, now: Instant) -> bool {
        let Some(waited) = batch.arrived.map(|arrived| unix.saturating_sub(arrived)) else { return false };
        if waited < ABSURD {
            self.owed |= self.codel.on_dequeue(waited, now);
        }
        self.owed && batch.stride.min(batch.len) >= BULK && std::mem::take(&mut self.owed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(stride: usize, waited_ms: u64) -> Batch {
        let arrived = Some(UNIX - Duration::from_millis(waited_ms));
        Batch { from: ([192, 0, 2, 1], 7).into(), stride, len: 40 * stride, ecn: 0, arrived }
    }

    const UNIX: Duration = Duration::from_secs(1_800_000_000);

    /// How many of a second's batches, one each millisecond, are told.
    fn told(queue: &mut SocketQueue, from_ms: u64, batch: &Batch) -> usize {
        let at = |ms: u64| Instant::from_micros((from_ms + ms) * 1000);
        (0..1000).filter(|&ms| queue.tells(batch, UNIX, at(ms))).count()
    }

    #[test]
    fn a_bulk_flow_is_told_when_everything_waits_and_a_sparse_one_never() {
        let mut queue = SocketQueue::default();
        assert_eq!(told(&mut queue, 0, &batch(1400, 1)), 0);
        assert!(told(&mut queue, 1000, &batch(1400, 20)) > 10);
        assert_eq!(told(&mut queue, 2000, &batch(100, 20)), 0);
        assert!(queue.tells(&batch(1400, 20), UNIX, Instant::from_micros(3_000_000)), "it was owed");
    }

    #[test]
    fn a_clock_that_was_set_is_no_congestion() {
        let mut queue = SocketQueue::default();
        assert_eq!(told(&mut queue, 0, &batch(1400, 3_600_000)), 0);
        let ahead = Batch { arrived: Some(UNIX + Duration::from_secs(60)), ..batch(1400, 0) };
        assert_eq!(told(&mut queue, 1000, &ahead), 0);
    }
}
