//! Steady state allocates nothing: not for a packet out, not for one in, not for one passed on.

mod common;

use std::time::Duration;

use common::lab::{self, Lab, W, attach, w};
use common::{Net, path, udp_packet};
use sinew_node::overlay::{ProtocolSpec, Rule, Selector};
use sinew_node::{Config, Limits};
use sinew_types::{InterfaceId, Rate};
use sinew_wire::virtio::VirtioNetHdr;

/// Rounds before counting: buffers find their size, lanes and windows are made.
const WARM_UP: usize = 50;
const ROUNDS: usize = 200;
const PACKETS: usize = 16;

/// Datagrams back to back, in a buffer of its own that is used again.
type Batch = (Vec<u8>, usize);

fn take(net: &mut Net, at: usize, batch: &mut Batch) {
    batch.0.clear();
    while let Some(transmit) = net.nodes[at].poll_transmit() {
        batch.0.extend_from_slice(transmit.bytes);
        batch.1 = transmit.segment;
    }
}

/// One round: packets from the first node's kernel to the last one's; returns how many arrived.
fn round(net: &mut Net, packet: &[u8], scratch: &mut Vec<u8>, batch: &mut Batch) -> usize {
    for _ in 0..PACKETS {
        scratch.clear();
        scratch.extend_from_slice(packet);
        net.nodes[0].handle_tun(InterfaceId::NODE, VirtioNetHdr::default(), scratch, net.now);
    }
    let last = net.nodes.len() - 1;
    take(net, 0, batch);
    for at in 1..=last {
        let (bytes, stride) = &mut *batch;
        // A relay's batch goes on as it lies.
        if net.nodes[at].handle_batch(path(at - 1), 0, bytes, *stride, net.now).is_none() {
            take(net, at, batch);
        }
    }
    let mut bytes = 0;
    while let Some((_, frame)) = net.nodes[last].poll_tun() {
        bytes += frame.len();
    }
    bytes
}

/// As [`round`], between the workloads of the first and the last node; bytes that arrived.
fn network_round(net: &mut Net, packet: &[u8], scratch: &mut Vec<u8>, batch: &mut Batch) -> usize {
    let last = net.nodes.len() - 1;
    for _ in 0..PACKETS {
        scratch.clear();
        scratch.extend_from_slice(packet);
        net.nodes[0].handle_tun(w(0).id(), VirtioNetHdr::default(), scratch, net.now);
    }
    let mut bytes = 0;
    if last > 0 {
        take(net, 0, batch);
        let (datagrams, stride) = &mut *batch;
        net.nodes[last].handle_datagrams(path(0), 0, datagrams, *stride, net.now);
    }
    while let Some((_, frame)) = net.nodes[last].poll_tun() {
        bytes += frame.len();
    }
    bytes
}

#[test]
fn nor_does_one_of_a_private_network_between_nodes_or_within_one() {
    let rule = |allow, to| Rule {
        from: vec![Selector::Any],
        to: vec![to],
        protocol: ProtocolSpec::Udp,
        ports: vec![(9, 9)],
        allow,
    };
    let rules = [rule(false, Selector::Nothing), rule(true, Selector::Any)];
    for count in [1, 2] {
        let links: Vec<_> = (1..count).map(|i| (i, i - 1)).collect();
        let mut net = Net::new(count, &links);
        net.run(Duration::from_secs(12));
        let mut lab = Lab::new(&mut net, 2);
        let receiver = if count == 1 { W { number: 3, ..w(0) } } else { w(1) };
        if count == 1 {
            lab.workloads.push(receiver);
            attach(&mut net, receiver);
        }
        lab.set_policy(&mut net, rules.to_vec(), false);
        let packet = lab::udp(w(0).v4(), receiver.v4(), (9, 9), &[7; 1_000]);
        lab::send(&mut net, w(0), &packet);
        net.run(Duration::from_secs(1));
        assert_eq!(lab::taken(&mut net, receiver).len(), 1);
        let (mut scratch, mut batch) = (Vec::with_capacity(2_000), (Vec::with_capacity(64_000), 1));
        for _ in 0..WARM_UP {
            network_round(&mut net, &packet, &mut scratch, &mut batch);
        }
        let mut arrived = 0;
        let counted = allocation_counter::measure(|| {
            for _ in 0..ROUNDS {
                arrived += network_round(&mut net, &packet, &mut scratch, &mut batch);
            }
        });
        assert!(arrived > ROUNDS * PACKETS * 1_000, "the packets did arrive: {arrived} bytes");
        assert_eq!(counted.count_total, 0, "{count} nodes: {counted:?}");
    }
}

#[test]
fn no_packet_of_a_steady_flow_allocates_on_its_way_out_in_or_through_a_relay() {
    let limited = Limits { transit: Some(Rate::MAX), other_peers: Some(Rate::MAX), ..Limits::default() };
    for (count, limits) in [2, 3].into_iter().flat_map(|n| [(n, Limits::default()), (n, limited.clone())]) {
        let links: Vec<_> = (1..count).map(|i| (i, i - 1)).collect();
        let mut net = Net::with(count, &links, |_, config| Config { limits: limits.clone(), ..config });
        net.run(Duration::from_secs(12));
        let packet = udp_packet(net.address(0), net.address(count - 1), 9, &[7; 1_000]);
        net.send(0, &packet);
        net.run(Duration::from_secs(1));
        let (mut scratch, mut batch) = (Vec::with_capacity(2_000), (Vec::with_capacity(64_000), 1));
        for _ in 0..WARM_UP {
            round(&mut net, &packet, &mut scratch, &mut batch);
        }
        let mut arrived = 0;
        let counted = allocation_counter::measure(|| {
            for _ in 0..ROUNDS {
                arrived += round(&mut net, &packet, &mut scratch, &mut batch);
            }
        });
        assert!(arrived > ROUNDS * PACKETS * 1_000, "the packets did arrive: {arrived} bytes");
        assert_eq!(counted.count_total, 0, "{count} nodes: {counted:?}");
    }
}
