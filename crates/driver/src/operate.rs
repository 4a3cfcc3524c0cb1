//! Requests of the control API, carried out on the node by the loop that owns it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use sinew_control::api::{
    Drops, Health, Key, Listener, LoadedConfig, PeerAdd, PeerChanged, PeerRemove, PortMapping, Reload,
    Severity, Status, Trace,
};
use sinew_control::config::{self, Change, ConfigFile};
use sinew_control::{ApiError, target, time};
use sinew_node::{Asked, Limits, Node, PeerConfig, PeerStatus, PingAnswer, TraceHop};
use sinew_platform::clock;
use sinew_platform::confine::Gap;
use sinew_types::{CarrierKind, Class, DropReason, Instant, Metric, NodeId};

use crate::command::{NodeCommand, Reply};
use crate::finding::{self, Finders};
use crate::metrics::NodeNumbers;
use crate::network::Network;
use crate::offload::InUse;
use crate::reach;
use crate::setup;
use crate::twins::{self, Twins};
use crate::view::{self, Names, Rates};

/// What the control API needs besides the node.
pub(crate) struct Operations {
    config: ConfigFile,
    loaded_at: String,
    /// What this node's listeners are bound to, and where they can be dialled.
    bound: Vec<(CarrierKind, SocketAddr)>,
    listeners: Vec<Listener>,
    /// What the router in front of this host does for it.
    mapping: PortMapping,
    /// By which interface each UDP socket sends, as far as that says anything.
    interfaces: BTreeMap<u32, String>,
    tun: Option<(String, u16)>,
    pub(crate) offload: InUse,
    key: Key,
    names: Names,
    rates: Rates,
    pings: BTreeMap<u64, (Asked, u32, Reply<sinew_control::api::PingProbe>)>,
    traces: BTreeMap<u64, (Asked, Reply<Trace>)>,
    next_request: u64,
    twins: Twins,
    /// What this kernel lacks to keep the daemon in.
    gaps: Vec<Gap>,
}

impl Operations {
    pub(crate) fn new(
        config: ConfigFile,
        (bound, listeners): (Vec<(CarrierKind, SocketAddr)>, Vec<Listener>),
        tun: Option<(String, u16)>,
        offload: InUse,
        key: Key,
        gaps: Vec<Gap>,
    ) -> Self {
        Self {
            config,
            loaded_at: time::rfc3339(clock::unix()),
            bound,
            listeners,
            mapping: PortMapping::default(),
            interfaces: BTreeMap::new(),
            tun,
            offload,
            key,
            names: Names::new(),
            rates: Rates::default(),
            pings: BTreeMap::new(),
            traces: BTreeMap::new(),
            next_request: 0,
            twins: Twins::default(),
            gaps,
        }
    }

    /// The configuration in force, as far as it can be without a restart.
    pub(crate) const fn config(&self) -> &config::Config {
        &self.config.config
    }

    /// How long clients of the gateway may take to finish.
    pub(crate) fn gateway_grace(&self) -> Duration {
        Duration::from_secs(self.config.config.gateway.as_ref().map_or(0, |gateway| gateway.grace.into()))
    }

    /// What this node listens on.
    pub(crate) fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// The host has other addresses.
    pub(crate) fn on_network(&mut self, network: &Network, mapped: Option<SocketAddr>) {
        self.listeners = network.listeners(&self.bound, mapped);
    }

    /// The host has other ways out.
    pub(crate) fn on_uplinks(&mut self, interfaces: BTreeMap<u32, String>) {
        self.interfaces = interfaces;
    }

    /// The router passes on a port, or does not any more.
    pub(crate) fn on_mapping(&mut self, mapping: PortMapping) {
        self.mapping = mapping;
    }

    /// Carries out one request. A caller that has gone away is no error.
    pub(crate) fn handle(&mut self, node: &mut Node, finders: &Finders, command: NodeCommand, now: Instant) {
        match command {
            NodeCommand::Status(reply) => drop(reply.send(Ok(self.status(node, now)))),
            NodeCommand::Peers(reply) => {
                drop(reply.send(Ok(view::peers(
                    node,
                    (&self.names, &self.interfaces),
                    &mut self.rates,
                    now,
                ))));
            }
            NodeCommand::PeerAdd(add, reply) => drop(reply.send(self.peer_add(node, &add, now))),
            NodeCommand::PeerRemove(remove, reply) => drop(reply.send(self.peer_remove(node, &remove, now))),
            NodeCommand::Routes(show, reply) => drop(reply.send(Ok(view::routes(node, show, now)))),
            NodeCommand::RouteGet(text, reply) => {
                let answer =
                    self.target(node, &text, now).map(|target| view::route_answer(node, target, now));
                drop(reply.send(answer));
            }
            NodeCommand::Sessions(reply) => drop(reply.send(Ok(view::sessions(node, now)))),
            NodeCommand::Why(text, reply) => {
                let target = self.target(node, &text, now);
                let answer =
                    target.map(|target| reach::why(node, target, (&self.names, &self.interfaces), now));
                drop(reply.send(answer));
            }
            NodeCommand::Netcheck(reply) => {
                let (mapping, finding) = (self.mapping.clone(), finders.show(node));
                drop(reply.send(Ok(reach::netcheck(node, &self.listeners, (mapping, finding), now))));
            }
            NodeCommand::Drops(reply) => drop(reply.send(Ok(Drops::from(&node.drops())))),
            NodeCommand::Graph(reply) => drop(reply.send(Ok(view::graph(node, &self.names, now)))),
            NodeCommand::Ping { target, seq, timeout_ms, want_direct, reply } => {
                if let Some(target) = want_direct.then(|| self.target(node, &target, now).ok()).flatten() {
                    node.want_direct(target, now);
                }
                self.start_ping(node, &target, seq, timeout_ms, reply, now);
            }
            NodeCommand::Trace { target, reply } => self.start_trace(node, &target, reply, now),
            NodeCommand::Key(reply) => drop(reply.send(Ok(self.key.clone()))),
            NodeCommand::Config(reply) => drop(reply.send(Ok(self.loaded()))),
            NodeCommand::Reload(reply) => drop(reply.send(self.reload(node, now))),
            NodeCommand::Numbers(reply) => drop(reply.send(Ok(self.numbers(node, now)))),
        }
    }

    /// Forgets questions whose askers have gone away.
    pub(crate) fn forget_gone(&mut self) {
        self.pings.retain(|_, (.., reply)| !reply.is_closed());
        self.traces.retain(|_, (_, reply)| !reply.is_closed());
    }

    /// Two machines use this key: what the log has to say, if it has not yet.
    pub(crate) fn note_duplicate(&mut self, node: &Node, whose: NodeId, now: Instant) -> Option<String> {
        let news = self.twins.note(whose, now);
        news.then(|| twins::line(&whose, &node.status(now).node))
    }

    // --- status ---

    fn status(&self, node: &Node, now: Instant) -> Status {
        let status = node.status(now);
        let ready = is_ready(&status);
        Status {
            node_id: status.node.to_string(),
            address: status.address.to_string(),
            name: Some(status.name).filter(|name| !name.is_empty()),
            class: status.class.as_str().to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_ms: u64::try_from(status.uptime.as_millis()).unwrap_or(u64::MAX),
            ready,
            peers_up: status.peers_up as u64,
            peers_total: status.peers_total as u64,
            routes: status.routes as u64,
            sessions: status.sessions as u64,
            tun: self.tun.as_ref().map(|(name, _)| name.clone()),
            mtu: self.tun.as_ref().map(|&(_, mtu)| u32::from(mtu)),
            offload: self.offload.to_api(),
            listeners: self.listeners.clone(),
            reach: view::reach(node),
            health: self.health(node, now),
        }
    }

    fn numbers(&self, node: &Node, now: Instant) -> NodeNumbers {
        let (status, peers) = (node.status(now), node.peers(now));
        let name = |peer: &PeerStatus| Some((peer.node, self.names.get(&peer.node)?.clone()));
        NodeNumbers {
            ready: is_ready(&status),
            status,
            health: self.health(node, now),
            names: peers.iter().filter_map(name).collect(),
            peers,
            drops: node.drops(),
            counts: node.counts(),
        }
    }

    fn health(&self, node: &Node, now: Instant) -> Vec<Health> {
        let status = node.status(now);
        let mut health = self.twins.health(&status.node, now);
        let mut note = |code: &str, severity, text: String, fix: &str| {
            health.push(Health { code: code.to_owned(), severity, text, fix: fix.to_owned() });
        };
        if status.peers_total > 0 && status.peers_up == 0 {
            let text = format!("none of {} peers answers", status.peers_total);
            note("no_peer", Severity::Error, text, "`sinew peers` shows the last error of each");
        }
        for gap in &self.gaps {
            note(gap.code(), Severity::Info, gap.text(), gap.fix());
        }
        let drops = node.drops();
        let attacks = [
            (DropReason::SourceSpoofed, "peers sent packets in the name of others"),
            (DropReason::ForgedOrigin, "a neighbour passed on a forged route claim"),
            (DropReason::UnprovenMetric, "a neighbour claimed a shorter path than it can prove"),
        ];
        for (reason, text) in attacks {
            if drops.get(reason) > 0 {
                let text = format!("{text} ({} times); all were refused", drops.get(reason));
                note(reason.as_str(), Severity::Warning, text, "`sinew drops` counts them");
            }
        }
        health
    }

    // --- targets, ping, trace ---

    fn target(&self, node: &Node, text: &str, now: Instant) -> Result<NodeId, ApiError> {
        let status = node.status(now);
        if let Ok(addr) = text.parse()
            && let Some(owner) = node.node_of(&addr)
        {
            return Ok(owner);
        }
        let routes = node.routes(now).into_iter().map(|route| route.node);
        let peers = node.peers(now).into_iter().map(|peer| peer.node);
        let name = |id: &NodeId| self.names.get(id).map(String::as_str);
        let known: Vec<_> = routes.chain(peers).map(|id| (id, name(&id))).collect();
        target::resolve(text, known.into_iter().chain([(status.node, Some(status.name.as_str()))]))
    }

    /// Whom people want to hear of. A stub keeps no table: an address that it does not know may be somebody's.
    fn asked(&self, node: &Node, text: &str, now: Instant) -> Result<Asked, ApiError> {
        let is_stub = node.status(now).class == Class::Stub;
        self.target(node, text, now).map(Asked::Node).or_else(|error| match text.parse() {
            Ok(address) if is_stub => Ok(Asked::Address(address)),
            _ => Err(error),
        })
    }

    /// The gateway that people mean: as any node, or a whole id that nobody has told of yet.
    pub(crate) fn gateway(&self, node: &Node, text: &str, now: Instant) -> Result<NodeId, ApiError> {
        self.target(node, text, now).or_else(|error| text.parse().map_err(|_| error))
    }

    fn request(&mut self) -> u64 {
        self.next_request += 1;
        self.next_request
    }

    fn start_ping(
        &mut self,
        node: &mut Node,
        text: &str,
        seq: u32,
        timeout_ms: u64,
        reply: Reply<sinew_control::api::PingProbe>,
        now: Instant,
    ) {
        let target = match self.asked(node, text, now) {
            Ok(target) => target,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let own = node.status(now).node;
        if target == Asked::Node(own) {
            let answer = PingAnswer { node: own, rtt: Duration::ZERO, via: None, path: None };
            return drop(reply.send(Ok(view::ping(target, seq, Some(answer), &self.names))));
        }
        let request = self.request();
        self.pings.insert(request, (target, seq, reply));
        node.ping(request, target, Duration::from_millis(timeout_ms), now);
    }

    pub(crate) fn on_ping(&mut self, request: u64, answer: Option<PingAnswer>) {
        if let Some((target, seq, reply)) = self.pings.remove(&request) {
            drop(reply.send(Ok(view::ping(target, seq, answer, &self.names))));
        }
    }

    fn start_trace(&mut self, node: &mut Node, text: &str, reply: Reply<Trace>, now: Instant) {
        match self.asked(node, text, now) {
            Ok(target) => {
                let request = self.request();
                self.traces.insert(request, (target, reply));
                node.trace(request, target, now);
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    pub(crate) fn on_trace(&mut self, request: u64, hops: &[TraceHop], complete: bool) {
        for hop in hops.iter().filter(|hop| !hop.name.is_empty()) {
            self.names.insert(hop.node, hop.name.clone());
        }
        if let Some((target, reply)) = self.traces.remove(&request) {
            drop(reply.send(Ok(view::trace(target, hops, complete))));
        }
    }

    // --- peers and configuration ---

    fn peer_add(&mut self, node: &mut Node, add: &PeerAdd, now: Instant) -> Result<PeerChanged, ApiError> {
        let own = node.status(now).node;
        let mut peer = config::check_peer(&own, &add.uri, add.cost)
            .map_err(|error| ApiError::invalid(error, "sinew://NODEID@host:port?via=udp,tcp"))?;
        // What the file says of its limit stays there.
        let endpoint = |peer: &config::Peer| (peer.uri.node, peer.uri.host.clone(), peer.uri.port);
        let known = self.config.config.peers.iter().find(|known| endpoint(known) == endpoint(&peer));
        peer.limit = known.and_then(|known| known.limit);
        let changed = !self.config.config.peers.contains(&peer);
        let saved = if add.save { Some(self.save(config::add_peer(&self.config, &peer))?) } else { None };
        node.add_peer(peer_config(&peer), now);
        Ok(PeerChanged { node_id: peer.uri.node.to_string(), changed, saved })
    }

    fn peer_remove(
        &mut self,
        node: &mut Node,
        remove: &PeerRemove,
        now: Instant,
    ) -> Result<PeerChanged, ApiError> {
        let target = self.target(node, &remove.target, now)?;
        let saved =
            if remove.save { Some(self.save(config::remove_peer(&self.config, &target))?) } else { None };
        let changed = node.remove_peer(&target, now);
        node.set_limits(limits(&self.config.config), now);
        Ok(PeerChanged { node_id: target.to_string(), changed, saved })
    }

    fn save(&mut self, edited: Result<ConfigFile, config::EditError>) -> Result<String, ApiError> {
        let failed = |error: config::EditError| ApiError::bad_config(error.to_string());
        let edited = edited.map_err(failed)?;
        config::save(&edited).map_err(failed)?;
        self.config = edited;
        Ok(self.config.path.display().to_string())
    }

    fn loaded(&self) -> LoadedConfig {
        LoadedConfig {
            file: self.config.path.display().to_string(),
            loaded_at: self.loaded_at.clone(),
            text: self.config.text.clone(),
        }
    }

    /// Reads the configuration again and applies what can change while the node runs.
    pub(crate) fn reload(&mut self, node: &mut Node, now: Instant) -> Result<Reload, ApiError> {
        let path: PathBuf = self.config.path.clone();
        let new = ConfigFile::read(&path).map_err(|error| ApiError::bad_config(error.to_string()))?;
        new.check_identity(&node.status(now).node)
            .map_err(|error| ApiError::bad_config(error.to_string()))?;
        let changes: Vec<Change> = config::diff(&self.config.config, &new.config);
        let old = std::mem::replace(&mut self.config, new);
        self.apply(node, &old, now);
        self.loaded_at = time::rfc3339(clock::unix());
        Ok(Reload { file: path.display().to_string(), changes })
    }

    fn apply(&self, node: &mut Node, old: &ConfigFile, now: Instant) {
        let (old, new) = (&old.config, &self.config.config);
        // A peer that only changed its address keeps its session: no reload drops one (CONTRACT).
        let stays = |peer: &&config::Peer| new.peers.iter().any(|other| other.uri.node == peer.uri.node);
        for gone in old.peers.iter().filter(|peer| !stays(peer)) {
            node.remove_peer(&gone.uri.node, now);
        }
        let known = |peer: &config::Peer| {
            old.peers.iter().any(|other| (&other.uri, other.cost) == (&peer.uri, peer.cost))
        };
        for added in new.peers.iter().filter(|peer| !known(peer)) {
            node.add_peer(peer_config(added), now);
        }
        node.set_limits(limits(new), now);
        node.set_inbound(setup::inbound(&new.tun.inbound));
        node.set_direct(new.reach.direct, now);
        node.set_peering(finding::peering(new), now);
    }
}

/// Without peers there is nobody to wait for.
const fn is_ready(status: &sinew_node::Status) -> bool {
    status.peers_total == 0 || status.peers_up > 0
}

/// Every `limit` of the configuration. One peer may stand there with several addresses.
pub(crate) fn limits(config: &config::Config) -> Limits {
    let mut peers = BTreeMap::new();
    for (node, limit) in config.peers.iter().filter_map(|peer| Some((peer.uri.node, peer.limit?))) {
        let least = peers.entry(node).or_insert(limit);
        *least = limit.min(*least);
    }
    Limits { transit: config.transit.limit, peers, other_peers: config.peering.limit }
}

/// A configured peer as the node knows it.
pub(crate) fn peer_config(peer: &config::Peer) -> PeerConfig {
    let units = u64::from(peer.cost).div_ceil(Metric::UNIT_MS);
    PeerConfig { uri: peer.uri.clone(), cost: Metric::new(u16::try_from(units).unwrap_or(u16::MAX)) }
}
