//! Connections to one backend that wait for the next request, for one thread.
//!
//! The one used last is taken first, so that in quiet times the others grow old and are dropped.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::client::conn::{http1, http2};

use super::body::Body;

/// Connections that wait, and for how long.
const IDLE_MAX: usize = 128;
const IDLE_TIME: Duration = Duration::from_secs(50);

/// What waits for requests.
#[derive(Default)]
pub(crate) struct Pool {
    h1: Mutex<Vec<(http1::SendRequest<Body>, Instant)>>,
    h2: Mutex<Option<http2::SendRequest<Body>>>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Pool")
    }
}

impl Pool {
    /// A connection that can take a request now.
    pub(crate) fn take_h1(&self, now: Instant) -> Option<http1::SendRequest<Body>> {
        let mut idle = self.h1.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((sender, since)) = idle.pop() {
            if now.saturating_duration_since(since) >= IDLE_TIME {
                // All others are older still.
                idle.clear();
                return None;
            }
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    pub(crate) fn give_h1(&self, sender: http1::SendRequest<Body>, now: Instant) {
        let mut idle = self.h1.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() >= IDLE_MAX {
            idle.remove(0);
        }
        idle.push((sender, now));
    }

    /// The connection over which any number of requests go.
    pub(crate) fn h2(&self) -> Option<http2::SendRequest<Body>> {
        let shared = self.h2.lock().unwrap_or_else(PoisonError::into_inner);
        shared.as_ref().filter(|sender| !sender.is_closed()).cloned()
    }

    pub(crate) fn set_h2(&self, sender: &http2::SendRequest<Body>) {
        *self.h2.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender.clone());
    }

    /// Forgets all; requests under way go on.
    pub(crate) fn clear(&self) {
        self.h1.lock().unwrap_or_else(PoisonError::into_inner).clear();
        *self.h2.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
