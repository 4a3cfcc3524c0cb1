//! A small world in virtual time: session machines, a fast path as the node has one, and a network
//! that delays, loses, repeats and reorders from a seed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sinew_noise::HandshakeMac;
use sinew_noise::mac::psk_id;
use sinew_session::*;
use sinew_types::{CarrierKind, DropReason, Drops, Identity, Instant, NodeId, PathAddr, Rng};
use sinew_wire::handshake::{Hs1, Hs1Payload};
use sinew_wire::record::{DATA_OVERHEAD, DataHeader, HEADER_LEN, Kind, PREFIX_LEN, Prefix};

pub(crate) const UNIX: u64 = 1_800_000_000_000_000;

pub(crate) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(crate) fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) fn identity(seed: u8) -> Arc<Identity> {
    Arc::new(Identity::from_seed([seed; 32]))
}

pub(crate) fn udp(remote: &str) -> PathAddr {
    PathAddr { carrier: CarrierKind::Udp, local: 0, remote: remote.parse().unwrap() }
}

/// What an initiator says, for handshakes made by hand.
pub(crate) fn payload(stamp: u64, generation: u32, sign_bit: bool) -> Hs1Payload {
    Hs1Payload {
        stamp,
        assoc_own: 0xa550c,
        assoc_peer: 0,
        sign_bit,
        stub: false,
        wants_adjacency: true,
        ciphers: 1,
        ver_min: 1,
        ver_max: 1,
        max_lanes: 16,
        rx_max: 1500,
        psk_id: psk_id(&[0; 32]),
        features: 0,
        generation,
    }
}

/// HS1 with a good mac1, for a mesh without secret.
pub(crate) fn hs1(to: &NodeId, sender: u32, noise: [u8; 160]) -> Vec<u8> {
    let mut hs1 = Hs1 { sender, noise, mac1: [0; 16], mac2: [0; 16] };
    hs1.mac1 = HandshakeMac::new(to, &[0; 32]).mac1(Hs1::mac1_input(&hs1.emit()));
    hs1.emit().to_vec()
}

/// How the network treats datagrams.
#[derive(Clone, Copy)]
pub(crate) struct Link {
    pub(crate) latency: Duration,
    pub(crate) jitter: Duration,
    /// Per thousand.
    pub(crate) loss: u64,
    pub(crate) duplication: u64,
}

impl Link {
    pub(crate) const GOOD: Self =
        Self { latency: Duration::from_millis(10), jitter: Duration::ZERO, loss: 0, duplication: 0 };
}

/// A datagram as it passes an observer.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) at: Instant,
    pub(crate) from: usize,
    pub(crate) to: To,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) struct Node {
    pub(crate) sessions: Sessions,
    pub(crate) id: NodeId,
    pub(crate) identity: Arc<Identity>,
    pub(crate) addr: SocketAddr,
    pub(crate) events: Vec<Event>,
    /// Payloads of kind 4 that were delivered.
    pub(crate) inbox: Vec<Vec<u8>>,
    pub(crate) drops: Drops,
    /// Control messages are acknowledged as soon as they are delivered.
    pub(crate) acknowledges: bool,
    pub(crate) alive: bool,
    lanes: BTreeMap<NodeId, (u64, u32, SealLane)>,
}

impl Node {
    pub(crate) fn count(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        self.events.iter().filter(|event| wanted(event)).count()
    }

    pub(crate) fn ups(&self) -> usize {
        self.count(|e| matches!(e, Event::Up { fresh: true, .. }))
    }

    pub(crate) fn renewals(&self) -> usize {
        self.count(|e| matches!(e, Event::Up { fresh: false, .. }))
    }

    pub(crate) fn view(&self, peer: &NodeId) -> Option<Arc<SessionView>> {
        self.sessions.keys().session(&peer.address()).cloned()
    }

    pub(crate) fn messages(&self, wanted: StreamClass) -> Vec<Vec<u8>> {
        let bytes = |event: &Event| match event {
            Event::Message { class, bytes, .. } if *class == wanted => Some(bytes.clone()),
            _ => None,
        };
        self.events.iter().filter_map(bytes).collect()
    }
}

struct Flying {
    from: usize,
    source: SocketAddr,
    to: To,
    bytes: Vec<u8>,
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) nodes: Vec<Node>,
    pub(crate) link: Link,
    /// Whether relays carry To::Routed.
    pub(crate) relays: bool,
    /// Whether the underlay carries anything.
    pub(crate) underlay: bool,
    /// Largest datagram that the underlay carries from each node.
    pub(crate) width: [usize; 2],
    pub(crate) seen: Vec<Seen>,
    pub(crate) rng: Rng,
    flying: BTreeMap<(Instant, u64), Flying>,
    sent: u64,
}

impl World {
    /// Nodes 0, 1, … at 10.0.0.1:1, 10.0.0.2:1, …
    pub(crate) fn new(nodes: u8, seed: u8) -> Self {
        Self::with(nodes, seed, |_, config| config)
    }

    pub(crate) fn with(nodes: u8, seed: u8, configure: impl Fn(usize, Config) -> Config) -> Self {
        let mut world = Self {
            now: Instant::from_micros(1_000_000),
            nodes: Vec::new(),
            link: Link::GOOD,
            relays: false,
            underlay: true,
            width: [usize::MAX; 2],
            seen: Vec::new(),
            rng: Rng::new([seed; 32]),
            flying: BTreeMap::new(),
            sent: 0,
        };
        for n in 0..nodes {
            let config = configure(usize::from(n), Config::new(identity(n + 1)));
            let node = world.make(config, n);
            world.nodes.push(node);
        }
        world
    }

    fn make(&mut self, config: Config, n: u8) -> Node {
        let identity = Arc::clone(&config.identity);
        Node {
            sessions: Sessions::new(config, self.rng.array(), UNIX + self.now.as_micros(), self.now),
            id: identity.node_id(),
            identity,
            addr: format!("10.0.0.{}:1", n + 1).parse().unwrap(),
            events: Vec::new(),
            inbox: Vec::new(),
            drops: Drops::default(),
            acknowledges: true,
            alive: true,
            lanes: BTreeMap::new(),
        }
    }

    /// The node forgets everything but its key, as after kill -9 and a restart.
    pub(crate) fn restart(&mut self, n: usize) {
        let config = Config::new(Arc::clone(&self.nodes[n].identity));
        let events = std::mem::take(&mut self.nodes[n].events);
        let addr = self.nodes[n].addr;
        self.nodes[n] = self.make(config, n as u8);
        self.nodes[n].events = events;
        self.nodes[n].addr = addr;
    }

    pub(crate) fn path_to(&self, n: usize) -> PathAddr {
        PathAddr { carrier: CarrierKind::Udp, local: 0, remote: self.nodes[n].addr }
    }

    pub(crate) fn id(&self, n: usize) -> NodeId {
        self.nodes[n].id
    }

    pub(crate) fn open(&mut self, from: usize, to: usize) {
        let (peer, path) = (self.id(to), self.path_to(to));
        self.nodes[from].sessions.open(peer, Target::Direct(path), self.now);
        self.drain(from);
    }

    pub(crate) fn open_routed(&mut self, from: usize, to: usize) {
        let peer = self.id(to);
        self.nodes[from].sessions.open(peer, Target::Routed, self.now);
        self.drain(from);
    }

    /// Does something with one machine, then drains it.
    pub(crate) fn act<R>(&mut self, n: usize, work: impl FnOnce(&mut Sessions, Instant) -> R) -> R {
        let result = work(&mut self.nodes[n].sessions, self.now);
        self.drain(n);
        result
    }

    pub(crate) fn send(
        &mut self,
        from: usize,
        to: usize,
        class: StreamClass,
        message: &[u8],
    ) -> Result<u64, SendError> {
        let peer = self.id(to);
        self.act(from, |sessions, now| sessions.send(peer, class, message, now))
    }

    /// Seals and sends a user packet; `false` without a session.
    pub(crate) fn data(&mut self, from: usize, to: usize, payload: &[u8]) -> bool {
        let peer = self.id(to);
        let node = &mut self.nodes[from];
        let Some(view) = node.view(&peer) else { return false };
        let Some(epoch) = &view.epoch else { return false };
        let fits =
            |(id, generation, _): &(u64, u32, SealLane)| *id == epoch.id() && *generation == view.generation;
        if !node.lanes.get(&peer).is_some_and(fits) {
            let Some(lane) = epoch.take_lane() else {
                self.act(from, |sessions, now| sessions.on_notice(Notice::LanesExhausted { peer }, now));
                return false;
            };
            node.lanes.insert(peer, (epoch.id(), view.generation, lane));
        }
        let mut bytes = vec![0; DATA_OVERHEAD + payload.len()];
        bytes[HEADER_LEN + PREFIX_LEN..][..payload.len()].copy_from_slice(payload);
        let lane = &mut node.lanes.get_mut(&peer).unwrap().2;
        if lane.seal(Prefix::new(Kind::Mesh), &mut bytes).is_err() {
            return false;
        }
        view.traffic.on_sent(self.now.as_micros(), 1, bytes.len());
        let to = view.path.map_or(To::Routed(view.addr), To::Path);
        self.launch(from, to, bytes);
        true
    }

    fn launch(&mut self, from: usize, to: To, bytes: Vec<u8>) {
        self.seen.push(Seen { at: self.now, from, to, bytes: bytes.clone() });
        let carried = match to {
            To::Path(_) => self.underlay && self.width.get(from).is_none_or(|&width| bytes.len() <= width),
            To::Routed(_) => self.relays,
        };
        if !carried || !self.nodes[from].alive {
            return;
        }
        let source = self.nodes[from].addr;
        let copies = 1 + u64::from(self.rng.below(1000) < self.link.duplication);
        for _ in 0..copies {
            if self.rng.below(1000) < self.link.loss {
                continue;
            }
            let jitter = self.rng.below(self.link.jitter.as_micros() as u64 + 1);
            self.inject(from, source, to, bytes.clone(), self.link.latency + Duration::from_micros(jitter));
        }
    }

    /// Puts a datagram on the wire from any source.
    pub(crate) fn inject(
        &mut self,
        from: usize,
        source: SocketAddr,
        to: To,
        bytes: Vec<u8>,
        delay: Duration,
    ) {
        self.sent += 1;
        self.flying.insert((self.now + delay, self.sent), Flying { from, source, to, bytes });
    }

    /// Takes all outputs of a machine.
    pub(crate) fn drain(&mut self, n: usize) {
        loop {
            let mut buf = Vec::new();
            if let Some(transmit) = self.nodes[n].sessions.poll_transmit(&mut buf) {
                self.launch(n, transmit.to, buf);
            } else if let Some(event) = self.nodes[n].sessions.poll_event() {
                if let Event::Message { receipt, .. } = &event
                    && self.nodes[n].acknowledges
                {
                    self.nodes[n].sessions.acknowledge(*receipt, self.now);
                }
                self.nodes[n].events.push(event);
            } else {
                return;
            }
        }
    }

    fn arrive(&mut self, flying: Flying) {
        let (n, from) = match flying.to {
            To::Path(path) => {
                let Some(n) = self.nodes.iter().position(|node| node.addr == path.remote) else { return };
                (n, Arrival::Direct(PathAddr { remote: flying.source, ..path }))
            }
            To::Routed(addr) => {
                let Some(n) = self.nodes.iter().position(|node| node.id.address() == addr) else { return };
                let ingress = identity(200).node_id();
                (n, Arrival::Routed { src: self.nodes[flying.from].id.address(), ingress })
            }
        };
        if self.nodes[n].alive {
            self.deliver(n, from, flying.bytes);
        }
    }

    /// The fast path of node `n`.
    pub(crate) fn deliver(&mut self, n: usize, from: Arrival, mut bytes: Vec<u8>) {
        let now = self.now;
        let done = match bytes.first() {
            Some(1..=3) => self.nodes[n].sessions.handle_handshake(from, &mut bytes, now),
            Some(4) => self.record(n, from, &mut bytes),
            _ => Err(DropReason::UnknownType),
        };
        if let Err(reason) = done {
            self.nodes[n].drops.count(reason);
        }
        self.drain(n);
    }

    fn record(&mut self, n: usize, from: Arrival, bytes: &mut [u8]) -> Result<(), DropReason> {
        let now = self.now;
        let node = &mut self.nodes[n];
        let header = DataHeader::parse(bytes)?;
        let Some(epoch) = node.sessions.keys().get(header.receiver).cloned() else {
            if let Arrival::Direct(path) = from {
                node.sessions.unknown_index(path, now);
            }
            return Err(DropReason::UnknownIndex);
        };
        let opened = epoch.open(bytes)?;
        epoch.traffic().on_received(now.as_micros(), 1, bytes.len());
        if opened.first {
            node.sessions.on_notice(Notice::Confirmed { index: epoch.index(), from }, now);
        }
        if opened.prefix.kind <= Kind::Handshake {
            let payload = &bytes[opened.range];
            return node.sessions.handle_control(
                epoch.index(),
                from,
                opened.prefix.kind,
                payload,
                bytes.len(),
                now,
            );
        }
        if let Arrival::Direct(path) = from
            && !node.sessions.keys().session(epoch.addr()).is_some_and(|view| view.knows(&path))
        {
            let bytes = bytes.len();
            node.sessions.on_notice(Notice::NewSource { index: epoch.index(), from: path, bytes }, now);
        }
        node.inbox.push(bytes[opened.range].to_vec());
        Ok(())
    }

    fn next(&self) -> Option<Instant> {
        let wire = self.flying.keys().next().map(|(at, _)| *at);
        let timers = self.nodes.iter().filter(|n| n.alive).filter_map(|n| n.sessions.poll_timeout());
        timers.map(|(at, _)| at).chain(wire).min()
    }

    /// Lets time pass until `until`.
    pub(crate) fn run_until(&mut self, until: Instant) {
        let mut idle = 0;
        while let Some(at) = self.next().filter(|&at| at <= until) {
            idle = if at <= self.now { idle + 1 } else { 0 };
            assert!(idle < 10_000, "time stands still at {:?}: {:?}", self.now, self.reasons());
            self.now = self.now.max(at);
            let arriving = self.flying.first_entry().filter(|e| e.key().0 <= self.now).map(|e| e.remove());
            if let Some(flying) = arriving {
                self.arrive(flying);
                continue;
            }
            for n in 0..self.nodes.len() {
                if self.nodes[n].alive {
                    self.nodes[n].sessions.handle_timeout(self.now);
                    self.drain(n);
                }
            }
        }
        self.now = self.now.max(until);
    }

    fn reasons(&self) -> Vec<Option<(Instant, &'static str)>> {
        self.nodes.iter().map(|node| node.sessions.poll_timeout()).collect()
    }

    pub(crate) fn run(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    /// Two nodes with a settled direct session, events forgotten.
    pub(crate) fn pair(seed: u8) -> Self {
        let mut world = Self::new(2, seed);
        world.open(0, 1);
        world.run(ms(500));
        world.assert_linked();
        world.forget();
        world
    }

    pub(crate) fn forget(&mut self) {
        self.seen.clear();
        for node in &mut self.nodes {
            node.events.clear();
            node.inbox.clear();
            node.drops = Drops::default();
        }
    }

    /// Both have a session, a path and the same adjacency.
    pub(crate) fn assert_linked(&self) {
        let views: Vec<_> = (0..2).map(|n| self.nodes[n].view(&self.id(1 - n))).collect();
        for (n, view) in views.iter().enumerate() {
            let view = view
                .as_ref()
                .unwrap_or_else(|| panic!("node {n} has no session: {:?}", self.nodes[n].events));
            assert_eq!(view.path, Some(self.path_to(1 - n)), "node {n}");
            assert!(view.adj.is_some(), "node {n} has no adjacency: {:?}", self.nodes[n].events);
        }
        assert_eq!(views[0].as_ref().unwrap().adj, views[1].as_ref().unwrap().adj);
    }

    /// Both send on the same epoch, and it carries packets.
    pub(crate) fn assert_same_epoch(&mut self) {
        let binding = |world: &Self, n: usize| {
            let view = world.nodes[n].view(&world.id(1 - n));
            view.and_then(|view| view.epoch.clone()).map(|epoch| *epoch.binding())
        };
        assert!(binding(self, 0).is_some());
        assert_eq!(binding(self, 0), binding(self, 1));
        for n in 0..2 {
            let before = self.nodes[1 - n].inbox.len();
            assert!(self.data(n, 1 - n, b"which epoch"));
            self.run(self.link.latency + self.link.jitter + ms(1));
            assert_eq!(self.nodes[1 - n].inbox.len(), before + 1, "node {n}'s packet");
        }
    }

    pub(crate) fn handshakes(&self, n: usize) -> usize {
        self.seen.iter().filter(|seen| seen.from == n && seen.bytes[0] == 1).count()
    }
}
