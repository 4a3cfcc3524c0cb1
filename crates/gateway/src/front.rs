//! One TCP connection from its first byte: who it is, what it wants, who gets it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::config::{self, Mode, Protocol};
use crate::event::Refused;
use crate::hello::{Alert, Hello, Refusal};
use crate::http;
use crate::limit::Place;
use crate::net::Client;
use crate::peek::{self, Peeked, Rewound};
use crate::proxy;
use crate::shaking::Shaking;
use crate::state::{Service, Shared, Snapshot};
use crate::stream::{self, Opening};
use crate::tls::ACME_TLS;

/// A connection's place among those of all listeners, given back when dropped.
pub(crate) struct Seat(pub(crate) Arc<AtomicU32>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that was just accepted.
pub(crate) struct Arrival {
    pub(crate) shared: Arc<Shared>,
    pub(crate) thread: usize,
    pub(crate) listener: config::Listener,
    pub(crate) stream: std::net::TcpStream,
    pub(crate) seat: Seat,
}

/// What is known of it once it has a place.
struct Known {
    shared: Arc<Shared>,
    snapshot: Arc<Snapshot>,
    thread: usize,
    peer: SocketAddr,
    local: SocketAddr,
    /// Whether it came by a shared port.
    shared_port: bool,
    /// Read already, after any `PROXY` header.
    first: Bytes,
    held: Held,
}

/// A connection's places, kept for as long as it lives, whatever it turns into: a WebSocket goes on
/// when HTTP is over.
pub(crate) struct Held {
    _seat: Seat,
    _place: Place,
}

/// Serves a connection to its end.
pub(crate) async fn run(arrival: Arrival) {
    let shared = arrival.shared.clone();
    if let Err(Some(reason)) = welcome(arrival).await {
        shared.counters.refuse(reason);
    }
}

/// `Err(None)`: the connection broke before there was anything to tell.
async fn welcome(arrival: Arrival) -> Result<(), Option<Refused>> {
    let Arrival { shared, thread, listener, stream, seat } = arrival;
    shared.counters.connections.fetch_add(1, Ordering::Relaxed);
    let mut stream = TcpStream::from_std(stream).map_err(|_| None)?;
    let _ = stream.set_nodelay(true);
    let (mut peer, mut local) = ends(&stream).map_err(|_| Some(Refused::Gone))?;
    let snapshot = shared.snapshot.load_full();
    let mut first = Bytes::new();
    if listener.proxy_protocol && snapshot.trusts(peer.ip()) {
        let patience = snapshot.config.timeouts.handshake;
        let header = timeout(patience, proxy_header(&mut stream)).await;
        let (named, rest) = header.map_err(|_| Some(Refused::NoProxyHeader))??;
        (peer, local) = named.unwrap_or((peer, local));
        first = rest;
    }
    let max = snapshot.config.limits.connections_per_client;
    let place = shared.clients.take(Client::of(peer.ip()), max).ok_or(Some(Refused::ClientFull))?;
    let held = Held { _seat: seat, _place: place };
    let known = Known { shared, snapshot, thread, peer, local, shared_port: listener.shared, first, held };
    match listener.protocol {
        Protocol::Https => secure(known, stream).await,
        Protocol::Http => {
            plain(known, stream).await;
            Ok(())
        }
        Protocol::Tcp => {
            let name = listener.service.unwrap_or_default();
            let service = known.snapshot.services.get(name.as_str()).cloned().ok_or(None)?;
            pass(known, stream, service, None).await.map_err(|(reason, _)| Some(reason))
        }
        Protocol::Udp => Err(None),
    }
}

fn ends(stream: &TcpStream) -> io::Result<(SocketAddr, SocketAddr)> {
    let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    Ok((canonical(stream.peer_addr()?), canonical(stream.local_addr()?)))
}

type Named = (Option<(SocketAddr, SocketAddr)>, Bytes);

/// Reads a `PROXY` header: the addresses it names, and what came after it.
async fn proxy_header(stream: &mut TcpStream) -> Result<Named, Option<Refused>> {
    let mut bytes = Vec::with_capacity(256);
    loop {
        match proxy::read(&bytes) {
            Ok(proxy::Reading::Header(length, named)) => {
                return Ok((named, Bytes::from(bytes).slice(length..)));
            }
            Ok(proxy::Reading::More) => {}
            Err(_) => return Err(Some(Refused::NoProxyHeader)),
        }
        if stream.read_buf(&mut bytes).await.map_err(|_| None)? == 0 {
            return Err(Some(Refused::Gone));
        }
    }
}

async fn plain(known: Known, stream: TcpStream) {
    let stream = Rewound::new(known.first.clone(), stream);
    http::serve(stream, http_connection(known, None, None), false).await;
}

fn http_connection(known: Known, sni: Option<String>, closed: Option<Arc<ServerConfig>>) -> http::Connection {
    http::Connection {
        shared: known.shared,
        thread: known.thread,
        peer: known.peer,
        local: known.local,
        ends: http::Ends::of(known.peer, known.local),
        sni,
        closed,
        link: Arc::default(),
        _held: known.held,
    }
}

/// Waits for one step of a handshake, for as long as it may take and there is a place for it.
async fn step<T>(
    shaking: &mut Shaking,
    patience: Duration,
    step: impl Future<Output = T>,
) -> Result<T, Option<Refused>> {
    tokio::select! {
        done = timeout(patience, step) => done.map_err(|_| Some(Refused::HandshakeTimeout)),
        () = shaking.lost() => Err(Some(Refused::HandshakesFull)),
    }
}

async fn secure(mut known: Known, mut stream: TcpStream) -> Result<(), Option<Refused>> {
    let config = &known.snapshot.config;
    let mut shaking = known.shared.handshakes.begin(Client::of(known.peer.ip()), config.limits.handshakes);
    let patience = config.timeouts.handshake;
    let first = std::mem::take(&mut known.first);
    let peeked = step(&mut shaking, patience, peek::hello(&mut stream, first)).await?;
    let peeked = peeked.map_err(|_| Some(Refused::Gone))?;
    let (hello, bytes) = match peeked {
        Peeked::Hello(hello, bytes) => (hello, bytes),
        Peeked::Gone => return Err(Some(Refused::Gone)),
        Peeked::Refused(refusal, bytes) => return Err(Some(refuse_hello(stream, refusal, &bytes).await)),
    };
    let host = hello.host.clone().or_else(|| known.snapshot.config.default_host.clone());
    match destination(&known, &hello, host.as_deref()) {
        Destination::Nowhere => {
            alert(stream, Alert::UnrecognizedName).await;
            Err(Some(Refused::UnknownName))
        }
        Destination::Handover => hand_over(&known, stream, bytes),
        Destination::Through(service) => {
            drop(shaking);
            known.first = bytes;
            match pass(known, stream, service, host).await {
                Ok(()) => Ok(()),
                Err((reason, stream)) => {
                    if let Some(stream) = stream {
                        alert(stream, Alert::InternalError).await;
                    }
                    Err(Some(reason))
                }
            }
        }
        Destination::Here { settings, service } => {
            let closed = service.and_then(|service| service.closed.clone());
            let accepting = TlsAcceptor::from(settings).accept(Rewound::new(bytes, stream));
            let accepted = step(&mut shaking, patience, accepting).await?;
            let stream = accepted.map_err(|_| Some(Refused::Handshake))?;
            drop(shaking);
            let protocol = stream.get_ref().1.alpn_protocol();
            if protocol == Some(ACME_TLS) {
                // The proof was the handshake itself.
                return Ok(());
            }
            let h2 = protocol == Some(b"h2");
            let connection = http_connection(known, host, closed);
            http::serve(stream, connection, h2).await;
            Ok(())
        }
    }
}

enum Destination {
    Nowhere,
    Handover,
    Through(Arc<Service>),
    Here { settings: Arc<ServerConfig>, service: Option<Arc<Service>> },
}

/// Who gets a connection with this hello, for the host that it names or that stands in for one.
fn destination(known: &Known, hello: &Hello, host: Option<&str>) -> Destination {
    let shared = &known.shared;
    let nobody = || {
        let own = hello.host.is_none() || hello.host == known.snapshot.config.own_host;
        if known.shared_port && own { Destination::Handover } else { Destination::Nowhere }
    };
    let Some(host) = host else { return nobody() };
    if hello.offers(ACME_TLS) && shared.certificates.has_challenge(host) {
        return Destination::Here { settings: shared.tls.challenge.clone(), service: None };
    }
    let Some(service) = known.snapshot.site(host).and_then(|site| site.first()) else {
        return nobody();
    };
    match service.config.mode {
        Mode::TlsPassthrough => Destination::Through(service.clone()),
        Mode::Http if shared.certificates.get(host).is_some() => {
            let settings = service.closed.as_ref().unwrap_or(&shared.tls.open).clone();
            Destination::Here { settings, service: Some(service.clone()) }
        }
        _ => Destination::Nowhere,
    }
}

/// From here on the connection takes none of the front's places.
fn hand_over(known: &Known, stream: TcpStream, first: Bytes) -> Result<(), Option<Refused>> {
    let stream = stream.into_std().map_err(|_| None)?;
    let other = known.shared.handover.as_ref();
    let taken = other.is_some_and(|other| other.take(stream, known.peer, first));
    if taken { Ok(()) } else { Err(Some(Refused::HandoverFull)) }
}

async fn alert(mut stream: TcpStream, alert: Alert) {
    let _ = stream.write_all(&alert.record()).await;
    let _ = stream.shutdown().await;
    // Unread bytes would make the kernel answer with a reset, which overtakes the alert.
    let mut rest = [0; 1024];
    let _ = timeout(Duration::from_millis(500), async {
        while matches!(stream.read(&mut rest).await, Ok(length) if length > 0) {}
    })
    .await;
}

const PLAIN: &str = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n\
                     content-length: 66\r\n\r\n400 Bad Request: this port speaks TLS; use https:// to reach it.\r\n";

async fn refuse_hello(mut stream: TcpStream, refusal: Refusal, bytes: &[u8]) -> Refused {
    if let Some(said) = refusal.alert() {
        alert(stream, said).await;
        return Refused::BadHello;
    }
    let methods: [&[u8]; 5] = [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"OPTIONS "];
    if methods.iter().any(|method| bytes.starts_with(method)) {
        let _ = stream.write_all(PLAIN.as_bytes()).await;
        let _ = stream.shutdown().await;
        return Refused::PlainHttp;
    }
    Refused::BadHello
}

/// Hands the connection to a backend as it is.
async fn pass(
    known: Known,
    stream: TcpStream,
    service: Arc<Service>,
    host: Option<String>,
) -> Result<(), (Refused, Option<TcpStream>)> {
    let opening = Opening {
        shared: &known.shared,
        snapshot: &known.snapshot,
        service: &service,
        peer: known.peer,
        local: known.local,
        host,
    };
    stream::pass(opening, stream, known.first.clone()).await
}
