//! Small files with secrets in them that are written again and again: accounts, certificates with
//! their keys. Nobody else can read them at any moment, and a crash leaves the old content or the new.
//!
//! Key files, which are made once and never replaced, are in [`crate::keyfile`].

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::unistd::geteuid;
use zeroize::Zeroizing;

/// Makes a folder, and those above it, that only its owner can enter.
///
/// # Errors
/// What the system says; also if it belongs to somebody else or others can write in it.
pub fn folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let meta = std::fs::metadata(path)?;
    if meta.uid() != geteuid().as_raw() || meta.mode() & 0o022 != 0 {
        return Err(io::Error::other("the folder belongs to somebody else, or others can write in it"));
    }
    Ok(())
}

/// The content of a file of at most `max` bytes.
///
/// # Errors
/// `NotFound`; a link, a pipe, another user's file, one that others can read, or a longer one.
pub fn read(path: &Path, max: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    // O_NONBLOCK: a pipe in this place is to be refused, not waited for.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() || meta.uid() != geteuid().as_raw() || meta.mode() & 0o077 != 0 {
        return Err(io::Error::other("not a regular file that is readable by its owner alone (mode 0600)"));
    }
    let length = usize::try_from(meta.len()).unwrap_or(usize::MAX);
    if length > max {
        return Err(io::Error::other("the file is larger than such files are"));
    }
    // Sized beforehand, so that no copy is left behind by growing.
    let mut content = Zeroizing::new(Vec::with_capacity(max + 1));
    file.take(max as u64 + 1).read_to_end(&mut content)?;
    if content.len() > max {
        return Err(io::Error::other("the file grew while it was read"));
    }
    Ok(content)
}

/// Gives `path` this content, mode 0600, in place of any it had.
///
/// # Errors
/// What the system says; the old content is then still there.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let temporary = folder.join(format!(".{}.{:016x}", name.to_string_lossy(), u64::from_le_bytes(random)));
    let written = write(&temporary, content).and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written?;
    // Without this a power cut may forget the name though it kept the content.
    File::open(folder)?.sync_all()
}

fn write(temporary: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(temporary)?;
    // The umask may have taken even the owner's bits.
    file.set_permissions(PermissionsExt::from_mode(0o600))?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    #[test]
    fn content_is_replaced_whole_and_stays_private() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("a/b");
        folder(&below).unwrap();
        folder(&below).unwrap();
        assert_eq!(std::fs::metadata(&below).unwrap().mode() & 0o7777, 0o700);
        let path = below.join("file");
        assert_eq!(read(&path, 9).unwrap_err().kind(), io::ErrorKind::NotFound);
        for content in [&b"first"[..], b"second", b""] {
            replace(&path, content).unwrap();
            assert_eq!(&read(&path, 9).unwrap()[..], content);
            let meta = std::fs::metadata(&path).unwrap();
            assert_eq!((meta.mode() & 0o7777, meta.nlink()), (0o600, 1));
        }
        assert_eq!(std::fs::read_dir(&below).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn what_is_not_private_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        replace(&path, b"0123456789").unwrap();
        assert!(read(&path, 9).is_err(), "too long");
        assert!(read(&path, 10).is_ok());
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(read(&path, 10).is_err(), "others can read it");
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(read(&link, 10).is_err(), "a link");
        assert!(read(dir.path(), 10).is_err(), "a folder");
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
        assert!(folder(dir.path()).is_err(), "a folder in which others write");
    }
}
