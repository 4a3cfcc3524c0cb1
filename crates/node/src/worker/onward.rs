//! What a relay passes on: in the buffer it came in, as many records at once as came at once.
//!
//! A relayed record is opened and sealed again in place (protocol A4), so a batch that came in one receive call is,
//! record by record, the batch to send. Nothing is copied: the caller, whose buffer it is, sends it from there. Small
//! runs go through the transmit queue instead, where they meet others for the same far end.

use core::ops::Range;

use sinew_types::{DropReason, PathAddr};

use super::{Transmit, TxQueue};

/// A run shorter than this, in bytes, is worth a copy: a system call shared with others saves more.
const WORTH_A_SEND: usize = 16 * 1024;

/// Where a record that lies sealed in its place goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Onward {
    pub(super) to: PathAddr,
    pub(super) ecn: u8,
}

/// What became of a datagram: dealt with, refused, or sealed in its place to be sent on.
pub(super) type Fate = Result<Option<Onward>, DropReason>;

/// Records of a batch, one after the other, that go the same way.
#[derive(Debug)]
pub(super) struct Run {
    onward: Onward,
    range: Range<usize>,
    /// Length of each record but the last, bytes.
    segment: usize,
}

impl Run {
    pub(super) const fn of_one(onward: Onward, range: Range<usize>) -> Self {
        let segment = range.end - range.start;
        Self { onward, range, segment }
    }

    /// Takes the next record in, if it belongs here: only the last of a run may be shorter.
    pub(super) fn extend(&mut self, onward: Onward, range: &Range<usize>) -> bool {
        let next = self.onward == onward && self.range.end == range.start;
        let whole = self.range.len().is_multiple_of(self.segment) && range.len() <= self.segment;
        if next && whole {
            self.range.end = range.end;
        }
        next && whole
    }

    /// The run as it lies in `batch`.
    pub(super) fn within(self, batch: &[u8]) -> Transmit<'_> {
        let Onward { to, ecn } = self.onward;
        Transmit { to, segment: self.segment, ecn, bytes: &batch[self.range] }
    }

    /// As [`Run::within`], or nothing if it was better copied.
    pub(super) fn send<'b>(self, batch: &'b [u8], tx: &mut TxQueue) -> Option<Transmit<'b>> {
        let transmit = self.within(batch);
        if transmit.bytes.len() < WORTH_A_SEND {
            tx.push_all(&transmit);
            return None;
        }
        Some(transmit)
    }
}

#[cfg(test)]
mod tests {
    use sinew_types::CarrierKind;

    use super::*;

    fn onward(port: u16, ecn: u8) -> Onward {
        let to = PathAddr { carrier: CarrierKind::Udp, local: 0, remote: ([127, 0, 0, 1], port).into() };
        Onward { to, ecn }
    }

    #[test]
    fn a_run_takes_what_follows_without_a_gap_and_ends_with_a_shorter_record() {
        let cases = [
            ("the same way", onward(1, 0), 100..200, true),
            ("a shorter one", onward(1, 0), 100..150, true),
            ("a longer one", onward(1, 0), 100..201, false),
            ("a gap", onward(1, 0), 101..201, false),
            ("another way", onward(2, 0), 100..200, false),
            ("another mark", onward(1, 3), 100..200, false),
        ];
        for (name, way, range, taken) in cases {
            let mut run = Run::of_one(onward(1, 0), 0..100);
            assert_eq!(run.extend(way, &range), taken, "{name}");
            assert_eq!(run.range.end, if taken { range.end } else { 100 }, "{name}");
        }
        let mut run = Run::of_one(onward(1, 0), 0..100);
        assert!(run.extend(onward(1, 0), &(100..150)) && !run.extend(onward(1, 0), &(150..200)));
    }

    #[test]
    fn a_long_run_is_sent_where_it_lies_and_a_short_one_waits_for_others() {
        let batch = vec![7; 2 * WORTH_A_SEND];
        let mut tx = TxQueue::default();
        let long = Run::of_one(onward(1, 1), 1000..1000 + WORTH_A_SEND).send(&batch, &mut tx);
        assert_eq!(long.map(|run| run.bytes.as_ptr()), Some(batch[1000..].as_ptr()));
        assert!(!tx.has_next());
        assert_eq!(Run::of_one(onward(1, 1), 1000..1100).send(&batch, &mut tx), None);
        assert_eq!(tx.next().map(|batch| (batch.bytes.len(), batch.ecn)), Some((100, 1)));
    }
}
