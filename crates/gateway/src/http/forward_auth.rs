//! Asking another service whether a request may pass.
//!
//! It gets the request's headers without its body, with the original's method and path beside them,
//! as the usual proxies for single sign-on expect. A 2xx lets the request through, with chosen headers
//! of the answer, and its cookies go to the client with the response, so that a session can be
//! renewed; anything else (a redirect to a login page, a 401) is handed to the client.

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

use super::body::Body;
use super::headers::{self, Origin};
use super::page::Page;
use super::rest::ClientBody;
use super::serve::Connection;
use crate::config::ForwardAuth;
use crate::state::Snapshot;

/// The longest answer that is handed to a client, bytes.
const ANSWER_MAX: usize = 64 * 1024;

/// Headers of an answer that a client gets.
const ANSWERED: [HeaderName; 4] =
    [header::LOCATION, header::SET_COOKIE, header::WWW_AUTHENTICATE, header::CONTENT_TYPE];

/// Asks; changes the request's headers as the answer says. Cookies of a yes are the client's.
pub(super) async fn ask(
    connection: &Connection,
    snapshot: &Snapshot,
    auth: &ForwardAuth,
    request: &mut Request<ClientBody>,
    origin: &Origin<'_>,
) -> Result<Vec<HeaderValue>, Page> {
    let times = &snapshot.config.timeouts;
    let question =
        question(auth, request, origin).ok_or(Page::new(400, "The request cannot be asked about."))?;
    let asking = async {
        let stream = connection.shared.dial.connect(&auth.target).await.ok()?;
        let (mut sender, serving) = http1::handshake::<_, Body>(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(serving);
        sender.send_request(question).await.ok()
    };
    let answer = tokio::time::timeout(times.connect + times.header, asking).await.ok().flatten();
    // Whoever cannot be asked has not said yes.
    let answer = answer.ok_or(Page::new(503, "The service that decides on access cannot be reached."))?;
    // What the client sent under these names is never passed on, whatever the answer has.
    for name in &auth.copy {
        request.headers_mut().remove(name);
    }
    if answer.status().is_success() {
        for name in auth.copy.iter().filter_map(|name| name.parse::<HeaderName>().ok()) {
            for value in answer.headers().get_all(&name) {
                request.headers_mut().append(name.clone(), value.clone());
            }
        }
        return Ok(answer.headers().get_all(header::SET_COOKIE).iter().cloned().collect());
    }
    Err(refusal(answer).await)
}

fn question(auth: &ForwardAuth, request: &Request<ClientBody>, origin: &Origin<'_>) -> Option<Request<Body>> {
    let mut question = Request::new(Body::Empty);
    *question.uri_mut() = auth.path.parse().ok()?;
    let original = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let all = question.headers_mut();
    *all = request.headers().clone();
    headers::strip_hop_by_hop(all);
    all.remove(header::CONTENT_LENGTH);
    headers::set_forwarded(all, origin);
    all.insert("x-forwarded-method", HeaderValue::from_str(request.method().as_str()).ok()?);
    all.insert("x-forwarded-uri", HeaderValue::from_str(original).ok()?);
    let host = auth.host.as_ref().map(|host| HeaderValue::from_str(host));
    all.insert(header::HOST, host.transpose().ok()?.unwrap_or_else(|| origin.host_header.clone()));
    Some(question)
}

async fn refusal(answer: Response<Incoming>) -> Page {
    let (parts, body) = answer.into_parts();
    let status = parts.status.as_u16();
    if parts.status.is_server_error() || parts.status.is_informational() {
        return Page::new(503, "The service that decides on access has failed.");
    }
    let mut page = Page::new(status, "Access was refused.");
    for name in ANSWERED {
        page.headers.extend(parts.headers.get_all(&name).iter().map(|value| (name.clone(), value.clone())));
    }
    let text = Limited::new(body, ANSWER_MAX).collect().await;
    page.body = Some(text.map_or(Bytes::new(), |text| text.to_bytes()));
    page
}
