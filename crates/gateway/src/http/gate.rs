//! The stream under an HTTP connection: nothing reaches the library that was not looked at, and
//! nothing waits for ever.
//!
//! For HTTP/1 each head is held back until it is whole and [`Framing`] has passed it. One that is
//! refused is exchanged for a request that says why ([`REFUSED`]), so that the refusal is answered,
//! logged and counted on the same way as every other response, after those before it.
//!
//! Time: a head must come within its time from its first byte, the first one from the connection's
//! start; between requests a connection may idle; a client that takes nothing of a response is given
//! up. One timer does all of it: it is set again only when it fires, so a busy connection pays
//! nothing.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::framing::{Framing, HeadLimits, Violation};

/// Method of the request that stands for one that was refused. Whoever sends it himself is refused as
/// well.
pub(crate) const REFUSED: &str = "SINEW-REFUSED";

/// What a connection's stream and its requests know of each other.
#[derive(Debug, Default)]
pub(crate) struct Link {
    /// Requests whose response is not yet done.
    pub(crate) under_way: AtomicU32,
    /// Requests so far.
    pub(crate) requests: AtomicU64,
    /// No HTTP any more: the connection was upgraded.
    pub(crate) raw: AtomicBool,
}

/// Time-outs of a client's connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) header: Duration,
    pub(crate) idle: Duration,
    /// Without the client taking a byte.
    pub(crate) write: Duration,
}

/// The stream.
pub(crate) struct Gate<S> {
    stream: S,
    link: Arc<Link>,
    patience: Patience,
    /// None for HTTP/2, which frames itself.
    framing: Option<Framing>,
    /// The front of a head that is not whole yet.
    held: Vec<u8>,
    /// Passed, and not yet taken by the library.
    out: Vec<u8>,
    refused: bool,
    sleep: Option<Pin<Box<Sleep>>>,
    /// Since when the client has been asked for what it has not sent.
    reading_since: Instant,
    /// A request was under way when it was last looked at.
    busy: bool,
    writing_since: Option<Instant>,
}

impl<S> Gate<S> {
    pub(crate) fn new(stream: S, link: Arc<Link>, patience: Patience, http1: Option<HeadLimits>) -> Self {
        Self {
            stream,
            link,
            patience,
            framing: http1.map(Framing::new),
            held: Vec::new(),
            out: Vec::new(),
            refused: false,
            sleep: None,
            reading_since: Instant::now(),
            busy: false,
            writing_since: None,
        }
    }

    /// When the client has had its time, and nothing if it is not its turn.
    fn deadline(&mut self) -> Option<Instant> {
        if let Some(since) = self.writing_since {
            return Some(since + self.patience.write);
        }
        let in_body = self.framing.as_ref()?.in_body();
        let busy = self.link.under_way.load(Ordering::Relaxed) > 0;
        if std::mem::replace(&mut self.busy, busy) && !busy {
            // The client's turn begins with the end of a response, however long that took.
            self.reading_since = Instant::now();
        }
        if self.refused || busy || in_body {
            // Bodies are timed where they are read.
            return None;
        }
        let first = self.link.requests.load(Ordering::Relaxed) == 0;
        let head = first || !self.held.is_empty();
        Some(self.reading_since + if head { self.patience.header } else { self.patience.idle })
    }

    /// Whether the client's time is up; wakes the task when it will be.
    fn late(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(deadline) = self.deadline() else { return false };
        loop {
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            // A timer for an earlier time is left alone: it fires and is set anew.
            if sleep.deadline() > deadline {
                sleep.as_mut().reset(deadline);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return false;
            }
            if Instant::now() >= deadline {
                return true;
            }
            sleep.as_mut().reset(deadline);
        }
    }

    /// Puts a request that says why in the place of what is refused.
    fn refuse(&mut self, violation: Violation) {
        self.refused = true;
        self.held = Vec::new();
        let number = Violation::ALL.iter().position(|other| *other == violation).unwrap_or(0);
        self.out =
            format!("{REFUSED} /{number} HTTP/1.1\r\nhost: -\r\nconnection: close\r\n\r\n").into_bytes();
    }

    fn hand_out(&mut self, into: &mut ReadBuf<'_>) {
        let length = self.out.len().min(into.remaining());
        into.put_slice(&self.out[..length]);
        if length == self.out.len() {
            self.out = Vec::new();
        } else {
            self.out.drain(..length);
        }
    }

    /// Goes over what was read into `into` after its first `mark` bytes.
    fn inspect(&mut self, into: &mut ReadBuf<'_>, mark: usize) -> io::Result<()> {
        let Some(framing) = &mut self.framing else { return Ok(()) };
        let scan = if self.held.is_empty() {
            let new = &into.filled()[mark..];
            let scan = framing.scan(new);
            if scan.violation.is_none() {
                self.held.extend_from_slice(&new[scan.passed..]);
            }
            into.set_filled(mark + scan.passed);
            scan
        } else {
            self.held.extend_from_slice(&into.filled()[mark..]);
            into.set_filled(mark);
            let scan = framing.scan(&self.held);
            let rest = self.held.split_off(scan.passed);
            self.out = std::mem::replace(&mut self.held, rest);
            scan
        };
        if scan.passed > 0 {
            self.reading_since = Instant::now();
        }
        match scan.violation {
            None => Ok(()),
            // In the middle of a body there is no place for another request.
            Some(_) if framing.in_body() => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "malformed chunks"))
            }
            Some(violation) => {
                let before = std::mem::take(&mut self.out);
                self.refuse(violation);
                self.out = [before, std::mem::take(&mut self.out)].concat();
                Ok(())
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gate<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.framing.is_none() || this.link.raw.load(Ordering::Relaxed) {
            if !this.held.is_empty() {
                // The first bytes of the new protocol came close behind the request.
                this.out.append(&mut this.held);
            }
            if this.out.is_empty() {
                return Pin::new(&mut this.stream).poll_read(cx, into);
            }
        }
        loop {
            if !this.out.is_empty() {
                this.hand_out(into);
                return Poll::Ready(Ok(()));
            }
            if this.refused {
                // Whatever else it has to say is not for us.
                return Poll::Ready(Ok(()));
            }
            let mark = into.filled().len();
            let began = !this.held.is_empty();
            match Pin::new(&mut this.stream).poll_read(cx, into) {
                Poll::Pending => {}
                Poll::Ready(result) => {
                    result?;
                    if into.filled().len() == mark {
                        return Poll::Ready(Ok(()));
                    }
                    this.inspect(into, mark)?;
                    if !began && !this.held.is_empty() && this.link.requests.load(Ordering::Relaxed) > 0 {
                        // A head has begun; for the first one the clock has been running.
                        this.reading_since = Instant::now();
                    }
                    if into.filled().len() > mark {
                        return Poll::Ready(Ok(()));
                    }
                    continue;
                }
            }
            if !this.late(cx) {
                return Poll::Pending;
            }
            if this.held.is_empty() {
                // Nothing is owed to a client that asks for nothing.
                return Poll::Ready(Ok(()));
            }
            this.refuse(Violation::Timeout);
        }
    }
}

impl<S: AsyncWrite + Unpin> Gate<S> {
    /// Notes whether the client takes what it is given.
    fn written<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.writing_since = None;
            return polled;
        }
        if self.link.raw.load(Ordering::Relaxed) {
            return polled;
        }
        self.writing_since.get_or_insert_with(Instant::now);
        if self.late(cx) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")));
        }
        Poll::Pending
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gate<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.written(cx, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(cx, parts);
        this.written(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_flush(cx);
        this.written(cx, polled)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_shutdown(cx);
        ready!(this.written(cx, polled))?;
        Poll::Ready(Ok(()))
    }
}
