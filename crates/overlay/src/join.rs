//! Coming into a network by a ticket, from both sides (protocol A7.6).
//!
//! *The joiner* of a pinned or bearer ticket has all it needs in the ticket; of a counted one it asks the
//! acceptors, and proves by the ticket's key that it holds the ticket, for this association alone. It is
//! *ready* when it holds the HEAD that the ticket names: until then nothing passes, since it cannot know
//! whether it was shown an old set.
//!
//! *The acceptor* writes down whom it admits under which number before it signs. So a crash between the
//! two costs nothing: the same node asks again and gets the same answer, and no other gets its use.

use sinew_types::{Domain, Identity, Instant, Label, NetworkId, NodeId, PeerUri, verify};
use sinew_wire::document::{Body, Grant, InviteMode, Member as MemberBody, kind};
use sinew_wire::request::{Redeem, RedeemReply, RedeemStatus, Request};
use sinew_wire::ticket::{Ticket, TicketMode};
use zeroize::Zeroizing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::admin::Admission;
use crate::document::{Draft, Unverified};
use crate::event::{Change, Event};
use crate::network::Network;
use crate::overlay::Overlay;
use crate::refusal::Refusal;

/// How often an acceptor is asked.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// Most nodes that wait for approval in one network.
const PENDING_MAX: usize = 64;
/// Longest answer to a redemption, bytes of documents.
const REPLY_MAX: usize = 12 * 1024;

/// Whom a ticket was spent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) number: u16,
}

/// An entry that is being written down.
#[derive(Clone, Debug)]
pub(crate) struct Reserved {
    pub(crate) network: NetworkId,
    ticket: [u8; 32],
    node: NodeId,
    /// What it would be called.
    wish: Option<Label>,
}

/// This node on its way in.
#[derive(Debug)]
pub(crate) struct Joining {
    ticket: Ticket,
    contacts: Vec<NodeId>,
    /// When acceptors are asked next.
    pub(crate) at: Instant,
    /// Who said no.
    denied: BTreeMap<NodeId, RedeemStatus>,
    /// What it waits for, for people to read.
    pub(crate) waits: Refusal,
}

impl Joining {
    fn new(ticket: Ticket, network: Label, now: Instant) -> Self {
        let contacts = ticket.contacts.iter().filter_map(|contact| NodeId::parse(&contact.node).ok());
        let waits = match ticket.mode {
            TicketMode::Counted => Refusal::NoAcceptor { network },
            TicketMode::Pinned | TicketMode::Bearer => Refusal::NotReady { network },
        };
        Self { contacts: contacts.collect(), ticket, at: now, denied: BTreeMap::new(), waits }
    }

    fn key(&self) -> Option<Identity> {
        self.ticket.secret.map(Identity::from_seed)
    }
}

impl Network {
    /// Goes on where a restart interrupted joining.
    pub(crate) fn resume(&mut self, ticket: &[u8], now: Instant) {
        if let Ok(ticket) = Ticket::parse(ticket) {
            self.joining = Some(Joining::new(ticket, self.name(), now));
        }
    }

    pub(crate) fn restore_journal(&mut self, key: &[u8], value: &[u8]) {
        if let (Some((ticket, node)), Ok(number)) = (key.split_first_chunk(), value.try_into())
            && let Ok(node) = node.try_into()
        {
            let number = u16::from_le_bytes(number);
            self.journal.insert((*ticket, node), Entry { number });
        }
    }

    /// Nodes that the ticket names.
    pub(crate) fn contacts(&self) -> Vec<NodeId> {
        self.joining.as_ref().map(|joining| joining.contacts.clone()).unwrap_or_default()
    }

    pub(crate) fn is_contact(&self, peer: &NodeId) -> bool {
        self.joining.as_ref().is_some_and(|joining| joining.contacts.contains(peer))
    }

    /// Where the ticket says that a node is.
    pub(crate) fn endpoints(&self, peer: &NodeId) -> Vec<PeerUri> {
        self.meta
            .contacts
            .iter()
            .filter(|contact| contact.node == *peer.as_bytes())
            .flat_map(|contact| contact.endpoints.clone())
            .collect()
    }

    /// Members that the ticket said where to find.
    pub(crate) fn introduced(&self) -> impl Iterator<Item = NodeId> + '_ {
        let nodes = self.meta.contacts.iter().filter_map(|contact| NodeId::parse(&contact.node).ok());
        nodes.filter(|node| self.state.member(node).is_some_and(|member| member.is_valid()))
    }

    /// `wish`, unless another member has that name.
    fn free_name(&self, wish: Option<Label>, node: &NodeId) -> Option<Label> {
        let others = || self.state.members.values().filter(|member| member.node != *node);
        wish.filter(|wish| !others().any(|member| member.is_valid() && member.name.as_ref() == Some(wish)))
    }

    /// Entries of tickets that are gone: nobody can ask by them any more.
    pub(crate) fn prune_journal(&mut self) -> Vec<Change> {
        let state = &self.state;
        if state.net.is_none() {
            return Vec::new();
        }
        let gone = |key: &[u8; 32]| !state.tickets.contains_key(key);
        let (old, kept) = std::mem::take(&mut self.journal).into_iter().partition(|((key, _), _)| gone(key));
        self.journal = kept;
        let old: BTreeMap<([u8; 32], [u8; 32]), Entry> = old;
        old.keys().map(|(key, node)| Change::DropJournal { key: [*key, *node].concat() }).collect()
    }

    /// How often a ticket was used, as far as this node knows.
    fn uses(&self, ticket: &[u8; 32]) -> usize {
        let mut nodes: Vec<[u8; 32]> =
            self.journal.keys().filter(|(key, _)| key == ticket).map(|(_, node)| *node).collect();
        let members = self.state.members.values().filter(|member| member.ticket.as_ref() == Some(ticket));
        nodes.extend(members.map(|member| *member.node.as_bytes()));
        nodes.sort_unstable();
        nodes.dedup();
        nodes.len()
    }
}

fn journal_key(ticket: &[u8; 32], node: &NodeId) -> Vec<u8> {
    [ticket.as_slice(), node.as_bytes()].concat()
}

impl Overlay {
    /// Sets out to join by a ticket, under the name `name` or the one the ticket gives. How it ends is
    /// told by [`Event::JoinDone`].
    ///
    /// # Errors
    /// A [`Refusal`]; nothing has happened then.
    pub fn join(&mut self, ticket: Ticket, name: Option<&str>, now: Instant) -> Result<NetworkId, Refusal> {
        let label = match name {
            Some(name) => Self::label(name)?,
            None => ticket.name.clone(),
        };
        let hollow = |reason| Refusal::HollowTicket { network: ticket.name.clone(), reason };
        if ticket.expires != 0 && ticket.expires <= self.seconds(now) {
            return Err(Refusal::TicketExpired { network: label });
        }
        let key = self.keys.node(&ticket.network).ok_or_else(|| hollow("it names no network"))?;
        let network = NetworkId::new(key);
        let contacts = ticket.contacts.iter().filter(|contact| self.keys.node(&contact.node).is_some());
        if contacts.count() == 0 {
            return Err(hollow("it names nobody to turn to"));
        }
        self.begin(network, label.clone(), ticket.head, now)?;
        let result = match ticket.mode {
            TicketMode::Counted => Ok(()),
            TicketMode::Pinned => self.enter_pinned(network, &ticket, now),
            TicketMode::Bearer => self.enter_bearer(network, &ticket, now),
        };
        if let Err(refusal) = result {
            self.forget(&network, now);
            self.finish(now);
            return Err(refusal);
        }
        let mut bytes = Zeroizing::new(Vec::new());
        ticket.emit(&mut bytes);
        if let Some(state) = self.networks.get_mut(&network) {
            state.meta.ticket = bytes;
            let known = ticket.contacts.iter().filter(|contact| !contact.endpoints.is_empty());
            state.meta.contacts = known.cloned().collect();
            state.joining = Some(Joining::new(ticket, label, now));
        }
        self.judge(&network, now);
        let peers: Vec<NodeId> = self.peers.keys().copied().collect();
        peers.iter().for_each(|peer| self.announce(peer, &network, now));
        self.join_due(&network, now);
        self.partners_due(&network, now);
        self.finish(now);
        Ok(network)
    }

    fn enter_pinned(&mut self, network: NetworkId, ticket: &Ticket, now: Instant) -> Result<(), Refusal> {
        let name = || ticket.name.clone();
        self.import(network, ticket.documents.clone(), now)
            .map_err(|_| Refusal::HollowTicket { network: name(), reason: "a document in it is damaged" })?;
        let state = self.network(&network)?;
        if state.me(&self.own).is_ok() {
            return Ok(());
        }
        let contacts: Vec<_> = ticket.contacts.iter().map(|contact| contact.node).collect();
        let strangers = state.state.members.keys().filter(|node| !contacts.contains(node.as_bytes()));
        Err(match strangers.copied().next() {
            Some(node) => Refusal::TicketForAnother { network: name(), node },
            None => Refusal::HollowTicket { network: name(), reason: "nothing in it admits anybody" },
        })
    }

    /// The ticket's key signs this node's membership.
    fn enter_bearer(&mut self, network: NetworkId, ticket: &Ticket, now: Instant) -> Result<(), Refusal> {
        let hollow = |reason| Refusal::HollowTicket { network: ticket.name.clone(), reason };
        self.import(network, ticket.documents.clone(), now)
            .map_err(|_| hollow("a document in it is damaged"))?;
        let key = ticket.secret.map(Identity::from_seed).ok_or_else(|| hollow("its key is missing"))?;
        let state = self.network(&network)?;
        let known = state.state.tickets.get(key.node_id().as_bytes());
        let known = known.ok_or_else(|| hollow("what issued it is missing"))?;
        let invite = &known.invite;
        let number = invite.number.ok_or_else(|| hollow("it carries no subnet"))?;
        let (since, ticket) = (self.seconds(now), Some(*key.node_id().as_bytes()));
        let name = self.network(&network)?.free_name(self.own_name.clone(), &self.own);
        let body = Body::Member(MemberBody {
            number,
            subnet: invite.subnet,
            groups: invite.groups.clone(),
            since,
            ticket,
            name,
        });
        let draft = Draft {
            network,
            grant: known.id,
            subject: *self.own.as_bytes(),
            generation: known.generation,
            seq: self.unix_micros(now),
            issued: since,
            expires: known.expires,
            body,
        };
        self.publish(&network, vec![draft.sign(&key)], now);
        self.network(&network)?.me(&self.own).map(|_| ())
    }

    /// Asks a contact that is there.
    pub(crate) fn join_peer_up(&mut self, peer: &NodeId, network: &NetworkId, now: Instant) {
        if self.networks.get(network).is_some_and(|state| state.is_contact(peer)) {
            self.ask(peer, network, now);
        }
    }

    fn ask(&mut self, peer: &NodeId, network: &NetworkId, _now: Instant) {
        let Some(state) = self.networks.get(network) else { return };
        let Some(joining) = &state.joining else { return };
        let asks = joining.ticket.mode == TicketMode::Counted && !joining.denied.contains_key(peer);
        if !asks || state.me(&self.own).is_ok() {
            return;
        }
        let (Some(key), Some(own)) = (joining.key(), self.peers.get_mut(peer)) else { return };
        let bytes = Redeem::signed_bytes(network.as_bytes(), self.own.as_bytes(), &own.binding);
        own.request(Request::Redeem(Box::new(Redeem {
            network: *network.as_bytes(),
            ticket: *key.node_id().as_bytes(),
            signature: key.sign(Domain::REDEEM, &bytes),
            name: self.own_name.clone(),
        })));
    }

    /// Asks again, and gives up when the ticket has expired.
    pub(crate) fn join_due(&mut self, network: &NetworkId, now: Instant) {
        let seconds = self.seconds(now);
        let own = self.own;
        let Some(state) = self.networks.get_mut(network) else { return };
        let inside = state.me(&own).is_ok();
        let Some(joining) = state.joining.as_mut().filter(|joining| joining.at <= now) else { return };
        joining.at = now + ASK_EVERY;
        let contacts = joining.contacts.clone();
        let expires = joining.ticket.expires;
        if expires != 0 && expires <= seconds && !inside {
            let refusal = joining.waits.clone();
            self.give_up(network, refusal, now);
            return;
        }
        for peer in contacts {
            self.ask(&peer, network, now);
        }
    }

    fn give_up(&mut self, network: &NetworkId, refusal: Refusal, now: Instant) {
        self.forget(network, now);
        self.event(Event::JoinDone { network: *network, result: Err(refusal) });
    }

    pub(crate) fn on_redeem_reply(&mut self, peer: &NodeId, reply: RedeemReply, now: Instant) {
        let matches = |state: &&Network| {
            state.is_contact(peer)
                && state.joining.as_ref().and_then(Joining::key).map(|key| *key.node_id().as_bytes())
                    == Some(reply.ticket)
        };
        let Some(network) = self.networks.values().find(matches).map(|state| state.id) else {
            self.counts.uninvited += 1;
            return;
        };
        for bytes in &reply.documents {
            let signed = Unverified::parse(bytes, &network).and_then(|doc| doc.verify(&mut self.keys));
            match (signed, self.networks.get_mut(&network)) {
                (Ok(signed), Some(state)) => _ = state.insert(Arc::new(signed), Some(*peer)),
                _ => self.counts.bad += 1,
            }
        }
        if !reply.documents.is_empty() {
            self.judge(&network, now);
        }
        let own = self.own;
        let Some(state) = self.networks.get_mut(&network) else { return };
        if state.me(&own).is_ok() {
            return;
        }
        let name = state.name();
        let Some(joining) = state.joining.as_mut() else { return };
        let refusal = refusal_of(reply.status, name, own);
        joining.waits = refusal.clone();
        if is_final(reply.status) {
            joining.denied.insert(*peer, reply.status);
            if joining.contacts.iter().all(|contact| joining.denied.contains_key(contact)) {
                self.give_up(&network, refusal, now);
            }
        }
    }

    /// After a judgement: says so when this node is in and holds what the ticket promised.
    pub(crate) fn settle_joining(&mut self, network: &NetworkId, now: Instant) {
        let own = self.own;
        let Some(state) = self.networks.get_mut(network) else { return };
        if state.joining.is_none() || state.me(&own).is_err() {
            return;
        }
        if !state.meta.ready {
            let network = state.name();
            if let Some(joining) = &mut state.joining {
                joining.waits = Refusal::NotReady { network };
            }
            return;
        }
        state.joining = None;
        state.meta.ticket = Zeroizing::new(Vec::new());
        state.partners_at = now;
        let changes = state.changes();
        self.store(*network, changes, None);
        self.event(Event::JoinDone { network: *network, result: Ok(()) });
    }

    /// Somebody asks to be admitted by a ticket.
    pub(crate) fn on_redeem(&mut self, peer: &NodeId, redeem: &Redeem, now: Instant) {
        let Some(own) = self.peers.get_mut(peer) else { return };
        if !own.redeems.try_take(now) {
            self.counts.limited += 1;
            return;
        }
        let bytes = Redeem::signed_bytes(&redeem.network, peer.as_bytes(), &own.binding);
        let key = self.keys.node(&redeem.ticket);
        let network = self.keys.node(&redeem.network).map(NetworkId::new);
        let proved = key.is_some_and(|key| verify(&key, Domain::REDEEM, &bytes, &redeem.signature));
        let (true, Some(network)) = (proved, network) else {
            self.counts.bad += 1;
            return;
        };
        match self.accept(peer, &network, &redeem.ticket, redeem.name.clone(), now) {
            Ok(None) => {}
            Ok(Some(documents)) => self.reply(peer, redeem.ticket, RedeemStatus::Admitted, documents),
            Err(status) => self.reply(peer, redeem.ticket, status, Vec::new()),
        }
    }

    fn reply(&mut self, peer: &NodeId, ticket: [u8; 32], status: RedeemStatus, documents: Vec<Vec<u8>>) {
        if let Some(own) = self.peers.get_mut(peer) {
            own.request(Request::RedeemReply(RedeemReply { ticket, status, documents }));
        }
    }

    /// What makes the asker a member; `None` while that is being written down.
    fn accept(
        &mut self,
        node: &NodeId,
        network: &NetworkId,
        key: &[u8; 32],
        wish: Option<Label>,
        now: Instant,
    ) -> Result<Option<Vec<Vec<u8>>>, RedeemStatus> {
        let state = self.networks.get(network).ok_or(RedeemStatus::Unknown)?;
        let ticket = state.state.tickets.get(key).ok_or(RedeemStatus::Unknown)?;
        let accepts = ticket.invite.acceptors.contains(self.own.as_bytes());
        if !accepts || ticket.invite.mode != InviteMode::Counted {
            return Err(RedeemStatus::Unknown);
        }
        if state.state.member(node).is_some() {
            return Ok(Some(self.answer(network, node)));
        }
        let rights = state.rights(&self.own, Grant::ADMIT).ok_or(RedeemStatus::NotNow)?;
        state.may_admit(&self.own).map_err(|_| RedeemStatus::NotNow)?;
        if state.state.revoked(kind::MEMBER, node.as_bytes()).is_some() {
            return Err(RedeemStatus::Revoked);
        }
        // An entry that was written down is honoured, whatever has become of the ticket since.
        if state.journal.contains_key(&(*key, *node.as_bytes())) {
            let waits = |one: &Reserved| one.ticket == *key && one.node == *node;
            if self.reserved.values().any(waits) {
                return Ok(None);
            }
            self.admit_by_ticket(network, key, (node, wish), now).map_err(|_| RedeemStatus::NotNow)?;
            return Ok(Some(self.answer(network, node)));
        }
        if ticket.expired {
            return Err(RedeemStatus::Expired);
        }
        if state.uses(key) >= usize::from(ticket.invite.uses) {
            return Err(RedeemStatus::Used);
        }
        if ticket.invite.approval && !state.approved.contains(node) {
            return Err(self.wait_for_approval(network, key, node, wish));
        }
        let number = state.free_number(&rights).map_err(|_| RedeemStatus::NoSubnet)?;
        self.reserve(network, Reserved { network: *network, ticket: *key, node: *node, wish }, number);
        Ok(None)
    }

    fn wait_for_approval(
        &mut self,
        network: &NetworkId,
        key: &[u8; 32],
        node: &NodeId,
        wish: Option<Label>,
    ) -> RedeemStatus {
        let Some(state) = self.networks.get_mut(network) else { return RedeemStatus::Unknown };
        if !state.pending.contains_key(node) {
            if state.pending.len() >= PENDING_MAX {
                return RedeemStatus::NotNow;
            }
            state.pending.insert(*node, (*key, wish));
            self.event(Event::Asks { network: *network, node: *node });
        }
        RedeemStatus::Pending
    }

    /// Writes the entry down; [`Self::stored`] goes on.
    fn reserve(&mut self, network: &NetworkId, entry: Reserved, number: u16) {
        let (key, node) = (entry.ticket, entry.node);
        let Some(state) = self.networks.get_mut(network) else { return };
        state.journal.insert((key, *node.as_bytes()), Entry { number });
        state.meta.last_number = number;
        self.tokens += 1;
        let token = self.tokens;
        self.reserved.insert(token, entry);
        let change =
            Change::PutJournal { key: journal_key(&key, &node), value: number.to_le_bytes().to_vec() };
        self.store(*network, vec![change], Some(token));
    }

    /// What [`Event::Store`] asked for under `token` is durable.
    pub fn stored(&mut self, token: u64, now: Instant) {
        if let Some(Reserved { network, ticket, node, wish }) = self.reserved.remove(&token) {
            let admitted = self.admit_by_ticket(&network, &ticket, (&node, wish), now).is_ok();
            let (status, documents) = if admitted {
                (RedeemStatus::Admitted, self.answer(&network, &node))
            } else {
                (RedeemStatus::NotNow, Vec::new())
            };
            self.reply(&node, ticket, status, documents);
        }
        self.finish(now);
    }

    fn admit_by_ticket(
        &mut self,
        network: &NetworkId,
        key: &[u8; 32],
        (node, wish): (&NodeId, Option<Label>),
        now: Instant,
    ) -> Result<(), Refusal> {
        let state = self.network(network)?;
        let rights = state.must(&self.own, Grant::ADMIT)?;
        let unknown = || Refusal::UnknownMember { network: state.name(), node: *node };
        let entry = state.journal.get(&(*key, *node.as_bytes())).ok_or_else(unknown)?;
        let ticket = state.state.tickets.get(key).ok_or_else(unknown)?;
        let generation = state.generation(kind::MEMBER, node.as_bytes(), 0, &rights)?;
        let admission = Admission {
            node: *node,
            number: entry.number,
            groups: ticket.invite.groups.clone(),
            name: state.free_name(wish, node),
            since: self.seconds(now),
            lasts: None,
            ticket: Some(*key),
            generation,
        };
        let signed = self.sign_member(network, &rights, admission, now)?;
        if let Some(state) = self.networks.get_mut(network) {
            state.pending.remove(node);
            state.approved.remove(node);
        }
        self.publish(network, vec![signed], now);
        Ok(())
    }

    /// The documents for an answer: the asker's, this node's own, and the HEAD if there is room.
    fn answer(&self, network: &NetworkId, node: &NodeId) -> Vec<Vec<u8>> {
        let Some(state) = self.networks.get(network) else { return Vec::new() };
        let members = [state.state.member(node), state.state.member(&self.own)];
        let mut chain: Vec<_> =
            members.into_iter().flatten().flat_map(|member| state.chain(member)).collect();
        chain.extend(state.state.head.as_ref().and_then(|head| state.set.get(&head.id)).cloned());
        let (mut seen, mut size, mut documents) = (Vec::new(), 0, Vec::new());
        for signed in chain {
            size += signed.bytes.len();
            if size <= REPLY_MAX && !seen.contains(&signed.id) {
                seen.push(signed.id);
                documents.push(signed.bytes.to_vec());
            }
        }
        documents
    }

    /// Agrees that a node which came by a ticket is admitted.
    ///
    /// # Errors
    /// A [`Refusal`].
    pub fn approve(&mut self, network: NetworkId, node: NodeId, now: Instant) -> Result<(), Refusal> {
        let own = self.own;
        let state = self.network_mut(&network)?;
        state.must(&own, Grant::ADMIT)?;
        let name = state.name();
        let asks = state.pending.get(&node).cloned();
        let (key, wish) = asks.ok_or(Refusal::NothingToApprove { network: name, node })?;
        state.approved.insert(node);
        match self.accept(&node, &network, &key, wish, now) {
            Ok(None) => {}
            Ok(Some(documents)) => self.reply(&node, key, RedeemStatus::Admitted, documents),
            Err(status) => self.reply(&node, key, status, Vec::new()),
        }
        self.finish(now);
        Ok(())
    }
}

/// Whether asking the same acceptor again is of no use.
const fn is_final(status: RedeemStatus) -> bool {
    matches!(
        status,
        RedeemStatus::Unknown | RedeemStatus::Expired | RedeemStatus::Used | RedeemStatus::Revoked
    )
}

fn refusal_of(status: RedeemStatus, network: Label, node: NodeId) -> Refusal {
    match status {
        RedeemStatus::Pending => Refusal::ApprovalNeeded { network },
        RedeemStatus::Unknown => Refusal::TicketUnknown { network },
        RedeemStatus::Expired => Refusal::TicketExpired { network },
        RedeemStatus::Used => Refusal::TicketUsed { network },
        RedeemStatus::Revoked => Refusal::Revoked { network, node },
        RedeemStatus::NoSubnet => Refusal::NoFreeSubnet { network },
        RedeemStatus::Admitted | RedeemStatus::NotNow | RedeemStatus::Other(_) => {
            Refusal::AcceptorBusy { network }
        }
    }
}
