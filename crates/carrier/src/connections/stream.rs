//! What carries the bytes: a TCP connection, a WebSocket, or a socket pair inside one process.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, Waker};

use socket2::SockRef;
use tokio::net::{TcpStream, UnixStream};

use super::websocket::WebSocket;

/// Largest TCP segment, bytes: what fits the smallest underlay there is in practice (MTU 1280). Where ICMP
/// is filtered the kernel would go on sending larger ones into a path that has become narrower.
pub(crate) const SEGMENT: u32 = 1220;
/// Unsent bytes the kernel may hold: more would be delay, not speed.
const NOTSENT_LOWAT: u32 = 256 * 1024;

pub(crate) enum Stream {
    Tcp(TcpStream),
    Pair(UnixStream),
    WebSocket(Box<WebSocket>),
}

impl Stream {
    pub(crate) fn tcp(stream: TcpStream) -> Self {
        tune(&stream);
        Self::Tcp(stream)
    }

    /// Whom to wake for what happens outside of a poll.
    pub(crate) fn set_waker(&mut self, waker: &Waker) {
        if let Self::WebSocket(socket) = self {
            socket.set_waker(waker);
        }
    }

    pub(crate) fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Pair(stream) => stream.poll_read_ready(cx),
            Self::WebSocket(socket) => socket.poll_read_ready(cx),
        }
    }

    pub(crate) fn poll_write_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_write_ready(cx),
            Self::Pair(stream) => stream.poll_write_ready(cx),
            Self::WebSocket(socket) => socket.poll_write_ready(cx),
        }
    }

    pub(crate) fn try_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read(buf),
            Self::Pair(stream) => stream.try_read(buf),
            Self::WebSocket(socket) => socket.try_read(buf),
        }
    }

    pub(crate) fn try_write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write_vectored(parts),
            Self::Pair(stream) => stream.try_write_vectored(parts),
            Self::WebSocket(socket) => socket.try_write_vectored(parts),
        }
    }

    /// Hands on what the stream itself holds back; only a WebSocket does.
    pub(crate) fn flush(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self {
            Self::Tcp(_) | Self::Pair(_) => Ok(()),
            Self::WebSocket(socket) => socket.flush(cx),
        }
    }
}

/// Best effort in both options: without them the stream is slower, not wrong.
pub(crate) fn tune(stream: &TcpStream) {
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(stream).set_tcp_notsent_lowat(NOTSENT_LOWAT);
}
