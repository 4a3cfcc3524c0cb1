//! Private networks on the nodes of a [`Net`], by snapshots made by hand: exactly these documents, here
//! and not there, which no exchange of documents would give.
#![allow(dead_code)] // Not every test binary uses all of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use sinew_node::overlay::{GroupSet, NetworkView, Place, Policy, Rule, Snapshot};
use sinew_node::{Interface, Offloads};
use sinew_types::{DropReason, Identity, InterfaceId, MeshAddr, NetworkId};
use sinew_wire::virtio::VirtioNetHdr;

use super::Net;

/// The MTU of workloads' devices.
pub(crate) const MTU: u16 = 1416;

/// A workload: the first, second, … of a node in a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct W {
    pub(crate) network: usize,
    pub(crate) node: usize,
    pub(crate) number: u8,
}

/// The first workload of a node in network 0.
pub(crate) const fn w(node: usize) -> W {
    W { network: 0, node, number: 2 }
}

impl W {
    /// Networks use the same IPv4 addresses: a /24 for each node.
    pub(crate) fn v4(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 7, self.node as u8, self.number)
    }

    /// Of IPv6 each has its own, as keys would give.
    pub(crate) fn v6(self) -> Ipv6Addr {
        subnet_v6(self.network, self.node, self.number.into())
    }

    pub(crate) fn id(self) -> InterfaceId {
        InterfaceId((1000 * self.network + 100 * self.node) as u32 + u32::from(self.number))
    }

    /// Its key in snapshots.
    pub(crate) fn key(self) -> u32 {
        self.id().0
    }
}

fn subnet_v6(network: usize, node: usize, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfdaa, network as u16, 0, node as u16 + 1, 0, 0, 0, host)
}

/// What node `node` calls network `network`: others call it differently.
pub(crate) fn slot(network: usize, node: usize) -> u32 {
    10 * (network as u32 + 1) + node as u32 + 1
}

pub(crate) fn network_id(network: usize) -> NetworkId {
    NetworkId::new(Identity::from_seed([0xe0 + network as u8; 32]).node_id())
}

/// Who is where, and what may be: the same documents on all nodes, but for what a test changes.
#[derive(Clone)]
pub(crate) struct Lab {
    pub(crate) addrs: Vec<MeshAddr>,
    pub(crate) networks: usize,
    pub(crate) workloads: Vec<W>,
    pub(crate) policy: Policy,
    /// Nodes that are members of none.
    pub(crate) strangers: Vec<usize>,
}

impl Lab {
    /// One workload for each node in each network, known to all, devices and all.
    pub(crate) fn new(net: &mut Net, networks: usize) -> Self {
        let addrs: Vec<_> = (0..net.nodes.len()).map(|i| net.address(i)).collect();
        let nodes = 0..addrs.len();
        let workloads =
            (0..networks).flat_map(|network| nodes.clone().map(move |node| W { network, ..w(node) }));
        let workloads: Vec<_> = workloads.collect();
        let lab = Self { addrs, networks, workloads, policy: Policy::default(), strangers: Vec::new() };
        lab.publish(net);
        for &workload in &lab.workloads {
            attach(net, workload);
        }
        lab
    }

    /// Rules for all networks.
    pub(crate) fn set_policy(&mut self, net: &mut Net, rules: Vec<Rule>, default_allow: bool) {
        self.policy = Policy::new(rules, default_allow);
        self.publish(net);
    }

    pub(crate) fn place(&self, workload: W) -> Place {
        Place {
            node: self.addrs[workload.node],
            workload: workload.key(),
            groups: GroupSet::one(workload.number.into()),
        }
    }

    pub(crate) fn publish(&self, net: &mut Net) {
        for node in 0..self.addrs.len() {
            net.nodes[node].publish_networks(Arc::new(self.snapshot(node)));
        }
    }

    /// What `node` knows: everything, unless it is a stranger.
    pub(crate) fn snapshot(&self, node: usize) -> Snapshot {
        let mut snapshot = Snapshot::default();
        if self.strangers.contains(&node) {
            return snapshot;
        }
        for network in 0..self.networks {
            snapshot.insert(Arc::new(self.view(network, node)));
            let peers = (0..self.addrs.len()).filter(|peer| *peer != node && !self.strangers.contains(peer));
            for peer in peers {
                snapshot.bind_incoming(self.addrs[peer], slot(network, peer), slot(network, node));
                snapshot.bind_outgoing(self.addrs[peer], slot(network, node));
            }
        }
        snapshot
    }

    pub(crate) fn view(&self, network: usize, node: usize) -> NetworkView {
        let mut view = NetworkView::new(network_id(network), slot(network, node), "lab", 7);
        view.policy = self.policy.clone();
        for (member, &addr) in self.addrs.iter().enumerate() {
            if self.strangers.contains(&member) {
                continue;
            }
            let place = Place { node: addr, workload: 0, groups: GroupSet::NONE };
            view.subnets.insert(Ipv4Addr::new(10, 7, member as u8, 0).into(), place);
            view.subnets.insert(subnet_v6(network, member, 0).into(), place);
        }
        for &workload in self.workloads.iter().filter(|w| w.network == network) {
            if !self.strangers.contains(&workload.node) {
                view.places.insert(workload.v4().into(), self.place(workload));
                view.places.insert(workload.v6().into(), self.place(workload));
            }
        }
        view
    }
}

/// Gives a workload its device.
pub(crate) fn attach(net: &mut Net, workload: W) {
    attach_with(net, workload, Offloads::ALL, MTU);
}

pub(crate) fn attach_with(net: &mut Net, workload: W, offloads: Offloads, mtu: u16) {
    let W { network, node, .. } = workload;
    let interface = Interface {
        network: network_id(network),
        ipv4: Some(workload.v4()),
        ipv6: workload.v6(),
        gateway_ipv4: Some(Ipv4Addr::new(10, 7, node as u8, 1)),
        gateway_ipv6: Some(subnet_v6(network, node, 1)),
        offloads,
        mtu,
    };
    let now = net.now;
    net.nodes[node].add_interface(workload.id(), interface, now);
}

/// A packet that a workload's kernel sends.
pub(crate) fn send(net: &mut Net, from: W, packet: &[u8]) {
    send_with(net, from, VirtioNetHdr::default(), packet);
}

pub(crate) fn send_with(net: &mut Net, from: W, vnet: VirtioNetHdr, packet: &[u8]) {
    let now = net.now;
    net.nodes[from.node].handle_tun(from.id(), vnet, &mut packet.to_vec(), now);
    net.drain(from.node);
}

/// What a workload's kernel was given since last asked.
pub(crate) fn taken(net: &mut Net, at: W) -> Vec<Vec<u8>> {
    taken_with(net, at).into_iter().map(|(_, packet)| packet).collect()
}

pub(crate) fn taken_with(net: &mut Net, at: W) -> Vec<(VirtioNetHdr, Vec<u8>)> {
    let all = std::mem::take(&mut net.workloads[at.node]);
    let (own, others): (Vec<_>, Vec<_>) = all.into_iter().partition(|(id, ..)| *id == at.id());
    net.workloads[at.node] = others;
    own.into_iter().map(|(_, vnet, packet)| (vnet, packet)).collect()
}

/// How often a node has counted a reason.
pub(crate) fn drops(net: &Net, node: usize, reason: DropReason) -> u64 {
    net.nodes[node].drops().get(reason)
}

// --- packets ---

/// An IP packet around `l4`, of the family of the two addresses.
pub(crate) fn ip(src: IpAddr, dst: IpAddr, protocol: u8, l4: &[u8]) -> Vec<u8> {
    let mut packet = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let len = (20 + l4.len() as u16).to_be_bytes();
            let mut packet = vec![0x45, 0, len[0], len[1], 0, 1, 0x40, 0, 64, protocol, 0, 0];
            packet.extend(src.octets());
            packet.extend(dst.octets());
            sinew_wire::ip::fill_v4_checksum(&mut packet).expect("a header");
            packet
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let len = (l4.len() as u16).to_be_bytes();
            let mut packet = vec![0x60, 0, 0, 0, len[0], len[1], protocol, 64];
            packet.extend(src.octets());
            packet.extend(dst.octets());
            packet
        }
        _ => panic!("two families"),
    };
    packet.extend(l4);
    packet
}

/// UDP with a right checksum.
pub(crate) fn udp(src: impl Into<IpAddr>, dst: impl Into<IpAddr>, ports: (u16, u16), load: &[u8]) -> Vec<u8> {
    let len = (8 + load.len() as u16).to_be_bytes();
    let mut l4 = [ports.0.to_be_bytes(), ports.1.to_be_bytes(), len, [0, 0]].concat();
    l4.extend(load);
    finish(ip(src.into(), dst.into(), 17, &l4))
}

/// TCP with a right checksum.
pub(crate) fn tcp(
    src: impl Into<IpAddr>,
    dst: impl Into<IpAddr>,
    ports: (u16, u16),
    flags: u8,
    load: &[u8],
) -> Vec<u8> {
    let mut l4 = [ports.0.to_be_bytes(), ports.1.to_be_bytes()].concat();
    l4.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    l4.extend(load);
    finish(ip(src.into(), dst.into(), 6, &l4))
}

/// Gives a packet of UDP or TCP its right checksum.
pub(crate) fn finish(mut packet: Vec<u8>) -> Vec<u8> {
    let info = sinew_wire::ip::PacketInfo::parse(&packet).expect("a packet");
    let at = info.l4.expect("a transport header") + info.csum_offset().expect("a checksum");
    let pseudo = info.pseudo_header(packet.len() - info.l4.unwrap_or(0)).fold();
    packet[at..at + 2].copy_from_slice(&pseudo.to_be_bytes());
    info.complete_checksum(&mut packet).expect("a place for it");
    packet
}

/// An echo request, or the reply to one.
pub(crate) fn echo(src: impl Into<IpAddr>, dst: impl Into<IpAddr>, reply: bool) -> Vec<u8> {
    let (src, dst) = (src.into(), dst.into());
    let (protocol, kind) = match (src.is_ipv4(), reply) {
        (true, false) => (1, 8),
        (true, true) => (1, 0),
        (false, false) => (58, 128),
        (false, true) => (58, 129),
    };
    ip(src, dst, protocol, &[kind, 0, 0, 0, 0, 7, 0, 1, b'p', b'i', b'n', b'g'])
}

/// The ICMP type and code of a packet, if it is ICMP.
pub(crate) fn icmp_of(packet: &[u8]) -> Option<(u8, u8)> {
    let info = sinew_wire::ip::PacketInfo::parse(packet).ok()?;
    let at = info.l4.filter(|_| info.is_icmp())?;
    Some((packet[at], packet[at + 1]))
}
