//! Files that hold a secret (protocol A9): written so that nobody else can read them at any
//! moment and a crash leaves either the whole file or none; read only if it is still so.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::unistd::geteuid;
use thiserror::Error;
use zeroize::Zeroizing;

/// Longest content that is read, bytes; the longest valid one has 66.
const CONTENT_MAX: usize = 256;

/// What a file holds, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The node's key.
    Key,
    /// The mesh secret.
    Secret,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key file",
            Self::Secret => "secret file",
        }
    }

    fn how_to_make(self, path: &Path) -> String {
        let path = path.display();
        match self {
            Self::Key => format!("`sinew key new {path}` makes one"),
            Self::Secret => format!("`(umask 077; head -c 32 /dev/urandom | base32 > {path})` makes one"),
        }
    }

    const fn form(self) -> &'static str {
        match self {
            Self::Key => "one line of 64 hexadecimal digits",
            Self::Secret => "one line of base32 that stands for 32 bytes (52 characters of a-z and 2-7)",
        }
    }
}

/// Why a file with a secret was not used or not made.
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// There is none.
    #[error("{} {} does not exist: {}", kind.as_str(), path.display(), kind.how_to_make(path))]
    Missing {
        /// What it should hold.
        kind: Kind,
        /// Where.
        path: PathBuf,
    },
    /// There is one already; it is not overwritten.
    #[error("{} {} exists already; move it away first if you mean to replace it", kind.as_str(), path.display())]
    Exists {
        /// What it should hold.
        kind: Kind,
        /// Where.
        path: PathBuf,
    },
    /// A symbolic link, a directory, a pipe.
    #[error("{} {} is {found}, not a regular file: name the file itself", kind.as_str(), path.display())]
    NotRegular {
        /// What it should hold.
        kind: Kind,
        /// Where.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// Another user's.
    #[error("{} {} belongs to uid {owner}, not to uid {us} that runs this: `chown {us} {}`",
        kind.as_str(), path.display(), path.display())]
    ForeignOwner {
        /// What it should hold.
        kind: Kind,
        /// Where.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who we are.
        us: u32,
    },
    /// Others may read or write it.
    #[error("{} {} is open to others (mode {mode:03o}): `chmod 600 {}`, and replace it if others had access",
        kind.as_str(), path.display(), path.display())]
    OpenToOthers {
        /// What it should hold.
        kind: Kind,
        /// Where.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not what such a file contains.
    #[error("{} {} does not contain {}", kind.as_str(), path.display(), kind.form())]
    Malformed {
        /// What it should hold.
        kind: Kind,
        /// Where.
        path: PathBuf,
    },
    /// Anything else.
    #[error("cannot {action} {} {}: {source}", kind.as_str(), path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// What it should hold.
        kind: Kind,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// One file of one kind.
#[derive(Clone, Copy)]
pub(crate) struct PrivateFile<'a> {
    pub(crate) kind: Kind,
    pub(crate) path: &'a Path,
}

impl PrivateFile<'_> {
    /// The content, if the file is as A9 demands.
    pub(crate) fn read(self) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
        // O_NONBLOCK: a pipe in this place is to be refused, not waited for.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(self.path)
            .map_err(|error| self.explain_open(error))?;
        self.check(&file)?;
        // Sized beforehand, so that no copy is left behind by growing.
        let mut content = Zeroizing::new(Vec::with_capacity(CONTENT_MAX + 1));
        let limit = u64::try_from(CONTENT_MAX + 1).unwrap_or(u64::MAX);
        file.take(limit).read_to_end(&mut content).map_err(self.io("read"))?;
        if content.len() > CONTENT_MAX { Err(self.malformed()) } else { Ok(content) }
    }

    /// Makes the file with `content`; never replaces one.
    pub(crate) fn write_new(self, content: &[u8]) -> Result<(), KeyFileError> {
        if self.path.symlink_metadata().is_ok() {
            return Err(self.exists());
        }
        let directory = self.directory();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(self.io("make the directory of"))?;
        let name = self.path.file_name().ok_or_else(|| self.malformed_path())?;
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| self.io("make")(io::Error::other(error)))?;
        let temporary =
            directory.join(format!(".{}.{:016x}", name.to_string_lossy(), u64::from_le_bytes(random)));
        let result = self.write_temporary(&temporary, content).and_then(|()| self.publish(&temporary));
        if result.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        result?;
        // Without this a power cut may forget the name though it kept the content.
        File::open(&directory).and_then(|dir| dir.sync_all()).map_err(self.io("store"))
    }

    pub(crate) fn malformed(self) -> KeyFileError {
        KeyFileError::Malformed { kind: self.kind, path: self.path.to_owned() }
    }

    fn write_temporary(self, temporary: &Path, content: &[u8]) -> Result<(), KeyFileError> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
            .open(temporary)
            .map_err(self.io("make"))?;
        // The umask may have taken even the owner's bits.
        file.set_permissions(PermissionsExt::from_mode(0o600)).map_err(self.io("make"))?;
        file.write_all(content).and_then(|()| file.sync_all()).map_err(self.io("write"))
    }

    /// Gives the finished file its name, if that is still free.
    fn publish(self, temporary: &Path) -> Result<(), KeyFileError> {
        let renamed = renameat2(AT_FDCWD, temporary, AT_FDCWD, self.path, RenameFlags::RENAME_NOREPLACE);
        match renamed {
            // Not every file system knows RENAME_NOREPLACE; a second name never replaces either.
            Err(Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) => {
                std::fs::hard_link(temporary, self.path).and_then(|()| std::fs::remove_file(temporary))
            }
            result => result.map_err(io::Error::from),
        }
        .map_err(|error| {
            if error.kind() == io::ErrorKind::AlreadyExists { self.exists() } else { self.io("name")(error) }
        })
    }

    fn check(self, file: &File) -> Result<(), KeyFileError> {
        let meta = file.metadata().map_err(self.io("examine"))?;
        let (kind, path) = (self.kind, self.path.to_owned());
        if !meta.is_file() {
            let found = if meta.is_dir() { "a directory" } else { "a device or pipe" };
            return Err(KeyFileError::NotRegular { kind, path, found });
        }
        let us = geteuid().as_raw();
        if meta.uid() != us {
            return Err(KeyFileError::ForeignOwner { kind, path, owner: meta.uid(), us });
        }
        let mode = meta.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(KeyFileError::OpenToOthers { kind, path, mode });
        }
        Ok(())
    }

    fn explain_open(self, error: io::Error) -> KeyFileError {
        let (kind, path) = (self.kind, self.path.to_owned());
        match error.raw_os_error() {
            Some(libc::ENOENT) => KeyFileError::Missing { kind, path },
            // With O_NOFOLLOW this is what a link in the last place gives.
            Some(libc::ELOOP) => KeyFileError::NotRegular { kind, path, found: "a symbolic link" },
            Some(libc::ENXIO) => KeyFileError::NotRegular { kind, path, found: "a socket or pipe" },
            _ => self.io("open")(error),
        }
    }

    fn directory(self) -> PathBuf {
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        }
    }

    fn exists(self) -> KeyFileError {
        KeyFileError::Exists { kind: self.kind, path: self.path.to_owned() }
    }

    fn malformed_path(self) -> KeyFileError {
        self.io("make")(io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))
    }

    fn io(self, action: &'static str) -> impl FnOnce(io::Error) -> KeyFileError {
        let (kind, path) = (self.kind, self.path.to_owned());
        move |source| KeyFileError::Io { action, kind, path, source }
    }
}
