//! `Noise_IKpsk2_25519_ChaChaPoly_SHA256`, reduced to the three calls a session needs (protocol A2).
//!
//! The initiator knows the responder's NodeId and so its X25519 key. The full NodeId goes into the
//! prologue: X25519 keys lose the sign of x, so without it a message for A would also be one for
//! its mirror image -A. Payloads are opaque 64 bytes here; what they mean, and whether a message
//! is fresh, is the session's business.
//!
//! Both messages carry 64 payload bytes and never user data: HS1 can be replayed and, by a thief of
//! the responder's key, forged; only the first record proves the initiator (confirm before use).

use core::fmt;

use sinew_types::{Identity, NodeId};
use snow::params::NoiseParams;
use snow::{Builder, Error, HandshakeState};
use thiserror::Error as ThisError;
use zeroize::Zeroizing;

use crate::hash::HASH_LEN;
use crate::resolver::Resolver;
use crate::wipe::{Wiped, scrubbed};

/// Length of the Noise part of HS1: ephemeral 32, sealed static 48, sealed payload 80.
pub const NOISE1_LEN: usize = 160;
/// Length of the Noise part of HS2: ephemeral 32, sealed payload 80.
pub const NOISE2_LEN: usize = 112;
/// Length of either payload.
pub const PAYLOAD_LEN: usize = 64;
/// The Noise protocol.
const PROTOCOL: &str = "Noise_IKpsk2_25519_ChaChaPoly_SHA256";
const PROLOGUE_TAG: &[u8; 12] = b"sinew/hs/v1\0";
/// psk2: the mesh secret is mixed in by the second message.
const PSK_SLOT: u8 = 2;

/// Why a handshake went no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ThisError)]
pub enum HandshakeError {
    /// The message is not for us, not from whom it claims, under another mesh secret, or damaged.
    #[error("the handshake message does not decrypt")]
    Forged,
    /// A key in the message is a low-order point; the exchange would have no secret.
    #[error("the handshake message carries a low-order key")]
    LowOrder,
    /// The handshake is over: it has already given out its keys.
    #[error("the handshake is already finished")]
    Finished,
    /// The Noise machine refused a call; a bug on our side, never the peer's doing.
    #[error("the handshake could not be set up")]
    Internal,
}

impl From<Error> for HandshakeError {
    fn from(error: Error) -> Self {
        match error {
            Error::Decrypt | Error::Input => Self::Forged,
            Error::Dh => Self::LowOrder,
            Error::State(_) => Self::Finished,
            _ => Self::Internal,
        }
    }
}

/// The outcome of a handshake, from this side's point of view. Erased on drop.
///
/// Each move of it leaves a copy on the stack until that is used again, so derive the record keys
/// where it is received and let it go.
pub struct SplitKeys {
    /// For what we send.
    pub send: Zeroizing<[u8; 32]>,
    /// For what we receive.
    pub receive: Zeroizing<[u8; 32]>,
    /// The handshake hash: equal on both sides, unique to this handshake; not secret.
    pub hash: [u8; HASH_LEN],
}

impl SplitKeys {
    fn take(state: &mut HandshakeState) -> Result<Self, HandshakeError> {
        if !state.is_handshake_finished() {
            return Err(HandshakeError::Internal);
        }
        let hash = state.get_handshake_hash().try_into().map_err(|_| HandshakeError::Internal)?;
        let (first, second) = state.dangerously_get_raw_split();
        let (first, second) = (Zeroizing::new(first), Zeroizing::new(second));
        // Noise section 5.3: the first key is for initiator to responder.
        let (send, receive) = if state.is_initiator() { (first, second) } else { (second, first) };
        Ok(Self { send, receive, hash })
    }
}

impl fmt::Debug for SplitKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SplitKeys")
    }
}

/// The side that sent HS1.
pub struct Initiator(Option<Wiped>);

impl Initiator {
    /// Makes the Noise part of HS1 for `responder`. `psk` is the mesh secret or zeros; `seed` must
    /// be fresh and random: the ephemeral key follows from it.
    ///
    /// # Errors
    /// [`HandshakeError::Internal`] only, which would be a bug.
    pub fn start(
        identity: &Identity,
        responder: &NodeId,
        psk: &[u8; 32],
        payload: &[u8; PAYLOAD_LEN],
        seed: [u8; 32],
    ) -> Result<(Self, [u8; NOISE1_LEN]), HandshakeError> {
        let seed = Zeroizing::new(seed);
        let mut message = [0; NOISE1_LEN];
        let state = scrubbed(|| {
            let mut state = build(identity, responder, true, psk, &seed)?;
            exactly(state.write_message(payload, &mut message)?, NOISE1_LEN)?;
            Ok::<_, HandshakeError>(state)
        })?;
        Ok((Self(Some(state)), message))
    }

    /// Reads the Noise part of HS2. A failure leaves everything as it was, so that a forged HS2
    /// does not end the attempt (protocol A2); after success the handshake is spent.
    ///
    /// # Errors
    /// [`HandshakeError`] if the message is not the responder's answer, or one was read before.
    pub fn finish(
        &mut self,
        message: &[u8; NOISE2_LEN],
    ) -> Result<(SplitKeys, [u8; PAYLOAD_LEN]), HandshakeError> {
        let state = self.0.as_mut().ok_or(HandshakeError::Finished)?;
        let mut payload = [0; PAYLOAD_LEN];
        let keys = scrubbed(|| {
            exactly(state.read_message(message, &mut payload)?, PAYLOAD_LEN)?;
            SplitKeys::take(state)
        })?;
        self.0 = None;
        Ok((keys, payload))
    }
}

impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Initiator")
    }
}

/// The side that read HS1 and has not answered yet.
pub struct Responder(Wiped);

/// What a readable HS1 says. Nothing of it is proved to be fresh.
#[derive(Debug)]
pub struct Received {
    /// To answer with.
    pub responder: Responder,
    /// The initiator's X25519 key: its NodeId but for the sign bit, which the payload carries.
    pub x25519: [u8; 32],
    /// The payload of HS1.
    pub payload: [u8; PAYLOAD_LEN],
}

impl Responder {
    /// Reads the Noise part of HS1. `psk` is the mesh secret or zeros (it enters with the answer);
    /// `seed` must be fresh and random: the ephemeral key follows from it.
    ///
    /// # Errors
    /// [`HandshakeError`] if the message was not made for this identity or carries a low-order key.
    pub fn read(
        identity: &Identity,
        psk: &[u8; 32],
        message: &[u8; NOISE1_LEN],
        seed: [u8; 32],
    ) -> Result<Received, HandshakeError> {
        let seed = Zeroizing::new(seed);
        let mut payload = [0; PAYLOAD_LEN];
        let state = scrubbed(|| {
            let mut state = build(identity, &identity.node_id(), false, psk, &seed)?;
            exactly(state.read_message(message, &mut payload)?, PAYLOAD_LEN)?;
            Ok::<_, HandshakeError>(state)
        })?;
        let remote = state.get_remote_static().ok_or(HandshakeError::Internal)?;
        let x25519 = remote.try_into().map_err(|_| HandshakeError::Internal)?;
        Ok(Received { responder: Self(state), x25519, payload })
    }

    /// Makes the Noise part of HS2 and the keys.
    ///
    /// # Errors
    /// [`HandshakeError::LowOrder`] if the initiator's keys leave no secret.
    pub fn reply(
        mut self,
        payload: &[u8; PAYLOAD_LEN],
    ) -> Result<([u8; NOISE2_LEN], SplitKeys), HandshakeError> {
        let mut message = [0; NOISE2_LEN];
        let keys = scrubbed(|| {
            exactly(self.0.write_message(payload, &mut message)?, NOISE2_LEN)?;
            SplitKeys::take(&mut self.0)
        })?;
        Ok((message, keys))
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Responder")
    }
}

/// protocol A2: "sinew/hs/v1\0" ‖ responder's NodeId.
fn prologue(responder: &NodeId) -> [u8; 44] {
    let mut bytes = [0; 44];
    bytes[..12].copy_from_slice(PROLOGUE_TAG);
    bytes[12..].copy_from_slice(responder.as_bytes());
    bytes
}

fn build(
    identity: &Identity,
    responder: &NodeId,
    initiator: bool,
    psk: &[u8; 32],
    seed: &[u8; 32],
) -> Result<Wiped, HandshakeError> {
    let params: NoiseParams = PROTOCOL.parse()?;
    let (secret, remote, prologue) = (identity.x25519_secret(), responder.x25519(), prologue(responder));
    let builder = Builder::with_resolver(params, Box::new(Resolver::new(seed)))
        .local_private_key(secret.as_slice())?
        .prologue(&prologue)?
        .psk(PSK_SLOT, psk)?;
    let state = if initiator {
        builder.remote_public_key(&remote)?.build_initiator()?
    } else {
        builder.build_responder()?
    };
    Ok(Wiped::new(state))
}

fn exactly(got: usize, wanted: usize) -> Result<(), HandshakeError> {
    if got == wanted { Ok(()) } else { Err(HandshakeError::Internal) }
}

#[cfg(test)]
mod tests;
