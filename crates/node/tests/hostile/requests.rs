//! Hops of a trace say who they are under their own key (finding 38).

use sinew_node::{Asked, Event as NodeEvent};
use sinew_session::{Event, StreamClass};
use sinew_types::{Domain, DropReason};
use sinew_wire::request::{Request, TraceReply};

use crate::common::Net;
use crate::puppet::{MS, Stage};

/// Traces the puppet, which answers as `lie` has it, and gives the names of the hops.
fn traced(stage: &mut Stage, request: u64, lie: impl Fn(&mut TraceReply, &mut [u8; 16])) -> Vec<String> {
    let (target, victim, now) = (stage.puppets[0].id, stage.victim(), stage.net.now);
    stage.puppets[0].events.clear();
    stage.net.nodes[0].trace(request, Asked::Node(target), now);
    stage.net.drain(0);
    stage.run(20 * MS);
    let asked = stage.puppets[0].events.iter().find_map(|event| match event {
        Event::Message { class: StreamClass::Requests, bytes, .. } => Request::parse(bytes).ok(),
        _ => None,
    });
    let Some(Request::Trace { id, mut nonce, .. }) = asked else { panic!("asked {asked:?}") };
    let mut reply = TraceReply {
        id,
        node: *target.as_bytes(),
        name: "puppet".into(),
        next_hop: None,
        next_rtt_us: 0,
        next_carrier: 0,
        next_mtu: 0,
        signature: [0; 64],
    };
    let honest = reply.clone();
    lie(&mut reply, &mut nonce);
    let signed = if reply == honest { &reply } else { &honest };
    let signature = stage.puppets[0].identity.sign(Domain::TRACE, &signed.signed_bytes(&nonce));
    reply.signature = signature;
    let mut message = Vec::new();
    Request::TraceReply(Box::new(reply)).emit(&mut message);
    let now = stage.net.now;
    stage.puppets[0].sessions.send(victim, StreamClass::Requests, &message, now).expect("a session");
    stage.drain(0);
    stage.run(5_000 * MS);
    let hops = stage.net.events.iter().find_map(|(_, event)| match event {
        NodeEvent::TraceDone { request: done, hops, .. } if *done == request => Some(hops),
        _ => None,
    });
    hops.expect("the trace ends").iter().map(|hop| hop.name.clone()).collect()
}

#[test]
fn a_hop_that_does_not_sign_its_answer_to_this_question_is_not_shown() {
    let mut stage = Stage::new(Net::new(1, &[]), 1);
    assert_eq!(traced(&mut stage, 1, |_, _| {}), ["node-0", "puppet"]);
    let before = stage.drops(DropReason::BadControl);
    let another = *stage.victim().as_bytes();
    assert_eq!(traced(&mut stage, 2, |reply, _| reply.name = "somebody".into()), ["node-0"]);
    assert_eq!(traced(&mut stage, 3, |reply, _| reply.next_hop = Some(another)), ["node-0"]);
    assert_eq!(traced(&mut stage, 4, |reply, _| reply.node = another), ["node-0"]);
    assert_eq!(traced(&mut stage, 5, |_, nonce| nonce[0] ^= 1), ["node-0"], "the answer to another question");
    assert_eq!(stage.drops(DropReason::BadControl), before + 4);
}

#[test]
fn one_peer_that_asks_without_end_is_answered_ten_times_a_second_and_the_others_as_ever() {
    let mut stage = Stage::new(Net::new(1, &[]), 2);
    let (victim, addr) = (stage.victim(), stage.net.address(0));
    let ask = |stage: &mut Stage, number: usize| {
        let mut message = Vec::new();
        Request::WhoIs { addr }.emit(&mut message);
        let now = stage.net.now;
        stage.puppets[number].sessions.send(victim, StreamClass::Requests, &message, now).expect("a session");
        stage.drain(number);
        stage.run(5 * MS);
    };
    let answers = |stage: &Stage, number: usize| {
        let reply = |event: &&Event| match event {
            Event::Message { class: StreamClass::Requests, bytes, .. } => {
                matches!(Request::parse(bytes), Ok(Request::WhoIsReply { .. }))
            }
            _ => false,
        };
        stage.puppets[number].events.iter().filter(reply).count()
    };
    // For a second, two hundred times.
    (0..200).for_each(|_| ask(&mut stage, 0));
    let given = answers(&stage, 0);
    assert!((32..=43).contains(&given), "{given}");
    assert_eq!(stage.drops(DropReason::RateLimited), 200 - given as u64);
    ask(&mut stage, 1);
    assert_eq!(answers(&stage, 1), 1);
}
