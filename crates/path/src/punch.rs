//! The rules of looking for a direct path (protocol A10): when a pair talks enough for one, which of
//! the other's addresses may be knocked at, how often, and when to try again.
//!
//! Knocking means sending small packets to addresses that somebody else chose. So each rule here bounds
//! what a peer can make us do: no address that cannot be a node's, none in a private range that we
//! are not part of, a few packets each, a budget for each address and for all together, and longer
//! and longer pauses after failures.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use sinew_types::{Budget, Instant, MeshAddr, Rng};
use sinew_wire::punch::Guess;

/// When each address is knocked at, from the moment that both sides begin.
pub const KNOCKS: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_millis(700),
    Duration::from_millis(1500),
];
/// A round that has found nothing by then has failed.
pub const ROUND: Duration = Duration::from_millis(3500);
/// How many ports after the last one seen are tried at a translator that counts.
const GUESSES: i32 = 8;

/// Records of data sent within [`WINDOW`] that make a pair worth a direct path, or their bytes.
const TALK_RECORDS: u64 = 10;
const TALK_BYTES: u64 = 16 * 1024;
/// Over how long they are counted.
const WINDOW: Duration = Duration::from_secs(5);

/// First and longest pause after a failed round.
const PAUSE: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(300));
/// A path that lived for so long was a success, whatever ended it.
const SUCCESS: Duration = Duration::from_secs(30);

/// Knocks at all addresses together: so many a second, so many at once.
const ALL: (u64, u64) = (64, 512);
/// Knocks at one address, all its ports together.
const ONE: (u64, u64) = (4, 96);
/// Addresses whose budget is remembered.
const MAX_TARGETS: usize = 256;

/// Whether two talk enough.
#[derive(Clone, Copy, Debug)]
pub struct Meter {
    since: Instant,
    records: u64,
    bytes: u64,
}

impl Meter {
    /// Starts counting at a session's present counters.
    pub const fn new(records: u64, bytes: u64, now: Instant) -> Self {
        Self { since: now, records, bytes }
    }

    /// Whether so much was sent since the window began that a direct path pays.
    pub fn is_busy(&mut self, records: u64, bytes: u64, now: Instant) -> bool {
        let busy = records.saturating_sub(self.records) >= TALK_RECORDS
            || bytes.saturating_sub(self.bytes) >= TALK_BYTES;
        if now.since(self.since) >= WINDOW || records < self.records {
            *self = Self::new(records, bytes, now);
        }
        busy
    }
}

/// The pauses between rounds with one peer.
#[derive(Clone, Copy, Debug)]
pub struct Pauses {
    next: Instant,
    pause: Duration,
}

impl Pauses {
    /// A first round may be at once.
    pub const fn new(now: Instant) -> Self {
        Self { next: now, pause: PAUSE.0 }
    }

    /// Whether a round may begin.
    pub fn is_over(&self, now: Instant) -> bool {
        self.next <= now
    }

    /// Until one may; `None` if it may now.
    pub fn left(&self, now: Instant) -> Option<Duration> {
        (self.next > now).then(|| self.next.since(now))
    }

    /// A round begins: unless it finds a path the next is a pause away.
    pub fn begin(&mut self, rng: &mut Rng, now: Instant) {
        let jitter = rng.below(self.pause.as_micros() as u64 / 4 + 1);
        self.next = now + self.pause + Duration::from_micros(jitter);
        self.pause = (self.pause * 2).min(PAUSE.1);
    }

    /// The path that was found is gone after so long.
    pub fn end(&mut self, lived: Duration, now: Instant) {
        if lived >= SUCCESS {
            *self = Self::new(now + PAUSE.0 / 2);
        }
    }

    /// A direct path was found, and is of no use: not soon again.
    pub fn discourage(&mut self, now: Instant) {
        (self.pause, self.next) = (PAUSE.1, now + PAUSE.1);
    }
}

/// How much may be knocked.
#[derive(Debug)]
pub struct Allowance {
    all: Budget,
    targets: BTreeMap<IpAddr, Budget>,
}

impl Allowance {
    /// All of it.
    pub fn new(now: Instant) -> Self {
        Self { all: Budget::new(ALL.0, ALL.1, now), targets: BTreeMap::new() }
    }

    /// Whether one more small packet may go to that address; counts it if so.
    pub fn take(&mut self, ip: IpAddr, now: Instant) -> bool {
        if self.targets.len() >= MAX_TARGETS && !self.targets.contains_key(&ip) {
            // A budget that is full again says no more than one that is forgotten.
            self.targets.retain(|_, budget| !budget.is_full(now));
            if self.targets.len() >= MAX_TARGETS {
                return false;
            }
        }
        let target = self.targets.entry(ip).or_insert_with(|| Budget::new(ONE.0, ONE.1, now));
        target.ready_at(now).is_none() && self.all.try_take(now) && target.try_take(now)
    }
}

/// Where this node is.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// Its addresses, with the lengths of their networks' prefixes.
    pub local: Vec<(SocketAddr, u8)>,
    /// Where others see it, its own addresses included.
    pub seen: Vec<IpAddr>,
    /// The private networks here: the first 48 bits of their IPv6 addresses.
    pub networks: Vec<[u8; 6]>,
}

impl Own {
    /// Whether packets to `ip` are what the mesh carries, for itself or for a private network: it would
    /// carry itself. IPv4 ranges of private networks are no sign of that: a LAN may have the same, and
    /// no route of the host leads into theirs.
    pub fn is_inside(&self, ip: IpAddr) -> bool {
        let IpAddr::V6(v6) = ip else { return false };
        MeshAddr::contains(&v6) || self.networks.iter().any(|network| v6.octets().starts_with(network))
    }
}

/// Why an address is not knocked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unfit {
    /// No node can be there: unspecified, loopback, multicast, link-local, documentation of a protocol's
    /// own, port 0.
    NoPlace,
    /// A port at which well-known services answer, and no node of ours.
    WellKnown,
    /// It lies in the mesh or in a private network here: the mesh would carry itself.
    Mesh,
    /// It is our own.
    Ourselves,
    /// A private range that we are not part of: another's network, or a stranger in ours.
    Elsewhere,
}

/// Whether a peer's candidate may be knocked at. `same_nat`: the peer and we look alike from outside.
pub fn fit(addr: SocketAddr, own: &Own, same_nat: bool) -> Result<(), Unfit> {
    let ip = addr.ip();
    if addr.port() == 0 || !is_place(ip) {
        return Err(Unfit::NoPlace);
    }
    if own.is_inside(ip) {
        return Err(Unfit::Mesh);
    }
    if addr.port() < 1024 && addr.port() != 443 {
        return Err(Unfit::WellKnown);
    }
    if own.local.iter().any(|&(local, _)| local == addr) {
        return Err(Unfit::Ourselves);
    }
    let Some(range) = private_range(ip) else { return Ok(()) };
    let near = own.local.iter().any(|&(local, prefix)| same_net(local.ip(), ip, prefix));
    let inside = own.seen.iter().any(|&seen| private_range(seen) == Some(range));
    if near || inside || same_nat { Ok(()) } else { Err(Unfit::Elsewhere) }
}

/// Whether a node may be reached at `ip` at all.
pub fn is_place(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let [first, ..] = v4.octets();
            let none = v4.is_unspecified() || v4.is_loopback() || v4.is_multicast() || v4.is_link_local();
            // 0/8 and what is reserved, broadcast included.
            !none && first != 0 && first < 240
        }
        IpAddr::V6(v6) => {
            let none = v6.is_unspecified() || v6.is_loopback() || v6.is_multicast();
            !none && !v6.is_unicast_link_local() && v6.to_ipv4().is_none()
        }
    }
}

/// Whether `ip` means something else in every network that has it.
pub fn is_private(ip: IpAddr) -> bool {
    private_range(ip).is_some()
}

/// Ranges whose addresses mean something else in every network that has them.
fn private_range(ip: IpAddr) -> Option<u8> {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            match (a, b) {
                (10, _) => Some(1),
                (172, 16..=31) => Some(2),
                (192, 168) => Some(3),
                (100, 64..=127) => Some(4),
                _ => None,
            }
        }
        IpAddr::V6(v6) => v6.is_unique_local().then_some(5),
    }
}

fn same_net(a: IpAddr, b: IpAddr, prefix: u8) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            let of = |v4: Ipv4Addr| v4.to_bits() & mask;
            of(a) == of(b)
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            a.to_bits() & mask == b.to_bits() & mask
        }
        _ => false,
    }
}

/// The places at which a translator that counts should put the next mappings.
pub fn guesses(guess: &Guess) -> impl Iterator<Item = SocketAddr> + '_ {
    let ports = (1..=GUESSES).map(|k| i32::from(guess.port) + k * i32::from(guess.step));
    ports.filter_map(|port| u16::try_from(port).ok()).map(|port| SocketAddr::new(guess.ip, port))
}

#[cfg(test)]
mod tests;
