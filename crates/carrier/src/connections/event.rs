//! What happens on connections, as the loop that owns them is told.

use std::io;

use sinew_types::PathAddr;
use thiserror::Error;

use super::batch::RecordBatch;

/// What happened. A path's `local` is the number of the connection.
#[derive(Debug)]
pub enum ConnectionEvent {
    /// Somebody connected to one of our listeners.
    Accepted {
        /// The connection.
        path: PathAddr,
    },
    /// A connection of ours stands.
    Connected {
        /// The connection.
        path: PathAddr,
    },
    /// Records arrived. Give the batch back by [`super::Connections::recycle`] when done.
    Records(RecordBatch),
    /// There is room again after [`crate::SendError::WouldBlock`].
    Writable {
        /// The connection.
        path: PathAddr,
    },
    /// The largest record that the connection carries is another one now; only of QUIC.
    Resized {
        /// The connection.
        path: PathAddr,
        /// Bytes.
        payload: usize,
    },
    /// A connection is gone, also one that never stood. Not sent after [`super::Connections::close`].
    Closed {
        /// The connection.
        path: PathAddr,
        /// Why.
        reason: CloseReason,
    },
}

/// Why a connection ended.
#[derive(Debug, Error)]
pub enum CloseReason {
    /// The far end closed it.
    #[error("closed by the far end")]
    Ended,
    /// The system reported an error, while connecting or later.
    #[error("{0}")]
    Failed(io::Error),
    /// Nobody answered in time.
    #[error("no answer")]
    ConnectTimeout,
    /// The far end did not prove who it is in time.
    #[error("the far end did not prove who it is in time")]
    Unproven,
    /// A length of zero, or above what this far end may send.
    #[error("not a stream of records")]
    BadFraming,
}
