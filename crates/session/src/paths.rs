//! The underlay paths of one association: which are known, which are proved, which one is used.
//!
//! ```text
//!            record from a new source │ open()
//!                      ▼
//!   forgotten ◀──── Candidate ──response from there──▶ Validated ──node: dead, lost contest──▶ Dead
//!        5 unanswered  │                                   ▲                                    │
//!                      └───────────────────────────────────┴────response────────────────────────┘
//! ```
//! A record from a new source is delivered but makes that source only a *candidate* (protocol A3):
//! it is challenged at once, and so is the path in use. Data stays where it was. When the candidate
//! has answered and the old path has not, the old one is dead and the new one takes over; whoever
//! races one captured record answers no challenge, and whoever relays everything finds the old path
//! still answering. To a source that is not proved we send at most three bytes per byte received.
//!
//! A dead path stays known and is challenged every second (less often while another path works),
//! so that a link which comes back is found by either side.

use std::time::Duration;

use sinew_types::{CarrierKind, Instant, MeshAddr, PathAddr, Rng};

use crate::timers::earlier;

/// Most paths of one association.
const MAX_PATHS: usize = 8;
/// Waits after the first, second, … unanswered challenge of a candidate.
const TRIES_MS: [u64; 5] = [250, 250, 500, 1000, 1000];
/// Unanswered challenges after which the keys themselves are in doubt.
pub(crate) const DOUBT_AFTER: usize = 3;
const DEAD_INTERVAL: Duration = Duration::from_secs(1);
const DEAD_INTERVAL_IDLE: Duration = Duration::from_secs(10);
/// Bytes that may go to an unproved source per byte that came from there.
const AMPLIFICATION: u64 = 3;
/// A challenge is padded to the payload that every link must carry.
pub(crate) const CHALLENGE_SIZE: usize = 1200;
/// A path in use that did not answer its challenge for so long, while a candidate did, is dead.
const CONTEST_MIN: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Candidate,
    Validated,
    Dead,
}

#[derive(Clone, Debug)]
struct Path {
    addr: PathAddr,
    state: State,
    /// We chose it, so what we send there is nobody's amplification.
    ours: bool,
    received: u64,
    sent: u64,
    token: [u8; 8],
    /// Challenges sent since the last answer.
    tries: usize,
    challenged_at: Instant,
    /// When it turned up.
    since: Instant,
    /// When to challenge (again).
    next: Option<Instant>,
    /// Last proof of life.
    heard: Instant,
    rtt: Option<Duration>,
}

/// A challenge that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) path: PathAddr,
    pub(crate) token: [u8; 8],
    /// Length of the whole record.
    pub(crate) size: usize,
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Up(PathAddr),
    Down(PathAddr),
    /// Nothing at all came from there; forgotten. `ours`: we wanted it.
    GivenUp {
        path: PathAddr,
        ours: bool,
    },
    /// Challenges go unanswered and no path works: perhaps the peer has lost its keys.
    Doubt(PathAddr),
}

/// For people.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) path: PathAddr,
    pub(crate) validated: bool,
    pub(crate) rtt: Option<Duration>,
}

/// The paths of one association.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    list: Vec<Path>,
    current: Option<PathAddr>,
    generation: u32,
    /// A validated newcomer, and when the path in use must have answered.
    contest: Option<(PathAddr, Instant)>,
    changes: Vec<Change>,
}

/// Whether a path's far end can be an endpoint at all. Mesh addresses cannot: the mesh would carry
/// itself (protocol A3).
pub(crate) fn is_usable(path: &PathAddr) -> bool {
    let mesh = matches!(path.remote.ip(), std::net::IpAddr::V6(v6) if MeshAddr::contains(&v6));
    !mesh && path.remote.port() != 0 && !path.remote.ip().is_unspecified()
}

/// Carriers in order of preference (DESIGN §9).
const fn rank(carrier: CarrierKind) -> u8 {
    match carrier {
        CarrierKind::Udp => 0,
        CarrierKind::Quic => 1,
        CarrierKind::Tcp => 2,
        CarrierKind::Wss => 3,
    }
}

impl Paths {
    /// The validated path in use.
    pub(crate) const fn current(&self) -> Option<PathAddr> {
        self.current
    }

    /// One more whenever the path in use changes.
    pub(crate) const fn generation(&self) -> u32 {
        self.generation
    }

    pub(crate) fn poll_change(&mut self) -> Option<Change> {
        (!self.changes.is_empty()).then(|| self.changes.remove(0))
    }

    pub(crate) fn validated(&self) -> impl Iterator<Item = PathAddr> + '_ {
        self.list.iter().filter(|p| p.state == State::Validated).map(|p| p.addr)
    }

    pub(crate) fn is_validated(&self, addr: &PathAddr) -> bool {
        self.validated().any(|path| path == *addr)
    }

    pub(crate) fn known(&self) -> impl Iterator<Item = Known> + '_ {
        self.list.iter().map(|p| Known { path: p.addr, validated: p.state == State::Validated, rtt: p.rtt })
    }

    fn find(&mut self, addr: &PathAddr) -> Option<&mut Path> {
        self.list.iter_mut().find(|path| path.addr == *addr)
    }

    /// Adds a candidate, at the cost of the least useful other if there are too many.
    fn add(&mut self, addr: PathAddr, ours: bool, rng: &mut Rng, now: Instant) {
        if self.list.len() >= MAX_PATHS {
            let useless = |p: &Path| (p.state == State::Validated, p.ours, p.heard);
            let victim = self.list.iter().enumerate().min_by_key(|(_, p)| useless(p));
            match victim {
                Some((at, path)) if path.state != State::Validated => drop(self.list.remove(at)),
                _ => return,
            }
        }
        self.list.push(Path {
            addr,
            state: State::Candidate,
            ours,
            received: 0,
            sent: 0,
            token: rng.array(),
            tries: 0,
            challenged_at: now,
            since: now,
            next: Some(now),
            heard: now,
            rtt: None,
        });
    }

    /// A record of `bytes` opened that came from `from`.
    pub(crate) fn on_received(&mut self, from: PathAddr, bytes: usize, rng: &mut Rng, now: Instant) {
        if self.find(&from).is_none() {
            if !is_usable(&from) {
                return;
            }
            self.add(from, false, rng, now);
            self.challenge_current(rng, now);
        }
        let Some(path) = self.find(&from) else { return };
        path.received = path.received.saturating_add(bytes as u64);
        match path.state {
            State::Validated => path.heard = now,
            // Signs of life from a dead path: do not wait for its turn.
            State::Dead if path.challenged_at + Duration::from_millis(200) <= now => path.next = Some(now),
            _ => {}
        }
    }

    /// Asks the path in use for a sign of life, since somebody else turned up.
    fn challenge_current(&mut self, rng: &mut Rng, now: Instant) {
        if let Some(current) = self.current
            && let Some(path) = self.find(&current)
            && path.next.is_none()
        {
            path.token = rng.array();
            path.tries = 0;
            path.next = Some(now);
            path.heard = path.heard.min(now - Duration::from_micros(1));
        }
    }

    /// We want this path: challenge it.
    pub(crate) fn solicit(&mut self, addr: PathAddr, rng: &mut Rng, now: Instant) {
        match self.find(&addr) {
            None => self.add(addr, true, rng, now),
            Some(path) => {
                path.ours = true;
                if path.state != State::Validated {
                    path.next = Some(path.next.map_or(now, |next| next.min(now)));
                }
            }
        }
    }

    /// This path is proved by a handshake's round trip.
    pub(crate) fn prove(&mut self, addr: PathAddr, ours: bool, rng: &mut Rng, now: Instant) {
        if self.find(&addr).is_none() {
            self.add(addr, ours, rng, now);
        }
        self.validate(addr, None, now);
    }

    /// A challenge's answer came from `from`. Returns its round trip if it was due.
    pub(crate) fn on_response(&mut self, token: [u8; 8], from: PathAddr, now: Instant) -> Option<Duration> {
        let path = self.list.iter_mut().find(|p| p.tries > 0 && p.token == token)?;
        let rtt = now.since(path.challenged_at);
        if path.addr == from {
            self.validate(from, Some(rtt), now);
            return Some(rtt);
        }
        // protocol A3: only an answer from the very source that was asked proves it. But the peer did
        // get what was sent there, so a path in use lives, even if somebody races its answers to us.
        if path.state == State::Validated {
            path.heard = now;
        }
        None
    }

    fn validate(&mut self, addr: PathAddr, rtt: Option<Duration>, now: Instant) {
        let Some(path) = self.find(&addr) else { return };
        let before = path.state;
        path.state = State::Validated;
        path.tries = 0;
        path.next = None;
        path.heard = now;
        path.rtt = rtt.or(path.rtt);
        let (ours, since) = (path.ours, path.since);
        if before == State::Validated {
            return;
        }
        self.changes.push(Change::Up(addr));
        let Some(current) = self.current else { return self.switch(Some(addr)) };
        let better = rank(addr.carrier) < rank(current.carrier);
        if better {
            self.switch(Some(addr));
        } else if before == State::Candidate && !ours {
            let patience = (now.since(since) * 2).max(CONTEST_MIN);
            self.contest = Some((addr, since + patience));
            self.decide(now);
        }
    }

    /// Ends a contest: if the path in use has not answered in time, it is dead.
    fn decide(&mut self, now: Instant) {
        let Some((newcomer, deadline)) = self.contest else { return };
        let asked = self.find(&newcomer).map(|p| p.since);
        let current = self.current.and_then(|current| self.find(&current).map(|p| (p.addr, p.heard)));
        match (current, asked) {
            (Some((_, heard)), Some(asked)) if heard >= asked => self.contest = None,
            (Some((current, _)), Some(_)) if deadline <= now => {
                self.contest = None;
                self.mark_dead(&current, now);
                self.switch(Some(newcomer));
            }
            (Some(_), Some(_)) => {}
            _ => self.contest = None,
        }
    }

    fn switch(&mut self, to: Option<PathAddr>) {
        if self.current != to {
            self.current = to;
            self.generation = self.generation.wrapping_add(1);
        }
    }

    fn mark_dead(&mut self, addr: &PathAddr, now: Instant) {
        let Some(path) = self.find(addr).filter(|p| p.state == State::Validated) else { return };
        path.state = State::Dead;
        path.tries = 0;
        path.next = Some(now);
        self.changes.push(Change::Down(*addr));
        if self.contest.is_some_and(|(newcomer, _)| newcomer == *addr) {
            self.contest = None;
        }
    }

    /// The path is dead. Another validated one takes over, if there is one.
    pub(crate) fn dead(&mut self, addr: &PathAddr, now: Instant) {
        self.mark_dead(addr, now);
        self.replace(addr);
    }

    /// The path cannot be used any more (its stream ended, its socket is gone).
    pub(crate) fn closed(&mut self, addr: &PathAddr) -> bool {
        let Some(at) = self.list.iter().position(|path| path.addr == *addr) else { return false };
        if self.list.remove(at).state == State::Validated {
            self.changes.push(Change::Down(*addr));
        }
        if self.contest.is_some_and(|(newcomer, _)| newcomer == *addr) {
            self.contest = None;
        }
        self.replace(addr);
        true
    }

    /// Forgets every path.
    pub(crate) fn clear(&mut self) {
        let validated: Vec<_> = self.validated().collect();
        self.changes.extend(validated.into_iter().map(Change::Down));
        self.list.clear();
        self.contest = None;
        self.switch(None);
    }

    fn replace(&mut self, gone: &PathAddr) {
        if self.current != Some(*gone) {
            return;
        }
        let order = |p: &&Path| (rank(p.addr.carrier), p.rtt.unwrap_or(Duration::MAX));
        let best = self.list.iter().filter(|p| p.state == State::Validated).min_by_key(order);
        self.switch(best.map(|p| p.addr));
    }

    /// The node has measured: use this one.
    pub(crate) fn prefer(&mut self, addr: PathAddr) {
        if self.is_validated(&addr) {
            self.switch(Some(addr));
        }
    }

    /// Whether `bytes` may be sent there; counts them if so.
    pub(crate) fn may_send(&mut self, addr: &PathAddr, bytes: usize) -> bool {
        let Some(path) = self.find(addr) else { return false };
        if path.ours || path.state != State::Candidate {
            return true;
        }
        let sent = path.sent + bytes as u64;
        let allowed = sent <= path.received.saturating_mul(AMPLIFICATION);
        if allowed {
            path.sent = sent;
        }
        allowed
    }

    /// The next challenge that is due. `least` is the shortest possible one.
    pub(crate) fn poll_challenge(&mut self, least: usize, rng: &mut Rng, now: Instant) -> Option<Due> {
        let works = self.current.is_some();
        loop {
            let at = self.list.iter().position(|p| p.next.is_some_and(|next| next <= now))?;
            if self.exhausted(at) {
                continue;
            }
            let path = &mut self.list[at];
            let budget = path.received.saturating_mul(AMPLIFICATION).saturating_sub(path.sent);
            let free = path.ours || path.state != State::Candidate;
            let size = match path.state {
                // Only a sign of life is wanted; whoever races records shall not make us send much.
                State::Validated => least,
                _ if free => CHALLENGE_SIZE,
                _ => CHALLENGE_SIZE.min(budget as usize),
            };
            path.tries += 1;
            path.next = Some(now + path.pause(works, rng));
            if path.tries == DOUBT_AFTER && !works {
                self.changes.push(Change::Doubt(path.addr));
            }
            if size < least {
                continue;
            }
            path.challenged_at = now;
            path.sent += size as u64;
            return Some(Due { path: path.addr, token: path.token, size });
        }
    }

    /// Gives up a path that was challenged often enough.
    fn exhausted(&mut self, at: usize) -> bool {
        let works = self.current.is_some();
        let path = &mut self.list[at];
        if path.tries < TRIES_MS.len() {
            return false;
        }
        match path.state {
            // The only one, or ours: it may come back.
            State::Dead if path.ours || !works => return false,
            // Its contest is lost or it is only unlucky; the node's own probes judge it.
            State::Validated => path.next = None,
            State::Candidate | State::Dead => {
                let (path, ours) = (path.addr, path.ours);
                self.list.remove(at);
                self.changes.push(Change::GivenUp { path, ours });
            }
        }
        true
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.decide(now);
    }

    pub(crate) fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let challenge = self.list.iter().filter_map(|p| p.next).min().map(|at| (at, "path challenge"));
        earlier(challenge, self.contest.map(|(_, at)| (at, "path contest")))
    }
}

impl Path {
    /// How long to wait for an answer to the challenge just counted.
    fn pause(&self, works: bool, rng: &mut Rng) -> Duration {
        if self.state == State::Dead {
            let base = if works { DEAD_INTERVAL_IDLE } else { DEAD_INTERVAL };
            // Jitter of a tenth, so that two ends do not stay in step.
            return base + Duration::from_micros(rng.below(base.as_micros() as u64 / 10));
        }
        let tries = self.tries.min(TRIES_MS.len()) - 1;
        Duration::from_millis(TRIES_MS[tries])
    }
}

#[cfg(test)]
mod tests;
