//! Bringing documents into line with other members (protocol A7.8).
//!
//! ```text
//!   SUMMARY (a hash for each bucket) ─▶ INVENTORY of the buckets that differ ─▶ WANT ─▶ DOCUMENTS
//!                                                                           └▶ DOCUMENTS the other lacks
//! ```
//! One summary, from either side, brings both into line. News is pushed besides, so that it need not
//! wait for one. Every step is answered from what is there, and nothing is remembered of a conversation:
//! a lost session costs what the next summary finds.

use std::sync::Arc;
use std::time::Duration;

use sinew_types::{Instant, NetworkId, NodeId};
use sinew_wire::document::kind;
use sinew_wire::segment::{MESSAGE_MAX, StreamClass};
use sinew_wire::sync::{BUCKETS, DocumentId, IDS_MAX, SyncMessage, bucket_of};

use crate::document::{Flaw, Unverified};
use crate::event::{Event, Send};
use crate::network::{ASK_AGAIN, ASKED_MAX, Network};
use crate::overlay::{Overlay, SUMMARY_EVERY};
use crate::peer::Link;

/// Bytes of documents in one message: a few chunks, so that a revocation never waits long behind it.
const BATCH: usize = 8 * 1024;
/// Ids in one WANT.
const WANT_MAX: usize = 128;
/// Members with whom a node keeps sessions to spread documents.
const PARTNERS: usize = 8;
/// A member that did not come up for so long is passed over for another.
const PATIENCE: Duration = Duration::from_secs(20);

const LOWEST: DocumentId = [0; 32];
const HIGHEST: DocumentId = [0xff; 32];

impl Overlay {
    /// A message of class 1. Its effect is in force once the events are read.
    pub fn handle_documents(&mut self, peer: &NodeId, message: &[u8], now: Instant) {
        match SyncMessage::parse(message) {
            Ok(SyncMessage::Summary { tag, head, buckets }) => {
                if let Some(network) = self.party(peer, &tag, true) {
                    self.on_summary(peer, &network, head, &buckets, now);
                }
            }
            Ok(SyncMessage::Inventory { tag, buckets, low, high, ids }) => {
                if let Some(network) = self.party(peer, &tag, true) {
                    self.on_inventory(peer, &network, (buckets, low, high), &ids, now);
                }
            }
            Ok(SyncMessage::Want { tag, ids }) => {
                if let Some(network) = self.party(peer, &tag, true) {
                    self.on_want(peer, &network, &ids);
                }
            }
            Ok(SyncMessage::Documents { tag, documents }) => {
                if let Some(network) = self.party(peer, &tag, false) {
                    self.on_documents(peer, &network, &documents, now);
                }
            }
            Ok(SyncMessage::Other { .. }) | Err(_) => self.counts.bad += 1,
        }
        self.finish(now);
    }

    /// The network of a tag, if the peer may speak of it. What members share is for members; documents
    /// are taken from whoever knows the network, since a newcomer brings what makes it a member.
    fn party(&mut self, peer: &NodeId, tag: &[u8; 16], member: bool) -> Option<NetworkId> {
        let network = self.network_of(peer, tag);
        let known = network.and_then(|id| self.networks.get(&id));
        let party = known.is_some_and(|network| !member || network.state.member(peer).is_some());
        if !party {
            self.counts.uninvited += 1;
        }
        network.filter(|_| party)
    }

    fn both(&mut self, peer: &NodeId, network: &NetworkId) -> Option<(&mut Network, &mut Link)> {
        let link = self.peers.get_mut(peer)?.links.get_mut(network)?;
        Some((self.networks.get_mut(network)?, link))
    }

    fn on_summary(
        &mut self,
        peer: &NodeId,
        network: &NetworkId,
        head: (u16, u64),
        buckets: &[[u8; 8]; BUCKETS],
        now: Instant,
    ) {
        let Some((state, link)) = self.both(peer, network) else { return };
        link.head = Some(head);
        if !link.summaries.try_take(now) {
            self.counts.limited += 1;
            return;
        }
        let differ = (0..BUCKETS).filter(|&at| state.summary[at] != buckets[at]);
        link.inventory |= differ.fold(0, |mask, at| mask | 1 << at);
    }

    fn on_inventory(
        &mut self,
        peer: &NodeId,
        network: &NetworkId,
        (buckets, low, high): (u64, DocumentId, DocumentId),
        ids: &[DocumentId],
        now: Instant,
    ) {
        let Some((state, link)) = self.both(peer, network) else { return };
        if !link.inventories.try_take(now) {
            self.counts.limited += 1;
            return;
        }
        for id in ids {
            link.knows.insert(*id);
            let asked = state.asked.get(id).is_some_and(|at| *at > now);
            if !asked && !state.set.contains(id) && !state.refused.contains(id) {
                link.want.insert(*id);
            }
        }
        let told = |id: &DocumentId| {
            buckets & (1 << bucket_of(id)) != 0 && (low..=high).contains(id) && ids.binary_search(id).is_err()
        };
        let missing: Vec<_> = state.state.shared().filter(|id| told(id)).copied().collect();
        push(state, link, &missing);
    }

    fn on_want(&mut self, peer: &NodeId, network: &NetworkId, ids: &[DocumentId]) {
        let Some((state, link)) = self.both(peer, network) else { return };
        push(state, link, ids);
    }

    fn on_documents(&mut self, peer: &NodeId, network: &NetworkId, documents: &[Vec<u8>], now: Instant) {
        let (mut news, mut urgent) = (false, false);
        for bytes in documents {
            if let Some(kind) = self.on_document(peer, network, bytes, now) {
                news = true;
                urgent |= kind == kind::REVOKE;
            }
        }
        if news {
            self.judge_soon(network, urgent, now);
        }
    }

    /// Takes one document; its kind if it is new here.
    fn on_document(&mut self, peer: &NodeId, network: &NetworkId, bytes: &[u8], now: Instant) -> Option<u8> {
        let Ok(document) = Unverified::parse(bytes, network) else {
            self.counts.bad += 1;
            return None;
        };
        let link = self.peers.get_mut(peer)?.links.get_mut(network)?;
        let state = self.networks.get_mut(network)?;
        let (id, kind) = (document.id, document.kind());
        link.knows.insert(id);
        if state.set.contains(&id) || state.refused.contains(&id) {
            state.asked.remove(&id);
            return None;
        }
        let budget = if kind == kind::REVOKE { &mut link.urgent } else { &mut link.documents };
        if !budget.try_take(now) {
            self.counts.limited += 1;
            return None;
        }
        let asked = state.asked.contains_key(&id);
        match document.verify(&mut self.keys) {
            Ok(signed) if asked || kind == kind::REVOKE || state.may_come(signed.author, now) => {
                state.insert(Arc::new(signed), Some(*peer)).then_some(kind)
            }
            Ok(_) => {
                self.counts.limited += 1;
                None
            }
            Err(flaw) => {
                // A wrong signature says nothing about the document of this id; other flaws do.
                if flaw != Flaw::BadSignature {
                    state.refused.insert(id);
                }
                self.counts.bad += 1;
                None
            }
        }
    }

    /// The next message that a stream has room for: ask again until there is none. `writable` is
    /// [`Sessions::writable`](../sinew_session/struct.Sessions.html), so that nothing waits in a queue.
    /// Read all events first.
    pub fn poll_send(
        &mut self,
        now: Instant,
        mut writable: impl FnMut(&NodeId, StreamClass) -> bool,
    ) -> Option<Send> {
        for (peer, state) in &mut self.peers {
            if !state.requests.is_empty()
                && writable(peer, StreamClass::Requests)
                && let Some(request) = state.requests.pop_front()
            {
                let mut bytes = Vec::new();
                request.emit(&mut bytes);
                return Some(Send { peer: *peer, class: StreamClass::Requests, bytes });
            }
            if !state.links.values().any(|link| link.owes(now)) || !writable(peer, StreamClass::Documents) {
                continue;
            }
            for (id, link) in &mut state.links {
                let Some(network) = self.networks.get_mut(id) else { continue };
                if let Some(message) = compose(network, link, peer, now) {
                    let mut bytes = Vec::new();
                    message.emit(&mut bytes);
                    return Some(Send { peer: *peer, class: StreamClass::Documents, bytes });
                }
            }
        }
        None
    }

    /// Compares sets with one member after the other.
    pub(crate) fn summary_due(&mut self, network: &NetworkId, now: Instant) {
        let Some(state) = self.networks.get_mut(network).filter(|state| state.summary_at <= now) else {
            return;
        };
        let jitter = Duration::from_millis(self.rng.below(10_000));
        state.summary_at = now + SUMMARY_EVERY - Duration::from_secs(5) + jitter;
        let mut links: Vec<&mut Link> = self
            .peers
            .values_mut()
            .filter_map(|peer| peer.links.get_mut(network).filter(|link| link.is_bound()))
            .collect();
        if !links.is_empty() {
            let at = self.rng.below(links.len() as u64) as usize;
            links[at].summary = Some(now);
        }
    }

    /// Chooses the members that this node keeps sessions with: its neighbours on the ring of keys, so that
    /// all hang together, and others by lot, so that news is everywhere in a few steps.
    pub(crate) fn partners_due(&mut self, network: &NetworkId, now: Instant) {
        let next = self.next_partners_at(now);
        let Some(state) = self.networks.get_mut(network).filter(|state| state.partners_at <= now) else {
            return;
        };
        state.partners_at = next;
        let order = preference(state, &self.own);
        let (mut partners, mut wanted) = (std::collections::BTreeSet::new(), Vec::new());
        for node in order {
            if partners.len() + wanted.len() >= PARTNERS {
                break;
            }
            let bound = self
                .peers
                .get(&node)
                .and_then(|peer| peer.links.get(network))
                .is_some_and(|link| link.is_bound());
            let since = state.wanted.get(&node).copied();
            if bound {
                partners.insert(node);
            } else if since.is_none_or(|since| now.since(since) < PATIENCE) {
                wanted.push(node);
            }
        }
        let mut contacts = state.contacts();
        // Nobody is reached: go where the ticket led, since of the others nobody said where they are.
        if partners.is_empty() {
            contacts.extend(state.introduced());
        }
        let lasting = contacts.iter().chain(&wanted).chain(&partners);
        let lasting: std::collections::BTreeMap<NodeId, Instant> =
            lasting.map(|node| (*node, state.wanted.get(node).copied().unwrap_or(now))).collect();
        // Those that did not come stay wanted for a while longer: they are tried again in turn.
        let tried = state.wanted.iter().filter(|(_, since)| now.since(**since) < PATIENCE * 6);
        let mut all: std::collections::BTreeMap<_, _> = tried.map(|(node, since)| (*node, *since)).collect();
        all.extend(lasting);
        let new: Vec<NodeId> = all.keys().filter(|node| !state.wanted.contains_key(*node)).copied().collect();
        // Those still on their way count too: what happens as they come is pushed to them.
        partners.extend(wanted);
        (state.wanted, state.partners) = (all, partners);
        for peer in new {
            let endpoints =
                self.networks.get(network).map(|state| state.endpoints(&peer)).unwrap_or_default();
            self.event(Event::WantPeer { peer, endpoints });
        }
    }
}

/// Members in the order in which this node would have sessions with them.
fn preference(state: &Network, own: &NodeId) -> Vec<NodeId> {
    let ring: Vec<NodeId> = state
        .state
        .members
        .values()
        .filter(|member| member.is_valid() && member.node != *own)
        .map(|member| member.node)
        .collect();
    let at = ring.partition_point(|node| node < own);
    let around = |step: usize| ring[(at + step) % ring.len()];
    let mut order = Vec::new();
    for step in 0..ring.len().div_ceil(2).min(2) {
        order.push(around(step));
        order.push(around(ring.len() - 1 - step));
    }
    order.dedup();
    let lot = |node: &NodeId| {
        use std::hash::Hasher as _;
        let mut hasher = rustc_hash::FxHasher::default();
        hasher.write(own.as_bytes());
        hasher.write(node.as_bytes());
        (hasher.finish(), *node)
    };
    let mut rest: Vec<NodeId> = ring.into_iter().filter(|node| !order.contains(node)).collect();
    rest.sort_unstable_by_key(lot);
    order.extend(rest);
    order
}

/// Notes documents to be sent, as far as they are here and shared.
fn push(state: &Network, link: &mut Link, ids: &[DocumentId]) {
    for id in ids {
        let shared = state.state.fates.get(id).is_some_and(|fate| fate.is_shared());
        if let Some(signed) = state.set.get(id).filter(|_| shared) {
            link.push.insert((crate::overlay::priority(signed.document.kind), *id));
        }
    }
}

/// The next message for a link: what is urgent, then what we ask, then what we tell.
fn compose(state: &mut Network, link: &mut Link, peer: &NodeId, now: Instant) -> Option<SyncMessage> {
    let urgent = link.push.first().is_some_and(|(priority, _)| *priority == 0);
    if urgent && let Some(message) = documents(state, link) {
        return Some(message);
    }
    let tag = link.tag;
    if link.summary.is_some_and(|at| at <= now) {
        link.summary = None;
        return Some(SyncMessage::Summary { tag, head: state.meta.head, buckets: state.summary.clone() });
    }
    if link.inventory != 0 {
        return Some(inventory(state, link));
    }
    if !link.want.is_empty()
        && let Some(message) = want(state, link, now)
    {
        return Some(message);
    }
    // A revoked peer is sent revocations, and nothing else that was meant for it before.
    if state.state.revoked(kind::MEMBER, peer.as_bytes()).is_some() && state.state.member(peer).is_none() {
        link.push.retain(|(priority, _)| *priority == 0);
    }
    documents(state, link)
}

fn inventory(state: &Network, link: &mut Link) -> SyncMessage {
    let buckets = link.inventory;
    let listed = state.state.shared().filter(|id| buckets & (1 << bucket_of(id)) != 0);
    let listed = listed.skip_while(|id| **id < link.told_up_to);
    let mut ids: Vec<DocumentId> = listed.take(IDS_MAX + 1).copied().collect();
    let low = link.told_up_to;
    let high = if ids.len() > IDS_MAX {
        // The rest comes in the next message, from here on.
        link.told_up_to = ids.pop().unwrap_or(HIGHEST);
        ids.last().copied().unwrap_or(HIGHEST)
    } else {
        (link.inventory, link.told_up_to) = (0, LOWEST);
        HIGHEST
    };
    SyncMessage::Inventory { tag: link.tag, buckets, low, high, ids }
}

fn want(state: &mut Network, link: &mut Link, now: Instant) -> Option<SyncMessage> {
    let mut ids = Vec::new();
    while ids.len() < WANT_MAX
        && let Some(id) = link.want.pop_first()
    {
        let asked = state.asked.get(&id).is_some_and(|at| *at > now);
        if !asked && !state.set.contains(&id) && state.asked.len() < ASKED_MAX {
            state.asked.insert(id, now + ASK_AGAIN);
            ids.push(id);
        }
    }
    state.asked.retain(|_, at| *at > now);
    (!ids.is_empty()).then_some(SyncMessage::Want { tag: link.tag, ids })
}

fn documents(state: &Network, link: &mut Link) -> Option<SyncMessage> {
    let (mut size, mut documents) = (SyncMessage::DOCUMENTS_HEAD, Vec::new());
    while let Some((priority, id)) = link.push.pop_first() {
        let Some(signed) = state.set.get(&id) else { continue };
        let len = signed.bytes.len() + SyncMessage::DOCUMENT_HEAD;
        let most = if documents.is_empty() { MESSAGE_MAX } else { BATCH };
        if size + len > most {
            link.push.insert((priority, id));
            break;
        }
        size += len;
        link.knows.insert(id);
        documents.push(signed.bytes.to_vec());
    }
    (!documents.is_empty()).then_some(SyncMessage::Documents { tag: link.tag, documents })
}
