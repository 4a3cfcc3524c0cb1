//! Inner packets: whose they are, how often they count, and who may send any.

use std::cell::RefCell;
use std::rc::Rc;

use sinew_node::{Config, InboundPolicy};
use sinew_session::Target;
use sinew_types::{DropReason, MeshAddr};
use sinew_wire::record::{Kind, Prefix};

use crate::common::{Flying, Net, finish_udp, path, udp_packet};
use crate::puppet::{MS, Stage};

#[test]
fn an_inner_source_that_is_not_the_peers_is_refused_on_a_link_and_over_a_relay() {
    let mut stage = Stage::relayed();
    let (victim, local) = (stage.victim(), stage.net.address(0));
    let (near, far) = (stage.puppets[0].addr, stage.puppets[1].addr);

    let forged = stage.puppets[0].packet(&victim, &udp_packet(far, local, 9, b"in the name of another"));
    stage.throw(0, forged);
    let forged = stage.puppets[1].packet(&victim, &udp_packet(near, local, 9, b"in the relay's name"));
    stage.relay(far, local, &forged);
    let forged = stage.puppets[1].packet(&victim, &udp_packet(local, local, 9, b"in the victim's own"));
    // The header's source agrees with the lie; it vouches for nothing.
    stage.relay(local, local, &forged);
    stage.run(10 * MS);
    assert!(stage.net.received[0].is_empty());
    assert_eq!(stage.drops(DropReason::SourceSpoofed), 3);

    let honest = [udp_packet(near, local, 9, b"near"), udp_packet(far, local, 9, b"far")];
    let record = stage.puppets[0].packet(&victim, &honest[0]);
    stage.throw(0, record);
    let record = stage.puppets[1].packet(&victim, &honest[1]);
    stage.relay(far, local, &record);
    stage.run(10 * MS);
    assert_eq!(stage.net.received[0], honest);
    assert_eq!(stage.drops(DropReason::SourceSpoofed), 3);
}

#[test]
fn a_packet_for_somebody_else_is_not_delivered_here() {
    let mut stage = Stage::relayed();
    let victim = stage.victim();
    let (near, far) = (stage.puppets[0].addr, stage.puppets[1].addr);
    let record = stage.puppets[0].packet(&victim, &udp_packet(near, far, 9, b"not for you"));
    stage.throw(0, record);
    stage.run(10 * MS);
    assert!(stage.net.received[0].is_empty());
    assert_eq!(stage.drops(DropReason::NotForUs), 1);
}

#[test]
fn a_record_counts_once_whoever_repeats_it() {
    let mut stage = Stage::relayed();
    let (victim, local) = (stage.victim(), stage.net.address(0));
    let (near, far) = (stage.puppets[0].addr, stage.puppets[1].addr);
    let on_link = udp_packet(near, local, 9, b"once");
    let record = stage.puppets[0].packet(&victim, &on_link);
    // On the link: the datagram again, and again from another place.
    for _ in 0..3 {
        stage.throw(0, record.clone());
    }
    stage.net.launch(Flying { from: 200, to: 0, bytes: record });
    stage.run(10 * MS);
    assert_eq!(stage.net.received[0], [on_link]);
    assert_eq!(stage.drops(DropReason::Replayed), 3);

    // By the relay, who can wrap the body anew.
    let relayed = udp_packet(far, local, 9, b"once as well");
    let record = stage.puppets[1].packet(&victim, &relayed);
    for _ in 0..3 {
        stage.relay(far, local, &record);
    }
    stage.run(10 * MS);
    assert_eq!(stage.net.received[0][1..], [relayed]);
    assert_eq!(stage.drops(DropReason::Replayed), 5);
}

#[test]
fn everything_repeated_on_every_link_is_delivered_once() {
    let mut net = Net::new(3, &[(1, 0), (2, 1)]);
    net.run(2000 * MS);
    net.tap = Some(Box::new(|flying| vec![flying.clone(), flying]));
    let packets: Vec<_> = (0..50).map(|n| udp_packet(net.address(0), net.address(2), 9, &[n; 40])).collect();
    for packet in &packets {
        net.send(0, packet);
        net.run(MS);
    }
    net.run(200 * MS);
    assert_eq!(net.received[2], packets);
    assert!(net.nodes[1].drops().get(DropReason::Replayed) >= 50, "the relay's own window");
}

#[test]
fn a_record_sent_back_to_its_sender_opens_for_nobody() {
    let mut net = Net::new(2, &[(1, 0)]);
    net.run(2000 * MS);
    let caught: Rc<RefCell<Vec<Flying>>> = Rc::default();
    let tap = Rc::clone(&caught);
    net.tap = Some(Box::new(move |flying| {
        if flying.bytes[0] == 4 {
            tap.borrow_mut().push(flying.clone());
        }
        vec![flying]
    }));
    let packet = udp_packet(net.address(0), net.address(1), 9, b"one way");
    net.send(0, &packet);
    net.send(1, &udp_packet(net.address(1), net.address(0), 9, b"other way"));
    net.run(10 * MS);
    net.tap = None;
    let sent = caught.borrow().clone();
    let receiver = |from: usize| sent.iter().find(|f| f.from == from).map(|f| f.bytes[4..8].to_vec());
    let (to_one, to_zero) = (receiver(0).expect("sent"), receiver(1).expect("sent"));
    let before: Vec<_> = net.received.clone();
    for flying in sent {
        // As it is, and under the index that its sender gave to the other.
        let mut readdressed = flying.bytes.clone();
        readdressed[4..8].copy_from_slice(if flying.from == 0 { &to_zero } else { &to_one });
        for bytes in [flying.bytes, readdressed] {
            net.arrive(Flying { from: flying.to, to: flying.from, bytes });
        }
    }
    assert_eq!(net.received, before);
    let drops = net.nodes[0].drops();
    assert!(drops.get(DropReason::UnknownIndex) >= 1 && drops.get(DropReason::Forged) >= 1, "{drops:?}");
}

#[test]
fn inbound_is_closed_by_default_but_for_replies_and_echo() {
    assert_eq!(InboundPolicy::default(), InboundPolicy::Established);
    let net = Net::with(1, &[], |_, config| Config { inbound: InboundPolicy::default(), ..config });
    let mut stage = Stage::new(net, 1);
    let (victim, local, peer) = (stage.victim(), stage.net.address(0), stage.puppets[0].addr);
    let unasked = udp_packet(peer, local, 40_000, b"unasked");
    let record = stage.puppets[0].packet(&victim, &unasked);
    stage.throw(0, record);
    stage.run(10 * MS);
    assert!(stage.net.received[0].is_empty());
    assert_eq!(stage.drops(DropReason::InboundClosed), 1);

    // The harness sends from port 40000: an answer to that is a reply.
    stage.net.send(0, &udp_packet(local, peer, 9, b"question"));
    stage.run(10 * MS);
    assert_eq!(stage.puppets[0].inner.len(), 1);
    let mut reply = udp_packet(peer, local, 40_000, b"answer");
    reply[40..42].copy_from_slice(&9u16.to_be_bytes());
    finish_udp(&mut reply);
    let record = stage.puppets[0].packet(&victim, &reply);
    stage.throw(0, record);
    stage.run(10 * MS);
    assert_eq!(stage.net.received[0], [reply]);
    assert_eq!(stage.drops(DropReason::InboundClosed), 1);
}

/// A TCP segment with these flags, from port 5555 to port 22.
fn segment(src: MeshAddr, dst: MeshAddr, flags: u8) -> Vec<u8> {
    let mut packet = udp_packet(src, dst, 9, &[0; 12]);
    packet[6] = 6;
    packet[40..60]
        .copy_from_slice(&[21, 179, 0, 22, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    packet
}

#[test]
fn no_made_up_segment_opens_the_way_for_a_connection() {
    let net = Net::with(1, &[], |_, config| Config { inbound: InboundPolicy::default(), ..config });
    let mut stage = Stage::new(net, 1);
    let (victim, local, peer) = (stage.victim(), stage.net.address(0), stage.puppets[0].addr);
    // ACK, FIN, RST, SYN with ACK: whatever goes ahead, the SYN behind it stays out, also of a node
    // that has just started and cannot know which flows it had.
    for first in [0x10, 0x11, 0x04, 0x12, 0x18] {
        for flags in [first, 0x02] {
            stage.net.received[0].clear();
            let record = stage.puppets[0].packet(&victim, &segment(peer, local, flags));
            stage.throw(0, record);
            stage.run(5 * MS);
        }
        assert!(stage.net.received[0].is_empty(), "a SYN behind {first:#x}");
    }
    assert!(stage.drops(DropReason::InboundClosed) >= 5);
}

#[test]
fn nothing_is_delivered_under_keys_whose_session_is_closed() {
    let mut stage = Stage::new(Net::new(1, &[]), 1);
    let (victim, local, peer) = (stage.victim(), stage.net.address(0), stage.puppets[0].addr);
    let held = stage.puppets[0].data(&victim, Prefix::new(Kind::Mesh), &udp_packet(peer, local, 9, b"late"));
    // The puppet restarts: another association, whose first record flushes the old one.
    let now = stage.net.now;
    stage.puppets[0].sessions.close(victim, now);
    stage.puppets[0].sessions.open(victim, Target::Direct(path(0)), now);
    stage.run(500 * MS);
    stage.throw(0, held);
    stage.run(10 * MS);
    assert!(stage.net.received[0].is_empty(), "a record of the former association");
}
