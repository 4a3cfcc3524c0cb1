//! DATA records: the sealed packets of a session (protocol A4).
//!
//! `type 4 | 0 | 0u16 | receiver u32 | nonce64`, then sealed `prefix 4 | payload`, then the tag.
//! The 16 clear bytes are the additional data of the AEAD, and no more than that: who speaks to
//! whom lies in the keys.

use crate::Malformed;
use crate::codec::{Put, Reader, array};

/// Type byte of a DATA record.
pub const MSG_DATA: u8 = 4;
/// The clear header.
pub const HEADER_LEN: usize = 16;
/// The sealed prefix in front of the payload.
pub const PREFIX_LEN: usize = 4;
/// The AEAD tag.
pub const TAG_LEN: usize = 16;
/// What a record adds to its payload.
pub const DATA_OVERHEAD: usize = HEADER_LEN + PREFIX_LEN + TAG_LEN;
/// What a super-packet's payload begins with.
pub const SUPER_LEN: usize = 4;

const COUNTER_BITS: u32 = 56;
/// The highest counter of a lane.
pub const COUNTER_MAX: u64 = (1 << COUNTER_BITS) - 1;

/// The lane in a nonce.
pub const fn lane_of(nonce: u64) -> u8 {
    (nonce >> COUNTER_BITS) as u8
}

/// The counter in a nonce.
pub const fn counter_of(nonce: u64) -> u64 {
    nonce & COUNTER_MAX
}

/// The nonce of a lane's `counter`; bits of the counter above 56 are cut.
pub const fn nonce_of(lane: u8, counter: u64) -> u64 {
    (lane as u64) << COUNTER_BITS | (counter & COUNTER_MAX)
}

/// The 16 clear bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataHeader {
    /// The receiver's index of the epoch.
    pub receiver: u32,
    /// Lane and counter.
    pub nonce: u64,
}

impl DataHeader {
    /// Reads the front of a record and checks that a prefix and a tag can follow.
    pub fn parse(record: &[u8]) -> Result<Self, Malformed> {
        if record.len() < DATA_OVERHEAD {
            return Err(Malformed);
        }
        let mut r = Reader::new(record);
        r.expect([MSG_DATA, 0, 0, 0])?;
        Ok(Self { receiver: r.u32()?, nonce: r.u64()? })
    }

    /// Writes the 16 bytes.
    pub fn emit(&self) -> [u8; HEADER_LEN] {
        array(|w| w.bytes(&[MSG_DATA, 0, 0, 0]).u32(self.receiver).u64(self.nonce))
    }
}

/// What a record carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Nothing; proves that the sender has the key and lives.
    Keepalive = 0,
    /// A segment of the control channel.
    Control = 1,
    /// Path validation, round trips, MTU search.
    Probe = 2,
    /// A rekey inside the session.
    Handshake = 3,
    /// A packet of the mesh.
    Mesh = 4,
    /// A packet of a private network.
    Network = 5,
    /// A TCP or UDP super-packet, to be cut by the receiver's kernel.
    Super = 6,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Keepalive,
        Self::Control,
        Self::Probe,
        Self::Handshake,
        Self::Mesh,
        Self::Network,
        Self::Super,
    ];
}

const KIND_MASK: u8 = 0x0f;
const CSUM_PARTIAL: u8 = 0x10;

/// The first four sealed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// What follows.
    pub kind: Kind,
    /// The transport checksum holds only the pseudo-header's sum; the receiver completes it.
    pub csum_partial: bool,
    /// Handle of the private network, 24 bits.
    pub network: u32,
}

impl Prefix {
    /// A prefix without flags or network.
    pub const fn new(kind: Kind) -> Self {
        Self { kind, csum_partial: false, network: 0 }
    }

    /// Reads the first four opened bytes.
    pub fn parse(opened: &[u8]) -> Result<Self, Malformed> {
        let [first, a, b, c] = Reader::new(opened).array()?;
        // protocol A4: every other bit is 0.
        if first & !(KIND_MASK | CSUM_PARTIAL) != 0 {
            return Err(Malformed);
        }
        let kind = Kind::ALL.get(usize::from(first & KIND_MASK)).ok_or(Malformed)?;
        let network = u32::from_le_bytes([a, b, c, 0]);
        Ok(Self { kind: *kind, csum_partial: first & CSUM_PARTIAL != 0, network })
    }

    /// Writes the four bytes; a network handle is cut to 24 bits.
    pub const fn emit(&self) -> [u8; PREFIX_LEN] {
        let [a, b, c, _] = self.network.to_le_bytes();
        [self.kind as u8 | if self.csum_partial { CSUM_PARTIAL } else { 0 }, a, b, c]
    }
}

/// What a super-packet is made of; the numbers are virtio's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GsoKind {
    /// TCP over IPv4.
    TcpV4 = 1,
    /// TCP over IPv6.
    TcpV6 = 4,
    /// UDP over either.
    UdpL4 = 5,
}

/// The four bytes before a super-packet. A hint only: the receiver checks it against its own
/// parse of the packet (protocol A4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuperHeader {
    /// Payload bytes of each segment but the last.
    pub gso_size: u16,
    /// How to cut.
    pub kind: GsoKind,
}

impl SuperHeader {
    /// Reads the first four bytes of a super-packet's payload.
    pub fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(payload);
        let gso_size = r.u16()?;
        let kind = match r.array()? {
            [1, 0] => GsoKind::TcpV4,
            [4, 0] => GsoKind::TcpV6,
            [5, 0] => GsoKind::UdpL4,
            _ => return Err(Malformed),
        };
        Ok(Self { gso_size, kind })
    }

    /// Writes the four bytes.
    pub fn emit(&self) -> [u8; SUPER_LEN] {
        array(|w| w.u16(self.gso_size).u8(self.kind as u8))
    }
}
