//! Coming in: what each sort of ticket can promise, and what it cannot.

use std::time::Duration;

use sinew_overlay::{
    Contact, Event, Fault, Health, InviteSpec, Refusal, Revoked, Standing, Ticket, TicketError, TicketKind,
};
use sinew_types::{NetworkId, NodeId};

use crate::spread::{admit, members, workload};
use crate::world::{World, identity, label, labels};

const SOON: Duration = Duration::from_secs(3);

fn spec(kind: TicketKind) -> InviteSpec {
    InviteSpec { kind, groups: labels(&["guests"]), name: None, lasts: None, contacts: Vec::new() }
}

fn counted(uses: u16) -> InviteSpec {
    spec(TicketKind::Counted { uses, approval: false })
}

fn contact(node: NodeId) -> Contact {
    Contact { node: *node.as_bytes(), endpoints: Vec::new() }
}

/// Through the text, as people hand it on.
fn handed_on(ticket: &Ticket) -> Ticket {
    ticket.to_text().parse().expect("a ticket")
}

fn invite(world: &mut World, admin: NodeId, network: NetworkId, spec: InviteSpec) -> Ticket {
    let ticket = world.with(admin, |overlay, now| overlay.invite(network, spec, now)).expect("a ticket");
    handed_on(&ticket)
}

fn join(world: &mut World, node: NodeId, ticket: &Ticket) -> Result<NetworkId, Refusal> {
    let ticket = ticket.clone();
    world.with(node, |overlay, now| overlay.join(ticket, None, now))
}

fn ended(world: &mut World, node: NodeId) -> Option<Result<(), Refusal>> {
    world.node(node).log.iter().find_map(|event| match event {
        Event::JoinDone { result, .. } => Some(result.clone()),
        _ => None,
    })
}

fn is_open(world: &World, node: NodeId) -> bool {
    world.overlay(node).networks().first().is_some_and(|network| network.open)
}

#[test]
fn a_pinned_ticket_works_while_owner_and_admin_are_offline() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 3);
    world.run(SOON);
    let node = world.add(20);
    let contacts = vec![contact(ids[1])];
    // The others hear nothing of what the admin signs now.
    world.node(ids[0]).side = 1;
    for id in &ids[1..] {
        world.disconnect(ids[0], *id);
    }
    let ticket = InviteSpec { contacts, ..spec(TicketKind::Pinned(node)) };
    let ticket = invite(&mut world, ids[0], network, ticket);
    assert_eq!(ticket.secret, None);
    join(&mut world, node, &ticket).unwrap();
    world.run(SOON);
    assert_eq!(ended(&mut world, node), Some(Ok(())));
    assert!(is_open(&world, node));
    assert!(world.overlay(ids[1]).snapshot().incoming(&node.address(), 1).is_some());
    assert_eq!(
        world.overlay(ids[2]).state(&network).unwrap().member(&node).unwrap().groups,
        labels(&["guests"])
    );
}

#[test]
fn a_pinned_ticket_is_of_no_use_to_another_node() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 2);
    let (node, other) = (world.add(20), world.add(21));
    let ticket = invite(&mut world, ids[0], network, spec(TicketKind::Pinned(node)));
    let refusal = join(&mut world, other, &ticket).unwrap_err();
    assert_eq!(refusal, Refusal::TicketForAnother { network: label("lab"), node });
    assert!(world.overlay(other).networks().is_empty());
    assert!(world.node(other).disk.0.is_empty());
}

#[test]
fn a_counted_ticket_admits_once_and_the_same_node_again() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 2);
    let ticket = invite(&mut world, ids[0], network, counted(1));
    let (first, second) = (world.add(20), world.add(21));
    join(&mut world, first, &ticket).unwrap();
    world.run(SOON);
    assert_eq!(ended(&mut world, first), Some(Ok(())));
    let subnet = world.overlay(first).networks()[0].subnet;
    join(&mut world, second, &ticket).unwrap();
    world.run(SOON);
    let used = Refusal::TicketUsed { network: label("lab") };
    assert_eq!(ended(&mut world, second), Some(Err(used)));
    assert!(world.overlay(second).networks().is_empty());
    // The first one lost its disk and comes again.
    world.with(first, |overlay, now| overlay.leave(network, now)).unwrap();
    world.node(first).log.clear();
    join(&mut world, first, &ticket).unwrap();
    world.run(SOON);
    assert_eq!(ended(&mut world, first), Some(Ok(())));
    assert_eq!(world.overlay(first).networks()[0].subnet, subnet);
}

#[test]
fn who_is_admitted_is_written_down_before_it_is_signed() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 1);
    let ticket = invite(&mut world, ids[0], network, counted(1));
    let (first, second) = (world.add(20), world.add(21));
    world.node(ids[0]).slow_disk = true;
    join(&mut world, first, &ticket).unwrap();
    world.run(SOON);
    assert!(world.overlay(ids[0]).state(&network).unwrap().member(&first).is_none(), "signed before written");
    assert_eq!(ended(&mut world, first), None);
    // The acceptor dies there and comes back. The use is the first one's, whoever asks first now.
    world.node(ids[0]).slow_disk = false;
    world.node(ids[0]).tokens.clear();
    world.disconnect(first, ids[0]);
    world.restart(ids[0]).unwrap();
    join(&mut world, second, &ticket).unwrap();
    world.run(SOON);
    assert_eq!(ended(&mut world, second), Some(Err(Refusal::TicketUsed { network: label("lab") })));
    world.connect(first, ids[0]);
    world.run(SOON);
    assert_eq!(ended(&mut world, first), Some(Ok(())));
}

#[test]
fn a_bearer_ticket_works_offline_and_two_who_came_by_it_are_suspended() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 3);
    world.run(SOON);
    let contacts = vec![contact(ids[1])];
    let ticket = InviteSpec { contacts, ..spec(TicketKind::Bearer) };
    let ticket = invite(&mut world, ids[0], network, ticket);
    world.run(SOON);
    world.node(ids[0]).side = 1;
    for id in &ids[1..] {
        world.disconnect(ids[0], *id);
    }
    let (first, second) = (world.add(20), world.add(21));
    join(&mut world, first, &ticket).unwrap();
    world.run(SOON);
    assert_eq!(ended(&mut world, first), Some(Ok(())));
    assert!(world.overlay(ids[2]).state(&network).unwrap().member(&first).is_some());
    join(&mut world, second, &ticket).unwrap();
    world.run(SOON);
    let state = world.overlay(ids[2]).state(&network).unwrap();
    assert_eq!(state.members[&first].standing, Standing::Suspended);
    assert_eq!(state.members[&second].standing, Standing::Suspended);
    let alarm = |event: &Event| matches!(event, Event::Alarm { fault: Fault::TicketTwice { .. }, .. });
    assert_eq!(world.node(ids[2]).log.iter().filter(|event| alarm(event)).count(), 1);
    assert!(world.overlay(ids[2]).snapshot().incoming(&first.address(), 1).is_none());
}

#[test]
fn a_bearer_s_own_word_ends_with_its_ticket_and_an_admin_s_does_not() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 2);
    let lasts = Some(Duration::from_secs(3600));
    let ticket = invite(&mut world, ids[0], network, InviteSpec { lasts, ..spec(TicketKind::Bearer) });
    let node = world.add(20);
    join(&mut world, node, &ticket).unwrap();
    world.run(SOON);
    assert!(is_open(&world, node));
    let late = world.add(21);
    world.run(Duration::from_secs(3700));
    let state = world.overlay(ids[1]).state(&network).unwrap();
    assert_eq!(state.members[&node].standing, Standing::Expired);
    assert!(!is_open(&world, node));
    assert_eq!(join(&mut world, late, &ticket), Err(Refusal::TicketExpired { network: label("lab") }));
    admit(&mut world, ids[0], network, node);
    world.run(SOON);
    assert!(is_open(&world, node));
}

#[test]
fn a_ticket_with_approval_waits_for_a_person() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 1);
    let ticket = spec(TicketKind::Counted { uses: 1, approval: true });
    let ticket = invite(&mut world, ids[0], network, ticket);
    let node = world.add(20);
    join(&mut world, node, &ticket).unwrap();
    world.run(Duration::from_secs(30));
    assert_eq!(ended(&mut world, node), None);
    let needed = Refusal::ApprovalNeeded { network: label("lab") };
    assert_eq!(world.overlay(node).networks()[0].health, Health::Joining(needed));
    let asked = world.node(ids[0]).log.iter().filter(|event| matches!(event, Event::Asks { .. })).count();
    assert_eq!(asked, 1, "asked once, however often the node knocks");
    let nobody = world.with(ids[0], |overlay, now| overlay.approve(network, ids[0], now));
    assert_eq!(nobody, Err(Refusal::NothingToApprove { network: label("lab"), node: ids[0] }));
    world.with(ids[0], |overlay, now| overlay.approve(network, node, now)).unwrap();
    world.run(SOON);
    assert_eq!(ended(&mut world, node), Some(Ok(())));
}

#[test]
fn joining_survives_a_restart_of_the_joiner() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 1);
    let ticket = invite(&mut world, ids[0], network, counted(1));
    let node = world.add(20);
    world.node(node).side = 1;
    join(&mut world, node, &ticket).unwrap();
    world.run(SOON);
    assert_eq!(ended(&mut world, node), None);
    world.restart(node).unwrap();
    world.node(node).side = 0;
    world.connect(node, ids[0]);
    world.run(SOON);
    assert_eq!(ended(&mut world, node), Some(Ok(())));
    // The secret is gone from the disk then.
    let secret = ticket.secret.unwrap();
    let meta = &world.node(node).disk.0[&network].meta;
    assert!(!meta.windows(32).any(|bytes| bytes == secret));
}

#[test]
fn a_joiner_that_is_shown_an_old_set_is_not_ready() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 3);
    world.run(Duration::from_secs(5));
    // One member is cut off with what there was; then somebody is revoked.
    let (old, gone) = (ids[1], ids[2]);
    world.node(old).side = 1;
    world.disconnect(ids[0], old);
    world.disconnect(old, gone);
    world.with(ids[0], |overlay, now| overlay.revoke(network, Revoked::Member(gone), now)).unwrap();
    world.run(Duration::from_secs(5));
    let node = world.add(20);
    let contacts = vec![contact(old)];
    let ticket = InviteSpec { contacts, ..spec(TicketKind::Pinned(node)) };
    let ticket = invite(&mut world, ids[0], network, ticket);
    world.node(node).side = 1;
    join(&mut world, node, &ticket).unwrap();
    world.run(Duration::from_secs(60));
    // It is a member, and has all that the old one has; but the ticket names a newer HEAD.
    let overlay = world.overlay(node);
    assert!(overlay.state(&network).unwrap().member(&gone).is_some(), "the old set came");
    assert!(!is_open(&world, node));
    assert!(overlay.snapshot().network(1).unwrap().places.is_empty());
    assert!(overlay.snapshot().network(1).unwrap().subnets.is_empty());
    let waits = Health::Joining(Refusal::NotReady { network: label("lab") });
    assert_eq!(overlay.networks()[0].health, waits);
    let placed = world.with(node, |overlay, now| overlay.place(network, workload("web"), now));
    assert_eq!(placed, Err(Refusal::NotReady { network: label("lab") }));
    assert_eq!(ended(&mut world, node), None);
    world.sides(|_| 0);
    world.connect(ids[0], node);
    world.run(SOON);
    assert_eq!(ended(&mut world, node), Some(Ok(())));
    assert!(world.overlay(node).state(&network).unwrap().member(&gone).is_none());
}

#[test]
fn a_ticket_does_not_bring_back_who_was_revoked() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 2);
    world.run(SOON);
    world.with(ids[0], |overlay, now| overlay.revoke(network, Revoked::Member(ids[1]), now)).unwrap();
    world.run(SOON);
    world.with(ids[1], |overlay, now| overlay.leave(network, now)).unwrap();
    let ticket = invite(&mut world, ids[0], network, counted(5));
    join(&mut world, ids[1], &ticket).unwrap();
    world.run(SOON);
    let revoked = Refusal::Revoked { network: label("lab"), node: ids[1] };
    assert_eq!(ended(&mut world, ids[1]), Some(Err(revoked)));
    // An admin's own word does.
    admit(&mut world, ids[0], network, ids[1]);
    let papers = world.overlay(ids[0]).export(&network).unwrap();
    world.with(ids[1], |overlay, now| overlay.adopt("lab", papers, now)).unwrap();
    assert!(is_open(&world, ids[1]));
}

#[test]
fn a_revoked_ticket_admits_nobody() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 1);
    let ticket = invite(&mut world, ids[0], network, counted(5));
    let key = world.overlay(ids[0]).networks()[0].tickets[0].key;
    world.with(ids[0], |overlay, now| overlay.revoke(network, Revoked::Ticket(key), now)).unwrap();
    let node = world.add(20);
    join(&mut world, node, &ticket).unwrap();
    world.run(SOON);
    assert_eq!(ended(&mut world, node), Some(Err(Refusal::TicketUnknown { network: label("lab") })));
}

#[test]
fn each_mistake_with_a_ticket_has_its_own_answer() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 1);
    let ticket = invite(&mut world, ids[0], network, counted(1));
    let text = ticket.to_text();
    for (text, expected) in [
        ("", TicketError::Prefix),
        ("sinew://x", TicketError::Prefix),
        ("sinewnet1", TicketError::Damaged),
        ("sinewnet1A", TicketError::Alphabet),
        (&text[..text.len() - 1], TicketError::Damaged),
    ] {
        assert_eq!(text.parse::<Ticket>().unwrap_err(), expected, "{text}");
    }
    // Mail breaks lines.
    let broken = format!("  {}\n  {}\n", &text[..40], &text[40..]);
    assert_eq!(broken.parse::<Ticket>().unwrap(), ticket);
    assert!(!format!("{ticket:?}").contains(&format!("{:?}", ticket.secret.unwrap())));
    let twice = world.with(ids[0], |overlay, now| overlay.join(handed_on(&ticket), Some("other"), now));
    assert_eq!(twice, Err(Refusal::AlreadyHere { network: label("lab") }));
    let node = world.add(20);
    let bad = world.with(node, |overlay, now| overlay.join(handed_on(&ticket), Some("No Name"), now));
    assert!(matches!(bad, Err(Refusal::BadName { .. })));
    // A member without the right.
    admit(&mut world, ids[0], network, node);
    let papers = world.overlay(ids[0]).export(&network).unwrap();
    world.with(node, |overlay, now| overlay.adopt("lab", papers, now)).unwrap();
    let refused = world.with(node, |overlay, now| overlay.invite(network, counted(1), now));
    assert_eq!(refused, Err(Refusal::NotAnAdmin { network: label("lab"), what: "admit members" }));
    // Two networks of one name on one node.
    let second =
        sinew_overlay::found(&identity(2000), &crate::world::founding(node), world.seconds()).unwrap();
    let taken = world.with(node, |overlay, now| overlay.adopt("lab", second.clone(), now));
    assert_eq!(taken, Err(Refusal::NetworkNameTaken { name: label("lab") }));
    let other = world.with(node, |overlay, now| overlay.adopt("other", second, now)).unwrap();
    assert_eq!(world.overlay(node).find("other"), Ok(other));
    assert!(matches!(world.overlay(node).find("third"), Err(Refusal::UnknownNetwork { .. })));
}

#[test]
fn numbers_run_out_with_the_sub_range() {
    let mut world = World::new();
    let first = world.add(1);
    let mut founding = crate::world::founding(first);
    founding.numbers = Some((1, 3));
    let documents = sinew_overlay::found(&identity(1000), &founding, world.seconds()).unwrap();
    let network = world.with(first, |overlay, now| overlay.adopt("lab", documents, now)).unwrap();
    for n in [2, 3] {
        let node = identity(n).node_id();
        admit(&mut world, first, network, node);
    }
    let spec =
        sinew_overlay::AdmitSpec { node: identity(4).node_id(), groups: Vec::new(), name: None, lasts: None };
    let full = world.with(first, |overlay, now| overlay.admit(network, spec, now));
    assert_eq!(full, Err(Refusal::NoFreeSubnet { network: label("lab") }));
}

#[test]
fn who_came_and_was_revoked_leaves_its_number_and_not_its_use() {
    let mut world = World::new();
    let first = world.add(1);
    let mut founding = crate::world::founding(first);
    founding.numbers = Some((1, 3));
    let documents = sinew_overlay::found(&identity(1000), &founding, world.seconds()).unwrap();
    let network = world.with(first, |overlay, now| overlay.adopt("lab", documents, now)).unwrap();
    let ticket = invite(&mut world, first, network, counted(6));
    for n in 20..26 {
        let node = world.add(n);
        join(&mut world, node, &ticket).unwrap();
        world.run(SOON);
        assert_eq!(ended(&mut world, node), Some(Ok(())), "node {n}");
        world.with(first, |overlay, now| overlay.revoke(network, Revoked::Member(node), now)).unwrap();
        world.run(SOON);
    }
    let late = world.add(30);
    join(&mut world, late, &ticket).unwrap();
    world.run(SOON);
    assert_eq!(ended(&mut world, late), Some(Err(Refusal::TicketUsed { network: label("lab") })));
    // With the ticket its entries go.
    assert_eq!(world.node(first).disk.0[&network].journal.len(), 6);
    let key = world.overlay(first).networks()[0].tickets[0].key;
    world.with(first, |overlay, now| overlay.revoke(network, Revoked::Ticket(key), now)).unwrap();
    assert!(world.node(first).disk.0[&network].journal.is_empty());
}

/// The name in a member's document, as `at` sees it.
fn name_of(world: &World, at: NodeId, network: NetworkId, node: NodeId) -> Option<String> {
    let state = world.overlay(at).state(&network).expect("the network");
    state.member(&node).expect("a member").name.as_ref().map(ToString::to_string)
}

#[test]
fn who_joins_is_called_as_it_wishes_unless_another_is() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 1);
    let named = |world: &mut World, n: u16, name: &str| {
        let node = world.add(n);
        world.with(node, |overlay, _| overlay.set_own_name(Some(label(name))));
        node
    };
    let bob = named(&mut world, 20, "bob");
    let twin = named(&mut world, 21, "bob");
    let eve = named(&mut world, 22, "eve");
    let carol = named(&mut world, 23, "carol");
    let ticket = invite(&mut world, ids[0], network, counted(2));
    for node in [bob, twin] {
        join(&mut world, node, &ticket).unwrap();
        world.run(SOON);
        assert_eq!(ended(&mut world, node), Some(Ok(())));
    }
    let approved = spec(TicketKind::Counted { uses: 1, approval: true });
    let ticket = invite(&mut world, ids[0], network, approved);
    join(&mut world, eve, &ticket).unwrap();
    world.run(SOON);
    world.with(ids[0], |overlay, now| overlay.approve(network, eve, now)).unwrap();
    let ticket = invite(&mut world, ids[0], network, spec(TicketKind::Bearer));
    join(&mut world, carol, &ticket).unwrap();
    world.run(SOON);
    for (node, name) in [(bob, Some("bob")), (twin, None), (eve, Some("eve")), (carol, Some("carol"))] {
        assert_eq!(name_of(&world, ids[0], network, node).as_deref(), name);
        assert_eq!(name_of(&world, node, network, node).as_deref(), name);
    }
}

#[test]
fn a_member_that_reaches_nobody_goes_where_its_ticket_led_also_after_a_restart() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 2);
    world.run(SOON);
    let uri = format!("sinew://{}@192.0.2.1:7463?via=udp,tcp", ids[0]).parse().unwrap();
    let contacts = vec![Contact { node: *ids[0].as_bytes(), endpoints: vec![uri] }];
    let ticket = invite(&mut world, ids[0], network, InviteSpec { contacts, ..counted(1) });
    let node = world.add(20);
    join(&mut world, node, &ticket).unwrap();
    world.run(SOON);
    assert_eq!(ended(&mut world, node), Some(Ok(())));
    let led = |world: &mut World| {
        let log = std::mem::take(&mut world.node(node).log);
        log.into_iter().any(|event| match event {
            Event::WantPeer { peer, endpoints } => peer == ids[0] && endpoints.len() == 1,
            _ => false,
        })
    };
    assert!(led(&mut world), "the ticket says where");
    world.restart(node).unwrap();
    world.run(SOON);
    assert!(led(&mut world), "it is remembered");
}
