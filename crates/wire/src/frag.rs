//! FRAG: pieces of one record on a link too small for an inner packet of 1280 (protocol A4).
//!
//! `type 6 | piece, last = 0x80 | frag_id u16 | receiver u32 | nonce64`, the sealed piece, a tag.
//! Each piece is sealed by itself, so nobody outside can feed a reassembly.

use crate::Malformed;
use crate::codec::{Put, Reader, array};
use crate::record::{HEADER_LEN, TAG_LEN};

/// Type byte of a FRAG record.
pub const MSG_FRAG: u8 = 6;
/// What a piece costs.
pub const FRAG_OVERHEAD: usize = HEADER_LEN + TAG_LEN;
/// Most pieces of one record.
pub const MAX_PIECES: usize = 3;

const LAST: u8 = 0x80;

/// The 16 clear bytes, all of them additional data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragHeader {
    /// Which piece, below [`MAX_PIECES`].
    pub piece: u8,
    /// Whether it is the last one.
    pub last: bool,
    /// Which record it is a piece of, on this link.
    pub frag_id: u16,
    /// The receiver's index of the epoch.
    pub receiver: u32,
    /// Lane and counter.
    pub nonce: u64,
}

impl FragHeader {
    /// Reads the front of a record and checks that a piece of at least one byte can follow.
    pub fn parse(record: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(record);
        let [kind, piece] = r.array()?;
        let header = Self {
            piece: piece & !LAST,
            last: piece & LAST != 0,
            frag_id: r.u16()?,
            receiver: r.u32()?,
            nonce: r.u64()?,
        };
        let fits = kind == MSG_FRAG && usize::from(header.piece) < MAX_PIECES;
        if fits && record.len() > FRAG_OVERHEAD { Ok(header) } else { Err(Malformed) }
    }

    /// Writes the 16 bytes.
    pub fn emit(&self) -> [u8; HEADER_LEN] {
        let piece = self.piece & !LAST | if self.last { LAST } else { 0 };
        array(|w| w.u8(MSG_FRAG).u8(piece).u16(self.frag_id).u32(self.receiver).u64(self.nonce))
    }
}
