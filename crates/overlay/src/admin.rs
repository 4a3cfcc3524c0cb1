//! What an administrator's node signs: members, revocations, the policy, tickets and heads.

use std::collections::BTreeSet;
use std::time::Duration;

use sinew_types::{Instant, Label, NetworkId, NodeId};
use sinew_wire::document::{
    Body, Grant, Head, Invite, InviteMode, Member as MemberBody, PolicySpec, Revocation, Revoke, kind,
};
use sinew_wire::ticket::{Contact, Ticket, TicketMode};

use crate::document::{DOCUMENT_ROOM, DocumentId, Draft, Signed};
use crate::event::{AdmitSpec, InviteSpec, Revoked, TicketKind};
use crate::judge::{MEMBERS_MAX, revocations};
use crate::network::{Network, Rights};
use crate::overlay::Overlay;
use crate::plan::Subnets;
use crate::policy::{Warning, check};
use crate::refusal::Refusal;
use crate::state::Member;

/// Most revocations that one HEAD can name.
const HEAD_ROOM: usize = (DOCUMENT_ROOM - 64) / 11;

/// A member to be signed.
pub(crate) struct Admission {
    pub(crate) node: NodeId,
    pub(crate) number: u16,
    pub(crate) groups: Vec<Label>,
    pub(crate) name: Option<Label>,
    pub(crate) since: u64,
    pub(crate) lasts: Option<Duration>,
    pub(crate) ticket: Option<[u8; 32]>,
    pub(crate) generation: u32,
}

fn sorted(groups: &[Label]) -> Result<Vec<Label>, Refusal> {
    let set: BTreeSet<&Label> = groups.iter().collect();
    if set.len() > 64 {
        return Err(Refusal::OutOfBounds { what: "groups", allowed: "at most 64" });
    }
    Ok(set.into_iter().cloned().collect())
}

impl Network {
    /// The generation for a new document about a subject: in the era, not below what is there, above what
    /// was revoked.
    pub(crate) fn generation(
        &self,
        kind: u8,
        subject: &[u8; 32],
        current: u32,
        rights: &Rights,
    ) -> Result<u32, Refusal> {
        let least = self.state.revoked(kind, subject).map_or(0, |revoked| revoked.saturating_add(1));
        let generation = (u32::from(self.state.era) << 16).max(current).max(least);
        if !rights.owner && (generation >> 16) as u16 > self.state.era {
            return Err(Refusal::EraUsedUp { network: self.name() });
        }
        Ok(generation)
    }

    /// A number that nobody has: the next one after the highest in use, so that a number comes back as
    /// late as possible.
    pub(crate) fn free_number(&self, rights: &Rights) -> Result<u16, Refusal> {
        let members = self.state.members.values().map(|member| member.number);
        let tickets = self.state.tickets.values().filter_map(|ticket| ticket.invite.number);
        let journal = self.journal.values().map(|entry| entry.number);
        let (first, last) = rights.numbers;
        let last = last.min(self.state.plan.last_number());
        let within = |number: &u16| (first..=last).contains(number);
        let used: BTreeSet<u16> = members.chain(tickets).chain(journal).filter(within).collect();
        // The owner's own admissions keep out of what it granted.
        let granted = |number: u16| {
            let mut ranges = self.state.admins.values().map(|admin| admin.grant.numbers);
            rights.owner && ranges.any(|(first, last)| (first..=last).contains(&number))
        };
        let start = used.last().map_or(first.max(1), |highest| highest.saturating_add(1));
        let mut order = (start..=last).chain(first.max(1)..start.min(last.saturating_add(1)));
        order
            .find(|number| within(number) && !used.contains(number) && !granted(*number))
            .ok_or_else(|| Refusal::NoFreeSubnet { network: self.name() })
    }

    pub(crate) fn subnets(&self, number: u16) -> Result<Subnets, Refusal> {
        self.state.plan.subnets(number).ok_or_else(|| Refusal::NoFreeSubnet { network: self.name() })
    }

    /// Whether anybody may be admitted now: not by a node that is behind, nor on an old word.
    pub(crate) fn may_admit(&self, own: &NodeId) -> Result<(), Refusal> {
        if !self.meta.ready {
            return Err(Refusal::NotReady { network: self.name() });
        }
        match self.stale_days() {
            Some(days) if self.rights(own, Grant::HEAD).is_none() => {
                Err(Refusal::Stale { network: self.name(), days })
            }
            _ => Ok(()),
        }
    }
}

impl Overlay {
    /// The time a document expires, within what the author may give.
    fn expires(&self, lasts: Option<Duration>, longest: Option<u32>, now: Instant) -> u64 {
        let longest = longest.map(|seconds| Duration::from_secs(u64::from(seconds)));
        let lasts = [lasts, longest].into_iter().flatten().min();
        lasts.map_or(0, |lasts| self.seconds(now) + lasts.as_secs().max(1))
    }

    /// A number above all that this author used for the slot; the clock helps if that was forgotten.
    pub(crate) fn seq(
        &self,
        network: &NetworkId,
        kind: u8,
        subject: [u8; 32],
        now: Instant,
    ) -> Result<u64, Refusal> {
        let last = self.network(network)?.last_seq(kind, subject, &self.own);
        Ok(last.saturating_add(1).max(self.unix_micros(now)))
    }

    /// Signs a document as an admin or the owner.
    fn speak(
        &self,
        network: &NetworkId,
        rights: &Rights,
        (subject, generation, expires): ([u8; 32], u32, u64),
        body: Body,
        now: Instant,
    ) -> Result<Signed, Refusal> {
        let seq = self.seq(network, body.kind(), subject, now)?;
        let (grant, issued) = (rights.grant, self.seconds(now));
        let draft = Draft { network: *network, grant, subject, generation, seq, issued, expires, body };
        Ok(draft.sign(&self.identity))
    }

    pub(crate) fn sign_member(
        &self,
        network: &NetworkId,
        rights: &Rights,
        admission: Admission,
        now: Instant,
    ) -> Result<Signed, Refusal> {
        let Admission { node, number, groups, name, since, lasts, ticket, generation } = admission;
        let subnet = self.network(network)?.subnets(number)?.v4;
        let body = Body::Member(MemberBody { number, subnet, groups, since, ticket, name });
        let expires = self.expires(lasts, rights.longest, now);
        self.speak(network, rights, (*node.as_bytes(), generation, expires), body, now)
    }

    fn sign_revocation(
        &self,
        network: &NetworkId,
        rights: &Rights,
        (target, subject, generation): (u8, [u8; 32], u32),
        now: Instant,
    ) -> Result<Signed, Refusal> {
        self.speak(network, rights, (subject, generation, 0), Body::Revoke(Revoke { target }), now)
    }

    /// Makes a node a member, or changes what it is. A membership that becomes narrower is signed under a
    /// new generation and the old one revoked, so that the old document cannot be shown to anybody.
    ///
    /// # Errors
    /// A [`Refusal`].
    pub fn admit(&mut self, network: NetworkId, spec: AdmitSpec, now: Instant) -> Result<Subnets, Refusal> {
        let state = self.network(&network)?;
        let rights = state.must(&self.own, Grant::ADMIT)?;
        state.may_admit(&self.own)?;
        let groups = sorted(&spec.groups)?;
        let subject = *spec.node.as_bytes();
        let known = state.state.members.get(&spec.node).cloned();
        if known.is_none() && state.state.members.len() >= MEMBERS_MAX {
            return Err(Refusal::Quota { network: state.name(), what: "members", limit: MEMBERS_MAX });
        }
        let narrower =
            known.as_ref().is_some_and(|old| !old.groups.iter().all(|group| groups.contains(group)));
        let current = known.as_ref().map_or(0, |old| old.generation + u32::from(narrower));
        let generation = state.generation(kind::MEMBER, &subject, current, &rights)?;
        let keeps =
            |old: &Member| old.is_valid() && (rights.numbers.0..=rights.numbers.1).contains(&old.number);
        let number = match known.as_ref().filter(|old| keeps(old)) {
            Some(old) => old.number,
            None => state.free_number(&rights)?,
        };
        let subnets = state.subnets(number)?;
        let old_revocation = match &known {
            Some(old) if narrower => {
                let rights = state.must(&self.own, Grant::REVOKE)?;
                Some((rights, old.generation))
            }
            _ => None,
        };
        let since = known.as_ref().map_or_else(|| self.seconds(now), |old| old.since);
        let (node, name, lasts) = (spec.node, spec.name, spec.lasts);
        let ticket = known.and_then(|old| old.ticket);
        let admission = Admission { node, number, groups, name, since, lasts, ticket, generation };
        let mut signed = vec![self.sign_member(&network, &rights, admission, now)?];
        if let Some((rights, old)) = old_revocation {
            signed.push(self.sign_revocation(&network, &rights, (kind::MEMBER, subject, old), now)?);
        }
        self.publish(&network, signed, now);
        self.finish(now);
        Ok(subnets)
    }

    /// Takes back a membership, a ticket, a moving workload's key, or (with the owner's key) an admin.
    ///
    /// # Errors
    /// A [`Refusal`].
    pub fn revoke(&mut self, network: NetworkId, what: Revoked, now: Instant) -> Result<(), Refusal> {
        let state = self.network(&network)?;
        let rights = state.must(&self.own, Grant::REVOKE)?;
        let (target, node) = match what {
            Revoked::Member(node) => (kind::MEMBER, node),
            Revoked::Ticket(key) => (kind::INVITE, key),
            Revoked::Workload(key) => (kind::WORKLOAD, key),
            Revoked::Admin(_) if !rights.owner => {
                let what = "take back an administrator's right";
                return Err(Refusal::NotTheOwner { network: state.name(), what });
            }
            Revoked::Admin(node) => {
                let owner = crate::owner::Owner::new(&self.identity, &state.set, self.seconds(now));
                let signed = owner.revoke_admin(&node, |_| true)?.documents;
                self.publish(&network, signed, now);
                self.finish(now);
                return Ok(());
            }
        };
        let subject = *node.as_bytes();
        let highest = state.set.about(target, subject).map(|signed| signed.document.generation).max();
        let highest = highest.ok_or_else(|| match what {
            Revoked::Ticket(ticket) => Refusal::UnknownTicket { network: state.name(), ticket },
            _ => Refusal::UnknownMember { network: state.name(), node },
        })?;
        // An admin's word ends at the era; what lies above it is not in force anyway.
        let era = (u32::from(state.state.era) << 16) | 0xffff;
        let generation = if rights.owner { highest } else { highest.min(era) };
        let signed = self.sign_revocation(&network, &rights, (target, subject, generation), now)?;
        self.publish(&network, vec![signed], now);
        self.finish(now);
        Ok(())
    }

    /// Puts a policy in force. What comes back is probably not meant.
    ///
    /// # Errors
    /// A [`Refusal`].
    pub fn set_policy(
        &mut self,
        network: NetworkId,
        policy: PolicySpec,
        now: Instant,
    ) -> Result<Vec<Warning>, Refusal> {
        let state = self.network(&network)?;
        let rights = state.must(&self.own, Grant::POLICY)?;
        let warnings = check(&policy, Some(&state.state))?;
        let subject = *network.as_bytes();
        let old = state.set.about(kind::POLICY, subject).map(|signed| signed.document.generation).max();
        let current = old.map_or(0, |old| old.saturating_add(1));
        let generation = state.generation(kind::POLICY, &subject, current, &rights)?;
        let body = Body::Policy(policy);
        let mut signed = vec![self.speak(&network, &rights, (subject, generation, 0), body, now)?];
        if let Some(old) = old.filter(|old| *old < generation) {
            // An old policy may allow more: it must not be shown to anybody who comes later.
            signed.push(self.sign_revocation(&network, &rights, (kind::POLICY, subject, old), now)?);
        }
        self.publish(&network, signed, now);
        self.finish(now);
        Ok(warnings)
    }

    /// Issues a ticket.
    ///
    /// # Errors
    /// A [`Refusal`].
    pub fn invite(&mut self, network: NetworkId, spec: InviteSpec, now: Instant) -> Result<Ticket, Refusal> {
        let state = self.network(&network)?;
        let rights = state.must(&self.own, Grant::ADMIT)?;
        state.may_admit(&self.own)?;
        if spec.contacts.len() > 3 {
            return Err(Refusal::OutOfBounds { what: "contacts", allowed: "at most three" });
        }
        let own = Contact { node: *self.own.as_bytes(), endpoints: Vec::new() };
        let contacts = if spec.contacts.is_empty() { vec![own] } else { spec.contacts.clone() };
        let name = state.state.name.clone().unwrap_or_else(|| state.name());
        let head = state.meta.head;
        let expires = self.expires(spec.lasts, rights.longest, now);
        let (mode, secret, documents) = match spec.kind {
            TicketKind::Pinned(node) => {
                (TicketMode::Pinned, None, self.invite_pinned(network, node, &spec, now)?)
            }
            TicketKind::Counted { uses, approval } => {
                let invite = (InviteMode::Counted, uses, approval);
                let (secret, _) = self.sign_invite(network, invite, &spec, expires, now)?;
                (TicketMode::Counted, Some(secret), Vec::new())
            }
            TicketKind::Bearer => {
                let invite = (InviteMode::Bearer, 1, false);
                let (secret, id) = self.sign_invite(network, invite, &spec, expires, now)?;
                (TicketMode::Bearer, Some(secret), self.papers(&network, id)?)
            }
        };
        let network = *network.as_bytes();
        self.finish(now);
        Ok(Ticket { network, name, mode, head, expires, secret, contacts, documents })
    }

    /// A member that is signed before it comes; its ticket carries all it needs.
    fn invite_pinned(
        &mut self,
        network: NetworkId,
        node: NodeId,
        spec: &InviteSpec,
        now: Instant,
    ) -> Result<Vec<Vec<u8>>, Refusal> {
        let (groups, name, lasts) = (spec.groups.clone(), spec.name.clone(), None);
        self.admit(network, AdmitSpec { node, groups, name, lasts }, now)?;
        let state = self.network(&network)?;
        let id = state.state.member(&node).map(|member| member.id);
        let id = id.ok_or_else(|| Refusal::UnknownMember { network: state.name(), node })?;
        self.papers(&network, id)
    }

    /// A document with all that its authority rests on, and what makes this node a member.
    fn papers(&self, network: &NetworkId, id: DocumentId) -> Result<Vec<Vec<u8>>, Refusal> {
        let state = self.network(network)?;
        let mut papers: Vec<DocumentId> = Vec::new();
        let own = state.state.member(&self.own).map(|member| member.id);
        for id in [Some(id), own].into_iter().flatten() {
            let mut at = state.set.get(&id);
            while let Some(signed) = at {
                papers.push(signed.id);
                at = state.set.get(&signed.document.grant);
            }
        }
        papers.extend(state.state.net.as_ref().map(|net| net.id));
        let mut papers: Vec<_> = papers.iter().filter_map(|id| state.set.get(id)).collect();
        papers.sort_by_key(|signed| (signed.document.kind, signed.id));
        papers.dedup();
        Ok(papers.into_iter().map(|signed| signed.bytes.to_vec()).collect())
    }

    fn sign_invite(
        &mut self,
        network: NetworkId,
        (mode, uses, approval): (InviteMode, u16, bool),
        spec: &InviteSpec,
        expires: u64,
        now: Instant,
    ) -> Result<([u8; 32], DocumentId), Refusal> {
        if uses == 0 {
            return Err(Refusal::OutOfBounds { what: "uses", allowed: "1 to 65535" });
        }
        let state = self.network(&network)?;
        let rights = state.must(&self.own, Grant::ADMIT)?;
        let groups = sorted(&spec.groups)?;
        let number = match mode {
            InviteMode::Bearer => Some(state.free_number(&rights)?),
            InviteMode::Counted => None,
        };
        let subnet = number.map(|number| state.subnets(number)).transpose()?.and_then(|subnets| subnets.v4);
        let acceptors = match (&spec.contacts[..], mode) {
            (_, InviteMode::Bearer) => Vec::new(),
            ([], InviteMode::Counted) => vec![*self.own.as_bytes()],
            (contacts, InviteMode::Counted) => contacts.iter().map(|contact| contact.node).collect(),
        };
        let generation = u32::from(state.state.era) << 16;
        let secret: [u8; 32] = self.rng.array();
        let key = sinew_types::Identity::from_seed(secret).node_id();
        let body = Body::Invite(Invite { mode, uses, groups, acceptors, approval, number, subnet });
        let signed = self.speak(&network, &rights, (*key.as_bytes(), generation, expires), body, now)?;
        let id = signed.id;
        self.publish(&network, vec![signed], now);
        Ok((secret, id))
    }

    /// Signs a HEAD if one is due.
    pub(crate) fn head_due(&mut self, network: &NetworkId, now: Instant) {
        let Some(state) = self.networks.get_mut(network) else { return };
        if state.head_at.is_none_or(|at| at > now) {
            return;
        }
        state.head_at = None;
        let Some(rights) = state.rights(&self.own, Grant::HEAD) else { return };
        if let Some(head) = self.sign_head(network, &rights, now) {
            self.publish(network, vec![head], now);
        }
    }

    fn sign_head(&self, network: &NetworkId, rights: &Rights, now: Instant) -> Option<Signed> {
        let state = self.networks.get(network)?;
        let era = state.state.era;
        let (highest, counter) = state.meta.head;
        let seq = if highest >= era { counter.checked_add(1)? } else { 1 };
        let era = era.max(highest);
        if !rights.owner && era > state.state.era {
            return None;
        }
        let body = Body::Head(head_body(&state.state));
        let (grant, subject, issued) = (rights.grant, *network.as_bytes(), self.seconds(now));
        let generation = u32::from(era) << 16;
        let draft = Draft { network: *network, grant, subject, generation, seq, issued, expires: 0, body };
        Some(draft.sign(&self.identity))
    }
}

/// What a HEAD says of this state. Where there are more revocations than it has room for, the ones of the
/// highest generation are named: the others are the oldest.
pub(crate) fn head_body(state: &crate::state::State) -> Head {
    let mut lines: Vec<Revocation> = revocations(state).collect();
    lines.sort_unstable_by_key(|line| std::cmp::Reverse(line.generation));
    lines.truncate(HEAD_ROOM);
    lines.sort_unstable();
    lines.dedup();
    Head { digest: state.digest, revocations: lines }
}
