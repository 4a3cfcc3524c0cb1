//! How backends are reached: somebody else's business.
//!
//! The front knows targets only as names. Whoever runs it says what they mean: the daemon will
//! dial workloads through the mesh, [`TcpDial`] takes them as addresses.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UdpSocket};

use crate::config::Target;

/// A future in a box.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Reaches backends. Called on the front's own threads, each of which runs a tokio runtime; the
/// front bounds how long it waits and drops the future then.
///
/// Where the far end lives and only has no room for one more, the error's kind is
/// [`io::ErrorKind::ResourceBusy`]: that takes no backend out.
pub trait Dial: Send + Sync + 'static {
    /// A stream to `target`.
    fn connect<'a>(&'a self, target: &'a Target) -> Boxed<'a, io::Result<Stream>>;

    /// Datagrams to and from `target`, for one client's flow.
    fn datagrams<'a>(&'a self, target: &'a Target) -> Boxed<'a, io::Result<Box<dyn Datagrams>>>;
}

/// Why nothing came about of dialling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The far end lives and has no room.
    Full,
    /// Anything else.
    Unreachable,
}

impl Failure {
    pub(crate) fn of(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::ResourceBusy { Self::Full } else { Self::Unreachable }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::of(&error)
    }
}

impl From<hyper::Error> for Failure {
    fn from(_: hyper::Error) -> Self {
        Self::Unreachable
    }
}

impl From<tokio::time::error::Elapsed> for Failure {
    fn from(_: tokio::time::error::Elapsed) -> Self {
        Self::Unreachable
    }
}

/// Datagrams with one far end.
pub trait Datagrams: Send + Sync + 'static {
    /// Sends one.
    fn send<'a>(&'a self, datagram: &'a [u8]) -> Boxed<'a, io::Result<()>>;

    /// Receives one; its length.
    fn receive<'a>(&'a self, into: &'a mut [u8]) -> Boxed<'a, io::Result<usize>>;
}

/// Both halves of a stream.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Io for T {}

/// A stream to a backend. A TCP socket is kept as one, so that the kernel can move its bytes.
#[allow(missing_debug_implementations)]
pub enum Stream {
    /// A TCP socket.
    Tcp(TcpStream),
    /// Anything else.
    Other(Box<dyn Io>),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, into),
            Self::Other(stream) => Pin::new(stream).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Other(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Self::Other(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Other(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Other(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Other(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Takes targets as `address:port`.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpDial;

fn address(target: &Target) -> io::Result<SocketAddr> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, format!("`{target}` is no address and port"));
    target.0.parse().map_err(|_| wrong())
}

impl Dial for TcpDial {
    fn connect<'a>(&'a self, target: &'a Target) -> Boxed<'a, io::Result<Stream>> {
        Box::pin(async move {
            let stream = TcpStream::connect(address(target)?).await?;
            stream.set_nodelay(true)?;
            Ok(Stream::Tcp(stream))
        })
    }

    fn datagrams<'a>(&'a self, target: &'a Target) -> Boxed<'a, io::Result<Box<dyn Datagrams>>> {
        Box::pin(async move {
            let to = address(target)?;
            let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
            let socket = UdpSocket::bind(any).await?;
            socket.connect(to).await?;
            Ok(Box::new(socket) as Box<dyn Datagrams>)
        })
    }
}

impl Datagrams for UdpSocket {
    fn send<'a>(&'a self, datagram: &'a [u8]) -> Boxed<'a, io::Result<()>> {
        Box::pin(async move { UdpSocket::send(self, datagram).await.map(|_| ()) })
    }

    fn receive<'a>(&'a self, into: &'a mut [u8]) -> Boxed<'a, io::Result<usize>> {
        Box::pin(self.recv(into))
    }
}
