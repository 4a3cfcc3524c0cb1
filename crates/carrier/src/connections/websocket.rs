//! A WebSocket over TLS, made to look like a TCP stream of records.
//!
//! Binary messages carry the stream; where one ends means nothing, so that records need not be cut
//! or gathered anew. Messages are small, because a receiver holds a whole one before it can look
//! at it: a stranger's claim about a length never makes us hold more than [`MESSAGE_MAX`].

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::{Sink as _, Stream as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

/// Bytes of one message, ours or theirs.
const MESSAGE_MAX: usize = 16 * 1024;
/// Bytes gathered before they are handed to TLS; what is written is flushed at once.
const WRITE_BUFFER: usize = 64 * 1024;

/// Settings of both ends.
pub(crate) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(MESSAGE_MAX)
        .write_buffer_size(WRITE_BUFFER)
        .max_message_size(Some(MESSAGE_MAX))
        .max_frame_size(Some(MESSAGE_MAX))
}

/// One end of a WebSocket that stands.
pub(crate) struct WebSocket {
    inner: WebSocketStream<TlsStream<TcpStream>>,
    /// The rest of the message that is being read.
    incoming: Bytes,
    /// Wakes whoever drives the connection; reads and writes outside of a poll use it.
    waker: Waker,
    ended: bool,
}

impl WebSocket {
    pub(crate) fn new(inner: WebSocketStream<TlsStream<TcpStream>>) -> Self {
        Self { inner, incoming: Bytes::new(), waker: Waker::noop().clone(), ended: false }
    }

    pub(crate) fn set_waker(&mut self, waker: &Waker) {
        self.waker.clone_from(waker);
    }

    pub(crate) fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.incoming.is_empty() && !self.ended {
            match ready!(Pin::new(&mut self.inner).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.incoming = bytes,
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Text(_))) => return Poll::Ready(Err(not_ours())),
                Some(Ok(Message::Close(_))) | None => self.ended = true,
                Some(Err(error)) => return Poll::Ready(Err(plain(error))),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// As many bytes as are there; 0 when the far end has closed.
    pub(crate) fn try_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let waker = self.waker.clone();
        let mut cx = Context::from_waker(&waker);
        let mut read = 0;
        while read < buf.len() {
            match self.poll_read_ready(&mut cx) {
                Poll::Pending if read == 0 => return Err(io::ErrorKind::WouldBlock.into()),
                // What came before an error is handed on first; after it the stream has ended.
                Poll::Ready(Err(error)) if read == 0 => return Err(error),
                Poll::Pending | Poll::Ready(Err(_)) => break,
                Poll::Ready(Ok(())) if self.incoming.is_empty() => break,
                Poll::Ready(Ok(())) => {}
            }
            let len = self.incoming.len().min(buf.len() - read);
            self.incoming.copy_to_slice(&mut buf[read..read + len]);
            read += len;
        }
        Ok(read)
    }

    pub(crate) fn poll_write_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_ready(cx).map_err(plain)
    }

    /// Takes whole messages while TLS takes them; the number of bytes taken.
    pub(crate) fn try_write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let waker = self.waker.clone();
        let mut cx = Context::from_waker(&waker);
        let mut rest = parts.iter().map(|part| &part[..]).filter(|part| !part.is_empty());
        let (mut written, mut part) = (0, rest.next());
        while part.is_some() {
            match self.poll_write_ready(&mut cx) {
                Poll::Pending if written == 0 => return Err(io::ErrorKind::WouldBlock.into()),
                Poll::Pending => break,
                Poll::Ready(result) => result?,
            }
            let mut message = BytesMut::with_capacity(MESSAGE_MAX);
            while let Some(bytes) = part
                && message.len() < MESSAGE_MAX
            {
                let (now, later) = bytes.split_at(bytes.len().min(MESSAGE_MAX - message.len()));
                message.extend_from_slice(now);
                part = if later.is_empty() { rest.next() } else { Some(later) };
            }
            written += message.len();
            Pin::new(&mut self.inner).start_send(Message::Binary(message.freeze())).map_err(plain)?;
        }
        self.flush(&mut cx)?;
        Ok(written)
    }

    /// Hands on what waits, as far as TLS takes it; whoever drives is woken when it takes more.
    pub(crate) fn flush(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match Pin::new(&mut self.inner).poll_flush(cx) {
            Poll::Ready(Err(error)) => Err(plain(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }
}

fn not_ours() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a WebSocket that speaks text is not a node's")
}

/// The system's own error where there is one.
pub(crate) fn plain(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::UnexpectedEof.into(),
        other => io::Error::other(other.to_string()),
    }
}
