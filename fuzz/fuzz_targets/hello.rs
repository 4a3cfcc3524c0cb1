//! The first bytes of a TLS connection, as they come: every front of them gives the same answer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sinew_gateway::hello::{BYTES_MAX, Reading, read};

fuzz_target!(|bytes: &[u8]| {
    let whole = read(bytes);
    if let Ok(Reading::Hello(hello)) = &whole {
        assert!(hello.host.as_ref().is_none_or(|host| host.len() <= 253));
        // What comes after a hello does not change it.
        assert_eq!(read(&[bytes, b"after"].concat()), whole);
    }
    if let Ok(Reading::More) = whole {
        assert!(bytes.len() < BYTES_MAX, "it asks for more than it says");
    }
    // A refusal is final, and never comes before the bytes that earn it.
    let half = read(&bytes[..bytes.len() / 2]);
    if half.is_err() {
        assert_eq!(half, whole);
    }
});
