//! Packets between nodes: straight, over relays, and what is refused on the way.

mod common;

use std::time::Duration;

use common::{Net, udp_packet};
use sinew_types::DropReason;

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
fn an_idle_line_stays_quiet() {
    let mut net = line(5);
    let packet = udp_packet(net.address(0), net.address(4), 9, b"far");
    net.send(0, &packet);
    net.run(Duration::from_secs(60));
    assert!(net.steps < 6_000, "{} steps in a minute of near silence", net.steps);
}
