use std::net::Ipv4Addr;

use sinew_wire::punch::Candidate;

use super::*;

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn says(mapping: Mapping, candidates: &[(CandidateKind, &str)]) -> Punch {
    let candidates = candidates.iter().map(|&(kind, text)| Candidate { kind, addr: addr(text) }).collect();
    Punch { round: 1, rtt_us: 0, mapping, guess: None, candidates }
}

#[test]
fn who_has_one_place_tries_and_who_has_many_opens() {
    let home = [(CandidateKind::Local, "192.168.1.2:7463"), (CandidateKind::Reflexive, "198.51.100.1:4000")];
    let side = |own, theirs| plan(own, &says(theirs, &home), &Own::default());
    let (one, many) = (Mapping::EndpointIndependent, Mapping::AddressDependent);
    let at = addr("198.51.100.1:4000");
    assert_eq!(side(one, many), Some((Side::Tries, at)));
    assert_eq!(side(Mapping::Open, Mapping::AddressAndPortDependent), Some((Side::Tries, at)));
    assert_eq!(side(many, one), Some((Side::Opens, at)));
    for (own, theirs) in [(one, one), (many, many), (Mapping::Unknown, many), (many, Mapping::Other(9))] {
        assert_eq!(side(own, theirs), None, "{own:?} {theirs:?}");
    }
}

#[test]
fn only_outside_addresses_that_may_be_knocked_at_are_searched() {
    let reflexive = CandidateKind::Reflexive;
    let unfit =
        ["192.168.1.2:4000", "100.64.0.1:4000", "127.0.0.1:4000", "198.51.100.1:53", "[2001:db8::1]:4000"];
    for text in unfit {
        let theirs = says(Mapping::AddressDependent, &[(reflexive, text)]);
        assert_eq!(plan(Mapping::EndpointIndependent, &theirs, &Own::default()), None, "{text}");
    }
    let local = says(Mapping::AddressDependent, &[(CandidateKind::Local, "198.51.100.1:4000")]);
    assert_eq!(plan(Mapping::EndpointIndependent, &local, &Own::default()), None, "nobody drew that port");
    let local = says(Mapping::Open, &[(CandidateKind::Local, "198.51.100.1:4000")]);
    assert!(plan(Mapping::AddressDependent, &local, &Own::default()).is_some(), "a public host");
    let both = [(CandidateKind::Mapped, "198.51.100.1:4000"), (reflexive, "198.51.100.1:4001")];
    let (_, at) =
        plan(Mapping::AddressDependent, &says(Mapping::EndpointIndependent, &both), &Own::default())
            .expect("two places");
    assert_eq!(at.port(), 4001, "what others see");
}

#[test]
fn ports_that_are_tried_are_those_that_translators_draw() {
    let mut rng = Rng::new([3; 32]);
    let tried: Vec<_> = (0..100_000).map(|_| port(&mut rng)).collect();
    assert!(tried.iter().all(|port| *port >= FIRST_PORT));
    assert!(tried.iter().min() < Some(&1100) && tried.iter().max() > Some(&65_450));
    let missed = (1.0 - f64::from(PORTS) / 64_512.0).powi(KNOCKS as i32);
    assert!(missed < 0.02, "the chance that the module promises: {missed}");
}

#[test]
fn an_address_is_searched_once_in_five_minutes_and_few_are_remembered() {
    let (at, ip) =
        (|s: u64| Instant::from_micros(s * 1_000_000), |n: u32| IpAddr::V4(Ipv4Addr::from_bits(n)));
    let mut searched = Searched::default();
    assert!(searched.allows(ip(1), at(0)) && searched.begin(ip(1), at(0)));
    assert!(!searched.allows(ip(1), at(299)) && !searched.begin(ip(1), at(299)));
    assert!(searched.begin(ip(1), at(300)));
    searched.proved(ip(1));
    assert!(searched.begin(ip(1), at(301)));
    let begun = (100..10_000).filter(|n| searched.begin(ip(*n), at(302))).count();
    assert_eq!(begun, MAX_TARGETS - 1);
}
