//! Packets between nodes: straight, over relays, and what is refused on the way.

mod common;

use std::time::Duration;

use common::{Net, path, udp_packet};
use sinew_node::Offloads;
use sinew_types::{DropReason, InterfaceId};
use sinew_wire::virtio::{GSO_NONE, GSO_UDP_L4, NEEDS_CSUM, VirtioNetHdr};

const SETTLE: Duration = Duration::from_secs(5);

fn line(count: usize) -> Net {
    let links: Vec<_> = (1..count).map(|i| (i, i - 1)).collect();
    let mut net = Net::new(count, &links);
    let settled =
        net.run_until(SETTLE, |net| net.nodes.iter().all(|n| n.status(net.now).routes == count - 1));
    assert!(settled, "routes: {:?}", net.nodes.iter().map(|n| n.status(net.now)).collect::<Vec<_>>());
    net
}

#[test]
fn two_nodes_link_and_exchange_packets() {
    let mut net = line(2);
    let packet = udp_packet(net.address(0), net.address(1), 9, b"hello");
    net.send(0, &packet);
    net.run(Duration::from_millis(20));
    assert_eq!(net.received[1], [packet]);
}

#[test]
fn the_first_packet_over_relays_waits_for_its_session_and_arrives() {
    let mut net = line(5);
    let packet = udp_packet(net.address(0), net.address(4), 9, b"far");
    net.send(0, &packet);
    net.run(Duration::from_millis(100));
    assert_eq!(net.received[4], [packet]);
}

#[test]
fn a_packet_in_the_name_of_another_node_is_refused_at_both_ends() {
    let mut net = line(3);
    let forged = udp_packet(net.address(1), net.address(2), 9, b"not mine");
    net.send(0, &forged);
    net.run(Duration::from_millis(100));
    assert_eq!(net.nodes[0].drops().get(DropReason::NotOurSource), 1);
    assert!(net.received[2].is_empty());
}

#[test]
fn a_relay_passes_a_batch_on_in_the_buffer_it_came_in_and_a_few_records_with_others() {
    let mut net = line(3);
    let packet = udp_packet(net.address(0), net.address(2), 9, &[7; 1_000]);
    net.send(0, &packet);
    net.run(Duration::from_millis(100));
    for (count, in_place) in [(40, true), (2, false)] {
        net.received[2].clear();
        for _ in 0..count {
            net.nodes[0].handle_tun(InterfaceId::NODE, VirtioNetHdr::default(), &mut packet.clone(), net.now);
        }
        let sent = net.nodes[0].poll_transmit().map(|batch| (batch.bytes.to_vec(), batch.segment));
        let (mut buffer, stride) = sent.unwrap();
        let (len, start) = (buffer.len(), buffer.as_ptr());
        assert_eq!(len, count * stride);
        let onward = net.nodes[1].handle_batch(path(0), 0, &mut buffer, stride, net.now);
        let passed =
            onward.map(|onward| (onward.to, onward.segment, onward.bytes.as_ptr(), onward.bytes.len()));
        assert_eq!(passed, in_place.then_some((path(2), stride, start, len)));
        if in_place {
            assert!(net.nodes[1].poll_transmit().is_none(), "and not once more");
            net.nodes[2].handle_datagrams(path(1), 0, &mut buffer, stride, net.now);
            net.drain(2);
        } else {
            net.drain(1);
            net.run(Duration::from_millis(100));
        }
        // They arrive merged: one header before the payload of all.
        let payload: Vec<u8> = net.received[2].iter().flat_map(|frame| &frame[48..]).copied().collect();
        assert!(payload == vec![7; 1_000 * count], "{} bytes of {count} packets", payload.len());
    }
}

#[test]
fn an_idle_line_stays_quiet() {
    let mut net = line(5);
    let packet = udp_packet(net.address(0), net.address(4), 9, b"far");
    net.send(0, &packet);
    net.run(Duration::from_secs(60));
    assert!(net.steps < 6_000, "{} steps in a minute of near silence", net.steps);
}

/// 40 datagrams of 1,000 bytes as one super-packet, as the kernel hands it over.
fn super_packet(net: &Net) -> (VirtioNetHdr, Vec<u8>) {
    let vnet = VirtioNetHdr {
        flags: NEEDS_CSUM,
        gso_type: GSO_UDP_L4,
        hdr_len: 48,
        gso_size: 1_000,
        csum_start: 40,
        csum_offset: 6,
    };
    (vnet, udp_packet(net.address(0), net.address(net.nodes.len() - 1), 9, &[5; 40_000]))
}

/// What comes out at the last node of a line when the first one's kernel sends a super-packet, and
/// the longest record that any wire carried for it.
fn super_packet_through(mut net: Net) -> (Vec<(VirtioNetHdr, Vec<u8>)>, usize) {
    let last = net.nodes.len() - 1;
    let settled = net.run_until(SETTLE, |net| net.nodes.iter().all(|n| n.status(net.now).routes == last));
    assert!(settled);
    let knock = udp_packet(net.address(0), net.address(last), 9, b"knock");
    net.send(0, &knock);
    net.run(Duration::from_millis(500));
    net.received[last].clear();
    net.headers[last].clear();
    let longest = std::rc::Rc::new(std::cell::Cell::new(0));
    let seen = std::rc::Rc::clone(&longest);
    net.tap = Some(Box::new(move |flying| {
        seen.set(seen.get().max(flying.bytes.len()));
        vec![flying]
    }));
    let (vnet, mut packet) = super_packet(&net);
    let now = net.now;
    net.nodes[0].handle_tun(InterfaceId::NODE, vnet, &mut packet, now);
    net.drain(0);
    net.run(Duration::from_millis(20));
    (net.headers[last].drain(..).zip(net.received[last].drain(..)).collect(), longest.get())
}

#[test]
fn over_one_direct_stream_a_super_packet_travels_whole() {
    let (out, longest) = super_packet_through(Net::over_streams(2, &[(1, 0)]));
    assert_eq!(out.len(), 1);
    let (vnet, packet) = &out[0];
    assert_eq!((vnet.gso_type, vnet.gso_size, packet.len()), (GSO_UDP_L4, 1_000, 40_048));
    assert!(longest > 40_048, "one record");
}

#[test]
fn over_datagrams_or_relays_it_travels_in_pieces_that_fit() {
    for net in [Net::new(2, &[(1, 0)]), Net::over_streams(3, &[(1, 0), (2, 1)])] {
        let (out, longest) = super_packet_through(net);
        let payload: usize = out.iter().map(|(_, packet)| packet.len() - 48).sum();
        assert_eq!(payload, 40_000);
        assert!(longest < 2_000, "{longest}");
        assert!(out.iter().all(|(vnet, _)| vnet.gso_type == GSO_NONE), "each came by itself");
    }
}

/// Packets that need nothing done to them, holding the 40,000 bytes that were sent.
fn assert_finished(out: &[(VirtioNetHdr, Vec<u8>)]) {
    let mut payload = 0;
    for (vnet, packet) in out {
        assert_eq!(*vnet, VirtioNetHdr::default());
        let info = sinew_wire::ip::PacketInfo::parse(packet).expect("a packet");
        assert!(info.checksum_ok(packet), "unfinished");
        assert!(packet.len() <= 1_048, "{}", packet.len());
        payload += packet.len() - 48;
    }
    assert_eq!(payload, 40_000);
}

#[test]
fn a_tun_that_takes_no_super_packets_gets_finished_pieces_over_a_stream() {
    for offloads in [Offloads::PLAIN, Offloads::NONE, Offloads { udp: false, ..Offloads::ALL }] {
        let adjust = |i, config| sinew_node::Config { offloads: [Offloads::ALL, offloads][i], ..config };
        let (out, longest) = super_packet_through(Net::over_streams_with(2, &[(1, 0)], adjust));
        assert_eq!(out.len(), 40, "{offloads:?}");
        assert_finished(&out);
        assert!(longest > 40_048, "it travelled whole");
    }
}

/// What a batch of 40 datagrams looks like where it comes out, by what the TUN there takes.
#[test]
fn a_batch_is_merged_only_for_a_tun_that_takes_it() {
    for (offloads, frames) in [
        (Offloads::ALL, 1),
        (Offloads { udp: false, ..Offloads::ALL }, 40),
        (Offloads::NONE, 40),
        (Offloads::PLAIN, 40),
    ] {
        let mut net = Net::with(2, &[(1, 0)], |i, config| sinew_node::Config {
            offloads: [Offloads::ALL, offloads][i],
            ..config
        });
        // 1,000 bytes in UDP, IPv6 and a record.
        net.batched = Some(1_084);
        let (out, _) = super_packet_through(net);
        assert_eq!(out.len(), frames, "{offloads:?}");
        if frames == 1 {
            assert_eq!((out[0].0.gso_type, out[0].0.gso_size), (GSO_UDP_L4, 1_000));
        } else if offloads == Offloads::PLAIN {
            assert_finished(&out);
        } else {
            let alone = |vnet: &VirtioNetHdr| (vnet.gso_type, vnet.flags) == (GSO_NONE, NEEDS_CSUM);
            assert!(out.iter().all(|(vnet, _)| alone(vnet)), "partial checksums are no super-packets");
        }
    }
}
