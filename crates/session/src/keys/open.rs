//! The receiving half of an epoch: opens records in place and refuses what it saw before.

use core::fmt;
use core::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use sinew_noise::{Cipher, RecordKey};
use sinew_types::{DropReason, MeshAddr, NodeId};
use sinew_wire::frag::FragHeader;
use sinew_wire::record::{DataHeader, HEADER_LEN, PREFIX_LEN, Prefix, TAG_LEN};
use sinew_wire::record::{counter_of, lane_of};
use sinew_wire::routed::{self, Layout, RoutedClear, RoutedHeader};

use super::{MAX_LANES, Traffic};
use crate::window::Window;

/// A DATA record that opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// What the payload is.
    pub prefix: Prefix,
    /// Where in the datagram the payload lies.
    pub range: Range<usize>,
    /// Lane and counter of the record.
    pub nonce: u64,
    /// The machine does not know yet that records open under this epoch: it must hear
    /// [`Notice::Confirmed`](crate::Notice::Confirmed) before the payload goes anywhere. Stays so
    /// until it has, so that a lost notice is made up for by the next record.
    pub first: bool,
}

/// A ROUTED record whose hop-by-hop part opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedRouted {
    /// The opened header. Whether `adj` is the current number is for the caller to check.
    pub header: RoutedHeader,
    /// Where in the datagram the body lies, whole and contiguous.
    pub body: Range<usize>,
    /// Lane and counter of the record.
    pub nonce: u64,
    /// As in [`Opened::first`].
    pub first: bool,
}

/// A FRAG record that opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedFrag {
    /// Which piece of what.
    pub header: FragHeader,
    /// Where in the datagram the piece lies.
    pub range: Range<usize>,
    /// As in [`Opened::first`].
    pub first: bool,
}

/// The receiving half of an epoch. Shared by all workers; a lane's window has a lock of its own,
/// and since a lane belongs to one sending worker and path, two of ours seldom meet there.
pub struct OpenEpoch {
    peer: NodeId,
    addr: MeshAddr,
    index: u32,
    key: RecordKey,
    max_lanes: u8,
    /// Made after the first good record of the lane (protocol A3), so that a forger cannot make us
    /// spend the memory.
    lanes: [OnceLock<Box<Mutex<Window>>>; MAX_LANES as usize],
    dead: AtomicBool,
    confirmed: AtomicBool,
    records: AtomicU64,
    traffic: Arc<Traffic>,
}

impl OpenEpoch {
    pub(crate) fn new(
        peer: NodeId,
        index: u32,
        key: RecordKey,
        max_lanes: u8,
        traffic: Arc<Traffic>,
    ) -> Self {
        Self {
            peer,
            addr: peer.address(),
            index,
            key,
            max_lanes: max_lanes.min(MAX_LANES),
            lanes: Default::default(),
            dead: AtomicBool::new(false),
            confirmed: AtomicBool::new(false),
            records: AtomicU64::new(0),
            traffic,
        }
    }

    /// Whose records these are.
    pub const fn peer(&self) -> &NodeId {
        &self.peer
    }

    /// The peer's mesh address.
    pub const fn addr(&self) -> &MeshAddr {
        &self.addr
    }

    /// Our index of the epoch: the `receiver` field of its records.
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// The cipher in use.
    pub const fn cipher(&self) -> Cipher {
        self.key.cipher()
    }

    /// The session's counters.
    pub const fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// Whether the keys are erased or revoked; read once per batch.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Relaxed)
    }

    /// Records opened so far.
    pub(crate) fn records(&self) -> u64 {
        self.records.load(Relaxed)
    }

    pub(crate) fn kill(&self) {
        self.dead.store(true, Relaxed);
    }

    /// Opens a DATA record in place.
    ///
    /// # Errors
    /// [`DropReason`]: `Malformed`, `KeyExpired`, `BadLane`, `Forged` or `Replayed`. After `Forged`
    /// the datagram's content is garbage.
    pub fn open(&self, datagram: &mut [u8]) -> Result<Opened, DropReason> {
        let header = DataHeader::parse(datagram)?;
        self.admit(header.nonce)?;
        let (clear, sealed) = datagram.split_at_mut(HEADER_LEN);
        self.key.open(header.nonce, clear, sealed).map_err(|_| DropReason::Forged)?;
        let first = self.take(header.nonce)?;
        let prefix = Prefix::parse(&datagram[HEADER_LEN..HEADER_LEN + PREFIX_LEN])?;
        let range = HEADER_LEN + PREFIX_LEN..datagram.len() - TAG_LEN;
        Ok(Opened { prefix, range, nonce: header.nonce, first })
    }

    /// Opens the hop-by-hop part of a ROUTED record in place and joins the body. The body's first
    /// 16 bytes also stay where [`SealLane::seal_routed`](super::SealLane::seal_routed) wants them,
    /// so a relay re-seals the same buffer; with one waypoint less, the buffer from byte 8 on.
    ///
    /// # Errors
    /// As [`OpenEpoch::open`].
    pub fn open_routed(&self, datagram: &mut [u8]) -> Result<OpenedRouted, DropReason> {
        let clear = RoutedClear::parse(datagram)?;
        self.admit(clear.nonce)?;
        let layout = Layout::of(clear.waypoints, datagram.len())?;
        // protocol A4: length and end of the body are bound to the header, against splicing.
        let aad = routed::aad(datagram, &layout)?;
        let sealed = &mut datagram[layout.header.start..layout.tag.end];
        self.key.open(clear.nonce, &aad, sealed).map_err(|_| DropReason::Forged)?;
        let first = self.take(clear.nonce)?;
        let header = RoutedHeader::parse(&datagram[layout.header.clone()])?;
        datagram.copy_within(layout.body_head, layout.tag.start);
        Ok(OpenedRouted { header, body: layout.tag.start..datagram.len(), nonce: clear.nonce, first })
    }

    /// Opens a FRAG record in place.
    ///
    /// # Errors
    /// As [`OpenEpoch::open`].
    pub fn open_frag(&self, datagram: &mut [u8]) -> Result<OpenedFrag, DropReason> {
        let header = FragHeader::parse(datagram)?;
        self.admit(header.nonce)?;
        let (clear, sealed) = datagram.split_at_mut(HEADER_LEN);
        self.key.open(header.nonce, clear, sealed).map_err(|_| DropReason::Forged)?;
        let first = self.take(header.nonce)?;
        Ok(OpenedFrag { header, range: HEADER_LEN..datagram.len() - TAG_LEN, first })
    }

    /// What can be known before the tag is checked.
    fn admit(&self, nonce: u64) -> Result<(), DropReason> {
        if self.is_dead() {
            return Err(DropReason::KeyExpired);
        }
        if lane_of(nonce) >= self.max_lanes {
            return Err(DropReason::BadLane);
        }
        Ok(())
    }

    /// The machine has taken note that records open.
    pub(crate) fn confirm(&self) {
        self.confirmed.store(true, Relaxed);
    }

    /// Marks the nonce of a record that opened; tells whether the machine must hear of it.
    fn take(&self, nonce: u64) -> Result<bool, DropReason> {
        let lane = &self.lanes[usize::from(lane_of(nonce))];
        let window = lane.get_or_init(|| Box::new(Mutex::new(Window::new())));
        let fresh = window.lock().unwrap_or_else(PoisonError::into_inner).accept(counter_of(nonce));
        if !fresh {
            return Err(DropReason::Replayed);
        }
        // Only asked whether it moves, so a count lost between two workers does no harm.
        self.records.store(self.records.load(Relaxed) + 1, Relaxed);
        Ok(!self.confirmed.load(Relaxed))
    }
}

impl fmt::Debug for OpenEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenEpoch({:?}, index {:08x}, {:?})", self.peer, self.index, self.key)
    }
}
