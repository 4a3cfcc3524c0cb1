//! Skeleton of the machine: its public face.
#![allow(unused_variables)]
use std::collections::BTreeSet;
use std::time::Duration;

use sinew_noise::Cipher;
use sinew_types::{DropReason, Instant, NodeId, PathAddr, UnixMicros};
use sinew_wire::record::Kind;
use sinew_wire::segment::StreamClass;

use crate::*;

/// One session for people.
#[derive(Clone, Debug)]
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
    /// The path in use.
    pub path: Option<PathAddr>,
    /// Number of the open adjacency.
    pub adj: Option<u8>,
    /// Whether the peer is a stub.
    pub stub: bool,
    /// Smoothed round trip.
    pub rtt: Option<Duration>,
    /// Whether we opened it (rather than the peer).
    pub outbound: bool,
    /// Every known path.
    pub paths: Vec<PathInfo>,
    /// Counters.
    pub traffic: TrafficCounts,
}

/// One path for people.
#[derive(Clone, Copy, Debug)]
pub struct PathInfo {
    /// The path.
    pub path: PathAddr,
    /// Validated and not dead.
    pub validated: bool,
    /// Round trip of its last validation.
    pub rtt: Option<Duration>,
}

/// The machine.
#[derive(Debug)]
pub struct Sessions {
    keys: KeyTable,
}

impl Sessions {
    /// A machine.
    pub fn new(config: Config, seed: [u8; 32], unix: UnixMicros, now: Instant) -> Self {
        Self { keys: KeyTable::default() }
    }
    /// Wall clock.
    pub fn set_unix(&mut self, unix: UnixMicros, now: Instant) {}
    /// Configured peers and members.
    pub fn set_listed(&mut self, listed: BTreeSet<NodeId>) {}
    /// Queue length in front of `handle_handshake`.
    pub fn set_queued(&mut self, handshakes: usize, now: Instant) {}
    /// Opens.
    pub fn open(&mut self, peer: NodeId, target: Target, now: Instant) {}
    /// Closes.
    pub fn close(&mut self, peer: NodeId, now: Instant) {}
    /// Stream ended or socket gone.
    pub fn path_closed(&mut self, path: PathAddr, now: Instant) {}
    /// The path is dead by the node's liveness.
    pub fn path_dead(&mut self, peer: NodeId, path: PathAddr, now: Instant) {}
    /// Use this validated path from now on.
    pub fn prefer_path(&mut self, peer: NodeId, path: PathAddr, now: Instant) {}
    /// All direct paths dead.
    pub fn adjacency_drop(&mut self, peer: NodeId, now: Instant) {}
    /// Whether to become neighbours.
    pub fn set_adjacent(&mut self, peer: NodeId, wanted: bool, now: Instant) {}
    /// Record with an unknown index.
    pub fn unknown_index(&mut self, from: PathAddr, now: Instant) {}
    /// Types 1-3.
    pub fn handle_handshake(
        &mut self,
        from: Arrival,
        msg: &mut [u8],
        now: Instant,
    ) -> Result<(), DropReason> {
        Ok(())
    }
    /// Kinds 0-3.
    pub fn handle_control(
        &mut self,
        index: u32,
        from: Arrival,
        kind: Kind,
        payload: &[u8],
        len_on_wire: usize,
        now: Instant,
    ) -> Result<(), DropReason> {
        Ok(())
    }
    /// From the fast path.
    pub fn on_notice(&mut self, notice: Notice, now: Instant) {}
    /// Whether routing reaches the peer.
    pub fn set_routed(&mut self, peer: NodeId, routed: bool, now: Instant) {}
    /// Sends.
    pub fn send(
        &mut self,
        peer: NodeId,
        class: StreamClass,
        message: &[u8],
        now: Instant,
    ) -> Result<u64, SendError> {
        Err(SendError::NoSession)
    }
    /// Whether `send` would take a message now.
    pub fn writable(&self, peer: &NodeId, class: StreamClass) -> bool {
        false
    }
    /// Processed.
    pub fn acknowledge(&mut self, receipt: Receipt, now: Instant) {}
    /// Pings.
    pub fn ping(&mut self, peer: NodeId, target: Target, now: Instant) -> u32 {
        0
    }
    /// Probes the MTU.
    pub fn mtu_probe(&mut self, peer: NodeId, target: Target, size: u16, now: Instant) -> u32 {
        0
    }
    /// Output.
    pub fn poll_transmit(&mut self, buf: &mut Vec<u8>) -> Option<Transmit> {
        None
    }
    /// Output.
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }
    /// Output.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        None
    }
    /// Time.
    pub fn handle_timeout(&mut self, now: Instant) {}
    /// Snapshot.
    pub fn keys(&self) -> &KeyTable {
        &self.keys
    }
    /// For people.
    pub fn info(&self, peer: &NodeId, now: Instant) -> Option<SessionInfo> {
        None
    }
    /// All peers with an association.
    pub fn peers(&self) -> impl Iterator<Item = &NodeId> {
        std::iter::empty()
    }
}
