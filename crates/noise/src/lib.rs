//! All cryptography of the fast path and of the handshake, and nothing else: no table, no timer,
//! no message layout lives here.
//!
//! * [`handshake`] runs `Noise_IKpsk2_25519_ChaChaPoly_SHA256` (protocol A2) and hands out the two
//!   split keys; `resolver` tells snow to use our primitives for it.
//! * [`aead`] turns a split key into a record key that seals and opens in place (protocol A3).
//! * [`mac`] answers the first question asked of an unknown datagram, "does the sender at least
//!   know whom it is talking to", and makes the cookies that prove an address under load.
//! * [`hash`] is SHA-256, HMAC and HKDF-Expand over one provider.
//!
//! Every secret held here is erased when its holder is dropped; nothing here prints one.

pub mod aead;
pub mod handshake;
pub mod hash;
pub mod mac;
mod resolver;
mod wipe;

pub use aead::{Cipher, CipherSet, Forged, RecordKey, choose};
pub use handshake::{HandshakeError, Initiator, Received, Responder, SplitKeys};
pub use mac::{CookieJar, HandshakeMac};
