//! How often a path must be used to be kept open, where a translator on the way forgets (protocol A10.7).
//!
//! Nobody says for how long a mapping lives. It shows when it did not: the peer meets us at another
//! place, or has to take the path anew, after we were silent. Then half of that silence is the
//! longest that we allow ourselves; since the translator may have had a bad day, it grows again
//! slowly.

use std::time::Duration;

use sinew_types::Instant;

use crate::liveness::HELLO_IDLE;

/// No path is used more often just to keep it open.
const LEAST: Duration = Duration::from_secs(1);
/// Without trouble for so long, the interval grows by a quarter.
const GROW: Duration = Duration::from_secs(600);

/// The interval of one path.
#[derive(Clone, Copy, Debug)]
pub struct Upkeep {
    interval: Duration,
    changed: Instant,
}

impl Upkeep {
    /// Nothing is known of translators.
    pub const fn new(now: Instant) -> Self {
        Self { interval: HELLO_IDLE, changed: now }
    }

    /// The peer had lost us, or met us elsewhere, after we had been silent for so long.
    pub fn on_lost(&mut self, silence: Duration, now: Instant) {
        self.interval = (silence / 2).clamp(LEAST, self.interval);
        self.changed = now;
    }

    /// How long the path may rest.
    pub fn interval(&mut self, now: Instant) -> Duration {
        if self.interval < HELLO_IDLE && now.since(self.changed) >= GROW {
            self.interval = (self.interval * 5 / 4).min(HELLO_IDLE);
            self.changed = now;
        }
        self.interval
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn the_interval_halves_the_silence_that_was_too_long_and_grows_back() {
        let mut upkeep = Upkeep::new(at(0));
        assert_eq!(upkeep.interval(at(10_000)), HELLO_IDLE, "no trouble, no change");
        upkeep.on_lost(Duration::from_secs(5), at(10_000));
        assert_eq!(upkeep.interval(at(10_001)), Duration::from_millis(2500));
        upkeep.on_lost(Duration::from_millis(2500), at(10_010));
        assert_eq!(upkeep.interval(at(10_011)), Duration::from_millis(1250));
        upkeep.on_lost(Duration::from_millis(300), at(10_020));
        assert_eq!(upkeep.interval(at(10_021)), LEAST);
        upkeep.on_lost(Duration::from_secs(60), at(10_030));
        assert_eq!(upkeep.interval(at(10_031)), LEAST, "never longer by a loss");
        let grown: Vec<_> = (1..=9).map(|n| upkeep.interval(at(10_031 + 600 * n))).collect();
        assert!(grown.windows(2).all(|two| two[0] <= two[1]) && grown[8] == HELLO_IDLE, "{grown:?}");
    }
}
