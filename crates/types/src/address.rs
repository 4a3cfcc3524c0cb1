//! Mesh addresses: `fd3f::/16` followed by 112 bits of a hash over the node's key.
//!
//! The address is a pure function of the key (protocol A1), so nobody can claim another
//! node's address without its key, and no registry is needed.

use core::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::identity::NodeId;

/// The first two bytes of every mesh address, `fd3f::/16` (inside RFC 4193's `fd00::/8`).
const PREFIX: [u8; 2] = [0xfd, 0x3f];

/// A 16-byte mesh address, network byte order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MeshAddr([u8; 16]);

impl MeshAddr {
    /// Length of the mesh prefix in bits.
    pub const PREFIX_LEN: u8 = 16;

    /// The address that belongs to `node`: `fd3f` and SHA-256("sinew/addr/v1\0" ‖ NodeId)[0..14].
    pub fn of(node: &NodeId) -> Self {
        let hash = Sha256::new().chain_update(b"sinew/addr/v1\0").chain_update(node.as_bytes()).finalize();
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&PREFIX);
        bytes[2..].copy_from_slice(&hash[..14]);
        Self(bytes)
    }

    /// Takes 16 bytes as they stand on the wire; `None` outside `fd3f::/16`.
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        (bytes[..2] == PREFIX).then_some(Self(bytes))
    }

    /// The bytes in network order.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The same address as the standard library's type.
    pub const fn to_ipv6(self) -> Ipv6Addr {
        Ipv6Addr::from_octets(self.0)
    }

    /// Whether `addr` lies in the mesh range (and so must never be an underlay endpoint).
    pub fn contains(addr: &Ipv6Addr) -> bool {
        addr.octets()[..2] == PREFIX
    }
}

impl fmt::Display for MeshAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_ipv6().fmt(f)
    }
}

impl fmt::Debug for MeshAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_ipv6().fmt(f)
    }
}

impl FromStr for MeshAddr {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let addr: Ipv6Addr = text.parse().map_err(|_| "not an IPv6 address")?;
        Self::from_bytes(addr.octets()).ok_or("not a mesh address: it must lie in fd3f::/16")
    }
}
