//! The two secret files: a node's key and a mesh's secret.
//!
//! Both are one line of text, so that they can be copied and backed up by hand. They are made
//! with mode 0600 and refused when anyone but the owner could read them: a key that others have
//! seen names nobody any more.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sinew_types::Identity;
use zeroize::Zeroizing;

use crate::config::plain;

/// What a key file starts with; keeps a NodeId, which looks alike, from being taken for a key.
const KEY_PREFIX: &str = "sinew-key-1:";
/// Larger than either file; nothing beyond it is read.
const FILE_MAX: u64 = 4096;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// A 32-byte secret, erased on drop.
pub type Secret = Zeroizing<[u8; 32]>;

/// Why a secret file is of no use; each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// There is none.
    #[error("{} does not exist{hint}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What to do.
        hint: &'static str,
    },
    /// It cannot be read.
    #[error("{} cannot be read: {reason}; it must belong to the user that runs this", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// Others can read it.
    #[error("{} can be read by others (mode {mode:04o}); `chmod 600` it, or make a new one if it may be known", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not of its form.
    #[error("{} is not {wanted}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What should be there.
        wanted: &'static str,
    },
    /// A new one is in the way of an old one.
    #[error("{} exists already and is not overwritten; name another file", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be made.
    #[error("{} cannot be made: {reason}", path.display())]
    NotMade {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
}

/// Reads a node's key.
///
/// # Errors
/// [`SecretError`], also when the file is readable by group or others.
pub fn load_key(path: &Path) -> Result<Identity, SecretError> {
    let text = read_private(path, "; `sinew key new FILE` makes a key")?;
    let seed = text.trim().strip_prefix(KEY_PREFIX).and_then(|body| decode(body, false));
    let wanted = "a node key (one line, sinew-key-1: and 52 characters)";
    let seed = seed.ok_or_else(|| SecretError::Malformed { path: path.to_owned(), wanted })?;
    Ok(Identity::from_seed(*seed))
}

/// Makes a key file from 32 fresh random bytes; never overwrites.
///
/// # Errors
/// [`SecretError::Exists`] or [`SecretError::NotMade`].
pub fn create_key(path: &Path, seed: &Secret) -> Result<Identity, SecretError> {
    let line = Zeroizing::new(format!("{KEY_PREFIX}{}\n", *encode(seed)));
    write_private(path, &line)?;
    Ok(Identity::from_seed(**seed))
}

/// Reads a node's key, or makes it (and its directory) from `seed` on the first start.
///
/// # Errors
/// As [`load_key`] and [`create_key`].
pub fn load_or_create_key(path: &Path, seed: &Secret) -> Result<Identity, SecretError> {
    match load_key(path) {
        Err(SecretError::Missing { .. }) => {}
        other => return other,
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|error| not_made(path, &error))?;
    }
    match create_key(path, seed) {
        // Another process made it in the meantime: that one counts.
        Err(SecretError::Exists { .. }) => load_key(path),
        other => other,
    }
}

/// Reads a mesh secret: 32 bytes in base32, capitals and padding allowed.
///
/// # Errors
/// As [`load_key`].
pub fn load_mesh_secret(path: &Path) -> Result<Secret, SecretError> {
    let text = read_private(path, "; `sinew key secret FILE` makes a mesh secret")?;
    let wanted = "a mesh secret (one line, 32 bytes in base32)";
    decode(text.trim(), true).ok_or_else(|| SecretError::Malformed { path: path.to_owned(), wanted })
}

/// Makes a mesh secret file from 32 fresh random bytes; never overwrites.
///
/// # Errors
/// As [`create_key`].
pub fn create_mesh_secret(path: &Path, secret: &Secret) -> Result<(), SecretError> {
    let line = Zeroizing::new(format!("{}\n", *encode(secret)));
    write_private(path, &line)
}

fn read_private(path: &Path, hint: &'static str) -> Result<Zeroizing<String>, SecretError> {
    let unreadable =
        |error: &io::Error| SecretError::Unreadable { path: path.to_owned(), reason: plain(error) };
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => SecretError::Missing { path: path.to_owned(), hint },
        _ => unreadable(&error),
    })?;
    let mode = file.metadata().map_err(|error| unreadable(&error))?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SecretError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(String::with_capacity(FILE_MAX as usize));
    file.take(FILE_MAX).read_to_string(&mut text).map_err(|error| unreadable(&error))?;
    Ok(text)
}

/// Writes the whole file under another name and links it into place: a crash leaves no half key,
/// and an existing file is never replaced.
fn write_private(path: &Path, text: &str) -> Result<(), SecretError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let temporary = path.with_file_name(name);
    let made = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::hard_link(&temporary, path)?;
        let parent = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()
    })();
    let _ = std::fs::remove_file(&temporary);
    made.map_err(|error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => SecretError::Exists { path: path.to_owned() },
        _ => not_made(path, &error),
    })
}

fn not_made(path: &Path, error: &io::Error) -> SecretError {
    SecretError::NotMade { path: path.to_owned(), reason: plain(error) }
}

/// 32 bytes as 52 base32 characters (RFC 4648 §6, lower case, no padding).
fn encode(secret: &[u8; 32]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(52));
    let (mut bits, mut held) = (0u32, 0u32);
    for &byte in secret {
        (bits, held) = ((bits << 8) | u32::from(byte), held + 8);
        while held >= 5 {
            held -= 5;
            text.push(char::from(ALPHABET[(bits >> held) as usize & 31]));
        }
    }
    text.push(char::from(ALPHABET[(bits << (5 - held)) as usize & 31]));
    text
}

/// The inverse; `lenient` also takes capitals and padding, as `base32` of coreutils writes them.
fn decode(text: &str, lenient: bool) -> Option<Secret> {
    let text = if lenient { text.trim_end_matches('=') } else { text };
    if text.len() != 52 {
        return None;
    }
    let mut secret = Zeroizing::new([0; 32]);
    let (mut at, mut bits, mut held) = (0, 0u32, 0u32);
    for mut byte in text.bytes() {
        if lenient {
            byte = byte.to_ascii_lowercase();
        }
        let value = ALPHABET.iter().position(|&a| a == byte)?;
        (bits, held) = ((bits << 5) | value as u32, held + 5);
        if held >= 8 {
            held -= 8;
            secret[at] = (bits >> held) as u8;
            at += 1;
        }
    }
    (bits & ((1 << held) - 1) == 0).then_some(secret)
}

#[cfg(test)]
mod tests;
