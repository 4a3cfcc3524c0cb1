//! Hosts that lie: a node as it is, whose checks of what others sign have been replaced, so that
//! it holds altered statements for true and passes them on.

use std::sync::Arc;

use sinew_node::{ChainKey, ChainValue, Origin, SharedMemo, Verifier};
use sinew_types::Metric;
use sinew_wire::routing::OriginRecord;

/// What a liar tells its neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Origin records of others, altered.
    Records,
    /// Metrics with a chain value that does not belong to them: claims of a shorter path.
    Metrics,
}

/// The checks that a liar makes.
pub(crate) fn verifier(lie: Lie) -> Arc<dyn Verifier> {
    Arc::new(Liar { honest: SharedMemo::default(), lie })
}

#[derive(Debug)]
struct Liar {
    honest: SharedMemo,
    lie: Lie,
}

impl Verifier for Liar {
    fn verify_origin(&self, record: &OriginRecord) -> Option<Arc<Origin>> {
        let mut origin = self.honest.verify_origin(record)?;
        if self.lie == Lie::Records {
            Arc::make_mut(&mut origin).record.landmark_power ^= 1;
        }
        Some(origin)
    }

    fn advance(&self, key: &ChainKey, from: Metric, value: &ChainValue, to: Metric) -> ChainValue {
        // Up to the cap is a check of what others say; short of it, what this host will say.
        if self.lie == Lie::Metrics && to < Metric::UNREACHABLE {
            return *value;
        }
        self.honest.advance(key, from, value, to)
    }
}
