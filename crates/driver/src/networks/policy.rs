//! A network's policy between the control API and the signed document.

use std::net::IpAddr;

use sinew_control::ApiError;
use sinew_control::api::{
    self, Action, FlowEnd, FlowVerdict, PolicyInForce, PolicyTrace, PolicyVerdicts,
    PolicyWarning, Selector, Service,
};
use sinew_node::overlay::{
    self, Explanation, NetworkStatus, PolicySpec, ProtocolSpec, RuleSpec, SelectorSpec, State, Warning,
};
use sinew_types::{Label, NetworkId, NodeId};

use super::{rfc3339, version};
use crate::networks::refused;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// From the API to the document.
pub(super) fn spec(state: &State, policy: &api::Policy) -> Result<PolicySpec, ApiError> {
    let rules = policy.rules.iter().map(|rule| rule_spec(state, rule)).collect::<Result<_, _>>()?;
    Ok(PolicySpec { default_allow: policy.default == Action::Allow, rules })
}

fn rule_spec(state: &State, rule: &api::Rule) -> Result<RuleSpec, ApiError> {
    let list = |list: &[Selector]| list.iter().map(|one| selector_spec(state, one)).collect::<Result<_, _>>();
    let protocol = match rule.services.first() {
        None | Some(Service::Any) => ProtocolSpec::Any,
        Some(Service::Protocol { number: ICMP, .. }) => ProtocolSpec::Icmp,
        Some(Service::Protocol { number: TCP, .. }) => ProtocolSpec::Tcp,
        Some(Service::Protocol { number: UDP, .. }) => ProtocolSpec::Udp,
        Some(&Service::Protocol { number, .. }) => ProtocolSpec::Number(number),
    };
    // Without ports one of them means all, and so do all together.
    let ports: Option<Vec<_>> = rule.services.iter().map(ports).collect();
    Ok(RuleSpec {
        from: list(&rule.from)?,
        to: list(&rule.to)?,
        protocol,
        ports: ports.unwrap_or_default(),
        allow: rule.action == Action::Allow,
    })
}

fn ports(service: &Service) -> Option<(u16, u16)> {
    match service {
        Service::Any => None,
        Service::Protocol { ports, .. } => *ports,
    }
}

fn selector_spec(state: &State, selector: &Selector) -> Result<SelectorSpec, ApiError> {
    let label = |text: &str| {
        let wrong = |_| ApiError::invalid(format!("`{text}` is no name"), "1 to 63 of a-z, 0-9 and hyphens");
        Label::parse(text).map_err(wrong)
    };
    Ok(match selector {
        Selector::Any => SelectorSpec::Any,
        Selector::Group(name) => SelectorSpec::Group(label(name)?),
        Selector::Workload(name) => SelectorSpec::Workload(label(name)?),
        Selector::Member(text) => SelectorSpec::Member(*member(state, text)?.as_bytes()),
    })
}

/// A member by its id, the unique beginning of one, or its name.
pub(super) fn member(state: &State, text: &str) -> Result<NodeId, ApiError> {
    let network = state.name.as_ref().map_or("this network", Label::as_str);
    if let Ok(node) = text.parse::<NodeId>() {
        return Ok(node);
    }
    let fits = |member: &&overlay::Member| {
        member.name.as_ref().is_some_and(|name| name.as_str() == text)
            || member.node.to_string().starts_with(text)
    };
    let mut found = state.members.values().filter(fits);
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one.node),
        (None, _) => Err(ApiError::unknown_member(network, text)),
        (Some(_), Some(_)) => {
            Err(ApiError::invalid(format!("`{text}` fits several members"), "write more of the node id"))
        }
    }
}

/// The policy in force.
pub(super) fn in_force(network: &NetworkId, state: &State) -> PolicyInForce {
    let default = PolicySpec::default();
    let spec = state.policy.as_ref().map_or(&default, |(_, spec)| spec);
    let signed = state.policy.as_ref().map(|(signed, _)| signed);
    PolicyInForce {
        network: network.to_string(),
        policy: api::Policy { default: action(spec.default_allow), rules: spec.rules.iter().map(rule).collect() },
        author: signed.map(|signed| signed.author.to_string()),
        issued: signed.map(|signed| rfc3339(signed.document.issued)),
    }
}

pub(super) const fn action(allow: bool) -> Action {
    if allow { Action::Allow } else { Action::Deny }
}

fn rule(spec: &RuleSpec) -> api::Rule {
    let number = match spec.protocol {
        ProtocolSpec::Any => None,
        ProtocolSpec::Icmp => Some(ICMP),
        ProtocolSpec::Tcp => Some(TCP),
        ProtocolSpec::Udp => Some(UDP),
        ProtocolSpec::Number(number) => Some(number),
    };
    let services = match number {
        None => vec![Service::Any],
        Some(number) if spec.ports.is_empty() => vec![Service::Protocol { number, ports: None }],
        Some(number) => {
            spec.ports.iter().map(|&ports| Service::Protocol { number, ports: Some(ports) }).collect()
        }
    };
    let list = |list: &[SelectorSpec]| list.iter().map(selector).collect();
    api::Rule { from: list(&spec.from), to: list(&spec.to), action: action(spec.allow), services }
}

fn selector(spec: &SelectorSpec) -> Selector {
    match spec {
        SelectorSpec::Any => Selector::Any,
        SelectorSpec::Group(name) => Selector::Group(name.to_string()),
        SelectorSpec::Workload(name) => Selector::Workload(name.to_string()),
        SelectorSpec::Member(node) => {
            Selector::Member(NodeId::parse(node).map_or_else(|_| "?".to_owned(), |node| node.to_string()))
        }
    }
}

/// What becomes of flows, by the policy in force or another.
pub(super) fn trace(
    status: &NetworkStatus,
    state: &State,
    query: &PolicyTrace,
) -> Result<PolicyVerdicts, ApiError> {
    let other = query.policy.as_ref().map(|policy| spec(state, policy)).transpose()?;
    let in_force = state.policy.as_ref().map(|(_, spec)| spec);
    let default = PolicySpec::default();
    let judged = other.as_ref().or(in_force).unwrap_or(&default);
    let warnings = overlay::check(judged, Some(state)).map_err(|error| refused(&error))?;
    let verdicts = query.flows.iter().map(|flow| verdict(status, state, other.as_ref(), flow));
    Ok(PolicyVerdicts {
        verdicts: verdicts.collect::<Result<_, _>>()?,
        warnings: warnings.iter().map(warning).collect(),
    })
}

fn verdict(
    status: &NetworkStatus,
    state: &State,
    other: Option<&PolicySpec>,
    flow: &api::Flow,
) -> Result<FlowVerdict, ApiError> {
    let (from, to) = (end(state, &flow.from)?, end(state, &flow.to)?);
    let asked = (flow.protocol, flow.port);
    let found: Explanation =
        overlay::explain((&status.id, &status.name), state, other, (&from, &to), asked)
            .map_err(|error| refused(&error))?;
    let port = flow.port.map(|port| (port, port));
    let side = |node: NodeId, side: &str| FlowEnd {
        node_id: node.to_string(),
        side: side.to_owned(),
        allowed: found.allow,
        version: status.members.iter().find(|m| m.node == node).and_then(|m| m.head).map(version),
    };
    Ok(FlowVerdict {
        from: flow.from.clone(),
        to: flow.to.clone(),
        service: Service::Protocol { number: flow.protocol, ports: port },
        allowed: found.allow,
        rule: found.rule.and_then(|rule| u32::try_from(rule).ok()),
        why: found.text.clone(),
        ends: vec![side(found.from.node, "from"), side(found.to.node, "to")],
    })
}

/// An end of a flow as the documents name it: a workload, an address or a member's key. Selectors
/// that stand for many are answered by the first they fit.
fn end(state: &State, text: &str) -> Result<String, ApiError> {
    if text.parse::<IpAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    let Some((kind, name)) = text.split_once(':') else { return Ok(text.to_owned()) };
    let missing = || ApiError::unknown_name(text);
    match kind {
        "workload" => Ok(name.to_owned()),
        "member" => member(state, name).map(|node| node.to_string()),
        "group" => {
            let has = |groups: &[Label]| groups.iter().any(|group| group.as_str() == name);
            let workload = state.workloads.values().find(|workload| has(&workload.groups));
            let node = state.members.values().find(|member| member.is_valid() && has(&member.groups));
            workload
                .map(|workload| IpAddr::V6(workload.ipv6).to_string())
                .or_else(|| node.map(|node| node.node.to_string()))
                .ok_or_else(missing)
        }
        _ => Err(missing()),
    }
}

fn warning(warning: &Warning) -> PolicyWarning {
    let rule = match warning {
        Warning::NoSuchGroup { rule, .. }
        | Warning::NoSuchWorkload { rule, .. }
        | Warning::NoSuchMember { rule, .. }
        | Warning::NeverReached { rule, .. } => *rule,
    };
    PolicyWarning { rule: u32::try_from(rule).unwrap_or(u32::MAX), text: warning.to_string() }
}

