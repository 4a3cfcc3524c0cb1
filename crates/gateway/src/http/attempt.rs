//! Bringing a request to a backend: which one, over which connection, and what if it fails.
//!
//! A request is tried again only where nobody can have acted on it: when no connection came
//! about, when a waiting connection turned out to be closed before the request was written, and,
//! for methods that may be repeated and have no body, when a waiting connection broke before it
//! answered. Anything else is the client's to repeat.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;

use super::body::{Body, Download, Progress, Stall};
use super::headers;
use super::page::Page;
use super::record::Record;
use super::serve::Connection;
use crate::backend::{Backend, Busy};
use crate::config::{BackendProtocol, Balance};
use crate::dial::Failure;
use crate::event::{BackendEvent, unix_millis};
use crate::proxy;
use crate::state::{Service, Snapshot};

/// Backends that one request is brought to at most.
const BACKENDS_MAX: usize = 3;

/// Name of the cookie that keeps a client at its backend.
const COOKIE: &str = "sinew_backend";

/// Largest buffer for a backend's response, bytes.
const BUFFER: usize = 256 * 1024;

/// A request as a backend gets it. Passed on in a box, so that the futures it goes through stay small.
pub(super) struct Outbound {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) version: Version,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    pub(super) progress: Arc<Progress>,
}

/// A connection that can take a request.
enum Sender {
    H1(http1::SendRequest<Body>),
    H2(http2::SendRequest<Body>),
}

/// A backend's response, and what ends with it.
pub(super) struct Answered {
    pub(super) response: Response<Incoming>,
    pub(super) busy: Busy,
    sender: Option<(http1::SendRequest<Body>, usize)>,
    stall: Duration,
    /// Cookie that keeps the client here.
    cookie: Option<HeaderValue>,
}

impl Answered {
    pub(super) fn is_switch(&self) -> bool {
        self.response.status() == StatusCode::SWITCHING_PROTOCOLS
    }

    /// The response as the client gets it.
    pub(super) fn finish(self, mut record: Record) -> Response<Body> {
        let (mut parts, incoming) = self.response.into_parts();
        headers::strip_hop_by_hop(&mut parts.headers);
        if let Some(cookie) = self.cookie {
            parts.headers.append(header::SET_COOKIE, cookie);
        }
        parts.version = Version::default();
        record.answer(parts.status.as_u16(), None);
        let download = Download {
            inner: incoming,
            stall: Stall::new(self.stall),
            record: Box::new(record),
            busy: self.busy,
            sender: self.sender,
            ended: false,
        };
        Response::from_parts(parts, Body::Response(Box::new(download)))
    }
}

/// Brings a request to a backend.
pub(super) async fn run(
    connection: &Connection,
    snapshot: &Snapshot,
    service: &Arc<Service>,
    mut outbound: Box<Outbound>,
    client: SocketAddr,
    record: &mut Record,
) -> Result<Answered, Page> {
    let mut tried: Vec<Arc<Backend>> = Vec::new();
    let mut full = false;
    let sticky = service.config.balance == Balance::StickyCookie;
    let mark = headers::cookie(&outbound.headers, COOKIE).filter(|_| sticky).map(str::to_owned);
    while tried.len() < BACKENDS_MAX {
        let picked = service.picker.pick(client.ip(), mark.as_deref(), &tried, Instant::now());
        let Some(backend) = picked else { break };
        record.backend(&backend);
        let busy = Busy::new(&backend);
        match at_backend(connection, snapshot, service, &backend, outbound, client).await? {
            Tried::Answered(response, sender) => {
                let kept = mark.as_deref() == Some(backend.mark.as_str());
                let cookie = (sticky && !kept).then(|| cookie(&backend.mark, connection.sni.is_some()));
                let stall = stall(snapshot, &response);
                return Ok(Answered { response, busy, sender, stall, cookie: cookie.flatten() });
            }
            Tried::Not(again, failure) => {
                outbound = again;
                match failure {
                    Failure::Full => full = true,
                    Failure::Unreachable => fail(connection, service, &backend, "no connection"),
                }
                tried.push(backend);
            }
        }
    }
    let text = match () {
        () if tried.is_empty() => "No backend of this service is well.",
        () if full => "The backend has no room for more connections.",
        () => "The backend cannot be reached.",
    };
    Err(Page::new(503, text).with(header::RETRY_AFTER, "2"))
}

/// How long a response may stand still. Those that tell of events do so as they please.
fn stall(snapshot: &Snapshot, response: &Response<Incoming>) -> Duration {
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let slow = |kind: &str| kind.starts_with("text/event-stream") || kind.starts_with("application/grpc");
    let times = &snapshot.config.timeouts;
    if kind.is_some_and(slow) { times.tunnel } else { times.body }
}

fn cookie(mark: &str, secure: bool) -> Option<HeaderValue> {
    let secure = if secure { "; Secure" } else { "" };
    HeaderValue::from_str(&format!("{COOKIE}={mark}; Path=/; HttpOnly; SameSite=Lax{secure}")).ok()
}

/// Notes a failure of a client's request.
fn fail(connection: &Connection, service: &Service, backend: &Backend, cause: &str) {
    if backend.failed(Instant::now()) {
        connection.shared.observer.backend(&BackendEvent {
            time: unix_millis(),
            service: service.name.clone(),
            backend: backend.target.to_string(),
            condition: crate::backend::Condition::Ejected,
            cause: cause.to_owned(),
        });
    }
}

enum Tried {
    Answered(Response<Incoming>, Option<(http1::SendRequest<Body>, usize)>),
    /// The request is whole and may go elsewhere.
    Not(Box<Outbound>, Failure),
}

/// One backend: over a waiting connection first, then over a new one.
async fn at_backend(
    connection: &Connection,
    snapshot: &Snapshot,
    service: &Arc<Service>,
    backend: &Arc<Backend>,
    mut outbound: Box<Outbound>,
    client: SocketAddr,
) -> Result<Tried, Page> {
    let mut lost_once = false;
    loop {
        // A request that breaks connections is not fed one after the other.
        let waiting = if lost_once { None } else { waiting(connection, service, backend) };
        let reused = waiting.is_some();
        let sender = match waiting {
            Some(sender) => sender,
            // In a box: the rare and large is not moved about with every request.
            None => match Box::pin(open(connection, snapshot, service, backend, client)).await {
                Ok(sender) => sender,
                Err(failure) => return Ok(Tried::Not(outbound, failure)),
            },
        };
        let spare = (reused && repeatable(&outbound)).then(|| outbound.head_only());
        let progress = outbound.progress.clone();
        let (result, sender) = send(sender, outbound, snapshot.config.timeouts.response).await;
        match result {
            Sent::Answered(response) => {
                backend.succeeded();
                let sender = sender.map(|sender| (sender, connection.thread));
                return Ok(Tried::Answered(*response, sender));
            }
            Sent::Late => return Err(Page::new(504, "The backend did not answer in time.")),
            Sent::Back(request) if reused => outbound = Box::new(Outbound::of(*request, progress)),
            Sent::Back(request) => {
                let again = Box::new(Outbound::of(*request, progress));
                return Ok(Tried::Not(again, Failure::Unreachable));
            }
            Sent::Lost => match spare {
                Some(spare) => (outbound, lost_once) = (Box::new(spare), true),
                None => return Err(lost(connection, service, backend, &progress)),
            },
        }
    }
}

/// Why a request was lost on its way.
fn lost(connection: &Connection, service: &Service, backend: &Backend, progress: &Progress) -> Page {
    if progress.too_large.load(Ordering::Relaxed) {
        return Page::new(413, "The request's body is larger than allowed.")
            .with(header::CONNECTION, "close");
    }
    if progress.stalled.load(Ordering::Relaxed) {
        return Page::new(408, "The request's body did not come in time.").with(header::CONNECTION, "close");
    }
    fail(connection, service, backend, "the connection broke before an answer");
    Page::new(502, "The backend broke off, or its answer was malformed.")
}

/// Whether sending it twice does no more than sending it once (RFC 9110, 9.2.2).
fn repeatable(outbound: &Outbound) -> bool {
    let safe = [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE, Method::TRACE];
    matches!(outbound.body, Body::Empty) && safe.contains(&outbound.method)
}

impl Outbound {
    fn head_only(&self) -> Self {
        Self {
            method: self.method.clone(),
            uri: self.uri.clone(),
            version: self.version,
            headers: self.headers.clone(),
            body: Body::Empty,
            progress: self.progress.clone(),
        }
    }

    fn request(self) -> Request<Body> {
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers;
        request
    }

    fn of(request: Request<Body>, progress: Arc<Progress>) -> Self {
        let (parts, body) = request.into_parts();
        Self {
            method: parts.method,
            uri: parts.uri,
            version: parts.version,
            headers: parts.headers,
            body,
            progress,
        }
    }
}

/// A connection that waits for a request. Those that told the backend of one client serve no other.
fn waiting(connection: &Connection, service: &Service, backend: &Backend) -> Option<Sender> {
    if service.config.proxy_header.is_some() {
        return None;
    }
    let pool = &backend.pools[connection.thread];
    match service.config.protocol {
        BackendProtocol::H1 => pool.take_h1(Instant::now()).map(Sender::H1),
        BackendProtocol::H2c => pool.h2().map(Sender::H2),
    }
}

async fn open(
    connection: &Connection,
    snapshot: &Snapshot,
    service: &Service,
    backend: &Backend,
    client: SocketAddr,
) -> Result<Sender, Failure> {
    let opening = async {
        let mut stream = connection.shared.dial.connect(&backend.target).await?;
        if let Some(version) = service.config.proxy_header {
            stream.write_all(&proxy::write(version, client, connection.local)).await?;
        }
        let io = TokioIo::new(stream);
        match service.config.protocol {
            BackendProtocol::H1 => {
                let mut builder = http1::Builder::new();
                let (sender, serving) = builder.max_buf_size(BUFFER).handshake(io).await?;
                tokio::spawn(serving.with_upgrades());
                Ok(Sender::H1(sender))
            }
            BackendProtocol::H2c => {
                let mut builder = http2::Builder::new(TokioExecutor::new());
                builder.initial_stream_window_size(1 << 20).initial_connection_window_size(4 << 20);
                let (sender, serving) = builder.handshake(io).await?;
                tokio::spawn(serving);
                if service.config.proxy_header.is_none() {
                    backend.pools[connection.thread].set_h2(&sender);
                }
                Ok(Sender::H2(sender))
            }
        }
    };
    tokio::time::timeout(snapshot.config.timeouts.connect, opening).await?
}

enum Sent {
    Answered(Box<Response<Incoming>>),
    /// It was not sent.
    Back(Box<Request<Body>>),
    /// Nobody knows how far it came.
    Lost,
    Late,
}

async fn send(
    sender: Sender,
    outbound: Box<Outbound>,
    patience: Duration,
) -> (Sent, Option<http1::SendRequest<Body>>) {
    let progress = outbound.progress.clone();
    let request = outbound.request();
    match sender {
        Sender::H1(mut sender) => {
            let sending = pin!(sender.try_send_request(request));
            (in_time(sending, &progress, patience).await, Some(sender))
        }
        Sender::H2(mut sender) => {
            if sender.ready().await.is_err() {
                return (Sent::Back(Box::new(request)), None);
            }
            let sending = pin!(sender.try_send_request(request));
            (in_time(sending, &progress, patience).await, None)
        }
    }
}

type Answer = Result<Response<Incoming>, TrySendError<Request<Body>>>;

/// Waits for the response's head. The time runs from the end of the request's body on.
async fn in_time(
    mut sending: Pin<&mut impl Future<Output = Answer>>,
    progress: &Progress,
    patience: Duration,
) -> Sent {
    loop {
        let ended = progress.ended.load(Ordering::Relaxed);
        match tokio::time::timeout(patience, sending.as_mut()).await {
            Ok(Ok(response)) => return Sent::Answered(Box::new(response)),
            Ok(Err(mut error)) => {
                return error.take_message().map_or(Sent::Lost, |request| Sent::Back(Box::new(request)));
            }
            Err(_) if ended => return Sent::Late,
            Err(_) => {}
        }
    }
}
