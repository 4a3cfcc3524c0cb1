use super::*;

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn at(ms: u64) -> Instant {
    Instant::from_micros(ms * 1000)
}

#[test]
fn only_places_of_nodes_are_knocked_at() {
    let own = Own {
        local: vec![(addr("192.168.1.2:7463"), 24), (addr("[2001:db8::2]:7463"), 64)],
        seen: vec![addr("198.51.100.7:1").ip(), addr("100.64.3.2:1").ip()],
        networks: vec![[0xfd, 1, 2, 3, 4, 5]],
    };
    let table = [
        ("203.0.113.1:7463", Ok(())),
        ("203.0.113.1:443", Ok(())),
        ("[2001:db8:9::1]:7463", Ok(())),
        ("203.0.113.1:0", Err(Unfit::NoPlace)),
        ("0.0.0.0:7463", Err(Unfit::NoPlace)),
        ("0.1.2.3:7463", Err(Unfit::NoPlace)),
        ("127.0.0.1:7463", Err(Unfit::NoPlace)),
        ("169.254.1.1:7463", Err(Unfit::NoPlace)),
        ("224.0.0.251:5353", Err(Unfit::NoPlace)),
        ("255.255.255.255:7463", Err(Unfit::NoPlace)),
        ("[::1]:7463", Err(Unfit::NoPlace)),
        ("[::]:7463", Err(Unfit::NoPlace)),
        ("[ff02::1]:7463", Err(Unfit::NoPlace)),
        ("[fe80::1]:7463", Err(Unfit::NoPlace)),
        ("[::ffff:127.0.0.1]:7463", Err(Unfit::NoPlace)),
        ("203.0.113.1:53", Err(Unfit::WellKnown)),
        ("[fd3f::1]:7463", Err(Unfit::Mesh)),
        ("[fd01:203:405:7::1]:7463", Err(Unfit::Mesh)),
        ("192.168.1.2:7463", Err(Unfit::Ourselves)),
        // On our own network; in a range of another.
        ("192.168.1.9:7463", Ok(())),
        ("192.168.2.9:7463", Err(Unfit::Elsewhere)),
        ("10.0.0.9:7463", Err(Unfit::Elsewhere)),
        ("172.20.0.9:7463", Err(Unfit::Elsewhere)),
        ("[fd00::9]:7463", Err(Unfit::Elsewhere)),
        // Somebody sees us inside this one.
        ("100.64.9.9:7463", Ok(())),
    ];
    for (text, expected) in table {
        assert_eq!(fit(addr(text), &own, false), expected, "{text}");
    }
    assert_eq!(fit(addr("192.168.2.9:7463"), &own, true), Ok(()), "behind the same translator");
}

#[test]
fn a_pair_that_talks_is_busy_and_one_that_chats_is_not() {
    let mut meter = Meter::new(100, 0, at(0));
    assert!(!meter.is_busy(109, 1000, at(900)));
    assert!(meter.is_busy(110, 1000, at(1000)));
    let mut meter = Meter::new(0, 0, at(0));
    assert!(meter.is_busy(2, 16_384, at(10)), "a burst");
    // One record a second.
    let mut meter = Meter::new(0, 0, at(0));
    assert!((1..100).all(|second| !meter.is_busy(second, second * 100, at(second * 1000))));
}

#[test]
fn rounds_follow_each_other_at_growing_pauses() {
    let mut rng = Rng::new([1; 32]);
    let mut pauses = Pauses::new(at(0));
    let mut now = at(0);
    let mut gaps = Vec::new();
    for _ in 0..12 {
        assert!(pauses.is_over(now));
        pauses.begin(&mut rng, now);
        let start = now;
        while !pauses.is_over(now) {
            now += Duration::from_millis(10);
        }
        gaps.push(now.since(start));
    }
    assert!(gaps[0] >= PAUSE.0 && gaps[0] <= PAUSE.0 * 2, "{gaps:?}");
    // Three tries within 15 s.
    assert!(gaps[0] + gaps[1] <= Duration::from_secs(15), "{gaps:?}");
    assert!(gaps[11] >= PAUSE.1 && gaps[11] <= PAUSE.1 * 2, "{gaps:?}");
    pauses.end(Duration::from_secs(1), now);
    assert_eq!(pauses.pause, PAUSE.1, "a path that died at once encourages nobody");
    pauses.end(Duration::from_secs(60), now);
    assert_eq!(pauses.pause, PAUSE.0);
}

#[test]
fn nobody_is_knocked_at_without_end() {
    let (one, now) = (addr("203.0.113.1:1").ip(), at(0));
    let mut allowance = Allowance::new(now);
    let mut granted = (0..10_000).filter(|_| allowance.take(one, now)).count();
    assert_eq!(granted as u64, ONE.1, "one address");
    for low in 0..=255 {
        let ip = IpAddr::V4(Ipv4Addr::new(203, 0, 114, low));
        granted += (0..100).filter(|_| allowance.take(ip, now)).count();
    }
    assert_eq!(granted as u64, ALL.1, "all together");
    let later = at(1000);
    granted = (0..100).filter(|_| allowance.take(one, later)).count();
    assert_eq!(granted as u64, ONE.0, "a second later");
    for high in 0..=255 {
        allowance.take(IpAddr::V4(Ipv4Addr::new(203, 0, high, 9)), later);
    }
    assert!(allowance.targets.len() <= MAX_TARGETS);
}

#[test]
fn guesses_go_on_from_the_last_port_and_end_with_the_range() {
    let guess = |port, step| Guess { ip: addr("203.0.113.1:1").ip(), port, step };
    let ports = |guess: Guess| guesses(&guess).map(|addr| addr.port()).collect::<Vec<_>>();
    assert_eq!(ports(guess(40_000, 2)), [40_002, 40_004, 40_006, 40_008, 40_010, 40_012, 40_014, 40_016]);
    assert_eq!(ports(guess(65_534, 1)), [65_535]);
    assert_eq!(ports(guess(3, -1)), [2, 1, 0]);
}
