//! A follower serves what its registrar says, and gives nobody anything.

use proptest::prelude::*;

use super::*;
use crate::registry::tests::{NOW, WEEK, network, node, offer, removed, rules, serving, stored};
use crate::registry::{Transfer, TransferError};
use crate::rules::DAY;
use crate::{Offer, Outcome, Rules};

fn followed() -> Rules {
    Rules { registrar: Some(node(9)), ..rules() }
}

fn follower() -> Registry {
    Registry::new(followed())
}

/// What the registrar would tell.
fn list(registrar: &Registry) -> Vec<(String, Holding)> {
    registrar.names().map(|(label, holding)| (label.to_owned(), holding.clone())).collect()
}

fn state(outcome: &Outcome) -> &HostState {
    &outcome.hosts[0].state
}

#[test]
fn a_name_is_served_once_the_registrar_says_whose_it_is_and_not_before() {
    let (mut registrar, mut follower) = (Registry::new(rules()), follower());
    let claim = offer(1, 1, &["app"]);
    let waits = follower.offer(&claim, NOW).unwrap();
    let unregistered = |heard| HostState::Unregistered { registrar: node(9), heard };
    assert_eq!(state(&waits), &unregistered(None));
    assert!(!follower.follow(list(&registrar), NOW) && follower.heard() == Some(NOW));
    assert_eq!(state(&follower.offer(&claim, NOW).unwrap()), &unregistered(Some(NOW)));
    assert!(serving(&follower).is_empty());
    registrar.offer(&claim, NOW + 1).unwrap();
    assert!(follower.follow(list(&registrar), NOW + 2));
    assert_eq!(serving(&follower), ["app.gw.test"], "nobody had to ask again");
    assert!(!follower.follow(list(&registrar), NOW + 3), "the same again");
    // Its end here is none there, and gives nothing free.
    follower.offer(&removed(&claim), NOW + 4).unwrap();
    assert_eq!(list(&follower), list(&registrar));
}

#[test]
fn who_comes_second_to_a_follower_hears_whose_the_name_is_and_since_when() {
    let (mut registrar, mut follower) = (Registry::new(rules()), follower());
    registrar.offer(&offer(1, 1, &["app"]), NOW).unwrap();
    follower.follow(list(&registrar), NOW + 5);
    let refused = follower.offer(&offer(2, 1, &["app"]), NOW + 6).unwrap_err();
    let Refusal::Taken { host, holder, since, until } = &refused else { panic!("{refused:?}") };
    assert_eq!((host.as_str(), holder, *since, *until), ("app.gw.test", &network(1), NOW, None));
    assert!(!follower.knows(&network(2)), "nothing of it is kept");
}

#[test]
fn what_changes_hands_at_the_registrar_is_served_no_longer() {
    let (mut registrar, mut follower) = (Registry::new(rules()), follower());
    let claim = Offer { expires: NOW + WEEK, ..offer(1, 1, &["app"]) };
    registrar.offer(&claim, NOW).unwrap();
    follower.offer(&claim, NOW).unwrap();
    follower.follow(list(&registrar), NOW);
    assert_eq!(follower.transfer("app", network(2), NOW), Err(TransferError::Elsewhere(node(9))));
    assert_eq!(follower.cancel_transfer("app"), Err(TransferError::Elsewhere(node(9))));
    let at = registrar.transfer("app", network(2), NOW).unwrap().at;
    assert!(!follower.follow(list(&registrar), NOW + 1), "it is announced, no more");
    let longer = Offer { seq: 2, expires: at + DAY, ..claim };
    follower.offer(&longer, NOW + DAY).unwrap();
    assert!(!follower.tick(at - 1) && serving(&follower) == ["app.gw.test"]);
    // Whether it came about, or was taken back meanwhile, only the registrar knows.
    assert!(follower.tick(at) && serving(&follower).is_empty());
    let theirs = Offer { expires: at + DAY, ..offer(2, 1, &["app"]) };
    let waits = follower.offer(&theirs, at).unwrap();
    assert!(matches!(state(&waits), HostState::Unregistered { .. }), "{waits:?}");
    registrar.tick(at);
    assert!(follower.follow(list(&registrar), at) && serving(&follower) == ["app.gw.test"]);
    // What is gone from the list is nobody's.
    assert!(follower.follow([], at + 1) && serving(&follower).is_empty());
}

#[test]
fn a_restart_without_the_registrar_serves_what_was_heard_for_as_long_as_names_are_held() {
    let (mut registrar, mut follower) = (Registry::new(rules()), follower());
    let claim = offer(1, 1, &["app"]);
    registrar.offer(&claim, NOW).unwrap();
    follower.follow(list(&registrar), NOW);
    let mut restarted = stored(&mut follower);
    assert_eq!((restarted.heard(), list(&restarted)), (Some(NOW), list(&registrar)));
    restarted.offer(&claim, NOW).unwrap();
    assert_eq!(serving(&restarted), ["app.gw.test"]);
    let end = NOW + HOLD;
    let longer = Offer { seq: 2, expires: end + DAY, ..claim };
    restarted.offer(&longer, end - DAY).unwrap();
    restarted.tick(end - 1);
    assert_eq!(serving(&restarted), ["app.gw.test"]);
    assert!(restarted.tick(end), "from here on the registrar may have given it to another");
    assert!(serving(&restarted).is_empty());
}

#[test]
fn who_takes_the_registrar_s_place_has_its_list_before_anything_of_its_own() {
    let mut gateway = Registry::new(rules());
    gateway.offer(&offer(1, 1, &["both", "own"]), NOW).unwrap();
    let mut entries = gateway.drain_changes();
    let holding = |net| Holding {
        network: network(net),
        since: NOW,
        until: NOW + WEEK,
        recovery: None,
        transfer: None,
    };
    for (registrar, heard, label, net) in [(8, NOW, "stale", 3), (9, NOW + 1, "both", 2)] {
        let mut follower = Registry::new(Rules { registrar: Some(node(registrar)), ..rules() });
        follower.follow([(label.to_owned(), holding(net))], heard);
        entries.extend(follower.drain_changes());
    }
    let mut disk: BTreeMap<_, _> =
        entries.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    for start in 1..3 {
        let stored = disk.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
        let (mut alone, _) = Registry::restore(rules(), stored);
        let held: Vec<_> = alone.names().map(|(label, held)| (label.to_owned(), held.network)).collect();
        let expected = [("both".to_owned(), network(2)), ("own".to_owned(), network(1))];
        assert_eq!(held, expected, "at start {start}");
        for (key, value) in alone.drain_changes() {
            match value {
                Some(value) => _ = disk.insert(key, value),
                None => _ = disk.remove(&key),
            }
        }
    }
    assert!(!disk.keys().any(|key| matches!(key[0], b'f' | b'h')), "what was told is forgotten");
}

#[test]
fn names_of_another_time_are_left_alone_and_come_back_with_it() {
    let mut gateway = Registry::new(rules());
    gateway.offer(&offer(1, 1, &["own"]), NOW).unwrap();
    let mut entries = gateway.drain_changes();
    let mut follower = follower();
    let told = Holding {
        network: network(2),
        since: NOW,
        until: NOW + WEEK,
        recovery: None,
        transfer: Some(Transfer { to: network(3), at: NOW + DAY }),
    };
    follower.follow([("told".to_owned(), told)], NOW);
    entries.extend(follower.drain_changes());
    let with = |registrar: Option<NodeId>| {
        let entries = entries.iter().filter_map(|(key, value)| Some((key.as_slice(), value.as_deref()?)));
        let (registry, damaged) = Registry::restore(Rules { registrar, ..rules() }, entries);
        assert_eq!(damaged, 0);
        registry.names().map(|(label, _)| label.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(with(None), ["own", "told"]);
    assert_eq!(with(Some(node(9))), ["told"]);
    assert_eq!(with(Some(node(8))), Vec::<String>::new());
}

#[test]
fn the_disk_is_written_when_something_changes_and_once_an_hour() {
    let (mut registrar, mut follower) = (Registry::new(rules()), follower());
    registrar.offer(&offer(1, 1, &["app"]), NOW).unwrap();
    let mut written = |at| {
        follower.follow(list(&registrar), at);
        follower.drain_changes().len()
    };
    assert_eq!([NOW, NOW + 60, NOW + NOTE - 1, NOW + NOTE].map(&mut written), [2, 0, 0, 1]);
    let mut own = Registry::new(rules());
    assert!(!own.follow(list(&registrar), NOW) && own.names().next().is_none(), "a registrar follows nobody");
}

#[derive(Clone, Debug)]
enum Step {
    /// At the registrar. To the follower, all that is published is brought again and again.
    Offer(u8),
    Remove(u8),
    /// The follower hears the list as it is now.
    Hear,
    /// The name is transferred; the follower hears of it, as it does within a week, unless it has heard of another.
    Transfer(u8),
    /// The transfer is taken back; the follower hears nothing.
    Cancel,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..2u8).prop_map(Step::Offer),
        2 => (0..2u8).prop_map(Step::Remove),
        1 => Just(Step::Hear),
        1 => (0..2u8).prop_map(Step::Transfer),
        1 => Just(Step::Cancel),
        8 => (1..7 * DAY).prop_map(Step::Wait),
    ]
}

proptest! {
    #[test]
    fn however_long_a_follower_is_cut_off_no_name_is_served_for_two(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let (mut registrar, mut follower) = (Registry::new(rules()), follower());
        let mut now = NOW;
        for (seq, step) in (1..).zip(steps) {
            let claim = |net| Offer { seq, expires: now + WEEK, ..offer(net, 1, &["app"]) };
            match step {
                Step::Offer(net) => _ = registrar.offer(&claim(net), now),
                Step::Remove(net) => _ = registrar.offer(&removed(&claim(net)), now),
                Step::Hear => _ = follower.follow(list(&registrar), now),
                Step::Transfer(net) => {
                    let _ = registrar.transfer("app", network(net), now);
                    if !follower.names().any(|(_, holding)| holding.transfer.is_some()) {
                        follower.follow(list(&registrar), now);
                    }
                }
                Step::Cancel => _ = registrar.cancel_transfer("app"),
                Step::Wait(seconds) => now += seconds,
            }
            registrar.tick(now);
            follower.tick(now);
            for net in 0..2 {
                let _ = follower.offer(&Offer { seq, expires: now + WEEK, ..offer(net, 1, &["app"]) }, now);
            }
            let serving = registrar.serving().chain(follower.serving());
            let served: Vec<_> = serving.map(|one| one.key.network).collect();
            prop_assert!(served.windows(2).all(|pair| pair[0] == pair[1]), "served for two: {:?}", served);
        }
    }
}
