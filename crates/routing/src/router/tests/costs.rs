//! Floors, costs, radius; stubs.

use super::*;

#[test]
fn a_floor_above_our_cost_raises_the_cost() {
    let (mut bench, a, b, far) = two();
    let hint = RoutingMessage::Hint { floor: 9, class: Class::Router, k: 1, radius: 1023 };
    assert_eq!(bench.say(&a, &[hint, far.origin(), far.update(15)]), Ok(()));
    // 15 - 9 = 6 is its own metric; our link of 2 counts as 9, or we could not prove the sum.
    assert_eq!(bench.route(&far), Some((a.id, 15)));
    assert_eq!(bench.heard(&b), vec![far.origin(), far.update(16)]);
}

#[test]
fn a_link_that_costs_more_moves_routes_and_one_without_end_loses_them() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    assert_eq!(bench.say(&b, &[far.update(5)]), Ok(()));
    bench.router.set_cost(&a.id, Metric::new(9), bench.now);
    assert_eq!(bench.route(&far), Some((b.id, 7)));
    bench.router.set_cost(&b.id, Metric::UNREACHABLE, bench.now);
    assert_eq!(bench.route(&far), Some((a.id, 13)));
    bench.router.set_cost(&a.id, Metric::UNREACHABLE, bench.now);
    assert_eq!(bench.route(&far), None);
}

#[test]
fn what_cannot_be_proved_to_a_neighbour_is_not_told() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(1021)]), Ok(()));
    assert_eq!(bench.route(&far), Some((a.id, 1022)));
    assert!(bench.heard_about(&b, &far.addr).is_empty(), "1022 + 1 is the cap");
}

#[test]
fn a_radius_keeps_the_far_away_out_and_lets_it_in_again() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(50)]), Ok(()));
    assert_eq!(bench.heard_about(&b, &far.addr), ["update 0 52"]);
    let hint = |radius| RoutingMessage::Hint { floor: 1, class: Class::Router, k: 1, radius };
    assert_eq!(bench.say(&b, &[hint(51)]), Ok(()));
    assert_eq!(bench.heard_about(&b, &far.addr), ["retract"]);
    assert_eq!(bench.say(&b, &[hint(52)]), Ok(()));
    assert_eq!(bench.heard_about(&b, &far.addr), ["update 0 52"]);
}

#[test]
fn a_stub_neighbour_is_told_our_own_origin_alone_and_may_speak_for_itself_alone() {
    let (mut bench, a, _, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    let stub = Puppet::new(6).stub();
    bench.up(&stub, 4);
    let told: Vec<_> =
        bench.heard(&stub).into_iter().filter(|m| !matches!(m, RoutingMessage::Hint { .. })).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(matches!(&told[1], RoutingMessage::Update { origin, .. } if *origin == bench.own_addr()));
    assert_eq!(bench.say(&stub, &[stub.origin(), stub.update(1)]), Ok(()));
    assert_eq!(bench.route(&stub), Some((stub.id, 4)));
    assert_eq!(bench.heard_about(&a, &stub.addr), ["update 0 5"]);
    assert_eq!(bench.say(&stub, &[far.origin()]), bad(DropReason::BadControl));
    assert_eq!(bench.say(&stub, &[far.update(5)]), bad(DropReason::BadControl));
    assert_eq!(bench.route(&far), Some((a.id, 6)), "a stub is no way");
}

#[test]
fn a_stub_announces_itself_and_sends_the_rest_to_its_nearest_router() {
    let mut bench = Bench::with(|config| config.class = Class::Stub);
    let (a, b, stub) = (Puppet::new(1), Puppet::new(2), Puppet::new(6).stub());
    assert_eq!(bench.router.default_next_hop(), None);
    bench.up(&stub, 1);
    bench.up(&a, 5);
    bench.up(&b, 3);
    assert_eq!(bench.router.default_next_hop(), Some(b.id));
    bench.router.set_cost(&b.id, Metric::new(7), bench.now);
    assert_eq!(bench.router.default_next_hop(), Some(a.id));
    assert_eq!(bench.say(&a, &[a.origin(), a.update(1)]), Ok(()));
    assert_eq!(bench.route(&a), Some((a.id, 5)));
    let heard = bench.heard(&b);
    assert!(matches!(heard[0], RoutingMessage::Hint { radius: 0, k: 0, class: Class::Stub, .. }));
    assert_eq!(heard.iter().filter(|m| matches!(m, RoutingMessage::Update { .. })).count(), 1);
    let (router, _, _, _) = two();
    assert_eq!(router.router.default_next_hop(), None);
}
