//! Packets of all kinds against a policy, both ways.

use sinew_wire::tcp;

use super::*;
use crate::offload::testing::{Model, echo_v6, extended_v6, fragment_v6};

/// Milliseconds after the device has stopped picking up flows.
fn at(ms: u64) -> Instant {
    Instant::ZERO + PICK_UP_FOR + Duration::from_millis(ms)
}

/// A device with a policy: the openings it allows.
struct Device {
    flows: WorkloadFlows,
    allowed: Vec<Opening>,
    rules: u32,
}

fn opening(by_workload: bool, protocol: u8, port: u16) -> Opening {
    Opening { by_workload, protocol, port: Some(port) }
}

impl Device {
    fn new(allowed: &[Opening]) -> Self {
        Self { flows: WorkloadFlows::new(1, Instant::ZERO), allowed: allowed.to_vec(), rules: 1 }
    }

    fn pass(&mut self, way: Way, packet: &[u8], ms: u64) -> bool {
        let info = PacketInfo::parse(packet).unwrap();
        let allowed = &self.allowed;
        self.flows.pass(way, packet, &info, self.rules, at(ms), |asked| allowed.contains(&asked))
    }

    /// The documents change: from now on only this may be opened.
    fn change(&mut self, allowed: &[Opening]) {
        self.allowed = allowed.to_vec();
        self.rules += 1;
    }
}

/// Addresses the other way round.
fn swap(mut packet: Vec<u8>) -> Vec<u8> {
    let (src, dst) = (packet[8..24].to_vec(), packet[24..40].to_vec());
    packet[8..24].copy_from_slice(&dst);
    packet[24..40].copy_from_slice(&src);
    packet
}

/// A reply to the model's packet.
fn reply(model: &Model) -> Vec<u8> {
    swap(Model { ports: (model.ports.1, model.ports.0), ..model.clone() }.build())
}

const TCP: u8 = 6;
const UDP: u8 = 17;

/// A call from the workload's side of the model's two addresses.
fn call(protocol: u8, to: u16) -> Model {
    let model = if protocol == TCP { Model::tcp(false, 100) } else { Model::udp(false, 100) };
    Model { ports: (5555, to), ..model }
}

#[test]
fn whoever_may_open_a_flow_gets_replies_and_nobody_else_gets_anything() {
    for protocol in [TCP, UDP] {
        for (by_workload, there, back) in [(true, Way::Out, Way::In), (false, Way::In, Way::Out)] {
            let mut device = Device::new(&[opening(by_workload, protocol, 80)]);
            let model = call(protocol, 80);
            assert!(!device.pass(back, &reply(&model), 0), "a reply to nothing");
            assert!(!device.pass(there, &call(protocol, 81).build(), 0), "another port");
            assert!(!device.pass(back, &call(protocol, 80).build(), 0), "the other side");
            assert!(device.flows.is_empty(), "what is refused leaves nothing");
            assert!(device.pass(there, &model.build(), 1));
            assert!(device.pass(back, &reply(&model), 2));
            assert!(device.pass(there, &model.build(), 3));
            let ours = usize::from(by_workload);
            assert_eq!(device.flows.len(), (ours, 1 - ours));
            let stray = Model { ports: (5556, 80), ..model };
            assert!(!device.pass(back, &reply(&stray), 4), "a reply to another flow");
        }
    }
}

#[test]
fn a_change_of_rules_ends_the_flows_that_may_not_be_opened_any_more() {
    for (by_workload, there, back) in [(true, Way::Out, Way::In), (false, Way::In, Way::Out)] {
        let rule = opening(by_workload, UDP, 53);
        for first in [there, back] {
            let mut device = Device::new(&[rule]);
            let model = call(UDP, 53);
            assert!(device.pass(there, &model.build(), 0) && device.pass(back, &reply(&model), 0));
            device.change(&[rule, opening(by_workload, TCP, 80)]);
            assert!(device.pass(back, &reply(&model), 1), "still allowed");
            device.change(&[]);
            let packet = |way| if way == there { model.build() } else { reply(&model) };
            assert!(!device.pass(first, &packet(first), 2));
            assert!(!device.pass(there, &model.build(), 3) && !device.pass(back, &reply(&model), 3));
            device.change(&[rule]);
            assert!(!device.pass(back, &reply(&model), 4) || first == there);
            assert!(device.pass(there, &model.build(), 5) && device.pass(back, &reply(&model), 5));
        }
    }
}

#[test]
fn an_echo_is_answered_under_its_own_identifier_only() {
    for (by_workload, there, back) in [(true, Way::Out, Way::In), (false, Way::In, Way::Out)] {
        let mut device = Device::new(&[Opening { by_workload, protocol: 58, port: None }]);
        let mut answer = swap(echo_v6(8));
        answer[40] = 129;
        assert!(!device.pass(back, &answer, 0), "unasked");
        assert!(!device.pass(back, &echo_v6(8), 0), "the other side asks");
        assert!(device.pass(there, &echo_v6(8), 0));
        assert!(device.pass(back, &answer, 1));
        answer[45] ^= 1;
        assert!(!device.pass(back, &answer, 1), "another identifier");
    }
}

#[test]
fn icmp_of_one_link_never_passes() {
    let mut device = Device::new(&[
        Opening { by_workload: true, protocol: 58, port: None },
        Opening { by_workload: false, protocol: 58, port: None },
    ]);
    for kind in [130, 133, 134, 135, 136, 137, 143] {
        let mut packet = echo_v6(8);
        packet[40] = kind;
        assert!(!device.pass(Way::Out, &packet, 0) && !device.pass(Way::In, &packet, 0), "type {kind}");
    }
}

#[test]
fn errors_pass_about_known_flows_between_the_two_and_no_others() {
    let error = |quoted: &[u8]| {
        let mut packet = swap(quoted[..40].to_vec());
        packet[6] = 58;
        packet.extend([1, 4, 0, 0, 0, 0, 0, 0]);
        packet.extend(quoted);
        let len = (packet.len() as u16 - 40).to_be_bytes();
        packet[4..6].copy_from_slice(&len);
        packet
    };
    for (by_workload, there, back) in [(true, Way::Out, Way::In), (false, Way::In, Way::Out)] {
        let mut device = Device::new(&[opening(by_workload, UDP, 53)]);
        let model = call(UDP, 53);
        assert!(!device.pass(back, &error(&model.build()), 0), "no such flow");
        assert!(device.pass(there, &model.build(), 0));
        assert!(device.pass(back, &error(&model.build()), 1), "about the call");
        assert!(device.pass(there, &error(&reply(&model)), 1), "about the reply");
        assert!(!device.pass(there, &error(&model.build()), 1), "the caller about its own call");
        let mut elsewhere = error(&model.build());
        elsewhere[23] ^= 1;
        assert!(!device.pass(back, &elsewhere, 1), "from a third place");
        let stray = Model { ports: (5556, 53), ..model };
        assert!(!device.pass(back, &error(&stray.build()), 1), "another flow");
    }
}

#[test]
fn extension_headers_are_walked_and_what_cannot_be_walked_is_closed() {
    let mut device = Device::new(&[opening(false, UDP, 53)]);
    let (open, closed) = (call(UDP, 53).build(), call(UDP, 54).build());
    for headers in 0..=8 {
        assert!(device.pass(Way::In, &extended_v6(&open, headers), 0), "{headers}");
        assert!(!device.pass(Way::In, &extended_v6(&closed, headers), 0), "{headers}, closed port");
    }
    assert!(!device.pass(Way::In, &extended_v6(&open, 9), 0));
}

#[test]
fn later_fragments_pass_for_a_second_behind_an_accepted_first() {
    let open = Model { ports: (1, 53), ..Model::udp(false, 160) }.build();
    let closed = Model { ports: (1, 54), ..Model::udp(false, 160) }.build();
    let later = fragment_v6(&open, 21, false);
    for (by_workload, way) in [(true, Way::Out), (false, Way::In)] {
        let mut device = Device::new(&[opening(by_workload, UDP, 53)]);
        assert!(!device.pass(way, &later, 0), "no first one");
        assert!(!device.pass(way, &fragment_v6(&closed, 0, true), 0));
        assert!(!device.pass(way, &later, 0), "the first was refused");
        assert!(device.pass(way, &fragment_v6(&open, 0, true), 0));
        assert!(device.pass(way, &later, 999));
        let mut other = later.clone();
        other[47] ^= 1;
        assert!(!device.pass(way, &other, 999), "another packet's");
        assert!(!device.pass(way, &later, 1000), "too late");
    }
}

#[test]
fn a_later_fragment_overwrites_nothing_of_the_first() {
    let open = Model { ports: (1, 80), ..Model::tcp(false, 160) }.build();
    let rest = &open[40 + 64..];
    // The first 64 bytes, and the others as if they began there or before.
    let first = {
        let mut cut = open[..104].to_vec();
        cut[4..6].copy_from_slice(&64u16.to_be_bytes());
        fragment_v6(&cut, 0, true)
    };
    let later = |offset: u16| {
        let mut cut = [&open[..40], rest].concat();
        cut[4..6].copy_from_slice(&(rest.len() as u16).to_be_bytes());
        fragment_v6(&cut, offset, false)
    };
    for way in [Way::Out, Way::In] {
        let mut device = Device::new(&[opening(way == Way::Out, TCP, 80)]);
        assert!(device.pass(way, &first, 0));
        for offset in 1..8 {
            assert!(!device.pass(way, &later(offset), 1), "at {}", offset * 8);
        }
        assert!(device.pass(way, &later(8), 1));
    }
}

#[test]
fn a_redirect_about_a_known_flow_is_no_error_of_anybody() {
    let mut device = Device::new(&[opening(true, UDP, 53)]);
    let call = Model { ports: (5555, 53), ..Model::udp(true, 20) }.build();
    assert!(device.pass(Way::Out, &call, 0));
    let error = |kind: u8| {
        let mut packet = call[..20].to_vec();
        packet[9] = 1;
        packet[12..16].copy_from_slice(&call[16..20]);
        packet[16..20].copy_from_slice(&call[12..16]);
        packet.extend([kind, 1, 0, 0, 10, 0, 0, 9]);
        packet.extend(&call);
        let len = (packet.len() as u16).to_be_bytes();
        packet[2..4].copy_from_slice(&len);
        packet
    };
    assert!(device.pass(Way::In, &error(3), 1));
    assert!(!device.pass(Way::In, &error(5), 1));
}

#[test]
fn a_call_is_a_call_whatever_other_flags_it_has() {
    let mut device = Device::new(&[opening(true, TCP, 80)]);
    let call = Model { flags: tcp::SYN, ..call(TCP, 80) };
    let answer = |flags| reply(&Model { flags, ..call.clone() });
    assert!(device.pass(Way::Out, &call.build(), 0));
    assert!(device.pass(Way::In, &answer(tcp::SYN | tcp::ACK), 1));
    for flags in [tcp::SYN, tcp::SYN | tcp::FIN, tcp::SYN | tcp::FIN | tcp::PSH | tcp::URG] {
        assert!(!device.pass(Way::In, &answer(flags), 2), "flags {flags:#x}");
    }
    assert!(device.pass(Way::In, &answer(tcp::FIN | tcp::ACK), 3));
}

#[test]
fn callers_cannot_push_out_what_the_workload_opened() {
    let mut device = Device::new(&[opening(true, UDP, 53), opening(false, UDP, 9)]);
    let ours = call(UDP, 53);
    assert!(device.pass(Way::Out, &ours.build(), 0));
    for port in 0..40_000u16 {
        let theirs = Model { ports: (port, 9), ..Model::udp(false, 10) };
        assert!(device.pass(Way::In, &swap(theirs.build()), 1));
    }
    assert_eq!(device.flows.len(), (1, CAPACITY));
    assert!(device.pass(Way::In, &reply(&ours), 2));
}

#[test]
fn after_a_restart_a_reply_in_mid_stream_passes_where_its_flow_could_have_been_opened() {
    let just_started = |allowed: &[Opening]| {
        let mut device = Device::new(allowed);
        device.flows = WorkloadFlows::new(1, at(0));
        device
    };
    let reply = |flags| reply(&Model { flags, ..call(TCP, 22) });
    let rule = opening(false, TCP, 22);
    assert!(just_started(&[rule]).pass(Way::Out, &reply(tcp::ACK), 1000));
    assert!(!just_started(&[rule]).pass(Way::Out, &reply(tcp::SYN), 1000));
    assert!(!just_started(&[rule]).pass(Way::Out, &reply(tcp::SYN | tcp::ACK), 1000));
    assert!(!just_started(&[rule]).pass(Way::Out, &reply(tcp::RST | tcp::ACK), 1000));
    assert!(!just_started(&[opening(false, TCP, 23)]).pass(Way::Out, &reply(tcp::ACK), 1000));
    let late = PICK_UP_FOR.as_millis() as u64;
    assert!(!just_started(&[rule]).pass(Way::Out, &reply(tcp::ACK), late));
    let mut device = just_started(&[rule]);
    assert!(device.pass(Way::Out, &reply(tcp::ACK), late - 1));
    assert!(device.pass(Way::Out, &reply(tcp::ACK), late + 1), "a flow picked up stays known");
}

#[test]
fn in_the_wake_of_what_was_picked_up_nobody_calls_who_may_not() {
    for (by_workload, back) in [(true, Way::In), (false, Way::Out)] {
        let mut device = Device::new(&[opening(by_workload, TCP, 80)]);
        device.flows = WorkloadFlows::new(1, at(0));
        let answer = |flags| reply(&Model { flags, ..call(TCP, 80) });
        assert!(device.pass(back, &answer(tcp::ACK), 1), "it might be a reply");
        assert!(!device.pass(back, &answer(tcp::SYN), 2));
        assert!(device.pass(back, &answer(tcp::ACK), 3), "the flow goes on");
    }
}
