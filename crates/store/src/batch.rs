//! A batch of changes: built without the file, committed as a whole.

use thiserror::Error;

use crate::store::Table;

/// Longest key, bytes.
pub const KEY_MAX: usize = 1024;

/// Longest value, bytes. Documents are at most a few KiB; the room is for metadata of callers.
pub const VALUE_MAX: usize = 1 << 20;

/// A key or value over the limit; nothing was added to the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{what} has {length} bytes, at most {limit} are stored")]
pub struct TooLarge {
    /// "a key" or "a value".
    pub what: &'static str,
    /// Its length, bytes.
    pub length: usize,
    /// The limit, bytes.
    pub limit: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Put { table: Table, key: Vec<u8>, value: Vec<u8> },
    Delete { table: Table, key: Vec<u8> },
    DeletePrefix { table: Table, prefix: Vec<u8> },
}

/// Changes that take effect together, in the order in which they were added.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub(crate) changes: Vec<Change>,
}

impl Batch {
    /// One without changes.
    pub const fn new() -> Self {
        Self { changes: Vec::new() }
    }

    /// Sets `key` to `value`.
    ///
    /// # Errors
    /// [`TooLarge`]: over [`KEY_MAX`] or [`VALUE_MAX`].
    pub fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<&mut Self, TooLarge> {
        check("a key", key.len(), KEY_MAX)?;
        check("a value", value.len(), VALUE_MAX)?;
        self.changes.push(Change::Put { table, key: key.to_vec(), value: value.to_vec() });
        Ok(self)
    }

    /// Removes `key`, if it is there.
    pub fn delete(&mut self, table: Table, key: &[u8]) -> &mut Self {
        self.changes.push(Change::Delete { table, key: key.to_vec() });
        self
    }

    /// Removes every key that begins with `prefix`: all documents of a network, say.
    pub fn delete_prefix(&mut self, table: Table, prefix: &[u8]) -> &mut Self {
        self.changes.push(Change::DeletePrefix { table, prefix: prefix.to_vec() });
        self
    }

    /// Whether it changes nothing.
    pub const fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

const fn check(what: &'static str, length: usize, limit: usize) -> Result<(), TooLarge> {
    if length > limit { Err(TooLarge { what, length, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_the_limit_is_refused_and_leaves_the_batch_as_it_was() {
        let mut batch = Batch::new();
        let limits = [
            (KEY_MAX, VALUE_MAX, None),
            (KEY_MAX + 1, 0, Some("a key")),
            (1, VALUE_MAX + 1, Some("a value")),
        ];
        for (key, value, refused) in limits {
            let before = batch.changes.len();
            let result = batch.put(Table::Journal, &vec![0; key], &vec![0; value]).map(|_| ());
            assert_eq!(result.err().map(|error| error.what), refused);
            assert_eq!(batch.changes.len(), before + usize::from(refused.is_none()));
        }
    }
}
