//! A rank in one machine word, for tables with a million entries.

use core::fmt;
use std::num::NonZeroU64;

use sinew_types::{Metric, Rank, Seqno};

/// Seqno and metric packed so that the greater value is the better rank.
///
/// The order is [`Rank::better_than`]: newer first, then nearer. `Option<PackedRank>` takes
/// eight bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PackedRank(NonZeroU64);

impl PackedRank {
    pub(crate) fn new(seqno: Seqno, metric: Metric) -> Self {
        let nearness = u16::MAX - metric.units();
        let word = seqno.value() << 16 | u64::from(nearness);
        Self(NonZeroU64::new(word).expect("a metric is at most 1023, so its complement is not zero"))
    }

    pub(crate) fn seqno(self) -> Seqno {
        Seqno::new(self.0.get() >> 16)
    }

    pub(crate) fn metric(self) -> Metric {
        Metric::new(u16::MAX - self.0.get() as u16)
    }

    pub(crate) fn to_bits(self) -> u64 {
        self.0.get()
    }

    pub(crate) fn from_bits(bits: u64) -> Option<Self> {
        NonZeroU64::new(bits).map(Self)
    }

    pub(crate) fn rank(self) -> Rank {
        Rank { seqno: self.seqno(), metric: self.metric() }
    }
}

impl fmt::Debug for PackedRank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({:?}, {:?})", self.seqno(), self.metric())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_order_is_the_order_of_ranks() {
        let ranks: Vec<_> = [0, 1, 2, Seqno::MAX.value()]
            .into_iter()
            .flat_map(|s| [0, 1, 5, 1022, 1023].map(|m| (Seqno::new(s), Metric::new(m))))
            .collect();
        for &(s, m) in &ranks {
            let packed = PackedRank::new(s, m);
            assert_eq!((packed.seqno(), packed.metric()), (s, m));
            for &(s2, m2) in &ranks {
                let other = PackedRank::new(s2, m2);
                assert_eq!(packed > other, packed.rank().better_than(other.rank()), "{packed:?} {other:?}");
            }
        }
        assert_eq!(size_of::<Option<PackedRank>>(), 8);
    }
}
