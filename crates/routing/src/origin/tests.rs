use std::time::Duration;

use sinew_types::{Seqno, Signature};
use sinew_wire::routing::RoutingMessage;

use crate::Event;
use crate::tests::puppet::{Bench, Puppet, START_MS};

const MINUTE: u64 = 60_000;

fn seqno(bench: &Bench) -> u64 {
    bench.router.own_seqno().value() - START_MS
}

fn told_signature(bench: &mut Bench, to: &Puppet) -> Option<Signature> {
    bench.heard(to).into_iter().find_map(|message| match message {
        RoutingMessage::Origin(record) => Some(record.signature),
        _ => None,
    })
}

#[test]
fn the_kept_seqno_is_passed_by_one_unless_it_is_from_a_wrong_clock() {
    // kept, started with (both after START_MS)
    for (kept, expected) in [
        (None, 0),
        (Some(START_MS - 5), 0),
        (Some(START_MS + 5), 6),
        (Some(START_MS + 10 * MINUTE), 10 * MINUTE + 1),
        (Some(START_MS + 11 * MINUTE), 0),
    ] {
        let bench = Bench::with(|config| config.seqno = kept.map(Seqno::new));
        assert_eq!(seqno(&bench), expected, "{kept:?}");
    }
}

#[test]
fn the_seqno_is_handed_out_for_keeping() {
    let mut bench = Bench::new();
    bench.drain();
    assert_eq!(bench.events, [Event::OwnSeqno(Seqno::new(START_MS))]);
    bench.pass(Duration::from_secs(31 * 60));
    assert_eq!(bench.events.last(), Some(&Event::OwnSeqno(bench.router.own_seqno())));
    assert_eq!(bench.events.len(), 2);
}

#[test]
fn a_request_raises_by_the_clock_and_never_to_the_number_asked() {
    let (mut bench, a) = (Bench::new(), Puppet::new(1));
    bench.up(&a, 1);
    bench.pass(Duration::from_secs(5));
    drop(bench.heard(&a));
    let own = bench.own_addr();
    let ask = |seqno| RoutingMessage::SeqnoRequest { origin: own, seqno: Seqno::new(seqno) };
    assert_eq!(bench.say(&a, &[ask(START_MS)]), Ok(()));
    assert_eq!(bench.heard_about(&a, &own), ["update 0 1"], "fresh enough already");
    assert_eq!(bench.say(&a, &[ask(START_MS + 1)]), Ok(()));
    assert_eq!(bench.heard_about(&a, &own), ["update 5000 1"]);
    assert_eq!(bench.say(&a, &[ask(Seqno::MAX.value())]), Ok(()));
    assert_eq!(bench.heard_about(&a, &own), ["update 5001 1"]);
}

#[test]
fn requests_raise_thrice_at_once_and_then_once_a_second() {
    let (mut bench, a) = (Bench::new(), Puppet::new(1));
    bench.up(&a, 1);
    let own = bench.own_addr();
    drop(bench.heard(&a));
    for raised in [1, 2, 3, 3, 3] {
        let next = bench.router.own_seqno().next();
        assert_eq!(bench.say(&a, &[RoutingMessage::SeqnoRequest { origin: own, seqno: next }]), Ok(()));
        assert_eq!(seqno(&bench), raised);
    }
    drop(bench.heard(&a));
    // The last ones are answered together when the next raise is due.
    bench.pass(Duration::from_millis(1_001));
    assert_eq!(bench.heard_about(&a, &own), ["update 1000 1"]);
    bench.pass(Duration::from_millis(3_000));
    assert!(bench.heard_about(&a, &own).is_empty());
}

#[test]
fn a_higher_seqno_of_ours_is_passed_only_when_shown_and_not_far_ahead() {
    let (mut bench, a) = (Bench::new(), Puppet::new(1));
    bench.up(&a, 1);
    for (shown, then) in [(5_000, 5_001), (4_000, 5_001), (9 * MINUTE, 9 * MINUTE + 1)] {
        let former = Puppet::at(0, START_MS + shown);
        assert_eq!(bench.say(&a, &[former.origin()]), Ok(()));
        assert_eq!(seqno(&bench), then, "shown {shown}");
    }
    let poisoned = Puppet::at(0, START_MS + 11 * MINUTE);
    assert_eq!(bench.say(&a, &[poisoned.origin()]), Ok(()));
    assert_eq!(seqno(&bench), 9 * MINUTE + 1);
}

#[test]
fn our_own_record_coming_back_changes_nothing() {
    let (mut bench, a) = (Bench::new(), Puppet::new(1));
    bench.up(&a, 1);
    let own: Vec<_> =
        bench.heard(&a).into_iter().filter(|m| matches!(m, RoutingMessage::Origin(_))).collect();
    assert_eq!(own.len(), 1);
    assert_eq!(bench.say(&a, &own), Ok(()));
    assert_eq!(seqno(&bench), 0);
}

#[test]
fn leaping_over_each_other_is_reported_as_a_second_host() {
    let (mut bench, a) = (Bench::new(), Puppet::new(1));
    bench.up(&a, 1);
    for leap in 1..=3 {
        assert!(!bench.events.contains(&Event::DuplicateIdentity(bench.router.me)), "{leap}");
        bench.pass(Duration::from_secs(2));
        let twin = Puppet::at(0, bench.router.own_seqno().value() + 10);
        assert_eq!(bench.say(&a, &[twin.origin()]), Ok(()));
    }
    assert!(bench.events.contains(&Event::DuplicateIdentity(bench.router.me)));
}

#[test]
fn the_record_is_refreshed_every_half_hour_with_a_new_chain() {
    let (mut bench, a) = (Bench::new(), Puppet::new(1));
    bench.up(&a, 1);
    let first = told_signature(&mut bench, &a);
    bench.pass(Duration::from_secs(29 * 60));
    assert_eq!(told_signature(&mut bench, &a), None);
    bench.pass(Duration::from_secs(2 * 60));
    let second = told_signature(&mut bench, &a);
    assert!(first.is_some() && second.is_some() && first != second);
}

#[test]
fn a_box_without_a_clock_takes_its_neighbours_time_at_once() {
    let (mut bench, a) = (Bench::at(1_000_000, |_| {}), Puppet::new(1));
    bench.up(&a, 1);
    assert_eq!(bench.say(&a, &[a.origin(), a.update(1)]), Ok(()));
    assert!(bench.route(&a).is_some(), "its record is from our far future and yet good");
    assert_eq!(seqno(&bench), 0, "our own is made by its time");
}

#[test]
fn a_clock_that_ran_ahead_is_given_up_within_a_minute() {
    let (mut bench, a) = (Bench::at(START_MS + 50 * MINUTE, |_| {}), Puppet::new(1));
    assert_eq!(seqno(&bench), 50 * MINUTE);
    bench.up(&a, 1);
    assert_eq!(bench.say(&a, &[a.origin(), a.update(1)]), Ok(()));
    drop(bench.heard(&a));
    bench.pass(Duration::from_secs(61));
    assert_eq!(seqno(&bench), MINUTE, "nobody would accept the other");
    let own = bench.own_addr();
    assert_eq!(bench.heard_about(&a, &own), ["update 60000 1"]);
}

#[test]
fn correcting_the_wall_clock_refreshes_what_has_become_old() {
    let mut bench = Bench::new();
    bench.router.set_unix((START_MS + 40 * MINUTE) * 1000, bench.now);
    assert_eq!(seqno(&bench), 40 * MINUTE);
}
