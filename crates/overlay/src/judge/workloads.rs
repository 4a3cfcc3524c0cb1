//! What members say of themselves: their workloads, and where moving ones are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use sinew_types::NodeId;
use sinew_wire::document::{Body, Workload as WorkloadBody, kind};

use super::Judge;
use crate::document::Signed;
use crate::state::{Fate, Fault, Member, Workload};

/// Where a key says that its workload is.
#[derive(Clone, Copy)]
struct Place {
    host: NodeId,
    expires: u64,
}

impl Judge<'_> {
    pub(super) fn workloads(&mut self) {
        let keyed = self.keyed();
        let places = self.places(&keyed);
        for (_, signed) in self.set.of_kind(kind::WORKLOAD) {
            let Some(Body::Workload(body)) = &signed.body else { continue };
            let fate = self.workload_fate(signed, body);
            self.fate(signed, fate);
            if fate == Fate::Live && !body.removed {
                self.enter_workload(signed, body, &places);
            }
        }
        self.addresses();
        self.names();
    }

    fn workload_fate(&self, signed: &Signed, body: &WorkloadBody) -> Fate {
        let document = &signed.document;
        if self.is_revoked(kind::WORKLOAD, &document.subject, document.generation)
            || self.is_forgotten(signed)
        {
            return Fate::Void;
        }
        let Some(member) = self.state.members.get(&signed.author) else { return Fate::Orphan };
        if !member.is_valid() {
            return Fate::Idle("its member does not count now");
        }
        if signed.era() > self.state.era {
            return Fate::Idle("above the era");
        }
        let addresses = body.ipv4.map(IpAddr::V4).into_iter().chain([IpAddr::V6(body.ipv6)]);
        if !addresses.into_iter().all(|address| member.subnets.is_for_workloads(&address)) {
            return Fate::Idle("outside its member's subnet");
        }
        Fate::Live
    }

    fn enter_workload(&mut self, signed: &Signed, body: &WorkloadBody, places: &BTreeMap<[u8; 32], Place>) {
        let Some(member) = self.state.members.get(&signed.author) else { return };
        let groups = effective_groups(member, body);
        // A member cannot have claimed a name before it was one.
        let since = body.since.max(member.since);
        let place = places.get(&signed.document.subject).filter(|_| body.keyed).copied();
        let (host, lease) = match place {
            None => (Some(signed.author), None),
            Some(place) => {
                let live = !self.is_past(place.expires) && self.state.member(&place.host).is_some();
                (live.then_some(place.host), Some(place.expires))
            }
        };
        let workload = Workload {
            home: signed.author,
            subject: signed.document.subject,
            name: body.name.clone(),
            owns_name: false,
            ipv4: body.ipv4,
            ipv6: body.ipv6,
            groups,
            services: body.services.clone(),
            keyed: body.keyed,
            host,
            lease,
            since,
            id: signed.id,
            seq: signed.document.seq,
            generation: signed.document.generation,
        };
        self.state.workloads.insert((signed.author, signed.document.subject), workload);
    }

    /// Keys of workloads that members of this network have.
    fn keyed(&self) -> BTreeSet<[u8; 32]> {
        let keyed = |signed: &Signed| matches!(&signed.body, Some(Body::Workload(body)) if body.keyed);
        self.set
            .of_kind(kind::WORKLOAD)
            .filter(|(_, signed)| keyed(signed) && self.state.members.contains_key(&signed.author))
            .map(|(key, _)| key.subject)
            .collect()
    }

    /// The newest ATTACH of each key. One that has run out still counts: an older one must not come back.
    fn places(&mut self, keyed: &BTreeSet<[u8; 32]>) -> BTreeMap<[u8; 32], Place> {
        let mut places = BTreeMap::new();
        for (key, signed) in self.set.of_kind(kind::ATTACH) {
            let Some(host) = signed.host else { continue };
            let fate = if self.is_revoked(kind::WORKLOAD, &key.subject, signed.document.generation) {
                Fate::Void
            } else if keyed.contains(&key.subject) {
                Fate::Live
            } else {
                Fate::Orphan
            };
            self.fate(signed, fate);
            if fate == Fate::Live {
                places.insert(key.subject, Place { host, expires: signed.document.expires });
            }
        }
        places
    }

    /// One address, one workload. A keyed one comes before others of its member, then the lower subject.
    fn addresses(&mut self) {
        let mut taken: BTreeMap<IpAddr, (NodeId, [u8; 32])> = BTreeMap::new();
        let mut order: Vec<_> =
            self.state.workloads.iter().map(|(key, workload)| (!workload.keyed, *key)).collect();
        order.sort_unstable();
        for (_, key) in order {
            let Some(workload) = self.state.workloads.get(&key) else { continue };
            if workload.addresses().any(|address| taken.contains_key(&address)) {
                let id = workload.id;
                self.state.workloads.remove(&key);
                self.state.fates.insert(id, Fate::Idle("another workload has its address"));
            } else {
                taken.extend(workload.addresses().map(|address| (address, key)));
            }
        }
    }

    /// One name, one workload: who claimed it first.
    fn names(&mut self) {
        let mut order: Vec<_> = self.state.workloads.iter().map(|(key, w)| (w.since, w.id, *key)).collect();
        order.sort_unstable();
        for (_, _, key) in order {
            let Some(workload) = self.state.workloads.get_mut(&key) else { continue };
            match self.state.names.get(&workload.name) {
                None => {
                    workload.owns_name = true;
                    self.state.names.insert(workload.name.clone(), key);
                }
                Some((by, _)) => {
                    let name = workload.name.clone();
                    self.state.faults.push(Fault::NameTwice { name, node: key.0, by: *by });
                }
            }
        }
    }
}

/// A workload's groups, as far as its member has them: nobody gives itself more than it was given.
fn effective_groups(member: &Member, body: &WorkloadBody) -> Vec<sinew_types::Label> {
    match &body.groups {
        None => member.groups.clone(),
        Some(groups) => groups.iter().filter(|group| member.groups.contains(group)).cloned().collect(),
    }
}
