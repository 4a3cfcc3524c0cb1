//! Neighbours as routing sees them: adjacencies that open and close, the frames they send, and what
//! happens to one that lies.

use std::collections::VecDeque;

use sinew_session::Receipt;
use sinew_types::{Class, DropReason, Instant, NodeId};

use crate::node::Node;

impl Node {
    pub(crate) fn on_adjacency_up(&mut self, peer: NodeId, adj: u8, now: Instant) {
        self.sync_link(peer, now);
        if self.turns_away(&peer) {
            self.drops.count(DropReason::TableFull);
            return self.sessions.close(peer, now);
        }
        let Some(link) = self.links.get_mut(&peer) else { return };
        let known = std::mem::replace(&mut link.routing, true);
        link.adj = Some(adj);
        let (cost, floor) = (link.quality.cost(), link.quality.fix_floor());
        link.info.set_shortcut(false);
        if known {
            // A new incarnation: what the router knew of the old one is void (ROUTING-MODEL D1).
            self.router.neighbour_down(&peer, now);
        }
        let stub = self.sessions.keys().session(&peer.address()).is_some_and(|session| session.stub);
        let class = if stub { Class::Stub } else { Class::Router };
        self.router.neighbour_up(peer, cost, floor, class, now);
        self.finding_neighbour_up(peer, now);
        self.regain_upstream(now);
        self.release_reachable(now);
    }

    /// A stub that has an upstream again has relays to everybody it has a session with, also to a neighbour
    /// that it has lost: answers and requests go that way from now on, as its data does.
    fn regain_upstream(&mut self, now: Instant) {
        if self.router.default_next_hop().is_some() {
            let peers: Vec<_> = self.sessions.peers().copied().collect();
            peers.into_iter().for_each(|peer| self.sessions.set_routed(peer, true, now));
        }
    }

    /// A stub's way to everybody is back with its upstream: what waited for whom it has sessions with goes
    /// out. (A router is told by its routes.)
    fn release_reachable(&mut self, now: Instant) {
        for dst in self.held.destinations() {
            let session = self.sessions.keys().session(&dst).filter(|session| session.epoch.is_some());
            if let Some(peer) = session.map(|session| session.peer)
                && self.is_reachable(&peer)
            {
                self.release_held(&dst, now);
            }
        }
    }

    pub(crate) fn on_adjacency_down(&mut self, peer: NodeId, now: Instant) {
        if let Some(link) = self.links.get_mut(&peer) {
            link.adj = None;
            link.routing = false;
            link.quality.release_floor();
        }
        self.waiting.remove(&peer);
        self.direct.look_soon(now);
        self.router.neighbour_down(&peer, now);
        self.apply_routes(now);
        self.finding_neighbour_down(peer, now);
    }

    /// A routing frame is handled at once, or waits unacknowledged while its sender has used up its
    /// share of our time (protocol A5: withheld credit, never a dropped message).
    pub(crate) fn on_frame(&mut self, peer: NodeId, bytes: Vec<u8>, receipt: Receipt, now: Instant) {
        let busy = self.router.busy_until(&peer, now);
        if busy.is_some() || self.waiting.contains_key(&peer) {
            self.looked = now;
            self.waiting.entry(peer).or_default().push_back((bytes, receipt));
        } else {
            self.handle_frame(peer, &bytes, receipt, now);
        }
    }

    pub(crate) fn handle_frame(&mut self, peer: NodeId, bytes: &[u8], receipt: Receipt, now: Instant) {
        if let Err(misbehaviour) = self.router.handle_frame(&peer, bytes, now)
            && let Some(pause) = misbehaviour.close_for
        {
            self.bar(peer, now + pause, now);
            self.dialler.note_error(&peer, misbehaviour.to_string());
        }
        // ROUTING-MODEL D3: the forwarding table first, the acknowledgement after.
        self.apply_routes(now);
        self.sessions.acknowledge(receipt, now);
    }

    /// A neighbour that lies is none for a while; its session may go on.
    pub(crate) fn bar(&mut self, peer: NodeId, until: Instant, now: Instant) {
        self.barred.insert(peer, until);
        self.sessions.set_adjacent(peer, false, now);
    }

    /// Frames whose senders have their share again, and neighbours whose time is served.
    pub(crate) fn tend_neighbours(&mut self, now: Instant) {
        self.looked = now;
        let peers: Vec<_> = self.waiting.keys().copied().collect();
        for peer in peers {
            while self.router.busy_until(&peer, now).is_none()
                && let Some((bytes, receipt)) = self.waiting.get_mut(&peer).and_then(VecDeque::pop_front)
            {
                self.handle_frame(peer, &bytes, receipt, now);
            }
        }
        self.waiting.retain(|_, frames| !frames.is_empty());
        let served: Vec<_> =
            self.barred.iter().filter(|(_, until)| **until <= now).map(|(p, _)| *p).collect();
        for peer in served {
            self.barred.remove(&peer);
            self.sessions.set_adjacent(peer, true, now);
        }
    }

    /// When [`Node::tend_neighbours`] has something to do.
    pub(crate) fn neighbours_due(&self) -> Option<Instant> {
        let waiting =
            self.waiting.keys().map(|peer| self.router.busy_until(peer, self.looked).unwrap_or(self.looked));
        waiting.chain(self.barred.values().copied()).min()
    }
}
