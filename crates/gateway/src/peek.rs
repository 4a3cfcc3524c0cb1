//! Reading a connection's first bytes, and giving them back.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::hello::{self, Hello, Reading, Refusal};

/// How much is asked of the socket at once; most hellos come in one or two segments.
const STEP: usize = 2048;

/// What became of reading a hello.
#[derive(Debug)]
pub(crate) enum Peeked {
    /// It is here; the bytes are to be replayed.
    Hello(Hello, Bytes),
    /// What came is none; the bytes, to tell what it is instead.
    Refused(Refusal, Bytes),
    /// The client went away before it had said anything (a port scan, a health check) or in the
    /// middle.
    Gone,
}

/// Reads until the hello is whole or refused; `first` was read before. The caller bounds the time.
pub(crate) async fn hello(stream: &mut (impl AsyncRead + Unpin), first: Bytes) -> io::Result<Peeked> {
    let mut bytes = Vec::with_capacity(STEP.max(first.len()));
    bytes.extend_from_slice(&first);
    loop {
        match hello::read(&bytes) {
            Ok(Reading::Hello(hello)) => return Ok(Peeked::Hello(hello, bytes.into())),
            Err(refusal) => return Ok(Peeked::Refused(refusal, bytes.into())),
            Ok(Reading::More) => {}
        }
        // `hello::read` refuses what is longer; this holds even if it did not.
        if bytes.len() >= hello::BYTES_MAX + STEP {
            return Ok(Peeked::Refused(Refusal::TooLong, bytes.into()));
        }
        bytes.reserve(STEP);
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(Peeked::Gone);
        }
    }
}

/// A stream that first yields bytes that were read from it before.
#[derive(Debug)]
pub(crate) struct Rewound<S> {
    first: Bytes,
    stream: S,
}

impl<S> Rewound<S> {
    pub(crate) fn new(first: Bytes, stream: S) -> Self {
        Self { first, stream }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, into);
        }
        let length = self.first.len().min(into.remaining());
        into.put_slice(&self.first[..length]);
        self.first.advance(length);
        if self.first.is_empty() {
            // Lets go of the buffer.
            self.first = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn a_hello_in_single_bytes_is_read_and_replayed_whole() {
        let sent = hello::tests::of_rustls("a.example", &[b"h2"]);
        let expected = [&sent[..], b"after"].concat();
        run(async move {
            let (mut near, mut far) = tokio::io::duplex(1);
            let writer = tokio::spawn(async move {
                far.write_all(&sent).await.unwrap();
                far.write_all(b"after").await.unwrap();
            });
            let Ok(Peeked::Hello(hello, bytes)) = super::hello(&mut near, Bytes::new()).await else {
                panic!("no hello")
            };
            assert_eq!(hello.host.as_deref(), Some("a.example"));
            let mut all = Vec::new();
            Rewound::new(bytes, near).read_to_end(&mut all).await.unwrap();
            assert_eq!(all, expected);
            writer.await.unwrap();
        });
    }

    #[test]
    fn a_client_that_leaves_in_the_middle_is_gone() {
        let sent = hello::tests::of_rustls("a.example", &[]);
        let peeked = run(async move { super::hello(&mut &sent[..900], Bytes::new()).await.unwrap() });
        assert!(matches!(peeked, Peeked::Gone), "{peeked:?}");
    }

    #[test]
    fn an_endless_hello_is_refused_by_its_first_bytes() {
        let endless = [22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff];
        let peeked = run(async move { super::hello(&mut &endless[..], Bytes::new()).await.unwrap() });
        assert!(matches!(peeked, Peeked::Refused(Refusal::TooLong, _)), "{peeked:?}");
    }
}
