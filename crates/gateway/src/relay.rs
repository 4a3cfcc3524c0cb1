//! Bytes between two streams, both ways, until both have ended or nothing moves any more.
//!
//! An end of one direction is passed on and the other direction goes on (half-close). An idle pair
//! holds no buffer: bytes are read into one buffer of the thread, and only what the other side does
//! not take at once is kept. Two TCP sockets that move a lot are joined by a pipe through which the
//! kernel passes pages without a copy (`splice(2)`); it goes back to a shelf as soon as the
//! stream pauses, so pipes are held by busy pairs only.

mod splice;

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::dial::Stream;

/// Bytes moved at once.
const SCRATCH: usize = 64 * 1024;

/// Turns of one direction before the other tasks of the thread have theirs.
const TURNS: usize = 8;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into());
}

/// How many bytes went which way; read while the relay runs.
#[derive(Debug, Default)]
pub struct Moved {
    /// From the client to the backend.
    pub up: Count,
    /// From the backend to the client.
    pub down: Count,
}

/// Bytes of one way, and with them a sum over many streams: one that lives for a month is in it long
/// before it ends.
#[derive(Debug, Default)]
pub struct Count {
    own: AtomicU64,
    sum: Option<Arc<AtomicU64>>,
}

impl Count {
    /// None yet; those to come are added to `sum` as well.
    pub fn within(sum: &Arc<AtomicU64>) -> Self {
        Self { own: AtomicU64::new(0), sum: Some(sum.clone()) }
    }

    /// So far.
    pub fn get(&self) -> u64 {
        self.own.load(Ordering::Relaxed)
    }

    /// This many more. Once for each buffer that is read, so nobody waits for the shared line.
    pub fn add(&self, bytes: usize) {
        self.own.fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some(sum) = &self.sum {
            sum.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }
}

/// How a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Both directions were ended by their senders.
    Closed,
    /// One side broke off.
    Broken,
    /// Nothing moved for too long.
    Idle,
}

impl End {
    /// The word in logs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Broken => "broken",
            Self::Idle => "idle",
        }
    }
}

/// Moves bytes between `client` and `backend` until both ends have closed.
pub(crate) async fn run(
    client: impl AsyncRead + AsyncWrite + Unpin,
    backend: impl AsyncRead + AsyncWrite + Unpin,
    idle: Duration,
    moved: &Moved,
) -> End {
    let (mut client, mut backend) = (client, backend);
    let (mut up, mut down) = (Direction::default(), Direction::default());
    let pair = std::future::poll_fn(|cx| {
        let first = up.poll(cx, Pin::new(&mut client), Pin::new(&mut backend), &moved.up)?;
        let second = down.poll(cx, Pin::new(&mut backend), Pin::new(&mut client), &moved.down)?;
        if first.is_ready() && second.is_ready() { Poll::Ready(io::Result::Ok(())) } else { Poll::Pending }
    });
    watch(pair, idle, moved).await
}

/// As [`run`]; between two TCP sockets the kernel may move the bytes.
pub(crate) async fn tcp(
    client: tokio::net::TcpStream,
    backend: Stream,
    idle: Duration,
    moved: &Moved,
) -> End {
    match backend {
        Stream::Tcp(backend) => watch(splice::both(&client, &backend, moved), idle, moved).await,
        Stream::Other(backend) => run(client, backend, idle, moved).await,
    }
}

/// Joins two TCP connections until both directions have ended, or nothing has moved for `idle`. For
/// others who carry what the front's backends are sent.
pub async fn join(
    client: &tokio::net::TcpStream,
    backend: &tokio::net::TcpStream,
    idle: Duration,
    moved: &Moved,
) -> End {
    watch(splice::both(client, backend, moved), idle, moved).await
}

/// Ends `pair` when nothing has moved for `idle`. The counts are looked at when the time is up, so
/// that moving bytes costs no timer.
async fn watch(pair: impl Future<Output = io::Result<()>>, idle: Duration, moved: &Moved) -> End {
    let total = || moved.up.get() + moved.down.get();
    let sleep = tokio::time::sleep(idle);
    tokio::pin!(pair, sleep);
    let mut seen = total();
    loop {
        tokio::select! {
            done = &mut pair => return if done.is_ok() { End::Closed } else { End::Broken },
            () = &mut sleep => {
                let now = total();
                if now == seen {
                    return End::Idle;
                }
                seen = now;
                sleep.as_mut().reset(Instant::now() + idle);
            }
        }
    }
}

/// One way of a pair: bytes that were read and not yet taken, and whether the sender has ended.
#[derive(Default)]
struct Direction {
    kept: Vec<u8>,
    ended: bool,
    shut: bool,
}

impl Direction {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut from: Pin<&mut (impl AsyncRead + ?Sized)>,
        mut to: Pin<&mut (impl AsyncWrite + ?Sized)>,
        moved: &Count,
    ) -> io::Result<Poll<()>> {
        for _ in 0..TURNS {
            if self.shut {
                return Ok(Poll::Ready(()));
            }
            let done = self.step(cx, from.as_mut(), to.as_mut(), moved)?;
            if done.is_pending() {
                // What was written may still lie in a TLS layer.
                let _ = to.as_mut().poll_flush(cx)?;
                return Ok(Poll::Pending);
            }
        }
        cx.waker().wake_by_ref();
        Ok(Poll::Pending)
    }

    fn step(
        &mut self,
        cx: &mut Context<'_>,
        from: Pin<&mut (impl AsyncRead + ?Sized)>,
        mut to: Pin<&mut (impl AsyncWrite + ?Sized)>,
        moved: &Count,
    ) -> io::Result<Poll<()>> {
        while !self.kept.is_empty() {
            let Poll::Ready(taken) = to.as_mut().poll_write(cx, &self.kept)? else {
                return Ok(Poll::Pending);
            };
            if taken == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.kept.drain(..taken);
        }
        if self.kept.capacity() > 0 {
            self.kept = Vec::new();
        }
        if self.ended {
            let done = to.poll_shutdown(cx)?;
            self.shut = done.is_ready();
            return Ok(done);
        }
        match BUFFER.with_borrow_mut(|buffer| self.fill(cx, from, to, buffer, moved)) {
            Poll::Ready(result) => result.map(Poll::Ready),
            Poll::Pending => Ok(Poll::Pending),
        }
    }

    fn fill(
        &mut self,
        cx: &mut Context<'_>,
        from: Pin<&mut (impl AsyncRead + ?Sized)>,
        to: Pin<&mut (impl AsyncWrite + ?Sized)>,
        buffer: &mut [u8],
        moved: &Count,
    ) -> Poll<io::Result<()>> {
        let mut into = ReadBuf::new(buffer);
        ready!(from.poll_read(cx, &mut into))?;
        let bytes = into.filled();
        if bytes.is_empty() {
            self.ended = true;
            return Poll::Ready(Ok(()));
        }
        moved.add(bytes.len());
        let taken = match to.poll_write(cx, bytes)? {
            Poll::Ready(taken) => taken,
            Poll::Pending => 0,
        };
        self.kept.extend_from_slice(&bytes[taken..]);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
