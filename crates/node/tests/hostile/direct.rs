//! Direct paths: what a peer can make a node send to others (protocol A10.4).

use std::net::SocketAddr;
use std::time::Duration;

use sinew_node::Endpoints;

use crate::common::{Flying, Net, endpoint, udp_packet};

/// 0 – 1 – 2, where nothing passes between 0 and 2 but through 1, and both ends look for more.
fn line(victims: &[SocketAddr]) -> Net {
    let mut net = Net::with(3, &[(0, 1), (1, 2)], |_, mut config| {
        config.direct = true;
        config
    });
    let apart = |flying: &Flying| flying.from + flying.to == 2 && flying.from != 1;
    net.tap = Some(Box::new(move |flying| if apart(&flying) { vec![] } else { vec![flying] }));
    let liar: Vec<_> = victims.iter().map(|&victim| (victim, 24)).collect();
    net.nodes[0].set_endpoints(Endpoints { local: liar, mapped: victims.to_vec() });
    net.nodes[2].set_endpoints(Endpoints { local: vec![(endpoint(2), 24)], mapped: Vec::new() });
    net.run(Duration::from_secs(3));
    net
}

/// Talks from 0 to 2 for so many seconds.
fn talk(net: &mut Net, seconds: u64) {
    let (src, dst) = (net.ids[0].address(), net.ids[2].address());
    let packet = udp_packet(src, dst, 9, &[7; 100]);
    for _ in 0..seconds * 5 {
        net.send(0, &packet);
        net.run(Duration::from_millis(200));
    }
}

#[test]
fn a_peer_that_names_others_as_its_own_addresses_cannot_have_them_flooded() {
    let victim = |port: u16| SocketAddr::from(([203, 0, 113, 9], port));
    let victims: Vec<_> = (0..8).map(|n| victim(5000 + n)).collect();
    let mut net = line(&victims);
    talk(&mut net, 60);
    let hits: Vec<_> = net.outside.iter().filter(|flying| flying.from == 2).collect();
    assert!(!hits.is_empty(), "it does try what it is told");
    assert!(hits.iter().all(|hit| hit.bytes.len() <= 45), "only the shortest probes");
    // Rounds at 1, 5, 13 and 29 s; 5 knocks each at no more than 8 places.
    assert!(hits.len() <= 5 * 8 * 5, "{}", hits.len());
}

#[test]
fn places_that_cannot_be_a_nodes_are_not_tried_at_all() {
    let named =
        ["127.0.0.9:7463", "224.0.0.9:7463", "255.255.255.255:7463", "203.0.113.9:53", "192.168.7.9:7463"];
    let victims: Vec<SocketAddr> = named.iter().map(|text| text.parse().expect("an address")).collect();
    let mut net = line(&victims);
    talk(&mut net, 20);
    assert!(net.outside.is_empty(), "{:?}", net.outside.first().map(|flying| flying.bytes.len()));
}
