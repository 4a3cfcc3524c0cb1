//! Segments of the control channel, the payload of kind 1 (protocol A5).

use crate::Malformed;
use crate::codec::{Put, Reader, array};

/// Length of the header.
pub const SEGMENT_HEADER_LEN: usize = 22;
/// Longest chunk of a message in one segment.
pub const CHUNK_MAX: usize = 1100;
/// Longest message.
pub const MESSAGE_MAX: usize = 16_384;
/// Bytes in one unit of `credit`.
pub const CREDIT_UNIT: usize = 256;

/// Streams with an order and a credit of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamClass {
    /// Routing, on adjacencies only.
    Routing = 0,
    /// Signed documents, in bulk.
    Documents = 1,
    /// Short requests.
    Requests = 2,
}

impl StreamClass {
    /// Every class, in order of its number.
    pub const ALL: [Self; 3] = [Self::Routing, Self::Documents, Self::Requests];
}

/// The 22 bytes before a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Which stream.
    pub class: StreamClass,
    /// The adjacency number, on class 0 only; else 0.
    pub adj: u8,
    /// Number of this chunk in its stream.
    pub seq: u32,
    /// All chunks below this were processed.
    pub ack: u32,
    /// Bit i: chunk `ack + i` arrived. Bit 0 may be set too: arrived is not yet processed.
    pub sack: u64,
    /// What the receiver will take, in units of [`CREDIT_UNIT`].
    pub credit: u16,
    /// Length of the chunk that follows.
    pub len: u16,
}

impl SegmentHeader {
    /// Reads the header at the front of `payload`.
    pub fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(payload);
        let class = *StreamClass::ALL.get(usize::from(r.u8()?)).ok_or(Malformed)?;
        let adj = r.u8()?;
        // protocol A5: only class 0 belongs to an adjacency.
        if class != StreamClass::Routing && adj != 0 {
            return Err(Malformed);
        }
        let (seq, ack, sack) = (r.u32()?, r.u32()?, r.u64()?);
        Ok(Self { class, adj, seq, ack, sack, credit: r.u16()?, len: r.u16()? })
    }

    /// Reads a whole segment: the header and the chunk, which must fill the rest exactly.
    pub fn split(payload: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let header = Self::parse(payload)?;
        let chunk = payload.get(SEGMENT_HEADER_LEN..).ok_or(Malformed)?;
        let exact = chunk.len() == usize::from(header.len) && chunk.len() <= CHUNK_MAX;
        if exact { Ok((header, chunk)) } else { Err(Malformed) }
    }

    /// Writes the 22 bytes.
    pub fn emit(&self) -> [u8; SEGMENT_HEADER_LEN] {
        array(|w| {
            let w = w.u8(self.class as u8).u8(self.adj).u32(self.seq).u32(self.ack);
            w.u64(self.sack).u16(self.credit).u16(self.len)
        })
    }
}
