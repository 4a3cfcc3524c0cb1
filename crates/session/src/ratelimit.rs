//! How many handshakes one source may start, and how the rest is shared out (protocol A2).
//!
//! Three gates, each bounded in memory: a token bucket per source, a fair share per ingress
//! adjacency (whoever floods over one neighbour must not close the others), and the measure of load
//! from which on strangers have to show a cookie.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use sinew_types::{Instant, MeshAddr, NodeId};

use crate::event::Arrival;

/// Tokens are counted in microseconds: one costs 50 ms (20/s), five fit (burst 5).
const TOKEN: u64 = 50_000;
const BURST: u64 = 5 * TOKEN;
/// Most sources remembered; a bucket untouched for 250 ms is full and can be forgotten.
const MAX_SOURCES: usize = 16_384;

/// What one handshake costs a core, roughly (two to four X25519 and a torsion check).
const HANDSHAKE_COST: Duration = Duration::from_micros(300);
/// Part of a second that handshakes may take before strangers must show a cookie: 30 %.
const LOAD_BUDGET: Duration = Duration::from_millis(300);
const LOAD_QUEUED: usize = 512;
const STICKY: Duration = Duration::from_secs(1);

const SHARE_WINDOW: Duration = Duration::from_millis(100);
/// Handshakes in one window, over all ingresses.
const SHARE_CAPACITY: u32 = (LOAD_BUDGET.as_micros() / HANDSHAKE_COST.as_micros() / 10) as u32;

/// What counts as one source: an IPv4 address, an IPv6 /64, or a claim as one neighbour passes it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SourceKey {
    V4([u8; 4]),
    V6([u8; 8]),
    Routed(NodeId, MeshAddr),
    /// Handshakes inside the session of this peer.
    Inside(NodeId),
}

impl SourceKey {
    pub(crate) fn of(from: &Arrival) -> Self {
        match from {
            Arrival::Routed { src, ingress } => Self::Routed(*ingress, *src),
            Arrival::Direct(path) => match path.remote.ip().to_canonical() {
                IpAddr::V4(v4) => Self::V4(v4.octets()),
                IpAddr::V6(v6) => {
                    let [a, b, c, d, e, f, g, h, ..] = v6.octets();
                    Self::V6([a, b, c, d, e, f, g, h])
                }
            },
        }
    }

    /// The group whose sessions are counted together: ids are free, so for routed sources it is the
    /// neighbour that passes them on.
    pub(crate) fn group(self) -> Group {
        match self {
            Self::V4(v4) => Group::V4(v4),
            Self::V6(v6) => Group::V6(v6),
            Self::Routed(peer, _) | Self::Inside(peer) => Group::Ingress(peer),
        }
    }
}

/// See [`SourceKey::group`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    V4([u8; 4]),
    V6([u8; 8]),
    Ingress(NodeId),
}

/// 20/s with a burst of 5 for each source.
#[derive(Debug, Default)]
pub(crate) struct Buckets(BTreeMap<SourceKey, (u64, Instant)>);

impl Buckets {
    /// Takes one token of `source`; `false` if it has none, or if there is no room for more sources.
    pub(crate) fn take(&mut self, source: SourceKey, now: Instant) -> bool {
        if !self.0.contains_key(&source) && self.0.len() >= MAX_SOURCES {
            self.0.retain(|_, (_, last)| now.since(*last) < Duration::from_micros(BURST));
            if self.0.len() >= MAX_SOURCES {
                return false;
            }
        }
        let (tokens, last) = self.0.entry(source).or_insert((BURST, now));
        let earned = u64::try_from(now.since(*last).as_micros()).unwrap_or(BURST);
        *tokens = tokens.saturating_add(earned).min(BURST);
        *last = now;
        let enough = *tokens >= TOKEN;
        if enough {
            *tokens -= TOKEN;
        }
        enough
    }
}

/// Shares of the ingresses within a tenth of a second. `None` is the underlay.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    window: Option<Instant>,
    used: BTreeMap<Option<NodeId>, u32>,
    total: u32,
    /// Ingresses that asked in the window before.
    active: u32,
}

impl Shares {
    /// Whether a handshake that came in by `from` may go on. While less than half of the window is
    /// used nobody is held back; after that each ingress is held to its equal share.
    pub(crate) fn take(&mut self, from: &Arrival, now: Instant) -> bool {
        if self.window.is_none_or(|start| now.since(start) >= SHARE_WINDOW) {
            self.active = self.used.len() as u32;
            self.used.clear();
            self.total = 0;
            self.window = Some(now);
        }
        let ingress = match from {
            Arrival::Direct(_) => None,
            Arrival::Routed { ingress, .. } => Some(*ingress),
        };
        let parties = self.active.max(self.used.len() as u32).max(1);
        let used = self.used.entry(ingress).or_default();
        let admitted = self.total < SHARE_CAPACITY / 2 || *used < SHARE_CAPACITY.div_ceil(parties);
        if admitted {
            *used += 1;
            self.total += 1;
        }
        admitted
    }
}

/// Whether handshakes are more than the node should spend its time on.
#[derive(Debug, Default)]
pub(crate) struct Load {
    window: Option<Instant>,
    arrived: u32,
    until: Option<Instant>,
}

impl Load {
    /// A well-formed handshake with a good mac1 arrived.
    pub(crate) fn on_arrival(&mut self, now: Instant) {
        if self.window.is_none_or(|start| now.since(start) >= Duration::from_secs(1)) {
            self.window = Some(now);
            self.arrived = 0;
        }
        self.arrived = self.arrived.saturating_add(1);
        if HANDSHAKE_COST * self.arrived > LOAD_BUDGET {
            self.until = Some(now + STICKY);
        }
    }

    /// So many handshakes wait in front of us.
    pub(crate) fn on_queued(&mut self, queued: usize, now: Instant) {
        if queued >= LOAD_QUEUED {
            self.until = Some(now + STICKY);
        }
    }

    pub(crate) fn is_high(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use sinew_types::{CarrierKind, Identity, PathAddr};

    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    fn direct(remote: &str) -> Arrival {
        Arrival::Direct(PathAddr { carrier: CarrierKind::Udp, local: 0, remote: remote.parse().unwrap() })
    }

    #[test]
    fn the_bucket_follows_wireguards_pattern() {
        let mut buckets = Buckets::default();
        let source = SourceKey::V4([192, 0, 2, 1]);
        let table = [(0, 5, 1), (50, 1, 1), (150, 2, 1)];
        for (ms, good, bad) in table {
            for n in 0..good + bad {
                assert_eq!(buckets.take(source, at(ms)), n < good, "{ms} ms, request {n}");
            }
        }
    }

    #[test]
    fn one_v6_network_is_one_source_and_a_routed_source_is_bound_to_its_ingress() {
        let key = |text| SourceKey::of(&direct(text));
        assert_eq!(key("[2001:db8::1]:1"), key("[2001:db8::ffff]:9"));
        assert_ne!(key("[2001:db8::1]:1"), key("[2001:db8:0:1::1]:1"));
        assert_eq!(key("[::ffff:192.0.2.1]:1"), key("192.0.2.1:5"));
        let node = |seed| Identity::from_seed([seed; 32]).node_id();
        let routed = |seed| SourceKey::of(&Arrival::Routed { src: node(1).address(), ingress: node(seed) });
        assert_ne!(routed(2), routed(3));
    }

    #[test]
    fn the_table_of_sources_is_bounded() {
        let mut buckets = Buckets::default();
        for n in 0..MAX_SOURCES as u32 {
            assert!(buckets.take(SourceKey::V4(n.to_be_bytes()), at(0)));
        }
        let newcomer = SourceKey::V4([255; 4]);
        assert!(!buckets.take(newcomer, at(0)));
        assert!(buckets.take(newcomer, at(251)), "full buckets are forgotten");
        assert_eq!(buckets.0.len(), 1);
    }

    #[test]
    fn an_ingress_that_floods_leaves_the_others_their_share() {
        let node = |seed| Identity::from_seed([seed; 32]).node_id();
        let from = |seed| Arrival::Routed { src: node(9).address(), ingress: node(seed) };
        let mut shares = Shares::default();
        shares.take(&from(1), at(0));
        shares.take(&from(2), at(0));
        let flood = (0..10_000).filter(|_| shares.take(&from(1), at(100))).count() as u32;
        assert!((SHARE_CAPACITY / 2..=SHARE_CAPACITY / 2 + 1).contains(&flood), "{flood}");
        let quiet = (0..20).filter(|_| shares.take(&from(2), at(101))).count();
        assert_eq!(quiet, 20);
    }

    #[test]
    fn load_is_high_for_a_second_after_too_many_arrivals_or_a_long_queue() {
        let mut load = Load::default();
        for _ in 0..1000 {
            load.on_arrival(at(0));
        }
        assert!(!load.is_high(at(0)));
        load.on_arrival(at(1));
        assert!(load.is_high(at(1)) && load.is_high(at(1000)) && !load.is_high(at(1001)));
        load.on_queued(511, at(2000));
        assert!(!load.is_high(at(2000)));
        load.on_queued(512, at(2000));
        assert!(load.is_high(at(2999)));
    }
}
