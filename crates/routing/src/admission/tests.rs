use std::time::Duration;

use sinew_wire::routing::RoutingMessage;

use super::*;
use crate::tests::puppet::{Bench, Puppet};

fn entry(table: &mut crate::table::Table, class: Class, metric: u16, next_hop: Slot) -> Entry {
    let name = u8::try_from(table.len()).expect("few");
    let puppet = Puppet::new(name);
    let origin = crate::Origin { record: puppet.record.clone(), node: puppet.id, addr: puppet.addr };
    let key = table.insert(Destination::new(std::sync::Arc::new(origin), Instant::ZERO));
    Entry { order: (class, Metric::new(metric)), next_hop: Some(next_hop), key }
}

#[test]
fn half_by_distance_and_half_by_turns() {
    let mut table = crate::table::Table::default();
    let mut add = |metric, next_hop| entry(&mut table, Class::Router, metric, next_hop);
    // A crowd behind neighbour 0, two farther ones behind 1, one behind 2.
    let crowd: Vec<_> = (1..=8).map(|metric| add(metric, 0)).collect();
    let others = [add(50, 1), add(60, 1), add(90, 2)];
    let ranked = rank_for_keeping([&crowd[..], &others[..]].concat(), 6);
    let metrics: Vec<_> = ranked.iter().map(|entry| entry.order.1.units()).collect();
    assert_eq!(metrics, [1, 2, 3, 4, 50, 90, 5, 60, 6, 7, 8]);
}

#[test]
fn routers_go_before_stubs_however_far() {
    let mut table = crate::table::Table::default();
    let near = entry(&mut table, Class::Stub, 1, 0);
    let far = entry(&mut table, Class::Router, 900, 0);
    let ranked = rank_for_keeping(vec![near, far], 1);
    assert_eq!(ranked[0].order, far.order);
}

#[test]
fn newcomers_need_a_clear_advantage_once_there_was_an_eviction() {
    let full = |boundary| Admission { k: 2, counted: 2, boundary, radius: Metric::UNREACHABLE };
    let order = |class, metric| (class, Metric::new(metric));
    let boundary = Some(order(Class::Router, 100));
    // boundary, newcomer, let in
    let table = [
        (None, order(Class::Router, 900), true),
        (boundary, order(Class::Router, 89), true),
        (boundary, order(Class::Router, 90), false),
        (boundary, order(Class::Stub, 1), false),
        (Some(order(Class::Stub, 1)), order(Class::Router, 900), true),
    ];
    for (boundary, newcomer, expected) in table {
        assert_eq!(full(boundary).lets_in(newcomer), expected, "{newcomer:?} at {boundary:?}");
    }
}

/// A router for four origins whose neighbour `a` advertises `count`, at 10, 20, 30 … units.
fn crowded(count: u8) -> (Bench, Puppet, Vec<Puppet>) {
    let (mut bench, a) = (Bench::with(|config| config.k = 4), Puppet::new(1));
    bench.up(&a, 1);
    let crowd: Vec<_> = (0..count).map(|i| Puppet::new(10 + i)).collect();
    for (i, origin) in (1..).zip(&crowd) {
        assert_eq!(bench.say(&a, &[origin.origin(), origin.update(i * 10)]), Ok(()));
    }
    (bench, a, crowd)
}

fn kept(bench: &Bench, crowd: &[Puppet]) -> Vec<usize> {
    (0..crowd.len()).filter(|&i| bench.dest(&crowd[i]).is_some_and(|dest| dest.admitted)).collect()
}

#[test]
fn eviction_waits_for_a_quarter_too_many_and_then_cuts_to_k() {
    let (bench, _, crowd) = crowded(5);
    assert_eq!(kept(&bench, &crowd), [0, 1, 2, 3, 4]);
    let (bench, _, crowd) = crowded(6);
    assert_eq!(kept(&bench, &crowd), [0, 1, 2, 3]);
    let (bench, _, crowd) = crowded(12);
    assert_eq!(kept(&bench, &crowd), [0, 1, 2, 3], "nor does anyone farther come in");
}

#[test]
fn the_evicted_are_retracted_and_neighbours_learn_the_radius() {
    let (mut bench, a) = (Bench::with(|config| config.k = 4), Puppet::new(1));
    let b = Puppet::new(2);
    bench.up(&a, 1);
    bench.up(&b, 1);
    let crowd: Vec<_> = (0..6).map(|i| Puppet::new(10 + i)).collect();
    for (i, origin) in (1..).zip(&crowd) {
        drop(bench.heard(&b));
        assert_eq!(bench.say(&a, &[origin.origin(), origin.update(i * 10)]), Ok(()));
    }
    let heard = bench.heard(&b);
    let radius = heard.iter().find_map(|message| match message {
        RoutingMessage::Hint { radius, .. } => Some(*radius),
        _ => None,
    });
    assert_eq!(radius, Some(40));
    assert!(heard.contains(&crowd[4].retract()) && !heard.contains(&crowd[5].retract()), "{heard:?}");
}

#[test]
fn a_near_newcomer_pushes_the_farthest_out() {
    let (mut bench, a, mut crowd) = crowded(6);
    for (name, metric) in [(100, 5), (101, 6)] {
        let near = Puppet::new(name);
        assert_eq!(bench.say(&a, &[near.origin(), near.update(metric)]), Ok(()));
        crowd.push(near);
    }
    assert_eq!(kept(&bench, &crowd), [0, 1, 6, 7]);
}

#[test]
fn the_evicted_stay_out_for_a_minute_and_come_back_when_there_is_room() {
    let (mut bench, a, crowd) = crowded(6);
    for near in &crowd[..3] {
        assert_eq!(bench.say(&a, &[near.retract()]), Ok(()));
    }
    // Two of the three are forgotten after the silence; the hold still keeps the others out.
    bench.pass(Duration::from_secs(20));
    assert_eq!(kept(&bench, &crowd), [3]);
    bench.pass(Duration::from_secs(101));
    assert_eq!(kept(&bench, &crowd), [3, 4, 5]);
    assert!(bench.route(&crowd[5]).is_some());
}

#[test]
fn direct_neighbours_and_landmarks_take_no_room() {
    let (mut bench, a, crowd) = crowded(6);
    let far = &crowd[5];
    bench.up(far, 500);
    assert!(bench.dest(far).is_some_and(|dest| dest.admitted));
    assert_eq!(bench.say(far, &[far.origin(), far.update(1)]), Ok(()));
    assert!(bench.route(far).is_some());
    let mut landmark = Puppet::new(99);
    landmark.record.landmark = true;
    let landmark = landmark.signed();
    assert_eq!(bench.say(&a, &[landmark.origin(), landmark.update(900)]), Ok(()));
    assert!(bench.route(&landmark).is_some());
    assert_eq!(bench.router.admission.counted, 4);
    bench.router.neighbour_down(&far.id, bench.now);
    assert_eq!(bench.router.admission.counted, 5);
}

#[test]
fn the_table_is_bounded_whatever_is_claimed() {
    let (mut bench, a) = (Bench::with(|config| config.k = 4), Puppet::new(1));
    bench.up(&a, 1);
    for name in 10..250 {
        let origin = Puppet::new(name);
        assert_eq!(bench.say(&a, &[origin.origin(), origin.update(5)]), Ok(()));
    }
    assert!(bench.router.len() <= 2 * 4 + SLACK, "{}", bench.router.len());
    let slot = bench.router.neighbours.slot_of(&a.id).expect("up");
    assert!(bench.router.neighbours.get(slot).is_some_and(|n| n.missing.len() <= 256));
    assert!(bench.router.stats().drops.get(sinew_types::DropReason::TableFull) > 0);
}
