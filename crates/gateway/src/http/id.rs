//! Names of requests: on error pages, in logs, to backends.

use std::sync::atomic::{AtomicU64, Ordering};

/// Makes ids that differ from each other and from those of other gateways.
#[derive(Debug)]
pub(crate) struct Ids {
    start: u64,
    next: AtomicU64,
}

impl Ids {
    pub(crate) fn new() -> Result<Self, getrandom::Error> {
        Ok(Self { start: getrandom::u64()?, next: AtomicU64::new(0) })
    }

    pub(crate) fn next(&self) -> String {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        format!("{:016x}", self.start.wrapping_add(count))
    }
}
