//! What the fast path sees of the sessions: immutable, shareable handles, and atomic counters.
//!
//! The machine of this crate decides; data threads seal and open by these handles alone, and bring
//! back only what they cannot decide: control records, first records, new sources. A
//! [`KeyTable`] is a cheap snapshot: the machine copies the maps when it changes something that a
//! snapshot still holds. Keys that must not be used any more are marked dead, so that an old
//! snapshot cannot keep them in use (protocol A3).

mod open;
mod seal;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rustc_hash::FxHashMap;
use sinew_types::{MeshAddr, NodeId, PathAddr};

pub use open::{OpenEpoch, Opened, OpenedFrag, OpenedRouted};
pub use seal::{SealEpoch, SealLane};

/// Most lanes of one epoch and direction (protocol A3).
pub const MAX_LANES: u8 = 16;

/// A snapshot of all epochs by our index and of all sessions by mesh address.
#[derive(Clone, Debug, Default)]
pub struct KeyTable(Arc<Tables>);

#[derive(Clone, Debug, Default)]
struct Tables {
    epochs: FxHashMap<u32, Arc<OpenEpoch>>,
    sessions: FxHashMap<MeshAddr, Arc<SessionView>>,
}

impl KeyTable {
    /// The epoch with this receiver index.
    pub fn get(&self, index: u32) -> Option<&Arc<OpenEpoch>> {
        self.0.epochs.get(&index)
    }

    /// The session with the node of this address, if records can be sealed for it.
    pub fn session(&self, addr: &MeshAddr) -> Option<&Arc<SessionView>> {
        self.0.sessions.get(addr)
    }

    /// Whether this is the very same snapshot as `other`.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn insert_epoch(&mut self, epoch: Arc<OpenEpoch>) {
        Arc::make_mut(&mut self.0).epochs.insert(epoch.index(), epoch);
    }

    pub(crate) fn remove_epoch(&mut self, index: u32) {
        if self.0.epochs.contains_key(&index)
            && let Some(epoch) = Arc::make_mut(&mut self.0).epochs.remove(&index)
        {
            epoch.kill();
        }
    }

    pub(crate) fn insert_session(&mut self, view: SessionView) {
        if self.0.sessions.get(&view.addr).is_none_or(|old| !old.is_same(&view)) {
            Arc::make_mut(&mut self.0).sessions.insert(view.addr, Arc::new(view));
        }
    }

    pub(crate) fn remove_session(&mut self, addr: &MeshAddr) {
        if self.0.sessions.contains_key(addr) {
            Arc::make_mut(&mut self.0).sessions.remove(addr);
        }
    }
}

/// All a worker needs to send to one peer. Published anew whenever something in it changes.
#[derive(Clone, Debug)]
pub struct SessionView {
    /// The peer.
    pub peer: NodeId,
    /// Its mesh address.
    pub addr: MeshAddr,
    /// The epoch to send on: of the usable ones that with the highest generation (protocol A2).
    pub epoch: Option<Arc<SealEpoch>>,
    /// Path generation: one more whenever `path` changes; a worker then takes a fresh lane.
    pub generation: u32,
    /// The validated direct path in use; `None` = send to the peer's address over relays.
    pub path: Option<PathAddr>,
    /// Every validated direct path, `path` included.
    pub validated: Vec<PathAddr>,
    /// Number of the open adjacency.
    pub adj: Option<u8>,
    /// Whether the peer declared itself a stub.
    pub stub: bool,
    /// Counters of the session.
    pub traffic: Arc<Traffic>,
    /// Largest record payload the peer takes, bytes.
    pub rx_max: u16,
    /// Whether `path` is a stream (then super-packets may be sent whole).
    pub stream: bool,
}

impl SessionView {
    /// Whether `path` is validated. A record from any other source is a
    /// [`Notice::NewSource`](crate::Notice::NewSource).
    pub fn knows(&self, path: &PathAddr) -> bool {
        self.validated.contains(path)
    }

    fn is_same(&self, other: &Self) -> bool {
        let epoch = |view: &Self| view.epoch.as_ref().map(|epoch| epoch.id());
        let rest = |v: &Self| (v.peer, v.generation, v.path, v.adj, v.stub, v.rx_max, v.stream);
        rest(self) == rest(other)
            && epoch(self) == epoch(other)
            && self.validated == other.validated
            && Arc::ptr_eq(&self.traffic, &other.traffic)
    }
}

/// Counters of one session, shared by all its epochs. Relaxed: they steer probing and accounting,
/// nothing else depends on them.
#[derive(Debug, Default)]
pub struct Traffic {
    tx_packets: AtomicU64,
    tx_bytes: AtomicU64,
    rx_packets: AtomicU64,
    rx_bytes: AtomicU64,
    /// Of what was sent, what somebody had to say: no control, no upkeep.
    data_packets: AtomicU64,
    data_bytes: AtomicU64,
    /// When the oldest record was sent that nothing has come back after; 0 = none.
    unanswered_us: AtomicU64,
    last_rx_us: AtomicU64,
}

/// A copy of the counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrafficCounts {
    /// Records sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Records received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
}

impl Traffic {
    /// Records of `bytes` in all were sent that should make the peer send something sooner or later.
    pub fn on_sent(&self, now_us: u64, records: u64, bytes: usize) {
        self.count_sent(records, bytes);
        self.expect_answer(now_us);
    }

    /// As [`Traffic::on_sent`], of packets that came from a device.
    pub fn on_data(&self, now_us: u64, records: u64, bytes: usize) {
        self.data_packets.fetch_add(records, Relaxed);
        self.data_bytes.fetch_add(bytes as u64, Relaxed);
        self.on_sent(now_us, records, bytes);
    }

    /// Records and bytes of data sent.
    pub fn data(&self) -> (u64, u64) {
        (self.data_packets.load(Relaxed), self.data_bytes.load(Relaxed))
    }

    /// What was sent at `now_us` should make the peer send something.
    pub(crate) fn expect_answer(&self, now_us: u64) {
        if self.unanswered_us.load(Relaxed) == 0 {
            self.unanswered_us.store(now_us.max(1), Relaxed);
        }
    }

    /// Records of `bytes` in all were sent that need no answer (answers themselves, or keepalives).
    pub fn count_sent(&self, records: u64, bytes: usize) {
        self.tx_packets.fetch_add(records, Relaxed);
        self.tx_bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// Records of `bytes` in all opened.
    pub fn on_received(&self, now_us: u64, records: u64, bytes: usize) {
        self.rx_packets.fetch_add(records, Relaxed);
        self.rx_bytes.fetch_add(bytes as u64, Relaxed);
        self.last_rx_us.store(now_us, Relaxed);
        if self.unanswered_us.load(Relaxed) != 0 {
            self.unanswered_us.store(0, Relaxed);
        }
    }

    /// Since when a sent record is without answer, microseconds of the node's clock.
    pub fn unanswered_since_us(&self) -> Option<u64> {
        match self.unanswered_us.load(Relaxed) {
            0 => None,
            us => Some(us),
        }
    }

    /// When the last record opened, microseconds of the node's clock.
    pub fn last_rx_us(&self) -> u64 {
        self.last_rx_us.load(Relaxed)
    }

    /// The counters now.
    pub fn counts(&self) -> TrafficCounts {
        TrafficCounts {
            tx_packets: self.tx_packets.load(Relaxed),
            tx_bytes: self.tx_bytes.load(Relaxed),
            rx_packets: self.rx_packets.load(Relaxed),
            rx_bytes: self.rx_bytes.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests;
