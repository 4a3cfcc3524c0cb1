//! Neighbours that lie about routes (protocol A6, A5.3).

use sinew_session::{Event, StreamClass};
use sinew_types::{DropReason, Identity};
use sinew_wire::routing::{RoutingFrame, RoutingMessage};

use crate::common::{Net, udp_packet};
use crate::puppet::{HINT, MS, Origin, Stage};

fn somebody(number: u16) -> Identity {
    let mut seed = [0x33; 32];
    seed[..2].copy_from_slice(&number.to_le_bytes());
    Identity::from_seed(seed)
}

#[test]
fn a_forged_origin_record_is_refused_and_counted_and_its_giver_is_no_neighbour_for_a_minute() {
    let mut stage = Stage::new(Net::new(1, &[]), 1);
    let (victim, local, near) = (stage.victim(), stage.net.address(0), stage.puppets[0].addr);
    let real = Origin::of(&somebody(1));
    stage.say(0, &[HINT]);
    for number in 0..8 {
        assert!(stage.node().adjacency(&near).is_some(), "after {number} forgeries");
        // A record for the key of another, signed with our own; the metric is proved.
        let mut forged = Origin::of(&somebody(10 + number));
        forged.record.signature = real.record.signature;
        stage.say(0, &forged.route(1));
        stage.run(100 * MS);
        assert_eq!(stage.node().next_hop(&forged.addr), None);
    }
    assert_eq!(stage.drops(DropReason::ForgedOrigin), 8);
    assert_eq!(stage.node().adjacency(&near), None);
    let record = stage.puppets[0].packet(&victim, &udp_packet(near, local, 9, b"still a peer"));
    stage.throw(0, record);
    stage.run(58_000 * MS);
    assert_eq!(stage.net.received[0].len(), 1, "its session goes on");
    assert_eq!(stage.node().adjacency(&near), None);
    stage.run(5_000 * MS);
    assert!(stage.node().adjacency(&near).is_some(), "it may try again");
}

#[test]
fn a_metric_without_proof_makes_no_route_and_starves_nobody() {
    let mut stage = Stage::new(Net::new(1, &[]), 2);
    let (liar, honest) = (stage.puppets[0].addr, stage.puppets[1].addr);
    let origin = Origin::of(&somebody(1));
    for number in 0..2 {
        stage.say(number, &[HINT]);
    }
    let record = RoutingMessage::Origin(origin.record.clone());
    // Heard at 40, told as 2: the value proves 40 and more.
    stage.say(0, &[record.clone(), origin.claim(2, origin.proof(40))]);
    stage.run(100 * MS);
    assert_eq!(stage.drops(DropReason::UnprovenMetric), 1);
    assert_eq!(stage.node().next_hop(&origin.addr), None);
    assert_eq!(stage.node().feasibility_distance(&origin.addr), None);

    stage.say(1, &[record, origin.claim(40, origin.proof(40))]);
    stage.run(100 * MS);
    assert_eq!(stage.node().next_hop(&origin.addr), Some(honest), "the honest route is feasible");
    stage.say(0, &[origin.claim(3, origin.proof(40))]);
    stage.run(100 * MS);
    assert_eq!(stage.node().next_hop(&origin.addr), Some(honest));
    let fd = stage.node().feasibility_distance(&origin.addr).expect("a route");
    assert!(fd.metric.units() >= 40, "{fd:?}");
    assert_eq!(stage.drops(DropReason::UnprovenMetric), 2);
    // What it can prove it may say.
    stage.say(0, &[origin.claim(40, origin.proof(40))]);
    stage.run(100 * MS);
    assert!([liar, honest].map(Some).contains(&stage.node().next_hop(&origin.addr)));
    assert_eq!(stage.drops(DropReason::UnprovenMetric), 2);
}

#[test]
fn an_origin_hands_out_no_value_below_its_floor() {
    let mut stage = Stage::new(Net::new(1, &[]), 1);
    stage.run(1_000 * MS);
    let (mut floor, mut told) = (None, None);
    for event in &stage.puppets[0].events {
        let Event::Message { class: StreamClass::Routing, bytes, .. } = event else { continue };
        for message in RoutingFrame::parse(bytes) {
            match message.expect("a message") {
                RoutingMessage::Hint { floor: said, .. } => floor = Some(said),
                RoutingMessage::Update { origin, metric, .. } if origin == stage.net.address(0) => {
                    told = Some(metric.units());
                }
                _ => {}
            }
        }
    }
    // Three quarters of a round trip of 4 ms, in units of 2 ms.
    assert_eq!((floor, told), (Some(1), Some(1)), "who is told 0 could claim to be the origin");
}

#[test]
fn a_frame_is_acknowledged_only_when_the_forwarding_table_has_its_effect() {
    let mut stage = Stage::new(Net::new(1, &[]), 1);
    let near = stage.puppets[0].addr;
    stage.say(0, &[HINT]);
    let (mut told, mut shown, mut waiting) = (Vec::new(), 0, 0);
    // Each proof costs a thousand steps: the neighbour's share of our time is used up after a
    // thousand origins, and frames begin to wait.
    for number in 0..2_500 {
        if number < 1_500 && waiting < 20 {
            let origin = Origin::of(&somebody(number));
            told.push((stage.say(0, &origin.route(2)), origin.addr));
        }
        stage.run(2 * MS);
        let processed = stage.puppets[0].events.iter().rev().find_map(|event| match event {
            Event::Processed { class: StreamClass::Routing, ordinal, .. } => Some(*ordinal),
            _ => None,
        });
        while let Some(&(ordinal, addr)) = told.get(shown)
            && Some(ordinal) <= processed
        {
            assert_eq!(stage.node().next_hop(&addr), Some(near), "frame {ordinal} was acknowledged");
            shown += 1;
        }
        waiting = waiting.max(told.len() - shown);
    }
    assert!(waiting >= 20, "of {} frames at most {waiting} waited: it was never busy", told.len());
    assert_eq!(shown, told.len(), "all were heard in the end");
}
