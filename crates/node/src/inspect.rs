//! A look inside, for the simulator's checkers: what a loop, a black hole or a table that grows
//! without bound would show in. Read-only, and nothing here decides anything.

use sinew_types::{Drops, MeshAddr, Rank};

use crate::node::Node;

/// Events waiting to be taken; a shell drains them after each input.
const EVENTS_MAX: usize = 4096;
/// Most sessions (protocol A2, limits).
const SESSIONS_MAX: usize = 16_384;
/// Destinations known at most: those beyond K stay while they are withdrawn, twice the largest K
/// bounds that.
const ROUTES_MAX: usize = 2 * 4096;
/// Bytes that may wait for the carriers between two drains, and for the control side.
const BACKLOG_MAX: usize = 4 * 1024 * 1024;

impl Node {
    /// Where packets for `dst` go next: what the forwarding table says, or a stub's upstream.
    pub fn next_hop(&self, dst: &MeshAddr) -> Option<MeshAddr> {
        let upstream = || self.router.default_next_hop().map(|node| node.address());
        self.fib.get(dst).map(|entry| entry.next_hop).or_else(upstream)
    }

    /// The feasibility distance toward `dst`, which packets sent there carry as their watermark.
    pub fn feasibility_distance(&self, dst: &MeshAddr) -> Option<Rank> {
        self.fib.get(dst).map(|entry| entry.fd)
    }

    /// The number of the adjacency with `peer`, while one is open at this end.
    pub fn adjacency(&self, peer: &MeshAddr) -> Option<u8> {
        self.sessions.keys().session(peer).and_then(|session| session.adj)
    }

    /// How many destinations the forwarding table holds.
    pub fn routes_len(&self) -> usize {
        self.fib.len()
    }

    /// Tables and queues: name, what it holds, and what it may hold at most.
    pub fn table_sizes(&self) -> [(&'static str, usize, usize); 6] {
        [
            ("routes", self.router.len(), ROUTES_MAX),
            ("forwarding table", self.fib.len(), ROUTES_MAX),
            ("sessions", self.sessions.peers().count(), SESSIONS_MAX),
            ("links", self.links.len(), SESSIONS_MAX),
            ("events", self.events.len(), EVENTS_MAX),
            ("send queue", self.transmit_backlog(), BACKLOG_MAX),
        ]
    }

    /// Bytes of routing messages sent so far, before framing and encryption.
    pub fn routing_bytes(&self) -> u64 {
        self.router.stats().sent.total().bytes
    }

    /// What routing refused, message by message; [`Node::drops`] counts packets.
    pub fn routing_drops(&self) -> &Drops {
        &self.router.stats().drops
    }
}
