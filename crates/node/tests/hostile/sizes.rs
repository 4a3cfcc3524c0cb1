//! Whatever the underlay carries, an inner packet of 1280 bytes gets through; nothing larger than
//! a link is ever sent, and pieces are bounded (protocol A4.3, A4.6, A4.8).

use sinew_node::{Event, LinkState};
use sinew_types::{DropReason, InterfaceId};
use sinew_wire::frag::MSG_FRAG;
use sinew_wire::virtio::{GSO_TCPV6, NEEDS_CSUM, VirtioNetHdr};

use crate::common::{Flying, Net, udp_packet};
use crate::puppet::{MS, Stage};

/// UDP and IPv4 around a datagram.
const HEADERS: usize = 28;

#[test]
fn an_inner_packet_of_1280_bytes_crosses_every_legal_underlay_straight_and_relayed() {
    for mtu in [1280, 1300, 1344, 1420, 1452, 1500] {
        let mut net = Net::new(3, &[(1, 0), (2, 1)]);
        net.tap = Some(Box::new(
            move |flying: Flying| {
                if flying.bytes.len() + HEADERS > mtu { Vec::new() } else { vec![flying] }
            },
        ));
        // Also before any search has found out more than the least size.
        for wait in [2_000, 20_000] {
            net.run(wait * MS);
            net.steps = 0;
            for to in 1..3 {
                net.received[to].clear();
                let packet = udp_packet(net.address(0), net.address(to), 9, &[7; 1280 - 48]);
                net.send(0, &packet);
                net.run(200 * MS);
                assert_eq!(net.received[to], [packet], "to {to} over {mtu} after {wait} ms");
            }
        }
    }
}

/// TCP with 20 KB, as the kernel hands it over to be cut.
fn super_packet(stage: &Stage, to: usize) -> (VirtioNetHdr, Vec<u8>) {
    let mut packet = udp_packet(stage.net.address(0), stage.puppets[to].addr, 9, &[5; 20_000]);
    packet[6] = 6;
    packet[40..60].copy_from_slice(&[0, 9, 0, 9, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
    let header = VirtioNetHdr {
        flags: NEEDS_CSUM,
        gso_type: GSO_TCPV6,
        hdr_len: 60,
        gso_size: 1340,
        csum_start: 40,
        csum_offset: 16,
    };
    (header, packet)
}

#[test]
fn what_the_kernel_hands_over_whole_leaves_in_records_that_every_link_carries() {
    let mut net = Net::new(1, &[]);
    net.tap = Some(Box::new(
        |flying: Flying| {
            if flying.bytes.len() + HEADERS > 1500 { Vec::new() } else { vec![flying] }
        },
    ));
    let mut stage = Stage::relayed_in(net);
    stage.run(10_000 * MS);
    for to in 0..2 {
        let (header, mut packet) = super_packet(&stage, to);
        stage.puppets[to].inner.clear();
        let now = stage.net.now;
        stage.net.nodes[0].handle_tun(InterfaceId::NODE, header, &mut packet, now);
        stage.net.drain(0);
        stage.run(10 * MS);
        let inner = &stage.puppets[to].inner;
        let bytes: usize = inner.iter().map(|packet| packet.len() - 60).sum();
        assert_eq!(bytes, 20_008 - 20, "all of it arrived at {to}, in {} packets", inner.len());
    }
}

#[test]
fn pieces_of_a_neighbour_are_bounded_in_number_and_time_and_counted() {
    let mut stage = Stage::new(Net::new(1, &[]), 1);
    let (victim, local, near) = (stage.victim(), stage.net.address(0), stage.puppets[0].addr);
    for id in 0..1000 {
        let piece = stage.puppets[0].piece(&victim, id, 0, false, &[4; 1000]);
        stage.throw(0, piece);
    }
    stage.run(10 * MS);
    assert_eq!(stage.drops(DropReason::Fragment), 1000 - 64);
    // A whole record in two pieces, the second in time and too late.
    let send = |stage: &mut Stage, id: u16, pause: u32| {
        let record = stage.puppets[0].packet(&victim, &udp_packet(near, local, 9, &[8; 100]));
        let (front, back) = record.split_at(50);
        let piece = stage.puppets[0].piece(&victim, id, 0, false, front);
        assert_eq!(piece[0], MSG_FRAG);
        stage.throw(0, piece);
        stage.run(pause * MS);
        let piece = stage.puppets[0].piece(&victim, id, 1, true, back);
        stage.throw(0, piece);
        stage.run(10 * MS);
        stage.net.received[0].len()
    };
    assert_eq!(send(&mut stage, 2000, 400), 1);
    assert_eq!(send(&mut stage, 2001, 600), 1);
    // A piece twice, and a piece that no record has.
    let before = stage.drops(DropReason::Fragment);
    for _ in 0..2 {
        let piece = stage.puppets[0].piece(&victim, 3000, 0, false, &[4; 100]);
        stage.throw(0, piece);
    }
    stage.run(10 * MS);
    assert!(stage.drops(DropReason::Fragment) > before);
    let piece = stage.puppets[0].piece(&victim, 3001, 3, true, &[4; 100]);
    stage.throw(0, piece);
    stage.run(10 * MS);
    assert_eq!(stage.drops(DropReason::Malformed), 1);
}

/// Nodes whose wires between 0 and 1 carry `width` bytes of payload.
fn narrow(count: usize, links: &[(usize, usize)], width: usize) -> Net {
    let mut net = Net::new(count, links);
    net.tap = Some(Box::new(move |flying: Flying| {
        let lost = flying.from < 2 && flying.to < 2 && flying.bytes.len() > width;
        if lost { Vec::new() } else { vec![flying] }
    }));
    net
}

#[test]
fn a_way_that_carries_less_than_1200_bytes_is_refused_and_people_are_told_why() {
    let mut net = narrow(2, &[(0, 1)], 1100);
    net.run(300_000 * MS);
    for (node, other) in [(0, 1), (1, 0)] {
        let told = |e: &(usize, Event)| e.0 == node && matches!(e.1, Event::LinkRefused { .. });
        assert_eq!(net.events.iter().filter(|e| told(e)).count(), 1, "node {node} says it once");
        let up = |e: &(usize, Event)| matches!(e.1, Event::LinkUp { .. });
        assert_eq!(net.events.iter().filter(|e| up(e)).count(), 0);
        assert_eq!(net.nodes[node].adjacency(&net.address(other)), None);
    }
    let peers = net.nodes[0].peers(net.now);
    assert_eq!(peers[0].state, LinkState::Connecting);
    let said = peers[0].last_error.as_deref();
    assert_eq!(said, Some("udp/10.0.0.2:7463: carries less than 1,200 bytes a packet"));
}

#[test]
fn a_way_of_exactly_1200_bytes_is_a_link_at_once() {
    let mut net = narrow(2, &[(0, 1)], 1200);
    // Four ways over the wire: two of the handshake, two of the padded challenge.
    net.run(8 * MS);
    assert_eq!(net.nodes[0].peers(net.now)[0].state, LinkState::Up);
    net.run(2 * MS);
    let (zero, one) = (net.address(0), net.address(1));
    assert_eq!(net.nodes[0].adjacency(&one), Some(1));
    assert_eq!(net.nodes[1].adjacency(&zero), Some(1));
}

#[test]
fn two_with_too_narrow_a_way_between_them_reach_each_other_over_a_third() {
    let mut net = narrow(3, &[(0, 1), (2, 0), (2, 1)], 1199);
    net.run(20_000 * MS);
    let packet = udp_packet(net.address(0), net.address(1), 9, &[7; 1280 - 48]);
    net.send(0, &packet);
    net.run(1000 * MS);
    assert_eq!(net.received[1], [packet]);
    let two = net.address(2);
    assert_eq!(net.nodes[0].next_hop(&net.address(1)), Some(two));
}
