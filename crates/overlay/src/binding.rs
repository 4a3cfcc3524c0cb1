//! Agreeing with a peer on a handle for a network, and taking it back (protocol A7.7).
//!
//! Each side announces the handle that its own packets will carry. The other grants it only to who is a
//! valid member by its own documents, and has it in force before it says so.

use std::time::Duration;

use sinew_types::{Instant, NetworkId, NodeId};
use sinew_wire::document::kind;
use sinew_wire::request::{Bind, BindRefusal, Request};
use sinew_wire::sync::BlindTag;

use crate::event::Event;
use crate::overlay::{Overlay, priority};
use crate::peer::{Ours, Peer};

/// How long an answer to BIND is waited for.
const ANSWER: Duration = Duration::from_secs(10);

impl Overlay {
    /// A session with `peer` stands; `binding` is the association's.
    pub fn peer_up(&mut self, peer: NodeId, binding: [u8; 32], now: Instant) {
        if peer == self.own {
            return;
        }
        self.unbind_all(&peer);
        let mut state = Peer::new(binding, now);
        self.networks.keys().for_each(|network| state.add(*network, now));
        self.peers.insert(peer, state);
        let ids: Vec<_> = self.networks.keys().copied().collect();
        for id in ids {
            self.announce(&peer, &id, now);
            self.join_peer_up(&peer, &id, now);
        }
        self.finish(now);
    }

    /// The session with `peer` is gone, with all that was agreed in it.
    pub fn peer_down(&mut self, peer: &NodeId, now: Instant) {
        self.unbind_all(peer);
        self.peers.remove(peer);
        for network in self.networks.values_mut() {
            if network.partners.remove(peer) || network.wanted.contains_key(peer) {
                network.partners_at = network.partners_at.min(now + Duration::from_secs(1));
            }
        }
        self.finish(now);
    }

    fn unbind_all(&mut self, peer: &NodeId) {
        let Some(state) = self.peers.get(peer) else { return };
        let bound: Vec<_> =
            state.links.iter().filter(|(_, link)| link.is_bound()).map(|(id, _)| *id).collect();
        for id in bound {
            self.unbind(peer, &id);
        }
    }

    /// Takes back what was agreed, and says so to the shell.
    fn unbind(&mut self, peer: &NodeId, network: &NetworkId) {
        let Some(slot) = self.networks.get(network).map(|network| network.meta.slot) else { return };
        let Some(link) = self.peers.get_mut(peer).and_then(|peer| peer.links.get_mut(network)) else {
            return;
        };
        if link.is_bound() {
            (link.handle, link.ours) = (None, Ours::None);
            self.snapshot_stale = true;
            self.event(Event::Dead { peer: *peer, slot });
        }
    }

    /// A request of class 2 that concerns networks. Its effect is in force once the events are read.
    pub fn handle_request(&mut self, peer: &NodeId, request: Request, now: Instant) {
        match request {
            Request::Bind(bind) => self.on_bind(peer, bind, now),
            Request::BindAck { tag } => self.on_bind_ack(peer, &tag),
            Request::BindRefused { tag, refusal } => self.on_bind_refused(peer, &tag, refusal, now),
            Request::Unbind { tag } => self.on_unbind(peer, &tag, now),
            Request::Redeem(redeem) => self.on_redeem(peer, &redeem, now),
            Request::RedeemReply(reply) => self.on_redeem_reply(peer, reply, now),
            _ => self.counts.bad += 1,
        }
        self.finish(now);
    }

    pub(crate) fn network_of(&self, peer: &NodeId, tag: &BlindTag) -> Option<NetworkId> {
        self.peers.get(peer)?.tags.get(tag).copied()
    }

    fn on_bind(&mut self, peer: &NodeId, bind: Bind, now: Instant) {
        let network = self.network_of(peer, &bind.tag);
        let Some(state) = self.peers.get_mut(peer) else { return };
        if !state.binds.try_take(now) {
            self.counts.limited += 1;
            return;
        }
        let Some(network) = network else {
            // Said of any tag that is not ours: it tells only what the asker could see anyway.
            self.counts.uninvited += 1;
            state.request(Request::BindRefused { tag: bind.tag, refusal: BindRefusal::NotAMember });
            return;
        };
        if let Some(link) = state.links.get_mut(&network) {
            link.head = Some(bind.head);
            link.asks = Some(bind);
            self.grant(peer, &network, true, now);
        }
    }

    /// Grants what the peer asks if it is a member; `answer`: says so if not.
    fn grant(&mut self, peer: &NodeId, network: &NetworkId, answer: bool, now: Instant) {
        let (Some(state), Some(own)) = (self.networks.get(network), self.peers.get_mut(peer)) else { return };
        let Some(link) = own.links.get_mut(network) else { return };
        let Some(bind) = link.asks.clone() else { return };
        let tag = link.tag;
        let member = state.state.member(peer).is_some() && state.state.member(&self.own).is_some();
        if member {
            link.asks = None;
            link.handle = Some(bind.handle);
            link.summary = Some(now);
            if matches!(link.ours, Ours::Refused(_)) {
                link.ours = Ours::None;
            }
            own.request(Request::BindAck { tag });
            self.snapshot_stale = true;
            self.announce(peer, network, now);
        } else if answer {
            let known = state.set.contains(&bind.member) || state.refused.contains(&bind.member);
            let refusal = if known { BindRefusal::NotAMember } else { BindRefusal::SendDocuments };
            own.request(Request::BindRefused { tag, refusal });
        }
    }

    /// Announces our handle to a peer that is a member, or that a ticket names.
    pub(crate) fn announce(&mut self, peer: &NodeId, network: &NetworkId, now: Instant) {
        let Some(state) = self.networks.get(network) else { return };
        let Some(me) = state.state.member(&self.own) else { return };
        let known = state.state.member(peer).is_some() || state.is_contact(peer);
        let Some(own) = self.peers.get_mut(peer) else { return };
        let Some(link) = own.links.get_mut(network) else { return };
        if !known || !matches!(link.ours, Ours::None) {
            return;
        }
        link.ours = Ours::Asked(now + ANSWER);
        let (tag, member, head) = (link.tag, me.id, state.meta.head);
        own.request(Request::Bind(Bind { handle: state.meta.slot, tag, member, head }));
    }

    fn on_bind_ack(&mut self, peer: &NodeId, tag: &BlindTag) {
        let Some(network) = self.network_of(peer, tag) else { return };
        let Some(slot) = self.networks.get(&network).map(|network| network.meta.slot) else { return };
        let Some(link) = self.peers.get_mut(peer).and_then(|peer| peer.links.get_mut(&network)) else {
            return;
        };
        if matches!(link.ours, Ours::Asked(_)) {
            link.ours = Ours::Agreed;
            link.pause = Duration::from_millis(500);
            self.snapshot_stale = true;
            self.event(Event::Bound { peer: *peer, slot });
        }
    }

    fn on_bind_refused(&mut self, peer: &NodeId, tag: &BlindTag, refusal: BindRefusal, now: Instant) {
        let Some(network) = self.network_of(peer, tag) else { return };
        let Some(state) = self.networks.get(&network) else { return };
        let chain = state.state.member(&self.own).map(|me| state.chain(me)).unwrap_or_default();
        let Some(link) = self.peers.get_mut(peer).and_then(|peer| peer.links.get_mut(&network)) else {
            return;
        };
        if !matches!(link.ours, Ours::Asked(_)) {
            return;
        }
        link.ours = Ours::Refused(now + link.next_pause());
        if refusal == BindRefusal::SendDocuments {
            // The peer grants what we asked as soon as it has read these.
            let documents = chain.iter().map(|signed| (priority(signed.document.kind), signed.id));
            link.push.extend(documents);
        }
    }

    fn on_unbind(&mut self, peer: &NodeId, tag: &BlindTag, now: Instant) {
        let Some(network) = self.network_of(peer, tag) else { return };
        self.unbind(peer, &network);
        if let Some(link) = self.peers.get_mut(peer).and_then(|peer| peer.links.get_mut(&network)) {
            link.asks = None;
            link.ours = Ours::Refused(now + Duration::from_secs(30));
        }
    }

    /// After a judgement: who is no member any more is cut off, who has become one is let in.
    pub(crate) fn settle_links(&mut self, network: &NetworkId, now: Instant) {
        let Some(state) = self.networks.get(network) else { return };
        let here = state.state.member(&self.own).is_some();
        let standing = |peer: &NodeId| {
            let revoked = state.state.revoked(kind::MEMBER, peer.as_bytes()).is_some();
            let known = revoked || state.state.members.contains_key(peer);
            (*peer, here && state.state.member(peer).is_some(), known)
        };
        let peers: Vec<_> = self.peers.keys().map(standing).collect();
        for (peer, member, known) in peers {
            let Some(link) = self.peers.get(&peer).and_then(|peer| peer.links.get(network)) else { continue };
            let (tag, asks) = (link.tag, link.asks.is_some());
            if member {
                if asks {
                    self.grant(&peer, network, false, now);
                }
                self.announce(&peer, network, now);
            } else if link.is_bound() && (known || !here || link.handle.is_some()) {
                // Of a ticket's contact nothing may be known yet; all others have to be members.
                self.unbind(&peer, network);
                if let Some(own) = self.peers.get_mut(&peer) {
                    own.request(Request::Unbind { tag });
                }
            }
        }
    }

    /// Announces again where there was no answer, or a refusal long enough ago.
    pub(crate) fn bind_due(&mut self, network: &NetworkId, now: Instant) {
        let mut due = Vec::new();
        for (peer, own) in &mut self.peers {
            let Some(link) = own.links.get_mut(network) else { continue };
            if let Ours::Asked(at) | Ours::Refused(at) = link.ours
                && at <= now
            {
                link.ours = Ours::None;
                due.push(*peer);
            }
        }
        for peer in due {
            self.announce(&peer, network, now);
        }
    }
}
