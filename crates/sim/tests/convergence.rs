//! How long a network takes from nothing, and how long after a link fails. Times are virtual;
//! latencies are 1 to 20 ms a link, hosts all start at once.

#![allow(clippy::print_stdout, reason = "measured times are worth reading")]

use std::time::Duration;

use sinew_sim::{Fault, Faults, Params, Topology, WallClock, World};
use sinew_types::Instant;

const STEP: Duration = Duration::from_millis(100);

fn world(seed: u64, nodes: usize, degree: usize) -> World {
    let params = Params { seed, nodes, topology: Topology::Random { degree }, faults: Faults::None };
    World::new(&params.plan())
}

/// Runs until every ordered pair has a path over live adjacencies; the virtual time it took.
fn converge(world: &mut World, bound: Duration) -> Duration {
    loop {
        world.run_for(STEP).unwrap_or_else(|violation| panic!("{violation}"));
        let past = world.now().since(Instant::ZERO);
        let missing = world.unreachable(3);
        if missing.is_empty() {
            return past;
        }
        assert!(past < bound, "after {past:?} these have no path: {missing:?}");
    }
}

/// `count` pairs spread over the network.
fn some_pairs(nodes: usize, count: usize) -> impl Iterator<Item = (usize, usize)> {
    let pair = move |i: usize| (i * 7919 % nodes, (i * 104_729 + 13) % nodes);
    (0..count).map(pair).filter(|(src, dst)| src != dst)
}

/// Packets really go both ways between these pairs, within `bound`.
fn must_talk(world: &mut World, pairs: impl Iterator<Item = (usize, usize)>, bound: Duration) {
    let first = world.apps().ledger().len();
    for (src, dst) in pairs {
        world.request(src, dst).unwrap_or_else(|violation| panic!("{violation}"));
    }
    world.run_for(bound).unwrap_or_else(|violation| panic!("{violation}"));
    let silent: Vec<_> =
        world.apps().ledger()[first..].iter().filter(|exchange| exchange.answered.is_none()).collect();
    assert!(silent.is_empty(), "{} pairs do not talk, such as {:?}", silent.len(), silent[0]);
}

#[test]
fn two_hundred_hosts_reach_each_other_a_second_after_a_cold_start() {
    let mut world = world(1, 200, 6);
    let took = converge(&mut world, Duration::from_secs(1));
    println!("200 hosts: every pair has a path after {took:?}");
    must_talk(&mut world, some_pairs(200, 400), Duration::from_secs(2));
}

#[test]
fn a_thousand_hosts_reach_each_other_two_seconds_after_a_cold_start_and_survive_faults() {
    const NODES: usize = 1_000;
    let mut world = world(1, NODES, 4);
    let took = converge(&mut world, Duration::from_secs(2));
    println!("1,000 hosts: every pair has a path after {took:?}");
    must_talk(&mut world, some_pairs(NODES, 300), Duration::from_secs(2));

    // Five links and two hosts fail under traffic; nobody else loses anybody for long.
    let faults: Vec<_> = dispensable_links(&world, 5).into_iter().map(Fault::LinkDown).collect();
    let until = world.now() + Duration::from_secs(6);
    some_pairs(NODES, 300).for_each(|(src, dst)| world.flow(src, dst, Duration::from_millis(100), until));
    for fault in faults.into_iter().chain([Fault::Crash(500), Fault::Crash(501)]) {
        world.fault(fault).unwrap_or_else(|violation| panic!("{violation}"));
    }
    world.run_for(Duration::from_secs(3)).unwrap_or_else(|violation| panic!("{violation}"));
    for host in [500, 501] {
        world
            .fault(Fault::Restart(host, WallClock::YearsBack))
            .unwrap_or_else(|violation| panic!("{violation}"));
    }
    // A link without traffic is given up after three hellos, 5 s apart; one with traffic at once.
    world.run_for(Duration::from_secs(20)).unwrap_or_else(|violation| panic!("{violation}"));
    let missing = world.unreachable(1);
    assert!(missing.is_empty(), "{}", world.explain(missing[0]));
    must_talk(&mut world, some_pairs(NODES, 300), Duration::from_secs(2));
}

/// Links whose ends have others, and none in common.
fn dispensable_links(world: &World, count: usize) -> Vec<usize> {
    let degree = |host| world.links().iter().filter(|link| link.ends.contains(&host)).count();
    let (mut chosen, mut touched) = (Vec::new(), Vec::new());
    for (number, link) in world.links().iter().enumerate() {
        if link.ends.iter().all(|&end| degree(end) > 2 && !touched.contains(&end)) && chosen.len() < count {
            touched.extend(link.ends);
            chosen.push(number);
        }
    }
    chosen
}

/// The longest time without an answer that each flow saw between `from` and now.
fn outages(world: &World, first: usize, pairs: &[(usize, usize)], from: Instant) -> Vec<Duration> {
    let outage = |&(src, dst): &(usize, usize)| {
        let exchanges = world.apps().ledger()[first..].iter();
        let mut answers: Vec<_> = exchanges
            .filter(|exchange| (exchange.src, exchange.dst) == (src, dst))
            .filter_map(|exchange| exchange.answered)
            .chain([world.now()])
            .filter(|&answered| answered >= from)
            .collect();
        answers.sort();
        let mut last = from;
        answers.into_iter().map(|at| at.since(core::mem::replace(&mut last, at))).max().unwrap_or_default()
    };
    pairs.iter().map(outage).collect()
}

#[test]
fn a_failed_link_is_repaired_in_less_than_a_second_for_99_of_100_pairs_with_traffic() {
    const NODES: usize = 200;
    let interval = Duration::from_millis(40);
    let mut world = world(2, NODES, 6);
    converge(&mut world, Duration::from_secs(10));
    world.run_for(Duration::from_secs(3)).unwrap_or_else(|violation| panic!("{violation}"));
    let candidates: Vec<_> = some_pairs(NODES, 3_000).collect();
    let mut all = Vec::new();
    for round in 0..6 {
        let link = busiest_link(&world, &candidates, round);
        let ends = world.links()[link].ends;
        let mut pairs = through(&world, &candidates, ends);
        pairs.truncate(60);
        let first = world.apps().ledger().len();
        let until = world.now() + Duration::from_secs(5);
        pairs.iter().for_each(|&(src, dst)| world.flow(src, dst, interval, until));
        world.run_for(Duration::from_secs(1)).unwrap_or_else(|violation| panic!("{violation}"));
        // Who still goes that way when it fails is affected.
        let affected = through(&world, &pairs, ends);
        let failed_at = world.now();
        world.fault(Fault::LinkDown(link)).unwrap_or_else(|violation| panic!("{violation}"));
        world.run_until(until).unwrap_or_else(|violation| panic!("{violation}"));
        all.extend(outages(&world, first, &affected, failed_at));
    }
    all.sort();
    let (count, median) = (all.len(), all[all.len() / 2]);
    let (most, worst) = (all[(all.len() * 99).div_ceil(100) - 1], all[all.len() - 1]);
    println!("{count} affected pairs: median {median:?}, 99 % within {most:?}, worst {worst:?}");
    assert!(count >= 100 && most < Duration::from_secs(1));
}

/// The pairs whose packets pass this link, in either direction.
fn through(world: &World, pairs: &[(usize, usize)], [a, b]: [usize; 2]) -> Vec<(usize, usize)> {
    let passes = |path: Option<Vec<usize>>| {
        path.is_some_and(|path| path.windows(2).any(|hop| hop == [a, b] || hop == [b, a]))
    };
    let affected =
        |&(src, dst): &(usize, usize)| passes(world.path(src, dst)) || passes(world.path(dst, src));
    pairs.iter().copied().filter(affected).collect()
}

/// The link that most of these pairs use, of every third one beginning at `round`.
fn busiest_link(world: &World, pairs: &[(usize, usize)], round: usize) -> usize {
    let mut uses = vec![0; world.links().len()];
    for path in pairs.iter().filter_map(|&(src, dst)| world.path(src, dst)) {
        for hop in path.windows(2) {
            let link =
                world.links().iter().position(|link| link.ends == [hop[0].min(hop[1]), hop[0].max(hop[1])]);
            uses[link.expect("a path follows links")] += 1;
        }
    }
    let of_round = (0..uses.len()).filter(|link| link % 3 == round % 3 && world.links()[*link].up);
    of_round.max_by_key(|&link| uses[link]).expect("there are links")
}
