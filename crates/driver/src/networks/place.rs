//! Workloads in the documents: where one is placed, what its key has signed, whether it counts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sinew_control::ApiError;
use sinew_control::api::{
    AttachNetwork, AttachRequest, AttachService, Hex, LeaseQuery, LeaseTerms, WorkloadState,
};
use sinew_node::Node;
use sinew_node::overlay::{self, NetworkStatus, Refusal, Service, Workload, WorkloadSpec};
use sinew_types::{Instant, Label, NetworkId, NodeId};

use super::{change, find, labels, refused, rfc3339};
use crate::workloads::{InterfaceRecord, Record};

/// How long a lease runs: whoever cannot hear that a workload has moved follows the old host so
/// long (protocol A7.9: at most 600).
const LEASE_SECONDS: u64 = 120;

/// A workload's place in a network.
pub(crate) struct Placed {
    pub(crate) network: NetworkId,
    /// What this node calls the network.
    pub(crate) name: String,
    pub(crate) ipv4: Option<Ipv4Addr>,
    pub(crate) ipv6: Ipv6Addr,
    pub(crate) gateway_ipv4: Option<Ipv4Addr>,
    pub(crate) gateway_ipv6: Ipv6Addr,
    pub(crate) routes: Vec<(IpAddr, u8)>,
}

fn label(text: &str) -> Result<Label, ApiError> {
    Label::parse(text).map_err(|reason| refused(&Refusal::BadName { text: text.to_owned(), reason }))
}

fn service(asked: &AttachService) -> Result<Service, ApiError> {
    Ok(Service { name: label(&asked.name)?, protocol: asked.protocol.number(), port: asked.port })
}

/// Takes a place in a network for the workload of `request`.
pub(crate) fn place(
    node: &mut Node,
    request: &AttachRequest,
    wish: &AttachNetwork,
    now: Instant,
) -> Result<Placed, ApiError> {
    let network = find(node, &wish.network)?;
    let key = request.key.as_deref().map(str::parse::<NodeId>).transpose();
    let key = key.map_err(|error| ApiError::invalid(format!("key: {error}"), "a node id"))?;
    let name = node.overlay().name(&network).map(|name| name.to_string()).unwrap_or_default();
    let placed = match key {
        Some(key) if moves_here(node, &network, &key) => host(node, network, &key, request, now)?,
        _ => {
            let groups = labels(&request.groups)?;
            let spec = WorkloadSpec {
                name: label(&request.name)?,
                ipv4: wish.ipv4,
                groups: Some(groups).filter(|groups| !groups.is_empty()),
                services: request.services.iter().map(service).collect::<Result<_, _>>()?,
                key,
            };
            let placed = change(node, now, |overlay| overlay.place(network, spec, now))?;
            take(node, network, &request.leases, now)?;
            placed
        }
    };
    let (gateway_ipv4, gateway_ipv6) = placed.resolver;
    let (ipv4, ipv6, routes) = (placed.ipv4, placed.ipv6, placed.routes);
    Ok(Placed { network, name, ipv4, ipv6, gateway_ipv4, gateway_ipv6, routes })
}

/// Whether a workload with this key has its home on another member.
fn moves_here(node: &Node, network: &NetworkId, key: &NodeId) -> bool {
    let own = node.overlay().own();
    let Ok(state) = node.overlay().state(network) else { return false };
    let known = state.workloads.values().find(|known| known.keyed && known.subject == *key.as_bytes());
    known.is_some_and(|known| known.home != own)
}

/// Takes a workload from elsewhere in, with the addresses it has.
fn host(
    node: &mut Node,
    network: NetworkId,
    key: &NodeId,
    request: &AttachRequest,
    now: Instant,
) -> Result<overlay::Placed, ApiError> {
    take(node, network, &request.leases, now)?;
    change(node, now, |overlay| overlay.hosted(&network, key))
}

/// Takes the leases of a network among several.
fn take(node: &mut Node, network: NetworkId, leases: &[Hex], now: Instant) -> Result<(), ApiError> {
    for lease in leases {
        if is_of(&lease.0, &network) {
            change(node, now, |overlay| overlay.attach_lease(network, lease.0.clone(), now))?;
        }
    }
    Ok(())
}

/// Whether a document is of this network.
fn is_of(document: &[u8], network: &NetworkId) -> bool {
    overlay::network_of(document).is_some_and(|of| of == *network.as_bytes())
}

/// Gives a place back. One that is gone already is as good. A workload with a key of its own keeps
/// its place for wherever it goes on, until it is revoked.
pub(crate) fn give_back(node: &mut Node, network: &NetworkId, workload: &str, keyed: bool, now: Instant) {
    if !keyed && let Ok(name) = Label::parse(workload) {
        // The network may be gone with all its places.
        let _ = node.with_overlay(now, |overlay, now| overlay.remove(*network, &name, now));
    }
}

/// Gives back the places of workloads that no record tells of: a daemon that is killed while it attaches has
/// told the network of the place, and its caller nothing.
pub(crate) fn give_back_forgotten(node: &mut Node, records: &[Record], now: Instant) {
    let known = |network: &NetworkId, name: &Label| {
        let here = |record: &Record| record.interfaces.iter().any(|one| one.network_id() == Some(*network));
        records.iter().any(|record| record.name == name.as_str() && here(record))
    };
    for network in node.overlay().ids() {
        let places = node.overlay().kept_places(&network);
        for name in places.into_iter().filter(|name| !known(&network, name)) {
            give_back(node, &network, name.as_str(), false, now);
        }
    }
}

/// What a workload's key has to sign so that this node may carry it, with this node's consent.
pub(crate) fn lease_terms(node: &mut Node, query: &LeaseQuery, now: Instant) -> Result<LeaseTerms, ApiError> {
    let network = find(node, &query.network)?;
    let key: NodeId =
        query.key.parse().map_err(|error| ApiError::invalid(format!("key: {error}"), "a node id"))?;
    let (lease, consent) =
        change(node, now, |overlay| overlay.offer_lease(&network, &key, LEASE_SECONDS, now))?;
    Ok(LeaseTerms {
        network: network.to_string(),
        key: query.key.clone(),
        host: node.overlay().own().to_string(),
        generation: lease.generation,
        seq: lease.seq,
        issued: lease.issued,
        expires: lease.expires,
        consent: Hex(consent.to_vec()),
    })
}

/// Takes leases that a workload's key has signed; until when the first of them runs, RFC 3339.
pub(crate) fn take_leases(
    node: &mut Node,
    interfaces: &[InterfaceRecord],
    leases: &[Hex],
    now: Instant,
) -> Result<String, ApiError> {
    let mut first = None;
    for interface in interfaces {
        let Some(network) = interface.network_id() else { continue };
        take(node, network, leases, now)?;
        let until = of(node, interface).and_then(|workload| workload.lease);
        first = match (first, until) {
            (Some(a), Some(b)) => Some(u64::min(a, b)),
            (a, b) => a.or(b),
        };
    }
    first.map(rfc3339).ok_or_else(|| ApiError::refused("none of the leases is for a workload of this node"))
}

/// The workload that has an interface's address.
fn of<'a>(node: &'a Node, interface: &InterfaceRecord) -> Option<&'a Workload> {
    let state = node.overlay().state(&interface.network_id()?).ok()?;
    state.at_address(&IpAddr::V6(interface.ipv6))
}

/// Until when a workload's lease runs, RFC 3339.
pub(crate) fn lease_until(node: &Node, interface: &InterfaceRecord) -> Option<String> {
    of(node, interface)?.lease.map(rfc3339)
}

/// Whether packets of an interface pass.
pub(crate) fn state_of(
    node: &Node,
    networks: &[NetworkStatus],
    interface: &InterfaceRecord,
) -> WorkloadState {
    let id = interface.network_id();
    let open = networks.iter().any(|network| Some(network.id) == id && network.open);
    match of(node, interface) {
        Some(workload) if open => match workload.host {
            Some(host) if host == node.overlay().own() => WorkloadState::Up,
            _ => WorkloadState::Moved,
        },
        _ => WorkloadState::Waiting,
    }
}
