//! The receiving half of a stream: puts chunks in order, joins messages, remembers which of them
//! were processed.

use std::collections::{BTreeMap, VecDeque};

use sinew_types::DropReason;
use sinew_wire::segment::MESSAGE_MAX;

use super::send::SPAN;

/// A message on its way up.
#[derive(Debug)]
struct Delivered {
    ordinal: u64,
    /// First chunk after it.
    end: u32,
    bytes: usize,
    processed: bool,
}

/// What a chunk did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// In order.
    InOrder,
    /// After a gap.
    Early,
    /// Seen before: our acknowledgement was lost.
    Again,
}

/// The receiving half.
#[derive(Debug)]
pub(super) struct Receiver {
    /// All chunks below were processed.
    processed: u32,
    /// All chunks below arrived.
    next: u32,
    early: BTreeMap<u32, Vec<u8>>,
    /// The message being joined and its announced length.
    joining: Vec<u8>,
    expected: usize,
    delivered: VecDeque<Delivered>,
    ready: VecDeque<(u64, Vec<u8>)>,
    messages: u64,
    /// Bytes that arrived and are not processed.
    held: usize,
    broken: bool,
}

impl Receiver {
    pub(super) fn new() -> Self {
        Self {
            processed: 0,
            next: 0,
            early: BTreeMap::new(),
            joining: Vec::new(),
            expected: 0,
            delivered: VecDeque::new(),
            ready: VecDeque::new(),
            messages: 0,
            held: 0,
            broken: false,
        }
    }

    pub(super) const fn held(&self) -> usize {
        self.held
    }

    /// Takes a chunk that has data.
    pub(super) fn on_chunk(&mut self, seq: u32, chunk: &[u8], capacity: usize) -> Result<Taken, DropReason> {
        if self.broken {
            return Err(DropReason::BadControl);
        }
        let offset = seq.wrapping_sub(self.processed);
        let arrived = self.next.wrapping_sub(self.processed);
        if offset >= 1 << 31 || offset < arrived || self.early.contains_key(&seq) {
            return Ok(Taken::Again);
        }
        // protocol A5: an honest sender keeps to the span and to the credit, so this drops nothing
        // of his.
        if offset as usize >= SPAN || self.held + chunk.len() > capacity {
            return Err(DropReason::TableFull);
        }
        self.held += chunk.len();
        self.early.insert(seq, chunk.to_vec());
        if seq != self.next {
            return Ok(Taken::Early);
        }
        while let Some(chunk) = self.early.remove(&self.next) {
            self.next = self.next.wrapping_add(1);
            self.join(&chunk)?;
        }
        Ok(Taken::InOrder)
    }

    fn join(&mut self, chunk: &[u8]) -> Result<(), DropReason> {
        let body = if self.expected == 0 {
            let (length, body) = chunk.split_first_chunk().ok_or_else(|| self.fail())?;
            self.expected = usize::from(u16::from_le_bytes(*length));
            if self.expected == 0 || self.expected > MESSAGE_MAX {
                return Err(self.fail());
            }
            body
        } else {
            chunk
        };
        if self.joining.len() + body.len() > self.expected {
            return Err(self.fail());
        }
        self.joining.extend_from_slice(body);
        if self.joining.len() == self.expected {
            self.messages += 1;
            let bytes = core::mem::take(&mut self.joining);
            let held = bytes.len() + 2;
            self.delivered.push_back(Delivered {
                ordinal: self.messages,
                end: self.next,
                bytes: held,
                processed: false,
            });
            self.ready.push_back((self.messages, bytes));
            self.expected = 0;
        }
        Ok(())
    }

    /// The peer does not keep to the format; nothing after this can be trusted to be in step.
    fn fail(&mut self) -> DropReason {
        self.broken = true;
        self.early.clear();
        DropReason::BadControl
    }

    pub(super) fn poll_message(&mut self) -> Option<(u64, Vec<u8>)> {
        self.ready.pop_front()
    }

    /// A message was processed. The acknowledgement moves only past messages all processed.
    pub(super) fn acknowledge(&mut self, ordinal: u64) -> bool {
        let Some(message) = self.delivered.iter_mut().find(|m| m.ordinal == ordinal) else { return false };
        message.processed = true;
        let mut moved = false;
        while self.delivered.front().is_some_and(|m| m.processed)
            && let Some(message) = self.delivered.pop_front()
        {
            self.processed = message.end;
            self.held -= message.bytes;
            moved = true;
        }
        moved
    }

    /// `ack` of the header: all chunks below were processed.
    pub(super) const fn processed(&self) -> u32 {
        self.processed
    }

    /// `sack` of the header: bit i says that chunk `ack + i` arrived.
    pub(super) fn arrived(&self) -> u64 {
        let in_order = self.next.wrapping_sub(self.processed);
        let mut bits = if in_order >= 64 { u64::MAX } else { (1 << in_order) - 1 };
        for seq in self.early.keys() {
            bits |= 1 << (seq.wrapping_sub(self.processed) & 63);
        }
        bits
    }
}
