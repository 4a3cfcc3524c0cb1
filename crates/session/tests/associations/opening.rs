//! Opening a session: latency, loss, reordering, restarts, clocks, both sides at once.

use sinew_noise::{Cipher, CipherSet, Initiator, Responder};
use sinew_session::*;
use sinew_types::DropReason;
use sinew_wire::handshake::{Hs1, Hs1Payload, Hs2, Hs2Payload, Hs2Status};

use crate::support::*;

#[test]
fn a_session_opens_in_one_round_trip_and_becomes_an_adjacency() {
    let mut world = World::new(2, 1);
    let start = world.now;
    world.open(0, 1);
    world.run(ms(20));
    assert!(world.nodes[0].view(&world.id(1)).is_some(), "the initiator may send after one round trip");
    assert!(world.nodes[1].view(&world.id(0)).is_none(), "the responder waits for the first record");
    world.run(ms(10));
    assert!(world.nodes[1].view(&world.id(0)).is_some());
    world.run(ms(100));
    world.assert_linked();
    world.assert_same_epoch();
    assert_eq!((world.nodes[0].ups(), world.nodes[1].ups()), (1, 1));
    let observed = Event::Observed { peer: world.id(1), path: world.path_to(1), addr: world.nodes[0].addr };
    assert!(world.nodes[0].events.contains(&observed));
    assert!(world.now > start);
}

#[test]
fn a_session_opens_under_loss_duplication_and_reordering() {
    for seed in 0..30 {
        let mut world = World::new(2, seed);
        world.link = Link { latency: ms(30), jitter: ms(60), loss: 200, duplication: 100 };
        world.open(0, 1);
        world.run(secs(12));
        world.assert_linked();
        world.link = Link::GOOD;
        world.assert_same_epoch();
        assert_eq!((world.nodes[0].ups(), world.nodes[1].ups()), (1, 1), "seed {seed}");
    }
}

#[test]
fn two_that_open_at_once_end_with_one_association_and_the_same_epoch() {
    let mut rng = sinew_types::Rng::new([9; 32]);
    for round in 0..10_000u32 {
        let mut world = World::new(2, round as u8);
        world.rng = rng.fork();
        world.link =
            Link { latency: ms(rng.below(150)), jitter: ms(rng.below(100)), loss: 0, duplication: 0 };
        world.open(0, 1);
        world.run(ms(rng.below(400)));
        world.open(1, 0);
        world.run(secs(3));
        assert_eq!((world.nodes[0].ups(), world.nodes[1].ups()), (1, 1), "round {round}");
        let closed = |n: usize| world.nodes[n].count(|e| matches!(e, Event::Closed { .. }));
        assert_eq!((closed(0), closed(1)), (0, 0), "round {round}");
        world.assert_linked();
        world.link = Link::GOOD;
        world.assert_same_epoch();
    }
}

#[test]
fn two_that_open_at_once_over_relays_end_the_same_way() {
    for seed in 0..50 {
        let mut world = World::new(2, seed);
        world.relays = true;
        world.link = Link { latency: ms(u64::from(seed) * 3), jitter: ms(20), loss: 50, duplication: 50 };
        world.open_routed(0, 1);
        world.open_routed(1, 0);
        world.run(secs(8));
        assert_eq!((world.nodes[0].ups(), world.nodes[1].ups()), (1, 1), "seed {seed}");
        world.link = Link::GOOD;
        world.assert_same_epoch();
        let view = world.nodes[0].view(&world.id(1)).unwrap();
        assert_eq!((view.path, view.adj), (None, None), "a routed session has no path and no adjacency");
    }
}

#[test]
fn the_first_message_is_repeated_unchanged_and_renewed_after_five_seconds() {
    let mut world = World::new(1, 1);
    let peer = identity(9).node_id();
    let start = world.now;
    let target = Target::Direct(udp("192.0.2.1:1"));
    world.act(0, |sessions, now| sessions.open(peer, target, now));
    world.run(secs(4));
    let times: Vec<_> = world.seen.iter().map(|seen| seen.at.since(start).as_millis()).collect();
    assert_eq!(times, [0, 250, 500, 1000, 2000]);
    assert!(world.seen.iter().all(|seen| seen.bytes == world.seen[0].bytes));
    world.run(secs(2));
    let renewed = world.seen[5].at.since(start);
    assert!((ms(5000)..=ms(5333)).contains(&renewed), "{renewed:?}");
    assert_ne!(world.seen[5].bytes, world.seen[0].bytes);
    world.run(secs(90));
    let failed = Event::AttemptFailed { peer, target, reason: AttemptFailure::NoAnswer };
    assert_eq!(world.nodes[0].events, [failed]);
    let sent = world.seen.len();
    world.run(secs(600));
    assert_eq!(world.seen.len(), sent, "then only on demand");
    assert_eq!(world.nodes[0].sessions.counts(), (0, 0));
}

#[test]
fn several_targets_share_one_message_and_the_ones_that_answer_later_become_paths() {
    let mut world = World::new(2, 1);
    let (peer, good) = (world.id(1), world.path_to(1));
    let dead = udp("192.0.2.1:1");
    world.act(0, |sessions, now| sessions.open(peer, Target::Direct(dead), now));
    world.run(ms(1500));
    world.act(0, |sessions, now| sessions.open(peer, Target::Direct(good), now));
    world.run(secs(10));
    world.assert_linked();
    let failed =
        Event::AttemptFailed { peer, target: Target::Direct(dead), reason: AttemptFailure::NoAnswer };
    assert!(world.nodes[0].events.contains(&failed));
    assert_eq!(world.nodes[0].sessions.info(&peer, world.now).unwrap().paths.len(), 1);
}

#[test]
fn bad_targets_and_the_own_key_are_refused_at_once() {
    let mut world = World::new(1, 1);
    let (own, peer) = (world.id(0), identity(9).node_id());
    let table = [
        (own, udp("192.0.2.1:1"), AttemptFailure::OwnIdentity),
        (peer, udp("[fd3f::1]:7463"), AttemptFailure::BadTarget),
        (peer, udp("192.0.2.1:0"), AttemptFailure::BadTarget),
        (peer, udp("0.0.0.0:7"), AttemptFailure::BadTarget),
    ];
    for (peer, path, reason) in table {
        let target = Target::Direct(path);
        world.act(0, |sessions, now| sessions.open(peer, target, now));
        assert_eq!(world.nodes[0].events.pop(), Some(Event::AttemptFailed { peer, target, reason }));
    }
    assert!(world.seen.is_empty());
}

#[test]
fn whoever_answers_at_an_address_must_be_the_one_we_meant() {
    let mut world = World::new(2, 1);
    let (stranger, path) = (identity(9).node_id(), world.path_to(1));
    world.act(0, |sessions, now| sessions.open(stranger, Target::Direct(path), now));
    world.run(secs(20));
    assert_eq!(world.nodes[0].ups(), 0);
    assert!(world.seen.iter().all(|seen| seen.from == 0), "the wrong node is silent");
    assert!(world.nodes[1].drops.get(DropReason::BadMac1) > 0);
}

#[test]
fn forged_answers_do_not_end_an_attempt() {
    let mut world = World::new(2, 1);
    world.underlay = false;
    world.open(0, 1);
    let index = u32::from_le_bytes(world.seen[0].bytes[4..8].try_into().unwrap());
    let from = Arrival::Direct(world.path_to(1));
    for n in 0..20 {
        let forged = Hs2 { sender: 7, receiver: index, noise: [n; 112] }.emit();
        world.deliver(0, from, forged.to_vec());
    }
    assert_eq!(world.nodes[0].drops.get(DropReason::BadHandshake), 20);
    world.underlay = true;
    world.run(secs(7));
    world.assert_linked();
}

#[test]
fn a_mesh_secret_keeps_everybody_else_out_in_silence_and_can_be_rotated() {
    let with = |a: &'static [[u8; 32]], b: &'static [[u8; 32]]| {
        let mut world =
            World::with(2, 1, |n, config| Config { secrets: if n == 0 { a } else { b }.to_vec(), ..config });
        world.open(0, 1);
        world.run(secs(8));
        world
    };
    const OLD: [u8; 32] = [1; 32];
    const NEW: [u8; 32] = [2; 32];
    for (a, b, linked) in [
        (&[OLD][..], &[OLD][..], true),
        (&[OLD], &[NEW], false),
        (&[OLD], &[], false),
        (&[], &[OLD], false),
        (&[NEW, OLD], &[OLD], true),
        (&[OLD], &[NEW, OLD], true),
        (&[NEW, OLD], &[OLD, NEW], true),
    ] {
        let world = with(a, b);
        assert_eq!(world.nodes[0].ups(), usize::from(linked), "{a:?} {b:?}");
        if !linked {
            assert!(world.seen.iter().all(|seen| seen.from == 0), "{a:?} {b:?}: an answer");
        }
    }
}

#[test]
fn a_node_that_accepts_only_the_listed_is_silent_to_others() {
    let mut world = World::with(2, 1, |_, config| Config { accept: Accept::Listed, ..config });
    world.open(0, 1);
    world.run(secs(3));
    assert!(world.seen.iter().all(|seen| seen.from == 0));
    assert!(world.nodes[1].drops.get(DropReason::NotListed) > 0);
    let peer = world.id(0);
    world.act(1, |sessions, _| sessions.set_listed([peer].into()));
    world.run(secs(6));
    world.assert_linked();
}

#[test]
fn the_better_cipher_that_both_have_is_used() {
    for (a, b, cipher) in [
        (CipherSet::ALL, CipherSet::ALL, Cipher::Aes256Gcm),
        (CipherSet::ALL, CipherSet::CHACHA, Cipher::ChaCha20Poly1305),
        (CipherSet::CHACHA, CipherSet::ALL, Cipher::ChaCha20Poly1305),
    ] {
        let mut world =
            World::with(2, 1, |n, config| Config { ciphers: if n == 0 { a } else { b }, ..config });
        world.open(0, 1);
        world.run(ms(500));
        world.assert_same_epoch();
        assert_eq!(world.nodes[0].sessions.info(&world.id(1), world.now).unwrap().cipher, Some(cipher));
    }
}

#[test]
fn a_routed_handshake_is_answered_only_at_the_address_of_the_key_it_proves() {
    let mut world = World::new(2, 1);
    world.relays = false;
    world.open_routed(0, 1);
    let hs1 = world.seen[0].bytes.clone();
    let ingress = identity(200).node_id();
    let lie = Arrival::Routed { src: identity(77).node_id().address(), ingress };
    world.deliver(1, lie, hs1.clone());
    assert_eq!(world.nodes[1].drops.get(DropReason::BadHandshake), 1);
    assert!(world.seen.iter().all(|seen| seen.from == 0));
    let truth = Arrival::Routed { src: world.id(0).address(), ingress };
    world.deliver(1, truth, hs1);
    assert_eq!(world.seen.last().unwrap().to, To::Routed(world.id(0).address()));
}

#[test]
fn our_own_key_on_another_host_is_reported() {
    let mut world = World::new(2, 1);
    let twin = Sessions::new(Config::new(identity(2)), [9; 32], UNIX, world.now);
    world.nodes[0].sessions = twin;
    // The twin of node 1 is asked to talk to node 1 under a third name, so that it does not notice.
    let initiator = Initiator::start(
        &identity(2),
        &world.id(1),
        &[0; 32],
        &payload(UNIX, 1, identity(2).node_id().sign_bit()).emit(),
        [3; 32],
    );
    let hs1 = hs1(&world.id(1), 77, initiator.unwrap().1);
    let from = Arrival::Direct(world.path_to(0));
    world.deliver(1, from, hs1);
    assert_eq!(world.nodes[1].drops.get(DropReason::SelfHandshake), 1);
    assert!(matches!(world.nodes[1].events[..], [Event::DuplicateIdentity { .. }]));
}

#[test]
fn a_late_first_message_of_the_side_that_lost_is_not_answered() {
    let mut world = World::new(2, 1);
    let (low, high) = if world.id(0) < world.id(1) { (0, 1) } else { (1, 0) };
    // The higher one's message is held back while the lower one's goes through.
    world.underlay = false;
    world.open(high, low);
    let late = world.seen.pop().unwrap().bytes;
    world.underlay = true;
    world.open(low, high);
    world.run(ms(100));
    world.assert_linked();
    world.forget();
    let from = Arrival::Direct(world.path_to(high));
    world.deliver(low, from, late);
    assert_eq!(world.nodes[low].drops.get(DropReason::StaleHandshake), 1);
    assert!(world.seen.is_empty());
    assert_eq!(world.nodes[low].sessions.counts(), (1, 0));
}

#[test]
fn stale_answers_are_followed_three_times_an_attempt_and_no_more() {
    // A peer that calls everything stale, to keep us busy.
    let mut world = World::new(1, 1);
    let liar = identity(9);
    let path = udp("192.0.2.1:1");
    world.act(0, |sessions, now| sessions.open(liar.node_id(), Target::Direct(path), now));
    for round in 0..10u64 {
        let Some(seen) = world.seen.pop() else { break };
        let hs1 = Hs1::parse(&seen.bytes).unwrap();
        let received = Responder::read(&liar, &[0; 32], &hs1.noise, [round as u8; 32]).unwrap();
        let stamp = Hs1Payload::parse(&received.payload).unwrap().stamp;
        assert!(round == 0 || stamp == u64::MAX);
        let stale = Hs2Payload {
            status: Hs2Status::Stale,
            cipher: 0,
            flags: 0,
            ver: 1,
            max_lanes: 0,
            rx_max: 0,
            assoc_own: 0,
            assoc_peer: 0,
            last_stamp: u64::MAX,
            features: 0,
            observed: None,
            generation: 1,
        };
        let (noise, _) = received.responder.reply(&stale.emit()).unwrap();
        let hs2 = Hs2 { sender: 0, receiver: hs1.sender, noise }.emit();
        world.seen.clear();
        world.deliver(0, Arrival::Direct(path), hs2.to_vec());
        assert_eq!(world.seen.len(), usize::from(round < 3), "round {round}");
    }
}
