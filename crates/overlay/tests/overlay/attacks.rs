//! What a thief, a liar or a careless administrator does, and what becomes of it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use sinew_overlay::{
    AdmitSpec, Clock, Draft, Event, Fate, Fault, Grant, Lease, NO_GRANT, Owner, Plan, PolicySpec, Refusal,
    Revoked, Signed, Standing, State, WorkloadSpec,
};
use sinew_types::{NetworkId, NodeId};
use sinew_wire::document::{Body, Invite, InviteMode, Member, Revoke, Workload, kind};
use sinew_wire::sync::SyncMessage;

use crate::spread::{admit, members, workload};
use crate::world::{EPOCH, World, identity, label, labels, range};

pub(crate) const SOON: Duration = Duration::from_secs(3);
/// The owner of the networks that `members` makes.
pub(crate) const OWNER: u16 = 1000;

pub(crate) fn era(era: u32, n: u32) -> u32 {
    era << 16 | n
}

pub(crate) fn draft(network: NetworkId, subject: [u8; 32], generation: u32, body: Body) -> Draft {
    Draft { network, grant: NO_GRANT, subject, generation, seq: 1, issued: EPOCH, expires: 0, body }
}

pub(crate) fn member_body(number: u16, since: u64) -> Body {
    let network = NetworkId::new(identity(OWNER).node_id());
    let subnet = Plan::new(&network, Some(range())).subnets(number).and_then(|subnets| subnets.v4);
    Body::Member(Member { number, subnet, groups: vec![], since, ticket: None, name: None })
}

/// The papers of an admin of whom the thief has the key.
fn stolen(world: &World, network: NetworkId, admin: NodeId) -> [u8; 32] {
    state(world, admin, network).admins[&admin].id
}

pub(crate) fn bring(world: &mut World, to: NodeId, network: NetworkId, signed: &[Signed]) {
    let documents = signed.iter().map(|signed| signed.bytes.to_vec()).collect();
    world.with(to, |overlay, now| overlay.import(network, documents, now)).expect("well-formed");
}

pub(crate) fn state(world: &World, node: NodeId, network: NetworkId) -> &State {
    world.overlay(node).state(&network).expect("the network")
}

pub(crate) fn owner_does(
    world: &mut World,
    at: NodeId,
    network: NetworkId,
    act: impl FnOnce(Owner<'_>) -> Vec<Signed>,
) {
    let key = identity(OWNER);
    let documents = world.overlay(at).export(&network).expect("documents");
    let owner = Owner::read(&key, &documents, world.seconds()).expect("documents of its own");
    let signed = act(owner);
    bring(world, at, network, &signed);
}

#[test]
fn an_admin_that_outbids_the_owner_loses_to_the_next_era() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 3);
    let (admin, victim) = (identity(1), ids[2]);
    let grant = stolen(&world, network, ids[0]);
    // The highest numbers there are: another subnet for the victim, and an empty policy.
    let rogue = |generation, body, subject| {
        Draft { grant, seq: u64::MAX, ..draft(network, subject, generation, body) }.sign(&admin)
    };
    let top = era(0, 0xffff);
    let policy = PolicySpec { default_allow: false, rules: vec![] };
    let signed = [
        rogue(top, member_body(99, EPOCH), *victim.as_bytes()),
        rogue(top, Body::Policy(policy), *network.as_bytes()),
        rogue(top, Body::Revoke(Revoke { target: kind::MEMBER }), *ids[1].as_bytes()),
        rogue(era(7, 7), member_body(50, EPOCH), *identity(66).node_id().as_bytes()),
        // Nor does one beyond the era drive out its own that counts.
        rogue(era(9, 0), Body::Revoke(Revoke { target: kind::MEMBER }), *ids[1].as_bytes()),
    ];
    bring(&mut world, ids[2], network, &signed);
    let before = state(&world, ids[2], network);
    assert_eq!(before.members[&victim].number, 99);
    assert!(before.member(&ids[1]).is_none());
    assert!(!before.members.contains_key(&identity(66).node_id()), "beyond the era already");
    let owner = identity(OWNER);
    let lost = Owner::read(&owner, &world.overlay(ids[0]).export(&network).unwrap(), EPOCH);
    let lost = lost.unwrap().state().members[&ids[1]].clone();
    owner_does(&mut world, ids[2], network, |owner| owner.next_era(&[], &[lost]).unwrap());
    let after = state(&world, ids[2], network);
    assert_eq!(after.era, 1);
    assert!(after.member(&ids[1]).is_some(), "the owner takes it back");
    assert!(after.admins.is_empty());
    // And the same again has no effect, nor has anything of the eras to come.
    let again = [
        rogue(era(1, 0xffff), member_body(98, EPOCH), *victim.as_bytes()),
        rogue(era(1, 0xffff), Body::Revoke(Revoke { target: kind::MEMBER }), *victim.as_bytes()),
        rogue(era(2, 0), Body::Revoke(Revoke { target: kind::MEMBER }), *ids[1].as_bytes()),
    ];
    let number = after.members[&victim].number;
    bring(&mut world, ids[2], network, &again);
    assert_eq!(state(&world, ids[2], network).member(&victim).map(|member| member.number), Some(number));
    assert!(state(&world, ids[2], network).member(&ids[1]).is_some());
}

#[test]
fn of_one_generation_the_owner_s_word_comes_first() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 2);
    let node = identity(66).node_id();
    let grant = stolen(&world, network, ids[0]);
    let own = draft(network, *node.as_bytes(), 5, member_body(60, EPOCH)).sign(&identity(OWNER));
    let signed = draft(network, *node.as_bytes(), 5, member_body(61, EPOCH));
    let signed = Draft { grant, seq: u64::MAX, ..signed }.sign(&identity(1));
    bring(&mut world, ids[1], network, &[own, signed]);
    assert_eq!(state(&world, ids[1], network).members[&node].number, 60);
    // A newer generation is newer, whoever signs it.
    let newer = Draft { grant, ..draft(network, *node.as_bytes(), 6, member_body(62, EPOCH)) };
    bring(&mut world, ids[1], network, &[newer.sign(&identity(1))]);
    assert_eq!(state(&world, ids[1], network).members[&node].number, 62);
    // But a ticket's own word comes last, under whatever generation the ticket was issued.
    let ticket = identity(700);
    let subnet = Plan::new(&network, Some(range())).subnets(63).and_then(|subnets| subnets.v4);
    let invite = Body::Invite(Invite {
        mode: InviteMode::Bearer,
        uses: 1,
        groups: vec![],
        acceptors: vec![],
        approval: false,
        number: Some(63),
        subnet,
    });
    let invite = draft(network, *ticket.node_id().as_bytes(), 9, invite).sign(&identity(OWNER));
    let mut body = member_body(63, EPOCH);
    if let Body::Member(member) = &mut body {
        member.ticket = Some(*ticket.node_id().as_bytes());
    }
    let own = Draft { grant: invite.id, ..draft(network, *node.as_bytes(), 9, body) }.sign(&ticket);
    let id = own.id;
    bring(&mut world, ids[1], network, &[invite, own]);
    let after = state(&world, ids[1], network);
    assert_eq!(after.members[&node].number, 62);
    assert_eq!(after.fates[&id], Fate::Idle("a newer one is in force"));
}

#[test]
fn what_a_thief_backdates_is_void_and_what_the_honest_admin_did_is_signed_again() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 3);
    world.with(ids[0], |overlay, now| overlay.revoke(network, Revoked::Member(ids[2]), now)).unwrap();
    let grant = stolen(&world, network, ids[0]);
    owner_does(&mut world, ids[1], network, |owner| owner.revoke_admin(&ids[0], |_| true).unwrap().documents);
    let thief = identity(1);
    let accomplice = identity(66).node_id();
    let backdated =
        Draft { grant, issued: 1, ..draft(network, *accomplice.as_bytes(), 0, member_body(9, 1)) };
    bring(&mut world, ids[1], network, &[backdated.clone().sign(&thief)]);
    let after = state(&world, ids[1], network);
    assert!(!after.members.contains_key(&accomplice));
    assert!(after.member(&ids[1]).is_some_and(|member| member.author == identity(OWNER).node_id()));
    assert!(after.member(&ids[0]).is_some(), "a member it stays");
    // What the admin revoked stays revoked.
    let known = world.overlay(ids[0]).export(&network).unwrap();
    world.with(ids[1], |overlay, now| overlay.import(network, known, now)).unwrap();
    assert!(state(&world, ids[1], network).member(&ids[2]).is_none());
    // What it granted does not come back when the key is trusted again.
    owner_does(&mut world, ids[1], network, |owner| {
        let grant = Grant { scopes: Grant::ALL, numbers: (1, 20), longest: None };
        owner.grant(ids[0], grant, None).unwrap()
    });
    assert!(state(&world, ids[1], network).admin(&ids[0]).is_some());
    bring(&mut world, ids[1], network, &[Draft { seq: 9, ..backdated }.sign(&thief)]);
    assert!(!state(&world, ids[1], network).members.contains_key(&accomplice));
    // Nor does its say on whom to revoke grow when a later right is taken back in a later era.
    owner_does(&mut world, ids[1], network, |owner| owner.next_era(&[ids[0]], &[]).unwrap());
    owner_does(&mut world, ids[1], network, |owner| owner.revoke_admin(&ids[0], |_| true).unwrap().documents);
    let revoke = Body::Revoke(Revoke { target: kind::MEMBER });
    let late = Draft { grant, ..draft(network, *ids[1].as_bytes(), era(1, 0xffff), revoke) };
    bring(&mut world, ids[1], network, &[late.sign(&thief)]);
    assert!(state(&world, ids[1], network).member(&ids[1]).is_some());
    assert!(state(&world, ids[1], network).member(&ids[2]).is_none());
}

#[test]
fn a_membership_made_shorter_leaves_no_longer_one_to_show() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 2);
    let old = world.overlay(ids[0]).export(&network).unwrap();
    let lasts = Some(Duration::from_secs(600));
    let spec = AdmitSpec { node: ids[1], groups: vec![], name: None, lasts };
    world.with(ids[0], |overlay, now| overlay.admit(network, spec, now)).unwrap();
    assert!(state(&world, ids[0], network).member(&ids[1]).is_some());
    // Long after it has expired and was forgotten.
    world.run(Duration::from_secs(40 * 86_400));
    assert!(!state(&world, ids[0], network).members.contains_key(&ids[1]), "forgotten");
    world.with(ids[0], |overlay, now| overlay.import(network, old, now)).unwrap();
    assert!(state(&world, ids[0], network).member(&ids[1]).is_none());
}

#[test]
fn what_became_narrower_leaves_no_old_document_to_show() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 3);
    let admit = |world: &mut World, groups: &[&str]| {
        let spec = AdmitSpec { node: ids[1], groups: labels(groups), name: None, lasts: None };
        world.with(ids[0], |overlay, now| overlay.admit(network, spec, now)).unwrap();
    };
    let policy = |world: &mut World, default_allow| {
        let policy = PolicySpec { default_allow, rules: vec![] };
        world.with(ids[0], |overlay, now| overlay.set_policy(network, policy, now)).unwrap();
    };
    admit(&mut world, &["db", "web"]);
    policy(&mut world, true);
    world.run(Duration::from_secs(30));
    let old = world.overlay(ids[0]).export(&network).unwrap();
    admit(&mut world, &["web"]);
    policy(&mut world, false);
    world.run(Duration::from_secs(30));
    // Somebody new is shown the old set, and of the new one the HEAD alone: it cannot be left out, since
    // the ticket names it.
    let node = identity(20).node_id();
    let kind = sinew_overlay::TicketKind::Pinned(node);
    let spec = sinew_overlay::InviteSpec { kind, groups: vec![], name: None, lasts: None, contacts: vec![] };
    let ticket = world.with(ids[0], |overlay, now| overlay.invite(network, spec, now)).unwrap();
    let new = world.overlay(ids[0]).export(&network).unwrap();
    let joiner = world.add(20);
    world.node(joiner).side = 1;
    world.with(joiner, |overlay, now| overlay.join(ticket, None, now)).unwrap();
    let head: Vec<_> = new.iter().filter(|bytes| bytes[5] == kind::HEAD).cloned().collect();
    let shown = [old, head].concat();
    world.with(joiner, |overlay, now| overlay.import(network, shown, now)).unwrap();
    let held = state(&world, joiner, network).head.clone().expect("the HEAD");
    assert_eq!(held.missing, 2, "the old membership and the old policy");
    assert!(!world.overlay(joiner).networks()[0].open);
    world.with(joiner, |overlay, now| overlay.import(network, new, now)).unwrap();
    assert!(world.overlay(joiner).networks()[0].open);
    let after = state(&world, joiner, network);
    assert_eq!(after.member(&ids[1]).unwrap().groups, labels(&["web"]));
    assert!(!after.policy.as_ref().unwrap().1.default_allow);
}

#[test]
fn a_workload_outside_its_member_s_subnet_has_no_place() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 2);
    let plan = Plan::new(&network, Some(range()));
    let other = plan.subnets(1).unwrap();
    let own = plan.subnets(2).unwrap();
    let liar = identity(2);
    let say = |ipv4, ipv6, host: u8| {
        let mut subject = [0; 32];
        subject[31] = host;
        let body = Workload {
            name: label("web"),
            ipv4,
            ipv6,
            groups: None,
            services: vec![],
            keyed: false,
            removed: false,
            since: 0,
        };
        draft(network, subject, 0, Body::Workload(body)).sign(&liar)
    };
    let signed = [
        say(other.host(5).0, own.host(5).1, 5),
        say(own.host(6).0, other.host(6).1, 6),
        say(own.host(1).0, own.host(7).1, 7),
        say(Some([10, 77, 2, 255].into()), own.host(8).1, 8),
        say(None, "fd00::1".parse().unwrap(), 9),
    ];
    bring(&mut world, ids[0], network, &signed);
    let state = state(&world, ids[0], network);
    assert!(state.workloads.is_empty(), "{:?}", state.workloads);
    for signed in &signed {
        assert_eq!(state.fates[&signed.id], Fate::Idle("outside its member's subnet"));
    }
    // The address stays the other member's.
    let view = world.overlay(ids[0]).snapshot().network(1).unwrap();
    let place = view.place(&IpAddr::V4(other.host(5).0.unwrap())).unwrap();
    assert_eq!(place.node, ids[0].address());
}

#[test]
fn the_machine_refuses_addresses_and_names_that_are_not_its_own() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 2);
    world.connect(ids[0], ids[1]);
    let mut place = |node: NodeId, spec: WorkloadSpec| {
        let placed = world.with(node, |overlay, now| overlay.place(network, spec, now));
        world.run(SOON);
        placed
    };
    let at = |name: &str, address: [u8; 4]| WorkloadSpec { ipv4: Some(address.into()), ..workload(name) };
    let first = place(ids[1], workload("web")).unwrap();
    assert_eq!(first.ipv4, Some([10, 77, 2, 2].into()));
    assert_eq!(first.resolver.0, Some([10, 77, 2, 1].into()));
    assert_eq!(place(ids[1], at("db", [10, 77, 2, 9])).unwrap().ipv4, Some([10, 77, 2, 9].into()));
    for address in [[10, 77, 1, 9], [10, 77, 2, 1], [10, 77, 2, 0], [10, 77, 2, 255], [192, 168, 0, 1]] {
        let refusal = place(ids[1], at("x", address)).unwrap_err();
        assert_eq!(refusal.code(), "address_outside", "{address:?}");
    }
    let taken = place(ids[1], at("x", [10, 77, 2, 9])).unwrap_err();
    let by = label("db");
    let address = IpAddr::from([10, 77, 2, 9]);
    assert_eq!(taken, Refusal::AddressTaken { network: label("lab"), address, by });
    let taken = place(ids[0], workload("web")).unwrap_err();
    assert_eq!(taken, Refusal::NameTaken { network: label("lab"), name: label("web"), by: ids[1] });
    // The same again is the same.
    assert_eq!(place(ids[1], workload("web")).unwrap(), first);
    let unknown = world.with(ids[1], |overlay, now| overlay.remove(network, &label("nope"), now));
    assert_eq!(unknown.unwrap_err().code(), "unknown_workload");
    world.with(ids[1], |overlay, now| overlay.remove(network, &label("web"), now)).unwrap();
    world.run(SOON);
    assert!(world.overlay(ids[0]).lookup(&network, "web").is_err());
    // The place is free again and its next tenant is believed.
    let next = world.with(ids[1], |overlay, now| overlay.place(network, workload("next"), now)).unwrap();
    world.run(SOON);
    assert_eq!(next.ipv4, first.ipv4);
    assert_eq!(world.overlay(ids[0]).lookup(&network, "next").unwrap().ipv4, first.ipv4);
}

#[test]
fn an_admin_gives_no_subnet_outside_its_sub_range() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 2);
    let grant = stolen(&world, network, ids[0]);
    let node = identity(66).node_id();
    let beyond = Draft { grant, ..draft(network, *node.as_bytes(), 0, member_body(200, EPOCH)) };
    let beyond = beyond.sign(&identity(1));
    // Nor addresses that are not those of its number.
    let mut crooked = member_body(9, EPOCH);
    if let Body::Member(member) = &mut crooked {
        member.subnet.as_mut().unwrap().first = [10, 77, 2, 0].into();
    }
    let crooked = Draft { grant, ..draft(network, *identity(67).node_id().as_bytes(), 0, crooked) };
    let crooked = crooked.sign(&identity(1));
    bring(&mut world, ids[1], network, &[beyond.clone(), crooked.clone()]);
    let state = state(&world, ids[1], network);
    assert_eq!(state.fates[&beyond.id], Fate::Idle("outside its author's sub-range"));
    assert_eq!(state.fates[&crooked.id], Fate::Idle("its addresses are not those of its number"));
    assert!(!state.members.contains_key(&node));
}

#[test]
fn two_admins_that_cannot_hear_each_other_never_give_one_subnet_twice() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 2);
    let free = |owner: &Owner<'_>| owner.free_numbers().unwrap();
    owner_does(&mut world, ids[0], network, |owner| {
        let numbers = free(&owner);
        owner.grant(ids[1], Grant { scopes: Grant::ALL, numbers, longest: None }, None).unwrap()
    });
    let papers = world.overlay(ids[0]).export(&network).unwrap();
    world.with(ids[1], |overlay, now| overlay.import(network, papers, now)).unwrap();
    for n in 0..40 {
        admit(&mut world, ids[usize::from(n % 2)], network, identity(300 + n).node_id());
    }
    let theirs = world.overlay(ids[1]).export(&network).unwrap();
    world.with(ids[0], |overlay, now| overlay.import(network, theirs, now)).unwrap();
    let state = state(&world, ids[0], network);
    assert_eq!(state.members.len(), 42);
    assert!(state.members.values().all(|member| member.is_valid()));
    assert!(state.faults.is_empty(), "{:?}", state.faults);
    // And the owner is not let make a mistake.
    let key = identity(OWNER);
    let documents = world.overlay(ids[0]).export(&network).unwrap();
    let owner = Owner::read(&key, &documents, EPOCH).unwrap();
    let grant = Grant { scopes: Grant::ALL, numbers: (100, 130), longest: None };
    let refusal = owner.grant(identity(9).node_id(), grant, None).unwrap_err();
    assert_eq!(refusal.code(), "overlapping_subnets");
}

#[test]
fn nobody_gives_itself_groups_and_names_are_not_claimed_backwards() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 1);
    world.run(Duration::from_secs(100));
    let late = world.add(50);
    let spec = AdmitSpec { node: late, groups: labels(&["web"]), name: None, lasts: None };
    world.with(ids[0], |overlay, now| overlay.place(network, workload("db"), now)).unwrap();
    world.run(Duration::from_secs(100));
    world.with(ids[0], |overlay, now| overlay.admit(network, spec, now)).unwrap();
    let own = Plan::new(&network, Some(range())).subnets(2).unwrap();
    let mut subject = [0; 32];
    subject[31] = 9;
    let body = Workload {
        name: label("db"),
        ipv4: own.host(9).0,
        ipv6: own.host(9).1,
        groups: Some(labels(&["admins", "web"])),
        services: vec![],
        keyed: false,
        removed: false,
        since: 1,
    };
    let signed = draft(network, subject, 0, Body::Workload(body)).sign(&identity(50));
    bring(&mut world, ids[0], network, &[signed]);
    let state = state(&world, ids[0], network);
    let claimed = state.workloads.values().find(|workload| workload.home == late).unwrap();
    assert_eq!(claimed.groups, labels(&["web"]));
    assert!(!claimed.owns_name);
    assert_eq!(state.named(&label("db")).unwrap().home, ids[0]);
    let fault = Fault::NameTwice { name: label("db"), node: late, by: ids[0] };
    assert!(state.faults.contains(&fault));
    let long = format!("db.{}", late.short());
    assert_eq!(world.overlay(ids[0]).lookup(&network, &long).unwrap().ipv4, own.host(9).0);
}

#[test]
fn two_things_said_under_one_number_are_reported() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 2);
    let say = |name: &str| {
        let own = Plan::new(&network, Some(range())).subnets(2).unwrap();
        let mut subject = [0; 32];
        subject[31] = 9;
        let (ipv4, ipv6) = own.host(9);
        let (groups, services, keyed, removed) = (None, vec![], false, false);
        let body = Workload { name: label(name), ipv4, ipv6, groups, services, keyed, removed, since: 0 };
        draft(network, subject, 0, Body::Workload(body)).sign(&identity(2))
    };
    let (one, other) = (say("one"), say("other"));
    bring(&mut world, ids[0], network, &[one.clone(), other.clone()]);
    bring(&mut world, ids[1], network, &[other.clone(), one.clone()]);
    let fault = Fault::Equivocation { author: ids[1], kind: kind::WORKLOAD };
    for id in &ids {
        let alarm = |event: &Event| matches!(event, Event::Alarm { fault: own, .. } if *own == fault);
        assert_eq!(world.node(*id).log.iter().filter(|event| alarm(event)).count(), 1);
        let kept = one.id.min(other.id);
        assert!(state(&world, *id, network).fates.contains_key(&kept), "the lower id, everywhere");
    }
}

#[test]
fn a_clock_set_back_revives_nobody_and_an_admin_cannot_push_it_on() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 3);
    let lasts = Some(Duration::from_secs(3600));
    let spec = AdmitSpec { node: ids[2], groups: vec![], name: None, lasts };
    world.with(ids[0], |overlay, now| overlay.admit(network, spec, now)).unwrap();
    // An admin's document from the far future moves nobody's clock.
    let grant = stolen(&world, network, ids[0]);
    let future = Draft {
        grant,
        issued: EPOCH + 10_000_000,
        ..draft(network, *identity(66).node_id().as_bytes(), 0, member_body(9, 0))
    };
    bring(&mut world, ids[0], network, &[future.sign(&identity(1))]);
    assert!(state(&world, ids[0], network).member(&ids[2]).is_some());
    assert!(state(&world, ids[0], network).floor <= EPOCH);
    // The owner speaks two hours later: by then the member has expired, whatever the own clock says.
    world.run(Duration::from_secs(10));
    let key = identity(OWNER);
    let documents = world.overlay(ids[0]).export(&network).unwrap();
    let owner = Owner::read(&key, &documents, EPOCH + 7200).unwrap();
    let signed = owner.set_policy(PolicySpec::default());
    bring(&mut world, ids[0], network, &signed);
    assert_eq!(state(&world, ids[0], network).members[&ids[2]].standing, Standing::Expired);
    world.with(ids[0], |overlay, now| overlay.set_unix(1_000_000, true, now));
    assert_eq!(state(&world, ids[0], network).members[&ids[2]].standing, Standing::Expired);
    world.restart(ids[0]).unwrap();
    assert_eq!(state(&world, ids[0], network).members[&ids[2]].standing, Standing::Expired);
    // A clock years ahead is not believed unless something vouches for it.
    let ahead = (EPOCH + 500 * 86_400) * 1_000_000;
    world.with(ids[0], |overlay, now| overlay.set_unix(ahead, false, now));
    let judged = state(&world, ids[0], network);
    assert_eq!(judged.at, EPOCH + 7200);
    assert!(judged.faults.contains(&Fault::ClockAhead));
    world.with(ids[0], |overlay, now| overlay.set_unix(ahead, true, now));
    assert_eq!(state(&world, ids[0], network).at, EPOCH + 500 * 86_400);
}

#[test]
fn a_wrong_signature_does_not_shut_out_the_true_document() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 2);
    world.connect(ids[0], ids[1]);
    world.run(SOON);
    let placed = world.now;
    world.node(ids[1]).overlay.place(network, workload("web"), placed).unwrap();
    let send = world.node(ids[1]).overlay.poll_send(placed, |_, _| true).expect("the document");
    let Ok(SyncMessage::Documents { tag, documents }) = SyncMessage::parse(&send.bytes) else { panic!() };
    let mut forged = documents.clone();
    forged.iter_mut().for_each(|bytes| *bytes.last_mut().unwrap() ^= 1);
    let mut message = Vec::new();
    SyncMessage::Documents { tag, documents: forged }.emit(&mut message);
    world.with(ids[0], |overlay, now| overlay.handle_documents(&ids[1], &message, now));
    assert!(world.overlay(ids[0]).lookup(&network, "web").is_err());
    assert!(world.overlay(ids[0]).counts().bad >= 1);
    world.with(ids[0], |overlay, now| overlay.handle_documents(&ids[1], &send.bytes, now));
    world.run(SOON);
    assert!(world.overlay(ids[0]).lookup(&network, "web").is_ok());
}

#[test]
fn a_moving_workload_is_where_its_newest_lease_says_and_nowhere_when_that_runs_out() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 3);
    for (a, b) in [(0, 1), (1, 2), (0, 2)] {
        world.connect(ids[a], ids[b]);
    }
    let key = identity(500);
    let spec = WorkloadSpec { key: Some(key.node_id()), ..workload("mover") };
    let placed = world.with(ids[0], |overlay, now| overlay.place(network, spec, now)).unwrap();
    let address = IpAddr::V6(placed.ipv6);
    world.run(SOON);
    let at = |world: &World, watcher: NodeId| {
        world.overlay(watcher).snapshot().network(1).unwrap().place(&address).map(|place| place.node)
    };
    assert_eq!(at(&world, ids[2]), Some(ids[0].address()), "at home while nothing else is said");
    let lease = |world: &mut World, host: NodeId, seconds| {
        let now = world.now;
        let (lease, consent) =
            world.overlay(host).offer_lease(&network, &key.node_id(), seconds, now).unwrap();
        lease.attach(network, &key, consent).bytes.to_vec()
    };
    let first = lease(&mut world, ids[1], 300);
    world.with(ids[1], |overlay, now| overlay.attach_lease(network, first.clone(), now)).unwrap();
    world.run(SOON);
    assert_eq!(at(&world, ids[2]), Some(ids[1].address()));
    assert_eq!(world.overlay(ids[1]).hosted(&network, &key.node_id()).unwrap().ipv6, placed.ipv6);
    // It moves on; the old lease still runs and counts no more, however often it is repeated.
    let second = lease(&mut world, ids[2], 100);
    world.with(ids[2], |overlay, now| overlay.attach_lease(network, second, now)).unwrap();
    world.with(ids[0], |overlay, now| overlay.attach_lease(network, first.clone(), now)).unwrap();
    world.run(SOON);
    for watcher in &ids {
        assert_eq!(at(&world, *watcher), Some(ids[2].address()));
    }
    world.run(Duration::from_secs(110));
    for watcher in &ids {
        assert_eq!(at(&world, *watcher), None, "the lease has run out and the first one does not come back");
    }
    // A host that did not agree cannot be named.
    let now = world.now;
    let (offer, _) = world.overlay(ids[1]).offer_lease(&network, &key.node_id(), 60, now).unwrap();
    let forced = Lease { host: *ids[0].as_bytes(), ..offer };
    let forced = forced.attach(network, &key, forced.consent(&identity(2)));
    let refused =
        world.with(ids[0], |overlay, now| overlay.attach_lease(network, forced.bytes.to_vec(), now));
    assert_eq!(refused.unwrap_err().code(), "bad_document");
    let long = world.overlay(ids[1]).offer_lease(&network, &key.node_id(), 601, now);
    assert_eq!(long.unwrap_err(), Refusal::BadLease { seconds: 601 });
    // Its key is revoked: nothing more of it counts.
    world
        .with(ids[0], |overlay, now| overlay.revoke(network, Revoked::Workload(key.node_id()), now))
        .unwrap();
    let third = offer.attach(network, &key, offer.consent(&identity(2))).bytes.to_vec();
    world.with(ids[1], |overlay, now| overlay.attach_lease(network, third, now)).unwrap();
    world.run(SOON);
    assert_ne!(at(&world, ids[2]), Some(ids[1].address()));
}

#[test]
fn the_highest_head_is_never_given_up_and_an_old_network_is_stale() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 2);
    world.connect(ids[0], ids[1]);
    world.run(Duration::from_secs(30));
    let old = world.overlay(ids[0]).export(&network).unwrap();
    world.with(ids[0], |overlay, now| overlay.place(network, workload("x"), now)).unwrap();
    admit(&mut world, ids[0], network, identity(9).node_id());
    world.run(Duration::from_secs(30));
    let pair = world.overlay(ids[1]).networks()[0].head;
    assert!(pair > (0, 1), "{pair:?}");
    // A newer document is not displaced by older ones, nor the pair after a restart.
    world.with(ids[1], |overlay, now| overlay.import(network, old, now)).unwrap();
    world.restart(ids[1]).unwrap();
    assert_eq!(world.overlay(ids[1]).networks()[0].head, pair);
    assert!(world.overlay(ids[1]).networks()[0].matches_head);
    // The admin goes on signing heads, one a day; without it the network grows stale.
    world.run(Duration::from_secs(2 * 86_400));
    let later = world.overlay(ids[1]).networks()[0].head;
    assert!(later.1 >= pair.1 + 2 && later.1 <= pair.1 + 4, "{pair:?} {later:?}");
    world.node(ids[0]).side = 1;
    world.disconnect(ids[0], ids[1]);
    world.run(Duration::from_secs(9 * 86_400));
    let status = &world.overlay(ids[1]).networks()[0];
    assert!(matches!(status.health, sinew_overlay::Health::Stale(days) if days >= 7), "{:?}", status.health);
    assert!(status.open, "traffic goes on");
}

#[test]
fn a_strict_network_closes_when_it_is_stale() {
    let mut world = World::new();
    let id = world.add(1);
    let mut founding = crate::world::founding(id);
    founding.strict = true;
    let documents = sinew_overlay::found(&identity(OWNER), &founding, EPOCH).unwrap();
    let network = world.with(id, |overlay, now| overlay.adopt("lab", documents, now)).unwrap();
    let member = world.add(2);
    admit(&mut world, id, network, member);
    let papers = world.overlay(id).export(&network).unwrap();
    world.with(member, |overlay, now| overlay.adopt("lab", papers, now)).unwrap();
    world.node(member).side = 1;
    assert!(world.overlay(member).networks()[0].open);
    world.run(Duration::from_secs(8 * 86_400));
    assert!(!world.overlay(member).networks()[0].open);
    assert!(world.overlay(member).snapshot().network(1).unwrap().subnets.is_empty());
    assert!(world.overlay(id).networks()[0].open, "who may sign heads is never stale");
}

#[test]
fn judging_is_the_same_for_everybody_who_has_the_documents() {
    // The plain function, without a machine: what a command line does with an export.
    let mut world = World::new();
    let (network, ids) = members(&mut world, 4);
    let mut keys = sinew_overlay::KeyRing::default();
    let mut set = sinew_overlay::DocumentSet::default();
    for bytes in world.overlay(ids[0]).export(&network).unwrap() {
        let signed = sinew_overlay::Unverified::parse(&bytes, &network).unwrap().verify(&mut keys).unwrap();
        set.insert(Arc::new(signed));
    }
    let clock = Clock { own: EPOCH, floor: 0, synchronised: true };
    let judged = sinew_overlay::judge(&set, &network, clock);
    assert_eq!(judged.members, state(&world, ids[0], network).members);
}
