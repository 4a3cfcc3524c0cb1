//! Requests for a newer seqno.

use super::*;

#[test]
fn losing_the_last_feasible_route_asks_everyone_who_has_one() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    assert_eq!(bench.say(&b, &[far.update(30)]), Ok(()));
    drop((bench.heard(&a), bench.heard(&b)));
    assert_eq!(bench.say(&a, &[far.retract()]), Ok(()));
    assert_eq!(bench.route(&far), None, "30 is not better than 6");
    assert_eq!(bench.heard_about(&b, &far.addr), ["ask 1", "retract"]);
    // Repeated after 0.3, 1, 3, 10 s and every 10 s.
    let mut asked = Vec::new();
    for ms in (0..30_000).step_by(100) {
        bench.pass(Duration::from_millis(100));
        if !bench.heard_about(&b, &far.addr).is_empty() {
            asked.push(ms + 100);
        }
        assert_eq!(bench.say(&b, &[far.update(30)]), Ok(()), "keeps the subject alive");
        drop(bench.heard(&b));
    }
    assert_eq!(asked, [300, 1_300, 4_300, 14_300, 24_300]);
    let fresh = Puppet::at(3, START_MS + 1);
    assert_eq!(bench.say(&b, &[fresh.origin(), fresh.update(30)]), Ok(()));
    assert_eq!(bench.route(&far), Some((b.id, 32)));
}

#[test]
fn an_infeasible_update_to_the_starved_is_answered_with_a_request() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    assert_eq!(bench.say(&a, &[far.retract()]), Ok(()));
    drop(bench.heard(&b));
    assert_eq!(bench.say(&b, &[far.update(30)]), Ok(()));
    assert_eq!(bench.heard_about(&b, &far.addr), ["ask 1"]);
}

#[test]
fn a_shorter_infeasible_route_is_asked_for() {
    let shortest_found = |rule| {
        let (mut bench, a, b, far) = two();
        bench.router.rules.without = rule;
        assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
        assert_eq!(bench.say(&b, &[far.update(8)]), Ok(()));
        assert_eq!(bench.say(&a, &[far.update(50)]), Ok(()));
        assert_eq!(bench.route(&far), Some((a.id, 51)), "8 is not better than the FD 6");
        drop(bench.heard(&b));
        bench.pass(Duration::from_millis(300));
        bench.heard_about(&b, &far.addr) == ["ask 1"]
    };
    assert!(shortest_found(None));
    assert!(!shortest_found(Some(Rule::AskForBetter)));
}

#[test]
fn a_request_is_void_once_the_asker_has_a_route() {
    let forwarded = |rule| {
        let (mut bench, a, b, far) = two();
        bench.router.rules.without = rule;
        assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
        drop(bench.heard(&b));
        // b asks, then has a route of its own; later it is our only way and must be asked itself.
        assert_eq!(bench.say(&b, &[far.ask(START_MS + 1)]), Ok(()));
        assert_eq!(bench.say(&b, &[far.update(300)]), Ok(()));
        assert_eq!(bench.say(&a, &[far.retract()]), Ok(()));
        let c = Puppet::new(5);
        bench.up(&c, 1);
        drop((bench.heard(&b), bench.heard(&c)));
        assert_eq!(bench.say(&c, &[far.ask(START_MS + 2)]), Ok(()));
        bench.heard_about(&b, &far.addr) == ["ask 2"]
    };
    assert!(forwarded(None));
    assert!(!forwarded(Some(Rule::CancelWants)));
}

#[test]
fn relays_repeat_pending_requests() {
    let repeated = |rule| {
        let (mut bench, a, b, far) = two();
        bench.router.rules.without = rule;
        assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
        drop((bench.heard(&a), bench.heard(&b)));
        assert_eq!(bench.say(&b, &[far.ask(START_MS + 1)]), Ok(()));
        assert_eq!(bench.heard_about(&a, &far.addr), ["ask 1"]);
        assert_eq!(bench.say(&b, &[far.ask(START_MS + 1)]), Ok(()));
        assert!(bench.heard(&a).is_empty(), "a duplicate is not passed on at once");
        bench.pass(Duration::from_millis(300));
        bench.heard_about(&a, &far.addr) == ["ask 1"]
    };
    assert!(repeated(None));
    assert!(!repeated(Some(Rule::RelaysRepeat)));
}

#[test]
fn a_request_is_owed_for_thirty_seconds() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    assert_eq!(bench.say(&b, &[far.ask(START_MS + 1)]), Ok(()));
    let owed = |bench: &Bench| bench.dest(&far).is_some_and(|dest| !dest.wants.is_empty());
    bench.pass(Duration::from_secs(24));
    assert!(owed(&bench));
    bench.pass(Duration::from_secs(15));
    assert!(!owed(&bench));
    drop(bench.heard(&a));
    bench.pass(MINUTE);
    assert!(bench.heard_about(&a, &far.addr).is_empty(), "and no longer repeated");
}

#[test]
fn a_pending_request_prefers_the_route_that_answers_it() {
    let (mut bench, a, b, far) = two();
    let c = Puppet::new(5);
    bench.up(&c, 1);
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    assert_eq!(bench.say(&c, &[far.ask(START_MS + 1)]), Ok(()));
    let fresh = Puppet::at(3, START_MS + 1);
    assert_eq!(bench.say(&b, &[fresh.origin(), fresh.update(40)]), Ok(()));
    assert_eq!(bench.route(&far), Some((b.id, 42)));
    assert!(bench.heard_about(&c, &far.addr).contains(&"update 1 43".to_owned()));
}

#[test]
fn requests_of_those_we_would_not_tell_are_ignored() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    let deaf = RoutingMessage::Hint { floor: 1, class: Class::Router, k: 0, radius: 0 };
    assert_eq!(bench.say(&b, &[deaf, far.ask(START_MS + 1)]), Ok(()));
    assert!(bench.dest(&far).is_some_and(|dest| dest.wants.is_empty()));
    assert_eq!(bench.say(&b, &[Puppet::new(9).ask(5)]), Ok(()), "nor about the unknown");
}

#[test]
fn a_higher_seqno_is_shown_along_with_the_request() {
    let (mut bench, a, b, _) = two();
    let (high, low) = (Puppet::at(3, START_MS + 100), Puppet::at(3, START_MS));
    assert_eq!(bench.say(&a, &[high.origin(), high.update(5)]), Ok(()));
    assert_eq!(bench.say(&a, &[high.retract()]), Ok(()));
    drop(bench.heard(&b));
    assert_eq!(bench.say(&b, &[low.origin(), low.update(5)]), Ok(()));
    assert_eq!(bench.heard(&b), vec![high.origin(), high.ask(START_MS + 101)]);
}
