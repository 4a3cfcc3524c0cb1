//! What carries the bytes: a TCP connection, or a socket pair inside one process.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::net::{TcpStream, UnixStream};

/// Unsent bytes the kernel may hold: more would be delay, not speed.
const NOTSENT_LOWAT: u32 = 256 * 1024;

pub(crate) enum Stream {
    Tcp(TcpStream),
    Pair(UnixStream),
}

impl Stream {
    /// Best effort in both options: without them the stream is slower, not wrong.
    pub(crate) fn tcp(stream: TcpStream) -> Self {
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_tcp_notsent_lowat(NOTSENT_LOWAT);
        Self::Tcp(stream)
    }

    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Pair(stream) => stream.poll_read_ready(cx),
        }
    }

    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_write_ready(cx),
            Self::Pair(stream) => stream.poll_write_ready(cx),
        }
    }

    pub(crate) fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read(buf),
            Self::Pair(stream) => stream.try_read(buf),
        }
    }

    pub(crate) fn try_write_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write_vectored(parts),
            Self::Pair(stream) => stream.try_write_vectored(parts),
        }
    }
}
