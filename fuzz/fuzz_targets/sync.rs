//! Messages by which members bring their documents into line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sinew_fuzz::same_appended;
use sinew_wire::sync::SyncMessage;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = SyncMessage::parse(bytes) {
        same_appended(bytes, |out| message.emit(out));
    }
});
