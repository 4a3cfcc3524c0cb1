//! What may pass comes out, whole, at the right device and nowhere else.

use std::net::IpAddr;
use std::time::Duration;

use sinew_node::Offloads;
use sinew_types::DropReason;
use sinew_wire::virtio::{GSO_NONE, GSO_UDP_L4, NEEDS_CSUM, VirtioNetHdr};

use crate::common::Net;
use crate::common::lab::{
    Lab, MTU, W, attach, attach_with, drops, echo, send, send_with, taken, taken_with, udp, w,
};

const SETTLE: Duration = Duration::from_secs(12);
const SECOND: Duration = Duration::from_secs(1);

/// A line of nodes that know each other.
fn line(count: usize) -> Net {
    let links: Vec<_> = (1..count).map(|i| (i, i - 1)).collect();
    let mut net = Net::new(count, &links);
    net.run(SETTLE);
    net
}

#[test]
fn a_ping_and_its_answer_cross_direct_links_and_relays_in_both_families() {
    for count in [2, 3] {
        let mut net = line(count);
        Lab::new(&mut net, 1);
        let (a, b) = (w(0), w(count - 1));
        for (from, to) in [(IpAddr::V4(a.v4()), IpAddr::V4(b.v4())), (a.v6().into(), b.v6().into())] {
            let (request, reply) = (echo(from, to, false), echo(to, from, true));
            send(&mut net, a, &request);
            net.run(SECOND);
            assert_eq!(taken(&mut net, b), [request], "{count} nodes, {from}");
            send(&mut net, b, &reply);
            net.run(SECOND);
            assert_eq!(taken(&mut net, a), [reply], "{count} nodes, {from}");
        }
        assert!(net.workloads.iter().all(Vec::is_empty), "nothing came out elsewhere");
        assert!(net.received.iter().all(Vec::is_empty), "nor at a node's own device");
    }
}

#[test]
fn the_first_packets_wait_for_a_session() {
    let mut net = line(3);
    Lab::new(&mut net, 1);
    assert!(net.nodes[0].sessions(net.now).iter().all(|session| session.node != net.ids[2]));
    for n in 0..40 {
        send(&mut net, w(0), &udp(w(0).v4(), w(2).v4(), (9, n), b"first"));
    }
    net.run(SECOND);
    let ports: Vec<_> = taken(&mut net, w(2)).iter().map(|p| u16::from_be_bytes([p[22], p[23]])).collect();
    assert_eq!(ports, (8..40).collect::<Vec<_>>(), "the newest 32 of them");
    assert_eq!(drops(&net, 0, DropReason::HoldQueue), 8);
}

#[test]
fn what_no_handle_is_agreed_for_waits_three_seconds_and_its_sender_is_told() {
    let mut net = line(2);
    let lab = Lab::new(&mut net, 1);
    let mut unbound = sinew_node::overlay::Snapshot::default();
    unbound.insert(lab.view(0, 0).into());
    net.nodes[0].publish_networks(unbound.into());
    send(&mut net, w(0), &echo(w(0).v6(), w(1).v6(), false));
    net.run(SECOND);
    assert!(taken(&mut net, w(1)).is_empty() && taken(&mut net, w(0)).is_empty(), "it waits");
    net.run(3 * SECOND);
    assert_eq!(drops(&net, 0, DropReason::HoldQueue), 1);
    let answers = taken(&mut net, w(0));
    assert_eq!(answers.len(), 1);
    assert_eq!(crate::common::lab::icmp_of(&answers[0]), Some((1, 3)), "address unreachable");
}

/// 40 datagrams of 1,000 bytes as one super-packet, as a workload's kernel hands it over.
fn super_packet(from: W, to: W) -> (VirtioNetHdr, Vec<u8>) {
    let vnet = VirtioNetHdr {
        flags: NEEDS_CSUM,
        gso_type: GSO_UDP_L4,
        hdr_len: 48,
        gso_size: 1_000,
        csum_start: 40,
        csum_offset: 6,
    };
    (vnet, udp(from.v6(), to.v6(), (9, 9), &[5; 40_000]))
}

#[test]
fn a_super_packet_travels_whole_over_one_direct_stream_under_its_network_s_handle() {
    let mut net = Net::over_streams(2, &[(1, 0)]);
    net.run(SETTLE);
    Lab::new(&mut net, 2);
    for network in [0, 1] {
        let (from, to) = (W { network, ..w(0) }, W { network, ..w(1) });
        let (vnet, packet) = super_packet(from, to);
        send_with(&mut net, from, vnet, &packet);
        net.run(Duration::from_millis(20));
        let out = taken_with(&mut net, to);
        assert_eq!(out.len(), 1);
        assert_eq!((out[0].0.gso_type, out[0].0.gso_size, out[0].1.len()), (GSO_UDP_L4, 1_000, 40_048));
    }
    assert!(net.workloads.iter().all(Vec::is_empty));
}

#[test]
fn over_datagrams_it_is_cut_and_merged_again_for_a_device_that_takes_it() {
    for (offloads, frames) in [(Offloads::ALL, 1), (Offloads::PLAIN, 40)] {
        let mut net = line(2);
        // 1,000 bytes in UDP, IPv6 and a record: what was sent together arrives so.
        net.batched = Some(1_084);
        Lab::new(&mut net, 1);
        attach_with(&mut net, w(1), offloads, MTU);
        let (vnet, packet) = super_packet(w(0), w(1));
        send_with(&mut net, w(0), vnet, &packet);
        net.run(Duration::from_millis(20));
        let out = taken_with(&mut net, w(1));
        assert_eq!(out.len(), frames, "{offloads:?}");
        let payload: usize = out.iter().map(|(_, packet)| packet.len() - 48).sum();
        assert_eq!(payload, 40_000);
    }
}

#[test]
fn two_workloads_of_one_node_reach_each_other_without_the_mesh() {
    let mut net = Net::new(1, &[]);
    let mut lab = Lab::new(&mut net, 1);
    let (a, b) = (w(0), W { number: 3, ..w(0) });
    lab.workloads.push(b);
    lab.publish(&mut net);
    attach(&mut net, b);
    let (request, reply) = (echo(a.v4(), b.v4(), false), echo(b.v4(), a.v4(), true));
    send(&mut net, a, &request);
    assert_eq!(taken(&mut net, b), [request]);
    send(&mut net, b, &reply);
    assert_eq!(taken(&mut net, a), [reply]);
    let (vnet, packet) = super_packet(a, b);
    send_with(&mut net, a, vnet, &packet);
    let out = taken_with(&mut net, b);
    assert_eq!(out.len(), 1, "a super-packet stays one");
    assert_eq!((out[0].0.gso_type, out[0].0.gso_size), (GSO_UDP_L4, 1_000));
    attach_with(&mut net, b, Offloads::PLAIN, MTU);
    send_with(&mut net, a, vnet, &packet);
    let out = taken_with(&mut net, b);
    assert_eq!(out.len(), 40, "unless the device takes none");
    assert!(out.iter().all(|(vnet, _)| vnet.gso_type == GSO_NONE && vnet.flags == 0));
    let checks =
        |packet: &Vec<u8>| sinew_wire::ip::PacketInfo::parse(packet).is_ok_and(|i| i.checksum_ok(packet));
    assert!(out.iter().all(|(_, packet)| checks(packet)), "and then its checksums are whole");
}

#[test]
fn a_device_taken_out_gets_nothing_and_its_number_may_be_used_again() {
    let mut net = line(2);
    Lab::new(&mut net, 1);
    let (request, now) = (echo(w(0).v4(), w(1).v4(), false), net.now);
    net.nodes[1].remove_interface(w(1).id(), now);
    send(&mut net, w(0), &request);
    net.run(SECOND);
    assert!(taken(&mut net, w(1)).is_empty());
    assert_eq!(drops(&net, 1, DropReason::NotForUs), 1);
    send(&mut net, w(1), &echo(w(1).v4(), w(0).v4(), false));
    assert_eq!(drops(&net, 1, DropReason::NoNetwork), 1, "nor may anything come from there");
    attach(&mut net, w(1));
    send(&mut net, w(0), &request);
    net.run(SECOND);
    assert_eq!(taken(&mut net, w(1)), [request]);
}
