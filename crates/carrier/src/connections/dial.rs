//! Making connections: TCP as it is, a WebSocket over TLS (through a proxy if the network has one),
//! and QUIC.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use sinew_types::{CarrierKind, PathAddr};
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::{TlsConnector, TlsStream};

use super::connection::{Connecting, Wire};
use super::datagrams::{Datagrams, reason};
use super::stream::{SEGMENT, Stream, tune};
use super::websocket::{self, WebSocket, plain};

/// Longest answer of a proxy, up to its empty line.
const PROXY_ANSWER_MAX: usize = 8 * 1024;

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// Which carrier.
    pub carrier: CarrierKind,
    /// The far end.
    pub remote: SocketAddr,
    /// The name by which it is known: what TLS and HTTP call it.
    pub host: String,
    /// What a WebSocket asks for, from the first slash.
    pub path: String,
    /// Host and port of an HTTP proxy that a WebSocket goes through.
    pub proxy: Option<String>,
}

impl Dial {
    /// A plain far end: no name, no proxy.
    pub fn new(carrier: CarrierKind, remote: SocketAddr) -> Self {
        Self { carrier, remote, host: remote.ip().to_string(), path: "/".to_owned(), proxy: None }
    }

    pub(crate) fn path(&self, local: u32) -> PathAddr {
        PathAddr { carrier: self.carrier, local, remote: self.remote }
    }
}

pub(crate) fn tcp(remote: SocketAddr) -> Connecting {
    Box::pin(async move { Ok(Wire::Stream(Stream::tcp(connect(remote).await?))) })
}

async fn connect(remote: SocketAddr) -> io::Result<TcpStream> {
    let socket = if remote.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    SockRef::from(&socket).set_tcp_mss(SEGMENT)?;
    socket.connect(remote).await
}

pub(crate) fn websocket(dial: Dial, tls: Arc<rustls::ClientConfig>) -> Connecting {
    Box::pin(async move {
        let stream = match &dial.proxy {
            Some(proxy) => through(proxy, &authority(&dial)).await?,
            None => connect(dial.remote).await?,
        };
        tune(&stream);
        let name = ServerName::try_from(dial.host.clone()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(tls).connect(name, stream).await?;
        let uri = format!("wss://{}{}", authority(&dial), dial.path);
        let client = tokio_tungstenite::client_async_with_config(
            uri,
            TlsStream::Client(stream),
            Some(websocket::config()),
        );
        let (socket, _) = client.await.map_err(plain)?;
        Ok(Wire::Stream(Stream::WebSocket(Box::new(WebSocket::new(socket)))))
    })
}

pub(crate) fn quic(connecting: quinn::Connecting) -> Connecting {
    Box::pin(async move {
        match connecting.await {
            Ok(connection) => Ok(Wire::Datagrams(Box::new(Datagrams::new(connection)))),
            Err(error) => Err(io::Error::other(reason(error).to_string())),
        }
    })
}

/// The far end as URIs and proxies write it.
fn authority(dial: &Dial) -> String {
    let port = dial.remote.port();
    if dial.host.contains(':') { format!("[{}]:{port}", dial.host) } else { format!("{}:{port}", dial.host) }
}

/// A connection to `authority` made by an HTTP proxy (RFC 9110 §9.3.6).
async fn through(proxy: &str, authority: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(proxy).await?;
    let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // Byte by byte: what follows the empty line is no longer the proxy's.
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= PROXY_ANSWER_MAX {
            return Err(io::Error::other(format!("the proxy {proxy} speaks no HTTP")));
        }
        answer.push(stream.read_u8().await?);
    }
    let status = answer.split(|&byte| byte == b' ').nth(1).unwrap_or_default();
    if status.first() != Some(&b'2') {
        let status = String::from_utf8_lossy(status).escape_debug().to_string();
        return Err(io::Error::other(format!("the proxy {proxy} refused with {status}")));
    }
    Ok(stream)
}
