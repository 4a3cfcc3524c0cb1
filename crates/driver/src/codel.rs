//! When to tell senders that a queue stands: CoDel (RFC 8289).
//!
//! A burst may fill a queue; a queue that never gets short is only delay. So the measure is not
//! length but how long the packets at the head have waited: more than a target, for an interval
//! without a break, and one flow is told, then again at a pace that quickens with the square root
//! until the queue gets short. "Told" is the caller's affair: a congestion mark, or one loss.

use std::time::Duration;

use sinew_types::Instant;

/// The state of one queue.
#[derive(Debug)]
pub(crate) struct CoDel {
    target: Duration,
    interval: Duration,
    /// When the wait will have been above the target for a whole interval.
    above_until: Option<Instant>,
    dropping: bool,
    next: Instant,
    count: u32,
    last_count: u32,
}

impl CoDel {
    /// For a queue in which waiting longer than `target` without a break for `interval` (a usual
    /// round trip or more) is a sign of senders that do not know of each other.
    pub(crate) const fn new(target: Duration, interval: Duration) -> Self {
        Self {
            target,
            interval,
            above_until: None,
            dropping: false,
            next: Instant::ZERO,
            count: 0,
            last_count: 0,
        }
    }

    /// A packet that `waited` leaves the queue at `now`: whether its sender is to be told.
    pub(crate) fn on_dequeue(&mut self, waited: Duration, now: Instant) -> bool {
        let due = self.stands(waited, now);
        if !due {
            self.dropping = false;
            return false;
        }
        if self.dropping {
            if now < self.next {
                return false;
            }
            self.count += 1;
            self.next = self.after(self.next);
            return true;
        }
        self.dropping = true;
        // RFC 8289 §5.4: back in trouble soon after, go on about where it had worked.
        let recent = now.since(self.next) < 16 * self.interval;
        let delta = self.count.saturating_sub(self.last_count);
        self.count = if delta > 1 && recent { delta } else { 1 };
        self.last_count = self.count;
        self.next = self.after(now);
        true
    }

    fn stands(&mut self, waited: Duration, now: Instant) -> bool {
        if waited < self.target {
            self.above_until = None;
            return false;
        }
        now >= *self.above_until.get_or_insert(now + self.interval)
    }

    /// RFC 8289 §3.3: the control law.
    fn after(&self, at: Instant) -> Instant {
        at + self.interval.div_f64(f64::from(self.count.max(1)).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_millis(5);
    const INTERVAL: Duration = Duration::from_millis(100);
    const NOBODY: [u64; 0] = [];

    /// One packet each millisecond from `from_ms` on, each having waited `waited_ms`: when somebody was told.
    fn told(codel: &mut CoDel, from_ms: u64, to_ms: u64, waited_ms: u64) -> Vec<u64> {
        (from_ms..to_ms)
            .filter(|ms| codel.on_dequeue(Duration::from_millis(waited_ms), Instant::from_micros(ms * 1000)))
            .collect()
    }

    #[test]
    fn a_short_wait_or_a_short_burst_tells_nobody() {
        let mut codel = CoDel::new(TARGET, INTERVAL);
        assert_eq!(told(&mut codel, 0, 1000, 4), NOBODY);
        assert_eq!(told(&mut codel, 1000, 1099, 50), NOBODY);
        assert_eq!(told(&mut codel, 1099, 1100, 1), NOBODY);
        assert_eq!(told(&mut codel, 1100, 1199, 50), NOBODY, "the break began a new interval");
    }

    #[test]
    fn a_standing_queue_is_told_of_at_a_quickening_pace() {
        let mut codel = CoDel::new(TARGET, INTERVAL);
        // After one interval; then 100/sqrt(n) ms apart.
        assert_eq!(told(&mut codel, 0, 450, 20), [100, 200, 271, 329, 379, 424]);
        assert_eq!(told(&mut codel, 450, 451, 1), NOBODY);
        // Soon after, it goes on at the pace that had worked, not from the start.
        let again = told(&mut codel, 451, 700, 20);
        assert_eq!(again[0], 551);
        assert!(again[1] - again[0] < 50, "{again:?}");
    }
}
