//! Peers that the test plays by hand, and the stage they share with real nodes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sinew_node::Node;
use sinew_routing::{ChainKey, ChainValue};
use sinew_session::{Arrival, Config, Event, Notice, SealLane, Sessions, StreamClass, Target, To};
use sinew_types::{Class, Domain, DropReason, Identity, MeshAddr, Metric, NodeId, Seqno};
use sinew_wire::frag::FRAG_OVERHEAD;
use sinew_wire::record::{DATA_OVERHEAD, DataHeader, HEADER_LEN, Kind, MSG_DATA, PREFIX_LEN, Prefix};
use sinew_wire::routed::{Layout, MSG_ROUTED, ROUTED_OVERHEAD, RoutedHeader, Watermark, Waypoints};
use sinew_wire::routing::{FrameBuilder, OriginRecord, RoutingMessage};

use crate::common::{Flying, Net, path};

/// Where puppets are on the underlay: endpoint numbers from here on.
const FIRST_SEAT: usize = 100;
/// The wall clock at the start of every test, as the harness sets it.
const UNIX_US: u64 = 1_800_000_000_000_000;

pub(crate) const MS: Duration = Duration::from_millis(1);

/// A key, a chain, and sessions that the test speaks through.
pub(crate) struct Puppet {
    pub(crate) id: NodeId,
    pub(crate) addr: MeshAddr,
    pub(crate) seat: usize,
    pub(crate) sessions: Sessions,
    pub(crate) events: Vec<Event>,
    /// Inner packets that were sent to it.
    pub(crate) inner: Vec<Vec<u8>>,
    /// Routed records that were handed to it, opened.
    pub(crate) routed: Vec<(RoutedHeader, Vec<u8>)>,
    /// Whatever arrived, as it was on the wire.
    pub(crate) raw: Vec<Vec<u8>>,
    pub(crate) identity: Arc<Identity>,
    lanes: BTreeMap<NodeId, (u64, SealLane)>,
}

impl Puppet {
    pub(crate) fn new(number: usize, net: &Net, adjacency: bool) -> Self {
        let identity = Arc::new(Identity::from_seed([0x80 + number as u8; 32]));
        let config = Config { adjacency, ..Config::new(Arc::clone(&identity)) };
        // Another one after a restart.
        let mut seed = [0xc0 + number as u8; 32];
        seed[..8].copy_from_slice(&net.now.as_micros().to_le_bytes());
        let sessions = Sessions::new(config, seed, UNIX_US, net.now);
        let id = identity.node_id();
        Self {
            id,
            addr: id.address(),
            seat: FIRST_SEAT + number,
            sessions,
            events: Vec::new(),
            inner: Vec::new(),
            routed: Vec::new(),
            raw: Vec::new(),
            identity,
            lanes: BTreeMap::new(),
        }
    }

    fn lane(&mut self, peer: &NodeId) -> &mut SealLane {
        let view = self.sessions.keys().session(&peer.address()).expect("a session");
        let epoch = view.epoch.clone().expect("an epoch");
        if self.lanes.get(peer).is_none_or(|(id, _)| *id != epoch.id()) {
            self.lanes.insert(*peer, (epoch.id(), epoch.take_lane().expect("a free lane")));
        }
        &mut self.lanes.get_mut(peer).expect("just made").1
    }

    /// Uses up so many records of a lane, and gives it back.
    pub(crate) fn wear(&mut self, peer: &NodeId, records: u64) {
        self.lane(peer).skip(records);
        self.lanes.remove(peer);
    }

    /// The number of the adjacency with `peer`, as the puppet knows it.
    pub(crate) fn adj(&self, peer: &NodeId) -> Option<u8> {
        self.sessions.keys().session(&peer.address())?.adj
    }

    /// A DATA record for `peer`, whatever its payload.
    pub(crate) fn data(&mut self, peer: &NodeId, prefix: Prefix, payload: &[u8]) -> Vec<u8> {
        let mut record = vec![0; DATA_OVERHEAD + payload.len()];
        record[HEADER_LEN + PREFIX_LEN..][..payload.len()].copy_from_slice(payload);
        self.lane(peer).seal(prefix, &mut record).expect("keys");
        record
    }

    /// An inner packet for `peer`, sealed.
    pub(crate) fn packet(&mut self, peer: &NodeId, packet: &[u8]) -> Vec<u8> {
        self.data(peer, Prefix::new(Kind::Mesh), packet)
    }

    /// A ROUTED record over the link to `peer`.
    pub(crate) fn wrap(&mut self, peer: &NodeId, header: &RoutedHeader, body: &[u8]) -> Vec<u8> {
        let mut datagram = vec![0; ROUTED_OVERHEAD + body.len()];
        let layout = Layout::of(0, datagram.len()).expect("a body");
        let (head, rest) = body.split_at(layout.body_head.len());
        datagram[layout.body_head].copy_from_slice(head);
        datagram[layout.body_rest].copy_from_slice(rest);
        self.lane(peer).seal_routed(header, &mut datagram).expect("keys");
        datagram
    }

    /// A header for `dst` as an honest source would write it.
    pub(crate) fn header(&self, peer: &NodeId, src: MeshAddr, dst: MeshAddr) -> RoutedHeader {
        RoutedHeader {
            dst,
            src,
            watermark: Watermark::WORST,
            hop_limit: 64,
            ecn: 0,
            rescue: false,
            prio: 0,
            flow: 0,
            mode: 0,
            adj: self.adj(peer).unwrap_or(0),
            waypoints: Waypoints::NONE,
        }
    }

    /// A FRAG record.
    pub(crate) fn piece(&mut self, peer: &NodeId, id: u16, piece: u8, last: bool, bytes: &[u8]) -> Vec<u8> {
        let mut record = vec![0; FRAG_OVERHEAD + bytes.len()];
        record[HEADER_LEN..][..bytes.len()].copy_from_slice(bytes);
        self.lane(peer).seal_frag(piece, last, id, &mut record).expect("keys");
        record
    }

    /// Takes an opened or unopened message; what the fast path of a node does.
    fn hear(&mut self, from: Arrival, mut bytes: Vec<u8>, net: &Net) -> Option<(RoutedHeader, Vec<u8>)> {
        self.raw.push(bytes.clone());
        match bytes.first() {
            Some(1..=3) => {
                let _ = self.sessions.handle_handshake(from, &mut bytes, net.now);
                None
            }
            Some(&MSG_DATA) => {
                let _ = self.hear_record(from, &mut bytes, net);
                None
            }
            Some(&MSG_ROUTED) => self.hear_routed(bytes, net),
            _ => None,
        }
    }

    fn hear_record(&mut self, from: Arrival, bytes: &mut [u8], net: &Net) -> Result<(), DropReason> {
        let header = DataHeader::parse(bytes)?;
        let epoch = self.sessions.keys().get(header.receiver).cloned().ok_or(DropReason::UnknownIndex)?;
        let opened = epoch.open(bytes)?;
        epoch.traffic().on_received(net.now.as_micros(), 1, bytes.len());
        let index = header.receiver;
        if opened.first {
            self.sessions.on_notice(Notice::Confirmed { index, from }, net.now);
        }
        let payload = &bytes[opened.range.clone()];
        if opened.prefix.kind <= Kind::Handshake {
            let kind = opened.prefix.kind;
            return self.sessions.handle_control(index, from, kind, payload, bytes.len(), net.now);
        }
        self.inner.push(payload.to_vec());
        Ok(())
    }

    fn hear_routed(&mut self, mut bytes: Vec<u8>, net: &Net) -> Option<(RoutedHeader, Vec<u8>)> {
        let receiver = u32::from_le_bytes(*bytes[4..].first_chunk()?);
        let epoch = self.sessions.keys().get(receiver)?.clone();
        let opened = epoch.open_routed(&mut bytes).ok()?;
        epoch.traffic().on_received(net.now.as_micros(), 1, bytes.len());
        let body = bytes[opened.body].to_vec();
        self.routed.push((opened.header, body.clone()));
        Some((opened.header, body))
    }
}

/// Somebody's record and chain, for claims about them that are true, or not.
pub(crate) struct Origin {
    pub(crate) addr: MeshAddr,
    pub(crate) record: OriginRecord,
    h0: ChainValue,
}

impl Origin {
    /// Of the key `identity`; the anchor fits a chain that only this test knows.
    pub(crate) fn of(identity: &Identity) -> Self {
        let (id, h0) = (identity.node_id(), [7; 16]);
        let (addr, seqno) = (id.address(), Seqno::new(UNIX_US / 1000));
        let mut record = OriginRecord {
            node: *id.as_bytes(),
            seqno,
            class: Class::Router,
            landmark: false,
            landmark_power: 0,
            anchor: ChainKey { addr, seqno }.advance(Metric::ZERO, &h0, Metric::UNREACHABLE),
            expiry_min: 60,
            locator: Vec::new(),
            signature: [0; 64],
        };
        record.signature = identity.sign(Domain::ORIGIN, &record.signed_bytes());
        Self { addr, record, h0 }
    }

    /// The value that proves `metric`.
    pub(crate) fn proof(&self, metric: u16) -> ChainValue {
        let key = ChainKey { addr: self.addr, seqno: self.record.seqno };
        key.advance(Metric::ZERO, &self.h0, Metric::new(metric))
    }

    /// A claim to be `metric` away, proved by `chain`.
    pub(crate) fn claim(&self, metric: u16, chain: ChainValue) -> RoutingMessage {
        let (origin, seqno) = (self.addr, self.record.seqno);
        RoutingMessage::Update { origin, seqno, metric: Metric::new(metric), chain }
    }

    /// The record, and a route of `metric` that it proves.
    pub(crate) fn route(&self, metric: u16) -> [RoutingMessage; 2] {
        [RoutingMessage::Origin(self.record.clone()), self.claim(metric, self.proof(metric))]
    }
}

/// What every neighbour says first.
pub(crate) const HINT: RoutingMessage =
    RoutingMessage::Hint { floor: 1, class: Class::Router, k: 4096, radius: 1023 };

/// Real nodes and puppets under one clock.
pub(crate) struct Stage {
    pub(crate) net: Net,
    pub(crate) puppets: Vec<Puppet>,
    /// Datagrams to places where nobody is.
    pub(crate) stray: Vec<Flying>,
}

impl Stage {
    /// `net` with `neighbours` puppets linked to node 0.
    pub(crate) fn new(net: Net, neighbours: usize) -> Self {
        Self::with(net, neighbours, true)
    }

    /// As [`Stage::new`]; without `adjacency` the puppets want none.
    pub(crate) fn with(net: Net, neighbours: usize, adjacency: bool) -> Self {
        let puppets = (0..neighbours).map(|number| Puppet::new(number, &net, adjacency)).collect();
        let mut stage = Self { net, puppets, stray: Vec::new() };
        let victim = stage.net.ids[0];
        for puppet in &mut stage.puppets {
            puppet.sessions.open(victim, Target::Direct(path(0)), stage.net.now);
        }
        stage.run(500 * MS);
        for puppet in &stage.puppets {
            assert_eq!(puppet.adj(&victim).is_some(), adjacency, "{:?}", puppet.events);
        }
        stage
    }

    /// One node, one neighbour, and a puppet behind that neighbour with a session to the node.
    pub(crate) fn relayed() -> Self {
        Self::relayed_in(Net::new(1, &[]))
    }

    /// The same in a network that is there already.
    pub(crate) fn relayed_in(net: Net) -> Self {
        let mut stage = Self::new(net, 1);
        let far = Puppet::new(1, &stage.net, true);
        let (own, origin) = (Origin::of(&stage.puppets[0].identity), Origin::of(&far.identity));
        stage.puppets.push(far);
        stage.say(0, &[HINT]);
        stage.say(0, &own.route(1));
        stage.say(0, &origin.route(2));
        stage.run(200 * MS);
        let (victim, now) = (stage.net.ids[0], stage.net.now);
        assert_eq!(stage.node().next_hop(&stage.puppets[1].addr), Some(stage.puppets[0].addr));
        stage.puppets[1].sessions.open(victim, Target::Routed, now);
        stage.run(200 * MS);
        let view = stage.puppets[1].sessions.keys().session(&victim.address());
        assert!(view.is_some_and(|view| view.path.is_none()), "{:?}", stage.puppets[1].events);
        stage
    }

    /// Node 0, who is attacked.
    pub(crate) fn node(&self) -> &Node {
        &self.net.nodes[0]
    }

    pub(crate) fn victim(&self) -> NodeId {
        self.net.ids[0]
    }

    pub(crate) fn drops(&self, reason: DropReason) -> u64 {
        self.node().drops().get(reason)
    }

    /// Lets time pass for everybody.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.net.now + time;
        while self.net.now < end {
            self.net.run(MS);
            for flying in std::mem::take(&mut self.net.outside) {
                self.deliver(flying);
            }
            for number in 0..self.puppets.len() {
                self.puppets[number].sessions.handle_timeout(self.net.now);
                self.drain(number);
            }
        }
    }

    fn deliver(&mut self, flying: Flying) {
        let Some(relay) = self.puppets.iter().position(|puppet| puppet.seat == flying.to) else {
            return self.stray.push(flying);
        };
        let from = Arrival::Direct(path(flying.from));
        let handed = self.puppets[relay].hear(from, flying.bytes, &self.net);
        if let Some((header, body)) = handed {
            let arrival = Arrival::Routed { src: header.src, ingress: self.puppets[relay].id };
            if let Some(puppet) = self.puppets.iter_mut().find(|puppet| puppet.addr == header.dst) {
                puppet.hear(arrival, body, &self.net);
            }
        }
    }

    /// Sends what the puppet's sessions want sent, and acknowledges what they got.
    pub(crate) fn drain(&mut self, number: usize) {
        let now = self.net.now;
        while let Some(event) = self.puppets[number].sessions.poll_event() {
            if let Event::Message { receipt, .. } = &event {
                self.puppets[number].sessions.acknowledge(*receipt, now);
            }
            self.puppets[number].events.push(event);
        }
        let mut buf = Vec::new();
        while let Some(transmit) = self.puppets[number].sessions.poll_transmit(&mut buf) {
            let bytes = std::mem::take(&mut buf);
            match transmit.to {
                To::Path(_) => self.throw(number, bytes),
                To::Routed(dst) => {
                    let src = self.puppets[number].addr;
                    self.relay(src, dst, &bytes);
                }
            }
        }
    }

    /// Puts a datagram of a puppet on the wire to node 0.
    pub(crate) fn throw(&mut self, number: usize, bytes: Vec<u8>) {
        self.net.launch(Flying { from: self.puppets[number].seat, to: 0, bytes });
    }

    /// The first puppet hands a body on to node 0.
    pub(crate) fn relay(&mut self, src: MeshAddr, dst: MeshAddr, body: &[u8]) {
        let victim = self.victim();
        let header = self.puppets[0].header(&victim, src, dst);
        let datagram = self.puppets[0].wrap(&victim, &header, body);
        self.throw(0, datagram);
    }

    /// A puppet says something in the routing stream; gives the ordinal of the frame.
    pub(crate) fn say(&mut self, number: usize, messages: &[RoutingMessage]) -> u64 {
        let (victim, now) = (self.victim(), self.net.now);
        let mut frame = Vec::new();
        let mut builder = FrameBuilder::new(&mut frame);
        for message in messages {
            assert!(builder.push(message), "the test's frame is too long");
        }
        let sent = self.puppets[number].sessions.send(victim, StreamClass::Routing, &frame, now);
        self.drain(number);
        sent.expect("an open adjacency")
    }
}
