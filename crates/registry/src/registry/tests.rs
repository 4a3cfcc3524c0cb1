//! The rules between strangers, one table each.

use std::collections::BTreeSet;

use proptest::prelude::*;
use sinew_types::{Identity, NetworkId, NodeId};

use crate::proof::Finding;
use crate::registry::*;
use crate::rules::{DAY, LIFE_MAX};
use crate::{Accept, BadName, HostState, Offer, Outcome, PortRange, Refusal, Rules};

pub(crate) const NOW: u64 = 1_700_000_000;
pub(crate) const WEEK: u64 = 7 * DAY;

pub(crate) fn rules() -> Rules {
    Rules {
        domain: Some("gw.test".into()),
        registrar: None,
        internal: vec!["sinew.internal".into()],
        reserved: BTreeSet::from(["billing".to_owned()]),
        accept: Accept::Any,
        per_network: 3,
        tcp: Some(PortRange { first: 20_000, last: 20_004 }),
        udp: Some(PortRange { first: 20_000, last: 20_000 }),
    }
}

pub(crate) fn node(n: u8) -> NodeId {
    Identity::from_seed([n; 32]).node_id()
}

pub(crate) fn network(n: u8) -> NetworkId {
    NetworkId::new(node(100 + n))
}

fn key(net: u8, service: u8) -> Key {
    Key { network: network(net), author: node(net), service: [service; 16] }
}

pub(crate) fn offer(net: u8, service: u8, hosts: &[&str]) -> Offer {
    Offer {
        key: key(net, service),
        seq: 1,
        digest: [0; 32],
        expires: NOW + WEEK,
        removed: false,
        mode: Mode::Http,
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        paths: Vec::new(),
        client_ca: None,
        wish: None,
        recovery: None,
    }
}

fn port(net: u8, service: u8, mode: Mode) -> Offer {
    Offer { mode, ..offer(net, service, &[]) }
}

pub(crate) fn removed(offer: &Offer) -> Offer {
    Offer { seq: offer.seq + 1, removed: true, hosts: Vec::new(), paths: Vec::new(), ..offer.clone() }
}

pub(crate) fn serving(registry: &Registry) -> Vec<String> {
    let mut all: Vec<_> = registry.serving().flat_map(|serving| serving.hosts).collect();
    all.sort();
    all
}

pub(crate) fn stored(registry: &mut Registry) -> Registry {
    // What a restart would find, if nothing but the changes of this moment had ever been written.
    let entries = registry.drain_changes();
    let entries = entries.iter().filter_map(|(key, value)| Some((key.as_slice(), value.as_deref()?)));
    let (restored, damaged) = Registry::restore(registry.rules().clone(), entries);
    assert_eq!(damaged, 0);
    restored
}

#[test]
fn a_name_is_the_first_comer_s_and_the_second_hears_whose_and_since_when() {
    let mut registry = Registry::new(rules());
    let outcome = registry.offer(&offer(1, 1, &["app"]), NOW).unwrap();
    assert_eq!(outcome.hosts[0].host, "app.gw.test");
    assert_eq!(outcome.hosts[0].state, HostState::Serving);
    let refused = registry.offer(&offer(2, 1, &["App"]), NOW + 5).unwrap_err();
    let Refusal::Taken { holder, since, until, .. } = &refused else { panic!("{refused:?}") };
    assert_eq!((holder, *since, *until), (&network(1), NOW, None));
    let text = refused.text(|at| format!("<{at}>"));
    assert!(text.contains(&network(1).to_string()) && text.contains(&format!("<{NOW}>")), "{text}");
    assert_eq!(serving(&registry), ["app.gw.test"]);
}

#[test]
fn a_name_is_held_for_thirty_days_and_then_free() {
    let mut registry = Registry::new(rules());
    let first = offer(1, 1, &["app"]);
    registry.offer(&first, NOW).unwrap();
    let end = registry.offer(&removed(&first), NOW + 10).unwrap();
    assert!(end.withdrawn && serving(&registry).is_empty());
    let until = NOW + 10 + 30 * DAY;
    let later = |at: u64| Offer { expires: at + DAY, ..offer(2, 1, &["app"]) };
    for at in [NOW + 11, until - 1] {
        registry.tick(at);
        let refused = registry.offer(&later(at), at).unwrap_err();
        assert!(matches!(refused, Refusal::Taken { until: Some(end), .. } if end == until), "{refused:?}");
    }
    let again = Offer { seq: 3, ..first };
    assert_eq!(
        serving(&{
            let mut r = registry.clone();
            r.offer(&again, NOW + 20).unwrap();
            r
        }),
        ["app.gw.test"]
    );
    registry.tick(until);
    registry.offer(&later(until), until).unwrap();
}

#[test]
fn a_service_ends_when_its_claim_runs_out_and_the_hold_begins_then() {
    let mut registry = Registry::new(rules());
    registry.offer(&offer(1, 1, &["app"]), NOW).unwrap();
    assert!(!registry.tick(NOW + WEEK - 1));
    assert!(registry.tick(NOW + WEEK));
    assert!(serving(&registry).is_empty());
    assert_eq!(registry.names().next().unwrap().1.until, NOW + WEEK + 30 * DAY);
}

#[test]
fn a_network_holds_so_many_names_and_no_more() {
    let mut registry = Registry::new(rules());
    for (service, name) in [(1, "one"), (2, "two"), (3, "three")] {
        registry.offer(&offer(1, service, &[name]), NOW).unwrap();
    }
    let refused = registry.offer(&offer(1, 4, &["four"]), NOW).unwrap_err();
    assert_eq!(refused, Refusal::Quota { what: "names", limit: 3 });
    // Held ones count, or names could be hoarded by taking and leaving them.
    registry.offer(&removed(&offer(1, 1, &[])), NOW).unwrap();
    assert!(registry.offer(&offer(1, 4, &["four"]), NOW).is_err());
    registry.offer(&offer(1, 4, &["one"]), NOW).unwrap();
    registry.offer(&offer(2, 1, &["four"]), NOW).unwrap();
}

#[test]
fn only_listed_networks_and_publishers_get_in_where_there_is_a_list() {
    let accept = Accept::Keys(BTreeSet::from([network(1).key(), node(77)]));
    let mut registry = Registry::new(Rules { accept, ..rules() });
    registry.offer(&offer(1, 1, &["app"]), NOW).unwrap();
    let other = offer(2, 1, &["web"]);
    let refused = registry.offer(&other, NOW).unwrap_err();
    assert_eq!(refused, Refusal::NotAccepted { network: network(2), author: other.key.author });
    let listed = Offer { key: Key { author: node(77), ..other.key.clone() }, ..other };
    registry.offer(&listed, NOW).unwrap();
    registry.set_rules(Rules { accept: Accept::Keys(BTreeSet::new()), ..rules() });
    assert!(registry.offer(&offer(1, 1, &["app"]), NOW).is_err());
    assert!(registry.offer(&listed, NOW).is_err());
    assert!(serving(&registry).is_empty(), "who is no longer listed is no longer served");
}

#[test]
fn the_highest_number_counts_and_an_end_cannot_be_undone_by_an_older_statement() {
    let mut registry = Registry::new(rules());
    let old = offer(1, 1, &["app"]);
    let newer = Offer { seq: 5, digest: [5; 32], ..offer(1, 1, &["web"]) };
    registry.offer(&old, NOW).unwrap();
    registry.offer(&newer, NOW).unwrap();
    assert_eq!(serving(&registry), ["web.gw.test"]);
    assert_eq!(registry.offer(&old, NOW), Err(Refusal::Stale { seq: 5, withdrawn: false }));
    let other = Offer { digest: [6; 32], ..newer.clone() };
    assert_eq!(registry.offer(&other, NOW), Err(Refusal::Equivocation));
    registry.offer(&removed(&newer), NOW).unwrap();
    for statement in [&old, &newer] {
        assert_eq!(registry.offer(statement, NOW), Err(Refusal::Stale { seq: 6, withdrawn: true }));
    }
    // Also after a restart, and until the statement itself has run out.
    let mut restarted = stored(&mut registry);
    restarted.tick(NOW + WEEK);
    assert!(matches!(restarted.offer(&newer, NOW + 1), Err(Refusal::Stale { .. })));
}

#[test]
fn an_end_that_comes_before_its_beginning_is_remembered() {
    let mut registry = Registry::new(rules());
    let first = offer(1, 1, &["app"]);
    registry.offer(&removed(&first), NOW).unwrap();
    assert!(matches!(registry.offer(&first, NOW), Err(Refusal::Stale { withdrawn: true, .. })));
}

#[test]
fn statements_that_have_run_out_or_run_too_long_are_refused() {
    let mut registry = Registry::new(rules());
    let at = |expires| Offer { expires, ..offer(1, 1, &["app"]) };
    assert_eq!(registry.offer(&at(NOW), NOW), Err(Refusal::Expired));
    assert_eq!(registry.offer(&at(NOW + LIFE_MAX + 1), NOW), Err(Refusal::TooLong));
    assert!(registry.offer(&at(NOW + LIFE_MAX), NOW).is_ok());
}

#[test]
fn mode_hosts_and_paths_have_to_go_together() {
    let mut registry = Registry::new(rules());
    let many: Vec<_> = (0..17).map(|n| format!("name{n}.example.org")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    for wrong in [
        offer(1, 1, &[]),
        offer(1, 1, &many),
        Offer { mode: Mode::Tcp, ..offer(1, 1, &["app"]) },
        Offer { mode: Mode::Passthrough, paths: vec!["/x".into()], ..offer(1, 1, &["app"]) },
    ] {
        assert!(matches!(registry.offer(&wrong, NOW), Err(Refusal::Shape { .. })), "{wrong:?}");
    }
    assert!(registry.names().next().is_none() && registry.proofs().next().is_none(), "nothing was taken");
}

#[test]
fn services_of_one_network_share_a_host_by_paths() {
    let mut registry = Registry::new(rules());
    let at = |service, paths: &[&str]| Offer {
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        ..offer(1, service, &["app"])
    };
    registry.offer(&at(1, &[]), NOW).unwrap();
    registry.offer(&at(2, &["/api"]), NOW + 1).unwrap();
    for (wrong, expected) in [
        (at(3, &["/"]), Refusal::PathTaken { place: "app.gw.test".into(), author: node(1), since: NOW }),
        (
            at(3, &["/x", "/api/"]),
            Refusal::PathTaken { place: "app.gw.test/api".into(), author: node(1), since: NOW + 1 },
        ),
    ] {
        assert_eq!(registry.offer(&wrong, NOW + 2), Err(expected));
    }
    for other in [
        Offer { mode: Mode::Passthrough, ..offer(1, 3, &["app"]) },
        Offer { client_ca: Some([1; 32]), ..at(3, &["/y"]) },
    ] {
        assert!(matches!(registry.offer(&other, NOW), Err(Refusal::OtherMode { .. })), "{other:?}");
    }
    // The name stays the network's while one of the two uses it.
    registry.offer(&removed(&at(1, &[])), NOW).unwrap();
    assert!(registry.in_use("app"));
    assert_eq!(registry.names().next().unwrap().1.until, NOW + WEEK + 30 * DAY);
}

#[test]
fn one_bad_host_does_not_take_the_others_along() {
    let mut registry = Registry::new(rules());
    let outcome = registry.offer(&offer(1, 1, &["app", "ab", "app"]), NOW).unwrap();
    let states: Vec<_> = outcome.hosts.iter().map(|host| host.state == HostState::Serving).collect();
    assert_eq!(states, [true, false, false]);
    let bad = |host: &str, why| Refusal::BadName { host: host.into(), why };
    assert_eq!(outcome.hosts[1].state, HostState::Refused(bad("ab", BadName::Short)));
    let refused = registry.offer(&offer(2, 1, &["x.gw.test"]), NOW).unwrap_err();
    assert_eq!(refused, bad("x.gw.test", BadName::OwnDomain));
}

fn prove(registry: &mut Registry, net: u8, finding: Finding, now: u64) -> bool {
    registry.found("shop.example", &network(net), finding, now)
}

#[test]
fn a_domain_is_served_once_its_record_is_seen_and_not_after_three_days_without() {
    let mut registry = Registry::new(rules());
    let claim = offer(1, 1, &["shop.example"]);
    let outcome = registry.offer(&claim, NOW).unwrap();
    assert!(matches!(outcome.hosts[0].state, HostState::Waiting { last: None, .. }));
    let looks = registry.lookups(NOW, 8);
    assert_eq!((looks.len(), looks[0].record.name.as_str()), (1, "_sinew.shop.example"));
    assert!(registry.lookups(NOW + 1, 8).is_empty(), "one look at a time");
    assert!(!prove(&mut registry, 1, Finding::Absent, NOW + 1));
    assert!(serving(&registry).is_empty());
    assert!(prove(&mut registry, 1, Finding::Present, NOW + 5));
    assert_eq!(serving(&registry), ["shop.example"]);
    let mut restarted = stored(&mut registry);
    restarted.offer(&claim, NOW + 6).unwrap();
    assert_eq!(serving(&restarted), ["shop.example"], "a restart asks nobody anew");
    for day in 1..=3 {
        assert_eq!(serving(&registry), ["shop.example"], "day {day}");
        assert_eq!(prove(&mut registry, 1, Finding::Absent, NOW + day * DAY), day == 3);
    }
    assert!(serving(&registry).is_empty());
}

#[test]
fn an_address_record_of_somebody_else_is_worth_nothing() {
    let mut registry = Registry::new(rules());
    registry.offer(&offer(1, 1, &["shop.example"]), NOW).unwrap();
    registry.offer(&offer(2, 1, &["shop.example"]), NOW).unwrap();
    let looks = registry.lookups(NOW, 8);
    assert_eq!(looks.len(), 2);
    assert_ne!(looks[0].record.text, looks[1].record.text, "each network has a record of its own");
    prove(&mut registry, 2, Finding::Present, NOW + 1);
    let owners: Vec<_> = registry.serving().map(|serving| serving.key.network).collect();
    assert_eq!(owners, [network(2)]);
}

#[test]
fn whoever_proves_a_domain_second_gets_it_when_the_first_has_lost_its_record() {
    let mut registry = Registry::new(rules());
    for net in [1, 2] {
        registry.offer(&offer(net, 1, &["shop.example"]), NOW).unwrap();
    }
    prove(&mut registry, 1, Finding::Present, NOW);
    assert!(!prove(&mut registry, 2, Finding::Present, NOW + 10), "the first keeps it");
    let (_, _, outcomes) = registry.services().find(|(key, ..)| key.network == network(2)).unwrap();
    assert!(
        matches!(&outcomes[0].state, HostState::Refused(Refusal::Taken { holder, .. }) if *holder == network(1))
    );
    let mut now = NOW + 10;
    for _ in 0..3 {
        assert!(
            registry.lookups(now, 8).iter().any(|look| look.network == network(1)),
            "it is looked at soon"
        );
        prove(&mut registry, 1, Finding::Absent, now);
        now += 600;
    }
    assert_eq!(registry.serving().map(|serving| serving.key.network).collect::<Vec<_>>(), [network(2)]);
}

#[test]
fn a_domain_that_nobody_publishes_is_asked_for_no_longer() {
    let mut registry = Registry::new(rules());
    let claim = offer(1, 1, &["shop.example"]);
    registry.offer(&claim, NOW).unwrap();
    registry.offer(&removed(&claim), NOW).unwrap();
    assert!(registry.lookups(NOW + DAY, 8).is_empty() && registry.proofs().next().is_none());
}

#[test]
fn ports_are_handed_out_kept_and_not_given_twice() {
    let mut registry = Registry::new(rules());
    let mut ports = BTreeSet::new();
    for net in 1..=5 {
        let Outcome { port, .. } = registry.offer(&port(net, 1, Mode::Tcp), NOW).unwrap();
        assert!(ports.insert(port.unwrap()), "{port:?} twice");
    }
    assert_eq!(ports, (20_000..=20_004).collect());
    let full = registry.offer(&port(6, 1, Mode::Tcp), NOW).unwrap_err();
    assert_eq!(full, Refusal::NoPort { transport: "tcp", configured: true });
    let own = registry.services().find(|(key, ..)| key.network == network(3)).unwrap().1.port;
    let mut restarted = stored(&mut registry);
    assert_eq!(restarted.offer(&port(3, 1, Mode::Tcp), NOW + 9).unwrap().port, own, "a restart keeps it");
    registry.offer(&removed(&port(3, 1, Mode::Tcp)), NOW + 10).unwrap();
    assert_eq!(registry.offer(&port(6, 1, Mode::Tcp), NOW + 20).unwrap().port, own, "the one that was left");
}

#[test]
fn a_port_that_is_wished_for_is_had_or_refused_with_its_holder() {
    let mut registry = Registry::new(rules());
    let wish = |net, port| Offer { wish: Some(port), ..self::port(net, 1, Mode::Tcp) };
    assert_eq!(registry.offer(&wish(1, 20_002), NOW).unwrap().port, Some(20_002));
    assert!(matches!(
        registry.offer(&wish(2, 20_002), NOW),
        Err(Refusal::Taken { holder, until: None, .. }) if holder == network(1)
    ));
    assert!(matches!(registry.offer(&wish(2, 22), NOW), Err(Refusal::OutOfRange { port: 22, .. })));
    assert_eq!(registry.offer(&Offer { seq: 2, ..wish(1, 20_003) }, NOW).unwrap().port, Some(20_003));
    assert_eq!(registry.offer(&wish(2, 20_002), NOW).unwrap().port, Some(20_002), "given back by the change");
}

#[test]
fn ports_have_a_quota_and_kinds_of_their_own() {
    let mut registry = Registry::new(rules());
    for service in 1..=3 {
        registry.offer(&port(1, service, Mode::Tcp), NOW).unwrap();
    }
    assert_eq!(registry.offer(&port(1, 4, Mode::Udp), NOW), Err(Refusal::Quota { what: "ports", limit: 3 }));
    assert_eq!(registry.offer(&port(2, 1, Mode::Udp), NOW).unwrap().port, Some(20_000));
    let mut without = Registry::new(Rules { udp: None, ..rules() });
    let none = Refusal::NoPort { transport: "udp", configured: false };
    assert_eq!(without.offer(&port(1, 1, Mode::Udp), NOW), Err(none));
}

#[test]
fn a_port_that_another_program_has_is_exchanged_for_another() {
    let mut registry = Registry::new(rules());
    let claim = port(1, 1, Mode::Tcp);
    let first = registry.offer(&claim, NOW).unwrap().port.unwrap();
    registry.port_unusable(Transport::Tcp, first);
    assert_eq!(registry.serving().count(), 0);
    let second = registry.offer(&claim, NOW).unwrap().port.unwrap();
    assert_ne!(first, second);
}

use crate::Transport;

#[test]
fn a_name_changes_hands_by_the_operator_s_word_after_a_week() {
    let mut registry = Registry::new(rules());
    let mine = offer(1, 1, &["app"]);
    registry.offer(&mine, NOW).unwrap();
    assert_eq!(registry.transfer("web", network(2), NOW), Err(TransferError::Unknown));
    assert_eq!(registry.transfer("app", network(1), NOW), Err(TransferError::Same));
    assert_eq!(registry.transfer("app", network(2), NOW).unwrap().at, NOW + WEEK);
    registry.cancel_transfer("app").unwrap();
    assert_eq!(registry.cancel_transfer("app"), Err(TransferError::None));
    registry.transfer("app", network(2), NOW).unwrap();
    let renewed = Offer { seq: 2, expires: NOW + WEEK + DAY, ..mine };
    registry.offer(&renewed, NOW + DAY).unwrap();
    assert!(!registry.tick(NOW + WEEK - 1));
    let mut restarted = stored(&mut registry);
    for registry in [&mut registry, &mut restarted] {
        assert!(registry.tick(NOW + WEEK));
        assert!(serving(registry).is_empty(), "the former holder serves it no longer");
        assert_eq!(registry.names().next().unwrap().1.network, network(2));
        let claim = Offer { expires: NOW + WEEK + DAY, ..offer(2, 1, &["app"]) };
        registry.offer(&claim, NOW + WEEK).unwrap();
        assert_eq!(serving(registry), ["app.gw.test"]);
    }
}

#[test]
fn what_strangers_can_make_a_gateway_keep_is_bounded() {
    let mut registry = Registry::new(Rules { per_network: 1000, ..rules() });
    let mut refused = 0;
    for service in 0..=255 {
        let ends = removed(&offer(1, service, &[]));
        registry.offer(&ends, NOW).unwrap();
        let host = format!("name{service}");
        refused +=
            usize::from(registry.offer(&Offer { seq: 9, ..offer(1, service, &[&host]) }, NOW).is_err());
    }
    assert_eq!((registry.seen.len(), refused), (64, 192));
    for net in 0..100 {
        let _ = registry.offer(&offer(net, 1, &["shop.example"]), NOW);
    }
    assert_eq!(registry.proofs().count(), 32, "claims to one domain");
    registry.tick(NOW + WEEK + DAY);
    assert!(registry.seen.is_empty() && registry.services().next().is_none());
}

#[test]
fn records_that_are_not_understood_are_passed_over_and_counted() {
    let mut registry = Registry::new(rules());
    registry.offer(&offer(1, 1, &["app", "shop.example"]), NOW).unwrap();
    registry.offer(&port(1, 2, Mode::Udp), NOW).unwrap();
    registry.transfer("app", network(2), NOW).unwrap();
    let entries: Vec<_> =
        registry.drain_changes().into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    assert_eq!(entries.len(), 5);
    let borrowed = |entries: &[(Vec<u8>, Vec<u8>)]| -> usize {
        let entries = entries.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
        Registry::restore(rules(), entries).1
    };
    assert_eq!(borrowed(&entries), 0);
    for at in 0..entries.len() {
        let mut cut = entries.clone();
        cut[at].1.pop();
        assert_eq!(borrowed(&cut), 1, "{at} cut");
        let mut newer = entries.clone();
        newer[at].1[0] = 2;
        assert_eq!(borrowed(&newer), 1, "{at} newer");
    }
    assert_eq!(borrowed(&[(b"dwhatever".to_vec(), vec![]), (vec![], vec![])]), 0, "others' keys");
}

#[derive(Clone, Debug)]
enum Step {
    Offer { net: u8, service: u8, name: u8, seq: u64, mode: u8 },
    Remove { net: u8, service: u8, seq: u64 },
    Found { net: u8, present: bool },
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4u8, 0..4u8, 0..5u8, 1..9u64, 0..4u8)
            .prop_map(|(net, service, name, seq, mode)| Step::Offer { net, service, name, seq, mode }),
        1 => (0..4u8, 0..4u8, 1..9u64).prop_map(|(net, service, seq)| Step::Remove { net, service, seq }),
        1 => (0..4u8, any::<bool>()).prop_map(|(net, present)| Step::Found { net, present }),
        1 => (1..20 * DAY).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn no_order_of_events_gives_one_host_or_port_to_two(steps in prop::collection::vec(step(), 1..60)) {
        let mut registry = Registry::new(rules());
        let mut now = NOW;
        for step in steps {
            match step {
                Step::Offer { net, service, name, seq, mode } => {
                    let mode = [Mode::Http, Mode::Passthrough, Mode::Tcp, Mode::Udp][usize::from(mode)];
                    let name = ["one", "two", "three", "four", "shop.example"][usize::from(name)];
                    let hosts: &[&str] = if mode.transport().is_none() { &[name] } else { &[] };
                    let claim = Offer { mode, seq, digest: [seq as u8; 32], expires: now + DAY, ..offer(net, service, hosts) };
                    let _ = registry.offer(&claim, now);
                }
                Step::Remove { net, service, seq } => {
                    let claim = Offer { seq, digest: [99; 32], removed: true, expires: now + DAY, ..offer(net, service, &[]) };
                    let _ = registry.offer(&claim, now);
                }
                Step::Found { net, present } => {
                    let finding = if present { Finding::Present } else { Finding::Absent };
                    prove(&mut registry, net, finding, now);
                }
                Step::Wait(seconds) => {
                    now += seconds;
                    registry.tick(now);
                }
            }
            let mut places = BTreeSet::new();
            for serving in registry.serving() {
                for host in &serving.hosts {
                    for path in &serving.service.paths {
                        prop_assert!(places.insert(format!("{host}{path}")), "{host}{path} twice");
                    }
                }
                if let (Some(port), Some(kind)) = (serving.service.port, serving.service.mode.transport()) {
                    prop_assert!(places.insert(format!("{kind:?} {port}")), "{kind:?} {port} twice");
                }
            }
            for net in 0..4 {
                prop_assert!(registry.names().filter(|(_, holding)| holding.network == network(net)).count() <= 3);
            }
        }
    }
}
