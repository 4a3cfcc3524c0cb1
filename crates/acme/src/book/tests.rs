use super::*;
use ChallengeKind::{Dns01, Http01, TlsAlpn01};

const DAY: u64 = 86_400;
const START: u64 = 1_700_000_000;

fn book() -> Book {
    Book::new(Rules::default(), 7)
}

fn with(hosts: &[(&str, &[ChallengeKind])]) -> Book {
    let mut book = book();
    let wanted: Vec<_> = hosts.iter().map(|(host, kinds)| Wanted::new(*host, kinds)).collect();
    book.set_hosts(&wanted);
    book
}

fn ninety(from: u64) -> Validity {
    Validity { from, until: from + 90 * DAY }
}

fn refused() -> Fault {
    Fault::Refused("no".into())
}

fn state(book: &Book, now: u64) -> HostState {
    book.status(now)[0].state
}

#[test]
fn renewal_comes_at_two_thirds_of_life() {
    for (life, earliest, latest) in [
        (90 * DAY, 60 * DAY, 62 * DAY),
        (6 * DAY, 4 * DAY, 5 * DAY),
        (47 * DAY, 31 * DAY, 33 * DAY),
        (30, 20, 21),
    ] {
        let mut book = with(&[("a.example", &[TlsAlpn01])]);
        book.held("a.example", Validity { from: START, until: START + life });
        book.asked("a.example", None, START);
        let at = book.status(START)[0].next_try.unwrap() - START;
        assert!((earliest..=latest).contains(&at), "life {life}: after {at}");
        assert_eq!(state(&book, START), HostState::Valid);
        let order = |now, book: &mut Book| matches!(book.next(now), Some(Task::Order { renewal: true, .. }));
        book.asked("a.example", None, START + at);
        assert!(!order(START + at - 1, &mut book) && order(START + at, &mut book));
        assert_eq!(state(&book, START + at), HostState::Renewing);
    }
}

#[test]
fn a_refused_host_waits_twice_as_long_after_each_round_through_its_challenges() {
    let mut book = with(&[("a.example", &[TlsAlpn01, Http01])]);
    let (mut now, mut seen) = (START, Vec::new());
    for _ in 0..30 {
        let Some(Task::Order { challenge, .. }) = book.next(now) else { panic!("not due at {now}") };
        book.failed("a.example", &refused(), now);
        assert_eq!(book.next(now), None, "at once again");
        let next = book.timeout().unwrap();
        seen.push((challenge, next - now));
        now = next;
    }
    for (at, (challenge, wait)) in seen.iter().enumerate() {
        assert_eq!(*challenge, [TlsAlpn01, Http01][at % 2]);
        let expected = (60 << (at / 2)).min(DAY);
        assert!((expected * 3 / 4..=expected * 5 / 4).contains(wait), "failure {at}: {wait} s");
    }
    assert_eq!(book.status(now)[0].failures, 30);
    assert_eq!(state(&book, now), HostState::Failing);
    book.next(now);
    book.issued("a.example", ninety(now), now);
    let status = &book.status(now)[0];
    assert_eq!((status.failures, status.last_error.as_ref(), status.state), (0, None, HostState::Valid));
}

#[test]
fn a_failed_renewal_is_repeated_while_the_old_one_lasts() {
    let mut book = with(&[("a.example", &[TlsAlpn01])]);
    book.held("a.example", ninety(START));
    let end = START + 90 * DAY;
    let (mut now, mut tries) = (START, 0);
    while now < end {
        match book.next(now) {
            Some(Task::Order { .. }) => {
                tries += 1;
                book.failed("a.example", &refused(), now);
            }
            Some(Task::Ask { host }) => book.asked(&host, None, now),
            None => now = book.timeout().unwrap().max(now + 1),
        }
    }
    assert!((25..200).contains(&tries), "{tries} tries in the last third of 90 days");
    assert_eq!(state(&book, end - 1), HostState::Valid, "what is held stays in use");
    assert_eq!(state(&book, end + 1), HostState::Failing);
}

#[test]
fn while_the_authority_is_out_of_order_nobody_is_sent_there() {
    let mut book = with(&[("a.example", &[TlsAlpn01]), ("b.example", &[TlsAlpn01])]);
    let (mut now, mut waits) = (START, Vec::new());
    for _ in 0..12 {
        let Some(Task::Order { host, .. }) = book.next(now) else { panic!("not due") };
        book.failed(&host, &Fault::Server("connection refused".into()), now);
        assert_eq!(book.next(now + 1), None, "neither of them");
        let next = book.timeout().unwrap();
        waits.push(next - now);
        now = next;
    }
    assert!(waits[0] <= 75 && waits[11] >= 2700 && waits.iter().all(|wait| *wait <= 4500), "{waits:?}");
    assert!(book.status(now).iter().all(|host| host.failures == 0), "not the hosts' fault");
    let Some(Task::Order { host, .. }) = book.next(now) else { panic!("not due") };
    book.issued(&host, ninety(now), now);
    assert!(matches!(book.next(now), Some(Task::Order { .. })), "the other one at once");
}

#[test]
fn a_rate_limit_is_kept_as_long_as_the_authority_says() {
    for (after, least) in [(Some(Duration::from_secs(7200)), 7200), (None, 3600), (Some(Duration::ZERO), 60)]
    {
        let mut book = with(&[("a.example", &[TlsAlpn01])]);
        book.next(START);
        book.failed("a.example", &Fault::Limited("too many".into(), after), START);
        let wait = book.timeout().unwrap() - START;
        assert!((least..=least + 75).contains(&wait), "{after:?}: {wait}");
    }
}

#[test]
fn the_authoritys_window_decides_but_never_on_the_last_day() {
    let validity = ninety(START);
    let hour = Duration::from_secs(3600);
    for (window, earliest, latest) in [
        // Revoked soon: at once.
        ((START, START + 60), START, START + 60),
        ((START + 70 * DAY, START + 72 * DAY), START + 70 * DAY, START + 72 * DAY),
        ((START + 89 * DAY, START + 90 * DAY), START + 81 * DAY, START + 81 * DAY),
    ] {
        let mut book = with(&[("a.example", &[TlsAlpn01])]);
        book.held("a.example", validity);
        assert_eq!(book.next(START), Some(Task::Ask { host: "a.example".into() }));
        book.asked("a.example", Some((window, hour)), START);
        let at = book.status(START)[0].next_try.unwrap();
        assert!((earliest..=latest).contains(&at), "{window:?}: {at}");
        // The same window again draws no new lot.
        book.asked("a.example", Some((window, hour)), START + 3600);
        assert_eq!(book.status(START)[0].next_try.unwrap(), at);
        assert_eq!(book.timeout(), Some(at.min(START + 7200)));
    }
    let mut book = with(&[("a.example", &[TlsAlpn01])]);
    book.held("a.example", validity);
    let before = book.status(START)[0].next_try;
    book.asked("a.example", Some(((START + 9, START + 3), hour)), START);
    assert_eq!(book.status(START)[0].next_try, before, "a window that ends before it begins");
}

#[test]
fn only_so_many_orders_are_under_way_and_the_bare_come_first() {
    let kinds: &[ChallengeKind] = &[TlsAlpn01];
    let mut book =
        with(&[("a.example", kinds), ("b.example", kinds), ("c.example", kinds), ("d.example", kinds)]);
    book.held("a.example", Validity { from: START - 80 * DAY, until: START + 10 * DAY });
    let mut taken = Vec::new();
    while let Some(Task::Order { host, .. }) = book.next(START) {
        taken.push(host);
    }
    assert_eq!(taken, ["b.example", "c.example"]);
    book.issued("b.example", ninety(START), START);
    assert!(matches!(book.next(START), Some(Task::Order { host, .. }) if host == "d.example"));
    book.issued("c.example", ninety(START), START);
    assert!(matches!(book.next(START), Some(Task::Order { host, renewal: true, .. }) if host == "a.example"));
}

#[test]
fn names_and_challenges_that_cannot_work_are_never_ordered() {
    let cases: &[(&str, &[ChallengeKind], bool)] = &[
        ("app.example.org", &[TlsAlpn01], true),
        ("*.example.org", &[Dns01], true),
        ("*.example.org", &[Http01, Dns01], true),
        ("*.example.org", &[TlsAlpn01, Http01], false),
        ("app.example.org", &[], false),
        ("*.*.example.org", &[Dns01], false),
        ("*", &[Dns01], false),
        ("localhost", &[TlsAlpn01], false),
        ("192.0.2.1", &[TlsAlpn01], false),
        ("App.example.org", &[TlsAlpn01], false),
        ("../../etc.passwd", &[TlsAlpn01], false),
        ("a/b.example", &[TlsAlpn01], false),
        ("-a.example", &[TlsAlpn01], false),
        ("a..example", &[TlsAlpn01], false),
        ("", &[TlsAlpn01], false),
    ];
    for (host, kinds, good) in cases {
        let mut book = with(&[(host, kinds)]);
        let task = book.next(START);
        assert_eq!(task.is_some(), *good, "{host}");
        assert_eq!(state(&book, START) != HostState::Impossible, *good, "{host}");
        assert_eq!(book.status(START)[0].last_error.is_some(), !good, "{host}");
        if let Some(Task::Order { challenge, .. }) = task {
            assert!(!host.starts_with('*') || challenge == Dns01);
        }
    }
}

#[test]
fn a_restart_forgets_no_wait() {
    let mut book = with(&[("a.example", &[TlsAlpn01])]);
    for now in [START, START + DAY, START + 2 * DAY] {
        assert!(book.next(now).is_some());
        book.failed("a.example", &refused(), now);
    }
    let now = START + 2 * DAY;
    let (memory, due) = (book.memory(), book.timeout());
    let mut again = with(&[("a.example", &[TlsAlpn01])]);
    again.remembered("a.example", &memory["a.example"], now);
    assert_eq!((again.timeout(), again.next(now)), (due, None));
    assert_eq!(again.status(now)[0].failures, 3);
    // With a clock that was wrong before, it waits a day and not until then.
    again.remembered("a.example", &Memory { next_try: now + 900 * DAY, ..memory["a.example"].clone() }, now);
    assert_eq!(again.timeout(), Some(now + DAY));
}

#[test]
fn hosts_come_and_go_and_new_challenges_begin_afresh() {
    let mut book = with(&[("a.example", &[TlsAlpn01]), ("b.example", &[TlsAlpn01])]);
    book.held("b.example", ninety(START));
    book.next(START);
    book.failed("a.example", &refused(), START);
    let wanted = [Wanted::new("a.example", &[Http01]), Wanted::new("c.example", &[TlsAlpn01])];
    assert_eq!(book.set_hosts(&wanted), (vec!["c.example".to_owned()], vec!["b.example".to_owned()]));
    assert!(matches!(book.next(START), Some(Task::Order { challenge: Http01, .. })));
    // What is reported of a host that has gone meanwhile is dropped.
    book.issued("b.example", ninety(START), START);
    book.failed("b.example", &refused(), START);
    assert_eq!(book.status(START).len(), 2);
}

#[test]
fn a_forced_renewal_still_waits_for_the_brakes() {
    let mut book = with(&[("a.example", &[TlsAlpn01])]);
    book.held("a.example", ninety(START));
    assert!(book.renew("a.example") && !book.renew("b.example"));
    assert!(matches!(book.next(START), Some(Task::Order { renewal: true, .. })));
    book.failed("a.example", &refused(), START);
    assert_eq!(book.next(START + 1).filter(|task| matches!(task, Task::Order { .. })), None);
}

#[test]
fn certificates_that_are_old_when_new_are_not_ordered_in_a_loop() {
    let mut book = with(&[("a.example", &[TlsAlpn01])]);
    let mut orders = 0;
    for now in START..START + 600 {
        while let Some(task) = book.next(now) {
            match task {
                Task::Order { host, .. } => {
                    orders += 1;
                    book.issued(&host, Validity { from: START - DAY, until: START - 1 }, now);
                }
                Task::Ask { host } => book.asked(&host, None, now),
            }
        }
    }
    assert!((9..=11).contains(&orders), "{orders} in ten minutes");
}
