//! `expose`: services that gateways offer to people outside.
//!
//! Three things are described here. What a command asks of its own daemon ([`Expose`], [`Unexpose`],
//! [`Publications`]); what the author tells the gateway beyond names and backends ([`Settings`], which
//! travel as JSON in the PUBLISH document, so field names are part of the protocol: a gateway refuses
//! those that it does not know, for they may narrow who comes in); and what the gateway answers
//! ([`Answer`]).

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// How a service is reached from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PublishMode {
    /// TLS ends at the gateway, which forwards requests.
    #[default]
    Http,
    /// TLS goes through byte for byte: the gateway cannot read it.
    TlsPassthrough,
    /// A TCP port of its own.
    Tcp,
    /// A UDP port of its own.
    Udp,
}

impl PublishMode {
    /// The word in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::TlsPassthrough => "tls-passthrough",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// Whether it is found by host name, and not by a port of its own.
    pub const fn is_by_name(self) -> bool {
        matches!(self, Self::Http | Self::TlsPassthrough)
    }
}

/// What the gateway does for a service besides handing streams on. The words are those of its own
/// configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Path prefixes, whole segments; none means `/`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Also over plain HTTP, without a redirect.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub plain: bool,
    /// What the backends speak: `h1` or `h2c`; mode `http`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<PublishProtocol>,
    /// How a backend is picked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub balance: Option<PublishBalance>,
    /// How it is found out that a backend is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<PublishCheck>,
    /// Backends get a `PROXY` header at the start of each connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_header: Option<PublishProxyHeader>,
    /// Who may come in.
    #[serde(skip_serializing_if = "PublishAccess::is_open")]
    pub access: PublishAccess,
    /// Largest request body, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_max: Option<u64>,
    /// The public port that is wished for; modes `tcp` and `udp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// What backends speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PublishProtocol {
    /// HTTP/1.1.
    H1,
    /// HTTP/2 without TLS, as gRPC servers do.
    H2c,
}

/// How a backend is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PublishBalance {
    /// One after the other, by weight.
    RoundRobin,
    /// The one with the fewest requests under way.
    LeastConnections,
    /// A client stays where it was first sent, told by a cookie.
    StickyCookie,
    /// A client address stays at one backend.
    StickyAddress,
}

/// How it is found out that a backend is well.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PublishCheck {
    /// Path of a request that must be answered with 2xx or 3xx; `null`: a connection is enough.
    pub path: Option<String>,
    /// `Host` of that request; the service's first by default.
    pub host: Option<String>,
    /// Pause between checks, seconds; `null`: the gateway's default.
    pub interval: Option<f64>,
}

/// Version of the `PROXY` protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PublishProxyHeader {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// Who may come in. Every part that is given must be satisfied.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PublishAccess {
    /// Only these addresses and ranges; none for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// Not these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
    /// Users with their password hashes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub basic: Vec<PublishUser>,
    /// Requests a client may make.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<PublishRate>,
    /// The backend of weight 0 decides on every request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forward: Option<PublishForwardAuth>,
    /// Clients must show a certificate of this authority: PEM text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<String>,
}

impl PublishAccess {
    /// Whether anybody may come in, as often as they like.
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }
}

/// A user of basic authentication.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishUser {
    /// Name.
    pub name: String,
    /// PHC format, Argon2: `$argon2id$…`.
    pub hash: String,
}

impl std::fmt::Debug for PublishUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublishUser({})", self.name)
    }
}

/// A rate of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishRate {
    /// On average.
    pub per_second: u32,
    /// At once, after a pause.
    pub burst: u32,
}

/// How the backend of weight 0 is asked: 2xx lets a request through, anything else is the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishForwardAuth {
    /// Path that is asked.
    pub path: String,
    /// `Host` of the question; `null`: that of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Headers of its answer that the backend gets, in place of any the client sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copy: Vec<String>,
}

/// A port of a workload that serves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExposeBackend {
    /// Name of the workload in the network: `web`, or `web.MEMBER` for one whose short name is another's.
    pub workload: String,
    /// Port.
    pub port: u16,
    /// Share, 0 to 1000; 0 for the one that [`PublishAccess::forward`] asks, and in mode `tls-passthrough`
    /// for the one that answers an authority's questions over plain HTTP.
    #[serde(default = "one")]
    pub weight: u16,
}

const fn one() -> u16 {
    1
}

/// Publishes a service, or changes one of the same network and name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expose {
    /// Network: id, unique beginning of one, or name; `null`: the only one that has the backends.
    #[serde(default)]
    pub network: Option<String>,
    /// What the author calls the service, a DNS label, unique in the network and node; `null`: the first
    /// label of its first host, or the first workload's name.
    #[serde(default)]
    pub name: Option<String>,
    /// The gateway: node id, mesh address, or name of a peer.
    pub via: String,
    /// How it is reached.
    #[serde(default)]
    pub mode: PublishMode,
    /// Host names: a label is one under the gateway's own domain.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Who serves it.
    pub backends: Vec<ExposeBackend>,
    /// For the gateway.
    #[serde(default)]
    pub settings: Settings,
    /// How long to wait for the gateway's answer, milliseconds.
    #[serde(default)]
    pub wait_ms: u64,
    /// Only say what would change.
    #[serde(default)]
    pub dry_run: bool,
}

impl Expose {
    /// Whether the parts fit together; both the command and the daemon ask, before anything is signed.
    ///
    /// # Errors
    /// What does not, for people.
    pub fn check(&self) -> Result<(), String> {
        let by_name = self.mode.is_by_name();
        if by_name && self.hosts.is_empty() {
            return Err("modes http and tls-passthrough need a --name or a --host".to_owned());
        }
        if !by_name && !self.hosts.is_empty() {
            return Err("modes tcp and udp have a port of their own: leave --name and --host out".to_owned());
        }
        let asked = self.backends.iter().filter(|backend| backend.weight == 0).count();
        let fits = match self.mode {
            PublishMode::TlsPassthrough => asked <= 1,
            _ => asked == usize::from(self.settings.access.forward.is_some()),
        };
        if !fits {
            let why = "one backend of weight 0 goes with access.forward or mode tls-passthrough, and only with these";
            return Err(why.to_owned());
        }
        if self.backends.iter().any(|backend| backend.weight > 1000 || backend.port == 0) {
            return Err("a backend has a port from 1 on and a weight of at most 1000".to_owned());
        }
        self.settings.check(self.mode)
    }
}

impl Settings {
    fn check(&self, mode: PublishMode) -> Result<(), String> {
        let http = mode == PublishMode::Http;
        let only_http = [
            ("paths", !self.paths.is_empty()),
            ("plain", self.plain),
            ("protocol", self.protocol.is_some()),
            ("check.path", self.check.as_ref().is_some_and(|check| check.path.is_some())),
            ("access.basic", !self.access.basic.is_empty()),
            ("access.forward", self.access.forward.is_some()),
            ("access.client_ca", self.access.client_ca.is_some()),
            ("body_max", self.body_max.is_some()),
            ("balance sticky-cookie", self.balance == Some(PublishBalance::StickyCookie)),
        ];
        if let Some((what, _)) = only_http.into_iter().find(|(_, given)| *given && !http) {
            return Err(format!("{what} is for mode http, where the gateway reads requests"));
        }
        if self.port.is_some() && mode.is_by_name() {
            return Err("a public port is for modes tcp and udp".to_owned());
        }
        if self.proxy_header.is_some() && mode == PublishMode::Udp {
            return Err("a PROXY header is for streams, not for mode udp".to_owned());
        }
        let check = self.check.as_ref().and_then(|check| check.path.as_ref());
        let forward = self.access.forward.as_ref().map(|forward| &forward.path);
        if let Some(path) = self.paths.iter().chain(check).chain(forward).find(|path| !path.starts_with('/'))
        {
            return Err(format!("the path `{path}` does not begin with /"));
        }
        let copy = self.access.forward.iter().flat_map(|forward| &forward.copy);
        if let Some(name) = copy.into_iter().find(|name| !is_copied(name)) {
            return Err(format!("access.forward.copy: `{name}` is no header that an answer can set"));
        }
        let ranges = self.access.allow.iter().chain(&self.access.deny);
        match ranges.into_iter().find(|text| !is_range(text)) {
            Some(text) => Err(format!("`{text}` is no address and no range such as 192.0.2.0/24")),
            None => Ok(()),
        }
    }
}

/// Whether a header of somebody's answer may stand in a request: its name is one (RFC 9110, 5.6.2), and it neither
/// frames the message nor says whose it is.
fn is_copied(name: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let own = ["connection", "content-length", "host", "te", "trailer", "transfer-encoding", "upgrade"];
    !name.is_empty() && name.bytes().all(token) && !own.iter().any(|own| name.eq_ignore_ascii_case(own))
}

fn is_range(text: &str) -> bool {
    let (address, len) = text.split_once('/').map_or((text, None), |(address, len)| (address, Some(len)));
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let most = if address.is_ipv4() { 32 } else { 128 };
    len.is_none_or(|len| len.parse::<u8>().is_ok_and(|len| len <= most))
}

/// What became of an [`Expose`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exposed {
    /// What was done, or would be: `created`, `changed`, `unchanged`.
    pub change: String,
    /// What differs from before, a line each, for people.
    #[serde(default)]
    pub differences: Vec<String>,
    /// The service now.
    pub publication: Publication,
}

/// Takes a service back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unexpose {
    /// Its name, a host of it, or its id.
    pub service: String,
    /// Network, where several have a service of that name.
    #[serde(default)]
    pub network: Option<String>,
    /// How long to wait for the gateway's answer, milliseconds.
    #[serde(default)]
    pub wait_ms: u64,
}

/// What became of an [`Unexpose`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unexposed {
    /// Its id.
    pub id: String,
    /// What it was called.
    pub name: String,
    /// Its network's name.
    pub network: String,
    /// Whether the gateway has confirmed it. It is cut off on this side either way.
    pub confirmed: bool,
}

/// The services that this node publishes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Publications {
    /// By network and name.
    pub services: Vec<Publication>,
    /// Requests at this node's service port since the daemon started, by outcome: `ok`, `not_published`,
    /// `not_here`, `refused`, `timed_out`, `busy`, `malformed`, `silent`, `crowded`, and streams `cut`.
    #[serde(default)]
    pub requests: BTreeMap<String, u64>,
}

/// How a service stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PublicationState {
    /// The gateway has not answered yet.
    Sending,
    /// The gateway cannot be reached; it is tried again.
    Unreachable,
    /// It is served.
    Live,
    /// The gateway knows it and waits for something: the text says for what.
    Pending,
    /// The gateway refuses it: the text says why.
    Refused,
    /// This node may not publish it any more: the text says why.
    Void,
    /// It was taken back.
    Withdrawn,
}

impl PublicationState {
    /// The word in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sending => "sending",
            Self::Unreachable => "unreachable",
            Self::Live => "live",
            Self::Pending => "pending",
            Self::Refused => "refused",
            Self::Void => "void",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// A service, as its author's node knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Publication {
    /// Its id, 32 hexadecimal digits.
    pub id: String,
    /// Number of the statement in force; rises with each.
    #[serde(default)]
    pub seq: u64,
    /// What the author calls it.
    pub name: String,
    /// Its network's name here.
    pub network: String,
    /// Its network's id.
    pub network_id: String,
    /// The gateway's node id.
    pub gateway: String,
    /// How it is reached.
    pub mode: PublishMode,
    /// Host names, as they were asked for.
    pub hosts: Vec<String>,
    /// Who serves it.
    pub backends: Vec<PublicationBackend>,
    /// For the gateway.
    pub settings: Settings,
    /// How it stands.
    pub state: PublicationState,
    /// What the gateway said last; `null` before it did.
    pub answer: Option<Answer>,
    /// How long ago, milliseconds.
    pub answer_age_ms: Option<u64>,
    /// A word for the state, empty while all is well.
    pub code: String,
    /// The same for people.
    pub text: String,
    /// Until when the statement runs; it is renewed long before. RFC 3339.
    pub expires: String,
    /// Connections through this node's service port that are open now.
    pub connections: u64,
    /// Bytes that came in from the gateway through it, since the daemon started.
    pub rx_bytes: u64,
    /// Bytes that went out.
    pub tx_bytes: u64,
}

/// A backend, as its author's node knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicationBackend {
    /// Name of the workload; its place, if it is gone.
    pub workload: String,
    /// The node that carries it; `null` if none does.
    pub node: Option<String>,
    /// Port.
    pub port: u16,
    /// Share.
    pub weight: u16,
    /// Whether it runs on this node.
    pub here: bool,
}

/// How a service, or one of its hosts, stands at the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerState {
    /// It is served.
    Live,
    /// It waits for something.
    Pending,
    /// It is not served.
    Refused,
    /// It was taken back.
    Withdrawn,
}

/// A record that the author has to set in a zone of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsToSet {
    /// Name, without a dot at its end.
    pub name: String,
    /// `TXT`, `A`, `AAAA` or `CNAME`.
    pub kind: String,
    /// Value.
    pub value: String,
}

/// One host of a service at the gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerHost {
    /// The whole name, under the gateway's domain or the author's own.
    pub host: String,
    /// How it stands.
    pub state: AnswerState,
    /// A stable word for why it is not live, else empty.
    #[serde(default)]
    pub code: String,
    /// The same for people.
    #[serde(default)]
    pub text: String,
    /// What to set so that it becomes live.
    #[serde(default)]
    pub dns: Vec<DnsToSet>,
}

/// What a gateway says to a PUBLISH: JSON behind the status byte of the service port. Bounded by
/// 64 KiB. All texts come from another node: they are shown, never acted on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Hexadecimal id of the service; `null` if the documents held no PUBLISH.
    #[serde(default)]
    pub service: Option<String>,
    /// Number of the PUBLISH that it answers.
    #[serde(default)]
    pub seq: u64,
    /// The whole service: live if any host or port is.
    pub state: AnswerState,
    /// Its hosts.
    #[serde(default)]
    pub hosts: Vec<AnswerHost>,
    /// Public addresses of the gateway: its domain, then IP addresses.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// The public port; modes `tcp` and `udp`, or where TLS is not on 443.
    #[serde(default)]
    pub port: Option<u16>,
    /// A stable word for why it is not live, else empty: `not_a_gateway`, `not_allowed`, `quota`,
    /// `name_taken`, `name_reserved`, `name_too_short`, `own_domain`, `proof_missing`, `bad_settings`,
    /// `name_unregistered`, `backend_unknown`, `other_gateway`, `older`, `no_port_free`, `bad_documents`, …
    #[serde(default)]
    pub code: String,
    /// The same for people, with who and since when for names that are taken.
    #[serde(default)]
    pub text: String,
}
