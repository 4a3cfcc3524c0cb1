//! Error reports of relays: hints, and few of them (protocol A4.5).

use std::cell::Cell;
use std::rc::Rc;

use sinew_types::{DropReason, Identity};
use sinew_wire::error::{ErrorCode, ErrorReport, MSG_ERR};
use sinew_wire::record::{DataHeader, Kind, Prefix};
use sinew_wire::routed::MSG_ROUTED;

use crate::common::{Flying, Net, udp_packet};
use crate::puppet::{MS, Stage};

/// Length of the record that holds what [`sent`] sends.
const SENT: usize = 36 + 48 + 19;

fn report(code: ErrorCode, record: &[u8]) -> Vec<u8> {
    let field = |range: std::ops::Range<usize>| record.get(range).expect("a record");
    let receiver = u32::from_le_bytes(field(4..8).try_into().expect("four bytes"));
    let nonce = u64::from_le_bytes(field(8..16).try_into().expect("eight bytes"));
    ErrorReport { code, mtu: 1200, record: DataHeader { receiver, nonce } }.emit().to_vec()
}

/// A record that node 0 sent to the far puppet.
fn sent(stage: &mut Stage) -> Vec<u8> {
    let (local, far) = (stage.net.address(0), stage.puppets[1].addr);
    stage.puppets[0].routed.clear();
    stage.net.send(0, &udp_packet(local, far, 9, b"something to report"));
    stage.run(10 * MS);
    let bodies = &stage.puppets[0].routed;
    bodies.iter().find(|(_, body)| body.len() == SENT).expect("a record").1.clone()
}

#[test]
fn a_report_about_a_record_that_was_never_sent_is_not_believed() {
    let mut stage = Stage::relayed();
    let (near, local) = (stage.puppets[0].addr, stage.net.address(0));
    let genuine = sent(&mut stage);
    let mut other_index = genuine.clone();
    other_index[4] ^= 1;
    let mut not_yet = genuine.clone();
    not_yet[8..12].copy_from_slice(&1000u32.to_le_bytes());
    let mut other_lane = genuine.clone();
    other_lane[15] ^= 0x0f;
    for quote in [vec![4; 32], vec![0xff; 32], other_index, not_yet, other_lane] {
        let before = stage.drops(DropReason::UnmatchedError);
        let body = report(ErrorCode::TooBig, &quote);
        stage.relay(near, local, &body);
        stage.run(10 * MS);
        assert_eq!(stage.drops(DropReason::UnmatchedError), before + 1, "{:02x?}", &quote[..16]);
    }
    let before = stage.drops(DropReason::UnmatchedError);
    let body = report(ErrorCode::TooBig, &genuine);
    stage.relay(near, local, &body);
    stage.run(10 * MS);
    assert_eq!(stage.drops(DropReason::UnmatchedError), before);
}

#[test]
fn the_next_sender_to_the_same_place_hears_what_a_relay_reported() {
    // code, ICMPv6 type and code of the answer (RFC 4443 §3.1, §3.3)
    for (code, answer) in [(ErrorCode::NoRoute, (1, 0)), (ErrorCode::HopLimit, (3, 0))] {
        let mut stage = Stage::relayed();
        let (near, local) = (stage.puppets[0].addr, stage.net.address(0));
        let body = sent(&mut stage);
        let body = report(code, &body);
        stage.relay(near, local, &body);
        stage.run(10 * MS);
        assert!(stage.net.received[0].is_empty(), "nobody sent anything to answer");
        sent(&mut stage);
        let icmp: Vec<_> = stage.net.received[0].iter().map(|packet| (packet[40], packet[41])).collect();
        assert_eq!(icmp, [answer], "{code:?}");
        sent(&mut stage);
        assert_eq!(stage.net.received[0].len(), 1, "said once");
    }
}

#[test]
fn a_report_is_forgotten_with_its_record_after_ten_seconds() {
    let mut stage = Stage::relayed();
    let (near, local) = (stage.puppets[0].addr, stage.net.address(0));
    let old = sent(&mut stage);
    let body = report(ErrorCode::TooBig, &old);
    stage.run(9_000 * MS);
    stage.relay(near, local, &body);
    stage.run(10 * MS);
    assert_eq!(stage.drops(DropReason::UnmatchedError), 0);
    stage.run(2_000 * MS);
    let young = sent(&mut stage);
    stage.relay(near, local, &body);
    stage.run(10 * MS);
    assert_eq!(stage.drops(DropReason::UnmatchedError), 1, "the lane is in use, the record is old");
    let body = report(ErrorCode::TooBig, &young);
    stage.relay(near, local, &body);
    stage.run(10 * MS);
    assert_eq!(stage.drops(DropReason::UnmatchedError), 1);
}

#[test]
fn a_report_that_a_packet_is_too_big_shrinks_nothing_by_itself() {
    let mut stage = Stage::relayed();
    let (near, local) = (stage.puppets[0].addr, stage.net.address(0));
    // The size search toward the far puppet has ended well above the base.
    stage.run(8_000 * MS);
    let fits = |stage: &mut Stage| {
        let (local, far) = (stage.net.address(0), stage.puppets[1].addr);
        let packet = udp_packet(local, far, 9, &[1; 1310]);
        stage.puppets[1].inner.clear();
        stage.net.send(0, &packet);
        stage.run(10 * MS);
        stage.puppets[1].inner.len()
    };
    assert_eq!(fits(&mut stage), 1, "an inner packet of 1358 bytes passes");
    for _ in 0..20 {
        let quote = sent(&mut stage);
        let body = report(ErrorCode::TooBig, &quote);
        stage.relay(near, local, &body);
        stage.run(100 * MS);
        assert_eq!(fits(&mut stage), 1, "a relay's word set the size");
    }
    assert_eq!(stage.drops(DropReason::UnmatchedError), 0);
}

#[test]
fn reports_are_few_and_never_about_reports() {
    let mut stage = Stage::relayed();
    let (victim, far) = (stage.victim(), stage.puppets[1].addr);
    let nowhere = Identity::from_seed([77; 32]).node_id().address();
    let filler = stage.puppets[1].data(&victim, Prefix::new(Kind::Mesh), &[0; 60]);
    stage.puppets[0].routed.clear();
    for _ in 0..100 {
        stage.relay(far, nowhere, &filler);
        stage.run(10 * MS);
    }
    let reports =
        |stage: &Stage| stage.puppets[0].routed.iter().filter(|(_, body)| body[0] == MSG_ERR).count();
    assert!((9..=11).contains(&reports(&stage)), "{} in a second", reports(&stage));
    assert_eq!(stage.drops(DropReason::NoRoute), 100);

    stage.run(1_000 * MS);
    stage.puppets[0].routed.clear();
    let about = report(ErrorCode::NoRoute, &filler);
    stage.relay(far, nowhere, &about);
    stage.run(100 * MS);
    assert_eq!(reports(&stage), 0, "a report about a report");
}

#[test]
fn a_report_about_a_size_probe_is_matched_and_ends_the_probe_at_once() {
    let mut net = Net::new(3, &[(1, 0), (2, 1)]);
    let tried = Rc::new(Cell::new(0));
    let counter = Rc::clone(&tried);
    net.tap = Some(Box::new(move |flying: Flying| {
        // Routed, straight to the relay, in the largest size that the first link carries.
        let probe = flying.from == 0 && flying.bytes[0] == MSG_ROUTED && flying.bytes.len() == 1472;
        counter.set(counter.get() + u32::from(probe));
        let limit = if flying.from + flying.to == 1 { 1472 } else { 1316 };
        if flying.bytes.len() > limit { Vec::new() } else { vec![flying] }
    }));
    net.run(10_000 * MS);
    let packet = udp_packet(net.address(0), net.address(2), 9, b"begins a session, and a search in it");
    net.send(0, &packet);
    net.run(20_000 * MS);
    assert_eq!(net.received[2], [packet]);
    assert_eq!(tried.get(), 1, "the relay has said that it takes no more");
    assert_eq!(net.nodes[0].drops().get(DropReason::UnmatchedError), 0);
}
