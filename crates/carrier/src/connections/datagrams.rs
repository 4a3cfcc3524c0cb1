//! A QUIC connection whose datagrams are records.
//!
//! QUIC paces, finds the path's packet size and hides the records in what looks like HTTP/3. It does
//! not repeat a lost record, and it must not hold many: what the path does not take waits in at
//! most [`SEND_BUFFER`] bytes, then sending is refused and the caller counts it, as with streams.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use quinn::{Connection, ConnectionError, SendDatagramError};

use super::batch::{Pool, READ_MAX};
use super::connection::Step;
use super::event::CloseReason;
use crate::SendError;

/// Bytes that wait for the path.
pub(crate) const SEND_BUFFER: usize = 256 * 1024;
/// Bytes that wait for us.
pub(crate) const RECEIVE_BUFFER: usize = 1024 * 1024;
/// Records handed on in one batch.
const BATCH: usize = 64;
/// The longest record: QUIC does not send longer packets.
const RECORD_MAX: usize = u16::MAX as usize;

type Incoming = Pin<Box<dyn Stream<Item = Result<Bytes, ConnectionError>> + Send>>;

/// One QUIC connection that stands.
pub(crate) struct Datagrams {
    connection: Connection,
    incoming: Incoming,
    /// What the owner has been told.
    payload: usize,
    starved: bool,
}

impl Datagrams {
    pub(crate) fn new(connection: Connection) -> Self {
        let incoming = futures_util::stream::unfold(connection.clone(), |connection| async move {
            Some((connection.read_datagram().await, connection))
        });
        Self { connection, incoming: Box::pin(incoming), payload: 0, starved: false }
    }

    pub(crate) fn room(&self) -> usize {
        self.connection.datagram_send_buffer_space()
    }

    /// The largest record that passes, as far as QUIC knows by now.
    pub(crate) fn payload(&self) -> usize {
        self.connection.max_datagram_size().unwrap_or(0)
    }

    /// The same, once after each change.
    pub(crate) fn take_resized(&mut self) -> Option<usize> {
        let payload = self.payload();
        (std::mem::replace(&mut self.payload, payload) != payload).then_some(payload)
    }

    /// True once after sending was refused and half of the buffer is free again.
    pub(crate) fn take_relief(&mut self) -> bool {
        let relief = self.starved && self.room() >= SEND_BUFFER / 2;
        self.starved &= !relief;
        relief
    }

    /// The outer error means that the connection is gone.
    pub(crate) fn send(&mut self, bytes: &[u8], segment: usize) -> io::Result<Result<(), SendError>> {
        let (mut sent, mut too_big) = (0, false);
        for record in bytes.chunks(segment) {
            // QUIC would throw out the oldest record to make room for this one.
            if self.room() < record.len() {
                self.starved = true;
                return Ok(Err(SendError::WouldBlock { sent }));
            }
            match self.connection.send_datagram(Bytes::copy_from_slice(record)) {
                Ok(()) => sent += record.len(),
                Err(SendDatagramError::TooLarge) => too_big = true,
                Err(error) => return Err(io::Error::other(error.to_string())),
            }
        }
        Ok(if too_big { Err(SendError::TooBig { sent }) } else { Ok(()) })
    }

    pub(crate) fn drive(&mut self, cx: &mut Context<'_>, pool: &mut Pool) -> Step {
        let (mut bytes, mut ranges) = pool.take();
        let mut end = 0;
        let failed = loop {
            if ranges.len() >= BATCH || READ_MAX - end < RECORD_MAX {
                break None;
            }
            match self.incoming.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(record))) if record.is_empty() || record.len() > RECORD_MAX => {}
                Poll::Ready(Some(Ok(record))) => {
                    bytes[end..end + record.len()].copy_from_slice(&record);
                    ranges.push(end..end + record.len());
                    end += record.len();
                }
                Poll::Ready(Some(Err(error))) => break Some(reason(error)),
                Poll::Ready(None) => break Some(CloseReason::Ended),
                Poll::Pending => break None,
            }
        };
        // What came before the end is handed on first; the end comes again.
        if !ranges.is_empty() {
            return Step::Records { bytes, ranges };
        }
        pool.put_parts(bytes, ranges);
        failed.map_or(Step::Idle, Step::Closed)
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        self.connection.close(0u32.into(), b"");
    }
}

/// Why QUIC gave up, in the words of the other carriers.
pub(crate) fn reason(error: ConnectionError) -> CloseReason {
    match error {
        ConnectionError::TimedOut => CloseReason::Failed(io::ErrorKind::TimedOut.into()),
        ConnectionError::ApplicationClosed(_) | ConnectionError::ConnectionClosed(_) => CloseReason::Ended,
        other => CloseReason::Failed(io::Error::other(other.to_string())),
    }
}
