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

/// Our own record as `to` hears it.
fn own_record(bench: &mut Bench, to: &Puppet) -> Option<RoutingMessage> {
    bench.heard(to).into_iter().find(|message| matches!(message, RoutingMessage::Origin(_)))
}

fn reports(bench: &Bench) -> usize {
    bench.events.iter().filter(|event| matches!(event, Event::DuplicateIdentity(_))).count()
}

#[test]
fn an_answer_to_a_record_of_this_life_proves_a_second_host() {
    let (mut one, mut two, a) = (Bench::new(), Bench::at(START_MS + 7, |_| {}), Puppet::new(1));
    one.up(&a, 1);
    two.up(&a, 1);
    drop(own_record(&mut one, &a));
    let first = own_record(&mut two, &a).expect("its own");
    assert_eq!(one.say(&a, &[first]), Ok(()));
    assert_eq!((reports(&one), seqno(&one)), (0, 8), "it may be from a former life");
    let leap = own_record(&mut one, &a).expect("told to who showed it");
    assert_eq!(two.say(&a, std::slice::from_ref(&leap)), Ok(()));
    assert_eq!((reports(&two), seqno(&two)), (1, 9), "nobody else could answer what two has said");
    let back = own_record(&mut two, &a).expect("told to who showed it");
    assert_eq!(one.say(&a, &[back]), Ok(()));
    assert_eq!((reports(&one), seqno(&one)), (1, 10));
    assert_eq!(two.say(&a, &[leap]), Ok(()));
    assert_eq!((reports(&two), seqno(&two)), (1, 9), "an old one says nothing new");
}

#[test]
fn an_answer_is_known_though_other_records_came_in_between_and_the_memory_is_bounded() {
    // raises between the record that is answered and the answer, found
    for (between, found) in [(0, true), (super::ISSUED_MAX - 1, true), (super::ISSUED_MAX, false)] {
        let (mut one, mut two, a) = (Bench::new(), Bench::at(START_MS - 7, |_| {}), Puppet::new(1));
        one.up(&a, 1);
        two.up(&a, 1);
        let answered = own_record(&mut one, &a).expect("its own");
        for _ in 0..between {
            one.pass(Duration::from_secs(2));
            let (origin, seqno) = (one.own_addr(), one.router.own_seqno().next());
            assert_eq!(one.say(&a, &[RoutingMessage::SeqnoRequest { origin, seqno }]), Ok(()));
        }
        two.pass(Duration::from_secs(60));
        assert_eq!(two.say(&a, &[answered]), Ok(()));
        let answer = own_record(&mut two, &a).expect("told to who showed it");
        assert_eq!(one.say(&a, &[answer]), Ok(()));
        assert_eq!(reports(&one), usize::from(found), "{between} in between");
    }
}

#[test]
fn records_of_former_lives_are_leapt_over_however_many_and_prove_nothing() {
    let (mut bench, a) = (Bench::new(), Puppet::new(1));
    bench.up(&a, 1);
    for _ in 0..20 {
        bench.pass(Duration::from_secs(2));
        let former = Puppet::at(0, bench.router.own_seqno().value() + 10_000);
        assert_eq!(bench.say(&a, &[former.origin()]), Ok(()));
        assert!(bench.router.own_seqno() > former.record.seqno);
    }
    assert_eq!(reports(&bench), 0);
}

#[test]
fn a_leap_that_comes_too_soon_is_made_up_for() {
    let (mut bench, a) = (Bench::new(), Puppet::new(1));
    bench.up(&a, 1);
    for ahead in 1..=6 {
        assert_eq!(bench.say(&a, &[Puppet::at(0, START_MS + ahead * 60_000).origin()]), Ok(()));
    }
    assert_eq!(seqno(&bench), 3 * 60_000 + 1);
    drop(bench.heard(&a));
    bench.pass(Duration::from_millis(1_100));
    assert_eq!(seqno(&bench), 6 * 60_000 + 1);
    assert_eq!(bench.heard_about(&a, &bench.own_addr()), ["update 360001 1"]);
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

/// What a corrected clock may add, milliseconds.
const STRIDE: u64 = 1 << 14;

#[test]
fn a_box_without_a_clock_takes_its_neighbours_time_at_once() {
    let (mut bench, a) = (Bench::at(1_000_000, |_| {}), Puppet::new(1));
    bench.up(&a, 1);
    assert_eq!(bench.say(&a, &[a.origin(), a.update(1)]), Ok(()));
    assert!(bench.route(&a).is_some(), "its record is from our far future and yet good");
    // And by a stride that only this life of ours has (A6.5).
    assert!((0..STRIDE).contains(&seqno(&bench)), "our own is made by its time");
}

#[test]
fn a_clock_that_ran_ahead_is_given_up_within_a_minute() {
    let (mut bench, a) = (Bench::at(START_MS + 50 * MINUTE, |_| {}), Puppet::new(1));
    assert_eq!(seqno(&bench), 50 * MINUTE);
    bench.up(&a, 1);
    assert_eq!(bench.say(&a, &[a.origin(), a.update(1)]), Ok(()));
    drop(bench.heard(&a));
    bench.pass(Duration::from_secs(61));
    let number = seqno(&bench);
    assert!((MINUTE..MINUTE + STRIDE).contains(&number), "nobody would accept the other");
    let own = bench.own_addr();
    assert_eq!(bench.heard_about(&a, &own), [format!("update {number} 1")]);
}

#[test]
fn correcting_the_wall_clock_refreshes_what_has_become_old() {
    let mut bench = Bench::new();
    bench.router.set_unix((START_MS + 40 * MINUTE) * 1000, bench.now);
    assert_eq!(seqno(&bench), 40 * MINUTE);
}
