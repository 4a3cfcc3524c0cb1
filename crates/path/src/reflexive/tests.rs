use sinew_types::Identity;

use super::*;

fn peer(number: u8) -> NodeId {
    Identity::from_seed([number; 32]).node_id()
}

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn at(ms: u64) -> Instant {
    Instant::from_micros(ms * 1000)
}

/// Views in order: the neighbour's address, and where it sees us.
fn views(list: &[(&str, &str)]) -> Reflexive {
    let mut reflexive = Reflexive::default();
    for (number, (remote, seen)) in list.iter().enumerate() {
        assert!(reflexive.note(peer(number as u8 + 1), addr(remote), addr(seen), at(number as u64)));
    }
    reflexive
}

#[test]
fn views_give_the_mapping() {
    let own = [addr("192.168.1.2:7463"), addr("[2001:db8::2]:7463")];
    let (r1, r2, r1b) = ("203.0.113.1:7463", "203.0.113.2:7463", "203.0.113.1:9000");
    let table: [(&[(&str, &str)], Mapping); 9] = [
        (&[], Mapping::Unknown),
        (&[(r1, "192.168.1.2:7463")], Mapping::Open),
        (&[(r1, "198.51.100.7:40000")], Mapping::Unknown),
        (&[(r1, "198.51.100.7:40000"), (r1b, "198.51.100.7:40000")], Mapping::Unknown),
        (&[(r1, "198.51.100.7:40000"), (r2, "198.51.100.7:40000")], Mapping::EndpointIndependent),
        (&[(r1, "198.51.100.7:40000"), (r2, "198.51.100.7:40001")], Mapping::AddressDependent),
        (&[(r1, "198.51.100.7:40000"), (r1b, "198.51.100.7:40001")], Mapping::AddressAndPortDependent),
        // One on our own network, one behind the translator.
        (&[("192.168.1.3:7463", "192.168.1.2:7463"), (r1, "198.51.100.7:40000")], Mapping::Unknown),
        // One behind the inner of two translators.
        (&[("100.64.0.9:7463", "100.64.0.2:40000"), (r1, "198.51.100.7:50000")], Mapping::Unknown),
    ];
    for (list, expected) in table {
        assert_eq!(views(list).mapping(false, &own), expected, "{list:?}");
    }
    let six = views(&[("[2001:db8:1::1]:7463", "[2001:db8::2]:7463")]);
    assert_eq!((six.mapping(true, &own), six.mapping(false, &own)), (Mapping::Open, Mapping::Unknown));
}

#[test]
fn the_address_most_seen_is_told_first_and_our_own_not_at_all() {
    let own = [addr("192.168.1.2:7463")];
    let reflexive = views(&[
        ("203.0.113.1:1", "198.51.100.7:1"),
        ("203.0.113.2:1", "198.51.100.7:2"),
        ("203.0.113.3:1", "198.51.100.7:2"),
        ("203.0.113.4:1", "198.51.100.7:3"),
        ("192.168.1.9:1", "192.168.1.2:7463"),
    ]);
    assert_eq!(reflexive.addresses(&own), [addr("198.51.100.7:2"), addr("198.51.100.7:3")]);
}

#[test]
fn ports_that_follow_each_other_are_guessed_and_others_not() {
    let seen = |ports: &[u16]| {
        let mut reflexive = Reflexive::default();
        for (number, port) in ports.iter().enumerate() {
            let remote = addr(&format!("203.0.113.{number}:7463"));
            let seen = SocketAddr::new(addr("198.51.100.7:1").ip(), *port);
            reflexive.note(peer(number as u8 + 1), remote, seen, at(number as u64));
        }
        reflexive.guess(false, &[])
    };
    let guess = |port, step| Some(Guess { ip: addr("198.51.100.7:1").ip(), port, step });
    let table: [(&[u16], Option<Guess>); 9] = [
        (&[40_000], None),
        (&[40_000, 40_001], guess(40_001, 1)),
        (&[40_000, 40_004, 40_006], guess(40_006, 2)),
        (&[40_006, 40_004, 40_002], guess(40_002, -2)),
        // The first neighbour's word came last.
        (&[40_001, 40_000], guess(40_001, 1)),
        (&[40_000, 40_006, 40_004], guess(40_006, 2)),
        (&[40_000, 40_000], None),
        (&[40_000, 40_001, 40_000], None),
        (&[40_000, 51_312, 23_001], None),
    ];
    for (ports, expected) in table {
        assert_eq!(seen(ports), expected, "{ports:?}");
    }
}

#[test]
fn a_view_replaces_its_neighbours_last_and_the_table_is_bounded() {
    let mut reflexive = Reflexive::default();
    let (remote, seen) = (addr("203.0.113.1:7463"), addr("198.51.100.7:1"));
    assert!(reflexive.note(peer(1), remote, seen, at(0)));
    assert!(!reflexive.note(peer(1), remote, seen, at(1)), "no news");
    assert!(!reflexive.note(peer(1), remote, addr("[2001:db8::1]:1"), at(1)), "another family");
    assert!(!reflexive.note(peer(1), remote, addr("198.51.100.7:0"), at(1)), "no port");
    assert!(reflexive.note(peer(1), remote, addr("198.51.100.7:2"), at(1)));
    assert_eq!(reflexive.addresses(&[]), [addr("198.51.100.7:2")]);
    for port in 1..1000 {
        reflexive.note(peer(1), SocketAddr::new(remote.ip(), port), seen, at(2));
    }
    assert_eq!(reflexive.views.len(), MAX_VIEWS);
    reflexive.forget(&peer(1));
    assert!(reflexive.views.is_empty());
}

#[test]
fn what_is_seen_of_a_connection_says_nothing_of_mappings_and_makes_room_first() {
    let connection = |number: u8, port: u16| View {
        peer: peer(number),
        carrier: CarrierKind::Tcp,
        remote: addr("203.0.113.9:7463"),
        seen: SocketAddr::new(addr("198.51.100.7:1").ip(), port),
        since: at(0),
    };
    let mut reflexive = Reflexive::default();
    for number in 1..=2 {
        assert!(reflexive.note_connection(connection(number, 40_000 + u16::from(number))));
    }
    assert_eq!((reflexive.views().len(), reflexive.mapping(false, &[])), (2, Mapping::Unknown));
    assert!(reflexive.addresses(&[]).is_empty() && reflexive.seen().next().is_none());
    let datagrams = View { carrier: CarrierKind::Udp, ..connection(3, 50_000) };
    assert!(!reflexive.note_connection(datagrams), "no connection");
    for number in 1..=MAX_VIEWS as u8 {
        let remote = addr(&format!("203.0.113.{number}:7463"));
        assert!(reflexive.note(peer(number), remote, addr("198.51.100.7:50000"), at(1)));
    }
    assert!(reflexive.views().iter().all(|view| view.carrier == CarrierKind::Udp));
    assert_eq!(reflexive.mapping(false, &[]), Mapping::EndpointIndependent);
}
