//! What the fast path reads of private networks, beside the documents' [`Snapshot`]: which devices
//! this node has for workloads, and which of them an address is.
//!
//! The shell makes the devices and says so here ([`Node::add_interface`]); a network's number is looked
//! up anew with each snapshot, so that a device may be there before its network, and outlive it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use rustc_hash::FxHashMap;
use sinew_forwarding::offload::{Offloads, Sink};
use sinew_overlay::{Slot, Snapshot};
use sinew_types::{Instant, InterfaceId, NetworkId};

use crate::node::Node;

/// The device of one workload, as the shell describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The network it is in.
    pub network: NetworkId,
    /// The workload's IPv4 address, if it has one.
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub ipv6: Ipv6Addr,
    /// Where ICMP answers to the workload come from: this node's own address in the network.
    pub gateway_ipv4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub gateway_ipv6: Option<Ipv6Addr>,
    /// What the device takes from us.
    pub offloads: Offloads,
    /// Its MTU, bytes.
    pub mtu: u16,
}

/// A device as the fast path reads it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Device {
    /// This node's number for its network; 0 while the network is not known.
    pub(crate) slot: Slot,
    pub(crate) interface: Interface,
}

impl Device {
    /// Whether the workload may send from `address`.
    pub(crate) fn owns(&self, address: &IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.interface.ipv4 == Some(*v4),
            IpAddr::V6(v6) => self.interface.ipv6 == *v6,
        }
    }

    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.interface.ipv4.map(IpAddr::V4).into_iter().chain([IpAddr::V6(self.interface.ipv6)])
    }
}

/// The published state of private networks.
#[derive(Debug, Default)]
pub(crate) struct Networks {
    pub(crate) snapshot: Arc<Snapshot>,
    /// The snapshot's number: flows that were judged by an older one are judged again.
    pub(crate) rules: u32,
    devices: FxHashMap<InterfaceId, Device>,
    at: FxHashMap<(Slot, IpAddr), Sink>,
}

impl Networks {
    /// A device by its number.
    pub(crate) fn device(&self, id: InterfaceId) -> Option<&Device> {
        self.devices.get(&id)
    }

    /// The device of a local workload, by its address in a network.
    pub(crate) fn local(&self, slot: Slot, address: &IpAddr) -> Option<Sink> {
        self.at.get(&(slot, *address)).copied()
    }

    /// Takes a new snapshot into use.
    pub(crate) fn publish(&mut self, snapshot: Arc<Snapshot>) {
        self.snapshot = snapshot;
        self.rules = self.rules.wrapping_add(1);
        self.find_networks();
    }

    fn add(&mut self, id: InterfaceId, interface: Interface) {
        self.devices.insert(id, Device { slot: 0, interface });
        self.find_networks();
    }

    fn remove(&mut self, id: InterfaceId) {
        self.devices.remove(&id);
        self.find_networks();
    }

    /// Finds the network of each device, and the device of each address. Of two devices with one
    /// address in one network the later number has it.
    fn find_networks(&mut self) {
        let slots: FxHashMap<_, _> = self.snapshot.iter().map(|view| (view.id, view.slot)).collect();
        self.at.clear();
        for (&id, device) in &mut self.devices {
            device.slot = slots.get(&device.interface.network).copied().unwrap_or(0);
            for address in device.addresses().filter(|_| device.slot != 0) {
                let sink = Sink { interface: id, offloads: device.interface.offloads };
                let holder = self.at.entry((device.slot, address)).or_insert(sink);
                if holder.interface < id {
                    *holder = sink;
                }
            }
        }
    }
}

impl Node {
    /// A workload's device is there; its packets come with this number from now on. A device that had
    /// the number is replaced, and its flows are forgotten.
    pub fn add_interface(&mut self, id: InterfaceId, interface: Interface, now: Instant) {
        if id == InterfaceId::NODE {
            return;
        }
        self.networks.add(id, interface);
        self.worker.add_device(id, &interface, &mut self.rng, now);
        self.pump(now);
    }

    /// A workload's device is gone. Packets that were to be written to it are still handed out.
    pub fn remove_interface(&mut self, id: InterfaceId, now: Instant) {
        self.networks.remove(id);
        self.worker.remove_device(id);
        self.pump(now);
    }

    /// Takes a snapshot into use: that of this node's documents, or in tests of the fast path one that no
    /// documents stand behind.
    #[doc(hidden)]
    pub fn publish_networks(&mut self, snapshot: Arc<Snapshot>) {
        // protocol A3.7: addresses of networks are refused as underlay endpoints.
        self.direct.set_networks(snapshot.iter().map(|view| view.id.ula()).collect());
        self.networks.publish(snapshot);
    }

    /// The numbers and descriptions of the workloads' devices, in order.
    pub fn interfaces(&self) -> Vec<(InterfaceId, Interface)> {
        let mut all: Vec<_> =
            self.networks.devices.iter().map(|(&id, device)| (id, device.interface)).collect();
        all.sort_unstable_by_key(|&(id, _)| id);
        all
    }
}
