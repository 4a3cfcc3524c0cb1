//! HS1, HS2, COOKIE and both payloads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sinew_fuzz::same_front;
use sinew_wire::handshake::{Cookie, Hs1, Hs1Payload, Hs2, Hs2Payload};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = Hs1::parse(bytes) {
        same_front(bytes, &message.emit());
    }
    if let Ok(message) = Hs2::parse(bytes) {
        same_front(bytes, &message.emit());
    }
    if let Ok(message) = Cookie::parse(bytes) {
        same_front(bytes, &message.emit());
    }
    // Payloads have reserved bytes, so only the value has to survive.
    if let Ok(payload) = Hs1Payload::parse(bytes) {
        assert_eq!(Hs1Payload::parse(&payload.emit()), Ok(payload));
    }
    if let Ok(payload) = Hs2Payload::parse(bytes) {
        assert_eq!(Hs2Payload::parse(&payload.emit()), Ok(payload));
    }
});
