//! One client's HTTP connection, from its first request to its last.

use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::body::Body;
use super::exchange;
use super::framing::HeadLimits;
use super::gate::{Gate, Link, Patience};
use super::headers::Ends;
use crate::config::Config;
use crate::event::Refused;
use crate::front::Held;
use crate::state::Shared;

/// What is known of a connection before its first request.
pub(crate) struct Connection {
    pub(crate) shared: Arc<Shared>,
    /// Number of the thread that serves it.
    pub(crate) thread: usize,
    /// The other end, or whom a trusted proxy names.
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    /// Both, as headers name them.
    pub(crate) ends: Ends,
    /// The name of the TLS handshake; none on plain HTTP.
    pub(crate) sni: Option<String>,
    /// The settings by which the client has shown a certificate, if it was asked for one.
    pub(crate) closed: Option<Arc<rustls::ServerConfig>>,
    pub(crate) link: Arc<Link>,
    pub(crate) _held: Held,
}

/// Room for frames and headers of HTTP/2, bytes of each stream and each connection that a backend may
/// be ahead of its client.
const H2_STREAM_WINDOW: u32 = 256 * 1024;
const H2_CONNECTION_WINDOW: u32 = 1024 * 1024;
const H2_SEND_BUFFER: usize = 128 * 1024;

/// A live connection that says nothing is asked this often whether it is there.
const H2_PING: Duration = Duration::from_secs(30);
const H2_PONG: Duration = Duration::from_secs(15);

/// Largest buffer of an HTTP/1 connection, bytes; what a response is read into at once.
const H1_BUFFER: usize = 256 * 1024;

/// Headers for which the library needs no allocation; it takes as many without being told.
const HEADERS_INLINE: u32 = 100;

/// Serves requests until the client or we have had enough.
pub(crate) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    connection: Connection,
    h2: bool,
) {
    let snapshot = connection.shared.snapshot.load_full();
    let config = &snapshot.config;
    let times = &config.timeouts;
    let patience = Patience { header: times.header, idle: times.idle, write: times.body };
    let limits =
        HeadLimits { bytes: config.limits.header_bytes as usize, count: config.limits.headers as usize };
    let link = connection.link.clone();
    let gate = TokioIo::new(Gate::new(stream, link, patience, (!h2).then_some(limits)));
    let connection = Arc::new(connection);
    if h2 {
        serve_h2(gate, &connection, config).await;
    } else {
        serve_h1(gate, &connection, config).await;
    }
}

async fn answer(
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<Body>, std::convert::Infallible> {
    Ok(exchange::exchange(&connection, request).await)
}

async fn serve_h1(
    io: impl Read + Write + Send + Unpin + 'static,
    connection: &Arc<Connection>,
    config: &Config,
) {
    let service = service_fn(|request| answer(connection.clone(), request));
    let mut builder = http1::Builder::new();
    let limits = &config.limits;
    if limits.headers > HEADERS_INLINE {
        builder.max_headers(limits.headers as usize);
    }
    builder
        .max_buf_size(H1_BUFFER.max(limits.header_bytes as usize + 1024))
        // Clients that end their side after the request still get the response.
        .half_close(true);
    let serving = builder.serve_connection(io, service).with_upgrades();
    tokio::pin!(serving);
    let mut stopping = connection.shared.stopping.clone();
    tokio::select! {
        _ = serving.as_mut() => return,
        _ = stopping.wait_for(|stop| *stop) => serving.as_mut().graceful_shutdown(),
    }
    let _ = serving.await;
}

async fn serve_h2(
    io: impl Read + Write + Send + Unpin + 'static,
    connection: &Arc<Connection>,
    config: &Config,
) {
    let service = service_fn(|request| answer(connection.clone(), request));
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.limits.streams)
        .max_header_list_size(config.limits.header_bytes)
        .initial_stream_window_size(H2_STREAM_WINDOW)
        .initial_connection_window_size(H2_CONNECTION_WINDOW)
        .max_send_buf_size(H2_SEND_BUFFER)
        .keep_alive_interval(H2_PING)
        .keep_alive_timeout(H2_PONG)
        .enable_connect_protocol();
    let serving = builder.serve_connection(io, service);
    tokio::pin!(serving);
    let mut stopping = connection.shared.stopping.clone();
    tokio::select! {
        ended = serving.as_mut() => return note(connection, &ended),
        _ = stopping.wait_for(|stop| *stop) => {}
        () = idle(&connection.link, config.timeouts.header, config.timeouts.idle) => {}
    }
    // Says which requests will still be answered, so that the client knows which to repeat elsewhere.
    serving.as_mut().graceful_shutdown();
    note(connection, &serving.await);
}

/// Counts a connection that the library has ended for what the client did. What is wrong with one request alone it
/// answers by itself, and tells nobody.
fn note(connection: &Connection, ended: &Result<(), hyper::Error>) {
    let cause = ended.as_ref().err().and_then(|error| error.source()?.downcast_ref::<h2::Error>());
    if cause.is_some_and(|cause| cause.is_go_away() && cause.is_library()) {
        connection.shared.counters.refuse(Refused::Http2);
    }
}

/// Returns when no request has been under way for `idle`; the first must come within `first`.
async fn idle(link: &Link, first: Duration, idle: Duration) {
    tokio::time::sleep(first).await;
    if link.requests.load(Ordering::Relaxed) == 0 {
        return;
    }
    loop {
        let before = link.requests.load(Ordering::Relaxed);
        tokio::time::sleep(idle).await;
        let quiet = link.requests.load(Ordering::Relaxed) == before;
        if quiet && link.under_way.load(Ordering::Relaxed) == 0 {
            return;
        }
    }
}
