//! Short requests.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sinew_fuzz::same_appended;
use sinew_wire::request::Request;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = Request::parse(bytes) {
        same_appended(bytes, |out| request.emit(out));
    }
});
