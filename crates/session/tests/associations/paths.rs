//! Paths and adjacencies: roaming, forged sources, outages (protocol A3, B5, B8).

use sinew_session::*;
use sinew_types::{CarrierKind, DropReason, PathAddr};
use sinew_wire::segment::StreamClass;

use crate::support::*;

fn adjacency(world: &World, n: usize) -> Option<u8> {
    world.nodes[n].view(&world.id(1 - n)).and_then(|view| view.adj)
}

#[test]
fn a_captured_record_sent_first_from_elsewhere_draws_nothing_to_that_place() {
    let mut world = World::pair(1);
    let (zero, honest) = (world.id(0), world.path_to(0));
    let attacker = udp("203.0.113.9:9");
    for _ in 0..20 {
        world.underlay = false;
        world.data(0, 1, &[7; 100]);
        world.underlay = true;
        let captured = world.seen.last().unwrap().bytes.clone();
        world.forget();
        let received = captured.len();
        world.deliver(1, Arrival::Direct(attacker), captured);
        assert_eq!(world.nodes[1].inbox.len(), 1, "the record is good and is delivered");
        let before = world.nodes[1].view(&zero).unwrap();
        world.run(secs(8));
        let to_attacker = |seen: &&Seen| seen.to == To::Path(attacker);
        let bytes: usize = world.seen.iter().filter(to_attacker).map(|seen| seen.bytes.len()).sum();
        assert!(bytes <= 3 * received, "{bytes} bytes for {received}");
        let view = world.nodes[1].view(&zero).unwrap();
        assert_eq!((view.path, view.generation), (Some(honest), before.generation));
        assert!(!view.knows(&attacker));
    }
}

#[test]
fn an_attacker_that_relays_everything_from_his_address_does_not_become_the_path_while_the_old_one_lives() {
    let mut world = World::pair(1);
    let (zero, honest) = (world.id(0), world.path_to(0));
    let attacker = "203.0.113.9:9".parse().unwrap();
    world.data(0, 1, b"captured");
    world.nodes[1].inbox.clear();
    for _ in 0..3000 {
        // Whatever node 0 sends reaches node 1 a second time, earlier, from the attacker; whatever
        // node 1 sends to the attacker reaches node 0 under node 1's address.
        let seen = std::mem::take(&mut world.seen);
        for seen in seen {
            if seen.from == 0 {
                world.inject(0, attacker, To::Path(world.path_to(1)), seen.bytes, ms(1));
            } else if seen.to == To::Path(udp("203.0.113.9:9")) {
                world.inject(1, world.nodes[1].addr, To::Path(honest), seen.bytes, ms(1));
            }
        }
        world.run(ms(1));
    }
    assert_eq!(world.nodes[1].view(&zero).unwrap().path, Some(honest));
}

#[test]
fn a_peer_that_moves_is_followed_after_its_first_record_and_one_round_trip() {
    for addr in ["10.0.0.1:2", "10.9.9.9:1", "[2001:db8::1]:1"] {
        let mut world = World::pair(1);
        let (zero, one) = (world.id(0), world.id(1));
        world.nodes[0].addr = addr.parse().unwrap();
        let start = world.now;
        world.data(0, 1, b"from the new place");
        while world.nodes[1].view(&zero).unwrap().path != Some(world.path_to(0)) {
            world.run(ms(1));
            assert!(world.now.since(start) < ms(150), "{addr}: not followed");
        }
        // What it sends later goes there, and both are still neighbours.
        world.data(1, 0, b"to the new place");
        world.run(ms(50));
        assert_eq!(world.nodes[0].inbox.len(), 1);
        assert_eq!(world.nodes[1].count(|e| matches!(e, Event::AdjacencyDown { .. })), 0);
        assert_eq!(world.nodes[0].view(&one).unwrap().path, Some(world.path_to(1)));
    }
}

#[test]
fn a_second_path_is_added_to_a_live_session_by_a_challenge_and_takes_over_when_the_first_dies() {
    let mut world = World::pair(1);
    let (one, first) = (world.id(1), world.path_to(1));
    let second = PathAddr { carrier: CarrierKind::Tcp, ..first };
    world.act(0, |sessions, now| sessions.open(one, Target::Direct(second), now));
    assert_eq!(world.seen.last().unwrap().bytes.len(), 1200);
    assert_eq!(world.handshakes(0), 0);
    world.run(ms(100));
    assert!(world.nodes[0].events.contains(&Event::PathUp { peer: one, path: second }));
    let view = world.nodes[0].view(&one).unwrap();
    assert_eq!(view.path, Some(first));
    world.act(0, |sessions, now| sessions.path_dead(one, first, now));
    let after = world.nodes[0].view(&one).unwrap();
    assert_eq!((after.path, after.stream, after.generation), (Some(second), true, view.generation + 1));
    assert_eq!(after.adj, view.adj, "one direct path is left");
    assert_eq!(world.handshakes(0), 0);
}

#[test]
fn an_adjacency_closes_with_its_last_path_and_reopens_under_the_next_number() {
    let mut world = World::pair(1);
    world.underlay = false;
    world.run(secs(1));
    for n in 0..2 {
        let (peer, path) = (world.id(1 - n), world.path_to(1 - n));
        world.act(n, |sessions, now| sessions.path_dead(peer, path, now));
        assert!(world.nodes[n].events.contains(&Event::AdjacencyDown { peer, adj: 1 }));
        assert_eq!(adjacency(&world, n), None);
    }
    world.run(secs(60));
    world.underlay = true;
    world.run(ms(1300));
    world.assert_linked();
    assert_eq!(adjacency(&world, 0), Some(2));
    assert_eq!(world.nodes[0].ups(), 0, "the same association");
    world.assert_same_epoch();
}

#[test]
fn an_outage_noticed_by_one_side_only_renumbers_both() {
    let mut world = World::pair(1);
    let (peer, path) = (world.id(1), world.path_to(1));
    world.act(0, |sessions, now| sessions.path_dead(peer, path, now));
    assert_eq!(adjacency(&world, 0), None);
    world.run(ms(300));
    world.assert_linked();
    assert_eq!(adjacency(&world, 0), Some(2));
    assert_eq!(world.nodes[1].count(|e| matches!(e, Event::AdjacencyDown { adj: 1, .. })), 1);
}

#[test]
fn while_the_direct_path_is_dead_session_and_requests_live_on_over_relays_but_not_routing() {
    let mut world = World::pair(1);
    world.underlay = false;
    world.relays = true;
    for n in 0..2 {
        let (peer, path) = (world.id(1 - n), world.path_to(1 - n));
        world.act(n, |sessions, now| sessions.set_routed(peer, true, now));
        world.act(n, |sessions, now| sessions.path_dead(peer, path, now));
    }
    assert_eq!(world.send(0, 1, StreamClass::Routing, b"r"), Err(SendError::NoSession));
    world.send(0, 1, StreamClass::Requests, b"\x63request").unwrap();
    world.send(0, 1, StreamClass::Documents, b"document").unwrap();
    world.run(secs(2));
    assert_eq!(world.nodes[1].messages(StreamClass::Requests), [b"\x63request"]);
    assert_eq!(world.nodes[1].messages(StreamClass::Documents), [b"document"]);
    assert_eq!(adjacency(&world, 0), None);
    world.underlay = true;
    world.run(ms(1500));
    world.assert_linked();
}

#[test]
fn routing_frames_over_relays_or_of_another_adjacency_are_refused() {
    let mut world = World::pair(1);
    let zero = world.id(0);
    world.underlay = false;
    world.send(0, 1, StreamClass::Routing, b"frame").unwrap();
    let frame = world.seen.last().unwrap().bytes.clone();
    world.underlay = true;
    let routed = Arrival::Routed { src: zero.address(), ingress: identity(200).node_id() };
    world.deliver(1, routed, frame);
    assert_eq!(world.nodes[1].drops.get(DropReason::WrongAdjacency), 1);
    world.run(secs(1));
    assert_eq!(world.nodes[1].messages(StreamClass::Routing), [b"frame"], "repeated on the direct path");
    // A frame that is still under way when the number changes.
    world.underlay = false;
    world.send(0, 1, StreamClass::Routing, b"old").unwrap();
    let old = world.seen.last().unwrap().bytes.clone();
    world.underlay = true;
    let (peer, path) = (world.id(1), world.path_to(1));
    world.act(0, |sessions, now| sessions.path_dead(peer, path, now));
    world.run(secs(2));
    assert_eq!(adjacency(&world, 1), Some(2));
    let from = Arrival::Direct(world.path_to(0));
    world.deliver(1, from, old);
    assert_eq!(world.nodes[1].drops.get(DropReason::WrongAdjacency), 2);
    assert_eq!(world.nodes[1].messages(StreamClass::Routing), [b"frame"]);
}

#[test]
fn an_adjacency_needs_both_to_want_it() {
    let mut world = World::with(2, 1, |n, config| Config { adjacency: n == 0, ..config });
    world.open(0, 1);
    world.run(secs(2));
    let view = world.nodes[0].view(&world.id(1)).unwrap();
    assert_eq!((view.path, view.adj), (Some(world.path_to(1)), None));
}

#[test]
fn a_closed_stream_takes_its_path_along() {
    let mut world = World::pair(1);
    let (zero, path) = (world.id(0), world.path_to(0));
    world.act(1, |sessions, now| sessions.path_closed(path, now));
    let view = world.nodes[1].view(&zero).unwrap();
    assert_eq!((view.path, view.adj), (None, None));
    assert!(world.nodes[1].events.contains(&Event::PathDown { peer: zero, path }));
}

#[test]
fn pings_measure_and_mtu_probes_arrive_in_their_length() {
    let mut world = World::pair(1);
    let (peer, target) = (world.id(1), Target::Direct(world.path_to(1)));
    let ping = world.act(0, |sessions, now| sessions.ping(peer, target, now));
    let probe = world.act(0, |sessions, now| sessions.mtu_probe(peer, target, 1372, now));
    assert_eq!(world.seen.last().unwrap().bytes.len(), 1372);
    world.run(ms(50));
    let pong = |e: &Event| matches!(e, Event::Pong { id, rtt, .. } if *id == ping && *rtt == ms(20));
    assert_eq!(world.nodes[0].count(pong), 1);
    assert!(world.nodes[0].events.contains(&Event::MtuAck { peer, id: probe, size: 1372 }));
}

#[test]
fn a_neighbour_that_flaps_is_taken_back_at_most_once_a_second() {
    let mut world = World::pair(1);
    let (zero, path) = (world.id(0), world.path_to(0));
    for _ in 0..40 {
        world.act(1, |sessions, now| sessions.path_dead(zero, path, now));
        world.run(ms(150));
    }
    let ups = world.nodes[1].count(|e| matches!(e, Event::AdjacencyUp { .. }));
    assert!((6..=10).contains(&ups), "{ups}");
    world.run(secs(2));
    world.assert_linked();
}

#[test]
fn a_session_that_began_over_relays_becomes_an_adjacency_once_there_is_a_direct_path() {
    let mut world = World::new(2, 90);
    world.relays = true;
    world.open_routed(0, 1);
    world.run(secs(1));
    assert!(world.nodes[0].view(&world.id(1)).unwrap().adj.is_none());
    world.open(0, 1);
    world.run(secs(1));
    world.assert_linked();
}

#[test]
fn a_path_that_carries_only_short_records_either_way_is_no_link_and_is_given_up_as_too_narrow() {
    for width in [[1199, 1199], [1199, 1200], [1200, 1199]] {
        let mut world = World::new(2, 7);
        world.width = width;
        world.open(0, 1);
        // Again and again: a session stands, and each time the path is tried anew.
        for round in 1..=3 {
            world.run(secs(5));
            for n in 0..2 {
                let view = world.nodes[n].view(&world.id(1 - n)).expect("a session");
                assert_eq!((view.path, view.adj), (None, None), "node {n}, {width:?}");
                let up = |e: &Event| matches!(e, Event::PathUp { .. } | Event::AdjacencyUp { .. });
                assert_eq!(world.nodes[n].count(up), 0);
            }
            let narrow =
                |e: &Event| matches!(e, Event::AttemptFailed { reason: AttemptFailure::TooNarrow, .. });
            assert_eq!(world.nodes[0].count(narrow), round, "{:?}", world.nodes[0].events);
            assert!(world.nodes[1].count(narrow) >= 1, "the other side says so too");
            world.open(0, 1);
        }
        assert_eq!(world.handshakes(0), 1, "the session itself is good");
        // What carries full size again becomes a link.
        world.width = [1200; 2];
        world.open(0, 1);
        world.run(secs(2));
        world.assert_linked();
    }
}

#[test]
fn a_path_that_does_not_answer_at_all_is_not_called_narrow() {
    let mut world = World::pair(1);
    let one = world.id(1);
    world.act(0, |sessions, now| sessions.open(one, Target::Direct(udp("192.0.2.1:1")), now));
    world.run(secs(5));
    let unanswered = |e: &Event| matches!(e, Event::AttemptFailed { reason: AttemptFailure::NoAnswer, .. });
    assert_eq!(world.nodes[0].count(unanswered), 1);
}

#[test]
fn the_proof_of_width_costs_the_adjacency_no_round_trip_of_its_own() {
    let mut world = World::new(2, 1);
    world.width = [1200; 2];
    world.open(0, 1);
    // HS1, HS2, then the padded challenge with the first record and its answer with the proposal.
    world.run(ms(40));
    assert_eq!(adjacency(&world, 0), Some(1));
    world.run(ms(10));
    assert_eq!(adjacency(&world, 1), Some(1));
    world.assert_linked();
}

#[test]
fn a_challenge_is_answered_in_its_own_length() {
    let mut world = World::new(2, 1);
    world.open(0, 1);
    world.run(ms(500));
    for n in 0..2 {
        let full = world.seen.iter().filter(|seen| seen.from == n && seen.bytes.len() == 1200);
        assert_eq!(full.count(), 2, "a challenge and an answer of node {n}");
    }
}

#[test]
fn a_lossy_path_still_becomes_a_link() {
    for seed in 0..20 {
        let mut world = World::new(2, seed);
        world.link.loss = 200;
        world.open(0, 1);
        world.run(secs(4));
        world.assert_linked();
    }
}
