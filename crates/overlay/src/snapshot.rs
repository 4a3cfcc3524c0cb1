//! What the fast path knows of private networks: immutable, replaced whole when anything changes.
//!
//! A worker holds an `Arc` of it and asks four questions of a packet: which network a handle means,
//! whose the two addresses are, and whether the policy lets the one open a flow to the other. None
//! takes a lock, and the answer of one packet comes from one snapshot.

use std::net::IpAddr;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashMapSeed, FxHashSet, FxSeededState};
use sinew_types::{MeshAddr, NetworkId};

use crate::policy::{GroupSet, Policy};

/// This node's number for a network, 1 ..= 0xff_ffff, and the handle that it announces in BIND.
/// 0 means the mesh itself.
pub type Slot = u32;

/// A workload's number, stable within one snapshot; 0 where an address belongs to no workload.
pub type WorkloadKey = u32;

/// Addresses of workloads; seeded, because members choose the keys.
pub type Places = FxHashMapSeed<IpAddr, Place>;

/// Whose an address of a network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The member node that answers for it; packets go to this node and come from nobody else.
    pub node: MeshAddr,
    /// Which workload; 0 for an address of the member's subnet that no document gives to one.
    pub workload: WorkloadKey,
    /// The groups that count for it.
    pub groups: GroupSet,
}

/// One network as the fast path sees it.
#[derive(Clone, Debug)]
pub struct NetworkView {
    /// Which.
    pub id: NetworkId,
    /// This node's number for it.
    pub slot: Slot,
    /// What this node calls it.
    pub name: Arc<str>,
    /// Addresses of workloads.
    pub places: Places,
    /// Addresses of moving workloads that are nowhere now: nobody may use them.
    pub vacant: FxHashSet<IpAddr>,
    /// Subnets of members by their first address; all IPv4 subnets have the same length.
    pub subnets: Places,
    /// Length of the members' IPv4 subnets, bits.
    pub subnet_len: u8,
    /// Who may open flows to whom.
    pub policy: Policy,
}

impl NetworkView {
    /// A network without members.
    pub fn new(id: NetworkId, slot: Slot, name: &str, seed: u64) -> Self {
        let map = || Places::with_hasher(FxSeededState::with_seed(seed as usize));
        let (places, subnets) = (map(), map());
        Self {
            id,
            slot,
            name: name.into(),
            places,
            vacant: FxHashSet::default(),
            subnets,
            subnet_len: 24,
            policy: Policy::default(),
        }
    }

    /// Whether the fast path would see no difference.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.places == other.places
            && self.subnets == other.subnets
            && self.vacant == other.vacant
            && (self.subnet_len, self.slot) == (other.subnet_len, other.slot)
            && self.policy == other.policy
            && self.name == other.name
    }

    /// Whose `address` is: a workload's, wherever it has moved to; else the member's in whose subnet
    /// it lies (a packet may be faster than the document that names its workload).
    pub fn place(&self, address: &IpAddr) -> Option<&Place> {
        match self.places.get(address) {
            None if self.vacant.contains(address) => None,
            None => self.subnets.get(&self.first_of_subnet(address)),
            place => place,
        }
    }

    /// The first address of the subnet that `address` would lie in.
    pub fn first_of_subnet(&self, address: &IpAddr) -> IpAddr {
        match address {
            IpAddr::V4(v4) => {
                let host = 32 - u32::from(self.subnet_len.min(32));
                let bits = v4.to_bits().checked_shr(host).unwrap_or(0).checked_shl(host).unwrap_or(0);
                IpAddr::V4(bits.into())
            }
            IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        }
    }
}

/// All networks of this node and the handles bound with its peers.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    networks: FxHashMap<Slot, Arc<NetworkView>>,
    incoming: FxHashMap<(MeshAddr, u32), Slot>,
    outgoing: FxHashSet<(MeshAddr, Slot)>,
}

impl Snapshot {
    /// A snapshot of these networks, without bindings.
    pub fn new(networks: impl IntoIterator<Item = Arc<NetworkView>>) -> Self {
        let networks = networks.into_iter().map(|view| (view.slot, view)).collect();
        Self { networks, ..Self::default() }
    }

    /// Adds or replaces a network.
    pub fn insert(&mut self, view: Arc<NetworkView>) {
        self.networks.insert(view.slot, view);
    }

    /// Records that `peer` announced `handle` for the network that is `slot` here.
    pub fn bind_incoming(&mut self, peer: MeshAddr, handle: u32, slot: Slot) {
        self.incoming.insert((peer, handle), slot);
    }

    /// Records that `peer` agreed to our handle `slot`.
    pub fn bind_outgoing(&mut self, peer: MeshAddr, slot: Slot) {
        self.outgoing.insert((peer, slot));
    }

    /// A network by this node's number for it.
    pub fn network(&self, slot: Slot) -> Option<&NetworkView> {
        self.networks.get(&slot).map(|view| &**view)
    }

    /// All networks, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &NetworkView> + '_ {
        let mut views: Vec<_> = self.networks.values().map(|view| &**view).collect();
        views.sort_unstable_by_key(|view| view.slot);
        views.into_iter()
    }

    /// The network that `peer` means by `handle` in its records; `None` drops the packet.
    pub fn incoming(&self, peer: &MeshAddr, handle: u32) -> Option<Slot> {
        self.incoming.get(&(*peer, handle)).copied()
    }

    /// Whether `peer` knows our handle `slot`, so that packets may be sent with it.
    pub fn outgoing(&self, peer: &MeshAddr, slot: Slot) -> bool {
        self.outgoing.contains(&(*peer, slot))
    }
}

#[cfg(test)]
mod tests {
    use sinew_types::Identity;

    use super::*;

    #[test]
    fn a_workload_s_address_is_its_own_and_the_rest_of_the_subnet_the_member_s() {
        let node = |n| Identity::from_seed([n; 32]).node_id();
        let mut view = NetworkView::new(NetworkId::new(node(9)), 1, "lab", 7);
        let place = |n: u8, workload| Place { node: node(n).address(), workload, groups: GroupSet::NONE };
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        view.subnets.insert(ip("10.1.7.0"), place(1, 0));
        view.subnets.insert(ip("fd00:1:2:3::"), place(1, 0));
        view.places.insert(ip("10.1.7.2"), place(1, 1));
        view.places.insert(ip("10.1.7.3"), place(2, 2));
        for (text, expected) in [
            ("10.1.7.2", Some(place(1, 1))),
            ("10.1.7.3", Some(place(2, 2))),
            ("10.1.7.4", Some(place(1, 0))),
            ("10.1.8.2", None),
            ("fd00:1:2:3::99", Some(place(1, 0))),
            ("fd00:1:2:4::99", None),
        ] {
            assert_eq!(view.place(&ip(text)).copied(), expected, "{text}");
        }
    }

    #[test]
    fn handles_count_for_the_peer_that_announced_them() {
        let peer = |n| Identity::from_seed([n; 32]).node_id().address();
        let view = NetworkView::new(NetworkId::new(Identity::from_seed([9; 32]).node_id()), 3, "lab", 7);
        let mut snapshot = Snapshot::new([Arc::new(view)]);
        snapshot.bind_incoming(peer(1), 77, 3);
        snapshot.bind_outgoing(peer(2), 3);
        assert_eq!(snapshot.incoming(&peer(1), 77), Some(3));
        assert_eq!(snapshot.incoming(&peer(2), 77), None);
        assert!(snapshot.outgoing(&peer(2), 3) && !snapshot.outgoing(&peer(1), 3));
        assert_eq!(snapshot.iter().map(|view| view.slot).collect::<Vec<_>>(), [3]);
        assert!(snapshot.network(3).is_some() && snapshot.network(4).is_none());
    }
}
