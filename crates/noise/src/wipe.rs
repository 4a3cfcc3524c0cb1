//! Erasing what libraries leave behind.
//!
//! snow keeps the chaining key, from which both split keys follow, and the mesh secret in plain
//! arrays, and copies them through its stack frames. Neither is erased when it is done. A finished
//! handshake would thus leave the keys of its session readable in free memory, and forward secrecy
//! would end where a core dump begins. So a handshake state lives in a box that is overwritten
//! before it is freed, and the stack below each step is overwritten after it.

use core::hint::black_box;
use core::ops::{Deref, DerefMut};

use snow::{Builder, HandshakeState};
use zeroize::zeroize_stack;

use crate::resolver::Resolver;

/// A pattern without static keys, so that a blank state costs two hashes and no curve operation.
const BLANK: &str = "Noise_NN_25519_ChaChaPoly_SHA256";

/// More than any step of a handshake uses of the stack: a whole one runs in a thread of 16 KiB.
const STACK_BYTES: usize = 32 * 1024;

/// A handshake state that is overwritten on drop.
pub(crate) struct Wiped(Box<HandshakeState>);

impl Wiped {
    pub(crate) fn new(state: HandshakeState) -> Self {
        Self(Box::new(state))
    }

    /// Overwrites psk, chaining key and hash in place.
    fn wipe(&mut self) {
        let zeroed = self.0.set_psk(2, &[0; 32]);
        debug_assert!(zeroed.is_ok(), "slot 2 and 32 bytes are always accepted");
        if let Some(blank) = blank() {
            *self.0 = blank;
        }
        // The box is freed next: without this the compiler may drop the writes as dead.
        black_box(&mut self.0);
    }
}

fn blank() -> Option<HandshakeState> {
    Builder::with_resolver(BLANK.parse().ok()?, Box::new(Resolver::new(&[0; 32]))).build_initiator().ok()
}

impl Drop for Wiped {
    fn drop(&mut self) {
        self.wipe();
    }
}

impl Deref for Wiped {
    type Target = HandshakeState;

    fn deref(&self) -> &HandshakeState {
        &self.0
    }
}

impl DerefMut for Wiped {
    fn deref_mut(&mut self) -> &mut HandshakeState {
        &mut self.0
    }
}

/// Runs `step` and then overwrites the stack it used.
pub(crate) fn scrubbed<T>(step: impl FnOnce() -> T) -> T {
    let result = apart(step);
    zeroize_stack::<STACK_BYTES>();
    result
}

/// Keeps the step's frames below the caller's, where the scrubbing reaches them.
#[inline(never)]
fn apart<T>(step: impl FnOnce() -> T) -> T {
    step()
}

#[cfg(test)]
mod tests;
