//! Sealed datagrams on their way to the carriers, gathered so that one system call sends many.
//!
//! Records of one batch go to the same far end, carry the same ECN mark and have the same
//! length, but for the last, which may be shorter: exactly what `UDP_SEGMENT` takes. The buffer
//! is reused; steady state allocates nothing.

use core::ops::Range;

use sinew_types::PathAddr;

/// Most segments of one send: the kernel's `UDP_MAX_SEGMENTS` of older kernels.
const MAX_SEGMENTS: usize = 64;
/// Most bytes of one send: a UDP datagram's limit, less headers.
const MAX_BATCH: usize = 65_000;

/// One send: `segment`-sized datagrams back to back, the last may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit<'a> {
    /// Far end and carrier.
    pub to: PathAddr,
    /// Size of each datagram but the last, in bytes.
    pub segment: usize,
    /// ECN code point for the outer header.
    pub ecn: u8,
    /// The datagrams.
    pub bytes: &'a [u8],
}

#[derive(Debug)]
struct Batch {
    to: PathAddr,
    segment: usize,
    ecn: u8,
    range: Range<usize>,
    open: bool,
}

/// A reusable queue of batches.
#[derive(Debug, Default)]
pub(crate) struct TxQueue {
    /// Longer than what is in use: its rest is room that need not be cleared again.
    buf: Vec<u8>,
    used: usize,
    batches: Vec<Batch>,
    /// Batches already handed out.
    sent: usize,
}

impl TxQueue {
    /// Room for one record of `len` bytes, of any content, to be filled whole;
    /// [`TxQueue::commit`] keeps it, [`TxQueue::abandon`] gives it back.
    pub(crate) fn slot(&mut self, len: usize) -> &mut [u8] {
        let start = self.used;
        self.used += len;
        if self.buf.len() < self.used {
            self.buf.resize(self.used, 0);
        }
        &mut self.buf[start..self.used]
    }

    /// The last `len` bytes in use: the slot being filled.
    pub(crate) fn last_mut(&mut self, len: usize) -> &mut [u8] {
        &mut self.buf[self.used - len..self.used]
    }

    /// Gives back an uncommitted slot of `len` bytes.
    pub(crate) fn abandon(&mut self, len: usize) {
        self.used -= len;
    }

    /// Queues the last `len` bytes of the buffer for `to`.
    pub(crate) fn commit(&mut self, to: PathAddr, ecn: u8, len: usize) {
        let end = self.used;
        if let Some(last) = self.batches.last_mut()
            && last.open
            && (last.to, last.ecn, last.range.end) == (to, ecn, end - len)
            && len <= last.segment
            && last.range.len() + len <= MAX_BATCH
            && last.range.len() / last.segment < MAX_SEGMENTS
        {
            last.range.end = end;
            last.open = len == last.segment;
            return;
        }
        self.batches.push(Batch { to, segment: len, ecn, range: end - len..end, open: len > 0 });
    }

    /// Copies one whole record in and queues it.
    pub(crate) fn push(&mut self, to: PathAddr, ecn: u8, record: &[u8]) {
        self.slot(record.len()).copy_from_slice(record);
        self.commit(to, ecn, record.len());
    }

    /// Copies all records of a batch in and queues them.
    pub(crate) fn push_all(&mut self, batch: &Transmit<'_>) {
        for record in batch.bytes.chunks(batch.segment) {
            self.push(batch.to, batch.ecn, record);
        }
    }

    /// The next batch; once all are handed out the buffer is reused.
    pub(crate) fn next(&mut self) -> Option<Transmit<'_>> {
        if self.sent == self.batches.len() {
            self.batches.clear();
            self.used = 0;
            self.sent = 0;
            return None;
        }
        let batch = &mut self.batches[self.sent];
        // Handed out means closed: nothing may be appended to what the carrier has taken.
        batch.open = false;
        self.sent += 1;
        let batch = &self.batches[self.sent - 1];
        Some(Transmit {
            to: batch.to,
            segment: batch.segment,
            ecn: batch.ecn,
            bytes: &self.buf[batch.range.clone()],
        })
    }

    /// Whether [`TxQueue::next`] has something.
    pub(crate) fn has_next(&self) -> bool {
        self.sent < self.batches.len()
    }

    /// Bytes in use.
    pub(crate) fn len(&self) -> usize {
        self.used
    }
}

#[cfg(test)]
mod tests {
    use sinew_types::CarrierKind;

    use super::*;

    fn path(port: u16) -> PathAddr {
        PathAddr { carrier: CarrierKind::Udp, local: 0, remote: ([127, 0, 0, 1], port).into() }
    }

    fn drain(queue: &mut TxQueue) -> Vec<(u16, usize, usize)> {
        let mut all = Vec::new();
        while let Some(t) = queue.next() {
            all.push((t.to.remote.port(), t.segment, t.bytes.len()));
        }
        all
    }

    #[test]
    fn equal_records_to_one_far_end_share_a_send_and_a_shorter_one_closes_it() {
        let mut queue = TxQueue::default();
        for len in [100, 100, 60, 100] {
            queue.push(path(1), 0, &vec![1; len]);
        }
        queue.push(path(2), 0, &[2; 100]);
        assert_eq!(drain(&mut queue), [(1, 100, 260), (1, 100, 100), (2, 100, 100)]);
        assert_eq!(drain(&mut queue), []);
    }

    #[test]
    fn a_send_stays_within_the_kernels_limits() {
        let mut queue = TxQueue::default();
        for _ in 0..65 {
            queue.push(path(1), 0, &[0; 50]);
        }
        for _ in 0..50 {
            queue.push(path(2), 0, &[0; 1400]);
        }
        for (_, segment, len) in drain(&mut queue) {
            assert!(len <= MAX_BATCH && len.div_ceil(segment) <= MAX_SEGMENTS);
        }
    }

    #[test]
    fn different_marks_do_not_share_a_send() {
        let mut queue = TxQueue::default();
        queue.push(path(1), 0, &[0; 50]);
        queue.push(path(1), 3, &[0; 50]);
        assert_eq!(drain(&mut queue).len(), 2);
    }

    #[test]
    fn an_abandoned_slot_leaves_no_trace() {
        let mut queue = TxQueue::default();
        queue.slot(64);
        queue.abandon(64);
        queue.push(path(1), 0, &[7; 32]);
        assert_eq!(drain(&mut queue), [(1, 32, 32)]);
    }
}
