//! The Internet checksum (RFC 1071), fast enough for the data path.
//!
//! A one's-complement sum does not care in which byte order words are added, only that it is the
//! same everywhere, nor how wide they are. So [`Sum`] adds native 32-bit words into 64-bit lanes,
//! which no packet can overflow and compilers vectorise, and turns to network order once, at the
//! end.

use std::net::IpAddr;

use crate::Malformed;

/// A running one's-complement sum.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// Adds `bytes`. All but the last call of a chain must be given an even number of bytes; an
    /// odd last byte counts as if a zero followed.
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        const LANES: usize = 8;
        let (blocks, rest) = bytes.as_chunks::<{ 4 * LANES }>();
        let mut lanes = [0u64; LANES];
        for block in blocks {
            let (words, _) = block.as_chunks::<4>();
            for (lane, word) in lanes.iter_mut().zip(words) {
                *lane += u64::from(u32::from_ne_bytes(*word));
            }
        }
        let (words, tail) = rest.as_chunks::<4>();
        let words: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
        let mut last = [0; 4];
        last[..tail.len()].copy_from_slice(tail);
        let total = lanes.iter().sum::<u64>() + words + u64::from(u32::from_ne_bytes(last));
        // 2^16 bytes make 2^46 at most: only very many chained calls could carry out of 64 bits.
        let (sum, carry) = self.0.overflowing_add(total);
        Self(sum + u64::from(carry))
    }

    /// Adds one word, given as a number.
    #[must_use]
    pub fn word(self, word: u16) -> Self {
        self.bytes(&word.to_be_bytes())
    }

    /// The sum in 16 bits, as a number; this is what a partial checksum field holds.
    pub const fn fold(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum >> 16) + (sum & 0xffff);
        }
        u16::from_be(sum as u16)
    }

    /// The checksum: the complement of the sum.
    pub const fn checksum(self) -> u16 {
        !self.fold()
    }

    /// Whether a sum over data and its checksum proves the data.
    pub const fn is_valid(self) -> bool {
        self.fold() == 0xffff
    }
}

/// The sum of the pseudo-header before `len` bytes of transport (RFC 9293 §3.1, RFC 8200 §8.1).
pub fn pseudo_header(src: IpAddr, dst: IpAddr, protocol: u8, len: usize) -> Sum {
    let addr = |sum: Sum, addr: IpAddr| match addr {
        IpAddr::V4(v4) => sum.bytes(&v4.octets()),
        IpAddr::V6(v6) => sum.bytes(&v6.octets()),
    };
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    addr(addr(Sum::default(), src), dst).word(protocol.into()).bytes(&len.to_be_bytes())
}

/// The checksum after one even-aligned word of the data changed from `old` to `new` (RFC 1624).
pub fn update(checksum: u16, old: u16, new: u16) -> u16 {
    Sum::default().word(!checksum).word(!old).word(new).checksum()
}

/// Completes a partial checksum: `l4` is the whole transport part, the field at `offset` in it
/// holds the pseudo-header's sum. Malformed if the field lies outside.
pub fn complete(l4: &mut [u8], offset: usize) -> Result<(), Malformed> {
    let checksum = match Sum::default().bytes(l4).checksum() {
        // RFC 768: to UDP zero means "none". TCP's sums keep the spelling that its senders use.
        0 if offset == crate::udp::CHECKSUM_OFFSET => 0xffff,
        other => other,
    };
    put(l4, offset, checksum.to_be_bytes())
}

/// Writes a few bytes at `offset`, if they lie inside.
pub(crate) fn put<const N: usize>(bytes: &mut [u8], offset: usize, value: [u8; N]) -> Result<(), Malformed> {
    let field = bytes.get_mut(offset..).and_then(<[u8]>::first_chunk_mut).ok_or(Malformed)?;
    *field = value;
    Ok(())
}
