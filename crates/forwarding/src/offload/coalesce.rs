//! Segments from the wire become super-packets for the TUN.
//!
//! A few flows are open at a time, each a buffer that grows while segments follow one another. The
//! rules are those of the kernel's GRO: everything in the headers the same but what a cut changes,
//! sizes equal until a shorter last one, PSH or FIN the end. What cannot be merged first sends its
//! own flow's buffer ahead, so the order within a flow never changes. Nothing waits: the caller
//! flushes at the end of each batch. Packets for two devices never merge, whatever their addresses:
//! private networks may use the same ones.
//!
//! A checksum that the peer left partial needs no look, the AEAD vouched for it; a whole one is
//! verified before the packet may merge, since the merged packet's checksum is made anew.

use sinew_types::{DropReason, InterfaceId};
use sinew_wire::checksum::Sum;
use sinew_wire::ip::{self, Fragment, PROTO_TCP, PROTO_UDP, PacketInfo, V4_HEADER_MIN, Version};
use sinew_wire::tcp::{self, TcpHeader};
use sinew_wire::udp;
use sinew_wire::virtio::{GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, VirtioNetHdr};

use super::{SEGMENTS_MAX, SUPER_MAX, Transport, plain_ip_header};

/// Flows open at a time; one was enough for four streams (measured), and 64 KB each is no small cache.
const FLOWS: usize = 4;
/// Flags a segment may have and still merge.
const MERGED_FLAGS: u8 = tcp::ACK | tcp::PSH | tcp::FIN | tcp::ECE;
/// Flags that end a super-packet.
const LAST_FLAGS: u8 = tcp::PSH | tcp::FIN;

/// What the TUN takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offloads {
    /// TCP super-packets.
    pub tcp: bool,
    /// UDP super-packets.
    pub udp: bool,
    /// Partial checksums, which super-packets need too. Without, every packet is finished first: so it
    /// has to be where there is no virtio header to say anything in.
    pub checksum: bool,
}

impl Offloads {
    /// All of it.
    pub const ALL: Self = Self { tcp: true, udp: true, checksum: true };
    /// Virtio headers, but no super-packets.
    pub const NONE: Self = Self { tcp: false, udp: false, checksum: true };
    /// No virtio headers: finished packets only.
    pub const PLAIN: Self = Self { tcp: false, udp: false, checksum: false };

    /// Whether super-packets of this transport protocol are taken.
    pub const fn takes(self, protocol: u8) -> bool {
        match protocol {
            PROTO_TCP => self.tcp && self.checksum,
            PROTO_UDP => self.udp && self.checksum,
            _ => false,
        }
    }
}

/// The device that a packet goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sink {
    /// Which.
    pub interface: InterfaceId,
    /// What it takes.
    pub offloads: Offloads,
}

impl Sink {
    /// The node's own TUN.
    pub const fn node(offloads: Offloads) -> Self {
        Self { interface: InterfaceId::NODE, offloads }
    }
}

/// Merges the packets of a batch.
#[derive(Debug)]
pub struct Coalescer {
    slots: [Slot; FLOWS],
    /// Counts packets, to know the slot that was quiet longest.
    clock: u64,
}

/// A flow being merged.
#[derive(Debug)]
struct Slot {
    buffer: Vec<u8>,
    flow: Option<Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    /// Where it goes.
    interface: InterfaceId,
    /// The first segment's headers.
    info: PacketInfo,
    transport: Transport,
    /// Whether the first segment's checksum was partial.
    csum_partial: bool,
    /// Payload of each segment but the last.
    size: usize,
    segments: usize,
    next_seq: u32,
    used: u64,
}

impl Default for Coalescer {
    fn default() -> Self {
        Self::new()
    }
}

impl Coalescer {
    /// With buffers for a few flows (256 KB), used again and again.
    pub fn new() -> Self {
        let slots = std::array::from_fn(|_| Slot { buffer: Vec::with_capacity(SUPER_MAX), flow: None });
        Self { slots, clock: 0 }
    }

    /// Takes a packet from the wire for `sink`; `csum_partial` is the peer's word on its checksum.
    /// Calls `emit` with what must be written now: where, header and packet.
    ///
    /// # Errors
    /// The packet is dropped: [`DropReason::BadInner`] for what is no packet or not exactly as long as
    /// it says, [`DropReason::BadOffload`] for a partial checksum where none may be.
    pub fn push(
        &mut self,
        packet: &mut [u8],
        csum_partial: bool,
        sink: Sink,
        emit: &mut impl FnMut(InterfaceId, &VirtioNetHdr, &[u8]),
    ) -> Result<(), DropReason> {
        let info = PacketInfo::parse(packet).map_err(|_| DropReason::BadInner)?;
        self.push_parsed(packet, &info, csum_partial, sink, emit)
    }

    /// As [`Coalescer::push`], for a packet that was parsed already.
    ///
    /// # Errors
    /// [`DropReason::BadOffload`] for a partial checksum where none may be.
    pub fn push_parsed(
        &mut self,
        packet: &mut [u8],
        info: &PacketInfo,
        csum_partial: bool,
        sink: Sink,
        emit: &mut impl FnMut(InterfaceId, &VirtioNetHdr, &[u8]),
    ) -> Result<(), DropReason> {
        let transport = Transport::of(packet, info);
        // Protocol A4: honoured only for whole TCP and UDP packets, else dropped.
        if csum_partial && transport.is_none() {
            return Err(DropReason::BadOffload);
        }
        self.clock += 1;
        let slot = self
            .slots
            .iter()
            .position(|slot| slot.flow.as_ref().is_some_and(|open| open.is_of(sink.interface, info)));
        let mergeable = transport.filter(|_| mergeable(packet, info, csum_partial, sink.offloads));
        match (mergeable, slot) {
            (Some(_), Some(slot)) if self.slots[slot].accepts(packet, info) => {
                self.slots[slot].append(packet, info, self.clock, emit);
            }
            // A first segment that is also the last need not be held.
            (Some(_), slot) if info.tcp_flags.is_some_and(|flags| flags & LAST_FLAGS != 0) => {
                self.make_way(slot, sink.interface, info, emit);
                single(packet, info, transport, csum_partial, sink, emit)?;
            }
            (Some(transport), slot) => {
                let slot = slot.unwrap_or_else(|| self.quietest());
                self.slots[slot].flush(emit);
                let used = self.clock;
                self.slots[slot].open(packet, Open::new(sink, packet, *info, transport, csum_partial, used));
            }
            (None, slot) => {
                self.make_way(slot, sink.interface, info, emit);
                single(packet, info, transport, csum_partial, sink, emit)?;
            }
        }
        Ok(())
    }

    /// Emits all that is held: at the end of each batch.
    pub fn flush(&mut self, emit: &mut impl FnMut(InterfaceId, &VirtioNetHdr, &[u8])) {
        // In the order of the last packets, though no flow could tell.
        while let Some(slot) = self.oldest() {
            self.slots[slot].flush(emit);
        }
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.slots.iter().all(|slot| slot.flow.is_none())
    }

    fn oldest(&self) -> Option<usize> {
        let used = |slot: &usize| self.slots[*slot].flow.map(|open| open.used);
        (0..FLOWS).filter(|slot| used(slot).is_some()).min_by_key(used)
    }

    /// A free slot, or the one whose flow was quiet longest.
    fn quietest(&self) -> usize {
        (0..FLOWS).min_by_key(|&slot| self.slots[slot].flow.map_or(0, |open| open.used)).unwrap_or(0)
    }

    /// Sends ahead what the packet may not overtake: its own flow, or if its ports cannot be seen
    /// everything between its two addresses.
    fn make_way(
        &mut self,
        slot: Option<usize>,
        interface: InterfaceId,
        info: &PacketInfo,
        emit: &mut impl FnMut(InterfaceId, &VirtioNetHdr, &[u8]),
    ) {
        if let Some(slot) = slot {
            self.slots[slot].flush(emit);
        } else if info.ports.is_none() || info.fragment != Fragment::None {
            for slot in &mut self.slots {
                let between = |open: Open| {
                    (open.interface, open.info.src, open.info.dst) == (interface, info.src, info.dst)
                };
                if slot.flow.is_some_and(between) {
                    slot.flush(emit);
                }
            }
        }
    }
}

impl Open {
    fn new(
        sink: Sink,
        packet: &[u8],
        info: PacketInfo,
        transport: Transport,
        csum_partial: bool,
        used: u64,
    ) -> Self {
        let size = info.total_len - info.payload;
        let seq =
            packet.get(transport.l4..).and_then(|l4| TcpHeader::parse(l4).ok()).map_or(0, |tcp| tcp.seq);
        let next_seq = seq.wrapping_add(size as u32);
        let interface = sink.interface;
        Self { interface, info, transport, csum_partial, size, segments: 1, next_seq, used }
    }

    /// Whether a packet for `interface` is of this flow.
    fn is_of(&self, interface: InterfaceId, next: &PacketInfo) -> bool {
        self.interface == interface && same_flow(&self.info, next)
    }
}

impl Slot {
    fn open(&mut self, packet: &[u8], open: Open) {
        self.buffer.clear();
        self.buffer.extend_from_slice(packet);
        self.flow = Some(open);
    }

    /// Whether the packet, of the same flow and mergeable, continues what is here.
    fn accepts(&self, packet: &[u8], info: &PacketInfo) -> bool {
        let Some(open) = &self.flow else { return false };
        let len = info.total_len - info.payload;
        let room = open.segments < SEGMENTS_MAX && self.buffer.len() + len <= SUPER_MAX;
        room && len <= open.size
            && info.payload == open.info.payload
            && same_ip_header(&self.buffer, packet, open)
            && (info.protocol != PROTO_TCP || same_tcp_header(&self.buffer, packet, open))
    }

    fn append(
        &mut self,
        packet: &[u8],
        info: &PacketInfo,
        used: u64,
        emit: &mut impl FnMut(InterfaceId, &VirtioNetHdr, &[u8]),
    ) {
        let Some(open) = &mut self.flow else { return };
        let payload = packet.get(info.payload..).unwrap_or_default();
        self.buffer.extend_from_slice(payload);
        open.segments += 1;
        open.next_seq = open.next_seq.wrapping_add(payload.len() as u32);
        open.used = used;
        let last = info.tcp_flags.map_or(0, |flags| flags & LAST_FLAGS);
        if last != 0
            && let Some(l4) = self.buffer.get_mut(open.transport.l4..)
            && let Some(flags) = l4.get_mut(tcp::FLAGS_OFFSET)
        {
            *flags |= last;
        }
        if last != 0 || payload.len() < open.size || open.segments == SEGMENTS_MAX {
            self.flush(emit);
        }
    }

    fn flush(&mut self, emit: &mut impl FnMut(InterfaceId, &VirtioNetHdr, &[u8])) {
        let Some(open) = self.flow.take() else { return };
        // A packet that was taken in parses, so no step here can fail; if one did, nothing is lost
        // but this packet, which the flow's own retransmission heals.
        if let Ok(header) = finish(&mut self.buffer, &open) {
            emit(open.interface, &header, &self.buffer);
        }
    }
}

/// Emits a packet by itself: its checksum as the peer left it, or whole where it has to be.
fn single(
    packet: &mut [u8],
    info: &PacketInfo,
    transport: Option<Transport>,
    csum_partial: bool,
    sink: Sink,
    emit: &mut impl FnMut(InterfaceId, &VirtioNetHdr, &[u8]),
) -> Result<(), DropReason> {
    let mut header = VirtioNetHdr::default();
    if let Some(transport) = transport.filter(|_| csum_partial) {
        if sink.offloads.checksum {
            transport.leave_partial(packet, info)?;
            header = transport.header();
        } else {
            transport.complete(packet, info)?;
        }
    }
    emit(sink.interface, &header, packet);
    Ok(())
}

/// Whether the packet may be part of a super-packet at all.
fn mergeable(packet: &[u8], info: &PacketInfo, csum_partial: bool, offloads: Offloads) -> bool {
    let data = || info.tcp_flags.is_some_and(|f| f & !MERGED_FLAGS == 0 && f & tcp::ACK != 0);
    let wanted = offloads.takes(info.protocol) && (info.protocol != PROTO_TCP || data());
    let plain = info.l4 == Some(plain_ip_header(info.version)) && info.payload < info.total_len;
    // Kernels merge only what no router may have cut, and whose header is right.
    let header_ok = || match info.version {
        Version::V4 => packet.get(..V4_HEADER_MIN).is_some_and(|h| Sum::default().bytes(h).is_valid()),
        Version::V6 => true,
    };
    wanted && plain && header_ok() && (csum_partial || has_checksum(packet, info) && info.checksum_ok(packet))
}

/// Writes lengths and checksums of what was merged, and the header that describes it.
fn finish(buffer: &mut [u8], open: &Open) -> Result<VirtioNetHdr, DropReason> {
    let bad = |_| DropReason::BadOffload;
    if open.segments == 1 {
        return if open.csum_partial {
            open.transport.leave_partial(buffer, &open.info)?;
            Ok(open.transport.header())
        } else {
            Ok(VirtioNetHdr::default())
        };
    }
    ip::set_total_len(buffer, buffer.len()).map_err(bad)?;
    if open.info.version == Version::V4 {
        ip::fill_v4_checksum(buffer).map_err(bad)?;
    }
    if open.info.protocol == PROTO_UDP {
        let l4 = buffer.get_mut(open.transport.l4..).ok_or(DropReason::BadOffload)?;
        udp::set_length(l4, l4.len() as u16).map_err(bad)?;
    }
    open.transport.leave_partial(buffer, &open.info)?;
    let gso_type = match (open.info.protocol, open.info.version) {
        (PROTO_UDP, _) => GSO_UDP_L4,
        (_, Version::V4) => GSO_TCPV4,
        (_, Version::V6) => GSO_TCPV6,
    };
    let (hdr_len, gso_size) = (open.info.payload as u16, open.size as u16);
    Ok(VirtioNetHdr { gso_type, hdr_len, gso_size, ..open.transport.header() })
}

fn same_flow(a: &PacketInfo, b: &PacketInfo) -> bool {
    b.ports.is_some() && a.ports == b.ports && a.protocol == b.protocol && a.src == b.src && a.dst == b.dst
}

/// Version, traffic class with ECN, flow label, hop limit; in IPv4 also the fragment bits, and the
/// identification that a cut would have given.
fn same_ip_header(first: &[u8], next: &[u8], open: &Open) -> bool {
    match open.info.version {
        Version::V6 => first.get(..4) == next.get(..4) && first.get(7) == next.get(7),
        Version::V4 => {
            let id = |packet| ip::v4_id(packet).unwrap_or(0);
            id(next) == id(first).wrapping_add(open.segments as u16)
                && first.get(..2) == next.get(..2)
                && first.get(6..10) == next.get(6..10)
        }
    }
}

/// In sequence, and the same but for PSH and FIN: acknowledgement, flags, window, urgent pointer,
/// options.
fn same_tcp_header(first: &[u8], next: &[u8], open: &Open) -> bool {
    let l4 = open.transport.l4;
    let (Some(a), Some(b)) = (first.get(l4..open.info.payload), next.get(l4..open.info.payload)) else {
        return false;
    };
    let Ok(header) = TcpHeader::parse(b) else { return false };
    let flags = |l4: &[u8]| l4.get(tcp::FLAGS_OFFSET).map_or(0, |flags| flags & !LAST_FLAGS);
    header.seq == open.next_seq
        && a.get(8..tcp::FLAGS_OFFSET) == b.get(8..tcp::FLAGS_OFFSET)
        && flags(a) == flags(b)
        && a.get(14..16) == b.get(14..16)
        && a.get(18..) == b.get(18..)
}

/// A UDP packet without a checksum must stay without one.
fn has_checksum(packet: &[u8], info: &PacketInfo) -> bool {
    info.protocol != PROTO_UDP
        || info
            .l4
            .and_then(|l4| packet.get(l4 + udp::CHECKSUM_OFFSET..))
            .is_some_and(|c| !c.starts_with(&[0, 0]))
}

#[cfg(test)]
mod tests;
