//! The machine: inputs, outputs and timers. What happens on the control side is in `control.rs`.
//!
//! One input, then drain: after each `handle_*` the caller takes everything from
//! [`Node::poll_transmit`], [`Node::poll_tun`] and [`Node::poll_event`], and asks
//! [`Node::poll_timeout`] when to come back.

use core::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sinew_forwarding::{Cause, Fib, InboundPolicy};
use sinew_overlay::Overlay;
use sinew_path::Search;
use sinew_routing::{DirectVerifier, Router, Verifier};
use sinew_session::{Receipt, Sessions, Target};
use sinew_types::{
    Budget, CarrierKind, Class, DropReason, Drops, Identity, Instant, InterfaceId, Label, MeshAddr, NodeId,
    PathAddr, Rng, UnixMicros,
};
use sinew_wire::virtio::{VIRTIO_NET_HDR_LEN, VirtioNetHdr};

use crate::config::{Config, Limits, PeerConfig};
use crate::counts::Tally;
use crate::dial::Dialler;
use crate::direct::Direct;
use crate::event::Event;
use crate::finding::Finding;
use crate::held::Held;
use crate::link::Link;
use crate::networks::Networks;
use crate::probe::Probes;
use crate::spacing::Spacing;
use crate::uplinks::Uplinks;
use crate::worker::{Links, Recent, Transmit, TunQueue, TxQueue, View, Worker};

/// A node is greeted or asked about at most so often.
const GREET_INTERVAL: Duration = Duration::from_secs(1);
/// A way that is too narrow for a link is told of at most so often.
const REFUSED_INTERVAL: Duration = Duration::from_secs(600);
/// Most events waiting to be taken; a shell that drains after each input never meets it.
const MAX_EVENTS: usize = 4096;

/// A time and what is due then; `None` = nothing ever.
type Due = Option<(Instant, &'static str)>;

/// A whole node, without IO.
pub struct Node {
    pub(crate) identity: Arc<Identity>,
    pub(crate) local: MeshAddr,
    pub(crate) name: String,
    pub(crate) class: Class,
    pub(crate) device_mtu: u16,
    pub(crate) uplinks: Uplinks,
    pub(crate) started: Instant,
    /// The wall clock, and when it said so; for people only.
    pub(crate) unix: (UnixMicros, Instant),
    pub(crate) rng: Rng,

    pub(crate) sessions: Sessions,
    pub(crate) router: Router,
    pub(crate) worker: Worker,
    pub(crate) fib: Fib,
    pub(crate) link_info: Links,
    pub(crate) networks: Networks,
    pub(crate) overlay: Overlay,
    /// Whether the overlay may have something to send that there is room for.
    pub(crate) overlay_owes: bool,
    /// Configured peers and members of our networks, as the sessions know them.
    pub(crate) listed: BTreeSet<NodeId>,
    /// The same, by address: a stub has no table, and no table has all members.
    pub(crate) listed_at: BTreeMap<MeshAddr, NodeId>,
    /// Members whose sessions stay though nobody uses them.
    pub(crate) kept: BTreeSet<NodeId>,
    /// Nodes that are dialled because a ticket named them, and not by configuration.
    pub(crate) introduced: BTreeSet<NodeId>,
    /// A stub's default next hop with its address, which is a hash and not made for each packet.
    upstream: Option<(NodeId, MeshAddr)>,
    /// What [`Node::poll_timeout`] says, once it is known.
    pub(crate) due: Cell<Option<Due>>,

    pub(crate) links: BTreeMap<NodeId, Link>,
    pub(crate) limits: Limits,
    /// Packet size searches toward peers behind relays.
    pub(crate) searches: BTreeMap<NodeId, RoutedSearch>,
    pub(crate) dialler: Dialler,
    /// Where we are, and the direct paths of pairs that talk.
    pub(crate) direct: Direct,
    /// What is known of others, and the links that are kept without being configured.
    pub(crate) finding: Finding,
    /// Routing frames of neighbours that have used up their share of our time.
    pub(crate) waiting: BTreeMap<NodeId, VecDeque<(Vec<u8>, Receipt)>>,
    /// When the waiting frames were last looked at.
    pub(crate) looked: Instant,
    /// Neighbours that lied, until when they are none.
    pub(crate) barred: BTreeMap<NodeId, Instant>,
    pub(crate) held: Held,
    pub(crate) probes: Probes,
    /// Spaces out what others can make us ask: greetings of nodes that use an unknown index, and
    /// questions for the owner of an address.
    pub(crate) greeted: Spacing,
    /// What each peer with a session may still ask about the owners of addresses.
    pub(crate) asked: BTreeMap<NodeId, Budget>,
    /// Spaces out the news of ways too narrow for a link.
    pub(crate) refused: Spacing,
    pub(crate) drops: Drops,
    pub(crate) tally: Tally,
    pub(crate) control_tx: TxQueue,
    pub(crate) events: VecDeque<Event>,
    pub(crate) buf: Vec<u8>,
}

/// The search toward one peer behind relays.
#[derive(Debug)]
pub(crate) struct RoutedSearch {
    pub(crate) search: Search,
    pub(crate) via: MeshAddr,
    pub(crate) probe: Option<(u32, u16)>,
}

impl Node {
    /// A node that knows its configuration and nothing else.
    pub fn new(config: Config, seed: [u8; 32], now: Instant) -> Self {
        Self::with_verifier(config, seed, Arc::new(DirectVerifier::default()), now)
    }

    /// As [`Node::new`], with checks of signatures and metric chains that may be shared: many nodes
    /// in one process would all compute the same.
    pub fn with_verifier(config: Config, seed: [u8; 32], verifier: Arc<dyn Verifier>, now: Instant) -> Self {
        let mut rng = Rng::new(seed);
        let local = config.identity.node_id().address();
        let mut sessions = Sessions::new(session_config(&config), rng.array(), config.unix, now);
        let router = Router::with_verifier(routing_config(&config), rng.array(), config.unix, now, verifier);
        let worker = Worker::new(local, config.inbound, config.offloads, &mut rng, now);
        let dialler = Dialler::new(config.peers, rng.fork(), now);
        let listed: BTreeSet<_> = dialler.peers().copied().collect();
        sessions.set_listed(listed.clone());
        let mut overlay = Overlay::new(Arc::clone(&config.identity), rng.array(), config.unix, now);
        // Names of nodes are freer than those in documents.
        overlay.set_own_name(Label::parse(&config.name.to_lowercase()).ok());
        let mut node = Self {
            identity: config.identity,
            local,
            name: config.name,
            class: config.class,
            device_mtu: config.device_mtu,
            uplinks: Uplinks::new(config.udp_sockets, now),
            started: now,
            unix: (config.unix, now),
            sessions,
            router,
            worker,
            fib: Fib::new(local, rng.u64()),
            link_info: Links::default(),
            networks: Networks::default(),
            overlay,
            overlay_owes: false,
            listed_at: listed.iter().map(|node| (node.address(), *node)).collect(),
            listed,
            kept: BTreeSet::new(),
            introduced: BTreeSet::new(),
            upstream: None,
            due: Cell::new(None),
            links: BTreeMap::new(),
            limits: Limits::default(),
            searches: BTreeMap::new(),
            dialler,
            waiting: BTreeMap::new(),
            looked: now,
            barred: BTreeMap::new(),
            held: Held::default(),
            probes: Probes::new(rng.fork()),
            direct: Direct::new(config.direct, rng.fork(), now),
            // A stream of its own: what else is drawn from the seed stays what it was.
            finding: Finding::new(config.peering, config.accept, Rng::new(seed.map(|byte| !byte)), now),
            greeted: Spacing::new(GREET_INTERVAL),
            asked: BTreeMap::new(),
            refused: Spacing::new(REFUSED_INTERVAL),
            drops: Drops::default(),
            tally: Tally::default(),
            control_tx: TxQueue::default(),
            events: VecDeque::new(),
            buf: Vec::with_capacity(2048),
            rng,
        };
        node.set_limits(config.limits, now);
        node.handle_timeout(now);
        node
    }

    // --- inputs ---

    /// Datagrams of `stride` bytes each (the last may be shorter) that came over `from`.
    ///
    /// Of what a relay passes on, a long part is not copied: it lies in `batch`, sealed for the next hop, and is
    /// returned, to be sent after all that [`Node::poll_transmit`] has.
    #[must_use = "what is returned is to be sent"]
    pub fn handle_batch<'b>(
        &mut self,
        from: PathAddr,
        ecn: u8,
        batch: &'b mut [u8],
        stride: usize,
        now: Instant,
    ) -> Option<Transmit<'b>> {
        let (worker, view) = self.fast_path(now);
        let onward = worker.inbound_batch(&view, from, ecn, batch, stride);
        self.pump_reports(now);
        onward
    }

    /// As [`Node::handle_batch`], for callers that cannot send out of their buffer.
    pub fn handle_datagrams(
        &mut self,
        from: PathAddr,
        ecn: u8,
        batch: &mut [u8],
        stride: usize,
        now: Instant,
    ) {
        if let Some(onward) = self.handle_batch(from, ecn, batch, stride, now) {
            self.worker.tx.push_all(&onward);
        }
    }

    /// Records that came together over a stream.
    pub fn handle_records<'b>(
        &mut self,
        from: PathAddr,
        records: impl Iterator<Item = &'b mut [u8]>,
        now: Instant,
    ) {
        let (worker, view) = self.fast_path(now);
        worker.inbound(&view, from, records);
        self.pump_reports(now);
    }

    /// A packet that the local kernel sent into a device, behind its virtio header's meaning.
    pub fn handle_tun(&mut self, from: InterfaceId, vnet: VirtioNetHdr, packet: &mut [u8], now: Instant) {
        let (worker, view) = self.fast_path(now);
        worker.outbound(&view, from, vnet, packet);
        self.pump_reports(now);
    }

    /// As [`Node::handle_tun`], with the packet as it was read: virtio header first.
    pub fn handle_tun_frame(&mut self, from: InterfaceId, frame: &mut [u8], now: Instant) {
        match (VirtioNetHdr::parse(frame), frame.get_mut(VIRTIO_NET_HDR_LEN..)) {
            (Ok(vnet), Some(packet)) => self.handle_tun(from, vnet, packet, now),
            _ => self.drops.count(DropReason::BadInner),
        }
    }

    /// The resolver's answer to [`Event::Resolve`] for this host and port; empty if there is none.
    pub fn handle_resolved(
        &mut self,
        peer: NodeId,
        name: (&str, u16),
        addresses: &[SocketAddr],
        now: Instant,
    ) {
        self.dialler.on_resolved(&peer, name, addresses, &self.direct.own(), now);
        self.pump(now);
    }

    /// The connection asked for by [`Event::Connect`] stands.
    pub fn handle_connected(&mut self, peer: NodeId, path: PathAddr, now: Instant) {
        if self.dialler.on_connected(&peer, &path, now) {
            self.sessions.open(peer, Target::Direct(path), now);
        } else {
            self.emit(Event::Disconnect { path });
        }
        self.pump(now);
    }

    /// The connection asked for by [`Event::Connect`] could not be had.
    pub fn handle_connect_failed(&mut self, peer: NodeId, path: PathAddr, error: &str, now: Instant) {
        self.dialler.on_candidate_failed(&peer, (path.carrier, path.remote), error, now);
        self.pump(now);
    }

    /// The largest record that a QUIC connection carries is this now, as QUIC found out by itself.
    pub fn handle_payload(&mut self, path: PathAddr, payload: usize, now: Instant) {
        let payload = u16::try_from(payload).unwrap_or(u16::MAX);
        let link = self.links.iter_mut().find(|(_, link)| link.path == path);
        if let Some((&peer, link)) = link
            && link.on_payload(payload, now)
        {
            self.restart_searches_via(&peer.address(), now);
        }
        self.pump(now);
    }

    /// A connection has ended, whoever ended it.
    pub fn handle_disconnected(&mut self, path: PathAddr, now: Instant) {
        self.sessions.path_closed(path, now);
        self.pump(now);
    }

    /// The kernel refused to send a datagram of `size` bytes on `path`: larger than the local link.
    pub fn handle_refused(&mut self, path: PathAddr, size: usize, now: Instant) {
        let size = u16::try_from(size).unwrap_or(u16::MAX);
        if let Some(link) = self.links.values_mut().find(|link| link.path == path) {
            link.on_refused(size, now);
        }
        self.pump(now);
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.sessions.handle_timeout(now);
        self.router.handle_timeout(now);
        self.dialler.advance(now);
        self.give_up_held(now);
        self.tend_neighbours(now);
        self.tend_links(now);
        self.tend_searches(now);
        self.tend_probes(now);
        self.tend_overlay(now);
        self.tend_direct(now);
        self.tend_uplinks(now);
        self.tend_finding(now);
        self.pump(now);
    }

    /// Counts what the shell could not hand on.
    pub fn count_drops(&mut self, reason: DropReason, n: u64) {
        self.drops.add(reason, n);
    }

    /// The wall clock was set.
    pub fn set_unix(&mut self, unix: UnixMicros, now: Instant) {
        self.unix = (unix, now);
        self.sessions.set_unix(unix, now);
        self.router.set_unix(unix, now);
        self.overlay.set_unix(unix, false, now);
        self.pump(now);
    }

    // --- commands ---

    /// Adds a peer to keep a link to.
    pub fn add_peer(&mut self, peer: PeerConfig, now: Instant) {
        self.introduced.remove(&peer.uri.node);
        self.finding.automatic.remove(&peer.uri.node);
        self.dialler.add(peer, now);
        self.list_members();
        self.dialler.advance(now);
        self.pump(now);
    }

    /// Drops a configured peer and the link to it; `false` if it was not configured.
    pub fn remove_peer(&mut self, peer: &NodeId, now: Instant) -> bool {
        let known = self.dialler.remove(peer);
        if known {
            self.list_members();
            self.sessions.close(*peer, now);
        }
        self.pump(now);
        known
    }

    /// Where this node itself listens: not dialled, whatever a name resolves to.
    pub fn set_own_endpoints(&mut self, own: BTreeSet<(CarrierKind, SocketAddr)>) {
        self.dialler.set_own(own);
    }

    /// Changes who may open flows to this node's own address.
    pub fn set_inbound(&mut self, policy: InboundPolicy) {
        self.worker.set_policy(policy);
    }

    /// What is open at this node's own address besides, while it offers a service there.
    pub fn set_services(&mut self, services: Vec<sinew_forwarding::Rule>) {
        self.worker.set_services(services);
    }

    // --- outputs ---

    /// The next send: control first, so that a full link never delays what keeps it alive.
    pub fn poll_transmit(&mut self) -> Option<Transmit<'_>> {
        if self.control_tx.has_next() {
            return self.control_tx.next();
        }
        self.control_tx.next();
        self.worker.tx.next()
    }

    /// Bytes waiting in [`Node::poll_transmit`], control aside.
    pub fn transmit_backlog(&self) -> usize {
        self.worker.tx.len()
    }

    /// The next packet for the local kernel: which device, then virtio header and packet.
    pub fn poll_tun(&mut self) -> Option<(InterfaceId, &[u8])> {
        let queue: &mut TunQueue = &mut self.worker.tun;
        queue.next()
    }

    /// The next order or piece of news.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`Node::handle_timeout`], and why. Found out once after each change of the control
    /// side: packets that need no decision leave it as it is.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        if let Some(known) = self.due.get() {
            return known;
        }
        let due = self.next_due();
        self.due.set(Some(due));
        due
    }

    // --- inside ---

    fn next_due(&self) -> Option<(Instant, &'static str)> {
        let neighbours = self.neighbours_due().map(|at| (at, "neighbours"));
        let links = self.links.values().filter_map(Link::poll_timeout);
        let searches = self.searches.values().filter_map(|routed| routed.search.poll_timeout());
        let own = [
            self.sessions.poll_timeout(),
            self.router.poll_timeout(),
            self.dialler.poll_timeout().map(|at| (at, "dial")),
            self.held.next_expiry().map(|at| (at, "held packets")),
            self.probes.poll_timeout().map(|at| (at, "probe")),
            self.overlay.poll_timeout().map(|at| (at, "networks")),
            self.direct.poll_timeout().map(|at| (at, "direct paths")),
            self.uplinks.poll_timeout().map(|at| (at, "other uplinks")),
            self.finding.poll_timeout().map(|at| (at, "automatic links")),
        ];
        own.into_iter().flatten().chain(neighbours).chain(links).chain(searches).min_by_key(|&(at, _)| at)
    }

    /// After packets: only what they reported can have changed anything.
    fn pump_reports(&mut self, now: Instant) {
        if !self.worker.reports.is_empty() {
            self.pump(now);
        }
    }

    /// The worker and what it may read.
    pub(crate) fn fast_path(&mut self, now: Instant) -> (&mut Worker, View<'_>) {
        let upstream = self.router.default_next_hop();
        if self.upstream.map(|(node, _)| node) != upstream {
            self.upstream = upstream.map(|node| (node, node.address()));
        }
        let view = View {
            local: self.local,
            class: self.class,
            fib: &self.fib,
            keys: self.sessions.keys(),
            links: &self.link_info,
            networks: &self.networks,
            default_hop: self.upstream.map(|(_, addr)| addr),
            device_mtu: self.device_mtu,
            now,
            recent: Recent::default(),
        };
        (&mut self.worker, view)
    }

    /// Packets that waited too long for a session: their senders are told.
    fn give_up_held(&mut self, now: Instant) {
        let expired = self.held.expire(now);
        self.drops.add(DropReason::HoldQueue, expired.len() as u64);
        for held in expired {
            self.worker.answer(held.interface, &held.packet, Cause::of(DropReason::HoldQueue), now);
        }
    }

    pub(crate) fn emit(&mut self, event: Event) {
        if self.events.len() < MAX_EVENTS {
            self.events.push_back(event);
        }
    }
}

pub(crate) fn session_config(config: &Config) -> sinew_session::Config {
    sinew_session::Config {
        secrets: config.secrets.clone(),
        accept: config.accept,
        class: config.class,
        ..sinew_session::Config::new(Arc::clone(&config.identity))
    }
}

pub(crate) fn routing_config(config: &Config) -> sinew_routing::Config {
    sinew_routing::Config {
        class: config.class,
        k: config.max_routes,
        ..sinew_routing::Config::new(Arc::clone(&config.identity))
    }
}
