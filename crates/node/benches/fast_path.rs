//! What one packet costs inside a node, by batch size: out (cut, sealed), in (opened, merged), and
//! through a relay. Nanoseconds and allocations are per packet where divan shows items.
//!
//! `cargo bench -p sinew-node`. Kernel and carriers are not part of it: see `cargo bench-net`.

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::Duration;

use common::lab::{self, Lab, w};
use common::{Net, path, udp_packet};
use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher};
use sinew_node::overlay::{ProtocolSpec, Rule, Selector};
use sinew_types::InterfaceId;
use sinew_wire::virtio::{GSO_UDP_L4, NEEDS_CSUM, VirtioNetHdr};

#[global_allocator]
static ALLOC: AllocProfiler = AllocProfiler::system();

/// Packets handed over together.
const BATCHES: [usize; 3] = [1, 32, 128];
/// Payload of each, bytes: full-size packets of a relayed path.
const PAYLOAD: usize = 1_250;
/// Most packets of one super-packet.
const SUPER: usize = 44;

fn main() {
    divan::main();
}

/// A line of nodes that know each other, with a session from first to last.
fn line(count: usize) -> Net {
    let links: Vec<_> = (1..count).map(|i| (i, i - 1)).collect();
    let mut net = Net::new(count, &links);
    net.run(Duration::from_secs(12));
    let knock = udp_packet(net.address(0), net.address(count - 1), 9, b"knock");
    net.send(0, &knock);
    net.run(Duration::from_secs(1));
    assert_eq!(net.received[count - 1].len(), 1, "the line stands");
    net
}

/// `count` datagrams to the last node, as super-packets from the kernel.
fn frames(net: &Net, count: usize) -> Vec<(VirtioNetHdr, Vec<u8>)> {
    let last = net.nodes.len() - 1;
    let mut left = count;
    let mut frames = Vec::new();
    while left > 0 {
        let now = left.min(SUPER);
        left -= now;
        let packet = udp_packet(net.address(0), net.address(last), 9, &vec![7; PAYLOAD * now]);
        let vnet = VirtioNetHdr {
            flags: NEEDS_CSUM,
            gso_type: if now > 1 { GSO_UDP_L4 } else { 0 },
            hdr_len: 48,
            gso_size: if now > 1 { PAYLOAD as u16 } else { 0 },
            csum_start: 40,
            csum_offset: 6,
        };
        frames.push((vnet, packet));
    }
    frames
}

/// What node `at` sends for these frames or datagrams: each batch with its datagrams' length.
fn sent(net: &mut Net, at: usize) -> Vec<(Vec<u8>, usize)> {
    let mut out = Vec::new();
    while let Some(transmit) = net.nodes[at].poll_transmit() {
        out.push((transmit.bytes.to_vec(), transmit.segment));
    }
    out
}

fn hand_out(net: &mut Net, frames: &mut [(VirtioNetHdr, Vec<u8>)]) {
    for (vnet, packet) in frames {
        net.nodes[0].handle_tun(InterfaceId::NODE, *vnet, packet, net.now);
    }
}

fn hand_in(net: &mut Net, at: usize, from: usize, batches: &mut [(Vec<u8>, usize)]) {
    for (bytes, stride) in batches {
        net.nodes[at].handle_datagrams(path(from), 0, bytes, *stride, net.now);
    }
}

/// From the TUN to sealed datagrams, straight (2 nodes) or for a relay (3).
#[divan::bench(args = BATCHES, consts = [2, 3])]
fn out<const NODES: usize>(bencher: Bencher<'_, '_>, batch: usize) {
    let mut net = line(NODES);
    let frames = frames(&net, batch);
    bencher.counter(ItemsCount::new(batch)).with_inputs(|| frames.clone()).bench_local_refs(|frames| {
        hand_out(&mut net, frames);
        while net.nodes[0].poll_transmit().is_some() {}
    });
}

/// From sealed datagrams to the TUN, from a peer (2 nodes) or from behind a relay (3).
#[divan::bench(args = BATCHES, consts = [2, 3])]
fn inward<const NODES: usize>(bencher: Bencher<'_, '_>, batch: usize) {
    let net = std::cell::RefCell::new(line(NODES));
    let frames = frames(&net.borrow(), batch);
    let arriving = || {
        let net = &mut *net.borrow_mut();
        hand_out(net, &mut frames.clone());
        let mut batches = sent(net, 0);
        for hop in 1..NODES - 1 {
            hand_in(net, hop, hop - 1, &mut batches);
            batches = sent(net, hop);
        }
        batches
    };
    bencher.counter(ItemsCount::new(batch)).with_inputs(arriving).bench_local_refs(|batches| {
        let net = &mut *net.borrow_mut();
        hand_in(net, NODES - 1, NODES - 2, batches);
        while net.nodes[NODES - 1].poll_tun().is_some() {}
    });
}

/// What the sender of [`network_out`] and the receiver of [`network_inward`] see: two nodes with one
/// network, and a policy of so many rules, the last of which allows the flow.
fn network(rules: u16) -> Net {
    let mut net = line(2);
    let mut lab = Lab::new(&mut net, 1);
    let rule = |port| Rule {
        from: vec![Selector::Any],
        to: vec![Selector::Any],
        protocol: ProtocolSpec::Udp,
        ports: vec![(port, port)],
        allow: true,
    };
    lab.set_policy(&mut net, (0..rules).map(|n| rule(9 + rules - 1 - n)).collect(), false);
    net
}

/// `count` datagrams between workloads, as super-packets.
fn network_frames(count: usize) -> Vec<(VirtioNetHdr, Vec<u8>)> {
    let vnet = |now: usize| VirtioNetHdr {
        flags: NEEDS_CSUM,
        gso_type: if now > 1 { GSO_UDP_L4 } else { 0 },
        hdr_len: 28,
        gso_size: if now > 1 { PAYLOAD as u16 } else { 0 },
        csum_start: 20,
        csum_offset: 6,
    };
    let sizes = (0..count.div_ceil(SUPER)).map(|n| (count - n * SUPER).min(SUPER));
    sizes.map(|now| (vnet(now), lab::udp(w(0).v4(), w(1).v4(), (9, 9), &vec![7; PAYLOAD * now]))).collect()
}

fn network_hand_out(net: &mut Net, frames: &mut [(VirtioNetHdr, Vec<u8>)]) {
    for (vnet, packet) in frames {
        net.nodes[0].handle_tun(w(0).id(), *vnet, packet, net.now);
    }
}

/// As [`out`] to a peer, from a workload; with a policy of one rule, or of a hundred.
#[divan::bench(args = BATCHES, consts = [1, 100])]
fn network_out<const RULES: u16>(bencher: Bencher<'_, '_>, batch: usize) {
    let mut net = network(RULES);
    let frames = network_frames(batch);
    bencher.counter(ItemsCount::new(batch)).with_inputs(|| frames.clone()).bench_local_refs(|frames| {
        network_hand_out(&mut net, frames);
        while net.nodes[0].poll_transmit().is_some() {}
    });
}

/// As [`inward`] from a peer, to a workload.
#[divan::bench(args = BATCHES, consts = [1, 100])]
fn network_inward<const RULES: u16>(bencher: Bencher<'_, '_>, batch: usize) {
    let net = std::cell::RefCell::new(network(RULES));
    let frames = network_frames(batch);
    let arriving = || {
        let net = &mut *net.borrow_mut();
        network_hand_out(net, &mut frames.clone());
        sent(net, 0)
    };
    bencher.counter(ItemsCount::new(batch)).with_inputs(arriving).bench_local_refs(|batches| {
        let net = &mut *net.borrow_mut();
        hand_in(net, 1, 0, batches);
        while net.nodes[1].poll_tun().is_some() {}
    });
}

/// Opened, judged, sealed again by a node in the middle.
#[divan::bench(args = BATCHES)]
fn forward(bencher: Bencher<'_, '_>, batch: usize) {
    let net = std::cell::RefCell::new(line(3));
    let frames = frames(&net.borrow(), batch);
    let arriving = || {
        let net = &mut *net.borrow_mut();
        hand_out(net, &mut frames.clone());
        sent(net, 0)
    };
    bencher.counter(ItemsCount::new(batch)).with_inputs(arriving).bench_local_refs(|batches| {
        let net = &mut *net.borrow_mut();
        for (bytes, stride) in batches {
            divan::black_box(net.nodes[1].handle_batch(path(0), 0, bytes, *stride, net.now));
        }
        while net.nodes[1].poll_transmit().is_some() {}
    });
}
