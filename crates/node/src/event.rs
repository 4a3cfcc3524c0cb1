//! What a node wants done or known outside.

use std::net::SocketAddr;
use std::time::Duration;

use sinew_types::{CarrierKind, MeshAddr, NodeId, PathAddr};

/// An order to the shell around the node, or news for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Resolve a host name; answer by [`crate::Node::handle_resolved`].
    Resolve {
        /// For which peer.
        peer: NodeId,
        /// The name, or a literal address.
        host: String,
        /// The port to put into the answers.
        port: u16,
    },
    /// Make a connection; answer by [`crate::Node::handle_connected`] or
    /// [`crate::Node::handle_connect_failed`].
    Connect {
        /// For which peer.
        peer: NodeId,
        /// Which carrier, one that has connections.
        carrier: CarrierKind,
        /// The far end.
        remote: SocketAddr,
        /// The name that the far end was found by.
        host: String,
        /// What a WebSocket is to ask for.
        path: String,
    },
    /// End a connection: something better stands.
    Disconnect {
        /// The connection.
        path: PathAddr,
    },
    /// Open UDP sockets of IPv4 at any port (protocol A10.8); answer by [`crate::Node::handle_opened`].
    OpenSockets {
        /// How many.
        count: u16,
    },
    /// Close sockets that were opened so.
    CloseSockets {
        /// Their numbers in paths.
        locals: Vec<u32>,
    },
    /// A connection carried an authenticated record for the first time.
    Authenticated {
        /// The connection.
        path: PathAddr,
    },
    /// A peer's link came up.
    LinkUp {
        /// The peer.
        peer: NodeId,
        /// Over this path.
        path: PathAddr,
    },
    /// A peer's link went down.
    LinkDown {
        /// The peer.
        peer: NodeId,
        /// It was this path.
        path: PathAddr,
    },
    /// The way to a peer carries less than a link must (protocol A4); told again at most every ten
    /// minutes.
    LinkRefused {
        /// The peer.
        peer: NodeId,
        /// The way that was tried.
        path: PathAddr,
    },
    /// What this node says of itself was signed anew: for the local network, and the directory.
    OwnRecord {
        /// The record.
        record: Vec<u8>,
    },
    /// A peer is worth remembering over a restart.
    Remember {
        /// Which.
        node: NodeId,
        /// Its record.
        record: Vec<u8>,
        /// When it was reached.
        proven: sinew_types::UnixMicros,
    },
    /// Somebody wants this node, and nobody knows where it is: the directory may.
    LookUp {
        /// Which.
        node: NodeId,
    },
    /// A ping has its answer, or will not have one.
    PingDone {
        /// As given to [`crate::Node::ping`].
        request: u64,
        /// The answer.
        answer: Option<PingAnswer>,
    },
    /// A trace is finished.
    TraceDone {
        /// As given to [`crate::Node::trace`].
        request: u64,
        /// The hops in order, this node first.
        hops: Vec<TraceHop>,
        /// Whether the last hop is the target.
        complete: bool,
    },
    /// About private networks: what must be stored, what people asked for, what an operator has to know.
    Overlay(sinew_overlay::Event),
    /// Two machines use one key. Said again whenever it is seen.
    DuplicateIdentity {
        /// Whose key: this node's own, or another's.
        node: NodeId,
    },
}

/// What a ping found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PingAnswer {
    /// Who answered.
    pub node: NodeId,
    /// Round trip time.
    pub rtt: Duration,
    /// The first hop, if the target is not a direct peer.
    pub via: Option<NodeId>,
    /// The link to the target, or to the first hop.
    pub path: Option<PathAddr>,
}

/// One hop of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceHop {
    /// The hop's key; its session with us proves it.
    pub node: NodeId,
    /// Its address.
    pub address: MeshAddr,
    /// What it calls itself.
    pub name: String,
    /// Carrier of the link toward it, as the hop before it says.
    pub carrier: Option<CarrierKind>,
    /// Round trip from this node to the hop.
    pub rtt: Option<Duration>,
    /// Inner MTU of the link toward it, as the hop before it says.
    pub mtu: u16,
}
