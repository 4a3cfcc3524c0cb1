//! ROUTED records: clear part, layout, additional data, opened header.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sinew_fuzz::same_front;
use sinew_wire::routed::{Layout, RoutedClear, RoutedHeader, aad};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(clear) = RoutedClear::parse(bytes) {
        same_front(bytes, &clear.emit());
        let layout = Layout::of(clear.waypoints, bytes.len()).expect("checked by parse");
        assert_eq!(layout.body_rest.end, bytes.len());
        let _ = aad(bytes, &layout);
    }
    if let Ok(header) = RoutedHeader::parse(bytes) {
        let mut out = vec![0; header.wire_len()];
        header.emit(&mut out);
        assert_eq!(out, bytes);
    }
});
