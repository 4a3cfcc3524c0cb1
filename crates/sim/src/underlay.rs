//! The network below the mesh: addresses, links between them, and attackers on the links.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use sinew_types::{CarrierKind, Instant, PathAddr, Rng};

use crate::attack::Attack;
use crate::link::{Fate, Link};
use crate::nat::Translators;
use crate::queue::{Happening, Queue};

/// What happened to the datagrams of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Given to a link.
    pub sent: u64,
    /// Their bytes, without UDP and IP headers.
    pub bytes: u64,
    /// Lost on the way.
    pub lost: u64,
    /// Refused to the sender's face.
    pub refused: u64,
    /// For an address that nobody has, or no link leads to.
    pub nowhere: u64,
    /// Changed or made by attackers.
    pub attacked: u64,
}

/// The network.
pub(crate) struct Underlay {
    pub(crate) links: Vec<Link>,
    pub(crate) counts: Counts,
    by_ends: BTreeMap<(usize, usize), usize>,
    by_addr: BTreeMap<IpAddr, usize>,
    /// By sender and receiver.
    attacks: BTreeMap<(usize, usize), Attack>,
    /// Between realms, where there are any; then whoever has an address can be sent to.
    pub(crate) translators: Option<Translators>,
    rng: Rng,
}

impl Underlay {
    pub(crate) fn new(links: Vec<Link>, addrs: impl Iterator<Item = SocketAddr>, rng: Rng) -> Self {
        let by_ends =
            links.iter().enumerate().map(|(at, link)| (key(link.ends[0], link.ends[1]), at)).collect();
        let by_addr = addrs.enumerate().map(|(host, addr)| (addr.ip(), host)).collect();
        Self {
            links,
            by_ends,
            by_addr,
            attacks: BTreeMap::new(),
            translators: None,
            counts: Counts::default(),
            rng,
        }
    }

    /// Who has this address now, whatever the port.
    pub(crate) fn host_at(&self, addr: &SocketAddr) -> Option<usize> {
        self.by_addr.get(&addr.ip()).copied()
    }

    pub(crate) fn link_between(&self, a: usize, b: usize) -> Option<usize> {
        self.by_ends.get(&key(a, b)).copied()
    }

    /// Host `host` leaves its address `old` for `new`.
    pub(crate) fn moved(&mut self, host: usize, old: &SocketAddr, new: SocketAddr) {
        self.by_addr.remove(&old.ip());
        self.by_addr.insert(new.ip(), host);
    }

    pub(crate) fn attack(&mut self, from: usize, to: usize, attack: Attack) {
        self.attacks.insert((from, to), attack);
    }

    pub(crate) fn attack_ends(&mut self) {
        self.attacks.clear();
    }

    /// Carries one datagram; `false` if the sender's kernel refuses it.
    pub(crate) fn send(
        &mut self,
        (from, source): (usize, SocketAddr),
        to: SocketAddr,
        ecn: u8,
        bytes: &[u8],
        now: Instant,
        queue: &mut Queue,
    ) -> bool {
        self.counts.sent += 1;
        self.counts.bytes += bytes.len() as u64;
        if self.translators.is_some() {
            return self.send_translated(source, to, ecn, bytes, now, queue);
        }
        let host = self.host_at(&to);
        let Some((host, link)) = host.and_then(|host| Some((host, self.link_between(from, host)?))) else {
            self.counts.nowhere += 1;
            return true;
        };
        let mut bytes = bytes.to_vec();
        if let Some(attack) = self.attacks.get_mut(&(from, host)) {
            let before = bytes.clone();
            let injected = attack.touch(&mut bytes, &mut self.rng);
            self.counts.attacked += u64::from(bytes != before);
            if let Some(more) = injected.onward {
                self.counts.attacked += 1;
                self.carry(link, (from, source), to, ecn, more, now, queue);
            }
            if let Some(more) = injected.back {
                self.counts.attacked += 1;
                self.carry(link, (host, to), source, ecn, more, now, queue);
            }
        }
        self.carry(link, (from, source), to, ecn, bytes, now, queue)
    }

    /// Carries a datagram through whatever translates it.
    fn send_translated(
        &mut self,
        source: SocketAddr,
        to: SocketAddr,
        ecn: u8,
        bytes: &[u8],
        now: Instant,
        queue: &mut Queue,
    ) -> bool {
        let Some(translators) = &mut self.translators else { return true };
        match translators.route(source, to, now) {
            Some((remote, to)) => {
                let from = PathAddr { carrier: CarrierKind::Udp, local: 0, remote };
                let at = now + translators.latency;
                queue.push(at, Happening::Datagram { to, from, ecn, bytes: bytes.to_vec() });
            }
            None => self.counts.nowhere += 1,
        }
        true
    }

    #[expect(clippy::too_many_arguments, reason = "one datagram with everything that names it")]
    fn carry(
        &mut self,
        link: usize,
        (from, source): (usize, SocketAddr),
        to: SocketAddr,
        ecn: u8,
        bytes: Vec<u8>,
        now: Instant,
        queue: &mut Queue,
    ) -> bool {
        let (first, again) = match self.links[link].carry(from, bytes.len(), now, &mut self.rng) {
            Fate::Arrives(first, again) => (first, again),
            Fate::Lost => {
                self.counts.lost += 1;
                return true;
            }
            Fate::Refused => {
                self.counts.refused += 1;
                return false;
            }
        };
        let from = PathAddr { carrier: CarrierKind::Udp, local: 0, remote: source };
        if let Some(again) = again {
            queue.push(again, Happening::Datagram { to, from, ecn, bytes: bytes.clone() });
        }
        queue.push(first, Happening::Datagram { to, from, ecn, bytes });
        true
    }

    /// When a segment that `from` sends on a stream to `to` arrives; `None` while the link is down.
    pub(crate) fn stream_segment(&mut self, from: usize, to: usize, now: Instant) -> Option<Instant> {
        let link = self.link_between(from, to)?;
        let link = &mut self.links[link];
        link.up.then(|| link.carry_stream(from, now, &mut self.rng))
    }
}

fn key(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::address;
    use crate::link::Direction;

    fn underlay() -> Underlay {
        let link = |a, b| Link::new([a, b], [Direction::clean(1_000); 2], 1500, false);
        let addrs = (0..3).map(|host| address(host, 0));
        Underlay::new(vec![link(0, 1), link(1, 2)], addrs, Rng::new([1; 32]))
    }

    fn send(underlay: &mut Underlay, from: usize, to: usize) -> Vec<(Instant, SocketAddr)> {
        let mut queue = Queue::default();
        let to = address(to, 0);
        underlay.send((from, address(from, 0)), to, 0, &[9; 50], Instant::ZERO, &mut queue);
        let mut all = Vec::new();
        while let Some((at, Happening::Datagram { to, .. })) = queue.pop_until(Instant::FAR_FUTURE) {
            all.push((at, to));
        }
        all
    }

    #[test]
    fn only_linked_hosts_reach_each_other() {
        let mut underlay = underlay();
        assert_eq!(send(&mut underlay, 0, 1), [(Instant::from_micros(1_000), address(1, 0))]);
        assert!(send(&mut underlay, 0, 2).is_empty());
        assert_eq!(underlay.counts.nowhere, 1);
    }

    #[test]
    fn a_reflection_comes_back_over_the_same_link() {
        let mut underlay = underlay();
        underlay.attack(0, 1, Attack::Reflect { chance: 1_000_000 });
        let mut got: Vec<_> = send(&mut underlay, 0, 1).into_iter().map(|(_, to)| to).collect();
        got.sort();
        assert_eq!(got, [address(0, 0), address(1, 0)]);
    }
}
