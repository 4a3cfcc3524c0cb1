use sinew_types::Identity;

use super::*;

const REMOTE: &str = "192.0.2.1:7";

fn peer(via: &str) -> PeerConfig {
    let id = Identity::from_seed([9; 32]).node_id();
    PeerConfig { uri: format!("sinew://{id}@hub.example:7?via={via}").parse().unwrap(), cost: Metric::ZERO }
}

fn actions(dialler: &mut Dialler) -> Vec<DialAction> {
    std::iter::from_fn(|| dialler.poll_action()).collect()
}

fn at(ms: u64) -> Instant {
    Instant::from_micros(ms * 1000)
}

fn path(carrier: CarrierKind) -> PathAddr {
    PathAddr { carrier, local: 1, remote: REMOTE.parse().unwrap() }
}

/// A dialler of one peer whose only name has just been resolved, and what it did at once.
fn resolved(via: &str, addresses: &[&str]) -> (Dialler, NodeId, Vec<DialAction>) {
    let config = peer(via);
    let node = config.uri.node;
    let mut dialler = Dialler::new(vec![config], Rng::new([0; 32]), at(0));
    dialler.advance(at(0));
    let asked = DialAction::Resolve { peer: node, host: "hub.example".into(), port: 7 };
    assert_eq!(actions(&mut dialler), [asked]);
    answer(&mut dialler, addresses, at(0));
    let done = actions(&mut dialler);
    (dialler, node, done)
}

fn answer(dialler: &mut Dialler, addresses: &[&str], now: Instant) {
    let node = peer("udp").uri.node;
    let addresses: Vec<_> = addresses.iter().map(|text| text.parse().unwrap()).collect();
    dialler.on_resolved(&node, ("hub.example", 7), &addresses, &Own::default(), now);
}

/// Which carriers are tried when, from 0 ms on.
fn launches(dialler: &mut Dialler, first: Vec<DialAction>, until: u64) -> Vec<(u64, CarrierKind, String)> {
    let mut list = Vec::new();
    let mut note = |ms, actions: Vec<DialAction>| {
        for action in actions {
            match action {
                DialAction::OpenUdp { remote, .. } => list.push((ms, CarrierKind::Udp, remote.to_string())),
                DialAction::Connect { carrier, remote, .. } => list.push((ms, carrier, remote.to_string())),
                DialAction::Resolve { .. } => {}
            }
        }
    };
    note(0, first);
    while let Some(due) = dialler.poll_timeout().filter(|due| *due <= at(until)) {
        dialler.advance(due);
        note(due.since(at(0)).as_millis() as u64, actions(dialler));
    }
    list
}

fn answers(dialler: &Dialler, node: &NodeId) -> Vec<Answer> {
    dialler.candidates(node, at(100_000)).into_iter().map(|candidate| candidate.answer).collect()
}

#[test]
fn every_carrier_is_tried_the_better_ones_a_quarter_of_a_second_earlier() {
    let (mut dialler, node, first) = resolved("wss,udp,tcp,quic", &[REMOTE]);
    let list = launches(&mut dialler, first, 1000);
    let remote = REMOTE.to_owned();
    let expected = [
        (0, CarrierKind::Udp, remote.clone()),
        (250, CarrierKind::Quic, remote.clone()),
        (500, CarrierKind::Tcp, remote.clone()),
        (750, CarrierKind::Wss, remote),
    ];
    assert_eq!(list, expected);
    // Nobody answers: a pause, then all again.
    let due = dialler.poll_timeout().unwrap();
    assert_eq!(due, at(750 + 1500));
    dialler.advance(due);
    assert!(dialler.poll_timeout().unwrap() >= at(2250 + 500));
    assert!(dialler.last_error(&node).is_some());
}

#[test]
fn ipv6_goes_first_and_the_families_take_turns() {
    let addresses =
        ["192.0.2.1:7", "192.0.2.2:7", "[2001:db8::1]:7", "[64:ff9b::c000:201]:7", "[2001:db8::2]:7"];
    let (mut dialler, _, first) = resolved("udp", &addresses);
    let order: Vec<_> = launches(&mut dialler, first, 1000).into_iter().map(|(ms, _, to)| (ms, to)).collect();
    let expected = [addresses[2], addresses[0], addresses[3], addresses[1], addresses[4]];
    let expected: Vec<_> = (0..).step_by(100).zip(expected.map(str::to_owned)).collect();
    assert_eq!(order, expected);
}

#[test]
fn a_failure_lets_the_next_go_at_once() {
    let (mut dialler, node, _) = resolved("udp,tcp", &[REMOTE]);
    dialler.on_candidate_failed(&node, (CarrierKind::Udp, REMOTE.parse().unwrap()), "no socket", at(10));
    assert!(matches!(actions(&mut dialler)[..], [DialAction::Connect { carrier: CarrierKind::Tcp, .. }]));
    assert_eq!(answers(&dialler, &node)[0], Answer::Failed("no socket".into()));
}

#[test]
fn a_lost_path_is_dialled_again_at_once() {
    let config = peer("udp");
    let node = config.uri.node;
    let mut dialler = Dialler::new(vec![config], Rng::new([0; 32]), at(0));
    dialler.on_path_up(&node, &path(CarrierKind::Udp), at(0));
    let due = dialler.poll_timeout().unwrap();
    assert!(due > at(300_000), "the best there is: only the name may get other addresses, {due:?}");
    dialler.on_path_down(&node, &path(CarrierKind::Udp), at(10));
    assert!(matches!(actions(&mut dialler)[..], [DialAction::Resolve { .. }]));
}

#[test]
fn a_peer_that_ends_every_link_at_once_is_dialled_ever_more_rarely() {
    let config = peer("udp");
    let node = config.uri.node;
    let mut dialler = Dialler::new(vec![config], Rng::new([0; 32]), at(0));
    let (mut now, mut pauses) = (at(0), Vec::new());
    for _ in 0..8 {
        dialler.on_path_up(&node, &path(CarrierKind::Udp), now);
        dialler.on_path_down(&node, &path(CarrierKind::Udp), now);
        let asked = actions(&mut dialler).iter().any(|action| matches!(action, DialAction::Resolve { .. }));
        let next = if asked { now } else { dialler.poll_timeout().unwrap() };
        pauses.push(next.since(now).as_millis());
        now = next;
        dialler.advance(now);
        drop(actions(&mut dialler));
    }
    assert_eq!(pauses, [0, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000, 15_000]);
    dialler.on_path_up(&node, &path(CarrierKind::Udp), now);
    dialler.on_path_down(&node, &path(CarrierKind::Udp), now + LASTING);
    assert!(matches!(actions(&mut dialler)[..], [DialAction::Resolve { .. }]), "one that lasted is missed");
}

#[test]
fn a_name_that_resolves_into_the_mesh_is_not_dialled() {
    let (mut dialler, node, done) = resolved("udp", &["[fd3f::1]:7"]);
    assert!(done.is_empty());
    assert!(dialler.last_error(&node).is_some());
    let due = dialler.poll_timeout().unwrap();
    dialler.advance(due);
    assert!(dialler.poll_timeout().unwrap() > due, "a pause");
    assert!(matches!(answers(&dialler, &node)[..], [Answer::Failed(_)]));
}

#[test]
fn while_the_link_is_not_the_best_something_better_is_looked_for_in_under_a_minute() {
    let (mut dialler, node, _) = resolved("udp,tcp,wss", &[REMOTE]);
    dialler.advance(at(250));
    dialler.on_path_up(&node, &path(CarrierKind::Tcp), at(300));
    assert_eq!(answers(&dialler, &node)[1], Answer::Up);
    actions(&mut dialler);
    let mut tried = Vec::new();
    while let Some(due) = dialler.poll_timeout().filter(|due| *due <= at(200_000)) {
        dialler.advance(due);
        for action in actions(&mut dialler) {
            match action {
                DialAction::Resolve { .. } => answer(&mut dialler, &[REMOTE], due),
                other => tried.push((due, other)),
            }
        }
        tried.extend(actions(&mut dialler).into_iter().map(|action| (due, action)));
    }
    assert!(tried.len() >= 4, "{tried:?}");
    assert!(tried.iter().all(|(_, action)| matches!(action, DialAction::OpenUdp { .. })), "{tried:?}");
    assert!(tried.windows(2).all(|pair| pair[1].0.since(pair[0].0) < Duration::from_secs(45)));
    // Found: no more.
    dialler.on_path_up(&node, &path(CarrierKind::Udp), at(200_000));
    assert!(dialler.poll_timeout().is_none_or(|due| due > at(201_000)));
}

#[test]
fn a_connection_that_comes_after_something_better_is_not_kept() {
    let (mut dialler, node, _) = resolved("udp,tcp", &[REMOTE]);
    dialler.advance(at(250));
    dialler.on_path_up(&node, &path(CarrierKind::Udp), at(300));
    assert!(!dialler.on_connected(&node, &path(CarrierKind::Tcp), at(310)));
    assert_eq!(answers(&dialler, &node), [Answer::Up, Answer::NotNeeded]);
    dialler.on_path_down(&node, &path(CarrierKind::Udp), at(400));
    assert!(dialler.on_connected(&node, &path(CarrierKind::Tcp), at(410)));
}

#[test]
fn a_connection_in_the_making_is_not_made_twice() {
    let (mut dialler, _, first) = resolved("tcp", &[REMOTE]);
    let mut tries = launches(&mut dialler, first, 2000).len();
    for _ in 0..20 {
        let due = dialler.poll_timeout().unwrap();
        dialler.advance(due);
        for action in actions(&mut dialler) {
            match action {
                DialAction::Resolve { .. } => answer(&mut dialler, &[REMOTE], due),
                _ => tries += 1,
            }
        }
        if due > at(14_000) {
            break;
        }
    }
    assert_eq!(tries, 1);
}

#[test]
fn a_resolver_that_never_answers_ends_the_round() {
    let config = peer("udp");
    let mut dialler = Dialler::new(vec![config], Rng::new([0; 32]), at(0));
    dialler.advance(at(0));
    actions(&mut dialler);
    let due = dialler.poll_timeout().unwrap();
    assert!(due >= at(5_000) && due <= at(15_000), "{due:?}");
    dialler.advance(due);
    let again = dialler.poll_timeout().unwrap();
    dialler.advance(again);
    assert!(matches!(actions(&mut dialler)[..], [DialAction::Resolve { .. }]));
}

#[test]
fn an_address_of_the_node_itself_is_not_dialled() {
    let config = peer("udp,tcp");
    let node = config.uri.node;
    let mut dialler = Dialler::new(vec![config], Rng::new([0; 32]), at(0));
    dialler.set_own([(CarrierKind::Udp, REMOTE.parse().unwrap())].into());
    dialler.advance(at(0));
    actions(&mut dialler);
    answer(&mut dialler, &[REMOTE], at(0));
    let list = launches(&mut dialler, Vec::new(), 1000);
    // Another carrier at the same address and port may be somebody else's.
    assert_eq!(list, [(250, CarrierKind::Tcp, REMOTE.to_owned())]);
    assert_eq!(answers(&dialler, &node)[0], Answer::Failed(OWN_ADDRESS.to_owned()));
}

/// A peer known by addresses that are written out.
fn literal(hosts: &[&str]) -> (Dialler, NodeId) {
    let id = Identity::from_seed([9; 32]).node_id();
    let uri = |host: &&str| format!("sinew://{id}@{host}:7?via=udp,tcp").parse().unwrap();
    let config = hosts.iter().map(|host| PeerConfig { uri: uri(host), cost: Metric::ZERO }).collect();
    (Dialler::new(config, Rng::new([0; 32]), at(0)), id)
}

#[test]
fn another_address_is_dialled_beside_the_link_and_another_connection_is_not() {
    let (mut dialler, node) = literal(&["192.0.2.1", "192.0.2.2"]);
    dialler.advance(at(0));
    for action in actions(&mut dialler) {
        let DialAction::Resolve { host, port, .. } = action else { continue };
        let remote = SocketAddr::new(host.parse().unwrap(), port);
        dialler.on_resolved(&node, (&host, port), &[remote], &Own::default(), at(0));
    }
    dialler.on_path_up(&node, &path(CarrierKind::Udp), at(5));
    actions(&mut dialler);
    let later = launches(&mut dialler, Vec::new(), 30_000);
    assert!(
        later.iter().all(|(_, carrier, to)| (*carrier, to.as_str()) == (CarrierKind::Udp, "192.0.2.2:7"))
    );
    let (mut alone, node) = literal(&["192.0.2.1"]);
    alone.on_path_up(&node, &path(CarrierKind::Udp), at(0));
    assert_eq!(alone.poll_timeout(), None, "one address and the best carrier: nothing to look for");
}

#[test]
fn another_network_ends_every_pause() {
    let (mut dialler, node, first) = resolved("udp", &[REMOTE]);
    launches(&mut dialler, first, 5_000);
    actions(&mut dialler);
    dialler.network_changed(at(5_000));
    assert!(matches!(actions(&mut dialler)[..], [DialAction::Resolve { peer, .. }] if peer == node));
}
