//! The underlay paths of one association: which are known, which are proved, which one is used.
//!
//! ```text
//!            record from a new source │ open()
//!                      ▼
//!   forgotten ◀──── Candidate ──response from there──▶ Validated ──node: dead, lost contest──▶ Dead
//!        unanswered    │                                   ▲                                    │
//!                      └───────────────────────────────────┴────response────────────────────────┘
//! ```
//! A record from a new source is delivered but makes that source only a *candidate* (protocol A3):
//! it is challenged at once, and so is the path in use. Data stays where it was. When the candidate
//! has answered and the old path has not, the old one is dead and the new one takes over; whoever
//! races one captured record answers no challenge, and whoever relays everything finds the old path
//! still answering. To a source that is not proved we send at most three bytes per byte received.
//!
//! Validated means that a record of full size went there and an answer of full size came back: links
//! that carry less are refused (protocol A4). A handshake's round trip, or a short answer, proves the
//! address and no more; such a path carries the session's own records until its width is shown, and
//! nothing else. What answers short challenges but no padded one is given up as too narrow.
//!
//! A validated path that is not in use is kept for when the other fails: it is asked for a sign of life
//! every few seconds, which keeps translators on the way open and says how long its round trip is.
//! Unanswered, it is dead before anybody relies on it. When the host's network changes, every path is
//! asked at once, whatever its turn; those in reserve also when the one in use falls silent, so that what
//! takes over has just answered.
//!
//! The peer may leave a path before we notice that it is dead: what it says then comes over another that
//! works. That is a hint and no more: the path in use is asked, and left only if it does not answer.
//! Nobody moves us from a path that works, and two ends that use different ones may go on so.
//!
//! A dead path stays known and is challenged every second (less often while another path works),
//! so that a link which comes back is found by either side. One that we did not choose is forgotten
//! after a few of these if another works.

mod path;

use std::time::Duration;

use sinew_types::{Instant, MeshAddr, PathAddr, Rng};

use crate::timers::earlier;
use path::{AMPLIFICATION, Path, State};

/// Most paths of one association.
const MAX_PATHS: usize = 8;
/// Unanswered challenges after which the keys themselves are in doubt.
pub(crate) const DOUBT_AFTER: usize = 3;
/// Between them at least, when records come from there; and between those of a path in use that the peer
/// does not use.
const REVIVAL_INTERVAL: Duration = Duration::from_millis(200);
/// Between signs of life of a path that works and is not in use.
const STANDBY_INTERVAL: Duration = Duration::from_secs(5);
/// A challenge is padded to the payload that every link must carry.
pub(crate) const CHALLENGE_SIZE: usize = 1200;
/// A path in use that did not answer its challenge for two round trips of a candidate that did, and
/// for so long at least, is dead.
const CONTEST_MIN: Duration = Duration::from_millis(100);
/// For how long stragglers may come over a path that both sides have given up.
const DEAF: Duration = Duration::from_secs(5);

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
    /// No answer came from there that makes it a path; forgotten. `ours`: we wanted it. `narrow`: short
    /// challenges were answered, and none of full size.
    GivenUp {
        path: PathAddr,
        ours: bool,
        narrow: bool,
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

/// A validated path that would take over, unless the one in use shows that it lives.
#[derive(Clone, Copy, Debug)]
struct Contest {
    newcomer: PathAddr,
    /// What the path in use has brought since then counts.
    asked: Instant,
    deadline: Instant,
}

/// The paths of one association.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    list: Vec<Path>,
    current: Option<PathAddr>,
    generation: u32,
    contest: Option<Contest>,
    /// Until then sources that nobody asked for are none of our paths.
    deaf_until: Option<Instant>,
    changes: Vec<Change>,
}

/// Whether a path's far end can be an endpoint at all. Mesh addresses cannot: the mesh would carry
/// itself (protocol A3).
pub(crate) fn is_usable(path: &PathAddr) -> bool {
    let mesh = matches!(path.remote.ip(), std::net::IpAddr::V6(v6) if MeshAddr::contains(&v6));
    !mesh && path.remote.port() != 0 && !path.remote.ip().is_unspecified()
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

    /// A path that is proved and not yet shown to be wide enough, wide ways in first. It carries the
    /// session's own records while there is nothing better.
    pub(crate) fn tentative(&self) -> Option<PathAddr> {
        let waiting = self.list.iter().filter(|p| p.state == State::Candidate && p.proved);
        waiting.max_by_key(|p| p.brought_full).map(|p| p.addr)
    }

    /// Whether a tentative path has brought a record of full size: it is wide enough in one direction.
    pub(crate) fn is_half_wide(&self) -> bool {
        self.list.iter().any(|p| p.state == State::Candidate && p.proved && p.brought_full)
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
            let useless = |p: &Path| (p.state == State::Validated, p.proved, p.ours, p.heard);
            let victim = self.list.iter().enumerate().min_by_key(|(_, p)| useless(p));
            match victim {
                Some((at, path)) if path.state != State::Validated => drop(self.list.remove(at)),
                _ => return,
            }
        }
        self.list.push(Path::new(addr, ours, rng, now));
    }

    /// A record of `bytes` opened that came from `from`.
    pub(crate) fn on_received(&mut self, from: PathAddr, bytes: usize, rng: &mut Rng, now: Instant) {
        if self.find(&from).is_none() {
            if !is_usable(&from) || self.deaf_until.is_some_and(|until| now < until) {
                return;
            }
            self.add(from, false, rng, now);
            self.challenge_current(rng, now);
        }
        let Some(path) = self.find(&from) else { return };
        path.received = path.received.saturating_add(bytes as u64);
        path.brought_full |= path.fills(bytes);
        match path.state {
            State::Validated => path.heard = now,
            // Signs of life from a dead path: do not wait for its turn.
            State::Dead if path.challenged_at + REVIVAL_INTERVAL <= now => path.next = Some(now),
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
            // What was heard up to this moment answers nothing; see `decide`.
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

    /// A handshake's round trip proves that the peer is there. Whether the path is wide enough for a
    /// link is asked at once, and a stream always is.
    pub(crate) fn prove(&mut self, addr: PathAddr, ours: bool, rng: &mut Rng, now: Instant) {
        if self.find(&addr).is_none() {
            self.add(addr, ours, rng, now);
        }
        let Some(path) = self.find(&addr) else { return };
        if addr.carrier.is_stream() || path.state == State::Validated {
            return self.validate(addr, None, now);
        }
        path.state = State::Candidate;
        path.on_proved(now);
    }

    /// A challenge's answer of `bytes` came from `from`. Returns its round trip if it was due.
    pub(crate) fn on_response(
        &mut self,
        token: [u8; 8],
        from: PathAddr,
        bytes: usize,
        now: Instant,
    ) -> Option<Duration> {
        let path = self.list.iter_mut().find(|p| p.tries > 0 && p.token == token)?;
        let rtt = now.since(path.challenged_at);
        if path.addr == from {
            // protocol A4: a path that has not carried a record of full size is no link.
            if path.fills(bytes) || path.state == State::Validated {
                self.validate(from, Some(rtt), now);
            } else {
                path.rtt = Some(rtt);
                path.narrow = path.padded;
                path.on_proved(now);
            }
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
        (path.proved, path.padded, path.narrow, path.padded_next) = (true, false, false, false);
        path.tries = 0;
        path.next = None;
        path.heard = now;
        path.rtt = match (path.rtt.filter(|_| before == State::Validated), rtt) {
            (Some(old), Some(new)) => Some((old * 3 + new) / 4),
            (old, new) => new.or(old).or(path.rtt),
        };
        let (ours, since) = (path.ours, path.since);
        let round_trip = path.rtt.unwrap_or(now.since(since));
        if before == State::Validated {
            return;
        }
        self.changes.push(Change::Up(addr));
        let Some(current) = self.current else { return self.switch(Some(addr)) };
        let better = addr.carrier.rank() < current.carrier.rank();
        if better {
            self.switch(Some(addr));
        } else if before == State::Candidate && !ours {
            self.contest = Some(Contest::new(addr, round_trip, since));
            self.decide(now);
        }
    }

    /// Ends a contest: if the path in use has not answered in time, it is dead.
    fn decide(&mut self, now: Instant) {
        let Some(Contest { newcomer, asked, deadline }) = self.contest else { return };
        let works = self.is_validated(&newcomer);
        match self.current.and_then(|current| self.find(&current).map(|p| (p.addr, p.heard))) {
            Some((current, heard)) if works && current != newcomer && heard < asked => {
                if deadline <= now {
                    self.contest = None;
                    self.mark_dead(&current, now);
                    self.switch(Some(newcomer));
                }
            }
            _ => self.contest = None,
        }
    }

    /// The peer sends over this path what it sends over the one that it uses. If that is not ours, ours may
    /// be dead: it is asked, and if it does not answer we follow (protocol A3.7).
    pub(crate) fn on_used_by_peer(&mut self, from: PathAddr, rng: &mut Rng, now: Instant) {
        let Some(current) = self.current.filter(|current| *current != from) else { return };
        if self.contest.is_some() || from.carrier != current.carrier || !self.is_validated(&from) {
            return;
        }
        let lately = |p: &&Path| p.addr == current && now < p.challenged_at + REVIVAL_INTERVAL;
        if self.list.iter().any(|p| lately(&p)) {
            return;
        }
        let both = self.list.iter().filter(|p| p.addr == from || p.addr == current);
        let rtt = both.filter_map(|p| p.rtt).max();
        self.challenge_current(rng, now);
        self.contest = Some(Contest::new(from, rtt.unwrap_or_default(), now));
    }

    /// The path in use is silent: those in reserve are asked for a sign of life, each once until it answers.
    pub(crate) fn ask_reserve(&mut self, rng: &mut Rng, now: Instant) {
        let current = self.current;
        let reserve = |p: &&mut Path| p.state == State::Validated && current != Some(p.addr) && p.tries == 0;
        for path in self.list.iter_mut().filter(reserve) {
            (path.token, path.next) = (rng.array(), Some(now));
        }
    }

    fn switch(&mut self, to: Option<PathAddr>) {
        if self.current != to {
            self.current = to;
            // It was about the path before.
            self.contest = None;
            self.generation = self.generation.wrapping_add(1);
        }
    }

    fn mark_dead(&mut self, addr: &PathAddr, now: Instant) {
        let Some(path) = self.find(addr).filter(|p| p.state == State::Validated) else { return };
        path.state = State::Dead;
        (path.proved, path.brought_full) = (false, false);
        path.tries = 0;
        path.next = Some(now);
        self.changes.push(Change::Down(*addr));
        self.withdraw(addr);
    }

    /// A newcomer that is gone contests nothing.
    fn withdraw(&mut self, addr: &PathAddr) {
        self.contest.take_if(|contest| contest.newcomer == *addr);
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
        self.withdraw(addr);
        self.replace(addr);
        true
    }

    /// Forgets every path. If both sides do, by agreement, what is still on its way would bring them
    /// back: then no new source counts for a while.
    pub(crate) fn retire(&mut self, agreed: bool, now: Instant) {
        self.clear();
        self.deaf_until = agreed.then_some(now + DEAF);
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
        // One that has not answered when last asked may share what has failed.
        let order = |p: &&Path| (p.addr.carrier.rank(), p.tries > 0, p.rtt.unwrap_or(Duration::MAX));
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
        if path.is_free() {
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
        if let Some(path) = self.list.iter_mut().find(|p| p.padded_next) {
            path.padded_next = false;
            return Some(path.challenge(CHALLENGE_SIZE));
        }
        loop {
            let at = self.list.iter().position(|p| self.due(p).is_some_and(|due| due <= now))?;
            if self.exhausted(at, now) {
                continue;
            }
            let path = &mut self.list[at];
            if path.state == State::Validated && path.tries == 0 {
                path.token = rng.array();
            }
            let size = path.challenge_size(least);
            path.tries += 1;
            path.next = Some(now + path.pause(works, rng));
            if path.tries == DOUBT_AFTER && !works && !path.proved {
                self.changes.push(Change::Doubt(path.addr));
            }
            if size < least {
                continue;
            }
            path.challenged_at = now;
            path.padded = size >= CHALLENGE_SIZE;
            // The second padded one goes with a short one: who answers only that is there, behind
            // something too narrow. The short one first, since a carrier may send what follows a
            // long one as the end of the same batch, and lose both.
            path.padded_next = path.state == State::Candidate && path.padded && path.tries > 1;
            return Some(path.challenge(if path.padded_next { least } else { size }));
        }
    }

    /// Gives up a path that was challenged often enough.
    fn exhausted(&mut self, at: usize, now: Instant) -> bool {
        let works = self.current.is_some();
        let used = self.current == Some(self.list[at].addr);
        let path = &mut self.list[at];
        if path.tries < path.patience().len() {
            return false;
        }
        match path.state {
            // The only one, or ours: it may come back.
            State::Dead if path.ours || !works => return false,
            // Its contest is lost or it is only unlucky; the node's own probes judge it.
            State::Validated if used => path.next = None,
            State::Validated => {
                let addr = path.addr;
                self.mark_dead(&addr, now);
            }
            State::Candidate | State::Dead => {
                let (path, ours, narrow) = (path.addr, path.ours, path.narrow);
                self.list.remove(at);
                self.changes.push(Change::GivenUp { path, ours, narrow });
            }
        }
        true
    }

    /// When the path is to be challenged (again). One in use is judged by what goes over it.
    fn due(&self, path: &Path) -> Option<Instant> {
        let standby = path.state == State::Validated && self.current != Some(path.addr);
        path.next.or_else(|| standby.then(|| path.challenged_at + STANDBY_INTERVAL))
    }

    /// The host's network has changed: nothing that was known of the paths need be true any more. All
    /// that we chose or that have worked are asked at once.
    pub(crate) fn recheck(&mut self, rng: &mut Rng, now: Instant) {
        for path in self.list.iter_mut().filter(|path| path.is_free()) {
            path.token = rng.array();
            (path.tries, path.next) = (0, Some(now));
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.decide(now);
    }

    pub(crate) fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let challenge = self.list.iter().filter_map(|p| self.due(p)).min().map(|at| (at, "path challenge"));
        earlier(challenge, self.contest.map(|contest| (contest.deadline, "path contest")))
    }
}

impl Contest {
    fn new(newcomer: PathAddr, rtt: Duration, asked: Instant) -> Self {
        Self { newcomer, asked, deadline: asked + (rtt * 2).max(CONTEST_MIN) }
    }
}

#[cfg(test)]
mod tests;
