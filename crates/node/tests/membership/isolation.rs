//! Nobody speaks for another: not a workload, not a member, not a stranger, not another network.

use std::net::IpAddr;
use std::time::Duration;

use sinew_types::DropReason;

use crate::common::Net;
use crate::common::lab::{Lab, W, attach, drops, echo, ip, network_id, send, slot, taken, udp, w};

const SETTLE: Duration = Duration::from_secs(12);
const SECOND: Duration = Duration::from_secs(1);

fn pair() -> Net {
    let mut net = Net::new(2, &[(1, 0)]);
    net.run(SETTLE);
    net
}

#[test]
fn two_networks_with_the_same_addresses_on_the_same_nodes_never_mix() {
    let mut net = pair();
    Lab::new(&mut net, 2);
    let (red, blue) = (w(0), W { network: 1, ..w(0) });
    let (red_far, blue_far) = (w(1), W { network: 1, ..w(1) });
    assert_eq!((red.v4(), red_far.v4()), (blue.v4(), blue_far.v4()));
    // The same addresses and ports at once: only the payload tells them apart.
    for n in 0..20u8 {
        send(&mut net, red, &udp(red.v4(), red_far.v4(), (9, 9), &[b'r', n]));
        send(&mut net, blue, &udp(blue.v4(), blue_far.v4(), (9, 9), &[b'b', n]));
    }
    net.run(SECOND);
    for (at, mark) in [(red_far, b'r'), (blue_far, b'b')] {
        let all: Vec<_> = taken(&mut net, at).concat();
        assert_eq!(all.iter().filter(|&&byte| byte == mark).count(), 20);
        let other = if mark == b'r' { b'b' } else { b'r' };
        assert!(!all.contains(&other), "the other network's packets came out");
    }
    // From one into the other, by addresses that only the other has.
    send(&mut net, red, &echo(red.v6(), blue_far.v6(), false));
    send(&mut net, red, &echo(red.v6(), blue.v6(), false));
    net.run(SECOND);
    assert!(taken(&mut net, blue_far).is_empty() && taken(&mut net, blue).is_empty());
    assert_eq!(drops(&net, 0, DropReason::NoPlace), 2);
}

#[test]
fn a_workload_sends_from_its_own_addresses_only() {
    let mut net = pair();
    let mut lab = Lab::new(&mut net, 1);
    let neighbour = W { number: 3, ..w(0) };
    lab.workloads.push(neighbour);
    lab.publish(&mut net);
    attach(&mut net, neighbour);
    let (to4, to6) = (w(1).v4(), w(1).v6());
    let mesh = net.address(0).to_ipv6();
    let spoofed = [
        echo(neighbour.v4(), to4, false),
        echo(neighbour.v6(), to6, false),
        echo(to6, w(0).v6(), false),
        echo(std::net::Ipv4Addr::new(10, 7, 0, 99), to4, false),
        echo(std::net::Ipv4Addr::new(203, 0, 113, 7), to4, false),
        echo(mesh, to6, false),
        echo(mesh, net.address(1).to_ipv6(), false),
        echo(std::net::Ipv6Addr::UNSPECIFIED, to6, false),
    ];
    for (n, packet) in spoofed.iter().enumerate() {
        send(&mut net, w(0), packet);
        assert_eq!(drops(&net, 0, DropReason::NotOurSource), n as u64 + 1, "{packet:02x?}");
    }
    net.run(SECOND);
    assert!(net.workloads.iter().all(Vec::is_empty) && net.received.iter().all(Vec::is_empty));
}

#[test]
fn chatter_of_one_link_and_groups_stay_on_the_device() {
    let mut net = pair();
    Lab::new(&mut net, 1);
    let (own4, own6) = (IpAddr::V4(w(0).v4()), IpAddr::V6(w(0).v6()));
    let link: IpAddr = "fe80::7".parse().expect("an address");
    let solicitation = [133, 0, 0, 0, 0, 0, 0, 0];
    let neighbour = [135, 0, 0, 0, 0, 0, 0, 0];
    let chatter = [
        (link, "ff02::2", 58, &solicitation[..]),
        (own6, "ff02::1:ff00:2", 58, &neighbour[..]),
        (link, "fdaa:0:0:2::2", 58, &neighbour[..]),
        (own6, "fe80::9", 17, &[0, 9, 0, 9, 0, 8, 0, 0][..]),
        (own6, "::1", 17, &[0, 9, 0, 9, 0, 8, 0, 0]),
        (own4, "224.0.0.251", 17, &[0, 9, 0, 9, 0, 8, 0, 0]),
        (own4, "255.255.255.255", 17, &[0, 9, 0, 9, 0, 8, 0, 0]),
        (own4, "169.254.1.1", 17, &[0, 9, 0, 9, 0, 8, 0, 0]),
        (own4, "0.0.0.0", 17, &[0, 9, 0, 9, 0, 8, 0, 0]),
    ];
    for (n, (src, dst, protocol, l4)) in chatter.into_iter().enumerate() {
        send(&mut net, w(0), &ip(src, dst.parse().expect("an address"), protocol, l4));
        assert_eq!(drops(&net, 0, DropReason::NotUnicast), n as u64 + 1, "{src} to {dst}");
    }
    net.run(SECOND);
    assert!(net.workloads.iter().all(Vec::is_empty), "and nobody is told");
}

#[test]
fn the_ends_of_a_subnet_are_no_hosts() {
    let mut net = pair();
    Lab::new(&mut net, 1);
    for last in [0, 255] {
        let dst = std::net::Ipv4Addr::new(10, 7, 1, last);
        send(&mut net, w(0), &echo(w(0).v4(), dst, false));
    }
    assert_eq!(drops(&net, 0, DropReason::NoPlace), 2);
}

/// Node 0's word against node 1's: what node 0 believes is made up.
fn lies(net: &mut Net, lie: impl FnOnce(&mut Lab)) {
    let mut lab = Lab::new(net, 1);
    lie(&mut lab);
    let snapshot = lab.snapshot(0);
    net.nodes[0].publish_networks(snapshot.into());
}

#[test]
fn a_member_s_node_cannot_send_from_another_member_s_subnet() {
    let mut net = Net::new(3, &[(1, 0), (2, 1), (2, 0)]);
    net.run(SETTLE);
    // Node 0 takes a workload of node 2 for its own.
    let stolen = w(2);
    lies(&mut net, |lab| lab.addrs[2] = lab.addrs[0]);
    let interface = net.nodes[2].interfaces()[0].1;
    let now = net.now;
    net.nodes[0].add_interface(stolen.id(), interface, now);
    for (n, packet) in
        [echo(stolen.v4(), w(1).v4(), false), echo(stolen.v6(), w(1).v6(), false)].iter().enumerate()
    {
        let now = net.now;
        net.nodes[0].handle_tun(stolen.id(), Default::default(), &mut packet.clone(), now);
        net.drain(0);
        net.run(SECOND);
        assert_eq!(drops(&net, 1, DropReason::NotPlaced), n as u64 + 1);
    }
    assert!(taken(&mut net, w(1)).is_empty());
}

#[test]
fn a_stranger_with_a_session_and_a_guessed_handle_is_not_heard() {
    let mut net = pair();
    let mut lab = Lab::new(&mut net, 1);
    lab.strangers = vec![0];
    let honest = lab.snapshot(1);
    net.nodes[1].publish_networks(honest.into());
    // Node 0 goes on as if it were a member, under its own handle and under node 1's.
    for handle in [slot(0, 0), slot(0, 1)] {
        let mut made_up = sinew_node::overlay::Snapshot::default();
        let mut view = Lab { strangers: vec![], ..lab.clone() }.view(0, 0);
        view.slot = handle;
        made_up.insert(view.into());
        made_up.bind_outgoing(lab.addrs[1], handle);
        net.nodes[0].publish_networks(made_up.into());
        let before = drops(&net, 1, DropReason::NotBound);
        send(&mut net, w(0), &echo(w(0).v4(), w(1).v4(), false));
        net.run(SECOND);
        assert_eq!(drops(&net, 1, DropReason::NotBound), before + 1);
    }
    assert!(taken(&mut net, w(1)).is_empty());
}

#[test]
fn a_handle_counts_in_its_own_session_only() {
    let mut net = Net::new(3, &[(1, 0), (2, 1)]);
    net.run(SETTLE);
    let lab = Lab::new(&mut net, 1);
    // Node 2 uses the handle that node 0 agreed on with node 1.
    let mut made_up = sinew_node::overlay::Snapshot::default();
    let mut view = lab.view(0, 2);
    view.slot = slot(0, 0);
    made_up.insert(view.into());
    made_up.bind_outgoing(lab.addrs[1], slot(0, 0));
    net.nodes[2].publish_networks(made_up.into());
    send(&mut net, w(2), &echo(w(2).v4(), w(1).v4(), false));
    net.run(SECOND);
    assert!(taken(&mut net, w(1)).is_empty());
    assert_eq!(drops(&net, 1, DropReason::NotBound), 1);
}

#[test]
fn a_member_that_is_revoked_is_cut_with_its_next_packet() {
    let mut net = pair();
    let mut lab = Lab::new(&mut net, 1);
    let packet = udp(w(0).v4(), w(1).v4(), (9, 9), b"x");
    send(&mut net, w(0), &packet);
    net.run(SECOND);
    assert_eq!(taken(&mut net, w(1)).len(), 1);
    // One that is under way when the news comes.
    send(&mut net, w(0), &packet);
    lab.strangers = vec![0];
    let news = lab.snapshot(1);
    net.nodes[1].publish_networks(news.into());
    net.run(SECOND);
    assert!(taken(&mut net, w(1)).is_empty());
    assert_eq!(drops(&net, 1, DropReason::NotBound), 1);
    // And nothing goes there.
    send(&mut net, w(1), &udp(w(1).v4(), w(0).v4(), (9, 9), b"x"));
    assert_eq!(drops(&net, 1, DropReason::NoPlace), 1);
}

#[test]
fn a_workload_that_moved_away_is_neither_heard_nor_served_where_it_was() {
    let mut net = Net::new(3, &[(1, 0), (2, 1), (2, 0)]);
    net.run(SETTLE);
    let lab = Lab::new(&mut net, 1);
    // By the newest documents the workload of node 0 lives on node 2; its old device is still there.
    let moved = w(0);
    let publish = |net: &mut Net, node: usize| {
        let mut view = lab.view(0, node);
        for address in [IpAddr::V4(moved.v4()), moved.v6().into()] {
            view.places
                .insert(address, sinew_node::overlay::Place { node: lab.addrs[2], ..lab.place(moved) });
        }
        let mut snapshot = lab.snapshot(node);
        snapshot.insert(view.into());
        net.nodes[node].publish_networks(snapshot.into());
    };
    (0..3).for_each(|node| publish(&mut net, node));
    send(&mut net, moved, &echo(moved.v4(), w(1).v4(), false));
    assert_eq!(drops(&net, 0, DropReason::NotPlaced), 1, "the old device is dumb");
    // Who has not heard of it sends to the old place, where nobody takes it.
    let stale = lab.snapshot(1);
    net.nodes[1].publish_networks(stale.into());
    send(&mut net, w(1), &echo(w(1).v4(), moved.v4(), false));
    net.run(SECOND);
    assert!(taken(&mut net, moved).is_empty());
    assert_eq!(drops(&net, 0, DropReason::NotForUs), 1);
    publish(&mut net, 1);
    let interface = net.nodes[0].interfaces()[0].1;
    let now = net.now;
    net.nodes[2].add_interface(moved.id(), interface, now);
    send(&mut net, w(1), &echo(w(1).v4(), moved.v4(), false));
    net.run(SECOND);
    assert!(taken(&mut net, moved).is_empty());
    assert_eq!(net.workloads[2].len(), 1, "it came to the new place");
}

#[test]
fn a_device_of_a_network_that_this_node_does_not_know_is_dumb() {
    let mut net = pair();
    let lab = Lab::new(&mut net, 1);
    assert_eq!(network_id(0), lab.view(0, 0).id);
    net.nodes[0].publish_networks(sinew_node::overlay::Snapshot::default().into());
    send(&mut net, w(0), &echo(w(0).v4(), w(1).v4(), false));
    assert_eq!(drops(&net, 0, DropReason::NoNetwork), 1);
    let again = lab.snapshot(0);
    net.nodes[0].publish_networks(again.into());
    send(&mut net, w(0), &echo(w(0).v4(), w(1).v4(), false));
    net.run(SECOND);
    assert_eq!(taken(&mut net, w(1)).len(), 1, "and speaks again when the network is known again");
}
