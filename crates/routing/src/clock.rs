//! Network time: our own clock, corrected to the median of what the neighbours sign.
//!
//! A neighbour's own record tells what its clock said when it was issued, up to one refresh
//! ago. The newest such statement is its vote. Agreement within a refresh counts as none, so a
//! sane clock is never moved; a box without one adopts its neighbours' time. A hostile majority
//! of neighbours can steer it, hence it serves only to refuse outliers of our own and to age
//! records (protocol finding 40): what has been accepted runs by the local clock.

use std::time::Duration;

use sinew_types::{Instant, Seqno, UnixMicros};

use crate::config::{AHEAD, EXPIRY, REFRESH};

/// Bound of the stride, milliseconds.
const STRIDE_MS: u64 = 1 << 14;

/// Milliseconds of a duration.
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The clock that seqnos are made and judged by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NetworkClock {
    unix_ms: i64,
    at: Instant,
    correction_ms: i64,
    /// What a corrected clock adds to its seqnos, milliseconds.
    stride_ms: i64,
}

impl NetworkClock {
    /// `random` tells the lives of a node apart whose clock is wrong in each.
    pub(crate) fn new(unix: UnixMicros, random: u64, now: Instant) -> Self {
        let stride_ms = (random % STRIDE_MS) as i64;
        let mut clock = Self { unix_ms: 0, at: now, correction_ms: 0, stride_ms };
        clock.set_unix(unix, now);
        clock
    }

    pub(crate) fn set_unix(&mut self, unix: UnixMicros, now: Instant) {
        self.unix_ms = i64::try_from(unix / 1000).unwrap_or(i64::MAX);
        self.at = now;
    }

    /// Our own clock, milliseconds since 1970.
    fn own_ms(&self, now: Instant) -> i64 {
        self.unix_ms.saturating_add(millis(now.since(self.at)))
    }

    /// Network time, milliseconds since 1970.
    pub(crate) fn now_ms(&self, now: Instant) -> i64 {
        self.own_ms(now).saturating_add(self.correction_ms)
    }

    /// Network time as a seqno for a record of our own. Corrected by the neighbours' records it is as
    /// coarse as they are, and may well be the number of a record of a former life: two records of one
    /// number look like two machines (protocol A6.5), hence a stride drawn once in each life.
    pub(crate) fn seqno(&self, now: Instant) -> Seqno {
        let stride = if self.correction_ms == 0 { 0 } else { self.stride_ms };
        Seqno::new(u64::try_from(self.now_ms(now).saturating_add(stride)).unwrap_or(0))
    }

    /// What a neighbour's record, issued just now or up to a refresh ago, says about our clock.
    pub(crate) fn vote(&self, seqno: Seqno, now: Instant) -> i64 {
        signed(seqno).saturating_sub(self.own_ms(now))
    }

    /// Takes the neighbours' votes; the median that lies nearer to our own clock wins a tie.
    pub(crate) fn correct(&mut self, votes: impl Iterator<Item = i64>) {
        let tolerated = -millis(REFRESH + AHEAD)..=millis(AHEAD);
        let mut votes: Vec<_> = votes.map(|v| if tolerated.contains(&v) { 0 } else { v }).collect();
        votes.sort_unstable();
        let middle = match votes.len() {
            0 => return,
            n if n % 2 == 1 => &votes[n / 2..=n / 2],
            n => &votes[n / 2 - 1..=n / 2],
        };
        self.correction_ms = middle.iter().copied().min_by_key(|v| v.unsigned_abs()).unwrap_or(0);
    }

    /// How long a record of `seqno` with a claimed life of `life` is still good, none if it is
    /// too old or too far ahead.
    pub(crate) fn remaining(&self, seqno: Seqno, life: Duration, now: Instant) -> Option<Duration> {
        let age = self.now_ms(now).saturating_sub(signed(seqno));
        if age < -millis(AHEAD) {
            return None;
        }
        let left = millis(life.min(EXPIRY)).saturating_sub(age.max(0));
        u64::try_from(left).ok().filter(|&ms| ms > 0).map(Duration::from_millis)
    }

    /// Whether a seqno lies further ahead than anyone would accept.
    pub(crate) fn is_ahead(&self, seqno: Seqno, now: Instant) -> bool {
        signed(seqno).saturating_sub(self.now_ms(now)) > millis(AHEAD)
    }

    /// Whether our own seqno is due for a refresh.
    pub(crate) fn is_stale(&self, seqno: Seqno, now: Instant) -> bool {
        self.now_ms(now).saturating_sub(signed(seqno)) >= millis(REFRESH)
    }
}

fn signed(seqno: Seqno) -> i64 {
    i64::try_from(seqno.value()).unwrap_or(i64::MAX)
}

/// Whether `new` is so much newer than `old` that it is told even without a change of metric.
pub(crate) fn much_newer(new: Seqno, old: Seqno) -> bool {
    signed(new).saturating_sub(signed(old)) >= millis(crate::config::RETELL)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;
    const T: u64 = 1_800_000_000_000;

    fn clock(ms: u64) -> NetworkClock {
        NetworkClock::new(ms * 1000, 7, Instant::ZERO)
    }

    #[test]
    fn records_are_good_for_an_hour_and_never_from_far_ahead() {
        let clock = clock(T);
        let life =
            |seqno| clock.remaining(Seqno::new(seqno), EXPIRY, Instant::ZERO).map(|d| d.as_secs() / 60);
        assert_eq!(life(T), Some(60));
        assert_eq!(life(T - 59 * MINUTE), Some(1));
        assert_eq!(life(T - 60 * MINUTE), None);
        assert_eq!(life(T + 10 * MINUTE), Some(60));
        assert_eq!(life(T + 11 * MINUTE), None);
    }

    #[test]
    fn the_median_of_the_neighbours_corrects_a_wrong_clock_only() {
        let year = 365 * 24 * 60 * 60_000_i64;
        // votes, resulting correction
        let table: [(&[i64], i64); 7] = [
            (&[], 0),
            (&[-29 * 60_000], 0),
            (&[year], year),
            (&[year, 0], 0),
            (&[year, year, 0], year),
            (&[-year, 0, year], 0),
            (&[-year, -year, 0, -1], 0),
        ];
        for (votes, expected) in table {
            let mut clock = clock(T);
            clock.correct(votes.iter().copied());
            assert_eq!(clock.correction_ms, expected, "{votes:?}");
        }
    }

    #[test]
    fn two_lives_with_a_wrong_clock_do_not_meet_on_one_number() {
        let year = 365 * 24 * 60 * MINUTE;
        let lives = [3, 4].map(|random| {
            let mut clock = NetworkClock::new((T - year) * 1000, random, Instant::ZERO);
            clock.correct([year as i64].into_iter());
            clock.seqno(Instant::ZERO).value()
        });
        assert_eq!(lives, [T + 3, T + 4]);
        assert_eq!(clock(T).seqno(Instant::ZERO).value(), T, "a sane clock tells the time");
    }

    #[test]
    fn time_passes_with_the_local_clock() {
        let clock = clock(T);
        let later = Instant::from_micros(31 * MINUTE * 1000);
        assert!(!clock.is_stale(Seqno::new(T), Instant::ZERO));
        assert!(clock.is_stale(Seqno::new(T), later));
        assert!(clock.is_ahead(Seqno::new(T + 11 * MINUTE), Instant::ZERO));
        assert!(!clock.is_ahead(Seqno::new(T + 11 * MINUTE), later));
    }
}
