//! Counters: control bytes by message type, and what was refused.

use sinew_types::Drops;
use sinew_wire::routing::{OriginRecord, RoutingMessage};

/// Bytes of a type and length before each body.
const HEAD: usize = 3;

/// The kinds of messages, as counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// What a neighbour is and wants.
    Hint,
    /// A signed record.
    Origin,
    /// A route.
    Update,
    /// No route any more.
    Retract,
    /// A request for freshness.
    SeqnoRequest,
    /// A request to say it again.
    RouteRequest,
    /// A request for a record.
    RecordRequest,
}

impl MessageKind {
    /// All kinds, in the order of their counters.
    pub const ALL: [Self; 7] = [
        Self::Hint,
        Self::Origin,
        Self::Update,
        Self::Retract,
        Self::SeqnoRequest,
        Self::RouteRequest,
        Self::RecordRequest,
    ];

    /// The stable word for JSON and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hint => "hint",
            Self::Origin => "origin",
            Self::Update => "update",
            Self::Retract => "retract",
            Self::SeqnoRequest => "seqno_request",
            Self::RouteRequest => "route_request",
            Self::RecordRequest => "record_request",
        }
    }
}

/// How many messages of one kind, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Messages.
    pub messages: u64,
    /// Bytes, type and length included.
    pub bytes: u64,
}

/// One counter per kind of message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([Count; MessageKind::ALL.len()]);

impl Counts {
    /// The counter of `kind`.
    pub const fn get(&self, kind: MessageKind) -> Count {
        self.0[kind as usize]
    }

    /// All kinds together.
    pub fn total(&self) -> Count {
        self.0.iter().fold(Count::default(), |sum, one| Count {
            messages: sum.messages + one.messages,
            bytes: sum.bytes + one.bytes,
        })
    }

    pub(crate) fn add(&mut self, message: &RoutingMessage) {
        let (kind, bytes) = measure(message);
        let count = &mut self.0[kind as usize];
        count.messages += 1;
        count.bytes += bytes as u64;
    }
}

/// What a router has done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Messages sent.
    pub sent: Counts,
    /// Messages received.
    pub received: Counts,
    /// Frames sent.
    pub frames_sent: u64,
    /// Frames received.
    pub frames_received: u64,
    /// Chain steps that neighbours made us compute.
    pub hashes: u64,
    /// Signatures that neighbours made us check.
    pub signatures: u64,
    /// Refused messages by reason.
    pub drops: Drops,
}

/// Length of a record's message on the wire.
pub(crate) fn origin_len(record: &OriginRecord) -> usize {
    HEAD + 32 + 6 + 2 + 16 + 2 + 1 + record.locator.len() + 64
}

/// Length of an UPDATE on the wire.
pub(crate) const UPDATE_LEN: usize = HEAD + 16 + 6 + 2 + 16;

fn measure(message: &RoutingMessage) -> (MessageKind, usize) {
    match message {
        RoutingMessage::Hint { .. } => (MessageKind::Hint, HEAD + 7),
        RoutingMessage::Origin(record) => (MessageKind::Origin, origin_len(record)),
        RoutingMessage::Update { .. } => (MessageKind::Update, UPDATE_LEN),
        RoutingMessage::Retract { .. } => (MessageKind::Retract, HEAD + 16),
        RoutingMessage::SeqnoRequest { .. } => (MessageKind::SeqnoRequest, HEAD + 22),
        RoutingMessage::RouteRequest { .. } => (MessageKind::RouteRequest, HEAD + 16),
        RoutingMessage::RecordRequest { .. } => (MessageKind::RecordRequest, HEAD + 16),
    }
}

#[cfg(test)]
mod tests {
    use sinew_types::{Class, Identity, Metric, Seqno};
    use sinew_wire::routing::FrameBuilder;

    use super::*;

    #[test]
    fn counted_lengths_are_those_on_the_wire() {
        let origin = Identity::from_seed([1; 32]).node_id().address();
        let record = OriginRecord {
            node: [1; 32],
            seqno: Seqno::new(7),
            class: Class::Router,
            landmark: false,
            landmark_power: 0,
            anchor: [0; 16],
            expiry_min: 60,
            locator: vec![1, 2, 3],
            signature: [0; 64],
        };
        let seqno = Seqno::new(7);
        for message in [
            RoutingMessage::Hint { floor: 1, class: Class::Stub, k: 1, radius: 1 },
            RoutingMessage::Origin(record),
            RoutingMessage::Update { origin, seqno, metric: Metric::ONE, chain: [0; 16] },
            RoutingMessage::Retract { origin },
            RoutingMessage::SeqnoRequest { origin, seqno },
            RoutingMessage::RouteRequest { origin },
            RoutingMessage::RecordRequest { origin },
        ] {
            let mut out = Vec::new();
            assert!(FrameBuilder::new(&mut out).push(&message));
            assert_eq!(measure(&message).1, out.len(), "{message:?}");
        }
    }
}
