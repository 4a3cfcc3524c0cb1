//! The UDP sockets of a node: those that it listens on, one for each further uplink of the host, and those
//! that it asks for to be found behind a translator that draws ports (protocol A10.8).
//!
//! The first are bound at the start, while there are privileges, and stay. What they send goes where the
//! kernel's routes lead, which is one uplink for all. A socket of an interface goes by that one, whatever
//! the metric of its route; it lives as long as the interface is a way out, also when it has become the
//! one that the kernel prefers, since paths may use it. The others come and go: a few hundred for some
//! seconds, of which the one stays that a path was found with. Every socket has a number
//! by which paths name it; no number is used twice, so that nothing goes out through a socket that
//! took the place of another. Buffers of opened sockets are as large as the kernel grants without
//! privileges (`net.core.rmem_max`), and their queues are not managed: see `socket_queue`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};

use sinew_carrier::Datagrams as _;
use sinew_carrier::udp::UdpCarrier;
use sinew_node::UdpSocket;
use tracing::{debug, info};

use crate::network::Network;

/// Opened sockets at most: twice what one search takes (`sinew_path::scatter::PORTS`), since those of the
/// last may still be open. Beyond that nothing is opened, whatever the node says.
const MAX_OPENED: usize = 512;
/// Numbers of opened sockets begin here, far above those of listeners.
const FIRST_OPENED: u32 = 1 << 16;

/// Sockets of interfaces at most: a peer keeps no more paths than eight.
const MAX_PINNED: usize = 6;

/// All of them.
pub(crate) struct Sockets {
    bound: Vec<UdpCarrier>,
    /// Those of interfaces are among them.
    opened: Vec<UdpCarrier>,
    pinned: Vec<Pinned>,
    next: u32,
}

/// A socket of one interface.
#[derive(Clone, Debug)]
struct Pinned {
    local: u32,
    ipv6: bool,
    ifindex: u32,
    interface: String,
}

impl Sockets {
    pub(crate) const fn new(bound: Vec<UdpCarrier>) -> Self {
        Self { bound, opened: Vec::new(), pinned: Vec::new(), next: FIRST_OPENED }
    }

    /// Those that the node listens on.
    pub(crate) fn bound(&self) -> &[UdpCarrier] {
        &self.bound
    }

    /// The socket at a place in the order of [`Sockets::poll_readable`].
    pub(crate) fn get(&self, at: usize) -> Option<&UdpCarrier> {
        self.bound.iter().chain(&self.opened).nth(at)
    }

    /// The socket that paths call so.
    pub(crate) fn named(&self, local: u32) -> Option<&UdpCarrier> {
        let all = if local < FIRST_OPENED { &self.bound } else { &self.opened };
        all.iter().find(|socket| socket.local() == local)
    }

    /// The place of one that has something, looking from `first` on: none waits for ever for another that
    /// always has.
    pub(crate) fn poll_readable(&self, first: usize, cx: &mut Context<'_>) -> Poll<usize> {
        let count = self.bound.len() + self.opened.len();
        let first = first % count.max(1);
        let ready = |at: &usize| self.get(*at).is_some_and(|socket| socket.poll_readable(cx).is_ready());
        let found = (first..count).chain(0..first).find(ready);
        found.map_or(Poll::Pending, Poll::Ready)
    }

    /// Opens so many, of IPv4, each at a port of the kernel's choice and otherwise as the one that the node
    /// listens on. Fewer if there are no more to be had.
    pub(crate) fn open(&mut self, count: u16) -> Vec<u32> {
        let Some(ip) = self.first(false).map(|socket| socket.local_addr().ip()) else {
            return Vec::new();
        };
        let room = MAX_OPENED.saturating_sub(self.opened.len());
        let mut locals = Vec::new();
        for _ in 0..usize::from(count).min(room) {
            match UdpCarrier::bind(SocketAddr::new(ip, 0), self.next) {
                Ok(socket) => locals.push(self.keep(socket, false)),
                Err(error) => {
                    debug!(%error, open = self.opened.len(), "no more ports to be found at");
                    break;
                }
            }
        }
        locals
    }

    /// The first that the node listens on over one family.
    fn first(&self, ipv6: bool) -> Option<&UdpCarrier> {
        self.bound.iter().find(|socket| socket.local_addr().is_ipv6() == ipv6)
    }

    /// Keeps a socket that has been opened, set as the first of its family; its number.
    fn keep(&mut self, socket: UdpCarrier, ipv6: bool) -> u32 {
        if let Some(model) = self.first(ipv6) {
            if !model.segmentation() {
                socket.set_segmentation(false);
            }
            if !model.aggregation()
                && let Err(error) = socket.set_aggregation(false)
            {
                debug!(%error, "aggregation not switched off");
            }
        }
        let local = self.next;
        self.next = self.next.wrapping_add(1).max(FIRST_OPENED);
        self.opened.push(socket);
        local
    }

    /// Opens sockets for further uplinks, and closes those of uplinks that are gone, which are returned.
    pub(crate) fn follow(&mut self, network: &Network) -> Vec<u32> {
        let stays = |pinned: &Pinned| network.is_uplink(pinned.ifindex, pinned.ipv6);
        let gone: Vec<_> =
            self.pinned.iter().filter(|known| !stays(known)).map(|known| known.local).collect();
        self.pinned.retain(stays);
        self.close(&gone);
        let others = |ipv6| network.others[usize::from(ipv6)].iter().map(move |other| (ipv6, other));
        for (ipv6, (ifindex, interface)) in others(false).chain(others(true)) {
            let known = |known: &Pinned| (known.ifindex, known.ipv6) == (*ifindex, ipv6);
            let room = self.pinned.len() < MAX_PINNED;
            if room && self.is_anywhere(ipv6) && !self.pinned.iter().any(known) {
                self.pin(ipv6, *ifindex, interface);
            }
        }
        gone
    }

    /// Whether the kernel chooses the address that the node sends from. A node that listens at certain
    /// addresses sends from those and no others.
    fn is_anywhere(&self, ipv6: bool) -> bool {
        self.first(ipv6).is_some_and(|socket| socket.local_addr().ip().is_unspecified())
    }

    fn pin(&mut self, ipv6: bool, ifindex: u32, interface: &str) {
        let any = if ipv6 { IpAddr::from([0u16; 8]) } else { IpAddr::from([0u8; 4]) };
        match UdpCarrier::bind_to_interface(SocketAddr::new(any, 0), self.next, interface) {
            Ok(socket) => {
                let at = socket.local_addr();
                let local = self.keep(socket, ipv6);
                info!(interface, %at, "another way out: paths over it stand by");
                self.pinned.push(Pinned { local, ipv6, ifindex, interface: interface.to_owned() });
            }
            // Linux before 5.7, or an interface that has just gone.
            Err(error) => info!(interface, %error, "another way out, which is not used"),
        }
    }

    /// What peers are dialled through, the first of each family before all others: where the node listens at
    /// certain addresses, one of each interface.
    pub(crate) fn for_dialling(&self, network: &Network) -> Vec<UdpSocket> {
        let (mut sockets, mut taken) = (firsts(&self.bound), BTreeSet::new());
        for socket in &self.bound {
            let (at, local) = (socket.local_addr(), socket.local());
            let ipv6 = at.is_ipv6();
            let own = network.interface_of(at.ip()).map(|own| (ipv6, own.ifindex));
            let fresh = own.is_some_and(|own| taken.insert(own)) && !self.is_anywhere(ipv6);
            let socket = UdpSocket { local, ipv6 };
            if fresh && !sockets.contains(&socket) {
                sockets.push(socket);
            }
        }
        let pinned = self.pinned.iter().map(|&Pinned { local, ipv6, .. }| UdpSocket { local, ipv6 });
        sockets.into_iter().chain(pinned).collect()
    }

    /// By which interface each socket sends, for people: of those that have one, and of the first of a family
    /// where the host has several ways out.
    pub(crate) fn interfaces(&self, network: &Network) -> BTreeMap<u32, String> {
        let mut names: BTreeMap<_, _> =
            self.pinned.iter().map(|pinned| (pinned.local, pinned.interface.clone())).collect();
        for socket in &self.bound {
            let at = socket.local_addr();
            let several = self.pinned.iter().any(|pinned| pinned.ipv6 == at.is_ipv6());
            let name = match network.interface_of(at.ip()) {
                Some(own) => Some(own.name.as_str()),
                None => network.uplink_name(at.is_ipv6()).filter(|_| several && at.ip().is_unspecified()),
            };
            names.extend(name.map(|name| (socket.local(), name.to_owned())));
        }
        names
    }

    /// Closes some that were opened.
    pub(crate) fn close(&mut self, locals: &[u32]) {
        self.opened.retain(|socket| !locals.contains(&socket.local()));
    }
}

/// The first of each family: what peers are dialled through by a node that knows of nothing else.
pub(crate) fn firsts(bound: &[UdpCarrier]) -> Vec<UdpSocket> {
    let of = |wanted: bool| {
        let mut sockets = bound.iter().map(|socket| (socket.local(), socket.local_addr().is_ipv6()));
        sockets.find(|(_, ipv6)| *ipv6 == wanted).map(|(local, ipv6)| UdpSocket { local, ipv6 })
    };
    [false, true].into_iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets() -> Sockets {
        Sockets::new(vec![UdpCarrier::bind("127.0.0.1:0".parse().unwrap(), 0).unwrap()])
    }

    #[tokio::test]
    async fn opened_sockets_have_ports_and_numbers_of_their_own() {
        let mut sockets = sockets();
        let first = sockets.open(3);
        let ports: Vec<_> = first.iter().map(|&local| sockets.named(local).unwrap().local_addr()).collect();
        assert!(ports.iter().all(|at| at.ip() == sockets.bound()[0].local_addr().ip()));
        sockets.close(&first[1..]);
        assert!(sockets.named(first[0]).is_some() && sockets.named(first[1]).is_none());
        let second = sockets.open(1);
        assert!(!first.contains(&second[0]), "a number is used once");
        sockets.close(&[0]);
        assert!(sockets.named(0).is_some(), "a listener stays");
        assert_eq!(sockets.open(u16::MAX).len(), MAX_OPENED - 2, "no more than there may be");
    }

    fn network(others: &[(u32, &str)]) -> Network {
        let others = others.iter().map(|(ifindex, name)| (*ifindex, (*name).to_owned())).collect();
        Network { others: [others, Vec::new()], ..Network::default() }
    }

    fn locals(sockets: &Sockets, network: &Network) -> Vec<u32> {
        sockets.for_dialling(network).iter().map(|socket| socket.local).collect()
    }

    #[tokio::test]
    async fn each_further_uplink_has_a_socket_as_long_as_it_is_one() {
        let mut sockets = Sockets::new(vec![UdpCarrier::bind("0.0.0.0:0".parse().unwrap(), 0).unwrap()]);
        sockets.follow(&network(&[]));
        assert_eq!(locals(&sockets, &network(&[])), [0], "one uplink, one socket");
        // The loopback will do for an interface; one that is not there opens nothing.
        let two = network(&[(1, "lo"), (4711, "none")]);
        sockets.follow(&two);
        sockets.follow(&two);
        let [0, pinned] = locals(&sockets, &two)[..] else { panic!("{:?}", sockets.pinned) };
        assert_eq!(sockets.interfaces(&two).get(&pinned).map(String::as_str), Some("lo"));
        assert!(sockets.named(pinned).is_some());
        sockets.follow(&network(&[]));
        assert!(sockets.named(pinned).is_none() && sockets.pinned.is_empty());
    }

    #[tokio::test]
    async fn a_node_that_listens_at_an_address_sends_from_no_other() {
        let mut sockets = sockets();
        let two = network(&[(1, "lo")]);
        sockets.follow(&two);
        assert_eq!(locals(&sockets, &two), [0]);
    }

    #[tokio::test]
    async fn every_socket_has_its_turn() {
        let mut sockets = sockets();
        let opened = sockets.open(1)[0];
        let from = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let places = [0, opened].map(|local| sockets.named(local).unwrap().local_addr());
        for at in places {
            from.send_to(b"x", at).unwrap();
        }
        // Both have something, and nobody takes it.
        for socket in [0, 1] {
            sockets.get(socket).unwrap().readable().await.unwrap();
        }
        for first in [0, 1, 2, 3] {
            let at = std::future::poll_fn(|cx| sockets.poll_readable(first, cx)).await;
            assert_eq!(at, first % 2);
        }
    }
}
