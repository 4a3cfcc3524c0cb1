//! DATA and FRAG headers, the sealed prefix, the super-packet header.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sinew_fuzz::same_front;
use sinew_wire::frag::FragHeader;
use sinew_wire::record::{DataHeader, Prefix, SuperHeader};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(header) = DataHeader::parse(bytes) {
        same_front(bytes, &header.emit());
    }
    if let Ok(header) = FragHeader::parse(bytes) {
        same_front(bytes, &header.emit());
    }
    if let Ok(prefix) = Prefix::parse(bytes) {
        same_front(bytes, &prefix.emit());
    }
    if let Ok(header) = SuperHeader::parse(bytes) {
        same_front(bytes, &header.emit());
    }
});
