//! The mesh secret on disk: 32 bytes as one line of base32, as CONTRACT says; under the same
//! rules as the node's key (protocol A9).
//!
//! Upper case and padding are taken too, because that is what `base32` prints.

use std::path::Path;

use zeroize::Zeroizing;

use crate::private_file::PrivateFile;
pub use crate::private_file::{KeyFileError, Kind};

/// Characters without padding: 256 bits, five in each.
const CHARACTERS: usize = 52;

/// Reads the secret in `path`.
///
/// # Errors
/// [`KeyFileError`]: missing, a link, another user's, open to others, not a secret.
pub fn load(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    let file = PrivateFile { kind: Kind::Secret, path };
    decode(&file.read()?).ok_or_else(|| file.malformed())
}

/// Writes `secret` to `path`.
///
/// # Errors
/// [`KeyFileError`]; an existing file is never overwritten.
pub fn create(path: &Path, secret: &[u8; 32]) -> Result<(), KeyFileError> {
    PrivateFile { kind: Kind::Secret, path }.write_new(&encode(secret))
}

fn encode(secret: &[u8; 32]) -> Zeroizing<Vec<u8>> {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut text = Zeroizing::new(Vec::with_capacity(CHARACTERS + 1));
    let (mut bits, mut held) = (0u32, 0u32);
    for byte in secret {
        bits = (bits << 8) | u32::from(*byte);
        held += 8;
        while held >= 5 {
            held -= 5;
            text.push(ALPHABET[(bits >> held) as usize & 31]);
        }
    }
    text.push(ALPHABET[(bits << (5 - held)) as usize & 31]);
    text.push(b'\n');
    text
}

fn decode(content: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let text = content.trim_ascii();
    let padding = text.iter().rev().take_while(|&&c| c == b'=').count();
    let text = &text[..text.len() - padding];
    if text.len() != CHARACTERS || !matches!(padding, 0 | 4) {
        return None;
    }
    let mut secret = Zeroizing::new([0; 32]);
    let (mut at, mut bits, mut held) = (0, 0u32, 0u32);
    for character in text {
        let value = match character.to_ascii_lowercase() {
            letter @ b'a'..=b'z' => letter - b'a',
            digit @ b'2'..=b'7' => digit - b'2' + 26,
            _ => return None,
        };
        bits = (bits << 5) | u32::from(value);
        held += 5;
        if held >= 8 {
            held -= 8;
            secret[at] = (bits >> held) as u8;
            at += 1;
        }
    }
    // Four bits are left over; a typing error in the last character shows in them.
    (bits & 0xf == 0).then_some(secret)
}

#[cfg(test)]
mod tests;
