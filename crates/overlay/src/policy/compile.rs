//! From a policy as people wrote it to one that needs no look-up: names become numbers.

use std::collections::BTreeMap;

use sinew_types::{Label, NodeId};

use super::{GroupSet, Policy, PolicySpec, Rule, Selector, SelectorSpec};
use crate::snapshot::WorkloadKey;
use crate::state::State;

/// Most groups that a policy may name: each is a bit.
pub(super) const GROUPS_MAX: usize = 64;

/// Which bit a group is. Groups that no rule names need none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupBits(BTreeMap<Label, u32>);

impl GroupBits {
    pub(super) fn of(spec: &PolicySpec) -> Self {
        let mut names: Vec<&Label> = Vec::new();
        for selector in spec.rules.iter().flat_map(|rule| rule.from.iter().chain(&rule.to)) {
            if let SelectorSpec::Group(name) = selector {
                names.push(name);
            }
        }
        names.sort_unstable();
        names.dedup();
        Self(names.into_iter().cloned().zip(0..).collect())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The bits of these groups.
    pub(crate) fn set(&self, groups: &[Label]) -> GroupSet {
        let bits = groups.iter().filter_map(|group| self.0.get(group));
        bits.fold(GroupSet::NONE, |set, &bit| set.or(GroupSet::one(bit)))
    }
}

/// Whether the policy's groups fit their bits. One whose groups do not must not be in force: a rule that
/// denies a group without a bit would deny nothing.
pub(crate) fn has_room(spec: &PolicySpec) -> bool {
    GroupBits::of(spec).len() <= GROUPS_MAX
}

/// Compiles `spec` for the members and workloads there are. `key` numbers workloads.
pub(crate) fn compile(
    spec: &PolicySpec,
    state: &State,
    key: impl Fn(&(NodeId, [u8; 32])) -> Option<WorkloadKey>,
) -> (Policy, GroupBits) {
    let bits = GroupBits::of(spec);
    let selector = |selector: &SelectorSpec| match selector {
        SelectorSpec::Any => Selector::Any,
        SelectorSpec::Group(name) => match bits.set(std::slice::from_ref(name)) {
            GroupSet::NONE => Selector::Nothing,
            set => Selector::Groups(set),
        },
        SelectorSpec::Workload(name) => {
            state.names.get(name).and_then(&key).map_or(Selector::Nothing, Selector::Workload)
        }
        SelectorSpec::Member(node) => state
            .members
            .keys()
            .find(|own| own.as_bytes() == node)
            .map_or(Selector::Nothing, |node| Selector::Member(node.address())),
    };
    let rules = spec.rules.iter().map(|rule| Rule {
        from: rule.from.iter().map(selector).collect(),
        to: rule.to.iter().map(selector).collect(),
        protocol: rule.protocol,
        ports: rule.ports.clone(),
        allow: rule.allow,
    });
    (Policy::new(rules.collect(), spec.default_allow), bits)
}
