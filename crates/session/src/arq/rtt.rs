//! Round trip and retransmission time-out (RFC 6298), with the bounds of protocol A5.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
const MIN: Duration = Duration::from_millis(50);
const MAX: Duration = Duration::from_secs(3);

/// Smoothed round trip of one association; control segments, pings and path challenges feed it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rtt {
    smooth: Option<Duration>,
    var: Duration,
}

impl Rtt {
    pub(crate) fn sample(&mut self, rtt: Duration) {
        match self.smooth {
            None => {
                self.smooth = Some(rtt);
                self.var = rtt / 2;
            }
            Some(old) => {
                self.var = (self.var * 3 + old.abs_diff(rtt)) / 4;
                self.smooth = Some((old * 7 + rtt) / 8);
            }
        }
    }

    pub(crate) const fn smooth(&self) -> Option<Duration> {
        self.smooth
    }

    /// `rtt` in protocol A3's rules, a guess while nothing is known.
    pub(crate) fn estimate(&self) -> Duration {
        self.smooth.unwrap_or(Duration::from_millis(100))
    }

    /// Time-out after `doublings` time-outs in a row.
    pub(crate) fn timeout(&self, doublings: u32) -> Duration {
        let base = self.smooth.map_or(FIRST, |smooth| (smooth + self.var * 4).clamp(MIN, MAX));
        (base * (1 << doublings.min(6))).min(MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_is_half_a_second_at_first_then_follows_the_round_trip_within_bounds() {
        let ms = Duration::from_millis;
        let mut rtt = Rtt::default();
        assert_eq!((rtt.timeout(0), rtt.timeout(1), rtt.timeout(9)), (ms(500), ms(1000), ms(3000)));
        rtt.sample(ms(1));
        assert_eq!(rtt.timeout(0), ms(50));
        let mut slow = Rtt::default();
        for _ in 0..50 {
            slow.sample(ms(200));
        }
        assert!(slow.timeout(0) >= ms(200) && slow.timeout(0) < ms(210));
    }
}
