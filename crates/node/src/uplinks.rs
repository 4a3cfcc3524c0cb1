//! The host's ways out, and one path over each of them to every peer that is dialled.
//!
//! A host with several uplinks has a UDP socket for each: the first of a family goes where the kernel sends
//! it, each other has an uplink of its own. The shell opens and closes them as uplinks come and go. Over
//! the first a peer is dialled; once it is linked, its address is asked over all others too, so that
//! sessions have paths in reserve (protocol A3.7) which share nothing of this host with the one in use.
//! Which uplink is better is the kernel's word, by the order of its routes: the others are dialled
//! only when the first has brought no answer.

use std::time::Duration;

use sinew_session::Target;
use sinew_types::{CarrierKind, Instant, NodeId, PathAddr};

use crate::config::UdpSocket;
use crate::node::Node;

/// Between two looks for what an uplink has not brought yet.
const AGAIN: Duration = Duration::from_secs(300);

/// Sockets that peers are dialled through.
#[derive(Debug)]
pub(crate) struct Uplinks {
    sockets: Vec<UdpSocket>,
    /// When missing paths are asked for again.
    again: Instant,
}

impl Uplinks {
    pub(crate) fn new(sockets: Vec<UdpSocket>, now: Instant) -> Self {
        Self { sockets, again: now + AGAIN }
    }

    /// The socket that the kernel finds the way for.
    pub(crate) fn first(&self, ipv6: bool) -> Option<u32> {
        self.of_family(ipv6).next()
    }

    fn of_family(&self, ipv6: bool) -> impl Iterator<Item = u32> + '_ {
        self.sockets.iter().filter(move |socket| socket.ipv6 == ipv6).map(|socket| socket.local)
    }

    fn are_several(&self) -> bool {
        [false, true].into_iter().any(|ipv6| self.of_family(ipv6).nth(1).is_some())
    }

    /// When something is to be done, if there can be anything.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.are_several().then_some(self.again)
    }
}

impl Node {
    /// The UDP sockets that peers are dialled through are these now, the first of each family before all
    /// others, and these have been closed: what went through them goes another way. A socket may also
    /// leave the list and live on, for whoever comes in by it.
    pub fn set_udp_sockets(&mut self, sockets: Vec<UdpSocket>, closed: &[u32], now: Instant) {
        self.uplinks = Uplinks::new(sockets, now);
        closed.iter().for_each(|&local| self.sessions.socket_closed(local, now));
        self.drain_sessions(now);
        self.ask_everywhere(now);
        self.pump(now);
    }

    /// Starts a handshake with a far end: over the first uplink, and over all if that has not helped.
    pub(crate) fn open_udp(&mut self, peer: NodeId, remote: std::net::SocketAddr, now: Instant) {
        let again = self.dialler.has_failed(&peer);
        let locals: Vec<_> =
            self.uplinks.of_family(remote.is_ipv6()).take(if again { usize::MAX } else { 1 }).collect();
        if locals.is_empty() {
            let family = if remote.is_ipv6() { "IPv6" } else { "IPv4" };
            let error = format!("no local {family} UDP socket for {remote}: add one to [listen] udp");
            self.dialler.on_candidate_failed(&peer, (CarrierKind::Udp, remote), &error, now);
        }
        for local in locals {
            let path = PathAddr { carrier: CarrierKind::Udp, local, remote };
            self.sessions.open(peer, Target::Direct(path), now);
        }
    }

    /// Asks a dialled peer over every uplink that it is not linked by, so that there is a path in reserve.
    pub(crate) fn ask_over_others(&mut self, peer: NodeId, now: Instant) {
        let Some(link) = self.links.get(&peer).filter(|_| self.dialler.contains(&peer)) else { return };
        let path = link.path;
        if path.carrier != CarrierKind::Udp {
            return;
        }
        let others: Vec<_> =
            self.uplinks.of_family(path.remote.is_ipv6()).filter(|&local| local != path.local).collect();
        for local in others {
            self.sessions.open(peer, Target::Direct(PathAddr { local, ..path }), now);
        }
    }

    fn ask_everywhere(&mut self, now: Instant) {
        if self.uplinks.are_several() {
            let peers: Vec<_> = self.links.keys().copied().collect();
            peers.into_iter().for_each(|peer| self.ask_over_others(peer, now));
        }
    }

    /// Does what is due.
    pub(crate) fn tend_uplinks(&mut self, now: Instant) {
        if self.uplinks.poll_timeout().is_some_and(|due| due <= now) {
            self.uplinks.again = now + AGAIN;
            self.ask_everywhere(now);
        }
    }

    /// Whether this path is another way over which the peer's link is asked for: what comes of it says
    /// nothing of the far end.
    pub(crate) fn is_beside_link(&self, peer: &NodeId, path: &PathAddr) -> bool {
        let same = |link: PathAddr| (link.carrier, link.remote) == (path.carrier, path.remote);
        self.links.get(peer).is_some_and(|link| link.path != *path && same(link.path))
    }
}
