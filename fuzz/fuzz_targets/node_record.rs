//! Node records, as they come out of a directory, a neighbour's mouth or the air of a local network.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sinew_fuzz::same_appended;
use sinew_wire::directory::{NodeRecord, RECORD_MAX};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(record) = NodeRecord::parse(bytes) {
        same_appended(bytes, |out| out.extend(record.to_bytes()));
        assert!(bytes.len() <= RECORD_MAX);
    }
});
