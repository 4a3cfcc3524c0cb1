//! Sessions as people and the control interface see them.

use std::time::Duration;

use sinew_noise::Cipher;
use sinew_types::{Instant, NodeId, PathAddr};

use crate::keys::TrafficCounts;
use crate::sessions::Sessions;

/// One session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// The peer.
    pub peer: NodeId,
    /// Whether records can be exchanged.
    pub up: bool,
    /// Cipher of the epoch in use.
    pub cipher: Option<Cipher>,
    /// Age of the epoch in use.
    pub epoch_age: Duration,
    /// Age of the association.
    pub age: Duration,
    /// The path in use; `None` = over relays.
    pub path: Option<PathAddr>,
    /// Number of the open adjacency.
    pub adj: Option<u8>,
    /// Whether the peer is a stub.
    pub stub: bool,
    /// Smoothed round trip.
    pub rtt: Option<Duration>,
    /// Whether we opened it.
    pub outbound: bool,
    /// Every known path.
    pub paths: Vec<PathInfo>,
    /// Counters.
    pub traffic: TrafficCounts,
}

/// One path of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathInfo {
    /// The path.
    pub path: PathAddr,
    /// Proved, and not found dead since.
    pub validated: bool,
    /// Round trip of its last validation.
    pub rtt: Option<Duration>,
}

impl Sessions {
    /// What is known of the session with `peer`; `None` if there is none and none is being opened.
    pub fn info(&self, peer: &NodeId, now: Instant) -> Option<SessionInfo> {
        let association = self.peers.get(peer)?;
        let epoch = association.preferred(&self.core).map(|at| &association.epochs[at]);
        let paths = association.paths.known();
        Some(SessionInfo {
            peer: *peer,
            up: association.up,
            cipher: epoch.map(|epoch| epoch.seal.cipher()),
            epoch_age: epoch.map_or(Duration::ZERO, |epoch| now.since(epoch.born)),
            age: now.since(association.born),
            path: association.paths.current(),
            adj: association.adjacency.number(),
            stub: association.told.stub,
            rtt: association.rtt.smooth(),
            outbound: association.outbound,
            paths: paths.map(|p| PathInfo { path: p.path, validated: p.validated, rtt: p.rtt }).collect(),
            traffic: association.traffic.counts(),
        })
    }

    /// Every peer with a session or an attempt at one, in order.
    pub fn peers(&self) -> impl Iterator<Item = &NodeId> {
        self.peers.keys()
    }

    /// Sessions and handshakes that wait for their first record.
    pub fn counts(&self) -> (usize, usize) {
        (self.peers.len(), self.gate.pending.len())
    }
}
