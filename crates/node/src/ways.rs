//! Why data goes the way it goes: every path and candidate of a peer, and how peers see our addresses.
//!
//! Nothing here decides. It gathers what the dialler, the sessions and the links know, so that
//! `why` and `netcheck` can say it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use sinew_types::{Instant, NodeId, PathAddr};

use crate::dial::CandidateStatus;
use crate::node::Node;

/// Peers whose word about our address is remembered.
const MAX_REFLECTIONS: usize = 256;

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

/// Our address as a peer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reflection {
    /// Who says so.
    pub peer: NodeId,
    /// The path on which it sees it.
    pub path: PathAddr,
    /// The address.
    pub addr: SocketAddr,
    /// Since it said so.
    pub age: Duration,
}

/// The last word of each peer.
#[derive(Debug, Default)]
pub(crate) struct Reflections(BTreeMap<NodeId, (PathAddr, SocketAddr, Instant)>);

impl Reflections {
    pub(crate) fn note(&mut self, peer: NodeId, path: PathAddr, addr: SocketAddr, now: Instant) {
        if self.0.len() >= MAX_REFLECTIONS && !self.0.contains_key(&peer) {
            let oldest = self.0.iter().min_by_key(|(_, (.., said))| *said).map(|(peer, _)| *peer);
            oldest.iter().for_each(|peer| _ = self.0.remove(peer));
        }
        self.0.insert(peer, (path, addr, now));
    }
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

    /// How peers see our addresses, each peer's last word.
    pub fn reflections(&self, now: Instant) -> Vec<Reflection> {
        let said = |(&peer, &(path, addr, at)): (&NodeId, &(PathAddr, SocketAddr, Instant))| Reflection {
            peer,
            path,
            addr,
            age: now.since(at),
        };
        self.reflections.0.iter().map(said).collect()
    }
}

#[cfg(test)]
mod tests {
    use sinew_types::{CarrierKind, Identity};

    use super::*;

    #[test]
    fn only_the_last_word_of_each_of_a_bounded_number_of_peers_is_kept() {
        let addr: SocketAddr = "192.0.2.1:5".parse().unwrap();
        let path = PathAddr { carrier: CarrierKind::Udp, local: 0, remote: addr };
        let mut reflections = Reflections::default();
        for n in 0..=MAX_REFLECTIONS {
            let peer = Identity::from_seed([(n % 256) as u8; 32].map(|b| b ^ (n / 256) as u8)).node_id();
            let at = Instant::from_micros(n as u64);
            reflections.note(peer, path, addr, at);
            reflections.note(peer, path, SocketAddr::new(addr.ip(), 6), at);
        }
        assert!(reflections.0.len() <= MAX_REFLECTIONS);
        assert!(reflections.0.values().all(|(_, addr, _)| addr.port() == 6));
    }
}
