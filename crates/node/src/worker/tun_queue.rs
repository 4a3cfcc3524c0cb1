//! Packets for the local kernel, each behind its virtio header, in one reused buffer, and with the
//! device it goes to.

use core::ops::Range;

use sinew_types::InterfaceId;
use sinew_wire::virtio::VirtioNetHdr;

/// Most bytes waiting for all devices; beyond it the kernel is not keeping up.
const MAX_BYTES: usize = 2 * 1024 * 1024;

/// A reusable queue of [virtio header | packet].
#[derive(Debug, Default)]
pub(crate) struct TunQueue {
    buf: Vec<u8>,
    packets: Vec<(InterfaceId, Range<usize>)>,
    taken: usize,
}

impl TunQueue {
    /// Queues a packet; `false` when there is no room.
    #[must_use]
    pub(crate) fn push(&mut self, to: InterfaceId, vnet: &VirtioNetHdr, packet: &[u8]) -> bool {
        if self.buf.len() > MAX_BYTES {
            return false;
        }
        let start = self.buf.len();
        self.buf.extend_from_slice(&vnet.emit());
        self.buf.extend_from_slice(packet);
        self.packets.push((to, start..self.buf.len()));
        true
    }

    /// The next packet; once all are handed out the buffer is reused.
    pub(crate) fn next(&mut self) -> Option<(InterfaceId, &[u8])> {
        if self.taken == self.packets.len() {
            self.packets.clear();
            self.buf.clear();
            self.taken = 0;
            return None;
        }
        let (to, range) = self.packets[self.taken].clone();
        self.taken += 1;
        Some((to, &self.buf[range]))
    }
}
