//! Lives of flows in virtual time, and the table's bounds.

use super::*;
use std::net::Ipv4Addr;

const TCP: u8 = 6;
const UDP: u8 = 17;

fn at(seconds: u64) -> Instant {
    Instant::from_micros(seconds * 1_000_000)
}

fn id(protocol: u8, n: u32) -> FlowId {
    let addr = |last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
    let (local_port, remote_port) = ((n >> 16) as u16, n as u16);
    FlowId { local: addr(1), remote: addr(2), protocol, local_port, remote_port }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Out(u64, Sign),
    In(u64, Sign, bool),
}

#[test]
fn flows_live_as_their_protocol_says() {
    use Sign::{Data, Finish, Open, Reset};
    use Step::{In, Out};
    let table: &[(&str, u8, &[Step])] = &[
        ("nobody asked", TCP, &[In(0, Data, false), In(0, Open, false), In(0, Reset, false)]),
        (
            "a handshake",
            TCP,
            &[Out(0, Open), In(1, Data, true), Out(1, Data), In(7000, Data, true), In(14_400, Data, true)],
        ),
        ("a SYN unanswered", TCP, &[Out(0, Open), In(239, Data, true)]),
        ("a SYN unanswered too long", TCP, &[Out(0, Open), In(240, Data, false)]),
        ("an established flow forgotten", TCP, &[Out(0, Open), In(1, Data, true), In(7441, Data, false)]),
        (
            "the far side opens on our flow's ports",
            TCP,
            &[Out(0, Open), In(1, Data, true), In(2, Open, false)],
        ),
        ("both open at once", TCP, &[Out(0, Open), In(1, Open, true), In(2, Data, true)]),
        (
            "half closed by us",
            TCP,
            &[Out(0, Open), In(1, Data, true), Out(2, Finish), In(200, Data, true), In(439, Data, true)],
        ),
        (
            "closed by both",
            TCP,
            &[
                Out(0, Open),
                In(1, Data, true),
                Out(2, Finish),
                In(3, Finish, true),
                Out(3, Data),
                In(22, Data, true),
                In(23, Data, false),
            ],
        ),
        (
            "stragglers do not keep it",
            TCP,
            &[Out(0, Open), In(1, Reset, true), In(15, Data, true), In(20, Data, true), In(21, Data, false)],
        ),
        ("reset by us", TCP, &[Out(0, Open), Out(1, Reset), In(20, Data, true), In(21, Data, false)]),
        ("the same ports again", TCP, &[Out(0, Open), In(1, Reset, true), Out(2, Open), In(200, Data, true)]),
        ("a flow older than this process", TCP, &[Out(0, Data), In(1, Data, true), In(7000, Data, true)]),
        ("a question", UDP, &[Out(0, Data), In(119, Data, true), In(418, Data, true), In(719, Data, false)]),
        ("a question too long ago", UDP, &[Out(0, Data), In(120, Data, false)]),
        ("asked again after that", UDP, &[Out(0, Data), Out(500, Data), In(600, Data, true)]),
        ("an echo", 58, &[Out(0, Data), In(59, Data, true)]),
    ];
    for (name, protocol, steps) in table {
        let mut flows = Conntrack::new(1, 100);
        for step in *steps {
            match *step {
                Out(t, sign) => flows.outbound(id(*protocol, 1), sign, 0, at(t)),
                In(t, sign, open) => {
                    assert_eq!(
                        flows.inbound(id(*protocol, 1), sign, 0, at(t), || true),
                        open,
                        "{name}: {step:?}"
                    );
                }
            }
        }
        assert!(!flows.inbound(id(*protocol, 2), Data, 0, at(0), || true), "{name}: another flow");
    }
}

#[test]
fn the_table_is_bounded_and_the_newest_flow_always_has_room() {
    let mut flows = Conntrack::new(1, 1000);
    for n in 0..50_000 {
        flows.outbound(id(UDP, n), Sign::Data, 0, at(0));
        assert!(flows.len() <= 1000 && flows.slab.len() <= 1000);
        assert!(flows.inbound(id(UDP, n), Sign::Data, 0, at(0), || true), "{n}");
    }
    assert_eq!(flows.len(), 1000);
    assert_eq!(flows.index.len() + flows.free.len(), flows.slab.len());
}

#[test]
fn what_expires_first_makes_room_first() {
    let mut flows = Conntrack::new(1, 1024);
    // Long conversations, one in sixteen a mere question.
    for n in 0..1024 {
        let protocol = if n % 16 == 5 { UDP } else { TCP };
        flows.outbound(id(protocol, n), Sign::Open, 0, at(0));
        if protocol == TCP {
            flows.inbound(id(TCP, n), Sign::Data, 0, at(0), || true);
        }
    }
    for n in 0..40 {
        flows.outbound(id(TCP, 5000 + n), Sign::Open, 0, at(1));
    }
    let kept = (0..1024).filter(|n| n % 16 != 5 && flows.contains(&id(TCP, *n), at(1))).count();
    assert_eq!(kept, 960, "no conversation was lost to a call");
}

#[test]
fn the_hand_takes_out_what_expired() {
    let mut flows = Conntrack::new(1, 65_536);
    for n in 0..10_000 {
        flows.outbound(id(UDP, n), Sign::Data, 0, at(0));
    }
    for n in 0..4_000 {
        flows.outbound(id(UDP, 20_000 + n), Sign::Data, 0, at(200));
    }
    assert!(flows.len() <= 5_000, "{}", flows.len());
}
