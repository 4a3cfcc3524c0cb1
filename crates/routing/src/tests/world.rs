//! A small world for tests: real routers, FIFO queues with arbitrary delay, and two checkers.
//!
//! Each end of a link opens, closes and notices on its own, as routing-model §3 has it. Whoever
//! breaks a promise of the environment on purpose does it through [`Breach`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sinew_types::{Class, Identity, Instant, MeshAddr, Metric, NodeId, Rank};

use crate::config::{Config, Significance};
use crate::destination::{Destination, Told};
use crate::rules::Rule;
use crate::verifier::{SharedMemo, Verifier};
use crate::{Event, Router};

/// Wall clock at the start, µs.
pub(crate) const UNIX: u64 = 1_800_000_000_000_000;

/// A promise of the environment that a test breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breach {
    /// A frame is confirmed on receipt and processed later (D3).
    AckOnReceipt,
    /// A router loses its state, its adjacencies live on.
    RestartKeepsLinks,
}

#[derive(Debug)]
enum Item {
    Join,
    Frame { ordinal: u64, bytes: Vec<u8> },
}

/// One end of a link.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) node: usize,
    /// The incarnation this end is up in.
    pub(crate) up: Option<u64>,
    pub(crate) cost: Metric,
    sent: u64,
    /// Towards the other end.
    queue: VecDeque<(u64, Item)>,
    acks: VecDeque<(u64, u64)>,
    /// Frames confirmed and not processed yet (a breach).
    inbox: VecDeque<(u64, Vec<u8>)>,
}

#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) ends: [End; 2],
    /// Incarnations drawn so far.
    drawn: u64,
}

impl Wire {
    /// Both ends are up in one incarnation.
    pub(crate) fn live(&self) -> bool {
        self.ends[0].up.is_some() && self.ends[0].up == self.ends[1].up
    }
}

pub(crate) struct World {
    pub(crate) routers: Vec<Router>,
    pub(crate) ids: Vec<NodeId>,
    pub(crate) addrs: Vec<MeshAddr>,
    identities: Vec<Arc<Identity>>,
    verifier: Arc<dyn Verifier>,
    pub(crate) wires: Vec<Wire>,
    pub(crate) now: Instant,
    pub(crate) rule_out: Option<Rule>,
    pub(crate) breach: Option<Breach>,
    pub(crate) significance: Significance,
    pub(crate) floor: u16,
    restarts: u64,
    pub(crate) messages: u64,
    /// Pairs of nodes share a key; else a report of it is a failure.
    pub(crate) twins: bool,
    /// Who reported whose key, and when.
    pub(crate) reports: Vec<(usize, NodeId, Instant)>,
    /// An honest router was taken for a liar.
    fault: Option<String>,
    pub(crate) trace: Vec<String>,
}

impl World {
    /// `n` routers and links `(a, b, cost)`, all down.
    pub(crate) fn new(n: usize, links: &[(usize, usize, u16)]) -> Self {
        Self::with_memo(n, links, Arc::new(SharedMemo::default()))
    }

    pub(crate) fn with_memo(n: usize, links: &[(usize, usize, u16)], verifier: Arc<dyn Verifier>) -> Self {
        let identities: Vec<_> = (0..n).map(identity).collect();
        let ids: Vec<_> = identities.iter().map(|identity| identity.node_id()).collect();
        let end = |node, cost| End {
            node,
            up: None,
            cost: Metric::new(cost),
            sent: 0,
            queue: VecDeque::new(),
            acks: VecDeque::new(),
            inbox: VecDeque::new(),
        };
        let wires = links.iter().map(|&(a, b, c)| Wire { ends: [end(a, c), end(b, c)], drawn: 0 }).collect();
        let mut world = Self {
            routers: Vec::new(),
            addrs: ids.iter().map(NodeId::address).collect(),
            ids,
            identities,
            verifier,
            wires,
            now: Instant::from_micros(1),
            rule_out: None,
            breach: None,
            significance: Significance::EXACT,
            floor: 1,
            restarts: 0,
            messages: 0,
            twins: false,
            reports: Vec::new(),
            fault: None,
            trace: Vec::new(),
        };
        for node in 0..n {
            let router = world.birth(node, 0);
            world.routers.push(router);
        }
        world
    }

    pub(crate) fn birth(&mut self, node: usize, clock_back: u64) -> Router {
        self.restarts += 1;
        let mut config = Config::new(Arc::clone(&self.identities[node]));
        config.significance = self.significance;
        let seed = [self.restarts as u8; 32];
        let unix = UNIX + self.now.as_micros() - clock_back;
        let mut router = Router::with_verifier(config, seed, unix, self.now, Arc::clone(&self.verifier));
        router.rules.without = self.rule_out;
        router
    }

    /// Gives `b` the key of `a`, both new.
    pub(crate) fn share_key(&mut self, a: usize, b: usize) {
        self.twins = true;
        self.identities[b] = Arc::clone(&self.identities[a]);
        (self.ids[b], self.addrs[b]) = (self.ids[a], self.addrs[a]);
        self.restart(a, 0);
        self.restart(b, 0);
    }

    pub(crate) fn without(&mut self, rule: Rule) {
        self.rule_out = Some(rule);
        for router in &mut self.routers {
            router.rules.without = Some(rule);
        }
    }

    pub(crate) fn note(&mut self, what: impl FnOnce() -> String) {
        if self.trace.len() < 10_000 {
            self.trace.push(what());
        }
    }

    pub(crate) fn wire_between(&self, a: usize, b: usize) -> (usize, usize) {
        let found = self.wires.iter().position(|w| {
            (w.ends[0].node, w.ends[1].node) == (a, b) || (w.ends[1].node, w.ends[0].node) == (a, b)
        });
        let wire = found.expect("a link between the two");
        (wire, usize::from(self.wires[wire].ends[1].node == a))
    }

    /// One end draws a new incarnation and greets the other.
    pub(crate) fn open(&mut self, wire: usize, end: usize) {
        self.note(|| format!("open {wire}.{end}"));
        self.wires[wire].drawn += 1;
        let incarnation = self.wires[wire].drawn;
        self.bring_up(wire, end, incarnation);
        self.wires[wire].ends[end].queue.push_back((incarnation, Item::Join));
    }

    fn bring_up(&mut self, wire: usize, end: usize, incarnation: u64) {
        let other = self.wires[wire].ends[1 - end].node;
        let mine = &mut self.wires[wire].ends[end];
        mine.up = Some(incarnation);
        mine.sent = 0;
        mine.inbox.clear();
        let (node, cost) = (mine.node, mine.cost);
        let floor = Metric::new(self.floor);
        self.routers[node].neighbour_up(self.ids[other], cost, floor, Class::Router, self.now);
        self.drain(node);
    }

    /// One end gives up; what it had queued may be lost or not.
    pub(crate) fn close(&mut self, wire: usize, end: usize, lose: bool) {
        self.note(|| format!("close {wire}.{end}"));
        let other = self.wires[wire].ends[1 - end].node;
        let mine = &mut self.wires[wire].ends[end];
        mine.up = None;
        mine.inbox.clear();
        if lose {
            mine.queue.clear();
            mine.acks.clear();
        }
        let node = mine.node;
        self.routers[node].neighbour_down(&self.ids[other], self.now);
        self.drain(node);
    }

    /// An end finds out that the other is gone; whether there was anything to find.
    pub(crate) fn notice(&mut self, wire: usize, end: usize) -> bool {
        let w = &self.wires[wire];
        let orphan = w.ends[end].up.is_some() && w.ends[1 - end].up != w.ends[end].up;
        // Its greeting may still be on the way.
        let greeted = w.ends[end].queue.iter().any(|(inc, _)| Some(*inc) == w.ends[end].up);
        if orphan && !greeted {
            self.close(wire, end, true);
        }
        orphan && !greeted
    }

    pub(crate) fn set_cost(&mut self, wire: usize, end: usize, cost: u16) {
        self.note(|| format!("cost {wire}.{end} {cost}"));
        let other = self.wires[wire].ends[1 - end].node;
        let mine = &mut self.wires[wire].ends[end];
        mine.cost = Metric::new(cost);
        let (node, up) = (mine.node, mine.up.is_some());
        if up {
            self.routers[node].set_cost(&self.ids[other], Metric::new(cost), self.now);
            self.drain(node);
        }
    }

    pub(crate) fn evict(&mut self, node: usize, dest: usize) {
        self.note(|| format!("evict {dest} at {node}"));
        let router = &mut self.routers[node];
        if let Some(key) = router.table.find(&self.addrs[dest]) {
            router.evict(key, Instant::FAR_FUTURE, self.now);
        }
        self.drain(node);
    }

    pub(crate) fn admit(&mut self, node: usize, dest: usize) {
        self.note(|| format!("admit {dest} at {node}"));
        let router = &mut self.routers[node];
        if let Some(key) = router.table.find(&self.addrs[dest]) {
            if let Some(dest) = router.table.get_mut(key) {
                dest.hold_until = Instant::ZERO;
            }
            router.admit(key, self.now);
        }
        self.drain(node);
    }

    /// The node loses everything; its neighbours find out later.
    pub(crate) fn restart(&mut self, node: usize, clock_back: u64) {
        self.note(|| format!("restart {node}"));
        // No two lives sign in the same millisecond.
        self.pass(Duration::from_millis(7));
        let clock_back = if clock_back > 0 { clock_back + self.restarts * 13_000 } else { 0 };
        self.routers[node] = self.birth(node, clock_back);
        for wire in 0..self.wires.len() {
            for end in 0..2 {
                if self.wires[wire].ends[end].node != node {
                    continue;
                }
                let incarnation = self.wires[wire].ends[end].up;
                match incarnation.filter(|_| self.breach == Some(Breach::RestartKeepsLinks)) {
                    Some(incarnation) => {
                        self.bring_up(wire, end, incarnation);
                        let origins = self.addrs.clone();
                        // The restarted end asks to be told again; the other knows nothing of it.
                        let other = self.wires[wire].ends[1 - end].node;
                        for origin in origins {
                            let slot = self.routers[other].neighbours.slot_of(&self.ids[node]);
                            let key = self.routers[other].table.find(&origin);
                            if let (Some(slot), Some(key)) = (slot, key)
                                && self.routers[other]
                                    .table
                                    .get(key)
                                    .is_some_and(|d| d.link(slot).is_some_and(|l| l.told().is_some()))
                            {
                                let how = crate::destination::FORCE | crate::destination::RECORD;
                                self.routers[other].mark(key, slot, how, self.now);
                            }
                        }
                        if let Some(slot) = self.routers[other].neighbours.slot_of(&self.ids[node])
                            && let Some(neighbour) = self.routers[other].neighbours.get_mut(slot)
                        {
                            neighbour.hint_due = true;
                        }
                    }
                    None => {
                        let mine = &mut self.wires[wire].ends[end];
                        mine.up = None;
                        mine.queue.clear();
                        mine.acks.clear();
                        mine.inbox.clear();
                    }
                }
            }
        }
    }

    /// The window of an end opens for one frame; whether there was one.
    pub(crate) fn send(&mut self, wire: usize, end: usize) -> bool {
        let other = self.wires[wire].ends[1 - end].node;
        let mine = &mut self.wires[wire].ends[end];
        let Some(incarnation) = mine.up else { return false };
        let mut bytes = Vec::new();
        if !self.routers[mine.node].poll_frame(&self.ids[other], self.now, &mut bytes) {
            return false;
        }
        mine.sent += 1;
        let ordinal = mine.sent;
        mine.queue.push_back((incarnation, Item::Frame { ordinal, bytes }));
        true
    }

    /// Delivers the oldest thing that `end` has sent; whether there was one.
    pub(crate) fn deliver(&mut self, wire: usize, end: usize) -> bool {
        let Some((incarnation, item)) = self.wires[wire].ends[end].queue.pop_front() else { return false };
        self.note(|| format!("deliver {wire}.{end} {}", describe(&item)));
        let theirs = &mut self.wires[wire].ends[1 - end];
        match item {
            Item::Join => {
                let stale = theirs.up.is_some_and(|up| up >= incarnation);
                // Only the newest greeting counts; older ones were answered by a newer incarnation.
                if !stale && incarnation == self.wires[wire].drawn {
                    self.bring_up(wire, 1 - end, incarnation);
                }
            }
            Item::Frame { ordinal, bytes } => {
                if theirs.up == Some(incarnation) {
                    if self.breach == Some(Breach::AckOnReceipt) {
                        theirs.acks.push_back((incarnation, ordinal));
                        theirs.inbox.push_back((ordinal, bytes));
                    } else {
                        self.process(wire, 1 - end, &bytes);
                        self.wires[wire].ends[1 - end].acks.push_back((incarnation, ordinal));
                    }
                }
            }
        }
        true
    }

    fn process(&mut self, wire: usize, end: usize, bytes: &[u8]) {
        self.messages += 1;
        let other = self.wires[wire].ends[1 - end].node;
        let node = self.wires[wire].ends[end].node;
        let result = self.routers[node].handle_frame(&self.ids[other], bytes, self.now);
        let whole = self.rule_out.is_none() && self.breach.is_none();
        if let Err(misbehaviour) = result
            && whole
        {
            self.fault = Some(format!("{other} is honest and {node} blames it: {misbehaviour}"));
        }
        self.drain(node);
    }

    /// Processes what was confirmed too early.
    pub(crate) fn process_late(&mut self, wire: usize, end: usize) -> bool {
        let Some((_, bytes)) = self.wires[wire].ends[end].inbox.pop_front() else { return false };
        self.note(|| format!("process {wire}.{end}"));
        self.process(wire, end, &bytes);
        true
    }

    /// Delivers the oldest confirmation that `end` has sent.
    pub(crate) fn deliver_ack(&mut self, wire: usize, end: usize) -> bool {
        let Some((incarnation, ordinal)) = self.wires[wire].ends[end].acks.pop_front() else { return false };
        self.note(|| format!("ack {wire}.{end} {ordinal}"));
        let from = self.wires[wire].ends[end].node;
        let theirs = &self.wires[wire].ends[1 - end];
        if theirs.up == Some(incarnation) {
            let node = theirs.node;
            self.routers[node].on_processed(&self.ids[from], ordinal, self.now);
            self.drain(node);
        }
        true
    }

    fn drain(&mut self, node: usize) {
        while self.routers[node].poll_change().is_some() {}
        while let Some(event) = self.routers[node].poll_event() {
            if let Event::DuplicateIdentity(id) = event {
                assert!(self.twins, "{node} takes {id} for two");
                self.reports.push((node, id, self.now));
            }
        }
    }

    pub(crate) fn tick(&mut self, node: usize) {
        self.routers[node].handle_timeout(self.now);
        self.drain(node);
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// Everything that can move moves, then time goes on to the next deadline, for `time` in all.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            while self.settle_once() {}
            let next = self.routers.iter().filter_map(Router::poll_timeout).map(|(at, _)| at).min();
            match next {
                Some(at) if at <= end => self.now = at.max(self.now),
                _ => break,
            }
            for node in 0..self.routers.len() {
                self.tick(node);
            }
        }
        self.now = end;
    }

    /// One round of sending and delivering; whether anything moved.
    fn settle_once(&mut self) -> bool {
        let mut moved = false;
        for wire in 0..self.wires.len() {
            for end in 0..2 {
                moved |= self.send(wire, end);
                moved |= self.deliver(wire, end);
                moved |= self.process_late(wire, end);
                moved |= self.deliver_ack(wire, end);
                moved |= self.notice(wire, end);
            }
        }
        moved
    }

    /// Opens every link that is down, from its first end.
    pub(crate) fn open_all(&mut self) {
        for wire in 0..self.wires.len() {
            if !self.wires[wire].live() {
                self.open(wire, 0);
            }
        }
    }

    pub(crate) fn index_of(&self, id: &NodeId) -> usize {
        self.ids.iter().position(|known| known == id).expect("a node of this world")
    }

    pub(crate) fn dest(&self, node: usize, dest: usize) -> Option<&Destination> {
        let router = &self.routers[node];
        router.table.find(&self.addrs[dest]).and_then(|key| router.table.get(key))
    }

    pub(crate) fn next_hop(&self, node: usize, dest: usize) -> Option<usize> {
        let slot = self.dest(node, dest)?.next_hop?;
        Some(self.index_of(&self.routers[node].neighbours.get(slot)?.id))
    }

    pub(crate) fn metric(&self, node: usize, dest: usize) -> Option<u16> {
        Some(self.dest(node, dest)?.own?.metric().units())
    }

    pub(crate) fn fd(&self, node: usize, dest: usize) -> Option<Rank> {
        self.dest(node, dest)?.fd.map(|fd| fd.rank())
    }

    /// The next hop, if the adjacency to it is up at both ends in one incarnation.
    pub(crate) fn live_next_hop(&self, node: usize, dest: usize) -> Option<usize> {
        let next = self.next_hop(node, dest)?;
        let (wire, _) = self.wire_between(node, next);
        self.wires[wire].live().then_some(next)
    }

    /// S1: no cycle of next hops over live adjacencies. S2: feasibility distances fall along them.
    pub(crate) fn check(&self) -> Result<(), String> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        for dest in 0..self.ids.len() {
            for node in 0..self.ids.len() {
                let mut at = node;
                for _ in 0..self.ids.len() {
                    match self.live_next_hop(at, dest) {
                        Some(next) if at != dest => at = next,
                        _ => break,
                    }
                    if at == node {
                        return Err(format!("S1: a loop towards {dest} through {node}"));
                    }
                }
                if node != dest
                    && let Some(next) = self.live_next_hop(node, dest)
                {
                    let (mine, theirs) = (self.fd(node, dest), self.fd(next, dest));
                    let falls = mine.zip(theirs).is_some_and(|(mine, theirs)| theirs.better_than(mine));
                    if !falls {
                        return Err(format!("S2: {node} -> {next} towards {dest}: {mine:?} then {theirs:?}"));
                    }
                }
            }
        }
        Ok(())
    }

    /// At rest: shortest routes for all who can have one, none for the others, nothing left over.
    pub(crate) fn check_rest(&self) -> Result<(), String> {
        for dest in 0..self.ids.len() {
            let truth = self.shortest(dest);
            for node in (0..self.ids.len()).filter(|&node| node != dest) {
                let (have, want) = (self.metric(node, dest), truth.get(&node).copied());
                let (slack, exact) = (self.slack(), self.significance == Significance::EXACT);
                let good = match (have, want) {
                    (Some(have), Some(want)) if exact => have == want,
                    (Some(have), Some(want)) => f64::from(have) <= f64::from(want) * slack + 4.0,
                    (have, want) => have.is_none() && want.is_none(),
                };
                if !good {
                    return Err(format!("at rest {node} -> {dest}: metric {have:?}, should be {want:?}"));
                }
                self.check_clean(node, dest)?;
            }
        }
        Ok(())
    }

    fn slack(&self) -> f64 {
        1.0 + f64::from(self.significance.eighths) / 8.0 * self.ids.len() as f64
    }

    /// The state of every destination at every node, for a failing test.
    pub(crate) fn dump(&self) {
        eprintln!("now {:?} ids {:?} addrs {:?}", self.now, self.ids, self.addrs);
        for (i, router) in self.routers.iter().enumerate() {
            for (_, dest) in router.table.iter() {
                eprintln!(
                    "{i} -> {} fd {:?} own {:?} nh {:?}",
                    self.index_of(&dest.origin.node),
                    dest.fd,
                    dest.own,
                    dest.next_hop
                );
                eprintln!(
                    "   admitted {} timer {:?} retry {:?} touched {:?} wants {:?} asked {:?}",
                    dest.admitted, dest.timer, dest.retry_at, dest.touched, dest.wants, dest.asked
                );
                for link in &dest.links {
                    let id = router.neighbours.get(link.slot).map(|n| self.index_of(&n.id));
                    eprintln!("   from {id:?} (slot {}) {link:?}", link.slot);
                }
            }
        }
    }

    fn check_clean(&self, node: usize, dest: usize) -> Result<(), String> {
        let Some(state) = self.dest(node, dest) else { return Ok(()) };
        let tombstone = state.fd.is_some() && state.next_hop.is_none();
        let unconfirmed = state.links.iter().any(|link| match link.state() {
            Told::Retracted(at) => {
                self.routers[node].neighbours.get(link.slot).is_some_and(|n| n.processed < at)
            }
            _ => false,
        });
        if tombstone || unconfirmed {
            return Err(format!("at rest {node} keeps a tombstone for {dest}: {state:?}"));
        }
        Ok(())
    }

    /// Least metrics towards `dest` through routers that admit it (Bellman–Ford).
    fn shortest(&self, dest: usize) -> BTreeMap<usize, u16> {
        let mut best = BTreeMap::from([(dest, 0_u16)]);
        for _ in 0..self.ids.len() {
            for wire in self.wires.iter().filter(|wire| wire.live()) {
                for end in 0..2 {
                    let (node, via) = (wire.ends[end].node, wire.ends[1 - end].node);
                    let refused = self.dest(node, dest).is_some_and(|state| !state.admitted);
                    let Some(&far) = best.get(&via).filter(|_| !refused) else { continue };
                    let metric = far + wire.ends[end].cost.units().max(self.floor);
                    if best.get(&node).is_none_or(|&known| metric < known) {
                        best.insert(node, metric);
                    }
                }
            }
        }
        best
    }
}

fn identity(node: usize) -> Arc<Identity> {
    let mut seed = [node as u8; 32];
    seed[31] = (node >> 8) as u8 + 1;
    Arc::new(Identity::from_seed(seed))
}

fn describe(item: &Item) -> String {
    match item {
        Item::Join => "join".into(),
        Item::Frame { bytes, .. } => {
            let messages = sinew_wire::routing::RoutingFrame::parse(bytes);
            messages.map(|m| format!("{:?}", m.map(|m| brief(&m)))).collect::<Vec<_>>().join(" ")
        }
    }
}

fn brief(message: &sinew_wire::routing::RoutingMessage) -> String {
    use sinew_wire::routing::RoutingMessage as M;
    match message {
        M::Hint { floor, radius, .. } => format!("hint {floor} {radius}"),
        M::Origin(record) => format!("record {:02x} {:?}", record.node[0], record.seqno),
        M::Update { origin, seqno, metric, .. } => format!("update {origin} {seqno:?} {metric:?}"),
        M::Retract { origin } => format!("retract {origin}"),
        M::SeqnoRequest { origin, seqno } => format!("ask {origin} {seqno:?}"),
        M::RouteRequest { origin } => format!("again {origin}"),
        M::RecordRequest { origin } => format!("record? {origin}"),
    }
}
