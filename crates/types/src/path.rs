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
    /// QUIC datagrams, on port 443 if wanted: for networks that pass only what looks like the web.
    Quic,
    /// WebSocket over TLS, on port 443 if wanted: for networks that pass nothing else.
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

    /// All of them, the best first: what a datagram loses, a stream makes everything wait for, and each
    /// disguise costs bytes and work.
    pub const ALL: [Self; 4] = [Self::Udp, Self::Quic, Self::Tcp, Self::Wss];

    /// Place in [`CarrierKind::ALL`]; of several paths that work, the lowest is used.
    pub const fn rank(self) -> u8 {
        match self {
            Self::Udp => 0,
            Self::Quic => 1,
            Self::Tcp => 2,
            Self::Wss => 3,
        }
    }

    /// From the word used in URIs.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// Whether records are framed on a reliable stream.
    pub const fn is_stream(self) -> bool {
        matches!(self, Self::Tcp | Self::Wss)
    }

    /// Whether the carrier has connections, which are made, end, and have a number.
    pub const fn has_connections(self) -> bool {
        !matches!(self, Self::Udp)
    }
}

/// One underlay path as this node sees it: a carrier, which of our sockets or connections, and
/// the far end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathAddr {
    /// The carrier.
    pub carrier: CarrierKind,
    /// Index of the local UDP socket, or the number of the connection.
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
