//! What operators let a node send: to a peer, for others, and what no limit may touch.

mod common;

use std::time::Duration;

use common::{Net, udp_packet};
use sinew_node::{Config, Limits};
use sinew_types::{DropReason, InterfaceId, Rate};
use sinew_wire::virtio::{GSO_UDP_L4, NEEDS_CSUM, VirtioNetHdr};

const SETTLE: Duration = Duration::from_secs(5);
/// A datagram's payload, and how many such fit into the large part of the least bucket (48 KiB), with
/// every header of a direct record and with those of a relay.
const LOAD: usize = 1_000;
const DIRECT: usize = 45;
const RELAYED: usize = 42;

fn rate(text: &str) -> Option<Rate> {
    text.parse().ok()
}

/// A line of so many nodes, of which number 1 has these limits; everybody has talked to everybody.
fn line(count: usize, limits: &Limits, streams: bool) -> Net {
    let links: Vec<_> = (1..count).map(|i| (i, i - 1)).collect();
    let adjust = |i: usize, config: Config| match i {
        1 => Config { limits: limits.clone(), ..config },
        _ => config,
    };
    let mut net = if streams {
        Net::over_streams_with(count, &links, adjust)
    } else {
        Net::with(count, &links, adjust)
    };
    let settled =
        net.run_until(SETTLE, |net| net.nodes.iter().all(|n| n.status(net.now).routes == count - 1));
    assert!(settled, "{:?}", net.nodes.iter().map(|n| n.status(net.now)).collect::<Vec<_>>());
    for from in 0..count {
        for to in (0..count).filter(|to| *to != from) {
            arrived(&mut net, from, to, 1, 8);
        }
    }
    // The buckets fill again.
    net.run(SETTLE);
    net
}

/// Sends `count` datagrams at one moment; how many arrive.
fn arrived(net: &mut Net, from: usize, to: usize, count: usize, load: usize) -> usize {
    let packet = udp_packet(net.address(from), net.address(to), 9, &vec![7; load]);
    net.received[to].clear();
    for _ in 0..count {
        net.send(from, &packet);
    }
    net.run(Duration::from_millis(100));
    net.received[to].iter().filter(|received| **received == packet).count()
}

fn drops(net: &Net) -> Vec<[u64; 2]> {
    let of = |reason| move |node: &sinew_node::Node| node.drops().get(reason);
    let (peer, transit) = (of(DropReason::PeerLimit), of(DropReason::TransitLimit));
    net.nodes.iter().map(|node| [peer(node), transit(node)]).collect()
}

#[test]
fn a_peers_limit_counts_what_is_sent_to_it_own_and_others_and_nothing_else() {
    let net = Net::new(3, &[]);
    let limits = Limits { peers: [(net.ids[2], rate("1 Mbit/s").unwrap())].into(), ..Limits::default() };
    let mut net = line(3, &limits, false);
    assert_eq!(arrived(&mut net, 1, 2, 200, LOAD), DIRECT);
    net.run(SETTLE);
    assert_eq!(arrived(&mut net, 0, 2, 200, LOAD), RELAYED);
    assert_eq!(drops(&net), [[0, 0], [400 - (DIRECT + RELAYED) as u64, 0], [0, 0]]);
    // The other peer, and the other direction.
    for (from, to) in [(1, 0), (2, 1), (2, 0), (0, 1)] {
        assert_eq!(arrived(&mut net, from, to, 200, LOAD), 200, "{from} to {to}");
    }
}

#[test]
fn every_peer_without_a_limit_of_its_own_has_that_of_all() {
    let ids = Net::new(3, &[]).ids;
    let limits = Limits {
        peers: [(ids[2], rate("1 Gbit/s").unwrap())].into(),
        other_peers: rate("1 Mbit/s"),
        transit: None,
    };
    let mut net = line(3, &limits, false);
    assert_eq!(arrived(&mut net, 1, 0, 200, LOAD), DIRECT);
    assert_eq!(arrived(&mut net, 1, 2, 200, LOAD), 200);
    let mut shown: Vec<_> =
        net.nodes[1].peers(net.now).into_iter().map(|peer| (peer.node, peer.limit)).collect();
    let mut expected = vec![(ids[0], rate("1 Mbit/s")), (ids[2], rate("1 Gbit/s"))];
    expected.sort();
    shown.sort();
    assert_eq!(shown, expected);
}

#[test]
fn what_is_carried_for_others_has_a_limit_in_common_and_own_traffic_none() {
    let mut net = line(3, &Limits { transit: rate("1 Mbit/s"), ..Limits::default() }, false);
    assert_eq!(arrived(&mut net, 0, 2, 200, LOAD), RELAYED);
    let back = arrived(&mut net, 2, 0, 200, LOAD);
    assert!((10..=12).contains(&back), "100 ms of it: {back}");
    for (from, to) in [(1, 0), (1, 2), (0, 1), (2, 1)] {
        assert_eq!(arrived(&mut net, from, to, 200, LOAD), 200, "{from} to {to}");
    }
    let refused = drops(&net);
    assert!(refused[1][1] > 0 && refused[1][0] == 0, "{refused:?}");
    assert_eq!((refused[0], refused[2]), ([0, 0], [0, 0]));
}

#[test]
fn a_flood_into_a_limit_ends_neither_links_nor_sessions_and_small_packets_pass() {
    let limits = Limits { transit: rate("64 kbit/s"), other_peers: rate("64 kbit/s"), ..Limits::default() };
    let mut net = line(3, &limits, false);
    for _ in 0..60 {
        arrived(&mut net, 0, 2, 50, LOAD);
        arrived(&mut net, 1, 2, 50, LOAD);
    }
    assert_eq!(arrived(&mut net, 0, 2, 5, 20), 5, "what bulk has to leave");
    let status = net.nodes[1].status(net.now);
    assert_eq!((status.peers_up, status.routes), (2, 2));
}

#[test]
fn a_limit_is_changed_and_lifted_while_the_node_runs() {
    let mut net = line(2, &Limits::default(), false);
    assert_eq!(arrived(&mut net, 1, 0, 200, LOAD), 200);
    let now = net.now;
    net.nodes[1].set_limits(Limits { other_peers: rate("1 Mbit/s"), ..Limits::default() }, now);
    assert_eq!(arrived(&mut net, 1, 0, 200, LOAD), DIRECT);
    let now = net.now;
    net.nodes[1].set_limits(Limits::default(), now);
    assert_eq!(arrived(&mut net, 1, 0, 200, LOAD), 200);
}

#[test]
fn of_a_super_packet_that_is_too_much_a_part_arrives_also_over_a_stream() {
    for streams in [false, true] {
        let mut net = line(2, &Limits { other_peers: rate("1 Mbit/s"), ..Limits::default() }, streams);
        let vnet = VirtioNetHdr {
            flags: NEEDS_CSUM,
            gso_type: GSO_UDP_L4,
            hdr_len: 48,
            gso_size: LOAD as u16,
            csum_start: 40,
            csum_offset: 6,
        };
        let packet = udp_packet(net.address(1), net.address(0), 9, &[5; 40_000]);
        for sent in [false, true] {
            net.received[0].clear();
            let now = net.now;
            net.nodes[1].handle_tun(InterfaceId::NODE, vnet, &mut packet.clone(), now);
            net.drain(1);
            net.run(Duration::from_millis(10));
            let bytes: usize = net.received[0].iter().map(Vec::len).sum();
            if sent {
                assert!((4_000..10_000).contains(&bytes), "streams {streams}: {bytes} bytes of the second");
            } else {
                assert!(bytes >= 40_000, "streams {streams}: {bytes} bytes of the first");
            }
        }
        let refused = drops(&net)[1][0];
        assert!((30..36).contains(&refused), "streams {streams}: {refused} segments");
    }
}
