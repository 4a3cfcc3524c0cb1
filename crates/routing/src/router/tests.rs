//! The handlers, one rule at a time.

use std::time::Duration;

use sinew_types::{Class, DropReason, Metric, Seqno};
use sinew_wire::routing::RoutingMessage;

use crate::rules::Rule;
use crate::stats::MessageKind;
use crate::tests::puppet::{Bench, Puppet, START_MS};
use crate::tests::world::World;
use crate::{Event, Misbehaviour, Significance};

const MINUTE: Duration = Duration::from_secs(60);

fn bad(reason: DropReason) -> Result<(), Misbehaviour> {
    Err(Misbehaviour { reason, close_for: None })
}

fn close(reason: DropReason) -> Result<(), Misbehaviour> {
    Err(Misbehaviour { reason, close_for: Some(MINUTE) })
}

/// A bench whose neighbours `a` (cost 2) and `b` (cost 3) are up and have said nothing yet.
fn two() -> (Bench, Puppet, Puppet, Puppet) {
    let (mut bench, a, b, far) = (Bench::new(), Puppet::new(1), Puppet::new(2), Puppet::new(3));
    bench.up(&a, 2);
    bench.up(&b, 3);
    drop((bench.heard(&a), bench.heard(&b)));
    (bench, a, b, far)
}

#[test]
fn a_line_learns_the_whole_line() {
    let mut world = World::new(4, &[(0, 1, 1), (1, 2, 2), (2, 3, 3)]);
    world.open_all();
    world.run_for(Duration::from_secs(1));
    assert_eq!((world.check(), world.check_rest()), (Ok(()), Ok(())));
    assert_eq!(world.metric(0, 3), Some(6));
}

#[test]
fn a_new_neighbour_hears_hint_self_and_then_nearest_first() {
    let (mut bench, a, _, _) = two();
    let (near, far) = (Puppet::new(3), Puppet::new(4));
    assert_eq!(bench.say(&a, &[far.origin(), far.update(9), near.origin(), near.update(5)]), Ok(()));
    let c = Puppet::new(5);
    bench.up(&c, 1);
    let updates: Vec<_> = bench
        .heard(&c)
        .into_iter()
        .filter_map(|message| match message {
            RoutingMessage::Hint { floor, class, k, radius } => {
                assert_eq!((floor, class, k, radius), (1, Class::Router, 4096, 1023));
                Some((None, 0))
            }
            RoutingMessage::Update { origin, metric, .. } => Some((Some(origin), metric.units())),
            _ => None,
        })
        .collect();
    // 5 - 1 (its floor) + 2 (cost) + 1 (our floor).
    let expected = vec![(None, 0), (Some(bench.own_addr()), 1), (Some(near.addr), 7), (Some(far.addr), 11)];
    assert_eq!(updates, expected);
}

#[test]
fn the_record_goes_ahead_of_the_first_update_only() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    let first = bench.heard(&b);
    assert_eq!(first[0], far.origin());
    assert!(matches!(first[1], RoutingMessage::Update { .. }));
    assert_eq!(bench.say(&a, &[far.update(20)]), Ok(()));
    bench.pass(Duration::from_millis(50));
    let second = bench.heard(&b);
    assert_eq!(second, vec![far.update(22)]);
}

#[test]
fn a_neighbour_that_told_us_a_seqno_is_not_sent_its_record() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&b, &[far.origin(), far.update(500)]), Ok(()));
    assert_eq!(bench.say(&a, &[far.update(5)]), Ok(()));
    assert_eq!(bench.heard(&b), vec![far.update(7)]);
}

#[test]
fn what_is_told_is_what_the_chain_proves() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    // 5 on the wire, 1 of it the neighbour's floor; 2 for the link, 1 for our own floor.
    assert_eq!(bench.heard(&b), vec![far.origin(), far.update(7)]);
    assert_eq!(bench.route(&far), Some((a.id, 6)));
}

#[test]
fn the_next_hop_is_told_nothing_and_loses_what_it_was_told() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(9)]), Ok(()));
    assert!(bench.heard_about(&a, &far.addr).is_empty());
    assert_eq!(bench.heard_about(&b, &far.addr), ["update 0 11"]);
    // b is better now: it gets a retraction, a gets the route.
    assert_eq!(bench.say(&b, &[far.update(3)]), Ok(()));
    assert_eq!(bench.heard_about(&b, &far.addr), ["retract"]);
    assert_eq!(bench.heard_about(&a, &far.addr), ["update 0 6"]);
}

#[test]
fn nobody_is_told_the_way_to_himself() {
    let (mut bench, a, b, _) = two();
    assert_eq!(bench.say(&a, &[b.origin(), b.update(2)]), Ok(()));
    assert!(bench.heard_about(&b, &b.addr).is_empty());
    assert_eq!(bench.route(&b), Some((a.id, 3)));
}

// --- forged claims ---

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

// --- records: age and repair ---

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

// --- when things are told ---

#[test]
fn small_changes_are_not_told_and_large_ones_wait_for_company() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(100)]), Ok(()));
    assert_eq!(bench.heard_about(&b, &far.addr), ["update 0 102"]);
    for (metric, told) in [(110, None), (114, Some("update 0 116")), (102, None), (99, Some("update 0 101"))]
    {
        assert_eq!(bench.say(&a, &[far.update(metric)]), Ok(()));
        assert!(bench.heard(&b).is_empty(), "{metric}: never at once");
        bench.pass(Duration::from_millis(50));
        let expected: Vec<_> = told.into_iter().collect();
        assert_eq!(bench.heard_about(&b, &far.addr), expected, "{metric}");
    }
}

#[test]
fn first_words_and_retractions_go_at_once() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    assert_eq!(bench.heard_about(&b, &far.addr), ["update 0 7"]);
    assert_eq!(bench.say(&a, &[far.retract()]), Ok(()));
    assert_eq!(bench.heard_about(&b, &far.addr), ["retract"]);
}

#[test]
fn a_route_lost_and_found_before_the_window_opens_is_never_mentioned() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    drop(bench.heard(&b));
    assert_eq!(bench.say(&a, &[far.retract()]), Ok(()));
    let fresh = Puppet::at(3, START_MS + 1);
    assert_eq!(bench.say(&a, &[fresh.origin(), fresh.update(5)]), Ok(()));
    assert!(bench.heard_about(&b, &far.addr).is_empty());
}

#[test]
fn a_newer_seqno_alone_is_told_to_those_who_asked_and_to_nobody_else() {
    let (mut bench, a, b, far) = two();
    let c = Puppet::new(5);
    bench.up(&c, 1);
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    drop((bench.heard(&b), bench.heard(&c)));
    assert_eq!(bench.say(&b, &[far.ask(START_MS + 1)]), Ok(()));
    assert_eq!(bench.heard_about(&a, &far.addr), ["ask 1"]);
    let fresh = Puppet::at(3, START_MS + 4);
    assert_eq!(bench.say(&a, &[fresh.origin(), fresh.update(5)]), Ok(()));
    assert_eq!(bench.heard_about(&b, &far.addr), ["update 4 7"]);
    bench.pass(Duration::from_millis(60));
    assert!(bench.heard_about(&c, &far.addr).is_empty());
}

#[test]
fn changes_name_next_hop_and_watermark() {
    let (mut bench, a, _, far) = two();
    bench.changes.clear();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    let change = bench.changes.pop().expect("a change");
    assert_eq!((change.node, change.addr, change.next_hop), (far.id, far.addr, Some(a.id)));
    assert_eq!(change.metric, Metric::new(6));
    assert_eq!(change.fd.map(|fd| (fd.seqno, fd.metric)), Some((Seqno::new(START_MS), Metric::new(6))));
    bench.router.neighbour_down(&a.id, bench.now);
    bench.drain();
    let change = bench.changes.pop().expect("a change");
    assert_eq!((change.next_hop, change.fd, change.metric), (None, None, Metric::UNREACHABLE));
}

// --- evictions, confirmations, incarnations ---

#[test]
fn a_tombstone_stays_until_the_very_frame_is_processed() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    let key = bench.router.table.find(&far.addr).expect("known");
    drop(bench.heard(&b));
    bench.router.evict(key, sinew_types::Instant::FAR_FUTURE, bench.now);
    let fd = |bench: &Bench| bench.dest(&far).and_then(|dest| dest.fd).is_some();
    assert!(fd(&bench), "nothing sent yet");
    assert_eq!(bench.heard_about(&b, &far.addr), ["retract"]);
    // b was sent hint and self, the route, and the retraction: frames 1, 2 and 3.
    for (ordinal, kept) in [(1, true), (2, true), (3, false)] {
        bench.router.on_processed(&b.id, ordinal, bench.now);
        assert_eq!(fd(&bench), kept, "after frame {ordinal}");
    }
}

#[test]
fn confirming_frames_that_were_never_sent_frees_nothing() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    bench.router.on_processed(&b.id, u64::MAX, bench.now);
    drop(bench.heard(&b));
    let key = bench.router.table.find(&far.addr).expect("known");
    bench.router.evict(key, sinew_types::Instant::FAR_FUTURE, bench.now);
    drop(bench.heard(&b));
    assert!(bench.dest(&far).and_then(|dest| dest.fd).is_some());
}

#[test]
fn a_closed_adjacency_releases_its_tombstones_and_its_routes() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    drop(bench.heard(&b));
    bench.router.neighbour_down(&a.id, bench.now);
    drop(bench.heard(&b));
    bench.pass(Duration::from_secs(16));
    assert!(bench.dest(&far).is_some(), "b may still forward through us");
    bench.router.neighbour_down(&b.id, bench.now);
    assert!(bench.dest(&far).is_none());
}

#[test]
fn a_neighbour_that_comes_up_again_starts_from_nothing() {
    let (mut bench, a, _, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    bench.up(&a, 2);
    assert_eq!(bench.route(&far), None);
    let heard = bench.heard(&a);
    assert!(matches!(heard[0], RoutingMessage::Hint { .. }), "{heard:?}");
}

#[test]
fn an_infeasible_update_of_the_next_hop_keeps_it_selected() {
    let (mut bench, a, _, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    assert_eq!(bench.say(&a, &[far.update(50)]), Ok(()));
    assert_eq!(bench.route(&far), Some((a.id, 51)));
    assert_eq!(bench.dest(&far).and_then(|d| d.fd).map(|fd| fd.metric()), Some(Metric::new(6)));
}

// --- requests ---

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

// --- silence ---

#[test]
fn the_unreachable_is_forgotten_after_silence_only() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    drop(bench.heard(&b));
    assert_eq!(bench.say(&a, &[far.retract()]), Ok(()));
    drop(bench.heard(&b));
    bench.router.on_processed(&b.id, 3, bench.now);
    bench.pass(Duration::from_secs(14));
    assert!(bench.dest(&far).is_some());
    assert_eq!(bench.say(&b, &[far.ask(START_MS + 1)]), Ok(()));
    bench.pass(Duration::from_secs(14));
    assert!(bench.dest(&far).is_some(), "it was spoken of");
    bench.pass(Duration::from_secs(3));
    assert!(bench.dest(&far).is_none());
}

#[test]
fn a_seqno_from_a_clock_far_ahead_is_got_over_however_much_is_said() {
    let (mut bench, a, b, _) = two();
    let (high, low) = (Puppet::at(3, START_MS + 9 * 60_000), Puppet::at(3, START_MS));
    assert_eq!(bench.say(&a, &[high.origin(), high.update(5)]), Ok(()));
    bench.router.set_unix((START_MS - 5 * 60_000) * 1000, bench.now);
    assert_eq!(bench.say(&a, &[high.retract()]), Ok(()));
    for _ in 0..4 {
        drop((bench.heard(&a), bench.heard(&b)));
        bench.router.on_processed(&b.id, 100, bench.now);
        assert_eq!(bench.say(&b, &[low.origin(), low.update(5)]), Ok(()));
        bench.pass(Duration::from_secs(5));
    }
    assert_eq!(bench.route(&low), Some((b.id, 7)));
}

// --- floors and costs ---

#[test]
fn a_floor_above_our_cost_raises_the_cost() {
    let (mut bench, a, b, far) = two();
    let hint = RoutingMessage::Hint { floor: 9, class: Class::Router, k: 1, radius: 1023 };
    assert_eq!(bench.say(&a, &[hint, far.origin(), far.update(15)]), Ok(()));
    // 15 - 9 = 6 is its own metric; our link of 2 counts as 9, or we could not prove the sum.
    assert_eq!(bench.route(&far), Some((a.id, 15)));
    assert_eq!(bench.heard(&b), vec![far.origin(), far.update(16)]);
}

#[test]
fn a_link_that_costs_more_moves_routes_and_one_without_end_loses_them() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    assert_eq!(bench.say(&b, &[far.update(5)]), Ok(()));
    bench.router.set_cost(&a.id, Metric::new(9), bench.now);
    assert_eq!(bench.route(&far), Some((b.id, 7)));
    bench.router.set_cost(&b.id, Metric::UNREACHABLE, bench.now);
    assert_eq!(bench.route(&far), Some((a.id, 13)));
    bench.router.set_cost(&a.id, Metric::UNREACHABLE, bench.now);
    assert_eq!(bench.route(&far), None);
}

#[test]
fn what_cannot_be_proved_to_a_neighbour_is_not_told() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(1021)]), Ok(()));
    assert_eq!(bench.route(&far), Some((a.id, 1022)));
    assert!(bench.heard_about(&b, &far.addr).is_empty(), "1022 + 1 is the cap");
}

#[test]
fn a_radius_keeps_the_far_away_out_and_lets_it_in_again() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(50)]), Ok(()));
    assert_eq!(bench.heard_about(&b, &far.addr), ["update 0 52"]);
    let hint = |radius| RoutingMessage::Hint { floor: 1, class: Class::Router, k: 1, radius };
    assert_eq!(bench.say(&b, &[hint(51)]), Ok(()));
    assert_eq!(bench.heard_about(&b, &far.addr), ["retract"]);
    assert_eq!(bench.say(&b, &[hint(52)]), Ok(()));
    assert_eq!(bench.heard_about(&b, &far.addr), ["update 0 52"]);
}

// --- stubs ---

#[test]
fn a_stub_neighbour_is_told_our_own_origin_alone_and_may_speak_for_itself_alone() {
    let (mut bench, a, _, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    let stub = Puppet::new(6).stub();
    bench.up(&stub, 4);
    let told: Vec<_> =
        bench.heard(&stub).into_iter().filter(|m| !matches!(m, RoutingMessage::Hint { .. })).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(matches!(&told[1], RoutingMessage::Update { origin, .. } if *origin == bench.own_addr()));
    assert_eq!(bench.say(&stub, &[stub.origin(), stub.update(1)]), Ok(()));
    assert_eq!(bench.route(&stub), Some((stub.id, 4)));
    assert_eq!(bench.heard_about(&a, &stub.addr), ["update 0 5"]);
    assert_eq!(bench.say(&stub, &[far.origin()]), bad(DropReason::BadControl));
    assert_eq!(bench.say(&stub, &[far.update(5)]), bad(DropReason::BadControl));
    assert_eq!(bench.route(&far), Some((a.id, 6)), "a stub is no way");
}

#[test]
fn a_stub_announces_itself_and_sends_the_rest_to_its_nearest_router() {
    let mut bench = Bench::with(|config| config.class = Class::Stub);
    let (a, b, stub) = (Puppet::new(1), Puppet::new(2), Puppet::new(6).stub());
    assert_eq!(bench.router.default_next_hop(), None);
    bench.up(&stub, 1);
    bench.up(&a, 5);
    bench.up(&b, 3);
    assert_eq!(bench.router.default_next_hop(), Some(b.id));
    bench.router.set_cost(&b.id, Metric::new(7), bench.now);
    assert_eq!(bench.router.default_next_hop(), Some(a.id));
    assert_eq!(bench.say(&a, &[a.origin(), a.update(1)]), Ok(()));
    assert_eq!(bench.route(&a), Some((a.id, 5)));
    let heard = bench.heard(&b);
    assert!(matches!(heard[0], RoutingMessage::Hint { radius: 0, k: 0, class: Class::Stub, .. }));
    assert_eq!(heard.iter().filter(|m| matches!(m, RoutingMessage::Update { .. })).count(), 1);
    let (router, _, _, _) = two();
    assert_eq!(router.router.default_next_hop(), None);
}

// --- housekeeping ---

#[test]
fn work_beyond_its_share_keeps_a_neighbour_waiting() {
    let (mut bench, a, _, far) = two();
    assert_eq!(bench.router.busy_until(&a.id, bench.now), None);
    assert_eq!(bench.say(&a, &[far.origin(), far.update(2)]), Ok(()));
    assert_eq!(bench.router.busy_until(&a.id, bench.now), None, "one origin is nothing");
    let slot = bench.router.neighbours.slot_of(&a.id).expect("up");
    let neighbour = bench.router.neighbours.get_mut(slot).expect("up");
    neighbour.signatures.charge(4096 + 200, bench.now);
    let until = bench.router.busy_until(&a.id, bench.now).expect("busy");
    assert!(until.since(bench.now) >= Duration::from_millis(900), "{until:?}");
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.router.busy_until(&a.id, bench.now), None);
}

#[test]
fn bytes_are_counted_by_message() {
    let (mut bench, a, b, far) = two();
    assert_eq!(bench.say(&a, &[far.origin(), far.update(5)]), Ok(()));
    drop(bench.heard(&b));
    let stats = bench.router.stats();
    assert_eq!(stats.received.get(MessageKind::Update).messages, 1);
    assert_eq!(stats.received.get(MessageKind::Update).bytes, 43);
    // To a and b: hint, own record and update; to b the route as well.
    assert_eq!(stats.sent.get(MessageKind::Origin).messages, 3);
    assert_eq!(stats.sent.get(MessageKind::Hint).messages, 2);
}

#[test]
fn a_mesh_at_rest_says_nothing_between_refreshes() {
    let mut world = World::new(4, &[(0, 1, 1), (1, 2, 2), (2, 3, 3), (0, 3, 9)]);
    world.open_all();
    world.run_for(Duration::from_secs(1));
    let before = world.messages;
    world.run_for(Duration::from_secs(28 * 60));
    assert_eq!(world.messages, before);
    world.run_for(Duration::from_secs(5 * 60 * 60));
    assert_eq!((world.check(), world.check_rest()), (Ok(()), Ok(())));
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let play = || {
        let mut world = World::new(4, &[(0, 1, 1), (1, 2, 2), (2, 3, 3), (0, 3, 9)]);
        world.open_all();
        world.run_for(Duration::from_secs(1));
        world.close(1, 0, true);
        world.run_for(Duration::from_secs(90));
        world.trace
    };
    assert_eq!(play(), play());
}

#[test]
fn a_damped_router_stays_within_its_tolerance() {
    let mut world = World::new(3, &[(0, 1, 20), (1, 2, 20)]);
    world.significance = Significance::DAMPED;
    (0..3).for_each(|node| world.restart(node, 0));
    world.open_all();
    world.run_for(Duration::from_secs(1));
    world.set_cost(1, 0, 22);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.metric(0, 2), Some(40), "two units more on a path of twenty are not told");
}
