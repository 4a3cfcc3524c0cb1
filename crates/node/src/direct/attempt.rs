//! What came of looking for a direct path to a peer, so that people can be told. Nothing here decides.

use std::net::SocketAddr;
use std::time::Duration;

use sinew_types::{Instant, NodeId};
use sinew_wire::punch::Mapping;

use crate::node::Node;

/// What a round of looking for a direct path comes to (protocol A10.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The peer was called.
    Called,
    /// It has not answered the call.
    NoReply,
    /// It would rather not.
    Declined,
    /// This node has no UDP address to tell it.
    NoAddress,
    /// Nothing that it told may be knocked at (protocol A10.4).
    NothingFit,
    /// Knocks are under way.
    Knocking,
    /// No knock was answered.
    Unanswered,
    /// A direct path was found.
    Found,
}

/// The last round with a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// What came of it.
    pub outcome: Outcome,
    /// When it began, or its path was found.
    pub at: Instant,
    /// How the peer's translator maps, by its own word.
    pub theirs: Mapping,
    /// Where was knocked.
    pub knocked: Vec<SocketAddr>,
}

/// What is known of a direct path to a peer that data reaches over relays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meeting {
    /// Whether direct paths are looked for here.
    pub enabled: bool,
    /// How our own translator maps IPv4.
    pub own: Mapping,
    /// The last round; `None`: the two have not talked enough for one.
    pub last: Option<Attempt>,
    /// Ports are opened or tried at random for it now (protocol A10.8).
    pub scattered: bool,
    /// A direct path stands, and the way over relays is the nearer (protocol A10.5).
    pub relays_nearer: bool,
    /// Until another round may begin.
    pub next: Option<Duration>,
}

impl Attempt {
    pub(super) const fn new(outcome: Outcome, now: Instant) -> Self {
        Self { outcome, at: now, theirs: Mapping::Unknown, knocked: Vec::new() }
    }

    /// The round has ended without a path.
    pub(super) fn end(&mut self) {
        self.outcome = match self.outcome {
            Outcome::Called => Outcome::NoReply,
            Outcome::Knocking => Outcome::Unanswered,
            other => other,
        };
    }
}

impl Node {
    /// What came of looking for a direct path to `peer`.
    pub fn meeting(&self, peer: &NodeId, now: Instant) -> Meeting {
        let pair = self.direct.pairs.get(peer);
        let apart = self.links.get(peer);
        Meeting {
            enabled: self.direct.enabled,
            own: self.direct.mapping(false),
            last: pair.and_then(|pair| pair.attempt.clone()),
            scattered: self.direct.scatter.is_for(peer),
            relays_nearer: apart.is_some_and(|link| !link.info.is_shortcut()),
            next: pair.and_then(|pair| pair.pauses.left(now)),
        }
    }
}
