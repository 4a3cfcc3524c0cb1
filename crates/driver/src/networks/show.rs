//! Networks as the control API shows them.

use sinew_control::ApiError;
use sinew_control::api::{
    Health, Member, Network, NetworkState, NetworkSummary, NetworkWorkload, Networks, PolicyInForce,
    PolicySummary, PolicyTrace, PolicyVerdicts, Role, Severity,
};
use sinew_node::Node;
use sinew_node::overlay::{Fault, Health as Standing, MemberStatus, Standing as Membership, NetworkStatus, WorkloadStatus};
use sinew_platform::clock;
use sinew_types::{NetworkId, NodeId};

use super::{find, policy as rules, refused, rfc3339, version};

/// All networks of this node, by name.
pub(super) fn list(node: &Node) -> Networks {
    let mut networks: Vec<_> = node.overlay().networks().iter().map(line).collect();
    networks.sort_by(|a, b| a.name.cmp(&b.name));
    Networks { networks }
}

fn status(node: &Node, id: &NetworkId) -> Result<NetworkStatus, ApiError> {
    let found = node.overlay().networks().into_iter().find(|network| network.id == *id);
    found.ok_or_else(|| ApiError::unknown_network(&id.to_string()))
}

/// One line about a network.
pub(crate) fn summary(node: &Node, id: &NetworkId) -> Result<NetworkSummary, ApiError> {
    status(node, id).map(|status| line(&status))
}

fn line(network: &NetworkStatus) -> NetworkSummary {
    let members = network.members.iter().filter(|member| member.standing == Membership::Valid);
    let (total, up) = members.fold((0, 0), |(all, up), m| (all + 1, up + u64::from(m.bound)));
    NetworkSummary {
        id: network.id.to_string(),
        name: network.name.to_string(),
        role: if network.scopes == 0 { Role::Member } else { Role::Admin },
        state: state(network),
        ipv4: network.range.map(|(first, length, _)| format!("{first}/{length}")),
        ipv6: format!("{}/48", network.prefix),
        version: Some(network.head).filter(|&head| head != (0, 0)).map(version),
        members_total: total,
        members_up: up,
        workloads_total: network.workloads.len() as u64,
        requests: network.pending.len() as u64,
    }
}

pub(super) fn state(network: &NetworkStatus) -> NetworkState {
    match network.health {
        Standing::Joining(_) => NetworkState::Joining,
        Standing::Ready => NetworkState::Ready,
        Standing::Stale(_) => NetworkState::Stale,
        Standing::Out(_) => NetworkState::Revoked,
    }
}

/// All about one network.
pub(super) fn one(node: &Node, id: &NetworkId) -> Result<Network, ApiError> {
    let status = status(node, id)?;
    let own = node.overlay().own();
    let state = node.overlay().state(id).map_err(|refusal| refused(&refusal))?;
    let signed = state.policy.as_ref().map(|(signed, _)| signed);
    let default = status.policy.as_ref().is_none_or(|policy| policy.default_allow);
    let mut workloads: Vec<_> = status.workloads.iter().map(|one| workload(&status, one)).collect();
    workloads.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Network {
        summary: line(&status),
        subnet_ipv4: status.subnet.and_then(|(v4, _)| v4).map(|(first, length)| format!("{first}/{length}")),
        subnet_ipv6: status.subnet.map(|(_, v6)| format!("{v6}/64")),
        version_at: state.head.as_ref().map(|head| rfc3339(head.issued)),
        documents: status.documents as u64,
        documents_bytes: status.bytes as u64,
        members: status.members.iter().map(|one| member(&status, one, own)).collect(),
        workloads,
        policy: PolicySummary {
            default: rules::action(default),
            rules: status.policy.as_ref().map_or(0, |policy| policy.rules.len() as u64),
            author: signed.map(|signed| signed.author.to_string()),
            issued: signed.map(|signed| rfc3339(signed.document.issued)),
        },
        health: health(&status),
    })
}

fn member(network: &NetworkStatus, member: &MemberStatus, own: NodeId) -> Member {
    let admin = network.admins.iter().any(|(node, ..)| *node == member.node);
    let drift = member.drift.and_then(|drift| i64::try_from(drift).ok());
    Member {
        node_id: member.node.to_string(),
        address: member.node.address().to_string(),
        name: member.name.as_ref().map(ToString::to_string),
        this: member.node == own,
        role: if admin { Role::Admin } else { Role::Member },
        groups: member.groups.iter().map(ToString::to_string).collect(),
        ipv4: member.ipv4.map(|(first, length)| format!("{first}/{length}")),
        ipv6: Some(format!("{}/64", member.ipv6)),
        up: member.bound,
        version: member.head.map(version),
        drift,
        last_seen: member.bound.then(|| sinew_control::time::rfc3339(clock::unix())),
        expires: Some(member.expires).filter(|&at| at != 0).map(rfc3339),
        workloads: member.workloads as u64,
    }
}

fn workload(network: &NetworkStatus, workload: &WorkloadStatus) -> NetworkWorkload {
    let v4 = workload.ipv4.map(|address| address.to_string());
    let key = workload.key.and_then(|key| NodeId::parse(&key).ok());
    NetworkWorkload {
        name: workload.name.to_string(),
        dns: format!("{}.{}", workload.name, network.name),
        addresses: v4.into_iter().chain([workload.ipv6.to_string()]).collect(),
        node_id: workload.host.unwrap_or(workload.home).to_string(),
        groups: workload.groups.iter().map(ToString::to_string).collect(),
        key: key.map(|key| key.to_string()),
    }
}

fn health(network: &NetworkStatus) -> Vec<Health> {
    let note = |code: &str, severity, text: String, fix: String| Health {
        code: code.to_owned(),
        severity,
        text,
        fix,
    };
    let mut all = Vec::new();
    match &network.health {
        Standing::Ready => {}
        Standing::Joining(why) => {
            all.push(note(why.code(), Severity::Warning, why.to_string(), String::new()));
        }
        Standing::Stale(days) => {
            let text = format!("the newest word of an admin is {days} days old");
            let fix = "see that an admin's node runs and is reachable (`sinew network members`)".to_owned();
            all.push(note("stale", Severity::Warning, text, fix));
        }
        Standing::Out(why) => all.push(note(why.code(), Severity::Error, why.to_string(), String::new())),
    }
    for one in &network.faults {
        let (text, fix) = fault(one);
        all.push(note("fault", Severity::Error, text, fix.to_owned()));
    }
    all
}

/// What an operator has to know, and what to do about it.
pub(super) fn fault(fault: &Fault) -> (String, &'static str) {
    match fault {
        Fault::Equivocation { author, .. } => (
            format!("{author} signed two different documents under one number"),
            "its key may be in two places: revoke it, and admit it again under a new key",
        ),
        Fault::TicketTwice { ticket } => (
            format!("two nodes came by the bearer ticket {ticket}; both are suspended"),
            "`sinew network approve` the right one, `sinew network revoke` the other",
        ),
        Fault::SubnetTwice { node, by } => (
            format!("{node} was given the subnet of {by} and has none"),
            "admit it again on one admin; two admins may share out one range",
        ),
        Fault::NameTwice { name, node, by } => (
            format!("{node} claims the name `{name}`, which {by} has"),
            "rename one of the two workloads",
        ),
        Fault::GrantsOverlap { one, other } => (
            format!("{one} and {other} may share out the same subnets"),
            "`sinew network admin grant` one of them another range",
        ),
        Fault::Surplus { author, refused } => (
            format!("{author} has more documents than it may have; {refused} are refused"),
            "revoke it if it does not stop",
        ),
        Fault::ClockAhead => (
            "this machine's clock is far ahead of the network's owner".to_owned(),
            "set the clock; until then expiry is judged by the owner's newest word",
        ),
    }
}

/// The policy in force.
pub(super) fn policy(node: &Node, network: &str) -> Result<PolicyInForce, ApiError> {
    let id = find(node, network)?;
    let state = node.overlay().state(&id).map_err(|refusal| refused(&refusal))?;
    Ok(rules::in_force(&id, state))
}

/// What becomes of flows.
pub(super) fn trace(node: &Node, query: &PolicyTrace) -> Result<PolicyVerdicts, ApiError> {
    let id = find(node, &query.network)?;
    let state = node.overlay().state(&id).map_err(|refusal| refused(&refusal))?;
    rules::trace(&status(node, &id)?, state, query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_text_and_a_remedy() {
        let node = sinew_types::Identity::from_seed([1; 32]).node_id();
        let faults = [
            Fault::Equivocation { author: node, kind: 1 },
            Fault::TicketTwice { ticket: node },
            Fault::SubnetTwice { node, by: node },
            Fault::GrantsOverlap { one: node, other: node },
            Fault::Surplus { author: node, refused: 3 },
            Fault::ClockAhead,
        ];
        for one in &faults {
            let (text, fix) = fault(one);
            assert!(!text.is_empty() && !fix.is_empty(), "{one:?}");
        }
    }
}
