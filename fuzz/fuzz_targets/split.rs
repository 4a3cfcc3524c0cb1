//! The splitter: what the kernel's header says of a packet need not be true of it.
//!
//! Input: how to cut (1 byte), MTU (2), virtio header (10), packet.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sinew_forwarding::offload::{Checksum, Split, super_packet};
use sinew_fuzz::offload::{checksum_field, complete, cut, pseudo_sum, v4_header_ok};
use sinew_wire::ip::{self, PROTO_TCP, PacketInfo, Version};
use sinew_wire::tcp::{self, TcpHeader};
use sinew_wire::virtio::{GSO_ECN, GSO_NONE, VirtioNetHdr};

/// Checksums leave whole.
const WHOLE: u8 = 1;
/// The packet's checksum is made right first, which chance would not do.
const RIGHT: u8 = 2;
/// The buffer for the segments is one byte short.
const SHORT: u8 = 4;

/// Each segment is the piece of the original that its place says.
fn is_piece(original: &[u8], info: &PacketInfo, index: usize, at: usize, segment: &[u8], last: bool) {
    let own = PacketInfo::parse(segment).expect("a packet");
    assert_eq!((own.l4, own.payload, own.total_len), (info.l4, info.payload, segment.len()));
    assert_eq!((own.src, own.dst, own.protocol, own.ports), (info.src, info.dst, info.protocol, info.ports));
    let payload = &segment[own.payload..];
    assert_eq!(payload, &original[info.payload + at..][..payload.len()]);
    if own.version == Version::V4 {
        let id = |packet| ip::v4_id(packet).expect("IPv4");
        assert_eq!(id(segment), id(original).wrapping_add(index as u16));
        assert!(v4_header_ok(segment), "the IPv4 header's checksum");
    }
    if own.protocol == PROTO_TCP {
        let l4 = info.l4.expect("TCP");
        let was = TcpHeader::parse(&original[l4..]).expect("TCP");
        let is = TcpHeader::parse(&segment[l4..]).expect("TCP");
        assert_eq!(is.seq, was.seq.wrapping_add(at as u32));
        let keeps = if index == 0 { tcp::CWR } else { 0 } | if last { tcp::FIN | tcp::PSH } else { 0 };
        let moves = tcp::CWR | tcp::FIN | tcp::PSH;
        assert_eq!(is.flags, was.flags & (!moves | keeps));
    }
}

/// What was cut has checksums that were made anew; what was not is told of as it was.
fn has_checksum(vnet: &VirtioNetHdr, before: &[u8], segment: &[u8], partial: bool, checksum: Checksum) {
    let info = PacketInfo::parse(segment).expect("a packet");
    assert!(!partial || checksum == Checksum::Partial);
    // A super-packet's checksum is partial, or says nothing of its segments.
    let anew = segment.len() != before.len() || vnet.gso_type & !GSO_ECN != GSO_NONE;
    if partial {
        let field = checksum_field(segment, &info).expect("a place for it");
        assert_eq!(segment[field], pseudo_sum(&info));
    } else if anew {
        assert!(info.checksum_ok(segment), "a cut with a wrong checksum");
    } else if !vnet.needs_csum() {
        let was = PacketInfo::parse(before).expect("a packet").checksum_ok(before);
        assert_eq!(info.checksum_ok(segment), was, "right stays right, and wrong stays wrong");
    }
}

/// What may cross a stream whole is cut at its far end as it would have been here.
fn crosses_whole(vnet: &VirtioNetHdr, packet: &[u8], mtu: usize, here: &[(Vec<u8>, bool)]) {
    let Some(head) = super_packet::offer(vnet, packet, mtu) else { return };
    let mut there = packet.to_vec();
    let made = super_packet::accept(head, &mut there, mtu).expect("judged by the same rules");
    let segments = cut(&made, &mut there, mtu, Checksum::Complete).expect("as our kernel would make it");
    let whole = |segment: &(Vec<u8>, bool)| {
        let mut segment = segment.0.clone();
        complete(&mut segment);
        segment
    };
    assert!(segments.iter().map(whole).eq(here.iter().map(whole)));
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&[how, low, high], rest)) = bytes.split_first_chunk() else { return };
    let Some((vnet, packet)) = rest.split_first_chunk::<10>() else { return };
    let vnet = VirtioNetHdr::parse(vnet).expect("ten bytes");
    let mtu = usize::from(u16::from_le_bytes([low, high]));
    let checksum = if how & WHOLE == 0 { Checksum::Partial } else { Checksum::Complete };
    let mut packet = packet.to_vec();
    if how & RIGHT != 0 {
        complete(&mut packet);
    }
    let before = packet.clone();
    if how & SHORT != 0 {
        let Ok(mut split) = Split::new(&vnet, &mut packet, mtu) else { return };
        let mut out = vec![0; split.longest() - 1];
        let whole = split.count();
        let written = std::iter::from_fn(|| split.write_into(&mut out, checksum)).count();
        assert!(written < whole, "the longest does not fit");
        return;
    }
    let Ok(segments) = cut(&vnet, &mut packet, mtu, checksum) else { return };
    let info = PacketInfo::parse(&packet).expect("it was cut");
    let mut at = 0;
    for (index, (segment, partial)) in segments.iter().enumerate() {
        if segments.len() > 1 {
            is_piece(&packet, &info, index, at, segment, index + 1 == segments.len());
        }
        has_checksum(&vnet, &before, segment, *partial, checksum);
        at += segment.len() - info.payload.min(segment.len());
    }
    assert_eq!(at, packet.len() - info.payload, "nothing is left out");
    crosses_whole(&vnet, &before, mtu, &segments);
});
