//! The macs of handshake messages and the cookies behind them (protocol A2).
//!
//! mac1 is the price of any attention at all: without the responder's NodeId (and mesh secret, if
//! there is one) a datagram is dropped after one hash. mac2 is the price under load: a cookie that
//! only the holder of the source address has seen, so that a flood cannot hide behind made-up
//! addresses. The responder keeps no state per cookie; it re-computes them from a secret that it
//! changes every 120 s.

use core::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use aws_lc_rs::aead::{Aad, Nonce};
use aws_lc_rs::hmac;
use sinew_types::{Instant, MeshAddr, NodeId};
use zeroize::Zeroizing;

use crate::aead::{self, Cipher, Forged, TAG_LEN};
use crate::hash::{equal, hmac_sha256, hmac_with, sha256};

/// Length of mac1, mac2 and of a cookie, bytes.
pub const MAC_LEN: usize = 16;
/// Length of a cookie message's sealed part: the cookie and a tag.
pub const SEALED_COOKIE_LEN: usize = MAC_LEN + TAG_LEN;
/// Length of a cookie's source, bytes.
pub const SOURCE_LEN: usize = 18;
/// How long one cookie secret makes cookies.
const SECRET_LIFE: Duration = Duration::from_secs(120);
/// How much longer its cookies are accepted, so that one given out last is not refused at once.
const SECRET_GRACE: Duration = Duration::from_secs(5);

const MAC1_TAG: &[u8] = b"sinew/mac1/v1\0";
const COOKIE_TAG: &[u8] = b"sinew/cookie/v1\0";
const SECRET_TAG: &[u8] = b"sinew/cookie-secret/v1\0";

/// The keys for messages *to* one responder under one mesh secret. Erased on drop.
pub struct HandshakeMac {
    mac1: hmac::Key,
    cookie: hmac::Key,
}

impl HandshakeMac {
    /// Keys for messages to `responder`; `secret` is the mesh secret or zeros.
    pub fn new(responder: &NodeId, secret: &[u8; 32]) -> Self {
        let key = |tag: &[u8]| {
            let key = Zeroizing::new(sha256(&[tag, responder.as_bytes(), secret]));
            hmac::Key::new(hmac::HMAC_SHA256, key.as_slice())
        };
        Self { mac1: key(MAC1_TAG), cookie: key(COOKIE_TAG) }
    }

    /// mac1 over `message`, which is HS1 up to mac1.
    pub fn mac1(&self, message: &[u8]) -> [u8; MAC_LEN] {
        truncate(&hmac_with(&self.mac1, &[message]))
    }

    /// Whether `mac1` is right for `message`, in constant time.
    pub fn verify_mac1(&self, message: &[u8], mac1: &[u8; MAC_LEN]) -> bool {
        equal(&self.mac1(message), mac1)
    }

    /// Seals `cookie` for the sender of the HS1 that carried `mac1`. `salt` must be random: it makes
    /// a key of its own, used once, so the nonce can be zero.
    pub fn seal_cookie(
        &self,
        salt: &[u8; 16],
        mac1: &[u8; MAC_LEN],
        cookie: &[u8; MAC_LEN],
    ) -> [u8; SEALED_COOKIE_LEN] {
        let mut sealed = [0; SEALED_COOKIE_LEN];
        let (text, tag) = sealed.split_at_mut(MAC_LEN);
        text.copy_from_slice(cookie);
        let made = self
            .cookie_key(salt)
            .seal_in_place_separate_tag(zero_nonce(), Aad::from(mac1), text)
            .expect("16 bytes are below the cipher's limit");
        tag.copy_from_slice(made.as_ref());
        sealed
    }

    /// Opens a cookie that answers our HS1 with `mac1`.
    ///
    /// # Errors
    /// [`Forged`] if it does not answer that HS1.
    pub fn open_cookie(
        &self,
        salt: &[u8; 16],
        mac1: &[u8; MAC_LEN],
        sealed: &[u8; SEALED_COOKIE_LEN],
    ) -> Result<[u8; MAC_LEN], Forged> {
        let mut cookie = [0; MAC_LEN];
        let (text, tag) = sealed.split_at(MAC_LEN);
        self.cookie_key(salt)
            .open_separate_gather(zero_nonce(), Aad::from(mac1), text, tag, &mut cookie)
            .map_err(|_| Forged)?;
        Ok(cookie)
    }

    fn cookie_key(&self, salt: &[u8; 16]) -> aws_lc_rs::aead::LessSafeKey {
        let key = Zeroizing::new(hmac_with(&self.cookie, &[salt]));
        aead::context(Cipher::ChaCha20Poly1305, key.as_slice())
    }
}

impl fmt::Debug for HandshakeMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandshakeMac")
    }
}

/// mac2 over `message`, which is HS1 up to mac2, with the cookie last received.
pub fn mac2(cookie: &[u8; MAC_LEN], message: &[u8]) -> [u8; MAC_LEN] {
    truncate(&hmac_sha256(cookie, &[message]))
}

/// Which mesh secret a handshake used: the first 4 bytes of its SHA-256, as a little-endian integer.
pub fn psk_id(secret: &[u8; 32]) -> u32 {
    let hash = Zeroizing::new(sha256(&[secret]));
    u32::from_le_bytes([hash[0], hash[1], hash[2], hash[3]])
}

/// What a cookie is bound to when HS1 came straight from the underlay: ip ‖ port, an IPv4 address
/// in its mapped form, so that one sender has one source whatever socket heard it.
pub fn underlay_source(addr: &SocketAddr) -> [u8; SOURCE_LEN] {
    let ip = match addr.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    source(&ip.octets(), &addr.port().to_be_bytes())
}

/// What a cookie is bound to when HS1 came over relays: "ov" ‖ the mesh address it claims. No
/// underlay source looks like it, because 6f76::/16 is not a unicast range.
pub fn routed_source(addr: &MeshAddr) -> [u8; SOURCE_LEN] {
    source(b"ov", addr.as_bytes())
}

fn source(first: &[u8], second: &[u8]) -> [u8; SOURCE_LEN] {
    let mut bytes = [0; SOURCE_LEN];
    bytes[..first.len()].copy_from_slice(first);
    bytes[first.len()..].copy_from_slice(second);
    bytes
}

/// The responder's cookies: a function of the source and of a secret that changes every 120 s.
pub struct CookieJar {
    seed: Zeroizing<[u8; 32]>,
    /// Secrets made so far.
    number: u64,
    current: Secret,
    /// The secret before, with the moment from which its cookies are refused.
    previous: Option<(Secret, Instant)>,
    made: Instant,
}

type Secret = Zeroizing<[u8; 32]>;

impl CookieJar {
    /// A jar whose secrets follow from `seed`, which must be random.
    pub fn new(seed: [u8; 32], now: Instant) -> Self {
        let seed = Zeroizing::new(seed);
        let current = secret(&seed, 0);
        Self { seed, number: 1, current, previous: None, made: now }
    }

    /// The cookie of `source` (see [`underlay_source`], [`routed_source`]).
    pub fn cookie(&mut self, source: &[u8], now: Instant) -> [u8; MAC_LEN] {
        self.rotate(now);
        bake(&self.current, source)
    }

    /// Whether `mac2` over `message` (HS1 up to mac2) was made with a cookie given to `source`
    /// within the last 120 s, or 125 s for a cookie of the secret before. Constant time per secret.
    pub fn verify_mac2(
        &mut self,
        message: &[u8],
        mac2_got: &[u8; MAC_LEN],
        source: &[u8],
        now: Instant,
    ) -> bool {
        self.rotate(now);
        let previous = self.previous.as_ref().map(|(secret, _)| secret);
        core::iter::once(&self.current)
            .chain(previous)
            .any(|secret| equal(&mac2(&bake(secret, source), message), mac2_got))
    }

    /// Lazily, on use: a jar that nobody asks needs no timer.
    fn rotate(&mut self, now: Instant) {
        if self.previous.as_ref().is_some_and(|&(_, until)| now >= until) {
            self.previous = None;
        }
        if now.since(self.made) < SECRET_LIFE {
            return;
        }
        let old = core::mem::replace(&mut self.current, secret(&self.seed, self.number));
        self.number += 1;
        let until = self.made + SECRET_LIFE + SECRET_GRACE;
        self.previous = (now < until).then_some((old, until));
        self.made = now;
    }
}

impl fmt::Debug for CookieJar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CookieJar")
    }
}

fn secret(seed: &[u8; 32], number: u64) -> Secret {
    Zeroizing::new(hmac_sha256(seed, &[SECRET_TAG, &number.to_le_bytes()]))
}

fn bake(secret: &Secret, source: &[u8]) -> [u8; MAC_LEN] {
    truncate(&hmac_sha256(secret.as_slice(), &[source]))
}

fn truncate(mac: &[u8; 32]) -> [u8; MAC_LEN] {
    let mut short = [0; MAC_LEN];
    short.copy_from_slice(&mac[..MAC_LEN]);
    short
}

fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests;
