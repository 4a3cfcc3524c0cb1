//! The file itself: made so that nobody else can read it at any moment and a crash leaves a
//! finished store or none; opened only if it is still so.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use crate::error::StoreError;

/// First bytes of every redb file.
const MAGIC: &[u8] = b"redb";

/// The folder of `path`, made (0700) where missing.
pub(crate) fn make_folder(path: &Path) -> Result<PathBuf, StoreError> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .map_err(io_error("make the folder of", path))?;
    Ok(folder)
}

/// Opens an existing file after its owner, mode and first bytes; `None` if there is none.
pub(crate) fn open(path: &Path) -> Result<Option<File>, StoreError> {
    // O_NONBLOCK: a pipe in this place is to be refused, not waited for.
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path);
    let foreign = |found| StoreError::Foreign { path: path.to_owned(), found };
    let mut file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Err(foreign("a symbolic link")),
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => return Err(foreign("a folder")),
        Err(error) => return Err(io_error("open", path)(error)),
    };
    let metadata = file.metadata().map_err(io_error("examine", path))?;
    if !metadata.is_file() {
        return Err(foreign("not a regular file"));
    }
    let us = geteuid().as_raw();
    if metadata.uid() != us {
        return Err(StoreError::ForeignOwner { path: path.to_owned(), owner: metadata.uid(), us });
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(StoreError::OpenToOthers { path: path.to_owned(), mode });
    }
    let mut first = Vec::new();
    file.by_ref()
        .take(MAGIC.len() as u64)
        .read_to_end(&mut first)
        .and_then(|_| file.rewind())
        .map_err(io_error("read", path))?;
    if first.is_empty() {
        return Err(foreign("an empty file"));
    }
    if first != MAGIC { Err(foreign("other content")) } else { Ok(Some(file)) }
}

/// An empty file beside `path`, to be filled and then [`publish`]ed under the real name.
pub(crate) fn make_beside(path: &Path) -> Result<(File, PathBuf), StoreError> {
    let folder = make_folder(path)?;
    let name =
        path.file_name().ok_or_else(|| StoreError::Foreign { path: path.to_owned(), found: "a folder" })?;
    let temporary = folder.join(format!(".{}.new", name.to_string_lossy()));
    // Left by a start that was killed; it was never a store.
    let _ = std::fs::remove_file(&temporary);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(&temporary)
        .map_err(io_error("make", path))?;
    // The umask may have taken even the owner's bits.
    file.set_permissions(PermissionsExt::from_mode(0o600)).map_err(io_error("make", path))?;
    Ok((file, temporary))
}

/// Gives the finished file its name; a file that appeared there meanwhile stays.
pub(crate) fn publish(temporary: &Path, path: &Path) -> Result<(), StoreError> {
    let folder = make_folder(path)?;
    std::fs::hard_link(temporary, path)
        .and_then(|()| std::fs::remove_file(temporary))
        // Without this a power cut may forget the name though it kept the content.
        .and_then(|()| File::open(&folder)?.sync_all())
        .map_err(io_error("make", path))
}

pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { action, path, source }
}
