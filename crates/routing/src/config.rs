//! What a router is told at birth, and the constants of the protocol.
//!
//! The constants stand here together because they are a balance: how fast a change is told,
//! how long silence lasts, how much work one neighbour may cause.

use std::sync::Arc;
use std::time::Duration;

use sinew_types::{Class, Identity, Metric, Seqno};

/// Origins are refreshed this often (routing §4.3).
pub const REFRESH: Duration = Duration::from_secs(30 * 60);
/// A record is good for this long after its seqno's time; a longer claim is cut to this.
pub const EXPIRY: Duration = Duration::from_secs(60 * 60);
/// A seqno further ahead of network time is refused, our own persisted one included (protocol A6).
pub(crate) const AHEAD: Duration = Duration::from_secs(10 * 60);
/// A newer seqno alone is told once it is this much newer than the one told (routing-model D8).
pub(crate) const RETELL: Duration = Duration::from_secs(10 * 60);
/// Mere metric changes wait this long for company.
pub const BATCH: Duration = Duration::from_millis(50);
/// A request not repeated for this long is no longer owed an answer (routing-model D4).
pub(crate) const WANT_EXPIRY: Duration = Duration::from_secs(30);
/// Silence about an unreachable origin before its feasibility distance may go (routing-model D7).
pub(crate) const SILENCE: Duration = Duration::from_secs(15);
/// An evicted origin is not admitted again for this long (routing §4.4 rule 7).
pub(crate) const READMIT_HOLD: Duration = Duration::from_secs(60);
/// Pauses between repeated requests; the last one is kept.
pub(crate) const RETRY: [Duration; 4] =
    [Duration::from_millis(300), Duration::from_secs(1), Duration::from_secs(3), Duration::from_secs(10)];
/// Its own newest record is shown to a neighbour so often at once; the rest waits for the sweep.
pub(crate) const SHOWS_AT_ONCE: u8 = 4;
/// So many next hops are shown records of destinations behind them, in a sweep.
pub(crate) const SHOWS_PER_SWEEP: usize = 32;
/// Chain steps that one neighbour may make us compute, per second (protocol A6).
pub(crate) const HASH_RATE: u64 = 65_536;
/// Chain steps allowed at once: the first proof of about a thousand origins.
pub(crate) const HASH_BURST: u64 = 1 << 20;
/// Signatures that one neighbour may make us check, per second (protocol A5).
pub(crate) const SIGNATURE_RATE: u64 = 200;
/// Signatures allowed at once: the initial synchronisation of a full table.
pub(crate) const SIGNATURE_BURST: u64 = 4096;
/// So many bad values close the adjacency (protocol A6).
pub(crate) const BAD_VALUES: u32 = 8;
/// How long it stays closed.
pub const BAD_PAUSE: Duration = Duration::from_secs(60);
/// Origins a full node keeps (routing §4.6).
pub const DEFAULT_K: usize = 4096;

/// From what difference on a metric change is worth telling.
///
/// Holding back is safe: what was told is never below the feasibility distance, so a neighbour
/// that believes an old metric still points strictly downhill. Only stretch is at stake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Significance {
    /// The difference must exceed this share of the path metric, in eighths.
    pub eighths: u16,
    /// And be at least so many units.
    pub units: u16,
}

impl Significance {
    /// More than 12.5 % of the path metric and at least two units (routing §4.1).
    pub const DAMPED: Self = Self { eighths: 1, units: 2 };
    /// Every difference counts; used where exact shortest paths are checked.
    pub const EXACT: Self = Self { eighths: 0, units: 1 };

    /// Whether a path that was `old` and is `new` has changed enough.
    pub fn counts(self, old: Metric, new: Metric) -> bool {
        let change = old.units().abs_diff(new.units());
        change >= self.units && u32::from(change) * 8 > u32::from(self.eighths) * u32::from(old.units())
    }
}

/// How a router is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// The key it speaks for.
    pub identity: Arc<Identity>,
    /// Router or stub.
    pub class: Class,
    /// How many origins it keeps, direct neighbours not counted; at most 65,535.
    pub k: usize,
    /// The last own seqno from stable storage, if any; ignored when implausible (protocol A6).
    pub seqno: Option<Seqno>,
    /// When a metric change is told.
    pub significance: Significance,
}

impl Config {
    /// The defaults for `identity`: a router with room for [`DEFAULT_K`] origins.
    pub const fn new(identity: Arc<Identity>) -> Self {
        Self { identity, class: Class::Router, k: DEFAULT_K, seqno: None, significance: Significance::DAMPED }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_large_enough_share_of_the_path_is_significant() {
        // old, new, significant
        let table = [(10, 10, false), (10, 11, false), (10, 12, true), (16, 18, false), (16, 19, true)];
        let table =
            table.into_iter().chain([(100, 112, false), (100, 113, true), (100, 87, true), (1, 3, true)]);
        for (old, new, expected) in table {
            let (old, new) = (Metric::new(old), Metric::new(new));
            assert_eq!(Significance::DAMPED.counts(old, new), expected, "{old:?} -> {new:?}");
        }
        assert!(Significance::EXACT.counts(Metric::new(100), Metric::new(101)));
        assert!(!Significance::EXACT.counts(Metric::new(100), Metric::new(100)));
    }
}
