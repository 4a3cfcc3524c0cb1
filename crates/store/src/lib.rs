//! What a node must remember across restarts and power cuts: its networks, their signed
//! documents, its workloads, what it has promised as a gateway, and a journal of changes that a next
//! start may have to undo.
//!
//! Keys and values are bytes: what they mean is decided by those who own them. One file, one
//! process, five [`Table`]s. Writes are [`Batch`]es: a batch is in the file as a whole or not at
//! all, and [`Store::commit`] returns only when it would survive a power cut. The data-plane loop
//! must never wait for a disk, so in the daemon a [`Writer`] commits on a thread of its own and
//! tells by a callback when it is done; reading is for the start.
//!
//! A file that is not ours, is damaged, or is open to others is refused with the remedy, never
//! replaced: it may hold the only copy of a signed document.

mod batch;
mod error;
mod file;
mod store;
mod writer;

pub use batch::{Batch, KEY_MAX, TooLarge, VALUE_MAX};
pub use error::StoreError;
pub use store::{Entry, Store, Table, document_key};
pub use writer::{Done, QUEUE_DEFAULT, Rejected, Writer};
