//! A private network is named by its owner's public key, and its IPv6 range follows from it.
//!
//! The text form is that of a [`NodeId`], 52 characters; the /48 is a pure function of the key, so
//! two networks made by two people who never met do not share one.

use core::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::identity::{NodeId, NodeIdError};

/// The prefix of mesh addresses, which no network's range may fall into.
const MESH: [u8; 2] = [0xfd, 0x3f];

/// A private network's name: its owner's public key, strictly parsed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkId(NodeId);

impl NetworkId {
    /// The network of an owner's key.
    pub const fn new(owner: NodeId) -> Self {
        Self(owner)
    }

    /// Checks 32 bytes from outside; as costly as [`NodeId::parse`].
    ///
    /// # Errors
    /// As [`NodeId::parse`].
    pub fn parse(bytes: &[u8; 32]) -> Result<Self, NodeIdError> {
        NodeId::parse(bytes).map(Self)
    }

    /// The owner's key.
    pub const fn key(&self) -> NodeId {
        self.0
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The first 48 bits of the network's IPv6 addresses: `fd` and 40 bits of
    /// SHA-256("sinew/ula/v1\0" ‖ key). What falls into the mesh's own `fd3f::/16` is hashed again
    /// with a counter behind the key.
    pub fn ula(&self) -> [u8; 6] {
        let base = Sha256::new().chain_update(b"sinew/ula/v1\0").chain_update(self.as_bytes());
        let first: [u8; 32] = base.clone().finalize().into();
        prefix(&first)
            .or_else(|| (1..=u8::MAX).find_map(|n| prefix(&base.clone().chain_update([n]).finalize().into())))
            // 255 further hashes fall into 1/256 of the space with probability 2^-2040.
            .unwrap_or([0xfd, 0, 0, 0, 0, 0])
    }

    /// The first ten characters, enough for a person to tell networks apart.
    pub fn short(&self) -> String {
        self.0.short()
    }
}

fn prefix(hash: &[u8; 32]) -> Option<[u8; 6]> {
    let ula = [0xfd, hash[0], hash[1], hash[2], hash[3], hash[4]];
    (ula[..2] != MESH).then_some(ula)
}

impl fmt::Display for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for NetworkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "net:{}", self.short())
    }
}

impl FromStr for NetworkId {
    type Err = NodeIdError;

    fn from_str(text: &str) -> Result<Self, NodeIdError> {
        text.parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;

    fn id(n: u16) -> NetworkId {
        let mut seed = [0; 32];
        seed[..2].copy_from_slice(&n.to_le_bytes());
        NetworkId::new(Identity::from_seed(seed).node_id())
    }

    #[test]
    fn the_text_is_that_of_the_owner_s_key() {
        let network = id(1);
        assert_eq!(network.to_string(), network.key().to_string());
        assert_eq!(network.to_string().parse(), Ok(network));
        assert_eq!(NetworkId::parse(network.as_bytes()), Ok(network));
    }

    #[test]
    fn no_range_lies_in_that_of_the_mesh() {
        // A first hash byte of 0x3f is the case; among 3,000 keys a dozen have it.
        let first = |network: &NetworkId| {
            let hash: [u8; 32] = Sha256::new()
                .chain_update(b"sinew/ula/v1\0")
                .chain_update(network.as_bytes())
                .finalize()
                .into();
            hash[0]
        };
        let networks: Vec<_> = (0..3000).map(id).collect();
        assert!(networks.iter().any(|network| first(network) == 0x3f), "no key that tests the rule");
        for network in networks {
            assert_eq!(network.ula()[0], 0xfd);
            assert_ne!(network.ula()[1], 0x3f, "{network}");
        }
    }
}
