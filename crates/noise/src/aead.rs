//! Record keys: one direction of one epoch, sealing and opening in place (protocol A3).
//!
//! A record key is not the split key of the handshake. It is expanded from it, bound to the cipher
//! and to the handshake hash, so that no key ever serves two ciphers, and a key that leaks from a
//! worker does not give its twin under the other cipher. The 96-bit nonce is a secret per-key iv
//! with the record's 64-bit nonce XORed in: whoever calls [`RecordKey::seal`] must never repeat a
//! nonce (lanes see to that), and across keys equal counters still give unequal nonces.

use core::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::hash::{HASH_LEN, hkdf_expand};

/// Length of the authentication tag of either cipher, bytes.
pub const TAG_LEN: usize = 16;
/// Length of a key of either cipher, bytes.
const KEY_LEN: usize = 32;
/// Length of the nonce of either cipher, bytes.
const NONCE_LEN: usize = 12;
const RECORD_TAG: &[u8] = b"sinew/record/v1\0";

/// The tag did not verify: not from the peer, damaged, or under another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the authentication tag does not verify")]
pub struct Forged;

/// A cipher for records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Cipher {
    /// ChaCha20-Poly1305 (RFC 8439): every node has it.
    ChaCha20Poly1305 = 1,
    /// AES-256-GCM: several times faster where the CPU has AES instructions.
    Aes256Gcm = 2,
}

impl Cipher {
    /// The cipher's number on the wire.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The cipher of a number on the wire.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::ChaCha20Poly1305),
            2 => Some(Self::Aes256Gcm),
            _ => None,
        }
    }

    /// The word for people and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ChaCha20Poly1305 => "chacha20-poly1305",
            Self::Aes256Gcm => "aes-256-gcm",
        }
    }

    fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::ChaCha20Poly1305 => &CHACHA20_POLY1305,
            Self::Aes256Gcm => &AES_256_GCM,
        }
    }
}

/// The ciphers a node accepts, as the bits of HS1's `ciphers` field: bit value = cipher number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CipherSet(pub u16);

impl CipherSet {
    /// ChaCha20-Poly1305 alone: what every node accepts.
    pub const CHACHA: Self = Self(Cipher::ChaCha20Poly1305 as u16);
    /// Both ciphers.
    pub const ALL: Self = Self(Cipher::ChaCha20Poly1305 as u16 | Cipher::Aes256Gcm as u16);

    /// What this machine should offer: AES only where the CPU does AES and carry-less multiplication
    /// itself, because in software it is slower than ChaCha20 and hard to keep constant-time.
    pub fn local() -> Self {
        if has_aes_instructions() { Self::ALL } else { Self::CHACHA }
    }

    /// Whether `cipher` is in the set.
    pub const fn contains(self, cipher: Cipher) -> bool {
        self.0 & cipher as u16 != 0
    }
}

/// The cipher for two nodes that accept `a` and `b`: AES if both do, else ChaCha20-Poly1305, and
/// `None` if they share no cipher that we know.
pub const fn choose(a: CipherSet, b: CipherSet) -> Option<Cipher> {
    let both = CipherSet(a.0 & b.0);
    if both.contains(Cipher::Aes256Gcm) {
        Some(Cipher::Aes256Gcm)
    } else if both.contains(Cipher::ChaCha20Poly1305) {
        Some(Cipher::ChaCha20Poly1305)
    } else {
        None
    }
}

#[cfg(target_arch = "x86_64")]
fn has_aes_instructions() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn has_aes_instructions() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes_instructions() -> bool {
    false
}

/// The key of one direction of one epoch. Erased on drop.
pub struct RecordKey {
    key: LessSafeKey,
    iv: Zeroizing<[u8; NONCE_LEN]>,
    cipher: Cipher,
}

impl RecordKey {
    /// Expands the split key of one direction into its record key (protocol A3):
    /// HKDF-Expand(split, "sinew/record/v1\0" ‖ cipher ‖ handshake hash, 44) = key ‖ iv.
    pub fn derive(split: &[u8; 32], cipher: Cipher, handshake_hash: &[u8; HASH_LEN]) -> Self {
        let mut material = Zeroizing::new([0; KEY_LEN + NONCE_LEN]);
        hkdf_expand(split, &[RECORD_TAG, &[cipher.code()], handshake_hash], material.as_mut_slice());
        let (key, iv) = material.split_at(KEY_LEN);
        let mut own_iv = Zeroizing::new([0; NONCE_LEN]);
        own_iv.copy_from_slice(iv);
        Self { key: context(cipher, key), iv: own_iv, cipher }
    }

    /// The cipher this key is for.
    pub const fn cipher(&self) -> Cipher {
        self.cipher
    }

    /// Encrypts `buf` in place and returns the tag. `nonce64` must never repeat under one key.
    pub fn seal(&self, nonce64: u64, aad: &[u8], buf: &mut [u8]) -> [u8; TAG_LEN] {
        let tag = self
            .key
            .seal_in_place_separate_tag(self.nonce(nonce64), Aad::from(aad), buf)
            .expect("a record is far below the ciphers' 64 GiB limit");
        tag.as_ref().try_into().expect("both ciphers have tags of 16 bytes")
    }

    /// Checks and decrypts in place a ciphertext whose last 16 bytes are its tag. The plaintext is
    /// what precedes the tag.
    ///
    /// # Errors
    /// [`Forged`] if the tag does not verify or is missing. The buffer's content is then garbage.
    pub fn open(&self, nonce64: u64, aad: &[u8], ciphertext_and_tag: &mut [u8]) -> Result<(), Forged> {
        let (ciphertext, tag) = ciphertext_and_tag.split_last_chunk_mut::<TAG_LEN>().ok_or(Forged)?;
        self.open_detached(nonce64, aad, ciphertext, tag)
    }

    /// As [`RecordKey::open`], with the tag in a place of its own.
    ///
    /// # Errors
    /// [`Forged`] if the tag does not verify. The buffer's content is then garbage.
    pub fn open_detached(
        &self,
        nonce64: u64,
        aad: &[u8],
        ciphertext: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), Forged> {
        self.key
            .open_in_place_separate_tag(self.nonce(nonce64), Aad::from(aad), tag, ciphertext)
            .map(drop)
            .map_err(|_| Forged)
    }

    /// protocol A3: iv XOR (four zero bytes ‖ the 64-bit nonce, big-endian).
    fn nonce(&self, nonce64: u64) -> Nonce {
        let mut nonce = *self.iv;
        for (byte, counter) in nonce[4..].iter_mut().zip(nonce64.to_be_bytes()) {
            *byte ^= counter;
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

impl fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordKey({})", self.cipher.as_str())
    }
}

/// The provider's key context; aws-lc erases it when it frees it.
pub(crate) fn context(cipher: Cipher, key: &[u8]) -> LessSafeKey {
    let key = UnboundKey::new(cipher.algorithm(), key).expect("both ciphers take keys of 32 bytes");
    LessSafeKey::new(key)
}

#[cfg(test)]
mod tests;
