//! Attackers on links: what they do is refused, counted under its own reason, and stops nobody
//! longer than it lasts. That nothing altered, replayed or misdirected comes out of a TUN is
//! checked in every run.

use std::time::Duration;

use sinew_sim::{Attack, Edge, Lie, Plan, World};
use sinew_types::{DropReason, Drops};

const LATENCY: Duration = Duration::from_millis(3);
const OFTEN: u64 = 200_000;

/// 0 – 1 – 2, settled, with traffic from end to end for `span` from now on.
fn line(seed: u64, span: Duration) -> World {
    let edges = [Edge { a: 0, b: 1, late: false }, Edge { a: 1, b: 2, late: false }];
    let mut world = World::new(&Plan::clean(seed, 3, &edges, LATENCY));
    run(&mut world, 3);
    assert_eq!(world.path(0, 2), Some(vec![0, 1, 2]));
    let until = world.now() + span;
    world.flow(0, 2, Duration::from_millis(10), until);
    world
}

fn run(world: &mut World, seconds: u64) {
    world.run_for(Duration::from_secs(seconds)).unwrap_or_else(|violation| panic!("{violation}"));
}

fn drops(world: &World, host: usize) -> Drops {
    world.hosts()[host].node.as_ref().expect("it runs").drops()
}

/// Runs `attack` on what 1 sends to 2 and gives the drops of all hosts and the answered requests.
fn under(attack: Attack) -> (Vec<Drops>, usize, usize) {
    let span = Duration::from_secs(6);
    let mut world = line(1, span);
    run(&mut world, 1);
    world.attack(1, 2, attack);
    run(&mut world, 5);
    world.attack_ends();
    let number = world.request(0, 2).unwrap_or_else(|violation| panic!("{violation}"));
    run(&mut world, 1);
    assert!(world.apps().ledger()[number].answered.is_some(), "after the attack they talk");
    let ledger = world.apps().ledger();
    let answered = ledger.iter().filter(|exchange| exchange.answered.is_some()).count();
    ((0..3).map(|host| drops(&world, host)).collect(), ledger.len(), answered)
}

#[test]
fn bodies_that_a_relay_alters_are_forged_to_their_receiver_only() {
    let (drops, requests, answered) = under(Attack::AlterBody { chance: OFTEN });
    assert!(drops[2].get(DropReason::Forged) > 50, "{:?}", drops[2]);
    assert_eq!(drops[1].get(DropReason::Forged), 0);
    assert!(answered * 10 > requests * 7 && answered < requests, "{answered} of {requests}");
}

#[test]
fn altered_datagrams_are_refused_and_the_rest_goes_on() {
    let (drops, requests, answered) = under(Attack::Alter { chance: OFTEN });
    assert!(drops[2].get(DropReason::Forged) > 50, "{:?}", drops[2]);
    assert!(answered * 10 > requests * 6, "{answered} of {requests}");
}

#[test]
fn truncated_datagrams_are_refused_and_the_rest_goes_on() {
    let (drops, requests, answered) = under(Attack::Truncate { chance: OFTEN });
    let refused = drops[2].get(DropReason::Malformed) + drops[2].get(DropReason::Forged);
    assert!(refused > 50, "{:?}", drops[2]);
    assert!(answered * 10 > requests * 6, "{answered} of {requests}");
}

#[test]
fn replayed_datagrams_are_counted_and_nothing_comes_out_twice() {
    let (drops, requests, answered) = under(Attack::Replay { chance: OFTEN, memory: Vec::new() });
    assert!(drops[2].get(DropReason::Replayed) > 50, "{:?}", drops[2]);
    assert_eq!(requests, answered);
}

#[test]
fn reflected_datagrams_open_nothing() {
    let (drops, requests, answered) = under(Attack::Reflect { chance: OFTEN });
    let refused = drops[1].get(DropReason::UnknownIndex) + drops[1].get(DropReason::Forged);
    assert!(refused > 50, "{:?}", drops[1]);
    assert_eq!(requests, answered);
}

#[test]
fn noise_is_refused() {
    let (drops, requests, answered) = under(Attack::Noise { chance: 1_000_000 });
    for reason in [DropReason::UnknownType, DropReason::Malformed, DropReason::UnknownIndex] {
        assert!(drops[2].get(reason) > 0, "{reason}: {:?}", drops[2]);
    }
    assert_eq!(requests, answered);
}

#[test]
fn attackers_on_every_link_from_the_beginning_only_delay() {
    let edges: Vec<_> = (0..8).map(|a| Edge { a, b: (a + 1) % 9, late: false }).collect();
    let mut world = World::new(&Plan::clean(5, 9, &edges, LATENCY));
    for (at, edge) in edges.iter().enumerate() {
        for (way, (from, to)) in [(edge.a, edge.b), (edge.b, edge.a)].into_iter().enumerate() {
            world.attack(
                from,
                to,
                match (at + way) % 5 {
                    0 => Attack::Alter { chance: OFTEN },
                    1 => Attack::Truncate { chance: OFTEN },
                    2 => Attack::Replay { chance: OFTEN, memory: Vec::new() },
                    3 => Attack::Reflect { chance: OFTEN },
                    _ => Attack::Noise { chance: OFTEN },
                },
            );
        }
    }
    for host in 1..9 {
        let until = world.now() + Duration::from_secs(20);
        world.flow(0, host, Duration::from_millis(100), until);
    }
    run(&mut world, 20);
    world.attack_ends();
    run(&mut world, 10);
    assert_eq!(world.unreachable(3), []);
    let first = world.apps().ledger().len();
    for host in 1..9 {
        world.request(0, host).unwrap_or_else(|violation| panic!("{violation}"));
    }
    run(&mut world, 3);
    assert!(world.apps().ledger()[first..].iter().all(|exchange| exchange.answered.is_some()));
}

/// A ring of four in which host 1 lies; gives what its neighbours 0 and 2 refused.
fn beside(lie: Lie) -> Vec<Drops> {
    let edges = [(0, 1), (1, 2), (2, 3), (0, 3)].map(|(a, b)| Edge { a, b, late: false });
    let mut plan = Plan::clean(3, 4, &edges, LATENCY);
    plan.liars.insert(1, lie);
    let mut world = World::new(&plan);
    run(&mut world, 10);
    let number = world.request(0, 2).unwrap_or_else(|violation| panic!("{violation}"));
    run(&mut world, 2);
    assert!(world.apps().ledger()[number].answered.is_some(), "honest hosts talk");
    let refused = |host: usize| {
        world.hosts()[host].node.as_ref().map(|node| node.routing_drops().clone()).unwrap_or_default()
    };
    vec![refused(0), refused(2)]
}

#[test]
fn forged_origin_records_are_refused_and_counted() {
    for drops in beside(Lie::Records) {
        assert!(drops.get(DropReason::ForgedOrigin) > 0, "{drops:?}");
    }
}

#[test]
fn metrics_that_the_chain_does_not_prove_are_refused_and_counted() {
    for drops in beside(Lie::Metrics) {
        assert!(drops.get(DropReason::UnprovenMetric) > 0, "{drops:?}");
    }
}
