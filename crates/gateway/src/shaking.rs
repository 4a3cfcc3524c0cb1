//! TLS handshakes under way: so many at once, and a crowd of them shuts nobody out.
//!
//! Whoever shakes hands has a place. When none is left, the newcomer gets that of the client (an IPv4 address or IPv6
//! /64) that has most, its oldest: people are through within a moment, and what stands for long is a flood, or a line
//! so bad that it may ask again. Were newcomers refused instead, a thousand silent connections would keep everybody
//! out for as long as a handshake may take.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

use crate::net::Client;

/// All handshakes under way.
#[derive(Debug, Default)]
pub(crate) struct Handshakes(Mutex<Places>);

#[derive(Debug, Default)]
struct Places {
    /// By number, so the oldest first. Who waits for the other end of a sender notices that it is gone.
    under_way: BTreeMap<u64, (Client, oneshot::Sender<()>)>,
    by_client: FxHashMap<Client, u32>,
    next: u64,
}

/// One handshake's place, given back when dropped.
#[derive(Debug)]
pub(crate) struct Shaking {
    of: Arc<Handshakes>,
    number: u64,
    lost: oneshot::Receiver<()>,
}

impl Handshakes {
    /// A place for a handshake of `client`; if there are `max` already, somebody's who then loses it.
    pub(crate) fn begin(self: &Arc<Self>, client: Client, max: u32) -> Shaking {
        let (sender, lost) = oneshot::channel();
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if places.under_way.len() >= max.max(1) as usize
            && let Some(oldest) = places.oldest_of_most()
        {
            places.end(oldest);
        }
        let number = places.next;
        places.next += 1;
        places.under_way.insert(number, (client, sender));
        *places.by_client.entry(client).or_default() += 1;
        drop(places);
        Shaking { of: Arc::clone(self), number, lost }
    }
}

impl Places {
    fn oldest_of_most(&self) -> Option<u64> {
        let most = self.by_client.values().max()?;
        let mut all = self.under_way.iter();
        all.find(|(_, (client, _))| self.by_client.get(client) == Some(most)).map(|(number, _)| *number)
    }

    fn end(&mut self, number: u64) {
        let Some((client, _)) = self.under_way.remove(&number) else { return };
        if let Some(count) = self.by_client.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                self.by_client.remove(&client);
            }
        }
    }
}

impl Shaking {
    /// Returns when somebody else has got the place.
    pub(crate) async fn lost(&mut self) {
        let _ = (&mut self.lost).await;
    }
}

impl Drop for Shaking {
    fn drop(&mut self) {
        self.of.0.lock().unwrap_or_else(PoisonError::into_inner).end(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u32) -> Client {
        Client::of(std::net::Ipv4Addr::from_bits(number).into())
    }

    fn has_lost(shaking: &mut Shaking) -> bool {
        shaking.lost.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[test]
    fn a_newcomer_gets_the_oldest_place_of_whoever_has_most() {
        let all = Arc::new(Handshakes::default());
        let mut other = all.begin(client(1), 4);
        let mut crowd: Vec<_> = (0..3).map(|_| all.begin(client(2), 4)).collect();
        assert!(!has_lost(&mut other) && crowd.iter_mut().all(|one| !has_lost(one)), "there is room");
        let mut late = all.begin(client(3), 4);
        let lost: Vec<_> = crowd.iter_mut().map(has_lost).collect();
        assert_eq!(
            (lost, has_lost(&mut other), has_lost(&mut late)),
            (vec![true, false, false], false, false)
        );
        // What has lost its place gives none back.
        crowd.remove(0);
        assert_eq!(all.0.lock().unwrap().under_way.len(), 4);
        drop((crowd, other, late));
        let places = all.0.lock().unwrap();
        assert!(
            places.under_way.is_empty() && places.by_client.is_empty(),
            "nothing is kept of who has left"
        );
    }

    #[test]
    fn a_crowd_of_many_addresses_loses_its_oldest() {
        let all = Arc::new(Handshakes::default());
        let mut crowd: Vec<_> = (0..8).map(|number| all.begin(client(number), 4)).collect();
        let lost: Vec<_> = crowd.iter_mut().map(has_lost).collect();
        assert_eq!(lost, [true, true, true, true, false, false, false, false]);
    }
}
