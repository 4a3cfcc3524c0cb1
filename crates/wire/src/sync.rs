//! How members of a private network bring their documents into line, the messages of control class 1
//! (protocol A7.8).
//!
//! A tag byte, 16 bytes that name the network to those who know it and say nothing to others (A7.7), and
//! a body. Documents are sorted by their id, whose first six bits are the *bucket*: a summary has a hash
//! for each, so that two nodes with nearly the same set exchange nearly nothing.

use crate::Malformed;
use crate::codec::{Put, Reader};
use crate::document::DOCUMENT_MAX;
use crate::segment::MESSAGE_MAX;

/// Buckets of a summary.
pub const BUCKETS: usize = 64;
/// Most ids in one message.
pub const IDS_MAX: usize = 500;

const SUMMARY: u8 = 1;
const INVENTORY: u8 = 2;
const WANT: u8 = 3;
const DOCUMENTS: u8 = 4;

/// SHA-256 of a document's signed bytes.
pub type DocumentId = [u8; 32];

/// Names a network to the two ends of one association, and to nobody else.
pub type BlindTag = [u8; 16];

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncMessage {
    /// What I have, in short.
    Summary {
        /// Which network.
        tag: BlindTag,
        /// Era and counter of the newest HEAD.
        head: (u16, u64),
        /// A hash of the ids in each bucket; zero for an empty one.
        buckets: Box<[[u8; 8]; BUCKETS]>,
    },
    /// The ids I have of some buckets, from `low` to `high`: all that are missing I do not have.
    Inventory {
        /// Which network.
        tag: BlindTag,
        /// Which buckets, bit by number.
        buckets: u64,
        /// Lowest id that is told.
        low: DocumentId,
        /// Highest id that is told.
        high: DocumentId,
        /// The ids, rising.
        ids: Vec<DocumentId>,
    },
    /// Send me these.
    Want {
        /// Which network.
        tag: BlindTag,
        /// The ids, rising.
        ids: Vec<DocumentId>,
    },
    /// Here they are.
    Documents {
        /// Which network.
        tag: BlindTag,
        /// Whole documents, as bytes: each is read by itself, so that a bad one spoils no other.
        documents: Vec<Vec<u8>>,
    },
    /// A message of a later version.
    Other {
        /// Its tag byte.
        kind: u8,
        /// The rest.
        body: Vec<u8>,
    },
}

/// The bucket of an id: its first six bits.
pub const fn bucket_of(id: &DocumentId) -> usize {
    (id[0] >> 2) as usize
}

fn ids(r: &mut Reader<'_>) -> Result<Vec<DocumentId>, Malformed> {
    let count = usize::from(r.u16()?);
    if count > IDS_MAX {
        return Err(Malformed);
    }
    let mut list: Vec<DocumentId> = Vec::with_capacity(count);
    for _ in 0..count {
        let id = r.array()?;
        if list.last().is_some_and(|last| *last >= id) {
            return Err(Malformed);
        }
        list.push(id);
    }
    Ok(list)
}

fn put_ids(out: &mut Vec<u8>, ids: &[DocumentId]) {
    out.u16(ids.len() as u16);
    ids.iter().for_each(|id| {
        out.bytes(id);
    });
}

impl SyncMessage {
    /// Bytes of a DOCUMENTS message before its documents, and before each of them.
    pub const DOCUMENTS_HEAD: usize = 17;
    /// Bytes before each document.
    pub const DOCUMENT_HEAD: usize = 2;

    /// Reads a whole message.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        if message.len() > MESSAGE_MAX {
            return Err(Malformed);
        }
        let mut r = Reader::new(message);
        let kind = r.u8()?;
        if !(SUMMARY..=DOCUMENTS).contains(&kind) {
            return Ok(Self::Other { kind, body: r.rest().to_vec() });
        }
        let tag = r.array()?;
        let message = match kind {
            SUMMARY => {
                let head = (r.u16()?, r.u64()?);
                let mut buckets = Box::new([[0; 8]; BUCKETS]);
                for bucket in buckets.iter_mut() {
                    *bucket = r.array()?;
                }
                Self::Summary { tag, head, buckets }
            }
            INVENTORY => Self::Inventory {
                tag,
                buckets: r.u64()?,
                low: r.array()?,
                high: r.array()?,
                ids: ids(&mut r)?,
            },
            WANT => Self::Want { tag, ids: ids(&mut r)? },
            _ => {
                let mut documents = Vec::new();
                while !r.is_empty() {
                    let len = usize::from(r.u16()?);
                    if len == 0 || len > DOCUMENT_MAX {
                        return Err(Malformed);
                    }
                    documents.push(r.bytes(len)?.to_vec());
                }
                Self::Documents { tag, documents }
            }
        };
        r.finish().map(|()| message)
    }

    /// Appends a whole message.
    pub fn emit(&self, out: &mut Vec<u8>) {
        match self {
            Self::Summary { tag, head, buckets } => {
                out.u8(SUMMARY).bytes(tag).u16(head.0).u64(head.1).bytes(buckets.as_flattened());
            }
            Self::Inventory { tag, buckets, low, high, ids } => {
                out.u8(INVENTORY).bytes(tag).u64(*buckets).bytes(low).bytes(high);
                put_ids(out, ids);
            }
            Self::Want { tag, ids } => put_ids(out.u8(WANT).bytes(tag), ids),
            Self::Documents { tag, documents } => {
                out.u8(DOCUMENTS).bytes(tag);
                for document in documents {
                    out.u16(document.len() as u16).bytes(document);
                }
            }
            Self::Other { kind, body } => {
                out.u8(*kind).bytes(body);
            }
        }
    }
}
