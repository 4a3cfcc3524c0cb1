//! Keeping a link to every configured peer: resolve, try its carriers in order, wait, again.
//!
//! ```text
//!  Waiting ──due──▶ Resolving ──addresses──▶ Trying(candidate 0, 1, …) ──path up──▶ Linked
//!     ▲                 │ none                        │ all failed                     │ path down
//!     └──── back-off ◀──┴─────────────────────────────┘ ◀──────── at once ─────────────┘
//! ```
//! Names are resolved anew on every round (protocol A3: a peer behind a changing address is
//! found again), and the back-off is jittered so that a restarted hub is not met by everyone at once.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use sinew_types::{CarrierKind, Instant, MeshAddr, Metric, NodeId, PeerUri, Rng};

use crate::config::PeerConfig;

/// First and longest pause between two rounds.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
/// How long one candidate may take before the next is tried as well.
const CANDIDATE_PATIENCE: Duration = Duration::from_millis(1500);
/// How long the resolver or a stream connection may take.
const IO_PATIENCE: Duration = Duration::from_secs(10);
/// Most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// What the dialler wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DialAction {
    /// Resolve a name (a literal address resolves to itself).
    Resolve { peer: NodeId, host: String, port: u16 },
    /// Start a handshake with a datagram far end.
    OpenUdp { peer: NodeId, remote: SocketAddr },
    /// Connect a stream, then start a handshake on it.
    Connect { peer: NodeId, carrier: CarrierKind, remote: SocketAddr },
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Waiting { until: Instant },
    Resolving { since: Instant },
    Trying { left: VecDeque<(CarrierKind, SocketAddr)>, next: Instant },
    Linked,
}

#[derive(Debug)]
struct Target {
    uris: Vec<PeerUri>,
    /// Which URI the next round uses.
    round: usize,
    cost: Metric,
    state: State,
    backoff: Duration,
    last_error: Option<String>,
}

/// The configured peers and how far each link has come.
#[derive(Debug)]
pub(crate) struct Dialler {
    targets: BTreeMap<NodeId, Target>,
    actions: VecDeque<DialAction>,
    rng: Rng,
}

impl Dialler {
    pub(crate) fn new(peers: Vec<PeerConfig>, rng: Rng, now: Instant) -> Self {
        let mut dialler = Self { targets: BTreeMap::new(), actions: VecDeque::new(), rng };
        for peer in peers {
            dialler.add(peer, now);
        }
        dialler
    }

    /// Adds a peer, or another URI of a known one.
    pub(crate) fn add(&mut self, peer: PeerConfig, now: Instant) {
        let target = self.targets.entry(peer.uri.node).or_insert_with(|| Target {
            uris: Vec::new(),
            round: 0,
            cost: peer.cost,
            state: State::Waiting { until: now },
            backoff: BACKOFF.0,
            last_error: None,
        });
        target.cost = peer.cost;
        if !target.uris.contains(&peer.uri) {
            target.uris.push(peer.uri);
        }
    }

    /// Forgets a peer; `false` if it was not configured.
    pub(crate) fn remove(&mut self, peer: &NodeId) -> bool {
        self.targets.remove(peer).is_some()
    }

    pub(crate) fn peers(&self) -> impl Iterator<Item = &NodeId> {
        self.targets.keys()
    }

    pub(crate) fn contains(&self, peer: &NodeId) -> bool {
        self.targets.contains_key(peer)
    }

    /// The URI to show for a peer.
    pub(crate) fn uri(&self, peer: &NodeId) -> Option<&PeerUri> {
        self.targets.get(peer).and_then(|target| target.uris.first())
    }

    /// Configured extra cost of the link to `peer`.
    pub(crate) fn cost(&self, peer: &NodeId) -> Metric {
        self.targets.get(peer).map_or(Metric::ZERO, |target| target.cost)
    }

    pub(crate) fn last_error(&self, peer: &NodeId) -> Option<&str> {
        self.targets.get(peer).and_then(|target| target.last_error.as_deref())
    }

    pub(crate) fn note_error(&mut self, peer: &NodeId, error: impl Into<String>) {
        if let Some(target) = self.targets.get_mut(peer) {
            target.last_error = Some(error.into());
        }
    }

    /// The resolver's answer; empty if the name does not resolve.
    pub(crate) fn on_resolved(&mut self, peer: &NodeId, addresses: &[SocketAddr], now: Instant) {
        let Some(target) = self.targets.get_mut(peer) else { return };
        if !matches!(target.state, State::Resolving { .. }) {
            return;
        }
        let uri = &target.uris[target.round % target.uris.len()];
        // A3: mesh addresses are refused as underlay endpoints, whatever a name resolves to.
        let usable = |addr: &&SocketAddr| !matches!(addr, SocketAddr::V6(v6) if MeshAddr::contains(v6.ip()));
        let usable: Vec<_> = addresses.iter().filter(usable).take(MAX_ADDRESSES).copied().collect();
        if usable.is_empty() {
            target.last_error = Some(format!("`{}` does not resolve to a usable address", uri.host));
            self.pause(peer, now);
            return;
        }
        let left = uri.via.iter().flat_map(|&kind| usable.iter().map(move |&addr| (kind, addr))).collect();
        target.state = State::Trying { left, next: now };
        self.advance(now);
    }

    /// A validated path to the peer exists (whoever opened it).
    pub(crate) fn on_path_up(&mut self, peer: &NodeId) {
        if let Some(target) = self.targets.get_mut(peer) {
            target.state = State::Linked;
            target.backoff = BACKOFF.0;
            target.last_error = None;
        }
    }

    /// The last validated path to the peer is gone: try again at once, then with pauses.
    pub(crate) fn on_path_down(&mut self, peer: &NodeId, now: Instant) {
        if let Some(target) = self.targets.get_mut(peer)
            && target.state == State::Linked
        {
            target.state = State::Waiting { until: now };
            self.advance(now);
        }
    }

    /// The candidate being tried is known to fail; go on to the next without waiting.
    pub(crate) fn on_candidate_failed(&mut self, peer: &NodeId, error: String, now: Instant) {
        let Some(target) = self.targets.get_mut(peer) else { return };
        target.last_error = Some(error);
        if let State::Trying { next, .. } = &mut target.state {
            *next = now;
            self.advance(now);
        }
    }

    fn pause(&mut self, peer: &NodeId, now: Instant) {
        let Some(target) = self.targets.get_mut(peer) else { return };
        let jitter = self.rng.below(target.backoff.as_micros() as u64 / 2 + 1);
        target.state = State::Waiting { until: now + target.backoff + Duration::from_micros(jitter) };
        target.backoff = (target.backoff * 2).min(BACKOFF.1);
        target.round += 1;
    }

    /// Does what is due.
    pub(crate) fn advance(&mut self, now: Instant) {
        let due: Vec<_> =
            self.targets.iter().filter(|(_, t)| t.due() <= now).map(|(peer, _)| *peer).collect();
        for peer in due {
            self.step(peer, now);
        }
    }

    fn step(&mut self, peer: NodeId, now: Instant) {
        let Some(target) = self.targets.get_mut(&peer) else { return };
        match &mut target.state {
            State::Waiting { .. } => {
                let uri = &target.uris[target.round % target.uris.len()];
                self.actions.push_back(DialAction::Resolve { peer, host: uri.host.clone(), port: uri.port });
                target.state = State::Resolving { since: now };
            }
            State::Resolving { .. } => {
                target.last_error = Some("the name could not be resolved in time".into());
                self.pause(&peer, now);
            }
            State::Trying { left, next } => match left.pop_front() {
                Some((carrier, remote)) => {
                    *next = now + CANDIDATE_PATIENCE;
                    self.actions.push_back(match carrier {
                        CarrierKind::Udp => DialAction::OpenUdp { peer, remote },
                        _ => DialAction::Connect { peer, carrier, remote },
                    });
                }
                None => {
                    target.last_error.get_or_insert_with(|| "no answer from any address".into());
                    self.pause(&peer, now);
                }
            },
            State::Linked => {}
        }
    }

    pub(crate) fn poll_action(&mut self) -> Option<DialAction> {
        self.actions.pop_front()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.targets.values().map(Target::due).min().filter(|&due| due != Instant::FAR_FUTURE)
    }
}

impl Target {
    fn due(&self) -> Instant {
        match &self.state {
            State::Waiting { until } => *until,
            State::Resolving { since } => *since + IO_PATIENCE,
            State::Trying { next, .. } => *next,
            State::Linked => Instant::FAR_FUTURE,
        }
    }
}

#[cfg(test)]
mod tests {
    use sinew_types::Identity;

    use super::*;

    fn peer(via: &str) -> PeerConfig {
        let id = Identity::from_seed([9; 32]).node_id();
        PeerConfig {
            uri: format!("sinew://{id}@hub.example:7?via={via}").parse().unwrap(),
            cost: Metric::ZERO,
        }
    }

    fn actions(dialler: &mut Dialler) -> Vec<DialAction> {
        std::iter::from_fn(|| dialler.poll_action()).collect()
    }

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    #[test]
    fn carriers_are_tried_in_the_uris_order_and_the_round_ends_in_a_pause() {
        let config = peer("udp,tcp");
        let node = config.uri.node;
        let mut dialler = Dialler::new(vec![config], Rng::new([0; 32]), at(0));
        dialler.advance(at(0));
        assert!(matches!(actions(&mut dialler)[..], [DialAction::Resolve { .. }]));
        let remote: SocketAddr = "192.0.2.1:7".parse().unwrap();
        dialler.on_resolved(&node, &[remote], at(1));
        assert_eq!(actions(&mut dialler), [DialAction::OpenUdp { peer: node, remote }]);
        dialler.advance(at(1501));
        assert_eq!(
            actions(&mut dialler),
            [DialAction::Connect { peer: node, carrier: CarrierKind::Tcp, remote }]
        );
        dialler.advance(at(3001));
        assert!(actions(&mut dialler).is_empty());
        assert!(dialler.poll_timeout().unwrap() >= at(3501));
        assert!(dialler.last_error(&node).is_some());
    }

    #[test]
    fn a_lost_path_is_dialled_again_at_once() {
        let config = peer("udp");
        let node = config.uri.node;
        let mut dialler = Dialler::new(vec![config], Rng::new([0; 32]), at(0));
        dialler.on_path_up(&node);
        assert_eq!(dialler.poll_timeout(), None);
        dialler.on_path_down(&node, at(10));
        assert!(matches!(actions(&mut dialler)[..], [DialAction::Resolve { .. }]));
    }

    #[test]
    fn a_name_that_resolves_into_the_mesh_is_not_dialled() {
        let config = peer("udp");
        let node = config.uri.node;
        let mut dialler = Dialler::new(vec![config], Rng::new([0; 32]), at(0));
        dialler.advance(at(0));
        actions(&mut dialler);
        dialler.on_resolved(&node, &["[fd3f::1]:7".parse().unwrap()], at(1));
        assert!(actions(&mut dialler).is_empty());
        assert!(dialler.last_error(&node).is_some());
    }
}
