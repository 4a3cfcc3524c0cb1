//! Networks that nobody configured: every host knows one other, and may be told of more, by whoever likes.
//!
//! Links are then what the underlay carries, and not who peers with whom. Honest hosts are each in a
//! network of their own. The last of them, if so many are asked for, are an attacker's: names that all
//! really speak, in a few networks. They may swallow what they are given to carry ([`World::swallow`]).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use sinew_node::Endpoints;
use sinew_node::directory::{Own, PeeringConfig, Refusal, Source};
use sinew_types::{CarrierKind, Identity, Instant, NodeId};
use sinew_wire::directory::Place;

use crate::check::Violation;
use crate::host::{Host, PORT};
use crate::params::Plan;
use crate::topology::Edge;
use crate::world::World;

/// Who finds whom.
#[derive(Clone, Copy, Debug)]
pub struct Finding {
    /// Links that honest hosts keep.
    pub peering: PeeringConfig,
    /// How many hosts, the last ones, are the attacker's.
    pub sybils: usize,
    /// In so many networks.
    pub networks: usize,
}

impl Finding {
    /// Nobody but honest hosts.
    pub const fn honest(peering: PeeringConfig) -> Self {
        Self { peering, sybils: 0, networks: 1 }
    }

    /// Whether a host knows another when it begins: the honest know the first, and each of the
    /// attacker's some of the honest.
    pub(crate) fn knows(&self, number: usize, other: usize, nodes: usize) -> bool {
        let honest = nodes - self.sybils;
        match number.checked_sub(honest) {
            None => other == 0,
            Some(sybil) => [sybil, sybil / honest].iter().any(|at| at % honest == other),
        }
    }

    /// Links that a host keeps: the attacker's dial whom they know, and take whoever comes.
    pub(crate) const fn peering_of(&self, number: usize, nodes: usize) -> PeeringConfig {
        let sybil = number >= nodes - self.sybils;
        if sybil { PeeringConfig { target: 0, max: 4096, stub: false } } else { self.peering }
    }
}

impl Plan {
    /// A clean network in which all know host 0 alone, and everybody can reach everybody; but the
    /// attacker's hosts have nothing to say to each other.
    pub fn finding(seed: u64, nodes: usize, finding: Finding, latency: Duration) -> Self {
        let honest = nodes - finding.sybils;
        let pairs = (0..honest).flat_map(|a| (a + 1..nodes).map(move |b| Edge { a, b, late: false }));
        let edges: Vec<_> = pairs.collect();
        Self { finding: Some(finding), ..Self::clean(seed, nodes, &edges, latency) }
    }
}

/// Where a host of such a network is.
pub(crate) fn address(number: usize, nodes: usize, finding: &Finding) -> SocketAddr {
    let ip = if let Some(sybil) = number.checked_sub(nodes - finding.sybils) {
        let (network, at) = (sybil % finding.networks, sybil / finding.networks);
        Ipv4Addr::new(66, 6 + network as u8, (at / 200) as u8, 1 + (at % 200) as u8)
    } else {
        Ipv4Addr::new(20 + number as u8, 1, 0, 1)
    };
    SocketAddr::new(IpAddr::V4(ip), PORT)
}

impl Host {
    /// What its shell would tell its node.
    pub(crate) fn tell_places(&mut self, now: Instant) {
        let local = self.local(now);
        let place = Place { addr: self.at, carriers: vec![CarrierKind::Udp] };
        let own = Own { pass_on: true, places: vec![place], ..Own::default() };
        if let Some(node) = &mut self.node {
            node.set_endpoints(Endpoints { local: vec![(self.at, 24)], mapped: Vec::new() });
            node.set_own(own, local);
        }
    }
}

impl World {
    /// A host hears of a node from `source`.
    ///
    /// # Errors
    /// The first violation.
    pub fn tell(&mut self, host: usize, record: &[u8], source: Source) -> Result<Option<Refusal>, Violation> {
        let mut refused = None;
        self.feed(host, |node, now| refused = node.handle_record(record, source, now).err())?;
        Ok(refused)
    }

    /// A host believes that it was once linked with a node.
    ///
    /// # Errors
    /// The first violation.
    pub fn persuade(&mut self, host: usize, record: &[u8]) -> Result<(), Violation> {
        let unix = self.unix(host);
        self.feed(host, |node, now| node.handle_remembered(record, unix, now))
    }

    /// What a host says of itself.
    pub fn own_record(&self, host: usize) -> Option<Vec<u8>> {
        self.hosts[host].node.as_ref().and_then(|node| node.own_record())
    }

    /// How many nodes a host would try first after a restart.
    pub fn proven(&self, host: usize) -> usize {
        self.hosts[host].node.as_ref().map_or(0, |node| node.finding().proven)
    }

    /// A host carries nothing for others from now on, and does not say so.
    pub fn swallow(&mut self, host: usize) {
        self.swallowers.insert(host);
    }

    /// The key of a host.
    pub fn identity(&self, host: usize) -> &Identity {
        &self.hosts[host].identity
    }

    /// Hosts that are neighbours of `host`, at both ends.
    pub fn neighbours(&self, host: usize) -> Vec<usize> {
        (0..self.hosts.len())
            .filter(|&other| other != host && self.hosts[other].node.is_some())
            .filter(|&other| {
                let holds = |a: usize, b: usize| {
                    self.hosts[a]
                        .node
                        .as_ref()
                        .is_some_and(|node| node.adjacency(&self.hosts[b].addr).is_some())
                };
                holds(host, other) && holds(other, host)
            })
            .collect()
    }

    /// Nodes that `host` has a link with, or tries to, and that are no host at all.
    pub fn phantoms(&self, host: usize) -> Vec<NodeId> {
        let now = self.hosts[host].clock(self.now);
        let peers = self.hosts[host].node.as_ref().map(|node| node.peers(now)).unwrap_or_default();
        let real = |id: &NodeId| self.hosts.iter().any(|host| host.id == *id);
        let linked = peers.into_iter().filter(|peer| peer.path.is_some()).map(|peer| peer.node);
        linked.filter(|id| !real(id)).collect()
    }
}
