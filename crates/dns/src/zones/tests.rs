//! What may be a name, what lies in a range, and whose name an address has.

use super::*;

#[test]
fn only_labels_of_letters_digits_and_inner_hyphens_are_names() {
    let long = "a".repeat(63);
    for good in ["a", "db", "DB-1", "0", "xn--bcher-kva", &long] {
        assert_eq!(label(good), Ok(good.to_ascii_lowercase()), "{good}");
    }
    let longer = "a".repeat(64);
    for bad in ["", "-", "-a", "a-", "a.b", "a_b", "bücher", "a b", "a\n", "*", &longer] {
        assert!(label(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn a_network_takes_no_name_that_the_domain_uses() {
    for name in ["id", "node", "ID"] {
        assert!(NetworkZone::new([1; 32], name, vec![]).is_err(), "{name}");
    }
    assert!(NetworkZone::new([1; 32], "ids", vec![]).is_ok());
}

#[test]
fn a_domain_is_a_name_with_room_below_it() {
    for good in
        ["sinew.internal", "Sinew.Internal.", "mesh", &format!("{}.{}", "a".repeat(63), "b".repeat(61))]
    {
        assert!(Zones::new(good).is_ok(), "{good}");
    }
    let long = format!("{}.{}", "a".repeat(63), "b".repeat(62));
    for bad in ["", ".", "a..b", "in-addr.arpa", "localhost", "sinew_internal", &long] {
        assert!(Zones::new(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_range_covers_what_lies_in_it_and_never_the_other_family() {
    let prefix = |text: &str| {
        let (address, length) = text.split_once('/').unwrap();
        Prefix { address: address.parse().unwrap(), length: length.parse().unwrap() }
    };
    let cases = [
        ("10.1.0.0/16", "10.1.2.3/32", true),
        ("10.1.0.0/16", "10.2.0.0/32", false),
        ("10.1.0.0/16", "10.0.0.0/8", false),
        ("0.0.0.0/0", "10.1.2.3/32", true),
        ("0.0.0.0/0", "fd00::/8", false),
        ("::/0", "10.1.2.3/32", false),
        ("fd3f::/16", "fd3f::1/128", true),
        ("fd3f::/16", "fd40::1/128", false),
        ("10.1.2.3/32", "10.1.2.3/32", true),
    ];
    for (outer, inner, expected) in cases {
        assert_eq!(prefix(outer).covers(&prefix(inner)), expected, "{outer} {inner}");
    }
}

#[test]
fn a_replaced_workload_leaves_its_old_addresses() {
    let mut network = NetworkZone::new([1; 32], "shop", vec![]).unwrap();
    let (old, new) = ("10.1.0.1".parse().unwrap(), "10.1.0.2".parse().unwrap());
    network.add("db", Host { addresses: vec![old], ..Host::default() }).unwrap();
    network.add("DB", Host { addresses: vec![new], ..Host::default() }).unwrap();
    assert_eq!(network.names_of(old), [""; 0]);
    assert_eq!(network.names_of(new), ["db"]);
}

#[test]
fn a_node_name_that_two_claim_belongs_to_neither_for_good() {
    let node = |seed| sinew_types::Identity::from_seed([seed; 32]).node_id();
    let mut zones = Zones::new(DOMAIN_DEFAULT).unwrap();
    let (a, b, c) = (node(1), node(2), node(3));
    zones.add_node(a, "alice").unwrap();
    zones.add_node(a, "Alice").unwrap();
    assert_eq!(zones.node("alice"), Some(Bearer::One(a)), "the same node twice is no quarrel");
    zones.add_node(b, "alice").unwrap();
    zones.add_node(c, "alice").unwrap();
    assert_eq!(zones.node("alice"), Some(Bearer::Several));
    assert_eq!(zones.node_at(&a.address().to_ipv6()), None);
    assert_eq!(zones.node_at(&b.address().to_ipv6()), None);
    assert!(zones.add_node(a, "Alice's laptop").is_err());
}
