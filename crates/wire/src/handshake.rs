//! Handshake messages and their sealed payloads (protocol A2).
//!
//! The Noise parts are opaque here: `sinew-noise` fills and reads them. A message's type is its
//! first byte, so one look tells which parser to use.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::Malformed;
use crate::codec::{Put, Reader, array};

/// Type byte of the first message.
pub const MSG_HS1: u8 = 1;
/// Type byte of the answer.
pub const MSG_HS2: u8 = 2;
/// Type byte of a cookie.
pub const MSG_COOKIE: u8 = 3;
/// Length of the first message.
pub const HS1_LEN: usize = 200;
/// Length of the answer; smaller than the question, so it amplifies nothing.
pub const HS2_LEN: usize = 124;
/// Length of a cookie message.
pub const COOKIE_LEN: usize = 56;
/// Length of both payloads before sealing.
pub const PAYLOAD_LEN: usize = 64;
/// The only version of the outer layout.
pub const VERSION: u8 = 1;

/// Payload flag: the sign bit of the NodeId's x coordinate (HS1 only).
pub const FLAG_SIGN_BIT: u16 = 1 << 0;
/// Payload flag: the sender is a stub.
pub const FLAG_STUB: u16 = 1 << 1;
/// Payload flag: the sender would be a neighbour.
pub const FLAG_WANTS_ADJACENCY: u16 = 1 << 2;

/// Cipher bit and number of ChaCha20-Poly1305.
pub const CIPHER_CHACHA20_POLY1305: u16 = 1;
/// Cipher bit and number of AES-256-GCM.
pub const CIPHER_AES_256_GCM: u16 = 2;

const MAC1_AT: usize = 168;
const MAC2_AT: usize = 184;

/// The first message: 200 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hs1 {
    /// Index the answer is to be sent to.
    pub sender: u32,
    /// Noise: ephemeral 32, sealed static 48, sealed payload 80.
    pub noise: [u8; 160],
    /// Proof that the sender knows whom it addresses (and the mesh secret, if any).
    pub mac1: [u8; 16],
    /// Proof of a cookie, or zeros.
    pub mac2: [u8; 16],
}

impl Hs1 {
    /// Reads a whole message.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::exact(bytes, HS1_LEN)?;
        r.expect([MSG_HS1, VERSION, 0, 0])?;
        Ok(Self { sender: r.u32()?, noise: r.array()?, mac1: r.array()?, mac2: r.array()? })
    }

    /// Writes a whole message.
    pub fn emit(&self) -> [u8; HS1_LEN] {
        array(|w| {
            let w = w.bytes(&[MSG_HS1, VERSION, 0, 0]).u32(self.sender).bytes(&self.noise);
            w.bytes(&self.mac1).bytes(&self.mac2)
        })
    }

    /// What mac1 covers: everything before it.
    pub fn mac1_input(message: &[u8; HS1_LEN]) -> &[u8] {
        &message[..MAC1_AT]
    }

    /// What mac2 covers: everything before it, mac1 included.
    pub fn mac2_input(message: &[u8; HS1_LEN]) -> &[u8] {
        &message[..MAC2_AT]
    }
}

/// The answer: 124 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hs2 {
    /// Index records are to be sent to.
    pub sender: u32,
    /// The `sender` of the HS1 answered.
    pub receiver: u32,
    /// Noise: ephemeral 32, sealed payload 80.
    pub noise: [u8; 112],
}

impl Hs2 {
    /// Reads a whole message.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::exact(bytes, HS2_LEN)?;
        r.expect([MSG_HS2, VERSION, 0, 0])?;
        Ok(Self { sender: r.u32()?, receiver: r.u32()?, noise: r.array()? })
    }

    /// Writes a whole message.
    pub fn emit(&self) -> [u8; HS2_LEN] {
        array(|w| {
            let w = w.bytes(&[MSG_HS2, VERSION, 0, 0]);
            w.u32(self.sender).u32(self.receiver).bytes(&self.noise)
        })
    }
}

/// What a responder under load sends instead of an answer: 56 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// The `sender` of the HS1 refused.
    pub receiver: u32,
    /// Salt of the one-time key.
    pub salt: [u8; 16],
    /// The cookie, sealed: 16 and a tag of 16.
    pub sealed: [u8; 32],
}

impl Cookie {
    /// Reads a whole message.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::exact(bytes, COOKIE_LEN)?;
        r.expect([MSG_COOKIE, 0, 0, 0])?;
        Ok(Self { receiver: r.u32()?, salt: r.array()?, sealed: r.array()? })
    }

    /// Writes a whole message.
    pub fn emit(&self) -> [u8; COOKIE_LEN] {
        array(|w| w.bytes(&[MSG_COOKIE, 0, 0, 0]).u32(self.receiver).bytes(&self.salt).bytes(&self.sealed))
    }
}

/// What the initiator says about itself, sealed inside HS1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hs1Payload {
    /// Ordering hint, microseconds since 1970 or above (protocol A2, freshness).
    pub stamp: u64,
    /// The initiator's half of the association id.
    pub assoc_own: u64,
    /// The responder's half as the initiator knows it, 0 if unknown.
    pub assoc_peer: u64,
    /// Sign of the NodeId's x coordinate, which the X25519 key lacks.
    pub sign_bit: bool,
    /// The initiator is a stub.
    pub stub: bool,
    /// The initiator would be a neighbour.
    pub wants_adjacency: bool,
    /// Bits of the ciphers it can use.
    pub ciphers: u16,
    /// Lowest version it speaks.
    pub ver_min: u8,
    /// Highest version it speaks.
    pub ver_max: u8,
    /// Lanes it will receive on.
    pub max_lanes: u8,
    /// Largest record payload it takes.
    pub rx_max: u16,
    /// First 4 bytes of the hash of the mesh secret used.
    pub psk_id: u32,
    /// Feature bits.
    pub features: u32,
    /// Generation of the epoch this handshake makes: the current one's plus 1.
    pub generation: u32,
}

impl Hs1Payload {
    /// Reads the opened payload.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::exact(bytes, PAYLOAD_LEN)?;
        let (stamp, assoc_own, assoc_peer) = (r.u64()?, r.u64()?, r.u64()?);
        let (flags, ciphers) = (r.u16()?, r.u16()?);
        let [ver_min, ver_max, max_lanes, _] = r.array()?;
        Ok(Self {
            stamp,
            assoc_own,
            assoc_peer,
            sign_bit: flags & FLAG_SIGN_BIT != 0,
            stub: flags & FLAG_STUB != 0,
            wants_adjacency: flags & FLAG_WANTS_ADJACENCY != 0,
            ciphers,
            ver_min,
            ver_max,
            max_lanes,
            rx_max: r.u16()?,
            psk_id: r.u32()?,
            features: r.u32()?,
            generation: r.u32()?,
        })
    }

    /// Writes the payload to be sealed.
    pub fn emit(&self) -> [u8; PAYLOAD_LEN] {
        let flags = flag(self.sign_bit, FLAG_SIGN_BIT)
            | flag(self.stub, FLAG_STUB)
            | flag(self.wants_adjacency, FLAG_WANTS_ADJACENCY);
        array(|w| {
            let w = w.u64(self.stamp).u64(self.assoc_own).u64(self.assoc_peer).u16(flags).u16(self.ciphers);
            let w = w.bytes(&[self.ver_min, self.ver_max, self.max_lanes, 0]).u16(self.rx_max);
            w.u32(self.psk_id).u32(self.features).u32(self.generation)
        })
    }
}

const fn flag(set: bool, bit: u16) -> u16 {
    if set { bit } else { 0 }
}

/// What the responder made of an HS1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hs2Status {
    /// An epoch stands ready.
    Ok = 0,
    /// The stamp was not above the last one seen; nothing was stored.
    Stale = 1,
}

/// What the responder says about itself, sealed inside HS2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hs2Payload {
    /// What became of the HS1.
    pub status: Hs2Status,
    /// The cipher chosen, by number.
    pub cipher: u8,
    /// [`FLAG_STUB`] and [`FLAG_WANTS_ADJACENCY`] of the responder.
    pub flags: u16,
    /// The version chosen.
    pub ver: u8,
    /// Lanes the responder will receive on.
    pub max_lanes: u8,
    /// Largest record payload the responder takes.
    pub rx_max: u16,
    /// The responder's half of the association id.
    pub assoc_own: u64,
    /// The initiator's half, as the responder heard or holds it.
    pub assoc_peer: u64,
    /// The highest stamp seen of this initiator.
    pub last_stamp: u64,
    /// Feature bits.
    pub features: u32,
    /// Where the HS1 came from; `None` if it was routed.
    pub observed: Option<SocketAddr>,
    /// Generation of the epoch this handshake makes.
    pub generation: u32,
}

impl Hs2Payload {
    /// Reads the opened payload.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::exact(bytes, PAYLOAD_LEN)?;
        let status = match r.u8()? {
            0 => Hs2Status::Ok,
            1 => Hs2Status::Stale,
            _ => return Err(Malformed),
        };
        Ok(Self {
            status,
            cipher: r.u8()?,
            flags: r.u16()?,
            ver: r.u8()?,
            max_lanes: r.u8()?,
            rx_max: r.u16()?,
            assoc_own: r.u64()?,
            assoc_peer: r.u64()?,
            last_stamp: r.u64()?,
            features: r.u32()?,
            observed: observed(r.array()?, r.u16()?),
            generation: r.u32()?,
        })
    }

    /// Writes the payload to be sealed.
    pub fn emit(&self) -> [u8; PAYLOAD_LEN] {
        let (ip, port) = match self.observed {
            None => ([0; 16], 0),
            Some(SocketAddr::V4(v4)) => (v4.ip().to_ipv6_mapped().octets(), v4.port()),
            Some(SocketAddr::V6(v6)) => (v6.ip().octets(), v6.port()),
        };
        array(|w| {
            let w = w.u8(self.status as u8).u8(self.cipher).u16(self.flags);
            let w = w.u8(self.ver).u8(self.max_lanes).u16(self.rx_max);
            let w = w.u64(self.assoc_own).u64(self.assoc_peer).u64(self.last_stamp).u32(self.features);
            w.bytes(&ip).u16(port).u32(self.generation)
        })
    }

    /// Whether the responder is a stub.
    pub const fn stub(&self) -> bool {
        self.flags & FLAG_STUB != 0
    }

    /// Whether the responder would be a neighbour.
    pub const fn wants_adjacency(&self) -> bool {
        self.flags & FLAG_WANTS_ADJACENCY != 0
    }
}

/// IPv4 travels as `::ffff:a.b.c.d` and comes out as IPv4 again; all zeros is "not seen".
fn observed(ip: [u8; 16], port: u16) -> Option<SocketAddr> {
    let ip = Ipv6Addr::from_octets(ip);
    let canonical = ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4);
    (!ip.is_unspecified() || port != 0).then(|| SocketAddr::new(canonical, port))
}
