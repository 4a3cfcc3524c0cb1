//! Records on a stream: a u16 length before each (protocol A4).
//!
//! [`Deframer`] owns one buffer of fixed size. The reader of a socket writes straight into
//! [`Deframer::spare`], and records come out in place, mutable, so that they can be opened there.

use crate::Malformed;

/// Bytes before each record.
pub const LENGTH_LEN: usize = 2;
/// Longest record a length can tell.
pub const RECORD_MAX: usize = u16::MAX as usize;

/// The length before a record of `len` bytes; malformed if it is 0 or too long to be told.
pub fn frame_length(len: usize) -> Result<[u8; LENGTH_LEN], Malformed> {
    match u16::try_from(len) {
        Ok(len @ 1..) => Ok(len.to_le_bytes()),
        _ => Err(Malformed),
    }
}

/// Cuts a byte stream into records.
#[derive(Debug)]
pub struct Deframer {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    max: usize,
}

impl Deframer {
    /// A deframer for records of at most `max` bytes; its memory is fixed from here on.
    pub fn new(max: usize) -> Self {
        let max = max.min(RECORD_MAX);
        Self { buffer: vec![0; LENGTH_LEN + max].into(), start: 0, end: 0, max }
    }

    /// Room for the next bytes of the stream. Never empty once [`Self::next_record`] said `None`.
    pub fn spare(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.buffer[self.end..]
    }

    /// Says that the first `n` bytes of [`Self::spare`] were written; more than its length counts
    /// as its length.
    pub fn filled(&mut self, n: usize) {
        self.end = self.end.saturating_add(n).min(self.buffer.len());
    }

    /// Copies as much of `bytes` as there is room for and says how much that was.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let spare = self.spare();
        let n = bytes.len().min(spare.len());
        spare[..n].copy_from_slice(&bytes[..n]);
        self.filled(n);
        n
    }

    /// The next whole record, `None` until more bytes come. An empty or too long record is
    /// malformed, and the stream cannot be read any further.
    pub fn next_record(&mut self) -> Result<Option<&mut [u8]>, Malformed> {
        let Some((length, rest)) = self.buffer[self.start..self.end].split_first_chunk_mut() else {
            return Ok(None);
        };
        let len = usize::from(u16::from_le_bytes(*length));
        if len == 0 || len > self.max {
            return Err(Malformed);
        }
        let record = rest.get_mut(..len);
        if record.is_some() {
            self.start += LENGTH_LEN + len;
        }
        Ok(record)
    }
}
