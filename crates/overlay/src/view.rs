//! From what the documents amount to, to what the fast path reads.

use std::collections::BTreeMap;
use std::net::IpAddr;

use sinew_types::{Label, NetworkId, NodeId};

use crate::policy::{PolicySpec, compile};
use crate::snapshot::{NetworkView, Place, Slot, WorkloadKey};
use crate::state::State;

/// The network as the fast path sees it. While it is not `open` (this node is no member now, or waits
/// for documents) nobody has a place in it, so nothing passes.
pub(crate) fn build(
    (id, name): (&NetworkId, &Label),
    slot: Slot,
    state: &State,
    policy: &PolicySpec,
    seed: u64,
    open: bool,
) -> NetworkView {
    let mut view = NetworkView::new(*id, slot, name.as_str(), seed);
    let keys: BTreeMap<(NodeId, [u8; 32]), WorkloadKey> = state.workloads.keys().copied().zip(1..).collect();
    let (policy, bits) = compile(policy, state, |key| keys.get(key).copied());
    view.policy = policy;
    view.subnet_len = state.plan.range().map_or(24, |range| range.member_len);
    if !open {
        return view;
    }
    for member in state.members.values().filter(|member| member.is_valid()) {
        let place = Place { node: member.node.address(), workload: 0, groups: bits.set(&member.groups) };
        view.subnets.insert(IpAddr::V6(member.subnets.v6), place);
        if let Some(subnet) = member.subnets.v4 {
            view.subnets.insert(IpAddr::V4(subnet.first), place);
        }
    }
    for (key, workload) in &state.workloads {
        let number = keys.get(key).copied().unwrap_or_default();
        // While a lease has run out nobody has the address, its home least of all.
        let node = workload.host.map(|host| host.address());
        for address in workload.addresses() {
            let groups = bits.set(&workload.groups);
            match node {
                Some(node) => _ = view.places.insert(address, Place { node, workload: number, groups }),
                None => _ = view.vacant.insert(address),
            }
        }
    }
    view
}
