//! Table tests in virtual time, against a path that carries payloads up to a size.

use super::*;

fn at(seconds: u64) -> Instant {
    Instant::from_micros(seconds * 1_000_000)
}

/// A path with a limit that may change; answers 20 ms after each probe that fits.
struct Path {
    limit: u16,
    now: Instant,
    probes: u32,
    largest: u16,
}

impl Path {
    fn new(limit: u16) -> Self {
        Self { limit, now: at(0), probes: 0, largest: 0 }
    }

    fn run(&mut self, search: &mut Search, until: Instant) {
        self.used(search, until, false);
    }

    fn used(&mut self, search: &mut Search, until: Instant, used: bool) {
        loop {
            if used {
                search.on_used(self.now);
            }
            while let Some(size) = search.poll_probe(self.now) {
                self.probes += 1;
                self.largest = self.largest.max(size);
                if size <= self.limit {
                    self.now += Duration::from_millis(20);
                    search.on_acked(size, self.now);
                }
            }
            let next = search.poll_timeout().unwrap().0;
            let next = if used { next.min(self.now + Duration::from_secs(1)) } else { next };
            assert!(next > self.now, "the machine must not spin");
            if next > until {
                self.now = until;
                return;
            }
            self.now = next;
            search.handle_timeout(self.now);
        }
    }
}

#[test]
fn the_search_ends_at_the_largest_size_that_passes() {
    let table = [
        // underlay MTU, overhead, payload found
        (1280, 28, 1252),
        (1300, 28, 1252),
        (1420, 28, 1392),
        (1500, 28, 1472),
        (1500, 48, 1452),
        (1500, 66, 1434),
        (1500, 86, 1414),
        (9000, 28, 8972),
        (1228, 28, 1200),
        (65_000, 28, 8972),
    ];
    for (mtu, overhead, expected) in table {
        let mut search = Search::new(overhead, 65_535, at(0));
        assert_eq!(search.payload(), BASE_PAYLOAD, "before any answer");
        let mut path = Path::new(mtu - overhead);
        path.run(&mut search, at(60));
        assert_eq!(search.payload(), expected, "underlay {mtu}, overhead {overhead}");
        assert!(path.probes <= 9, "{} probes", path.probes);
    }
}

#[test]
fn inner_mtus_are_those_of_the_protocol_table() {
    // underlay 1500: UDP/IPv4, UDP/IPv6, QUIC/IPv4, QUIC/IPv6 (protocol A4)
    let table =
        [(28, 1436, 1360, 1328), (48, 1416, 1340, 1308), (66, 1398, 1322, 1290), (86, 1378, 1302, 1270)];
    for (overhead, direct, routed, waypoints) in table {
        let payload = 1500 - overhead;
        assert_eq!(inner_mtu(payload, Shape::Direct), direct);
        assert_eq!(inner_mtu(payload, Shape::Routed { waypoints: 0 }), routed);
        assert_eq!(inner_mtu(payload, Shape::Routed { waypoints: 4 }), waypoints);
    }
    assert_eq!(inner_mtu(20, Shape::Direct), 0);
}

#[test]
fn the_ceiling_holds_and_is_itself_tried() {
    let mut search = Search::new(28, 1400, at(0));
    let mut path = Path::new(9000);
    path.run(&mut search, at(60));
    assert_eq!((search.payload(), path.largest), (1400, 1400));
}

#[test]
fn two_lost_probes_do_not_end_the_search() {
    let mut search = Search::new(28, 1500, at(0));
    let first = search.poll_probe(at(0)).unwrap();
    assert_eq!(search.poll_probe(at(0)), None, "one at a time");
    search.handle_timeout(at(1));
    assert_eq!(search.poll_probe(at(1)), Some(first));
    search.handle_timeout(at(2));
    assert_eq!(search.poll_probe(at(2)), Some(first));
    assert!(search.on_acked(first, at(2)));
    assert_eq!(search.payload(), first);
    assert!(search.poll_probe(at(2)).unwrap() > first);
}

#[test]
fn a_path_that_grew_is_found_by_the_raise_timer() {
    let mut search = Search::new(28, 9000, at(0));
    let mut path = Path::new(1392);
    path.run(&mut search, at(500));
    assert_eq!(search.payload(), 1392);
    path.limit = 1472;
    path.run(&mut search, at(590));
    assert_eq!(search.payload(), 1392, "not before its time");
    path.run(&mut search, at(650));
    assert_eq!(search.payload(), 1472);
}

#[test]
fn confirmations_do_not_put_the_raise_off() {
    let mut search = Search::new(28, 9000, at(0));
    let mut path = Path::new(1392);
    path.used(&mut search, at(500), true);
    path.limit = 1472;
    path.used(&mut search, at(700), true);
    assert_eq!(search.payload(), 1472);
}

#[test]
fn a_black_hole_is_noticed_on_a_used_path_and_a_smaller_size_found() {
    let mut search = Search::new(28, 9000, at(0));
    let mut path = Path::new(1472);
    path.used(&mut search, at(60), true);
    assert_eq!(search.payload(), 1472);
    path.limit = 1400;
    path.used(&mut search, at(60 + 15 + 8), true);
    assert_eq!(search.payload(), 1392, "the base, and up again");
    path.limit = 1472;
    path.used(&mut search, at(800), true);
    assert_eq!(search.payload(), 1472, "and back when the path is");
}

#[test]
fn an_idle_path_sends_no_confirmations() {
    let mut search = Search::new(28, 9000, at(0));
    let mut path = Path::new(1472);
    path.run(&mut search, at(30));
    let before = path.probes;
    path.run(&mut search, at(500));
    assert_eq!(path.probes, before);
}

#[test]
fn a_hint_changes_nothing_until_probes_agree() {
    // A lie: the size in use still passes.
    let mut search = Search::new(28, 9000, at(0));
    let mut path = Path::new(1472);
    path.run(&mut search, at(30));
    search.on_too_big(600, path.now);
    assert_eq!(search.payload(), 1472);
    path.run(&mut search, at(40));
    assert_eq!(search.payload(), 1472);

    // The truth: it is found within seconds, at the size that was named.
    path.limit = 1333;
    search.on_too_big(1333, path.now);
    assert_eq!(search.payload(), 1472, "only a probe so far");
    path.run(&mut search, at(50));
    assert_eq!(search.payload(), 1333);
}

#[test]
fn a_local_refusal_is_believed_at_once() {
    let mut search = Search::new(28, 8972, at(0));
    let mut path = Path::new(8972);
    path.run(&mut search, at(30));
    assert_eq!(search.payload(), 8972);
    assert!(search.on_refused(8972, path.now));
    assert_eq!(search.payload(), BASE_PAYLOAD);
    path.limit = 1472;
    path.run(&mut search, at(31));
    assert_eq!(search.payload(), 1472);
    assert!(path.largest == 8972 && !search.on_refused(1200, path.now), "the base is not given up");
}

#[test]
fn answers_to_what_was_never_asked_prove_nothing() {
    let mut search = Search::new(28, 9000, at(0));
    let first = search.poll_probe(at(0)).unwrap();
    for size in [0, 1199, first + 1, 9000, u16::MAX] {
        assert!(!search.on_acked(size, at(0)), "{size}");
    }
    assert_eq!(search.payload(), BASE_PAYLOAD);
    assert!(search.on_acked(first, at(0)));
}

#[test]
fn a_report_about_a_probe_ends_it_at_once_and_what_it_names_is_tried_once() {
    let mut search = Search::new(28, 1472, at(0));
    assert_eq!(search.poll_probe(at(0)), Some(1252));
    assert!(!search.on_probe_too_big(1316, 1210, at(0)), "about another probe");
    assert_eq!(search.poll_probe(at(0)), None, "it is still waited for");
    assert!(!search.on_probe_too_big(1252, 1230, at(0)));
    assert_eq!(search.poll_probe(at(0)), Some(1230), "no need to wait or to try again");
    assert!(!search.on_probe_too_big(1230, 1229, at(0)));
    assert_eq!((search.poll_probe(at(0)), search.payload()), (None, 1200), "no end of hints is followed");
    assert_eq!(search.poll_timeout().unwrap().0, at(600));
}

#[test]
fn the_size_in_use_shrinks_only_after_as_many_reports_as_losses() {
    let mut search = Search::new(28, 1252, at(0));
    assert_eq!(search.poll_probe(at(0)), Some(1252));
    assert!(search.on_acked(1252, at(0)));
    search.on_too_big(1210, at(1));
    for tries in 1..=3 {
        assert_eq!(search.poll_probe(at(1)), Some(1252));
        assert_eq!(search.on_probe_too_big(1252, 1210, at(1)), tries == 3);
    }
    assert_eq!(search.payload(), 1200);
}

/// A path on which 1472 was found, in use until `at`.
fn settled(until: Instant) -> (Search, Path) {
    let mut search = Search::new(28, 1472, at(0));
    let mut path = Path::new(1472);
    path.used(&mut search, until, true);
    assert_eq!(search.payload(), 1472);
    (search, path)
}

#[test]
fn a_black_hole_under_suspicion_is_found_in_half_a_second_and_what_passes_right_after() {
    let (mut search, mut path) = settled(at(40));
    search.set_rtt(Duration::from_millis(20));
    path.limit = 1252;
    search.on_suspected(path.now);
    path.run(&mut search, path.now + Duration::from_millis(600));
    assert_eq!(search.payload(), 1252);
    assert!(!search.is_too_narrow());
}

#[test]
fn a_wrong_suspicion_costs_one_probe_and_is_not_raised_again_for_a_second() {
    let (mut search, mut path) = settled(at(40));
    let before = path.probes;
    for _ in 0..5 {
        search.on_suspected(path.now);
        path.run(&mut search, path.now + Duration::from_millis(100));
    }
    assert_eq!((search.payload(), path.probes), (1472, before + 1));
    // But it is not forgotten: the path may have changed right after.
    path.limit = 1252;
    path.run(&mut search, path.now + Duration::from_millis(1200));
    assert_eq!(search.payload(), 1252);
}

#[test]
fn a_path_that_shrinks_below_the_base_is_too_narrow_until_it_has_carried_that_again() {
    let (mut search, mut path) = settled(at(40));
    path.limit = 1100;
    for _ in 0..2 {
        assert!(!search.is_too_narrow());
        search.on_suspected(path.now);
        let until = path.now + Duration::from_secs(8);
        path.run(&mut search, until);
    }
    assert!(search.is_too_narrow());
    path.limit = 1472;
    search.on_suspected(path.now);
    path.run(&mut search, at(70));
    assert!(!search.is_too_narrow());
}

#[test]
fn on_another_network_the_size_proves_itself_and_may_grow() {
    let mut search = Search::new(28, 8952, at(0));
    let mut path = Path::new(1472);
    path.used(&mut search, at(40), true);
    assert_eq!(search.payload(), 1472);
    path.limit = 8952;
    search.on_network_changed(path.now);
    path.run(&mut search, at(41));
    assert_eq!(search.payload(), 8952);
}

#[test]
fn a_carrier_that_searches_by_itself_is_believed_and_confirmed() {
    let mut search = Search::new(66, BASE_PAYLOAD, at(0));
    let mut path = Path::new(1434);
    path.run(&mut search, at(1));
    assert_eq!((search.payload(), path.probes), (BASE_PAYLOAD, 0), "nothing to find before the carrier");
    assert!(search.on_carrier_payload(1434, at(1)));
    assert!(!search.on_carrier_payload(1434, at(1)), "no news");
    assert_eq!(search.payload(), 1434);

    // The path shrinks, and the carrier has not noticed.
    path.limit = 1214;
    search.on_suspected(at(10));
    path.now = at(10);
    path.run(&mut search, at(11));
    assert_eq!(search.payload(), 1214, "within a second");

    // The carrier has noticed: what it says is the limit, and what it finds needs no probe.
    let probes = path.probes;
    assert!(search.on_carrier_payload(BASE_PAYLOAD, at(20)));
    path.now = at(20);
    path.run(&mut search, at(30));
    assert_eq!((search.payload(), path.probes), (BASE_PAYLOAD, probes));
    assert!(search.on_carrier_payload(1214, at(30)));
    assert_eq!(search.payload(), 1214);
    assert!(!search.is_too_narrow());

    search.on_carrier_payload(BASE_PAYLOAD - 1, at(40));
    assert!(search.is_too_narrow(), "less than a link must carry");
}
