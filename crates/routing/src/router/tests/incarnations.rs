//! Evictions, confirmations, incarnations, and what silence forgets.

use super::*;

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
