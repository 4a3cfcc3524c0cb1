//! Is the path still there? Silence alone proves nothing; silence after we sent something does.
//!
//! Three rules, all ending in probes before any verdict:
//! - *in use*: traffic unanswered for max(3 RTT, 120 ms) starts three probes max(2 RTT, 100 ms)
//!   apart; if the last of them stays unanswered as long, the path is dead: 420 ms on a LAN.
//! - *idle*: a hello every 5 s (every second while in use, for the RTT), with 20 % jitter; three in
//!   a row with nothing heard, and the path is dead;
//! - *one way*: things are heard, but no answer to a probe. A firewall that drops one direction looks
//!   like this. Nine probes in about 3 s, or five in about 700 ms if the far end has asked us for a
//!   sign of life, which it does when it hears nothing from us.
//!
//! On a path that loses a good part of its packets anyway, so many probes are sent that all of them are
//! lost by chance once in a thousand times: three up to one loss in ten, ten at one in two.
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
/// Probes that must stay unanswered while other things are heard, and the least time between them. A
/// queue that has grown all of a sudden delays answers as well, so this has patience.
const ONE_WAY: (u8, Duration) = (9, Duration::from_millis(300));
/// The same when the far end doubts the path too.
const DOUBTED: (u8, Duration) = (5, Duration::from_millis(120));
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
    /// Probes that must stay unanswered, by what the path loses.
    enough: u8,
    /// Whether traffic was sent since the last hello.
    active: bool,
    /// Probes of any kind since the last answer.
    asked: Option<Asked>,
    doubt: Option<Doubt>,
    dead: bool,
}

#[derive(Debug)]
struct Asked {
    first: Instant,
    last: Instant,
    count: u8,
}

/// Why answers are asked for though things are heard.
#[derive(Debug)]
struct Doubt {
    probes: u8,
    interval: Duration,
    since: Instant,
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
            enough: PROBES,
            active: false,
            asked: None,
            doubt: None,
            dead: false,
        };
        liveness.schedule_hello(now);
        liveness
    }

    /// The smoothed round trip time, on which every patience here depends.
    pub fn set_rtt(&mut self, rtt: Duration) {
        self.rtt = rtt.min(RTT_MAX);
    }

    /// The share of probes that the path has not answered lately, though it lives.
    pub fn set_loss(&mut self, permille: u16) {
        // The least n with loss^n below a thousandth.
        self.enough = match permille {
            0..=100 => PROBES,
            101..=175 => 4,
            176..=250 => 5,
            251..=315 => 6,
            316..=420 => 8,
            _ => 10,
        };
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
        // Heard when the answer should long have come.
        let patience = (self.rtt * 3).max(ONE_WAY.1);
        if self.doubt.is_none() && self.asked.as_ref().is_some_and(|asked| at >= asked.first + patience) {
            self.doubt = Some(Doubt { probes: ONE_WAY.0, interval: ONE_WAY.1, since: at });
        }
    }

    /// The answer to a probe came: both directions work.
    pub fn on_answered(&mut self, at: Instant) {
        (self.asked, self.doubt) = (None, None);
        self.on_received(at);
    }

    /// The far end asks for a sign of life over this path: perhaps it hears nothing from us.
    pub fn on_doubted(&mut self, at: Instant) {
        if self.dead || self.doubt.as_ref().is_some_and(|doubt| doubt.probes == DOUBTED.0) {
            return;
        }
        self.asked = None;
        self.doubt = Some(Doubt { probes: DOUBTED.0, interval: DOUBTED.1, since: at });
    }

    /// Whether the verdict was given and nothing has been heard since.
    pub const fn is_dead(&self) -> bool {
        self.dead
    }

    /// Whether probes are on their way because traffic went unanswered.
    pub const fn is_asking_for_traffic(&self) -> bool {
        self.probes > 0
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
        if self.doubt_deadline().is_some_and(|due| now >= due) {
            return self.ask_again(now);
        }
        if self.data_deadline().is_some_and(|due| now >= due) {
            return self.count_probe(now);
        }
        if self.hellos >= self.enough {
            if now >= self.hello_verdict() {
                return self.die();
            }
        } else if now >= self.next_hello {
            self.hellos += 1;
            self.last_hello = now;
            self.active = false;
            self.schedule_hello(now);
            return self.ask(now);
        }
        Action::None
    }

    /// When [`Liveness::poll`] has something to say, if nothing else happens, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        if self.dead {
            return None;
        }
        let idle = if self.hellos >= self.enough { self.hello_verdict() } else { self.next_hello };
        let doubt = self.doubt_deadline().map(|due| (due, "unanswered probes"));
        let data = self.data_deadline().map(|due| (due, "unanswered traffic"));
        let first = [doubt, data].into_iter().flatten().min_by_key(|&(due, _)| due);
        first.filter(|&(due, _)| due <= idle).or(Some((idle, "hello")))
    }

    fn doubt_deadline(&self) -> Option<Instant> {
        let doubt = self.doubt.as_ref()?;
        Some(match &self.asked {
            None => doubt.since,
            Some(asked) => asked.last + (self.rtt * 2).max(doubt.interval),
        })
    }

    fn ask_again(&mut self, now: Instant) -> Action {
        let enough = self.doubt.as_ref().zip(self.asked.as_ref());
        if enough.is_some_and(|(doubt, asked)| asked.count >= doubt.probes.max(self.enough)) {
            return self.die();
        }
        self.ask(now)
    }

    /// Every probe asks for an answer, whatever it is sent for.
    fn ask(&mut self, now: Instant) -> Action {
        let asked = self.asked.get_or_insert(Asked { first: now, last: now, count: 0 });
        asked.last = now;
        asked.count = asked.count.saturating_add(1);
        Action::SendProbe
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
        if self.probes >= self.enough {
            return self.die();
        }
        self.probes += 1;
        self.last_probe = now;
        self.ask(now)
    }

    fn die(&mut self) -> Action {
        self.dead = true;
        (self.unanswered, self.doubt) = (None, None);
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
