//! Documents of private networks, and what their bodies say.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sinew_fuzz::{same_appended, same_front};
use sinew_wire::document::{Body, Document};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(document) = Document::parse(bytes) {
        same_appended(bytes, |out| document.emit(out));
        // Fields of later versions come last, and are not emitted.
        if let Ok(Some(body)) = Body::parse(document.kind, &document.body) {
            same_front(&document.body, &body.emit());
        }
    }
});
