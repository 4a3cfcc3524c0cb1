//! Which flows a network's members may open to each other: an ordered list of rules, the first that
//! matches decides, else the default.
//!
//! [`Policy`] is the compiled form: names are resolved, groups are bits, so that a verdict is a walk
//! over a short list without a lookup. It judges the *opening* of a flow; replies are connection
//! tracking's business. Both ends judge, each from its own snapshot: the sender so that nothing
//! useless travels, the receiver because it trusts nobody.

mod compile;
mod explain;

use sinew_types::MeshAddr;
pub use sinew_wire::document::{PolicySpec, ProtocolSpec, RuleSpec, SelectorSpec};
use sinew_wire::ip::{PROTO_ICMP, PROTO_ICMPV6, PROTO_TCP, PROTO_UDP};

pub(crate) use compile::{compile, has_room};
pub use explain::{End, Explanation, Warning, check, explain};

use crate::snapshot::{Place, WorkloadKey};

/// Groups of a network as bits; a network has at most 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct GroupSet(pub u64);

impl GroupSet {
    /// No group.
    pub const NONE: Self = Self(0);

    /// The set of group number `bit` alone; empty from 64 on.
    pub const fn one(bit: u32) -> Self {
        if bit < 64 { Self(1 << bit) } else { Self(0) }
    }

    /// Whether the sets share a group.
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Groups that are in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Groups that are in either.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Which places one end of a rule means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selector {
    /// Every member's.
    Any,
    /// Those in one of these groups.
    Groups(GroupSet),
    /// One workload.
    Workload(WorkloadKey),
    /// All of one member's.
    Member(MeshAddr),
    /// None: the rule names something that does not exist now.
    Nothing,
}

impl Selector {
    /// Whether `place` is meant.
    pub fn matches(&self, place: &Place) -> bool {
        match *self {
            Self::Any => true,
            Self::Groups(groups) => place.groups.meets(groups),
            // 0 is an address without a workload, which no rule can name.
            Self::Workload(key) => key != 0 && place.workload == key,
            Self::Member(node) => place.node == node,
            Self::Nothing => false,
        }
    }
}

/// Whether protocol `number` is meant by `spec`.
const fn protocol_matches(spec: ProtocolSpec, number: u8) -> bool {
    match spec {
        ProtocolSpec::Any => true,
        ProtocolSpec::Icmp => number == PROTO_ICMP || number == PROTO_ICMPV6,
        ProtocolSpec::Tcp => number == PROTO_TCP,
        ProtocolSpec::Udp => number == PROTO_UDP,
        ProtocolSpec::Number(own) => number == own,
    }
}

/// One rule, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Who opens the flow: any of these.
    pub from: Vec<Selector>,
    /// To whom: any of these.
    pub to: Vec<Selector>,
    /// By which protocol.
    pub protocol: ProtocolSpec,
    /// Destination ports, ranges with both ends; empty means all, and protocols without ports.
    pub ports: Vec<(u16, u16)>,
    /// What it says.
    pub allow: bool,
}

/// The part of a rule that a flow does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mismatch {
    /// Another protocol.
    Protocol,
    /// Not from there.
    From,
    /// Not to there.
    To,
    /// Another port, or none.
    Port,
}

impl Rule {
    /// What does not fit; `None` if the rule matches.
    fn mismatch(&self, from: &Place, to: &Place, protocol: u8, port: Option<u16>) -> Option<Mismatch> {
        let any = |list: &[Selector], place| list.iter().any(|selector| selector.matches(place));
        let within = |port| self.ports.iter().any(|&(first, last)| (first..=last).contains(&port));
        if !protocol_matches(self.protocol, protocol) {
            Some(Mismatch::Protocol)
        } else if !any(&self.from, from) {
            Some(Mismatch::From)
        } else if !any(&self.to, to) {
            Some(Mismatch::To)
        } else if !self.ports.is_empty() && !port.is_some_and(within) {
            Some(Mismatch::Port)
        } else {
            None
        }
    }
}

/// What a policy says of a flow, and by which rule (counted from 0; `None`: the default).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it may be opened.
    pub allow: bool,
    /// The rule that decided.
    pub rule: Option<u16>,
}

/// A network's rules, compiled for one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    rules: Vec<Rule>,
    default_allow: bool,
}

impl Default for Policy {
    /// Members reach each other (the design's default; nobody else has a place at all).
    fn default() -> Self {
        Self { rules: Vec::new(), default_allow: true }
    }
}

impl Policy {
    /// A policy of `rules`, and what holds where none matches.
    pub const fn new(rules: Vec<Rule>, default_allow: bool) -> Self {
        Self { rules, default_allow }
    }

    /// Whether `from` may open a flow of `protocol` to `port` of `to`. `port` is the destination
    /// port, `None` for protocols without ports; such packets match no rule that names ports.
    pub fn verdict(&self, from: &Place, to: &Place, protocol: u8, port: Option<u16>) -> Verdict {
        match self.rules.iter().position(|rule| rule.mismatch(from, to, protocol, port).is_none()) {
            Some(at) => Verdict { allow: self.rules[at].allow, rule: u16::try_from(at).ok() },
            None => Verdict { allow: self.default_allow, rule: None },
        }
    }

    /// The rules in order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Why each rule up to the one that decides does not match; `None` for that one.
    pub(crate) fn steps(
        &self,
        from: &Place,
        to: &Place,
        protocol: u8,
        port: Option<u16>,
    ) -> Vec<Option<Mismatch>> {
        let all = self.rules.iter().map(|rule| rule.mismatch(from, to, protocol, port));
        let mut steps = Vec::new();
        for step in all {
            steps.push(step);
            if step.is_none() {
                break;
            }
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use sinew_types::Identity;

    use super::*;

    fn place(node: u8, workload: WorkloadKey, groups: u64) -> Place {
        let node = Identity::from_seed([node; 32]).node_id().address();
        Place { node, workload, groups: GroupSet(groups) }
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let (a, b) = (place(1, 1, 0b01), place(2, 2, 0b10));
        let rule = |from, to, protocol, ports: &[(u16, u16)], allow| Rule {
            from: vec![from],
            to: vec![to],
            protocol,
            ports: ports.to_vec(),
            allow,
        };
        let policy = Policy::new(
            vec![
                rule(
                    Selector::Groups(GroupSet(1)),
                    Selector::Workload(2),
                    ProtocolSpec::Tcp,
                    &[(80, 81)],
                    true,
                ),
                rule(Selector::Any, Selector::Member(b.node), ProtocolSpec::Udp, &[], false),
                rule(Selector::Any, Selector::Any, ProtocolSpec::Icmp, &[], true),
                rule(Selector::Nothing, Selector::Any, ProtocolSpec::Any, &[], true),
                rule(Selector::Any, Selector::Any, ProtocolSpec::Number(47), &[(1, 2)], true),
            ],
            false,
        );
        for (from, to, protocol, port, allow, by) in [
            (&a, &b, PROTO_TCP, Some(80), true, Some(0)),
            (&a, &b, PROTO_TCP, Some(81), true, Some(0)),
            (&a, &b, PROTO_TCP, Some(82), false, None),
            (&a, &b, PROTO_TCP, None, false, None),
            (&b, &b, PROTO_TCP, Some(80), false, None),
            (&a, &b, PROTO_UDP, Some(80), false, Some(1)),
            (&b, &a, PROTO_UDP, Some(80), false, None),
            (&b, &a, PROTO_ICMP, None, true, Some(2)),
            (&b, &a, PROTO_ICMPV6, None, true, Some(2)),
            (&a, &b, 47, None, false, None),
        ] {
            let verdict = policy.verdict(from, to, protocol, port);
            assert_eq!(verdict, Verdict { allow, rule: by }, "{from:?} {to:?} {protocol} {port:?}");
        }
    }

    #[test]
    fn without_a_policy_members_reach_each_other() {
        let verdict = Policy::default().verdict(&place(1, 0, 0), &place(2, 5, 0), PROTO_TCP, Some(1));
        assert_eq!(verdict, Verdict { allow: true, rule: None });
    }

    #[test]
    fn an_address_without_a_workload_is_none_that_a_rule_names() {
        assert!(!Selector::Workload(0).matches(&place(1, 0, 0)));
    }
}
