//! A packet from the TUN becomes segments that fit the path.
//!
//! A super-packet is cut at its segment size, or smaller where the path's MTU asks for that (TCP
//! only; a UDP datagram is never cut). A TCP packet that is too large without being a super-packet is
//! cut all the same, so that a flow which began with a larger MTU lives on. Each segment gets its
//! own lengths, IPv4 identification, sequence number and checksum; FIN and PSH stay with the last,
//! CWR with the first. SYNs leave with an MSS that the path carries.
//!
//! The virtio header comes from the local kernel, but it is checked like any other input; its
//! `hdr_len` is known to be wrong for forwarded packets and not read.

use sinew_types::DropReason;
use sinew_wire::checksum;
use sinew_wire::icmp;
use sinew_wire::ip::{self, PROTO_TCP, PROTO_UDP, PacketInfo, Version};
use sinew_wire::tcp::{self, TcpHeader};
use sinew_wire::udp;
use sinew_wire::virtio::{GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, VirtioNetHdr};

use super::{Checksum, Transport};

/// Flags of packets that are never cut: they are not data.
const UNCUT: u8 = tcp::SYN | tcp::RST | tcp::URG;

/// One segment, as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its length in bytes.
    pub len: usize,
    /// Whether its checksum was left partial, to be told to the receiver.
    pub csum_partial: bool,
}

/// What the checksum of the input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    /// Whole, or none of ours to touch.
    Whole,
    /// Partial, in its usual place.
    Partial(Transport),
    /// Partial, at a place that only the kernel's header names: ICMP's, or behind all that we read (a
    /// protocol we do not know, a packet inside this one).
    Elsewhere { start: usize, offset: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// One packet as it is.
    Not(Input),
    /// Segments of at most so many payload bytes.
    Every(usize, Transport),
}

/// A packet being cut.
#[derive(Debug)]
pub struct Split<'a> {
    packet: &'a [u8],
    info: PacketInfo,
    cut: Cut,
    /// Where the payload of the next segment begins; the end of the packet once all are written.
    at: usize,
    index: u16,
    done: bool,
    v4_id: u16,
}

impl<'a> Split<'a> {
    /// Prepares `packet`, read from the TUN with the header `vnet`, for a path that carries inner
    /// packets of `mtu` bytes. Changes the packet only to lower the MSS option of a SYN.
    ///
    /// # Errors
    /// [`DropReason::BadInner`] for what is no IP packet, [`DropReason::BadOffload`] for a virtio
    /// header that does not fit it, [`DropReason::TooBig`] if it does not fit the path and may not
    /// be cut: the sender is to be told.
    pub fn new(vnet: &VirtioNetHdr, packet: &'a mut [u8], mtu: usize) -> Result<Self, DropReason> {
        let info = PacketInfo::parse(packet).map_err(|_| DropReason::BadInner)?;
        let transport = Transport::of(packet, &info);
        let input = input(vnet, packet, &info, transport)?;
        if info.tcp_flags.is_some_and(|flags| flags & tcp::SYN != 0) {
            clamp_mss(packet, &info, mtu, input)?;
        }
        let cut = if vnet.gso_type & !GSO_ECN == GSO_NONE {
            whole(packet, &info, transport, input, mtu)?
        } else {
            super_packet(vnet, packet, &info, transport, mtu)?
        };
        let v4_id = if info.version == Version::V4 { ip::v4_id(packet).unwrap_or(0) } else { 0 };
        Ok(Self { packet, info, cut, at: info.payload, index: 0, done: false, v4_id })
    }

    /// What the packet's headers say.
    pub const fn info(&self) -> &PacketInfo {
        &self.info
    }

    /// How many segments there are in all.
    pub fn count(&self) -> usize {
        match self.cut {
            Cut::Not(_) => 1,
            Cut::Every(size, _) => (self.packet.len() - self.info.payload).div_ceil(size).max(1),
        }
    }

    /// Length of the longest segment; no more than the MTU.
    pub fn longest(&self) -> usize {
        match self.cut {
            Cut::Not(_) => self.packet.len(),
            Cut::Every(size, _) => self.packet.len().min(self.info.payload + size),
        }
    }

    /// Writes the next segment to the front of `out`, which must hold [`Split::longest`] bytes (a
    /// shorter one ends the split). `None` after the last.
    pub fn write_into(&mut self, out: &mut [u8], checksum: Checksum) -> Option<Segment> {
        if self.done {
            return None;
        }
        let segment = match self.cut {
            Cut::Not(input) => self.write_whole(out, input, checksum),
            Cut::Every(size, transport) => self.write_segment(out, size, transport, checksum),
        };
        self.done |= segment.is_none();
        segment
    }

    fn write_whole(&mut self, out: &mut [u8], input: Input, checksum: Checksum) -> Option<Segment> {
        self.done = true;
        let out = out.get_mut(..self.packet.len())?;
        out.copy_from_slice(self.packet);
        let csum_partial = match input {
            Input::Whole => false,
            Input::Partial(transport) => finish(out, &self.info, transport, checksum)?,
            Input::Elsewhere { start, offset } => {
                checksum::complete(out.get_mut(start..)?, offset).ok()?;
                false
            }
        };
        Some(Segment { len: out.len(), csum_partial })
    }

    fn write_segment(
        &mut self,
        out: &mut [u8],
        size: usize,
        transport: Transport,
        checksum: Checksum,
    ) -> Option<Segment> {
        let headers = self.info.payload;
        let end = self.packet.len().min(self.at + size);
        let len = headers + (end - self.at);
        let out = out.get_mut(..len)?;
        out[..headers].copy_from_slice(&self.packet[..headers]);
        out[headers..].copy_from_slice(&self.packet[self.at..end]);
        ip::set_total_len(out, len).ok()?;
        if self.info.version == Version::V4 {
            ip::set_v4_id(out, self.v4_id.wrapping_add(self.index)).ok()?;
            ip::fill_v4_checksum(out).ok()?;
        }
        let l4 = out.get_mut(transport.l4..)?;
        if self.info.protocol == PROTO_TCP {
            self.patch_tcp(l4, end)?;
        } else {
            udp::set_length(l4, l4.len() as u16).ok()?;
        }
        let csum_partial = finish(out, &self.info, transport, checksum)?;
        self.at = end;
        self.index = self.index.wrapping_add(1);
        self.done = end == self.packet.len();
        Some(Segment { len, csum_partial })
    }

    /// Sequence number and flags of the segment whose payload ends at `end`.
    fn patch_tcp(&self, l4: &mut [u8], end: usize) -> Option<()> {
        let header = TcpHeader::parse(l4).ok()?;
        let offset = (self.at - self.info.payload) as u32;
        tcp::set_seq(l4, header.seq.wrapping_add(offset)).ok()?;
        let mut flags = header.flags;
        if end < self.packet.len() {
            flags &= !(tcp::FIN | tcp::PSH);
        }
        if self.index > 0 {
            flags &= !tcp::CWR;
        }
        tcp::set_flags(l4, flags).ok()
    }
}

/// Leaves or completes the checksum, and says whether it was left.
fn finish(out: &mut [u8], info: &PacketInfo, transport: Transport, checksum: Checksum) -> Option<bool> {
    match checksum {
        Checksum::Partial => transport.leave_partial(out, info).ok()?,
        Checksum::Complete => transport.complete(out, info).ok()?,
    }
    Some(checksum == Checksum::Partial)
}

/// Reads the kernel's word on the checksum. Written anywhere else it would change what was parsed.
fn input(
    vnet: &VirtioNetHdr,
    packet: &[u8],
    info: &PacketInfo,
    transport: Option<Transport>,
) -> Result<Input, DropReason> {
    if !vnet.needs_csum() {
        return Ok(Input::Whole);
    }
    let (start, offset) = (usize::from(vnet.csum_start), usize::from(vnet.csum_offset));
    let place = Transport { l4: start, csum_offset: offset };
    if transport == Some(place) {
        return Ok(Input::Partial(place));
    }
    let icmp = info.is_icmp() && info.l4 == Some(start) && offset == icmp::CHECKSUM_OFFSET;
    let inside = start + offset + 2 <= packet.len();
    if inside && (icmp || start >= info.payload) {
        Ok(Input::Elsewhere { start, offset })
    } else {
        Err(DropReason::BadOffload)
    }
}

/// A packet that is no super-packet: as it is if it fits, cut if it is TCP data that may be.
fn whole(
    packet: &[u8],
    info: &PacketInfo,
    transport: Option<Transport>,
    input: Input,
    mtu: usize,
) -> Result<Cut, DropReason> {
    if packet.len() <= mtu {
        return Ok(Cut::Not(input));
    }
    let transport = transport.filter(|_| info.tcp_flags.is_some_and(|flags| flags & UNCUT == 0));
    let size = mtu.checked_sub(info.payload).filter(|&size| size > 0);
    let (Some(transport), Some(size)) = (transport, size) else { return Err(DropReason::TooBig) };
    // Its checksum will be written anew, which must not make a broken packet whole.
    if input == Input::Whole && !info.checksum_ok(packet) {
        return Err(DropReason::TooBig);
    }
    Ok(Cut::Every(size, transport))
}

/// How to cut a super-packet.
fn super_packet(
    vnet: &VirtioNetHdr,
    packet: &[u8],
    info: &PacketInfo,
    transport: Option<Transport>,
    mtu: usize,
) -> Result<Cut, DropReason> {
    let transport = transport.ok_or(DropReason::BadOffload)?;
    let gso_size = usize::from(vnet.gso_size);
    if gso_size == 0 || packet.len() < info.payload {
        return Err(DropReason::BadOffload);
    }
    let size = mtu.checked_sub(info.payload).filter(|&size| size > 0).ok_or(DropReason::TooBig)?;
    match (vnet.gso_type & !GSO_ECN, info.version, info.protocol) {
        (GSO_TCPV4, Version::V4, PROTO_TCP) | (GSO_TCPV6, Version::V6, PROTO_TCP) => {
            // Protocol A4: super-packets are cut at the path's MSS by ourselves.
            Ok(Cut::Every(gso_size.min(size), transport))
        }
        (GSO_UDP_L4, _, PROTO_UDP) if gso_size <= size => Ok(Cut::Every(gso_size, transport)),
        (GSO_UDP_L4, _, PROTO_UDP) => Err(DropReason::TooBig),
        _ => Err(DropReason::BadOffload),
    }
}

/// Protocol A4: the MSS is clamped, so that the far end sends what the path carries.
fn clamp_mss(packet: &mut [u8], info: &PacketInfo, mtu: usize, input: Input) -> Result<(), DropReason> {
    let Some(l4) = info.l4 else { return Ok(()) };
    let max = u16::try_from(mtu.saturating_sub(l4 + tcp::HEADER_MIN)).unwrap_or(u16::MAX);
    let partial = input != Input::Whole;
    let segment = packet.get_mut(l4..).ok_or(DropReason::BadInner)?;
    tcp::clamp_mss(segment, max, partial).map(drop).map_err(|_| DropReason::BadInner)
}

#[cfg(test)]
mod tests;
