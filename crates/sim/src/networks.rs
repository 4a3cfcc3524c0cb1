//! Private networks among the hosts: commands as an operator gives them, disks that survive a crash, and
//! a look at who knows what.

use std::collections::BTreeMap;

use sinew_node::overlay::{
    Change, DocumentId, Event as OverlayEvent, Founding, InviteSpec, Overlay, Placed, Range4, State,
    StoredNetwork, TicketKind, WorkloadSpec, found,
};
use sinew_node::{Interface, Node, Offloads};
use sinew_types::{Identity, Instant, Label, NetworkId};
use sinew_wire::virtio::VirtioNetHdr;

use crate::check::Violation;
use crate::workloads::{Workload, Workloads};
use crate::world::World;

/// The MTU of workloads' devices.
const MTU: u16 = 1416;

/// What a host keeps of its networks over a crash.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(BTreeMap<NetworkId, OneDisk>);

#[derive(Clone, Debug, Default)]
struct OneDisk {
    meta: Vec<u8>,
    documents: BTreeMap<DocumentId, Vec<u8>>,
    journal: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Disk {
    fn apply(&mut self, network: NetworkId, changes: Vec<Change>) {
        let disk = self.0.entry(network).or_default();
        for change in changes {
            match change {
                Change::PutDocument { id, bytes } => _ = disk.documents.insert(id, bytes),
                Change::DropDocument { id } => _ = disk.documents.remove(&id),
                Change::PutMeta(meta) => disk.meta = meta,
                Change::PutJournal { key, value } => _ = disk.journal.insert(key, value),
                Change::DropJournal { key } => _ = disk.journal.remove(&key),
            }
        }
    }

    /// Everything, for a node that starts.
    pub(crate) fn stored(&self) -> Vec<(NetworkId, StoredNetwork)> {
        let stored = |disk: &OneDisk| StoredNetwork {
            meta: disk.meta.clone(),
            documents: disk.documents.values().cloned().collect(),
            journal: disk.journal.clone().into_iter().collect(),
        };
        self.0.iter().map(|(network, disk)| (*network, stored(disk))).collect()
    }
}

/// What a host did not want to do.
type Refused<T> = Result<T, Violation>;

impl World {
    /// Lets an operator of `host` do something with its networks.
    ///
    /// # Errors
    /// The first violation, or that the host is down.
    pub fn with_overlay<R>(
        &mut self,
        host: usize,
        work: impl FnOnce(&mut Overlay, Instant) -> R,
    ) -> Refused<R> {
        let mut result = None;
        self.feed(host, |node, now| result = Some(node.with_overlay(now, work)))?;
        result.ok_or_else(|| self.refused(host, "it is down"))
    }

    fn refused(&self, host: usize, why: impl core::fmt::Display) -> Violation {
        Violation::new(self.now, "operator", format!("host {host}: {why}"))
    }

    /// Founds a network of the key `owner`; `host` is its first member and admin.
    ///
    /// # Errors
    /// As [`World::with_overlay`].
    pub fn found(&mut self, owner: &Identity, host: usize) -> Refused<NetworkId> {
        let founding = Founding {
            name: self.label("lab")?,
            range: Some(Range4 { first: [10, 77, 0, 0].into(), len: 16, member_len: 24 }),
            strict: false,
            admin: self.hosts[host].id,
            admin_name: None,
            groups: Vec::new(),
            numbers: None,
        };
        let documents = found(owner, &founding, self.unix(host) / 1_000_000);
        let documents = documents.map_err(|refusal| self.refused(host, refusal))?;
        let name = format!("net{}", owner.node_id().short());
        let adopted = self.with_overlay(host, |overlay, now| overlay.adopt(&name, documents, now))?;
        adopted.map_err(|refusal| self.refused(host, refusal))
    }

    /// The wall clock of a host, microseconds since 1970.
    pub fn unix(&self, host: usize) -> u64 {
        self.hosts[host].unix(self.now)
    }

    fn label(&self, text: &str) -> Refused<Label> {
        Label::parse(text).map_err(|error| self.refused(0, format!("{error:?}")))
    }

    /// `host` joins by a ticket that `admin` makes for it.
    ///
    /// # Errors
    /// As [`World::with_overlay`].
    pub fn join(&mut self, network: NetworkId, admin: usize, host: usize) -> Refused<()> {
        let kind = TicketKind::Pinned(self.hosts[host].id);
        let spec = InviteSpec { kind, groups: Vec::new(), name: None, lasts: None, contacts: Vec::new() };
        let ticket = self.with_overlay(admin, |overlay, now| overlay.invite(network, spec, now))?;
        let ticket = ticket.map_err(|refusal| self.refused(admin, refusal))?;
        let name = format!("net{}", network.key().short());
        let joined = self.with_overlay(host, |overlay, now| overlay.join(ticket, Some(&name), now))?;
        joined.map(drop).map_err(|refusal| self.refused(host, refusal))
    }

    /// A workload of that name on `host`, with a device; its number.
    ///
    /// # Errors
    /// As [`World::with_overlay`].
    pub fn place(&mut self, network: NetworkId, host: usize, name: &str) -> Refused<usize> {
        let name = self.label(name)?;
        let spec = WorkloadSpec { name, ipv4: None, groups: None, services: Vec::new(), key: None };
        let placed = self.with_overlay(host, |overlay, now| overlay.place(network, spec, now))?;
        let placed = placed.map_err(|refusal| self.refused(host, refusal))?;
        let interface = self.workloads.free_interface(host);
        let workload = Workload { host, interface, network, ipv6: placed.ipv6 };
        self.feed(host, |node, now| attach(node, &workload, &placed, now))?;
        Ok(self.workloads.add(workload))
    }

    /// A workload calls another now; the call's number.
    ///
    /// # Errors
    /// The first violation.
    pub fn call(&mut self, from: usize, to: usize) -> Refused<usize> {
        let Workload { host, interface, .. } = self.workloads.all()[from];
        let (number, mut packet) = self.workloads.call(from, to, self.now);
        self.feed(host, |node, now| node.handle_tun(interface, VirtioNetHdr::default(), &mut packet, now))?;
        Ok(number)
    }

    /// The workloads and their calls.
    pub const fn workloads(&self) -> &Workloads {
        &self.workloads
    }

    /// What a host has of a network on its disk.
    pub fn stored(&self, network: &NetworkId, host: usize) -> Option<StoredNetwork> {
        self.hosts[host].disk.stored().into_iter().find(|(id, _)| id == network).map(|(_, stored)| stored)
    }

    /// What the documents of a network amount to on a host.
    pub fn state(&self, network: &NetworkId, host: usize) -> Option<&State> {
        self.hosts[host].node.as_ref()?.overlay().state(network).ok()
    }

    /// Whether packets of a network pass on a host: it is a member, and knows what a ticket promised.
    pub fn is_open(&self, network: &NetworkId, host: usize) -> bool {
        let node = self.hosts[host].node.as_ref();
        node.is_some_and(|node| node.overlay().networks().iter().any(|one| one.id == *network && one.open))
    }

    /// Whether all these hosts see the same members, workloads and revocations.
    pub fn agree(&self, network: &NetworkId, hosts: &[usize]) -> bool {
        let Some(first) = hosts.first().and_then(|&host| self.state(network, host)) else { return false };
        hosts.iter().all(|&host| {
            self.state(network, host).is_some_and(|state| {
                state.members == first.members
                    && state.workloads == first.workloads
                    && state.revoked == first.revoked
                    && state.policy.as_ref().map(|(_, policy)| policy)
                        == first.policy.as_ref().map(|(_, policy)| policy)
            })
        })
    }

    /// What the networks of a host want of its shell.
    pub(crate) fn on_overlay_event(&mut self, host: usize, node: &mut Node, event: OverlayEvent) {
        let local = self.hosts[host].local(self.now);
        match event {
            OverlayEvent::Store { network, changes, token } => {
                self.hosts[host].disk.apply(network, changes);
                if let Some(token) = token {
                    node.with_overlay(local, |overlay, now| overlay.stored(token, now));
                }
            }
            OverlayEvent::Forget(network) => _ = self.hosts[host].disk.0.remove(&network),
            OverlayEvent::JoinDone { result, .. } => self.note(host, format_args!("joined: {result:?}")),
            _ => {}
        }
    }

    /// A host that starts takes up what its disk has: networks, and the devices of its workloads.
    pub(crate) fn restore_networks(&mut self, host: usize) {
        let stored = self.hosts[host].disk.stored();
        let local = self.hosts[host].local(self.now);
        let workloads: Vec<_> =
            self.workloads.all().iter().filter(|workload| workload.host == host).copied().collect();
        let Some(node) = self.hosts[host].node.as_mut() else { return };
        for (network, stored) in stored {
            // A disk that cannot be read is a node without the network: what follows shows it.
            let _ = node.with_overlay(local, |overlay, now| overlay.restore(network, stored, now));
        }
        for workload in workloads {
            let interface = Interface {
                network: workload.network,
                ipv4: None,
                ipv6: workload.ipv6,
                gateway_ipv4: None,
                gateway_ipv6: None,
                offloads: Offloads::ALL,
                mtu: MTU,
            };
            node.add_interface(workload.interface, interface, local);
        }
    }
}

fn attach(node: &mut Node, workload: &Workload, placed: &Placed, now: Instant) {
    let interface = Interface {
        network: workload.network,
        ipv4: placed.ipv4,
        ipv6: placed.ipv6,
        gateway_ipv4: placed.resolver.0,
        gateway_ipv6: Some(placed.resolver.1),
        offloads: Offloads::ALL,
        mtu: MTU,
    };
    node.add_interface(workload.interface, interface, now);
}
