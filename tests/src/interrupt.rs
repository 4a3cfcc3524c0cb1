//! Ctrl-C and SIGTERM clean up before they end a command that makes namespaces.
//!
//! The signals are blocked and awaited by a thread, so that no handler runs in the middle of
//! something else.

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};

/// What shells report of a program that Ctrl-C ended: 128 and the number of SIGINT.
const EXIT_CODE: i32 = 130;

/// From now on both signals run `clean` and end the process. To be called before any thread is
/// made: later ones inherit what is blocked.
///
/// # Errors
/// Where signals cannot be blocked.
pub fn clean_up(clean: impl FnOnce() + Send + 'static) -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block().context("cannot block signals")?;
    std::thread::spawn(move || {
        if signals.wait().is_ok() {
            eprintln!("\ninterrupted, cleaning up");
            clean();
            std::process::exit(EXIT_CODE);
        }
    });
    Ok(())
}
