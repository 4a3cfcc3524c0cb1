//! Keeping the best link to every configured peer: all its names, addresses and carriers are tried
//! side by side, the better ones with a short head start; then better ones again, now and then.
//!
//! ```text
//!            due                     answers: candidates, each with its turn
//!  resting ──────▶ round: resolve ───────────────▶ launch when due ──┬─ a path is up ─▶ linked
//!     ▲                                                              │                    │
//!     ├── pause, longer each time ◀── nothing answered ──────────────┘     path down: due at once
//!     └── only what is better than the link, every half minute ◀─────────────────────────┘
//! ```
//! The turns are those of "happy eyeballs" (RFC 8305), over carriers as well as address families: a
//! blocked carrier costs a quarter of a second and not its time-out. Names are resolved anew in
//! each round (protocol A3: a peer behind a changing address is found again), and pauses are
//! jittered so that a restarted hub is not met by everyone at once.

mod candidate;
mod round;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use sinew_path::punch::Own;
use sinew_types::{CarrierKind, Instant, Metric, NodeId, PathAddr, PeerUri, Rng};

use crate::config::PeerConfig;

pub use candidate::{Answer, CandidateStatus};

use candidate::Candidates;
use round::Round;

/// First and longest pause between two rounds.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
/// A link that lived less is taken for one that the peer does not want.
const LASTING: Duration = Duration::from_secs(10);
/// Between two looks for something better than the link in use, and the most that chance adds.
const UPGRADE: (Duration, Duration) = (Duration::from_secs(25), Duration::from_secs(10));

/// Between two looks whether the name of a linked peer has other addresses by now.
const OTHER_ADDRESSES: Duration = Duration::from_secs(300);
/// URIs of one peer, those aside that an operator gives.
const MAX_URIS: usize = 16;

/// Why a candidate is not dialled that would be ourselves.
const OWN_ADDRESS: &str = "this is an address of this node itself";

/// What the dialler wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DialAction {
    /// Resolve a name (a literal address resolves to itself).
    Resolve { peer: NodeId, host: String, port: u16 },
    /// Start a handshake with a datagram far end.
    OpenUdp { peer: NodeId, remote: SocketAddr },
    /// Make a connection, then start a handshake on it.
    Connect { peer: NodeId, carrier: CarrierKind, remote: SocketAddr, host: String, path: String },
}

/// The carrier and far end of a link.
type Linked = (CarrierKind, SocketAddr);

#[derive(Debug)]
struct Target {
    uris: Vec<PeerUri>,
    cost: Metric,
    /// Carrier and far end of the link, while there is one.
    link: Option<Linked>,
    /// Since when there has been one, without a break.
    since: Instant,
    /// Links in a row that ended as soon as they stood.
    brief: u32,
    round: Option<Round>,
    /// When the next round begins, unless one is under way.
    next: Instant,
    backoff: Duration,
    candidates: Candidates,
    last_error: Option<String>,
}

/// The configured peers and how far each link has come.
#[derive(Debug)]
pub(crate) struct Dialler {
    targets: BTreeMap<NodeId, Target>,
    actions: VecDeque<DialAction>,
    /// Where this node itself listens.
    own: BTreeSet<(CarrierKind, SocketAddr)>,
    rng: Rng,
}

impl Dialler {
    pub(crate) fn new(peers: Vec<PeerConfig>, rng: Rng, now: Instant) -> Self {
        let (targets, actions) = (BTreeMap::new(), VecDeque::new());
        let mut dialler = Self { targets, actions, own: BTreeSet::new(), rng };
        for peer in peers {
            dialler.add(peer, now);
        }
        dialler
    }

    pub(crate) fn set_own(&mut self, own: BTreeSet<(CarrierKind, SocketAddr)>) {
        self.own = own;
    }

    /// Adds a peer, or another URI of a known one.
    pub(crate) fn add(&mut self, peer: PeerConfig, now: Instant) {
        let target = self.targets.entry(peer.uri.node).or_insert_with(|| Target {
            uris: Vec::new(),
            cost: peer.cost,
            link: None,
            since: now,
            brief: 0,
            round: None,
            next: now,
            backoff: BACKOFF.0,
            candidates: Candidates::default(),
            last_error: None,
        });
        target.cost = peer.cost;
        if !target.uris.contains(&peer.uri) {
            target.uris.push(peer.uri);
            // It may be better than what is in use.
            target.next = now;
        }
    }

    /// Whether another URI for a peer is of use: a peer that says something new each day is not to grow
    /// without bound.
    pub(crate) fn wants_more(&self, peer: &NodeId) -> bool {
        self.targets.get(peer).is_some_and(|target| target.uris.len() < MAX_URIS)
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

    /// Whether a round has ended without a link, and none has stood since.
    pub(crate) fn has_failed(&self, peer: &NodeId) -> bool {
        self.targets.get(peer).is_some_and(|target| target.link.is_none() && target.backoff > BACKOFF.0)
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

    /// Every way to the peer that was tried or is to be tried, the best carriers first.
    pub(crate) fn candidates(&self, peer: &NodeId, now: Instant) -> Vec<CandidateStatus> {
        self.targets.get(peer).map(|target| target.candidates.status(now)).unwrap_or_default()
    }

    /// When the next round begins by itself.
    pub(crate) fn next_round(&self, peer: &NodeId) -> Option<Instant> {
        let target = self.targets.get(peer)?;
        Some(target.next).filter(|&next| target.round.is_none() && next != Instant::FAR_FUTURE)
    }

    /// The resolver's answer; empty if the name does not resolve.
    pub(crate) fn on_resolved(
        &mut self,
        peer: &NodeId,
        (host, port): (&str, u16),
        addresses: &[SocketAddr],
        own: &Own,
        now: Instant,
    ) {
        let Some(target) = self.targets.get_mut(peer) else { return };
        let Some(round) = &mut target.round else { return };
        if !round.take_name(host, port) {
            return;
        }
        let usable = round::usable(addresses, own);
        if usable.is_empty() {
            let error = format!("`{host}` does not resolve to a usable address");
            target.candidates.unresolved(host, port, &error, now);
            if target.link.is_none() {
                target.last_error = Some(error);
            }
        }
        for uri in target.uris.iter().filter(|uri| uri.host == host && uri.port == port) {
            for &carrier in &uri.via {
                let rank = better(&target.uris, target.link, carrier);
                let wanted = |remote: &&SocketAddr| is_wanted(target.link, (carrier, **remote));
                for (at, &remote) in usable.iter().filter(wanted).enumerate() {
                    target.candidates.add(carrier, remote, uri);
                    if self.own.contains(&(carrier, remote)) {
                        let answer = Answer::Failed(OWN_ADDRESS.to_owned());
                        target.candidates.answered(carrier, remote, answer, now);
                        target.last_error = target.last_error.take().or(Some(OWN_ADDRESS.to_owned()));
                    } else {
                        round.enqueue(carrier, remote, (rank, at), now);
                    }
                }
            }
        }
        self.advance(now);
    }

    /// A validated path to the peer exists (whoever opened it), and is the one in use.
    pub(crate) fn on_path_up(&mut self, peer: &NodeId, path: &PathAddr, now: Instant) {
        let wait = self.upgrade_wait();
        let Some(target) = self.targets.get_mut(peer) else { return };
        let link = Some((path.carrier, path.remote));
        if target.link.is_none() {
            target.since = now;
        }
        target.link = link;
        target.backoff = BACKOFF.0;
        target.last_error = None;
        target.candidates.answered(path.carrier, path.remote, Answer::Up, now);
        if let Some(round) = &mut target.round {
            round.retain(|candidate| is_wanted(link, candidate));
        }
        target.rest(now + wait);
    }

    /// A validated path that is kept beside the link, for when that fails.
    pub(crate) fn on_standby(&mut self, peer: &NodeId, path: &PathAddr, now: Instant) {
        if let Some(target) = self.targets.get_mut(peer) {
            target.candidates.answered(path.carrier, path.remote, Answer::NotNeeded, now);
        }
    }

    /// The host's network is another one: what failed there may work here. All that are not linked are
    /// tried at once; where there is a link, something better may have become possible.
    pub(crate) fn network_changed(&mut self, now: Instant) {
        for target in self.targets.values_mut() {
            (target.round, target.next, target.backoff) = (None, now, BACKOFF.0);
        }
        self.advance(now);
    }

    /// A connection that we wanted stands; `false` if something as good has come up meanwhile.
    pub(crate) fn on_connected(&mut self, peer: &NodeId, path: &PathAddr, now: Instant) -> bool {
        let Some(target) = self.targets.get_mut(peer) else { return false };
        let wanted = is_wanted(target.link, (path.carrier, path.remote));
        let answer = if wanted { Answer::Pending } else { Answer::NotNeeded };
        target.candidates.answered(path.carrier, path.remote, answer, now);
        wanted
    }

    /// The last validated path to the peer is gone: try again at once, then with pauses. Links that end as
    /// soon as they stand are no success: a peer that has no room for us is not asked without end.
    pub(crate) fn on_path_down(&mut self, peer: &NodeId, path: &PathAddr, now: Instant) {
        if let Some(target) = self.targets.get_mut(peer)
            && target.link.take().is_some()
        {
            let error = target.last_error.clone().unwrap_or_else(|| "the link ended".to_owned());
            target.candidates.answered(path.carrier, path.remote, Answer::Failed(error), now);
            target.brief = if now.since(target.since) < LASTING { target.brief + 1 } else { 0 };
            let pause = match target.brief {
                0 | 1 => Duration::ZERO,
                brief => BACKOFF.0.saturating_mul(1 << (brief - 1).min(8)).min(BACKOFF.1),
            };
            (target.round, target.next, target.backoff) = (None, now + pause, BACKOFF.0);
            self.advance(now);
        }
    }

    /// A candidate is known to fail.
    pub(crate) fn on_candidate_failed(
        &mut self,
        peer: &NodeId,
        (carrier, remote): (CarrierKind, SocketAddr),
        error: &str,
        now: Instant,
    ) {
        let Some(target) = self.targets.get_mut(peer) else { return };
        target.candidates.answered(carrier, remote, Answer::Failed(error.to_owned()), now);
        if target.link.is_none() {
            target.last_error = Some(format!("{}/{remote}: {error}", carrier.as_str()));
        }
        // Whoever waits behind it need not wait any longer.
        if let Some(round) = &mut target.round {
            round.hurry(now);
        }
        self.advance(now);
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
        if target.round.is_none() {
            return self.begin(peer, now);
        }
        while let Some((carrier, remote)) = target.round.as_mut().and_then(|round| round.pop(now)) {
            if let Some(action) = target.candidates.launch(peer, carrier, remote, now) {
                self.actions.push_back(action);
            }
        }
        if target.round.as_ref().is_some_and(|round| round.is_over(now)) {
            self.end(peer, now);
        }
    }

    fn begin(&mut self, peer: NodeId, now: Instant) {
        let Some(target) = self.targets.get_mut(&peer) else { return };
        let mut names: Vec<(String, u16)> = Vec::new();
        for uri in &target.uris {
            let wanted = |&carrier: &CarrierKind| target.may_want(uri, carrier);
            if uri.via.iter().any(wanted)
                && !names.iter().any(|(host, port)| (host, *port) == (&uri.host, uri.port))
            {
                names.push((uri.host.clone(), uri.port));
            }
        }
        if names.is_empty() {
            target.next = Instant::FAR_FUTURE;
            return;
        }
        target.candidates.tidy(now);
        for (host, port) in &names {
            self.actions.push_back(DialAction::Resolve { peer, host: host.clone(), port: *port });
        }
        target.round = Some(Round::new(names, now));
    }

    fn end(&mut self, peer: NodeId, now: Instant) {
        let (wait, jitter) = (self.upgrade_wait(), self.rng.u64());
        let Some(target) = self.targets.get_mut(&peer) else { return };
        target.round = None;
        target.candidates.silence();
        if target.link.is_some() {
            return target.rest(now + wait);
        }
        target.last_error.get_or_insert_with(|| "no answer from any address".into());
        let jitter = jitter % (target.backoff.as_micros() as u64 / 2 + 1);
        target.next = now + target.backoff + Duration::from_micros(jitter);
        target.backoff = (target.backoff * 2).min(BACKOFF.1);
    }

    fn upgrade_wait(&mut self) -> Duration {
        UPGRADE.0 + Duration::from_micros(self.rng.below(UPGRADE.1.as_micros() as u64))
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
        self.round.as_ref().map_or(self.next, Round::due)
    }

    /// Linked: the next look for something better, if there can be anything.
    fn rest(&mut self, next: Instant) {
        let ways = || self.uris.iter().flat_map(|uri| uri.via.iter().map(move |&via| (uri, via)));
        self.next = if ways().any(|(_, via)| is_better(self.link, via)) {
            next
        } else if ways().any(|(uri, via)| self.may_want(uri, via)) {
            next + OTHER_ADDRESSES
        } else {
            Instant::FAR_FUTURE
        };
    }

    /// Whether a URI may have something for us by this carrier: something better than the link, or other
    /// addresses to keep in reserve. A name may have any; an address written out has one.
    fn may_want(&self, uri: &PeerUri, carrier: CarrierKind) -> bool {
        let Some(link) = self.link else { return true };
        match uri.host.parse() {
            Ok(ip) => is_wanted(Some(link), (carrier, SocketAddr::new(ip, uri.port))),
            Err(_) => is_better(self.link, carrier) || is_reserve(link, carrier),
        }
    }
}

/// Whether a way by this carrier would be better than the link.
fn is_better(link: Option<Linked>, carrier: CarrierKind) -> bool {
    link.is_none_or(|(link, _)| carrier.rank() < link.rank())
}

/// Whether ways of this carrier are kept beside the link. Datagrams cost nothing to keep; a second
/// connection costs both sides one.
fn is_reserve((link, _): Linked, carrier: CarrierKind) -> bool {
    carrier == link && carrier == CarrierKind::Udp
}

/// Whether this way would be better than the link, or can stand beside it for when that fails.
fn is_wanted(link: Option<Linked>, (carrier, remote): Linked) -> bool {
    let beside = |link: Linked| is_reserve(link, carrier) && link.1 != remote;
    is_better(link, carrier) || link.is_some_and(beside)
}

/// How many better carriers the peer offers, of those that are wanted: each has a head start.
fn better(uris: &[PeerUri], link: Option<Linked>, carrier: CarrierKind) -> usize {
    let offered = |kind: &CarrierKind| uris.iter().any(|uri| uri.via.contains(kind));
    let all = CarrierKind::ALL.into_iter().filter(|kind| is_better(link, *kind));
    all.filter(|kind| kind.rank() < carrier.rank() && offered(kind)).count()
}

#[cfg(test)]
mod tests;
