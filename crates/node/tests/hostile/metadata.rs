//! What the local kernel is told comes from our own parse and never from the wire (protocol A4.7).

use sinew_types::DropReason;
use sinew_wire::ip::PacketInfo;
use sinew_wire::record::{Kind, Prefix};
use sinew_wire::virtio::{GSO_NONE, NEEDS_CSUM, VirtioNetHdr};

use crate::common::{Net, udp_packet};
use crate::puppet::{MS, Stage};

const PARTIAL: Prefix = Prefix { csum_partial: true, network: 0, kind: Kind::Mesh };

/// Sends one record and gives what came out at the TUN.
fn through(stage: &mut Stage, prefix: Prefix, payload: &[u8]) -> Vec<(VirtioNetHdr, Vec<u8>)> {
    let victim = stage.victim();
    let record = stage.puppets[0].data(&victim, prefix, payload);
    stage.throw(0, record);
    stage.run(5 * MS);
    let headers = std::mem::take(&mut stage.net.headers[0]);
    headers.into_iter().zip(std::mem::take(&mut stage.net.received[0])).collect()
}

/// An IPv6 packet of `protocol` with `content` behind the header.
fn packet(stage: &Stage, protocol: u8, content: &[u8]) -> Vec<u8> {
    let mut packet =
        udp_packet(stage.puppets[0].addr, stage.net.address(0), 9, &content[8.min(content.len())..]);
    packet[6] = protocol;
    packet[40..40 + content.len()].copy_from_slice(content);
    packet
}

#[test]
fn a_flag_for_an_unfinished_checksum_is_honoured_where_we_know_its_place_and_nowhere_else() {
    let mut stage = Stage::new(Net::new(1, &[]), 1);
    let (peer, local) = (stage.puppets[0].addr, stage.net.address(0));
    // UDP, with rubbish where the pseudo header's sum should be: the sum is ours.
    let whole = udp_packet(peer, local, 9, b"payload");
    let mut partial = whole.clone();
    partial[46..48].copy_from_slice(&[0xde, 0xad]);
    let out = through(&mut stage, PARTIAL, &partial);
    assert_eq!(out.len(), 1);
    let (header, mut delivered) = out[0].clone();
    assert_eq!((header.flags, header.csum_start, header.csum_offset), (NEEDS_CSUM, 40, 6));
    let info = PacketInfo::parse(&delivered).expect("a packet");
    info.complete_checksum(&mut delivered).expect("UDP");
    assert_eq!(delivered, whole, "what the kernel makes of it is right");

    // An echo request, an unknown protocol, a fragment, a header chain: never a place to write to.
    let echo = packet(&stage, 58, &[128, 0, 0, 0, 0, 1, 0, 1]);
    let unknown = packet(&stage, 253, &[0; 24]);
    let fragment =
        packet(&stage, 44, &[17, 0, 0, 1, 0, 0, 0, 7, 0, 9, 0, 9, 0, 16, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1]);
    let later = packet(&stage, 44, &[17, 0, 1, 1, 0, 0, 0, 7, 0, 9, 0, 9, 0, 16, 0, 0]);
    for bytes in [echo, unknown, fragment, later] {
        for (header, _) in through(&mut stage, PARTIAL, &bytes) {
            assert_eq!(header.flags & NEEDS_CSUM, 0, "{:02x?}", &bytes[40..]);
        }
    }
}

#[test]
fn super_packets_and_their_sizes_are_not_taken_from_the_wire() {
    let mut stage = Stage::new(Net::new(1, &[]), 1);
    let (peer, local) = (stage.puppets[0].addr, stage.net.address(0));
    let inner = udp_packet(peer, local, 9, &[1; 900]);
    for (size, kind) in [(256u16, 5u8), (256, 1), (1, 1), (0, 3), (65_535, 4)] {
        let head = [&size.to_le_bytes()[..], &[kind, 0]].concat();
        let out = through(&mut stage, Prefix::new(Kind::Super), &[head, inner.clone()].concat());
        assert!(out.is_empty(), "size {size} kind {kind}");
    }
    // Not even looked at: they came as datagrams, and kind 6 is for streams (A4.3).
    assert_eq!(stage.drops(DropReason::BadOffload), 5);
    // A packet of a network that this node is not in has no TUN to go to.
    let out = through(&mut stage, Prefix { csum_partial: false, network: 5, kind: Kind::Network }, &inner);
    assert!(out.is_empty());
    assert_eq!(stage.drops(DropReason::NotBound), 1);
    // A lone packet is told to be no super-packet, whatever the prefix says of it.
    let out = through(&mut stage, Prefix { csum_partial: false, network: 0, kind: Kind::Mesh }, &inner);
    assert_eq!((out[0].0.gso_type, out[0].0.gso_size), (GSO_NONE, 0));
}
