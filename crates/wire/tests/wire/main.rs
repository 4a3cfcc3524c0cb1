//! The formats as an outsider sees them: exact bytes, refusals, and properties over random values.
#![allow(missing_docs, reason = "a test's name says what it is about")]

mod layouts;
mod networks;
mod packets;
mod properties;
mod publishing;
mod refusals;
mod streams;

use sinew_types::MeshAddr;

/// A mesh address that ends in `tail`.
fn addr(tail: u8) -> MeshAddr {
    let mut bytes = [0; 16];
    (bytes[0], bytes[1], bytes[15]) = (0xfd, 0x3f, tail);
    MeshAddr::from_bytes(bytes).expect("in fd3f::/16")
}
