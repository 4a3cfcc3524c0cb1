//! Neighbours that swallow (D13).

use super::*;

#[test]
fn who_is_doubted_is_passed_over_for_a_while() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    assert_eq!(bench.say(&b, &[far.update(5)]), Ok(()));
    assert_eq!(bench.route(&far), Some((a.id, 6)));
    bench.doubt(&far, &[a.id], None);
    assert_eq!(bench.route(&far), Some((b.id, 7)));
    bench.pass(4 * MINUTE);
    assert_eq!(bench.route(&far), Some((b.id, 7)));
    bench.pass(2 * MINUTE);
    assert_eq!(bench.route(&far), Some((a.id, 6)), "over");
}

#[test]
fn with_nothing_else_feasible_the_others_are_asked_and_the_doubted_wins_no_race() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    assert_eq!(bench.say(&b, &[far.update(30)]), Ok(()));
    drop((bench.heard(&a), bench.heard(&b)));
    bench.doubt(&far, &[a.id], None);
    assert_eq!(bench.route(&far), None);
    assert_eq!(bench.heard_about(&b, &far.addr), ["ask 1", "retract"]);
    let fresh = Puppet::at(3, START_MS + 1);
    assert_eq!(bench.say(&a, &[fresh.origin(), fresh.update(5)]), Ok(()));
    assert_eq!(bench.route(&far), None, "or the other's answer would be infeasible again");
    assert_eq!(bench.say(&b, &[fresh.update(30)]), Ok(()));
    assert_eq!(bench.route(&far), Some((b.id, 32)));
}

#[test]
fn who_has_the_only_way_is_acquitted_when_nobody_answers_what_is_asked_for() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    assert_eq!(bench.say(&b, &[far.update(30)]), Ok(()));
    bench.doubt(&far, &[a.id], None);
    bench.pass(Duration::from_millis(1200));
    assert_eq!(bench.route(&far), None, "the others have their time");
    bench.pass(Duration::from_millis(200));
    assert_eq!(bench.route(&far), Some((a.id, 6)));
    bench.doubt(&far, &[a.id], None);
    assert_eq!(bench.route(&far), Some((a.id, 6)), "and is left in peace for a while");
    bench.pass(Duration::from_secs(10));
    bench.doubt(&far, &[a.id], None);
    assert_eq!(bench.route(&far), None);
}

#[test]
fn where_all_are_doubted_all_have_another_turn_but_for_the_last() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    bench.doubt(&far, &[a.id], None);
    assert_eq!(bench.route(&far), Some((a.id, 6)), "there is nobody else");
    assert_eq!(bench.say(&b, &[far.update(5)]), Ok(()));
    assert_eq!(bench.route(&far), Some((b.id, 7)));
    bench.doubt(&far, &[b.id], None);
    assert_eq!(bench.route(&far), Some((a.id, 6)));
}

#[test]
fn whoever_carried_something_is_doubted_no_more() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    assert_eq!(bench.say(&b, &[far.update(5)]), Ok(()));
    bench.doubt(&far, &[a.id], None);
    bench.doubt(&far, &[b.id], Some(a.id));
    assert_eq!(bench.route(&far), Some((a.id, 6)));
    bench.doubt(&far, &[a.id], None);
    assert_eq!(bench.route(&far), Some((b.id, 7)), "the first doubt of it was over");
}

#[test]
fn what_is_doubted_of_whom_is_bounded() {
    let (mut bench, a, _, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    let names = |from: u32| {
        (from..from + 200).map(|n| {
            let mut seed = [7; 32];
            seed[..4].copy_from_slice(&n.to_le_bytes());
            sinew_types::Identity::from_seed(seed).node_id()
        })
    };
    let many: Vec<_> = names(0).collect();
    assert_eq!(bench.say(&Puppet::new(2), &[far.update(5)]), Ok(()));
    bench.doubt(&far, &many, None);
    let doubted = many.iter().filter(|one| bench.router.is_doubted(&far.addr, one)).count();
    assert_eq!(doubted, 128);
}
