//! The rules that keep routing loop-free and alive, by name.
//!
//! In production every rule holds and the questions below compile to nothing. Tests take one
//! rule out at a time and demand that the checkers notice (routing-model §4): a rule whose loss
//! nobody notices is not tested.

/// A rule of routing-model §2 that can be taken out in tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Equal is not better: `metric <= fd` loops.
    StrictFeasibility,
    /// Eviction keeps the feasibility distance until everyone told has confirmed (routing §4.4 rule 4).
    Tombstone,
    /// What a neighbour confirms is a position in the stream, never a flag.
    AckIsPosition,
    /// A new incarnation of an adjacency starts from nothing (D1).
    FreshIncarnation,
    /// A request from a neighbour is void once it has a route or is our next hop (D4).
    CancelWants,
    /// Relays repeat pending requests (D4).
    RelaysRepeat,
    /// A shorter infeasible route is asked for (D5).
    AskForBetter,
    /// An unreachable origin is forgotten only after silence (D7).
    SilenceBeforeForgetting,
}

/// Which rules hold: all of them, outside tests.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    #[cfg(test)]
    pub(crate) without: Option<Rule>,
}

impl Rules {
    #[cfg(test)]
    pub(crate) fn hold(self, rule: Rule) -> bool {
        self.without != Some(rule)
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "only tests take rules out")]
    pub(crate) const fn hold(self, _: Rule) -> bool {
        true
    }
}
