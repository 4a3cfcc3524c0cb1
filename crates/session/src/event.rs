//! What goes into the machine and comes out of it, as values.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use sinew_types::{MeshAddr, NodeId, PathAddr};
use sinew_wire::segment::StreamClass;

/// Where a peer is to be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// On the underlay.
    Direct(PathAddr),
    /// At its mesh address, over relays.
    Routed,
}

/// Where a message came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arrival {
    /// Straight from the underlay.
    Direct(PathAddr),
    /// As the body of a ROUTED record.
    Routed {
        /// The header's source: a claim.
        src: MeshAddr,
        /// The neighbour that handed it to us.
        ingress: NodeId,
    },
}

impl Arrival {
    /// Where an answer goes.
    pub(crate) fn target(&self) -> Target {
        match *self {
            Self::Direct(path) => Target::Direct(path),
            Self::Routed { .. } => Target::Routed,
        }
    }
}

/// Where a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum To {
    /// Out on this path.
    Path(PathAddr),
    /// As the body of a ROUTED record to this address.
    Routed(MeshAddr),
}

/// A datagram to send; its bytes are in the buffer given to `poll_transmit`.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// For whom, if known (a cookie is for nobody in particular).
    pub peer: Option<NodeId>,
    /// Whereto.
    pub to: To,
}

/// What the fast path noticed and the machine must decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The first record opened under an epoch ([`Opened::first`](crate::Opened::first)).
    Confirmed {
        /// Our index of the epoch.
        index: u32,
        /// Where the record came from.
        from: Arrival,
    },
    /// A record opened that came from a path which is not validated.
    NewSource {
        /// Our index of the epoch.
        index: u32,
        /// The new source.
        from: PathAddr,
        /// Length of the datagram: what may be sent there is bounded by what came from there.
        bytes: usize,
    },
    /// A worker found no free lane for this peer, or its lane is used up.
    LanesExhausted {
        /// The peer.
        peer: NodeId,
    },
}

/// Names a delivered control message, for [`Sessions::acknowledge`](crate::Sessions::acknowledge).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Receipt {
    pub(crate) peer: NodeId,
    pub(crate) class: StreamClass,
    /// Which incarnation of the stream: streams start anew, receipts do not carry over.
    pub(crate) stream: u64,
    pub(crate) ordinal: u64,
}

/// Why an association ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CloseReason {
    /// [`Sessions::close`](crate::Sessions::close).
    Local,
    /// The last epoch is too old and no successor came.
    Expired,
    /// A control message was not acknowledged for 15 s.
    Unacknowledged,
    /// The new epoch's first records were never answered.
    Unconfirmed,
    /// It had to make room.
    Evicted,
}

/// Why a target was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AttemptFailure {
    /// Nothing came back.
    NoAnswer,
    /// The peer is there, but records of 1,200 bytes do not get through both ways (protocol A4).
    TooNarrow,
    /// The target is no place to send to (a mesh address, port 0).
    BadTarget,
    /// The peer speaks no version or cipher of ours.
    Incompatible,
    /// The node's own identity.
    OwnIdentity,
    /// A bounded table has no room.
    TableFull,
    /// The path was closed.
    PathClosed,
}

impl fmt::Display for AttemptFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoAnswer => "no answer",
            Self::TooNarrow => "carries less than 1,200 bytes a packet",
            Self::BadTarget => "not an address to send to",
            Self::Incompatible => "the peer speaks no version or cipher of this node's",
            Self::OwnIdentity => "this is the node's own key",
            Self::TableFull => "no room for another session",
            Self::PathClosed => "the connection was closed",
        })
    }
}

/// What the machine tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Records can be exchanged with the peer. `fresh`: both sides start from nothing; otherwise the
    /// keys were renewed and everything goes on.
    Up {
        /// The peer.
        peer: NodeId,
        /// Whether this is a new association.
        fresh: bool,
    },
    /// The association is gone.
    Closed {
        /// The peer.
        peer: NodeId,
        /// Why.
        reason: CloseReason,
    },
    /// A control message; to be acknowledged when it was *processed* (protocol A5).
    Message {
        /// From whom.
        peer: NodeId,
        /// On which stream.
        class: StreamClass,
        /// The message.
        bytes: Vec<u8>,
        /// For the acknowledgement.
        receipt: Receipt,
    },
    /// The peer has processed our messages up to this one.
    Processed {
        /// The peer.
        peer: NodeId,
        /// The stream.
        class: StreamClass,
        /// The ordinal that `send` returned.
        ordinal: u64,
    },
    /// Routing may speak with the peer.
    AdjacencyUp {
        /// The neighbour.
        peer: NodeId,
        /// The adjacency's number.
        adj: u8,
        /// The path in use.
        path: PathAddr,
    },
    /// Routing may speak with the peer no more; class 0 is flushed.
    AdjacencyDown {
        /// The neighbour.
        peer: NodeId,
        /// The adjacency's number.
        adj: u8,
    },
    /// A direct path was validated.
    PathUp {
        /// The peer.
        peer: NodeId,
        /// The path.
        path: PathAddr,
    },
    /// A validated path is dead or closed.
    PathDown {
        /// The peer.
        peer: NodeId,
        /// The path.
        path: PathAddr,
    },
    /// A ping came back.
    Pong {
        /// The peer.
        peer: NodeId,
        /// What `ping` returned.
        id: u32,
        /// Where the answer came from.
        from: Arrival,
        /// When it was sent, microseconds of our clock.
        sent_us: u64,
        /// Round trip.
        rtt: Duration,
    },
    /// A probe of this size arrived at the peer.
    MtuAck {
        /// The peer.
        peer: NodeId,
        /// What `mtu_probe` returned.
        id: u32,
        /// Length of the record, bytes.
        size: u16,
    },
    /// Opening a session or path at this target was given up.
    AttemptFailed {
        /// The peer.
        peer: NodeId,
        /// The target.
        target: Target,
        /// Why.
        reason: AttemptFailure,
    },
    /// What was sent over relays is not answered, or our answers do not arrive: it goes the wrong way.
    Unanswered {
        /// The peer.
        peer: NodeId,
        /// The neighbour over whom the peer's own messages do arrive.
        ingress: Option<NodeId>,
    },
    /// The peer asks for a sign of life over the path in use: perhaps it hears nothing from us there.
    Doubted {
        /// The peer.
        peer: NodeId,
        /// The path.
        path: PathAddr,
    },
    /// How the peer sees our address.
    Observed {
        /// The peer.
        peer: NodeId,
        /// The path that its word is about.
        path: PathAddr,
        /// Our address there.
        addr: SocketAddr,
    },
    /// Somebody completed the first handshake message with our own key, two machines take the
    /// session of one peer from each other, or a second identity claims a mesh address.
    DuplicateIdentity {
        /// The identity: our own, the peer's, or the newcomer.
        node: NodeId,
        /// Where from.
        from: Arrival,
    },
}
