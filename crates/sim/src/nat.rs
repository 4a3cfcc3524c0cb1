//! Translators between the public network and hosts behind them, by RFC 4787: how they map, what they
//! let in, how they number, whether they turn around, and for how long they remember.
//!
//! ```text
//!   realm 0 (public) ── hosts, outsides of translators
//!        └─ translator 0 ── realm 1 ── hosts, outsides of translators further in
//!                              └─ translator 1 ── realm 2 …
//! ```
//! A datagram climbs out of its sender's realm until it meets its destination's address, or the outside
//! of a translator that leads down to it. Private addresses of all realms differ, which is kinder
//! than life; that a candidate must not be tried in the wrong network is tested where the rule stands.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use sinew_types::{Instant, Rng};

use crate::host::PORT;

/// What something depends on (RFC 4787 §4.1, §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depends {
    /// On the inside alone.
    Endpoint,
    /// Also on the far end's address.
    Address,
    /// Also on its port.
    AddressAndPort,
}

/// How ports are given out (RFC 4787 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ports {
    /// That of the inside, if it is free.
    Preserving,
    /// One after the other.
    Sequential,
    /// Any.
    Random,
}

/// A kind of translator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NatKind {
    /// What the outside of a mapping depends on.
    pub mapping: Depends,
    /// What may come in.
    pub filtering: Depends,
    /// Which port a mapping gets.
    pub ports: Ports,
    /// Whether those inside reach each other by their outsides.
    pub hairpin: bool,
    /// Without something sent for so long a mapping is forgotten.
    pub timeout: Duration,
    /// Lets no datagram through at all.
    pub blocks: bool,
}

impl NatKind {
    /// Everybody may come in once a mapping exists.
    pub const FULL_CONE: Self = Self {
        mapping: Depends::Endpoint,
        filtering: Depends::Endpoint,
        ports: Ports::Preserving,
        hairpin: false,
        timeout: Duration::from_secs(120),
        blocks: false,
    };
    /// Only addresses that were sent to.
    pub const ADDRESS_RESTRICTED: Self = Self { filtering: Depends::Address, ..Self::FULL_CONE };
    /// Only addresses and ports that were sent to.
    pub const PORT_RESTRICTED: Self = Self { filtering: Depends::AddressAndPort, ..Self::FULL_CONE };
    /// A mapping for each far end, numbered in a row.
    pub const SYMMETRIC: Self =
        Self { mapping: Depends::AddressAndPort, ports: Ports::Sequential, ..Self::PORT_RESTRICTED };
    /// A mapping for each far end, at any port.
    pub const SYMMETRIC_RANDOM: Self = Self { ports: Ports::Random, ..Self::SYMMETRIC };
    /// No datagrams.
    pub const BLOCKED: Self = Self { blocks: true, ..Self::PORT_RESTRICTED };
}

/// Where hosts and translators are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Realms {
    /// Each translator, and the realm it stands in; the one behind translator `n` is `n + 1`.
    pub nats: Vec<(NatKind, usize)>,
    /// The realm of each host.
    pub hosts: Vec<usize>,
    /// One way, in realms and between them.
    pub latency: Duration,
}

impl Realms {
    /// The address of a host.
    pub(crate) fn address(&self, host: usize) -> SocketAddr {
        let (realm, low) = (self.hosts[host] as u8, host as u8 + 1);
        let ip =
            if realm == 0 { Ipv4Addr::new(203, 0, 113, low) } else { Ipv4Addr::new(192, 168, realm, low) };
        SocketAddr::new(IpAddr::V4(ip), PORT)
    }

    fn outside(&self, nat: usize) -> IpAddr {
        let (realm, low) = (self.nats[nat].1 as u8, nat as u8 + 1);
        IpAddr::V4(match realm {
            0 => Ipv4Addr::new(198, 51, 100, low),
            inner => Ipv4Addr::new(100, 64, inner, low),
        })
    }
}

/// One mapping.
#[derive(Debug)]
struct Entry {
    inside: SocketAddr,
    /// The far end, as far as the mapping depends on it.
    far: Option<(IpAddr, u16)>,
    port: u16,
    used: Instant,
    /// Whom those inside have sent to.
    sent_to: Vec<SocketAddr>,
}

#[derive(Debug)]
struct Nat {
    kind: NatKind,
    outside: IpAddr,
    outer: usize,
    entries: Vec<Entry>,
    next_port: u16,
}

/// All translators of a network.
#[derive(Debug)]
pub(crate) struct Translators {
    nats: Vec<Nat>,
    /// Realm of each host's address.
    hosts: BTreeMap<IpAddr, usize>,
    pub(crate) latency: Duration,
    rng: Rng,
}

/// Ports of translators that number or draw them.
const PORTS: (u16, u16) = (20_000, 60_000);

impl Nat {
    fn expire(&mut self, now: Instant) {
        let timeout = self.kind.timeout;
        self.entries.retain(|entry| now.since(entry.used) < timeout);
    }

    fn free(&self, port: u16) -> bool {
        self.entries.iter().all(|entry| entry.port != port)
    }

    fn new_port(&mut self, inside: SocketAddr, rng: &mut Rng) -> u16 {
        match self.kind.ports {
            Ports::Preserving if self.free(inside.port()) => return inside.port(),
            Ports::Random => loop {
                let port = PORTS.0 + rng.below(u64::from(PORTS.1 - PORTS.0)) as u16;
                if self.free(port) {
                    return port;
                }
            },
            _ => {}
        }
        loop {
            self.next_port = if self.next_port >= PORTS.1 { PORTS.0 } else { self.next_port + 1 };
            if self.free(self.next_port) {
                return self.next_port;
            }
        }
    }

    /// What a datagram from inside looks like outside.
    fn out(&mut self, inside: SocketAddr, far: SocketAddr, now: Instant, rng: &mut Rng) -> SocketAddr {
        self.expire(now);
        let key = match self.kind.mapping {
            Depends::Endpoint => None,
            Depends::Address => Some((far.ip(), 0)),
            Depends::AddressAndPort => Some((far.ip(), far.port())),
        };
        let found = self.entries.iter().position(|entry| entry.inside == inside && entry.far == key);
        let at = found.unwrap_or_else(|| {
            let port = self.new_port(inside, rng);
            self.entries.push(Entry { inside, far: key, port, used: now, sent_to: Vec::new() });
            self.entries.len() - 1
        });
        let entry = &mut self.entries[at];
        entry.used = now;
        if !entry.sent_to.contains(&far) {
            entry.sent_to.push(far);
        }
        SocketAddr::new(self.outside, entry.port)
    }

    /// For whom inside a datagram is, if it may come in.
    fn into(&mut self, far: SocketAddr, port: u16, now: Instant) -> Option<SocketAddr> {
        self.expire(now);
        let entry = self.entries.iter().find(|entry| entry.port == port)?;
        let sent_to = |same: &dyn Fn(&SocketAddr) -> bool| entry.sent_to.iter().any(same);
        let admitted = match self.kind.filtering {
            Depends::Endpoint => true,
            Depends::Address => sent_to(&|known| known.ip() == far.ip()),
            Depends::AddressAndPort => sent_to(&|known| *known == far),
        };
        admitted.then_some(entry.inside)
    }
}

impl Translators {
    pub(crate) fn new(realms: &Realms, rng: Rng) -> Self {
        let nat = |(number, &(kind, outer)): (usize, &(NatKind, usize))| Nat {
            kind,
            outside: realms.outside(number),
            outer,
            entries: Vec::new(),
            next_port: PORTS.0 + 1000 * number as u16,
        };
        let hosts = (0..realms.hosts.len()).map(|host| (realms.address(host).ip(), realms.hosts[host]));
        Self {
            nats: realms.nats.iter().enumerate().map(nat).collect(),
            hosts: hosts.collect(),
            latency: realms.latency,
            rng,
        }
    }

    /// Where a datagram ends up, and whence it seems to come there.
    pub(crate) fn route(
        &mut self,
        source: SocketAddr,
        to: SocketAddr,
        now: Instant,
    ) -> Option<(SocketAddr, SocketAddr)> {
        let (mut realm, mut source, mut to) = (*self.hosts.get(&source.ip())?, source, to);
        // Each turn crosses one translator, and each is crossed at most once out and once in.
        for _ in 0..=2 * self.nats.len() {
            if self.hosts.get(&to.ip()) == Some(&realm) {
                return Some((source, to));
            }
            let inward = self.nats.iter().position(|nat| nat.outer == realm && nat.outside == to.ip());
            if let Some(at) = inward {
                to = self.enter(at, source, to.port(), now)?;
                realm = at + 1;
                continue;
            }
            let at = realm.checked_sub(1)?;
            let nat = &mut self.nats[at];
            if nat.kind.blocks || nat.outside == to.ip() && !nat.kind.hairpin {
                return None;
            }
            source = nat.out(source, to, now, &mut self.rng);
            realm = nat.outer;
        }
        None
    }

    fn enter(&mut self, at: usize, from: SocketAddr, port: u16, now: Instant) -> Option<SocketAddr> {
        let nat = &mut self.nats[at];
        if nat.kind.blocks { None } else { nat.into(from, port, now) }
    }

    /// Every translator forgets what it knows, as one does that restarts.
    pub(crate) fn restart(&mut self) {
        self.nats.iter_mut().for_each(|nat| nat.entries.clear());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Hosts 0 and 1 public, 2 and 3 behind translator 0, 4 behind translator 2, which stands behind 1.
    fn world(kind: NatKind) -> Translators {
        let realms =
            Realms { nats: vec![(kind, 0), (kind, 0), (kind, 2)], hosts: vec![0, 0, 1, 1, 3], latency: MS };
        Translators::new(&realms, Rng::new([1; 32]))
    }

    fn host(number: usize) -> SocketAddr {
        let text = ["203.0.113.1", "203.0.113.2", "192.168.1.3", "192.168.1.4", "192.168.3.5"][number];
        SocketAddr::new(text.parse().expect("an address"), PORT)
    }

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    #[test]
    fn mappings_depend_on_what_they_should() {
        let other_port = SocketAddr::new(host(0).ip(), 9);
        let table = [
            (Depends::Endpoint, [true, true]),
            (Depends::Address, [true, false]),
            (Depends::AddressAndPort, [false, false]),
        ];
        for (mapping, same) in table {
            for ports in [Ports::Preserving, Ports::Sequential, Ports::Random] {
                let mut nat = world(NatKind { mapping, ports, ..NatKind::FULL_CONE }).nats.remove(0);
                let mut rng = Rng::new([2; 32]);
                let mut out = |far| nat.out(host(2), far, at(0), &mut rng);
                let first = out(host(0));
                assert_eq!(first, out(host(0)), "a mapping stays");
                assert_eq!([out(other_port) == first, out(host(1)) == first], same, "{mapping:?} {ports:?}");
            }
        }
    }

    #[test]
    fn filters_let_in_whom_they_should() {
        let other_port = SocketAddr::new(host(0).ip(), 9);
        let table = [
            (NatKind::FULL_CONE, [true, true, true]),
            (NatKind::ADDRESS_RESTRICTED, [true, true, false]),
            (NatKind::PORT_RESTRICTED, [true, false, false]),
            (NatKind::BLOCKED, [false, false, false]),
        ];
        for (kind, admitted) in table {
            let mut world = world(kind);
            let seen = world.route(host(2), host(0), at(0)).map(|(source, _)| source);
            let Some(seen) = seen else {
                assert!(kind.blocks);
                continue;
            };
            assert_eq!(seen.ip().to_string(), "198.51.100.1");
            let nat = &mut world.nats[0];
            let back = [host(0), other_port, host(1)].map(|far| nat.into(far, seen.port(), at(1)).is_some());
            assert_eq!(back, admitted, "{kind:?}");
            assert!(nat.into(host(0), seen.port() + 1, at(1)).is_none(), "nothing mapped there");
            assert!(nat.into(host(0), seen.port(), at(120_000)).is_none(), "forgotten");
        }
    }

    #[test]
    fn a_datagram_crosses_as_many_translators_as_there_are() {
        let mut world = world(NatKind::PORT_RESTRICTED);
        let (source, to) = world.route(host(4), host(0), at(0)).expect("a way out");
        assert_eq!((source.ip().to_string(), to), ("198.51.100.2".to_owned(), host(0)));
        assert_eq!(world.route(host(0), source, at(1)), Some((host(0), host(4))));
        assert_eq!(world.route(host(1), source, at(1)), None, "nobody sent there");
        assert_eq!(world.route(host(2), host(3), at(0)), Some((host(2), host(3))), "in one realm");
        assert_eq!(world.route(host(2), host(4), at(0)), None, "a private address elsewhere");
        world.restart();
        assert_eq!(world.route(host(0), source, at(2)), None);
    }

    #[test]
    fn those_inside_meet_at_their_outsides_only_where_it_turns_around() {
        for hairpin in [false, true] {
            let mut world = world(NatKind { hairpin, ..NatKind::FULL_CONE });
            let seen = world.route(host(3), host(0), at(0)).expect("out").0;
            let met = world.route(host(2), seen, at(1));
            assert_eq!(met.map(|(_, to)| to), hairpin.then_some(host(3)));
            assert!(met.is_none_or(|(source, _)| source.ip() == seen.ip()), "as from outside");
        }
    }
}
