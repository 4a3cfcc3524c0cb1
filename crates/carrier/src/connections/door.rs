//! A port that is shared with somebody else: who listens there hands over what is not his.
//!
//! A public gateway needs port 443 as much as a WebSocket listener does, and a node may be both. The gateway
//! accepts, reads who is asked for, and gives what is meant for the mesh to a [`Door`], with the bytes that it
//! has read. From there on the connection is a stranger's as any other, under the same limits.

use std::net::{SocketAddr, TcpStream};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::sync::mpsc;

/// Connections that may wait to be taken in. Whoever hands them over runs on threads of its own.
const WAITING: usize = 64;

/// A connection that somebody else has accepted.
pub(crate) struct Handed {
    pub(crate) stream: TcpStream,
    pub(crate) remote: SocketAddr,
    /// Read from it already.
    pub(crate) first: Bytes,
}

/// Where connections are handed over; see [`super::Connections::share_wss`].
#[derive(Clone, Debug)]
pub struct Door(mpsc::Sender<Handed>);

impl Door {
    /// Hands over a connection of `remote` (not blocking, as tokio's are) from which `first` has been read.
    /// Returns whether there was room for it; if not, it is closed.
    pub fn hand(&self, stream: TcpStream, remote: SocketAddr, first: Bytes) -> bool {
        self.0.try_send(Handed { stream, remote, first }).is_ok()
    }
}

/// The inner side of a door.
pub(crate) struct Hall(mpsc::Receiver<Handed>);

impl Hall {
    pub(crate) fn new() -> (Door, Self) {
        let (outside, inside) = mpsc::channel(WAITING);
        (Door(outside), Self(inside))
    }

    /// Pending for ever once all doors are gone: nobody comes any more.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Handed> {
        match self.0.poll_recv(cx) {
            Poll::Ready(Some(handed)) => Poll::Ready(handed),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}
