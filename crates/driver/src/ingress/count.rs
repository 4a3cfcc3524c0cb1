//! What the service port counts: requests by outcome, and for each service its streams and bytes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sinew_gateway::relay::Moved;
use sinew_wire::ingress::Status;

use super::table::Service;

/// How requests ended that never came to an answer of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// Answered so.
    Answered(Status),
    /// Nothing whole was said in time.
    Silent,
    /// No room to listen to one more, in all or of one source; closed without a word.
    Crowded,
    /// A stream was cut because its grant ended.
    Cut,
}

impl Outcome {
    /// The word in JSON.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Answered(status) => status.as_str(),
            Self::Silent => "silent",
            Self::Crowded => "crowded",
            Self::Cut => "cut",
        }
    }
}

/// The traffic of one service, now and since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) open: u64,
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

/// One service's tally; streams hold it while they run.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) open: AtomicU64,
    /// `up` from the gateway to the workload.
    pub(crate) moved: Moved,
}

/// A stream that is counted as open until this is dropped.
pub(super) struct Counted(Arc<Tally>);

impl Counted {
    pub(super) fn moved(&self) -> &Moved {
        &self.0.moved
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All counts.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    outcomes: Mutex<BTreeMap<Outcome, u64>>,
    services: Mutex<BTreeMap<Service, Arc<Tally>>>,
}

impl Counters {
    pub(super) fn note(&self, outcome: Outcome) {
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        *outcomes.entry(outcome).or_default() += 1;
    }

    /// Only for services of the table, so their number is bounded by what is published.
    pub(super) fn opened(&self, service: Service) -> Counted {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let tally = Arc::clone(services.entry(service).or_default());
        tally.open.fetch_add(1, Ordering::Relaxed);
        Counted(tally)
    }

    /// Requests by outcome, in words.
    pub(crate) fn outcomes(&self) -> BTreeMap<String, u64> {
        let outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        outcomes.iter().map(|(outcome, count)| (outcome.as_str().to_owned(), *count)).collect()
    }

    /// The traffic of one service.
    pub(crate) fn traffic(&self, service: &Service) -> Traffic {
        let services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(tally) = services.get(service) else { return Traffic::default() };
        Traffic {
            open: tally.open.load(Ordering::Relaxed),
            received: tally.moved.up.get(),
            sent: tally.moved.down.get(),
        }
    }
}
