//! Table tests in virtual time: one simulated link, advanced from timeout to timeout.

use super::*;

const LAN: Duration = Duration::from_micros(300);

fn at(ms: u64) -> Instant {
    Instant::from_micros(ms * 1000)
}

fn liveness(rtt: Duration) -> Liveness {
    let mut liveness = Liveness::new(Rng::new([7; 32]), at(0));
    liveness.set_rtt(rtt);
    liveness
}

/// A link: traffic is sent at `sends`; what is sent before `cut` is answered one RTT later, probes
/// too if `answer_probes`. Returns when the path was declared dead and how many probes were sent.
fn run(
    rtt: Duration,
    sends: &[u64],
    answer_traffic: bool,
    cut: Instant,
    until: Instant,
) -> (Option<Instant>, u32) {
    let mut liveness = liveness(rtt);
    let mut sends: Vec<_> = sends.iter().map(|&ms| at(ms)).collect();
    let mut answers: Vec<Instant> = Vec::new();
    let mut probes = 0;
    loop {
        let timeout = liveness.poll_timeout().unwrap().0;
        let next = sends.iter().chain(&answers).copied().fold(timeout, Instant::min);
        if next > until {
            return (None, probes);
        }
        if sends.first() == Some(&next) {
            sends.remove(0);
            liveness.on_sent(next);
            if answer_traffic && next < cut {
                answers.push(next + rtt);
            }
        } else if let Some(i) = answers.iter().position(|&answer| answer == next) {
            answers.remove(i);
            liveness.on_answered(next);
        }
        loop {
            match liveness.poll(next) {
                Action::None => break,
                Action::Dead => return (Some(next), probes),
                Action::SendProbe => {
                    probes += 1;
                    if next < cut {
                        answers.push(next + rtt);
                    }
                }
            }
        }
    }
}

fn every(ms: u64, until: u64) -> Vec<u64> {
    (0..until).step_by(ms as usize).collect()
}

#[test]
fn a_lan_path_in_use_is_dead_less_than_half_a_second_after_its_last_answer() {
    for period in [1, 5, 20, 50] {
        let cut = at(2_000);
        let (dead, _) = run(LAN, &every(period, 4_000), true, cut, at(4_000));
        let dead = dead.expect("the cut is noticed");
        assert!(dead.since(cut) < Duration::from_millis(500), "every {period} ms: {:?}", dead.since(cut));
        assert!(dead.since(cut) > Duration::from_millis(400), "three probes must have had their time");
    }
}

#[test]
fn the_patience_follows_the_round_trip_time() {
    for rtt_ms in [40, 80, 200, 600] {
        let rtt = Duration::from_millis(rtt_ms);
        let cut = at(10_000);
        let (dead, _) = run(rtt, &every(10, 30_000), true, cut, at(30_000));
        let took = dead.expect("the cut is noticed").since(cut);
        let least = (rtt * 3).max(PATIENCE_MIN) + (rtt * 2).max(INTERVAL_MIN) * 3;
        // Above that three hellos a second apart are the faster rule.
        assert!(rtt_ms > 200 || took + Duration::from_millis(10) >= least, "{rtt_ms} ms RTT: {took:?}");
        // What was answered last was sent before the cut, so its answer comes up to one RTT after.
        assert!(took <= least + rtt + Duration::from_millis(20), "{rtt_ms} ms RTT: {took:?}");
    }
}

#[test]
fn a_living_path_is_never_declared_dead() {
    let table: &[(&str, Vec<u64>, bool)] = &[
        ("answered traffic", every(10, 60_000), true),
        ("one-way traffic, probes answered", every(10, 60_000), false),
        ("rare traffic", every(3_000, 60_000), true),
        ("no traffic at all", vec![], true),
    ];
    for rtt_ms in [1, 50, 110, 300] {
        for (name, sends, answered) in table {
            let rtt = Duration::from_millis(rtt_ms);
            let (dead, _) = run(rtt, sends, *answered, Instant::FAR_FUTURE, at(60_000));
            assert_eq!(dead, None, "{name}, {rtt_ms} ms");
        }
    }
}

#[test]
fn silence_without_unanswered_traffic_proves_nothing_for_three_hellos() {
    let (dead, probes) = run(LAN, &[], true, at(0), at(60_000));
    let dead = dead.expect("idle hellos notice it in the end");
    assert_eq!(probes, 3);
    assert!(dead >= at(13_000) && dead <= at(19_000), "{dead:?}");
}

#[test]
fn an_idle_path_says_hello_about_every_five_seconds_with_jitter() {
    let mut liveness = liveness(LAN);
    let mut gaps = Vec::new();
    let mut last = at(0);
    for _ in 0..50 {
        let (due, why) = liveness.poll_timeout().unwrap();
        assert_eq!(why, "hello");
        assert_eq!(liveness.poll(due), Action::SendProbe);
        assert_eq!(liveness.poll(due), Action::None);
        liveness.on_answered(due + LAN);
        gaps.push(due.since(last).as_millis());
        last = due;
    }
    assert!(gaps.iter().all(|gap| (4_000..6_001).contains(gap)), "{gaps:?}");
    assert!(gaps.iter().any(|gap| *gap < 4_800) && gaps.iter().any(|gap| *gap > 5_200), "{gaps:?}");
}

#[test]
fn a_path_in_use_is_measured_every_second() {
    let (_, probes) = run(LAN, &every(10, 60_000), true, Instant::FAR_FUTURE, at(60_000));
    assert!((50..=75).contains(&probes), "{probes}");
}

#[test]
fn a_stopped_process_probes_before_it_judges() {
    let mut liveness = liveness(LAN);
    liveness.on_sent(at(10));
    // Nothing ran for a minute; the first probes go now, and the answers may still come.
    let resumed = at(60_000);
    let mut sent = 0;
    while liveness.poll(resumed) == Action::SendProbe {
        sent += 1;
        assert!(sent <= 2, "one for the traffic, one hello");
    }
    assert!(!liveness.is_dead());
    liveness.on_received(resumed + LAN);
    assert_eq!(liveness.poll(resumed + LAN), Action::None);
}

#[test]
fn any_answer_clears_the_suspicion_and_a_dead_path_that_speaks_is_alive() {
    let mut liveness = liveness(LAN);
    liveness.on_sent(at(0));
    for ms in [120, 220, 320] {
        assert_eq!(liveness.poll(at(ms)), Action::SendProbe, "{ms}");
    }
    assert_eq!(liveness.poll(at(419)), Action::None);
    liveness.on_received(at(419));
    assert_eq!(liveness.poll(at(420)), Action::None);
    liveness.on_sent(at(500));
    for ms in [620, 720, 820] {
        assert_eq!(liveness.poll(at(ms)), Action::SendProbe, "{ms}");
    }
    assert_eq!(liveness.poll(at(920)), Action::Dead);
    assert_eq!(liveness.poll(at(921)), Action::None, "said once");
    assert!(liveness.is_dead() && liveness.poll_timeout().is_none());
    liveness.on_received(at(2_000));
    assert!(!liveness.is_dead() && liveness.poll_timeout().is_some());
}

#[test]
fn a_send_reported_late_is_answered_by_what_came_after_it() {
    let mut liveness = liveness(LAN);
    liveness.on_received(at(50));
    liveness.on_sent(at(40));
    assert_eq!(liveness.poll(at(400)), Action::None);
}

/// Advances to `until`, with something heard every `heard_ms`; answers that come `answer` later.
fn one_way(
    liveness: &mut Liveness,
    heard_ms: u64,
    answer: Option<Duration>,
    until: Instant,
) -> Option<Instant> {
    let (mut heard, mut answers) = (at(heard_ms), Vec::new());
    loop {
        let timeout = liveness.poll_timeout().map_or(Instant::FAR_FUTURE, |(due, _)| due);
        let now = answers.iter().copied().fold(timeout.min(heard), Instant::min);
        if now > until {
            return None;
        }
        if now == heard {
            liveness.on_received(now);
            heard += Duration::from_millis(heard_ms);
        }
        if answers.contains(&now) {
            liveness.on_answered(now);
            answers.retain(|due| *due != now);
        }
        loop {
            match liveness.poll(now) {
                Action::None => break,
                Action::SendProbe => answers.extend(answer.map(|answer| now + answer)),
                Action::Dead => return Some(now),
            }
        }
    }
}

#[test]
fn a_path_that_brings_things_and_takes_none_is_dead() {
    let mut idle = liveness(LAN);
    let dead = one_way(&mut idle, 100, None, at(60_000)).expect("noticed");
    // One idle hello, and nine probes 300 ms apart.
    assert!(dead >= at(4_000 + 2_400) && dead <= at(6_000 + 3_100), "{dead:?}");
    let mut doubted = liveness(LAN);
    doubted.on_doubted(at(0));
    let dead = one_way(&mut doubted, 100, None, at(60_000)).expect("noticed");
    assert!(dead >= at(500) && dead <= at(700), "{dead:?}");
}

#[test]
fn late_answers_are_answers() {
    for ms in [1, 250, 700] {
        let mut slow = liveness(LAN);
        assert_eq!(one_way(&mut slow, 50, Some(Duration::from_millis(ms)), at(120_000)), None, "{ms}");
    }
    let mut doubted = liveness(LAN);
    doubted.on_doubted(at(0));
    assert_eq!(one_way(&mut doubted, 50, Some(Duration::from_millis(400)), at(30_000)), None);
}

#[test]
fn a_path_that_must_not_rest_long_says_hello_as_often() {
    let mut liveness = Liveness::new(Rng::new([3; 32]), Instant::ZERO);
    liveness.set_rest(Duration::from_secs(2));
    let mut hellos = Vec::new();
    while hellos.len() < 20 {
        let now = liveness.poll_timeout().expect("a hello").0;
        while liveness.poll(now) == Action::SendProbe {
            hellos.push(now);
            liveness.on_received(now);
            liveness.on_answered(now);
        }
    }
    let gaps = hellos.windows(2).map(|two| two[1].since(two[0]));
    assert!(gaps.clone().all(|gap| gap <= Duration::from_millis(2400)), "{gaps:?}");
}

#[test]
fn a_path_that_loses_half_of_its_probes_anyway_is_given_more_of_them() {
    for (loss, expected) in [(0, 3), (100, 3), (200, 5), (440, 10), (900, 10)] {
        let mut liveness = Liveness::new(Rng::new([1; 32]), Instant::ZERO);
        liveness.set_loss(loss);
        liveness.on_sent(Instant::ZERO);
        let (mut now, mut probes) = (Instant::ZERO, 0);
        loop {
            match liveness.poll(now) {
                Action::SendProbe => probes += 1,
                Action::Dead => break,
                Action::None => now = liveness.poll_timeout().unwrap().0.max(now + Duration::from_millis(1)),
            }
        }
        // Hellos of a path in use come in between, one a second.
        assert!((expected..=expected + 3).contains(&probes), "{loss}: {probes} probes");
    }
}
