//! A network of real nodes under virtual time: one thread, one queue, one seed.
//!
//! ```text
//!        ┌───────────── queue (time, order of asking) ◀────────────┐
//!        ▼                                                          │
//!   datagram │ wake-up │ flow │ fault                               │
//!        │                                                          │
//!        ▼                                                          │
//!     node.handle_* ──▶ drain: poll_transmit ──▶ checkers, links ───┤
//!                              poll_tun ──▶ programs ──▶ handle_tun │
//!                              poll_event ──▶ names, streams        │
//!                              poll_timeout ────────────────────────┘
//! ```
//! The nodes are the ones the daemon runs; only sockets, clock and TUN are pretended. Each host
//! has a clock of its own, so nothing may rest on clocks being equal.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sinew_node::{PeerConfig, SharedMemo, Verifier};
use sinew_types::{CarrierKind, Drops, Instant, MeshAddr, Metric, PeerUri, Rng};

use crate::attack::Attack;
use crate::check::loops::{Loops, Tables};
use crate::check::plaintext::Plaintext;
use crate::check::revisits::{Revisits, Tail};
use crate::check::trace::Trace;
use crate::check::{Violation, bounds, drops};
use crate::fault::{Fault, WallClock};
use crate::finding;
use crate::host::{Host, PORT, address, host_name};
use crate::liar::{self, Lie};
use crate::link::Link;
use crate::nat::Translators;
use crate::params::Plan;
use crate::queue::{Happening, Queue};
use crate::streams::Stream;
use crate::traffic::Apps;
use crate::underlay::{Counts, Underlay};
use crate::workloads::Workloads;

/// How often tables, queues and drop counters are looked at.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A request sent again and again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    pub(crate) src: usize,
    pub(crate) dst: usize,
    pub(crate) interval: Duration,
    pub(crate) until: Instant,
}

/// Takes one line of the log.
pub type Log = Box<dyn FnMut(&str)>;

/// The network.
pub struct World {
    pub(crate) now: Instant,
    pub(crate) hosts: Vec<Host>,
    pub(crate) net: Underlay,
    pub(crate) queue: Queue,
    pub(crate) apps: Apps,
    /// The programs of private networks.
    pub(crate) workloads: Workloads,
    pub(crate) flows: Vec<Flow>,
    pub(crate) streams: BTreeMap<u32, Stream>,
    /// Pure checks, made once for all honest hosts.
    verifier: Arc<dyn Verifier>,
    liars: BTreeMap<usize, Lie>,
    /// Hosts that carry nothing for others.
    pub(crate) swallowers: BTreeSet<usize>,
    pub(crate) trace: Trace,
    pub(crate) plaintext: Plaintext,
    pub(crate) loops: Loops,
    pub(crate) revisits: Revisits,
    /// Routed datagrams of the drain at work, with their lengths, for the checker of revisits.
    pub(crate) routed: Vec<(Tail, usize)>,
    /// For whom the packet is that the host at work was given by a program, and its length.
    pub(crate) departing: Option<(usize, usize)>,
    pub(crate) next_check: Instant,
    /// Set where attackers make drops of any kind expected.
    pub(crate) attacked: bool,
    /// Told of every change of state, where somebody listens.
    pub(crate) log: Option<Log>,
    /// The adjacencies that the log was last told of.
    pub(crate) noted: BTreeMap<(usize, usize), Option<u8>>,
    /// How often each host moved.
    moves: Vec<u32>,
    /// What crashed nodes had dropped.
    buried: Drops,
    /// Bytes sent by each host.
    pub(crate) sent_bytes: Vec<u64>,
}

impl World {
    /// The network of a plan, all hosts starting at time zero.
    pub fn new(plan: &Plan) -> Self {
        let mut rng = Rng::new(plan.seed);
        let mut hosts: Vec<_> =
            (0..plan.nodes).map(|number| Host::new(number, 0, plan.classes[number], rng.fork())).collect();
        if let Some(realms) = &plan.realms {
            for (number, host) in hosts.iter_mut().enumerate() {
                (host.at, host.direct) = (realms.address(number), true);
            }
        }
        if let Some(finding) = &plan.finding {
            for (number, host) in hosts.iter_mut().enumerate() {
                host.at = finding::address(number, plan.nodes, finding);
                host.peering = finding.peering_of(number, plan.nodes);
            }
        }
        configure_peers(plan, &mut hosts, &mut rng);
        let addrs: Vec<_> = hosts.iter().map(|host| host.addr).collect();
        let links = plan.links.clone();
        let mut net = Underlay::new(links, hosts.iter().map(|host| host.at), rng.fork());
        net.translators = plan.realms.as_ref().map(|realms| Translators::new(realms, rng.fork()));
        let apps = Apps::new(addrs.clone(), &mut rng);
        let mut world = Self {
            now: Instant::ZERO,
            net,
            queue: Queue::default(),
            workloads: Workloads::new(apps.marker()),
            flows: Vec::new(),
            streams: BTreeMap::new(),
            verifier: Arc::new(SharedMemo::default()),
            trace: Trace::new(),
            plaintext: Plaintext::new(apps.marker(), &addrs),
            loops: Loops::new(&addrs),
            revisits: Revisits::default(),
            routed: Vec::new(),
            departing: None,
            next_check: Instant::ZERO + CHECK_INTERVAL,
            attacked: !plan.liars.is_empty() || plan.finding.is_some_and(|finding| finding.sybils > 0),
            liars: plan.liars.clone(),
            swallowers: BTreeSet::new(),
            log: None,
            noted: BTreeMap::new(),
            moves: vec![0; hosts.len()],
            buried: Drops::default(),
            sent_bytes: vec![0; hosts.len()],
            apps,
            hosts,
        };
        for host in 0..plan.nodes {
            world.start(host, WallClock::Right);
        }
        for &(at, fault) in &plan.faults {
            world.queue.push(at, Happening::Fault(fault));
        }
        world
    }

    /// Tells `log` of every change of state from now on: faults, links, adjacencies.
    pub fn set_log(&mut self, log: Log) {
        self.log = Some(log);
    }

    /// One line of the log: time, host, what happened.
    pub(crate) fn note(&mut self, host: usize, what: core::fmt::Arguments<'_>) {
        if let Some(log) = &mut self.log {
            log(&format!("{:12?} host {host:4}  {what}", self.now));
        }
    }

    // --- time ---

    /// The present.
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// Lets everything happen up to `until`.
    ///
    /// # Errors
    /// The first violation.
    pub fn run_until(&mut self, until: Instant) -> Result<(), Violation> {
        loop {
            let stop = until.min(self.next_check);
            while let Some((at, what)) = self.queue.pop_until(stop) {
                self.now = self.now.max(at);
                self.happen(what)?;
            }
            self.now = stop;
            if stop == self.next_check {
                self.check_all()?;
                self.next_check += CHECK_INTERVAL;
            }
            if stop == until {
                return Ok(());
            }
        }
    }

    /// As [`World::run_until`], for a while from now.
    ///
    /// # Errors
    /// The first violation.
    pub fn run_for(&mut self, span: Duration) -> Result<(), Violation> {
        self.run_until(self.now + span)
    }

    /// The checks that look at whole hosts.
    fn check_all(&mut self) -> Result<(), Violation> {
        for (number, host) in self.hosts.iter().enumerate() {
            let Some(node) = &host.node else { continue };
            bounds::look(number, node, self.now)?;
            if !self.attacked {
                drops::look(number, &node.drops(), self.now)?;
                drops::look(number, node.routing_drops(), self.now)?;
            }
        }
        self.loops.look_at_all(self.hosts.as_slice(), self.now)
    }

    // --- what tests and scenarios do to the network ---

    /// A program on `src` sends one request to `dst` now; its number in the ledger.
    ///
    /// # Errors
    /// The first violation.
    pub fn request(&mut self, src: usize, dst: usize) -> Result<usize, Violation> {
        let (number, packet) = self.apps.request(src, dst, self.now);
        self.send_packet(src, dst, packet)?;
        Ok(number)
    }

    /// A program on `src` sends requests to `dst` from now on until then.
    pub fn flow(&mut self, src: usize, dst: usize, interval: Duration, until: Instant) {
        let flow = self.flows.len();
        self.flows.push(Flow { src, dst, interval, until });
        self.queue.push(self.now, Happening::Flow { flow });
    }

    /// Makes a fault happen now.
    ///
    /// # Errors
    /// The first violation.
    pub fn fault(&mut self, fault: Fault) -> Result<(), Violation> {
        self.on_fault(fault)
    }

    /// An attacker touches what `from` sends to `to`, from now on. Ends the check for drops that
    /// only attackers cause.
    pub fn attack(&mut self, from: usize, to: usize, attack: Attack) {
        self.attacked = true;
        self.net.attack(from, to, attack);
    }

    /// A host looks for no direct paths from now on.
    pub fn forbid_direct(&mut self, host: usize) {
        let now = self.hosts[host].local(self.now);
        if let Some(node) = &mut self.hosts[host].node {
            node.set_direct(false, now);
        }
    }

    /// Nothing reaches the sockets that a host opens from now on.
    pub fn deafen(&mut self, host: usize) {
        self.hosts[host].deaf = true;
    }

    /// All translators restart, and forget their mappings.
    pub fn restart_translators(&mut self) {
        self.net.translators.iter_mut().for_each(Translators::restart);
    }

    /// All attackers leave.
    pub fn attack_ends(&mut self) {
        self.net.attack_ends();
    }

    // --- what tests and scenarios look at ---

    /// The hosts.
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The links.
    pub fn links(&self) -> &[Link] {
        &self.net.links
    }

    /// The programs and what they exchanged.
    pub const fn apps(&self) -> &Apps {
        &self.apps
    }

    /// The hash over every datagram so far.
    pub const fn trace(&self) -> u64 {
        self.trace.hash()
    }

    /// What the links carried.
    pub const fn counts(&self) -> Counts {
        self.net.counts
    }

    /// Things that are going to happen, as known now.
    pub fn pending(&self) -> usize {
        self.queue.len()
    }

    /// What all nodes dropped, those that crashed included.
    pub fn drops(&self) -> Drops {
        let mut all = self.buried.clone();
        for node in self.hosts.iter().filter_map(|host| host.node.as_ref()) {
            all.merge(&node.drops());
        }
        all
    }

    /// The hosts that a packet from `src` to `dst` would pass now, both included; `None` if it would
    /// not arrive.
    pub fn path(&self, src: usize, dst: usize) -> Option<Vec<usize>> {
        let mut path = vec![src];
        let mut at = src;
        while at != dst {
            let next = self.hosts.as_slice().next_hop(at, dst)?;
            let next = self.number_of(&next)?;
            if path.contains(&next) || !self.hosts.as_slice().adjacent(at, next) {
                return None;
            }
            path.push(next);
            at = next;
        }
        Some(path)
    }

    /// Which ordered pairs of running hosts have no path now; at most `most` of them.
    pub fn unreachable(&self, most: usize) -> Vec<(usize, usize)> {
        let running = |host: &usize| self.hosts[*host].node.is_some();
        let mut missing = Vec::new();
        for dst in (0..self.hosts.len()).filter(running) {
            let good = self.sources_of(dst);
            let bad = (0..self.hosts.len()).filter(running).filter(|&src| !good[src]);
            missing.extend(bad.map(|src| (src, dst)).take(most - missing.len()));
            if missing.len() >= most {
                break;
            }
        }
        missing
    }

    /// From which hosts packets reach `dst` now.
    fn sources_of(&self, dst: usize) -> Vec<bool> {
        let mut verdict: Vec<Option<bool>> = vec![None; self.hosts.len()];
        verdict[dst] = Some(true);
        let mut walk = Vec::new();
        for start in 0..self.hosts.len() {
            let mut at = start;
            while verdict[at].is_none() {
                // A walk that comes back to itself does not arrive.
                verdict[at] = Some(false);
                walk.push(at);
                match self.live_next_hop(at, dst) {
                    Some(next) => at = next,
                    None => break,
                }
            }
            let arrives = verdict[at] == Some(true);
            walk.drain(..).for_each(|host| verdict[host] = Some(arrives));
        }
        verdict.into_iter().map(|verdict| verdict == Some(true)).collect()
    }

    fn live_next_hop(&self, at: usize, dst: usize) -> Option<usize> {
        let next = self.hosts.as_slice().next_hop(at, dst)?;
        let next = self.number_of(&next)?;
        self.hosts.as_slice().adjacent(at, next).then_some(next)
    }

    /// A shortest way from `from` to `to` over adjacencies that both ends hold.
    pub(crate) fn open_way(&self, from: usize, to: usize) -> Option<Vec<usize>> {
        let mut before = BTreeMap::from([(from, from)]);
        let mut edge = VecDeque::from([from]);
        while let Some(at) = edge.pop_front() {
            for link in self.net.links.iter().filter(|link| link.ends.contains(&at)) {
                let next = link.other(at);
                if !before.contains_key(&next) && self.hosts.as_slice().adjacent(at, next) {
                    before.insert(next, at);
                    edge.push_back(next);
                }
            }
        }
        let mut way = vec![to];
        while let Some(&last) = way.last().filter(|&&last| last != from) {
            way.push(*before.get(&last)?);
        }
        way.reverse();
        Some(way)
    }

    /// The host with this mesh address.
    pub(crate) fn number_of(&self, addr: &MeshAddr) -> Option<usize> {
        self.loops.number_of(addr)
    }

    /// Bytes that each host has sent, without UDP and IP headers.
    pub fn sent_bytes(&self) -> &[u64] {
        &self.sent_bytes
    }

    // --- faults ---

    pub(crate) fn on_fault(&mut self, fault: Fault) -> Result<(), Violation> {
        let place = match fault {
            Fault::LinkDown(link) | Fault::LinkUp(link) | Fault::LinkBad(link) | Fault::LinkGood(link) => {
                self.net.links[link].ends
            }
            Fault::Crash(host) | Fault::Restart(host, _) | Fault::Roam(host) => [host, host],
        };
        self.note(place[0], format_args!("FAULT {fault:?} of {place:?}"));
        match fault {
            Fault::LinkDown(link) => self.net.links[link].up = false,
            Fault::LinkUp(link) => {
                self.net.links[link].up = true;
                self.flush_streams();
            }
            Fault::LinkBad(link) => self.net.links[link].bad = true,
            Fault::LinkGood(link) => self.net.links[link].bad = false,
            Fault::Crash(host) => self.crash(host),
            Fault::Restart(host, clock) => {
                if self.hosts[host].node.is_none() {
                    self.start(host, clock);
                }
            }
            Fault::Roam(host) => {
                let old = self.hosts[host].at;
                self.moves[host] += 1;
                let new = address(host, self.moves[host]);
                self.hosts[host].at = new;
                self.net.moved(host, &old, new);
                self.close_streams_of(host);
            }
        }
        Ok(())
    }

    fn start(&mut self, host: usize, clock: WallClock) {
        let verifier = Arc::clone(&self.verifier);
        let verifier = self.liars.get(&host).map_or(verifier, |&lie| liar::verifier(lie));
        self.hosts[host].start(clock, verifier, self.now);
        self.restore_networks(host);
        self.queue.push(self.now, Happening::Started { host });
    }

    fn crash(&mut self, host: usize) {
        if let Some(node) = self.hosts[host].node.take() {
            self.buried.merge(&node.drops());
        }
        self.close_streams_of(host);
    }
}

/// Gives every link one end, or both, that keeps it.
fn configure_peers(plan: &Plan, hosts: &mut [Host], rng: &mut Rng) {
    for (number, link) in plan.links.iter().enumerate() {
        let [a, b] = link.ends;
        if plan.finding.is_some_and(|finding| !finding.knows(a.max(b), a.min(b), plan.nodes)) {
            continue;
        }
        let via = if plan.streams.contains(&number) { CarrierKind::Tcp } else { CarrierKind::Udp };
        let mut dial = |from: usize, to: usize| {
            let host = host_name(to);
            let uri = PeerUri { node: hosts[to].id, host, port: PORT, via: vec![via], path: None };
            hosts[from].peers.push(PeerConfig { uri, cost: Metric::ZERO });
        };
        if plan.dialled_from_high_end || plan.finding.is_some() {
            dial(a.max(b), a.min(b));
            continue;
        }
        let both = rng.below(4) == 0;
        let (first, second) = if rng.below(2) == 0 { (a, b) } else { (b, a) };
        dial(first, second);
        if both {
            dial(second, first);
        }
    }
}
