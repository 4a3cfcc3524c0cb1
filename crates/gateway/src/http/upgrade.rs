//! WebSockets and other protocols that begin as a request and go on as bytes.
//!
//! Over HTTP/1.1 by `Upgrade`; over HTTP/2 by the extended CONNECT of RFC 8441, which is turned into
//! an `Upgrade` for the backend. Once both sides have switched, their bytes are relayed as they are.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use hyper::header::{self, HeaderName, HeaderValue};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;

use super::attempt::Answered;
use super::body::Body;
use super::exchange::Answer;
use super::headers;
use super::page::Page;
use super::rest::ClientBody;
use super::serve::Connection;
use crate::config::BackendProtocol;
use crate::event::{StreamEvent, unix_millis};
use crate::relay;
use crate::state::{Service, Snapshot};

const KEY: HeaderName = header::SEC_WEBSOCKET_KEY;

/// Whether a request is a WebSocket over HTTP/2.
pub(super) fn extended(request: &Request<ClientBody>) -> bool {
    let protocol = request.extensions().get::<hyper::ext::Protocol>();
    request.method() == Method::CONNECT
        && protocol.is_some_and(|protocol| protocol.as_str().eq_ignore_ascii_case("websocket"))
}

/// A client that waits for the switch.
pub(super) struct Waiting {
    client: OnUpgrade,
    /// Over HTTP/2: the answer is 200 and no header of the switch.
    extended: bool,
}

/// Makes of a request that wants to switch what a backend understands.
pub(super) fn prepare(
    service: &Service,
    request: &mut Request<ClientBody>,
    extended: bool,
) -> Result<Option<Waiting>, Page> {
    if service.config.protocol == BackendProtocol::H2c {
        let refused = || Page::new(501, "This service speaks HTTP/2 to its backends, without WebSockets.");
        return if extended { Err(refused()) } else { Ok(None) };
    }
    if extended {
        *request.method_mut() = Method::GET;
        let mut key = [0; 16];
        getrandom::fill(&mut key).map_err(|_| Page::new(500, "No randomness."))?;
        let key = HeaderValue::from_str(&base64(&key)).map_err(|_| Page::new(500, "No key."))?;
        let headers = request.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(KEY, key);
    } else if headers::upgrade(request.headers()).is_none() || request.version() != hyper::Version::HTTP_11 {
        return Ok(None);
    }
    Ok(Some(Waiting { client: hyper::upgrade::on(request), extended }))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for part in bytes.chunks(3) {
        let at = |index: usize| u32::from(part.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let shown = digit <= part.len();
            let value = (bits >> (18 - 6 * digit)) as usize & 63;
            out.push(if shown { char::from(DIGITS[value]) } else { '=' });
        }
    }
    out
}

impl Waiting {
    /// What the client gets; if the backend has switched, both are joined.
    pub(super) fn switch(
        self,
        connection: &Arc<Connection>,
        snapshot: &Arc<Snapshot>,
        service: &Arc<Service>,
        mut answered: Answered,
        client: SocketAddr,
        host: &str,
    ) -> Result<Answer, Page> {
        if !answered.is_switch() {
            return Ok(Answer::Backend(answered));
        }
        let backend = hyper::upgrade::on(&mut answered.response);
        let mut response = Response::new(Body::Empty);
        let protocol = answered.response.headers().get(header::UPGRADE).cloned();
        *response.headers_mut() = std::mem::take(answered.response.headers_mut());
        headers::strip_hop_by_hop(response.headers_mut());
        let status = if self.extended {
            response.headers_mut().remove(header::SEC_WEBSOCKET_ACCEPT);
            StatusCode::OK
        } else {
            let protocol = protocol.ok_or(Page::new(502, "The backend switched to nothing."))?;
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            response.headers_mut().insert(header::UPGRADE, protocol);
            connection.link.raw.store(true, Ordering::Relaxed);
            StatusCode::SWITCHING_PROTOCOLS
        };
        *response.status_mut() = status;
        let tunnel = Tunnel {
            connection: connection.clone(),
            snapshot: snapshot.clone(),
            service: service.clone(),
            answered,
            client,
            host: host.to_owned(),
        };
        tokio::spawn(tunnel.run(self.client, backend));
        Ok(Answer::Switched(response, status.as_u16()))
    }
}

/// Both sides of a switched connection.
struct Tunnel {
    connection: Arc<Connection>,
    snapshot: Arc<Snapshot>,
    service: Arc<Service>,
    /// Keeps the backend's count.
    answered: Answered,
    client: SocketAddr,
    host: String,
}

impl Tunnel {
    async fn run(self, client: OnUpgrade, backend: OnUpgrade) {
        let (start, time) = (Instant::now(), unix_millis());
        let (Ok(client), Ok(backend)) = tokio::join!(client, backend) else { return };
        let tally = &self.service.tally;
        let moved = tally.moved();
        tally.active.fetch_add(1, Ordering::Relaxed);
        tally.streams.fetch_add(1, Ordering::Relaxed);
        let idle = self.snapshot.config.timeouts.tunnel;
        let end = relay::run(TokioIo::new(client), TokioIo::new(backend), idle, &moved).await;
        tally.active.fetch_sub(1, Ordering::Relaxed);
        self.connection.shared.observer.stream(&StreamEvent {
            time,
            client: self.client,
            service: self.service.name.clone(),
            host: Some(self.host),
            backend: Some(self.answered.busy.0.target.to_string()),
            rx_bytes: moved.up.get(),
            tx_bytes: moved.down.get(),
            duration_ms: start.elapsed().as_secs_f64() * 1000.0,
            end: end.word(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_base64() {
        for (bytes, text) in
            [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (b"foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes), text);
        }
    }
}
