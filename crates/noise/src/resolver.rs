//! The primitives that snow runs on: X25519 by x25519-dalek, SHA-256 and ChaCha20-Poly1305 by
//! aws-lc, randomness from a seed that the caller gives.
//!
//! Own primitives and not snow's for three reasons: one provider for the whole program, an X25519
//! that refuses low-order points (protocol A1), and ephemeral keys that are a function of a seed,
//! so that a simulation repeats byte for byte.

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};
use aws_lc_rs::digest;
use snow::Error;
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::aead::{self, TAG_LEN};
use crate::hash::{HASH_LEN, hmac_sha256};

const EPHEMERAL_TAG: &[u8] = b"sinew/ephemeral/v1\0";
const KEY_LEN: usize = 32;

/// Resolves the one suite we use; anything else is not there.
pub(crate) struct Resolver {
    seed: Zeroizing<[u8; 32]>,
}

impl Resolver {
    /// A resolver whose randomness follows from `seed` alone.
    pub(crate) fn new(seed: &[u8; 32]) -> Self {
        Self { seed: Zeroizing::new(*seed) }
    }
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(SeededRandom { seed: self.seed.clone(), drawn: 0 }))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        match choice {
            DHChoice::Curve25519 => Some(Box::new(X25519::default())),
            _ => None,
        }
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        match choice {
            HashChoice::SHA256 => Some(Box::new(Sha256(digest::Context::new(&digest::SHA256)))),
            _ => None,
        }
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        match choice {
            CipherChoice::ChaChaPoly => Some(Box::new(ChaChaPoly(None))),
            _ => None,
        }
    }
}

/// HMAC(seed, tag ‖ draw ‖ block): a handshake draws 32 bytes, once.
struct SeededRandom {
    seed: Zeroizing<[u8; 32]>,
    drawn: u32,
}

impl Random for SeededRandom {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Error> {
        for chunk in dest.chunks_mut(HASH_LEN) {
            let number = self.drawn.to_le_bytes();
            let block = Zeroizing::new(hmac_sha256(self.seed.as_slice(), &[EPHEMERAL_TAG, &number]));
            chunk.copy_from_slice(&block[..chunk.len()]);
            self.drawn = self.drawn.checked_add(1).ok_or(Error::Rng)?;
        }
        Ok(())
    }
}

struct X25519 {
    secret: StaticSecret,
    public: PublicKey,
}

impl Default for X25519 {
    fn default() -> Self {
        // Not a key pair: snow makes the object first and always sets or generates before use.
        Self { secret: StaticSecret::from([0; 32]), public: PublicKey::from([0; 32]) }
    }
}

impl X25519 {
    fn replace(&mut self, secret: &[u8; 32]) {
        self.secret = StaticSecret::from(*secret);
        self.public = PublicKey::from(&self.secret);
    }
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        KEY_LEN
    }

    fn priv_len(&self) -> usize {
        KEY_LEN
    }

    fn set(&mut self, privkey: &[u8]) {
        let secret = privkey.first_chunk().expect("our own static keys have 32 bytes");
        self.replace(secret);
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        let mut secret = Zeroizing::new([0; KEY_LEN]);
        rng.try_fill_bytes(secret.as_mut_slice())?;
        self.replace(&secret);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        self.public.as_bytes()
    }

    fn privkey(&self) -> &[u8] {
        self.secret.as_bytes()
    }

    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let public: [u8; KEY_LEN] = *pubkey.first_chunk().ok_or(Error::Dh)?;
        let shared = self.secret.diffie_hellman(&PublicKey::from(public));
        // protocol A1: an all-zero output means a low-order point, by which anybody knows the key.
        if !shared.was_contributory() {
            return Err(Error::Dh);
        }
        out.first_chunk_mut::<KEY_LEN>().ok_or(Error::Dh)?.copy_from_slice(shared.as_bytes());
        Ok(())
    }
}

struct Sha256(digest::Context);

impl Hash for Sha256 {
    fn name(&self) -> &'static str {
        "SHA256"
    }

    fn block_len(&self) -> usize {
        64
    }

    fn hash_len(&self) -> usize {
        HASH_LEN
    }

    fn reset(&mut self) {
        self.0 = digest::Context::new(&digest::SHA256);
    }

    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn result(&mut self, out: &mut [u8]) {
        let context = core::mem::replace(&mut self.0, digest::Context::new(&digest::SHA256));
        out[..HASH_LEN].copy_from_slice(context.finish().as_ref());
    }

    fn hmac(&mut self, key: &[u8], data: &[u8], out: &mut [u8]) {
        out[..HASH_LEN].copy_from_slice(&hmac_sha256(key, &[data]));
    }
}

/// The handshake's own cipher; the records' one is agreed inside it.
struct ChaChaPoly(Option<LessSafeKey>);

impl ChaChaPoly {
    /// Noise section 12.3: 32 zero bits, then the counter, little-endian.
    fn nonce(counter: u64) -> Nonce {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&counter.to_le_bytes());
        Nonce::assume_unique_for_key(nonce)
    }
}

impl Cipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }

    fn set(&mut self, key: &[u8; KEY_LEN]) {
        self.0 = Some(aead::context(aead::Cipher::ChaCha20Poly1305, key));
    }

    fn encrypt(&self, nonce: u64, authtext: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let key = self.0.as_ref().expect("snow encrypts only after it has set a key");
        let (text, rest) = out.split_at_mut(plaintext.len());
        text.copy_from_slice(plaintext);
        let tag = key
            .seal_in_place_separate_tag(Self::nonce(nonce), Aad::from(authtext), text)
            .expect("a handshake message is far below the cipher's 256 GiB limit");
        rest[..TAG_LEN].copy_from_slice(tag.as_ref());
        plaintext.len() + TAG_LEN
    }

    fn decrypt(
        &self,
        nonce: u64,
        authtext: &[u8],
        ciphertext: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Error> {
        let key = self.0.as_ref().ok_or(Error::Decrypt)?;
        let (text, tag) = ciphertext.split_last_chunk::<TAG_LEN>().ok_or(Error::Decrypt)?;
        let out = out.get_mut(..text.len()).ok_or(Error::Decrypt)?;
        key.open_separate_gather(Self::nonce(nonce), Aad::from(authtext), text, tag, out)
            .map_err(|_| Error::Decrypt)?;
        Ok(text.len())
    }
}

#[cfg(test)]
mod tests;
