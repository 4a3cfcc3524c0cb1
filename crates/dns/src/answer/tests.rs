//! The table of questions and answers, and that what is hidden cannot be told from what is not.

use std::sync::Arc;

use super::*;
use crate::zones::{DOMAIN_DEFAULT, Prefix};

const SHOP: [u8; 32] = [1; 32];
const LAB: [u8; 32] = [2; 32];
const GONE: [u8; 32] = [9; 32];

fn node(seed: u8) -> NodeId {
    sinew_types::Identity::from_seed([seed; 32]).node_id()
}

/// Two networks with one range: `db` of each has the same address.
fn zones() -> Zones {
    let range = || {
        vec![
            Prefix { address: "10.1.0.0".parse().unwrap(), length: 16 },
            Prefix { address: "198.51.100.0".parse().unwrap(), length: 24 },
        ]
    };
    let host = |addresses: &[&str]| Host {
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        ..Host::default()
    };
    let mut shop = NetworkZone::new(SHOP, "shop", range()).unwrap();
    let service = |service: &str, port| Service {
        service: service.into(),
        protocol: "tcp".into(),
        port,
        priority: 0,
        weight: 5,
    };
    let db = Host {
        services: vec![service("postgres", 5432), service("http", 80)],
        ..host(&["10.1.0.1", "fd12::1"])
    };
    shop.add("db", db).unwrap();
    shop.add("web", host(&["10.1.0.2"])).unwrap();
    let mut lab = NetworkZone::new(LAB, "lab", range()).unwrap();
    lab.add("db", Host { services: vec![service("http", 80)], ..host(&["10.1.0.1"]) }).unwrap();
    lab.add("secret", host(&["10.1.0.7", "198.51.100.7"])).unwrap();
    let mut zones = Zones::new(DOMAIN_DEFAULT).unwrap();
    zones.insert(Arc::new(shop));
    zones.insert(Arc::new(lab));
    zones.add_node(node(1), "alice").unwrap();
    zones.add_node(node(2), "twin").unwrap();
    zones.add_node(node(3), "twin").unwrap();
    zones
}

fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap();
    name.set_fqdn(true);
    name
}

fn ask(scope: &Scope, text: &str, kind: RecordType) -> Verdict {
    answer(&zones(), scope, &name(text), kind)
}

/// Code, and the data of the records.
fn brief(scope: &Scope, text: &str, kind: RecordType) -> String {
    match ask(scope, text, kind) {
        Verdict::Forward => "forward".to_owned(),
        Verdict::Ours(answer) => {
            let mut words = vec![match answer.code {
                ResponseCode::NoError => "ok".to_owned(),
                ResponseCode::NXDomain => "none".to_owned(),
                ResponseCode::Refused => "refused".to_owned(),
                other => format!("{other:?}"),
            }];
            words.extend(answer.records.iter().map(|record| record.data.to_string()));
            words.extend(answer.extra.iter().map(|record| format!("+{}", record.data)));
            words.join(" ")
        }
    }
}

#[test]
fn a_workload_resolves_its_own_network() {
    let scope = Scope::workload("web", SHOP);
    let cases = [
        ("db.shop.sinew.internal", RecordType::A, "ok 10.1.0.1"),
        ("db.shop.sinew.internal", RecordType::AAAA, "ok fd12::1"),
        ("db.shop.sinew.internal", RecordType::ANY, "ok 10.1.0.1 fd12::1"),
        ("db.shop.sinew.internal", RecordType::MX, "ok"),
        ("web.shop.sinew.internal", RecordType::AAAA, "ok"),
        ("DB.Shop.SINEW.Internal", RecordType::A, "ok 10.1.0.1"),
        (
            "_postgres._tcp.db.shop.sinew.internal",
            RecordType::SRV,
            "ok 0 5 5432 db.shop.sinew.internal. +10.1.0.1 +fd12::1",
        ),
        ("_postgres._tcp.db.shop.sinew.internal", RecordType::A, "ok"),
        ("_tcp.db.shop.sinew.internal", RecordType::SRV, "ok"),
        ("_udp.db.shop.sinew.internal", RecordType::SRV, "none"),
        ("_smtp._tcp.db.shop.sinew.internal", RecordType::SRV, "none"),
        ("a._postgres._tcp.db.shop.sinew.internal", RecordType::SRV, "none"),
        ("postgres.tcp.db.shop.sinew.internal", RecordType::SRV, "none"),
        ("nobody.shop.sinew.internal", RecordType::A, "none"),
        ("x.db.shop.sinew.internal", RecordType::A, "none"),
        ("shop.sinew.internal", RecordType::A, "ok"),
        ("sinew.internal", RecordType::A, "ok"),
        ("sinew.internal", RecordType::NS, "ok sinew.internal."),
        ("1.0.1.10.in-addr.arpa", RecordType::PTR, "ok db.shop.sinew.internal."),
        ("1.0.1.10.in-addr.arpa", RecordType::A, "ok"),
        ("9.0.1.10.in-addr.arpa", RecordType::PTR, "none"),
        ("1.10.in-addr.arpa", RecordType::PTR, "ok"),
        ("localhost", RecordType::A, "ok 127.0.0.1"),
        ("db", RecordType::A, "none"),
        ("example.org", RecordType::A, "forward"),
        ("xsinew.internal", RecordType::A, "forward"),
        ("org", RecordType::NS, "forward"),
        ("1.113.0.203.in-addr.arpa", RecordType::PTR, "forward"),
        ("db.shop.sinew.internal", RecordType::AXFR, "refused"),
        ("example.org", RecordType::AXFR, "refused"),
    ];
    for (text, kind, expected) in cases {
        assert_eq!(brief(&scope, text, kind), expected, "{text} {kind}");
    }
}

#[test]
fn the_host_resolves_its_networks_and_nodes() {
    let scope = Scope::host(vec![SHOP]);
    let alice = node(1).address().to_ipv6();
    let arpa = reverse::name_of(alice.into());
    let address = format!("ok {alice}");
    let cases = [
        ("db.shop.sinew.internal", RecordType::A, "ok 10.1.0.1"),
        ("secret.lab.sinew.internal", RecordType::A, "none"),
        ("alice.node.sinew.internal", RecordType::AAAA, &address),
        ("alice.node.sinew.internal", RecordType::A, "ok"),
        ("twin.node.sinew.internal", RecordType::AAAA, "none"),
        (&arpa, RecordType::PTR, "ok alice.node.sinew.internal."),
        (&reverse::name_of(node(2).address().to_ipv6().into()), RecordType::PTR, "none"),
        // Its LAN may use the same range as a network that it is not part of.
        ("1.0.0.10.in-addr.arpa", RecordType::PTR, "forward"),
        ("7.0.1.10.in-addr.arpa", RecordType::PTR, "none"),
    ];
    for (text, kind, expected) in cases {
        assert_eq!(brief(&scope, text, kind), expected, "{text} {kind}");
    }
}

#[test]
fn any_key_has_an_address_for_anybody() {
    let id = node(7);
    let expected = format!("ok {}", id.address());
    for scope in [Scope::host(vec![]), Scope::workload("web", SHOP)] {
        assert_eq!(brief(&scope, &format!("{id}.id.sinew.internal"), RecordType::AAAA), expected);
        assert_eq!(
            brief(&scope, &format!("{id}.id.sinew.internal").to_uppercase(), RecordType::AAAA),
            expected
        );
        assert_eq!(brief(&scope, "nokey.id.sinew.internal", RecordType::AAAA), "none");
        let zero = "a".repeat(52);
        assert_eq!(
            brief(&scope, &format!("{zero}.id.sinew.internal"), RecordType::AAAA),
            "none",
            "not a valid key"
        );
    }
}

#[test]
fn a_network_is_found_by_its_key_too_and_of_two_of_one_name_the_first_is_meant() {
    let keys = [*node(11).as_bytes(), *node(12).as_bytes()];
    let mut zones = Zones::new(DOMAIN_DEFAULT).unwrap();
    for (key, address) in keys.iter().zip(["10.0.0.1", "10.0.0.2"]) {
        let mut network = NetworkZone::new(*key, "shop", vec![]).unwrap();
        network.add("db", Host { addresses: vec![address.parse().unwrap()], ..Host::default() }).unwrap();
        zones.insert(Arc::new(network));
    }
    let address = |scope: &Scope, text: &str| match answer(&zones, scope, &name(text), RecordType::A) {
        Verdict::Ours(answer) => answer.records.first().map(|record| record.data.to_string()),
        Verdict::Forward => None,
    };
    for order in [[0, 1], [1, 0]] {
        let scope = Scope::host(order.map(|at| keys[at]).to_vec());
        let first = ["10.0.0.1", "10.0.0.2"][order[0]];
        assert_eq!(address(&scope, "db.shop.sinew.internal").as_deref(), Some(first));
        assert_eq!(address(&scope, &format!("db.{}.sinew.internal", node(11))).as_deref(), Some("10.0.0.1"));
        assert_eq!(address(&scope, &format!("db.{}.sinew.internal", node(12))).as_deref(), Some("10.0.0.2"));
    }
    let other = Scope::workload("web", keys[0]);
    assert_eq!(address(&other, &format!("db.{}.sinew.internal", node(12))), None);
}

#[test]
fn overlapping_ranges_have_the_names_of_the_scope_that_asks() {
    let reverse = "1.0.1.10.in-addr.arpa";
    for (key, expected) in [(SHOP, "ok db.shop.sinew.internal."), (LAB, "ok db.lab.sinew.internal.")] {
        assert_eq!(brief(&Scope::workload("w", key), reverse, RecordType::PTR), expected);
    }
}

/// Everything of the answer that goes on the wire.
fn wire(scope: &Scope, text: &str, kind: RecordType) -> Option<Answer> {
    match ask(scope, text, kind) {
        Verdict::Forward => None,
        Verdict::Ours(answer) => Some(Answer { why: Why::Key, ..answer }),
    }
}

/// The reply to a question about another network's name, with its own name put in place of the
/// other's, is that about a name that does not exist anywhere.
#[test]
fn another_network_looks_exactly_as_if_it_did_not_exist() {
    let pairs = [
        ("db.lab.sinew.internal", "db.xxx.sinew.internal"),
        ("secret.lab.sinew.internal", "secret.xxx.sinew.internal"),
        ("lab.sinew.internal", "xxx.sinew.internal"),
        ("_http._tcp.db.lab.sinew.internal", "_http._tcp.db.xxx.sinew.internal"),
        ("_tcp.db.lab.sinew.internal", "_tcp.db.xxx.sinew.internal"),
        ("alice.node.sinew.internal", "alice.xxxx.sinew.internal"),
        ("node.sinew.internal", "xxxx.sinew.internal"),
        ("7.0.1.10.in-addr.arpa", "8.0.1.10.in-addr.arpa"),
        ("7.100.51.198.in-addr.arpa", "8.100.51.198.in-addr.arpa"),
    ];
    let kinds = [
        RecordType::A,
        RecordType::AAAA,
        RecordType::SRV,
        RecordType::PTR,
        RecordType::ANY,
        RecordType::NS,
        RecordType::SOA,
        RecordType::TXT,
    ];
    let mut checked = 0;
    for scope in [Scope::workload("web", SHOP), Scope::workload("stranger", GONE)] {
        for (hidden, absent) in pairs {
            for kind in kinds {
                let (left, right) = (wire(&scope, hidden, kind), wire(&scope, absent, kind));
                assert_eq!(left, right, "{} {hidden} {kind}", scope.label);
                assert_eq!(left.map(|answer| answer.code), Some(ResponseCode::NXDomain), "{hidden} {kind}");
                checked += 1;
            }
        }
    }
    assert_eq!(checked, 2 * pairs.len() * kinds.len());
}

#[test]
fn a_negative_answer_names_a_zone_above_the_question_and_holds_a_second() {
    let scope = Scope::workload("web", SHOP);
    let cases = [
        ("nobody.shop.sinew.internal", "sinew.internal."),
        ("9.0.1.10.in-addr.arpa", "10.in-addr.arpa."),
        ("9.0.20.172.in-addr.arpa", "20.172.in-addr.arpa."),
        ("8.100.51.198.in-addr.arpa", "100.51.198.in-addr.arpa."),
    ];
    for (text, zone) in cases {
        let Verdict::Ours(answer) = ask(&scope, text, RecordType::PTR) else {
            panic!("{text} was handed on")
        };
        let soa = answer.soa.expect("a negative answer has one");
        assert_eq!(soa.name.to_string(), zone, "{text}");
        assert!(soa.name.zone_of(&name(text)));
        assert_eq!(soa.ttl, NEGATIVE_TTL);
    }
}

#[test]
fn our_domain_and_ranges_are_never_handed_on() {
    let mut asked = Vec::new();
    for front in ["", "a.", "a.b.", "a.b.c.d.e.", "_x._y.", "*.", "id.", "x.node."] {
        asked.push(format!("{front}sinew.internal"));
        asked.push(format!("{front}shop.sinew.internal"));
    }
    for address in ["10.1.0.1", "10.1.255.255", "198.51.100.1", "fd3f::1", "fd12::1"] {
        asked.push(reverse::name_of(address.parse().unwrap()));
        asked.push(format!("x.{}", reverse::name_of(address.parse().unwrap())));
    }
    for scope in [Scope::workload("web", SHOP), Scope::host(vec![SHOP, LAB])] {
        for text in &asked {
            // The host's own ULA range may have other uses; only ranges of networks are claimed there.
            if scope.host && text.ends_with("2.1.d.f.ip6.arpa") {
                continue;
            }
            for kind in
                [RecordType::A, RecordType::PTR, RecordType::DS, RecordType::ANY, RecordType::Unknown(65280)]
            {
                assert_ne!(ask(&scope, text, kind), Verdict::Forward, "{} {text} {kind}", scope.label);
            }
        }
    }
}

#[test]
fn without_forwarding_the_rest_is_refused() {
    let scope = Scope { forward: false, ..Scope::workload("web", SHOP) };
    assert_eq!(brief(&scope, "example.org", RecordType::A), "refused");
    assert_eq!(brief(&scope, "db.shop.sinew.internal", RecordType::A), "ok 10.1.0.1");
}
