//! Signatures: pure Ed25519, checked strictly, over a domain tag and the bytes (protocol A1).
//!
//! Every kind of signed statement has its constant here and nowhere else; none is a prefix of
//! another, so a signature made for one kind can never pass as another.

use ed25519_dalek::VerifyingKey;

use crate::identity::NodeId;

/// A 64-byte Ed25519 signature.
pub type Signature = [u8; 64];

/// What a signature is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Domain(&'static str);

impl Domain {
    /// Routing origin records.
    pub const ORIGIN: Self = Self("sinew/origin/v1\0");
    /// Answers of hops to `trace`.
    pub const TRACE: Self = Self("sinew/trace/v1\0");

    /// Documents of private networks.
    pub const DOCUMENT: Self = Self("sinew/doc/v1\0");
    /// The holder of a ticket's key asks to be admitted.
    pub const REDEEM: Self = Self("sinew/redeem/v1\0");
    /// A host agrees to carry a moving workload, or to give it up.
    pub const HANDOVER: Self = Self("sinew/handover/v1\0");

    /// Where a node may be reached.
    pub const NODE: Self = Self("sinew/node/v1\0");

    /// Every domain, for the test that no tag is a prefix of another.
    pub const ALL: [Self; 6] =
        [Self::ORIGIN, Self::TRACE, Self::DOCUMENT, Self::REDEEM, Self::HANDOVER, Self::NODE];

    /// The tag's bytes.
    pub const fn tag(self) -> &'static [u8] {
        self.0.as_bytes()
    }

    pub(crate) fn frame(self, bytes: &[u8]) -> Vec<u8> {
        [self.tag(), bytes].concat()
    }
}

/// Whether `signature` over `bytes` was made by `node` for `domain`.
pub fn verify(node: &NodeId, domain: Domain, bytes: &[u8], signature: &Signature) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(node.as_bytes()) else { return false };
    let signature = ed25519_dalek::Signature::from_bytes(signature);
    key.verify_strict(&domain.frame(bytes), &signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Identity;

    #[test]
    fn no_domain_is_a_prefix_of_another() {
        for (i, a) in Domain::ALL.iter().enumerate() {
            for (j, b) in Domain::ALL.iter().enumerate() {
                assert!(i == j || !b.tag().starts_with(a.tag()), "{a:?} is a prefix of {b:?}");
            }
        }
    }

    #[test]
    fn a_signature_holds_for_its_domain_bytes_and_key_alone() {
        let (a, b) = (Identity::from_seed([1; 32]), Identity::from_seed([2; 32]));
        let signature = a.sign(Domain::ORIGIN, b"x");
        assert!(verify(&a.node_id(), Domain::ORIGIN, b"x", &signature));
        assert!(!verify(&a.node_id(), Domain::TRACE, b"x", &signature));
        assert!(!verify(&a.node_id(), Domain::ORIGIN, b"y", &signature));
        assert!(!verify(&b.node_id(), Domain::ORIGIN, b"x", &signature));
    }
}
