//! Requests about private networks, carried out on the node's documents.
//!
//! The node decides and signs; this module translates between the control API and the machine of
//! `sinew-overlay`, hands what is to be kept to the store, and remembers who waits for a join.

mod contact;
mod place;
mod policy;
mod show;
mod zones;

use std::collections::BTreeMap;
use std::time::Duration;

use sinew_control::ApiError;
use sinew_control::api::{
    self, DocumentVersion, Hex, Invitation, JoinRequest, Joined, Listener, NetworkChanged, NetworkCreated,
    PendingMember, TicketMode,
};
use sinew_control::time;
use sinew_node::Node;
use sinew_node::overlay::{
    AdmitSpec, Change, Fault, Health, InviteSpec, Overlay, Refusal, RefusalKind, Revoked, StoredNetwork,
    Ticket, TicketKind,
};
use sinew_store::{Batch, Table};
use sinew_types::{Instant, Label, NetworkId, NodeId};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::command::{NetworkCommand, Reply};
use crate::persist::{Kept, Persist};
use crate::tenants::Finished;
pub(crate) use place::{
    Placed, give_back, give_back_forgotten, lease_terms, lease_until, place, state_of, take_leases,
};
pub(crate) use zones::{ids, zones};

/// Who waits for the end of a join, and until when.
struct Waiting {
    reply: Reply<Joined>,
    until: Instant,
}

pub(crate) struct Networks {
    reports: mpsc::UnboundedSender<Finished>,
    joins: BTreeMap<NetworkId, Waiting>,
}

impl Networks {
    pub(crate) fn new(reports: mpsc::UnboundedSender<Finished>) -> Self {
        Self { reports, joins: BTreeMap::new() }
    }

    /// Carries out one request. A caller that has gone away is no error.
    /// `listeners`: where this node is found.
    pub(crate) fn handle(
        &mut self,
        node: &mut Node,
        command: NetworkCommand,
        listeners: &[Listener],
        now: Instant,
    ) {
        use NetworkCommand as N;

        match command {
            N::List(reply) => drop(reply.send(Ok(show::list(node)))),
            N::Create(create, reply) => drop(reply.send(self.create(node, create, now))),
            N::Show(query, reply) => {
                drop(reply.send(find(node, &query.network).and_then(|id| show::one(node, &id))));
            }
            N::Invite(request, reply) => drop(reply.send(invite(node, &request, listeners, now))),
            N::Join(request, reply) => self.join(node, &request, reply, now),
            N::Requests(query, reply) => {
                drop(reply.send(find(node, &query.network).map(|id| requests(node, &id))));
            }
            N::Approve(approve, reply) => drop(reply.send(self::approve(node, &approve, now))),
            N::Revoke(revoke, reply) => drop(reply.send(self::revoke(node, &revoke, now))),
            N::Leave(query, reply) => drop(reply.send(leave(node, &query.network, now))),
            N::Policy(query, reply) => drop(reply.send(show::policy(node, &query.network))),
            N::PolicySet(set, reply) => drop(reply.send(set_policy(node, &set, now))),
            N::PolicyTrace(query, reply) => drop(reply.send(show::trace(node, &query))),
            N::Documents(query, reply) => drop(reply.send(documents(node, &query.network))),
            N::Import(import, reply) => drop(reply.send(self::import(node, import, now))),
        }
    }

    fn create(
        &self,
        node: &mut Node,
        create: api::NetworkCreate,
        now: Instant,
    ) -> Result<NetworkCreated, ApiError> {
        let documents = bytes(create.documents);
        let id = change(node, now, |overlay| overlay.adopt(&create.name, documents, now))?;
        let summary = show::summary(node, &id)?;
        Ok(NetworkCreated { id: summary.id, name: summary.name, ipv4: summary.ipv4, ipv6: summary.ipv6 })
    }

    fn join(&mut self, node: &mut Node, request: &JoinRequest, reply: Reply<Joined>, now: Instant) {
        let ticket = request.ticket.parse::<Ticket>();
        let ticket = ticket.map_err(|reason| refused(&Refusal::BadTicket { reason }));
        let begun = ticket.and_then(|ticket| {
            change(node, now, |overlay| overlay.join(ticket, request.name.as_deref(), now))
        });
        match begun {
            Err(error) => drop(reply.send(Err(error))),
            Ok(id) => {
                let until = now + Duration::from_millis(request.timeout_ms);
                self.joins.insert(id, Waiting { reply, until });
                self.wake_at(id, request.timeout_ms);
            }
        }
    }

    /// Looks at a join again when its caller has waited long enough.
    fn wake_at(&self, id: NetworkId, timeout_ms: u64) {
        let reports = self.reports.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(timeout_ms)).await;
            // The loop is gone only when the daemon stops.
            let _ = reports.send(Finished::JoinPatience(id));
        });
    }

    /// The caller's patience is at its end; the attempt goes on.
    pub(crate) fn on_patience(&mut self, node: &Node, id: NetworkId, now: Instant) {
        let Some(waiting) = self.joins.get(&id).filter(|waiting| waiting.until <= now) else { return };
        if waiting.reply.is_closed() {
            self.joins.remove(&id);
            return;
        }
        let waits = node.overlay().networks().into_iter().find(|network| network.id == id);
        let answer = joined(node, &id).and_then(|joined| match waits.map(|network| network.health) {
            // Somebody has to agree: that is an answer too.
            Some(Health::Joining(refusal)) if !matches!(refusal, Refusal::ApprovalNeeded { .. }) => {
                Err(refused(&refusal))
            }
            _ => Ok(joined),
        });
        if let Some(waiting) = self.joins.remove(&id) {
            drop(waiting.reply.send(answer));
        }
    }

    /// An attempt to join has ended.
    pub(crate) fn on_joined(&mut self, node: &Node, id: NetworkId, result: Result<(), Refusal>) {
        match &result {
            Ok(()) => info!(network = %id, "joined"),
            Err(refusal) => warn!(network = %id, "not joined: {refusal}"),
        }
        if let Some(waiting) = self.joins.remove(&id) {
            let answer = result.map_err(|refusal| refused(&refusal));
            drop(waiting.reply.send(answer.and_then(|()| joined(node, &id))));
        }
    }

    // --- the store ---

    /// Writes down what the machine wants kept.
    pub(crate) fn store(
        &self,
        persist: &Persist,
        network: &NetworkId,
        changes: Vec<Change>,
        token: Option<u64>,
    ) {
        let mut batch = Batch::new();
        for change in changes {
            if let Err(error) = put(&mut batch, network, change) {
                warn!(%network, %error, "not stored");
            }
        }
        let reports = self.reports.clone();
        persist.submit(batch, move |stored| {
            if let (true, Some(token)) = (stored, token) {
                let _ = reports.send(Finished::Stored(token));
            }
        });
    }

    /// Takes up the networks of an earlier run.
    pub(crate) fn restore(&self, node: &mut Node, kept: &Kept, now: Instant) {
        for (key, meta) in &kept.networks {
            let id = <[u8; 32]>::try_from(key.as_slice()).ok().and_then(|key| NodeId::parse(&key).ok());
            let Some(id) = id.map(NetworkId::new) else { continue };
            let of_network = |(name, value): &(Vec<u8>, Vec<u8>)| {
                name.strip_prefix(key.as_slice()).map(|rest| (rest.to_vec(), value.clone()))
            };
            let stored = StoredNetwork {
                meta: meta.clone(),
                documents: kept.documents.iter().filter_map(of_network).map(|(_, value)| value).collect(),
                journal: kept.journal.iter().filter_map(of_network).collect(),
            };
            if let Err(error) = change(node, now, |overlay| overlay.restore(id, stored, now)) {
                warn!(network = %id, %error, "not taken up again");
            }
        }
    }

    // --- news ---

    pub(crate) fn log_request(network: &NetworkId, asks: &NodeId) {
        info!(%network, node = %asks, "asks to join; `sinew network approve` lets it in");
    }

    pub(crate) fn log_fault(network: &NetworkId, fault: &Fault) {
        warn!(%network, "{}", show::fault(fault).0);
    }
}

fn put(batch: &mut Batch, network: &NetworkId, change: Change) -> Result<(), sinew_store::TooLarge> {
    let network = network.key();
    let under = |rest: &[u8]| [network.as_bytes().as_slice(), rest].concat();
    match change {
        Change::PutDocument { id, bytes } => batch.put(Table::Documents, &under(&id), &bytes)?,
        Change::DropDocument { id } => batch.delete(Table::Documents, &under(&id)),
        Change::PutMeta(meta) => batch.put(Table::Networks, network.as_bytes(), &meta)?,
        Change::PutJournal { key, value } => batch.put(Table::Journal, &under(&key), &value)?,
        Change::DropJournal { key } => batch.delete(Table::Journal, &under(&key)),
    };
    Ok(())
}

/// Lets the documents' machine do something, and the node draw the consequences.
pub(crate) fn change<T>(
    node: &mut Node,
    now: Instant,
    act: impl FnOnce(&mut Overlay) -> Result<T, Refusal>,
) -> Result<T, ApiError> {
    node.with_overlay(now, |overlay, _| act(overlay)).map_err(|refusal| refused(&refusal))
}

/// A refusal as the command line shows it.
pub(crate) fn refused(refusal: &Refusal) -> ApiError {
    let exit = match refusal.kind() {
        RefusalKind::Usage => sinew_control::Exit::Usage,
        RefusalKind::Unreachable => sinew_control::Exit::Unreachable,
        RefusalKind::Unknown => sinew_control::Exit::Unknown,
        RefusalKind::Denied => sinew_control::Exit::Denied,
    };
    ApiError::new(refusal.code(), exit, refusal.to_string(), "")
}

/// The network that people mean: its name here, its id, or the unique beginning of one.
pub(crate) fn find(node: &Node, text: &str) -> Result<NetworkId, ApiError> {
    let exact = node.overlay().find(text);
    let Err(unknown) = exact else { return exact.map_err(|refusal| refused(&refusal)) };
    let all = ids_of(node);
    let mut fits = all.into_iter().filter(|id| text.len() >= 4 && id.to_string().starts_with(text));
    match (fits.next(), fits.next()) {
        (Some(one), None) => Ok(one),
        (Some(a), Some(b)) => Err(ApiError::ambiguous_network(text, &format!("{a}, {b}"))),
        (None, _) => Err(refused(&unknown)),
    }
}

/// The networks of this node.
pub(crate) fn ids_of(node: &Node) -> Vec<NetworkId> {
    node.overlay().ids()
}

pub(super) fn rfc3339(seconds: u64) -> String {
    time::rfc3339(seconds.saturating_mul(1_000_000))
}

pub(super) const fn version((era, counter): (u16, u64)) -> DocumentVersion {
    DocumentVersion { era, counter }
}

fn bytes(documents: Vec<Hex>) -> Vec<Vec<u8>> {
    documents.into_iter().map(|hex| hex.0).collect()
}

fn labels(texts: &[String]) -> Result<Vec<Label>, ApiError> {
    let label = |text: &String| {
        Label::parse(text).map_err(|reason| refused(&Refusal::BadName { text: text.clone(), reason }))
    };
    texts.iter().map(label).collect()
}

fn joined(node: &Node, id: &NetworkId) -> Result<Joined, ApiError> {
    let network = show::one(node, id)?;
    Ok(Joined {
        network: network.summary.id,
        name: network.summary.name,
        state: network.summary.state,
        subnet_ipv4: network.subnet_ipv4,
        subnet_ipv6: network.subnet_ipv6,
    })
}

fn invite(
    node: &mut Node,
    request: &api::InviteRequest,
    listeners: &[Listener],
    now: Instant,
) -> Result<Invitation, ApiError> {
    let id = find(node, &request.network)?;
    let uses = u16::try_from(request.uses).unwrap_or(u16::MAX);
    let (kind, mode, note) = match (&request.for_node, request.bearer) {
        (Some(text), _) => {
            let node =
                text.parse().map_err(|error| ApiError::invalid(format!("--for: {error}"), "a node id"))?;
            let note = "no secret: only this node can use it, also with every admin offline";
            (TicketKind::Pinned(node), TicketMode::Pinned, note)
        }
        (None, true) => {
            let note =
                "a secret: whoever holds it is in, with nobody online; when two use it, both are suspended";
            (TicketKind::Bearer, TicketMode::Bearer, note)
        }
        (None, false) => {
            let note = "a secret: this node counts its uses and must be reachable when it is used";
            (TicketKind::Counted { uses, approval: request.approval }, TicketMode::Counted, note)
        }
    };
    let lasts = Some(Duration::from_millis(request.expires_ms));
    let groups = labels(&request.groups)?;
    let contacts = vec![contact::contact(node.status(now).node, listeners)];
    let spec = InviteSpec { kind, groups, name: None, lasts, contacts };
    let ticket = change(node, now, |overlay| overlay.invite(id, spec, now))?;
    let acceptors = ticket.contacts.iter().filter_map(|contact| NodeId::parse(&contact.node).ok());
    let counted = mode == TicketMode::Counted;
    Ok(Invitation {
        ticket: ticket.to_text().to_string(),
        mode,
        network: id.to_string(),
        uses: if counted { request.uses } else { 1 },
        expires: rfc3339(ticket.expires),
        acceptors: acceptors.filter(|_| counted).map(|acceptor| acceptor.to_string()).collect(),
        note: note.to_owned(),
    })
}

fn requests(node: &Node, id: &NetworkId) -> api::JoinRequests {
    let pending = waiting(node, id)
        .into_iter()
        .map(|asks| PendingMember { node_id: asks.to_string(), address: asks.address().to_string() });
    api::JoinRequests { requests: pending.collect() }
}

/// Nodes that wait for approval here.
fn waiting(node: &Node, id: &NetworkId) -> Vec<NodeId> {
    let found = node.overlay().networks().into_iter().find(|network| network.id == *id);
    found.map(|network| network.pending).unwrap_or_default()
}

fn approve(node: &mut Node, approve: &api::Approve, now: Instant) -> Result<NetworkChanged, ApiError> {
    let id = find(node, &approve.network)?;
    let waiting = waiting(node, &id);
    let mut fits = waiting.iter().filter(|asks| asks.to_string().starts_with(&approve.member));
    let member = match (fits.next(), fits.next()) {
        (Some(one), None) => Some(*one),
        (Some(_), Some(_)) => {
            let message = format!("`{}` fits several waiting nodes", approve.member);
            return Err(ApiError::invalid(message, "write more of the node id"));
        }
        (None, _) => None,
    };
    let subject = match (member, approve.member.parse::<NodeId>()) {
        (Some(member), _) => member,
        // Not waiting: admitted outright.
        (None, Ok(member)) => member,
        (None, Err(_)) => return Err(ApiError::unknown_member(&approve.network, &approve.member)),
    };
    match (member, &approve.groups) {
        (Some(member), None) => change(node, now, |overlay| overlay.approve(id, member, now))?,
        (_, groups) => {
            let groups = labels(groups.as_deref().unwrap_or_default())?;
            let spec = AdmitSpec { node: subject, groups, name: None, lasts: None };
            change(node, now, |overlay| overlay.admit(id, spec, now))?;
            if let Some(member) = member {
                change(node, now, |overlay| overlay.approve(id, member, now))?;
            }
        }
    }
    changed(node, &id, Some(&subject))
}

fn revoke(node: &mut Node, revoke: &api::Revoke, now: Instant) -> Result<NetworkChanged, ApiError> {
    let id = find(node, &revoke.network)?;
    let state = node.overlay().state(&id).map_err(|refusal| refused(&refusal))?;
    let keyed = Label::parse(&revoke.subject).ok().and_then(|name| state.named(&name)).filter(|w| w.keyed);
    let (what, subject) = match keyed.and_then(|workload| NodeId::parse(&workload.subject).ok()) {
        Some(key) => (Revoked::Workload(key), key),
        None => {
            let member = policy::member(state, &revoke.subject)?;
            (Revoked::Member(member), member)
        }
    };
    change(node, now, |overlay| overlay.revoke(id, what, now))?;
    changed(node, &id, Some(&subject))
}

fn leave(node: &mut Node, network: &str, now: Instant) -> Result<NetworkChanged, ApiError> {
    let id = find(node, network)?;
    let answer = changed(node, &id, None)?;
    change(node, now, |overlay| overlay.leave(id, now))?;
    Ok(answer)
}

fn set_policy(node: &mut Node, set: &api::PolicySet, now: Instant) -> Result<NetworkChanged, ApiError> {
    let id = find(node, &set.network)?;
    let state = node.overlay().state(&id).map_err(|refusal| refused(&refusal))?;
    let spec = policy::spec(state, &set.policy)?;
    change(node, now, |overlay| overlay.set_policy(id, spec, now))?;
    changed(node, &id, None)
}

fn documents(node: &Node, network: &str) -> Result<api::Documents, ApiError> {
    let id = find(node, network)?;
    let documents = node.overlay().export(&id).map_err(|refusal| refused(&refusal))?;
    let name = node.overlay().name(&id).map(|name| name.to_string()).unwrap_or_default();
    Ok(api::Documents {
        network: id.to_string(),
        name,
        documents: documents.into_iter().map(Hex::from).collect(),
    })
}

fn import(node: &mut Node, import: api::DocumentsImport, now: Instant) -> Result<NetworkChanged, ApiError> {
    let id = find(node, &import.network)?;
    let documents = bytes(import.documents);
    change(node, now, |overlay| overlay.import(id, documents, now))?;
    changed(node, &id, None)
}

/// What became of a change.
fn changed(node: &Node, id: &NetworkId, subject: Option<&NodeId>) -> Result<NetworkChanged, ApiError> {
    let network = show::one(node, id)?;
    let others = network.members.iter().filter(|member| !member.this);
    let (members, up) = others.fold((0, 0), |(all, up), member| (all + 1, up + u64::from(member.up)));
    Ok(NetworkChanged {
        network: id.to_string(),
        subject: subject.map(ToString::to_string),
        changed: true,
        version: network.summary.version,
        reached: up,
        members,
    })
}
