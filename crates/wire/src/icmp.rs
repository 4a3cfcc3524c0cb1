//! ICMP and ICMPv6: the header, and the errors this node answers inner packets with.
//!
//! An error is never sent about an error, nor to an address that is not one host's (RFC 1122
//! §3.2.2, RFC 4443 §2.4): `None` then, and the caller only counts the drop.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::Malformed;
use crate::checksum::{Sum, pseudo_header, put};
use crate::ip::{self, PROTO_ICMP, PROTO_ICMPV6, PacketInfo, V4_HEADER_MIN, V6_HEADER_LEN, Version};

/// Length of the header.
pub const HEADER_LEN: usize = 8;
/// Where its checksum lies.
pub const CHECKSUM_OFFSET: usize = 2;
/// ICMP echo reply.
pub const V4_ECHO_REPLY: u8 = 0;
/// ICMP echo request.
pub const V4_ECHO_REQUEST: u8 = 8;
/// ICMP redirect.
pub const V4_REDIRECT: u8 = 5;
/// ICMP destination unreachable.
pub const V4_UNREACHABLE: u8 = 3;
/// ICMP time exceeded.
pub const V4_TIME_EXCEEDED: u8 = 11;
/// ICMPv6 destination unreachable.
pub const V6_UNREACHABLE: u8 = 1;
/// ICMPv6 packet too big.
pub const V6_PACKET_TOO_BIG: u8 = 2;
/// ICMPv6 time exceeded.
pub const V6_TIME_EXCEEDED: u8 = 3;
/// ICMPv6 echo request.
pub const V6_ECHO_REQUEST: u8 = 128;
/// ICMPv6 echo reply.
pub const V6_ECHO_REPLY: u8 = 129;

const V6_REDIRECT: u8 = 137;
const HOP_LIMIT: u8 = 64;
/// Longest ICMPv6 error: the least IPv6 MTU (RFC 4443 §2.4c).
pub const V6_ERROR_MAX: usize = 1280;
/// Longest ICMP error (RFC 1812 §4.3.2.3).
pub const V4_ERROR_MAX: usize = 576;

/// The first eight bytes, the same in both versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpHeader {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Checksum.
    pub checksum: u16,
    /// What the type makes of it.
    pub rest: [u8; 4],
}

impl IcmpHeader {
    /// Reads the header at the front of `l4`.
    pub fn parse(l4: &[u8]) -> Result<Self, Malformed> {
        let [kind, code, high, low, rest @ ..] = *l4.first_chunk::<HEADER_LEN>().ok_or(Malformed)?;
        Ok(Self { kind, code, checksum: u16::from_be_bytes([high, low]), rest })
    }

    /// Identifier of an echo request or reply.
    pub const fn echo_id(&self) -> u16 {
        u16::from_be_bytes([self.rest[0], self.rest[1]])
    }

    /// Whether the message is an error, and so quotes a packet behind the header.
    pub const fn is_error(&self, version: Version) -> bool {
        match version {
            Version::V4 => matches!(self.kind, 3 | 4 | 5 | 11 | 12),
            Version::V6 => self.kind < 128,
        }
    }
}

/// What an ICMPv6 error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum V6Error {
    /// Destination unreachable, no route.
    NoRoute,
    /// Destination unreachable, administratively prohibited.
    Prohibited,
    /// Destination unreachable, address unreachable.
    AddressUnreachable,
    /// Destination unreachable, port unreachable.
    PortUnreachable,
    /// Packet too big; what would fit.
    PacketTooBig {
        /// Largest packet that fits, bytes.
        mtu: u32,
    },
    /// Time exceeded, hop limit.
    HopLimit,
}

impl V6Error {
    const fn fields(self) -> (u8, u8, [u8; 4]) {
        match self {
            Self::NoRoute => (V6_UNREACHABLE, 0, [0; 4]),
            Self::Prohibited => (V6_UNREACHABLE, 1, [0; 4]),
            Self::AddressUnreachable => (V6_UNREACHABLE, 3, [0; 4]),
            Self::PortUnreachable => (V6_UNREACHABLE, 4, [0; 4]),
            Self::PacketTooBig { mtu } => (V6_PACKET_TOO_BIG, 0, mtu.to_be_bytes()),
            Self::HopLimit => (V6_TIME_EXCEEDED, 0, [0; 4]),
        }
    }
}

/// What an ICMP error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum V4Error {
    /// Destination unreachable, network.
    NetUnreachable,
    /// Destination unreachable, host.
    HostUnreachable,
    /// Destination unreachable, port.
    PortUnreachable,
    /// Destination unreachable, fragmentation needed; what would fit.
    FragNeeded {
        /// Largest packet that fits, bytes.
        mtu: u16,
    },
    /// Destination unreachable, administratively prohibited.
    Prohibited,
    /// Time exceeded in transit.
    TimeExceeded,
}

impl V4Error {
    const fn fields(self) -> (u8, u8, [u8; 4]) {
        match self {
            Self::NetUnreachable => (V4_UNREACHABLE, 0, [0; 4]),
            Self::HostUnreachable => (V4_UNREACHABLE, 1, [0; 4]),
            Self::PortUnreachable => (V4_UNREACHABLE, 3, [0; 4]),
            Self::FragNeeded { mtu } => {
                let [high, low] = mtu.to_be_bytes();
                (V4_UNREACHABLE, 4, [0, 0, high, low])
            }
            Self::Prohibited => (V4_UNREACHABLE, 13, [0; 4]),
            Self::TimeExceeded => (V4_TIME_EXCEEDED, 0, [0; 4]),
        }
    }
}

/// The packet that tells the sender of `offending` what became of it, from `from`, quoting as much
/// as fits; `None` if none may be sent.
pub fn build_v6_error(offending: &[u8], from: Ipv6Addr, error: V6Error) -> Option<Vec<u8>> {
    let info = PacketInfo::parse_quote(offending).ok()?;
    let (IpAddr::V6(src), IpAddr::V6(dst)) = (info.src, info.dst) else { return None };
    // RFC 4443 §2.4(e.3): multicast may be told only that it is too big.
    let about_group = dst.is_multicast() && !matches!(error, V6Error::PacketTooBig { .. });
    if src.is_unspecified() || src.is_multicast() || about_group || !may_answer(&info, offending) {
        return None;
    }
    let quote = offending.get(..V6_ERROR_MAX - V6_HEADER_LEN - HEADER_LEN).unwrap_or(offending);
    let icmp = message(error.fields(), quote);
    let mut packet = Vec::with_capacity(V6_HEADER_LEN + icmp.len());
    packet.extend_from_slice(&[0x60, 0, 0, 0]);
    packet.extend_from_slice(&(icmp.len() as u16).to_be_bytes());
    packet.extend_from_slice(&[PROTO_ICMPV6, HOP_LIMIT]);
    packet.extend_from_slice(&from.octets());
    packet.extend_from_slice(&src.octets());
    packet.extend_from_slice(&icmp);
    let sum = pseudo_header(from.into(), src.into(), PROTO_ICMPV6, icmp.len()).bytes(&icmp);
    put(&mut packet, V6_HEADER_LEN + 2, sum.checksum().to_be_bytes()).ok()?;
    Some(packet)
}

/// The same for IPv4.
pub fn build_v4_error(offending: &[u8], from: Ipv4Addr, error: V4Error) -> Option<Vec<u8>> {
    let info = PacketInfo::parse_quote(offending).ok()?;
    let (IpAddr::V4(src), IpAddr::V4(dst)) = (info.src, info.dst) else { return None };
    // RFC 1122 §3.2.2: the source must name one host, the destination not several.
    let nobody = src.octets()[0] == 0 || src.octets()[0] >= 224 || src.is_loopback();
    let group = dst.is_multicast() || dst.is_broadcast();
    if nobody || group || !may_answer(&info, offending) {
        return None;
    }
    let quote = offending.get(..V4_ERROR_MAX - V4_HEADER_MIN - HEADER_LEN).unwrap_or(offending);
    let mut icmp = message(error.fields(), quote);
    let checksum = Sum::default().bytes(&icmp).checksum();
    put(&mut icmp, CHECKSUM_OFFSET, checksum.to_be_bytes()).ok()?;
    let mut packet = Vec::with_capacity(V4_HEADER_MIN + icmp.len());
    packet.extend_from_slice(&[0x45, 0]);
    packet.extend_from_slice(&((V4_HEADER_MIN + icmp.len()) as u16).to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0, 0, HOP_LIMIT, PROTO_ICMP, 0, 0]);
    packet.extend_from_slice(&from.octets());
    packet.extend_from_slice(&src.octets());
    packet.extend_from_slice(&icmp);
    ip::fill_v4_checksum(&mut packet).ok()?;
    Some(packet)
}

/// Not about errors, nor about what might be one: a chain not walked to its end. Later fragments
/// share the fate of the first, which is answered.
fn may_answer(info: &PacketInfo, offending: &[u8]) -> bool {
    let Some(l4) = info.l4 else { return false };
    if !info.is_icmp() {
        return true;
    }
    let Some(Ok(header)) = offending.get(l4..).map(IcmpHeader::parse) else { return false };
    let redirect = info.version == Version::V6 && header.kind == V6_REDIRECT;
    !header.is_error(info.version) && !redirect
}

/// Header, with the checksum still zero, and quote.
fn message((kind, code, rest): (u8, u8, [u8; 4]), quote: &[u8]) -> Vec<u8> {
    let mut icmp = vec![kind, code, 0, 0];
    icmp.extend_from_slice(&rest);
    icmp.extend_from_slice(quote);
    icmp
}
