//! What the service port counts: requests by outcome, and for each service its streams and bytes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sinew_gateway::relay::{Count, Moved};
use sinew_wire::ingress::Status;

use super::table::Service;

/// How requests ended that never came to an answer of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// Answered so.
    Answered(Status),
    /// Nothing whole was said in time.
    Silent,
    /// No room even to tell one more that there is none; closed without a word.
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
struct Tally {
    open: AtomicU64,
    received: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
}

/// A stream that is counted as open until this is dropped. Its bytes are its own, so that one on which nothing
/// moves is seen among others that are busy, and in the service's sums as they go.
pub(super) struct Counted {
    tally: Arc<Tally>,
    moved: Moved,
}

impl Counted {
    /// `up` from the gateway to the workload.
    pub(super) fn moved(&self) -> &Moved {
        &self.moved
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.tally.open.fetch_sub(1, Ordering::Relaxed);
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
        let moved = Moved { up: Count::within(&tally.received), down: Count::within(&tally.sent) };
        Counted { tally, moved }
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
            received: tally.received.load(Ordering::Relaxed),
            sent: tally.sent.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_has_its_own_bytes_and_the_service_those_of_all() {
        let counters = Counters::default();
        let service = ([1; 32], [2; 16]);
        let (busy, idle) = (counters.opened(service), counters.opened(service));
        busy.moved().up.add(3);
        busy.moved().down.add(4);
        assert_eq!(
            (idle.moved().up.get(), idle.moved().down.get()),
            (0, 0),
            "its idle clock would never run out"
        );
        assert_eq!(counters.traffic(&service), Traffic { open: 2, received: 3, sent: 4 });
        drop(busy);
        assert_eq!(counters.traffic(&service), Traffic { open: 1, received: 3, sent: 4 });
    }
}
