//! `dns`: what names stand for, and which source said so.

use serde::{Deserialize, Serialize};

use super::status::Health;

/// Asks for a name as a program would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DnsQuery {
    /// Full, or short: then the search domains of `workload` are tried.
    pub name: String,
    /// `A`, `AAAA`, `SRV`, `PTR`, …; `null` = A and AAAA.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// Ask as this workload (name or id) does; `null` = as the host.
    #[serde(default)]
    pub workload: Option<String>,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DnsAnswer {
    /// The full name that was looked up.
    pub name: String,
    /// `NOERROR`, `NXDOMAIN`, `REFUSED`, `SERVFAIL`.
    pub status: String,
    /// The records; empty with `NOERROR`: the name exists, not with this type.
    pub records: Vec<DnsRecord>,
    /// Whose word it is: `network shop`, `mesh`, `upstream 192.0.2.53`.
    pub source: String,
    /// Why this answer, in one line.
    pub why: String,
    /// How long it took.
    pub duration_ms: f64,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsRecord {
    /// Full name without the last dot.
    pub name: String,
    /// `A`, `AAAA`, `SRV`, `PTR`.
    #[serde(rename = "type")]
    pub kind: String,
    /// How long it may be kept.
    pub ttl_ms: u64,
    /// As in a zone file.
    pub data: String,
    /// Network that has it; `null` = the mesh itself.
    pub network: Option<String>,
    /// The node that signed or has it, if it is ours.
    pub node_id: Option<String>,
}

/// Which records to list (`?network=`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DnsRecordsQuery {
    /// Of one network only.
    pub network: Option<String>,
}

/// All records that this node answers by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsRecords {
    /// Ordered by network and name.
    pub records: Vec<DnsRecord>,
}

/// How names are served here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsStatus {
    /// `[dns] enabled`.
    pub enabled: bool,
    /// `[dns] domain`.
    pub domain: String,
    /// How the host asks us: `systemd-resolved`, `none`.
    pub host: String,
    /// Where other names go.
    pub upstreams: Vec<String>,
    /// Domains that name servers of their own are asked about: `[[dns.forward]]`.
    #[serde(default)]
    pub forward: Vec<DnsForward>,
    /// The host first, then each workload.
    pub servers: Vec<DnsServer>,
    /// What is wrong; empty when all is well.
    pub health: Vec<Health>,
}

/// One split rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsForward {
    /// This and all below it.
    pub domain: String,
    /// Addresses with port; nobody is asked if there are none.
    pub servers: Vec<String>,
}

/// One listening name server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsServer {
    /// `host`, or the workload's name.
    pub scope: String,
    /// Address with port.
    pub address: String,
    /// Networks whose names it answers.
    pub networks: Vec<String>,
    /// Domains searched there.
    pub search: Vec<String>,
    /// Questions so far.
    pub queries: u64,
    /// Of these, answered by ourselves.
    pub answered: u64,
    /// Of these, handed upstream.
    pub forwarded: u64,
    /// Of these, refused or failed.
    pub failed: u64,
}
