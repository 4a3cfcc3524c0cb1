//! What can go wrong with the file, and what its owner can do about it.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// Why the store was not opened, or a batch not committed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has it.
    #[error("{} is in use by another process: one sinewd per state directory; stop the other, or set another [node] state_dir", path.display())]
    Busy {
        /// Where.
        path: PathBuf,
    },
    /// Something else than a store lies there.
    #[error("{} is not a store of sinew ({found}): move it away, or set another [node] state_dir; it was not touched", path.display())]
    Foreign {
        /// Where.
        path: PathBuf,
        /// What it looks like.
        found: &'static str,
    },
    /// Ours, and damaged.
    #[error("{} is damaged ({detail}): restore it from a backup, or move it away and join the networks again; it was not changed", path.display())]
    Damaged {
        /// Where.
        path: PathBuf,
        /// What the check found.
        detail: String,
    },
    /// Written by a later release.
    #[error("{} was written by a newer release (format {found}, this one reads {known}): upgrade sinew", path.display())]
    Newer {
        /// Where.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// Ours.
        known: u64,
    },
    /// Another user's file.
    #[error("{} belongs to uid {owner}, not to uid {us} that runs this: `chown {us} {}`", path.display(), path.display())]
    ForeignOwner {
        /// Where.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        us: u32,
    },
    /// Others may read or write it.
    #[error("{} is open to others (mode {mode:03o}): `chmod 600 {}`", path.display(), path.display())]
    OpenToOthers {
        /// Where.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl StoreError {
    /// Whether the disk is full: worth telling the operator in other words than "broken".
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}
