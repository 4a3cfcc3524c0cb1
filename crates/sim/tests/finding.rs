//! A mesh that grows by itself, and a directory attacker with a thousand names: it can fail to help, and
//! nothing else.

use std::collections::BTreeSet;
use std::time::Duration;

use sinew_node::directory::{Own, PeeringConfig, Refusal, Source};
use sinew_sim::{Fault, Finding, Plan, World};
use sinew_types::{CarrierKind, DropReason, Identity, Instant};
use sinew_wire::directory::Place;

const LATENCY: Duration = Duration::from_millis(5);
const PEERING: PeeringConfig = PeeringConfig { target: 6, max: 40, stub: false };

fn run(world: &mut World, seconds: u64) {
    world.run_for(Duration::from_secs(seconds)).unwrap_or_else(|violation| panic!("{violation}"));
}

/// Whether all of `hosts` reach each other over each other.
fn connected(world: &World, hosts: std::ops::Range<usize>) -> bool {
    let mut reached = vec![hosts.start];
    let mut at = 0;
    while let Some(&host) = reached.get(at) {
        let next: Vec<_> = world
            .neighbours(host)
            .into_iter()
            .filter(|n| hosts.contains(n) && !reached.contains(n))
            .collect();
        reached.extend(next);
        at += 1;
    }
    reached.len() == hosts.len()
}

#[test]
fn a_mesh_that_knows_one_grows_and_outlives_it() {
    let mut world = World::new(&Plan::finding(1, 24, Finding::honest(PEERING), LATENCY));
    run(&mut world, 60);
    for host in 1..24 {
        let links = world.neighbours(host).len();
        assert!(links >= 4, "host {host} has {links} links");
    }
    assert_eq!(world.unreachable(1), []);
    world.fault(Fault::Crash(0)).unwrap_or_else(|violation| panic!("{violation}"));
    run(&mut world, 30);
    assert!(connected(&world, 1..24));
    assert_eq!(world.unreachable(1), []);
}

#[test]
fn a_node_that_all_others_dial_remembers_some_of_them() {
    let mut world = World::new(&Plan::finding(3, 6, Finding::honest(PEERING), LATENCY));
    run(&mut world, 60);
    for host in 0..6 {
        let proven = world.proven(host);
        assert!(proven >= PEERING.target / 2, "host {host} remembers {proven}");
    }
}

fn name(n: u16) -> Identity {
    let mut seed = [77; 32];
    seed[..2].copy_from_slice(&n.to_le_bytes());
    Identity::from_seed(seed)
}

#[test]
fn a_thousand_names_cannot_redirect_impersonate_or_partition() {
    const HONEST: usize = 16;
    const SYBILS: usize = 4;
    let finding = Finding { sybils: SYBILS, ..Finding::honest(PEERING) };
    let mut world = World::new(&Plan::finding(2, HONEST + SYBILS, finding, LATENCY));
    run(&mut world, 5);
    let unix = world.unix(1);
    // A thousand names: at the attacker's hosts, at honest ones (to have them dialled), and nowhere.
    let record = |n: u16| {
        let addr = match n % 3 {
            0 => world.hosts()[HONEST + usize::from(n) % SYBILS].at,
            1 => world.hosts()[usize::from(n) % HONEST].at,
            _ => format!("66.6.{}.{}:7463", n % 250, 1 + n % 200).parse().expect("an address"),
        };
        let places = vec![Place { addr, carriers: vec![CarrierKind::Udp] }];
        Own { pass_on: true, places, ..Own::default() }.sign(&name(n), unix).to_bytes()
    };
    let lies: Vec<_> = (0..1000).map(record).collect();
    // In the name of an honest host: signed by another, and an old one of its own.
    let stolen = world.own_record(3).expect("it has one");
    let mut forged = stolen.clone();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let places = vec![Place { addr: world.hosts()[HONEST].at, carriers: vec![CarrierKind::Udp] }];
    let old = Own { places, ..Own::default() }.sign(world.identity(3), unix - 3_600_000_000).to_bytes();
    let say = |world: &mut World, host: usize, record: &[u8]| {
        world.tell(host, record, Source::Directory).unwrap_or_else(|violation| panic!("{violation}"))
    };
    for host in 0..HONEST {
        for lie in &lies {
            assert_eq!(say(&mut world, host, lie), None);
        }
        if host != 3 {
            say(&mut world, host, &stolen);
            assert_eq!(say(&mut world, host, &forged), Some(Refusal::Forged));
            assert_eq!(say(&mut world, host, &old), Some(Refusal::Older));
        }
    }
    // The attacker's own hosts pass the names on to whoever asks them.
    for host in HONEST..HONEST + SYBILS {
        for lie in lies.iter().take(60) {
            world.persuade(host, lie).unwrap_or_else(|violation| panic!("{violation}"));
        }
    }
    run(&mut world, 180);
    for host in 0..HONEST {
        assert_eq!(world.phantoms(host), [], "host {host} has a link with nobody");
        let honest = world.neighbours(host).into_iter().filter(|&other| other < HONEST).count();
        assert!(honest >= 3, "host {host} has {honest} honest neighbours");
    }
    assert!(connected(&world, 0..HONEST), "without the attacker's hosts");
    for sybil in HONEST..HONEST + SYBILS {
        world.fault(Fault::Crash(sybil)).unwrap_or_else(|violation| panic!("{violation}"));
    }
    run(&mut world, 30);
    let lost: Vec<_> = world.unreachable(8);
    assert_eq!(lost, [], "all of them at once");
}

/// Which of `hosts` could not talk to each other in the last ten seconds of `time`, in which all asked all.
fn unheard(world: &mut World, hosts: std::ops::Range<usize>, time: Duration) -> Vec<(usize, usize)> {
    let until = world.now() + time;
    let pairs = hosts.clone().flat_map(|a| hosts.clone().map(move |b| (a, b))).filter(|(a, b)| a != b);
    let pairs: Vec<_> = pairs.collect();
    for &(src, dst) in &pairs {
        world.flow(src, dst, Duration::from_millis(500), until);
    }
    run(world, time.as_secs() + 1);
    let since = Instant::from_micros(until.as_micros() - 10_000_000);
    let lately = world.apps().ledger().iter().filter(|exchange| exchange.sent >= since);
    let answered = lately.filter(|exchange| exchange.answered.is_some());
    let answered: BTreeSet<_> = answered.map(|exchange| (exchange.src, exchange.dst)).collect();
    pairs.into_iter().filter(|pair| !answered.contains(pair)).collect()
}

/// A thousand names in four networks, who dial, answer, are linked with, and swallow what they should carry.
/// The one whom all knew is gone after twenty seconds, so that nothing holds the honest together but
/// what they found themselves.
#[test]
fn a_thousand_names_that_answer_and_carry_nothing_stand_in_nobodys_way() {
    const HONEST: usize = 12;
    const SYBILS: usize = 1000;
    const LINKS: usize = 12;
    let peering = PeeringConfig { target: 4, max: LINKS, stub: false };
    let finding = Finding { peering, sybils: SYBILS, networks: 4 };
    let mut world = World::new(&Plan::finding(4, HONEST + SYBILS, finding, LATENCY));
    (HONEST..HONEST + SYBILS).for_each(|sybil| world.swallow(sybil));
    run(&mut world, 20);
    world.fault(Fault::Crash(0)).unwrap_or_else(|violation| panic!("{violation}"));
    run(&mut world, 10);
    let lost = unheard(&mut world, 1..HONEST, Duration::from_secs(45));
    assert_eq!(lost, [], "beside them");
    let (mut taken, mut turned_away) = (0, 0);
    for host in 1..HONEST {
        assert_eq!(world.phantoms(host), []);
        let (honest, sybils): (Vec<_>, Vec<_>) =
            world.neighbours(host).into_iter().partition(|&n| n < HONEST);
        assert!(honest.len() >= 2, "host {host} has {honest:?}");
        assert!(honest.len() + sybils.len() <= LINKS, "host {host} has {honest:?} and {sybils:?}");
        taken += sybils.len();
        let drops = world.hosts()[host].node.as_ref().map(|node| node.drops()).unwrap_or_default();
        turned_away += drops.get(DropReason::TableFull);
    }
    assert!(taken > 60 && turned_away > 100, "{taken} links with the names, {turned_away} refused");
    assert!(connected(&world, 1..HONEST), "without them");
    for sybil in HONEST..HONEST + SYBILS {
        world.fault(Fault::Crash(sybil)).unwrap_or_else(|violation| panic!("{violation}"));
    }
    let lost = unheard(&mut world, 1..HONEST, Duration::from_secs(20));
    assert_eq!(lost, [], "after them");
}
