//! The reliable ordered control channel of an association, one stream per class (protocol A5).
//!
//! A message is a 16-bit length and its bytes, cut into chunks; every chunk has a number. What the
//! header's `ack` says is *processed*, not received: routing relies on it (the peer has left a
//! route when it acknowledges the retraction). Arrival is told by the bitmap, whose bit i stands
//! for chunk `ack + i`: since `ack` may lag behind, the chunk `ack` itself may have arrived.
//!
//! Flow control is that lag: a sender has at most `credit` bytes beyond `ack` under way, so a
//! receiver that is slow to process is never sent more than it can hold, and never drops a message.

mod receive;
mod rtt;
mod send;

use std::time::Duration;

use sinew_types::{DropReason, Instant};
use sinew_wire::segment::{CREDIT_UNIT, SEGMENT_HEADER_LEN, SegmentHeader, StreamClass};

use receive::{Receiver, Taken};
pub(crate) use rtt::Rtt;
use send::Sender;

use crate::timers::earlier;

/// Buffer of a class on an adjacency, either direction.
pub(crate) const ADJACENT_BUFFER: usize = 64 * 1024;
/// Buffer of a class end to end, either direction.
pub(crate) const REMOTE_BUFFER: usize = 16 * 1024 + 256;
/// How long a word about arrivals may wait for company.
const ACK_DELAY: Duration = Duration::from_millis(25);

/// One class of one association, in one incarnation.
#[derive(Debug)]
pub(crate) struct Stream {
    class: StreamClass,
    /// Tells this incarnation from the ones before: receipts do not carry over.
    id: u64,
    sender: Sender,
    receiver: Receiver,
    /// When the peer must hear of arrivals.
    ack_at: Option<Instant>,
    unsaid: u32,
    capacity: usize,
}

impl Stream {
    pub(crate) fn new(class: StreamClass, id: u64) -> Self {
        Self {
            class,
            id,
            sender: Sender::new(),
            receiver: Receiver::new(),
            ack_at: None,
            unsaid: 0,
            capacity: REMOTE_BUFFER,
        }
    }

    pub(crate) const fn id(&self) -> u64 {
        self.id
    }

    /// Buffers are larger on adjacencies; they never shrink, since the peer counts on its credit.
    pub(crate) fn widen(&mut self) {
        self.capacity = ADJACENT_BUFFER;
    }

    /// Bytes held in both directions.
    pub(crate) const fn held(&self) -> usize {
        self.sender.bytes() + self.receiver.held()
    }

    /// Whether a message of `len` bytes fits the buffer.
    pub(crate) const fn has_room(&self, len: usize) -> bool {
        self.sender.bytes() == 0 || self.sender.bytes() + len <= self.capacity
    }

    /// Whether a message given now would leave now.
    pub(crate) fn is_open(&self) -> bool {
        self.sender.is_open()
    }

    pub(crate) fn push(&mut self, message: &[u8]) -> u64 {
        self.sender.push(message)
    }

    /// Whether there is something to send at `now`.
    pub(crate) fn is_ready(&self, now: Instant) -> bool {
        self.sender.has_more() || self.ack_at.is_some_and(|at| at <= now)
    }

    /// Appends the next segment; tells whether there was one and whether it carries data.
    pub(crate) fn poll_segment(
        &mut self,
        adj: u8,
        rtt: &Rtt,
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Option<bool> {
        if !self.is_ready(now) {
            return None;
        }
        let mut header = SegmentHeader {
            class: self.class,
            adj,
            seq: self.sender.next_seq(),
            ack: self.receiver.processed(),
            sack: self.receiver.arrived(),
            credit: (self.capacity / CREDIT_UNIT) as u16,
            len: 0,
        };
        (self.ack_at, self.unsaid) = (None, 0);
        let Some((seq, chunk)) = self.sender.poll(rtt, now) else {
            out.extend_from_slice(&header.emit());
            return Some(false);
        };
        (header.seq, header.len) = (seq, chunk.len() as u16);
        out.reserve(SEGMENT_HEADER_LEN + chunk.len());
        out.extend_from_slice(&header.emit());
        out.extend_from_slice(chunk);
        Some(true)
    }

    /// A segment of this class arrived. Returns the ordinal up to which the peer has processed our
    /// messages, if that is news.
    pub(crate) fn on_segment(
        &mut self,
        header: &SegmentHeader,
        chunk: &[u8],
        rtt: &mut Rtt,
        now: Instant,
    ) -> Result<Option<u64>, DropReason> {
        let credit = usize::from(header.credit) * CREDIT_UNIT;
        let processed = self
            .sender
            .on_ack(header.ack, header.sack, credit, rtt, now)
            .map_err(|()| DropReason::BadControl)?;
        if !chunk.is_empty() {
            let taken = self.receiver.on_chunk(header.seq, chunk, self.capacity)?;
            self.unsaid += 1;
            let at = if taken == Taken::InOrder && self.unsaid < 2 { now + ACK_DELAY } else { now };
            self.ack_at = Some(self.ack_at.map_or(at, |old| old.min(at)));
        }
        Ok(processed)
    }

    /// The next whole message, with its ordinal.
    pub(crate) fn poll_message(&mut self) -> Option<(u64, Vec<u8>)> {
        self.receiver.poll_message()
    }

    pub(crate) fn acknowledge(&mut self, ordinal: u64, now: Instant) {
        if self.receiver.acknowledge(ordinal) {
            self.ack_at = Some(now);
        }
    }

    pub(crate) fn handle_timeout(&mut self, rtt: &Rtt, now: Instant) {
        self.sender.handle_timeout(rtt, now);
    }

    /// The way to the peer was interrupted and is back.
    pub(crate) fn resume(&mut self, now: Instant) {
        self.sender.resume(now);
    }

    /// Whether the peer has been silent about this stream for too long.
    pub(crate) fn is_given_up(&self, now: Instant) -> bool {
        self.sender.gives_up_at().is_some_and(|at| at <= now)
    }

    pub(crate) fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let retransmit = self.sender.timeout_at().map(|at| (at, "control retransmission"));
        let silence = self.sender.gives_up_at().map(|at| (at, "control silence"));
        let ack = self.ack_at.map(|at| (at, "control acknowledgement"));
        earlier(earlier(retransmit, silence), ack)
    }
}

#[cfg(test)]
mod tests;
