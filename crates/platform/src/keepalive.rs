//! TCP connections whose far end may be cut off without a word, as over a mesh that loses a node.

use std::io;
use std::os::fd::AsFd;

use nix::sys::socket::{setsockopt, sockopt};

/// Quiet time after which the far end is asked, and the pause between questions, seconds.
const ASK_AFTER: u32 = 60;
const ASK_EVERY: u32 = 15;
/// For how long bytes may go unacknowledged, and questions unanswered, milliseconds.
const PATIENCE_MS: u32 = 120_000;

/// Has the kernel end the connection when the far end has not answered for about two minutes.
///
/// # Errors
/// What the kernel says; the connection is as before then.
pub fn set(stream: &impl AsFd) -> io::Result<()> {
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &ASK_AFTER)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &ASK_EVERY)?;
    setsockopt(stream, sockopt::TcpUserTimeout, &PATIENCE_MS)?;
    Ok(())
}
