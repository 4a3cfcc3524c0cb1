//! Asking a router that speaks UPnP (IGD), as many homes have: found by a datagram, described by a page, told by SOAP.
//!
//! ```text
//!  search ──udp 1900──▶ router ─▶ where its description is
//!  GET  ──▶ description (XML): which service passes on ports, and where it is told
//!  POST ──▶ GetExternalIPAddress, AddPortMapping, DeletePortMapping
//! ```
//! Only the router itself is believed: answers of others are no answers, and whatever it names must be at its own
//! address, so that nobody on the network can have this node speak to a third.

pub(super) mod text;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, Uri, header};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout, timeout_at};

use text::{Failure, Service};

/// Where devices are searched for.
const GROUP: (Ipv4Addr, u16) = (Ipv4Addr::new(239, 255, 255, 250), 1900);
/// How long answers are waited for, and for each page.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longest page that is read, bytes.
const PAGE_MAX: usize = 64 * 1024;
/// Ports outside that are tried, where others have ours.
const PORTS: u16 = 4;

/// A port of ours that the router is to pass on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    pub(super) client: Ipv4Addr,
    pub(super) port: u16,
    /// Outside; another one is tried if somebody has it.
    pub(super) outside: u16,
    pub(super) lifetime: Duration,
}

/// What the router has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) outside: (Ipv4Addr, u16),
    pub(super) lifetime: Duration,
}

/// Finds the service of the router at `gateway`, if it has one.
pub(super) async fn find(gateway: Ipv4Addr, source: Ipv4Addr) -> Option<Service> {
    let socket = UdpSocket::bind((source, 0)).await.ok()?;
    // To itself as well: not every network carries groups.
    for to in [(gateway, GROUP.1), GROUP] {
        let _ = socket.send_to(text::SEARCH, to).await;
    }
    let until = Instant::now() + PATIENCE;
    let mut answer = [0; 2048];
    loop {
        let (length, from) = timeout_at(until, socket.recv_from(&mut answer)).await.ok()?.ok()?;
        if from.ip() != gateway {
            continue;
        }
        let Some(location) = text::location(&answer[..length]).filter(|uri| is_at(uri, gateway)) else {
            continue;
        };
        if let Some(service) = describe(&location).await {
            return Some(service);
        }
    }
}

/// Whether what is named there is the router's own.
fn is_at(uri: &Uri, gateway: Ipv4Addr) -> bool {
    uri.scheme_str() == Some("http") && uri.host().is_some_and(|host| host.parse() == Ok(gateway))
}

async fn describe(location: &Uri) -> Option<Service> {
    let page = ask(location, None).await?;
    text::service(&page.text, location)
}

impl Wish {
    /// Asks for it, for the first time or again.
    pub(super) async fn ask(&self, service: &Service) -> Result<Granted, Failure> {
        let answer = call(service, &text::address()).await?;
        let address = text::outside_address(&answer).ok_or(Failure::Nonsense)?;
        let mut last = Failure::Nonsense;
        for port in (0..PORTS).map(|more| self.outside.wrapping_add(more)).filter(|port| *port != 0) {
            match self.map(service, port).await {
                Ok(lifetime) => return Ok(Granted { outside: (address, port), lifetime }),
                Err(failure @ Failure::Conflict) => last = failure,
                Err(failure) => return Err(failure),
            }
        }
        Err(last)
    }

    /// Some routers pass on for ever or not at all: it is given back at the end, and asked for again as often.
    async fn map(&self, service: &Service, port: u16) -> Result<Duration, Failure> {
        let mapping = |lifetime| text::map(self.client, self.port, port, lifetime);
        match call(service, &mapping(self.lifetime)).await {
            Err(Failure::OnlyForEver) => call(service, &mapping(Duration::ZERO)).await?,
            result => result?,
        };
        Ok(self.lifetime)
    }

    /// Gives it back.
    pub(super) async fn give_back(&self, service: &Service) {
        let _ = call(service, &text::unmap(self.outside)).await;
    }
}

async fn call(service: &Service, action: &text::Action) -> Result<String, Failure> {
    let page = ask(&service.control, Some((&service.kind, action))).await.ok_or(Failure::Silent)?;
    if page.good { Ok(page.text) } else { Err(text::failure(&page.text)) }
}

struct Page {
    good: bool,
    text: String,
}

/// One request on a connection of its own.
async fn ask(uri: &Uri, action: Option<(&str, &text::Action)>) -> Option<Page> {
    timeout(PATIENCE, exchange(uri, action)).await.ok()?
}

async fn exchange(uri: &Uri, action: Option<(&str, &text::Action)>) -> Option<Page> {
    let address: Ipv4Addr = uri.host()?.parse().ok()?;
    let stream = TcpStream::connect(SocketAddr::from((address, uri.port_u16().unwrap_or(80)))).await.ok()?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    let driver = tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::builder().uri(path).header(header::HOST, uri.authority()?.as_str());
    let body = match action {
        None => String::new(),
        Some((kind, action)) => {
            request = request.method("POST").header(header::CONTENT_TYPE, "text/xml; charset=\"utf-8\"");
            request = request.header("SOAPAction", format!("\"{kind}#{}\"", action.name));
            action.envelope(kind)
        }
    };
    let response = sender.send_request(request.body(Full::new(Bytes::from(body))).ok()?).await.ok()?;
    let good = response.status().is_success();
    let body = Limited::new(response.into_body(), PAGE_MAX).collect().await.ok()?.to_bytes();
    driver.abort();
    Some(Page { good, text: String::from_utf8_lossy(&body).into_owned() })
}
