//! The buffer received datagrams stand in while they are opened in place.

use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

/// Bytes of one slot: the most that UDP_GRO joins, so that nothing is ever cut.
pub(crate) const SLOT: usize = 65_536;

/// Datagrams from one sender, of equal length except the last, which may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Who sent them.
    pub from: SocketAddr,
    /// Length of each datagram but the last, bytes; at least 1.
    pub stride: usize,
    /// Length of all together, bytes; 0 for one empty datagram.
    pub len: usize,
    /// The two ECN bits, the same for all.
    pub ecn: u8,
    /// When the kernel had them, since 1970 by its clock; `None` where it does not say.
    pub arrived: Option<Duration>,
}

impl Batch {
    /// Where in the batch's bytes each datagram lies. An empty datagram is none.
    pub fn ranges(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (stride, len) = (self.stride.max(1), self.len);
        (0..len).step_by(stride).map(move |start| start..len.min(start + stride))
    }
}

/// Room for the batches of one receive call. Made once, used for all sockets of a worker.
pub struct RecvBuffer {
    memory: Box<[u8]>,
    batches: Vec<Batch>,
}

impl RecvBuffer {
    /// A buffer for `slots` batches (at least 1, at most 32), 64 KB each; untouched slots cost
    /// address space only.
    pub fn new(slots: usize) -> Self {
        let slots = slots.clamp(1, quinn_udp::BATCH_SIZE);
        Self { memory: vec![0; slots * SLOT].into_boxed_slice(), batches: Vec::with_capacity(slots) }
    }

    /// The batches of the last receive call, in order of arrival, each with its bytes.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Batch, &mut [u8])> {
        self.batches.iter().copied().zip(self.memory.chunks_exact_mut(SLOT)).map(|(batch, slot)| {
            let len = batch.len.min(SLOT);
            (batch, &mut slot[..len])
        })
    }

    /// Number of batches of the last receive call.
    pub fn len(&self) -> usize {
        self.batches.len()
    }

    /// Whether the last receive call left nothing.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// One batch of the last receive call by its place in order, for callers that cannot hold the
    /// iterator.
    pub fn get_mut(&mut self, at: usize) -> Option<(Batch, &mut [u8])> {
        let batch = *self.batches.get(at)?;
        Some((batch, &mut self.memory[at * SLOT..at * SLOT + batch.len.min(SLOT)]))
    }

    pub(crate) fn slots(&self) -> usize {
        self.memory.len() / SLOT
    }

    pub(crate) fn clear(&mut self) {
        self.batches.clear();
    }

    pub(crate) fn io_slices(&mut self) -> ([IoSliceMut<'_>; quinn_udp::BATCH_SIZE], usize) {
        let used = self.slots();
        let mut slots = self.memory.chunks_exact_mut(SLOT);
        (std::array::from_fn(|_| IoSliceMut::new(slots.next().unwrap_or_default())), used)
    }

    pub(crate) fn push(&mut self, batch: Batch) {
        self.batches.push(batch);
    }

    /// Copies one datagram in as a batch of its own; false when all slots are taken.
    pub(crate) fn push_copy(&mut self, from: SocketAddr, bytes: &[u8], stride: usize, ecn: u8) -> bool {
        let at = self.batches.len();
        if at >= self.slots() || bytes.len() > SLOT {
            return false;
        }
        self.memory[at * SLOT..at * SLOT + bytes.len()].copy_from_slice(bytes);
        self.batches.push(Batch { from, stride: stride.max(1), len: bytes.len(), ecn, arrived: None });
        true
    }
}

impl std::fmt::Debug for RecvBuffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.batches).finish()
    }
}
