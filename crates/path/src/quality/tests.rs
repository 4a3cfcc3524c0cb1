//! Table tests in virtual time.

use super::*;
use sinew_types::Rng;

fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}

fn at(value: u64) -> Instant {
    Instant::from_micros(value * 1000)
}

/// One answered probe each second from `from`, all with `rtt`. Returns the costs told.
fn feed(quality: &mut Quality, from: u64, count: u64, rtt: Duration) -> Vec<(u64, Metric)> {
    let mut told = Vec::new();
    for i in 0..count {
        let (id, t) = ((from + i) as u32, (from + i) * 1000);
        quality.on_probe_sent(id, at(t));
        let cost = quality.on_probe_answered(id, rtt, at(t) + rtt);
        told.extend(cost.map(|cost| (from + i, cost)));
    }
    told
}

#[test]
fn the_cost_is_a_hop_and_the_rtt_and_what_the_operator_adds() {
    let table = [
        (Duration::from_micros(200), 0, 1),
        (ms(2), 0, 2),
        (ms(9), 0, 5),
        (ms(80), 0, 41),
        (ms(80), 10, 46),
        (ms(80), 11, 47),
        (ms(60_000), 0, 1023),
    ];
    for (rtt, operator, expected) in table {
        let mut quality = Quality::new(ms(operator));
        assert_eq!(quality.cost(), UNKNOWN_COST.plus(Metric::new(operator.div_ceil(2) as u16)));
        assert_eq!(quality.on_rtt(rtt, at(0)), Some(Metric::new(expected)), "{rtt:?} + {operator}");
        assert_eq!(quality.cost(), Metric::new(expected));
    }
}

#[test]
fn a_first_measurement_that_was_too_long_is_told_for_ten_seconds_and_known_for_none() {
    let mut quality = Quality::new(ms(0));
    assert_eq!(quality.present(), UNKNOWN_COST);
    quality.on_rtt(ms(60), at(0));
    assert_eq!(quality.on_rtt(ms(2), at(10)), None);
    assert_eq!((quality.cost(), quality.present()), (Metric::new(31), Metric::new(2)));
    assert_eq!(quality.handle_timeout(at(10_010)), Some(Metric::new(2)));
}

#[test]
fn queues_do_not_move_the_cost() {
    let mut quality = Quality::new(ms(0));
    for i in 0..100 {
        // Seven of eight samples stand in a queue.
        let rtt = if i % 8 == 0 { ms(20) } else { ms(20 + (i * 37) % 400) };
        let told = quality.on_rtt(rtt, at(i * 1000));
        assert_eq!(told.is_some(), i == 0, "sample {i}");
    }
    assert_eq!(quality.min_rtt(), Some(ms(20)));
}

#[test]
fn a_rise_is_told_once_the_old_samples_are_gone_and_small_ones_never() {
    let table = [
        (ms(100), ms(110), None),
        (ms(100), ms(120), Some(61)),
        (ms(2), ms(4), None),
        (ms(2), ms(6), Some(4)),
    ];
    for (before, after, expected) in table {
        let mut quality = Quality::new(ms(0));
        feed(&mut quality, 0, 10, before);
        let told = feed(&mut quality, 10, 10, after);
        assert_eq!(told, expected.map(|units| (17, Metric::new(units))).into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn a_fall_is_told_after_ten_seconds_and_not_if_it_was_a_moment() {
    let mut quality = Quality::new(ms(0));
    feed(&mut quality, 0, 10, ms(100));
    quality.on_rtt(ms(40), at(10_000));
    assert_eq!(quality.poll_timeout(), Some((at(20_000), "cost fell")));
    assert_eq!(quality.handle_timeout(at(19_999)), None);
    assert_eq!(quality.handle_timeout(at(20_000)), Some(Metric::new(21)));
    assert_eq!(quality.poll_timeout(), None);

    let mut quality = Quality::new(ms(0));
    feed(&mut quality, 0, 10, ms(100));
    quality.on_rtt(ms(40), at(10_000));
    // Eight samples later the moment is forgotten, before ten seconds are over.
    assert_eq!(feed(&mut quality, 11, 8, ms(100)), []);
    assert_eq!(quality.handle_timeout(at(60_000)), None);
    assert_eq!(quality.cost(), Metric::new(51));
}

#[test]
fn what_is_told_of_a_fall_is_the_worst_of_its_ten_seconds() {
    let mut quality = Quality::new(ms(0));
    feed(&mut quality, 0, 10, ms(200));
    for i in 0..20 {
        quality.on_rtt(ms(100 - 2 * i), at(10_000 + i * 400));
    }
    assert_eq!(quality.handle_timeout(at(20_000)), Some(Metric::new(51)));
}

#[test]
fn reordering_is_not_loss() {
    let mut quality = Quality::new(ms(0));
    let mut rng = Rng::new([3; 32]);
    let mut answers: Vec<(Instant, u32, Duration)> = Vec::new();
    for id in 0..2_000u32 {
        let sent = at(u64::from(id) * 20);
        // One answer in twenty is overtaken by up to fifteen others.
        let late = if rng.below(20) == 0 { ms(20 + rng.below(300)) } else { ms(0) };
        answers.push((sent + ms(30) + late, id, ms(30) + late));
        quality.on_probe_sent(id, sent);
        answers.sort();
        while answers.first().is_some_and(|&(when, ..)| when <= sent) {
            let (when, id, rtt) = answers.remove(0);
            quality.on_probe_answered(id, rtt, when);
        }
        assert_eq!(quality.loss_permille(), 0, "probe {id}");
    }
    assert_eq!(quality.cost(), Metric::new(16));
}

#[test]
fn an_answer_after_the_grace_takes_the_loss_back() {
    let mut quality = Quality::new(ms(0));
    feed(&mut quality, 0, 10, ms(10));
    quality.on_probe_sent(100, at(10_000));
    assert_eq!(quality.poll_timeout(), Some((at(11_000), "probe lost")));
    quality.handle_timeout(at(11_000));
    assert_eq!(quality.loss_permille(), 90);
    quality.on_probe_answered(100, ms(1_500), at(11_500));
    assert_eq!(quality.loss_permille(), 0);
}

#[test]
fn loss_costs_what_a_retransmission_costs() {
    let table = [(0, 0, 21), (1, 15, 21), (2, 50, 26), (6, 94, 33), (32, 500, 141)];
    for (lost, permille, units) in table {
        let mut quality = Quality::new(ms(0));
        let settled = match lost {
            0 => 20,
            2 => 40,
            _ => 64,
        };
        for id in 0..settled {
            let t = u64::from(id) * 1000;
            quality.on_probe_sent(id, at(t));
            if id >= lost {
                quality.on_probe_answered(id, ms(40), at(t + 40));
            }
        }
        for seconds in [100, 111, 122] {
            quality.handle_timeout(at(seconds * 1000));
        }
        assert!(quality.loss_permille().abs_diff(permille) <= 1, "{lost}: {}", quality.loss_permille());
        // Within what damping leaves untold.
        assert!(
            quality.cost().units().abs_diff(units) <= 1 + units / 8,
            "{lost} of {settled}: {:?}",
            quality.cost()
        );
    }
}

#[test]
fn nothing_answered_is_as_bad_as_it_gets_without_overflow() {
    let mut quality = Quality::new(ms(u64::MAX / 1000));
    quality.on_rtt(Duration::MAX, at(0));
    for id in 0..100 {
        quality.on_probe_sent(id, at(1000));
    }
    quality.handle_timeout(Instant::FAR_FUTURE);
    assert_eq!(quality.cost(), Metric::UNREACHABLE);
}

#[test]
fn the_floor_is_three_quarters_of_the_least_rtt_at_least_one_and_constant_once_fixed() {
    for (rtt, expected) in [(Duration::from_micros(100), 1), (ms(2), 1), (ms(40), 15), (ms(100), 37)] {
        let mut quality = Quality::new(ms(0));
        quality.on_rtt(rtt * 2, at(0));
        quality.on_rtt(rtt, at(1000));
        assert_eq!(quality.fix_floor(), Metric::new(expected), "{rtt:?}");
        quality.on_rtt(Duration::from_micros(1), at(2000));
        quality.handle_timeout(at(100_000));
        assert_eq!(quality.floor(), Metric::new(expected), "fixed");
        assert!(quality.cost() >= quality.floor());
        quality.release_floor();
        assert_eq!(quality.floor(), Metric::ONE);
    }
}

#[test]
fn memory_is_bounded() {
    let mut quality = Quality::new(ms(0));
    for id in 0..10_000 {
        quality.on_probe_sent(id, at(u64::from(id)));
        quality.on_rtt(ms(5), at(u64::from(id)));
    }
    assert!(quality.outcomes.len() <= OUTCOMES && quality.samples.len() <= SAMPLES);
}
