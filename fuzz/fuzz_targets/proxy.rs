//! PROXY headers of both versions.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sinew_gateway::config::ProxyVersion;
use sinew_gateway::proxy::{Reading, read, write};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Reading::Header(length, named)) = read(bytes) {
        assert!(length <= bytes.len());
        if let Some((from, to)) = named {
            for version in [ProxyVersion::V1, ProxyVersion::V2] {
                let again = write(version, from, to);
                assert!(
                    matches!(read(&again), Ok(Reading::Header(length, Some(_))) if length == again.len())
                );
            }
        }
    }
});
