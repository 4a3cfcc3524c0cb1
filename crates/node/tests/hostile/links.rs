//! Epochs, adjacencies and associations have lives of their own; a nonce has one (protocol A3).

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use sinew_session::{Event, Target};
use sinew_types::{DropReason, Identity};

use crate::common::{Flying, Net, path, udp_packet};
use crate::puppet::{HINT, MS, Origin, Puppet, Stage};

/// A stage whose puppet has announced somebody else.
fn with_a_route() -> (Stage, Origin) {
    let mut stage = Stage::new(Net::new(1, &[]), 1);
    let origin = Origin::of(&Identity::from_seed([77; 32]));
    stage.say(0, &[HINT]);
    stage.say(0, &origin.route(5));
    stage.run(100 * MS);
    assert_eq!(stage.node().next_hop(&origin.addr), Some(stage.puppets[0].addr));
    (stage, origin)
}

#[test]
fn a_rekey_keeps_the_adjacency_and_what_was_learnt_over_it() {
    let (mut stage, origin) = with_a_route();
    let (victim, near) = (stage.victim(), stage.puppets[0].addr);
    let adj = stage.node().adjacency(&near);
    stage.puppets[0].events.clear();
    for _ in 0..300 {
        stage.run(1000 * MS);
        assert_eq!(stage.node().next_hop(&origin.addr), Some(near), "at {:?}", stage.net.now);
        assert_eq!((stage.node().adjacency(&near), stage.puppets[0].adj(&victim)), (adj, adj));
    }
    let renewals = stage.puppets[0].events.iter().filter(|e| matches!(e, Event::Up { fresh: false, .. }));
    assert!(renewals.count() >= 2, "the keys were renewed");
}

#[test]
fn a_key_that_has_sealed_two_to_the_31_records_is_renewed_before_its_time() {
    let mut stage = Stage::new(Net::new(1, &[]), 1);
    let victim = stage.victim();
    let renewals = |stage: &Stage| {
        let events = stage.puppets[0].events.iter();
        events.filter(|event| matches!(event, Event::Up { fresh: false, .. })).count()
    };
    stage.puppets[0].wear(&victim, (1 << 31) - 1000);
    stage.run(30_000 * MS);
    assert_eq!(renewals(&stage), 0);
    stage.puppets[0].wear(&victim, 2000);
    stage.run(30_000 * MS);
    assert_eq!(renewals(&stage), 1);
}

#[test]
fn what_a_neighbour_said_ends_with_the_adjacency_though_the_session_goes_on() {
    let (mut stage, origin) = with_a_route();
    let (victim, near) = (stage.victim(), stage.puppets[0].addr);
    let adj = stage.node().adjacency(&near);
    let now = stage.net.now;
    stage.puppets[0].sessions.set_adjacent(victim, false, now);
    stage.drain(0);
    stage.run(100 * MS);
    assert_eq!(stage.node().adjacency(&near), None);
    assert_eq!(stage.node().next_hop(&origin.addr), None, "a closed adjacency has no routes");
    let now = stage.net.now;
    stage.puppets[0].sessions.set_adjacent(victim, true, now);
    stage.drain(0);
    stage.run(2000 * MS);
    let again = stage.node().adjacency(&near);
    assert!(again.is_some() && again != adj, "another incarnation: {adj:?}, {again:?}");
    assert_eq!(stage.node().next_hop(&origin.addr), None, "nothing was said in this one");
    let closed = stage.puppets[0].events.iter().any(|e| matches!(e, Event::Closed { .. }));
    assert!(!closed, "the session is the same");
}

#[test]
fn a_neighbour_that_restarted_is_believed_nothing_that_it_said_before() {
    let (mut stage, origin) = with_a_route();
    let (victim, near) = (stage.victim(), stage.puppets[0].addr);
    // Killed and back, with the same key, from the same place.
    stage.puppets[0] = Puppet::new(0, &stage.net, true);
    let now = stage.net.now;
    stage.puppets[0].sessions.open(victim, Target::Direct(path(0)), now);
    stage.drain(0);
    stage.run(500 * MS);
    assert!(stage.node().adjacency(&near).is_some());
    assert_eq!(stage.node().next_hop(&origin.addr), None);
}

#[test]
fn no_key_ever_sees_a_nonce_twice() {
    let mut net = Net::new(3, &[(1, 0), (2, 1), (0, 2)]);
    assert!(net.run_until(5000 * MS, |net| net.nodes.iter().all(|node| node.routes_len() == 2)));
    let (seen, cut) = (Rc::new(RefCell::new(BTreeSet::new())), Rc::new(RefCell::new(false)));
    let (tap_seen, tap_cut) = (Rc::clone(&seen), Rc::clone(&cut));
    net.tap = Some(Box::new(move |flying: Flying| {
        if (4..=6).contains(&flying.bytes[0]) {
            // The receiver's index names the key of one direction.
            let name = (flying.to, flying.bytes[4..16].to_vec());
            assert!(tap_seen.borrow_mut().insert(name), "{:02x?}", &flying.bytes[..16]);
        }
        let lost = *tap_cut.borrow() && flying.from + flying.to == 1;
        if lost { Vec::new() } else { vec![flying] }
    }));
    for second in 0..160 {
        // Straight, by a detour, straight again; through two rekeys.
        *cut.borrow_mut() = (3..8).contains(&(second % 20));
        for n in 0..10 {
            for (from, to) in [(0, 1), (1, 0), (2, 0)] {
                net.send(from, &udp_packet(net.address(from), net.address(to), 9, &[n; 20]));
            }
            net.run(100 * MS);
        }
        net.steps = 0;
    }
    assert!(net.received[1].len() > 1000 && seen.borrow().len() > 5000);
}

#[test]
fn a_burst_over_a_detour_does_not_make_the_old_path_s_records_look_replayed() {
    let mut net = Net::new(3, &[(1, 0), (2, 1), (0, 2)]);
    net.run(3000 * MS);
    // The link 0-1 goes silent; one packet is still under way on it.
    let held: Rc<RefCell<Option<Flying>>> = Rc::default();
    let tap = Rc::clone(&held);
    let late = udp_packet(net.address(0), net.address(1), 9, &[0x77; 200]);
    let len = late.len() + 36;
    net.tap = Some(Box::new(move |flying: Flying| {
        if flying.from + flying.to != 1 {
            return vec![flying];
        }
        if flying.from == 0 && flying.bytes.len() == len {
            tap.borrow_mut().get_or_insert(flying);
        }
        Vec::new()
    }));
    net.send(0, &late);
    let via_two = Some(net.address(2));
    for n in 0..200 {
        net.send(0, &udp_packet(net.address(0), net.address(1), 9, &[n; 20]));
        net.run(10 * MS);
        if net.nodes[0].next_hop(&net.address(1)) == via_two {
            break;
        }
    }
    assert_eq!(net.nodes[0].next_hop(&net.address(1)), via_two);
    net.run(200 * MS);
    // More packets than the window is wide.
    let before = net.received[1].len();
    for n in 0..9000u32 {
        net.send(0, &udp_packet(net.address(0), net.address(1), 9, &n.to_be_bytes()));
        if n % 100 == 99 {
            net.run(MS);
            net.steps = 0;
        }
    }
    net.run(20 * MS);
    assert_eq!(net.received[1].len(), before + 9000, "{:?}", net.nodes[1].drops());
    let flying = held.borrow_mut().take().expect("caught on the old path");
    net.arrive(flying);
    assert_eq!(net.received[1].last(), Some(&late), "{:?}", net.nodes[1].drops());
    assert_eq!(net.nodes[1].drops().get(DropReason::Replayed), 0);
}
