//! A token bucket that may go into debt: work in hand is finished, the next waits.

use std::time::Duration;

use crate::Instant;

/// So many units per second, so many at once.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    rate: u64,
    burst: i64,
    left: i64,
    at: Instant,
}

impl Budget {
    /// A full bucket: `rate` units a second, at most `burst` of them saved.
    pub fn new(rate: u64, burst: u64, now: Instant) -> Self {
        let burst = i64::try_from(burst).unwrap_or(i64::MAX);
        Self { rate, burst, left: burst, at: now }
    }

    fn refill(&mut self, now: Instant) {
        let passed = u64::try_from(now.since(self.at).as_micros()).unwrap_or(u64::MAX);
        let earned = passed.saturating_mul(self.rate) / 1_000_000;
        self.left = self.left.saturating_add(i64::try_from(earned).unwrap_or(i64::MAX));
        // What does not make a whole unit yet stays in the time.
        self.at += Duration::from_micros(earned * 1_000_000 / self.rate);
        if self.left >= self.burst {
            (self.left, self.at) = (self.burst, self.at.max(now));
        }
    }

    /// Takes `n`, into debt if need be.
    pub fn charge(&mut self, n: u64, now: Instant) {
        self.refill(now);
        self.left = self.left.saturating_sub(i64::try_from(n).unwrap_or(i64::MAX));
    }

    /// Takes one if it is there.
    pub fn try_take(&mut self, now: Instant) -> bool {
        self.refill(now);
        let granted = self.left > 0;
        self.left -= i64::from(granted);
        granted
    }

    /// Whether nothing was taken that is not back.
    pub fn is_full(&self, now: Instant) -> bool {
        let mut copy = *self;
        copy.refill(now);
        copy.left >= copy.burst
    }

    /// When there will be something to take; `None` if there is now.
    pub fn ready_at(&self, now: Instant) -> Option<Instant> {
        let mut copy = *self;
        copy.refill(now);
        let missing = u64::try_from(1 - copy.left).ok().filter(|&n| n > 0)?;
        let wait = missing.saturating_mul(1_000_000).div_ceil(self.rate);
        // Later than now, whatever was rounded: a timer that is due and finds nothing to do would
        // be due for ever.
        Some((copy.at + Duration::from_micros(wait)).max(now + Duration::from_micros(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    #[test]
    fn a_burst_then_the_rate() {
        let mut budget = Budget::new(10, 3, at(0));
        assert!((0..3).all(|_| budget.try_take(at(0))));
        assert!(!budget.try_take(at(0)));
        assert_eq!(budget.ready_at(at(0)), Some(at(100)));
        assert!(!budget.try_take(at(99)));
        assert!(budget.try_take(at(100)));
        assert!((0..3).all(|_| budget.try_take(at(60_000))));
        assert!(!budget.try_take(at(60_000)));
    }

    #[test]
    fn debt_is_worked_off() {
        let mut budget = Budget::new(1000, 10, at(0));
        budget.charge(5010, at(0));
        assert_eq!(budget.ready_at(at(0)), Some(at(5001)));
        assert_eq!(budget.ready_at(at(5001)), None);
    }

    #[test]
    fn it_is_ready_when_it_said_or_says_a_later_time() {
        for debt in 1..2_000 {
            let mut budget = Budget::new(65_536, 1, Instant::ZERO);
            budget.charge(debt * 7, Instant::ZERO);
            let mut now = Instant::from_micros(debt * 13);
            let mut asked = 0;
            while let Some(at) = budget.ready_at(now) {
                assert!(at > now, "debt {debt}: asked at {now:?}, told {at:?}");
                (now, asked) = (at, asked + 1);
                assert!(asked < 5, "debt {debt}");
            }
        }
    }
}
