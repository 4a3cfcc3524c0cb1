//! Two machines with one key at a common neighbour (protocol A3.1).

use sinew_session::*;

use crate::support::*;

/// Nodes 0 and 2 have one key; node 1 is the neighbour of both.
fn twins(seed: u8) -> World {
    World::with(3, seed, |n, config| if n == 2 { Config::new(identity(1)) } else { config })
}

fn reports(world: &World, n: usize) -> Vec<Event> {
    let events = world.nodes[n].events.iter();
    events.filter(|event| matches!(event, Event::DuplicateIdentity { .. })).cloned().collect()
}

/// For `n` seconds 0 and `other` send to 1; whoever is not answered finds its path dead, as the
/// node's liveness would.
fn live(world: &mut World, n: u64, other: usize) {
    for _ in 0..n {
        for from in [0, other] {
            world.data(from, 1, b"hello");
        }
        world.run(ms(500));
        let one = world.id(1);
        let used = world.nodes[1].view(&world.id(0)).and_then(|view| view.path);
        for from in [0, other] {
            if used != Some(world.path_to(from)) {
                let path = world.path_to(1);
                world.act(from, |sessions, now| sessions.path_dead(one, path, now));
            }
        }
        world.run(ms(500));
    }
}

#[test]
fn two_machines_with_one_key_that_take_the_session_from_each_other_are_reported() {
    for seed in 0..20 {
        let mut world = twins(seed);
        world.open(0, 1);
        world.run(secs(5));
        world.open(2, 1);
        live(&mut world, 20, 2);
        let found = reports(&world, 1);
        assert!(!found.is_empty(), "seed {seed}");
        let zero = world.id(0);
        assert!(found.iter().all(|e| matches!(e, Event::DuplicateIdentity { node, .. } if *node == zero)));
        for twin in [0, 2] {
            assert!(reports(&world, twin).is_empty(), "their neighbour is one machine");
        }
        // One of them goes: silence.
        world.nodes[2].alive = false;
        live(&mut world, 20, 0);
        world.forget();
        live(&mut world, 60, 0);
        assert!(reports(&world, 1).is_empty());
    }
}

#[test]
fn a_machine_that_restarts_here_and_there_in_bad_weather_is_no_twin() {
    for seed in 0..20 {
        let mut world = World::new(2, seed);
        world.link = Link { latency: ms(30), jitter: ms(200), loss: 200, duplication: 200 };
        for life in 0..12u64 {
            // From two addresses in turn, as a laptop between a cable and the air.
            world.nodes[0].addr = format!("10.0.{}.1:1", life % 2).parse().unwrap();
            world.open(0, 1);
            if life % 3 == 0 {
                world.open(1, 0);
            }
            live(&mut world, 1 + life % 6, 0);
            let (now, clock) = (world.now, UNIX + world.now.as_micros());
            world.restart(0);
            let back = (life % 4) * 600_000_000;
            world.act(0, |sessions, _| sessions.set_unix(clock - back, now));
        }
        assert!(reports(&world, 1).is_empty(), "seed {seed}");
    }
}

#[test]
fn a_machine_that_roams_to_and_fro_and_loses_its_session_is_no_twin() {
    for seed in 0..20 {
        let mut world = World::new(2, seed);
        world.open(0, 1);
        world.run(secs(2));
        for turn in 0..20 {
            world.nodes[0].addr = format!("10.0.{}.1:1", turn % 2).parse().unwrap();
            live(&mut world, 3, 0);
            if turn % 4 == 3 {
                let (zero, one) = (world.id(0), world.id(1));
                let (n, peer) = if turn % 8 == 3 { (0, one) } else { (1, zero) };
                world.act(n, |sessions, now| sessions.close(peer, now));
                world.run(secs(1));
                world.open(0, 1);
            }
        }
        assert!((0..2).all(|n| reports(&world, n).is_empty()), "seed {seed}");
    }
}
