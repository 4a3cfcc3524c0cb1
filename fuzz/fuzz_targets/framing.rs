//! Where requests end: how the bytes are cut changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sinew_gateway::framing::{Framing, HeadLimits};

fuzz_target!(|bytes: &[u8]| {
    let limits = HeadLimits { bytes: 1000, count: 20 };
    let whole = Framing::new(limits).scan(bytes);
    assert!(whole.passed <= bytes.len());
    let mut framing = Framing::new(limits);
    let (mut passed, mut refused) = (0, false);
    let mut end = 0;
    while end < bytes.len() && !refused {
        end = (end + 1 + end % 7).min(bytes.len());
        let scan = framing.scan(&bytes[passed..end]);
        passed += scan.passed;
        refused = scan.violation.is_some();
    }
    assert_eq!((passed, refused), (whole.passed, whole.violation.is_some()));
});
