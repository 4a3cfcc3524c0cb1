//! The UDP sockets of a node: those that it listens on, and those that it asks for to be found behind a
//! translator that draws ports (protocol A10.8).
//!
//! The first are bound at the start, while there are privileges, and stay. The others come and go: a few
//! hundred for some seconds, of which the one stays that a path was found with. Every socket has a number
//! by which paths name it; no number is used twice, so that nothing goes out through a socket that
//! took the place of another. Buffers of opened sockets are as large as the kernel grants without
//! privileges (`net.core.rmem_max`), and their queues are not managed: see `socket_queue`.

use std::net::SocketAddr;
use std::task::{Context, Poll};

use sinew_carrier::Datagrams as _;
use sinew_carrier::udp::UdpCarrier;
use tracing::debug;

/// Opened sockets at most: twice what one search takes (`sinew_path::scatter::PORTS`), since those of the
/// last may still be open. Beyond that nothing is opened, whatever the node says.
const MAX_OPENED: usize = 512;
/// Numbers of opened sockets begin here, far above those of listeners.
const FIRST_OPENED: u32 = 1 << 16;

/// All of them.
pub(crate) struct Sockets {
    bound: Vec<UdpCarrier>,
    opened: Vec<UdpCarrier>,
    next: u32,
}

impl Sockets {
    pub(crate) const fn new(bound: Vec<UdpCarrier>) -> Self {
        Self { bound, opened: Vec::new(), next: FIRST_OPENED }
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
        let Some(model) = self.bound.iter().find(|socket| socket.local_addr().is_ipv4()) else {
            return Vec::new();
        };
        let addr = SocketAddr::new(model.local_addr().ip(), 0);
        let (segmentation, aggregation) = (model.segmentation(), model.aggregation());
        let room = MAX_OPENED.saturating_sub(self.opened.len());
        let mut locals = Vec::new();
        for _ in 0..usize::from(count).min(room) {
            let socket = match UdpCarrier::bind(addr, self.next) {
                Ok(socket) => socket,
                Err(error) => {
                    debug!(%error, open = self.opened.len(), "no more ports to be found at");
                    break;
                }
            };
            if !segmentation {
                socket.set_segmentation(false);
            }
            if !aggregation && let Err(error) = socket.set_aggregation(false) {
                debug!(%error, "aggregation not switched off");
            }
            locals.push(self.next);
            self.next = self.next.wrapping_add(1).max(FIRST_OPENED);
            self.opened.push(socket);
        }
        locals
    }

    /// Closes some that were opened.
    pub(crate) fn close(&mut self, locals: &[u32]) {
        self.opened.retain(|socket| !locals.contains(&socket.local()));
    }
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
