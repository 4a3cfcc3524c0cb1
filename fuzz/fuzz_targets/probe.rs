//! Probes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sinew_fuzz::same_appended;
use sinew_wire::probe::Probe;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(probe) = Probe::parse(bytes) {
        same_appended(bytes, |out| probe.emit(out));
    }
});
