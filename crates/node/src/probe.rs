//! `ping` and `trace`: questions that people ask, answered over the same sessions as data.
//!
//! A ping opens a session with the target if there is none, then measures one round trip in it. A
//! trace walks the path: it asks each hop, in a session with that hop (which proves its key), for
//! its name and its next hop toward the target, until the target itself answers.

use std::collections::BTreeMap;
use std::time::Duration;

use sinew_session::{Sessions, Target};
use sinew_types::{CarrierKind, Domain, DropReason, Instant, MeshAddr, NodeId, Rng, verify};
use sinew_wire::request::{Request, TraceReply};
use sinew_wire::segment::StreamClass;

use crate::event::{Event, PingAnswer, TraceHop};
use crate::node::Node;

/// How long one hop of a trace may take to answer.
const HOP_PATIENCE: Duration = Duration::from_secs(3);
/// When a hop's round trip is measured anew: what went by a link that has just died is lost.
const PING_AGAIN: Duration = Duration::from_millis(800);
/// Most hops of a trace: the hop limit of records (protocol A4).
const MAX_HOPS: usize = 64;
/// Most questions of people in flight.
const MAX_PROBES: usize = 256;
/// Signed answers to traces a second (protocol B, finding 38).
const TRACE_RATE: u32 = 10;

/// Whom a question is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Whoever has this key.
    Node(NodeId),
    /// Whoever owns this address. A stub knows few owners, and asks its upstream (protocol A5.6).
    Address(MeshAddr),
}

impl Asked {
    /// Its address.
    pub fn address(&self) -> MeshAddr {
        match self {
            Self::Node(node) => node.address(),
            Self::Address(address) => *address,
        }
    }

    /// Its key, if that is known.
    pub const fn node(&self) -> Option<NodeId> {
        match self {
            Self::Node(node) => Some(*node),
            Self::Address(_) => None,
        }
    }
}

#[derive(Debug)]
struct Ping {
    target: MeshAddr,
    deadline: Instant,
    /// Set once the session stands and the probe is out.
    id: Option<u32>,
}

#[derive(Debug)]
struct Trace {
    target: MeshAddr,
    hops: Vec<TraceHop>,
    /// The hop that is being asked, and what is known of the link toward it.
    asked: NodeId,
    carrier: Option<CarrierKind>,
    mtu: u16,
    nonce: [u8; 16],
    ping: Option<u32>,
    /// When to measure again if no answer has come.
    again: Instant,
    rtt: Option<Duration>,
    reply: Option<TraceReply>,
    deadline: Instant,
}

/// The questions in flight.
#[derive(Debug)]
pub(crate) struct Probes {
    pings: BTreeMap<u64, Ping>,
    traces: BTreeMap<u64, Trace>,
    rng: Rng,
    /// Answers to others' traces in the current second.
    answered: (Instant, u32),
}

impl Probes {
    pub(crate) fn new(rng: Rng) -> Self {
        Self { pings: BTreeMap::new(), traces: BTreeMap::new(), rng, answered: (Instant::ZERO, 0) }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let pings = self.pings.values().map(|ping| ping.deadline);
        let unanswered = |trace: &Trace| trace.rtt.is_none().then_some(trace.again);
        let traces = self
            .traces
            .values()
            .map(|trace| unanswered(trace).map_or(trace.deadline, |again| again.min(trace.deadline)));
        pings.chain(traces).min()
    }

    /// Whoever waited for a session with `peer` can ask now.
    pub(crate) fn on_session_up(&mut self, sessions: &mut Sessions, peer: NodeId, now: Instant) {
        let target = peer.address();
        for ping in self.pings.values_mut().filter(|ping| ping.target == target && ping.id.is_none()) {
            ping.id = Some(sessions.ping(peer, target_of(sessions, &peer), now));
        }
        for (&id, trace) in &mut self.traces {
            if trace.asked == peer && trace.ping.is_none() {
                ask(sessions, id, trace, now);
            }
        }
    }

    /// Whether somebody has asked for `addr`, and nobody knew whose it is.
    pub(crate) fn wait_for(&self, addr: &MeshAddr) -> bool {
        self.pings.values().any(|ping| ping.target == *addr && ping.id.is_none())
    }

    /// At most [`TRACE_RATE`] answers a second: each costs a signature.
    fn may_answer(&mut self, now: Instant) -> bool {
        if now.since(self.answered.0) >= Duration::from_secs(1) {
            self.answered = (now, 0);
        }
        self.answered.1 += 1;
        self.answered.1 <= TRACE_RATE
    }
}

/// The way the session's data takes now.
fn target_of(sessions: &Sessions, peer: &NodeId) -> Target {
    let path = sessions.keys().session(&peer.address()).and_then(|session| session.path);
    path.map_or(Target::Routed, Target::Direct)
}

fn measure(sessions: &mut Sessions, trace: &mut Trace, now: Instant) {
    trace.ping = Some(sessions.ping(trace.asked, target_of(sessions, &trace.asked), now));
    trace.again = now + PING_AGAIN;
}

fn ask(sessions: &mut Sessions, id: u64, trace: &mut Trace, now: Instant) {
    measure(sessions, trace, now);
    let mut message = Vec::new();
    Request::Trace { id, nonce: trace.nonce, target: trace.target }.emit(&mut message);
    // A full or closed stream shows as a hop that does not answer.
    let _ = sessions.send(trace.asked, StreamClass::Requests, &message, now);
}

impl Node {
    /// Measures one round trip to `target`; the answer comes as [`Event::PingDone`] with this `request`.
    pub fn ping(&mut self, request: u64, target: Asked, patience: Duration, now: Instant) {
        if self.probes.pings.len() + self.probes.traces.len() >= MAX_PROBES {
            self.emit(Event::PingDone { request, answer: None });
            return;
        }
        let address = target.address();
        let up = self.node_of(&address).filter(|peer| self.is_up(peer));
        let id = up.map(|peer| self.sessions.ping(peer, target_of(&self.sessions, &peer), now));
        self.probes.pings.insert(request, Ping { target: address, deadline: now + patience, id });
        match (id, target) {
            (Some(_), _) => {}
            (None, Asked::Node(node)) => self.open_routed(node, now),
            (None, Asked::Address(address)) => self.want_session(&address, now),
        }
        self.pump(now);
    }

    /// Walks the path to `target`; the hops come as [`Event::TraceDone`] with this `request`.
    pub fn trace(&mut self, request: u64, target: Asked, now: Instant) {
        let own = TraceHop {
            node: self.identity.node_id(),
            address: self.local,
            name: self.name.clone(),
            carrier: None,
            rtt: Some(Duration::ZERO),
            mtu: self.device_mtu,
        };
        let addr = target.address();
        if self.probes.pings.len() + self.probes.traces.len() >= MAX_PROBES {
            self.emit(Event::TraceDone { request, hops: vec![own], complete: false });
            return;
        }
        let Some((next, carrier, mtu)) = self.next_hop_toward(&addr) else {
            self.emit(Event::TraceDone { request, hops: vec![own], complete: addr == self.local });
            return;
        };
        let trace = Trace {
            target: addr,
            hops: vec![own],
            asked: next,
            carrier,
            mtu,
            nonce: self.probes.rng.array(),
            ping: None,
            again: now + HOP_PATIENCE,
            rtt: None,
            reply: None,
            deadline: now + HOP_PATIENCE,
        };
        self.probes.traces.insert(request, trace);
        self.ask_hop(request, now);
        self.pump(now);
    }

    /// Our own next hop toward an address, with the carrier and inner MTU of the link.
    pub(crate) fn next_hop_toward(&self, addr: &MeshAddr) -> Option<(NodeId, Option<CarrierKind>, u16)> {
        let hop = match self.fib.get(addr).filter(|_| !self.takes_shortcut(addr)) {
            Some(entry) => self.sessions.keys().session(&entry.next_hop)?.peer,
            None => match self.sessions.keys().session(addr).filter(|session| session.path.is_some()) {
                Some(session) => session.peer,
                None => self.router.default_next_hop()?,
            },
        };
        let link = self.links.get(&hop)?;
        let mtu = link.info.payload().saturating_sub(sinew_wire::record::DATA_OVERHEAD);
        Some((hop, Some(link.path.carrier), mtu as u16))
    }

    fn ask_hop(&mut self, request: u64, now: Instant) {
        let Some(peer) = self.probes.traces.get(&request).map(|trace| trace.asked) else { return };
        if !self.is_up(&peer) {
            self.open_routed(peer, now);
        } else if let Some(trace) = self.probes.traces.get_mut(&request) {
            ask(&mut self.sessions, request, trace, now);
        }
    }

    pub(crate) fn on_probe_pong(&mut self, peer: NodeId, id: u32, rtt: Duration, now: Instant) {
        let is_it = |ping: &Ping| ping.target == peer.address() && ping.id == Some(id);
        let done: Vec<_> =
            self.probes.pings.iter().filter(|(_, ping)| is_it(ping)).map(|(&r, _)| r).collect();
        for request in done {
            self.probes.pings.remove(&request);
            let hop = self.next_hop_toward(&peer.address()).map(|(hop, ..)| hop);
            let path = hop.and_then(|hop| self.links.get(&hop)).map(|link| link.path);
            let answer = PingAnswer { node: peer, rtt, via: hop.filter(|hop| *hop != peer), path };
            self.emit(Event::PingDone { request, answer: Some(answer) });
        }
        let traces: Vec<_> = self
            .probes
            .traces
            .iter()
            .filter(|(_, t)| t.asked == peer && t.ping == Some(id))
            .map(|(&r, _)| r)
            .collect();
        for request in traces {
            if let Some(trace) = self.probes.traces.get_mut(&request) {
                trace.rtt = Some(rtt);
            }
            self.advance_trace(request, now);
        }
    }

    /// A request from a peer.
    pub(crate) fn on_request(&mut self, peer: NodeId, request: Request, now: Instant) {
        match request {
            Request::Trace { id, nonce, target } => self.answer_trace(peer, id, &nonce, &target, now),
            Request::WhoIs { addr } => self.answer_who_is(peer, &addr, now),
            Request::WhoIsReply { node } => self.on_who_is_reply(&node, now),
            Request::TraceReply(reply) => self.on_trace_reply(peer, *reply, now),
            Request::Bind(_)
            | Request::BindAck { .. }
            | Request::BindRefused { .. }
            | Request::Unbind { .. }
            | Request::Redeem(_)
            | Request::RedeemReply(_) => self.on_network_request(peer, request, now),
            Request::Observed { addr } => {
                if let Some(link) = self.links.get_mut(&peer) {
                    link.on_observed(now);
                    let path = link.path;
                    self.on_observed(peer, path, addr, now);
                }
            }
            Request::Punch(punch) => self.on_punch(peer, &punch, now),
            Request::PunchReply(punch) => self.on_punch_reply(peer, &punch, now),
            Request::PunchEnd { .. } => self.on_punch_end(peer, now),
            Request::Witness { id, node, ip } => self.on_witness(peer, id, &node, ip, now),
            Request::WitnessReply { id, seen } => self.on_witness_reply(peer, id, seen, now),
            Request::Scatter { round, ports } => self.on_scatter(peer, round, ports, now),
            Request::RecordsAsk { count } => self.on_records_ask(peer, count, now),
            Request::Records(records) => self.on_records(peer, &records, now),
            // Adjacency requests are the session's own; others belong to later versions.
            _ => self.drops.count(DropReason::BadControl),
        }
    }

    fn answer_trace(&mut self, peer: NodeId, id: u64, nonce: &[u8; 16], target: &MeshAddr, now: Instant) {
        if !self.probes.may_answer(now) {
            self.drops.count(DropReason::RateLimited);
            return;
        }
        let next = if *target == self.local { None } else { self.next_hop_toward(target) };
        let rtt =
            next.as_ref().and_then(|(hop, ..)| self.links.get(hop)).and_then(|link| link.quality.srtt());
        let mut reply = TraceReply {
            id,
            node: *self.identity.node_id().as_bytes(),
            name: self.name.clone(),
            next_hop: next.as_ref().map(|(hop, ..)| *hop.as_bytes()),
            next_rtt_us: rtt.map_or(0, |rtt| u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX)),
            next_carrier: next.as_ref().and_then(|&(_, carrier, _)| carrier).map_or(0, carrier_number),
            next_mtu: next.as_ref().map_or(0, |&(.., mtu)| mtu),
            signature: [0; 64],
        };
        reply.signature = self.identity.sign(Domain::TRACE, &reply.signed_bytes(nonce));
        let mut message = Vec::new();
        Request::TraceReply(Box::new(reply)).emit(&mut message);
        if self.sessions.send(peer, StreamClass::Requests, &message, now).is_err() {
            self.drops.count(DropReason::BadControl);
        }
    }

    fn on_trace_reply(&mut self, peer: NodeId, reply: TraceReply, now: Instant) {
        let request = reply.id;
        let Some(trace) = self.probes.traces.get_mut(&request) else {
            return self.drops.count(DropReason::BadControl);
        };
        let signed = verify(&peer, Domain::TRACE, &reply.signed_bytes(&trace.nonce), &reply.signature);
        if trace.asked != peer || reply.node != *peer.as_bytes() || !signed {
            return self.drops.count(DropReason::BadControl);
        }
        trace.reply = Some(reply);
        self.advance_trace(request, now);
    }

    /// With both the answer and the round trip of a hop in hand, goes on to the next.
    fn advance_trace(&mut self, request: u64, now: Instant) {
        let Some(trace) = self.probes.traces.get_mut(&request) else { return };
        let Some(rtt) = trace.rtt else { return };
        let Some(reply) = trace.reply.take() else { return };
        let node = trace.asked;
        let address = node.address();
        let (carrier, mtu) = (trace.carrier, trace.mtu);
        trace.hops.push(TraceHop { node, address, name: reply.name.clone(), carrier, rtt: Some(rtt), mtu });
        let known = |next: &NodeId, hops: &[TraceHop]| hops.iter().any(|hop| hop.node == *next);
        let next = reply.next_hop.and_then(|bytes| NodeId::parse(&bytes).ok());
        match next.filter(|next| !known(next, &trace.hops)) {
            Some(next) if address != trace.target && trace.hops.len() < MAX_HOPS => {
                trace.asked = next;
                trace.carrier = carrier_of(reply.next_carrier);
                trace.mtu = reply.next_mtu;
                trace.nonce = self.probes.rng.array();
                (trace.ping, trace.rtt) = (None, None);
                trace.deadline = now + HOP_PATIENCE;
                trace.again = trace.deadline;
                self.ask_hop(request, now);
            }
            _ => self.finish_trace(request),
        }
    }

    fn finish_trace(&mut self, request: u64) {
        if let Some(trace) = self.probes.traces.remove(&request) {
            let complete = trace.hops.last().is_some_and(|hop| hop.address == trace.target);
            self.emit(Event::TraceDone { request, hops: trace.hops, complete });
        }
    }

    pub(crate) fn tend_probes(&mut self, now: Instant) {
        let late: Vec<_> =
            self.probes.pings.iter().filter(|(_, p)| p.deadline <= now).map(|(&r, _)| r).collect();
        for request in late {
            self.probes.pings.remove(&request);
            self.emit(Event::PingDone { request, answer: None });
        }
        let late: Vec<_> =
            self.probes.traces.iter().filter(|(_, t)| t.deadline <= now).map(|(&r, _)| r).collect();
        for request in late {
            self.finish_trace(request);
        }
        let unanswered = |trace: &&mut Trace| trace.rtt.is_none() && trace.again <= now;
        for trace in self.probes.traces.values_mut().filter(unanswered) {
            measure(&mut self.sessions, trace, now);
        }
    }
}

const fn carrier_number(kind: CarrierKind) -> u8 {
    match kind {
        CarrierKind::Udp => 1,
        CarrierKind::Tcp => 2,
        CarrierKind::Quic => 3,
        CarrierKind::Wss => 4,
    }
}

const fn carrier_of(number: u8) -> Option<CarrierKind> {
    match number {
        1 => Some(CarrierKind::Udp),
        2 => Some(CarrierKind::Tcp),
        3 => Some(CarrierKind::Quic),
        4 => Some(CarrierKind::Wss),
        _ => None,
    }
}
