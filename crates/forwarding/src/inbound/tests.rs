//! The three policies against packets of all kinds.

use sinew_types::Identity;
use sinew_wire::tcp;

use super::*;
use crate::fragments::FRAGMENTS_MAX;
use crate::offload::testing::{Model, echo_v6, extended_v6, fragment_v6};

/// Milliseconds after the filter has stopped picking up flows.
fn at(ms: u64) -> Instant {
    Instant::ZERO + PICK_UP + Duration::from_millis(ms)
}

fn filter(policy: InboundPolicy) -> Inbound {
    Inbound::new(policy, 1, Instant::ZERO)
}

/// A policy that opens services to everybody.
fn opened(services: &[Service]) -> InboundPolicy {
    InboundPolicy::Rules(services.iter().map(|&service| Rule::new(service, None)).collect())
}

fn tcp(port: u16) -> Service {
    Service::Tcp(Ports { first: port, last: port })
}

fn udp(first: u16, last: u16) -> Service {
    Service::Udp(Ports { first, last })
}

fn node() -> NodeId {
    Identity::from_seed([5; 32]).node_id()
}

fn swap(mut packet: Vec<u8>) -> Vec<u8> {
    let (src, dst) = (packet[8..24].to_vec(), packet[24..40].to_vec());
    packet[8..24].copy_from_slice(&dst);
    packet[24..40].copy_from_slice(&src);
    packet
}

/// A reply to the model's packet: addresses and ports the other way round.
fn reply(model: &Model) -> Vec<u8> {
    swap(Model { ports: (model.ports.1, model.ports.0), ..model.clone() }.build())
}

/// A packet from `from`, as if it came in.
fn called(model: &Model, from: NodeId) -> Vec<u8> {
    let mut packet = model.build();
    packet[8..24].copy_from_slice(from.address().as_bytes());
    packet
}

fn inbound(filter: &mut Inbound, packet: &[u8], ms: u64) -> bool {
    let info = PacketInfo::parse(packet).unwrap();
    let result = filter.inbound(packet, &info, at(ms));
    assert!(matches!(result, Ok(()) | Err(DropReason::InboundClosed)));
    result.is_ok()
}

fn outbound(filter: &mut Inbound, packet: &[u8], ms: u64) {
    filter.outbound(packet, &PacketInfo::parse(packet).unwrap(), at(ms));
}

fn with_icmp(packet: &[u8], kind: u8) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[40] = kind;
    packet
}

#[test]
fn by_default_only_replies_and_echo_come_in() {
    for model in [Model::tcp(false, 10), Model::udp(false, 10)] {
        let mut filter = filter(InboundPolicy::Established);
        assert!(!inbound(&mut filter, &reply(&model), 0), "unasked");
        outbound(&mut filter, &model.build(), 0);
        assert!(inbound(&mut filter, &reply(&model), 1));
        let other = Model { ports: (model.ports.0, 80), ..model.clone() };
        assert!(!inbound(&mut filter, &reply(&other), 1), "another port");
        let other = Model { host: 9, ..model.clone() };
        assert!(!inbound(&mut filter, &reply(&other), 1), "another address");
    }
    let mut filter = filter(InboundPolicy::Established);
    assert!(inbound(&mut filter, &echo_v6(8), 0));
    // Echo reply, router advertisement, neighbour solicitation, redirect, multicast listener query.
    for kind in [129, 134, 135, 137, 130] {
        assert!(!inbound(&mut filter, &with_icmp(&echo_v6(8), kind), 0), "type {kind}");
    }
}

#[test]
fn an_echo_reply_comes_in_for_its_request_only() {
    let mut filter = filter(InboundPolicy::Established);
    outbound(&mut filter, &echo_v6(8), 0);
    let answer = swap(with_icmp(&echo_v6(8), 129));
    assert!(inbound(&mut filter, &answer, 10));
    let mut other = answer.clone();
    other[45] ^= 1;
    assert!(!inbound(&mut filter, &other, 10), "another identifier");
    assert!(!inbound(&mut filter, &answer, 1_000_000), "too late");
}

#[test]
fn a_rule_opens_its_service_to_its_node_and_tracks_nothing() {
    let node = node();
    let stranger = Identity::from_seed([6; 32]).node_id();
    let rules = [(tcp(443), Some(node)), (udp(53, 54), None), (tcp(80), None)];
    let rules = rules.map(|(service, from)| Rule::new(service, from));
    let mut filter = filter(InboundPolicy::Rules(rules.to_vec()));
    let call_tcp = |port| Model { ports: (5555, port), ..Model::tcp(false, 5) };
    let call_udp = |port| Model { ports: (5555, port), ..Model::udp(false, 5) };
    let table = [
        (call_tcp(443), node, true),
        (call_tcp(443), stranger, false),
        (call_tcp(80), stranger, true),
        (call_tcp(81), node, false),
        (call_udp(53), stranger, true),
        (call_udp(54), stranger, true),
        (call_udp(55), stranger, false),
        (call_udp(443), node, false),
    ];
    for (model, from, expected) in table {
        assert_eq!(inbound(&mut filter, &called(&model, from), 0), expected, "{:?} {from:?}", model.ports);
    }
    let echo = swap(echo_v6(1));
    assert!(!inbound(&mut filter, &echo, 0), "echo is not listed");
    filter.set_policy(opened(&[Service::Icmp]));
    assert!(inbound(&mut filter, &echo, 0));

    // The answers of an open service leave no trace, however many call.
    filter.set_policy(opened(&[tcp(443)]));
    for port in 0..1000 {
        let answer = Model { ports: (443, port), ..Model::tcp(false, 5) };
        outbound(&mut filter, &answer.build(), 0);
    }
    assert_eq!(filter.flows(), 0);
}

#[test]
fn all_lets_everything_in_and_tracks_nothing() {
    let mut filter = filter(InboundPolicy::All);
    outbound(&mut filter, &Model::tcp(false, 1).build(), 0);
    assert_eq!(filter.flows(), 0);
    let later = fragment_v6(&Model::udp(false, 100).build(), 4, false);
    let packets: [Vec<u8>; 3] = [Model::tcp(false, 1).build(), with_icmp(&echo_v6(1), 134), later];
    for packet in packets {
        assert!(inbound(&mut filter, &packet, 0));
    }
}

#[test]
fn extension_headers_are_walked_and_too_many_are_closed() {
    let model = Model { options: vec![], ..Model::tcp(false, 5) };
    let mut filter = filter(opened(&[tcp(443)]));
    let closed = Model { ports: (1, 442), ..model.clone() };
    for headers in 0..=8 {
        assert!(inbound(&mut filter, &extended_v6(&model.build(), headers), 0), "{headers}");
        assert!(!inbound(&mut filter, &extended_v6(&closed.build(), headers), 0), "{headers}, closed port");
    }
    assert!(!inbound(&mut filter, &extended_v6(&model.build(), 9), 0));
}

#[test]
fn later_fragments_pass_for_a_second_behind_an_accepted_first() {
    let open = Model { ports: (1, 53), ..Model::udp(false, 160) }.build();
    let closed = Model { ports: (1, 54), ..Model::udp(false, 160) }.build();
    let later = fragment_v6(&open, 21, false);
    let mut filter = filter(opened(&[udp(53, 53)]));
    assert!(!inbound(&mut filter, &later, 0), "no first one");
    assert!(!inbound(&mut filter, &fragment_v6(&closed, 0, true), 0));
    assert!(!inbound(&mut filter, &later, 0), "the first was refused");
    assert!(inbound(&mut filter, &fragment_v6(&open, 0, true), 0));
    assert!(inbound(&mut filter, &later, 999));
    let mut other = later.clone();
    other[47] ^= 1;
    assert!(!inbound(&mut filter, &other, 999), "another packet's");
    assert!(!inbound(&mut filter, &later, 1000), "too late");
}

#[test]
fn the_memory_of_fragments_is_bounded() {
    let mut filter = filter(opened(&[udp(53, 53)]));
    let mut first = fragment_v6(&Model { ports: (1, 53), ..Model::udp(false, 160) }.build(), 0, true);
    for i in 0..5000u16 {
        first[44..46].copy_from_slice(&i.to_be_bytes());
        assert!(inbound(&mut filter, &first, u64::from(i) / 100));
        assert!(filter.fragments.len() <= FRAGMENTS_MAX);
    }
}

#[test]
fn errors_come_in_if_they_quote_an_open_flow_from_where_it_went() {
    let mut filter = filter(InboundPolicy::Established);
    let ours = Model::udp(false, 100);
    let error = |quoted: &[u8]| {
        let mut packet = swap(ours.build());
        packet[6] = 58;
        packet.truncate(40);
        packet.extend([1, 4, 0, 0, 0, 0, 0, 0]);
        packet.extend(quoted);
        let len = (packet.len() as u16 - 40).to_be_bytes();
        packet[4..6].copy_from_slice(&len);
        packet
    };
    let quoted = ours.build();
    assert!(!inbound(&mut filter, &error(&quoted), 0), "no such flow");
    outbound(&mut filter, &quoted, 0);
    assert!(inbound(&mut filter, &error(&quoted), 1));
    assert!(inbound(&mut filter, &error(&quoted[..48]), 1), "eight bytes of transport are enough");
    assert!(!inbound(&mut filter, &error(&swap(quoted.clone())), 1), "not our packet");
    let other = Model { ports: (1, 2), ..ours.clone() }.build();
    assert!(!inbound(&mut filter, &error(&other), 1), "another flow");
    assert!(!inbound(&mut filter, &error(&quoted[..30]), 1), "too short to tell");
    let mut elsewhere = error(&quoted);
    elsewhere[23] ^= 1;
    assert!(!inbound(&mut filter, &elsewhere, 1), "from another node");
}

#[test]
fn a_filter_that_starts_picks_up_tcp_flows_in_mid_stream_and_nothing_else() {
    let just_started = || Inbound::new(InboundPolicy::Established, 1, at(0));
    let segment = |flags| called(&Model { flags, ..Model::tcp(false, 0) }, node());
    assert!(inbound(&mut just_started(), &segment(tcp::ACK), 1000));
    assert!(!inbound(&mut just_started(), &segment(tcp::SYN), 1000));
    assert!(!inbound(&mut just_started(), &segment(tcp::RST | tcp::ACK), 1000));
    let late = PICK_UP.as_millis() as u64;
    assert!(!inbound(&mut just_started(), &segment(tcp::ACK), late));
    let mut filter = just_started();
    assert!(inbound(&mut filter, &segment(tcp::ACK), late - 1));
    assert!(inbound(&mut filter, &segment(tcp::ACK), late + 1), "a flow picked up stays known");
}
