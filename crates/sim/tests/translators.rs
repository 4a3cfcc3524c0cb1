//! Two hosts behind translators that talk through relays: which pairs find a direct path, how soon, and
//! what happens to those that do not. The table is what `docs/protocol/10-reach.md` promises.

#![allow(clippy::print_stdout, reason = "the table is worth reading")]

use std::time::Duration;

use sinew_sim::{Edge, NatKind, Plan, Realms, World};
use sinew_types::CarrierKind;

const SECOND: Duration = Duration::from_secs(1);
const LATENCY: Duration = Duration::from_millis(10);
/// The relays; A and B come after them.
const RELAYS: usize = 2;
const A: usize = RELAYS;
const B: usize = RELAYS + 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Public,
    Nat(NatKind),
    /// A home router behind a provider's translator.
    Nested(NatKind, NatKind),
}

/// Every kind of place, by the name in the table.
const PLACES: [(&str, Place); 8] = [
    ("public", Place::Public),
    ("full cone", Place::Nat(NatKind::FULL_CONE)),
    ("address-restricted", Place::Nat(NatKind::ADDRESS_RESTRICTED)),
    ("port-restricted", Place::Nat(NatKind::PORT_RESTRICTED)),
    ("symmetric", Place::Nat(NatKind::SYMMETRIC)),
    ("symmetric, random", Place::Nat(NatKind::SYMMETRIC_RANDOM)),
    ("CGNAT over NAT", Place::Nested(NatKind::PORT_RESTRICTED, NatKind::PORT_RESTRICTED)),
    ("UDP blocked", Place::Nat(NatKind::BLOCKED)),
];

fn realms(places: [Place; 2]) -> Realms {
    let mut realms = Realms { nats: Vec::new(), hosts: vec![0; RELAYS], latency: LATENCY };
    for place in places {
        let realm = match place {
            Place::Public => 0,
            Place::Nat(kind) => {
                realms.nats.push((kind, 0));
                realms.nats.len()
            }
            Place::Nested(home, carrier) => {
                realms.nats.push((carrier, 0));
                let inside = realms.nats.len();
                realms.nats.push((home, inside));
                realms.nats.len()
            }
        };
        realms.hosts.push(realm);
    }
    realms
}

/// A and B linked with both relays, settled; those without UDP by streams.
fn world(seed: u64, realms: Realms) -> World {
    let mut edges = vec![Edge { a: 0, b: 1, late: false }];
    for host in [A, B] {
        edges.extend((0..RELAYS).map(|relay| Edge { a: relay, b: host, late: false }));
    }
    let blocked = |host: usize| realms.hosts[host].checked_sub(1).is_some_and(|at| realms.nats[at].0.blocks);
    let streams = edges.iter().enumerate().filter(|(_, edge)| blocked(edge.b)).map(|(number, _)| number);
    let streams = streams.collect();
    let mut plan = Plan::behind(seed, &edges, realms);
    plan.streams = streams;
    // Nobody can dial into a translator.
    plan.dialled_from_high_end = true;
    let mut world = World::new(&plan);
    run(&mut world, 5 * SECOND);
    world
}

fn run(world: &mut World, span: Duration) {
    world.run_for(span).unwrap_or_else(|violation| panic!("{violation}"));
}

/// Whether what A sends to B goes there directly.
fn is_direct(world: &World, a: usize, b: usize) -> bool {
    let hosts = world.hosts();
    let node = hosts[a].node.as_ref().expect("it runs");
    let now = hosts[a].clock(world.now());
    let sessions = node.sessions(now);
    sessions.iter().any(|s| s.node == hosts[b].id && s.path.is_some_and(|p| p.carrier == CarrierKind::Udp))
}

/// Talks for up to `most`; when both directions were direct, if they ever were.
fn until_direct(world: &mut World, most: Duration) -> Option<Duration> {
    let begin = world.now();
    world.flow(A, B, Duration::from_millis(100), begin + most);
    while world.now().since(begin) < most {
        run(world, Duration::from_millis(100));
        if is_direct(world, A, B) && is_direct(world, B, A) {
            return Some(world.now().since(begin));
        }
    }
    None
}

/// The share of requests that were answered.
fn answered(world: &World, from: usize) -> (usize, usize) {
    let ledger = &world.apps().ledger()[from..];
    (ledger.iter().filter(|exchange| exchange.answered.is_some()).count(), ledger.len())
}

/// Direct, or relayed, by the kinds of both: what RFC 4787's terms say must work, what a translator
/// that counts its ports gives away, and what many ports find.
fn expected(a: Place, b: Place) -> bool {
    let rank = |place: Place| match place {
        Place::Public | Place::Nat(NatKind::FULL_CONE) => 0,
        Place::Nat(NatKind::ADDRESS_RESTRICTED) => 1,
        Place::Nat(NatKind::PORT_RESTRICTED) | Place::Nested(..) => 2,
        Place::Nat(NatKind::SYMMETRIC) => 3,
        Place::Nat(NatKind::SYMMETRIC_RANDOM) => 4,
        Place::Nat(_) => 9,
    };
    match (rank(a).min(rank(b)), rank(a).max(rank(b))) {
        (_, 9) => false,
        (0 | 1, _) | (2, 2..=4) => true,
        _ => false,
    }
}

#[test]
fn every_pair_of_places_finds_the_path_that_its_translators_allow() {
    const SEEDS: u64 = 3;
    let mut wrong = Vec::new();
    for (row, (name, a)) in PLACES.iter().enumerate() {
        let mut line = format!("{name:>20}");
        for (other, b) in &PLACES[..=row] {
            let (mut found, mut slowest) = (0, Duration::ZERO);
            for seed in 0..SEEDS {
                let mut world = world(seed, realms([*a, *b]));
                let first = world.apps().ledger().len();
                let took = until_direct(&mut world, 15 * SECOND);
                run(&mut world, SECOND);
                found += u64::from(took.is_some());
                slowest = slowest.max(took.unwrap_or_default());
                let (good, all) = answered(&world, first);
                assert!(good + 3 >= all, "{name} and {other}: {good} of {all} answered meanwhile");
            }
            line += &format!("  {found}/{SEEDS} {:>4.1}s", slowest.as_secs_f64());
            if found != if expected(*a, *b) { SEEDS } else { 0 } {
                wrong.push(format!("{name} and {other}: {found} of {SEEDS}"));
            }
        }
        println!("{line}");
    }
    // Two that count may meet by luck; nothing is promised of them.
    wrong.retain(|line| !line.starts_with("symmetric and symmetric"));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn two_behind_one_translator_that_does_not_turn_around_meet_on_their_own_network() {
    let mut realms =
        Realms { nats: vec![(NatKind::PORT_RESTRICTED, 0)], hosts: vec![0, 0], latency: LATENCY };
    realms.hosts.extend([1, 1]);
    let mut world = world(1, realms);
    let took = until_direct(&mut world, 15 * SECOND).expect("they share a network");
    assert!(took <= 3 * SECOND, "{took:?}");
}

#[test]
fn two_homes_of_one_provider_meet_if_it_turns_around_and_are_relayed_if_not() {
    for hairpin in [false, true] {
        let carrier = NatKind { hairpin, ..NatKind::PORT_RESTRICTED };
        let home = (NatKind::PORT_RESTRICTED, 1);
        let realms =
            Realms { nats: vec![(carrier, 0), home, home], hosts: vec![0, 0, 2, 3], latency: LATENCY };
        let mut world = world(1, realms);
        assert_eq!(until_direct(&mut world, 15 * SECOND).is_some(), hairpin);
    }
}

#[test]
fn a_path_found_with_many_ports_keeps_one_of_them_and_is_found_again() {
    let kinds = [NatKind::SYMMETRIC_RANDOM, NatKind::PORT_RESTRICTED];
    let mut world = world(1, realms(kinds.map(Place::Nat)));
    let open = |world: &World| world.hosts()[A].opened();
    until_direct(&mut world, 15 * SECOND).expect("direct");
    // Talk goes on, and what was opened for nothing is closed.
    world.flow(A, B, Duration::from_millis(100), world.now() + 20 * SECOND);
    run(&mut world, 20 * SECOND);
    assert!(is_direct(&world, A, B) && is_direct(&world, B, A));
    assert_eq!(open(&world), 1, "the path's own");
    assert_eq!(world.hosts()[B].opened(), 0);
    // Nobody talks: the path ends, and its socket with it.
    run(&mut world, 150 * SECOND);
    assert!(!is_direct(&world, A, B));
    assert_eq!(open(&world), 0);
    until_direct(&mut world, 15 * SECOND).expect("direct again: the address has proved to be the peer's");
}

/// A draws ports, B does not; each is linked with relay 0 and with one more.
fn with_relays(of_a: usize, of_b: usize) -> World {
    let kinds = [NatKind::SYMMETRIC_RANDOM, NatKind::PORT_RESTRICTED];
    let nats = kinds.map(|kind| (kind, 0)).to_vec();
    let realms = Realms { nats, hosts: vec![0, 0, 0, 1, 2], latency: LATENCY };
    let links = [(0, 1), (0, 2), (0, 3), (of_a, 3), (0, 4), (of_b, 4)];
    let edges = links.map(|(a, b)| Edge { a, b, late: false });
    let mut plan = Plan::behind(1, &edges, realms);
    plan.dialled_from_high_end = true;
    let mut world = World::new(&plan);
    run(&mut world, 5 * SECOND);
    world
}

#[test]
fn nobody_is_searched_at_an_address_that_only_one_witness_vouches_for() {
    for (of_a, of_b, direct) in [(1, 2, false), (1, 1, true)] {
        let mut world = with_relays(of_a, of_b);
        let (a, b) = (3, 4);
        world.flow(a, b, Duration::from_millis(100), world.now() + 15 * SECOND);
        let mut most = 0;
        for _ in 0..150 {
            run(&mut world, Duration::from_millis(100));
            most = most.max(world.hosts()[a].opened());
        }
        assert_eq!(is_direct(&world, a, b), direct, "relays {of_a} and {of_b}");
        assert_eq!(most > 0, direct, "{most} ports opened");
    }
}

#[test]
fn a_search_that_finds_nothing_ends_within_its_budget_and_is_not_soon_tried_again() {
    let kinds = [NatKind::SYMMETRIC_RANDOM, NatKind::PORT_RESTRICTED];
    let mut world = world(1, realms(kinds.map(Place::Nat)));
    world.deafen(A);
    let lost = |world: &World| world.counts().nowhere;
    let before = lost(&world);
    world.flow(A, B, Duration::from_millis(100), world.now() + 240 * SECOND);
    run(&mut world, 15 * SECOND);
    let searched = lost(&world) - before;
    // Whoever tries, 1,024; who opens, 256; and both the knocks of two or three rounds.
    assert!((1_024 + 200..=1_024 + 256 + 150).contains(&searched), "{searched}");
    run(&mut world, 225 * SECOND);
    assert!(!is_direct(&world, A, B));
    let rounds = lost(&world) - before - searched;
    assert!(rounds < 300, "{rounds} in the rounds after it");
}

#[test]
fn two_that_draw_ports_are_spared_the_search() {
    let mut world = world(1, realms([Place::Nat(NatKind::SYMMETRIC_RANDOM); 2]));
    world.flow(A, B, Duration::from_millis(100), world.now() + 30 * SECOND);
    for _ in 0..300 {
        run(&mut world, Duration::from_millis(100));
        assert!(world.hosts()[A].opened() + world.hosts()[B].opened() == 0);
    }
}

#[test]
fn a_direct_path_is_private_to_the_pair() {
    let mut world = world(1, realms([Place::Public, Place::Nat(NatKind::PORT_RESTRICTED)]));
    until_direct(&mut world, 15 * SECOND).expect("direct");
    let (a, b) = (&world.hosts()[A], &world.hosts()[B]);
    let node = a.node.as_ref().expect("it runs");
    assert_eq!(node.adjacency(&b.addr), None, "no neighbours");
    assert!(node.next_hop(&b.addr).is_some_and(|hop| hop != b.addr), "routing knows nothing of it");
    let peers = node.peers(a.clock(world.now()));
    assert!(peers.iter().all(|peer| peer.node != b.id), "nor do people, as of a peer");
    // Keys are renewed over it, and it stays what it is.
    world.flow(A, B, Duration::from_millis(500), world.now() + 200 * SECOND);
    run(&mut world, 200 * SECOND);
    let (a, b) = (&world.hosts()[A], &world.hosts()[B]);
    assert_eq!(a.node.as_ref().expect("it runs").adjacency(&b.addr), None);
    assert!(is_direct(&world, A, B));
}

#[test]
fn a_path_that_nobody_uses_ends_and_comes_back_with_the_talk() {
    let mut world = world(1, realms([Place::Nat(NatKind::PORT_RESTRICTED); 2]));
    until_direct(&mut world, 15 * SECOND).expect("direct");
    run(&mut world, 15 * SECOND);
    assert!(is_direct(&world, A, B));
    run(&mut world, 150 * SECOND);
    assert!(!is_direct(&world, A, B) && !is_direct(&world, B, A), "given up");
    until_direct(&mut world, 15 * SECOND).expect("direct again");
}

#[test]
fn when_translators_forget_relays_carry_at_once_and_the_path_is_found_again() {
    let mut world = world(1, realms([Place::Nat(NatKind::PORT_RESTRICTED), Place::Nat(NatKind::SYMMETRIC)]));
    until_direct(&mut world, 15 * SECOND).expect("direct");
    run(&mut world, 40 * SECOND);
    let first = world.apps().ledger().len();
    world.restart_translators();
    until_direct(&mut world, 20 * SECOND).expect("direct again");
    run(&mut world, SECOND);
    let (good, all) = answered(&world, first);
    // Links and path die together here; what is lost is lost within two seconds.
    assert!(good + 25 >= all, "{good} of {all}");
}

#[test]
fn who_forbids_direct_paths_gets_none_and_tells_no_address() {
    let mut world = world(1, realms([Place::Public, Place::Public]));
    world.forbid_direct(B);
    assert_eq!(until_direct(&mut world, 15 * SECOND), None);
}

#[test]
fn a_link_through_a_translator_with_a_short_memory_learns_to_stay_open() {
    let kind = NatKind { timeout: Duration::from_secs(2), ..NatKind::SYMMETRIC };
    let mut world = world(1, realms([Place::Public, Place::Nat(kind)]));
    // Until then nobody talks: hellos every five seconds meet a translator that has forgotten.
    run(&mut world, 60 * SECOND);
    let first = world.apps().ledger().len();
    // From outside, now and then, after rests of seven seconds.
    world.flow(0, B, 7 * SECOND, world.now() + 70 * SECOND);
    run(&mut world, 75 * SECOND);
    let (good, all) = answered(&world, first);
    assert!(all >= 10 && good == all, "{good} of {all}");
}
