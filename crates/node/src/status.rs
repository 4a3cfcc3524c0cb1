//! What people and programs may see of a node.

use std::time::Duration;

use sinew_directory::Source;
use sinew_types::{
    CarrierKind, Class, DropReason, Drops, Instant, MeshAddr, Metric, NodeId, PathAddr, Rate, Seqno,
};

use crate::node::Node;

/// A peer from the configuration or `peers add`.
const CONFIGURED: &str = "configured";

/// The node at a glance.
#[derive(Clone, Debug)]
pub struct Status {
    /// Who it is.
    pub node: NodeId,
    /// Its mesh address.
    pub address: MeshAddr,
    /// Name for people.
    pub name: String,
    /// Router or stub.
    pub class: Class,
    /// Since it started.
    pub uptime: Duration,
    /// Peers with a live link.
    pub peers_up: usize,
    /// Those and the configured ones.
    pub peers_total: usize,
    /// Destinations with a selected route.
    pub routes: usize,
    /// Sessions that are up.
    pub sessions: usize,
}

/// How far a link to a peer has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Carries data.
    Up,
    /// Configured, and being dialled.
    Connecting,
}

/// One direct peer.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Who.
    pub node: NodeId,
    /// Its mesh address.
    pub address: MeshAddr,
    /// Whether a link exists.
    pub state: LinkState,
    /// Whether it stands in the configuration.
    pub configured: bool,
    /// How this node came to it: `configured`, `ticket`, `incoming`, or where it was heard of.
    pub source: &'static str,
    /// The path in use.
    pub path: Option<PathAddr>,
    /// Where it is dialled, if it is.
    pub dialled: Option<String>,
    /// Whether this node opened the session.
    pub outbound: bool,
    /// Smoothed round trip.
    pub rtt: Option<Duration>,
    /// Mean deviation of the round trip.
    pub jitter: Option<Duration>,
    /// Lost probes in thousandths.
    pub loss_permille: u16,
    /// Inner MTU of the link.
    pub mtu: Option<u16>,
    /// Bytes received over the link.
    pub rx_bytes: u64,
    /// Bytes sent over the link.
    pub tx_bytes: u64,
    /// Records received over the link.
    pub rx_packets: u64,
    /// Records sent over the link.
    pub tx_packets: u64,
    /// What may be sent to it.
    pub limit: Option<Rate>,
    /// Since the link came up.
    pub uptime: Option<Duration>,
    /// Since the keys in use were agreed.
    pub handshake_age: Option<Duration>,
    /// Cipher in use.
    pub cipher: Option<&'static str>,
    /// What went wrong last.
    pub last_error: Option<String>,
}

/// One session.
#[derive(Clone, Debug)]
pub struct SessionStatus {
    /// With whom.
    pub node: NodeId,
    /// Its mesh address.
    pub address: MeshAddr,
    /// The direct path in use.
    pub path: Option<PathAddr>,
    /// The first hop, if data takes relays.
    pub via: Option<NodeId>,
    /// Smoothed round trip.
    pub rtt: Option<Duration>,
    /// Cipher in use.
    pub cipher: Option<&'static str>,
    /// Since the keys in use were agreed.
    pub rekey_age: Duration,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
}

/// One advertisement of a route, or this node's own.
#[derive(Clone, Debug)]
pub struct RouteStatus {
    /// Whose route.
    pub node: NodeId,
    /// Its mesh address.
    pub address: MeshAddr,
    /// The neighbour that advertises it; `None` for this node itself.
    pub next_hop: Option<NodeId>,
    /// Cost by that neighbour.
    pub metric: Metric,
    /// Freshness.
    pub seqno: Seqno,
    /// Whether it may be selected.
    pub feasible: bool,
    /// Whether it is.
    pub selected: bool,
    /// Since its origin issued it.
    pub age: Duration,
}

impl Node {
    /// The node at a glance.
    pub fn status(&self, now: Instant) -> Status {
        let linked = self.neighbours().filter(|peer| !self.dialler.contains(peer)).count();
        Status {
            node: self.identity.node_id(),
            address: self.local,
            name: self.name.clone(),
            class: self.class,
            uptime: now.since(self.started),
            peers_up: self.neighbours().count(),
            // Whom this node tries by itself is missed by nobody.
            peers_total: self.dialler.peers().filter(|peer| !self.is_attempt(peer)).count() + linked,
            routes: self.fib.len(),
            sessions: self.sessions.peers().filter(|peer| self.is_up(peer)).count(),
        }
    }

    fn is_attempt(&self, peer: &NodeId) -> bool {
        self.finding.automatic.contains(peer) && !self.links.contains_key(peer)
    }

    /// Every direct peer: linked or configured.
    pub fn peers(&self, now: Instant) -> Vec<PeerStatus> {
        let linked = self.neighbours().filter(|peer| !self.dialler.contains(peer));
        self.dialler.peers().chain(linked).map(|peer| self.peer(peer, now)).collect()
    }

    /// Those with a link that is not merely a direct path of a pair that talks.
    fn neighbours(&self) -> impl Iterator<Item = &NodeId> {
        self.links
            .iter()
            .filter(|(peer, link)| link.routing || !self.sessions.is_private(peer))
            .map(|(p, _)| p)
    }

    /// Whether data for this address takes a direct path although routing names another way.
    pub(crate) fn takes_shortcut(&self, addr: &MeshAddr) -> bool {
        self.link_info.get(addr).is_some_and(|info| info.is_shortcut())
    }

    fn peer(&self, peer: &NodeId, now: Instant) -> PeerStatus {
        let info = self.sessions.info(peer, now);
        let link = self.links.get(peer);
        let traffic = link.map(|link| link.info.traffic.counts()).unwrap_or_default();
        PeerStatus {
            node: *peer,
            address: peer.address(),
            state: if link.is_some() { LinkState::Up } else { LinkState::Connecting },
            configured: self.peer_source(peer) == CONFIGURED,
            source: self.peer_source(peer),
            path: link.map(|link| link.path),
            dialled: self.dialler.uri(peer).map(|uri| format!("{}:{}", uri.host, uri.port)),
            outbound: info.as_ref().map_or(self.dialler.contains(peer), |info| info.outbound),
            rtt: link.and_then(|link| link.quality.srtt()),
            jitter: link.map(|link| link.quality.jitter()),
            loss_permille: link.map_or(0, |link| link.quality.loss_permille()),
            mtu: link.map(|link| self.link_mtu(link.info.payload())),
            rx_bytes: traffic.rx_bytes,
            tx_bytes: traffic.tx_bytes,
            rx_packets: traffic.rx_packets,
            tx_packets: traffic.tx_packets,
            limit: self.limits.of(peer),
            uptime: link.map(|link| now.since(link.since)),
            handshake_age: info.as_ref().filter(|info| info.up).map(|info| info.epoch_age),
            cipher: info.and_then(|info| info.cipher).map(|cipher| cipher.as_str()),
            last_error: self.dialler.last_error(peer).map(str::to_owned),
        }
    }

    fn peer_source(&self, peer: &NodeId) -> &'static str {
        if self.finding.automatic.contains(peer) {
            return self.finding.source(peer).map_or("exchange", Source::as_str);
        }
        match (self.dialler.contains(peer), self.introduced.contains(peer)) {
            (true, true) => "ticket",
            (true, false) => CONFIGURED,
            (false, _) => "incoming",
        }
    }

    fn link_mtu(&self, payload: usize) -> u16 {
        let inner = payload.saturating_sub(sinew_wire::record::DATA_OVERHEAD) as u16;
        inner.min(self.device_mtu).max(crate::worker::MIN_INNER_MTU)
    }

    /// Every session.
    pub fn sessions(&self, now: Instant) -> Vec<SessionStatus> {
        self.sessions.peers().filter_map(|peer| self.session(peer, now)).collect()
    }

    fn session(&self, peer: &NodeId, now: Instant) -> Option<SessionStatus> {
        let info = self.sessions.info(peer, now).filter(|info| info.up)?;
        let address = peer.address();
        let straight = self.fib.get(&address).is_none_or(|entry| entry.direct);
        let direct = info.path.filter(|_| straight || self.takes_shortcut(&address));
        let via = self.next_hop_toward(&address).map(|(hop, ..)| hop).filter(|hop| hop != peer);
        Some(SessionStatus {
            node: *peer,
            address,
            path: direct,
            via: via.filter(|_| direct.is_none()),
            rtt: self.links.get(peer).and_then(|link| link.quality.srtt()).or(info.rtt),
            cipher: info.cipher.map(|cipher| cipher.as_str()),
            rekey_age: info.epoch_age,
            rx_bytes: info.traffic.rx_bytes,
            tx_bytes: info.traffic.tx_bytes,
        })
    }

    /// Every advertisement, feasible or not, with this node's own route first.
    pub fn routes(&self, now: Instant) -> Vec<RouteStatus> {
        let own = RouteStatus {
            node: self.identity.node_id(),
            address: self.local,
            next_hop: None,
            metric: Metric::ZERO,
            seqno: self.router.own_rank().seqno,
            feasible: true,
            selected: true,
            age: Duration::ZERO,
        };
        // A seqno is the time of issue in Unix milliseconds (protocol A6).
        let unix_ms = (self.unix.0 + now.since(self.unix.1).as_micros() as u64) / 1000;
        let since_issue = |seqno: Seqno| Duration::from_millis(unix_ms.saturating_sub(seqno.value()));
        let learned = self.router.routes().into_iter().flat_map(|route| {
            route.advertisements.into_iter().map(move |ad| RouteStatus {
                node: route.node,
                address: route.addr,
                next_hop: Some(ad.neighbour),
                metric: ad.metric,
                seqno: ad.rank.seqno,
                feasible: ad.feasible && ad.proven,
                selected: ad.selected,
                age: since_issue(ad.rank.seqno),
            })
        });
        std::iter::once(own).chain(learned).collect()
    }

    /// What was dropped, by reason, since the start.
    pub fn drops(&self) -> Drops {
        let mut drops = self.drops.clone();
        drops.merge(&self.worker.drops);
        drops.merge(&self.router.stats().drops);
        let overlay = self.overlay.counts();
        drops.add(DropReason::BadControl, overlay.bad);
        drops.add(DropReason::RateLimited, overlay.limited);
        drops.add(DropReason::NotBound, overlay.uninvited);
        drops
    }

    /// Who owns a mesh address, as far as this node knows.
    pub fn node_of(&self, addr: &MeshAddr) -> Option<NodeId> {
        if *addr == self.local {
            return Some(self.identity.node_id());
        }
        self.router.node_of(addr).or_else(|| self.sessions.keys().session(addr).map(|session| session.peer))
    }

    /// Whether this node knows a way to `node` now.
    pub fn is_reachable(&self, node: &NodeId) -> bool {
        let addr = node.address();
        addr == self.local || self.next_hop_toward(&addr).is_some()
    }

    /// The neighbour that data toward `node` is given to.
    pub fn hop_toward(&self, node: &NodeId) -> Option<NodeId> {
        self.next_hop_toward(&node.address()).map(|(hop, ..)| hop)
    }

    /// The carrier of the first link toward `node`.
    pub fn carrier_toward(&self, node: &NodeId) -> Option<CarrierKind> {
        self.next_hop_toward(&node.address()).and_then(|(_, carrier, _)| carrier)
    }

    pub(crate) fn is_up(&self, peer: &NodeId) -> bool {
        self.sessions.keys().session(&peer.address()).is_some_and(|session| session.epoch.is_some())
    }
}
