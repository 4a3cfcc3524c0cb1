//! Where sealed datagrams leave: each batch goes to the carrier of its path, in one call.
//!
//! What a full socket does not take is dropped and counted: queueing it here would only add delay.

use sinew_carrier::connections::Connections;
use sinew_carrier::{Datagrams, SendError};
use sinew_node::{Node, Transmit};
use sinew_platform::clock;
use sinew_types::{CarrierKind, DropReason, PathAddr};
use tokio::time::Instant;

use crate::sockets::Sockets;

/// A stream with less room than this, in bytes, is nearly full: a super-packet may no longer fit.
pub(crate) const STREAM_ROOM: usize = 128 * 1024;

/// A nearly full stream, and since when it is.
pub(crate) type Congested = Option<(u32, Instant)>;

/// All carriers.
pub(crate) struct Outlet<'a> {
    pub(crate) udp: &'a Sockets,
    pub(crate) connections: &'a mut Connections,
    pub(crate) congested: &'a mut Congested,
}

/// What did not leave.
#[derive(Default)]
struct Unsent {
    dropped: u64,
    too_big: u64,
    /// Datagrams of this size are too big for this path.
    refused: Vec<(PathAddr, usize)>,
}

impl Outlet<'_> {
    /// Sends all that waits. Returns whether the node was told something about it, and so may have more to say.
    pub(crate) fn send_all(&mut self, node: &mut Node) -> bool {
        let mut unsent = Unsent::default();
        while let Some(transmit) = node.poll_transmit() {
            self.send(&transmit, &mut unsent);
        }
        unsent.tell(node)
    }

    /// Sends all that waits, then what lies in the caller's buffer.
    pub(crate) fn send_onward(&mut self, node: &mut Node, onward: &Transmit<'_>) {
        self.send_all(node);
        let mut unsent = Unsent::default();
        self.send(onward, &mut unsent);
        unsent.tell(node);
    }

    fn send(&mut self, transmit: &Transmit<'_>, unsent: &mut Unsent) {
        let (to, segment) = (transmit.to, transmit.segment.max(1));
        let result = match to.carrier {
            CarrierKind::Udp => match self.udp.named(to.local) {
                Some(socket) => socket.try_send(to.remote, transmit.bytes, segment, transmit.ecn),
                None => Err(SendError::Closed),
            },
            _ => {
                let result = self.connections.try_send(to.local, transmit.bytes, segment);
                if self.congested.is_none() && self.connections.room(to.local) < STREAM_ROOM {
                    *self.congested = Some((to.local, Instant::now()));
                }
                result
            }
        };
        if let Err(error) = result {
            let lost = (transmit.bytes.len() - error.sent()).div_ceil(segment) as u64;
            if matches!(error, SendError::TooBig { .. }) {
                unsent.too_big += lost;
                unsent.refused.push((to, segment));
            } else {
                unsent.dropped += lost;
            }
        }
    }
}

impl Unsent {
    fn tell(self, node: &mut Node) -> bool {
        node.count_drops(DropReason::SendQueue, self.dropped);
        node.count_drops(DropReason::TooBig, self.too_big);
        let told = !self.refused.is_empty();
        for (path, size) in self.refused {
            node.handle_refused(path, size, clock::boottime());
        }
        told
    }
}
