//! Whatever a stranger can send: replays, forgeries, floods, noise (protocol A2, B1, B2, B18, B19).

use sinew_noise::Initiator;
use sinew_session::*;
use sinew_types::{DropReason, Rng};

use crate::support::*;

fn first_hs1(world: &World) -> Vec<u8> {
    world.seen.iter().find(|seen| seen.bytes[0] == 1).unwrap().bytes.clone()
}

/// What an observer of the machine's face could notice.
fn face(world: &World, n: usize, peer: usize) -> String {
    let id = world.id(peer);
    format!(
        "{:?} {:?}",
        world.nodes[n].sessions.info(&id, world.now).map(|i| (i.path, i.adj, i.up)),
        world.nodes[n].events
    )
}

#[test]
fn a_replayed_first_message_changes_nothing_and_stores_nothing() {
    let mut world = World::new(2, 1);
    world.open(0, 1);
    world.run(secs(30));
    world.assert_linked();
    let hs1 = first_hs1(&world);
    world.forget();
    let before = face(&world, 1, 0);
    let thief = Arrival::Direct(udp("203.0.113.9:9"));
    world.deliver(1, thief, hs1);
    assert_eq!(world.nodes[1].drops.get(DropReason::StaleHandshake), 1);
    assert_eq!(world.nodes[1].sessions.counts(), (1, 0), "no pending slot");
    assert_eq!(world.seen.len(), 1);
    assert!(world.seen[0].bytes.len() < 200, "no amplification");
    assert_eq!(face(&world, 1, 0), before);
    world.assert_same_epoch();
}

#[test]
fn replays_cannot_make_the_node_answer_more_than_once_a_second_without_a_cookie() {
    let mut world = World::new(2, 1);
    world.open(0, 1);
    world.run(secs(30));
    let hs1 = first_hs1(&world);
    world.forget();
    for n in 0..4 {
        world.deliver(1, Arrival::Direct(udp(&format!("203.0.113.{}:9", n + 1))), hs1.clone());
    }
    let kinds: Vec<_> = world.seen.iter().map(|seen| seen.bytes[0]).collect();
    assert_eq!(kinds, [2, 3, 3, 3]);
}

#[test]
fn a_first_message_that_was_held_back_and_replayed_takes_nothing_over() {
    let mut world = World::pair(1);
    // Fresh by its stamp, made by the real peer, and never followed by a record: this is also what a
    // thief of the responder's key can forge (B2).
    let (peer, own) = (world.id(1), identity(1));
    let future = payload(UNIX * 2, 99, own.node_id().sign_bit());
    let (_, noise) = Initiator::start(&own, &peer, &[0; 32], &future.emit(), [5; 32]).unwrap();
    let before = face(&world, 1, 0);
    world.deliver(1, Arrival::Direct(udp("203.0.113.9:9")), hs1(&peer, 77, noise));
    assert_eq!(world.seen.len(), 1, "it is answered");
    assert_eq!(world.nodes[1].sessions.counts(), (1, 1), "and waits in the one slot");
    assert_eq!(face(&world, 1, 0), before);
    world.assert_same_epoch();
    world.run(secs(11));
    assert_eq!(world.nodes[1].sessions.counts(), (1, 0));
    assert_eq!(face(&world, 1, 0), before);
    world.assert_same_epoch();
    // The stamp of the future was never confirmed, so it locks nobody out.
    world.restart(0);
    world.open(0, 1);
    world.run(ms(200));
    assert_eq!(world.nodes[0].ups(), 1);
    world.assert_linked();
}

#[test]
fn the_genuine_handshake_displaces_a_forged_pending_one_by_its_stamp_or_one_round_trip_later() {
    let mut world = World::new(2, 1);
    let (peer, own) = (world.id(1), identity(1));
    let future = payload(UNIX * 2, 1, own.node_id().sign_bit());
    let (_, noise) = Initiator::start(&own, &peer, &[0; 32], &future.emit(), [5; 32]).unwrap();
    world.deliver(1, Arrival::Direct(udp("203.0.113.9:9")), hs1(&peer, 77, noise));
    world.open(0, 1);
    world.run(ms(100));
    assert_eq!(world.nodes[0].ups(), 1, "told the stamp, it went above it");
    world.assert_linked();
}

#[test]
fn a_byte_identical_repetition_gets_the_same_answer_five_times() {
    let mut world = World::new(2, 1);
    world.underlay = false;
    world.open(0, 1);
    let hs1 = first_hs1(&world);
    world.seen.clear();
    let from = Arrival::Direct(world.path_to(0));
    for _ in 0..10 {
        world.deliver(1, from, hs1.clone());
    }
    assert_eq!(world.seen.len(), 6);
    assert!(world.seen.iter().all(|seen| seen.bytes == world.seen[0].bytes));
    assert_eq!(world.nodes[1].sessions.counts(), (0, 1));
}

#[test]
fn noise_and_damage_get_no_answer_and_no_memory() {
    let mut world = World::pair(1);
    let mut rng = Rng::new([7; 32]);
    world.data(0, 1, b"sample");
    let samples: Vec<_> = world.seen.iter().map(|seen| seen.bytes.clone()).chain([vec![1; 200]]).collect();
    world.run(ms(100));
    let mut fresh = World::new(2, 2);
    fresh.open(0, 1);
    let genuine = fresh.seen[0].bytes.clone();
    world.forget();
    let events = world.nodes[1].events.len();
    for n in 0..20_000u64 {
        let mut bytes =
            if n % 3 == 0 { genuine.clone() } else { samples[n as usize % samples.len()].clone() };
        match n % 4 {
            0 => bytes.truncate(rng.below(bytes.len() as u64) as usize),
            1 => bytes = (0..rng.below(300)).map(|_| rng.u32() as u8).collect(),
            _ => {
                // Inside what the mac or tag covers: byte 184 on is mac2, which is looked at under load.
                let at = rng.below(bytes.len().min(184) as u64) as usize;
                bytes[at] ^= 1 << rng.below(8);
            }
        }
        world.deliver(1, Arrival::Direct(udp("203.0.113.9:9")), bytes);
    }
    assert!(world.seen.is_empty(), "answered {:?}", world.seen[0]);
    assert_eq!(world.nodes[1].sessions.counts(), (1, 0));
    assert_eq!(world.nodes[1].events.len(), events);
    world.assert_same_epoch();
}

fn stranger(n: u32) -> Vec<u8> {
    let mut seed = [0; 32];
    seed[..4].copy_from_slice(&n.to_le_bytes());
    seed[31] = 0x5a;
    let identity = sinew_types::Identity::from_seed(seed);
    let to = crate::support::identity(2).node_id();
    let hello = payload(UNIX, 1, identity.node_id().sign_bit());
    let (_, noise) = Initiator::start(&identity, &to, &[0; 32], &hello.emit(), seed).unwrap();
    hs1(&to, n + 1, noise)
}

#[test]
fn a_flood_meets_cookies_while_sessions_go_on_and_a_genuine_newcomer_gets_in() {
    let mut world = World::new(3, 1);
    world.open(0, 1);
    world.run(ms(500));
    world.forget();
    let hello = stranger(1);
    world.now += ms(1000);
    for n in 0..5000u32 {
        // One valid message, made to look different, from made-up sources.
        let mut bytes = hello.clone();
        bytes[4..8].copy_from_slice(&(n + 5).to_le_bytes());
        let mac = sinew_noise::HandshakeMac::new(&world.id(1), &[0; 32]).mac1(&bytes[..168]);
        bytes[168..184].copy_from_slice(&mac);
        let source = udp(&format!("203.0.{}.{}:9", n / 250, n % 250 + 1));
        world.deliver(1, Arrival::Direct(source), bytes);
        if n % 100 == 0 {
            assert!(world.data(0, 1, b"established"));
            world.run(ms(10));
        }
    }
    world.run(ms(20));
    assert!(world.nodes[1].drops.get(DropReason::CookieRequired) > 3000);
    assert_eq!(world.nodes[1].inbox.len(), 50, "not one packet of the session is lost");
    assert!(world.nodes[1].sessions.is_under_load());
    world.seen.clear();
    world.open(2, 1);
    world.run(ms(100));
    assert!(world.seen.iter().any(|seen| seen.bytes[0] == 3), "it had to show a cookie");
    assert_eq!(world.nodes[2].ups(), 1);
}

#[test]
fn a_cookie_is_worth_nothing_from_another_address() {
    let mut world = World::new(2, 1);
    world.act(1, |sessions, now| sessions.set_queued(512, now));
    world.open(0, 1);
    world.run(ms(15));
    let cookie = world.seen.iter().find(|seen| seen.bytes[0] == 3).expect("under load").clone();
    assert!(cookie.bytes.len() == 56);
    world.run(ms(8));
    let with_mac2 = world.seen.iter().rfind(|seen| seen.from == 0).unwrap().bytes.clone();
    assert_ne!(with_mac2[184..], [0; 16]);
    world.act(1, |sessions, now| sessions.set_queued(512, now));
    let drops = world.nodes[1].drops.get(DropReason::CookieRequired);
    world.deliver(1, Arrival::Direct(udp("10.0.0.1:2")), with_mac2);
    assert_eq!(world.nodes[1].drops.get(DropReason::CookieRequired), drops + 1, "another port");
    world.run(ms(100));
    world.assert_linked();
}

#[test]
fn one_source_starts_five_handshakes_at_once_and_twenty_a_second() {
    let mut world = World::new(2, 1);
    let from = Arrival::Direct(udp("203.0.113.9:9"));
    for n in 0..8 {
        world.deliver(1, from, stranger(n));
    }
    assert_eq!(world.nodes[1].drops.get(DropReason::RateLimited), 3);
    assert_eq!(world.nodes[1].sessions.counts(), (0, 5));
}

#[test]
fn pending_handshakes_are_bounded() {
    let mut world = World::new(2, 1);
    for n in 0..1100u32 {
        let source = udp(&format!("203.{}.{}.1:9", n / 250, n % 250));
        if n % 90 == 89 {
            world.now += ms(150);
        }
        world.deliver(1, Arrival::Direct(source), stranger(n));
    }
    assert_eq!(world.nodes[1].sessions.counts(), (0, 1024));
    assert_eq!(world.nodes[1].drops.get(DropReason::TableFull), 1100 - 1024);
    world.run(secs(11));
    assert_eq!(world.nodes[1].sessions.counts(), (0, 0));
}

#[test]
fn one_host_cannot_fill_the_table_with_free_identities() {
    let mut world = World::with(12, 1, |_, config| Config { unlisted_per_source: 3, ..config });
    for n in 0..8 {
        world.nodes[n].addr = format!("10.0.0.1:{}", n + 1).parse().unwrap();
        world.open(n, 9);
        world.run(ms(300));
    }
    assert_eq!(world.nodes[9].ups(), 3);
    world.open(10, 9);
    world.run(ms(300));
    assert_eq!(world.nodes[9].ups(), 4, "another host is let in");
}

#[test]
fn a_cookie_is_taken_only_from_the_target_it_was_asked_of() {
    let mut world = World::new(2, 1);
    world.act(1, |sessions, now| sessions.set_queued(512, now));
    world.open(0, 1);
    world.run(ms(15));
    let cookie = world.seen.iter().find(|seen| seen.bytes[0] == 3).unwrap().bytes.clone();
    world.seen.clear();
    world.deliver(0, Arrival::Direct(udp("203.0.113.9:9")), cookie);
    assert_eq!(world.nodes[0].drops.get(DropReason::BadHandshake), 1);
    assert!(world.seen.is_empty());
}

#[test]
fn a_peer_cannot_keep_us_busy_with_handshakes_inside_its_session() {
    let mut world = World::pair(1);
    let own = identity(1);
    let record = {
        world.data(0, 1, b"x");
        world.seen.last().unwrap().bytes.clone()
    };
    let index = u32::from_le_bytes(record[4..8].try_into().unwrap());
    let from = Arrival::Direct(world.path_to(0));
    for n in 0..10 {
        let hello = payload(UNIX * 2 + n, 2, own.node_id().sign_bit());
        let (_, noise) =
            Initiator::start(&own, &world.id(1), &[0; 32], &hello.emit(), [n as u8; 32]).unwrap();
        let inside = sinew_wire::handshake::Hs1 { sender: 7, noise, mac1: [0; 16], mac2: [0; 16] }.emit();
        let kind = sinew_wire::record::Kind::Handshake;
        let done =
            world.act(1, |sessions, now| sessions.handle_control(index, from, kind, &inside, 236, now));
        assert_eq!(done, if n < 5 { Ok(()) } else { Err(DropReason::RateLimited) }, "{n}");
    }
}
