//! One path: what is known of it, how often it is asked, and what may be sent there.

use std::time::Duration;

use sinew_types::{Instant, PathAddr, Rng};

use super::{CHALLENGE_SIZE, Due};

/// Waits after the first, second, … unanswered challenge of a candidate.
const TRIES_MS: [u64; 5] = [250, 250, 500, 1000, 1000];
/// The same while the peer is known to be there: only the path's width is asked, and a lost record
/// must not pass for a narrow path.
const WIDTH_TRIES_MS: [u64; 8] = [250, 250, 250, 250, 500, 500, 500, 500];
/// Between challenges of a dead path, and the same while another path works.
const DEAD_INTERVAL: Duration = Duration::from_secs(1);
const DEAD_INTERVAL_IDLE: Duration = Duration::from_secs(10);
/// Bytes that may go to an unproved source per byte that came from there.
pub(super) const AMPLIFICATION: u64 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Candidate,
    Validated,
    Dead,
}

#[derive(Clone, Debug)]
pub(super) struct Path {
    pub(super) addr: PathAddr,
    pub(super) state: State,
    /// We chose it, so what we send there is nobody's amplification.
    pub(super) ours: bool,
    /// The peer is there: a round trip has shown it, of whatever size.
    pub(super) proved: bool,
    /// It has brought a record of full size.
    pub(super) brought_full: bool,
    /// The last challenge that was due went out in full size.
    pub(super) padded: bool,
    /// There was one, and the last answer was to a short one.
    pub(super) narrow: bool,
    /// A padded challenge is to follow the short one.
    pub(super) padded_next: bool,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) token: [u8; 8],
    /// Challenges sent since the last answer.
    pub(super) tries: usize,
    pub(super) challenged_at: Instant,
    /// When it turned up.
    pub(super) since: Instant,
    /// When to challenge (again).
    pub(super) next: Option<Instant>,
    /// Last proof of life.
    pub(super) heard: Instant,
    pub(super) rtt: Option<Duration>,
}

impl Path {
    /// One that has just turned up; it is asked at once.
    pub(super) fn new(addr: PathAddr, ours: bool, rng: &mut Rng, now: Instant) -> Self {
        Self {
            addr,
            state: State::Candidate,
            ours,
            proved: false,
            brought_full: false,
            padded: false,
            narrow: false,
            padded_next: false,
            received: 0,
            sent: 0,
            token: rng.array(),
            tries: 0,
            challenged_at: now,
            since: now,
            next: Some(now),
            heard: now,
            rtt: None,
        }
    }

    /// Whether a record of `bytes` shows that the path is wide enough. A stream has no width.
    pub(super) const fn fills(&self, bytes: usize) -> bool {
        bytes >= CHALLENGE_SIZE || self.addr.carrier.is_stream()
    }

    /// Whether what is sent there need not be counted: nobody else can be at that address, or we
    /// chose it.
    pub(super) fn is_free(&self) -> bool {
        self.ours || self.proved || self.state != State::Candidate
    }

    /// The peer is there. If only its budget has kept us from asking in full size, we ask now.
    pub(super) fn on_proved(&mut self, now: Instant) {
        if !self.proved && !self.padded {
            (self.tries, self.next) = (0, Some(now));
        }
        self.proved = true;
    }

    pub(super) fn challenge_size(&self, least: usize) -> usize {
        match self.state {
            // Only a sign of life is wanted; whoever races records shall not make us send much.
            State::Validated => least,
            _ if self.is_free() => CHALLENGE_SIZE,
            _ => {
                let budget = self.received.saturating_mul(AMPLIFICATION).saturating_sub(self.sent);
                CHALLENGE_SIZE.min(budget as usize)
            }
        }
    }

    pub(super) fn challenge(&mut self, size: usize) -> Due {
        self.sent += size as u64;
        Due { path: self.addr, token: self.token, size }
    }

    pub(super) const fn patience(&self) -> &'static [u64] {
        if self.proved { &WIDTH_TRIES_MS } else { &TRIES_MS }
    }

    /// How long to wait for an answer to the challenge just counted.
    pub(super) fn pause(&self, works: bool, rng: &mut Rng) -> Duration {
        if self.state == State::Dead {
            let base = if works { DEAD_INTERVAL_IDLE } else { DEAD_INTERVAL };
            // Jitter of a tenth, so that two ends do not stay in step.
            return base + Duration::from_micros(rng.below(base.as_micros() as u64 / 10));
        }
        let waits = self.patience();
        Duration::from_millis(waits[self.tries.min(waits.len()) - 1])
    }
}
