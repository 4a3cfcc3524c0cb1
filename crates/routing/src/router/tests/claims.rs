//! Forged and impossible claims.

use super::*;

#[test]
fn a_record_under_somebody_elses_key_is_refused() {
    let (mut bench, a, _, far) = two();
    let mut forged = Puppet::new(4);
    forged.record.node = *far.id.as_bytes();
    assert_eq!(bench.say(&a, &[forged.origin()]), bad(DropReason::ForgedOrigin));
    assert!(bench.dest(&far).is_none());
    assert_eq!(bench.router.stats().drops.get(DropReason::ForgedOrigin), 1);
}

#[test]
fn an_altered_record_is_refused() {
    let (mut bench, a, _, far) = two();
    for alter in [
        (|r: &mut Puppet| r.record.seqno = r.record.seqno.next()) as fn(&mut Puppet),
        |r| r.record.landmark = true,
        |r| r.record.anchor[3] ^= 1,
        |r| r.record.expiry_min = 59,
        |r| r.record.class = Class::Stub,
        |r| r.record.signature[5] ^= 1,
    ] {
        let mut altered = far.clone();
        alter(&mut altered);
        assert_eq!(bench.say(&a, &[altered.origin()]), bad(DropReason::ForgedOrigin));
    }
    assert!(bench.dest(&far).is_none());
}

#[test]
fn a_metric_below_what_can_be_proved_is_refused_and_sets_no_fd() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(9)]), Ok(()));
    // The liar knows h_9 and claims 5.
    let lie = far.claim(5, far.chain(9));
    assert_eq!(bench.say(&b, &[lie]), bad(DropReason::UnprovenMetric));
    assert_eq!(bench.route(&far), Some((a.id, 10)));
    assert_eq!(bench.dest(&far).and_then(|d| d.fd).map(|fd| fd.metric()), Some(Metric::new(10)));
    assert!(bench.router.stats().hashes > 0);
}

#[test]
fn a_lie_takes_the_place_of_what_the_liar_said_before() {
    let (mut bench, a, _, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(9)]), Ok(()));
    assert_eq!(bench.say(&a, &[far.claim(5, [0; 16])]), bad(DropReason::UnprovenMetric));
    assert_eq!(bench.route(&far), None);
}

#[test]
fn a_chain_of_another_seqno_or_origin_proves_nothing() {
    let (mut bench, a, _, far) = two();
    let (older, other) = (Puppet::at(3, START_MS - 1), Puppet::new(4));
    for source in [older, other] {
        let lie = far.claim(5, source.chain(5));
        assert_eq!(bench.say(&a, &[far.origin(), lie]), bad(DropReason::UnprovenMetric));
    }
}

#[test]
fn a_forged_record_of_ourselves_moves_nothing() {
    let (mut bench, a, _, _) = two();
    let before = bench.router.own_seqno();
    let mut forged = Puppet::at(0, START_MS + 60_000);
    forged.record.signature[0] ^= 1;
    assert_eq!(bench.say(&a, &[forged.origin()]), bad(DropReason::ForgedOrigin));
    assert_eq!(bench.router.own_seqno(), before);
}

#[test]
fn impossible_claims_are_refused() {
    let (mut bench, a, _, far) = two();
    assert_eq!(bench.say(&a, &[far.origin()]), Ok(()));
    // Below its own floor; at no distance from somebody else; at the cap.
    for metric in [0, 1, 1023] {
        assert_eq!(bench.say(&a, &[far.update(metric)]), bad(DropReason::BadControl), "{metric}");
    }
    assert_eq!(bench.say(&a, &[far.update(2)]), Ok(()));
}

#[test]
fn an_update_before_the_hint_is_refused() {
    let (mut bench, a) = (Bench::new(), Puppet::new(1));
    bench.router.neighbour_up(a.id, Metric::ONE, Metric::ONE, Class::Router, bench.now);
    assert_eq!(bench.say(&a, &[a.origin(), a.update(1)]), bad(DropReason::BadControl));
}

#[test]
fn a_hint_that_contradicts_the_handshake_is_refused() {
    let (mut bench, a, _, _) = two();
    let hint = |floor, class| RoutingMessage::Hint { floor, class, k: 0, radius: 0 };
    assert_eq!(bench.say(&a, &[hint(1, Class::Stub)]), bad(DropReason::BadControl));
    assert_eq!(bench.say(&a, &[hint(1023, Class::Router)]), bad(DropReason::BadControl));
}

#[test]
fn eight_bad_values_close_the_adjacency_for_a_minute() {
    let (mut bench, a, _, far) = two();
    assert_eq!(bench.say(&a, &[far.origin()]), Ok(()));
    let lie = far.claim(5, [0; 16]);
    for _ in 0..7 {
        assert_eq!(bench.say(&a, std::slice::from_ref(&lie)), bad(DropReason::UnprovenMetric));
    }
    assert_eq!(bench.say(&a, &[lie]), close(DropReason::UnprovenMetric));
}

#[test]
fn bytes_that_are_no_message_close_at_once_and_the_good_part_stands() {
    let (mut bench, a, _, far) = two();
    let mut frame = Vec::new();
    for message in [far.origin(), far.update(5)] {
        message.emit(&mut frame);
    }
    frame.extend([3, 1, 0, 7]);
    let result = bench.router.handle_frame(&a.id, &frame, bench.now);
    assert_eq!(result, close(DropReason::Malformed));
    assert_eq!(bench.route(&far), Some((a.id, 6)));
}

#[test]
fn a_stranger_is_not_heard() {
    let (mut bench, _, _, far) = two();
    assert_eq!(bench.say(&far, &[far.origin()]), bad(DropReason::WrongAdjacency));
}

#[test]
fn two_records_with_one_seqno_keep_the_first_and_blame_nobody_on_the_way() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(9)]), Ok(()));
    let mut twin = far.clone();
    twin.record.anchor = [7; 16];
    let twin = twin.signed();
    assert_eq!(bench.say(&b, &[twin.origin(), twin.claim(4, [1; 16])]), Ok(()));
    assert!(bench.events.contains(&Event::DuplicateIdentity(far.id)));
    assert_eq!(bench.route(&far), Some((a.id, 10)));
    assert_eq!(bench.dest(&far).map(|d| d.origin.record == far.record), Some(true));
}
