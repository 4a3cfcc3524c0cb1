//! Direct paths between two that talk through relays (protocol A10).
//!
//! ```text
//!   Apart ──they talk enough, the pause is over──▶ Called ──reply──▶ Knocking ──an answer──▶ Together
//!     ▲  └──────────────the other calls──────────────────────────────▲   │                      │
//!     └───────── nothing found: a longer pause ──────────────────────────┘                      │
//!     └───────── nobody talks any more │ the path is dead ──────────────────────────────────────┘
//! ```
//! The session over relays is the signalling channel: both sides tell each other where they may be
//! reached, and begin to knock at the same moment, so that each one's knocks open its own translator
//! for the other's. Whatever answers becomes a path of the session like any other; but it is private
//! to the pair: no adjacency, no route, and relays go on carrying whenever it fails. What may be
//! knocked at, and how often, is in `sinew_path::punch`; what is tried when no knock can meet, in `scatter`.

mod attempt;
mod scatter;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use sinew_path::Reflexive;
use sinew_path::punch::{self, Allowance, KNOCKS, Meter, Own, Pauses, ROUND};
use sinew_path::scatter::Side;
use sinew_types::{CarrierKind, DropReason, Instant, NodeId, PathAddr, Rng};
use sinew_wire::punch::{Candidate, CandidateKind, MAX_CANDIDATES, Mapping, Punch};
use sinew_wire::request::Request;
use sinew_wire::segment::StreamClass;

use crate::node::Node;
pub use attempt::{Attempt, Meeting, Outcome};
use scatter::Scatter;

/// How often pairs are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Between two calls of one peer that are answered.
const CALLS: Duration = Duration::from_secs(3);
/// No round trip over relays is taken for longer.
const RTT_MAX: Duration = Duration::from_secs(2);
/// A direct path over which nobody talks for so long is given up.
const IDLE: Duration = Duration::from_secs(60);
/// So many records of the peer's in that time are only the path's own upkeep.
const UPKEEP: u64 = 40;
/// Interfaces' addresses told to a peer, and such as routers pass on.
const MAX_LOCAL: usize = 4;
const MAX_MAPPED: usize = 2;

/// Where this node may be reached, as far as its shell knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Addresses of interfaces with the ports of our UDP sockets, and the lengths of their prefixes.
    pub local: Vec<(SocketAddr, u8)>,
    /// Outside addresses that routers pass on to us.
    pub mapped: Vec<SocketAddr>,
}

/// What a node knows of its own place, and of those it talks to.
#[derive(Debug)]
pub(crate) struct Direct {
    enabled: bool,
    endpoints: Endpoints,
    pub(crate) reflexive: Reflexive,
    /// See [`Own::networks`].
    networks: Vec<[u8; 6]>,
    pairs: BTreeMap<NodeId, Pair>,
    allowance: Allowance,
    scatter: Scatter,
    /// When pairs are looked at, while any may come together or apart.
    look: Option<Instant>,
    rng: Rng,
}

/// One peer that we have a session with.
#[derive(Debug)]
struct Pair {
    meter: Meter,
    pauses: Pauses,
    round: Option<Round>,
    /// What the last round came to, or comes to.
    attempt: Option<Attempt>,
    /// When the last call was answered.
    answered: Option<Instant>,
    together: Option<Together>,
}

/// An attempt to find a path.
#[derive(Debug)]
struct Round {
    id: u32,
    began: Instant,
    /// What to knock at, once both sides are ready; empty before.
    targets: Vec<PathAddr>,
    /// When to knock first.
    start: Instant,
    /// How often it was done.
    knocks: usize,
    /// What could be tried if nothing answers.
    plan: Option<(Side, SocketAddr)>,
}

/// A direct path that was found.
#[derive(Clone, Copy, Debug)]
struct Together {
    id: u32,
    since: Instant,
    /// Since when it is watched for talk, and the link's counters then.
    watched: Instant,
    sent: u64,
    received: u64,
}

impl Round {
    fn due(&self) -> Instant {
        let end = self.began + ROUND;
        if self.targets.is_empty() {
            return end;
        }
        KNOCKS.get(self.knocks).map_or(end, |&after| (self.start + after).min(end))
    }
}

impl Direct {
    pub(crate) fn new(enabled: bool, rng: Rng, now: Instant) -> Self {
        Self {
            enabled,
            endpoints: Endpoints::default(),
            reflexive: Reflexive::default(),
            networks: Vec::new(),
            pairs: BTreeMap::new(),
            allowance: Allowance::new(now),
            scatter: Scatter::new(now),
            look: None,
            rng,
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let rounds = self.pairs.values().filter_map(|pair| pair.round.as_ref().map(Round::due));
        rounds.chain(self.look).chain(self.scatter.poll_timeout()).min()
    }

    pub(crate) fn set_networks(&mut self, networks: Vec<[u8; 6]>) {
        self.networks = networks;
    }

    /// Something may have to be looked at soon.
    pub(crate) fn look_soon(&mut self, now: Instant) {
        if self.enabled && !self.pairs.is_empty() {
            self.look.get_or_insert(now + LOOK);
        }
    }

    fn local(&self) -> Vec<SocketAddr> {
        self.endpoints.local.iter().map(|&(addr, _)| addr).collect()
    }

    pub(crate) fn own(&self) -> Own {
        Own {
            local: self.endpoints.local.clone(),
            seen: self.reflexive.seen().collect(),
            networks: self.networks.clone(),
        }
    }

    /// How our translator maps, of the family in which we would rather be reached.
    pub(crate) fn mapping(&self, ipv6: bool) -> Mapping {
        self.reflexive.mapping(ipv6, &self.local())
    }

    /// What we say of ourselves.
    fn punch(&self, round: u32, rtt: Duration) -> Punch {
        let local = self.local();
        let kinds = [
            (CandidateKind::Local, local.clone(), MAX_LOCAL),
            (CandidateKind::Mapped, self.endpoints.mapped.clone(), MAX_MAPPED),
            (CandidateKind::Reflexive, self.reflexive.addresses(&local), MAX_CANDIDATES),
        ];
        let mut candidates: Vec<Candidate> = Vec::new();
        for (kind, addrs, most) in kinds {
            let places = addrs.into_iter().filter(|addr| punch::is_place(addr.ip())).take(most);
            for addr in places {
                if !candidates.iter().any(|known| known.addr == addr) {
                    candidates.push(Candidate { kind, addr });
                }
            }
        }
        candidates.truncate(MAX_CANDIDATES);
        Punch {
            round,
            rtt_us: u32::try_from(rtt.as_micros()).unwrap_or(u32::MAX),
            mapping: self.mapping(false),
            guess: self.reflexive.guess(false, &local).or_else(|| self.reflexive.guess(true, &local)),
            candidates,
        }
    }

    /// What of a peer's word may be knocked at.
    fn targets(&self, theirs: &Punch) -> Vec<SocketAddr> {
        let own = self.own();
        let outside = |candidate: &&Candidate| candidate.kind != CandidateKind::Local;
        let same_nat = theirs.candidates.iter().filter(outside).any(|c| own.seen.contains(&c.addr.ip()));
        let listed = theirs.candidates.iter().map(|candidate| candidate.addr);
        let guessed = theirs.guess.iter().flat_map(punch::guesses);
        let mut targets: Vec<SocketAddr> = Vec::new();
        for addr in listed.chain(guessed) {
            if punch::fit(addr, &own, same_nat).is_ok() && !targets.contains(&addr) {
                targets.push(addr);
            }
        }
        targets
    }
}

/// What people may see of a node's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReachStatus {
    /// Whether direct paths are looked for.
    pub direct: bool,
    /// Where others see us, our own addresses aside.
    pub reflexive: Vec<SocketAddr>,
    /// How the translator of IPv4 maps, and that of IPv6.
    pub mapping: [Mapping; 2],
}

impl Node {
    /// Where this node may be reached has changed.
    pub fn set_endpoints(&mut self, endpoints: Endpoints) {
        self.direct.endpoints = endpoints;
    }

    /// Whether direct paths to nodes behind relays are looked for from now on. Those that are found
    /// already are kept while they are used.
    pub fn set_direct(&mut self, enabled: bool, now: Instant) {
        self.direct.enabled = enabled;
        let peers: Vec<_> = self.sessions.peers().filter(|peer| self.is_up(peer)).copied().collect();
        peers.into_iter().for_each(|peer| self.watch_pair(peer, now));
        self.pump(now);
    }

    /// What is known of this node's place.
    pub fn reach(&self) -> ReachStatus {
        let local = self.direct.local();
        ReachStatus {
            direct: self.direct.enabled,
            reflexive: self.direct.reflexive.addresses(&local),
            mapping: [false, true].map(|ipv6| self.direct.mapping(ipv6)),
        }
    }

    // --- what others see ---

    /// Says to a neighbour where it is, seen from here.
    pub(crate) fn tell_observed(&mut self, peer: NodeId, path: PathAddr, now: Instant) {
        if path.carrier == CarrierKind::Udp {
            self.tell(peer, &Request::Observed { addr: path.remote }, now);
        }
    }

    pub(crate) fn on_observed(&mut self, peer: NodeId, path: PathAddr, addr: SocketAddr, now: Instant) {
        // Knocks leave through the first socket: what the translators make of another says nothing of those.
        let first = self.uplinks.first(path.remote.is_ipv6());
        if path.carrier == CarrierKind::Udp && first == Some(path.local) {
            self.direct.reflexive.note(peer, path.remote, addr, now);
        }
    }

    fn tell(&mut self, peer: NodeId, request: &Request, now: Instant) {
        let mut message = Vec::new();
        request.emit(&mut message);
        if self.sessions.send(peer, StreamClass::Requests, &message, now).is_err() {
            self.drops.count(DropReason::BadControl);
        }
    }

    // --- pairs ---

    /// A session stands: from now on it is watched whether it carries enough for a path of its own.
    pub(crate) fn watch_pair(&mut self, peer: NodeId, now: Instant) {
        if !self.direct.enabled || self.direct.pairs.contains_key(&peer) {
            return;
        }
        let (records, bytes) = self.said(&peer);
        let pair = Pair {
            meter: Meter::new(records, bytes, now),
            pauses: Pauses::new(now),
            round: None,
            attempt: None,
            answered: None,
            together: None,
        };
        self.direct.pairs.insert(peer, pair);
        self.direct.look_soon(now);
    }

    pub(crate) fn forget_pair(&mut self, peer: &NodeId, now: Instant) {
        self.direct.pairs.remove(peer);
        self.on_search_unlinked(peer, true, now);
    }

    /// Records and bytes of data that we have sent to a peer: what it sends, it measures itself.
    fn said(&self, peer: &NodeId) -> (u64, u64) {
        let session = self.sessions.keys().session(&peer.address());
        session.map(|session| session.traffic.data()).unwrap_or_default()
    }

    /// Does what is due.
    pub(crate) fn tend_direct(&mut self, now: Instant) {
        let due = |pair: &Pair| pair.round.as_ref().is_some_and(|round| round.due() <= now);
        let peers: Vec<_> = self.direct.pairs.iter().filter(|(_, p)| due(p)).map(|(peer, _)| *peer).collect();
        for peer in peers {
            self.step_round(peer, now);
        }
        self.step_search(now);
        if self.direct.look.take_if(|look| *look <= now).is_some() {
            let peers: Vec<_> = self.direct.pairs.keys().copied().collect();
            for peer in peers {
                if self.look_at_pair(peer, now) {
                    self.direct.look_soon(now);
                }
            }
        }
    }

    /// Whether there may be something to see again soon: not of neighbours.
    fn look_at_pair(&mut self, peer: NodeId, now: Instant) -> bool {
        let (records, bytes) = self.said(&peer);
        let linked = self.links.contains_key(&peer);
        let private = self.sessions.is_private(&peer);
        let relayed = self.is_relayed(&peer);
        let Some(pair) = self.direct.pairs.get_mut(&peer) else { return false };
        let busy = pair.meter.is_busy(records, bytes, now);
        if linked {
            self.judge_shortcut(&peer);
            self.end_if_idle(peer, now);
        } else if busy && relayed && pair.round.is_none() && pair.pauses.is_over(now) {
            self.call(peer, now);
        }
        private || relayed
    }

    /// Somebody asks for a direct path to a peer, whatever it carries: a round as soon as one may be.
    pub fn want_direct(&mut self, peer: NodeId, now: Instant) {
        let free = |pair: &Pair| pair.round.is_none() && pair.pauses.is_over(now);
        let free = self.direct.pairs.get(&peer).is_some_and(free);
        if self.direct.enabled && free && self.is_relayed(&peer) {
            self.call(peer, now);
        }
        self.pump(now);
    }

    /// Whether a session stands, and data takes relays because there is no other way. Also one with a
    /// configured peer that cannot be dialled: a path that is found then becomes its link.
    fn is_relayed(&self, peer: &NodeId) -> bool {
        self.sessions.is_relayed(peer) && self.is_up(peer) && self.is_reachable(peer)
    }

    // --- rounds ---

    fn call(&mut self, peer: NodeId, now: Instant) {
        let rtt = self.sessions.info(&peer, now).and_then(|info| info.rtt).unwrap_or_default();
        let id = self.direct.rng.u32();
        let punch = self.direct.punch(id, rtt);
        let Some(pair) = self.direct.pairs.get_mut(&peer) else { return };
        pair.pauses.begin(&mut self.direct.rng, now);
        // Nothing to tell, as on a node without UDP: nothing to gain.
        if punch.candidates.is_empty() {
            pair.attempt = Some(Attempt::new(Outcome::NoAddress, now));
            return;
        }
        pair.attempt = Some(Attempt::new(Outcome::Called, now));
        pair.round = Some(Round { id, began: now, targets: Vec::new(), start: now, knocks: 0, plan: None });
        self.tell(peer, &Request::Punch(Box::new(punch)), now);
    }

    /// The other proposes a round: it is told where we are, and half a round trip later, when it has the
    /// answer, both knock.
    pub(crate) fn on_punch(&mut self, peer: NodeId, theirs: &Punch, now: Instant) {
        self.watch_pair(peer, now);
        let own = self.identity.node_id();
        let far = self.sessions.is_private(&peer) || self.sessions.is_relayed(&peer);
        let wanted = self.direct.enabled && far;
        let Some(pair) = self.direct.pairs.get_mut(&peer).filter(|_| wanted) else {
            return self.decline(peer, theirs.round, now);
        };
        // Both called: the call of the lower key counts.
        if pair.round.as_ref().is_some_and(|round| round.targets.is_empty()) && own < peer {
            return;
        }
        if pair.answered.is_some_and(|last| now.since(last) < CALLS) {
            return self.drops.count(DropReason::RateLimited);
        }
        pair.answered = Some(now);
        pair.pauses.begin(&mut self.direct.rng, now);
        let rtt = Duration::from_micros(theirs.rtt_us.into()).min(RTT_MAX);
        let reply = self.direct.punch(theirs.round, rtt);
        self.tell(peer, &Request::PunchReply(Box::new(reply)), now);
        self.begin_knocking(peer, theirs, now + rtt / 2, now);
    }

    /// No candidates: this node would rather not.
    fn decline(&mut self, peer: NodeId, round: u32, now: Instant) {
        let mapping = Mapping::Unknown;
        let reply = Punch { round, rtt_us: 0, mapping, guess: None, candidates: Vec::new() };
        self.tell(peer, &Request::PunchReply(Box::new(reply)), now);
    }

    pub(crate) fn on_punch_reply(&mut self, peer: NodeId, theirs: &Punch, now: Instant) {
        let pair = self.direct.pairs.get_mut(&peer);
        let called = pair.filter(|pair| {
            pair.round.as_ref().is_some_and(|round| round.id == theirs.round && round.targets.is_empty())
        });
        let Some(pair) = called else { return self.drops.count(DropReason::BadControl) };
        if theirs.candidates.is_empty() {
            pair.round = None;
            pair.attempt = Some(Attempt::new(Outcome::Declined, now));
            return pair.pauses.discourage(now);
        }
        self.begin_knocking(peer, theirs, now, now);
    }

    fn begin_knocking(&mut self, peer: NodeId, theirs: &Punch, start: Instant, now: Instant) {
        let uplinks = &self.uplinks;
        let path = |remote: SocketAddr| {
            let local = uplinks.first(remote.is_ipv6())?;
            Some(PathAddr { carrier: CarrierKind::Udp, local, remote })
        };
        let targets: Vec<_> = self.direct.targets(theirs).into_iter().filter_map(path).collect();
        let plan = sinew_path::scatter::plan(self.direct.mapping(false), theirs, &self.direct.own());
        let Some(pair) = self.direct.pairs.get_mut(&peer) else { return };
        pair.round = None;
        let outcome = if targets.is_empty() { Outcome::NothingFit } else { Outcome::Knocking };
        let knocked = targets.iter().map(|path| path.remote).collect();
        pair.attempt = Some(Attempt { outcome, at: now, theirs: theirs.mapping, knocked });
        if !targets.is_empty() {
            pair.round = Some(Round { id: theirs.round, began: now, targets, start, knocks: 0, plan });
            self.step_round(peer, now);
        }
    }

    fn step_round(&mut self, peer: NodeId, now: Instant) {
        let linked = self.links.contains_key(&peer);
        let direct = &mut self.direct;
        let Some(pair) = direct.pairs.get_mut(&peer) else { return };
        let Some(round) = &mut pair.round else { return };
        if linked || now >= round.began + ROUND {
            pair.round = None;
            // Whose link stands already was called by a peer that has lost it, and finds it again.
            let end =
                |attempt: &mut Attempt| if linked { attempt.outcome = Outcome::Found } else { attempt.end() };
            pair.attempt.iter_mut().for_each(end);
            return;
        }
        if round.targets.is_empty() || round.due() > now {
            return;
        }
        round.knocks += 1;
        let allowance = &mut direct.allowance;
        let allowed = |path: &&PathAddr| allowance.take(path.remote.ip(), now);
        let paths: Vec<_> = round.targets.iter().filter(allowed).copied().collect();
        let short = round.targets.len() - paths.len();
        self.drops.add(DropReason::RateLimited, short as u64);
        let (id, plan) = (round.id, round.plan.filter(|_| round.knocks == scatter::AFTER));
        self.sessions.knock(peer, &paths, now);
        if let Some(plan) = plan.filter(|(side, _)| *side == Side::Tries) {
            self.begin_search(peer, id, plan, now);
        }
    }

    // --- paths that were found ---

    /// A direct path carries the session: of a pair of neighbours, or of one that has found it.
    pub(crate) fn on_pair_linked(&mut self, peer: NodeId, path: PathAddr, now: Instant) {
        self.judge_shortcut(&peer);
        self.on_search_linked(&peer, path, now);
        let Some(pair) = self.direct.pairs.get_mut(&peer) else { return };
        let id = pair.round.take().map_or(0, |round| round.id);
        if let Some(attempt) = &mut pair.attempt {
            (attempt.outcome, attempt.at) = (Outcome::Found, now);
        }
        let since = pair.together.map_or(now, |together| together.since);
        pair.together = Some(Together { id, since, watched: now, sent: 0, received: 0 });
        self.direct.look_soon(now);
    }

    pub(crate) fn on_pair_unlinked(&mut self, peer: NodeId, now: Instant) {
        let Some(pair) = self.direct.pairs.get_mut(&peer) else { return };
        if let Some(together) = pair.together.take() {
            pair.pauses.end(now.since(together.since), now);
        }
        self.direct.look_soon(now);
        // What else is known of dead paths of the pair would be challenged for ever.
        self.sessions.retire_paths(peer, false, now);
        self.on_search_unlinked(&peer, false, now);
    }

    /// Of two ways that were found the nearer is used: the local network rather than its translator.
    pub(crate) fn prefer_nearer(&mut self, peer: NodeId, path: PathAddr, now: Instant) {
        if !self.sessions.is_private(&peer) {
            return;
        }
        let Some(info) = self.sessions.info(&peer, now) else { return };
        let rtt = |wanted: PathAddr| {
            info.paths
                .iter()
                .find(|known| known.path == wanted && known.validated)
                .and_then(|known| known.rtt)
        };
        if let (Some(used), Some(new)) = (info.path.and_then(rtt), rtt(path))
            && new * 5 < used * 4
        {
            self.sessions.prefer_path(peer, path, now);
        }
    }

    /// Whether data takes the direct path: unless the way over relays is clearly the nearer one.
    pub(crate) fn judge_shortcut(&mut self, peer: &NodeId) {
        let Some(link) = self.links.get(peer) else { return };
        let private = !link.routing && self.sessions.is_private(peer);
        // Nothing is announced of a private path, so that a first measurement on busy cores may be
        // forgotten at the second.
        let direct = u32::from(link.quality.present().units());
        let routed = self.router.metric_of(&peer.address()).map(|metric| u32::from(metric.units()));
        let bound =
            |routed: u32| if link.info.is_shortcut() { routed * 3 / 2 + 5 } else { routed * 5 / 4 + 2 };
        link.info.set_shortcut(private && routed.is_none_or(|routed| direct <= bound(routed)));
    }

    /// Nobody talks any more over a path that only talkers have: both give it up.
    fn end_if_idle(&mut self, peer: NodeId, now: Instant) {
        let Some(link) = self.links.get(&peer) else { return };
        let (counts, useful) = (link.info.traffic.counts(), link.info.is_shortcut());
        let private = self.sessions.is_private(&peer);
        let Some(pair) = self.direct.pairs.get_mut(&peer) else { return };
        let Some(together) = pair.together.as_mut().filter(|_| private) else { return };
        if now.since(together.watched) < IDLE {
            return;
        }
        let idle = counts.tx_packets == together.sent && counts.rx_packets <= together.received + UPKEEP;
        (together.watched, together.sent, together.received) = (now, counts.tx_packets, counts.rx_packets);
        let round = together.id;
        if idle {
            if !useful {
                pair.pauses.discourage(now);
            }
            self.tell(peer, &Request::PunchEnd { round }, now);
            self.sessions.retire_paths(peer, true, now);
        }
    }

    /// The other has given up the direct path.
    pub(crate) fn on_punch_end(&mut self, peer: NodeId, now: Instant) {
        self.sessions.retire_paths(peer, true, now);
    }
}
