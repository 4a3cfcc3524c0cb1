//! Documents reach everybody, by a push or by comparing sets.

use std::time::Duration;

use sinew_overlay::{AdmitSpec, Event, Revoked, WorkloadSpec};
use sinew_types::{NetworkId, NodeId};

use crate::world::{World, label};

pub(crate) fn workload(name: &str) -> WorkloadSpec {
    WorkloadSpec { name: label(name), ipv4: None, groups: None, services: Vec::new(), key: None }
}

pub(crate) fn admit(world: &mut World, admin: NodeId, network: NetworkId, node: NodeId) {
    let spec = AdmitSpec { node, groups: Vec::new(), name: None, lasts: None };
    world.with(admin, |overlay, now| overlay.admit(network, spec, now)).expect("admitted");
}

/// A network of `count` members, each of which has the documents and knows a way to the first.
pub(crate) fn members(world: &mut World, count: u16) -> (NetworkId, Vec<NodeId>) {
    let ids: Vec<NodeId> = (1..=count).map(|n| world.add(n)).collect();
    let network = world.found(1000, ids[0]);
    for id in &ids[1..] {
        admit(world, ids[0], network, *id);
    }
    let documents = world.overlay(ids[0]).export(&network).expect("documents");
    for id in &ids[1..] {
        world.with(*id, |overlay, now| overlay.adopt("lab", documents.clone(), now)).expect("a member");
    }
    (network, ids)
}

#[test]
fn two_members_agree_on_handles_and_see_each_other_s_workloads() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 2);
    world.connect(ids[0], ids[1]);
    let placed = world.with(ids[1], |overlay, now| overlay.place(network, workload("web"), now)).unwrap();
    world.run(Duration::from_secs(1));
    let snapshot = world.overlay(ids[0]).snapshot();
    let view = snapshot.network(1).expect("a view");
    let place = view.place(&placed.ipv4.expect("IPv4").into()).expect("a place");
    assert_eq!(place.node, ids[1].address());
    assert_eq!(snapshot.incoming(&ids[1].address(), placed.slot), Some(1));
    assert!(snapshot.outgoing(&ids[1].address(), 1));
    let bound = world.node(ids[0]).log.iter().any(|event| matches!(event, Event::Bound { slot: 1, .. }));
    assert!(bound);
    assert_eq!(world.overlay(ids[0]).lookup(&network, "web").unwrap().ipv4, placed.ipv4);
    assert_eq!(world.overlay(ids[0]).reverse(&network, &placed.ipv6.into()).unwrap(), "web");
}

#[test]
fn an_admin_sees_within_three_seconds_who_holds_what_it_signed() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 4);
    for id in &ids[1..] {
        world.connect(ids[0], *id);
    }
    world.run(Duration::from_secs(3));
    let head = world.overlay(ids[0]).networks()[0].head;
    let newcomer = world.add(5);
    admit(&mut world, ids[0], network, newcomer);
    world.run_until_ok(Duration::from_secs(3), |world| {
        let status = &world.overlay(ids[0]).networks()[0];
        let mut known = status.members.iter().filter(|member| member.node != newcomer);
        status.head > head && known.all(|member| member.drift == Some(0))
    });
}

#[test]
fn a_newcomer_that_nobody_heard_of_brings_what_makes_it_a_member() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 2);
    let third = world.add(3);
    world.connect(ids[0], ids[1]);
    world.run(Duration::from_secs(1));
    // The admin is away; the newcomer has its papers and meets the other member.
    world.node(ids[0]).side = 1;
    world.disconnect(ids[0], ids[1]);
    admit(&mut world, ids[0], network, third);
    let papers = world.overlay(ids[0]).export(&network).unwrap();
    world.with(third, |overlay, now| overlay.adopt("lab", papers, now)).unwrap();
    world.connect(ids[1], third);
    world.run_until_ok(Duration::from_secs(2), |world| {
        world.overlay(ids[1]).snapshot().incoming(&third.address(), 1).is_some()
            && world.overlay(third).snapshot().outgoing(&ids[1].address(), 1)
            && world.overlay(third).snapshot().incoming(&ids[1].address(), 1).is_some()
    });
}

#[test]
fn fifty_members_agree_after_a_cut_within_five_seconds() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 50);
    world.run_until_ok(Duration::from_secs(10), |world| world.agree(&ids, &network));
    for (at, id) in ids.iter().enumerate() {
        let name = format!("w{at}");
        world.with(*id, |overlay, now| overlay.place(network, workload(&name), now)).unwrap();
    }
    let took = world.run_until_ok(Duration::from_secs(5), |world| {
        world.overlay(ids[7]).state(&network).unwrap().workloads.len() == 50 && world.agree(&ids, &network)
    });
    eprintln!("50 workloads known to 50 members after {took:?}, {:?} carried", world.carried);
    world.sides(|at| (at % 2) as u8);
    world.run(Duration::from_secs(60));
    for (at, id) in ids.iter().enumerate() {
        let name = format!("cut{at}");
        world.with(*id, |overlay, now| overlay.place(network, workload(&name), now)).unwrap();
    }
    world.run(Duration::from_secs(20));
    assert!(!world.agree(&ids, &network), "the cut cuts nothing");
    world.sides(|_| 0);
    let took = world.run_until_ok(Duration::from_secs(5), |world| world.agree(&ids, &network));
    assert_eq!(world.overlay(ids[9]).state(&network).unwrap().workloads.len(), 100);
    eprintln!("healed after {took:?}");
}

#[test]
fn a_revocation_is_everywhere_at_once_and_the_revoked_is_cut_off() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 12);
    let victim = ids[5];
    for id in &ids {
        world.connect(*id, victim);
    }
    world.run(Duration::from_secs(3));
    assert!(world.overlay(ids[1]).snapshot().incoming(&victim.address(), 1).is_some());
    world.with(ids[0], |overlay, now| overlay.revoke(network, Revoked::Member(victim), now)).unwrap();
    world.run_until_ok(Duration::from_secs(1), |world| {
        ids.iter().filter(|id| **id != victim).all(|id| {
            let overlay = world.overlay(*id);
            overlay.state(&network).unwrap().member(&victim).is_none()
                && overlay.snapshot().incoming(&victim.address(), 1).is_none()
        })
    });
    let dead = |event: &Event| matches!(event, Event::Dead { peer, slot: 1 } if *peer == victim);
    assert!(world.node(ids[1]).log.iter().any(dead));
    // It learns so itself, and nothing passes there either.
    world.run(Duration::from_secs(1));
    assert!(world.overlay(victim).state(&network).unwrap().member(&victim).is_none());
    assert!(world.overlay(victim).snapshot().network(1).unwrap().places.is_empty());
    // What is published afterwards is none of its business.
    let before = world.shared(victim, &network);
    world.with(ids[0], |overlay, now| overlay.place(network, workload("later"), now)).unwrap();
    world.run(Duration::from_secs(90));
    assert_eq!(world.shared(victim, &network), before);
}

#[test]
fn a_restart_keeps_documents_addresses_and_readiness() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 3);
    let placed = world.with(ids[1], |overlay, now| overlay.place(network, workload("web"), now)).unwrap();
    world.run(Duration::from_secs(5));
    let before = world.shared(ids[1], &network);
    // Cut off, so that nothing can come from others.
    world.node(ids[1]).side = 3;
    world.restart(ids[1]).unwrap();
    assert_eq!(world.shared(ids[1], &network), before);
    assert!(world.overlay(ids[1]).networks()[0].open);
    let again = world.overlay(ids[1]).placed(&network, &label("web")).unwrap();
    assert_eq!(again, placed);
    let other = world.with(ids[1], |overlay, now| overlay.place(network, workload("db"), now)).unwrap();
    assert_ne!(other.ipv4, placed.ipv4);
}

#[test]
fn a_newcomer_has_two_thousand_documents_within_seconds() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 20);
    world.run(Duration::from_secs(5));
    for (at, id) in ids.iter().enumerate() {
        for n in 0..100 {
            let name = format!("w{at}-{n}");
            world.with(*id, |overlay, now| overlay.place(network, workload(&name), now)).unwrap();
        }
    }
    let took = world.run_until_ok(Duration::from_secs(30), |world| {
        world.overlay(ids[7]).state(&network).unwrap().workloads.len() == 2000 && world.agree(&ids, &network)
    });
    let before = world.carried;
    let spec = sinew_overlay::InviteSpec {
        kind: sinew_overlay::TicketKind::Counted { uses: 1, approval: false },
        groups: Vec::new(),
        name: None,
        lasts: None,
        contacts: Vec::new(),
    };
    let ticket = world.with(ids[0], |overlay, now| overlay.invite(network, spec, now)).unwrap();
    let newcomer = world.add(500);
    world.with(newcomer, |overlay, now| overlay.join(ticket, None, now)).unwrap();
    let joined = world.run_until_ok(Duration::from_secs(10), |world| {
        world.overlay(newcomer).state(&network).is_ok_and(|state| state.workloads.len() == 2000)
    });
    let carried = world.carried.0 - before.0;
    eprintln!("2000 workloads everywhere after {took:?}, at a newcomer after {joined:?} and {carried} bytes");
}
