//! A rekey in the middle of traffic loses no packet, straight or over a relay.

mod common;

use std::time::Duration;

use common::{Net, udp_packet};

const EVERY: Duration = Duration::from_millis(5);
/// Ten minutes: at least four rekeys of each session (protocol A3: 120 s).
const PACKETS: u32 = 120_000;

#[test]
fn ten_minutes_of_traffic_both_ways_lose_nothing_while_keys_change() {
    for count in [2, 3] {
        let links: Vec<_> = (1..count).map(|i| (i, i - 1)).collect();
        let mut net = Net::new(count, &links);
        net.run(Duration::from_secs(3));
        let last = count - 1;
        let ends = [(0, last), (last, 0)];
        let packets = ends.map(|(from, to)| udp_packet(net.address(from), net.address(to), 9, &[7; 200]));
        for ((from, _), packet) in ends.iter().zip(&packets) {
            net.send(*from, packet);
            net.run(Duration::from_secs(1));
        }
        let (mut arrived, mut rekeys, mut age) = ([0, 0], 0, Duration::ZERO);
        net.received.iter_mut().for_each(Vec::clear);
        for _ in 0..PACKETS {
            for ((from, _), packet) in ends.iter().zip(&packets) {
                net.send(*from, packet);
            }
            net.steps = 0;
            net.run(EVERY);
            for (counted, (_, to)) in arrived.iter_mut().zip(ends) {
                *counted += net.received[to].len();
            }
            net.received.iter_mut().for_each(Vec::clear);
            net.headers.iter_mut().for_each(Vec::clear);
            let session = net.nodes[0].sessions(net.now).into_iter().find(|s| s.node == net.ids[last]);
            let now = session.expect("the session stands").rekey_age;
            rekeys += u32::from(now < age);
            age = now;
        }
        // What is on its way at the end has not arrived yet.
        assert!(arrived.iter().all(|&n| n + 2 >= PACKETS as usize), "{count} nodes: {arrived:?}");
        assert!(rekeys >= 4, "{count} nodes: {rekeys} rekeys");
    }
}
