//! Where others connect to: TCP, WebSocket over TLS (at a port of our own, or through a door), QUIC.
//!
//! A stranger gets a place among the half-open before a byte of TLS is read; QUIC, whose sources
//! can be forged, first has to show that it receives at its address once places are getting scarce.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Endpoint, EndpointConfig, Incoming, MtuDiscoveryConfig, TransportConfig};
use rustls::ServerConnection;
use sinew_types::CarrierKind;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::connection::{Connecting, Wire};
use super::datagrams::{RECEIVE_BUFFER, SEND_BUFFER};
use super::door::{Door, Hall};
use super::stream::{SEGMENT, Stream, tune};
use super::websocket::{self, WebSocket, plain};
use crate::tls::{self, Certificate, TlsError};

/// Connections the kernel holds for us until they are accepted.
const BACKLOG: i32 = 1024;
/// What TLS calls the protocol inside: HTTP for a WebSocket, and our own on QUIC.
pub(crate) const ALPN_WEB: &[u8] = b"http/1.1";
const ALPN_QUIC: &[u8] = b"sinew";
/// A QUIC packet of this size carries a record of 1,200 bytes, which every link must (protocol A4);
/// a path of less is of no use to us, and one that QUIC need not look for.
const QUIC_MTU_MIN: u16 = 1240;
/// The largest packets QUIC tries: Ethernet less the IP and UDP headers.
const QUIC_MTU_V4: u16 = 1472;
const QUIC_MTU_V6: u16 = 1452;
/// Without a packet for so long, a QUIC connection is gone; an idle link says hello every 5 s.
const QUIC_IDLE: Duration = Duration::from_secs(30);
/// Receive and send buffer of a QUIC socket.
const QUIC_SOCKET_BUFFER: usize = 4 << 20;

type Arrivals = Pin<Box<dyn futures_util::Stream<Item = Incoming> + Send>>;

/// One listener.
pub(crate) enum Listener {
    Tcp(TcpListener),
    Wss(TcpListener, TlsAcceptor),
    Door(Hall, TlsAcceptor),
    Quic(Endpoint, Arrivals),
}

/// Somebody who has come.
pub(crate) enum Arrival {
    Tcp(TcpStream, SocketAddr),
    /// And what was read of it before.
    Wss(TcpStream, SocketAddr, TlsAcceptor, Bytes),
    Quic(Box<Incoming>),
}

impl Listener {
    pub(crate) fn tcp(addr: SocketAddr) -> io::Result<(Self, SocketAddr)> {
        let listener = open(addr)?;
        let bound = listener.local_addr()?;
        Ok((Self::Tcp(listener), bound))
    }

    pub(crate) fn wss(addr: SocketAddr, certificate: &Certificate) -> io::Result<(Self, SocketAddr)> {
        let tls = web(certificate).map_err(io::Error::other)?;
        let listener = open(addr)?;
        let bound = listener.local_addr()?;
        Ok((Self::Wss(listener, tls), bound))
    }

    pub(crate) fn door(certificate: &Certificate) -> Result<(Self, Door), TlsError> {
        let tls = web(certificate)?;
        let (door, hall) = Hall::new();
        Ok((Self::Door(hall, tls), door))
    }

    pub(crate) fn quic(addr: SocketAddr, certificate: &Certificate) -> io::Result<(Self, SocketAddr)> {
        let tls = certificate.server(ALPN_QUIC).map_err(io::Error::other)?;
        let tls = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
        config.transport_config(transport(addr.is_ipv6()));
        let endpoint = endpoint(addr, Some(config))?;
        let bound = endpoint.local_addr()?;
        let arrivals = futures_util::stream::unfold(endpoint.clone(), |endpoint| async move {
            let incoming = endpoint.accept().await?;
            Some((incoming, endpoint))
        });
        Ok((Self::Quic(endpoint, Box::pin(arrivals)), bound))
    }

    /// The endpoint that also dials, if it is one of this family.
    pub(crate) fn endpoint(&self, ipv6: bool) -> Option<&Endpoint> {
        match self {
            Self::Quic(endpoint, _) if endpoint.local_addr().is_ok_and(|at| at.is_ipv6() == ipv6) => {
                Some(endpoint)
            }
            _ => None,
        }
    }

    pub(crate) fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Arrival>> {
        match self {
            Self::Tcp(listener) => {
                listener.poll_accept(cx).map_ok(|(stream, from)| Arrival::Tcp(stream, from))
            }
            Self::Wss(listener, tls) => listener
                .poll_accept(cx)
                .map_ok(|(stream, from)| Arrival::Wss(stream, from, tls.clone(), Bytes::new())),
            Self::Door(hall, tls) => hall.poll_next(cx).map(|handed| {
                let stream = TcpStream::from_std(handed.stream)?;
                Ok(Arrival::Wss(stream, handed.remote, tls.clone(), handed.first))
            }),
            Self::Quic(_, arrivals) => match arrivals.as_mut().poll_next(cx) {
                Poll::Ready(Some(incoming)) => Poll::Ready(Ok(Arrival::Quic(Box::new(incoming)))),
                // An endpoint ends with its socket, and that with us.
                Poll::Ready(None) | Poll::Pending => Poll::Pending,
            },
        }
    }
}

impl Arrival {
    pub(crate) fn carrier(&self) -> CarrierKind {
        match self {
            Self::Tcp(..) => CarrierKind::Tcp,
            Self::Wss(..) => CarrierKind::Wss,
            Self::Quic(_) => CarrierKind::Quic,
        }
    }

    pub(crate) fn remote(&self) -> SocketAddr {
        match self {
            Self::Tcp(_, remote) | Self::Wss(_, remote, ..) => *remote,
            Self::Quic(incoming) => incoming.remote_address(),
        }
    }
}

fn web(certificate: &Certificate) -> Result<TlsAcceptor, TlsError> {
    Ok(TlsAcceptor::from(Arc::new(certificate.server(ALPN_WEB)?)))
}

/// The server's half of TLS and HTTP; `first` was read from the stream before.
pub(crate) fn websocket(stream: TcpStream, tls: TlsAcceptor, first: Bytes) -> Connecting {
    Box::pin(async move {
        tune(&stream);
        let mut fed = Ok(());
        let accepting = tls.accept_with(stream, |tls| fed = feed(tls, first));
        fed?;
        let stream = TlsStream::Server(accepting.await?);
        let accept = tokio_tungstenite::accept_async_with_config(stream, Some(websocket::config()));
        let socket = accept.await.map_err(plain)?;
        Ok(Wire::Stream(Stream::WebSocket(Box::new(WebSocket::new(socket)))))
    })
}

/// Gives TLS what it would have read from the stream itself.
fn feed(tls: &mut ServerConnection, mut first: Bytes) -> io::Result<()> {
    while first.has_remaining() {
        let length = tls.read_tls(&mut &first[..])?;
        if length == 0 {
            // It takes no more; a loop without end must not be a client's to cause.
            return Err(io::ErrorKind::InvalidData.into());
        }
        first.advance(length);
        tls.process_new_packets().map_err(io::Error::other)?;
    }
    Ok(())
}

/// What a QUIC dialler needs of TLS.
pub(crate) fn quic_client(ipv6: bool) -> Result<quinn::ClientConfig, TlsError> {
    let tls = QuicClientConfig::try_from(tls::client(ALPN_QUIC)?);
    let tls = tls.map_err(|error| TlsError::Setup(error.to_string()))?;
    let mut config = quinn::ClientConfig::new(Arc::new(tls));
    config.transport_config(transport(ipv6));
    Ok(config)
}

/// A QUIC endpoint on a socket of its own.
pub(crate) fn endpoint(addr: SocketAddr, server: Option<quinn::ServerConfig>) -> io::Result<Endpoint> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Best effort: a small buffer costs speed, not correctness.
    let _ = socket.set_recv_buffer_size(QUIC_SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(QUIC_SOCKET_BUFFER);
    socket.bind(&addr.into())?;
    let runtime = Arc::new(quinn::TokioRuntime);
    Endpoint::new(EndpointConfig::default(), server, UdpSocket::from(socket), runtime)
}

fn transport(ipv6: bool) -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(if ipv6 { QUIC_MTU_V6 } else { QUIC_MTU_V4 });
    config
        .initial_mtu(QUIC_MTU_MIN)
        .min_mtu(QUIC_MTU_MIN)
        .mtu_discovery_config(Some(mtu))
        // Nothing but datagrams: no stream whose bytes a stranger could make us hold.
        .max_concurrent_bidi_streams(0u32.into())
        .max_concurrent_uni_streams(0u32.into())
        .datagram_send_buffer_size(SEND_BUFFER)
        .datagram_receive_buffer_size(Some(RECEIVE_BUFFER));
    if let Ok(idle) = QUIC_IDLE.try_into() {
        config.max_idle_timeout(Some(idle));
    }
    Arc::new(config)
}

fn open(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // On Linux this only passes over connections of a former run that linger in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_tcp_mss(SEGMENT)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
