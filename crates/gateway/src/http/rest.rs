//! A client's body, of which nobody may want the rest.
//!
//! A request can be answered before its body has come: a wrong password, no backend. On HTTP/2 whoever drops such a
//! body resets the stream (RFC 9113, 8.1), and clients that are still sending report the reset in place of the answer
//! (curl 7.88 does). So the rest is read and thrown away for a while; what comes later is the client's loss.
//! On HTTP/1.1 hyper does the same.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use hyper::{Request, Version};
use tokio::runtime::Handle;

/// How long a rest is read at most.
const LINGER: Duration = Duration::from_secs(30);
/// How long nothing may come of it.
const SILENCE: Duration = Duration::from_secs(5);

/// A client's body.
pub(crate) struct ClientBody {
    /// There until it is dropped.
    inner: Option<Incoming>,
    h2: bool,
}

impl ClientBody {
    /// A request as it came, with its body in here.
    pub(crate) fn within(request: Request<Incoming>) -> Request<Self> {
        let h2 = request.version() == Version::HTTP_2;
        request.map(|inner| Self { inner: Some(inner), h2 })
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.inner {
            Some(inner) => Pin::new(inner).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(hyper::body::Body::is_end_stream)
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), hyper::body::Body::size_hint)
    }
}

impl Drop for ClientBody {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take().filter(|inner| self.h2 && !inner.is_end_stream()) else { return };
        // Without a runtime the connection is gone as well.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(tokio::time::timeout(LINGER, throw_away(inner)));
        }
    }
}

/// Reads a body to its end, or until nothing comes.
async fn throw_away(mut body: Incoming) {
    let mut frame = async || std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
    while let Ok(Some(Ok(_))) = tokio::time::timeout(SILENCE, frame()).await {}
}
