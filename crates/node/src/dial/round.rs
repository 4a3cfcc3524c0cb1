//! One round of dialling: names that are being resolved, and candidates with their turns.

use std::net::SocketAddr;
use std::time::Duration;

use sinew_path::punch::Own;
use sinew_types::{CarrierKind, Instant};

/// Head start of each carrier before the next worse one.
const CARRIER_LEAD: Duration = Duration::from_millis(250);
/// Head start of each address of a name before the next.
const ADDRESS_LEAD: Duration = Duration::from_millis(100);
/// How long the last launched candidate may take before the round counts as lost.
const PATIENCE: Duration = Duration::from_millis(1500);
/// How long the resolver may take.
const RESOLVE_PATIENCE: Duration = Duration::from_secs(10);
/// Most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

#[derive(Debug)]
pub(super) struct Round {
    names: Vec<(String, u16)>,
    resolve_by: Instant,
    queue: Vec<Turn>,
    /// When the last candidate was launched, or a name resolved.
    last: Instant,
}

#[derive(Debug)]
struct Turn {
    at: Instant,
    carrier: CarrierKind,
    remote: SocketAddr,
}

impl Round {
    pub(super) fn new(names: Vec<(String, u16)>, now: Instant) -> Self {
        Self { names, resolve_by: now + RESOLVE_PATIENCE, queue: Vec::new(), last: now }
    }

    /// The answer for a name came; `false` if nobody waits for it.
    pub(super) fn take_name(&mut self, host: &str, port: u16) -> bool {
        let before = self.names.len();
        self.names.retain(|(name, at)| (name.as_str(), *at) != (host, port));
        self.names.len() < before
    }

    /// Gives a candidate its turn, by the place of its carrier and of its address.
    pub(super) fn enqueue(
        &mut self,
        carrier: CarrierKind,
        remote: SocketAddr,
        (rank, address): (usize, usize),
        now: Instant,
    ) {
        let at = now + CARRIER_LEAD * rank as u32 + ADDRESS_LEAD * address as u32;
        self.last = self.last.max(now);
        self.queue.push(Turn { at, carrier, remote });
    }

    /// Drops the candidates that `wanted` does not want any more.
    pub(super) fn retain(&mut self, wanted: impl Fn((CarrierKind, SocketAddr)) -> bool) {
        self.queue.retain(|turn| wanted((turn.carrier, turn.remote)));
    }

    /// The next candidate need not wait: one before it has failed.
    pub(super) fn hurry(&mut self, now: Instant) {
        if let Some(turn) = self.queue.iter_mut().min_by_key(|turn| turn.at) {
            turn.at = turn.at.min(now);
        }
    }

    /// A candidate whose turn it is.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(CarrierKind, SocketAddr)> {
        let turns = self.queue.iter().enumerate().filter(|(_, turn)| turn.at <= now);
        let (at, _) = turns.min_by_key(|(_, turn)| turn.at)?;
        let turn = self.queue.remove(at);
        self.last = now;
        Some((turn.carrier, turn.remote))
    }

    /// Whether all has been tried, and had its time.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.queue.is_empty() && self.due() <= now
    }

    pub(super) fn due(&self) -> Instant {
        if let Some(next) = self.queue.iter().map(|turn| turn.at).min() {
            return next;
        }
        let patience = self.last + PATIENCE;
        if self.names.is_empty() { patience } else { self.resolve_by.max(patience) }
    }
}

/// The addresses to try, IPv6 first and then in turns (RFC 8305 §4): where both work, IPv6 has no
/// NAT; where a network has only IPv6, what NAT64 made of an IPv4 address is among them.
pub(super) fn usable(addresses: &[SocketAddr], own: &Own) -> Vec<SocketAddr> {
    // protocol A3.7: the mesh does not carry itself, whatever a name resolves to.
    let (v6, v4): (Vec<SocketAddr>, Vec<SocketAddr>) = addresses
        .iter()
        .copied()
        .filter(|addr| !own.is_inside(addr.ip()) && addr.port() != 0 && !addr.ip().is_unspecified())
        .partition(SocketAddr::is_ipv6);
    let (mut v6, mut v4, mut order) = (v6.into_iter(), v4.into_iter(), Vec::new());
    while order.len() < MAX_ADDRESSES {
        let before = order.len();
        order.extend(v6.next());
        order.extend(v4.next());
        if order.len() == before {
            break;
        }
    }
    order
}
