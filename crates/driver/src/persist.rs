//! What must survive a restart, on its way to the disk: the loop hands it over and goes on.

use std::path::Path;
use std::sync::Arc;

use sinew_store::{Batch, Entry, QUEUE_DEFAULT, Store, StoreError, Table, Writer};
use sinew_types::NetworkId;
use tracing::error;

use crate::workloads::Record;

/// File inside the state folder.
const FILE: &str = "state.redb";

/// The way to the store; whoever has a copy may write.
#[derive(Clone)]
pub(crate) struct Persist {
    writer: Arc<Writer>,
}

/// What an earlier run left.
#[derive(Default)]
pub(crate) struct Kept {
    pub(crate) networks: Vec<Entry>,
    pub(crate) documents: Vec<Entry>,
    pub(crate) workloads: Vec<Record>,
    pub(crate) journal: Vec<Entry>,
    pub(crate) gateway: Vec<Entry>,
    pub(crate) peers: Vec<Entry>,
}

impl Persist {
    /// Opens the store in `state_dir` and reads what it has.
    pub(crate) fn open(state_dir: &Path) -> Result<(Self, Kept), StoreError> {
        let store = Store::open(&state_dir.join(FILE))?;
        let workloads = store.all(Table::Workloads)?;
        let kept = Kept {
            networks: store.all(Table::Networks)?,
            documents: store.all(Table::Documents)?,
            journal: store.all(Table::Journal)?,
            gateway: store.all(Table::Gateway)?,
            peers: store.all(Table::Peers)?,
            workloads: workloads.iter().filter_map(|(_, bytes)| Record::from_bytes(bytes)).collect(),
        };
        Ok((Self { writer: Arc::new(Writer::start(store, QUEUE_DEFAULT)?) }, kept))
    }

    /// Keeps a workload; `then` hears whether it is on the disk.
    pub(crate) fn put_workload(&self, record: &Record, then: impl FnOnce(bool) + Send + 'static) {
        self.put_then(Table::Workloads, record.id.as_bytes(), &record.to_bytes(), then);
    }

    pub(crate) fn delete_workload(&self, id: &str) {
        let mut batch = Batch::new();
        batch.delete(Table::Workloads, id.as_bytes());
        self.submit(batch, |_| {});
    }

    /// Forgets all of a network.
    pub(crate) fn delete_network(&self, network: &NetworkId) {
        let mut batch = Batch::new();
        let key = network.key();
        batch
            .delete(Table::Networks, key.as_bytes())
            .delete_prefix(Table::Documents, key.as_bytes())
            .delete_prefix(Table::Journal, key.as_bytes());
        self.submit(batch, |_| {});
    }

    /// Keeps one entry.
    pub(crate) fn put(&self, table: Table, key: &[u8], value: &[u8]) {
        self.put_then(table, key, value, |_| {});
    }

    /// Keeps one entry; `then` as in [`Self::submit`].
    fn put_then(&self, table: Table, key: &[u8], value: &[u8], then: impl FnOnce(bool) + Send + 'static) {
        let mut batch = Batch::new();
        match batch.put(table, key, value) {
            Ok(_) => self.submit(batch, then),
            Err(error) => {
                error!(%error, "not stored");
                then(false);
            }
        }
    }

    /// Hands a batch over. A full queue means a disk that does not answer: then the loop waits for
    /// it, since what a peer was told must not be forgotten. `then` hears, on the writer's thread,
    /// whether it is on the disk.
    pub(crate) fn submit(&self, batch: Batch, then: impl FnOnce(bool) + Send + 'static) {
        let done = move |result: Result<(), Arc<StoreError>>| {
            if let Err(error) = &result {
                error!(%error, "state not stored");
            }
            then(result.is_ok());
        };
        let mut waiting = Some((batch, Box::new(done) as sinew_store::Done));
        while let Some((batch, done)) = waiting.take() {
            if let Err(rejected) = self.writer.submit(batch, done) {
                if rejected.ended {
                    return error!("state not stored: the writer has ended");
                }
                std::thread::yield_now();
                waiting = Some((rejected.batch, rejected.done));
            }
        }
    }
}
