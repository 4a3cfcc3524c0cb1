//! Whole nodes and the networks' own machine: from a founding to a ping, with nothing made by hand.

use std::net::IpAddr;
use std::time::Duration;

use sinew_node::overlay::{
    self, AdmitSpec, Change, Founding, InviteSpec, Placed, Range4, Revoked, TicketKind,
};
use sinew_node::overlay::{StoredNetwork, WorkloadSpec, found};
use sinew_node::{Accept, Config, Event, Interface, Offloads, PeerConfig};
use sinew_types::{Class, DropReason, Identity, InterfaceId, Label, Metric, NetworkId};
use sinew_wire::virtio::VirtioNetHdr;

use crate::common::Net;
use crate::common::lab::{drops, echo};

const SETTLE: Duration = Duration::from_secs(12);
const SECOND: Duration = Duration::from_secs(1);
const UNIX: u64 = 1_800_000_000;

fn label(text: &str) -> Label {
    Label::parse(text).expect("a label")
}

fn owner() -> Identity {
    Identity::from_seed([0xee; 32])
}

/// Founds a network on node `at`, which is its first member and admin.
fn create(net: &mut Net, at: usize) -> NetworkId {
    let founding = Founding {
        name: label("lab"),
        range: Some(Range4 { first: [10, 7, 0, 0].into(), len: 16, member_len: 24 }),
        strict: false,
        admin: net.ids[at],
        admin_name: None,
        groups: vec![],
        numbers: None,
    };
    let documents = found(&owner(), &founding, UNIX).expect("a founding");
    act(net, at, |overlay, now| overlay.adopt("lab", documents, now)).expect("it is adopted")
}

fn act<R>(
    net: &mut Net,
    at: usize,
    work: impl FnOnce(&mut overlay::Overlay, sinew_types::Instant) -> R,
) -> R {
    let now = net.now;
    let result = net.nodes[at].with_overlay(now, work);
    net.drain(at);
    result
}

/// Node `admin` admits node `at`, which joins by its ticket.
fn join(net: &mut Net, network: NetworkId, admin: usize, at: usize) {
    let spec = InviteSpec {
        kind: TicketKind::Pinned(net.ids[at]),
        groups: vec![],
        name: None,
        lasts: None,
        contacts: vec![],
    };
    let ticket = act(net, admin, |overlay, now| overlay.invite(network, spec, now)).expect("a ticket");
    act(net, at, |overlay, now| overlay.join(ticket, None, now)).expect("the ticket is good");
}

/// A workload on node `at`, with its device.
fn place(net: &mut Net, network: NetworkId, at: usize, name: &str) -> (InterfaceId, Placed) {
    let spec = WorkloadSpec { name: label(name), ipv4: None, groups: None, services: vec![], key: None };
    let placed = act(net, at, |overlay, now| overlay.place(network, spec, now)).expect("a place");
    let id = InterfaceId(1 + net.nodes[at].interfaces().len() as u32);
    let interface = Interface {
        network,
        ipv4: placed.ipv4,
        ipv6: placed.ipv6,
        gateway_ipv4: placed.resolver.0,
        gateway_ipv6: Some(placed.resolver.1),
        offloads: Offloads::ALL,
        mtu: 1416,
    };
    let now = net.now;
    net.nodes[at].add_interface(id, interface, now);
    net.drain(at);
    (id, placed)
}

fn send(net: &mut Net, at: usize, from: InterfaceId, packet: &[u8]) {
    let now = net.now;
    net.nodes[at].handle_tun(from, VirtioNetHdr::default(), &mut packet.to_vec(), now);
    net.drain(at);
}

fn taken(net: &mut Net, at: usize) -> Vec<(InterfaceId, Vec<u8>)> {
    std::mem::take(&mut net.workloads[at]).into_iter().map(|(id, _, packet)| (id, packet)).collect()
}

fn joined(net: &Net, at: usize) -> bool {
    let done = |event: &(usize, Event)| {
        event.0 == at && matches!(event.1, Event::Overlay(overlay::Event::JoinDone { result: Ok(()), .. }))
    };
    net.events.iter().any(done)
}

/// A line of nodes; the first and the last are members, each with a workload.
fn line_with_ends(count: usize) -> (Net, NetworkId, [(InterfaceId, Placed); 2]) {
    line_with_ends_of(count, Class::Router)
}

/// As [`line_with_ends`]; `class` is the last one's.
fn line_with_ends_of(count: usize, class: Class) -> (Net, NetworkId, [(InterfaceId, Placed); 2]) {
    let links: Vec<_> = (1..count).map(|i| (i, i - 1)).collect();
    let mut net = Net::with(count, &links, |i, config| Config {
        class: if i + 1 == count { class } else { Class::Router },
        ..config
    });
    net.run(SETTLE);
    let network = create(&mut net, 0);
    let last = count - 1;
    join(&mut net, network, 0, last);
    assert!(net.run_until(5 * SECOND, |net| joined(net, last)), "it joined");
    let ends = [place(&mut net, network, 0, "alpha"), place(&mut net, network, last, "beta")];
    net.run(SECOND);
    (net, network, ends)
}

#[test]
fn a_newcomer_with_a_pinned_ticket_is_pinged_over_a_relay_that_is_no_member() {
    for count in [2, 3] {
        let (mut net, network, [(a, alpha), (b, beta)]) = line_with_ends(count);
        let last = count - 1;
        for (from, to) in [
            (IpAddr::V4(alpha.ipv4.expect("IPv4")), IpAddr::V4(beta.ipv4.expect("IPv4"))),
            (alpha.ipv6.into(), beta.ipv6.into()),
        ] {
            let (request, reply) = (echo(from, to, false), echo(to, from, true));
            send(&mut net, 0, a, &request);
            net.run(SECOND);
            assert_eq!(taken(&mut net, last), [(b, request)]);
            send(&mut net, last, b, &reply);
            net.run(SECOND);
            assert_eq!(taken(&mut net, 0), [(a, reply)]);
        }
        for relay in 1..last {
            assert!(net.nodes[relay].overlay().networks().is_empty(), "the relay knows of no network");
            assert!(net.nodes[relay].overlay().state(&network).is_err());
        }
    }
}

#[test]
fn a_stub_that_knows_no_route_finds_a_member_by_its_documents() {
    let (mut net, _, [(a, alpha), (b, beta)]) = line_with_ends_of(3, Class::Stub);
    // It has no session with the member, and nobody tells it whose an address is.
    let uri = format!("sinew://{}@10.0.0.99:1?via=udp", net.ids[0]).parse().expect("a URI");
    let (now, far) = (net.now, net.ids[0]);
    net.nodes[2].add_peer(PeerConfig { uri, cost: Metric::ZERO }, now);
    assert!(net.nodes[2].remove_peer(&far, now));
    net.drain(2);
    let packet = echo(beta.ipv6, alpha.ipv6, false);
    send(&mut net, 2, b, &packet);
    net.run(SECOND);
    assert_eq!(taken(&mut net, 0), [(a, packet)]);
}

#[test]
fn packets_sent_before_the_session_and_its_handle_stand_arrive() {
    let (mut net, _, [(a, alpha), (b, beta)]) = line_with_ends(3);
    // The session is closed here, and with it all that was agreed.
    let uri = format!("sinew://{}@10.0.0.99:1?via=udp", net.ids[2]).parse().expect("a URI");
    let (now, far) = (net.now, net.ids[2]);
    net.nodes[0].add_peer(PeerConfig { uri, cost: Metric::ZERO }, now);
    assert!(net.nodes[0].remove_peer(&far, now));
    assert!(!net.nodes[0].overlay().snapshot().outgoing(&far.address(), alpha.slot));
    let packet = echo(alpha.ipv6, beta.ipv6, false);
    send(&mut net, 0, a, &packet);
    net.run(SECOND);
    assert_eq!(taken(&mut net, 2), [(b, packet)]);
}

#[test]
fn a_revoked_member_is_cut_at_once_by_everybody_whom_the_news_reaches() {
    let (mut net, network, [(a, alpha), (b, beta)]) = line_with_ends(2);
    let packet = echo(beta.ipv6, alpha.ipv6, false);
    send(&mut net, 1, b, &packet);
    net.run(SECOND);
    assert_eq!(taken(&mut net, 0), [(a, packet.clone())]);
    // Nothing reaches the one that is revoked, so it goes on as if nothing had happened.
    net.tap = Some(Box::new(|flying| if flying.to == 1 { vec![] } else { vec![flying] }));
    let member = Revoked::Member(net.ids[1]);
    act(&mut net, 0, |overlay, now| overlay.revoke(network, member, now)).expect("an admin may");
    send(&mut net, 0, a, &echo(alpha.ipv6, beta.ipv6, false));
    assert_eq!(drops(&net, 0, DropReason::NoPlace), 1, "nothing goes there any more");
    assert_eq!(taken(&mut net, 0).len(), 1, "the sender is told");
    send(&mut net, 1, b, &packet);
    net.run(Duration::from_millis(100));
    assert_eq!(drops(&net, 0, DropReason::NotBound), 1, "and the handle of a moment ago is worth nothing");
    assert!(taken(&mut net, 0).is_empty());
    // When the news arrives, the revoked node itself knows that it is out.
    net.tap = None;
    net.run(10 * SECOND);
    send(&mut net, 1, b, &packet);
    assert_eq!(drops(&net, 1, DropReason::NotPlaced), 1);
}

#[test]
fn members_of_our_networks_are_no_strangers() {
    // Node 0 takes only the listed, and knows no way to node 1, which dials it.
    let strict = |i, config| Config { accept: if i == 0 { Accept::Listed } else { Accept::Any }, ..config };
    let mut net = Net::with(2, &[(1, 0)], strict);
    net.run(SETTLE);
    let network = create(&mut net, 0);
    assert_eq!(net.nodes[0].status(net.now).peers_up, 0);
    assert!(drops(&net, 0, DropReason::NotListed) > 0, "a stranger gets no answer");
    let spec = AdmitSpec { node: net.ids[1], groups: vec![], name: None, lasts: None };
    act(&mut net, 0, |overlay, now| overlay.admit(network, spec, now)).expect("an admin may");
    let linked = net.run_until(25 * SECOND, |net| net.nodes[0].status(net.now).peers_up == 1);
    assert!(linked, "a member does");
}

/// Everything a node wanted stored, as a shell would keep it.
fn stored(net: &Net, at: usize, network: NetworkId) -> StoredNetwork {
    let mut kept = StoredNetwork::default();
    let mut documents = std::collections::BTreeMap::new();
    let mut journal = std::collections::BTreeMap::new();
    for (_, event) in net.events.iter().filter(|(node, _)| *node == at) {
        let Event::Overlay(overlay::Event::Store { network: of, changes, .. }) = event else { continue };
        for change in changes.iter().filter(|_| *of == network) {
            match change.clone() {
                Change::PutDocument { id, bytes } => _ = documents.insert(id, bytes),
                Change::DropDocument { id } => _ = documents.remove(&id),
                Change::PutMeta(meta) => kept.meta = meta,
                Change::PutJournal { key, value } => _ = journal.insert(key, value),
                Change::DropJournal { key } => _ = journal.remove(&key),
            }
        }
    }
    kept.documents = documents.into_values().collect();
    kept.journal = journal.into_iter().collect();
    kept
}

#[test]
fn what_was_stored_brings_a_network_back_after_a_restart_with_nobody_to_ask() {
    let (net, network, [(_, alpha), _]) = line_with_ends(2);
    let kept = stored(&net, 0, network);
    let mut again = Net::new(1, &[]);
    act(&mut again, 0, |overlay, now| overlay.restore(network, kept, now)).expect("it is readable");
    let placed = again.nodes[0].overlay().placed(&network, &label("alpha")).expect("as before");
    assert_eq!((placed.ipv4, placed.ipv6), (alpha.ipv4, alpha.ipv6));
    assert_eq!(again.nodes[0].overlay().state(&network).map(|state| state.members.len()), Ok(2));
}
