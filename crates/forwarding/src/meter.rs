//! A limit of bandwidth: a bucket of bytes that fills at the rate.
//!
//! A packet passes if the bucket holds its bytes, else it is dropped (a policer): nothing waits here, so a
//! limit costs neither memory nor delay, and a TCP sender finds the rate by its losses. Two things make that
//! bearable. The bucket holds [`BURST`] of the rate, so that a window sent at once is not cut to pieces, and a
//! sender that waits for its retransmission timer has not lost the time. And large packets leave the last
//! quarter alone, so that small ones (acknowledgements, handshakes, questions) still pass while bulk is
//! refused.
//!
//! Credit is counted in millionths of a byte: a microsecond at the least rate is worth less than one, and no
//! rounding may add up to bandwidth.

use core::time::Duration;

use sinew_types::{Instant, Rate};

/// What a full bucket is worth at its rate. Three quarters of it outlast the least retransmission timer of
/// Linux, 200 ms.
const BURST: Duration = Duration::from_millis(300);
/// Least bytes of a full bucket: a super-packet from the kernel.
const LEAST: u64 = 64 * 1024;
/// Records up to this size may take the last of a bucket: every handshake, with a relay's header.
const SMALL: usize = 300;
/// Parts of a byte.
const MICRO: u64 = 1_000_000;

/// One limit and how much of it is left.
#[derive(Clone, Debug)]
pub struct Meter {
    rate: Rate,
    /// Millionths of bytes.
    credit: u64,
    full: u64,
    at: Instant,
}

impl Meter {
    /// A full bucket for `rate`.
    pub fn new(rate: Rate, now: Instant) -> Self {
        // Fits: the highest rate makes 3.8e16 of it.
        let burst = rate.bytes_per_second() * BURST.as_micros() as u64;
        let full = burst.max(LEAST * MICRO);
        Self { rate, credit: full, full, at: now }
    }

    /// What it limits to.
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// Whether a record of `bytes` may pass now.
    pub fn admits(&mut self, bytes: usize, now: Instant) -> bool {
        let passed = now.since(self.at).as_micros() as u64;
        if passed > 0 {
            let earned = passed.saturating_mul(self.rate.bytes_per_second());
            self.credit = self.credit.saturating_add(earned).min(self.full);
            self.at = now;
        }
        let keep = if bytes <= SMALL { 0 } else { self.full / 4 };
        self.credit >= keep + bytes as u64 * MICRO
    }

    /// Takes a record of `bytes` that was admitted.
    pub fn take(&mut self, bytes: usize) {
        self.credit = self.credit.saturating_sub(bytes as u64 * MICRO);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str) -> Rate {
        text.parse().unwrap()
    }

    fn at(us: u64) -> Instant {
        Instant::from_micros(5_000_000 + us)
    }

    /// Bytes that pass of packets of `size` bytes offered `every` microseconds until `end`.
    fn passed(meter: &mut Meter, size: usize, every: u64, end: u64) -> usize {
        let mut sum = 0;
        for us in (0..end).step_by(every as usize) {
            if meter.admits(size, at(us)) {
                meter.take(size);
                sum += size;
            }
        }
        sum
    }

    #[test]
    fn a_burst_then_exactly_the_rate_whatever_the_rate_and_the_steps() {
        for text in ["64 kbit/s", "777 kbit/s", "20 Mbit/s", "1 Gbit/s", "2.5 Gbit/s"] {
            for every in [1, 7, 1000] {
                let (rate, end) = (rate(text), 3_000_000u64);
                let mut meter = Meter::new(rate, at(0));
                let (usable, size) = (meter.full / MICRO * 3 / 4, 1400);
                // No more is offered than fits into the time.
                let offered = end.div_ceil(every) * size as u64;
                let wanted = (usable + rate.bytes_per_second() * 3).min(offered);
                let sum = passed(&mut meter, size, every, end) as u64;
                assert!(sum <= wanted, "{text} every {every}: {sum} of {wanted}");
                assert!(sum + 3 * size as u64 >= wanted, "{text} every {every}: {sum} of {wanted}");
            }
        }
    }

    #[test]
    fn a_bucket_never_holds_more_than_its_burst_and_at_least_a_super_packet() {
        for (text, full) in [("64 kbit/s", 65_536), ("20 Mbit/s", 750_000), ("1 Gbit/s", 37_500_000)] {
            let mut meter = Meter::new(rate(text), at(0));
            for us in [0, 3_600_000_000, u64::MAX / 2] {
                assert!(meter.admits(SMALL, at(us)));
                assert_eq!(meter.credit, full * MICRO, "{text}");
            }
        }
        let mut meter = Meter::new(Rate::MAX, at(0));
        assert!(meter.admits(65_000, at(u64::MAX / 2)), "nothing overflows");
    }

    #[test]
    fn small_records_pass_while_large_ones_are_refused_and_not_for_ever() {
        let mut meter = Meter::new(rate("64 kbit/s"), at(0));
        while meter.admits(1400, at(0)) {
            meter.take(1400);
        }
        let mut small = 0;
        while meter.admits(SMALL, at(0)) {
            meter.take(SMALL);
            small += SMALL;
        }
        assert!((16_384 - SMALL..16_384 + 1400).contains(&small), "{small}");
        assert!(!meter.admits(1, at(0)) || meter.credit >= MICRO);
    }

    #[test]
    fn time_that_stands_still_or_goes_back_earns_nothing() {
        let mut meter = Meter::new(rate("20 Mbit/s"), at(1_000_000));
        while meter.admits(1400, at(1_000_000)) {
            meter.take(1400);
        }
        for us in [1_000_000, 0, 999_999] {
            assert!(!meter.admits(1400, at(us)));
        }
        assert!(meter.admits(1400, at(1_000_560)), "1,400 bytes at 2.5 bytes a microsecond");
    }
}
