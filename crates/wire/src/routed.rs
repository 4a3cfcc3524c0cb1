//! ROUTED records: what a relay carries (protocol A4).
//!
//! ```text
//! clear 16 | sealed: header 44 + 8n, first 16 bytes of the body | tag 16 | rest of the body
//! ```
//! The first 16 bytes of the body lie inside the sealed part, so an observer on a link sees no
//! end-to-end index or counter, at no cost in bytes: [`Layout`] says where everything is. The
//! body itself is a record of the end-to-end session, sealed there.

use core::ops::Range;

use sinew_types::{MeshAddr, Rank};

use crate::codec::{Put, Reader, Writer, array};
use crate::record::{HEADER_LEN, TAG_LEN};
use crate::{Malformed, error, handshake, record};

/// Type byte of a ROUTED record.
pub const MSG_ROUTED: u8 = 5;
/// The sealed header without waypoints.
pub const SEALED_FIXED: usize = 44;
/// Bytes of the body that lie inside the sealed part.
pub const BODY_HEAD: usize = 16;
/// What routing adds to a body, without waypoints.
pub const ROUTED_OVERHEAD: usize = HEADER_LEN + SEALED_FIXED + TAG_LEN;
/// Most waypoints in a header.
pub const MAX_WAYPOINTS: usize = 4;
/// Bytes of one waypoint.
pub const WAYPOINT_LEN: usize = 8;
/// The shortest body: its first and its last 16 bytes are both used here and may not overlap.
pub const BODY_MIN: usize = 32;
/// The hop limit a source sets.
pub const HOP_LIMIT: u8 = 64;
/// Length of the additional data.
pub const AAD_LEN: usize = HEADER_LEN + 2 + TAG_LEN;

/// Whether a body of this type byte may be routed: handshakes, DATA and ERR; never ROUTED or
/// FRAG, so that nothing nests (protocol A4).
pub const fn body_type_allowed(message_type: u8) -> bool {
    matches!(
        message_type,
        handshake::MSG_HS1 | handshake::MSG_HS2 | handshake::MSG_COOKIE | record::MSG_DATA | error::MSG_ERR
    )
}

/// The 16 clear bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoutedClear {
    /// How many waypoints the sealed header has, at most [`MAX_WAYPOINTS`].
    pub waypoints: u8,
    /// The receiving neighbour's index of the epoch.
    pub receiver: u32,
    /// Lane and counter.
    pub nonce: u64,
}

impl RoutedClear {
    /// Reads the front of a record and checks that all fixed parts can follow.
    pub fn parse(datagram: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(datagram);
        let [kind, zero, header_len, zero_too] = r.array()?;
        let extra = usize::from(header_len).checked_sub(SEALED_FIXED).ok_or(Malformed)?;
        if kind != MSG_ROUTED || zero != 0 || zero_too != 0 || extra % WAYPOINT_LEN != 0 {
            return Err(Malformed);
        }
        let clear = Self { waypoints: (extra / WAYPOINT_LEN) as u8, receiver: r.u32()?, nonce: r.u64()? };
        Layout::of(clear.waypoints, datagram.len())?;
        Ok(clear)
    }

    /// Writes the 16 bytes; a count above [`MAX_WAYPOINTS`] is cut to it.
    pub fn emit(&self) -> [u8; HEADER_LEN] {
        let waypoints = usize::from(self.waypoints).min(MAX_WAYPOINTS);
        let header_len = (SEALED_FIXED + WAYPOINT_LEN * waypoints) as u8;
        array(|w| w.bytes(&[MSG_ROUTED, 0, header_len, 0]).u32(self.receiver).u64(self.nonce))
    }
}

/// Where the parts of a ROUTED datagram lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The sealed header.
    pub header: Range<usize>,
    /// The first 16 bytes of the body, sealed with the header.
    pub body_head: Range<usize>,
    /// The tag over both.
    pub tag: Range<usize>,
    /// The rest of the body.
    pub body_rest: Range<usize>,
}

impl Layout {
    /// The layout of a datagram of `len` bytes with that many waypoints; malformed if there are
    /// too many or the body is shorter than [`BODY_MIN`].
    pub fn of(waypoints: u8, len: usize) -> Result<Self, Malformed> {
        let waypoints = usize::from(waypoints);
        let header = HEADER_LEN..HEADER_LEN + SEALED_FIXED + WAYPOINT_LEN * waypoints;
        let body_head = header.end..header.end + BODY_HEAD;
        let tag = body_head.end..body_head.end + TAG_LEN;
        let layout = Self { header, body_head, body_rest: tag.end..len, tag };
        if waypoints > MAX_WAYPOINTS || len < layout.tag.end + (BODY_MIN - BODY_HEAD) {
            return Err(Malformed);
        }
        Ok(layout)
    }

    /// All that is sealed in place: header and body head.
    pub const fn sealed(&self) -> Range<usize> {
        self.header.start..self.body_head.end
    }

    /// Length of the body.
    pub const fn body_len(&self) -> usize {
        BODY_HEAD + (self.body_rest.end - self.body_rest.start)
    }
}

/// The additional data of a ROUTED record: clear header, length of the body and its last 16
/// bytes, so that nobody outside can stretch a body or splice another under this header.
/// Malformed if the body does not fit 16 bits of length.
pub fn aad(datagram: &[u8], layout: &Layout) -> Result<[u8; AAD_LEN], Malformed> {
    let body_len = u16::try_from(layout.body_len()).map_err(|_| Malformed)?;
    let clear = datagram.first_chunk::<HEADER_LEN>().ok_or(Malformed)?;
    let end = datagram.last_chunk::<TAG_LEN>().ok_or(Malformed)?;
    Ok(array(|w| w.bytes(clear).u16(body_len).bytes(end)))
}

/// The feasibility distance of the last hop: the next one's must be strictly better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermark {
    /// Low 32 bits of the sequence number.
    pub seqno: u32,
    /// The distance.
    pub fd: u16,
}

impl Watermark {
    /// Of a source that has no feasibility distance: anybody's is better.
    pub const WORST: Self = Self { seqno: 0, fd: u16::MAX };

    /// The watermark a node with this feasibility distance leaves.
    pub const fn of(fd: Rank) -> Self {
        Self { seqno: fd.seqno.low32(), fd: fd.metric.units() }
    }
}

/// At most four waypoints: the first 8 bytes of nodes to pass, hints for the look-up only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Waypoints {
    ids: [u64; MAX_WAYPOINTS],
    len: u8,
}

impl Waypoints {
    /// No waypoints.
    pub const NONE: Self = Self { ids: [0; MAX_WAYPOINTS], len: 0 };

    /// These waypoints; `None` if there are too many.
    pub fn new(ids: &[u64]) -> Option<Self> {
        let mut all = Self { len: u8::try_from(ids.len()).ok()?, ..Self::NONE };
        all.ids.get_mut(..ids.len())?.copy_from_slice(ids);
        Some(all)
    }

    /// The waypoints in order.
    pub fn as_slice(&self) -> &[u64] {
        self.ids.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// How many.
    pub const fn count(&self) -> u8 {
        self.len
    }
}

const ECN_MASK: u8 = 0b11;
const RESCUE: u8 = 0b100;
const PRIO_SHIFT: u32 = 3;
const PRIO_MASK: u8 = 0b11;
const NIBBLE: u8 = 0x0f;

/// The sealed header, opened and rewritten at every hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoutedHeader {
    /// Where to.
    pub dst: MeshAddr,
    /// Where from; a claim until the body opens.
    pub src: MeshAddr,
    /// The last hop's feasibility distance.
    pub watermark: Watermark,
    /// Hops left.
    pub hop_limit: u8,
    /// Congestion marks of the path so far, 2 bits as in IP.
    pub ecn: u8,
    /// The packet already fell back once.
    pub rescue: bool,
    /// Priority, 2 bits.
    pub prio: u8,
    /// Keyed hash of the inner flow.
    pub flow: u16,
    /// Forwarding mode, 4 bits.
    pub mode: u8,
    /// The adjacency number of the link this hop uses.
    pub adj: u8,
    /// Nodes to pass.
    pub waypoints: Waypoints,
}

impl RoutedHeader {
    /// Length on the wire: 44 and 8 for each waypoint.
    pub const fn wire_len(&self) -> usize {
        SEALED_FIXED + WAYPOINT_LEN * self.waypoints.len as usize
    }

    /// Reads exactly the opened header.
    pub fn parse(opened: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(opened);
        let (dst, src) = (r.addr()?, r.addr()?);
        let watermark = Watermark { seqno: r.u32()?, fd: r.u16()? };
        let [hop_limit, bits] = r.array()?;
        let flow = r.u16()?;
        let [nibbles, adj] = r.array()?;
        if bits >> (PRIO_SHIFT + 2) != 0 {
            return Err(Malformed);
        }
        let mut ids = [0; MAX_WAYPOINTS];
        for id in ids.get_mut(..usize::from(nibbles & NIBBLE)).ok_or(Malformed)? {
            *id = r.u64()?;
        }
        r.finish()?;
        Ok(Self {
            dst,
            src,
            watermark,
            hop_limit,
            ecn: bits & ECN_MASK,
            rescue: bits & RESCUE != 0,
            prio: (bits >> PRIO_SHIFT) & PRIO_MASK,
            flow,
            mode: nibbles >> 4,
            adj,
            waypoints: Waypoints { ids, len: nibbles & NIBBLE },
        })
    }

    /// Writes [`Self::wire_len`] bytes to the front of `out`; small fields are cut to their bits.
    ///
    /// # Panics
    /// If `out` is shorter than that.
    pub fn emit(&self, out: &mut [u8]) {
        let bits = self.ecn & ECN_MASK
            | if self.rescue { RESCUE } else { 0 }
            | (self.prio & PRIO_MASK) << PRIO_SHIFT;
        let nibbles = self.waypoints.count() | self.mode << 4;
        let w = Writer(out).addr(&self.dst).addr(&self.src).u32(self.watermark.seqno).u16(self.watermark.fd);
        let mut w = w.u8(self.hop_limit).u8(bits).u16(self.flow).u8(nibbles).u8(self.adj);
        for id in self.waypoints.as_slice() {
            w = w.u64(*id);
        }
    }
}
