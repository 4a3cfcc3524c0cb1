//! Routing frames and origin records.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sinew_fuzz::same_appended;
use sinew_wire::routing::{OriginRecord, RoutingFrame};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(record) = OriginRecord::parse(bytes) {
        same_appended(bytes, |out| record.emit(out));
    }
    // Optional messages are passed over, so only the messages have to survive.
    let messages: Vec<_> = RoutingFrame::parse(bytes).map_while(Result::ok).collect();
    let mut frame = Vec::new();
    messages.iter().for_each(|message| message.emit(&mut frame));
    assert!(RoutingFrame::parse(&frame).map_while(Result::ok).eq(messages));
});
