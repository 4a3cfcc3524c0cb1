//! What neighbours are told, and when.

use super::*;

#[test]
fn a_line_learns_the_whole_line() {
    let mut world = World::new(4, &[(0, 1, 1), (1, 2, 2), (2, 3, 3)]);
    world.open_all();
    world.run_for(Duration::from_secs(1));
    assert_eq!((world.check(), world.check_rest()), (Ok(()), Ok(())));
    assert_eq!(world.metric(0, 3), Some(6));
}

#[test]
fn a_new_neighbour_hears_hint_self_and_then_nearest_first() {
    let (mut bench, a, _, _) = two();
    let (near, far) = (Puppet::new(3), Puppet::new(4));
    assert_eq!(bench.say(&a, &[far.origin(), far.update(9), near.origin(), near.update(5)]), Ok(()));
    let c = Puppet::new(5);
    bench.up(&c, 1);
    let updates: Vec<_> = bench
        .heard(&c)
        .into_iter()
        .filter_map(|message| match message {
            RoutingMessage::Hint { floor, class, k, radius } => {
                assert_eq!((floor, class, k, radius), (1, Class::Router, 4096, 1023));
                Some((None, 0))
            }
            RoutingMessage::Update { origin, metric, .. } => Some((Some(origin), metric.units())),
            _ => None,
        })
        .collect();
    // 5 - 1 (its floor) + 2 (cost) + 1 (our floor).
    let expected = vec![(None, 0), (Some(bench.own_addr()), 1), (Some(near.addr), 7), (Some(far.addr), 11)];
    assert_eq!(updates, expected);
}

#[test]
fn the_record_goes_ahead_of_the_first_update_only() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    let first = bench.heard(&b);
    assert_eq!(first[0], far.origin());
    assert!(matches!(first[1], RoutingMessage::Update { .. }));
    assert_eq!(bench.say(&a, &[far.update(20)]), Ok(()));
    bench.pass(Duration::from_millis(50));
    let second = bench.heard(&b);
    assert_eq!(second, vec![far.update(22)]);
}

#[test]
fn a_neighbour_that_told_us_a_seqno_is_not_sent_its_record() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&b, &[far.origin(), far.update(500)]), Ok(()));
    assert_eq!(bench.say(&a, &[far.update(5)]), Ok(()));
    assert_eq!(bench.heard(&b), vec![far.update(7)]);
}

#[test]
fn what_is_told_is_what_the_chain_proves() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    // 5 on the wire, 1 of it the neighbour's floor; 2 for the link, 1 for our own floor.
    assert_eq!(bench.heard(&b), vec![far.origin(), far.update(7)]);
    assert_eq!(bench.route(&far), Some((a.id, 6)));
}

#[test]
fn the_next_hop_is_told_nothing_and_loses_what_it_was_told() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(9)]), Ok(()));
    assert!(bench.heard_about(&a, &far.addr).is_empty());
    assert_eq!(bench.heard_about(&b, &far.addr), ["update 0 11"]);
    // b is better now: it gets a retraction, a gets the route.
    assert_eq!(bench.say(&b, &[far.update(3)]), Ok(()));
    assert_eq!(bench.heard_about(&b, &far.addr), ["retract"]);
    assert_eq!(bench.heard_about(&a, &far.addr), ["update 0 6"]);
}

#[test]
fn nobody_is_told_the_way_to_himself() {
    let (mut bench, a, b, _) = two();
    assert_eq!(bench.say(&a, &[b.origin(), b.update(2)]), Ok(()));
    assert!(bench.heard_about(&b, &b.addr).is_empty());
    assert_eq!(bench.route(&b), Some((a.id, 3)));
}

#[test]
fn small_changes_are_not_told_and_large_ones_wait_for_company() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(100)]), Ok(()));
    assert_eq!(bench.heard_about(&b, &far.addr), ["update 0 102"]);
    for (metric, told) in [(110, None), (114, Some("update 0 116")), (102, None), (99, Some("update 0 101"))]
    {
        assert_eq!(bench.say(&a, &[far.update(metric)]), Ok(()));
        assert!(bench.heard(&b).is_empty(), "{metric}: never at once");
        bench.pass(Duration::from_millis(50));
        let expected: Vec<_> = told.into_iter().collect();
        assert_eq!(bench.heard_about(&b, &far.addr), expected, "{metric}");
    }
}

#[test]
fn first_words_and_retractions_go_at_once() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    assert_eq!(bench.heard_about(&b, &far.addr), ["update 0 7"]);
    assert_eq!(bench.say(&a, &[far.retract()]), Ok(()));
    assert_eq!(bench.heard_about(&b, &far.addr), ["retract"]);
}

#[test]
fn a_route_lost_and_found_before_the_window_opens_is_never_mentioned() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    drop(bench.heard(&b));
    assert_eq!(bench.say(&a, &[far.retract()]), Ok(()));
    let fresh = Puppet::at(3, START_MS + 1);
    assert_eq!(bench.say(&a, &[fresh.origin(), fresh.update(5)]), Ok(()));
    assert!(bench.heard_about(&b, &far.addr).is_empty());
}

#[test]
fn a_newer_seqno_alone_is_told_to_those_who_asked_and_to_nobody_else() {
    let (mut bench, a, b, far) = two();
    let c = Puppet::new(5);
    bench.up(&c, 1);
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    drop((bench.heard(&b), bench.heard(&c)));
    assert_eq!(bench.say(&b, &[far.ask(START_MS + 1)]), Ok(()));
    assert_eq!(bench.heard_about(&a, &far.addr), ["ask 1"]);
    let fresh = Puppet::at(3, START_MS + 4);
    assert_eq!(bench.say(&a, &[fresh.origin(), fresh.update(5)]), Ok(()));
    assert_eq!(bench.heard_about(&b, &far.addr), ["update 4 7"]);
    bench.pass(Duration::from_millis(60));
    assert!(bench.heard_about(&c, &far.addr).is_empty());
}

#[test]
fn changes_name_next_hop_and_watermark() {
    let (mut bench, a, _, far) = two();
    bench.changes.clear();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    let change = bench.changes.pop().expect("a change");
    assert_eq!((change.node, change.addr, change.next_hop), (far.id, far.addr, Some(a.id)));
    assert_eq!(change.metric, Metric::new(6));
    assert_eq!(change.fd.map(|fd| (fd.seqno, fd.metric)), Some((Seqno::new(START_MS), Metric::new(6))));
    bench.router.neighbour_down(&a.id, bench.now);
    bench.drain();
    let change = bench.changes.pop().expect("a change");
    assert_eq!((change.next_hop, change.fd, change.metric), (None, None, Metric::UNREACHABLE));
}
