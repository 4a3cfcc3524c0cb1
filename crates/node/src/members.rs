//! The overlay machine's place in the node: it learns of sessions and of what arrives in them, and what it
//! decides takes effect here, in the order that the protocol asks for (A7): what is published to the
//! fast path first, what is sent after, what arrived acknowledged last.
//!
//! Members of our networks are no strangers: their sessions are listed, so that they get in where
//! `accept = "listed"` and are never evicted.

use std::collections::BTreeSet;
use std::sync::Arc;

use sinew_overlay::{self as overlay, Overlay};
use sinew_session::StreamClass;
use sinew_types::{DropReason, Instant, Metric, NodeId, PeerUri};
use sinew_wire::request::Request;

use crate::config::PeerConfig;
use crate::event::Event;
use crate::node::Node;

impl Node {
    /// The networks of this node: who is a member, which workloads there are, what may talk to what.
    pub const fn overlay(&self) -> &Overlay {
        &self.overlay
    }

    /// Lets the networks' machine do something, and carries on what follows from it. The shell calls
    /// its commands through here, and tells it what was stored.
    pub fn with_overlay<R>(&mut self, now: Instant, work: impl FnOnce(&mut Overlay, Instant) -> R) -> R {
        let result = work(&mut self.overlay, now);
        self.overlay_owes = true;
        self.pump(now);
        result
    }

    /// Does what is due.
    pub(crate) fn tend_overlay(&mut self, now: Instant) {
        if self.overlay.poll_timeout().is_none_or(|at| at > now) {
            return;
        }
        self.overlay.handle_timeout(now);
        self.overlay_owes = true;
        let overlay = &self.overlay;
        let (kept, left): (BTreeSet<_>, BTreeSet<_>) =
            std::mem::take(&mut self.kept).into_iter().partition(|peer| overlay.wants(peer));
        self.kept = kept;
        left.into_iter().for_each(|peer| self.sessions.set_kept(peer, false));
    }

    // --- from sessions ---

    /// A new association: whatever was agreed in the one before it is void.
    pub(crate) fn overlay_peer_up(&mut self, peer: NodeId, now: Instant) {
        if let Some(binding) = self.sessions.binding(&peer) {
            self.overlay.peer_up(peer, binding, now);
            self.overlay_owes = true;
        }
        if self.overlay.wants(&peer) {
            self.keep(peer);
        }
    }

    pub(crate) fn overlay_peer_down(&mut self, peer: NodeId, now: Instant) {
        self.kept.remove(&peer);
        self.overlay.peer_down(&peer, now);
        self.drain_overlay_events(now);
        if self.overlay.wants(&peer) {
            self.open_routed(peer, now);
        }
    }

    fn keep(&mut self, peer: NodeId) {
        self.kept.insert(peer);
        self.sessions.set_kept(peer, true);
    }

    /// A message about documents. It has its effect when this returns (protocol A5.3, A7).
    pub(crate) fn on_documents(&mut self, peer: NodeId, message: &[u8], now: Instant) {
        self.overlay.handle_documents(&peer, message, now);
        self.drain_overlay_events(now);
    }

    /// A request about a network. The same.
    pub(crate) fn on_network_request(&mut self, peer: NodeId, request: Request, now: Instant) {
        self.overlay.handle_request(&peer, request, now);
        self.drain_overlay_events(now);
    }

    // --- from the machine ---

    pub(crate) fn drain_overlay(&mut self, now: Instant) -> bool {
        let mut moved = self.drain_overlay_events(now);
        if !std::mem::take(&mut self.overlay_owes) {
            return moved;
        }
        // What is sent may say that the effect of an event is in force: hence after them all.
        loop {
            let sessions = &self.sessions;
            let ready = |peer: &NodeId, class: StreamClass| sessions.writable(peer, class);
            let Some(overlay::Send { peer, class, bytes }) = self.overlay.poll_send(now, ready) else {
                break;
            };
            moved = true;
            if self.sessions.send(peer, class, &bytes, now).is_err() {
                self.drops.count(DropReason::BadControl);
            }
        }
        moved
    }

    fn drain_overlay_events(&mut self, now: Instant) -> bool {
        let mut moved = false;
        while let Some(event) = self.overlay.poll_event() {
            (moved, self.overlay_owes) = (true, true);
            self.on_overlay_event(event, now);
        }
        moved
    }

    fn on_overlay_event(&mut self, event: overlay::Event, now: Instant) {
        use overlay::Event as E;
        match &event {
            E::Changed => {
                self.publish_networks(Arc::clone(self.overlay.snapshot()));
                self.list_members();
            }
            E::Bound { peer, .. } => self.release_held(&peer.address(), now),
            E::Dead { peer, slot } => {
                let dropped = self.held.forget(&peer.address(), *slot);
                self.drops.add(DropReason::NotBound, dropped);
            }
            E::WantPeer { peer, endpoints } => self.want_member(*peer, endpoints, now),
            E::JoinDone { .. } => self.forget_introductions(),
            _ => {}
        }
        // What the shell has to do, and what people may want to know.
        if !matches!(event, E::Bound { .. } | E::Dead { .. } | E::WantPeer { .. }) {
            // Past the limit of news: what must be stored is not dropped, and there is no more of it
            // than of documents.
            self.events.push_back(Event::Overlay(event));
        }
    }

    /// Opens a session with a member, over relays or where a ticket says that it is.
    fn want_member(&mut self, peer: NodeId, endpoints: &[PeerUri], now: Instant) {
        if self.is_up(&peer) {
            return self.keep(peer);
        }
        if !self.is_reachable(&peer) && !self.dialler.contains(&peer) {
            self.look_up(peer, now);
            for uri in endpoints.iter().filter(|uri| uri.node == peer) {
                self.dialler.add(PeerConfig { uri: uri.clone(), cost: Metric::ZERO }, now);
                self.introduced.insert(peer);
            }
            self.dialler.advance(now);
        }
        self.open_routed(peer, now);
    }

    /// Nodes that only a ticket named are not dialled for ever: a link that stands goes on without.
    fn forget_introductions(&mut self) {
        let overlay = &self.overlay;
        let (wanted, done): (BTreeSet<_>, BTreeSet<_>) =
            std::mem::take(&mut self.introduced).into_iter().partition(|peer| overlay.wants(peer));
        self.introduced = wanted;
        done.iter().for_each(|peer| _ = self.dialler.remove(peer));
    }

    /// A way to a member is known again, that we would have a session with.
    pub(crate) fn on_member_reachable(&mut self, node: NodeId, now: Instant) {
        if self.overlay.wants(&node) && !self.is_up(&node) {
            self.sessions.hurry(node, now);
        }
    }

    /// Tells the sessions who is no stranger.
    pub(crate) fn list_members(&mut self) {
        let states = self.overlay.snapshot().iter().filter_map(|view| self.overlay.state(&view.id).ok());
        let members = states.flat_map(|state| state.members.values()).filter(|member| member.is_valid());
        let members = members.map(|member| member.node);
        // A link of this node's own choice makes nobody a friend.
        let chosen = &self.finding.automatic;
        let dialled = self.dialler.peers().filter(|peer| !chosen.contains(peer)).copied();
        let listed: BTreeSet<_> = dialled.chain(members).collect();
        if listed != self.listed {
            self.sessions.set_listed(listed.clone());
            self.listed_at = listed.iter().map(|node| (node.address(), *node)).collect();
            self.listed = listed;
        }
    }
}
