//! Which association wants to be woken when: one deadline each, ordered.

use std::collections::{BTreeMap, BTreeSet};

use sinew_types::{Instant, NodeId};

/// The earliest deadline of every association, and what it is for.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    order: BTreeSet<(Instant, NodeId)>,
    of: BTreeMap<NodeId, (Instant, &'static str)>,
}

impl Timers {
    /// Replaces the deadline of `peer`; `None` takes it out.
    pub(crate) fn set(&mut self, peer: NodeId, deadline: Option<(Instant, &'static str)>) {
        let old = match deadline {
            Some(new) => self.of.insert(peer, new),
            None => self.of.remove(&peer),
        };
        if old.map(|(at, _)| at) == deadline.map(|(at, _)| at) {
            return;
        }
        if let Some((at, _)) = old {
            self.order.remove(&(at, peer));
        }
        if let Some((at, _)) = deadline {
            self.order.insert((at, peer));
        }
    }

    pub(crate) fn next(&self) -> Option<(Instant, &'static str)> {
        let (_, peer) = self.order.first()?;
        self.of.get(peer).copied()
    }

    /// Every association that is due.
    pub(crate) fn due(&self, now: Instant) -> Vec<NodeId> {
        self.order.iter().take_while(|(at, _)| *at <= now).map(|&(_, peer)| peer).collect()
    }
}

/// The earlier of two deadlines.
pub(crate) fn earlier(
    a: Option<(Instant, &'static str)>,
    b: Option<(Instant, &'static str)>,
) -> Option<(Instant, &'static str)> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.0 < a.0 { b } else { a }),
        (a, b) => a.or(b),
    }
}
