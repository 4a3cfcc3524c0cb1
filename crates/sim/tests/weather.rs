//! Whole runs: faults first, then peace, under all checkers. Each panic names its replay command.

use sinew_sim::{Faults, Params, SETTLE_BOUND, Summary, Topology, run};

const RANDOM: Topology = Topology::Random { degree: 5 };

fn must_pass(seed: u64, nodes: usize, topology: Topology, faults: Faults) -> Summary {
    let summary = run(Params { seed, nodes, topology, faults }).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(summary.settled <= SETTLE_BOUND);
    summary
}

#[test]
fn three_hosts_survive_everything() {
    for (seed, topology) in (0..12).zip([Topology::Line, Topology::Ring, Topology::Star].into_iter().cycle())
    {
        must_pass(seed, 3, topology, Faults::All);
    }
}

#[test]
fn ten_hosts_survive_everything_in_every_shape() {
    let shapes = [Topology::Line, Topology::Ring, Topology::Star, RANDOM, Topology::Islands];
    for (seed, topology) in (100..120).zip(shapes.into_iter().cycle()) {
        must_pass(seed, 10, topology, Faults::All);
    }
}

#[test]
fn fifty_hosts_survive_everything() {
    must_pass(200, 50, RANDOM, Faults::All);
    must_pass(201, 50, Topology::Islands, Faults::All);
}

#[test]
fn two_hundred_hosts_survive_everything() {
    must_pass(300, 200, RANDOM, Faults::All);
}

#[test]
fn without_faults_every_request_is_answered_once_routes_stand() {
    let summary = must_pass(1, 10, RANDOM, Faults::None);
    let (requests, answered) = summary.requests;
    // The first of each of the 20 flows leaves at time zero, when nobody knows anybody.
    assert!(requests - answered <= 20, "{requests} {answered}");
}

#[test]
fn the_same_seed_gives_the_same_datagrams() {
    for faults in [Faults::None, Faults::All] {
        let first = must_pass(7, 10, RANDOM, faults);
        let second = must_pass(7, 10, RANDOM, faults);
        assert_eq!((first.trace, first.counts), (second.trace, second.counts), "{faults}");
        let other = must_pass(8, 10, RANDOM, faults);
        assert_ne!(first.trace, other.trace, "{faults}");
    }
}
