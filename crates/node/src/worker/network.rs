//! Packets of private networks: whose they are, and whether they may pass (protocol A7).
//!
//! ```text
//!  out   device ─▶ its addresses ─▶ places: whose is the destination ─▶ flows, policy ─┬─▶ carry to that node
//!                                                                                      └─▶ hairpin: a local one
//!  in    (peer, handle) ─▶ network ─▶ places: is the source on this peer ─▶ local device ─▶ flows, policy ─▶ TUN
//! ```
//! How a packet then travels is the mesh's own way, in the other files here: a network adds a handle to
//! the record's prefix, and nothing else.

use std::net::{IpAddr, Ipv4Addr};

use rustc_hash::FxHashMap;
use sinew_forwarding::offload::{Sink, super_packet};
use sinew_forwarding::{Answers, Cause, Opening, Way, WorkloadFlows};
use sinew_overlay::{NetworkView, Place};
use sinew_types::{DropReason, Instant, InterfaceId, MeshAddr, Rng};
use sinew_wire::ip::PacketInfo;
use sinew_wire::virtio::{GSO_NONE, VirtioNetHdr};

use super::{DUMMY_V4, Inner, View, Worker};
use crate::networks::Interface;

/// What a worker keeps for one workload's device.
pub(super) struct Own {
    flows: WorkloadFlows,
    pub(super) answers: Answers,
}

/// By the devices' numbers.
pub(super) type OwnDevices = FxHashMap<InterfaceId, Own>;

impl Worker {
    pub(crate) fn add_device(&mut self, id: InterfaceId, interface: &Interface, rng: &mut Rng, now: Instant) {
        let v6 = interface.gateway_ipv6.unwrap_or(self.local.to_ipv6());
        let v4 = interface.gateway_ipv4.unwrap_or(DUMMY_V4);
        let flows = WorkloadFlows::new(rng.u64(), now);
        self.devices.insert(id, Own { flows, answers: Answers::new(v6, v4, now) });
    }

    pub(crate) fn remove_device(&mut self, id: InterfaceId) {
        self.devices.remove(&id);
    }

    /// Takes a packet that a workload sent.
    pub(super) fn outbound_network(
        &mut self,
        view: &View<'_>,
        from: InterfaceId,
        vnet: VirtioNetHdr,
        packet: &mut [u8],
    ) -> Result<(), DropReason> {
        let device = view.networks.device(from).ok_or(DropReason::NoNetwork)?;
        let info = PacketInfo::parse(packet).map_err(|_| DropReason::BadInner)?;
        if !is_unicast(&info.dst) || is_link_local(&info.src) {
            return Err(DropReason::NotUnicast);
        }
        if !device.owns(&info.src) {
            return Err(DropReason::NotOurSource);
        }
        let network = view.networks.snapshot.network(device.slot).ok_or(DropReason::NoNetwork)?;
        let own = network.place(&info.src).filter(|own| own.node == view.local);
        let own = own.ok_or(DropReason::NotPlaced)?;
        let Some(other) = destination(network, &info.dst) else {
            self.answer(from, packet, Some(Cause::Unreachable), view.now);
            return Err(DropReason::NoPlace);
        };
        if let Err(reason) = self.pass(view, network, from, Way::Out, (own, other), packet, &info) {
            self.answer(from, packet, Some(Cause::Prohibited), view.now);
            return Err(reason);
        }
        if other.node == view.local {
            return self.hairpin(view, network, from, (own, other), &vnet, packet, &info);
        }
        let inner = Inner { interface: from, network: device.slot, mtu: device.interface.mtu };
        self.carry(view, inner, &other.node, vnet, packet, &info)
    }

    /// Whether a packet of a network is what `peer` may send and its receiver takes; where it goes.
    #[inline(never)] // Or the mesh's own packets pay for it: measured.
    pub(super) fn admit_network(
        &mut self,
        view: &View<'_>,
        peer: &MeshAddr,
        handle: u32,
        packet: &[u8],
    ) -> Result<(PacketInfo, Sink), DropReason> {
        let networks = view.networks;
        let slot = networks.snapshot.incoming(peer, handle).ok_or(DropReason::NotBound)?;
        let network = networks.snapshot.network(slot).ok_or(DropReason::NotBound)?;
        let info = PacketInfo::parse(packet).map_err(|_| DropReason::BadInner)?;
        let other = network.place(&info.src).filter(|other| other.node == *peer);
        let other = other.ok_or(DropReason::NotPlaced)?;
        let sink = networks.local(slot, &info.dst).ok_or(DropReason::NotForUs)?;
        // A workload that moved away is not here any more, though its device may be.
        let own = network.place(&info.dst).filter(|own| own.node == view.local);
        let own = own.ok_or(DropReason::NotForUs)?;
        self.pass(view, network, sink.interface, Way::In, (own, other), packet, &info)?;
        Ok((info, sink))
    }

    /// Whether a packet may pass between the workload at a device of ours and another.
    #[allow(clippy::too_many_arguments)] // All of them are what a rule can depend on.
    fn pass(
        &mut self,
        view: &View<'_>,
        network: &NetworkView,
        device: InterfaceId,
        way: Way,
        (own, other): (&Place, &Place),
        packet: &[u8],
        info: &PacketInfo,
    ) -> Result<(), DropReason> {
        // Where it would go in the end is not what was judged.
        if info.source_routed {
            return Err(DropReason::SourceRouted);
        }
        let device = self.devices.get_mut(&device).ok_or(DropReason::Policy)?;
        let judge = |Opening { by_workload, protocol, port }: Opening| {
            let (from, to) = if by_workload { (own, other) } else { (other, own) };
            network.policy.verdict(from, to, protocol, port).allow
        };
        let passes = device.flows.pass(way, packet, info, view.networks.rules, view.now, judge);
        if passes { Ok(()) } else { Err(DropReason::Policy) }
    }

    /// From one workload of this node to another: no record, but all that would be asked of one.
    #[allow(clippy::too_many_arguments)]
    fn hairpin(
        &mut self,
        view: &View<'_>,
        network: &NetworkView,
        from: InterfaceId,
        (sender, receiver): (&Place, &Place),
        vnet: &VirtioNetHdr,
        packet: &mut [u8],
        info: &PacketInfo,
    ) -> Result<(), DropReason> {
        let Some(sink) = view.networks.local(network.slot, &info.dst) else {
            self.answer(from, packet, Some(Cause::Unreachable), view.now);
            return Err(DropReason::NoPlace);
        };
        if let Err(reason) =
            self.pass(view, network, sink.interface, Way::In, (receiver, sender), packet, info)
        {
            self.answer(from, packet, Some(Cause::Prohibited), view.now);
            return Err(reason);
        }
        let device = view.networks.device(sink.interface).ok_or(DropReason::NotForUs)?;
        let mtu = device.interface.mtu;
        let whole = vnet.gso_type != GSO_NONE && sink.offloads.takes(info.protocol);
        if let Some(head) = whole.then(|| super_packet::offer(vnet, packet, usize::from(mtu))).flatten() {
            let vnet = super_packet::accept(head, packet, usize::from(mtu))?;
            let taken = self.tun.push(sink.interface, &vnet, packet);
            return if taken { Ok(()) } else { Err(DropReason::TunQueue) };
        }
        let result = self.deliver_cut(sink.interface, vnet, packet, usize::from(mtu));
        if result == Err(DropReason::TooBig) {
            self.answer(from, packet, Some(Cause::TooBig { mtu }), view.now);
        }
        result
    }
}

/// Whose an address is, unless it means a whole subnet.
fn destination<'a>(network: &'a NetworkView, address: &IpAddr) -> Option<&'a Place> {
    let place = network.place(address)?;
    let broadcast = |v4: &Ipv4Addr| {
        let hosts = u32::MAX.checked_shr(network.subnet_len.into()).unwrap_or(0);
        hosts > 1 && (v4.to_bits() & hosts == 0 || v4.to_bits() & hosts == hosts)
    };
    let nobody = place.workload == 0 && matches!(address, IpAddr::V4(v4) if broadcast(v4));
    (!nobody).then_some(place)
}

/// Whether the address can be one host's.
const fn is_unicast(address: &IpAddr) -> bool {
    !address.is_multicast()
        && !address.is_unspecified()
        && !address.is_loopback()
        && !is_link_local(address)
        && !matches!(address, IpAddr::V4(v4) if v4.is_broadcast() || v4.octets()[0] == 0)
}

/// Whether the address has a meaning on one link only.
const fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}
