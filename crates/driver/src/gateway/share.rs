//! The ports that the gateway shares with the mesh's own WebSocket listener: what is for no service goes there.

use std::net::{SocketAddr, TcpStream};

use bytes::Bytes;
use sinew_carrier::connections::Door;
use sinew_gateway::Handover;

/// Ports of the gateway that are listeners of the mesh as well, and the way there.
pub(crate) struct Shared {
    pub(crate) at: Vec<SocketAddr>,
    pub(crate) door: Door,
}

/// The door as the front sees it.
pub(super) struct Aside(pub(super) Door);

impl Handover for Aside {
    fn take(&self, stream: TcpStream, client: SocketAddr, first: Bytes) -> bool {
        self.0.hand(stream, client, first)
    }
}
