//! Private networks over a whole mesh: partitions, many workloads, crashes, and who may read what.
//! What was measured on the way is printed, for `--nocapture`.
#![allow(clippy::print_stdout)]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use sinew_node::overlay::{
    AdmitSpec, Clock, DocumentSet, Grant, KeyRing, Overlay, Owner, Revoked, State, Unverified, judge,
};
use sinew_sim::{Edge, Fault, Plan, Topology, Violation, WallClock, World};
use sinew_types::{Identity, Instant, Label, NetworkId, Rng};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

fn must<T>(result: Result<T, Violation>) -> T {
    result.unwrap_or_else(|violation| panic!("{violation}"))
}

fn owner(seed: u64) -> Identity {
    Identity::from_seed([0xe0 ^ seed as u8; 32])
}

fn rng(seed: u64) -> Rng {
    let mut bytes = [9; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    Rng::new(bytes)
}

/// Runs until `done`, looked at every 50 ms; how long it took.
fn run_until(world: &mut World, limit: Duration, what: &str, done: impl Fn(&World) -> bool) -> Duration {
    let start = world.now();
    while !done(world) {
        assert!(world.now().since(start) < limit, "{what}: not within {limit:?}");
        must(world.run_for(50 * MS));
    }
    world.now().since(start)
}

/// Two halves, each a random graph, and a few links between them: the numbers of those.
fn halves(nodes: usize, seed: u64) -> (Vec<Edge>, Vec<usize>) {
    let mut rng = rng(seed);
    let half = nodes / 2;
    let mut edges = Topology::Random { degree: 4 }.edges(half, &mut rng);
    let shift = |edge: Edge| Edge { a: edge.a + half, b: edge.b + half, ..edge };
    edges.extend(Topology::Random { degree: 4 }.edges(nodes - half, &mut rng).into_iter().map(shift));
    let first = edges.len();
    edges.extend((0..6).map(|n| Edge { a: n * half / 6, b: half + n * half / 6, late: false }));
    (edges, (first..first + 6).collect())
}

/// A network with an admin at the head of each half: what the owner signs for the second.
fn found_with_two_admins(world: &mut World, owner: &Identity, second: usize) -> NetworkId {
    let network = must(world.found(owner, 0));
    let (id, unix) = (world.hosts()[second].id, world.unix(0) / 1_000_000);
    let signed = must(world.with_overlay(0, |overlay, _| {
        let documents = overlay.export(&network).expect("documents");
        let tool = Owner::read(owner, &documents, unix).expect("readable");
        let numbers = tool.free_numbers().expect("half of the range");
        let grant = Grant { scopes: Grant::ALL, numbers, longest: None };
        tool.grant(id, grant, None).expect("a grant")
    }));
    let bytes: Vec<_> = signed.iter().map(|signed| signed.bytes.to_vec()).collect();
    must(world.with_overlay(0, |overlay, now| overlay.import(network, bytes, now))).expect("taken");
    network
}

/// All addresses of a network: of members' subnets and of workloads.
fn assert_no_address_twice(state: &State) {
    let members: Vec<_> = state.members.values().filter(|member| member.is_valid()).collect();
    let subnets: BTreeSet<_> = members.iter().map(|member| (member.subnets.v4, member.subnets.v6)).collect();
    assert_eq!(subnets.len(), members.len(), "two members share a subnet");
    let all: Vec<IpAddr> = state.workloads.values().flat_map(|workload| workload.addresses()).collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "two workloads share an address");
}

/// The documents of a network amount to the same in whatever order they come.
fn assert_order_does_not_matter(documents: &[Vec<u8>], network: &NetworkId, expected: &State, seed: u64) {
    let mut rng = rng(seed);
    let mut keys = KeyRing::default();
    let clock = Clock { own: expected.at, floor: 0, synchronised: true };
    let mut order: Vec<_> = documents.iter().collect();
    for _ in 0..20 {
        for at in (1..order.len()).rev() {
            order.swap(at, rng.below(at as u64 + 1) as usize);
        }
        let mut set = DocumentSet::default();
        for bytes in &order {
            let signed = Unverified::parse(bytes, network).and_then(|doc| doc.verify(&mut keys));
            set.insert(Arc::new(signed.expect("they were taken once")));
        }
        let state = judge(&set, network, clock);
        assert_eq!(state.members, expected.members);
        assert_eq!(state.workloads, expected.workloads);
        assert_eq!(state.revoked, expected.revoked);
    }
}

/// What happens on both sides of the cut in ten minutes: each host's operator at work, and both admins.
fn changes(world: &mut World, network: NetworkId, hosts: &[usize], spare: [usize; 2], rng: &mut Rng) {
    let end = world.now() + Duration::from_secs(600);
    let admins = [0, spare[0] + 1];
    let mut revoked = BTreeSet::new();
    for step in 0..120 {
        must(world.run_for(Duration::from_millis(2_000 + rng.below(5_000))));
        if world.now() >= end {
            break;
        }
        let host = hosts[rng.below(hosts.len() as u64) as usize];
        if revoked.contains(&host) {
            continue;
        }
        match rng.below(10) {
            0..7 => _ = must(world.place(network, host, &format!("w{host}-{step}"))),
            7 => {
                let own = world.hosts()[host].id;
                let mine = |world: &World| {
                    let state = world.state(&network, host)?;
                    state.workloads.values().find(|workload| workload.home == own).map(|w| w.name.clone())
                };
                if let Some(name) = mine(world) {
                    must(world.with_overlay(host, |overlay, now| overlay.remove(network, &name, now)))
                        .expect("its own");
                }
            }
            8 if !admins.contains(&host) && revoked.len() < 6 => {
                let admin = admins[usize::from(rng.below(2) == 1)];
                let who = Revoked::Member(world.hosts()[host].id);
                must(world.with_overlay(admin, |overlay, now| overlay.revoke(network, who, now)))
                    .expect("an admin may");
                revoked.insert(host);
            }
            _ => {}
        }
        // A newcomer on each side, at the same time.
        if step == 20 {
            for (admin, host) in [(admins[0], spare[0]), (admins[1], spare[1])] {
                must(world.join(network, admin, host));
            }
        }
    }
    must(world.run_until(end));
}

#[test]
fn fifty_members_agree_within_five_seconds_of_a_partition_of_ten_minutes_with_changes_on_both_sides() {
    for seed in [1, 2] {
        let (edges, bridges) = halves(50, seed);
        let mut world = World::new(&Plan::clean(seed, 50, &edges, 5 * MS));
        run_until(&mut world, 60 * SECOND, "routes", |world| world.unreachable(1).is_empty());
        let owner = owner(seed);
        let network = found_with_two_admins(&mut world, &owner, 25);
        // One host of each half comes later.
        let spare = [24, 49];
        let hosts: Vec<_> = (0..50).filter(|host| !spare.contains(host)).collect();
        for &host in &hosts[1..] {
            must(world.join(network, 0, host));
        }
        run_until(&mut world, 60 * SECOND, "the first agreement", |world| {
            world.state(&network, 0).is_some_and(|state| state.members.len() == 48)
                && world.agree(&network, &hosts)
        });
        for &bridge in &bridges {
            must(world.fault(Fault::LinkDown(bridge)));
        }
        changes(&mut world, network, &hosts, spare, &mut rng(seed + 100));
        let members = |world: &World| -> Vec<usize> {
            let state = world.state(&network, 0).expect("a member");
            let is = |host: &usize| state.member(&world.hosts()[*host].id).is_some();
            (0..50).filter(is).collect()
        };
        assert!(!world.agree(&network, &members(&world)), "the cut cut nothing");
        for &bridge in &bridges {
            must(world.fault(Fault::LinkUp(bridge)));
        }
        let routed =
            run_until(&mut world, 60 * SECOND, "routes again", |world| world.unreachable(1).is_empty());
        let agreed = run_until(&mut world, 5 * SECOND, "agreement", |world| {
            let all = members(world);
            world.agree(&network, &all)
        });
        let state = world.state(&network, 0).expect("a member").clone();
        println!(
            "seed {seed}: routed {routed:?} after the links were back, agreed {agreed:?} later on {} members, {} workloads, {} revocations",
            state.members.values().filter(|member| member.is_valid()).count(),
            state.workloads.len(),
            state.revoked.len()
        );
        assert!(state.workloads.len() > 40 && !state.revoked.is_empty());
        assert!(spare.iter().all(|&host| state.member(&world.hosts()[host].id).is_some()), "both newcomers");
        assert_no_address_twice(&state);
        let documents =
            must(world.with_overlay(0, |overlay, _| overlay.export(&network))).expect("documents");
        assert_order_does_not_matter(&documents, &network, &state, seed);
    }
}

#[test]
fn a_joiner_knows_a_thousand_workloads_of_twenty_nodes_in_less_than_three_seconds() {
    let mut rng = rng(5);
    let mut edges = Topology::Random { degree: 4 }.edges(20, &mut rng);
    edges.push(Edge { a: 3, b: 20, late: false });
    let mut world = World::new(&Plan::clean(5, 21, &edges, 5 * MS));
    run_until(&mut world, 60 * SECOND, "routes", |world| world.unreachable(1).is_empty());
    let network = must(world.found(&owner(5), 0));
    for host in 1..20 {
        must(world.join(network, 0, host));
    }
    let hosts: Vec<_> = (0..20).collect();
    run_until(&mut world, 60 * SECOND, "agreement", |world| {
        world.state(&network, 0).is_some_and(|state| state.members.len() == 20)
            && world.agree(&network, &hosts)
            && hosts.iter().all(|&host| world.is_open(&network, host))
    });
    for n in 0..50 {
        for host in 0..20 {
            must(world.place(network, host, &format!("w{host}-{n}")));
        }
        must(world.run_for(100 * MS));
    }
    let knows =
        |world: &World, host| world.state(&network, host).map_or(0, |state| state.workloads.len()) == 1000;
    let spread = run_until(&mut world, 60 * SECOND, "a thousand", |world| {
        hosts.iter().all(|&host| knows(world, host))
    });
    must(world.run_for(30 * SECOND));
    // What the mesh carries anyway in three seconds.
    let before = world.counts().bytes;
    must(world.run_for(3 * SECOND));
    let idle = world.counts().bytes - before;
    let (before, own) = (world.counts().bytes, world.sent_bytes()[20]);
    must(world.join(network, 0, 20));
    let took = run_until(&mut world, 3 * SECOND, "the joiner", |world| knows(world, 20));
    must(world.run_for(3 * SECOND - took));
    let carried = world.counts().bytes - before - idle;
    let sent = world.sent_bytes()[20] - own;
    let documents = must(world.with_overlay(20, |overlay, _| overlay.export(&network))).expect("documents");
    let bytes: usize = documents.iter().map(Vec::len).sum();
    let memory = memory_of(&world, network);
    println!(
        "1,000 workloads on 20 nodes: everywhere {spread:?} after the last; a joiner knew all after {took:?}; \
         {} documents of {bytes} bytes, {carried} bytes on all links above the usual, the joiner sent {sent}; \
         {memory} bytes of memory for the machine that holds them",
        documents.len()
    );
    assert!(took < 3 * SECOND);
    assert!(carried < 20 * bytes as u64, "each document crosses few links");
    assert!(memory < 16 * 1024 * 1024);
}

/// Bytes that a machine takes for what host 20 has on its disk.
fn memory_of(world: &World, network: NetworkId) -> i64 {
    let stored = world.stored(&network, 20).expect("on its disk");
    let identity = Arc::new(Identity::from_seed([0x77; 32]));
    let mut overlay = Overlay::new(identity, [1; 32], world.unix(20), Instant::from_micros(1));
    let counted = allocation_counter::measure(|| {
        overlay.restore(network, stored, Instant::from_micros(1)).expect("readable");
    });
    assert_eq!(overlay.state(&network).map(|state| state.workloads.len()), Ok(1000));
    counted.bytes_current
}

#[test]
fn a_relay_that_is_no_member_carries_calls_and_reads_none() {
    let edges: Vec<_> = (1..4).map(|b| Edge { a: b - 1, b, late: false }).collect();
    let mut world = World::new(&Plan::clean(7, 4, &edges, 5 * MS));
    run_until(&mut world, 60 * SECOND, "routes", |world| world.unreachable(1).is_empty());
    let network = must(world.found(&owner(7), 0));
    must(world.join(network, 0, 3));
    run_until(&mut world, 10 * SECOND, "membership", |world| world.is_open(&network, 3));
    let (a, b) = (must(world.place(network, 0, "alpha")), must(world.place(network, 3, "beta")));
    must(world.run_for(SECOND));
    // The checker for plaintext looks at every datagram on every link.
    let calls: Vec<_> = (0..20).map(|_| must(world.call(a, b))).collect();
    must(world.run_for(SECOND));
    let answered = |&call: &usize| world.workloads().calls()[call].answered.is_some();
    assert!(calls.iter().all(answered));
    for relay in [1, 2] {
        let node = world.hosts()[relay].node.as_ref().expect("it runs");
        assert!(node.overlay().networks().is_empty(), "a relay knows of no network");
    }
}

#[test]
fn two_networks_of_the_same_addresses_on_the_same_hosts_stay_apart() {
    let edges: Vec<_> = (1..3).map(|b| Edge { a: b - 1, b, late: false }).collect();
    let mut world = World::new(&Plan::clean(8, 3, &edges, 5 * MS));
    run_until(&mut world, 60 * SECOND, "routes", |world| world.unreachable(1).is_empty());
    let mut pairs = Vec::new();
    for seed in [8, 9] {
        let network = must(world.found(&owner(seed), 0));
        must(world.join(network, 0, 2));
        run_until(&mut world, 10 * SECOND, "membership", |world| world.is_open(&network, 2));
        let (a, b) = (must(world.place(network, 0, "alpha")), must(world.place(network, 2, "beta")));
        must(world.run_for(SECOND));
        pairs.push((a, b));
    }
    let calls: Vec<_> = (0..10).flat_map(|_| pairs.clone()).map(|(a, b)| must(world.call(a, b))).collect();
    must(world.run_for(SECOND));
    assert!(calls.iter().all(|&call| world.workloads().calls()[call].answered.is_some()));
    // From one into the other: the checker would see it come out.
    let ((red, _), (_, blue)) = (pairs[0], pairs[1]);
    let stray = must(world.call(red, blue));
    must(world.run_for(SECOND));
    assert!(world.workloads().calls()[stray].arrived.is_none());
    assert_eq!(world.workloads().told.get(&0), Some(&1), "the caller is told");
}

#[test]
fn members_that_crash_come_back_with_their_networks_though_nobody_else_is_up() {
    let edges: Vec<_> = (1..3).map(|b| Edge { a: b - 1, b, late: false }).collect();
    let mut world = World::new(&Plan::clean(11, 3, &edges, 5 * MS));
    run_until(&mut world, 60 * SECOND, "routes", |world| world.unreachable(1).is_empty());
    let network = must(world.found(&owner(11), 0));
    must(world.join(network, 0, 2));
    run_until(&mut world, 10 * SECOND, "membership", |world| world.is_open(&network, 2));
    let (a, b) = (must(world.place(network, 0, "alpha")), must(world.place(network, 2, "beta")));
    must(world.run_for(2 * SECOND));
    for host in [0, 2] {
        must(world.fault(Fault::Crash(host)));
    }
    must(world.run_for(SECOND));
    must(world.fault(Fault::Restart(2, WallClock::YearsBack)));
    must(world.run_for(SECOND));
    let state = world.state(&network, 2).expect("from its own disk");
    assert!(state.named(&Label::parse("alpha").expect("a label")).is_some(), "also what others told it");
    must(world.fault(Fault::Restart(0, WallClock::Right)));
    run_until(&mut world, 60 * SECOND, "routes", |world| world.unreachable(1).is_empty());
    must(world.run_for(2 * SECOND));
    let call = must(world.call(a, b));
    must(world.run_for(SECOND));
    assert!(world.workloads().calls()[call].answered.is_some());
}

#[test]
fn an_admin_s_word_goes_round_in_bad_weather() {
    let mut rng = rng(13);
    let edges = Topology::Random { degree: 4 }.edges(12, &mut rng);
    let mut plan = Plan::clean(13, 12, &edges, 5 * MS);
    for link in &mut plan.links {
        for direction in &mut link.directions {
            (direction.loss, direction.jitter_us) = (20_000, 4_000);
        }
    }
    let mut world = World::new(&plan);
    run_until(&mut world, 60 * SECOND, "routes", |world| world.unreachable(1).is_empty());
    let network = must(world.found(&owner(13), 0));
    for host in 1..12 {
        let node = world.hosts()[host].id;
        let spec = AdmitSpec { node, groups: vec![], name: None, lasts: None };
        must(world.with_overlay(0, |overlay, now| overlay.admit(network, spec, now))).expect("an admin may");
        must(world.join(network, 0, host));
    }
    let all: Vec<_> = (0..12).collect();
    run_until(&mut world, 60 * SECOND, "agreement", |world| {
        world.state(&network, 0).is_some_and(|state| state.members.len() == 12) && world.agree(&network, &all)
    });
    let victim = Revoked::Member(world.hosts()[7].id);
    must(world.with_overlay(0, |overlay, now| overlay.revoke(network, victim, now))).expect("an admin may");
    let rest: Vec<_> = (0..12).filter(|&host| host != 7).collect();
    let node = world.hosts()[7].id;
    let took = run_until(&mut world, 10 * SECOND, "the revocation", |world| {
        rest.iter()
            .all(|&host| world.state(&network, host).is_some_and(|state| state.member(&node).is_none()))
    });
    println!("2 % loss on every link: a revocation was everywhere after {took:?}");
}
