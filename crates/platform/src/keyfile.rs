//! The node's key on disk: one line of 64 hexadecimal digits, the Ed25519 seed.
//!
//! Hexadecimal, because a person may have to copy it into a secret store and back.

use std::path::Path;

use zeroize::Zeroizing;

use crate::private_file::PrivateFile;
pub use crate::private_file::{KeyFileError, Kind};

/// Digits of a seed.
const DIGITS: usize = 64;

/// Reads the seed in `path`.
///
/// # Errors
/// [`KeyFileError`]: missing, a link, another user's, open to others, not a key.
pub fn load(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    let file = file(path);
    decode(&file.read()?).ok_or_else(|| file.malformed())
}

/// Makes `path`, and missing directories on the way (0700), with a fresh seed.
///
/// # Errors
/// [`KeyFileError`]; an existing file is never overwritten.
pub fn create(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice()).map_err(|error| KeyFileError::Io {
        action: "find randomness for",
        kind: Kind::Key,
        path: path.to_owned(),
        source: std::io::Error::other(error),
    })?;
    file(path).write_new(&encode(&seed))?;
    Ok(seed)
}

/// Reads the seed in `path`, made there first if there is no file.
///
/// # Errors
/// As [`load`] and [`create`].
pub fn load_or_create(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    match load(path) {
        Err(KeyFileError::Missing { .. }) => {}
        result => return result,
    }
    match create(path) {
        Ok(seed) => {
            tracing::info!(path = %path.display(), "new node key");
            Ok(seed)
        }
        // Somebody was faster; his key is as good.
        Err(KeyFileError::Exists { .. }) => load(path),
        Err(error) => Err(error),
    }
}

const fn file(path: &Path) -> PrivateFile<'_> {
    PrivateFile { kind: Kind::Key, path }
}

fn encode(seed: &[u8; 32]) -> Zeroizing<Vec<u8>> {
    let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' + value - 10 };
    let mut text = Zeroizing::new(Vec::with_capacity(DIGITS + 1));
    for byte in seed {
        text.extend([digit(byte >> 4), digit(byte & 15)]);
    }
    text.push(b'\n');
    text
}

fn decode(content: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let content = content.strip_suffix(b"\n").unwrap_or(content);
    let content = content.strip_suffix(b"\r").unwrap_or(content);
    if content.len() != DIGITS {
        return None;
    }
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let mut seed = Zeroizing::new([0; 32]);
    for (byte, pair) in seed.iter_mut().zip(content.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(seed)
}

#[cfg(test)]
mod tests;
