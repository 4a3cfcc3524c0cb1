//! A hash over every datagram of a run: same seed, same hash.

use std::net::SocketAddr;

use sinew_types::Instant;

/// The running hash. Not cryptographic: it only has to notice a difference.
#[derive(Clone, Debug)]
pub(crate) struct Trace(u64);

/// An odd constant with its bits well spread (2^64 / golden ratio).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Trace {
    pub(crate) const fn new() -> Self {
        Self(SPREAD)
    }

    fn mix(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(SPREAD).rotate_left(29);
    }

    pub(crate) fn note(&mut self, at: Instant, from: usize, to: SocketAddr, bytes: &[u8]) {
        self.mix(at.as_micros());
        self.mix(from as u64);
        if let SocketAddr::V4(to) = to {
            self.mix(u64::from(u32::from(*to.ip())) << 16 | u64::from(to.port()));
        }
        self.mix(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        for &byte in rest {
            self.mix(byte.into());
        }
    }

    pub(crate) const fn hash(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_anywhere_shows() {
        let to = |port| SocketAddr::from(([10, 0, 0, 1], port));
        let hash = |at, from, port, bytes: &[u8]| {
            let mut trace = Trace::new();
            trace.note(Instant::from_micros(at), from, to(port), bytes);
            trace.hash()
        };
        let base = hash(1, 2, 3, b"0123456789");
        assert_eq!(base, hash(1, 2, 3, b"0123456789"));
        for other in [
            hash(2, 2, 3, b"0123456789"),
            hash(1, 3, 3, b"0123456789"),
            hash(1, 2, 4, b"0123456789"),
            hash(1, 2, 3, b"0123456788"),
            hash(1, 2, 3, b"1123456789"),
            hash(1, 2, 3, b"012345678"),
        ] {
            assert_ne!(base, other);
        }
    }
}
