//! What a workload's kernel is told when its packet goes no further.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use sinew_types::DropReason;
use sinew_wire::ip::PacketInfo;

use crate::common::Net;
use crate::common::lab::{Lab, W, attach_with, drops, echo, icmp_of, send, taken, tcp, udp, w};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn an_address_that_is_nobody_s_is_unreachable_in_both_families() {
    let mut net = Net::new(1, &[]);
    Lab::new(&mut net, 1);
    let nobody = W { node: 9, ..w(0) };
    let beside = W { number: 77, ..w(0) };
    for (dst, expected) in [
        (IpAddr::V4(nobody.v4()), (3, 1)),
        (nobody.v6().into(), (1, 3)),
        (Ipv4Addr::new(8, 8, 8, 8).into(), (3, 1)),
        (beside.v4().into(), (3, 1)),
        (beside.v6().into(), (1, 3)),
    ] {
        let src: IpAddr = if dst.is_ipv4() { w(0).v4().into() } else { w(0).v6().into() };
        send(&mut net, w(0), &udp(src, dst, (9, 9), b"anybody?"));
        let told = taken(&mut net, w(0));
        assert_eq!(told.len(), 1, "{dst}");
        assert_eq!(icmp_of(&told[0]), Some(expected), "{dst}");
        let info = PacketInfo::parse(&told[0]).expect("a packet");
        let gateway: IpAddr = if dst.is_ipv4() {
            Ipv4Addr::new(10, 7, 0, 1).into()
        } else {
            W { number: 1, ..w(0) }.v6().into()
        };
        assert_eq!((info.src, info.dst), (gateway, src), "from this node's address in the network");
    }
    assert_eq!(drops(&net, 0, DropReason::NoPlace), 5);
}

#[test]
fn a_member_that_no_route_leads_to_is_unreachable() {
    let mut net = Net::new(2, &[]);
    Lab::new(&mut net, 1);
    net.run(SECOND);
    send(&mut net, w(0), &echo(w(0).v6(), w(1).v6(), false));
    assert_eq!(drops(&net, 0, DropReason::NoRoute), 1);
    let told = taken(&mut net, w(0));
    assert_eq!(told.iter().map(|packet| icmp_of(packet)).collect::<Vec<_>>(), [Some((1, 0))], "no route");
}

#[test]
fn answers_are_few_and_never_about_answers() {
    let mut net = Net::new(1, &[]);
    Lab::new(&mut net, 2);
    let nobody = W { node: 9, ..w(0) };
    for _ in 0..1000 {
        send(&mut net, w(0), &udp(w(0).v4(), nobody.v4(), (9, 9), b"x"));
    }
    let told = taken(&mut net, w(0));
    assert_eq!(told.len(), 100, "a burst, and then a hundred a second");
    let other = W { network: 1, ..w(0) };
    send(&mut net, other, &udp(other.v4(), nobody.v4(), (9, 9), b"x"));
    assert_eq!(taken(&mut net, other).len(), 1, "another workload has answers of its own");
    net.run(SECOND);
    // An ICMP error to nobody: of no flow, so refused by itself, and not answered.
    let error =
        crate::common::lab::ip(w(0).v4().into(), nobody.v4().into(), 1, &[3, 1, 0, 0, 0, 0, 0, 0, 0x45]);
    send(&mut net, w(0), &error);
    assert!(taken(&mut net, w(0)).is_empty());
}

#[test]
fn a_packet_larger_than_the_path_is_answered_with_its_size_and_tcp_is_cut() {
    let mut net = Net::new(2, &[(1, 0)]);
    Lab::new(&mut net, 1);
    net.run(Duration::from_secs(12));
    attach_with(&mut net, w(0), sinew_node::Offloads::ALL, 1300);
    let big = [7; 1350];
    for (packet, expected) in
        [(udp(w(0).v4(), w(1).v4(), (9, 9), &big), (3, 4)), (udp(w(0).v6(), w(1).v6(), (9, 9), &big), (2, 0))]
    {
        send(&mut net, w(0), &packet);
        let told = taken(&mut net, w(0));
        assert_eq!(told.iter().map(|packet| icmp_of(packet)).collect::<Vec<_>>(), [Some(expected)]);
        let at = if packet[0] >> 4 == 4 { 20 + 6 } else { 40 + 6 };
        assert_eq!(told[0][at..at + 2], 1300u16.to_be_bytes());
    }
    assert_eq!(drops(&net, 0, DropReason::TooBig), 2);
    send(&mut net, w(0), &tcp(w(0).v4(), w(1).v4(), (9, 9), 16, &big));
    net.run(SECOND);
    let out = taken(&mut net, w(1));
    assert!(out.len() == 2 && out.iter().all(|packet| packet.len() <= 1300), "{:?}", out.len());
}
