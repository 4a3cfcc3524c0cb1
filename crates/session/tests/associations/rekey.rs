//! Renewing keys: inside the session, without loss, before any limit (protocol A3, B6, B20).

use sinew_session::*;
use sinew_types::DropReason;

use crate::support::*;

#[test]
fn ten_minutes_of_traffic_lose_not_one_packet_to_rekeying() {
    for (seed, senders) in [(1, &[0][..]), (2, &[1]), (3, &[0, 1])] {
        let mut world = World::pair(seed);
        world.link = Link { latency: ms(20), jitter: ms(15), loss: 0, duplication: 20 };
        let mut sent = 0;
        for _ in 0..30_000 {
            for &n in senders {
                sent += usize::from(world.data(n, 1 - n, b"payload"));
            }
            world.run(ms(20));
        }
        world.run(ms(50));
        assert_eq!(sent, 30_000 * senders.len());
        assert_eq!(world.nodes[0].inbox.len() + world.nodes[1].inbox.len(), sent);
        assert!((4..=5).contains(&world.nodes[0].renewals()), "{}", world.nodes[0].renewals());
        assert_eq!(world.nodes[0].renewals(), world.nodes[1].renewals());
        let clear = world.seen.iter().filter(|seen| seen.bytes[0] <= 3).count();
        assert_eq!(clear, 0, "no observer sees a rekey");
        let noise = world.nodes.iter().any(|n| n.count(|e| matches!(e, Event::AdjacencyDown { .. })) > 0);
        assert!(!noise, "nothing above notices");
        world.assert_same_epoch();
    }
}

#[test]
fn the_initiator_renews_after_two_minutes() {
    let mut world = World::pair(1);
    let start = world.now;
    while world.nodes[0].renewals() == 0 {
        world.data(0, 1, b"x");
        world.run(ms(500));
    }
    let age = world.now.since(start);
    assert!(age > secs(119) && age < secs(131), "{age:?}");
}

#[test]
fn a_flood_does_not_stop_a_rekey_inside_the_session() {
    let mut world = World::pair(1);
    for _ in 0..400 {
        world.act(1, |sessions, now| sessions.set_queued(4096, now));
        world.act(0, |sessions, now| sessions.set_queued(4096, now));
        world.data(0, 1, b"x");
        world.run(ms(500));
    }
    assert_eq!(world.nodes[0].renewals(), 1);
    assert_eq!(world.nodes[1].drops.get(DropReason::CookieRequired), 0);
}

#[test]
fn the_responder_renews_if_the_initiator_does_not() {
    let mut world = World::pair(1);
    // Nothing of node 0's handshakes inside gets through; it cannot be told from other records, so
    // the whole direction is cut while it would renew.
    world.run(secs(117));
    let start = world.now;
    world.nodes[0].alive = false;
    world.run(secs(30));
    world.nodes[0].alive = true;
    world.underlay = true;
    while world.nodes[1].renewals() == 0 {
        world.data(1, 0, b"x");
        world.run(ms(500));
        assert!(world.now.since(start) < secs(60));
    }
    world.run(ms(100));
    world.assert_same_epoch();
}

#[test]
fn keys_without_a_successor_stop_sending_at_180_seconds_and_are_erased_at_195() {
    let mut world = World::pair(1);
    let (born, peer) = (world.now, world.id(1));
    let epoch = world.nodes[0].view(&peer).unwrap().epoch.clone().unwrap();
    world.underlay = false;
    world.run_until(born + secs(178));
    assert!(world.data(0, 1, b"x"));
    world.run_until(born + secs(181));
    assert!(!world.data(0, 1, b"x"));
    assert!(epoch.is_dead());
    world.run_until(born + secs(196));
    let closed = Event::Closed { peer, reason: CloseReason::Expired };
    let silent = Event::Closed { peer, reason: CloseReason::Unacknowledged };
    assert!(world.nodes[0].events.contains(&closed) || world.nodes[0].events.contains(&silent));
    assert!(world.nodes[0].view(&peer).is_none());
}

#[test]
fn the_replaced_epoch_is_erased_after_fifteen_seconds_without_a_record() {
    let mut world = World::pair(1);
    let peer = world.id(1);
    world.data(1, 0, b"old");
    let record = world.seen.last().unwrap().bytes.clone();
    let index = u32::from_le_bytes(record[4..8].try_into().unwrap());
    while world.nodes[0].renewals() == 0 {
        world.data(0, 1, b"x");
        world.run(ms(500));
    }
    assert!(world.nodes[0].sessions.keys().get(index).is_some(), "late records still open");
    world.run(secs(20));
    assert!(world.nodes[0].sessions.keys().get(index).is_none());
    assert!(world.nodes[0].view(&peer).is_some());
}

#[test]
fn lanes_that_run_out_are_replaced_by_a_new_epoch() {
    let mut world = World::pair(1);
    let peer = world.id(1);
    let epoch = world.nodes[0].view(&peer).unwrap().epoch.clone().unwrap();
    let taken: Vec<_> = std::iter::from_fn(|| epoch.take_lane()).collect();
    assert_eq!(taken.len(), 15, "one is the machine's own");
    assert!(!world.data(0, 1, b"x"));
    world.run(ms(100));
    assert_eq!(world.nodes[0].renewals(), 1);
    assert!(world.data(0, 1, b"x"));
    world.run(ms(100));
    assert_eq!(world.nodes[1].inbox.len(), 1);
}

#[test]
fn an_idle_session_is_not_renewed_for_ever() {
    let mut world = World::new(2, 1);
    world.relays = true;
    world.open_routed(0, 1);
    world.run(secs(1));
    world.forget();
    world.run(secs(300));
    assert!(world.seen.len() < 10, "{}", world.seen.len());
    for n in 0..2 {
        let closed = Event::Closed { peer: world.id(1 - n), reason: CloseReason::Expired };
        assert!(world.nodes[n].events.contains(&closed), "{:?}", world.nodes[n].events);
        assert_eq!(world.nodes[n].sessions.counts(), (0, 0));
    }
}

#[test]
fn a_rekey_that_finds_no_answer_inside_goes_on_in_clear() {
    let mut world = World::pair(1);
    let (zero, one) = (world.id(0), world.id(1));
    world.run(secs(115));
    // Node 1 loses its keys; node 0 notices nothing but that its rekey is not answered.
    world.restart(1);
    world.forget();
    world.run(secs(25));
    assert!(world.handshakes(0) >= 1);
    assert_eq!((world.nodes[0].ups(), world.nodes[1].ups()), (1, 1));
    assert!(world.nodes[0].view(&one).is_some() && world.nodes[1].view(&zero).is_some());
    world.assert_same_epoch();
}

#[test]
fn a_path_that_dies_during_a_rekey_turns_it_into_a_handshake_that_others_can_read() {
    let mut world = World::pair(1);
    let (one, path) = (world.id(1), world.path_to(1));
    world.act(0, |sessions, now| sessions.on_notice(Notice::LanesExhausted { peer: one }, now));
    world.restart(1);
    world.act(0, |sessions, now| sessions.path_dead(one, path, now));
    world.run(ms(100));
    assert_eq!(world.nodes[1].drops.get(DropReason::BadMac1), 0);
    assert_eq!(world.nodes[1].ups(), 1);
    world.assert_linked();
}

#[test]
fn a_handshake_inside_a_session_must_be_that_peers_own() {
    let mut world = World::pair(1);
    // Node 0, an honest member otherwise, tries to open a session in the name of a third.
    let third = identity(33);
    let hello = payload(UNIX * 2, 1, third.node_id().sign_bit());
    let (_, noise) =
        sinew_noise::Initiator::start(&third, &world.id(1), &[0; 32], &hello.emit(), [5; 32]).unwrap();
    let inside = sinew_wire::handshake::Hs1 { sender: 7, noise, mac1: [0; 16], mac2: [0; 16] }.emit();
    world.data(1, 0, b"x");
    let index = {
        let epoch = world.nodes[0].view(&world.id(1)).unwrap().epoch.clone().unwrap();
        let mut record = vec![0; 36];
        let mut lane = epoch.take_lane().unwrap();
        lane.seal(sinew_wire::record::Prefix::new(sinew_wire::record::Kind::Keepalive), &mut record).unwrap();
        u32::from_le_bytes(record[4..8].try_into().unwrap())
    };
    let from = Arrival::Direct(world.path_to(0));
    let kind = sinew_wire::record::Kind::Handshake;
    let refused = world.act(1, |sessions, now| sessions.handle_control(index, from, kind, &inside, 236, now));
    assert_eq!(refused, Err(DropReason::BadHandshake));
    assert_eq!(world.nodes[1].sessions.counts(), (1, 0));
}
