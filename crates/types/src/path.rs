//! Where a datagram comes from or goes to on the underlay.

use core::fmt;
use std::net::SocketAddr;

/// How records travel between two machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CarrierKind {
    /// Datagrams; preferred.
    Udp,
    /// A stream of length-prefixed records.
    Tcp,
    /// QUIC datagrams on port 443.
    Quic,
    /// WebSocket over TLS on port 443.
    Wss,
}

impl CarrierKind {
    /// The word used in URIs, configuration and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Quic => "quic",
            Self::Wss => "wss",
        }
    }

    /// From the word used in URIs.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Udp, Self::Tcp, Self::Quic, Self::Wss].into_iter().find(|kind| kind.as_str() == text)
    }

    /// Whether records are framed on a reliable stream.
    pub const fn is_stream(self) -> bool {
        matches!(self, Self::Tcp | Self::Wss)
    }
}

/// One underlay path as this node sees it: a carrier, which of our sockets or connections, and
/// the far end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathAddr {
    /// The carrier.
    pub carrier: CarrierKind,
    /// Index of the local UDP socket, or the number of the stream connection.
    pub local: u32,
    /// The far end.
    pub remote: SocketAddr,
}

impl fmt::Display for PathAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.carrier.as_str(), self.remote)
    }
}

impl fmt::Debug for PathAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}#{}", self.carrier.as_str(), self.remote, self.local)
    }
}
