//! Routed records: which are taken, what a relay may change, and what it and observers may see.

use std::cell::Cell;
use std::rc::Rc;

use sinew_node::Config;
use sinew_types::{Class, DropReason, MeshAddr};
use sinew_wire::error::{ErrorCode, ErrorReport};
use sinew_wire::frag::MSG_FRAG;
use sinew_wire::probe::Probe;
use sinew_wire::record::{DataHeader, Kind, Prefix};
use sinew_wire::routed::MSG_ROUTED;
use sinew_wire::segment::{SegmentHeader, StreamClass};

use crate::common::{Net, udp_packet};
use crate::puppet::{HINT, MS, Origin, Stage};

#[test]
fn a_routed_record_carries_the_number_of_the_open_adjacency_or_is_refused() {
    let mut stage = Stage::relayed();
    let (victim, local, far) = (stage.victim(), stage.net.address(0), stage.puppets[1].addr);
    let current = stage.puppets[0].adj(&victim).expect("an adjacency");
    let send = |stage: &mut Stage, adj: u8| {
        let body = stage.puppets[1].packet(&victim, &udp_packet(far, local, 9, &[adj]));
        let mut header = stage.puppets[0].header(&victim, far, local);
        header.adj = adj;
        let datagram = stage.puppets[0].wrap(&victim, &header, &body);
        stage.throw(0, datagram);
        stage.run(10 * MS);
        stage.net.received[0].len()
    };
    for wrong in [0, current - 1, current + 1, 255] {
        assert_eq!(send(&mut stage, wrong), 0, "{wrong} for {current}");
    }
    assert_eq!(stage.drops(DropReason::WrongAdjacency), 4);
    assert_eq!(send(&mut stage, current), 1);

    // Closed and opened again: the keys are the same, the old number is void.
    let now = stage.net.now;
    stage.puppets[0].sessions.adjacency_drop(victim, now);
    stage.drain(0);
    stage.run(2000 * MS);
    let next = stage.puppets[0].adj(&victim).expect("open again");
    assert_ne!(next, current);
    assert_eq!(send(&mut stage, current), 1);
    assert_eq!(stage.drops(DropReason::WrongAdjacency), 5);
    assert_eq!(send(&mut stage, next), 2);
}

#[test]
fn a_peer_without_an_adjacency_has_nothing_routed() {
    let mut stage = Stage::with(Net::new(1, &[]), 1, false);
    let (victim, local, peer) = (stage.victim(), stage.net.address(0), stage.puppets[0].addr);
    for adj in [0, 1] {
        let body = stage.puppets[0].packet(&victim, &udp_packet(peer, local, 9, b"by a detour"));
        let mut header = stage.puppets[0].header(&victim, peer, local);
        header.adj = adj;
        let datagram = stage.puppets[0].wrap(&victim, &header, &body);
        stage.throw(0, datagram);
    }
    stage.run(10 * MS);
    assert!(stage.net.received[0].is_empty());
    assert_eq!(stage.drops(DropReason::WrongAdjacency), 2);
}

#[test]
fn a_stub_passes_nothing_on_and_says_that_there_is_no_way() {
    for (class, refused) in [(Class::Router, 0), (Class::Stub, 3)] {
        let net = Net::with(1, &[], |_, config| Config { class, ..config });
        let mut stage = Stage::new(net, 2);
        let (near, far) = (stage.puppets[0].addr, stage.puppets[1].addr);
        let own = [0, 1].map(|n| Origin::of(&stage.puppets[n].identity));
        for (number, origin) in own.iter().enumerate() {
            stage.say(number, &[HINT]);
            stage.say(number, &origin.route(1));
        }
        stage.run(200 * MS);
        stage.puppets[0].routed.clear();
        for n in 0..3 {
            let body = DataHeader { receiver: 7, nonce: n }.emit();
            stage.relay(near, far, &[&body[..], &[9; 40]].concat());
        }
        stage.run(20 * MS);
        assert_eq!(stage.drops(DropReason::NotATransit), refused, "{class:?}");
        let passed = stage.puppets[1].routed.iter().filter(|(header, _)| header.src == near).count();
        assert_eq!(passed as u64, 3 - refused, "{class:?}");
        let told = stage.puppets[0].routed.iter().filter_map(|(_, body)| ErrorReport::parse(body).ok());
        let told: Vec<_> = told.map(|report| report.code).collect();
        assert_eq!(told, if refused > 0 { vec![ErrorCode::NoRoute] } else { vec![] }, "{class:?}");
    }
}

#[test]
fn nothing_nests() {
    let mut stage = Stage::relayed();
    let (victim, local) = (stage.victim(), stage.net.address(0));
    let (near, far) = (stage.puppets[0].addr, stage.puppets[1].addr);
    let inner = stage.puppets[0].packet(&victim, &udp_packet(near, local, 9, b"inside"));
    // A routed record in a routed record, though each is in order by itself.
    let header = stage.puppets[0].header(&victim, near, local);
    let once = stage.puppets[0].wrap(&victim, &header, &inner);
    assert_eq!(once[0], MSG_ROUTED);
    stage.relay(near, local, &once);
    // A piece in a routed record.
    let piece = stage.puppets[0].piece(&victim, 1, 0, true, &inner);
    assert_eq!(piece[0], MSG_FRAG);
    stage.relay(far, local, &piece);
    stage.run(10 * MS);
    assert_eq!(stage.drops(DropReason::Nested), 2);
    // A piece in pieces, and a handshake in pieces.
    let nested = stage.puppets[0].piece(&victim, 2, 0, true, &piece);
    stage.throw(0, nested);
    let handshake = stage.puppets[0].piece(&victim, 3, 0, true, &[1; 200]);
    stage.throw(0, handshake);
    stage.run(10 * MS);
    assert_eq!(stage.drops(DropReason::Malformed), 2);
    assert!(stage.net.received[0].is_empty());
    // An error report is a routed body and nothing else.
    let report =
        ErrorReport { code: ErrorCode::NoRoute, mtu: 0, record: DataHeader { receiver: 4, nonce: 4 } };
    stage.throw(0, report.emit().to_vec());
    stage.run(10 * MS);
    assert_eq!(stage.drops(DropReason::UnknownType), 1);
}

#[test]
fn a_routing_frame_over_a_relay_is_refused_though_its_number_is_right() {
    let mut stage = Stage::relayed();
    let (victim, local, near) = (stage.victim(), stage.net.address(0), stage.puppets[0].addr);
    let adj = stage.puppets[0].adj(&victim).expect("an adjacency");
    let header =
        SegmentHeader { class: StreamClass::Routing, adj, seq: 9, ack: 0, sack: 0, credit: 0, len: 3 };
    let segment = [&header.emit()[..], &[1, 0, 7]].concat();
    let record = stage.puppets[0].data(&victim, Prefix::new(Kind::Control), &segment);
    stage.relay(near, local, &record);
    stage.run(10 * MS);
    assert_eq!(stage.drops(DropReason::WrongAdjacency), 1);
    // On the link the same segment is in order.
    let record = stage.puppets[0].data(&victim, Prefix::new(Kind::Control), &segment);
    stage.throw(0, record);
    stage.run(10 * MS);
    assert_eq!(stage.drops(DropReason::WrongAdjacency), 1);
}

/// Flips a bit at `at`, or changes the length, in the next routed record from node 0 to 1.
fn damage(net: &mut Net, at: usize, sent: &Rc<Cell<usize>>) {
    let (sent, done) = (Rc::clone(sent), Cell::new(false));
    net.tap = Some(Box::new(move |mut flying| {
        if (flying.from, flying.to, flying.bytes[0], done.get()) == (0, 1, MSG_ROUTED, false) {
            done.set(true);
            let len = flying.bytes.len();
            sent.set(len);
            match at.checked_sub(len) {
                None => flying.bytes[at] ^= 1,
                Some(0) => flying.bytes.push(0),
                Some(1) => flying.bytes.truncate(len - 1),
                Some(_) => flying.bytes.insert(len - 20, 0),
            }
        }
        vec![flying]
    }));
}

/// What each node has dropped.
fn dropped(net: &Net) -> [u64; 3] {
    [0, 1, 2].map(|n| net.nodes[n].drops().iter().map(|(_, count)| count).sum())
}

#[test]
fn every_byte_of_a_routed_record_counts() {
    let mut net = Net::new(3, &[(1, 0), (2, 1)]);
    net.run(2000 * MS);
    net.send(0, &udp_packet(net.address(0), net.address(2), 9, b"opens the session"));
    net.run(100 * MS);
    net.received[2].clear();
    let sent = Rc::new(Cell::new(usize::MAX - 3));
    let mut at = 0;
    while at < sent.get() + 3 {
        let before = dropped(&net);
        damage(&mut net, at, &sent);
        net.send(0, &udp_packet(net.address(0), net.address(2), 9, b"whole or not at all"));
        net.run(8 * MS);
        net.tap = None;
        assert!(net.received[2].is_empty(), "altered at {at} of {}", sent.get());
        // The relay answers for header, head, end and length of the body; the rest is the end's.
        let [relay, end] = [1, 2].map(|n| dropped(&net)[n] - before[n]);
        let unguarded = (92..sent.get() - 16).contains(&at);
        assert_eq!((relay, end), if unguarded { (0, 1) } else { (1, 0) }, "altered at {at}");
        at += 1;
    }
    assert_eq!(sent.get(), 76 + 36 + 48 + 19);
    let packet = udp_packet(net.address(0), net.address(2), 9, b"whole");
    net.send(0, &packet);
    net.run(20 * MS);
    assert_eq!(net.received[2], [packet]);
}

#[test]
fn a_relay_that_alters_a_body_is_found_out_at_the_end() {
    let mut stage = Stage::relayed();
    let (victim, local, far) = (stage.victim(), stage.net.address(0), stage.puppets[1].addr);
    let body = stage.puppets[1].packet(&victim, &udp_packet(far, local, 9, b"as it was sealed"));
    for at in 16..body.len() {
        let mut altered = body.clone();
        altered[at] ^= 0x80;
        stage.relay(far, local, &altered);
        stage.run(3 * MS);
    }
    assert_eq!(stage.drops(DropReason::Forged), body.len() as u64 - 16);
    assert!(stage.net.received[0].is_empty());
    stage.relay(far, local, &body);
    stage.run(3 * MS);
    assert_eq!(stage.net.received[0].len(), 1, "forgeries took nothing from the genuine one");
}

#[test]
fn answers_go_to_the_address_of_the_key_whatever_source_a_relay_writes() {
    let mut stage = Stage::relayed();
    let (victim, local) = (stage.victim(), stage.net.address(0));
    let (near, far) = (stage.puppets[0].addr, stage.puppets[1].addr);
    let mut ping = Vec::new();
    Probe::Ping { id: 7, sent_us: 7 }.emit(&mut ping);
    let answered = |stage: &mut Stage, src: MeshAddr| {
        let record = stage.puppets[1].data(&victim, Prefix::new(Kind::Probe), &ping);
        stage.puppets[0].routed.clear();
        stage.relay(src, local, &record);
        stage.run(20 * MS);
        stage.puppets[0].routed.iter().map(|(header, _)| header.dst).collect::<Vec<_>>()
    };
    let links = stage.node().peers(stage.net.now).len();
    for src in [far, near, local] {
        assert_eq!(answered(&mut stage, src), [far], "source {src}");
    }
    assert_eq!(stage.node().peers(stage.net.now).len(), links, "no endpoint came of it");
}

#[test]
fn an_observer_of_a_link_sees_no_end_to_end_index_or_counter() {
    let mut stage = Stage::relayed();
    let (local, far) = (stage.net.address(0), stage.puppets[1].addr);
    stage.puppets[0].routed.clear();
    stage.puppets[0].raw.clear();
    for n in 0..20 {
        stage.net.send(0, &udp_packet(local, far, 9, &[n; 30]));
    }
    stage.run(20 * MS);
    let bodies = &stage.puppets[0].routed;
    assert!(bodies.len() >= 20);
    for (header, body) in bodies {
        // Type, index and counter of the record: 16 bytes, of which 12 name the flow.
        let name = &body[4..16];
        let shown = stage.puppets[0].raw.iter().any(|raw| raw.windows(12).any(|seen| seen == name));
        assert!(!shown, "the head of {header:?} is on the wire");
    }
}
