//! The policy at both ends: openings are judged, replies pass, and nothing slips by unread.

use std::time::Duration;

use sinew_node::overlay::{Policy, ProtocolSpec as Protocol, Rule, Selector};
use sinew_types::DropReason;

use crate::common::Net;
use crate::common::lab::{Lab, W, attach, drops, echo, finish, icmp_of, ip, send, taken, tcp, udp, w};

const SECOND: Duration = Duration::from_secs(1);
const SYN: u8 = 2;
const ACK: u8 = 16;

fn rule(to: Selector, protocol: Protocol, port: u16) -> Rule {
    let ports = if port == 0 { vec![] } else { vec![(port, port)] };
    Rule { from: vec![Selector::Any], to: vec![to], protocol, ports, allow: true }
}

/// Two nodes; TCP 22 and UDP 53 of node 1's workload are open, and nothing else.
fn guarded() -> (Net, Lab) {
    let mut net = Net::new(2, &[(1, 0)]);
    // Longer than a device picks up flows that it forgot.
    let mut lab = Lab::new(&mut net, 1);
    net.run(Duration::from_secs(130));
    let to = Selector::Workload(w(1).key());
    lab.set_policy(&mut net, vec![rule(to, Protocol::Tcp, 22), rule(to, Protocol::Udp, 53)], false);
    (net, lab)
}

/// Takes the policy away from the sender: what then comes is the receiver's alone to judge.
fn trust(net: &mut Net, lab: &Lab, node: usize) {
    let open = Lab { policy: Policy::default(), ..lab.clone() };
    let snapshot = open.snapshot(node);
    net.nodes[node].publish_networks(snapshot.into());
}

/// Sends and says whether it came out.
fn passes(net: &mut Net, from: W, to: W, packet: &[u8]) -> bool {
    send(net, from, packet);
    net.run(Duration::from_millis(100));
    taken(net, to).iter().any(|out| out == packet)
}

#[test]
fn what_the_policy_refuses_is_refused_at_the_sender_who_is_told_and_at_the_receiver_who_is_silent() {
    let (a, b) = (w(0), w(1));
    let (mut net, lab) = guarded();
    let refused = [
        tcp(a.v4(), b.v4(), (5000, 23), SYN, b""),
        udp(a.v6(), b.v6(), (5000, 54), b"x"),
        echo(a.v4(), b.v4(), false),
        ip(a.v6().into(), b.v6().into(), 47, &[0; 8]),
    ];
    for (n, packet) in refused.iter().enumerate() {
        assert!(!passes(&mut net, a, b, packet));
        assert_eq!(drops(&net, 0, DropReason::Policy), n as u64 + 1, "at the sender");
        let told = taken(&mut net, a);
        assert_eq!(told.len(), 1, "{packet:02x?}");
        let expected = if packet[0] >> 4 == 4 { (3, 13) } else { (1, 1) };
        assert_eq!(icmp_of(&told[0]), Some(expected), "administratively prohibited");
    }
    trust(&mut net, &lab, 0);
    for (n, packet) in refused.iter().enumerate() {
        assert!(!passes(&mut net, a, b, packet));
        assert_eq!(drops(&net, 1, DropReason::Policy), n as u64 + 1, "at the receiver");
        assert!(taken(&mut net, a).is_empty(), "in silence");
    }
}

#[test]
fn replies_pass_and_nothing_else_comes_back() {
    let (a, b) = (w(0), w(1));
    let (mut net, lab) = guarded();
    assert!(!passes(&mut net, b, a, &tcp(b.v4(), a.v4(), (22, 5000), SYN | ACK, b"")), "unasked");
    assert!(passes(&mut net, a, b, &tcp(a.v4(), b.v4(), (5000, 22), SYN, b"")));
    assert!(passes(&mut net, b, a, &tcp(b.v4(), a.v4(), (22, 5000), SYN | ACK, b"")));
    assert!(passes(&mut net, a, b, &tcp(a.v4(), b.v4(), (5000, 22), ACK, b"hello")));
    assert!(!passes(&mut net, b, a, &tcp(b.v4(), a.v4(), (22, 5000), SYN, b"")), "a call on the same ports");
    assert!(!passes(&mut net, b, a, &tcp(b.v4(), a.v4(), (22, 5001), ACK, b"")), "another flow");
    assert!(!passes(&mut net, b, a, &udp(b.v4(), a.v4(), (53, 5000), b"x")), "another protocol");
    // Nor if the far end does not judge what it sends.
    trust(&mut net, &lab, 1);
    assert!(!passes(&mut net, b, a, &tcp(b.v4(), a.v4(), (22, 5001), ACK, b"")));
    assert!(!passes(&mut net, b, a, &tcp(b.v4(), a.v4(), (4000, 22), SYN, b"")));
    assert!(drops(&net, 0, DropReason::Policy) >= 2);
    assert!(passes(&mut net, b, a, &tcp(b.v4(), a.v4(), (22, 5000), ACK, b"still a reply")));
}

#[test]
fn a_policy_that_changes_ends_what_may_not_be_any_more() {
    let (a, b) = (w(0), w(1));
    let (mut net, mut lab) = guarded();
    let (call, reply) = (udp(a.v4(), b.v4(), (5000, 53), b"?"), udp(b.v4(), a.v4(), (53, 5000), b"!"));
    assert!(passes(&mut net, a, b, &call) && passes(&mut net, b, a, &reply));
    lab.set_policy(&mut net, vec![], false);
    assert!(!passes(&mut net, b, a, &reply) && !passes(&mut net, a, b, &call));
}

#[test]
fn extension_headers_hide_no_port() {
    let (a, b) = (w(0), w(1));
    let (mut net, lab) = guarded();
    // Destination options of 8 bytes before UDP to an open port, and to a closed one.
    let hidden = |port, headers: usize| {
        let plain = udp(a.v6(), b.v6(), (5000, port), b"x");
        let mut chain = Vec::new();
        for n in 0..headers {
            chain.extend([if n + 1 == headers { 17 } else { 60 }, 0, 1, 4, 0, 0, 0, 0]);
        }
        chain.extend(&plain[40..]);
        ip(a.v6().into(), b.v6().into(), if headers == 0 { 17 } else { 60 }, &chain)
    };
    for judged_by in ["both", "the receiver"] {
        for headers in [0, 1, 8] {
            assert!(passes(&mut net, a, b, &hidden(53, headers)), "{judged_by}, {headers}");
            assert!(!passes(&mut net, a, b, &hidden(54, headers)), "{judged_by}, {headers}");
        }
        assert!(!passes(&mut net, a, b, &hidden(53, 9)), "too many to walk");
        trust(&mut net, &lab, 0);
    }
}

#[test]
fn later_fragments_pass_for_a_second_behind_an_accepted_first_in_both_families() {
    let (a, b) = (w(0), w(1));
    let v6 = |port: u16, offset: u16, more: u8, id: u8| {
        let whole = udp(a.v6(), b.v6(), (5000, port), &[7; 40]);
        let piece = if offset == 0 { &whole[40..64] } else { &whole[64..] };
        let field = (offset << 3 | u16::from(more)).to_be_bytes();
        let header = [17, 0, field[0], field[1], 0, 0, 0, id];
        ip(a.v6().into(), b.v6().into(), 44, &[&header, piece].concat())
    };
    let v4 = |port: u16, offset: u16, more: u8, id: u8| {
        let whole = udp(a.v4(), b.v4(), (5000, port), &[7; 40]);
        let piece = if offset == 0 { &whole[20..44] } else { &whole[44..] };
        let mut packet = ip(a.v4().into(), b.v4().into(), 17, piece);
        let field = (offset | u16::from(more) << 13).to_be_bytes();
        (packet[5], packet[6], packet[7]) = (id, field[0], field[1]);
        sinew_wire::ip::fill_v4_checksum(&mut packet).expect("a header");
        packet
    };
    type Cut<'a> = &'a dyn Fn(u16, u16, u8, u8) -> Vec<u8>;
    for (family, cut) in [("v6", &v6 as Cut<'_>), ("v4", &v4)] {
        for judged_by in ["both", "the receiver"] {
            let (mut net, lab) = guarded();
            if judged_by == "the receiver" {
                trust(&mut net, &lab, 0);
            }
            let (first, later) = (cut(53, 0, 1, 1), cut(53, 3, 0, 1));
            assert!(!passes(&mut net, a, b, &later), "{family}, {judged_by}: no first one");
            assert!(!passes(&mut net, a, b, &cut(54, 0, 1, 1)), "{family}, {judged_by}: a closed port");
            assert!(!passes(&mut net, a, b, &later), "{family}, {judged_by}: the first was refused");
            assert!(passes(&mut net, a, b, &first), "{family}, {judged_by}");
            assert!(passes(&mut net, a, b, &later), "{family}, {judged_by}");
            assert!(!passes(&mut net, a, b, &cut(53, 3, 0, 2)), "{family}, {judged_by}: another packet's");
            net.run(SECOND);
            assert!(!passes(&mut net, a, b, &later), "{family}, {judged_by}: too late");
        }
    }
}

#[test]
fn a_packet_that_wants_to_be_sent_on_is_refused_and_its_sender_told() {
    let (a, b) = (w(0), w(1));
    let mut net = Net::new(2, &[(1, 0)]);
    Lab::new(&mut net, 1);
    net.run(Duration::from_secs(12));
    let plain = udp(a.v6(), b.v6(), (5000, 53), b"x");
    let header = |left: u8| [&[17, 0, 0, left, 0, 0, 0, 0][..], &plain[40..]].concat();
    let routed = ip(a.v6().into(), b.v6().into(), 43, &header(1));
    assert!(passes(&mut net, a, b, &ip(a.v6().into(), b.v6().into(), 43, &header(0))), "used up");
    assert!(!passes(&mut net, a, b, &routed));
    assert_eq!(drops(&net, 0, DropReason::SourceRouted), 1);
    let told = taken(&mut net, a);
    assert_eq!(told.first().and_then(|packet| icmp_of(packet)), Some((1, 1)), "prohibited");
}

#[test]
fn a_packet_within_a_packet_is_what_its_outermost_header_says() {
    let (a, b) = (w(0), w(1));
    let (mut net, mut lab) = guarded();
    // UDP to the open port, inside of IPv6: protocol 41 is not UDP.
    let inner = udp(a.v6(), b.v6(), (5000, 53), b"x");
    let nested = ip(a.v6().into(), b.v6().into(), 41, &inner);
    let in_v4 = ip(a.v4().into(), b.v4().into(), 41, &inner);
    for packet in [&nested, &in_v4] {
        assert!(!passes(&mut net, a, b, packet));
    }
    trust(&mut net, &lab, 0);
    for packet in [&nested, &in_v4] {
        assert!(!passes(&mut net, a, b, packet), "at the receiver");
    }
    assert_eq!(drops(&net, 1, DropReason::Policy), 2);
    let to = Selector::Workload(w(1).key());
    lab.set_policy(&mut net, vec![rule(to, Protocol::Number(41), 0)], false);
    assert!(passes(&mut net, a, b, &nested), "unless that is what the policy allows");
}

#[test]
fn between_two_workloads_of_one_node_both_ends_judge_as_well() {
    let (mut net, mut lab) = guarded();
    let (a, b) = (w(0), W { number: 3, ..w(0) });
    lab.workloads.push(b);
    attach(&mut net, b);
    net.run(Duration::from_secs(130));
    let to = Selector::Workload(b.key());
    lab.set_policy(&mut net, vec![rule(to, Protocol::Tcp, 22)], false);
    assert!(!passes(&mut net, a, b, &tcp(a.v4(), b.v4(), (5000, 23), SYN, b"")));
    assert_eq!(taken(&mut net, a).len(), 1, "the sender is told");
    assert!(!passes(&mut net, b, a, &tcp(b.v4(), a.v4(), (22, 5000), ACK, b"")));
    assert!(passes(&mut net, a, b, &tcp(a.v4(), b.v4(), (5000, 22), SYN, b"")));
    assert!(passes(&mut net, b, a, &tcp(b.v4(), a.v4(), (22, 5000), SYN | ACK, b"")));
}

#[test]
fn a_broken_packet_is_counted_and_goes_nowhere() {
    let (a, b) = (w(0), w(1));
    let (mut net, _) = guarded();
    let good = udp(a.v4(), b.v4(), (5000, 53), b"x");
    let mut long = good.clone();
    long.push(0);
    let tiny = ip(a.v6().into(), b.v6().into(), 6, &[0; 4]);
    for packet in [&good[..19], &long, &tiny, &[0x50; 40], &[]] {
        send(&mut net, a, packet);
    }
    assert_eq!(drops(&net, 0, DropReason::BadInner), 5);
    assert!(passes(&mut net, a, b, &finish(good)), "the next is as good as ever");
}
