//! SHA-256, HMAC-SHA256 and HKDF-Expand, over aws-lc alone so that one implementation (with the
//! CPU's SHA instructions) serves the handshake, the macs and the key schedule.
//!
//! Inputs are lists of parts, because every caller hashes a tag followed by fields.

use aws_lc_rs::{constant_time, digest, hmac};
use zeroize::Zeroizing;

/// Length of a SHA-256 digest.
pub const HASH_LEN: usize = 32;

/// SHA-256 of `parts`, one after the other.
pub fn sha256(parts: &[&[u8]]) -> [u8; HASH_LEN] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    array(context.finish().as_ref())
}

/// HMAC-SHA256 of `parts`, one after the other.
pub fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; HASH_LEN] {
    hmac_with(&hmac::Key::new(hmac::HMAC_SHA256, key), parts)
}

/// As [`hmac_sha256`], with the key schedule made beforehand.
pub(crate) fn hmac_with(key: &hmac::Key, parts: &[&[u8]]) -> [u8; HASH_LEN] {
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(part);
    }
    array(context.sign().as_ref())
}

/// HKDF-Expand (RFC 5869 section 2.3): fills `out` from the pseudo-random key `prk`, bound to `info`.
///
/// `out` is at most 255 x 32 bytes long; what lies beyond is left as it was, so callers pass fixed
/// short arrays.
pub fn hkdf_expand(prk: &[u8; HASH_LEN], info: &[&[u8]], out: &mut [u8]) {
    let key = hmac::Key::new(hmac::HMAC_SHA256, prk);
    let mut block = Zeroizing::new([0; HASH_LEN]);
    for (counter, chunk) in (1..=u8::MAX).zip(out.chunks_mut(HASH_LEN)) {
        let mut context = hmac::Context::with_key(&key);
        if counter > 1 {
            context.update(block.as_slice());
        }
        for part in info {
            context.update(part);
        }
        context.update(&[counter]);
        *block = array(context.sign().as_ref());
        chunk.copy_from_slice(&block[..chunk.len()]);
    }
}

/// Whether two byte strings are equal, in time that depends on their length alone.
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(a, b).is_ok()
}

fn array(digest: &[u8]) -> [u8; HASH_LEN] {
    digest.try_into().expect("a SHA-256 digest has 32 bytes")
}

#[cfg(test)]
mod tests;
