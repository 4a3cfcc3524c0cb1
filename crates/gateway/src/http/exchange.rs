//! One request: whose it is, whether it may pass, and what becomes of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, Uri, Version};

use super::attempt::{self, Outbound};
use super::body::{Body, Progress, Stall, Upload};
use super::framing::Violation;
use super::gate::{Link, REFUSED};
use super::headers::{self, Origin};
use super::page::Page;
use super::record::Record;
use super::rest::ClientBody;
use super::serve::Connection;
use super::{forward_auth, upgrade};
use crate::access::Denied;
use crate::config::{BackendProtocol, Config};
use crate::event::Refused;
use crate::host;
use crate::route::NoRoute;
use crate::state::{Service, Snapshot};

/// Where certificate authorities look for the answers to HTTP-01 challenges (RFC 8555, 8.3).
const CHALLENGE: &str = "/.well-known/acme-challenge/";

/// Counts a request as under way on its connection until its response is done.
pub(super) struct UnderWay(Arc<Link>);

impl UnderWay {
    fn new(link: &Arc<Link>) -> Self {
        link.under_way.fetch_add(1, Ordering::Relaxed);
        link.requests.fetch_add(1, Ordering::Relaxed);
        Self(link.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Answers one request.
pub(super) async fn exchange(connection: &Arc<Connection>, request: Request<Incoming>) -> Response<Body> {
    let mut record = Record::new(&connection.shared, connection.peer, connection.sni.is_some());
    record.hold(UnderWay::new(&connection.link));
    record.request(&request);
    let asked = request.headers().get(header::ACCEPT).cloned();
    let snapshot = connection.shared.snapshot.load_full();
    let request = Box::new(ClientBody::within(request));
    match pass(connection, &snapshot, request, &mut record).await {
        Ok(Answer::Backend(response)) => response.finish(record),
        Ok(Answer::Switched(response, status)) => {
            record.answer(status, None);
            response
        }
        Err(page) => {
            let mut headers = header::HeaderMap::new();
            asked.map(|accept| headers.insert(header::ACCEPT, accept));
            record.answer(page.status, Some(page.text));
            let (parts, body) = page.response(record.id(), &headers).into_parts();
            let Body::Text(text, _) = body else { return Response::from_parts(parts, Body::Empty) };
            Response::from_parts(parts, Body::Text(text, Some(Box::new(record))))
        }
    }
}

/// What a request comes to when it is not refused.
pub(super) enum Answer {
    /// A backend's response.
    Backend(attempt::Answered),
    /// A switch to another protocol; the rest is bytes.
    Switched(Response<Body>, u16),
}

async fn pass(
    connection: &Arc<Connection>,
    snapshot: &Arc<Snapshot>,
    mut request: Box<Request<ClientBody>>,
    record: &mut Record,
) -> Result<Answer, Page> {
    if request.method().as_str() == REFUSED {
        connection.shared.counters.refuse(Refused::BadRequest);
        return Err(refused(&request));
    }
    let websocket = upgrade::extended(&request);
    if request.method() == Method::CONNECT && !websocket {
        return Err(Page::new(405, "This is not a forward proxy."));
    }
    let authority = authority(&request)?;
    let authority_text = authority.to_str().unwrap_or("");
    let (host, _) =
        host::of_authority(authority_text).ok_or(Page::new(400, "The host is not a host name."))?;
    record.host(&host);
    if let Some(answer) = challenge(connection, &request) {
        return Err(answer);
    }
    let service = route(connection, snapshot, &request, &host)?;
    record.service(&service);
    let client = headers::client(request.headers(), connection.peer, |ip| snapshot.trusts(ip));
    record.client(client);
    admit(&service, &mut request, client, record).await?;
    let origin = Origin {
        ends: &connection.ends,
        trusted: snapshot.trusts(connection.peer.ip()),
        tls: connection.sni.is_some(),
        host: authority_text,
        host_header: authority.clone(),
        id: HeaderValue::from_str(record.id()).map_err(|_| Page::new(500, "The request has no name."))?,
    };
    let cookies = match &service.config.access.forward {
        // In a box: the rare and large is not moved about with every request.
        Some(auth) => Box::pin(forward_auth::ask(connection, snapshot, auth, &mut request, &origin)).await?,
        None => Vec::new(),
    };
    let upgrades = upgrade::prepare(&service, &mut request, websocket)?;
    let outbound = outbound(snapshot, &service, *request, &origin, record, upgrades.is_some())?;
    let answered = attempt::run(connection, snapshot, &service, outbound, client, record).await;
    let mut answered = match answered {
        Ok(answered) => answered,
        // A session that was renewed is so whatever became of the request.
        Err(page) => {
            return Err(cookies.into_iter().fold(page, |page, it| page.with(header::SET_COOKIE, it)));
        }
    };
    for cookie in cookies {
        answered.response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    match upgrades {
        Some(waiting) => waiting.switch(connection, snapshot, &service, answered, client, &host),
        None if answered.is_switch() => Err(Page::new(502, "The backend switched protocols unasked.")),
        None => Ok(Answer::Backend(answered)),
    }
}

/// The page for what the gate has refused.
fn refused(request: &Request<ClientBody>) -> Page {
    let number = request.uri().path().strip_prefix('/').and_then(|text| text.parse::<usize>().ok());
    let violation = number.and_then(|number| Violation::ALL.get(number)).unwrap_or(&Violation::Framing);
    let text = match violation {
        Violation::Framing => "The request is malformed, or can be read in more than one way.",
        Violation::Host => "A request needs exactly one Host.",
        Violation::Version => "This version of HTTP is not spoken here.",
        Violation::TooLarge => "The request's headers are too large.",
        Violation::Timeout => "The request's headers did not come in time.",
    };
    Page::new(violation.status(), text).with(header::CONNECTION, "close")
}

/// Whom the request is for, as the client wrote it. What a request says twice must be the same.
fn authority(request: &Request<ClientBody>) -> Result<HeaderValue, Page> {
    let header = request.headers().get(header::HOST);
    match (request.uri().authority(), header) {
        (Some(target), Some(header))
            if !target.as_str().as_bytes().eq_ignore_ascii_case(header.as_bytes()) =>
        {
            Err(Page::new(400, "The request names two hosts."))
        }
        (Some(target), _) => {
            HeaderValue::from_str(target.as_str()).map_err(|_| Page::new(400, "The host is not a host name."))
        }
        (None, Some(header)) => Ok(header.clone()),
        (None, None) => Err(Page::new(400, "A request needs a Host.")),
    }
}

/// The answer to a certificate authority's question, if this is one that we wait for.
fn challenge(connection: &Connection, request: &Request<ClientBody>) -> Option<Page> {
    let token = request.uri().path().strip_prefix(CHALLENGE)?;
    if connection.sni.is_some() {
        return None;
    }
    // Services that have certificates of their own answer themselves.
    connection.shared.certificates.answer(token).map(|answer| Page::challenge(&answer))
}

fn route(
    connection: &Connection,
    snapshot: &Snapshot,
    request: &Request<ClientBody>,
    host: &str,
) -> Result<Arc<Service>, Page> {
    let secure = connection.sni.is_some();
    if connection.sni.as_deref().is_some_and(|sni| sni != host) {
        return Err(Page::new(421, "This connection was opened for another host."));
    }
    let Some(site) = snapshot.site(host) else {
        return Err(Page::new(if secure { 421 } else { 404 }, "This host is not served here."));
    };
    let path = request.uri().path();
    let http = site.first().is_some_and(|first| first.config.mode == crate::config::Mode::Http);
    let forwarded_challenge = !secure && path.starts_with(CHALLENGE);
    if !http {
        let asked = site.first().and_then(|first| first.http01.as_ref()).filter(|_| forwarded_challenge);
        if let Some(asked) = asked {
            return Ok(asked.clone());
        }
        return Err(if secure {
            Page::new(421, "This host is not served here.")
        } else {
            redirect(request, host, &snapshot.config)
        });
    }
    let service = site.service(path).map_err(|no| match no {
        NoRoute::Unknown => Page::new(404, "Nothing is published at this path."),
        NoRoute::Ambiguous => Page::new(400, "The path can be read in more than one way."),
    })?;
    if !secure && !service.config.plain && !forwarded_challenge {
        return Err(redirect(request, host, &snapshot.config));
    }
    let same = match (&service.closed, &connection.closed) {
        (Some(asked), Some(shown)) => Arc::ptr_eq(asked, shown),
        (None, None) => true,
        _ => false,
    };
    if !same {
        return Err(Page::new(421, "This connection does not show what this host asks for."));
    }
    Ok(service.clone())
}

fn redirect(request: &Request<ClientBody>, host: &str, config: &Config) -> Page {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let path = if path.starts_with('/') { path } else { "/" };
    let port = config.https_port().map(|port| format!(":{port}")).unwrap_or_default();
    // Forms that were posted in the clear are repeated as they were, not turned into GET.
    let keep = matches!(*request.method(), Method::GET | Method::HEAD);
    Page::new(if keep { 301 } else { 308 }, "This host is served over HTTPS.")
        .with(header::LOCATION, format!("https://{host}{port}{path}"))
}

/// Addresses, rates, users, sizes: what the service asks of its clients.
async fn admit(
    service: &Service,
    request: &mut Request<ClientBody>,
    client: SocketAddr,
    record: &mut Record,
) -> Result<(), Page> {
    let gate = &service.gate;
    gate.admits(client.ip()).map_err(denied)?;
    gate.count(client.ip()).map_err(denied)?;
    let header = request.headers().get(header::AUTHORIZATION).cloned();
    record.user(gate.user(header.as_ref().map(HeaderValue::as_bytes)).await.map_err(denied)?);
    if gate.has_users() {
        request.headers_mut().remove(header::AUTHORIZATION);
    }
    let max = service.config.body_max.unwrap_or(u64::MAX);
    if request.body().size_hint().lower() > max {
        return Err(Page::new(413, "The request's body is larger than allowed."));
    }
    Ok(())
}

fn denied(denied: Denied) -> Page {
    match denied {
        Denied::Address => Page::new(403, "This address is not let in."),
        Denied::Rate(seconds) => {
            Page::new(429, "Too many requests.").with(header::RETRY_AFTER, seconds.to_string())
        }
        Denied::Password => Page::new(401, "A user name and password are needed.")
            .with(header::WWW_AUTHENTICATE, "Basic realm=\"restricted\", charset=\"UTF-8\""),
        Denied::Busy => {
            Page::new(503, "Too many passwords are being checked.").with(header::RETRY_AFTER, "1")
        }
    }
}

/// The request as the backend gets it.
fn outbound(
    snapshot: &Snapshot,
    service: &Service,
    request: Request<ClientBody>,
    origin: &Origin<'_>,
    record: &mut Record,
    upgrades: bool,
) -> Result<Box<Outbound>, Page> {
    let (mut parts, incoming) = request.into_parts();
    let h2c = service.config.protocol == BackendProtocol::H2c;
    let trailers =
        parts.headers.get(header::TE).is_some_and(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers"));
    let switch = upgrades.then(|| parts.headers.get(header::UPGRADE).cloned()).flatten();
    headers::strip_hop_by_hop(&mut parts.headers);
    headers::set_forwarded(&mut parts.headers, origin);
    if let Some(protocol) = switch {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(header::UPGRADE, protocol);
    }
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let uri: Result<Uri, _> = if h2c {
        if trailers {
            parts.headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        parts.headers.remove(header::HOST);
        Uri::builder().scheme("http").authority(origin.host).path_and_query(path).build()
    } else {
        headers::join_cookies(&mut parts.headers);
        parts.headers.insert(header::HOST, origin.host_header.clone());
        Uri::builder().path_and_query(path).build()
    };
    let uri = uri.map_err(|_| Page::new(400, "The path is malformed."))?;
    let progress = Arc::new(Progress::default());
    record.upload(&progress);
    let body = if incoming.is_end_stream() || upgrades {
        progress.ended.store(true, Ordering::Relaxed);
        Body::Empty
    } else {
        Body::Request(Box::new(Upload {
            inner: incoming,
            progress: progress.clone(),
            max: service.config.body_max.unwrap_or(u64::MAX),
            stall: Stall::new(snapshot.config.timeouts.body),
        }))
    };
    Ok(Box::new(Outbound {
        method: parts.method,
        uri,
        version: if h2c { Version::HTTP_2 } else { Version::HTTP_11 },
        headers: parts.headers,
        body,
        progress,
    }))
}
