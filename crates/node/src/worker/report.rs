//! What the fast path hands to the control side: everything it has no key, no route or no
//! business for. Bounded, so that no flood of such packets grows it.

use core::ops::Range;

use sinew_session::{Arrival, Notice};
use sinew_types::{MeshAddr, PathAddr};
use sinew_wire::record::Kind;
use sinew_wire::virtio::VirtioNetHdr;

use super::Inner;

/// Most reports between two drains.
const MAX_REPORTS: usize = 1024;
/// Most bytes they may hold between two drains.
const MAX_BYTES: usize = 512 * 1024;

/// One thing for the control side to look at. Ranges point into [`Reports::bytes`].
#[derive(Clone, Debug)]
pub(crate) enum Report {
    /// A handshake message (types 1 to 3).
    Handshake { from: Arrival, range: Range<usize> },
    /// A control record of kind 1 to 3, already opened.
    Control { index: u32, from: Arrival, kind: Kind, range: Range<usize>, wire_len: usize },
    /// Something the session must know of a record that was otherwise handled.
    Notice(Notice),
    /// A record with an index nobody has, straight from an underlay source.
    UnknownIndex { from: PathAddr },
    /// The same through relays: the peer may not know yet that we restarted.
    UnknownRoutedIndex { src: MeshAddr },
    /// A local packet for a node without a session, or that does not know our number for the packet's
    /// network.
    Miss { dst: MeshAddr, inner: Inner, vnet: VirtioNetHdr, range: Range<usize> },
    /// An error report about something we sent.
    Error { range: Range<usize> },
    /// A link carries data again after being idle; its liveness needs watching.
    Active { peer: MeshAddr },
}

/// A bounded list of reports and the bytes they speak of.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    list: Vec<Report>,
    bytes: Vec<u8>,
}

impl Reports {
    /// Keeps `bytes` and the report made from their range; `false` when there is no room.
    #[must_use]
    pub(crate) fn with_bytes(&mut self, bytes: &[u8], make: impl FnOnce(Range<usize>) -> Report) -> bool {
        if self.list.len() >= MAX_REPORTS || self.bytes.len() + bytes.len() > MAX_BYTES {
            return false;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.list.push(make(start..start + bytes.len()));
        true
    }

    /// Keeps a report without bytes. Losing one costs a retry, so a full list just ignores it.
    pub(crate) fn push(&mut self, report: Report) {
        if self.list.len() < MAX_REPORTS {
            self.list.push(report);
        }
    }

    /// Whether there is nothing to look at.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Takes everything out; give the buffers back by [`Reports::recycle`].
    pub(crate) fn take(&mut self) -> (Vec<Report>, Vec<u8>) {
        (core::mem::take(&mut self.list), core::mem::take(&mut self.bytes))
    }

    /// Returns drained buffers for reuse.
    pub(crate) fn recycle(&mut self, mut list: Vec<Report>, mut bytes: Vec<u8>) {
        if self.list.is_empty() {
            list.clear();
            bytes.clear();
            self.list = list;
            self.bytes = bytes;
        }
    }
}
