use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::config::Significance;
use crate::tests::puppet::{Bench, Puppet, START_MS};
use crate::tests::world::World;

use sinew_types::Seqno;
use sinew_wire::routing::RoutingMessage;

const MINUTE: Duration = Duration::from_secs(60);

/// A row of `n` whose ends share a key, every link of the same cost and only large changes told.
fn row(n: usize) -> World {
    let links: Vec<_> = (1..n).map(|node| (node - 1, node, 3)).collect();
    let mut world = World::new(n, &links);
    world.significance = Significance::DAMPED;
    (0..n).for_each(|node| world.restart(node, 0));
    world.share_key(0, n - 1);
    world
}

fn reporters(world: &World) -> BTreeSet<usize> {
    world.reports.iter().map(|&(node, ..)| node).collect()
}

#[test]
fn twins_far_apart_hear_of_each_other_and_both_report() {
    // nodes in the row, minutes until both know
    for (n, minutes) in [(4, 1), (5, 4), (8, 10)] {
        for late in [false, true] {
            let mut world = row(n);
            if late {
                // One of them has been there for a while.
                (0..n - 2).for_each(|wire| world.open(wire, 0));
                world.run_for(45 * MINUTE);
                assert!(world.reports.is_empty());
            }
            world.open_all();
            let start = world.now;
            world.run_for(minutes * MINUTE);
            assert_eq!(reporters(&world), BTreeSet::from([0, n - 1]), "row of {n}, late {late}");
            let first = world.reports.first().map(|&(_, id, at)| (id, at.since(start)));
            assert!(first.is_some_and(|(id, _)| id == world.ids[0]), "{first:?}");
            // It goes on while they do, and at a bounded rate.
            let (before, frames) = (world.reports.len(), world.messages);
            world.run_for(10 * MINUTE);
            let (more, frames) = (world.reports.len() - before, world.messages - frames);
            assert!((2..=120).contains(&more), "row of {n}: {more} reports in ten minutes");
            assert!(frames < 400 * n as u64, "row of {n}: {frames} frames in ten minutes");
        }
    }
}

#[test]
fn twins_that_began_in_the_same_millisecond_both_report() {
    for n in [3, 4, 5, 8] {
        let mut world = row(n);
        for twin in [0, n - 1] {
            world.routers[twin] = world.birth(twin, 0);
        }
        let seqno = |twin: usize| world.routers[twin].own.seqno;
        assert_eq!(seqno(0), seqno(n - 1));
        world.open_all();
        world.run_for(MINUTE);
        let reporters = reporters(&world);
        // In a row of three, the one between them hears both.
        let expected = if n == 3 { vec![1] } else { vec![0, n - 1] };
        assert!(expected.iter().all(|node| reporters.contains(node)), "row of {n}: {reporters:?}");
    }
}

#[test]
fn twins_that_part_are_reported_no_more() {
    let mut world = row(4);
    world.open_all();
    world.run_for(2 * MINUTE);
    assert_eq!(reporters(&world), BTreeSet::from([0, 3]));
    // The second one is switched off for good.
    world.close(2, 0, true);
    world.close(2, 1, true);
    world.run_for(2 * MINUTE);
    let before = world.reports.len();
    world.run_for(90 * MINUTE);
    assert_eq!(world.reports.len(), before);
}

#[test]
fn a_router_that_restarts_again_and_again_with_its_clock_set_back_is_no_twin() {
    for significance in [Significance::DAMPED, Significance::EXACT] {
        // A ring with a tail: word of the former lives comes from two sides.
        let links = [(0, 1, 3), (1, 2, 3), (2, 3, 3), (3, 0, 3), (2, 4, 3)];
        let mut world = World::new(5, &links);
        world.significance = significance;
        (0..5).for_each(|node| world.restart(node, 0));
        for life in 0..20u64 {
            world.open_all();
            world.run_for(Duration::from_secs([3, 70, 200][life as usize % 3]));
            for wire in [0, 3] {
                let end = usize::from(world.wires[wire].ends[1].node == 0);
                world.close(wire, end, life % 2 == 0);
                world.close(wire, 1 - end, true);
            }
            world.restart(0, [0, 60, 240, 500][life as usize % 4] * 1_000_000);
            // The two neighbours meet it one after the other.
            world.open(if life % 3 == 0 { 3 } else { 0 }, 0);
            world.run_for(Duration::from_secs(life));
        }
        world.open_all();
        world.run_for(3 * MINUTE);
        assert_eq!(world.check_rest(), Ok(()));
        assert!(world.reports.is_empty());
    }
}

fn shown(bench: &mut Bench, to: &Puppet) -> Vec<u64> {
    let mine = |message| match message {
        RoutingMessage::Origin(record) if record.node == *to.id.as_bytes() => Some(record.seqno),
        _ => None,
    };
    let seqnos = bench.heard(to).into_iter().filter_map(mine);
    seqnos.map(|seqno| seqno.value() - START_MS).collect()
}

#[test]
fn an_origin_is_shown_a_newer_record_of_its_own_once_and_seldom() {
    let (mut bench, a, b) = (Bench::new(), Puppet::new(1), Puppet::new(2));
    bench.up(&a, 3);
    bench.up(&b, 3);
    assert_eq!(bench.say(&a, &[a.origin(), a.update(1)]), Ok(()));
    drop(bench.heard(&a));
    let newer = |ms| Puppet::at(1, START_MS + ms);
    for ms in 1..=6 {
        let twin = newer(ms);
        assert_eq!(bench.say(&b, &[twin.origin(), twin.update(4)]), Ok(()));
        let expected = if ms <= u64::from(SHOWS_AT_ONCE) { vec![ms] } else { vec![] };
        assert_eq!(shown(&mut bench, &a), expected);
        assert_eq!(bench.say(&b, &[twin.origin(), twin.update(4)]), Ok(()));
        assert!(shown(&mut bench, &a).is_empty(), "shown once");
    }
    bench.pass(MINUTE);
    assert_eq!(shown(&mut bench, &a), [6]);
    bench.pass(MINUTE);
    assert!(shown(&mut bench, &a).is_empty());
}

#[test]
fn an_origin_that_comes_after_its_twins_word_is_shown_it_though_it_is_no_next_hop() {
    let (mut bench, b) = (Bench::new(), Puppet::new(2));
    bench.up(&b, 3);
    let twin = Puppet::at(1, START_MS + 500);
    assert_eq!(bench.say(&b, &[twin.origin(), twin.update(4)]), Ok(()));
    let a = Puppet::at(1, START_MS + 100);
    bench.up(&a, 3);
    assert_eq!(bench.say(&a, &[a.origin(), a.update(1)]), Ok(()));
    assert_eq!(shown(&mut bench, &a), [500]);
}

#[test]
fn a_neighbour_that_comes_back_with_an_older_word_is_shown_its_last_one() {
    let (mut bench, a) = (Bench::new(), Puppet::new(1));
    let former = Puppet::at(1, START_MS + 500);
    bench.up(&former, 3);
    assert_eq!(bench.say(&former, &[former.origin(), former.update(1)]), Ok(()));
    assert!(shown(&mut bench, &a).is_empty());
    // However long all has been quiet before.
    bench.pass(5 * MINUTE);
    bench.router.neighbour_down(&a.id, bench.now);
    bench.pass(Duration::from_secs(14));
    bench.up(&a, 3);
    assert_eq!(bench.say(&a, &[a.origin()]), Ok(()));
    assert!(shown(&mut bench, &a).is_empty(), "its word may come yet");
    assert_eq!(bench.say(&a, &[a.update(1)]), Ok(()));
    assert_eq!(shown(&mut bench, &a), [500]);
}

#[test]
fn twins_that_take_one_adjacency_from_each_other_both_report() {
    // Node 1 has one neighbour of that key at a time, as its session does.
    let mut world = World::new(3, &[(0, 1, 3), (1, 2, 3)]);
    (0..3).for_each(|node| world.restart(node, 0));
    world.share_key(0, 2);
    for turn in 0..8 {
        let (on, off) = ((turn % 2), (turn + 1) % 2);
        for end in [0, 1] {
            world.close(off, end, true);
        }
        world.open(on, 0);
        world.run_for(Duration::from_secs(20));
    }
    assert_eq!(reporters(&world), BTreeSet::from([0, 2]));
}

#[test]
fn who_spoke_of_a_newer_seqno_hears_when_it_is_overtaken_and_nobody_else() {
    let (mut bench, a) = (Bench::new(), Puppet::new(1));
    let (b, c) = (Puppet::new(2), Puppet::new(3));
    for puppet in [&a, &b, &c] {
        bench.up(puppet, 3);
    }
    assert_eq!(bench.say(&a, &[a.origin(), a.update(1)]), Ok(()));
    for puppet in [&b, &c] {
        assert_eq!(bench.heard_about(puppet, &a.addr), ["update 0 4"]);
    }
    let twin = Puppet::at(1, START_MS + 5);
    assert_eq!(bench.say(&b, &[twin.origin(), twin.update(4)]), Ok(()));
    let between = Puppet::at(1, START_MS + 3);
    assert_eq!(bench.say(&a, &[between.origin(), between.update(1)]), Ok(()));
    bench.pass(Duration::from_secs(1));
    assert!(bench.heard_about(&b, &a.addr).is_empty(), "not newer than what it knows");
    let answer = Puppet::at(1, START_MS + 6);
    assert_eq!(bench.say(&a, &[answer.origin(), answer.update(1)]), Ok(()));
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.heard_about(&b, &a.addr), ["update 6 4"]);
    assert!(bench.heard_about(&c, &a.addr).is_empty());
    assert_eq!(bench.dest(&a).and_then(|d| d.own).map(|own| own.seqno()), Some(Seqno::new(START_MS + 6)));
}
