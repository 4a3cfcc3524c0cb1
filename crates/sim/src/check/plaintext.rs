//! Nobody on a link may read a payload, or who talks to whom: no datagram holds the marker that
//! every packet carries, nor any host's mesh address.

use rustc_hash::FxHashSet;
use sinew_types::{Instant, MeshAddr};

use super::Violation;

/// The eavesdropper.
#[derive(Debug)]
pub(crate) struct Plaintext {
    marker: [u8; 16],
    addrs: FxHashSet<[u8; 16]>,
    /// The two bytes that every mesh address begins with.
    prefix: [u8; 2],
}

impl Plaintext {
    pub(crate) fn new(marker: [u8; 16], addrs: &[MeshAddr]) -> Self {
        let prefix = addrs.first().map_or([0; 2], |addr| [addr.as_bytes()[0], addr.as_bytes()[1]]);
        Self { marker, addrs: addrs.iter().map(|addr| *addr.as_bytes()).collect(), prefix }
    }

    /// Looks at one datagram.
    pub(crate) fn look(&self, from: usize, bytes: &[u8], now: Instant) -> Result<(), Violation> {
        for window in bytes.windows(16) {
            let addr = window[0] == self.prefix[0] && window[1] == self.prefix[1];
            let found = if addr && self.addrs.contains(window) {
                "a mesh address"
            } else if window[0] == self.marker[0] && window == self.marker {
                "a payload"
            } else {
                continue;
            };
            let (kind, len) = (bytes[0], bytes.len());
            let text =
                format!("a datagram of type {kind} and {len} bytes from host {from} holds {found} in clear");
            return Err(Violation::new(now, "plaintext", text));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sinew_types::Identity;

    use super::*;

    #[test]
    fn a_marker_or_an_address_anywhere_is_seen() {
        let addr = Identity::from_seed([1; 32]).node_id().address();
        let check = Plaintext::new([0xab; 16], &[addr]);
        let place = |secret: &[u8; 16], at: usize| {
            let mut bytes = vec![0u8; 100];
            bytes[at..at + 16].copy_from_slice(secret);
            check.look(0, &bytes, Instant::ZERO)
        };
        for at in [0, 1, 50, 84] {
            assert!(place(&[0xab; 16], at).is_err());
            assert!(place(addr.as_bytes(), at).is_err());
        }
        assert!(place(&[0xac; 16], 9).is_ok());
        assert!(check.look(0, &[0xab; 15], Instant::ZERO).is_ok());
    }
}
