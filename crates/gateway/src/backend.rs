//! One server of a service: whether it is well, how busy it is, and its spare connections.
//!
//! Three things take a backend out: its active check ([`crate::config::Check`]), failures of clients'
//! requests in a row (passive ejection, for a time that doubles), and draining, which is the
//! operator's. The state belongs to (service, target) and lives on over changes of the configuration.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::config::Target;
use crate::http::pool::Pool;

/// Failures of clients' requests in a row that eject a backend.
const FAILURES: u32 = 3;

/// For how long, the first time; doubled each time until [`EJECT_MAX`].
const EJECT: Duration = Duration::from_secs(2);
const EJECT_MAX: Duration = Duration::from_secs(60);

/// A backend's state, shared by all threads.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) target: Target,
    /// What a cookie names it by.
    pub(crate) mark: String,
    /// Requests or streams under way.
    pub(crate) active: AtomicU32,
    down: AtomicBool,
    drain: AtomicBool,
    failures: AtomicU32,
    ejections: AtomicU32,
    /// Milliseconds after `start`; 0 for not ejected.
    ejected_until: AtomicU64,
    start: Instant,
    /// Connections to it, for each thread.
    pub(crate) pools: Vec<Pool>,
}

/// What keeps a backend from being used, if anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// Nothing.
    Well,
    /// Its check fails.
    Down,
    /// Clients' requests failed a moment ago.
    Ejected,
    /// The operator takes it out.
    Draining,
}

impl Backend {
    pub(crate) fn new(service: &str, target: Target, threads: usize) -> Self {
        let mark = mark(service, &target);
        Self {
            target,
            mark,
            active: AtomicU32::new(0),
            down: AtomicBool::new(false),
            drain: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            ejections: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
            start: Instant::now(),
            pools: (0..threads).map(|_| Pool::default()).collect(),
        }
    }

    /// What it is fit for at `now`.
    pub(crate) fn condition(&self, now: Instant) -> Condition {
        if self.drain.load(Ordering::Relaxed) {
            Condition::Draining
        } else if self.down.load(Ordering::Relaxed) {
            Condition::Down
        } else if self.millis(now) < self.ejected_until.load(Ordering::Relaxed) {
            Condition::Ejected
        } else {
            Condition::Well
        }
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_millis()).unwrap_or(u64::MAX)
    }

    /// The active check's verdict. One that changed it for the better ends an ejection too. Returns
    /// whether it changed.
    pub(crate) fn set_down(&self, down: bool) -> bool {
        let changed = self.down.swap(down, Ordering::Relaxed) != down;
        if changed {
            // A backend that died takes its connections with it; asking them costs a client a retry.
            self.pools.iter().for_each(Pool::clear);
            if !down {
                self.ejected_until.store(0, Ordering::Relaxed);
                self.failures.store(0, Ordering::Relaxed);
            }
        }
        changed
    }

    /// Gives it nothing new, or something again.
    pub(crate) fn set_drain(&self, drain: bool) {
        self.drain.store(drain, Ordering::Relaxed);
    }

    /// A client's request was answered.
    pub(crate) fn succeeded(&self) {
        // Read first: a store by every request would make all threads fight for the line.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        if self.ejections.load(Ordering::Relaxed) != 0 {
            self.ejections.store(0, Ordering::Relaxed);
        }
    }

    /// A client's request could not be brought to it, or was cut off before an answer. Returns
    /// whether that ejects it.
    pub(crate) fn failed(&self, now: Instant) -> bool {
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 < FAILURES {
            return false;
        }
        self.failures.store(0, Ordering::Relaxed);
        let times = self.ejections.fetch_add(1, Ordering::Relaxed).min(8);
        let pause = (EJECT * (1 << times)).min(EJECT_MAX);
        self.ejected_until.store(self.millis(now + pause), Ordering::Relaxed);
        true
    }
}

/// Names a backend to a client without telling where it is; the same at every gateway.
fn mark(service: &str, target: &Target) -> String {
    use sha2::Digest;
    let mut hash = sha2::Sha256::new();
    hash.update(service.as_bytes());
    hash.update([0]);
    hash.update(target.0.as_bytes());
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// One request or stream under way at a backend.
#[derive(Debug)]
pub(crate) struct Busy(pub(crate) std::sync::Arc<Backend>);

impl Busy {
    pub(crate) fn new(backend: &std::sync::Arc<Backend>) -> Self {
        backend.active.fetch_add(1, Ordering::Relaxed);
        Self(backend.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend() -> Backend {
        Backend::new("s", Target("a".into()), 1)
    }

    #[test]
    fn failures_in_a_row_eject_for_longer_each_time() {
        let backend = backend();
        let mut now = Instant::now();
        for pause in [2, 4, 8, 16, 32, 60, 60] {
            assert!(!backend.failed(now) && !backend.failed(now));
            assert_eq!(backend.condition(now), Condition::Well);
            assert!(backend.failed(now));
            let before = now + Duration::from_millis(pause * 1000 - 100);
            assert_eq!(backend.condition(before), Condition::Ejected, "{pause}");
            now += Duration::from_millis(pause * 1000 + 1);
            assert_eq!(backend.condition(now), Condition::Well, "{pause}");
        }
        backend.succeeded();
        assert!(!backend.failed(now) && !backend.failed(now) && backend.failed(now));
        assert_eq!(backend.condition(now + Duration::from_millis(2001)), Condition::Well, "forgiven");
    }

    #[test]
    fn a_success_in_between_keeps_it() {
        let backend = backend();
        let now = Instant::now();
        for _ in 0..10 {
            assert!(!backend.failed(now) && !backend.failed(now));
            backend.succeeded();
        }
        assert_eq!(backend.condition(now), Condition::Well);
    }

    #[test]
    fn the_check_has_the_last_word() {
        let backend = backend();
        let now = Instant::now();
        assert!(backend.set_down(true) && !backend.set_down(true));
        assert_eq!(backend.condition(now), Condition::Down);
        (0..3).for_each(|_| assert!(backend.failed(now) || backend.failures.load(Ordering::Relaxed) > 0));
        assert!(backend.set_down(false));
        assert_eq!(backend.condition(now), Condition::Well, "a good check ends the ejection");
        backend.set_drain(true);
        assert_eq!(backend.condition(now), Condition::Draining);
    }

    #[test]
    fn a_mark_tells_backends_apart_and_nothing_else() {
        let of = |service: &str, target: &str| mark(service, &Target(target.into()));
        assert_eq!(of("s", "10.0.0.1:80"), of("s", "10.0.0.1:80"));
        assert_ne!(of("s", "10.0.0.1:80"), of("s", "10.0.0.2:80"));
        assert_ne!(of("s", "10.0.0.1:80"), of("t", "10.0.0.1:80"));
        assert_eq!(of("s", "a").len(), 16);
    }
}
