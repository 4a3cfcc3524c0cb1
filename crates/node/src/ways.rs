//! Why data goes the way it goes: every path and candidate of a peer, and how peers see our addresses.
//!
//! Nothing here decides. It gathers what the dialler, the sessions and the links know, so that
//! `why` and `netcheck` can say it.

use std::net::SocketAddr;
use std::time::Duration;

use sinew_path::View;
use sinew_types::{Instant, NodeId, PathAddr};

use crate::dial::CandidateStatus;
use crate::node::Node;

/// One path of the session with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The path.
    pub path: PathAddr,
    /// Whether data takes it.
    pub in_use: bool,
    /// Whether it works, as far as is known.
    pub validated: bool,
    /// Round trip when that was found out.
    pub rtt: Option<Duration>,
}

/// Everything known of how to reach a peer directly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ways {
    /// Paths of its session; the far end may have opened them.
    pub paths: Vec<Way>,
    /// What we have dialled or will, the best carriers first.
    pub candidates: Vec<CandidateStatus>,
    /// Whether it is dialled at all.
    pub dialled: bool,
    /// Until it is dialled again, or something better than the link in use is looked for.
    pub next_try: Option<Duration>,
}

impl Node {
    /// How `peer` is or could be reached directly.
    pub fn ways(&self, peer: &NodeId, now: Instant) -> Ways {
        let info = self.sessions.info(peer, now).filter(|info| info.up);
        let used = info.as_ref().and_then(|info| info.path);
        let known = info.iter().flat_map(|info| &info.paths).map(|known| Way {
            path: known.path,
            in_use: used == Some(known.path),
            validated: known.validated,
            rtt: known.rtt,
        });
        Ways {
            paths: known.collect(),
            candidates: self.dialler.candidates(peer, now),
            dialled: self.dialler.contains(peer),
            next_try: self.dialler.next_round(peer).map(|next| next.since(now)),
        }
    }

    /// How neighbours see our addresses, each with the time since it first said so.
    pub fn views(&self, now: Instant) -> Vec<(View, Duration)> {
        self.direct.reflexive.views().iter().map(|&view| (view, now.since(view.since))).collect()
    }

    /// A neighbour has said where it sees us, in its answer to our handshake (protocol A2.1).
    pub(crate) fn on_seen(&mut self, peer: NodeId, path: PathAddr, seen: SocketAddr, now: Instant) {
        let PathAddr { carrier, remote, .. } = path;
        if carrier.has_connections() {
            self.direct.reflexive.note_connection(View { peer, carrier, remote, seen, since: now });
        } else {
            self.on_observed(peer, path, seen, now);
        }
    }
}
