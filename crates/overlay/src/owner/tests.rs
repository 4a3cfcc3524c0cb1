use sinew_wire::document::PolicySpec;

use super::*;
use crate::state::Standing;

const NOW: u64 = 1_750_000_000;

fn key(n: u8) -> Identity {
    Identity::from_seed([n; 32])
}

fn founding() -> Founding {
    Founding {
        name: Label::parse("shop").unwrap(),
        range: Some(Range4 { first: [10, 20, 0, 0].into(), len: 16, member_len: 24 }),
        strict: false,
        admin: key(1).node_id(),
        numbers: (1, 127),
    }
}

fn network() -> NetworkId {
    NetworkId::new(key(9).node_id())
}

fn bytes(documents: &[Signed]) -> Vec<Vec<u8>> {
    documents.iter().map(|signed| signed.bytes.to_vec()).collect()
}

fn papers(documents: &[Vec<u8>]) -> Papers {
    Papers::read(network(), documents.iter().map(Vec::as_slice), NOW + 1).unwrap()
}

/// An admin's document of the founded network.
fn by_admin(papers: &Papers, subject: [u8; 32], body: Body) -> Vec<u8> {
    let grant = papers.state().admin(&key(1).node_id()).unwrap().id;
    let generation = u32::from(papers.state().era) << 16 | 1;
    let generation = if matches!(body, Body::Head(_)) { generation & !0xffff } else { generation };
    let (network, issued) = (network(), NOW);
    let draft = Draft { network, grant, subject, generation, seq: 5, issued, expires: 0, body };
    draft.sign(&key(1)).bytes.to_vec()
}

fn admitted(papers: &Papers, node: NodeId, number: u16) -> Vec<u8> {
    let subnet = papers.state().plan.subnets(number).unwrap().v4;
    let body = MemberBody { number, subnet, groups: vec![], since: NOW, ticket: None, name: None };
    by_admin(papers, *node.as_bytes(), Body::Member(body))
}

#[test]
fn a_founded_network_has_its_admin_as_member_under_a_whole_head() {
    let documents = bytes(&found(&key(9), &founding(), NOW).unwrap());
    let papers = papers(&documents);
    let state = papers.state();
    assert_eq!((state.era, state.name.as_ref().map(Label::as_str)), (1, Some("shop")));
    let admin = state.admin(&key(1).node_id()).unwrap();
    assert_eq!((admin.grant.scopes, admin.grant.numbers), (Grant::ALL, (1, 127)));
    let member = state.member(&key(1).node_id()).unwrap();
    assert_eq!(member.subnets.describe().split(' ').next(), Some("10.20.1.0/24"));
    let head = state.head.as_ref().unwrap();
    assert_eq!((head.pair, head.digest, head.missing), ((1, 1), state.digest, 0));
    assert!(state.faults.is_empty(), "{:?}", state.faults);
}

#[test]
fn numbers_outside_the_range_are_refused() {
    for numbers in [(0, 5), (5, 4), (1, 256)] {
        let refused = found(&key(9), &Founding { numbers, ..founding() }, NOW).unwrap_err();
        assert_eq!(refused, OwnerError::BadNumbers(numbers.0, numbers.1));
    }
}

#[test]
fn a_second_admin_gets_what_is_left_and_never_what_another_has() {
    let mut documents = bytes(&found(&key(9), &founding(), NOW).unwrap());
    let node = key(2).node_id();
    let refused = papers(&documents).grant(&key(9), node, Grant::ALL, Some((100, 200)), None).unwrap_err();
    assert_eq!(refused, OwnerError::Overlap(key(1).node_id()));
    assert_eq!(
        papers(&documents).grant(&key(8), node, Grant::ALL, None, None).unwrap_err(),
        OwnerError::NotOwner
    );
    documents.extend(bytes(&papers(&documents).grant(&key(9), node, Grant::ADMIT, None, Some(60)).unwrap()));
    let now = papers(&documents);
    let admin = now.state().admin(&node).unwrap();
    assert_eq!(
        (admin.grant.numbers, admin.grant.scopes, admin.grant.longest),
        ((192, 255), Grant::ADMIT, Some(60))
    );
    let head = now.state().head.as_ref().unwrap();
    assert_eq!((head.pair, head.digest), ((1, 2), now.state().digest));
    // The same again changes its rights and leaves it one admin.
    documents.extend(bytes(&now.grant(&key(9), node, Grant::ALL, Some((200, 210)), None).unwrap()));
    let now = papers(&documents);
    assert_eq!(now.state().admin(&node).unwrap().grant.numbers, (200, 210));
    assert_eq!(now.state().admins.len(), 2);
    assert!(now.state().faults.is_empty(), "{:?}", now.state().faults);
}

#[test]
fn revoking_an_admin_keeps_whom_the_owner_keeps_and_the_policy() {
    let mut documents = bytes(&found(&key(9), &founding(), NOW).unwrap());
    let founded = papers(&documents);
    let (friend, thief) = (key(3).node_id(), key(4).node_id());
    documents.push(admitted(&founded, friend, 5));
    documents.push(admitted(&founded, thief, 6));
    let deny = PolicySpec { default_allow: false, rules: vec![] };
    documents.push(by_admin(&founded, *network().as_bytes(), Body::Policy(deny.clone())));
    let before = papers(&documents);
    assert_eq!(before.state().members.len(), 3);
    assert!(before.state().policy.as_ref().is_some_and(|(signed, _)| signed.author == key(1).node_id()));

    let revoked = before.revoke(&key(9), key(1).node_id(), |member| member.node != thief).unwrap();
    assert_eq!((revoked.kept, revoked.lost, revoked.policy), (vec![friend], vec![thief], true));
    documents.extend(bytes(&revoked.documents));
    let after = papers(&documents);
    let state = after.state();
    assert!(state.admins.is_empty());
    assert!(state.member(&friend).is_some_and(|member| member.standing == Standing::Valid));
    assert!(state.member(&thief).is_none());
    assert!(state.member(&key(1).node_id()).is_some(), "its membership was the owner's word");
    let (signed, policy) = state.policy.as_ref().unwrap();
    assert_eq!((signed.author, policy), (key(9).node_id(), &deny));
    let head = state.head.as_ref().unwrap();
    assert_eq!((head.digest, head.missing), (state.digest, 0));
    let refused = after.revoke(&key(9), key(1).node_id(), |_| true).unwrap_err();
    assert_eq!(refused, OwnerError::NoAdmin(key(1).node_id()));
}

#[test]
fn an_admin_that_was_revoked_can_be_one_again() {
    let mut documents = bytes(&found(&key(9), &founding(), NOW).unwrap());
    let node = key(1).node_id();
    documents.extend(bytes(&papers(&documents).revoke(&key(9), node, |_| true).unwrap().documents));
    documents.extend(bytes(&papers(&documents).grant(&key(9), node, Grant::ALL, None, None).unwrap()));
    assert!(papers(&documents).state().admin(&node).is_some());
}

#[test]
fn documents_of_another_network_are_refused() {
    let documents = bytes(&found(&key(8), &founding(), NOW).unwrap());
    let read = Papers::read(network(), documents.iter().map(Vec::as_slice), NOW);
    assert_eq!(read.unwrap_err(), OwnerError::Flaw(Flaw::OtherNetwork));
    let none: [&[u8]; 0] = [];
    assert_eq!(Papers::read(network(), none, NOW).unwrap_err(), OwnerError::NoNetwork);
}
