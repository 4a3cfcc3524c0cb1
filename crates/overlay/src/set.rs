//! The documents of one network that a node keeps: for each slot and each author that may fill it, the
//! newest (protocol A7.3).
//!
//! An author's older documents are dropped, other authors' are not: were an admin's document allowed to
//! drive out the owner's, revoking the admin would leave nothing. So what is kept depends only on
//! which documents have come, never on their order.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use sinew_types::NetworkId;
use sinew_wire::document::{Body, kind};
use sinew_wire::sync::{BUCKETS, bucket_of};

use crate::document::{DocumentId, Signed};

/// What an author's document about a subject takes the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlotKey {
    /// The kind.
    pub kind: u8,
    /// About whom.
    pub subject: [u8; 32],
    /// By whom.
    pub author: [u8; 32],
    /// By what right.
    pub grant: DocumentId,
    /// GRANT: the generation, since revocations refer to grants of old. REVOKE: the target.
    extra: u32,
}

impl SlotKey {
    /// Where `signed` belongs.
    pub fn of(signed: &Signed) -> Self {
        let document = &signed.document;
        let extra = match &signed.body {
            Some(Body::Grant(_)) => document.generation,
            Some(Body::Revoke(revoke)) => u32::from(revoke.target),
            _ => 0,
        };
        let (kind, subject, author, grant) =
            (document.kind, document.subject, document.author, document.grant);
        Self { kind, subject, author, grant, extra }
    }

    const fn first_of(kind: u8) -> Self {
        Self { kind, subject: [0; 32], author: [0; 32], grant: [0; 32], extra: 0 }
    }
}

/// What became of a document that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is kept.
    New,
    /// It is kept, and drove out this one.
    Replaced(DocumentId),
    /// A newer one is here.
    Older,
    /// It is here.
    Known,
    /// One author said two things under one generation and number. The lower id is kept.
    Equivocation {
        /// Whether the one that came is kept.
        kept: bool,
        /// The other.
        other: DocumentId,
    },
}

/// The set.
#[derive(Clone, Debug, Default)]
pub struct DocumentSet {
    slots: BTreeMap<SlotKey, Arc<Signed>>,
    ids: BTreeMap<DocumentId, SlotKey>,
    bytes: usize,
}

impl DocumentSet {
    /// Adds a document.
    pub fn insert(&mut self, signed: Arc<Signed>) -> Inserted {
        let key = SlotKey::of(&signed);
        let Some(old) = self.slots.get(&key) else {
            self.put(key, signed);
            return Inserted::New;
        };
        let (old_id, order) = (old.id, |s: &Signed| (s.document.generation, s.document.seq));
        if old_id == signed.id {
            return Inserted::Known;
        }
        let (ours, theirs) = (order(old), order(&signed));
        let wins = (theirs, Reverse(signed.id)) > (ours, Reverse(old_id));
        if wins {
            self.remove(&old_id);
            self.put(key, signed);
        }
        match (ours == theirs, wins) {
            (true, kept) => Inserted::Equivocation { kept, other: old_id },
            (false, true) => Inserted::Replaced(old_id),
            (false, false) => Inserted::Older,
        }
    }

    fn put(&mut self, key: SlotKey, signed: Arc<Signed>) {
        self.ids.insert(signed.id, key);
        self.bytes += signed.bytes.len();
        self.slots.insert(key, signed);
    }

    /// Takes a document out.
    pub fn remove(&mut self, id: &DocumentId) -> Option<Arc<Signed>> {
        let key = self.ids.remove(id)?;
        let signed = self.slots.remove(&key)?;
        self.bytes -= signed.bytes.len();
        Some(signed)
    }

    /// A document by its id.
    pub fn get(&self, id: &DocumentId) -> Option<&Arc<Signed>> {
        self.slots.get(self.ids.get(id)?)
    }

    /// Whether it is here.
    pub fn contains(&self, id: &DocumentId) -> bool {
        self.ids.contains_key(id)
    }

    /// All documents, by kind and slot.
    pub fn iter(&self) -> impl Iterator<Item = (&SlotKey, &Arc<Signed>)> + '_ {
        self.slots.iter()
    }

    /// All documents of a kind, by slot.
    pub fn of_kind(&self, kind: u8) -> impl Iterator<Item = (&SlotKey, &Arc<Signed>)> + '_ {
        let from = SlotKey::first_of(kind);
        self.slots.range(from..).take_while(move |(key, _)| key.kind == kind)
    }

    /// What is said about a subject, by whomever.
    pub fn about(&self, kind: u8, subject: [u8; 32]) -> impl Iterator<Item = &Arc<Signed>> + '_ {
        let from = SlotKey { subject, ..SlotKey::first_of(kind) };
        let same = move |key: &SlotKey| key.kind == kind && key.subject == subject;
        self.slots.range(from..).take_while(move |(key, _)| same(key)).map(|(_, signed)| signed)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Their length together.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The NET document.
    pub fn net(&self, network: &NetworkId) -> Option<&Arc<Signed>> {
        self.about(kind::NET, *network.as_bytes()).next()
    }
}

/// A hash of the ids in each bucket (protocol A7.8). `ids` rise.
pub(crate) fn summary<'a>(ids: impl Iterator<Item = &'a DocumentId>) -> Box<[[u8; 8]; BUCKETS]> {
    let mut buckets = Box::new([[0; 8]; BUCKETS]);
    let mut open: Option<(usize, Sha256)> = None;
    let mut close = |open: Option<(usize, Sha256)>| {
        if let Some((at, hash)) = open {
            buckets[at].copy_from_slice(&hash.finalize()[..8]);
        }
    };
    for id in ids {
        let at = bucket_of(id);
        let hash = match open.take() {
            Some((same, hash)) if same == at => hash,
            other => {
                close(other);
                Sha256::new().chain_update(b"sinew/bucket/v1\0")
            }
        };
        open = Some((at, hash.chain_update(id)));
    }
    close(open);
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_s_hash_is_that_of_its_ids_and_zero_without() {
        let id = |first: u8, last: u8| {
            let mut id = [0; 32];
            (id[0], id[31]) = (first, last);
            id
        };
        let all = summary([id(0, 1), id(3, 1), id(4, 1), id(255, 9)].iter());
        assert_eq!(all.iter().filter(|bucket| **bucket != [0; 8]).count(), 3);
        let less = summary([id(0, 1), id(4, 1), id(255, 9)].iter());
        let differ: Vec<_> = (0..BUCKETS).filter(|&at| all[at] != less[at]).collect();
        assert_eq!(differ, [0]);
    }
}
