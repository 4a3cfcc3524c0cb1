//! What the caller can do wrong, or has to wait for.

use thiserror::Error;

/// Why a control message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SendError {
    /// No session with the peer, or for routing messages no open adjacency.
    #[error("there is no session with the peer to carry the message")]
    NoSession,
    /// The stream's buffer is full; [`Sessions::writable`](crate::Sessions::writable) tells when it is not.
    #[error("the stream's buffer is full")]
    Full,
    /// Longer than 16 KiB, or empty.
    #[error("a control message has 1 to 16384 bytes")]
    TooBig,
}
