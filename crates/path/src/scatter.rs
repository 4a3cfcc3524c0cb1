//! The rules of scattered knocks (protocol A10.8): who opens many ports and who tries many, how many, how
//! fast, and at whose address.
//!
//! Behind a translator that draws another port for each far end, one socket has one mapping toward the
//! peer, at a port that nobody knows. Many sockets have many, and whoever tries ports at random meets one
//! of them soon: with n ports open and k tried, the chance to meet none is (1 - n/64,512)^k, 2 % with the
//! numbers here. That is a burst which looks like a scan, and who is made to send it at somebody
//! else scans for another. So each rule here bounds it: an address must be vouched for, it is tried once
//! in a while, one search runs at a time, and all of it is small.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sinew_types::{Instant, Rng};
use sinew_wire::punch::{CandidateKind, Mapping, Punch};

use crate::punch::{self, Own};

/// Ports that the side opens whose translator draws them.
pub const PORTS: u16 = 256;
/// So many of them at once, so often: opening costs system calls.
pub const OPENED: u16 = 32;
/// See [`OPENED`].
pub const OPEN_EVERY: Duration = Duration::from_millis(125);
/// Ports that the other side tries at most.
pub const KNOCKS: u32 = 1024;
/// So many of them at once, so often: 128 a second.
pub const KNOCKED: u32 = 8;
/// See [`KNOCKED`].
pub const KNOCK_EVERY: Duration = Duration::from_micros(62_500);
/// Neighbours of our own choice that must see the peer at its address.
pub const WITNESSES: usize = 2;
/// How long they may think, and how long the peer may.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// How long opened ports stay open for nothing: as long as all knocks take, and a round trip.
pub const OPEN_FOR: Duration = Duration::from_secs(11);
/// Between two searches at one address.
pub const PAUSE: Duration = Duration::from_secs(300);
/// Addresses that are remembered for that.
const MAX_TARGETS: usize = 256;
/// No port below this is tried: well-known services are there, whose answers are larger (A10.4).
const FIRST_PORT: u16 = 1024;

/// Which part is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Our translator draws ports: we open many, and knock from each at the peer's one place.
    Opens,
    /// We have one place, the peer has many: we try its ports.
    Tries,
}

/// What a search for the peer that says `theirs` could be: our part, and where the peer should be. Two that
/// draw ports have no chance worth the knocks, and neither have two that do not know how they are mapped.
pub fn plan(own: Mapping, theirs: &Punch, place: &Own) -> Option<(Side, SocketAddr)> {
    let one = |mapping: Mapping| matches!(mapping, Mapping::Open | Mapping::EndpointIndependent);
    let side = match (own, theirs.mapping) {
        (own, theirs) if own.is_dependent() && one(theirs) => Side::Opens,
        (own, theirs) if one(own) && theirs.is_dependent() => Side::Tries,
        _ => return None,
    };
    // What a peer sees on its own interfaces is what others must be able to vouch for.
    let outside = |kind| side == Side::Opens || kind == CandidateKind::Reflexive;
    let fit = |addr: SocketAddr| {
        addr.is_ipv4() && !punch::is_private(addr.ip()) && punch::fit(addr, place, false).is_ok()
    };
    let places = theirs.candidates.iter().filter(|place| outside(place.kind) && fit(place.addr));
    // What others see is more than what a router has promised.
    let best = places.min_by_key(|candidate| candidate.kind != CandidateKind::Reflexive)?;
    Some((side, best.addr))
}

/// A port to try.
pub fn port(rng: &mut Rng) -> u16 {
    let range = u64::from(u16::MAX - FIRST_PORT) + 1;
    FIRST_PORT.saturating_add(u16::try_from(rng.below(range)).unwrap_or(0))
}

/// At which addresses was searched, and when.
#[derive(Debug, Default)]
pub struct Searched {
    last: BTreeMap<IpAddr, Instant>,
}

impl Searched {
    /// Whether a search at `ip` may begin.
    pub fn allows(&self, ip: IpAddr, now: Instant) -> bool {
        self.last.get(&ip).is_none_or(|last| now.since(*last) >= PAUSE)
    }

    /// Notes that one begins; `false` if it may not, also for want of room to remember it.
    pub fn begin(&mut self, ip: IpAddr, now: Instant) -> bool {
        self.last.retain(|_, last| now.since(*last) < PAUSE);
        let allowed = self.last.len() < MAX_TARGETS && !self.last.contains_key(&ip);
        if allowed {
            self.last.insert(ip, now);
        }
        allowed
    }

    /// The peer has answered from there: the address is its own, and another search harms nobody.
    pub fn proved(&mut self, ip: IpAddr) {
        self.last.remove(&ip);
    }
}

#[cfg(test)]
mod tests;
