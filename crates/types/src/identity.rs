//! A key is the whole identity: one Ed25519 key names, addresses, signs and encrypts (protocol A1).
//!
//! [`NodeId`] is the public half, parsed strictly so that one node has exactly one name;
//! [`Identity`] is the secret half. The X25519 key for Noise is derived from the same key, so
//! knowing a NodeId is enough to start a handshake. The Montgomery map loses the sign of x:
//! [`NodeId::sign_bit`] travels in the handshake and [`NodeId::from_x25519`] puts it back.

use core::fmt;
use std::str::FromStr;

use curve25519_dalek::edwards::CompressedEdwardsY;
use curve25519_dalek::montgomery::MontgomeryPoint;
use curve25519_dalek::traits::IsIdentity;
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use hkdf::Hkdf;
use sha2::Sha256;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::address::MeshAddr;
use crate::signing::{Domain, Signature};

/// Length of a NodeId's text form: 256 bits in base32 without padding.
const TEXT_LEN: usize = 52;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Why 32 bytes or a text are no node's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NodeIdError {
    /// Not a point of the curve.
    #[error("not a point of the curve")]
    NotAPoint,
    /// A second encoding of a point: one node, one name.
    #[error("not the canonical encoding of its point")]
    NotCanonical,
    /// A point of small order, or one with a torsion part: it shares keys with other names.
    #[error("the point is not in the prime-order group")]
    Torsion,
    /// Text of a wrong length.
    #[error("a node id has 52 characters")]
    TextLength,
    /// Text with a character outside a-z, 2-7, or with stray bits in the last one.
    #[error("a node id is lower-case base32 (a-z, 2-7)")]
    TextAlphabet,
}

/// A node's name: its Ed25519 public key, known to be canonical and torsion-free.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; 32]);

impl NodeId {
    /// Checks 32 bytes from outside. Costs about 50 µs (the torsion test); callers keep the result.
    ///
    /// # Errors
    /// [`NodeIdError`] unless the bytes are the canonical encoding of a torsion-free point.
    pub fn parse(bytes: &[u8; 32]) -> Result<Self, NodeIdError> {
        let point = CompressedEdwardsY(*bytes).decompress().ok_or(NodeIdError::NotAPoint)?;
        if point.compress().as_bytes() != bytes {
            return Err(NodeIdError::NotCanonical);
        }
        if point.is_identity() || point.is_small_order() || !point.is_torsion_free() {
            return Err(NodeIdError::Torsion);
        }
        Ok(Self(*bytes))
    }

    /// The node behind an X25519 key and the sign bit that its handshake carried.
    ///
    /// # Errors
    /// As [`NodeId::parse`], also for points that exist only on the twist.
    pub fn from_x25519(public: &[u8; 32], sign_bit: bool) -> Result<Self, NodeIdError> {
        let point = MontgomeryPoint(*public).to_edwards(u8::from(sign_bit)).ok_or(NodeIdError::NotAPoint)?;
        let id = Self::parse(point.compress().as_bytes())?;
        if id.x25519() == *public { Ok(id) } else { Err(NodeIdError::NotCanonical) }
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The mesh address that belongs to this node.
    pub fn address(&self) -> MeshAddr {
        MeshAddr::of(self)
    }

    /// The X25519 public key for Noise: the Montgomery form of the same point.
    pub fn x25519(&self) -> [u8; 32] {
        VerifyingKey::from_bytes(&self.0)
            .map(|key| key.to_montgomery().to_bytes())
            .expect("a NodeId was decompressed when it was made")
    }

    /// The sign of x, which the Montgomery form does not keep.
    pub const fn sign_bit(&self) -> bool {
        self.0[31] & 0x80 != 0
    }

    /// The first ten characters, enough for a person to tell nodes apart.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(10);
        text
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(TEXT_LEN);
        let (mut bits, mut held) = (0u32, 0u32);
        for byte in self.0 {
            bits = (bits << 8) | u32::from(byte);
            held += 8;
            while held >= 5 {
                held -= 5;
                text.push(char::from(ALPHABET[(bits >> held) as usize & 31]));
            }
        }
        text.push(char::from(ALPHABET[(bits << (5 - held)) as usize & 31]));
        f.pad(&text)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl FromStr for NodeId {
    type Err = NodeIdError;

    fn from_str(text: &str) -> Result<Self, NodeIdError> {
        if text.len() != TEXT_LEN {
            return Err(NodeIdError::TextLength);
        }
        let (mut bytes, mut at, mut bits, mut held) = ([0; 32], 0, 0u32, 0u32);
        for character in text.bytes() {
            let value = ALPHABET.iter().position(|&a| a == character).ok_or(NodeIdError::TextAlphabet)?;
            bits = (bits << 5) | value as u32;
            held += 5;
            if held >= 8 {
                held -= 8;
                bytes[at] = (bits >> held) as u8;
                at += 1;
            }
        }
        // A1: the four spare bits of the last character must be zero, so one key has one text.
        if bits & ((1 << held) - 1) != 0 {
            return Err(NodeIdError::TextAlphabet);
        }
        Self::parse(&bytes)
    }
}

/// A node's secret. Erased from memory on drop; never printed.
pub struct Identity {
    signing: SigningKey,
    id: NodeId,
}

impl Identity {
    /// The identity of a 32-byte seed (RFC 8032 private key).
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let seed = Zeroizing::new(seed);
        let signing = SigningKey::from_bytes(&seed);
        let id = NodeId(signing.verifying_key().to_bytes());
        Self { signing, id }
    }

    /// The public half.
    pub const fn node_id(&self) -> NodeId {
        self.id
    }

    /// The X25519 private scalar for Noise (unclamped; X25519 clamps it).
    pub fn x25519_secret(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.signing.to_scalar_bytes())
    }

    /// Signs `bytes` for `domain`.
    pub fn sign(&self, domain: Domain, bytes: &[u8]) -> Signature {
        self.signing.sign(&domain.frame(bytes)).to_bytes()
    }

    /// Sixteen bytes that only this key can make of `context`, and makes again of the same: the start
    /// of the chain of a record that answers another one (protocol A6.5).
    pub fn chain_start(&self, context: &[u8]) -> [u8; 16] {
        let mut out = [0; 16];
        Hkdf::<Sha256>::new(None, self.signing.as_bytes())
            .expand(&[b"sinew/chain-start/v1\0".as_slice(), context].concat(), &mut out)
            .expect("16 bytes are a valid HKDF-SHA256 output length");
        out
    }

    /// Seed of the libp2p key: derived, so that a PeerId in a public directory names no node (A9).
    pub fn libp2p_seed(&self) -> Zeroizing<[u8; 32]> {
        let mut out = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(None, self.signing.as_bytes())
            .expand(b"sinew/libp2p/v1", out.as_mut_slice())
            .expect("32 bytes are a valid HKDF-SHA256 output length");
        out
    }

    /// The libp2p PeerId of the derived key: base58 of its identity multihash.
    pub fn peer_id(&self) -> String {
        /// identity multihash of 36 bytes: protobuf { type = Ed25519, data = 32 bytes }.
        const HEAD: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];
        let key = SigningKey::from_bytes(&self.libp2p_seed());
        bs58::encode([HEAD.as_slice(), &key.verifying_key().to_bytes()].concat()).into_string()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({:?})", self.id)
    }
}

#[cfg(test)]
mod tests;
