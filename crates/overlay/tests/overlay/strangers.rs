//! What strangers ask and bring, who floods, and who bears a ticket: they get what is theirs and no more.

use std::time::Duration;

use sinew_overlay::{Draft, Plan, Refusal, Revoked, Signed, State};
use sinew_types::{Identity, NodeId};
use sinew_wire::document::{Body, Workload};
use sinew_wire::request::{Bind, BindRefusal, Redeem, Request};
use sinew_wire::sync::SyncMessage;

use crate::attacks::{SOON, bring, draft, member_body, state};
use crate::spread::{members, workload};
use crate::world::{EPOCH, World, identity, label, range};

#[test]
fn a_member_that_floods_documents_keeps_its_quota_and_harms_nobody_else() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 3);
    world.connect(ids[0], ids[1]);
    world.run(SOON);
    world.with(ids[0], |overlay, now| overlay.place(network, workload("honest"), now)).unwrap();
    let flood: Vec<Signed> = (2u32..1500)
        .map(|n| {
            let mut subject = [0; 32];
            subject[28..].copy_from_slice(&n.to_be_bytes());
            let own = Plan::new(&network, Some(range())).subnets(2).unwrap();
            let ipv6 = (own.v6.to_bits() | u128::from(n)).into();
            let (groups, services) = (None, vec![]);
            let (ipv4, keyed, removed, since) = (None, false, false, 0);
            let name = label(&format!("n{n}"));
            let body = Workload { name, ipv4, ipv6, groups, services, keyed, removed, since };
            draft(network, subject, 0, Body::Workload(body)).sign(&identity(2))
        })
        .collect();
    bring(&mut world, ids[0], network, &flood);
    bring(&mut world, ids[2], network, &flood.iter().rev().cloned().collect::<Vec<_>>());
    let here = state(&world, ids[0], network);
    assert_eq!(here.workloads.values().filter(|workload| workload.home == ids[1]).count(), 256);
    assert!(here.workloads.values().any(|workload| workload.home == ids[0]));
    assert!(here.fates.len() < 300, "{} documents are kept", here.fates.len());
    let there = state(&world, ids[2], network);
    let own = |state: &State| -> Vec<_> {
        state.workloads.values().filter(|w| w.home == ids[1]).map(|w| w.subject).collect()
    };
    assert_eq!(own(here), own(there), "the same ones everywhere");
}

#[test]
fn a_stranger_s_documents_are_not_passed_on_whatever_they_are_about() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 3);
    world.with(ids[0], |overlay, now| overlay.revoke(network, Revoked::Member(ids[2]), now)).unwrap();
    let before = world.shared(ids[1], &network).len();
    let revoked = world.overlay(ids[0]).export(&network).unwrap();
    world.with(ids[1], |overlay, now| overlay.import(network, revoked, now)).unwrap();
    let known = world.shared(ids[1], &network);
    assert_eq!(known.len(), before + 1, "the revocation; what it voids is kept, in case it falls");
    let flood: Vec<Signed> = (0u16..600)
        .map(|n| {
            let mut grant = [7; 32];
            grant[..2].copy_from_slice(&n.to_le_bytes());
            let body = member_body(9, EPOCH);
            Draft { grant, ..draft(network, *ids[2].as_bytes(), 0, body) }.sign(&identity(90))
        })
        .collect();
    bring(&mut world, ids[1], network, &flood);
    assert_eq!(world.shared(ids[1], &network), known);
    assert!(state(&world, ids[1], network).fates.len() <= known.len() + 256);
}

#[test]
fn documents_above_the_rate_of_their_author_wait_for_the_next_comparison() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 2);
    world.connect(ids[0], ids[1]);
    world.run(SOON);
    let binding_tag = world.tag(&network, ids[0], ids[1]);
    let own = Plan::new(&network, Some(range())).subnets(2).unwrap();
    let mut taken = 0;
    for n in 0..2000u64 {
        // One slot over and over: each is newer than the last.
        let mut subject = [0; 32];
        subject[31] = 77;
        let body = Workload {
            name: label("churn"),
            ipv4: own.host(77).0,
            ipv6: own.host(77).1,
            groups: None,
            services: vec![],
            keyed: false,
            removed: false,
            since: 0,
        };
        let signed =
            Draft { seq: n + 2, ..draft(network, subject, 0, Body::Workload(body)) }.sign(&identity(2));
        let mut message = Vec::new();
        SyncMessage::Documents { tag: binding_tag, documents: vec![signed.bytes.to_vec()] }
            .emit(&mut message);
        let before = world.overlay(ids[0]).counts().limited;
        world.with(ids[0], |overlay, now| overlay.handle_documents(&ids[1], &message, now));
        taken += u32::from(world.overlay(ids[0]).counts().limited == before);
    }
    assert!((400..=600).contains(&taken), "{taken} of 2000 at once");
}

/// What one node would send now.
fn outgoing(world: &mut World, node: NodeId) -> Vec<sinew_overlay::Send> {
    let now = world.now;
    let overlay = &mut world.node(node).overlay;
    std::iter::from_fn(|| overlay.poll_send(now, |_, _| true)).collect()
}

/// Every question there is about a set of documents.
fn questions(tag: [u8; 16], known: [u8; 32]) -> Vec<SyncMessage> {
    let (low, high) = ([0; 32], [255; 32]);
    vec![
        SyncMessage::Summary { tag, head: (0, 0), buckets: Box::new([[1; 8]; 64]) },
        SyncMessage::Want { tag, ids: vec![known] },
        SyncMessage::Inventory { tag, buckets: u64::MAX, low, high, ids: vec![] },
    ]
}

#[test]
fn who_is_no_member_gets_no_document_though_it_knows_the_network() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 2);
    let stranger = world.add(30);
    world.connect(ids[0], stranger);
    world.run(SOON);
    assert!(outgoing(&mut world, ids[0]).is_empty(), "nothing is said to a stranger of its own accord");
    let known = *state(&world, ids[0], network).shared().next().expect("a document");
    let tag = world.tag(&network, ids[0], stranger);
    let now = world.now;
    for message in questions(tag, known) {
        let mut bytes = Vec::new();
        message.emit(&mut bytes);
        world.node(ids[0]).overlay.handle_documents(&stranger, &bytes, now);
    }
    assert!(outgoing(&mut world, ids[0]).is_empty());
    assert_eq!(world.overlay(ids[0]).counts().uninvited, 3);
    // The same from a member is answered, so the questions are good ones.
    world.connect(ids[0], ids[1]);
    world.run(SOON);
    let tag = world.tag(&network, ids[0], ids[1]);
    let now = world.now;
    for message in questions(tag, known) {
        let mut bytes = Vec::new();
        message.emit(&mut bytes);
        world.node(ids[0]).overlay.handle_documents(&ids[1], &bytes, now);
    }
    assert!(outgoing(&mut world, ids[0]).len() >= 2);
}

#[test]
fn a_tag_of_no_network_and_one_of_another_session_are_answered_alike() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 2);
    let stranger = world.add(30);
    world.connect(ids[0], ids[1]);
    world.connect(ids[0], stranger);
    world.run(SOON);
    // As it stands in a message to the other member.
    let now = world.now;
    world.node(ids[0]).overlay.place(network, workload("web"), now).unwrap();
    let sent = outgoing(&mut world, ids[0]);
    let overheard = sent.iter().find_map(|send| match SyncMessage::parse(&send.bytes) {
        Ok(SyncMessage::Documents { tag, .. }) => Some(tag),
        _ => None,
    });
    let overheard = overheard.expect("the document was sent");
    assert_eq!(overheard, world.tag(&network, ids[0], ids[1]));
    for tag in [[9; 16], overheard] {
        let bind = Request::Bind(Bind { handle: 1, tag, member: [3; 32], head: (0, 0) });
        world.node(ids[0]).overlay.handle_request(&stranger, bind, now);
        let answers = outgoing(&mut world, ids[0]);
        let refused = Request::BindRefused { tag, refusal: BindRefusal::NotAMember };
        let answers: Vec<_> = answers.iter().map(|send| Request::parse(&send.bytes)).collect();
        assert_eq!(answers, [Ok(refused)]);
    }
}

#[test]
fn a_bearer_cannot_date_its_membership_beyond_its_ticket() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 2);
    let spec = sinew_overlay::InviteSpec {
        kind: sinew_overlay::TicketKind::Bearer,
        groups: vec![],
        name: None,
        lasts: Some(Duration::from_secs(600)),
        contacts: vec![],
    };
    let ticket = world.with(ids[0], |overlay, now| overlay.invite(network, spec, now)).unwrap();
    let key = Identity::from_seed(ticket.secret.unwrap());
    let known = &world.overlay(ids[0]).networks()[0].tickets[0];
    let (grant, node) = (known.id, identity(66).node_id());
    let mut body = member_body(3, EPOCH);
    if let Body::Member(member) = &mut body {
        member.ticket = Some(*key.node_id().as_bytes());
    }
    let forever = Draft { grant, ..draft(network, *node.as_bytes(), 0, body) }.sign(&key);
    bring(&mut world, ids[0], network, &[forever]);
    assert!(state(&world, ids[0], network).member(&node).is_some());
    world.run(Duration::from_secs(700));
    assert!(state(&world, ids[0], network).member(&node).is_none());
    // Nor can it take what somebody has.
    let mut body = member_body(3, EPOCH);
    if let Body::Member(member) = &mut body {
        member.ticket = Some(*key.node_id().as_bytes());
    }
    let displacing = Draft { grant, seq: u64::MAX, ..draft(network, *ids[1].as_bytes(), 0, body) }.sign(&key);
    bring(&mut world, ids[0], network, &[displacing]);
    assert_eq!(state(&world, ids[0], network).member(&ids[1]).map(|member| member.number), Some(2));
}

#[test]
fn a_stranger_that_knows_the_network_is_asked_for_papers_and_shown_none() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 2);
    let stranger = world.add(30);
    // A network of the same key, forged by nobody: it simply has old papers of another member.
    let papers = world.overlay(ids[0]).export(&network).unwrap();
    let refused = world.with(stranger, |overlay, now| overlay.adopt("lab", papers, now));
    assert!(matches!(refused, Err(Refusal::NotAMember { .. })));
    // A revoked member has all papers, and a session.
    world.connect(ids[0], ids[1]);
    world.run(SOON);
    world.node(ids[1]).side = 5;
    world.disconnect(ids[0], ids[1]);
    world.with(ids[0], |overlay, now| overlay.revoke(network, Revoked::Member(ids[1]), now)).unwrap();
    world.with(ids[0], |overlay, now| overlay.place(network, workload("secret"), now)).unwrap();
    world.node(ids[1]).side = 0;
    world.connect(ids[0], ids[1]);
    world.run(Duration::from_secs(120));
    assert!(world.overlay(ids[1]).lookup(&network, "secret").is_err());
    assert!(world.overlay(ids[0]).snapshot().incoming(&ids[1].address(), 1).is_none());
    assert!(!world.overlay(ids[0]).snapshot().outgoing(&ids[1].address(), 1));
}

#[test]
fn a_ticket_is_redeemed_on_the_association_it_was_signed_for() {
    let mut world = World::new();
    let (network, ids) = members(&mut world, 1);
    let spec = sinew_overlay::InviteSpec {
        kind: sinew_overlay::TicketKind::Counted { uses: 1, approval: false },
        groups: vec![],
        name: None,
        lasts: None,
        contacts: vec![],
    };
    let ticket = world.with(ids[0], |overlay, now| overlay.invite(network, spec, now)).unwrap();
    let thief = world.add(40);
    world.connect(thief, ids[0]);
    let key = Identity::from_seed(ticket.secret.unwrap());
    // What another node signed for another session, carried over by a thief.
    for (node, binding) in [(identity(41).node_id(), [1; 32]), (thief, [1; 32])] {
        let bytes = Redeem::signed_bytes(network.as_bytes(), node.as_bytes(), &binding);
        let signature = key.sign(sinew_types::Domain::REDEEM, &bytes);
        let ticket = *key.node_id().as_bytes();
        let redeem = Redeem { network: *network.as_bytes(), ticket, signature, name: None };
        let request = Request::Redeem(Box::new(redeem));
        world.with(ids[0], |overlay, now| overlay.handle_request(&thief, request, now));
    }
    world.run(SOON);
    assert_eq!(world.overlay(ids[0]).counts().bad, 2);
    assert_eq!(state(&world, ids[0], network).members.len(), 1);
}
