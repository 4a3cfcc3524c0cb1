//! The control channel as the node uses it (protocol A5, B16).

use sinew_session::*;

use crate::support::*;

fn processed(world: &World, n: usize, class: StreamClass) -> Option<u64> {
    let ordinals = world.nodes[n].events.iter().filter_map(|event| match event {
        Event::Processed { class: of, ordinal, .. } if *of == class => Some(*ordinal),
        _ => None,
    });
    ordinals.max()
}

#[test]
fn every_class_delivers_in_order_under_twenty_percent_loss() {
    let mut world = World::pair(1);
    world.link = Link { latency: ms(20), jitter: ms(30), loss: 200, duplication: 50 };
    let classes = [StreamClass::Routing, StreamClass::Documents, StreamClass::Requests];
    let mut sent = vec![Vec::new(); 3];
    let mut last = [0; 3];
    for n in 0..60u16 {
        for (at, class) in classes.into_iter().enumerate() {
            let message = [&[0x63][..], &n.to_le_bytes(), &vec![at as u8; usize::from(n) * 10]].concat();
            while !world.nodes[0].sessions.writable(&world.id(1), class) {
                world.run(ms(20));
            }
            last[at] = world.send(0, 1, class, &message).unwrap();
            sent[at].push(message);
        }
        world.run(ms(20));
    }
    world.run(secs(10));
    for (at, class) in classes.into_iter().enumerate() {
        assert_eq!(world.nodes[1].messages(class), sent[at]);
        assert_eq!(processed(&world, 0, class), Some(last[at]));
    }
    assert_eq!(world.nodes[0].count(|e| matches!(e, Event::AdjacencyDown { .. })), 0);
}

#[test]
fn a_message_counts_as_processed_only_when_the_node_says_so() {
    let mut world = World::pair(1);
    world.nodes[1].acknowledges = false;
    let ordinal = world.send(0, 1, StreamClass::Routing, b"retract").unwrap();
    assert_eq!(ordinal, 1);
    world.run(secs(20));
    assert_eq!(world.nodes[1].messages(StreamClass::Routing), [b"retract"]);
    assert_eq!(processed(&world, 0, StreamClass::Routing), None);
    let receipt = world.nodes[1].events.iter().find_map(|event| match event {
        Event::Message { receipt, .. } => Some(*receipt),
        _ => None,
    });
    world.act(1, |sessions, now| sessions.acknowledge(receipt.unwrap(), now));
    world.run(ms(20));
    assert_eq!(processed(&world, 0, StreamClass::Routing), Some(1));
}

#[test]
fn routing_is_written_late_and_never_queued() {
    let mut world = World::pair(1);
    let peer = world.id(1);
    world.nodes[1].acknowledges = false;
    let mut taken = 0;
    while world.nodes[0].sessions.writable(&peer, StreamClass::Routing) {
        world.send(0, 1, StreamClass::Routing, &[1; 1000]).unwrap();
        taken += 1;
        assert!(taken <= 64);
    }
    world.run(secs(5));
    assert!(world.nodes[1].messages(StreamClass::Routing).len() >= taken, "all that was taken was sent");
}

#[test]
fn a_new_adjacency_starts_its_routing_stream_at_one() {
    let mut world = World::pair(1);
    world.send(0, 1, StreamClass::Routing, b"a").unwrap();
    assert_eq!(world.send(0, 1, StreamClass::Routing, b"b"), Ok(2));
    world.run(ms(100));
    let (peer, path) = (world.id(1), world.path_to(1));
    world.act(0, |sessions, now| sessions.path_dead(peer, path, now));
    world.run(secs(1));
    world.assert_linked();
    assert_eq!(world.send(0, 1, StreamClass::Routing, b"c"), Ok(1));
    world.run(ms(100));
    assert_eq!(world.nodes[1].messages(StreamClass::Routing), [b"a", b"b", b"c"]);
}

#[test]
fn receipts_of_an_earlier_stream_are_worth_nothing() {
    let mut world = World::pair(1);
    world.nodes[1].acknowledges = false;
    world.send(0, 1, StreamClass::Documents, b"before").unwrap();
    world.run(ms(100));
    let receipt = world.nodes[1].events.iter().find_map(|event| match event {
        Event::Message { receipt, .. } => Some(*receipt),
        _ => None,
    });
    world.restart(0);
    world.open(0, 1);
    world.run(ms(300));
    world.send(0, 1, StreamClass::Documents, b"after").unwrap();
    world.run(ms(100));
    world.act(1, |sessions, now| sessions.acknowledge(receipt.unwrap(), now));
    world.run(ms(100));
    assert_eq!(processed(&world, 0, StreamClass::Documents), None);
}

#[test]
fn a_peer_that_stays_silent_for_fifteen_seconds_loses_the_association() {
    let mut world = World::pair(1);
    world.nodes[1].alive = false;
    world.send(0, 1, StreamClass::Documents, b"anybody").unwrap();
    world.run(secs(14));
    assert!(world.nodes[0].view(&world.id(1)).is_some());
    world.run(secs(2));
    let closed = Event::Closed { peer: world.id(1), reason: CloseReason::Unacknowledged };
    assert!(world.nodes[0].events.contains(&closed));
    assert!(world.nodes[0].view(&world.id(1)).is_none());
}

#[test]
fn streams_survive_a_rekey_and_an_outage() {
    let mut world = World::pair(1);
    let mut sent = Vec::new();
    for n in 0..400u16 {
        let message = n.to_le_bytes().to_vec();
        world.send(0, 1, StreamClass::Documents, &message).unwrap();
        sent.push(message);
        if n == 100 {
            world.underlay = false;
            for n in 0..2 {
                let (peer, path) = (world.id(1 - n), world.path_to(1 - n));
                world.act(n, |sessions, now| sessions.path_dead(peer, path, now));
            }
            world.run(secs(30));
            world.underlay = true;
        }
        world.run(ms(500));
    }
    world.run(secs(3));
    assert!(world.nodes[0].renewals() >= 1);
    assert_eq!(world.nodes[1].messages(StreamClass::Documents), sent);
    assert_eq!(world.nodes[0].ups(), 0);
}

#[test]
fn bad_messages_are_refused_with_a_reason() {
    let mut world = World::pair(1);
    assert_eq!(world.send(0, 1, StreamClass::Documents, &[]), Err(SendError::TooBig));
    assert_eq!(world.send(0, 1, StreamClass::Documents, &[0; 16_385]), Err(SendError::TooBig));
    assert!(world.send(0, 1, StreamClass::Documents, &[0; 16_384]).is_ok());
    world.underlay = false;
    let full = (0..100).map(|_| world.send(0, 1, StreamClass::Documents, &[0; 1000])).find(Result::is_err);
    assert_eq!(full, Some(Err(SendError::Full)));
    let stranger = identity(99).node_id();
    let sent = world.act(0, |sessions, now| sessions.send(stranger, StreamClass::Documents, b"x", now));
    assert_eq!(sent, Err(SendError::NoSession));
}
