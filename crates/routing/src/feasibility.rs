//! What may be selected and what must be told: pure functions over ranks.

use sinew_types::Seqno;

use crate::clock::much_newer;
use crate::config::Significance;
use crate::rank::PackedRank;

/// Whether an advertisement may be selected: strictly better than anything we have had.
/// Equal is not enough (RFC 8966 §3.5.1): with `<=` two nodes can point at each other.
pub(crate) fn feasible(adv: PackedRank, fd: Option<PackedRank>) -> bool {
    fd.is_none_or(|fd| adv > fd)
}

/// When something is to be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing to say.
    Nothing,
    /// It may wait for company.
    Soon,
    /// In the next frame.
    Now,
}

/// What a neighbour that was told `told` and asked for `asked` has to hear, now that we would
/// like it to know `want`. `owed`: it knew of a newer seqno than we did, and now ours is newer.
pub(crate) fn need(
    want: Option<PackedRank>,
    told: Option<PackedRank>,
    asked: Option<Seqno>,
    owed: bool,
    significance: Significance,
) -> Need {
    let (want, told) = match (want, told) {
        (None, None) => return Need::Nothing,
        (Some(want), Some(told)) => (want, told),
        (None, Some(_)) | (Some(_), None) => return Need::Now,
    };
    if asked.is_some_and(|seqno| seqno <= want.seqno()) || want.seqno() < told.seqno() {
        return Need::Now;
    }
    // D8: freshness alone is told rarely, to keep the origin from expiring.
    let fresh = much_newer(want.seqno(), told.seqno()) || owed && want.seqno() > told.seqno();
    let changed = fresh || significance.counts(told.metric(), want.metric());
    if changed { Need::Soon } else { Need::Nothing }
}

#[cfg(test)]
mod tests {
    use sinew_types::Metric;

    use super::*;

    fn rank(seqno: u64, metric: u16) -> PackedRank {
        PackedRank::new(Seqno::new(seqno), Metric::new(metric))
    }

    #[test]
    fn only_strictly_better_is_feasible() {
        // advertisement, feasibility distance, feasible
        let table = [
            (rank(1, 9), None, true),
            (rank(1, 4), Some(rank(1, 5)), true),
            (rank(1, 5), Some(rank(1, 5)), false),
            (rank(1, 6), Some(rank(1, 5)), false),
            (rank(2, 900), Some(rank(1, 5)), true),
            (rank(0, 0), Some(rank(1, 5)), false),
        ];
        for (adv, fd, expected) in table {
            assert_eq!(feasible(adv, fd), expected, "{adv:?} against {fd:?}");
        }
    }

    #[test]
    fn what_is_said_and_when() {
        let ten_minutes = 600_000;
        let old = rank(1_000, 20);
        // want, told, asked, need
        let table = [
            (None, None, None, Need::Nothing),
            (Some(old), None, None, Need::Now),
            (None, Some(old), None, Need::Now),
            (Some(old), Some(old), None, Need::Nothing),
            (Some(rank(1_000, 22)), Some(old), None, Need::Nothing),
            (Some(rank(1_000, 23)), Some(old), None, Need::Soon),
            (Some(rank(1_000, 17)), Some(old), None, Need::Soon),
            (Some(rank(1_001, 20)), Some(old), None, Need::Nothing),
            (Some(rank(1_000 + ten_minutes, 20)), Some(old), None, Need::Soon),
            (Some(rank(1_001, 20)), Some(old), Some(1_001), Need::Now),
            (Some(rank(1_001, 20)), Some(old), Some(1_002), Need::Nothing),
            (Some(rank(999, 20)), Some(old), None, Need::Now),
        ];
        for (want, told, asked, expected) in table {
            let asked = asked.map(Seqno::new);
            let got = need(want, told, asked, false, Significance::DAMPED);
            assert_eq!(got, expected, "want {want:?} told {told:?} asked {asked:?}");
        }
        for (seqno, expected) in [(1_000, Need::Nothing), (1_001, Need::Soon)] {
            let got = need(Some(rank(seqno, 20)), Some(old), None, true, Significance::DAMPED);
            assert_eq!(got, expected, "owed and now {seqno}");
        }
    }
}
