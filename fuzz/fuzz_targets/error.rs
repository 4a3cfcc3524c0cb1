//! Error reports.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sinew_fuzz::same_front;
use sinew_wire::error::ErrorReport;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(report) = ErrorReport::parse(bytes) {
        same_front(bytes, &report.emit());
    }
});
