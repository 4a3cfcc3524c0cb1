//! The router as a whole: its share of work, its bytes, its rest.

use super::*;

#[test]
fn work_beyond_its_share_keeps_a_neighbour_waiting() {
    let (mut bench, a, _, far) = two();
    assert_eq!(bench.router.busy_until(&a.id, bench.now), None);
    assert_eq!(bench.say(&a, &[far.origin(), far.update(2)]), Ok(()));
    assert_eq!(bench.router.busy_until(&a.id, bench.now), None, "one origin is nothing");
    let slot = bench.router.neighbours.slot_of(&a.id).expect("up");
    let neighbour = bench.router.neighbours.get_mut(slot).expect("up");
    neighbour.signatures.charge(4096 + 200, bench.now);
    let until = bench.router.busy_until(&a.id, bench.now).expect("busy");
    assert!(until.since(bench.now) >= Duration::from_millis(900), "{until:?}");
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.router.busy_until(&a.id, bench.now), None);
}

#[test]
fn bytes_are_counted_by_message() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    drop(bench.heard(&b));
    let stats = bench.router.stats();
    assert_eq!(stats.received.get(MessageKind::Update).messages, 1);
    assert_eq!(stats.received.get(MessageKind::Update).bytes, 43);
    // To a and b: hint, own record and update; to b the route as well.
    assert_eq!(stats.sent.get(MessageKind::Origin).messages, 3);
    assert_eq!(stats.sent.get(MessageKind::Hint).messages, 2);
}

#[test]
fn a_mesh_at_rest_says_nothing_between_refreshes() {
    let mut world = World::new(4, &[(0, 1, 1), (1, 2, 2), (2, 3, 3), (0, 3, 9)]);
    world.open_all();
    world.run_for(Duration::from_secs(1));
    let before = world.messages;
    world.run_for(Duration::from_secs(28 * 60));
    assert_eq!(world.messages, before);
    world.run_for(Duration::from_secs(5 * 60 * 60));
    assert_eq!((world.check(), world.check_rest()), (Ok(()), Ok(())));
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let play = || {
        let mut world = World::new(4, &[(0, 1, 1), (1, 2, 2), (2, 3, 3), (0, 3, 9)]);
        world.open_all();
        world.run_for(Duration::from_secs(1));
        world.close(1, 0, true);
        world.run_for(Duration::from_secs(90));
        world.trace
    };
    assert_eq!(play(), play());
}

#[test]
fn a_damped_router_stays_within_its_tolerance() {
    let mut world = World::new(3, &[(0, 1, 20), (1, 2, 20)]);
    world.significance = Significance::DAMPED;
    (0..3).for_each(|node| world.restart(node, 0));
    world.open_all();
    world.run_for(Duration::from_secs(1));
    world.set_cost(1, 0, 22);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.metric(0, 2), Some(40), "two units more on a path of twenty are not told");
}
