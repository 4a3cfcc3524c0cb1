//! Lost state: restarts, clocks, closed sessions (protocol A2, A3, B1, B4).

use sinew_session::*;
use sinew_types::DropReason;

use crate::support::*;

const YEAR_US: u64 = 365 * 24 * 3600 * 1_000_000;

#[test]
fn a_clock_set_back_costs_one_round_trip_and_never_locks_out() {
    for back in [1_000_000, 24 * 3600 * 1_000_000, 10 * YEAR_US] {
        let mut world = World::pair(1);
        world.restart(0);
        let now = world.now;
        world.act(0, |sessions, _| sessions.set_unix(UNIX - back, now));
        world.forget();
        world.open(0, 1);
        world.run(ms(60));
        assert_eq!(world.nodes[0].ups(), 1, "back {back}");
        assert_eq!(world.nodes[1].drops.get(DropReason::StaleHandshake), 1);
        world.run(ms(300));
        world.assert_linked();
        world.assert_same_epoch();
    }
}

#[test]
fn a_restarted_initiator_is_back_at_once_and_everything_of_the_old_association_is_flushed() {
    let mut world = World::pair(1);
    let (zero, old) = (world.id(0), world.nodes[1].view(&world.id(0)).unwrap());
    world.restart(0);
    world.open(0, 1);
    world.run(ms(150));
    world.assert_linked();
    world.assert_same_epoch();
    let events = &world.nodes[1].events;
    let at = |wanted: &dyn Fn(&Event) -> bool| events.iter().position(wanted).unwrap();
    let down = at(&|e| *e == Event::AdjacencyDown { peer: zero, adj: 1 });
    let up = at(&|e| *e == Event::Up { peer: zero, fresh: true });
    let again = at(&|e| matches!(e, Event::AdjacencyUp { .. }));
    assert!(down < up && up < again, "{events:?}");
    assert!(old.epoch.as_ref().unwrap().is_dead(), "also in old snapshots");
}

#[test]
fn a_killed_node_that_its_peers_dial_is_back_within_a_second_of_the_first_record() {
    for seed in 0..10 {
        let mut world = World::pair(seed);
        // Node 1 restarts; it does not dial anybody. Node 0 goes on sending.
        world.restart(1);
        let start = world.now;
        let mut back = None;
        for _ in 0..300 {
            world.data(0, 1, b"are you there");
            world.run(ms(10));
            // The node's liveness: three probes unanswered within half a second.
            if world.now == start + ms(400) {
                let (peer, path) = (world.id(1), world.path_to(1));
                world.act(0, |sessions, now| sessions.path_dead(peer, path, now));
            }
            if back.is_none() && !world.nodes[1].inbox.is_empty() {
                back = Some(world.now.since(start));
            }
        }
        assert!(back.is_some_and(|back| back < ms(500)), "{back:?}");
        world.assert_linked();
    }
}

#[test]
fn a_killed_node_that_dials_answers_an_unknown_index_with_a_handshake() {
    let mut world = World::pair(1);
    world.restart(0);
    // It knows the endpoint from its configuration, but its attempt met a dead network.
    world.underlay = false;
    world.open(0, 1);
    world.run(secs(3));
    world.underlay = true;
    let start = world.now;
    world.data(1, 0, b"to an index that is gone");
    world.run(ms(120));
    assert_eq!(world.nodes[0].ups(), 1, "did not wait for its timer");
    world.assert_linked();
    assert!(world.now.since(start) < ms(200));
}

#[test]
fn unknown_indices_from_strangers_are_met_with_silence_and_known_endpoints_get_one_hello_a_second() {
    let mut world = World::pair(1);
    world.data(1, 0, b"x");
    let record = world.seen.last().unwrap().bytes.clone();
    world.restart(0);
    world.forget();
    for _ in 0..100 {
        world.deliver(0, Arrival::Direct(udp("203.0.113.9:9")), record.clone());
        world.deliver(0, Arrival::Direct(world.path_to(1)), record.clone());
    }
    assert!(world.seen.is_empty(), "it dials nobody");
    world.underlay = false;
    world.open(0, 1);
    world.run(secs(100));
    world.forget();
    for _ in 0..30 {
        world.deliver(0, Arrival::Direct(udp("203.0.113.9:9")), record.clone());
        world.deliver(0, Arrival::Direct(world.path_to(1)), record.clone());
        world.now += ms(100);
    }
    assert!((1..=3).contains(&world.handshakes(0)), "{}", world.handshakes(0));
    let known = To::Path(world.path_to(1));
    assert!(world.seen.iter().all(|seen| seen.to == known));
}

#[test]
fn both_sides_restarting_at_once_find_each_other() {
    for seed in 0..20 {
        let mut world = World::pair(seed);
        world.restart(0);
        world.restart(1);
        world.open(0, 1);
        world.run(ms(u64::from(seed) * 7));
        world.open(1, 0);
        world.run(secs(2));
        world.assert_linked();
        world.assert_same_epoch();
    }
}

#[test]
fn a_routed_session_whose_peer_restarted_is_renewed_by_end_to_end_probes() {
    let mut world = World::new(2, 1);
    world.relays = true;
    world.open_routed(0, 1);
    world.run(secs(1));
    world.restart(1);
    let start = world.now;
    while world.nodes[1].inbox.is_empty() {
        world.data(0, 1, b"anybody there");
        world.run(ms(50));
        assert!(world.now.since(start) < secs(2), "no recovery");
    }
    assert_eq!(world.nodes[0].ups(), 2);
}

#[test]
fn a_closed_session_starts_anew_under_a_new_name() {
    let mut world = World::pair(1);
    let (zero, one) = (world.id(0), world.id(1));
    world.act(0, |sessions, now| sessions.close(one, now));
    assert_eq!(world.nodes[0].events.last(), Some(&Event::Closed { peer: one, reason: CloseReason::Local }));
    assert!(world.nodes[0].view(&one).is_none());
    assert_eq!(world.nodes[0].sessions.counts(), (0, 0));
    world.run(ms(100));
    assert!(world.nodes[1].events.contains(&Event::AdjacencyDown { peer: zero, adj: 1 }), "told in order");
    world.open(0, 1);
    world.run(ms(200));
    assert_eq!((world.nodes[0].ups(), world.nodes[1].ups()), (1, 1));
    world.assert_linked();
    world.assert_same_epoch();
}

#[test]
fn the_binding_is_the_same_on_both_sides_and_lives_exactly_as_long_as_the_association() {
    let mut world = World::new(3, 1);
    let ids = [world.id(0), world.id(1), world.id(2)];
    assert_eq!(world.nodes[0].sessions.binding(&ids[1]), None, "nobody knows anybody");
    world.open(0, 1);
    world.open(0, 2);
    world.run(secs(1));
    let binding = |world: &World, at: usize, of: usize| world.nodes[at].sessions.binding(&ids[of]);
    let first = binding(&world, 0, 1).expect("a session");
    assert_eq!(binding(&world, 1, 0), Some(first), "both sides say the same");
    assert_ne!(binding(&world, 0, 2), Some(first), "and of another pair something else");
    while world.nodes[0].renewals() == 0 {
        world.data(0, 1, b"x");
        world.run(ms(500));
    }
    assert_eq!((binding(&world, 0, 1), binding(&world, 1, 0)), (Some(first), Some(first)), "after a rekey");
    world.restart(1);
    assert_eq!(binding(&world, 1, 0), None);
    world.open(1, 0);
    world.run(secs(1));
    let second = binding(&world, 1, 0).expect("a new session");
    assert_eq!(binding(&world, 0, 1), Some(second));
    assert_ne!(first, second, "the other side had forgotten us");
}
