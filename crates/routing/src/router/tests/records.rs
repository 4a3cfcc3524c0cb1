//! Origin records: their age, and how a missing one is got.

use super::*;

#[test]
fn records_too_old_or_from_the_future_are_not_taken() {
    let (mut bench, a, _, _) = two();
    let table = [(START_MS - 3_600_000, false), (START_MS - 3_500_000, true), (START_MS + 599_000, true)];
    for (seqno, taken) in table.into_iter().chain([(START_MS + 700_000, false)]) {
        let origin = Puppet::at(40, seqno);
        assert_eq!(bench.say(&a, &[origin.origin(), origin.update(5)]), Ok(()));
        assert_eq!(bench.route(&origin).is_some(), taken, "{seqno}");
        assert_eq!(bench.say(&a, &[origin.retract()]), Ok(()));
        bench.pass(Duration::from_secs(16));
    }
}

#[test]
fn an_origin_that_is_not_refreshed_expires_after_an_hour() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    bench.pass(Duration::from_secs(59 * 60));
    assert_eq!(bench.route(&far), Some((a.id, 6)));
    drop(bench.heard(&b));
    bench.pass(Duration::from_secs(2 * 60));
    assert_eq!(bench.route(&far), None);
    assert_eq!(bench.heard_about(&b, &far.addr), ["retract"]);
}

#[test]
fn a_refreshed_origin_lives_on_and_the_refresh_is_passed_on() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    drop(bench.heard(&b));
    bench.pass(Duration::from_secs(30 * 60));
    drop(bench.heard(&b));
    let fresh = Puppet::at(3, START_MS + 30 * 60_000);
    assert_eq!(bench.say(&a, &[fresh.origin(), fresh.update(5)]), Ok(()));
    assert!(bench.heard_about(&b, &far.addr).is_empty(), "it waits for company");
    bench.pass(Duration::from_millis(50));
    let heard = bench.heard(&b);
    assert!(heard.contains(&fresh.origin()) && heard.contains(&fresh.update(7)));
    bench.pass(Duration::from_secs(50 * 60));
    assert_eq!(bench.route(&far), Some((a.id, 6)));
}

#[test]
fn an_update_without_a_record_is_not_believed_and_the_record_is_asked_for() {
    let (mut bench, a, _, far) = two();
    assert_eq!(bench.say(&a, &[far.update(5)]), Ok(()));
    assert!(bench.dest(&far).is_none(), "no state without a signature");
    assert_eq!(bench.heard_about(&a, &far.addr), ["record?"]);
    assert_eq!(bench.say(&a, &[far.update(5)]), Ok(()));
    assert!(bench.heard_about(&a, &far.addr).is_empty(), "asked once, then now and then");
    bench.pass(MINUTE);
    assert_eq!(bench.heard_about(&a, &far.addr), ["record?"]);
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    bench.pass(MINUTE);
    assert!(bench.heard_about(&a, &far.addr).is_empty());
    assert_eq!(bench.route(&far), Some((a.id, 6)));
}

#[test]
fn a_newer_seqno_without_its_record_is_asked_for_and_sets_nothing() {
    let (mut bench, a, _, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    let fresh = Puppet::at(3, START_MS + 9);
    assert_eq!(bench.say(&a, &[fresh.update(2)]), Ok(()));
    assert_eq!(bench.route(&far), None);
    let fd = bench.dest(&far).and_then(|dest| dest.fd);
    assert_eq!(fd.map(|fd| fd.seqno()), Some(far.record.seqno));
    assert!(bench.heard_about(&a, &far.addr).contains(&"record?".to_owned()));
    assert_eq!(bench.say(&a, &[fresh.origin(), fresh.update(2)]), Ok(()));
    assert_eq!(bench.route(&far), Some((a.id, 3)));
}

#[test]
fn a_record_we_refuse_does_not_go_to_and_fro() {
    let (mut bench, a, _, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    let early = Puppet::at(3, START_MS + 700_000);
    assert_eq!(bench.say(&a, &[early.origin(), early.update(2)]), Ok(()));
    assert!(bench.heard_about(&a, &far.addr).contains(&"record?".to_owned()));
    for _ in 0..3 {
        assert_eq!(bench.say(&a, &[early.origin(), early.update(2)]), Ok(()));
        assert!(!bench.heard_about(&a, &far.addr).contains(&"record?".to_owned()));
    }
    bench.pass(Duration::from_millis(300));
    assert!(bench.heard_about(&a, &far.addr).contains(&"record?".to_owned()));
    assert_eq!(bench.router.stats().drops.get(DropReason::Replayed), 4);
}

#[test]
fn a_record_request_is_answered_with_record_and_route() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    drop(bench.heard(&b));
    assert_eq!(bench.say(&b, &[RoutingMessage::RecordRequest { origin: far.addr }]), Ok(()));
    assert_eq!(bench.heard(&b), vec![far.origin(), far.update(7)]);
    assert_eq!(bench.say(&b, &[RoutingMessage::RouteRequest { origin: far.addr }]), Ok(()));
    assert_eq!(bench.heard(&b), vec![far.update(7)]);
    // Who was told nothing is told nothing.
    assert_eq!(bench.say(&a, &[RoutingMessage::RecordRequest { origin: far.addr }]), Ok(()));
    assert!(bench.heard(&a).is_empty());
}
