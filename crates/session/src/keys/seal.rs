//! The sending half of an epoch, and the lanes it is used through.
//!
//! A nonce must never be used twice under one key, so the counter lives in a [`SealLane`], which is
//! not `Clone` and belongs to one worker and one path. A worker whose path changes takes a fresh
//! lane, so that the receiver's window never has to span two paths (protocol A3).

use core::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};

use sinew_noise::{Cipher, RecordKey};
use sinew_types::DropReason;
use sinew_wire::frag::{FRAG_OVERHEAD, FragHeader};
use sinew_wire::record::{
    DATA_OVERHEAD, DataHeader, HEADER_LEN, PREFIX_LEN, Prefix, TAG_LEN, counter_of, lane_of, nonce_of,
};
use sinew_wire::routed::{self, Layout, RoutedClear, RoutedHeader};

use super::MAX_LANES;
use crate::window::COUNTER_LIMIT;

/// A lane refuses from here on (protocol A3; AES-GCM's bound, not WireGuard's).
const LANE_BYTES: u64 = 1 << 39;
const LANE_RECORDS: u64 = COUNTER_LIMIT;
/// An epoch asks for a successor from here on, over all lanes.
const EPOCH_BYTES: u64 = 1 << 38;
const EPOCH_RECORDS: u64 = 1 << 31;
/// A lane adds to its epoch's sums once in so many records: sums are for rekeying, not for billing.
const REPORT_EVERY: u64 = 256;

/// The sending half of an epoch.
pub struct SealEpoch {
    id: u64,
    /// The peer's index of the epoch.
    receiver: u32,
    key: RecordKey,
    binding: [u8; 32],
    max_lanes: u8,
    next_lane: AtomicU8,
    starved: AtomicBool,
    dead: AtomicBool,
    bytes: AtomicU64,
    records: AtomicU64,
}

impl SealEpoch {
    pub(crate) fn new(id: u64, receiver: u32, key: RecordKey, binding: [u8; 32], max_lanes: u8) -> Self {
        Self {
            id,
            receiver,
            key,
            binding,
            max_lanes: max_lanes.min(MAX_LANES),
            next_lane: AtomicU8::new(0),
            starved: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
            records: AtomicU64::new(0),
        }
    }

    /// Unique among the epochs of this node.
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// The handshake hash: equal on both sides, unique to this epoch, not secret. What is to hold
    /// for this session only is bound to it.
    pub const fn binding(&self) -> &[u8; 32] {
        &self.binding
    }

    /// The cipher in use.
    pub const fn cipher(&self) -> Cipher {
        self.key.cipher()
    }

    /// Whether the keys are erased, revoked or too old to send with; read once per batch.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Relaxed)
    }

    /// A lane of its own for the calling worker; `None` when all are taken (then
    /// [`Notice::LanesExhausted`](crate::Notice::LanesExhausted) asks for a new epoch).
    pub fn take_lane(self: &Arc<Self>) -> Option<SealLane> {
        let taken =
            self.next_lane.fetch_update(Relaxed, Relaxed, |lane| (lane < self.max_lanes).then_some(lane + 1));
        let Ok(lane) = taken else {
            self.starved.store(true, Relaxed);
            return None;
        };
        Some(SealLane {
            epoch: Arc::clone(self),
            lane,
            counter: 0,
            bytes: 0,
            reported_bytes: 0,
            reported_records: 0,
        })
    }

    /// Lanes not yet taken.
    pub fn lanes_left(&self) -> u8 {
        self.max_lanes - self.next_lane.load(Relaxed)
    }

    /// Whether a successor should be made before the key's limits are reached.
    pub(crate) fn is_worn(&self) -> bool {
        self.starved.load(Relaxed)
            || self.bytes.load(Relaxed) >= EPOCH_BYTES
            || self.records.load(Relaxed) >= EPOCH_RECORDS
    }

    pub(crate) fn kill(&self) {
        self.dead.store(true, Relaxed);
    }
}

impl fmt::Debug for SealEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealEpoch({}, to {:08x}, {:?})", self.id, self.receiver, self.key)
    }
}

/// The right to use the nonces of one lane. Deliberately not `Clone`.
pub struct SealLane {
    epoch: Arc<SealEpoch>,
    lane: u8,
    counter: u64,
    bytes: u64,
    reported_bytes: u64,
    reported_records: u64,
}

impl SealLane {
    /// The epoch this lane is of.
    pub const fn epoch(&self) -> &Arc<SealEpoch> {
        &self.epoch
    }

    /// How many counters are used: the next record's counter.
    pub const fn sent(&self) -> u64 {
        self.counter
    }

    /// The header of the record that this lane sealed last.
    pub(crate) fn last(&self) -> Option<DataHeader> {
        let counter = self.counter.checked_sub(1)?;
        Some(DataHeader { receiver: self.epoch.receiver, nonce: nonce_of(self.lane, counter) })
    }

    /// Whether this lane sealed a record with this receiver index and nonce: what an error report
    /// must name to be believed (protocol A4).
    pub fn has_sent(&self, receiver: u32, nonce: u64) -> bool {
        self.epoch.receiver == receiver && lane_of(nonce) == self.lane && counter_of(nonce) < self.counter
    }

    /// Seals a DATA record in place. `buf` is header 16, prefix 4, payload, tag 16; header, prefix
    /// and tag are written here.
    ///
    /// # Errors
    /// `Malformed` if `buf` is shorter than a record, `KeyExpired`, or `LaneExhausted`.
    pub fn seal(&mut self, prefix: Prefix, buf: &mut [u8]) -> Result<(), DropReason> {
        if buf.len() < DATA_OVERHEAD {
            return Err(DropReason::Malformed);
        }
        let nonce = self.next_nonce(buf.len())?;
        let header = DataHeader { receiver: self.epoch.receiver, nonce }.emit();
        let (clear, rest) = buf.split_at_mut(HEADER_LEN);
        clear.copy_from_slice(&header);
        let (text, tag) = rest.split_at_mut(rest.len() - TAG_LEN);
        text[..PREFIX_LEN].copy_from_slice(&prefix.emit());
        tag.copy_from_slice(&self.epoch.key.seal(nonce, &header, text));
        Ok(())
    }

    /// Seals the hop-by-hop part of a ROUTED record in place. The body already lies as
    /// [`Layout`] says: its first 16 bytes behind the header, the rest behind the tag.
    ///
    /// # Errors
    /// As [`SealLane::seal`]; `TooBig` if the body's length does not fit 16 bits.
    pub fn seal_routed(&mut self, header: &RoutedHeader, datagram: &mut [u8]) -> Result<(), DropReason> {
        let waypoints = header.waypoints.count();
        let layout = Layout::of(waypoints, datagram.len())?;
        let nonce = self.next_nonce(layout.tag.end)?;
        let clear = RoutedClear { waypoints, receiver: self.epoch.receiver, nonce };
        datagram[..HEADER_LEN].copy_from_slice(&clear.emit());
        header.emit(&mut datagram[layout.header.clone()]);
        let aad = routed::aad(datagram, &layout).map_err(|_| DropReason::TooBig)?;
        let tag = self.epoch.key.seal(nonce, &aad, &mut datagram[layout.sealed()]);
        datagram[layout.tag].copy_from_slice(&tag);
        Ok(())
    }

    /// Seals a FRAG record in place. `buf` is header 16, the piece, tag 16.
    ///
    /// # Errors
    /// As [`SealLane::seal`].
    pub fn seal_frag(
        &mut self,
        piece: u8,
        last: bool,
        frag_id: u16,
        buf: &mut [u8],
    ) -> Result<(), DropReason> {
        if buf.len() <= FRAG_OVERHEAD {
            return Err(DropReason::Malformed);
        }
        let nonce = self.next_nonce(buf.len())?;
        let header = FragHeader { piece, last, frag_id, receiver: self.epoch.receiver, nonce }.emit();
        let (clear, rest) = buf.split_at_mut(HEADER_LEN);
        clear.copy_from_slice(&header);
        let (text, tag) = rest.split_at_mut(rest.len() - TAG_LEN);
        tag.copy_from_slice(&self.epoch.key.seal(nonce, &header, text));
        Ok(())
    }

    fn next_nonce(&mut self, len: usize) -> Result<u64, DropReason> {
        if self.epoch.is_dead() {
            return Err(DropReason::KeyExpired);
        }
        let bytes = self.bytes + len as u64;
        // protocol A3: each lane refuses by itself, whatever the machine has got round to.
        if self.counter >= LANE_RECORDS || bytes > LANE_BYTES {
            self.epoch.starved.store(true, Relaxed);
            return Err(DropReason::LaneExhausted);
        }
        let nonce = nonce_of(self.lane, self.counter);
        self.bytes = bytes;
        self.counter += 1;
        if self.counter - self.reported_records >= REPORT_EVERY {
            self.report();
        }
        Ok(nonce)
    }

    fn report(&mut self) {
        self.epoch.records.fetch_add(self.counter - self.reported_records, Relaxed);
        self.epoch.bytes.fetch_add(self.bytes - self.reported_bytes, Relaxed);
        (self.reported_records, self.reported_bytes) = (self.counter, self.bytes);
    }

    /// Jumps ahead, as a process does that takes over keys (protocol A3: 2^24 counters). What is
    /// skipped counts as used.
    pub fn skip(&mut self, counters: u64) {
        self.counter = self.counter.saturating_add(counters).min(LANE_RECORDS);
    }
}

impl Drop for SealLane {
    fn drop(&mut self) {
        self.report();
    }
}

impl fmt::Debug for SealLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealLane({:?}, lane {}, counter {})", self.epoch, self.lane, self.counter)
    }
}
