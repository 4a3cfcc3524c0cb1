//! How much one client may take: connections at once, requests in a time.
//!
//! A client is an IPv4 address or an IPv6 /64 ([`Client`]). Both tables are bounded: that of
//! connections by the connections themselves, that of rates by a number, beyond which clients whose
//! allowance is full again (of whom nothing is remembered that matters) go first.

use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rustc_hash::FxHashMap;

use crate::config::Rate;
use crate::net::Client;

/// Clients whose rate is remembered, for one service.
const RATES_MAX: usize = 16 * 1024;

/// Connections under way, by client.
#[derive(Debug, Default)]
pub(crate) struct Connections(Mutex<FxHashMap<Client, u32>>);

/// One connection's place, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    of: Arc<Connections>,
    client: Client,
}

impl Connections {
    /// A place for one more connection of `client`, if it has fewer than `max`.
    pub(crate) fn take(self: &Arc<Self>, client: Client, max: u32) -> Option<Place> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(client).or_default();
        if *count >= max {
            if *count == 0 {
                counts.remove(&client);
            }
            return None;
        }
        *count += 1;
        Some(Place { of: self.clone(), client })
    }
}

impl Connections {
    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().copied().map(u64::from).sum()
    }

    /// Whether nobody has any.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.of.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = counts.entry(self.client) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

/// Requests of each client against a rate: a bucket that fills evenly.
#[derive(Debug)]
pub(crate) struct Rates {
    rate: Rate,
    buckets: Mutex<FxHashMap<Client, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Rates {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { rate, buckets: Mutex::default() }
    }

    /// Takes one request's worth; `Err` with the seconds until there is one again.
    pub(crate) fn take(&self, client: Client, now: Instant) -> Result<(), u32> {
        let (full, speed) = (f64::from(self.rate.burst.max(1)), f64::from(self.rate.per_second.max(1)));
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let filled = |bucket: &Bucket| {
            (bucket.tokens + now.saturating_duration_since(bucket.at).as_secs_f64() * speed).min(full)
        };
        if buckets.len() >= RATES_MAX && !buckets.contains_key(&client) {
            buckets.retain(|_, bucket| filled(bucket) < full);
            if buckets.len() >= RATES_MAX {
                // A flood from more clients than we remember: better to refuse than to forget them.
                return Err(1);
            }
        }
        let bucket = buckets.entry(client).or_insert(Bucket { tokens: full, at: now });
        bucket.tokens = filled(bucket);
        bucket.at = now;
        if bucket.tokens < 1.0 {
            return Err(((1.0 - bucket.tokens) / speed).ceil() as u32);
        }
        bucket.tokens -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn client(number: u32) -> Client {
        Client::of(std::net::Ipv4Addr::from_bits(number).into())
    }

    #[test]
    fn a_client_has_so_many_connections_and_gets_them_back() {
        let connections = Arc::new(Connections::default());
        let places: Vec<_> = (0..3).map(|_| connections.take(client(1), 3).unwrap()).collect();
        assert!(connections.take(client(1), 3).is_none());
        assert!(connections.take(client(2), 3).is_some(), "others are not concerned");
        drop(places);
        assert!(connections.take(client(1), 3).is_some());
        assert!(connections.0.lock().unwrap().is_empty(), "nothing is kept of who has left");
    }

    #[test]
    fn a_client_has_its_burst_and_then_its_rate() {
        let rates = Rates::new(Rate { per_second: 10, burst: 5 });
        let start = Instant::now();
        let granted = (0..20).filter(|_| rates.take(client(1), start).is_ok()).count();
        assert_eq!(granted, 5);
        assert_eq!(rates.take(client(1), start), Err(1));
        assert_eq!(rates.take(client(2), start), Ok(()));
        let later = start + Duration::from_millis(350);
        let granted = (0..20).filter(|_| rates.take(client(1), later).is_ok()).count();
        assert_eq!(granted, 3);
    }

    #[test]
    fn a_flood_of_clients_fills_no_memory_and_frees_no_offender() {
        let rates = Rates::new(Rate { per_second: 1, burst: 1 });
        let start = Instant::now();
        for number in 0..RATES_MAX as u32 + 100 {
            let _ = rates.take(client(number), start);
        }
        assert_eq!(rates.buckets.lock().unwrap().len(), RATES_MAX);
        assert!(rates.take(client(7), start).is_err());
        let later = start + Duration::from_secs(2);
        assert!(rates.take(client(u32::MAX), later).is_ok());
        assert_eq!(rates.buckets.lock().unwrap().len(), 1);
    }
}
