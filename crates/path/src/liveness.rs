//! Is the path still there? Silence alone proves nothing; silence after we sent something does.
//!
//! Two rules, both ending in probes before any verdict:
//! - *in use*: traffic unanswered for max(3 RTT, 120 ms) starts three probes max(2 RTT, 100 ms)
//!   apart; if the last of them stays unanswered as long, the path is dead: 420 ms on a LAN.
//! - *idle*: a hello every 5 s (every second while in use, for the RTT), with 20 % jitter; three in
//!   a row with nothing heard, and the path is dead.
//!
//! Probes are spaced by when they were really sent, so a process that was stopped for a minute
//! sends its probes and waits for answers before it gives a path up.

use std::time::Duration;

use sinew_types::{Instant, Rng};

/// Probes (or hellos) that must stay unanswered before the verdict.
const PROBES: u8 = 3;
/// Least time that traffic may stay unanswered before the first probe.
const PATIENCE_MIN: Duration = Duration::from_millis(120);
/// Least time between two probes, and from the last probe to the verdict.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Hello interval of a path without traffic.
pub(crate) const HELLO_IDLE: Duration = Duration::from_secs(5);
/// Hello interval of a path with traffic: what keeps the RTT and loss estimates fresh.
const HELLO_ACTIVE: Duration = Duration::from_secs(1);
/// Least time from the last idle hello to the verdict.
const LAST_HELLO_MIN: Duration = Duration::from_secs(1);
/// Assumed until the first measurement.
const RTT_UNKNOWN: Duration = Duration::from_millis(100);

/// No patience grows beyond what this RTT asks for.
const RTT_MAX: Duration = Duration::from_secs(5);

/// What the caller has to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing until [`Liveness::poll_timeout`] or the next input.
    None,
    /// Send a PING over this path; ask again at once.
    SendProbe,
    /// The path is dead. Said once.
    Dead,
}

/// The verdict machine of one path.
#[derive(Debug)]
pub struct Liveness {
    rng: Rng,
    rtt: Duration,
    /// When anything authenticated last came over the path.
    heard: Instant,
    /// The first send since then.
    unanswered: Option<Instant>,
    /// Probes sent for `unanswered`, and when the last one went.
    probes: u8,
    last_probe: Instant,
    /// Hellos sent since `heard`, and when the last one went.
    hellos: u8,
    last_hello: Instant,
    next_hello: Instant,
    /// Between hellos at rest.
    rest: Duration,
    /// Whether traffic was sent since the last hello.
    active: bool,
    dead: bool,
}

impl Liveness {
    /// A path that was proven alive `now` (its challenge was answered).
    pub fn new(rng: Rng, now: Instant) -> Self {
        let mut liveness = Self {
            rng,
            rtt: RTT_UNKNOWN,
            heard: now,
            unanswered: None,
            probes: 0,
            last_probe: now,
            hellos: 0,
            last_hello: now,
            next_hello: now,
            rest: HELLO_IDLE,
            active: false,
            dead: false,
        };
        liveness.schedule_hello(now);
        liveness
    }

    /// The smoothed round trip time, on which every patience here depends.
    pub fn set_rtt(&mut self, rtt: Duration) {
        self.rtt = rtt.min(RTT_MAX);
    }

    /// How long the path may rest between two hellos.
    pub fn set_rest(&mut self, rest: Duration) {
        if rest < self.rest {
            self.next_hello = self.next_hello.min(self.last_hello.max(self.heard) + rest);
        }
        self.rest = rest;
    }

    /// Traffic that calls for an answer was sent at `at`: data and reliable control, but not
    /// probes. `at` may lie in the past (the fast path reports through counters), but a send
    /// older than the last thing heard is answered already.
    pub fn on_sent(&mut self, at: Instant) {
        if at < self.heard {
            return;
        }
        if !self.active {
            self.active = true;
            self.next_hello = self.next_hello.min(self.last_hello.max(self.heard) + HELLO_ACTIVE);
        }
        self.unanswered.get_or_insert(at);
    }

    /// Something authenticated came over the path at `at`: data, control, or a probe's answer.
    pub fn on_received(&mut self, at: Instant) {
        if at < self.heard {
            return;
        }
        self.heard = at;
        self.unanswered = self.unanswered.filter(|&since| since > at);
        self.probes = 0;
        self.hellos = 0;
        self.dead = false;
    }

    /// Whether the verdict was given and nothing has been heard since.
    pub const fn is_dead(&self) -> bool {
        self.dead
    }

    /// When something was last heard.
    pub const fn last_heard(&self) -> Instant {
        self.heard
    }

    /// What to do now; ask until it says [`Action::None`].
    pub fn poll(&mut self, now: Instant) -> Action {
        if self.dead {
            return Action::None;
        }
        if self.data_deadline().is_some_and(|due| now >= due) {
            return self.count_probe(now);
        }
        if self.hellos == PROBES {
            if now >= self.hello_verdict() {
                return self.die();
            }
        } else if now >= self.next_hello {
            self.hellos += 1;
            self.last_hello = now;
            self.active = false;
            self.schedule_hello(now);
            return Action::SendProbe;
        }
        Action::None
    }

    /// When [`Liveness::poll`] has something to say, if nothing else happens, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        if self.dead {
            return None;
        }
        let idle = if self.hellos == PROBES { self.hello_verdict() } else { self.next_hello };
        match self.data_deadline() {
            Some(due) if due <= idle => Some((due, "unanswered traffic")),
            _ => Some((idle, "hello")),
        }
    }

    fn data_deadline(&self) -> Option<Instant> {
        let since = self.unanswered?;
        Some(match self.probes {
            0 => since + (self.rtt * 3).max(PATIENCE_MIN),
            _ => self.last_probe + (self.rtt * 2).max(INTERVAL_MIN),
        })
    }

    fn hello_verdict(&self) -> Instant {
        self.last_hello + (self.rtt * 3).max(LAST_HELLO_MIN)
    }

    fn count_probe(&mut self, now: Instant) -> Action {
        if self.probes == PROBES {
            return self.die();
        }
        self.probes += 1;
        self.last_probe = now;
        Action::SendProbe
    }

    fn die(&mut self) -> Action {
        self.dead = true;
        self.unanswered = None;
        Action::Dead
    }

    /// 80 % to 120 % of the interval, so that the hellos of many links do not fall together.
    fn schedule_hello(&mut self, now: Instant) {
        let base =
            if self.active || self.unanswered.is_some() { HELLO_ACTIVE.min(self.rest) } else { self.rest };
        let us = u64::try_from(base.as_micros()).unwrap_or(u64::MAX);
        self.next_hello = now + Duration::from_micros(us * 4 / 5 + self.rng.below(us * 2 / 5));
    }
}

#[cfg(test)]
mod tests;
