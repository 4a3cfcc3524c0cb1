//! A front with real sockets on loopback, backends that say what the test wants, and clients that
//! write byte for byte what it wants.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "each test uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use sinew_gateway::config::{Config, Protocol};
use sinew_gateway::{Certificate, Certificates, Gateway, Observer, Options, RequestEvent, StreamEvent};

/// Longer than anything takes that works.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A self-made authority, and the certificate that the front shows.
pub struct Authority {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    pub pem: String,
    der: rustls::pki_types::CertificateDer<'static>,
}

impl Authority {
    pub fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let cert = params.self_signed(&key).unwrap();
        let (pem, der) = (cert.pem(), cert.der().clone());
        Self { issuer: rcgen::Issuer::new(params, key), pem, der }
    }

    /// Chain and key, PEM.
    pub fn issue(&self, hosts: &[&str]) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let cert = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        (cert.pem(), key.serialize_pem())
    }

    pub fn certificate(&self, hosts: &[&str]) -> Certificate {
        let (chain, key) = self.issue(hosts);
        Certificate::from_pem(chain.as_bytes(), key.as_bytes()).unwrap()
    }

    /// Settings of a client that trusts it.
    pub fn client(&self, alpn: &[&[u8]]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        config
    }
}

/// Hears everything.
#[derive(Default)]
pub struct Heard {
    pub requests: Mutex<Vec<RequestEvent>>,
    pub streams: Mutex<Vec<StreamEvent>>,
}

impl Observer for Heard {
    fn request(&self, event: &RequestEvent) {
        self.requests.lock().unwrap().push(event.clone());
    }

    fn stream(&self, event: &StreamEvent) {
        self.streams.lock().unwrap().push(event.clone());
    }
}

pub struct Front {
    pub gateway: Gateway,
    pub heard: Arc<Heard>,
    pub authority: Authority,
}

pub const HOSTS: &[&str] = &["a.example", "b.example", "*.wild.example"];

impl Front {
    /// `text`: services and the rest; listeners for TLS and plain HTTP are added.
    pub fn start(text: &str) -> Self {
        Self::start_with(text, Options::default())
    }

    /// The same, with what `more` says of dialling.
    pub fn start_with(text: &str, more: Options) -> Self {
        let authority = Authority::new();
        let heard = Arc::new(Heard::default());
        let certificates = Certificates::new();
        certificates.set(HOSTS, &authority.certificate(HOSTS));
        let options = Options { threads: 2, observer: heard.clone(), certificates, ..more };
        let gateway = Gateway::start(options, parse(text)).unwrap_or_else(|error| panic!("{error}"));
        Self { gateway, heard, authority }
    }

    pub fn at(&self, protocol: Protocol) -> SocketAddr {
        let addresses = self.gateway.addresses();
        addresses.into_iter().find(|(listener, _)| listener.protocol == protocol).unwrap().1
    }

    /// A TLS connection by HTTP/1.1.
    pub fn tls(&self, host: &'static str) -> StreamOwned<ClientConnection, TcpStream> {
        self.tls_with(self.authority.client(&[b"http/1.1"]), host)
    }

    pub fn tls_with(
        &self,
        config: ClientConfig,
        host: &'static str,
    ) -> StreamOwned<ClientConnection, TcpStream> {
        let stream = connect(self.at(Protocol::Https));
        let name = ServerName::try_from(host).unwrap();
        StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream)
    }

    /// One request on a connection of its own, which is then closed by the front.
    pub fn ask(&self, host: &'static str, head: &str) -> Answer {
        let mut stream = self.tls(host);
        stream.write_all(head.as_bytes()).unwrap();
        read_answer(&mut stream)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("a.example", &format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n"))
    }

    pub fn refused(&self, word: &str) -> u64 {
        let status = self.gateway.status();
        status.refused.iter().find(|(name, _)| *name == word).unwrap().1
    }
}

pub fn parse(text: &str) -> Config {
    let listeners = "
        [[listeners]]
        address = '127.0.0.1:0'
        protocol = 'https'
        [[listeners]]
        address = '127.0.0.2:0'
        protocol = 'http'
    ";
    toml::from_str(&format!("{text}\n{listeners}")).unwrap_or_else(|error| panic!("{error}"))
}

/// A service `web` of `a.example` with these backends.
pub fn web(backends: &[SocketAddr], more: &str) -> String {
    let targets: Vec<_> = backends.iter().map(|backend| format!("{{ target = '{backend}' }}")).collect();
    format!(
        "[[services]]\nname = 'web'\nmode = 'http'\nhosts = ['a.example']\nbackends = [{}]\n{more}\n",
        targets.join(", ")
    )
}

pub fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// A response as it came.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Reads up to and with the empty line.
pub fn read_head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&head)),
        }
    }
    String::from_utf8(head).unwrap()
}

pub fn length_of(head: &str) -> Option<usize> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    let mut lengths = lines.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    lengths.next().map(|(_, value)| value.parse().unwrap())
}

/// A response with a length, or up to the connection's end.
pub fn read_answer(stream: &mut impl Read) -> Answer {
    let head = read_head(stream);
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut body = Vec::new();
    match length_of(&head) {
        Some(length) => {
            body.resize(length, 0);
            stream.read_exact(&mut body).unwrap();
        }
        None if status == 101 || status == 204 || status == 304 => {}
        None => drop(stream.read_to_end(&mut body)),
    }
    Answer { status, head, body }
}

/// Whether the far end closes, without a further byte.
pub fn closed(stream: &mut impl Read) -> bool {
    !matches!(stream.read(&mut [0; 64]), Ok(length) if length > 0)
}

/// A backend: each connection is served by `serve` on a thread of its own.
pub struct Backend {
    pub address: SocketAddr,
    /// One message for each connection.
    pub connections: mpsc::Receiver<()>,
}

pub fn backend(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Backend {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, connections) = mpsc::channel();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let _ = sender.send(());
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
    Backend { address, connections }
}

/// A backend that answers each request with `answer(head, body)`.
pub fn http_backend(answer: impl Fn(&str, &[u8]) -> String + Send + Sync + 'static) -> Backend {
    backend(move |mut stream| {
        let mut first = [0];
        while matches!(stream.peek(&mut first), Ok(1)) {
            let head = read_head(&mut stream);
            let mut body = vec![0; length_of(&head).unwrap_or(0)];
            if stream.read_exact(&mut body).is_err() {
                return;
            }
            let text = answer(&head, &body);
            if stream.write_all(text.as_bytes()).is_err() {
                return;
            }
        }
    })
}

pub fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// A backend that answers with its name.
pub fn named(name: &'static str) -> Backend {
    http_backend(move |_, _| ok(name))
}

/// An address where nobody listens.
pub fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

pub fn wait(what: &str, mut look: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !look() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
