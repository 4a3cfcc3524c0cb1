use sinew_types::CarrierKind;

use super::*;

fn at(ms: u64) -> Instant {
    Instant::from_micros(1_000_000 + ms * 1000)
}

fn path(n: u8) -> PathAddr {
    PathAddr { carrier: CarrierKind::Udp, local: 0, remote: format!("10.0.0.{n}:1").parse().unwrap() }
}

struct Bench {
    paths: Paths,
    rng: Rng,
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self { paths: Paths::default(), rng: Rng::new([1; 32]) };
        bench.paths.prove(path(1), true, &mut bench.rng, at(0));
        let due = bench.due(0)[0];
        assert!(bench.answer(&due, 0));
        assert_eq!(bench.changes(), [Change::Up(path(1))]);
        bench
    }

    fn received(&mut self, n: u8, bytes: usize, ms: u64) {
        self.paths.on_received(path(n), bytes, &mut self.rng, at(ms));
    }

    fn due(&mut self, ms: u64) -> Vec<Due> {
        std::iter::from_fn(|| self.paths.poll_challenge(45, &mut self.rng, at(ms))).collect()
    }

    fn answer(&mut self, due: &Due, ms: u64) -> bool {
        self.paths.on_response(due.token, due.path, due.size, at(ms)).is_some()
    }

    fn changes(&mut self) -> Vec<Change> {
        std::iter::from_fn(|| self.paths.poll_change()).collect()
    }

    fn of(dues: &[Due], n: u8) -> Due {
        *dues.iter().find(|due| due.path == path(n)).unwrap()
    }
}

#[test]
fn a_new_source_takes_over_one_round_trip_later_if_the_old_one_is_silent() {
    let mut bench = Bench::new();
    bench.received(2, 1400, 100);
    assert_eq!(bench.paths.current(), Some(path(1)), "data stays where it was");
    let dues = bench.due(100);
    assert_eq!(dues.len(), 2, "the newcomer and the path in use are asked");
    assert!(bench.answer(&Bench::of(&dues, 2), 150));
    bench.paths.handle_timeout(at(199));
    assert_eq!(bench.paths.current(), Some(path(1)));
    let generation = bench.paths.generation();
    bench.paths.handle_timeout(at(200));
    assert_eq!(bench.paths.current(), Some(path(2)));
    assert_eq!(bench.changes(), [Change::Up(path(2)), Change::Down(path(1))]);
    assert_eq!(bench.paths.generation(), generation + 1);
}

#[test]
fn a_new_source_does_not_take_over_while_the_old_one_lives() {
    let mut bench = Bench::new();
    bench.received(2, 1400, 100);
    let dues = bench.due(100);
    bench.answer(&Bench::of(&dues, 1), 140);
    bench.answer(&Bench::of(&dues, 2), 120);
    bench.paths.handle_timeout(at(2000));
    assert_eq!(bench.paths.current(), Some(path(1)));
    assert_eq!(bench.paths.validated().count(), 2, "it is kept as another way");
}

#[test]
fn an_answer_proves_only_the_source_it_was_asked_from() {
    let mut bench = Bench::new();
    bench.received(2, 1400, 100);
    let dues = bench.due(100);
    let asked = Bench::of(&dues, 2);
    assert!(bench.paths.on_response(asked.token, path(1), asked.size, at(110)).is_none());
    assert!(bench.paths.on_response([0; 8], path(2), asked.size, at(110)).is_none());
    assert!(!bench.paths.is_validated(&path(2)));
}

#[test]
fn an_unproved_source_gets_at_most_three_bytes_for_one() {
    let mut bench = Bench::new();
    bench.received(2, 100, 100);
    let mut sent = 0;
    for ms in (100..10_000).step_by(50) {
        sent += bench.due(ms).iter().filter(|due| due.path == path(2)).map(|due| due.size).sum::<usize>();
        for _ in 0..10 {
            sent += if bench.paths.may_send(&path(2), 45) { 45 } else { 0 };
        }
    }
    assert!(sent > 0 && sent <= 300, "{sent}");
    assert!(!bench.paths.may_send(&path(3), 1), "nothing to a source we have not heard of");
}

#[test]
fn a_candidate_that_never_answers_is_forgotten_and_tables_stay_small() {
    let mut bench = Bench::new();
    for n in 2..200 {
        bench.received(n, 1400, 100);
    }
    assert!(bench.paths.list.len() <= MAX_PATHS);
    assert!(bench.paths.is_validated(&path(1)));
    for ms in (100..10_000).step_by(10) {
        for due in bench.due(ms) {
            assert!(due.path != path(1) || bench.answer(&due, ms));
        }
    }
    assert_eq!(bench.paths.list.len(), 1);
    assert_eq!(bench.paths.current(), Some(path(1)));
}

#[test]
fn a_dead_path_is_challenged_every_second_and_comes_back() {
    let mut bench = Bench::new();
    bench.paths.dead(&path(1), at(0));
    assert_eq!((bench.paths.current(), bench.changes()), (None, vec![Change::Down(path(1))]));
    let mut asked = Vec::new();
    for ms in 0..10_000 {
        asked.extend(bench.due(ms).into_iter().map(|due| (ms, due)));
    }
    assert!((9..=10).contains(&asked.len()), "{}", asked.len());
    assert!(bench.changes().contains(&Change::Doubt(path(1))));
    let (_, last) = asked.pop().unwrap();
    assert!(bench.answer(&last, 10_010));
    assert_eq!(bench.paths.current(), Some(path(1)));
}

#[test]
fn a_validated_path_of_a_better_carrier_takes_over_and_the_node_may_choose() {
    let mut bench = Bench::new();
    let tcp = PathAddr { carrier: CarrierKind::Tcp, ..path(1) };
    bench.paths.solicit(tcp, &mut bench.rng, at(0));
    let due = bench.due(0)[0];
    bench.answer(&due, 10);
    assert_eq!(bench.paths.current(), Some(path(1)), "udp stays before tcp");
    bench.paths.prefer(tcp);
    assert_eq!(bench.paths.current(), Some(tcp));
    bench.paths.prefer(path(9));
    assert_eq!(bench.paths.current(), Some(tcp), "only what is validated");
    assert!(bench.paths.closed(&tcp));
    assert_eq!(bench.paths.current(), Some(path(1)));
}

#[test]
fn mesh_addresses_are_no_endpoints() {
    let mesh = PathAddr { remote: "[fd3f::1]:7463".parse().unwrap(), ..path(1) };
    assert!(!is_usable(&mesh) && is_usable(&path(1)));
    let mut bench = Bench::new();
    bench.paths.on_received(mesh, 1400, &mut bench.rng, at(0));
    assert_eq!(bench.paths.list.len(), 1);
}

#[test]
fn a_short_answer_proves_the_address_and_a_full_one_the_path() {
    let mut bench = Bench::new();
    bench.received(2, 100, 100);
    let short = Bench::of(&bench.due(100), 2);
    assert_eq!(short.size, 300, "what the budget allows");
    assert!(bench.answer(&short, 120));
    assert!(!bench.paths.is_validated(&path(2)));
    assert_eq!(bench.paths.tentative(), Some(path(2)));
    let full = Bench::of(&bench.due(120), 2);
    assert_eq!(full.size, CHALLENGE_SIZE, "at once, since nobody else can be there");
    assert!(bench.answer(&full, 140));
    assert!(bench.paths.is_validated(&path(2)));
    assert_eq!(bench.paths.tentative(), None);
}

#[test]
fn a_stream_has_no_width() {
    let mut bench = Bench::new();
    let tcp = PathAddr { carrier: CarrierKind::Tcp, ..path(2) };
    bench.paths.prove(tcp, true, &mut bench.rng, at(0));
    assert!(bench.paths.is_validated(&tcp));
}

#[test]
fn a_path_in_reserve_is_asked_every_few_seconds_and_is_dead_before_it_is_needed() {
    let mut bench = Bench::new();
    bench.paths.solicit(path(2), &mut bench.rng, at(0));
    let first = bench.due(0)[0];
    assert!(bench.answer(&first, 20));
    bench.changes();
    let mut kept = Vec::new();
    for ms in (20..20_000).step_by(10) {
        for due in bench.due(ms) {
            assert_eq!((due.path, due.size), (path(2), 45), "a sign of life from the one not in use");
            kept.push(due.token);
            assert!(bench.answer(&due, ms + 10));
        }
    }
    assert_eq!(kept.len(), 3);
    assert!(kept[0] != kept[1] && kept[1] != kept[2], "a token is used once");
    let known = bench.paths.known().find(|known| known.path == path(2)).unwrap();
    assert!(known.rtt.unwrap() < Duration::from_millis(20), "measured anew: {:?}", known.rtt);
    let mut ms = 20_000;
    while bench.paths.is_validated(&path(2)) {
        bench.due(ms);
        ms += 10;
    }
    assert!(ms < 29_000, "one turn and all its tries: {ms}");
    bench.paths.dead(&path(1), at(ms));
    assert_eq!(bench.paths.current(), None, "it is not taken for a way out");
}

impl Bench {
    /// A bench with a second path, validated and in reserve.
    fn with_reserve() -> Self {
        let mut bench = Self::new();
        bench.add_reserve(2);
        bench
    }

    fn add_reserve(&mut self, n: u8) {
        self.paths.solicit(path(n), &mut self.rng, at(0));
        let due = Self::of(&self.due(0), n);
        assert!(self.answer(&due, 10));
        self.changes();
    }

    fn used_by_peer(&mut self, n: u8, ms: u64) {
        self.paths.on_used_by_peer(path(n), &mut self.rng, at(ms));
    }
}

#[test]
fn a_peer_that_uses_another_path_is_followed_if_ours_does_not_answer() {
    let mut bench = Bench::with_reserve();
    bench.used_by_peer(2, 1000);
    assert_eq!(bench.paths.current(), Some(path(1)), "a hint moves nothing");
    let dues = bench.due(1000);
    assert_eq!(dues.iter().map(|due| (due.path, due.size)).collect::<Vec<_>>(), [(path(1), 45)]);
    bench.used_by_peer(2, 1050);
    bench.paths.handle_timeout(at(1099));
    assert_eq!(bench.paths.current(), Some(path(1)));
    bench.paths.handle_timeout(at(1100));
    assert_eq!(bench.paths.current(), Some(path(2)));
    assert_eq!(bench.changes(), [Change::Down(path(1))]);
}

#[test]
fn a_peer_that_uses_another_path_moves_nobody_from_one_that_works() {
    let mut bench = Bench::with_reserve();
    for ms in [1000, 2000, 3000] {
        bench.used_by_peer(2, ms);
        let dues = bench.due(ms);
        assert!(bench.answer(&Bench::of(&dues, 1), ms + 50));
        bench.paths.handle_timeout(at(ms + 500));
        assert_eq!(bench.paths.current(), Some(path(1)));
    }
    assert!(bench.changes().is_empty());
}

#[test]
fn a_hint_about_one_path_says_nothing_of_the_one_that_has_taken_over_since() {
    let mut bench = Bench::with_reserve();
    bench.add_reserve(3);
    bench.used_by_peer(2, 1000);
    bench.due(1000);
    // Our own patience ends first, and another takes over that nobody has asked since.
    bench.paths.prefer(path(3));
    bench.paths.dead(&path(1), at(1050));
    bench.changes();
    bench.paths.handle_timeout(at(1200));
    assert_eq!(bench.paths.current(), Some(path(3)));
    assert!(bench.changes().is_empty());
}

#[test]
fn only_a_validated_path_can_be_followed_to() {
    let mut bench = Bench::new();
    bench.received(2, 1400, 1000);
    bench.due(1000);
    bench.used_by_peer(2, 1000);
    bench.paths.handle_timeout(at(3000));
    assert_eq!(bench.paths.current(), Some(path(1)));
}

#[test]
fn of_those_in_reserve_the_one_that_has_just_answered_takes_over() {
    let mut bench = Bench::with_reserve();
    bench.add_reserve(3);
    bench.paths.ask_reserve(&mut bench.rng, at(1000));
    bench.paths.ask_reserve(&mut bench.rng, at(1001));
    let dues = bench.due(1001);
    assert_eq!(dues.len(), 2, "each once, and not the one in use: {dues:?}");
    // It is farther than the other ever was.
    assert!(bench.answer(&Bench::of(&dues, 3), 1200));
    bench.paths.dead(&path(1), at(1300));
    assert_eq!(bench.paths.current(), Some(path(3)));
}

#[test]
fn a_change_of_the_network_asks_every_path_at_once() {
    let mut bench = Bench::new();
    bench.paths.dead(&path(1), at(0));
    assert_eq!(bench.due(0).len(), 1);
    bench.received(3, 100, 10);
    assert_eq!(bench.due(10).len(), 1);
    assert!(bench.due(100).is_empty());
    bench.paths.recheck(&mut bench.rng, at(100));
    let dues = bench.due(100);
    assert_eq!(dues.iter().map(|due| due.path).collect::<Vec<_>>(), [path(1)], "no stranger is asked for it");
    assert!(bench.answer(&dues[0], 130));
    assert_eq!(bench.paths.current(), Some(path(1)));
}
