//! Bodies on their way through: counted, bounded, and ended when they stand still.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use tokio::time::Sleep;

use super::record::Record;
use super::rest::ClientBody;
use crate::backend::{Backend, Busy};

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the body is larger than allowed")]
    TooLarge,
    #[error("no byte of the body for too long")]
    Idle,
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

/// What is sent, to either side.
#[derive(Default)]
pub(crate) enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// A text of ours; its record, if it is a response.
    Text(Option<Bytes>, Option<Box<Record>>),
    /// A client's body on its way to a backend.
    Request(Box<Upload>),
    /// A backend's on its way to a client.
    Response(Box<Download>),
}

/// How far a request's body has come.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) bytes: AtomicU64,
    pub(crate) ended: AtomicBool,
    pub(crate) too_large: AtomicBool,
    pub(crate) stalled: AtomicBool,
}

/// A client's body.
pub(crate) struct Upload {
    pub(crate) inner: ClientBody,
    pub(crate) progress: Arc<Progress>,
    pub(crate) max: u64,
    pub(crate) stall: Stall,
}

/// A backend's body, with what ends when it does.
pub(crate) struct Download {
    pub(crate) inner: Incoming,
    pub(crate) stall: Stall,
    pub(crate) record: Box<Record>,
    pub(crate) busy: Busy,
    /// The connection, to be used again.
    pub(crate) sender: Option<(http1::SendRequest<Body>, usize)>,
    pub(crate) ended: bool,
}

/// Tells when a body has stood still for too long. Costs a timer only once it stands still.
pub(crate) struct Stall {
    limit: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl Stall {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, sleep: None, waiting: false }
    }

    fn moved(&mut self) {
        self.waiting = false;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let deadline = || tokio::time::Instant::now() + self.limit;
        if !self.waiting {
            self.waiting = true;
            match &mut self.sleep {
                Some(sleep) => sleep.as_mut().reset(deadline()),
                None => self.sleep = Some(Box::pin(tokio::time::sleep(self.limit))),
            }
        }
        self.sleep.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready())
    }
}

impl Body {
    pub(crate) fn text(text: impl Into<Bytes>) -> Self {
        Self::Text(Some(text.into()), None)
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Text(text, record) => {
                let text = text.take().filter(|text| !text.is_empty());
                if let (Some(text), Some(record)) = (&text, record) {
                    record.sent(text.len());
                }
                Poll::Ready(text.map(|text| Ok(Frame::data(text))))
            }
            Self::Request(upload) => upload.poll(cx),
            Self::Response(download) => download.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Text(text, _) => text.as_ref().is_none_or(Bytes::is_empty),
            Self::Request(upload) => upload.inner.is_end_stream(),
            Self::Response(download) => download.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Text(text, _) => SizeHint::with_exact(text.as_ref().map_or(0, Bytes::len) as u64),
            Self::Request(upload) => upload.inner.size_hint(),
            Self::Response(download) => download.inner.size_hint(),
        }
    }
}

impl Upload {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.inner.poll_frame(cx) {
            Poll::Pending if self.stall.poll(cx) => {
                self.progress.stalled.store(true, Ordering::Relaxed);
                Poll::Ready(Some(Err(BodyError::Idle)))
            }
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                self.progress.ended.store(true, Ordering::Relaxed);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(Some(Ok(frame))) => {
                self.stall.moved();
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                let total = self.progress.bytes.fetch_add(length, Ordering::Relaxed) + length;
                if total > self.max {
                    self.progress.too_large.store(true, Ordering::Relaxed);
                    return Poll::Ready(Some(Err(BodyError::TooLarge)));
                }
                if self.inner.is_end_stream() {
                    self.progress.ended.store(true, Ordering::Relaxed);
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }
}

impl Download {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Pending if self.stall.poll(cx) => {
                self.record.fail("the backend stopped in the middle of its response");
                Poll::Ready(Some(Err(BodyError::Idle)))
            }
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                self.ended = true;
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                self.record.fail("the backend broke off in the middle of its response");
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(Some(Ok(frame))) => {
                self.stall.moved();
                self.record.sent(frame.data_ref().map_or(0, Bytes::len));
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        if !self.ended && !self.inner.is_end_stream() {
            // The record says so, and the connection, with the rest in it, is of no use any more.
            self.record.abort();
            return;
        }
        if let Some((sender, thread)) = self.sender.take() {
            give_back(&self.busy.0, sender, thread);
        }
    }
}

/// Puts a connection back once it is ready, which it is as a rule.
pub(crate) fn give_back(backend: &Arc<Backend>, mut sender: http1::SendRequest<Body>, thread: usize) {
    if sender.is_closed() {
        return;
    }
    if sender.is_ready() {
        backend.pools[thread].give_h1(sender, Instant::now());
        return;
    }
    let backend = backend.clone();
    tokio::spawn(async move {
        // The request's body may still be on its way to a backend that answered early.
        let ready = tokio::time::timeout(Duration::from_secs(1), sender.ready()).await;
        if matches!(ready, Ok(Ok(()))) {
            backend.pools[thread].give_h1(sender, Instant::now());
        }
    });
}
