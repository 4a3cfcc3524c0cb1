//! One machine: a key that survives crashes, a node that does not, a clock of its own.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use sinew_node::directory::PeeringConfig;
use sinew_node::{
    Accept, Config, Endpoints, InboundPolicy, Limits, Node, Offloads, PeerConfig, UdpSocket, Verifier,
};
use sinew_types::{Class, Identity, Instant, MeshAddr, NodeId, Rng, UnixMicros};

use crate::fault::WallClock;
use crate::networks::Disk;

/// The port that everyone listens on.
pub(crate) const PORT: u16 = 7463;
/// Sockets that a node asks for have the ports after this one.
const OPENED_FROM: u16 = 30_000;
/// The wall clock when virtual time begins: 2025-10-09.
const EPOCH: UnixMicros = 1_760_000_000_000_000;
/// How far a clock that was reset lies back: eight years.
const YEARS_BACK: UnixMicros = 8 * 365 * 86_400 * 1_000_000;
/// Clocks of hosts that have been up for a while differ by up to this much.
const UPTIME_MAX_US: u64 = 30 * 86_400 * 1_000_000;
const DEVICE_MTU: u16 = 1416;
const MAX_ROUTES: usize = 4096;
/// Bits of a private network's prefix.
const PREFIX: u8 = 24;

/// One machine.
pub struct Host {
    /// Its key.
    pub(crate) identity: Arc<Identity>,
    /// Its name.
    pub id: NodeId,
    /// Its mesh address.
    pub addr: MeshAddr,
    /// Its underlay address.
    pub at: SocketAddr,
    /// Router or stub.
    pub class: Class,
    pub(crate) peers: Vec<PeerConfig>,
    /// Whether it looks for direct paths.
    pub(crate) direct: bool,
    /// Sockets that its node has asked for besides the one it begins with, by their numbers in paths.
    pub(crate) opened: BTreeSet<u32>,
    /// Those hear nothing.
    pub(crate) deaf: bool,
    /// The highest of those numbers so far.
    last_opened: u32,
    /// Links that it keeps without being told.
    pub(crate) peering: PeeringConfig,
    /// What survives a crash.
    pub(crate) disk: Disk,
    /// The node, while it runs.
    pub node: Option<Box<Node>>,
    /// The earliest wake-up that is queued.
    pub(crate) wake: Option<Instant>,
    /// Wake-ups in a row that led nowhere: a node whose timer is always due would spin for ever.
    pub(crate) idle_wakes: u32,
    /// Microseconds from the zero of this host's clock to the zero of virtual time, wrapping.
    clock_us: u64,
    /// Its wall clock at the zero of virtual time.
    unix_us: UnixMicros,
    rng: Rng,
}

impl Host {
    pub(crate) fn new(number: usize, moves: u32, class: Class, mut rng: Rng) -> Self {
        let identity = Arc::new(Identity::from_seed(rng.array()));
        let id = identity.node_id();
        let clock_us = rng.below(UPTIME_MAX_US);
        Self {
            addr: id.address(),
            id,
            identity,
            at: address(number, moves),
            class,
            peers: Vec::new(),
            direct: false,
            opened: BTreeSet::new(),
            deaf: false,
            last_opened: 0,
            peering: PeeringConfig::OFF,
            disk: Disk::default(),
            unix_us: EPOCH,
            node: None,
            wake: None,
            idle_wakes: 0,
            clock_us,
            rng,
        }
    }

    /// This host's clock at a moment of virtual time.
    pub(crate) const fn local(&self, now: Instant) -> Instant {
        Instant::from_micros(now.as_micros().wrapping_add(self.clock_us))
    }

    /// As `Host::local`, for those who look at its node.
    pub const fn clock(&self, now: Instant) -> Instant {
        self.local(now)
    }

    /// This host's wall clock at a moment of virtual time.
    pub(crate) const fn unix(&self, now: Instant) -> UnixMicros {
        self.unix_us + now.as_micros()
    }

    /// The moment of virtual time at which this host's clock shows `local`.
    pub(crate) const fn world(&self, local: Instant) -> Instant {
        if local.as_micros() == u64::MAX {
            return Instant::FAR_FUTURE;
        }
        Instant::from_micros(local.as_micros().wrapping_sub(self.clock_us))
    }

    /// Opens so many sockets for its node; their numbers.
    pub(crate) fn open_sockets(&mut self, count: u16) -> Vec<u32> {
        let first = self.last_opened + 1;
        self.last_opened += u32::from(count);
        let locals: Vec<_> = (first..=self.last_opened).collect();
        if !self.deaf {
            self.opened.extend(&locals);
        }
        locals
    }

    /// How many sockets its node has open that it asked for.
    pub fn opened(&self) -> usize {
        self.opened.len()
    }

    /// Whether a datagram for this port finds a socket, and which.
    pub(crate) fn socket_at(&self, port: u16) -> Option<u32> {
        if port == self.at.port() {
            return Some(0);
        }
        let local = u32::from(port.checked_sub(OPENED_FROM)?);
        self.opened.contains(&local).then_some(local)
    }

    /// Where what is sent from a socket comes from.
    pub(crate) fn source(&self, local: u32) -> SocketAddr {
        let port = if local == 0 { self.at.port() } else { OPENED_FROM.saturating_add(local as u16) };
        SocketAddr::new(self.at.ip(), port)
    }

    /// Starts the node from nothing but its key and configuration.
    pub(crate) fn start(&mut self, clock: WallClock, verifier: Arc<dyn Verifier>, now: Instant) {
        self.unix_us = match clock {
            WallClock::Right => EPOCH,
            WallClock::YearsBack => {
                // The machine booted: its other clock begins at zero, too.
                self.clock_us = 0u64.wrapping_sub(now.as_micros());
                EPOCH - YEARS_BACK
            }
        };
        let config = Config {
            identity: Arc::clone(&self.identity),
            name: self.at.ip().to_string(),
            class: self.class,
            secrets: Vec::new(),
            accept: Accept::Any,
            inbound: InboundPolicy::All,
            peers: self.peers.clone(),
            device_mtu: DEVICE_MTU,
            offloads: Offloads::ALL,
            udp_sockets: vec![UdpSocket { local: 0, ipv6: false }],
            direct: self.direct,
            peering: self.peering,
            limits: Limits::default(),
            max_routes: MAX_ROUTES,
            unix: self.unix(now),
        };
        let seed = self.rng.array();
        let mut node = Node::with_verifier(config, seed, verifier, self.local(now));
        if self.direct {
            node.set_endpoints(Endpoints { local: vec![(self.at, PREFIX)], mapped: Vec::new() });
        }
        self.node = Some(Box::new(node));
        if self.peering != PeeringConfig::OFF {
            self.tell_places(now);
        }
        self.wake = None;
        self.opened.clear();
    }
}

/// The name under which peers look a host up: it stays when the address changes.
pub(crate) fn host_name(number: usize) -> String {
    format!("host{number}.sim")
}

/// The host of such a name.
pub(crate) fn host_named(name: &str) -> Option<usize> {
    name.strip_prefix("host")?.strip_suffix(".sim")?.parse().ok()
}

/// The underlay address of a host after it moved `moves` times.
pub(crate) fn address(number: usize, moves: u32) -> SocketAddr {
    let [_, _, high, low] = (number as u32).to_be_bytes();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, moves as u8, high, low)), PORT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hosts_sockets_have_ports_of_their_own_until_they_are_closed() {
        let mut host = Host::new(3, 0, Class::Router, Rng::new([1; 32]));
        let locals = [host.open_sockets(2), host.open_sockets(1)].concat();
        let ports: BTreeSet<_> = locals.iter().map(|&local| host.source(local).port()).collect();
        assert_eq!(ports.len(), 3);
        assert!(locals.iter().all(|&local| host.socket_at(host.source(local).port()) == Some(local)));
        assert_eq!(host.socket_at(host.at.port()), Some(0));
        host.opened.remove(&locals[1]);
        assert_eq!(host.socket_at(host.source(locals[1]).port()), None);
    }

    #[test]
    fn a_hosts_clock_maps_there_and_back() {
        let host = Host::new(3, 0, Class::Router, Rng::new([1; 32]));
        let now = Instant::from_micros(12_345);
        assert_ne!(host.local(now), now);
        assert_eq!(host.world(host.local(now)), now);
        assert_eq!(host.world(Instant::FAR_FUTURE), Instant::FAR_FUTURE);
        assert_eq!(host_named(&host_name(3)), Some(3));
        assert_eq!(host.at, "10.0.0.3:7463".parse().unwrap());
        assert_eq!(host.source(0), host.at);
        assert_eq!(address(259, 2), "10.2.1.3:7463".parse().unwrap());
    }
}
