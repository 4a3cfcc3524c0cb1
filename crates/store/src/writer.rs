//! Commits on a thread of its own: a disk that takes a second must not hold back a packet.
//!
//! ```text
//!  loop ──try_send──▶ bounded queue ──▶ thread: all that waits, one transaction ──▶ callbacks
//! ```
//!
//! Batches commit in the order of submission; those that wait together share one transaction
//! and so one flush of the disk. When the queue is full the batch comes back to the caller, who
//! knows best whether to keep it, merge it or give up. After a failed write the file is opened
//! anew before the next one: redb trusts nothing after an error, and a full disk passes.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use crate::batch::Batch;
use crate::error::StoreError;
use crate::store::Store;

/// Batches that may wait, unless told otherwise.
pub const QUEUE_DEFAULT: usize = 256;

/// Batches that share a transaction at most.
const GROUP: usize = 64;

/// Called on the writer's thread once the batch is durable, or has failed. Several batches that
/// shared a transaction share its error.
pub type Done = Box<dyn FnOnce(Result<(), Arc<StoreError>>) + Send>;

/// A batch that was not taken; `done` will not be called.
pub struct Rejected {
    /// As it was given.
    pub batch: Batch,
    /// As it was given.
    pub done: Done,
    /// The writer has ended; else its queue is full.
    pub ended: bool,
}

impl fmt::Debug for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejected")
            .field("batch", &self.batch)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

struct Job {
    batch: Batch,
    done: Done,
}

/// The thread that holds the store. Dropping it commits what waits, then closes the file.
#[derive(Debug)]
pub struct Writer {
    queue: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Takes the store, with room for `capacity` waiting batches.
    ///
    /// # Errors
    /// [`StoreError::Io`]: no thread could be started.
    pub fn start(store: Store, capacity: usize) -> Result<Self, StoreError> {
        let (queue, jobs) = sync_channel(capacity.max(1));
        let path = store.path().to_owned();
        let thread = std::thread::Builder::new()
            .name("sinew-store".to_owned())
            .spawn(move || Holder::new(store).run(&jobs))
            .map_err(crate::file::io_error("start a writer for", &path))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Hands over a batch without waiting.
    ///
    /// # Errors
    /// [`Rejected`]: the queue is full; the batch comes back.
    pub fn submit(&self, batch: Batch, done: Done) -> Result<(), Box<Rejected>> {
        let rejected = |Job { batch, done }, ended| Box::new(Rejected { batch, done, ended });
        let Some(queue) = &self.queue else {
            return Err(rejected(Job { batch, done }, true));
        };
        queue.try_send(Job { batch, done }).map_err(|error| match error {
            TrySendError::Full(job) => rejected(job, false),
            TrySendError::Disconnected(job) => rejected(job, true),
        })
    }

    /// Commits what waits and closes the file. Blocks on the disk.
    pub fn close(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.end();
    }
}

/// The store, or nothing while the file could not be opened again.
struct Holder {
    store: Option<Store>,
    path: PathBuf,
}

impl Holder {
    fn new(store: Store) -> Self {
        Self { path: store.path().to_owned(), store: Some(store) }
    }

    fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            let (batches, done): (Vec<_>, Vec<_>) = std::iter::once(first)
                .chain(jobs.try_iter().take(GROUP - 1))
                .map(|job| (job.batch, job.done))
                .unzip();
            let result = self.commit(&batches).map_err(Arc::new);
            for done in done {
                done(result.clone());
            }
        }
    }

    fn commit(&mut self, batches: &[Batch]) -> Result<(), StoreError> {
        let store = match self.store.take() {
            Some(store) => store,
            None => Store::open(&self.path)?,
        };
        store.commit_all(batches)?;
        self.store = Some(store);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
