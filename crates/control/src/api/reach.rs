//! `why` and `netcheck`: which way data takes, what else was tried, and what the network lets through.

use serde::{Deserialize, Serialize};

use super::Finding;

/// Asks why data to a node goes as it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhyRequest {
    /// Node id, unique beginning of one, mesh address or name.
    pub target: String,
}

/// The way to a node, the reasons for it, and every other way that was tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Why {
    /// Public key.
    pub node_id: String,
    /// Mesh address.
    pub address: String,
    /// The name it gave itself.
    pub name: Option<String>,
    /// Whether data can reach it now.
    pub reachable: bool,
    /// Whether it does so without relays.
    pub direct: bool,
    /// The path in use, as in [`Session::path`](super::Session::path).
    pub path: Option<String>,
    /// Carrier of the first link on it.
    pub carrier: Option<String>,
    /// Until something is tried again by itself.
    pub next_try_ms: Option<u64>,
    /// Why it is so, the weightiest first.
    pub reasons: Vec<Reason>,
    /// Every direct way, the best carriers first.
    pub candidates: Vec<Candidate>,
}

/// One reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// Stable word.
    pub code: String,
    /// What it means here.
    pub text: String,
    /// What would change it; may be empty.
    pub fix: String,
}

/// One direct way to a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Carrier; `null` where the name did not even resolve.
    pub carrier: Option<String>,
    /// The name and port it comes from; `null` if the far end opened it, or told it over relays.
    pub endpoint: Option<String>,
    /// Underlay address.
    pub remote: Option<String>,
    /// As [`Peer::interface`](super::Peer::interface), once it is a path.
    #[serde(default)]
    pub interface: Option<String>,
    /// What has become of it.
    pub state: CandidateState,
    /// Since it was tried last; `null` if never.
    pub last_try_ms: Option<u64>,
    /// What came of it, in words.
    pub answer: Option<String>,
    /// Round trip when it answered.
    pub rtt_ms: Option<f64>,
}

/// What has become of a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CandidateState {
    /// Data takes it.
    InUse,
    /// It works; a better one is in use.
    Standby,
    /// It has been asked, and has not answered yet.
    Trying,
    /// Its turn has not come.
    Untried,
    /// It answered when something better stood already, and was closed.
    NotNeeded,
    /// It failed, or does not answer any more.
    Failed,
}

impl CandidateState {
    /// The word in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InUse => "in_use",
            Self::Standby => "standby",
            Self::Trying => "trying",
            Self::Untried => "untried",
            Self::NotNeeded => "not_needed",
            Self::Failed => "failed",
        }
    }
}

/// What the network under this node lets through, as far as links and tries have shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Netcheck {
    /// By carrier, the best first.
    pub carriers: Vec<CarrierCheck>,
    /// IPv4.
    pub ipv4: FamilyCheck,
    /// IPv6.
    pub ipv6: FamilyCheck,
    /// This node's addresses as peers see them.
    pub reflected: Vec<Reflected>,
    /// What that says about address translation.
    pub nat: Nat,
    /// The same in words.
    pub nat_text: String,
    /// How this node finds others.
    #[serde(default)]
    pub finding: Finding,
    /// What the router in front of this host does for it.
    pub port_mapping: PortMapping,
}

/// The port that a router passes on to this node, or why it does not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// What has become of it.
    pub state: MappingState,
    /// `pcp` or `nat-pmp`.
    pub protocol: Option<String>,
    /// The router.
    pub gateway: Option<String>,
    /// Address and port at which others reach this node.
    pub outside: Option<String>,
    /// How long the router grants it; it is renewed at half of that.
    pub lifetime_ms: Option<u64>,
}

/// What has become of a port mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MappingState {
    /// Nobody is asked: `[reach] port_mapping` is false, or there is no UDP socket for it.
    #[default]
    Off,
    /// This host has no router over IPv4.
    NoRouter,
    /// The router does not answer such questions.
    Silent,
    /// It answers, and refuses.
    Refused,
    /// It passes the port on.
    Mapped,
    /// It does, but its own outside address is one behind another translator.
    BehindAnother,
}

impl MappingState {
    /// The word in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::NoRouter => "no_router",
            Self::Silent => "silent",
            Self::Refused => "refused",
            Self::Mapped => "mapped",
            Self::BehindAnother => "behind_another",
        }
    }

    /// The same for people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Off => "no router is asked to pass on a port",
            Self::NoRouter => "this host has no router over IPv4 to ask",
            Self::Silent => "the router answers neither PCP nor NAT-PMP nor UPnP",
            Self::Refused => "the router refuses to pass on a port",
            Self::Mapped => "the router passes on a port",
            Self::BehindAnother => "the router passes on a port, but stands behind another NAT itself",
        }
    }
}

/// One carrier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarrierCheck {
    /// `udp`, `quic`, `tcp` or `wss`.
    pub carrier: String,
    /// Whether this node listens.
    pub listening: bool,
    /// Links in use.
    pub links: u64,
    /// Ways that worked when last tried, links included.
    pub worked: u64,
    /// Ways that failed when last tried.
    pub failed: u64,
    /// `true` if any way worked, `false` if some were tried and none did, `null` if none was tried.
    pub passes: Option<bool>,
}

/// One address family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FamilyCheck {
    /// This host's addresses of the family that others could dial, without loopback and mesh.
    pub addresses: Vec<String>,
    /// Links in use over it.
    pub links: u64,
    /// As [`CarrierCheck::passes`].
    pub passes: Option<bool>,
}

/// This node's address as a peer sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reflected {
    /// Address and port.
    pub address: String,
    /// Carrier on which the peer sees it.
    pub carrier: String,
    /// Who says so.
    pub node_id: String,
    /// Since it first said so.
    pub age_ms: u64,
}

/// What stands between this node and its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nat {
    /// No peer has said how it sees this node.
    Unknown,
    /// Peers see this host's own address.
    None,
    /// An address of somebody else; one peer alone does not tell more.
    Some,
    /// The same address and port towards every peer (RFC 4787: endpoint-independent mapping).
    EndpointIndependent,
    /// Another one towards each peer ("symmetric"): nobody can guess the next.
    EndpointDependent,
}

impl Nat {
    /// The word in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::None => "none",
            Self::Some => "some",
            Self::EndpointIndependent => "endpoint_independent",
            Self::EndpointDependent => "endpoint_dependent",
        }
    }
}
