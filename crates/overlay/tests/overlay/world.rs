//! Overlays that talk to each other in memory, in virtual time: sessions come up when somebody wants
//! them, deliver in order after a delay, and end when the network is cut.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sinew_overlay::{Change, Event, Founding, Overlay, Range4, Refusal, StoredNetwork, found};
use sinew_types::{Identity, Instant, Label, NetworkId, NodeId};
use sinew_wire::request::Request;
use sinew_wire::segment::StreamClass;

/// Unix time at the beginning of the world, seconds.
pub(crate) const EPOCH: u64 = 1_800_000_000;
const LATENCY: Duration = Duration::from_millis(20);

pub(crate) fn label(text: &str) -> Label {
    Label::parse(text).expect("a label")
}

pub(crate) fn labels(texts: &[&str]) -> Vec<Label> {
    texts.iter().map(|text| label(text)).collect()
}

pub(crate) fn identity(n: u16) -> Identity {
    let mut seed = [7; 32];
    seed[..2].copy_from_slice(&n.to_le_bytes());
    Identity::from_seed(seed)
}

pub(crate) fn range() -> Range4 {
    Range4 { first: [10, 77, 0, 0].into(), len: 16, member_len: 24 }
}

pub(crate) fn founding(admin: NodeId) -> Founding {
    Founding {
        name: label("lab"),
        range: Some(range()),
        strict: false,
        admin,
        admin_name: Some(label("first")),
        groups: Vec::new(),
        numbers: None,
    }
}

/// What one node has on its disk.
#[derive(Default)]
pub(crate) struct Disk(pub(crate) BTreeMap<NetworkId, OneDisk>);

#[derive(Default)]
pub(crate) struct OneDisk {
    pub(crate) documents: BTreeMap<[u8; 32], Vec<u8>>,
    pub(crate) journal: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) meta: Vec<u8>,
}

impl Disk {
    fn apply(&mut self, network: NetworkId, changes: Vec<Change>) {
        let disk = self.0.entry(network).or_default();
        for change in changes {
            match change {
                Change::PutDocument { id, bytes } => _ = disk.documents.insert(id, bytes),
                Change::DropDocument { id } => _ = disk.documents.remove(&id),
                Change::PutMeta(meta) => disk.meta = meta,
                Change::PutJournal { key, value } => _ = disk.journal.insert(key, value),
                Change::DropJournal { key } => _ = disk.journal.remove(&key),
            }
        }
    }

    pub(crate) fn stored(&self, network: &NetworkId) -> StoredNetwork {
        let disk = &self.0[network];
        StoredNetwork {
            meta: disk.meta.clone(),
            documents: disk.documents.values().cloned().collect(),
            journal: disk.journal.clone().into_iter().collect(),
        }
    }
}

pub(crate) struct Node {
    pub(crate) overlay: Overlay,
    pub(crate) id: NodeId,
    pub(crate) disk: Disk,
    pub(crate) log: Vec<Event>,
    /// Peers that the machine asked for.
    wanted: BTreeSet<NodeId>,
    /// Which side of a cut it is on.
    pub(crate) side: u8,
    /// Tokens are not answered while this is set: the disk is slow.
    pub(crate) slow_disk: bool,
    pub(crate) tokens: Vec<u64>,
}

enum What {
    Up(NodeId, NodeId),
    Message { from: NodeId, to: NodeId, session: u64, class: StreamClass, bytes: Vec<u8> },
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    /// Sessions by pair, lower id first, each with a number.
    sessions: BTreeMap<(NodeId, NodeId), u64>,
    queue: BTreeMap<(Instant, u64), What>,
    counter: u64,
    /// Bytes and messages that were carried.
    pub(crate) carried: (usize, usize),
}

fn pair(a: NodeId, b: NodeId) -> (NodeId, NodeId) {
    (a.min(b), a.max(b))
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            now: Instant::ZERO,
            nodes: BTreeMap::new(),
            sessions: BTreeMap::new(),
            queue: BTreeMap::new(),
            counter: 0,
            carried: (0, 0),
        }
    }

    pub(crate) fn seconds(&self) -> u64 {
        EPOCH + self.now.as_micros() / 1_000_000
    }

    pub(crate) fn add(&mut self, n: u16) -> NodeId {
        let identity = Arc::new(identity(n));
        let id = identity.node_id();
        let overlay = Overlay::new(identity, [n as u8; 32], self.unix(), self.now);
        let node = Node {
            overlay,
            id,
            disk: Disk::default(),
            log: Vec::new(),
            wanted: BTreeSet::new(),
            side: 0,
            slow_disk: false,
            tokens: Vec::new(),
        };
        self.nodes.insert(id, node);
        id
    }

    fn unix(&self) -> u64 {
        EPOCH * 1_000_000 + self.now.as_micros()
    }

    pub(crate) fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).expect("a node of this world")
    }

    pub(crate) fn overlay(&self, id: NodeId) -> &Overlay {
        &self.nodes[&id].overlay
    }

    /// Does something with one node's machine, now.
    pub(crate) fn with<T>(&mut self, id: NodeId, act: impl FnOnce(&mut Overlay, Instant) -> T) -> T {
        let now = self.now;
        let result = act(&mut self.node(id).overlay, now);
        self.drain(id);
        result
    }

    /// A network of the owner `owner` whose first member and admin is `admin`.
    pub(crate) fn found(&mut self, owner: u16, admin: NodeId) -> NetworkId {
        let documents = found(&identity(owner), &founding(admin), self.seconds()).expect("a network");
        self.with(admin, |overlay, now| overlay.adopt("lab", documents, now)).expect("a member")
    }

    fn drain(&mut self, id: NodeId) {
        let now = self.now;
        let mut opened = Vec::new();
        let node = self.node(id);
        while let Some(event) = node.overlay.poll_event() {
            match &event {
                Event::Store { network, changes, token } => {
                    node.disk.apply(*network, changes.clone());
                    node.tokens.extend(token);
                }
                Event::Forget(network) => _ = node.disk.0.remove(network),
                Event::WantPeer { peer, .. } => {
                    node.wanted.insert(*peer);
                    opened.push(*peer);
                }
                _ => {}
            }
            node.log.push(event);
        }
        let mut sent = Vec::new();
        while let Some(send) = node.overlay.poll_send(now, |_, _| true) {
            sent.push(send);
        }
        let tokens = if node.slow_disk { Vec::new() } else { std::mem::take(&mut node.tokens) };
        for send in sent {
            let Some(session) = self.sessions.get(&pair(id, send.peer)).copied() else { continue };
            self.carried = (self.carried.0 + send.bytes.len(), self.carried.1 + 1);
            let (to, class, bytes) = (send.peer, send.class, send.bytes);
            self.enqueue(LATENCY, What::Message { from: id, to, session, class, bytes });
        }
        for peer in opened {
            self.enqueue(LATENCY, What::Up(id, peer));
        }
        for token in tokens {
            self.with(id, |overlay, now| overlay.stored(token, now));
        }
    }

    fn enqueue(&mut self, delay: Duration, what: What) {
        self.counter += 1;
        self.queue.insert((self.now + delay, self.counter), what);
    }

    fn reachable(&self, a: NodeId, b: NodeId) -> bool {
        let side = |id| self.nodes.get(&id).map(|node| node.side);
        side(a).is_some() && side(a) == side(b)
    }

    pub(crate) fn connect(&mut self, a: NodeId, b: NodeId) {
        if a == b || !self.reachable(a, b) || self.sessions.contains_key(&pair(a, b)) {
            return;
        }
        self.counter += 1;
        self.sessions.insert(pair(a, b), self.counter);
        let mut binding = [0; 32];
        binding[..8].copy_from_slice(&self.counter.to_le_bytes());
        binding[8..16].copy_from_slice(&pair(a, b).0.as_bytes()[..8]);
        binding[16..24].copy_from_slice(&pair(a, b).1.as_bytes()[..8]);
        for (one, other) in [(a, b), (b, a)] {
            self.with(one, |overlay, now| overlay.peer_up(other, binding, now));
        }
    }

    pub(crate) fn disconnect(&mut self, a: NodeId, b: NodeId) {
        if self.sessions.remove(&pair(a, b)).is_some() {
            for (one, other) in [(a, b), (b, a)] {
                if self.nodes.contains_key(&one) {
                    self.with(one, |overlay, now| overlay.peer_down(&other, now));
                }
            }
        }
    }

    /// Cuts or heals: sessions across sides end, wanted ones that are possible begin.
    pub(crate) fn sides(&mut self, side: impl Fn(usize) -> u8) {
        for (at, node) in self.nodes.values_mut().enumerate() {
            node.side = side(at);
        }
        let pairs: Vec<_> = self.sessions.keys().copied().collect();
        for (a, b) in pairs {
            if !self.reachable(a, b) {
                self.disconnect(a, b);
            }
        }
        let wanted: Vec<_> =
            self.nodes.values().flat_map(|node| node.wanted.iter().map(|peer| (node.id, *peer))).collect();
        for (a, b) in wanted {
            self.connect(a, b);
        }
    }

    fn deliver(&mut self, what: What) {
        match what {
            What::Up(a, b) => self.connect(a, b),
            What::Message { from, to, session, class, bytes } => {
                if self.sessions.get(&pair(from, to)) != Some(&session) {
                    return;
                }
                self.with(to, |overlay, now| match class {
                    StreamClass::Documents => overlay.handle_documents(&from, &bytes, now),
                    _ => overlay.handle_request(&from, Request::parse(&bytes).expect("our own"), now),
                });
            }
        }
    }

    /// Lets time pass, event by event.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.run_until(end, |_| false);
        self.now = end;
    }

    /// Lets time pass until `done` or `end`; whether it was done.
    pub(crate) fn run_until(&mut self, end: Instant, mut done: impl FnMut(&Self) -> bool) -> bool {
        for _ in 0..5_000_000 {
            if done(self) {
                return true;
            }
            let message = self.queue.first_key_value().map(|((at, _), _)| *at);
            let timer = self.nodes.values().filter_map(|node| node.overlay.poll_timeout()).min();
            let Some(at) = [message, timer].into_iter().flatten().min().filter(|at| *at <= end) else {
                return false;
            };
            self.now = self.now.max(at);
            if message == Some(at) {
                let ((_, _), what) = self.queue.pop_first().expect("the message");
                self.deliver(what);
                continue;
            }
            let due: Vec<NodeId> = self
                .nodes
                .values()
                .filter(|node| node.overlay.poll_timeout().is_some_and(|at| at <= self.now))
                .map(|node| node.id)
                .collect();
            for id in due {
                self.with(id, |overlay, now| overlay.handle_timeout(now));
            }
        }
        panic!("the world does not come to rest");
    }

    pub(crate) fn run_until_ok(&mut self, within: Duration, done: impl FnMut(&Self) -> bool) -> Duration {
        let start = self.now;
        assert!(self.run_until(start + within, done), "not within {within:?}");
        self.now.since(start)
    }

    /// Ids of the documents a node shares.
    pub(crate) fn shared(&self, id: NodeId, network: &NetworkId) -> BTreeSet<[u8; 32]> {
        self.overlay(id).state(network).map(|state| state.shared().copied().collect()).unwrap_or_default()
    }

    /// Whether all these nodes have the same documents and think the same of them.
    pub(crate) fn agree(&self, ids: &[NodeId], network: &NetworkId) -> bool {
        let first = self.overlay(ids[0]).state(network);
        let Ok(first) = first else { return false };
        ids.iter().all(|id| {
            self.overlay(*id).state(network).is_ok_and(|state| {
                state.fates == first.fates
                    && state.members == first.members
                    && state.workloads == first.workloads
                    && state.revoked == first.revoked
            })
        })
    }

    /// A new process on the same disk.
    pub(crate) fn restart(&mut self, id: NodeId) -> Result<(), Refusal> {
        let peers: Vec<NodeId> = self
            .sessions
            .keys()
            .filter(|(a, b)| *a == id || *b == id)
            .map(|(a, b)| if *a == id { *b } else { *a })
            .collect();
        for peer in &peers {
            self.disconnect(id, *peer);
        }
        let n = (0..=u16::MAX).find(|n| identity(*n).node_id() == id).expect("one of ours");
        let (unix, now) = (self.unix(), self.now);
        self.node(id).overlay = Overlay::new(Arc::new(identity(n)), [n as u8; 32], unix, now);
        let networks: Vec<_> = self.node(id).disk.0.keys().copied().collect();
        for network in networks {
            let stored = self.node(id).disk.stored(&network);
            self.with(id, |overlay, now| overlay.restore(network, stored, now))?;
        }
        for peer in peers {
            self.connect(id, peer);
        }
        Ok(())
    }
}
