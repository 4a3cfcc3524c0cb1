//! What every target asserts, beyond not panicking: a value that parses is emitted as the bytes it
//! came from. One value with two spellings would let a relay change bytes that a check still
//! accepts.

pub mod offload;

/// Fails if `emitted` is not the front of `bytes`.
pub fn same_front(bytes: &[u8], emitted: &[u8]) {
    assert_eq!(bytes.get(..emitted.len()), Some(emitted), "a second spelling");
}

/// Emits with `emit` into a fresh buffer and compares.
pub fn same_appended(bytes: &[u8], emit: impl FnOnce(&mut Vec<u8>)) {
    let mut out = Vec::new();
    emit(&mut out);
    same_front(bytes, &out);
}
