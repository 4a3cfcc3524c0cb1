//! Records that arrived together, and the memory they arrive in.

use std::ops::Range;

use sinew_types::PathAddr;

/// Bytes read at once: many records per system call, and room for any one.
pub(crate) const READ_MAX: usize = 256 * 1024;
/// Buffers kept for the next read; the caller works on one batch at a time.
const POOL_MAX: usize = 4;

/// Records of one connection in one buffer, in order, each as it was sent.
#[derive(Debug)]
pub struct RecordBatch {
    /// The connection.
    pub path: PathAddr,
    pub(crate) bytes: Vec<u8>,
    pub(crate) ranges: Vec<Range<usize>>,
}

impl RecordBatch {
    /// The records, to be opened in place.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        let (mut rest, mut at) = (self.bytes.as_mut_slice(), 0);
        self.ranges.iter().map(move |range| {
            let (_, tail) = std::mem::take(&mut rest).split_at_mut(range.start - at);
            let (record, tail) = tail.split_at_mut(range.len());
            (rest, at) = (tail, range.end);
            record
        })
    }

    /// The whole buffer and where the records lie in it, for callers that need both at once.
    pub fn parts_mut(&mut self) -> (&mut [u8], &[Range<usize>]) {
        (&mut self.bytes, &self.ranges)
    }

    /// Number of records; at least one.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

/// Buffers between reads.
#[derive(Default)]
pub(crate) struct Pool(Vec<(Vec<u8>, Vec<Range<usize>>)>);

impl Pool {
    /// A buffer of [`READ_MAX`] bytes of any content, and an empty list.
    pub(crate) fn take(&mut self) -> (Vec<u8>, Vec<Range<usize>>) {
        self.0.pop().unwrap_or_else(|| (vec![0; READ_MAX], Vec::new()))
    }

    pub(crate) fn put(&mut self, batch: RecordBatch) {
        self.put_parts(batch.bytes, batch.ranges);
    }

    pub(crate) fn put_parts(&mut self, bytes: Vec<u8>, mut ranges: Vec<Range<usize>>) {
        if self.0.len() < POOL_MAX && bytes.len() == READ_MAX {
            ranges.clear();
            self.0.push((bytes, ranges));
        }
    }
}
