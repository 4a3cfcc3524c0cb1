//! What the front is to do, as one value.
//!
//! A [`Config`] says everything: it is checked whole, turned into an immutable snapshot and swapped
//! in at once ([`crate::Gateway::apply`]), so no request ever sees half of a change. Durations in
//! the serialised form are seconds, sizes bytes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::net::Prefix;

/// Where a stream is to go: a name that only [`crate::Dial`] understands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Target(pub Arc<str>);

impl From<String> for Target {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        (*target.0).to_owned()
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

/// Everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where clients come in.
    pub listeners: Vec<Listener>,
    /// What they find.
    pub services: Vec<Service>,
    /// Whom clients reach over TLS that name no host; none: they are turned away.
    pub default_host: Option<String>,
    /// The name of this machine itself.
    pub own_host: Option<String>,
    /// Proxies in front of this one: their `PROXY` headers and `X-Forwarded-*` are believed.
    pub trusted_proxies: Vec<Prefix>,
    /// Bounds on what clients take.
    pub limits: Limits,
    /// Bounds on how long anything waits.
    pub timeouts: Timeouts,
}

impl Config {
    /// The port of HTTPS, where clients have to say it: none of the listeners has the usual one, and no proxy
    /// stands before them, of whose ports nothing is known here.
    pub fn https_port(&self) -> Option<u16> {
        let https = self.listeners.iter().filter(|listener| listener.protocol == Protocol::Https);
        let mut ports = https.map(|listener| listener.address.port());
        let first = ports.next().filter(|port| *port != 0 && self.trusted_proxies.is_empty())?;
        (first != HTTPS && ports.all(|port| port != HTTPS)).then_some(first)
    }
}

/// The usual port of HTTPS.
const HTTPS: u16 = 443;

/// One socket for clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Address and port.
    pub address: SocketAddr,
    /// What is spoken there.
    pub protocol: Protocol,
    /// The service behind it; for `tcp` and `udp` only.
    #[serde(default)]
    pub service: Option<String>,
    /// Trusted proxies begin their connections with a `PROXY` header, version 1 or 2. Whoever is not
    /// a trusted proxy speaks the plain protocol.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// The port is shared: TLS for no host, or for [`Config::own_host`], that no service is published for,
    /// is handed over ([`crate::Handover`]) and not turned away. For `https` only.
    #[serde(default)]
    pub shared: bool,
}

/// What is spoken at a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TLS: passed through or terminated, as the service of the host says.
    Https,
    /// Plain HTTP: challenges, services that are published plain, redirects for all others.
    Http,
    /// Anything over TCP, to one service.
    Tcp,
    /// Anything over UDP, to one service.
    Udp,
}

/// How a service is reached from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// TLS ends here, requests are forwarded.
    Http,
    /// TLS goes through byte for byte.
    TlsPassthrough,
    /// A port of its own, TCP.
    Tcp,
    /// A port of its own, UDP.
    Udp,
}

/// What backends speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackendProtocol {
    /// HTTP/1.1.
    #[default]
    H1,
    /// HTTP/2 without TLS, as gRPC servers do.
    H2c,
}

/// One published service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Its name: in logs and metrics, and what ties its state together over changes.
    pub name: String,
    /// How it is reached.
    pub mode: Mode,
    /// Host names: exact, or `*.` before a name for exactly one label more.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Path prefixes, whole segments: `/api` is `/api` and `/api/x`, not `/apix`. None means `/`.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Also served over plain HTTP, without a redirect.
    #[serde(default)]
    pub plain: bool,
    /// What the backends speak; for mode `http`.
    #[serde(default)]
    pub protocol: BackendProtocol,
    /// Who serves it.
    pub backends: Vec<Backend>,
    /// How a backend is picked.
    #[serde(default)]
    pub balance: Balance,
    /// How it is found out that a backend is well. Without, only failures of clients' requests tell.
    #[serde(default)]
    pub check: Option<Check>,
    /// Backends get a `PROXY` header of this version at the start of each connection.
    #[serde(default)]
    pub proxy_header: Option<ProxyVersion>,
    /// Who may use it.
    #[serde(default)]
    pub access: Access,
    /// Largest request body, bytes; none for any.
    #[serde(default)]
    pub body_max: Option<u64>,
    /// Backends of mode `tls-passthrough` that order their own certificates: where the authority's
    /// questions on plain HTTP go (RFC 8555, 8.3). Those over TLS reach them as they are.
    #[serde(default)]
    pub http01: Option<Target>,
}

/// One server of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Backend {
    /// Where it is.
    pub target: Target,
    /// Its share, relative to the others'; 1 by default, at most 1000.
    #[serde(default = "one")]
    pub weight: u16,
    /// Finishes what it has and gets nothing new.
    #[serde(default)]
    pub drain: bool,
}

fn one() -> u16 {
    1
}

/// How a backend is picked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// One after the other, by weight.
    #[default]
    RoundRobin,
    /// The one with the fewest requests under way for its weight.
    LeastConnections,
    /// A client stays where it was first sent, told by a cookie.
    StickyCookie,
    /// A client address stays at one backend.
    StickyAddress,
}

/// How it is found out that a backend is well.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Check {
    /// Path of an HTTP request that must be answered with 2xx or 3xx; none: a TCP connection is
    /// enough.
    pub path: Option<String>,
    /// `Host` of that request; the service's first host by default.
    pub host: Option<String>,
    /// Pause between checks that succeed.
    #[serde(with = "seconds")]
    pub interval: Duration,
    /// Pause after one that failed, until the backend is given up.
    #[serde(with = "seconds")]
    pub retry: Duration,
    /// How long one may take.
    #[serde(with = "seconds")]
    pub timeout: Duration,
    /// Failures in a row that take a backend out.
    pub fall: u32,
    /// Successes in a row that bring it back.
    pub rise: u32,
}

impl Default for Check {
    /// A backend that has died silently is out within interval + 2 × timeout + retry: 2.8 s.
    fn default() -> Self {
        Self {
            path: None,
            host: None,
            interval: Duration::from_secs(1),
            retry: Duration::from_millis(200),
            timeout: Duration::from_millis(800),
            fall: 2,
            rise: 2,
        }
    }
}

/// Version of the `PROXY` protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// Who may use a service. Every part that is given must be satisfied.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Access {
    /// Only these addresses; none for all.
    pub allow: Vec<Prefix>,
    /// Not these, whatever `allow` says.
    pub deny: Vec<Prefix>,
    /// User names with their password hashes, in the PHC format of Argon2.
    pub basic: Vec<BasicUser>,
    /// Requests a client (IPv4 address or IPv6 /64) may make.
    pub rate: Option<Rate>,
    /// Another service decides on every request.
    pub forward: Option<ForwardAuth>,
    /// Clients must show a certificate of this authority: PEM text of its certificates.
    pub client_ca: Option<String>,
}

/// A user of basic authentication.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BasicUser {
    /// Name.
    pub name: String,
    /// `$argon2id$…`.
    pub hash: String,
}

impl std::fmt::Debug for BasicUser {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "BasicUser({})", self.name)
    }
}

/// A rate of requests.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// On average.
    pub per_second: u32,
    /// At once, after a pause.
    pub burst: u32,
}

/// A service that decides on every request: 2xx lets it through, anything else is the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForwardAuth {
    /// Where it is.
    pub target: Target,
    /// Path that is asked.
    pub path: String,
    /// `Host` of the question; by default that of the request.
    #[serde(default)]
    pub host: Option<String>,
    /// Headers of its answer that the backend gets, in place of any the client sent.
    #[serde(default)]
    pub copy: Vec<String>,
}

/// Bounds on what clients take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections, over all listeners.
    pub connections: u32,
    /// Connections of one client (IPv4 address or IPv6 /64), over all listeners.
    pub connections_per_client: u32,
    /// TLS handshakes under way, over all listeners; one more takes the place of another.
    pub handshakes: u32,
    /// A request's line and headers, bytes.
    pub header_bytes: u32,
    /// A request's headers.
    pub headers: u32,
    /// Requests under way in one HTTP/2 connection.
    pub streams: u32,
    /// UDP flows of one listener.
    pub udp_flows: u32,
    /// UDP flows of one client.
    pub udp_flows_per_client: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            connections_per_client: 512,
            handshakes: 1024,
            header_bytes: 32 * 1024,
            headers: 100,
            streams: 128,
            udp_flows: 4096,
            udp_flows_per_client: 64,
        }
    }
}

/// Bounds on how long anything waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// For a `PROXY` header, a ClientHello, and the TLS handshake, each.
    #[serde(with = "seconds")]
    pub handshake: Duration,
    /// For a request's headers from their first byte on.
    #[serde(with = "seconds")]
    pub header: Duration,
    /// Between requests.
    #[serde(with = "seconds")]
    pub idle: Duration,
    /// Without a byte of a body, or without the client taking one.
    #[serde(with = "seconds")]
    pub body: Duration,
    /// For a connection to a backend.
    #[serde(with = "seconds")]
    pub connect: Duration,
    /// For the head of a backend's response, from the end of the request on.
    #[serde(with = "seconds")]
    pub response: Duration,
    /// Without a byte either way on passed-through TLS, TCP ports, WebSockets.
    #[serde(with = "seconds")]
    pub tunnel: Duration,
    /// Without a datagram either way of a UDP flow.
    #[serde(with = "seconds")]
    pub udp: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            handshake: seconds(10),
            header: seconds(10),
            idle: seconds(75),
            body: seconds(60),
            connect: seconds(2),
            response: seconds(60),
            tunnel: seconds(3600),
            udp: seconds(60),
        }
    }
}

/// Durations as a number of seconds.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(value.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let value = f64::deserialize(from)?;
        Duration::try_from_secs_f64(value).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_have_to_say_a_port_only_where_there_is_no_usual_one() {
        let listener = |address: &str, protocol| Listener {
            address: address.parse().unwrap(),
            protocol,
            service: None,
            proxy_protocol: false,
            shared: false,
        };
        let port = |addresses: &[&str], proxies: &[&str]| {
            let https = addresses.iter().map(|address| listener(address, Protocol::Https));
            let trusted_proxies = proxies.iter().map(|text| text.parse().unwrap()).collect();
            let listeners = [listener("0.0.0.0:80", Protocol::Http)].into_iter().chain(https).collect();
            Config { listeners, trusted_proxies, ..Config::default() }.https_port()
        };
        assert_eq!(port(&["0.0.0.0:443", "[::]:443"], &[]), None);
        assert_eq!(port(&["0.0.0.0:8443", "[::]:8443"], &[]), Some(8443));
        assert_eq!(port(&["0.0.0.0:8443", "0.0.0.0:443"], &[]), None);
        assert_eq!(port(&["0.0.0.0:8443"], &["192.0.2.1"]), None, "the proxy has another");
        assert_eq!(port(&[], &[]), None);
    }
}
