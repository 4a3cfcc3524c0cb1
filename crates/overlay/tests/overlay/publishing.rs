//! Publishing: who may publish what, for how long, and what a gateway makes of what it is brought.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use sinew_overlay::{
    BackendSpec, Claims, Draft, Fate, Grant, Ingress, NO_GRANT, PUBLISH_LIFE, PublicationSpec, PublishMode,
    PublishedBackend, Refusal, Revoked, service_id,
};
use sinew_types::{NetworkId, NodeId};
use sinew_wire::document::{Body, Publish};

use crate::spread::{members, workload};
use crate::world::{EPOCH, World, identity, label};

const SOON: Duration = Duration::from_secs(3);
const DAY: Duration = Duration::from_secs(86_400);

fn gateway() -> NodeId {
    identity(77).node_id()
}

fn spec(backends: &[(NodeId, &str)]) -> PublicationSpec {
    let backend =
        |&(home, name): &(NodeId, &str)| BackendSpec { home, workload: label(name), port: 80, weight: 1 };
    PublicationSpec {
        name: label("app"),
        gateway: gateway(),
        mode: PublishMode::Http,
        hosts: vec!["app".into()],
        backends: backends.iter().map(backend).collect(),
        settings: b"{}".to_vec(),
        recovery: None,
    }
}

/// A network of three with a workload on each; the first is its admin. All are connected.
fn stage(world: &mut World) -> (NetworkId, Vec<NodeId>) {
    let (network, ids) = members(world, 3);
    for (at, id) in ids.iter().enumerate() {
        ids[..at].iter().for_each(|other| world.connect(*id, *other));
    }
    for (id, name) in ids.iter().zip(["one", "two", "three"]) {
        world.with(*id, |overlay, now| overlay.place(network, workload(name), now)).expect("a place");
    }
    world.run(SOON);
    (network, ids)
}

fn expose(
    world: &mut World,
    at: NodeId,
    network: NetworkId,
    spec: PublicationSpec,
) -> Result<([u8; 16], bool), Refusal> {
    world.with(at, |overlay, now| overlay.expose(network, spec, now))
}

fn proof(world: &World, network: &NetworkId, author: &NodeId) -> Vec<Vec<u8>> {
    let service = service_id(network, author, &label("app"));
    let documents = world.overlay(*author).proof(network, author, service).expect("the network");
    documents.iter().map(|bytes| bytes.to_vec()).collect()
}

fn ingress(world: &World, at: NodeId) -> Vec<Ingress> {
    world.overlay(at).ingress()
}

#[test]
fn a_member_publishes_its_own_workloads_and_an_admin_all() {
    let mut world = World::new();
    let (network, ids) = stage(&mut world);
    let others = expose(&mut world, ids[1], network, spec(&[(ids[2], "three")]));
    assert!(matches!(others, Err(Refusal::NotAnAdmin { .. })), "{others:?}");
    let nobody = expose(&mut world, ids[1], network, spec(&[(ids[1], "nobody")]));
    assert!(matches!(nobody, Err(Refusal::UnknownName { .. })), "{nobody:?}");
    let (service, changed) = expose(&mut world, ids[1], network, spec(&[(ids[1], "two")])).expect("its own");
    assert!(changed);
    let again = expose(&mut world, ids[1], network, spec(&[(ids[1], "two")])).expect("its own");
    assert_eq!(again, (service, false), "asked twice it signs once");
    let both = spec(&[(ids[1], "two"), (ids[2], "three")]);
    expose(&mut world, ids[0], network, both).expect("the admin's right");
    world.run(SOON);
    // Each node sees its own part: who may come for which port.
    assert_eq!(ingress(&world, ids[0]), []);
    let at_two = ingress(&world, ids[1]);
    assert_eq!(at_two.len(), 2);
    assert!(at_two.iter().all(|one| one.gateway == gateway() && one.ports.len() == 1));
    assert_eq!(ingress(&world, ids[2]).len(), 1);
    // Backends of one member as another signs them by hand count for nothing.
    let forged = Draft {
        network,
        grant: NO_GRANT,
        subject: subject(5),
        generation: 0,
        seq: 1,
        issued: EPOCH,
        expires: EPOCH + 3600,
        body: body(ids[2], "three"),
    };
    let forged = forged.sign(&identity(2));
    bring(&mut world, ids[2], network, forged.bytes.to_vec());
    let fate = world.overlay(ids[2]).state(&network).expect("the network").fates[&forged.id];
    assert!(matches!(fate, Fate::Idle(reason) if reason.contains("another member")), "{fate:?}");
    assert_eq!(ingress(&world, ids[2]).len(), 1);
}

fn subject(n: u8) -> [u8; 32] {
    let mut subject = [0; 32];
    subject[31] = n;
    subject
}

fn body(home: NodeId, name: &str) -> Body {
    let backend = PublishedBackend { home: *home.as_bytes(), workload: label(name), port: 80, weight: 1 };
    Body::Publish(Publish {
        gateway: *gateway().as_bytes(),
        mode: PublishMode::Tcp,
        hosts: vec![],
        backends: vec![backend],
        settings: vec![],
        removed: false,
        recovery: None,
    })
}

fn bring(world: &mut World, to: NodeId, network: NetworkId, document: Vec<u8>) {
    world.with(to, |overlay, now| overlay.import(network, vec![document], now)).expect("well-formed");
}

#[test]
fn a_statement_lives_seven_days_at_most_and_is_renewed_long_before() {
    let mut world = World::new();
    let (network, ids) = stage(&mut world);
    let sign = |issued: u64, expires: u64| {
        let (grant, subject, body) = (NO_GRANT, subject(9), body(identity(2).node_id(), "two"));
        Draft { network, grant, subject, generation: 0, seq: issued, issued, expires, body }
            .sign(&identity(2))
    };
    for (issued, expires) in [(EPOCH, 0), (EPOCH, EPOCH), (EPOCH, EPOCH + PUBLISH_LIFE + 1)] {
        let document = sign(issued, expires).bytes.to_vec();
        let refused = world.with(ids[2], |overlay, now| overlay.import(network, vec![document], now));
        assert!(refused.is_err(), "{issued} to {expires}");
    }
    // Dated ahead, it would live longer.
    let ahead = sign(EPOCH + 40 * 86_400, EPOCH + 41 * 86_400);
    bring(&mut world, ids[2], network, ahead.bytes.to_vec());
    assert_eq!(ingress(&world, ids[1]), []);
    expose(&mut world, ids[1], network, spec(&[(ids[1], "two")])).expect("its own");
    let number = |world: &World| {
        let published = world.overlay(ids[1]).published(&network).expect("the network");
        published.iter().find(|one| one.hosts == ["app"]).map(|one| (one.seq, one.expires))
    };
    let (first, expires) = number(&world).expect("it is published");
    assert_eq!(expires, world.seconds() + PUBLISH_LIFE);
    world.run(3 * DAY);
    assert_eq!(number(&world).map(|(seq, _)| seq), Some(first));
    world.run(DAY);
    let (second, later) = number(&world).expect("it is published");
    assert!(second > first && later > expires, "it was renewed at half of its life");
    // Over a restart what was asked for is known.
    world.restart(ids[1]).expect("it starts again");
    world.run(4 * DAY);
    assert!(number(&world).expect("it is published").0 > second);
    assert_eq!(ingress(&world, ids[1]).len(), 1);
}

#[test]
fn what_is_taken_back_ends_everywhere_and_the_older_word_does_not_come_back() {
    let mut world = World::new();
    let (network, ids) = stage(&mut world);
    let both = spec(&[(ids[1], "two"), (ids[2], "three")]);
    expose(&mut world, ids[0], network, both).expect("the admin's right");
    world.run(SOON);
    let old = proof(&world, &network, &ids[0]);
    let mut claims = Claims::default();
    let (_, claimed) = claims.take(&old, world.seconds()).expect("good documents");
    assert_eq!((claimed.claims.len(), claimed.claims[0].removed), (1, false));
    assert_eq!(
        claimed.claims[0].backends.iter().map(|b| b.node).collect::<Vec<_>>(),
        [Some(ids[1].min(ids[2])), Some(ids[1].max(ids[2]))]
    );
    world.with(ids[0], |overlay, now| overlay.unexpose(network, &label("app"), now)).expect("its own");
    world.run(SOON);
    assert_eq!((ingress(&world, ids[1]), ingress(&world, ids[2])), (vec![], vec![]));
    let gone = proof(&world, &network, &ids[0]);
    let (_, claimed) = claims.take(&gone, world.seconds()).expect("good documents");
    assert!(claimed.claims[0].removed && claimed.claims[0].backends.is_empty());
    // Whoever kept the older word brings it again, now and after a restart of the gateway.
    let kept: Vec<Vec<u8>> = claims.documents(&network).iter().map(|bytes| bytes.to_vec()).collect();
    let mut claims = Claims::default();
    claims.take(&kept, world.seconds()).expect("its own");
    for days in [0, 6, 7] {
        let (_, claimed) = claims.take(&old, world.seconds() + days * 86_400).expect("good documents");
        assert!(claimed.claims.iter().all(|claim| claim.removed), "after {days} days");
    }
    let (_, claimed) = claims.take(&old, world.seconds() + 9 * 86_400).expect("good documents");
    assert_eq!(claimed.claims, [], "both are over");
}

#[test]
fn a_gateway_believes_what_is_proved_and_nothing_else() {
    let mut world = World::new();
    let (network, ids) = stage(&mut world);
    expose(&mut world, ids[1], network, spec(&[(ids[1], "two")])).expect("its own");
    world.run(SOON);
    let whole = proof(&world, &network, &ids[1]);
    let unix = world.seconds();
    let claims_of =
        |documents: &[Vec<u8>]| Claims::default().take(documents, unix).map(|(_, claimed)| claimed);
    let claimed = claims_of(&whole).expect("good documents");
    let claim = &claimed.claims[0];
    assert_eq!((claim.network, claim.author, claim.gateway), (network, ids[1], gateway()));
    assert_eq!((claim.backends[0].node, claim.hosts.as_slice()), (Some(ids[1]), &["app".to_owned()][..]));
    assert!(claim.head_issued.is_some());
    // In any order, and in parts.
    let mut backwards = whole.clone();
    backwards.reverse();
    assert_eq!(claims_of(&backwards).expect("good documents").claims, claimed.claims);
    // Without one of the documents it rests on it is less, never more.
    for without in 0..whole.len() {
        let mut part = whole.clone();
        part.remove(without);
        let less = claims_of(&part).expect("good documents");
        let served = less.claims.iter().filter(|claim| claim.backends.iter().any(|b| b.node.is_some()));
        assert!(served.count() <= 1 && less.claims.len() <= 1);
    }
    let last: Vec<_> = whole.iter().cloned().rev().take(1).collect();
    let alone = claims_of(&last).expect("a good document");
    assert_eq!((alone.claims.len(), alone.idle.len()), (0, 1), "{alone:?}");
    // A bit that was turned is found.
    let mut wrong = whole.clone();
    let end = wrong.last_mut().and_then(|bytes| bytes.last_mut()).expect("bytes");
    *end ^= 1;
    assert!(claims_of(&wrong).is_err());
    assert!(claims_of(&[]).is_err());
}

#[test]
fn who_was_revoked_publishes_nothing_whether_or_not_it_says_so() {
    let mut world = World::new();
    let (network, ids) = stage(&mut world);
    expose(&mut world, ids[1], network, spec(&[(ids[1], "two")])).expect("its own");
    world.run(SOON);
    let before = proof(&world, &network, &ids[1]);
    let mut claims = Claims::default();
    assert_eq!(claims.take(&before, world.seconds()).expect("good").1.claims.len(), 1);
    world
        .with(ids[0], |overlay, now| overlay.revoke(network, Revoked::Member(ids[1]), now))
        .expect("an admin");
    world.run(SOON);
    assert_eq!(ingress(&world, ids[1]), [], "its own node grants nothing");
    // The admin's node tells the gateway, since the revoked one will not.
    let notices = world.overlay(ids[0]).notices(&network).expect("the network");
    assert_eq!(notices.iter().map(|(to, _)| *to).collect::<Vec<_>>(), [gateway()]);
    let notice: Vec<Vec<u8>> = notices[0].1.iter().map(|bytes: &Arc<[u8]>| bytes.to_vec()).collect();
    let (_, claimed) = claims.take(&notice, world.seconds()).expect("good documents");
    assert_eq!(claimed.claims, []);
    let (_, claimed) = claims.take(&before, world.seconds()).expect("good documents");
    assert_eq!(claimed.claims, [], "its papers of before");
    // A newer HEAD alone is enough: it names what was revoked.
    let mut claims = Claims::default();
    claims.take(&before, world.seconds()).expect("good documents");
    let state = world.overlay(ids[0]).state(&network).expect("the network");
    let head = state.head.as_ref().expect("a head").id;
    let grant = state.admins[&ids[0]].id;
    let all = world.overlay(ids[0]).export(&network).expect("documents");
    let wanted = |bytes: &&Vec<u8>| [head, grant].contains(&id_of(bytes, &network));
    let head: Vec<Vec<u8>> = all.iter().filter(wanted).cloned().collect();
    assert_eq!(head.len(), 2);
    let (_, claimed) = claims.take(&head, world.seconds()).expect("good documents");
    assert_eq!(claimed.claims, [], "{claimed:?}");
    assert_eq!(claimed.idle.iter().map(|idle| idle.reason).collect::<Vec<_>>(), ["its author was revoked"]);
}

fn id_of(bytes: &[u8], network: &NetworkId) -> [u8; 32] {
    sinew_overlay::Unverified::parse(bytes, network).expect("a document").id
}

#[test]
fn a_name_is_published_and_not_the_place_that_it_has_now() {
    let mut world = World::new();
    let (network, ids) = stage(&mut world);
    expose(&mut world, ids[1], network, spec(&[(ids[1], "two")])).expect("its own");
    world.run(SOON);
    let place = |world: &World| ingress(world, ids[1])[0].ports[0].addresses.last().copied();
    let first = place(&world).expect("it runs");
    world.with(ids[1], |overlay, now| overlay.remove(network, &label("two"), now)).expect("it runs");
    let next =
        world.with(ids[1], |overlay, now| overlay.place(network, workload("next"), now)).expect("room");
    assert_eq!(IpAddr::V6(next.ipv6), first, "the place goes to the next one");
    world.run(SOON);
    assert_eq!(place(&world), None, "the gateway is told that it is not there");
    let claimed = Claims::default().take(&proof(&world, &network, &ids[1]), world.seconds()).expect("good").1;
    assert_eq!(claimed.claims[0].backends[0].node, None);
    let back = world.with(ids[1], |overlay, now| overlay.place(network, workload("two"), now)).expect("room");
    world.run(SOON);
    assert_ne!(IpAddr::V6(back.ipv6), first);
    assert_eq!(place(&world), Some(IpAddr::V6(back.ipv6)));
    let claimed = Claims::default().take(&proof(&world, &network, &ids[1]), world.seconds()).expect("good").1;
    assert_eq!(claimed.claims[0].backends[0].node, Some(ids[1]));
}

#[test]
fn an_admin_without_the_scope_publishes_its_own_only() {
    let mut world = World::new();
    let (network, ids) = stage(&mut world);
    let key = identity(1000);
    let documents = world.overlay(ids[0]).export(&network).expect("documents");
    let owner = sinew_overlay::Owner::read(&key, &documents, world.seconds()).expect("its own documents");
    let numbers = (200, 210);
    let grant = Grant { scopes: Grant::ADMIT, numbers, longest: None };
    for signed in owner.grant(ids[1], grant, None).expect("the owner may") {
        bring(&mut world, ids[1], network, signed.bytes.to_vec());
    }
    let others = expose(&mut world, ids[1], network, spec(&[(ids[2], "three")]));
    assert!(matches!(others, Err(Refusal::NotAnAdmin { .. })), "{others:?}");
    assert!(expose(&mut world, ids[1], network, spec(&[(ids[1], "two")])).is_ok());
}
