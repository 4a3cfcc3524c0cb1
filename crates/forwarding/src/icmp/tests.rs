//! Answers and their bounds.

use super::*;
use crate::offload::testing::{Model, echo_v6, naive_sum};

const V6: Ipv6Addr = Ipv6Addr::new(0xfd3f, 0, 0, 0, 0, 0, 0, 1);
const V4: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

fn at(ms: u64) -> Instant {
    Instant::from_micros(ms * 1000)
}

fn answers() -> Answers {
    Answers::new(V6, V4, at(0))
}

#[test]
fn each_cause_has_its_message_to_the_sender_quoting_the_packet() {
    let packet = Model::udp(false, 1400).build();
    let table = [
        (Cause::NoRoute, [1, 0], 0),
        (Cause::Prohibited, [1, 1], 0),
        (Cause::Unreachable, [1, 3], 0),
        (Cause::TooBig { mtu: 1360 }, [2, 0], 1360),
        (Cause::HopLimit, [3, 0], 0),
    ];
    for (cause, kind, value) in table {
        let answer = answers().answer(cause, &packet, at(0)).unwrap();
        assert_eq!(answer[40..42], kind, "{cause:?}");
        assert_eq!(answer[44..48], u32::to_be_bytes(value));
        assert_eq!((&answer[8..24], &answer[24..40]), (&V6.octets()[..], &packet[8..24]));
        assert!(answer.len() <= 1280 && packet.starts_with(&answer[48..]));
        let pseudo = [&answer[8..40], &((answer.len() - 40) as u32).to_be_bytes(), &[0, 58]].concat();
        assert_eq!(naive_sum(&[&pseudo, &answer[40..]]), 0xffff, "its checksum");
    }
    let packet = Model::udp(true, 1400).build();
    let table = [
        (Cause::NoRoute, [3, 0], 0),
        (Cause::Unreachable, [3, 1], 0),
        (Cause::Prohibited, [3, 13], 0),
        (Cause::TooBig { mtu: 1360 }, [3, 4], 1360),
        (Cause::HopLimit, [11, 0], 0),
    ];
    for (cause, kind, value) in table {
        let answer = answers().answer(cause, &packet, at(0)).unwrap();
        assert_eq!(answer[20..22], kind, "{cause:?}");
        assert_eq!(answer[24..28], u32::to_be_bytes(value));
        assert_eq!(naive_sum(&[&answer[20..]]), 0xffff);
    }
}

#[test]
fn an_ipv6_size_below_the_least_mtu_is_never_told() {
    let answer =
        answers().answer(Cause::TooBig { mtu: 1200 }, &Model::udp(false, 1400).build(), at(0)).unwrap();
    assert_eq!(answer[44..48], 1280u32.to_be_bytes());
}

#[test]
fn nothing_is_said_about_errors_or_to_nobody() {
    let mut answers = answers();
    let error = answers.answer(Cause::NoRoute, &Model::udp(false, 10).build(), at(0)).unwrap();
    assert_eq!(answers.answer(Cause::NoRoute, &error, at(0)), None);
    assert!(answers.answer(Cause::NoRoute, &echo_v6(10), at(0)).is_some(), "an echo request is no error");
    let mut unspecified = Model::udp(false, 10).build();
    unspecified[8..24].fill(0);
    assert_eq!(answers.answer(Cause::NoRoute, &unspecified, at(0)), None);
    for noise in [&[][..], &[0x60; 10], &[0x10; 80]] {
        assert_eq!(answers.answer(Cause::NoRoute, noise, at(0)), None);
    }
}

#[test]
fn a_size_is_told_once_in_ten_seconds_unless_it_falls() {
    let mut answers = answers();
    let packet = Model::udp(false, 1400).build();
    let other = Model::udp(true, 1400).build();
    let table = [
        (0, &packet, 1360, true),
        (1, &packet, 1360, false),
        (9_999, &packet, 1400, false),
        (9_999, &packet, 1300, true),
        (9_999, &other, 1360, true),
        (15_000, &packet, 1300, false),
        (19_999, &packet, 1300, true),
    ];
    for (ms, packet, mtu, told) in table {
        assert_eq!(answers.answer(Cause::TooBig { mtu }, packet, at(ms)).is_some(), told, "{ms} ms, {mtu}");
    }
}

#[test]
fn answers_are_bounded_in_rate_and_memory() {
    let mut answers = answers();
    let packet = Model::tcp(false, 10).build();
    let count = |answers: &mut Answers, from: u64, ms: u64| {
        (0..ms * 10).filter(|i| answers.answer(Cause::NoRoute, &packet, at(from + i / 10)).is_some()).count()
            as u64
    };
    let burst = count(&mut answers, 0, 1);
    assert!((1..=10).contains(&burst));
    let second = count(&mut answers, 1, 1000);
    assert!((BURST + RATE - 15..=BURST + RATE).contains(&second), "{second}");
    let next = count(&mut answers, 1001, 1000);
    assert!(next.abs_diff(RATE) <= 1, "{next}");

    let mut packet = Model::udp(false, 1400).build();
    for i in 0..20_000u64 {
        packet[38..40].copy_from_slice(&(i as u16).to_be_bytes());
        answers.answer(Cause::TooBig { mtu: 1300 }, &packet, at(5_000 + i * 10));
        assert!(answers.told.len() <= TOLD_MAX);
    }
}

#[test]
fn drops_know_their_answers() {
    assert_eq!(Cause::of(DropReason::NoRoute), Some(Cause::NoRoute));
    assert_eq!(Cause::of(DropReason::HoldQueue), Some(Cause::Unreachable));
    assert_eq!(Cause::of(DropReason::SendQueue), None);
    assert_eq!(Cause::of(DropReason::InboundClosed), None, "strangers get silence");
}
