//! What the documents say, as names: workloads by network, members by the names they were given.

use std::collections::BTreeSet;
use std::sync::Arc;

use sinew_dns::{BadName, Host, NetworkZone, Prefix, Service, Zones};
use sinew_node::Node;
use sinew_node::overlay::Workload;
use sinew_types::{NetworkId, NodeId};

use super::ids_of;

/// Keys of this node's networks.
pub(crate) fn ids(node: &Node) -> Vec<[u8; 32]> {
    ids_of(node).iter().map(|id| *id.key().as_bytes()).collect()
}

/// All names that this node knows, and what could not be one: others sign these names, and one that
/// has no form must not take the rest with it.
pub(crate) struct Named {
    pub(crate) zones: Zones,
    /// One line for each that was left out.
    pub(crate) skipped: BTreeSet<String>,
}

/// Collects what the documents say.
///
/// # Errors
/// [`BadName`]: `domain` is none.
pub(crate) fn zones(node: &Node, domain: &str) -> Result<Named, BadName> {
    let mut named = Named { zones: Zones::new(domain)?, skipped: BTreeSet::new() };
    for id in ids_of(node) {
        let Ok(state) = node.overlay().state(&id) else { continue };
        let name = node.overlay().name(&id).map(|name| name.to_string()).unwrap_or_default();
        let v4 = state.plan.range().map(|range| Prefix { address: range.first.into(), length: range.len });
        let v6 = Prefix { address: state.plan.prefix().into(), length: 48 };
        let hosts = state.workloads.values().filter(|workload| workload.owns_name);
        let hosts = hosts.map(|workload| (workload.name.as_str(), host(workload)));
        named.add_network(&id, &name, v4.into_iter().chain([v6]).collect(), hosts);
        for member in state.members.values().filter(|member| member.is_valid()) {
            if let Some(name) = &member.name {
                named.add_node(member.node, name.as_str());
            }
        }
    }
    Ok(named)
}

impl Named {
    fn add_network<'a>(
        &mut self,
        id: &NetworkId,
        name: &str,
        ranges: Vec<Prefix>,
        hosts: impl Iterator<Item = (&'a str, Host)>,
    ) {
        let key = *id.key().as_bytes();
        let zone = NetworkZone::new(key, name, ranges.clone()).or_else(|error| {
            self.skip(format!("network {}: {error}; its names stand under its key only", id.short()));
            NetworkZone::new(key, &id.to_string(), ranges)
        });
        let mut zone = match zone {
            Ok(zone) => zone,
            Err(error) => return self.skip(format!("network {}: {error}", id.short())),
        };
        for (workload, host) in hosts {
            if let Err(error) = zone.add(workload, host) {
                self.skip(format!("workload in network {name}: {error}"));
            }
        }
        self.zones.insert(Arc::new(zone));
    }

    fn add_node(&mut self, node: NodeId, name: &str) {
        if let Err(error) = self.zones.add_node(node, name) {
            self.skip(format!("node {}: {error}; it is found by its key", node.short()));
        }
    }

    fn skip(&mut self, line: String) {
        self.skipped.insert(line);
    }
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

#[cfg(test)]
mod tests {
    use sinew_dns::Scope;
    use sinew_types::Identity;

    use super::*;

    fn network(seed: u8) -> NetworkId {
        NetworkId::new(Identity::from_seed([seed; 32]).node_id())
    }

    fn at(last: u8) -> Host {
        Host { addresses: vec![[10, 20, 1, last].into()], ..Host::default() }
    }

    fn empty() -> Named {
        Named { zones: Zones::new("sinew.internal").unwrap(), skipped: BTreeSet::new() }
    }

    #[test]
    fn a_name_without_form_is_left_out_and_takes_no_other_with_it() {
        let mut named = empty();
        named.add_network(&network(1), "id", vec![], [("db", at(2))].into_iter());
        let hosts = [("web", at(3)), ("not a label", at(4)), ("cache", at(5))];
        named.add_network(&network(2), "shop", vec![], hosts.into_iter());
        named.add_node(network(3).key(), "under_score");
        named.add_node(network(4).key(), "alice");

        let scope = Scope::host([1, 2].map(|seed| *network(seed).key().as_bytes()).to_vec());
        let names: BTreeSet<_> = named.zones.records(&scope).into_iter().map(|record| record.name).collect();
        let has = |name: &str| names.contains(&format!("{name}.sinew.internal"));
        assert!(has("web.shop") && has("cache.shop") && has("alice.node"), "{names:?}");
        assert!(has(&format!("db.{}", network(1))), "{names:?}");
        assert!(!names.iter().any(|name| name.contains("label") || name.contains("under")), "{names:?}");

        let told: Vec<_> = named.skipped.iter().map(String::as_str).collect();
        assert_eq!(told.len(), 3, "{told:?}");
        for what in ["`id` cannot be a name", "`not a label` cannot", "`under_score` cannot"] {
            assert!(told.iter().any(|line| line.contains(what)), "{what}: {told:?}");
        }
    }
}
