//! Control segments.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sinew_fuzz::same_front;
use sinew_wire::segment::SegmentHeader;

fuzz_target!(|bytes: &[u8]| {
    if let Ok((header, chunk)) = SegmentHeader::split(bytes) {
        same_front(bytes, &[&header.emit()[..], chunk].concat());
    }
});
