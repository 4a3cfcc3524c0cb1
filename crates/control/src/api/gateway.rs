//! `gateway`: what this node serves to people outside, as its operator sees it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{AnswerHost, Health, PublishMode};

/// The whole gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GatewayStatus {
    /// Names are handed out below it; `null`: none are.
    pub domain: Option<String>,
    /// Who decides on these names; `null`: this gateway does.
    #[serde(default)]
    pub registrar: Option<GatewayRegistrar>,
    /// Sockets for clients.
    pub listeners: Vec<GatewayListener>,
    /// By host, then by port.
    pub services: Vec<GatewayService>,
    /// Client connections so far.
    pub connections: u64,
    /// Connections and datagrams that were turned away, by reason; reasons that never occurred are left out.
    pub refused: BTreeMap<String, u64>,
    /// What is wrong; empty when all is well.
    pub health: Vec<Health>,
}

/// The gateway that decides on the names below a domain, as one that follows it sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayRegistrar {
    /// The gateway.
    pub node_id: String,
    /// When its list was heard last, RFC 3339; `null`: never.
    pub heard: Option<String>,
    /// How long ago that is, milliseconds.
    pub age_ms: Option<u64>,
    /// Why it did not answer the last time; `null`: it did.
    pub problem: Option<String>,
}

/// A socket for clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayListener {
    /// Address and port.
    pub address: String,
    /// `https`, `http`, `tcp`, `udp`.
    pub protocol: String,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GatewayService {
    /// Its first host that is served, or its first; `tcp/20001` for a port.
    pub host: String,
    /// Path prefixes; empty for everything.
    pub paths: Vec<String>,
    /// All hosts that were asked for, and how each stands.
    pub hosts: Vec<AnswerHost>,
    /// How it is reached.
    pub mode: PublishMode,
    /// The public port, for TCP and UDP.
    pub port: Option<u16>,
    /// What its owner calls the network; `null` if nothing says so.
    pub network: Option<String>,
    /// The network.
    pub network_id: String,
    /// Who published it.
    pub author: String,
    /// Its id, 32 hexadecimal digits.
    pub service: String,
    /// First taken, RFC 3339.
    pub since: String,
    /// Until when its author's word holds, RFC 3339.
    pub expires: String,
    /// Who serves it.
    pub backends: Vec<GatewayBackend>,
    /// End of the certificate of `host`, RFC 3339; `null`: there is none, or none is needed.
    pub certificate_expiry: Option<String>,
    /// Requests, streams and flows under way.
    pub connections: u64,
    /// Responses by status class, `1xx` to `5xx`.
    pub requests: BTreeMap<String, u64>,
    /// Streams and flows so far.
    pub streams: u64,
    /// Bytes from clients, without headers, since the daemon started.
    pub rx_bytes: u64,
    /// Bytes to clients.
    pub tx_bytes: u64,
}

/// One backend of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayBackend {
    /// Workload and port.
    pub addr: String,
    /// Whether it gets new clients, or questions.
    pub healthy: bool,
    /// `well`, `down`, `ejected`, `draining`; `asked`: it gets questions and no clients; `unknown` before it
    /// is used.
    pub condition: String,
    /// The node that carries it; `null`: no document says where it is.
    pub node_id: Option<String>,
    /// Its share; 0 for the one that is asked who may come in.
    pub weight: u16,
    /// Requests and streams under way.
    pub active: u32,
}

/// Which host or service is meant: a host, `tcp/PORT`, `udp/PORT`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayProbe {
    /// The host.
    pub host: String,
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GatewayProbed {
    /// The service.
    pub service: GatewayService,
    /// Each backend, asked just now.
    pub probes: Vec<BackendProbe>,
}

/// One backend, asked just now through the mesh.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendProbe {
    /// Workload and port.
    pub addr: String,
    /// The node that carries it.
    pub node_id: Option<String>,
    /// How long the connection took; `null` if there was none.
    pub connect_ms: Option<f64>,
    /// Why there was none.
    pub error: Option<String>,
}

/// Lines of the access log that are still in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GatewayLogQuery {
    /// Only lines after this one; `null`: the newest.
    pub after: Option<u64>,
    /// At most so many.
    pub limit: Option<u32>,
    /// Only of this host or service.
    pub host: Option<String>,
    /// If there are none, wait so long for one, milliseconds; at most 30 s.
    pub wait_ms: u64,
}

/// Lines of the access log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GatewayLog {
    /// Oldest first; each has `kind` (`request`, `stream`, `backend`), `time` (RFC 3339; of requests and streams
    /// when they began) and the fields of that kind.
    pub lines: Vec<serde_json::Value>,
    /// What to ask for next with `after`.
    pub next: u64,
    /// Lines that were not written to the log file, because it was too slow, since the start.
    pub lost: u64,
}

/// Takes a backend out, or in again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayDrain {
    /// `WORKLOAD` or `WORKLOAD:PORT`, of all networks, or a node id: all backends that it carries.
    pub backend: String,
    /// Only of this host or service.
    #[serde(default)]
    pub host: Option<String>,
    /// It gets clients again.
    #[serde(default)]
    pub undo: bool,
}

/// What became of a [`GatewayDrain`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayDrained {
    /// The backends that it was about, by service and address.
    pub backends: Vec<String>,
    /// Requests and streams that they still have.
    pub active: u64,
}

/// Certificates in use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayCertificates {
    /// By host.
    pub certificates: Vec<GatewayCertificate>,
}

/// One certificate, or one that is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayCertificate {
    /// Hosts that it is used for.
    pub hosts: Vec<String>,
    /// `file`, `acme`, `none`.
    pub source: String,
    /// Beginning of its life, RFC 3339.
    pub not_before: Option<String>,
    /// End of its life, RFC 3339.
    pub not_after: Option<String>,
    /// What is wrong with it, or why there is none.
    pub problem: Option<String>,
}

/// Names, domains and ports, and whose they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayNames {
    /// Who decides on the names; `null`: this gateway does.
    #[serde(default)]
    pub registrar: Option<GatewayRegistrar>,
    /// Names below the gateway's domain.
    pub names: Vec<GatewayName>,
    /// Own domains that somebody claims.
    pub domains: Vec<GatewayDomain>,
    /// Ports.
    pub ports: Vec<GatewayPort>,
}

/// A name that a network holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayName {
    /// The label.
    pub name: String,
    /// In full.
    pub host: String,
    /// Its holder.
    pub network_id: String,
    /// Since when, RFC 3339.
    pub since: String,
    /// Until when, if it is not claimed again, RFC 3339.
    pub until: String,
    /// Whether something is published there.
    pub in_use: bool,
    /// Whose it will be by the operator's word, and when.
    pub transfer_to: Option<String>,
    /// When, RFC 3339.
    pub transfer_at: Option<String>,
}

/// A network's claim to a domain of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayDomain {
    /// The domain.
    pub domain: String,
    /// Who claims it.
    pub network_id: String,
    /// `proved`, `waiting`.
    pub state: String,
    /// Proved, or first asked for, RFC 3339.
    pub since: String,
    /// When the record is looked up next, RFC 3339.
    pub next_look: String,
    /// Looks in a row that found nothing.
    pub failures: u32,
}

/// A port that a network holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayPort {
    /// `tcp`, `udp`.
    pub transport: String,
    /// The port.
    pub port: u16,
    /// Its holder.
    pub network_id: String,
    /// Since when, RFC 3339.
    pub since: String,
    /// Until when, if it is not claimed again, RFC 3339.
    pub until: String,
}

/// Gives a name to another network, after a week's notice; or takes that back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayTransfer {
    /// The label.
    pub name: String,
    /// The new holder; `null`: it stays where it is after all.
    #[serde(default)]
    pub to: Option<String>,
}
