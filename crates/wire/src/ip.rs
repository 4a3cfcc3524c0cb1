//! Inner IP packets: one parse that answers every question the data path asks.
//!
//! [`PacketInfo::parse`] wants the packet to fill its buffer exactly, walks IPv6 extension headers
//! (at most [`MAX_EXTENSIONS`]), and insists on a whole transport header wherever one must be: a
//! first fragment too short for it exists only to slip past filters (RFC 1858, RFC 7112). After
//! that, offsets in the result lie inside the packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::Malformed;
use crate::checksum::{Sum, complete, pseudo_header, put, update};
use crate::icmp::IcmpHeader;
use crate::tcp::{self, TcpHeader};
use crate::udp::{self, UdpHeader};

/// Protocol number of ICMP.
pub const PROTO_ICMP: u8 = 1;
/// Protocol number of TCP.
pub const PROTO_TCP: u8 = 6;
/// Protocol number of UDP.
pub const PROTO_UDP: u8 = 17;
/// Protocol number of ICMPv6.
pub const PROTO_ICMPV6: u8 = 58;

/// Length of an IPv4 header without options.
pub const V4_HEADER_MIN: usize = 20;
/// Length of the fixed IPv6 header.
pub const V6_HEADER_LEN: usize = 40;
/// Most extension headers walked.
pub const MAX_EXTENSIONS: usize = 8;

/// ECN: not ECN-capable.
pub const NOT_ECT: u8 = 0b00;
/// ECN: capable, codepoint 1.
pub const ECT_1: u8 = 0b01;
/// ECN: capable, codepoint 0.
pub const ECT_0: u8 = 0b10;
/// ECN: congestion experienced.
pub const CE: u8 = 0b11;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

/// What offsets of fragments are counted in.
const FRAGMENT_UNIT: u32 = 8;
const V6_FRAGMENT_LEN: usize = 8;
const V4_OPTION_END: u8 = 0;
const V4_OPTION_NOP: u8 = 1;
const V4_LOOSE_ROUTE: u8 = 131;
const V4_STRICT_ROUTE: u8 = 137;

const V4_LENGTH_AT: usize = 2;
const V4_ID_AT: usize = 4;
const V4_CHECKSUM_AT: usize = 10;
const V6_LENGTH_AT: usize = 4;

/// Which IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Whether a packet is a piece of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// A whole packet without a fragment header.
    None,
    /// The first piece, with the transport header; also an IPv6 "atomic" fragment (RFC 6946).
    First,
    /// A later piece: no transport header, no ports.
    Later,
}

/// What a packet's headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketInfo {
    /// Which IP.
    pub version: Version,
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Transport protocol, behind all extension headers walked; of a later fragment, what the
    /// fragment header names.
    pub protocol: u8,
    /// Where the transport header begins; `None` in a later fragment or if the walk gave up.
    pub l4: Option<usize>,
    /// Where the data behind the transport header begins, as far as headers are known.
    pub payload: usize,
    /// Length of the packet.
    pub total_len: usize,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// The two ECN bits.
    pub ecn: u8,
    /// IPv4: must not be fragmented on the way. Always true of IPv6.
    pub dont_fragment: bool,
    /// Whether it is a fragment.
    pub fragment: Fragment,
    /// Identification, where `fragment` is not `None`.
    pub fragment_id: u32,
    /// Which bytes of the whole packet's fragmentable part a fragment holds: the first, and one behind
    /// the last. Empty where `fragment` is `None`.
    pub fragment_range: (u32, u32),
    /// Whether its sender wants it to go on from `dst` to somewhere else: a source route that is not used
    /// up (RFC 791 §3.1, RFC 8200 §4.4). Then `dst` does not say whose it is.
    pub source_routed: bool,
    /// Whether the walk reached the transport protocol, or in a later fragment all the headers
    /// there are; false behind too many extension headers.
    pub ext_walked: bool,
    /// Source and destination port of TCP and UDP.
    pub ports: Option<(u16, u16)>,
    /// Flags of TCP.
    pub tcp_flags: Option<u8>,
}

/// How much of the packet is at hand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// All of it and nothing more.
    Whole,
    /// The front that an ICMP error quotes.
    Quote,
}

impl PacketInfo {
    /// Reads the headers of the packet that fills `packet` exactly.
    pub fn parse(packet: &[u8]) -> Result<Self, Malformed> {
        Self::parse_extent(packet, Extent::Whole)
    }

    /// Reads as much as is there of a packet quoted by an ICMP error. The transport header may be
    /// cut short, so `payload` equals `l4`, and there are no flags.
    pub fn parse_quote(quote: &[u8]) -> Result<Self, Malformed> {
        Self::parse_extent(quote, Extent::Quote)
    }

    fn parse_extent(packet: &[u8], extent: Extent) -> Result<Self, Malformed> {
        let mut info = match packet.first().ok_or(Malformed)? >> 4 {
            4 => Self::v4(packet)?,
            6 => Self::v6(packet)?,
            _ => return Err(Malformed),
        };
        if extent == Extent::Whole && info.total_len != packet.len() {
            return Err(Malformed);
        }
        info.transport(packet, extent)?;
        Ok(info)
    }

    fn v4(packet: &[u8]) -> Result<Self, Malformed> {
        let h: &[u8; V4_HEADER_MIN] = packet.first_chunk().ok_or(Malformed)?;
        let header_len = usize::from(h[0] & 0x0f) * 4;
        let total_len = usize::from(u16::from_be_bytes([h[2], h[3]]));
        if header_len < V4_HEADER_MIN || header_len > total_len.min(packet.len()) {
            return Err(Malformed);
        }
        let flags = u16::from_be_bytes([h[6], h[7]]);
        let offset = u32::from(flags & 0x1fff) * FRAGMENT_UNIT;
        let fragment = match (offset, flags & 0x2000) {
            (0, 0) => Fragment::None,
            (0, _) => Fragment::First,
            _ => Fragment::Later,
        };
        let piece = (offset, offset + (total_len - header_len) as u32);
        Ok(Self {
            version: Version::V4,
            src: Ipv4Addr::new(h[12], h[13], h[14], h[15]).into(),
            dst: Ipv4Addr::new(h[16], h[17], h[18], h[19]).into(),
            protocol: h[9],
            l4: None,
            payload: header_len,
            total_len,
            hop_limit: h[8],
            ecn: h[1] & CE,
            dont_fragment: flags & 0x4000 != 0,
            fragment,
            fragment_id: u16::from_be_bytes([h[4], h[5]]).into(),
            fragment_range: if fragment == Fragment::None { (0, 0) } else { piece },
            source_routed: v4_source_routed(packet.get(V4_HEADER_MIN..header_len).ok_or(Malformed)?)?,
            ext_walked: true,
            ports: None,
            tcp_flags: None,
        })
    }

    fn v6(packet: &[u8]) -> Result<Self, Malformed> {
        let (h, _) = packet.split_first_chunk::<V6_HEADER_LEN>().ok_or(Malformed)?;
        let addr = |at: usize| {
            let mut octets = [0; 16];
            octets.copy_from_slice(&h[at..at + 16]);
            Ipv6Addr::from_octets(octets).into()
        };
        let mut info = Self {
            version: Version::V6,
            src: addr(8),
            dst: addr(24),
            protocol: h[6],
            l4: None,
            payload: V6_HEADER_LEN,
            total_len: V6_HEADER_LEN + usize::from(u16::from_be_bytes([h[4], h[5]])),
            hop_limit: h[7],
            ecn: (h[1] >> 4) & CE,
            dont_fragment: true,
            fragment: Fragment::None,
            fragment_id: 0,
            fragment_range: (0, 0),
            source_routed: false,
            ext_walked: false,
            ports: None,
            tcp_flags: None,
        };
        info.walk(packet)?;
        Ok(info)
    }

    /// Steps over extension headers; a chain that runs out of the packet is malformed, one that
    /// is too long is left unwalked.
    fn walk(&mut self, packet: &[u8]) -> Result<(), Malformed> {
        for _ in 0..=MAX_EXTENSIONS {
            let rest = packet.get(self.payload..).ok_or(Malformed)?;
            let unit = |scale: usize, plus: u8| {
                let [next, len] = *rest.first_chunk()?;
                Some((next, scale * (usize::from(len) + usize::from(plus))))
            };
            let step = match self.protocol {
                HOP_BY_HOP | DESTINATION_OPTIONS => unit(8, 1),
                ROUTING => {
                    // The fourth byte of any type: segments left.
                    self.source_routed |= *rest.get(3).ok_or(Malformed)? != 0;
                    unit(8, 1)
                }
                AUTHENTICATION => unit(4, 2),
                FRAGMENT => self.note_fragment(rest)?,
                _ => {
                    self.ext_walked = true;
                    return Ok(());
                }
            };
            let (next, len) = step.ok_or(Malformed)?;
            self.protocol = next;
            self.payload += len;
            if self.fragment == Fragment::Later {
                self.ext_walked = true;
                break;
            }
        }
        Ok(())
    }

    /// RFC 8200 §4.5. Two fragment headers in one packet are nobody's honest work.
    fn note_fragment(&mut self, rest: &[u8]) -> Result<Option<(u8, usize)>, Malformed> {
        let [next, _, high, low, a, b, c, d] = *rest.first_chunk().ok_or(Malformed)?;
        if self.fragment != Fragment::None {
            return Err(Malformed);
        }
        let offset = u32::from(u16::from_be_bytes([high, low]) >> 3) * FRAGMENT_UNIT;
        self.fragment = if offset == 0 { Fragment::First } else { Fragment::Later };
        let piece = self.total_len.checked_sub(self.payload + V6_FRAGMENT_LEN).ok_or(Malformed)?;
        self.fragment_range = (offset, offset + piece as u32);
        self.fragment_id = u32::from_be_bytes([a, b, c, d]);
        Ok(Some((next, V6_FRAGMENT_LEN)))
    }

    fn transport(&mut self, packet: &[u8], extent: Extent) -> Result<(), Malformed> {
        let rest = packet.get(self.payload..).ok_or(Malformed)?;
        if self.fragment == Fragment::Later || !self.ext_walked {
            return Ok(());
        }
        self.l4 = Some(self.payload);
        if extent == Extent::Quote {
            let has_ports = matches!(self.protocol, PROTO_TCP | PROTO_UDP);
            self.ports = rest
                .first_chunk()
                .filter(|_| has_ports)
                .map(|&[a, b, c, d]| (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])));
            return Ok(());
        }
        self.payload += match (self.protocol, self.version) {
            (PROTO_TCP, _) => {
                let tcp = TcpHeader::parse(rest)?;
                self.ports = Some((tcp.src_port, tcp.dst_port));
                self.tcp_flags = Some(tcp.flags);
                tcp.header_len
            }
            (PROTO_UDP, _) => {
                let udp = UdpHeader::parse(rest)?;
                if self.fragment == Fragment::None && usize::from(udp.length) > rest.len() {
                    return Err(Malformed);
                }
                self.ports = Some((udp.src_port, udp.dst_port));
                udp::HEADER_LEN
            }
            (PROTO_ICMP, Version::V4) | (PROTO_ICMPV6, Version::V6) => {
                IcmpHeader::parse(rest)?;
                crate::icmp::HEADER_LEN
            }
            _ => 0,
        };
        Ok(())
    }

    /// Whether it is the ICMP of its own IP version.
    pub const fn is_icmp(&self) -> bool {
        matches!((self.version, self.protocol), (Version::V4, PROTO_ICMP) | (Version::V6, PROTO_ICMPV6))
    }

    /// Where the checksum of TCP or UDP lies, from the start of the transport header. `None` for
    /// other protocols and for fragments: nothing may be left partial there (protocol A4).
    pub const fn csum_offset(&self) -> Option<usize> {
        match (self.l4, self.fragment, self.protocol) {
            (Some(_), Fragment::None, PROTO_TCP) => Some(tcp::CHECKSUM_OFFSET),
            (Some(_), Fragment::None, PROTO_UDP) => Some(udp::CHECKSUM_OFFSET),
            _ => None,
        }
    }

    /// The pseudo-header's sum for `l4_len` bytes of transport.
    pub fn pseudo_header(&self, l4_len: usize) -> Sum {
        pseudo_header(self.src, self.dst, self.protocol, l4_len)
    }

    /// Whether the checksum of a whole TCP or UDP packet is right; of anything else, false.
    pub fn checksum_ok(&self, packet: &[u8]) -> bool {
        let Some((l4, offset)) = self.whole_l4(packet) else { return false };
        // RFC 768: zero is "none", and only IPv4 may say so.
        let none = self.protocol == PROTO_UDP && l4.get(offset..offset + 2) == Some(&[0, 0]);
        if none {
            return self.version == Version::V4;
        }
        self.pseudo_header(l4.len()).bytes(l4).is_valid()
    }

    /// Completes the partial checksum of a whole TCP or UDP packet; malformed for anything else.
    pub fn complete_checksum(&self, packet: &mut [u8]) -> Result<(), Malformed> {
        let (l4, offset) = self.whole_l4(packet).ok_or(Malformed)?;
        let (start, len) = (self.l4.ok_or(Malformed)?, l4.len());
        complete(packet.get_mut(start..start + len).ok_or(Malformed)?, offset)
    }

    /// The checksummed part: for UDP as long as its own length says.
    fn whole_l4<'a>(&self, packet: &'a [u8]) -> Option<(&'a [u8], usize)> {
        let offset = self.csum_offset()?;
        let l4 = packet.get(self.l4?..self.total_len)?;
        let l4 = match self.protocol {
            PROTO_UDP => l4.get(..usize::from(UdpHeader::parse(l4).ok()?.length))?,
            _ => l4,
        };
        Some((l4, offset))
    }
}

/// Whether IPv4 options hold a source route with addresses left: its pointer, from 4 on, is not yet behind
/// its end. Options that do not fit each other are malformed: a kernel might read them in another way.
fn v4_source_routed(mut options: &[u8]) -> Result<bool, Malformed> {
    while let [kind, rest @ ..] = options {
        options = match *kind {
            V4_OPTION_END => break,
            V4_OPTION_NOP => rest,
            kind => {
                let len = usize::from(*rest.first().ok_or(Malformed)?);
                let option = options.get(..len).filter(|option| option.len() >= 2).ok_or(Malformed)?;
                if matches!(kind, V4_LOOSE_ROUTE | V4_STRICT_ROUTE)
                    && usize::from(*option.get(2).ok_or(Malformed)?) <= len
                {
                    return Ok(true);
                }
                options.get(len..).ok_or(Malformed)?
            }
        };
    }
    Ok(false)
}

/// The version nibble of a packet, before anything else is looked at.
fn version(packet: &[u8]) -> Result<Version, Malformed> {
    match packet.first().ok_or(Malformed)? >> 4 {
        4 => Ok(Version::V4),
        6 => Ok(Version::V6),
        _ => Err(Malformed),
    }
}

/// Sets the ECN bits, and mends an IPv4 header's checksum.
pub fn set_ecn(packet: &mut [u8], ecn: u8) -> Result<(), Malformed> {
    let version = version(packet)?;
    let [first, second, ..] = packet else { return Err(Malformed) };
    let old = u16::from_be_bytes([*first, *second]);
    match version {
        Version::V4 => *second = *second & !CE | ecn & CE,
        Version::V6 => *second = *second & !(CE << 4) | (ecn & CE) << 4,
    }
    let new = u16::from_be_bytes([*first, *second]);
    if version == Version::V4 {
        let field = packet.get(V4_CHECKSUM_AT..).and_then(<[u8]>::first_chunk).ok_or(Malformed)?;
        let checksum = update(u16::from_be_bytes(*field), old, new);
        put(packet, V4_CHECKSUM_AT, checksum.to_be_bytes())?;
    }
    Ok(())
}

/// Writes the length of the packet into its header; an IPv4 checksum is not mended, see
/// [`fill_v4_checksum`]. Malformed if the length cannot be told.
pub fn set_total_len(packet: &mut [u8], total_len: usize) -> Result<(), Malformed> {
    let (at, len) = match version(packet)? {
        Version::V4 => (V4_LENGTH_AT, Some(total_len)),
        Version::V6 => (V6_LENGTH_AT, total_len.checked_sub(V6_HEADER_LEN)),
    };
    let len = len.and_then(|len| u16::try_from(len).ok()).ok_or(Malformed)?;
    put(packet, at, len.to_be_bytes())
}

/// The identification of an IPv4 packet.
pub fn v4_id(packet: &[u8]) -> Result<u16, Malformed> {
    let field = packet.get(V4_ID_AT..).and_then(<[u8]>::first_chunk).ok_or(Malformed)?;
    Ok(u16::from_be_bytes(*field))
}

/// Sets the identification of an IPv4 packet; the checksum is not mended.
pub fn set_v4_id(packet: &mut [u8], id: u16) -> Result<(), Malformed> {
    put(packet, V4_ID_AT, id.to_be_bytes())
}

/// Computes the checksum of an IPv4 header anew.
pub fn fill_v4_checksum(packet: &mut [u8]) -> Result<(), Malformed> {
    let header_len = usize::from(packet.first().ok_or(Malformed)? & 0x0f) * 4;
    put(packet, V4_CHECKSUM_AT, [0, 0])?;
    let header = packet.get(..header_len).ok_or(Malformed)?;
    put(packet, V4_CHECKSUM_AT, Sum::default().bytes(header).checksum().to_be_bytes())
}
