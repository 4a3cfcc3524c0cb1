//! The coalescer: whatever comes for whichever of two devices, its inverse gives each device its own
//! packets, in order within each flow, and the kernel is told nothing that is not so.
//!
//! Input: what the TUN takes (1 byte), then packets: one byte how, then either a length (2) and as
//! many bytes, or how an earlier packet is followed: which one (1), bytes less (1), a place and what is
//! changed there (2).
#![no_main]

use std::collections::BTreeMap;
use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use sinew_forwarding::offload::{Checksum, Coalescer, Offloads, SEGMENTS_MAX, SUPER_MAX, Sink};
use sinew_fuzz::offload::{checksum_field, complete, cut, pseudo_sum, spelled, v4_header_ok};
use sinew_types::{DropReason, InterfaceId};
use sinew_wire::ip::{self, Fragment, PROTO_TCP, PROTO_UDP, PacketInfo, Version};
use sinew_wire::tcp::{self, TcpHeader};
use sinew_wire::udp;
use sinew_wire::virtio::{GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, VirtioNetHdr};

/// The peer says that the checksum is partial.
const PARTIAL: u8 = 1;
/// Checksums are made right first, which chance would not do.
const RIGHT: u8 = 2;
/// The packet follows an earlier one, as a cut would have it.
const FOLLOWS: u8 = 4;
/// The packet is for the second device.
const OTHER: u8 = 8;
/// Enough to fill a super-packet, and another.
const PACKETS_MAX: usize = 150;

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (front, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*front)
}

/// A packet, and how it comes.
type Arrival = (Vec<u8>, u8);

/// The next packet of the input.
fn next(bytes: &mut &[u8], earlier: &[Arrival]) -> Option<Arrival> {
    let [how] = take(bytes)?;
    let mut packet = if how & FOLLOWS == 0 || earlier.is_empty() {
        let length = usize::from(u16::from_le_bytes(take(bytes)?)).min(bytes.len());
        let (packet, rest) = bytes.split_at(length);
        *bytes = rest;
        packet.to_vec()
    } else {
        let [back, less, at, change] = take(bytes)?;
        let mut packet = earlier[earlier.len() - 1 - usize::from(back) % earlier.len()].0.clone();
        follow(&mut packet, usize::from(less));
        if let Some(byte) = packet.get_mut(usize::from(at)) {
            *byte ^= change;
        }
        packet
    };
    if how & RIGHT != 0 {
        complete(&mut packet);
        if packet.first().is_some_and(|first| first >> 4 == 4) {
            let _ = ip::fill_v4_checksum(&mut packet);
        }
    }
    Some((packet, how))
}

/// Makes the packet the one that comes after it in its flow, and `less` bytes shorter.
fn follow(packet: &mut Vec<u8>, less: usize) {
    let Ok(info) = PacketInfo::parse(packet) else { return };
    let Some(l4) = info.l4 else { return };
    let payload = info.total_len - info.payload;
    let length = info.total_len - less.min(payload);
    packet.truncate(length);
    let _ = ip::set_total_len(packet, length);
    if info.version == Version::V4 {
        let id = ip::v4_id(packet).unwrap_or_default();
        let _ = ip::set_v4_id(packet, id.wrapping_add(1));
    }
    match info.protocol {
        PROTO_TCP => {
            let seq = TcpHeader::parse(&packet[l4..]).map_or(0, |tcp| tcp.seq);
            let _ = tcp::set_seq(&mut packet[l4..], seq.wrapping_add(payload as u32));
        }
        PROTO_UDP => {
            let length = (packet.len() - l4) as u16;
            let _ = udp::set_length(&mut packet[l4..], length);
        }
        _ => {}
    }
}

/// What a kernel relies on in a header.
fn is_honest(offloads: Offloads, header: &VirtioNetHdr, packet: &[u8]) {
    if *header == VirtioNetHdr::default() {
        return;
    }
    let info = PacketInfo::parse(packet).expect("a packet");
    assert!(offloads.checksum && info.fragment == Fragment::None);
    assert_eq!(header.flags, NEEDS_CSUM);
    let place = (Some(usize::from(header.csum_start)), Some(usize::from(header.csum_offset)));
    assert_eq!(place, (info.l4, info.csum_offset()));
    assert_eq!(packet[checksum_field(packet, &info).expect("a place")], pseudo_sum(&info));
    if header.gso_type == GSO_NONE {
        assert_eq!((header.gso_size, header.hdr_len), (0, 0));
        return;
    }
    let (kind, takes) = match (info.protocol, info.version) {
        (PROTO_UDP, _) => (GSO_UDP_L4, offloads.udp),
        (_, Version::V4) => (GSO_TCPV4, offloads.tcp),
        (_, Version::V6) => (GSO_TCPV6, offloads.tcp),
    };
    assert!(header.gso_type == kind && takes);
    assert_eq!(usize::from(header.hdr_len), info.payload);
    let (payload, size) = (packet.len() - info.payload, usize::from(header.gso_size));
    assert!(size > 0 && payload > size && payload.div_ceil(size) <= SEGMENTS_MAX);
    assert!(packet.len() <= SUPER_MAX);
    assert!(info.version == Version::V6 || v4_header_ok(packet));
}

type Addresses = (IpAddr, IpAddr);
type Flow = (Addresses, u8, (u16, u16));

fn flow(packet: &[u8]) -> (Addresses, Option<Flow>) {
    let info = PacketInfo::parse(packet).expect("a packet");
    let addresses = (info.src, info.dst);
    (addresses, info.ports.map(|ports| (addresses, info.protocol, ports)))
}

/// Packets by flow. One whose ports cannot be seen may belong to any flow between its addresses, so it
/// stands in all of them; the flows are those of `all`.
fn by_flow(packets: &[Vec<u8>]) -> BTreeMap<(Addresses, Option<Flow>), Vec<Vec<u8>>> {
    let mut flows: BTreeMap<_, Vec<Vec<u8>>> = packets.iter().map(|p| (flow(p), Vec::new())).collect();
    for packet in packets {
        let (addresses, own) = flow(packet);
        for (key, sequence) in &mut flows {
            if key.0 == addresses && (own.is_none() || key.1 == own) {
                sequence.push(packet.clone());
            }
        }
    }
    flows
}

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes;
    let Some([takes]) = take(&mut bytes) else { return };
    let offloads = Offloads { tcp: takes & 1 == 0, udp: takes & 2 == 0, checksum: takes & 4 == 0 };
    let mut packets = Vec::new();
    while packets.len() < PACKETS_MAX
        && let Some(packet) = next(&mut bytes, &packets)
    {
        packets.push(packet);
    }
    let mut coalescer = Coalescer::new();
    let mut expected = [Vec::new(), Vec::new()];
    let mut written: [Vec<(VirtioNetHdr, Vec<u8>)>; 2] = [Vec::new(), Vec::new()];
    let mut emit = |device: InterfaceId, header: &VirtioNetHdr, packet: &[u8]| {
        written[device.0 as usize].push((*header, packet.to_vec()));
    };
    for (packet, how) in &packets {
        let (partial, device) = (how & PARTIAL != 0, usize::from(how & OTHER != 0));
        let sink = Sink { interface: InterfaceId(device as u32), offloads };
        match coalescer.push(&mut packet.clone(), partial, sink, &mut emit) {
            Ok(()) => {
                let mut packet = packet.clone();
                if partial {
                    complete(&mut packet);
                }
                expected[device].push(spelled(packet));
            }
            Err(DropReason::BadInner) => assert!(PacketInfo::parse(packet).is_err()),
            Err(DropReason::BadOffload) => assert!(partial),
            Err(other) => panic!("{other:?}"),
        }
    }
    coalescer.flush(&mut emit);
    assert!(coalescer.is_empty());
    for (written, expected) in written.iter_mut().zip(&expected) {
        let mut segments = Vec::new();
        for (header, packet) in written {
            is_honest(offloads, header, packet);
            let cut = cut(header, packet, usize::MAX, Checksum::Complete).expect("a kernel can cut it");
            segments.extend(cut.into_iter().map(|(segment, _)| spelled(segment)));
        }
        assert_eq!(by_flow(&segments), by_flow(expected));
    }
});
