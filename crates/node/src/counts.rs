//! What the control side has done so far, for whoever watches the node: routes that changed, handshakes
//! by how they ended, routing messages by type. Nothing here is touched for a packet.

use sinew_routing::Counts as Messages;
use sinew_session::AttemptFailure;

use crate::node::Node;

/// How an attempt to agree on keys ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeResult {
    /// Two nodes that shared nothing share keys now.
    New,
    /// The keys of a session were renewed.
    Renewed,
    /// Nothing came back.
    NoAnswer,
    /// The peer is there, but the path carries less than a link needs.
    TooNarrow,
    /// The target is no place to send to.
    BadTarget,
    /// The peer speaks no version or cipher of ours.
    Incompatible,
    /// The target is this node itself.
    OwnIdentity,
    /// A bounded table had no room.
    TableFull,
    /// The connection was closed.
    PathClosed,
}

impl HandshakeResult {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 9] = [
        Self::New,
        Self::Renewed,
        Self::NoAnswer,
        Self::TooNarrow,
        Self::BadTarget,
        Self::Incompatible,
        Self::OwnIdentity,
        Self::TableFull,
        Self::PathClosed,
    ];

    /// The stable word for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Renewed => "renewed",
            Self::NoAnswer => "no_answer",
            Self::TooNarrow => "too_narrow",
            Self::BadTarget => "bad_target",
            Self::Incompatible => "incompatible",
            Self::OwnIdentity => "own_identity",
            Self::TableFull => "table_full",
            Self::PathClosed => "path_closed",
        }
    }
}

impl From<AttemptFailure> for HandshakeResult {
    fn from(failure: AttemptFailure) -> Self {
        match failure {
            AttemptFailure::NoAnswer => Self::NoAnswer,
            AttemptFailure::TooNarrow => Self::TooNarrow,
            AttemptFailure::BadTarget => Self::BadTarget,
            AttemptFailure::Incompatible => Self::Incompatible,
            AttemptFailure::OwnIdentity => Self::OwnIdentity,
            AttemptFailure::TableFull => Self::TableFull,
            AttemptFailure::PathClosed => Self::PathClosed,
        }
    }
}

/// One counter for each [`HandshakeResult`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handshakes([u64; HandshakeResult::ALL.len()]);

impl Handshakes {
    /// How many ended so.
    pub const fn get(&self, result: HandshakeResult) -> u64 {
        self.0[result as usize]
    }

    /// Counts one.
    pub fn count(&mut self, result: HandshakeResult) {
        self.0[result as usize] += 1;
    }
}

/// What the node keeps.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) handshakes: Handshakes,
    /// Times that a destination got another next hop, its first, or none.
    pub(crate) route_changes: u64,
}

/// A copy of all counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Attempts to agree on keys, of either side.
    pub handshakes: Handshakes,
    /// Times that a destination got another next hop, its first, or none.
    pub route_changes: u64,
    /// Routing messages sent, by type.
    pub sent: Messages,
    /// Routing messages received.
    pub received: Messages,
}

impl Node {
    /// What the control side has done since the start.
    pub fn counts(&self) -> Counts {
        let stats = self.router.stats();
        Counts {
            handshakes: self.tally.handshakes,
            route_changes: self.tally.route_changes,
            sent: stats.sent,
            received: stats.received,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_end_of_a_handshake_has_its_own_word_and_counter() {
        let words: BTreeSet<_> = HandshakeResult::ALL.iter().map(|result| result.as_str()).collect();
        assert_eq!(words.len(), HandshakeResult::ALL.len());
        let mut handshakes = Handshakes::default();
        HandshakeResult::ALL.iter().for_each(|result| handshakes.count(*result));
        assert_eq!(handshakes.0, [1; HandshakeResult::ALL.len()]);
    }
}
