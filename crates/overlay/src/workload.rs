//! This node's workloads: names and addresses, signed by this node, and leases of moving ones.
//!
//! What an operator asked for is kept as an *intent*, the host part of the address with it. It is signed
//! anew when the documents need it: after a re-admission with another subnet, or when a peer knew of a
//! higher number than we remember. So a workload keeps its address over restarts.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use sinew_types::{Identity, Instant, Label, NetworkId, NodeId, Signature};
use sinew_wire::document::{Body, Workload as WorkloadBody, kind};

use crate::document::{Draft, LEASE_MAX, Lease, NO_GRANT, Signed, place_subject};
use crate::event::{Placed, WorkloadSpec};
use crate::judge::WORKLOADS_MAX;
use crate::network::Network;
use crate::overlay::Overlay;
use crate::plan::{FIRST_HOST, Subnets};
use crate::refusal::Refusal;
use crate::state::Member;
use crate::stored::Intent;

fn subject_of(intent: &Intent) -> [u8; 32] {
    intent.spec.key.map_or_else(|| place_subject(intent.host), |key| *key.as_bytes())
}

impl Network {
    fn placed(&self, intent: &Intent, subnets: &Subnets) -> Placed {
        let (ipv4, ipv6) = subnets.host(intent.host);
        self.place_of(intent.spec.name.clone(), (ipv4, ipv6), subnets)
    }

    /// A place on a member with these subnets, wherever the addresses are from.
    fn place_of(&self, name: Label, (ipv4, ipv6): (Option<Ipv4Addr>, Ipv6Addr), subnets: &Subnets) -> Placed {
        let range = self.state.plan.range().map(|range| (IpAddr::V4(range.first), range.len));
        let routes = range.into_iter().chain([(IpAddr::V6(self.state.plan.prefix()), 48)]);
        Placed {
            slot: self.meta.slot,
            name,
            ipv4,
            ipv6,
            resolver: subnets.resolver(),
            routes: routes.collect(),
        }
    }

    /// The host part for a workload: what was asked for, or the lowest that is free.
    fn choose_host(&self, own: &NodeId, spec: &WorkloadSpec, me: &Member) -> Result<u32, Refusal> {
        let intents = self.meta.intents.iter().map(|intent| (intent.host, intent.spec.name.clone()));
        let known = self.state.workloads.values().filter(|workload| workload.home == *own);
        let known = known.filter_map(|workload| {
            let host = me.subnets.host_of(&IpAddr::V6(workload.ipv6))?;
            Some((host, workload.name.clone()))
        });
        let taken: Vec<(u32, Label)> = intents.chain(known).filter(|(_, name)| *name != spec.name).collect();
        let Some(wanted) = spec.ipv4 else {
            let used: BTreeSet<u32> = taken.into_iter().map(|(host, _)| host).collect();
            let mut free = FIRST_HOST..=me.subnets.last_host();
            return free
                .find(|host| !used.contains(host))
                .ok_or_else(|| Refusal::NoFreeAddress { network: self.name() });
        };
        let address = IpAddr::V4(wanted);
        let subnet = me.subnets.describe();
        let host = me.subnets.host_of(&address);
        let host = host.ok_or_else(|| Refusal::AddressOutside { network: self.name(), address, subnet })?;
        match taken.into_iter().find(|(used, _)| *used == host) {
            Some((_, by)) => Err(Refusal::AddressTaken { network: self.name(), address, by }),
            None => Ok(host),
        }
    }
}

impl Overlay {
    /// Gives a workload of this node its name and addresses. Asked again with the same name it changes
    /// what is different, and keeps the addresses unless another is asked for.
    ///
    /// # Errors
    /// A [`Refusal`].
    pub fn place(&mut self, network: NetworkId, spec: WorkloadSpec, now: Instant) -> Result<Placed, Refusal> {
        let state = self.network(&network)?;
        let me = state.me(&self.own)?;
        if !state.meta.ready {
            return Err(Refusal::NotReady { network: state.name() });
        }
        if let Some(holder) = state.state.named(&spec.name).filter(|workload| workload.home != self.own) {
            let (name, by) = (spec.name, holder.home);
            return Err(Refusal::NameTaken { network: state.name(), name, by });
        }
        let old = state.meta.intents.iter().find(|intent| intent.spec.name == spec.name).cloned();
        if old.is_none() && state.meta.intents.len() >= WORKLOADS_MAX - 1 {
            let what = "workloads on one node";
            return Err(Refusal::Quota { network: state.name(), what, limit: WORKLOADS_MAX - 1 });
        }
        let host = match &old {
            Some(old) if spec.ipv4.is_none() || spec.ipv4 == me.subnets.host(old.host).0 => old.host,
            _ => state.choose_host(&self.own, &spec, me)?,
        };
        let since = old.as_ref().map_or_else(|| self.seconds(now), |old| old.since);
        let intent = Intent { spec, host, since, document: [0; 32], seq: 0, number: me.number };
        let (subnets, replaced) = (me.subnets, old.filter(|old| subject_of(old) != subject_of(&intent)));
        let mut signed = Vec::new();
        if let Some(old) = replaced {
            signed.push(self.sign_workload(&network, &old, &subnets, true, now)?);
        }
        let document = self.sign_workload(&network, &intent, &subnets, false, now)?;
        let intent = Intent { document: document.id, seq: document.document.seq, ..intent };
        signed.push(document);
        let state = self.network_mut(&network)?;
        state.meta.intents.retain(|old| old.spec.name != intent.spec.name);
        let placed = state.placed(&intent, &subnets);
        state.meta.intents.push(intent);
        self.publish(&network, signed, now);
        self.finish(now);
        Ok(placed)
    }

    /// Takes a workload of this node away.
    ///
    /// # Errors
    /// A [`Refusal`].
    pub fn remove(&mut self, network: NetworkId, name: &Label, now: Instant) -> Result<(), Refusal> {
        let own = self.own;
        let state = self.network_mut(&network)?;
        let at = state.meta.intents.iter().position(|intent| intent.spec.name == *name);
        let unknown = || Refusal::UnknownWorkload { network: state.meta.name.clone(), name: name.clone() };
        let intent = state.meta.intents.remove(at.ok_or_else(unknown)?);
        let subnets = state.state.members.get(&own).map(|me| me.subnets);
        if let Some(subnets) = subnets {
            let gone = self.sign_workload(&network, &intent, &subnets, true, now)?;
            self.publish(&network, vec![gone], now);
        }
        self.finish(now);
        Ok(())
    }

    /// Names of this node's workloads without a key of their own, whether or not they run.
    pub fn kept_places(&self, network: &NetworkId) -> Vec<Label> {
        let intents = self.networks.get(network).into_iter().flat_map(|network| &network.meta.intents);
        intents.filter(|intent| intent.spec.key.is_none()).map(|intent| intent.spec.name.clone()).collect()
    }

    /// Where a workload of this node has its place.
    ///
    /// # Errors
    /// A [`Refusal`].
    pub fn placed(&self, network: &NetworkId, name: &Label) -> Result<Placed, Refusal> {
        let state = self.network(network)?;
        let intent = state.meta.intents.iter().find(|intent| intent.spec.name == *name);
        let unknown = || Refusal::UnknownWorkload { network: state.name(), name: name.clone() };
        Ok(state.placed(intent.ok_or_else(unknown)?, &state.me(&self.own)?.subnets))
    }

    fn sign_workload(
        &self,
        network: &NetworkId,
        intent: &Intent,
        subnets: &Subnets,
        removed: bool,
        now: Instant,
    ) -> Result<Signed, Refusal> {
        let state = self.network(network)?;
        let (ipv4, ipv6) = subnets.host(intent.host);
        let subject = subject_of(intent);
        let mut groups = intent.spec.groups.clone();
        if let Some(groups) = &mut groups {
            groups.sort_unstable();
            groups.dedup();
        }
        let mut services = intent.spec.services.clone();
        services.sort_unstable();
        services.dedup();
        if services.len() > 64 || groups.as_ref().is_some_and(|groups| groups.len() > 64) {
            return Err(Refusal::OutOfBounds { what: "groups or services", allowed: "at most 64 each" });
        }
        let (name, keyed) = (intent.spec.name.clone(), intent.spec.key.is_some());
        let since = intent.since;
        let body = Body::Workload(WorkloadBody { name, ipv4, ipv6, groups, services, keyed, removed, since });
        let revoked = state.state.revoked(kind::WORKLOAD, &subject);
        let generation = (u32::from(state.state.era) << 16).max(revoked.map_or(0, |gone| gone + 1));
        let seq = self.seq(network, kind::WORKLOAD, subject, now)?.max(intent.seq + 1);
        let issued = self.seconds(now);
        // What is left of a workload with a key goes after a month; a place is taken by the next one.
        let expires = if removed && keyed { issued + 86_400 } else { 0 };
        let draft =
            Draft { network: *network, grant: NO_GRANT, subject, generation, seq, issued, expires, body };
        Ok(draft.sign(&self.identity))
    }

    /// After a judgement: signs anew what is missing, or was signed for another subnet. Says whether
    /// anything was.
    pub(crate) fn resign_workloads(&mut self, network: &NetworkId, now: Instant) -> bool {
        let Some(state) = self.networks.get(network) else { return false };
        let Some(me) = state.state.member(&self.own) else { return false };
        let (subnets, number) = (me.subnets, me.number);
        let missing = |intent: &&Intent| {
            let held = state.set.get(&intent.document).is_some_and(|signed| signed.id == intent.document);
            !held || intent.number != number
        };
        let due: Vec<Intent> = state.meta.intents.iter().filter(missing).cloned().collect();
        for intent in &due {
            let Ok(signed) = self.sign_workload(network, intent, &subnets, false, now) else { continue };
            let Some(state) = self.networks.get_mut(network) else { continue };
            let (document, seq) = (signed.id, signed.document.seq);
            state.insert(Arc::new(signed), None);
            let moved = intent.number != number;
            let Some(own) = state.meta.intents.iter_mut().find(|own| own.spec.name == intent.spec.name)
            else {
                continue;
            };
            (own.document, own.seq, own.number) = (document, seq, number);
            if moved {
                let placed = own.clone();
                let placed = state.placed(&placed, &subnets);
                self.readdressed(*network, placed);
            }
        }
        !due.is_empty()
    }

    /// The lease by which a moving workload would come to this node, with this node's consent: for the
    /// holder of the workload's key to sign ([`Lease::attach`]). The workload may be unknown yet: its
    /// lease counts from when its document is there.
    ///
    /// # Errors
    /// A [`Refusal`].
    pub fn offer_lease(
        &self,
        network: &NetworkId,
        workload: &NodeId,
        seconds: u64,
        now: Instant,
    ) -> Result<(Lease, Signature), Refusal> {
        if !(1..=LEASE_MAX).contains(&seconds) {
            return Err(Refusal::BadLease { seconds });
        }
        let state = self.network(network)?;
        state.me(&self.own)?;
        let subject = *workload.as_bytes();
        let last = state.set.about(kind::ATTACH, subject).map(|signed| signed.document.seq).max();
        let revoked = state.state.revoked(kind::WORKLOAD, &subject);
        let issued = self.seconds(now);
        let lease = Lease {
            network: *network.as_bytes(),
            workload: subject,
            host: *self.own.as_bytes(),
            generation: (u32::from(state.state.era) << 16).max(revoked.map_or(0, |gone| gone + 1)),
            seq: last.map_or(0, |last| last.saturating_add(1)).max(self.unix_micros(now)),
            issued,
            expires: issued + seconds,
        };
        Ok((lease, lease.consent(&self.identity)))
    }

    /// Takes the signed ATTACH of a moving workload and tells the others.
    ///
    /// # Errors
    /// [`Refusal::BadDocument`].
    pub fn attach_lease(&mut self, network: NetworkId, attach: Vec<u8>, now: Instant) -> Result<(), Refusal> {
        self.import(network, vec![attach], now)
    }

    /// As [`Self::offer_lease`] and [`Self::attach_lease`] in one, for a host that holds the workload's
    /// key itself. Such a host cannot be fenced by that key (protocol A7.9).
    ///
    /// # Errors
    /// A [`Refusal`].
    pub fn attach_here(
        &mut self,
        network: NetworkId,
        workload: &Identity,
        seconds: u64,
        now: Instant,
    ) -> Result<(), Refusal> {
        let (lease, consent) = self.offer_lease(&network, &workload.node_id(), seconds, now)?;
        let signed = lease.attach(network, workload, consent);
        self.attach_lease(network, signed.bytes.to_vec(), now)
    }

    /// The place of a workload that this node hosts by a lease, though its home is elsewhere: addresses
    /// from there, resolver from here.
    ///
    /// # Errors
    /// A [`Refusal`].
    pub fn hosted(&self, network: &NetworkId, workload: &NodeId) -> Result<Placed, Refusal> {
        let state = self.network(network)?;
        let me = state.me(&self.own)?;
        let subject = *workload.as_bytes();
        let here = |known: &&crate::state::Workload| {
            known.keyed && known.subject == subject && known.host == Some(self.own)
        };
        let unknown = || Refusal::UnknownName { network: state.name(), name: workload.to_string() };
        let known = state.state.workloads.values().find(here).ok_or_else(unknown)?;
        Ok(state.place_of(known.name.clone(), (known.ipv4, known.ipv6), &me.subnets))
    }
}
