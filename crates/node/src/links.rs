//! The links of a node: following the paths that sessions use, measuring them, giving them up.

use std::sync::Arc;
use std::time::Duration;

use sinew_session::{Arrival, Target};
use sinew_types::{Instant, NodeId, PathAddr};

use crate::config::Limits;
use crate::event::Event;
use crate::link::{Link, LinkAction};
use crate::node::Node;

/// A path that works is not left for a nearer one before this has passed: at most one move a minute.
const SETTLE: Duration = Duration::from_secs(60);
/// Nearer by less than this is not worth a move, nor is it before so many measurements in a row.
const NEARER: Duration = Duration::from_millis(2);
const NEARER_TIMES: u32 = 8;

impl Node {
    /// Makes the link follow the path that the session uses: it may have several, and change over
    /// without a word when the old one falls silent.
    pub(crate) fn sync_link(&mut self, peer: NodeId, now: Instant) {
        let session = self.sessions.keys().session(&peer.address()).cloned();
        let used = session.as_ref().and_then(|session| session.path);
        let linked = self.links.get(&peer).map(|link| link.path);
        match (linked, used) {
            (Some(old), Some(path)) if old == path => {}
            (_, Some(path)) => self.take_path(peer, path, now),
            (Some(old), None) => self.drop_link(peer, old, now),
            (None, None) => {}
        }
    }

    pub(crate) fn take_path(&mut self, peer: NodeId, path: PathAddr, now: Instant) {
        let addr = peer.address();
        let mut link = Link::new(path, self.dialler.cost(&peer), self.rng.fork(), now);
        let known = self.sessions.info(&peer, now);
        let paths = known.iter().flat_map(|info| &info.paths);
        if let Some(rtt) = paths.filter(|known| known.path == path).find_map(|known| known.rtt) {
            link.quality.on_rtt(rtt, now);
        }
        if let Some(old) = self.links.remove(&peer) {
            // The same neighbour by another way: what routing knows of it stays, what was
            // measured of the old way does not.
            link.adj = old.adj;
            link.routing = old.routing;
        }
        let cost = link.quality.cost();
        let routing = link.routing;
        self.link_info.insert(addr, Arc::clone(&link.info));
        self.worker.meters.set_link(addr, self.limits.of(&peer), now);
        self.links.insert(peer, link);
        if routing {
            self.router.set_cost(&peer, cost, now);
        }
        self.on_pair_linked(peer, path, now);
        self.dialler.on_path_up(&peer, &path, now);
        self.searches.remove(&peer);
        self.emit(Event::LinkUp { peer, path });
        self.ping_link(peer, now);
        self.tell_observed(peer, path, now);
        self.release_held(&addr, now);
        self.probes.on_session_up(&mut self.sessions, peer, now);
        self.ask_over_others(peer, now);
    }

    /// Changes what may be sent; a limit that stays what it was goes on where it is.
    pub fn set_limits(&mut self, limits: Limits, now: Instant) {
        self.worker.meters.set_transit(limits.transit, now);
        for peer in self.links.keys() {
            self.worker.meters.set_link(peer.address(), limits.of(peer), now);
        }
        self.limits = limits;
    }

    pub(crate) fn on_path_up(&mut self, peer: NodeId, path: PathAddr, now: Instant) {
        if path.carrier.has_connections() {
            self.emit(Event::Authenticated { path });
        }
        self.prefer_nearer(peer, path, now);
        self.sync_link(peer, now);
        let reserve = self.links.get(&peer).is_some_and(|link| link.path != path);
        if reserve && !self.is_beside_link(&peer, &path) {
            self.dialler.on_standby(&peer, &path, now);
        }
    }

    pub(crate) fn drop_link(&mut self, peer: NodeId, path: PathAddr, now: Instant) {
        self.links.remove(&peer);
        self.link_info.remove(&peer.address());
        self.worker.meters.set_link(peer.address(), None, now);
        self.direct.reflexive.forget(&peer);
        self.on_pair_unlinked(peer, now);
        self.dialler.on_path_down(&peer, &path, now);
        self.emit(Event::LinkDown { peer, path });
        self.start_search(peer, now);
    }

    pub(crate) fn on_pong(&mut self, peer: NodeId, id: u32, from: Arrival, rtt: Duration, now: Instant) {
        if let Arrival::Direct(path) = from
            && let Some(link) = self.links.get_mut(&peer)
            && link.path == path
            && let Some(change) = link.on_pong(id, rtt, now)
        {
            if let (Some(cost), true) = (change, link.routing) {
                self.router.set_cost(&peer, cost, now);
            }
            return self.weigh_reserve(peer, now);
        }
        self.on_probe_pong(peer, id, rtt, now);
    }

    /// A path in use has ceased to carry what a link must (protocol A4): it is none any more, and whatever
    /// else is known of the peer takes over. Challenges of full size go on, so that it may come back.
    fn on_narrow(&mut self, peer: NodeId, path: PathAddr, now: Instant) {
        self.dialler.note_error(&peer, "the path carries less than 1,200 bytes a packet by now");
        if self.refused.allow(peer.address(), now) {
            self.emit(Event::LinkRefused { peer, path });
        }
        self.sessions.path_dead(peer, path, now);
        self.drain_sessions(now);
    }

    /// The host's network has changed, or it has slept: whatever is known of ways to peers is asked anew at
    /// once, and what failed is tried again.
    pub fn handle_network_change(&mut self, now: Instant) {
        self.sessions.network_changed(now);
        for link in self.links.values_mut() {
            link.on_network_changed(now);
        }
        self.dialler.network_changed(now);
        self.tend_links(now);
        self.pump(now);
    }

    /// Of several paths the one with the shorter round trip is used, if it is clearly shorter and stays
    /// so: a path that has just been taken is kept for a minute.
    fn weigh_reserve(&mut self, peer: NodeId, now: Instant) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        let Some(srtt) = link.quality.srtt().filter(|_| now.since(link.since) >= SETTLE) else { return };
        let Some(session) = self.sessions.keys().session(&peer.address()) else { return };
        if session.validated.len() < 2 {
            return;
        }
        let Some(info) = self.sessions.info(&peer, now) else { return };
        let rank = link.path.carrier.rank();
        let others = info.paths.iter().filter(|p| p.validated && p.path != link.path);
        let nearest = others
            .filter(|other| other.path.carrier.rank() == rank)
            .filter_map(|other| other.rtt.map(|rtt| (rtt, other.path)))
            .filter(|(rtt, _)| *rtt * 5 < srtt * 4 && srtt.saturating_sub(*rtt) >= NEARER)
            .min_by_key(|(rtt, _)| *rtt);
        let Some((_, path)) = nearest else { return link.nearer = None };
        let times = link.nearer.filter(|(known, _)| *known == path).map_or(1, |(_, times)| times + 1);
        link.nearer = Some((path, times));
        if times >= NEARER_TIMES {
            self.sessions.prefer_path(peer, path, now);
            self.sync_link(peer, now);
        }
    }

    /// A firewall may have begun to drop what we send, while all that the peer sends still comes.
    pub(crate) fn on_doubted(&mut self, peer: NodeId, path: PathAddr, now: Instant) {
        if let Some(link) = self.links.get_mut(&peer).filter(|link| link.path == path) {
            link.on_doubted(now);
            self.tend_link(peer, now);
        }
    }

    pub(crate) fn ping_link(&mut self, peer: NodeId, now: Instant) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        let id = self.sessions.ping(peer, Target::Direct(link.path), now);
        link.on_ping_sent(id, now);
    }

    pub(crate) fn tend_links(&mut self, now: Instant) {
        let due = |link: &Link| link.poll_timeout().is_some_and(|(at, _)| at <= now);
        let peers: Vec<_> = self.links.iter().filter(|(_, link)| due(link)).map(|(peer, _)| *peer).collect();
        for peer in peers {
            self.tend_link(peer, now);
        }
    }

    pub(crate) fn tend_link(&mut self, peer: NodeId, now: Instant) {
        self.sync_link(peer, now);
        while let Some(link) = self.links.get_mut(&peer) {
            let path = link.path;
            match link.poll(now) {
                Some(LinkAction::Ping) => {
                    let silent = link.is_silent();
                    self.ping_link(peer, now);
                    if silent {
                        self.sessions.ask_reserve(peer, now);
                    }
                }
                Some(LinkAction::ProbeMtu(size)) => {
                    let id = self.sessions.mtu_probe(peer, Target::Direct(path), size, now);
                    link.on_mtu_probe_sent(id, size);
                }
                Some(LinkAction::Dead) => {
                    self.dialler.note_error(&peer, "the link fell silent");
                    self.sessions.path_dead(peer, path, now);
                    self.drain_sessions(now);
                    break;
                }
                Some(LinkAction::Narrow) => {
                    self.on_narrow(peer, path, now);
                    break;
                }
                None => break,
            }
        }
        if let Some(link) = self.links.get_mut(&peer)
            && let Some(cost) = link.settle(now)
            && link.routing
        {
            self.router.set_cost(&peer, cost, now);
        }
    }
}
