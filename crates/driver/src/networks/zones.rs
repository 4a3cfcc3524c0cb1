//! What the documents say, as names: workloads by network, members by the names they were given.

use std::sync::Arc;

use sinew_dns::{BadName, Host, NetworkZone, Prefix, Service, Zones};
use sinew_node::Node;
use sinew_node::overlay::{State, Workload};
use sinew_types::NetworkId;

use super::ids_of;

/// Keys of this node's networks.
pub(crate) fn ids(node: &Node) -> Vec<[u8; 32]> {
    ids_of(node).iter().map(|id| *id.key().as_bytes()).collect()
}

/// All names that this node knows.
pub(crate) fn zones(node: &Node, domain: &str) -> Result<Zones, BadName> {
    let mut zones = Zones::new(domain)?;
    for id in ids_of(node) {
        let Ok(state) = node.overlay().state(&id) else { continue };
        let name = node.overlay().name(&id).map(|name| name.to_string()).unwrap_or_default();
        zones.insert(Arc::new(zone(&id, &name, state)?));
        for member in state.members.values().filter(|member| member.is_valid()) {
            if let Some(name) = &member.name {
                zones.add_node(member.node, name.as_str())?;
            }
        }
    }
    Ok(zones)
}

fn zone(id: &NetworkId, name: &str, state: &State) -> Result<NetworkZone, BadName> {
    let v4 = state.plan.range().map(|range| Prefix { address: range.first.into(), length: range.len });
    let v6 = Prefix { address: state.plan.prefix().into(), length: 48 };
    let ranges = v4.into_iter().chain([v6]).collect();
    let mut zone = NetworkZone::new(*id.key().as_bytes(), name, ranges)?;
    for workload in state.workloads.values().filter(|workload| workload.owns_name) {
        zone.add(workload.name.as_str(), host(workload))?;
    }
    Ok(zone)
}

fn host(workload: &Workload) -> Host {
    let services = workload.services.iter().map(|service| Service {
        service: service.name.to_string(),
        protocol: if service.protocol == 17 { "udp" } else { "tcp" }.to_owned(),
        port: service.port,
        priority: 0,
        weight: 0,
    });
    Host { addresses: workload.addresses().collect(), services: services.collect(), node: workload.host }
}
