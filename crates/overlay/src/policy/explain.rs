//! Questions about a policy: is it sound, what does it say of one flow, and by which rule.

use std::fmt;
use std::net::IpAddr;

use sinew_types::{Label, NetworkId, NodeId};

use super::compile::has_room;
use super::{Mismatch, PolicySpec, ProtocolSpec, RuleSpec, SelectorSpec};
use crate::document::DOCUMENT_ROOM;
use crate::refusal::Refusal;
use crate::snapshot::{NetworkView, Place};
use crate::state::State;
use crate::view;

/// Most rules of a policy.
const RULES_MAX: usize = 512;

/// Something about a policy that is probably not meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// No member has this group.
    NoSuchGroup {
        /// The rule, from 1.
        rule: usize,
        /// The group.
        group: Label,
    },
    /// No workload has this name.
    NoSuchWorkload {
        /// The rule, from 1.
        rule: usize,
        /// The name.
        workload: Label,
    },
    /// No member is this node.
    NoSuchMember {
        /// The rule, from 1.
        rule: usize,
        /// The node's key.
        node: String,
    },
    /// An earlier rule matches all that this one does.
    NeverReached {
        /// The rule, from 1.
        rule: usize,
        /// The earlier rule, from 1.
        by: usize,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchGroup { rule, group } => write!(f, "rule {rule}: no member is in group `{group}`"),
            Self::NoSuchWorkload { rule, workload } => {
                write!(f, "rule {rule}: no workload is called `{workload}`")
            }
            Self::NoSuchMember { rule, node } => write!(f, "rule {rule}: {node} is no member"),
            Self::NeverReached { rule, by } => {
                write!(f, "rule {rule} is never reached: rule {by} matches all that it does")
            }
        }
    }
}

/// Whether a policy can be signed, and what in it is probably not meant. Without `state` names are not
/// looked up.
///
/// # Errors
/// [`Refusal::BadPolicy`].
pub fn check(spec: &PolicySpec, state: Option<&State>) -> Result<Vec<Warning>, Refusal> {
    let bad = |rule, reason: &str| Err(Refusal::BadPolicy { rule, reason: reason.to_owned() });
    if spec.rules.len() > RULES_MAX {
        return bad(RULES_MAX + 1, "a policy has at most 512 rules");
    }
    for (rule, number) in spec.rules.iter().zip(1..) {
        if !rule.is_sound() {
            return bad(number, "`from` and `to` need 1 to 64 entries each, ports at most 64 ranges");
        }
        if !rule.ports.is_empty() && !matches!(rule.protocol, ProtocolSpec::Tcp | ProtocolSpec::Udp) {
            return bad(number, "ports need `protocol = \"tcp\"` or `\"udp\"`");
        }
    }
    if !has_room(spec) {
        return bad(spec.rules.len(), "a policy names at most 64 groups");
    }
    let body = sinew_wire::document::Body::Policy(spec.clone()).emit();
    if body.len() > DOCUMENT_ROOM {
        return bad(spec.rules.len(), "the policy is longer than a document holds (16 KB)");
    }
    let mut warnings = state.map_or_else(Vec::new, |state| unknown_names(spec, state));
    for (at, rule) in spec.rules.iter().enumerate() {
        if let Some(by) = spec.rules[..at].iter().position(|earlier| covers(earlier, rule)) {
            warnings.push(Warning::NeverReached { rule: at + 1, by: by + 1 });
        }
    }
    Ok(warnings)
}

fn unknown_names(spec: &PolicySpec, state: &State) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for (rule, number) in spec.rules.iter().zip(1..) {
        for selector in rule.from.iter().chain(&rule.to) {
            match selector {
                SelectorSpec::Group(group)
                    if !state.members.values().any(|member| member.groups.contains(group)) =>
                {
                    warnings.push(Warning::NoSuchGroup { rule: number, group: group.clone() });
                }
                SelectorSpec::Workload(name) if !state.names.contains_key(name) => {
                    warnings.push(Warning::NoSuchWorkload { rule: number, workload: name.clone() });
                }
                SelectorSpec::Member(node)
                    if !state.members.keys().any(|member| member.as_bytes() == node) =>
                {
                    let node =
                        NodeId::parse(node).map_or_else(|_| "that".to_owned(), |node| node.to_string());
                    warnings.push(Warning::NoSuchMember { rule: number, node });
                }
                _ => {}
            }
        }
    }
    warnings
}

/// Whether `earlier` matches every flow that `later` does, as far as their texts tell.
fn covers(earlier: &RuleSpec, later: &RuleSpec) -> bool {
    let list = |wide: &[SelectorSpec], narrow: &[SelectorSpec]| {
        wide.contains(&SelectorSpec::Any) || narrow.iter().all(|one| wide.contains(one))
    };
    let protocol = earlier.protocol == ProtocolSpec::Any || earlier.protocol == later.protocol;
    let inside = |&(first, last): &(u16, u16)| earlier.ports.iter().any(|&(a, b)| a <= first && last <= b);
    let ports = earlier.ports.is_empty() || !later.ports.is_empty() && later.ports.iter().all(inside);
    protocol && ports && list(&earlier.from, &later.from) && list(&earlier.to, &later.to)
}

/// One end of a flow that was asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Its address, where it has one.
    pub address: Option<IpAddr>,
    /// The workload's name, if it is one.
    pub workload: Option<Label>,
    /// The node that answers for it.
    pub node: NodeId,
    /// The groups that count for it.
    pub groups: Vec<Label>,
    place: Place,
}

/// What a policy says of a flow, and how it came to that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Whether the flow may be opened.
    pub allow: bool,
    /// The rule that decided, from 1; `None` for the default.
    pub rule: Option<usize>,
    /// That rule in words.
    pub text: String,
    /// Who opens.
    pub from: End,
    /// To whom.
    pub to: End,
    /// For each rule looked at, why it does not match; `None` for the one that does.
    pub steps: Vec<Option<Mismatch>>,
}

/// What the policy in force, or `spec` in its place, says of a flow. Ends are given as an address, a
/// workload's name or a member's key.
///
/// # Errors
/// [`Refusal::UnknownName`].
pub fn explain(
    network: (&NetworkId, &Label),
    state: &State,
    spec: Option<&PolicySpec>,
    (from, to): (&str, &str),
    (protocol, port): (u8, Option<u16>),
) -> Result<Explanation, Refusal> {
    let default = PolicySpec::default();
    let spec = spec.or(state.policy.as_ref().map(|(_, policy)| policy)).unwrap_or(&default);
    let view = view::build(network, 0, state, spec, 0, true);
    let (from, to) = (end(network.1, state, &view, from)?, end(network.1, state, &view, to)?);
    let verdict = view.policy.verdict(&from.place, &to.place, protocol, port);
    let steps = view.policy.steps(&from.place, &to.place, protocol, port);
    let rule = verdict.rule.map(usize::from);
    let text = match rule.and_then(|at| spec.rules.get(at)) {
        Some(rule) => describe(rule),
        None if spec.default_allow => "default: members reach each other".to_owned(),
        None => "default: what no rule allows is denied".to_owned(),
    };
    Ok(Explanation { allow: verdict.allow, rule: rule.map(|at| at + 1), text, from, to, steps })
}

fn end(network: &Label, state: &State, view: &NetworkView, text: &str) -> Result<End, Refusal> {
    let unknown = || Refusal::UnknownName { network: network.clone(), name: text.to_owned() };
    if let Ok(node) = text.parse::<NodeId>() {
        let member = state.member(&node).ok_or_else(unknown)?;
        let place = view.place(&IpAddr::V6(member.subnets.v6)).ok_or_else(unknown)?;
        let groups = member.groups.clone();
        return Ok(End { address: None, workload: None, node, groups, place: *place });
    }
    let address = match text.parse::<IpAddr>() {
        Ok(address) => address,
        Err(_) => {
            let name = Label::parse(text).map_err(|_| unknown())?;
            let workload = state.named(&name).ok_or_else(unknown)?;
            workload.ipv4.map_or(IpAddr::V6(workload.ipv6), IpAddr::V4)
        }
    };
    let place = view.place(&address).ok_or_else(unknown)?;
    let workload = state.at_address(&address);
    let home = state.home_of(&address).ok_or_else(unknown)?;
    Ok(End {
        address: Some(address),
        workload: workload.map(|workload| workload.name.clone()),
        node: workload.and_then(|workload| workload.host).unwrap_or(home.node),
        groups: workload.map_or_else(|| home.groups.clone(), |workload| workload.groups.clone()),
        place: *place,
    })
}

/// A rule in one line.
fn describe(rule: &RuleSpec) -> String {
    let list = |list: &[SelectorSpec]| {
        let words = list.iter().map(|selector| match selector {
            SelectorSpec::Any => "any".to_owned(),
            SelectorSpec::Group(name) => format!("group:{name}"),
            SelectorSpec::Workload(name) => format!("workload:{name}"),
            SelectorSpec::Member(node) => {
                NodeId::parse(node).map_or_else(|_| "member:?".to_owned(), |node| format!("member:{node}"))
            }
        });
        words.collect::<Vec<_>>().join(", ")
    };
    let protocol = match rule.protocol {
        ProtocolSpec::Any => String::new(),
        ProtocolSpec::Icmp => " icmp".to_owned(),
        ProtocolSpec::Tcp => " tcp".to_owned(),
        ProtocolSpec::Udp => " udp".to_owned(),
        ProtocolSpec::Number(number) => format!(" protocol {number}"),
    };
    let ports = rule
        .ports
        .iter()
        .map(|&(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") });
    let ports = ports.collect::<Vec<_>>().join(", ");
    let ports = if ports.is_empty() { ports } else { format!(" {ports}") };
    let word = if rule.allow { "allow" } else { "deny" };
    format!("{word}{protocol}{ports} from {} to {}", list(&rule.from), list(&rule.to))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(from: SelectorSpec, protocol: ProtocolSpec, ports: &[(u16, u16)]) -> RuleSpec {
        let to = vec![SelectorSpec::Any];
        RuleSpec { from: vec![from], to, protocol, ports: ports.to_vec(), allow: true }
    }

    fn group(name: &str) -> SelectorSpec {
        SelectorSpec::Group(Label::parse(name).unwrap())
    }

    #[test]
    fn a_rule_behind_one_that_takes_all_of_it_is_reported() {
        let policy = |rules| PolicySpec { default_allow: false, rules };
        let wide = rule(SelectorSpec::Any, ProtocolSpec::Tcp, &[(80, 90)]);
        let narrow = rule(group("web"), ProtocolSpec::Tcp, &[(80, 80), (85, 90)]);
        let other = rule(group("web"), ProtocolSpec::Udp, &[(80, 80)]);
        let beyond = rule(group("web"), ProtocolSpec::Tcp, &[(80, 91)]);
        let all = check(&policy(vec![wide, narrow, other, beyond]), None).unwrap();
        assert_eq!(all, [Warning::NeverReached { rule: 2, by: 1 }]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_number_of_the_rule() {
        let policy = |rules| PolicySpec { default_allow: false, rules };
        let good = rule(SelectorSpec::Any, ProtocolSpec::Tcp, &[(80, 90)]);
        let backwards = rule(SelectorSpec::Any, ProtocolSpec::Tcp, &[(90, 80)]);
        let icmp_port = rule(SelectorSpec::Any, ProtocolSpec::Icmp, &[(1, 1)]);
        for bad in [backwards, icmp_port] {
            let refusal = check(&policy(vec![good.clone(), bad]), None).unwrap_err();
            assert!(matches!(refusal, Refusal::BadPolicy { rule: 2, .. }), "{refusal}");
        }
        let groups = (0..65).map(|n| rule(group(&format!("g{n}")), ProtocolSpec::Tcp, &[]));
        assert!(check(&policy(groups.collect()), None).is_err());
    }
}
