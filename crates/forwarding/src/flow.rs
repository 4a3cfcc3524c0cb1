//! The flow number of a packet: a keyed hash of the inner 5-tuple (protocol A4).
//!
//! Relays may keep packets of one flow together by it; without the session's key they learn nothing
//! of the tuple, nor can anybody choose tuples that fall together. SipHash-1-3, 16 bits of it.

use std::net::IpAddr;

use sinew_wire::ip::{Fragment, PacketInfo};

/// The random key of one session.
#[derive(Clone)]
pub struct FlowKey(u64, u64);

impl FlowKey {
    /// A key of 16 random bytes.
    pub fn new(key: [u8; 16]) -> Self {
        let [low, high] = words(&key);
        Self(low, high)
    }

    /// The flow of `packet`. All fragments of a packet have one number, hence no ports for them.
    pub fn hash(&self, packet: &PacketInfo) -> u16 {
        let ports = packet.ports.filter(|_| packet.fragment == Fragment::None).unwrap_or_default();
        let last = u64::from(packet.protocol) << 32 | u64::from(ports.0) << 16 | u64::from(ports.1);
        let ([a, b], [c, d]) = (words(&octets(packet.src)), words(&octets(packet.dst)));
        let hash = self.siphash(&[a, b, c, d, last]);
        (hash ^ hash >> 16 ^ hash >> 32 ^ hash >> 48) as u16
    }

    /// SipHash-1-3 of whole words.
    fn siphash(&self, message: &[u64]) -> u64 {
        let mut state = [
            self.0 ^ 0x736f_6d65_7073_6575,
            self.1 ^ 0x646f_7261_6e64_6f6d,
            self.0 ^ 0x6c79_6765_6e65_7261,
            self.1 ^ 0x7465_6462_7974_6573,
        ];
        let length = (message.len() as u64 * 8) << 56;
        for &word in message.iter().chain([&length]) {
            state[3] ^= word;
            round(&mut state);
            state[0] ^= word;
        }
        state[2] ^= 0xff;
        for _ in 0..3 {
            round(&mut state);
        }
        state[0] ^ state[1] ^ state[2] ^ state[3]
    }
}

impl core::fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("FlowKey(..)")
    }
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[2] = v[2].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[1]);
    v[0] = v[0].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].rotate_left(32);
}

fn words(bytes: &[u8; 16]) -> [u64; 2] {
    let all = u128::from_le_bytes(*bytes);
    [all as u64, (all >> 64) as u64]
}

fn octets(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped().octets(),
        IpAddr::V6(addr) => addr.octets(),
    }
}

#[cfg(test)]
mod tests;
