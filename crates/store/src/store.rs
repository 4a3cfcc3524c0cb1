//! The store: one redb file with five tables and a mark of whose it is.
//!
//! redb commits with checksums on a copy-on-write tree: a commit that was cut short leaves the
//! one before. The whole file is verified when it is opened (it has at most some MB), because
//! a damaged page that is found later would be found at the worst moment.

use std::fs::File;
use std::io::ErrorKind;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use crate::batch::{Batch, Change};
use crate::error::StoreError;
use crate::file;

/// Marks a file as ours; the value is the format's number.
const MARK: TableDefinition<'_, &str, u64> = TableDefinition::new("sinew");
const MARK_KEY: &str = "format";
const FORMAT: u64 = 1;

/// Cache of redb, bytes: everything is read once, at the start.
const CACHE: usize = 4 << 20;

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// What is stored apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    /// By network id (32 bytes): metadata.
    Networks,
    /// By [`document_key`]: documents, as signed.
    Documents,
    /// By id: workloads that are attached here.
    Workloads,
    /// By name: changes to the host that a next start may have to undo.
    Journal,
    /// By a letter and what it is about: what a public gateway has promised to whom.
    Gateway,
    /// By node id (32 bytes): nodes worth trying at the next start.
    Peers,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Networks, Self::Documents, Self::Workloads, Self::Journal, Self::Gateway, Self::Peers];

    const fn definition(self) -> Definition {
        TableDefinition::new(match self {
            Self::Networks => "networks",
            Self::Documents => "documents",
            Self::Workloads => "workloads",
            Self::Journal => "journal",
            Self::Gateway => "gateway",
            Self::Peers => "peers",
        })
    }
}

/// A key and its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// The key of a document: its network, then what the network calls the document's place.
pub fn document_key(network: &[u8; 32], slot: &[u8]) -> Vec<u8> {
    [network.as_slice(), slot].concat()
}

/// The open file. Every call blocks on the disk; in the daemon it belongs to a
/// [`Writer`](crate::Writer).
#[derive(Debug)]
pub struct Store {
    database: Database,
    path: PathBuf,
}

impl Store {
    /// Opens the store at `path`; makes it (0600), and missing folders (0700), if there is none.
    ///
    /// # Errors
    /// [`StoreError`]: in use, another user's, open to others, foreign, damaged, of a newer
    /// release, or refused by the system. What is there is never replaced.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if let Some(store) = Self::open_existing(path)? {
            return Ok(store);
        }
        Self::make(path)?;
        Self::open_existing(path)?.ok_or_else(|| {
            file::io_error("open", path)(std::io::Error::new(ErrorKind::NotFound, "it vanished"))
        })
    }

    /// Everything in `table`, by key.
    ///
    /// # Errors
    /// [`StoreError`]: the disk.
    pub fn all(&self, table: Table) -> Result<Vec<Entry>, StoreError> {
        self.prefix(table, &[])
    }

    /// What in `table` begins with `prefix`, by key.
    ///
    /// # Errors
    /// [`StoreError`]: the disk.
    pub fn prefix(&self, table: Table, prefix: &[u8]) -> Result<Vec<Entry>, StoreError> {
        let read = || -> Result<Vec<Entry>, redb::Error> {
            let transaction = self.database.begin_read()?;
            let table = match transaction.open_table(table.definition()) {
                // A table that is younger than the file is made by the first write to it.
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                table => table?,
            };
            let mut found = Vec::new();
            for entry in table.range(prefix..)? {
                let (key, value) = entry?;
                if !key.value().starts_with(prefix) {
                    break;
                }
                found.push((key.value().to_vec(), value.value().to_vec()));
            }
            Ok(found)
        };
        read().map_err(|error| explain(&self.path, "read", error))
    }

    /// Makes `batch` durable: when this returns, it survives a power cut; when it fails, nothing
    /// of it is in the file.
    ///
    /// # Errors
    /// [`StoreError`]: the disk.
    pub fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.commit_all(std::slice::from_ref(batch))
    }

    /// Several batches in one transaction, in order.
    pub(crate) fn commit_all(&self, batches: &[Batch]) -> Result<(), StoreError> {
        let write = || -> Result<(), redb::Error> {
            let mut transaction = self.database.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            for change in batches.iter().flat_map(|batch| &batch.changes) {
                apply(&transaction, change)?;
            }
            transaction.commit()?;
            Ok(())
        };
        write().map_err(|error| explain(&self.path, "write", error))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn open_existing(path: &Path) -> Result<Option<Self>, StoreError> {
        let Some(file) = file::open(path)? else {
            return Ok(None);
        };
        // Beside errors, redb has assertions about what it wrote itself; a damaged file may break
        // one, and must be reported like any other damage.
        let database = std::panic::catch_unwind(AssertUnwindSafe(|| open_database(file)))
            .map_err(|_| damaged(path, "an inner structure does not hold"))?
            .map_err(|error| explain(path, "open", error.into()))?;
        let store = Self { database, path: path.to_owned() };
        store.check_mark()?;
        Ok(Some(store))
    }

    /// A new file is finished under another name first: a crash in between leaves no half store.
    fn make(path: &Path) -> Result<(), StoreError> {
        let (file, temporary) = file::make_beside(path)?;
        let fill = || -> Result<(), redb::Error> {
            let database = open_database(file)?;
            let transaction = database.begin_write()?;
            transaction.open_table(MARK)?.insert(MARK_KEY, FORMAT)?;
            for table in Table::ALL {
                transaction.open_table(table.definition())?;
            }
            transaction.commit()?;
            database.close()?;
            Ok(())
        };
        let result = fill()
            .map_err(|error| explain(path, "make", error))
            .and_then(|()| file::publish(&temporary, path));
        if result.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        result
    }

    fn check_mark(&self) -> Result<(), StoreError> {
        let read = || -> Result<Option<u64>, redb::Error> {
            let transaction = self.database.begin_read()?;
            let table = match transaction.open_table(MARK) {
                Ok(table) => table,
                Err(redb::TableError::Storage(error)) => return Err(error.into()),
                Err(_) => return Ok(None),
            };
            Ok(table.get(MARK_KEY)?.map(|value| value.value()))
        };
        match read().map_err(|error| explain(&self.path, "read", error))? {
            Some(FORMAT) => Ok(()),
            Some(found) if found > FORMAT => {
                Err(StoreError::Newer { path: self.path.clone(), found, known: FORMAT })
            }
            _ => Err(StoreError::Foreign { path: self.path.clone(), found: "a database of another program" }),
        }
    }
}

/// Everything is verified; an empty file, which [`Store::make`] alone hands in, becomes a database.
fn open_database(file: File) -> Result<Database, DatabaseError> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE).set_check_integrity_on_open(true);
    builder.create_with_backend(FileBackend::new(file)?)
}

fn apply(transaction: &redb::WriteTransaction, change: &Change) -> Result<(), redb::Error> {
    match change {
        Change::Put { table, key, value } => {
            transaction.open_table(table.definition())?.insert(key.as_slice(), value.as_slice())?;
        }
        Change::Delete { table, key } => {
            transaction.open_table(table.definition())?.remove(key.as_slice())?;
        }
        Change::DeletePrefix { table, prefix } => {
            let mut table = transaction.open_table(table.definition())?;
            let mut doomed = Vec::new();
            for entry in table.range(prefix.as_slice()..)? {
                let (key, _) = entry?;
                if !key.value().starts_with(prefix) {
                    break;
                }
                doomed.push(key.value().to_vec());
            }
            for key in doomed {
                table.remove(key.as_slice())?;
            }
        }
    }
    Ok(())
}

/// redb's error in words for the operator.
fn explain(path: &Path, action: &'static str, error: redb::Error) -> StoreError {
    match error {
        redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => {
            StoreError::Busy { path: path.to_owned() }
        }
        // Content, not the disk: a bad header, a file that ends too early.
        redb::Error::Io(source)
            if matches!(source.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) =>
        {
            damaged(path, &source.to_string())
        }
        redb::Error::Io(source) => StoreError::Io { action, path: path.to_owned(), source },
        redb::Error::PreviousIo => {
            let source = std::io::Error::other("an earlier write failed");
            StoreError::Io { action, path: path.to_owned(), source }
        }
        error => damaged(path, &error.to_string()),
    }
}

fn damaged(path: &Path, detail: &str) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), detail: detail.to_owned() }
}

#[cfg(test)]
mod tests;
