//! What the machine knows, as values for the command line.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sinew_types::{Label, NetworkId, NodeId};
use sinew_wire::document::{Grant, InviteMode, PolicySpec, Service};

use crate::document::DocumentId;
use crate::network::Network;
use crate::overlay::Overlay;
use crate::policy::{Explanation, explain};
use crate::refusal::Refusal;
use crate::snapshot::Slot;
use crate::state::{Authority, Fault, Standing};

/// How a network stands on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// On the way in; what it waits for.
    Joining(Refusal),
    /// A member, and up to date as far as can be known.
    Ready,
    /// A member; the last word of an admin is so many days old.
    Stale(u64),
    /// No member now; the refusal says why.
    Out(Refusal),
}

/// One network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkStatus {
    /// Its id: the owner's key.
    pub id: NetworkId,
    /// What this node calls it.
    pub name: Label,
    /// What the owner calls it.
    pub title: Option<Label>,
    /// This node's number for it.
    pub slot: Slot,
    /// How it stands.
    pub health: Health,
    /// Whether packets pass.
    pub open: bool,
    /// IPv4 range: first address, length, length of a member's subnet.
    pub range: Option<(Ipv4Addr, u8, u8)>,
    /// First address of the /48.
    pub prefix: Ipv6Addr,
    /// This node's subnets, if it is a member.
    pub subnet: Option<(Option<(Ipv4Addr, u8)>, Ipv6Addr)>,
    /// Era and counter of the newest HEAD: the version of the documents.
    pub head: (u16, u64),
    /// Age of that HEAD, seconds.
    pub head_age: Option<u64>,
    /// Whether what is in force here is what that HEAD says.
    pub matches_head: bool,
    /// Documents that members share.
    pub documents: usize,
    /// Their length, bytes.
    pub bytes: usize,
    /// Rights of this node, as GRANT has them; all of them with the owner's key.
    pub scopes: u16,
    /// Members, by key.
    pub members: Vec<MemberStatus>,
    /// Admins: key, scopes, numbers they may give.
    pub admins: Vec<(NodeId, u16, (u16, u16))>,
    /// Workloads.
    pub workloads: Vec<WorkloadStatus>,
    /// Tickets.
    pub tickets: Vec<TicketStatus>,
    /// Nodes that wait for approval.
    pub pending: Vec<NodeId>,
    /// The policy in force; `None` where members simply reach each other.
    pub policy: Option<PolicySpec>,
    /// What an operator has to know.
    pub faults: Vec<Fault>,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its key.
    pub node: NodeId,
    /// What people call it.
    pub name: Option<Label>,
    /// Whether it counts.
    pub standing: Standing,
    /// Its IPv4 subnet.
    pub ipv4: Option<(Ipv4Addr, u8)>,
    /// First address of its /64.
    pub ipv6: Ipv6Addr,
    /// Its groups.
    pub groups: Vec<Label>,
    /// Who admitted it.
    pub by: NodeId,
    /// By what right.
    pub authority: Authority,
    /// Until when, seconds since 1970; 0 without end.
    pub expires: u64,
    /// Whether this node exchanges packets of the network with it now.
    pub bound: bool,
    /// The HEAD that it last said it holds.
    pub head: Option<(u16, u64)>,
    /// How many HEADs it is behind this node, in one era; `None` if it has said nothing.
    pub drift: Option<u64>,
    /// How many workloads it has.
    pub workloads: usize,
}

/// One workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadStatus {
    /// Its name.
    pub name: Label,
    /// Whether the short name is its own.
    pub owns_name: bool,
    /// IPv4.
    pub ipv4: Option<Ipv4Addr>,
    /// IPv6.
    pub ipv6: Ipv6Addr,
    /// Whose subnet its addresses lie in.
    pub home: NodeId,
    /// Where it is.
    pub host: Option<NodeId>,
    /// Until when a lease keeps it there.
    pub lease: Option<u64>,
    /// Its groups.
    pub groups: Vec<Label>,
    /// What it serves.
    pub services: Vec<Service>,
    /// Its own key, if it has one.
    pub key: Option<[u8; 32]>,
}

/// One ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketStatus {
    /// Its public key, by which it is revoked.
    pub key: NodeId,
    /// Whether its holder signs by itself.
    pub bearer: bool,
    /// How often it may be used. With k acceptors that cannot hear each other: up to k times as often.
    pub uses: u16,
    /// How many acceptors there are.
    pub acceptors: usize,
    /// Until when; 0 without end.
    pub expires: u64,
    /// Whether that is past.
    pub expired: bool,
    /// The INVITE.
    pub id: DocumentId,
}

impl Overlay {
    /// This node.
    pub const fn own(&self) -> NodeId {
        self.own
    }

    /// Ids of all networks of this node.
    pub fn ids(&self) -> Vec<NetworkId> {
        self.networks.keys().copied().collect()
    }

    /// What this node calls a network.
    pub fn name(&self, network: &NetworkId) -> Option<Label> {
        self.networks.get(network).map(Network::name)
    }

    /// All networks of this node.
    pub fn networks(&self) -> Vec<NetworkStatus> {
        self.networks.values().map(|network| self.describe(network)).collect()
    }

    fn health(&self, network: &Network) -> Health {
        if let Some(joining) = &network.joining {
            return Health::Joining(joining.waits.clone());
        }
        match (network.me(&self.own), network.stale_days()) {
            (Err(refusal), _) => Health::Out(refusal),
            (Ok(_), _) if !network.meta.ready => {
                Health::Joining(Refusal::NotReady { network: network.name() })
            }
            (Ok(_), Some(days)) => Health::Stale(days),
            (Ok(_), None) => Health::Ready,
        }
    }

    fn describe(&self, network: &Network) -> NetworkStatus {
        let state = &network.state;
        let shared: Vec<_> = state.shared().filter_map(|id| network.set.get(id)).collect();
        let me = state.members.get(&self.own).map(|me| me.subnets);
        let scopes = match (self.own == network.id.key(), state.admin(&self.own)) {
            (true, _) => Grant::ALL,
            (false, admin) => admin.map_or(0, |admin| admin.grant.scopes),
        };
        let head = state.head.as_ref();
        NetworkStatus {
            id: network.id,
            name: network.name(),
            title: state.name.clone(),
            slot: network.meta.slot,
            health: self.health(network),
            open: network.is_open(&self.own),
            range: state.plan.range().map(|range| (range.first, range.len, range.member_len)),
            prefix: state.plan.prefix(),
            subnet: me.map(|subnets| (subnets.v4.map(|v4| (v4.first, v4.len)), subnets.v6)),
            head: network.meta.head,
            head_age: head.map(|head| state.at.saturating_sub(head.issued)),
            matches_head: head.is_some_and(|head| head.digest == state.digest),
            documents: shared.len(),
            bytes: shared.iter().map(|signed| signed.bytes.len()).sum(),
            scopes,
            members: self.member_list(network),
            admins: admins(network),
            workloads: workloads(network),
            tickets: tickets(network),
            pending: network.pending.keys().copied().collect(),
            policy: state.policy.as_ref().map(|(_, policy)| policy.clone()),
            faults: state.faults.clone(),
        }
    }

    fn member_list(&self, network: &Network) -> Vec<MemberStatus> {
        let own_head = network.meta.head;
        let members = network.state.members.values().map(|member| {
            let link = self.peers.get(&member.node).and_then(|peer| peer.links.get(&network.id));
            let own = member.node == self.own;
            let head = if own { Some(own_head) } else { link.and_then(|link| link.head) };
            let drift = head.map(|head| match own_head.0 == head.0 {
                true => own_head.1.saturating_sub(head.1),
                false => u64::from(own_head > head) * own_head.1,
            });
            MemberStatus {
                node: member.node,
                name: member.name.clone(),
                standing: member.standing,
                ipv4: member.subnets.v4.map(|subnet| (subnet.first, subnet.len)),
                ipv6: member.subnets.v6,
                groups: member.groups.clone(),
                by: member.author,
                authority: member.authority,
                expires: member.expires,
                bound: own || link.is_some_and(|link| link.is_bound()),
                head,
                drift,
                workloads: network.state.workloads.values().filter(|w| w.home == member.node).count(),
            }
        });
        members.collect()
    }

    /// What the policy in force, or `policy` in its place, says of a flow, by which rule, and why the rules
    /// before it do not match. Ends are an address, a workload's name or a member's key.
    ///
    /// # Errors
    /// [`Refusal::UnknownNetworkId`], [`Refusal::UnknownName`].
    pub fn explain(
        &self,
        network: &NetworkId,
        policy: Option<&PolicySpec>,
        (from, to): (&str, &str),
        protocol: u8,
        port: Option<u16>,
    ) -> Result<Explanation, Refusal> {
        let network = self.network(network)?;
        let name = network.name();
        explain((&network.id, &name), &network.state, policy, (from, to), (protocol, port))
    }

    /// Who would answer for an address in a network: member and, if a document gives it to one, workload.
    ///
    /// # Errors
    /// [`Refusal::UnknownNetworkId`], [`Refusal::UnknownName`].
    pub fn whose(&self, network: &NetworkId, address: &IpAddr) -> Result<(NodeId, Option<Label>), Refusal> {
        let network = self.network(network)?;
        let unknown = || Refusal::UnknownName { network: network.name(), name: address.to_string() };
        match network.state.at_address(address) {
            Some(workload) => Ok((workload.host.ok_or_else(unknown)?, Some(workload.name.clone()))),
            None => network.state.home_of(address).map(|member| (member.node, None)).ok_or_else(unknown),
        }
    }
}

fn admins(network: &Network) -> Vec<(NodeId, u16, (u16, u16))> {
    let admins = network.state.admins.iter().filter(|(_, admin)| !admin.expired);
    admins.map(|(node, admin)| (*node, admin.grant.scopes, admin.grant.numbers)).collect()
}

fn workloads(network: &Network) -> Vec<WorkloadStatus> {
    let one = |workload: &crate::state::Workload| WorkloadStatus {
        name: workload.name.clone(),
        owns_name: workload.owns_name,
        ipv4: workload.ipv4,
        ipv6: workload.ipv6,
        home: workload.home,
        host: workload.host,
        lease: workload.lease,
        groups: workload.groups.clone(),
        services: workload.services.clone(),
        key: workload.keyed.then_some(workload.subject),
    };
    network.state.workloads.values().map(one).collect()
}

fn tickets(network: &Network) -> Vec<TicketStatus> {
    let one = |ticket: &crate::state::Ticket| TicketStatus {
        key: ticket.key,
        bearer: ticket.invite.mode == InviteMode::Bearer,
        uses: ticket.invite.uses,
        acceptors: ticket.invite.acceptors.len(),
        expires: ticket.expires,
        expired: ticket.expired,
        id: ticket.id,
    };
    network.state.tickets.values().map(one).collect()
}
