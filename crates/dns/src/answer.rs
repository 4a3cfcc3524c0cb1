//! One question's answer: a pure function of the names, the scope and the question.
//!
//! ```text
//!                  ┌ below our domain ──▶ id · node · a network of the scope ┬ exists ─▶ records, or NODATA
//!  name ─▶ whose? ─┤ reverse of our ranges ▶ ───────────────────────────────┴ else ───▶ NXDOMAIN
//!                  └ else ──▶ handed on, refused, or NXDOMAIN if a single label
//! ```
//!
//! What the scope may not see takes the same way as what does not exist; only [`Why`], which
//! never leaves the machine, tells them apart.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA, NS, PTR, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use sinew_types::NodeId;

use crate::reverse::{self, Reverse};
use crate::scope::Scope;
use crate::zones::{
    Bearer, Host, KEY_TTL, KEYS, NEGATIVE_TTL, NODES, NetworkZone, RECORD_TTL, Service, Zones,
};

/// Where an answer came from, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Workload { network: String, node: Option<NodeId> },
    Key,
    Node(NodeId),
    Domain,
    Range(String),
    Localhost,
    NotAKey,
    NoNode,
    NodeNameTwice,
    NoNetwork,
    OtherScope(String),
    NoWorkload { network: String },
    NoService { network: String },
    NoReverse,
    OtherReverse(String),
    NotForPlainNames,
    NoForwarding,
    NotAnswered(RecordType),
}

impl Why {
    /// The network whose word it is.
    pub(crate) fn network(&self) -> Option<&str> {
        match self {
            Self::Workload { network, .. } | Self::NoWorkload { network } | Self::NoService { network } => {
                Some(network)
            }
            _ => None,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workload { network, node: Some(node) } => {
                write!(f, "a workload of network {network}, signed by node {}", node.short())
            }
            Self::Workload { network, node: None } => write!(f, "a workload of network {network}"),
            Self::Key => f.write_str("computed from the key itself"),
            Self::Node(node) => write!(f, "node {} calls itself so", node.short()),
            Self::Domain => f.write_str("part of our domain, without a record of its own"),
            Self::Range(network) => write!(f, "network {network}, without a record of its own"),
            Self::Localhost => f.write_str("this machine, by definition"),
            Self::NotAKey => {
                f.write_str("not a key: 52 characters of a-z and 2-7 that stand for a valid one")
            }
            Self::NoNode => f.write_str("no known node calls itself so, or none that may be seen here"),
            Self::NodeNameTwice => {
                f.write_str("two nodes call themselves so, and neither is believed: use KEY.id")
            }
            Self::NoNetwork => f.write_str("this node is in no network of this name"),
            Self::OtherScope(network) => write!(f, "network {network} exists, but not for whoever asks here"),
            Self::NoWorkload { network } => write!(f, "network {network} has no such workload"),
            Self::NoService { network } => {
                write!(f, "that workload of network {network} has no such service")
            }
            Self::NoReverse => f.write_str("an address of ours that nobody has"),
            Self::OtherReverse(network) => {
                write!(f, "an address in network {network}, which does not exist here")
            }
            Self::NotForPlainNames => f.write_str("a name without a dot is never handed on"),
            Self::NoForwarding => f.write_str("not below our domain, and nothing is handed on from here"),
            Self::NotAnswered(kind) => write!(f, "questions for {kind} are not answered"),
        }
    }
}

/// What to do with a question. Lives for a moment on the stack, so that its size does not matter.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant)]
pub(crate) enum Verdict {
    /// Our own answer.
    Ours(Answer),
    /// To be handed on.
    Forward,
}

/// An answer of ours.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) code: ResponseCode,
    /// Whether it is ours to know (the AA bit).
    pub(crate) authoritative: bool,
    pub(crate) records: Vec<Record>,
    /// Addresses of the targets named in `records`.
    pub(crate) extra: Vec<Record>,
    /// With a negative answer: the zone that it is about.
    pub(crate) soa: Option<Record>,
    pub(crate) why: Why,
}

/// The answer to `name` and `kind`, class IN.
pub(crate) fn answer(zones: &Zones, scope: &Scope, name: &Name, kind: RecordType) -> Verdict {
    if matches!(kind, RecordType::AXFR | RecordType::IXFR | RecordType::OPT | RecordType::TSIG) {
        return refuse(Why::NotAnswered(kind));
    }
    let labels: Vec<_> =
        name.iter().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect();
    let asked = Asked { zones, scope, name, kind };
    if let Some(inner) = labels.strip_suffix(zones.labels()) {
        return Verdict::Ours(asked.forward(inner));
    }
    if let Some(reverse) = Reverse::parse(&labels)
        && let Some(range) = scope.claims(zones, &reverse.prefix)
    {
        let zone = name.trim_to(reverse::zone_labels(&range));
        return Verdict::Ours(asked.reverse(&reverse, &zone));
    }
    asked.elsewhere(&labels)
}

fn refuse(why: Why) -> Verdict {
    Verdict::Ours(Answer {
        code: ResponseCode::Refused,
        authoritative: false,
        records: Vec::new(),
        extra: Vec::new(),
        soa: None,
        why,
    })
}

struct Asked<'a> {
    zones: &'a Zones,
    scope: &'a Scope,
    name: &'a Name,
    kind: RecordType,
}

impl Asked<'_> {
    /// A name below our domain; `inner` is what stands in front of it.
    fn forward(&self, inner: &[String]) -> Answer {
        match inner {
            [] => self.apex(),
            [only] if only == KEYS => self.found(Vec::new(), Why::Domain),
            [only] if only == NODES && self.scope.host => self.found(Vec::new(), Why::Domain),
            [front @ .., last] if last == KEYS => self.key(front),
            [front @ .., last] if last == NODES => self.node(front),
            [front @ .., last] => match self.scope.network(self.zones, last) {
                Some(network) => self.member(network, front),
                None => self.missing(self.why_no_network(last)),
            },
        }
    }

    fn apex(&self) -> Answer {
        let apex = self.zones.apex();
        let mut records = Vec::new();
        if self.wants(RecordType::SOA) {
            records.push(soa(apex, self.zones));
        }
        if self.wants(RecordType::NS) {
            records.push(Record::from_rdata(self.name.clone(), RECORD_TTL, RData::NS(NS(apex.clone()))));
        }
        self.found(records, Why::Domain)
    }

    fn key(&self, front: &[String]) -> Answer {
        let [text] = front else {
            return self.missing(Why::NotAKey);
        };
        match text.parse::<NodeId>() {
            Ok(node) => {
                self.found(self.addresses(&[IpAddr::V6(node.address().to_ipv6())], KEY_TTL), Why::Key)
            }
            Err(_) => self.missing(Why::NotAKey),
        }
    }

    fn node(&self, front: &[String]) -> Answer {
        let bearer = match front {
            [name] if self.scope.host => self.zones.node(name),
            _ => None,
        };
        match bearer {
            Some(Bearer::One(node)) => self
                .found(self.addresses(&[IpAddr::V6(node.address().to_ipv6())], RECORD_TTL), Why::Node(node)),
            Some(Bearer::Several) => self.missing(Why::NodeNameTwice),
            None => self.missing(Why::NoNode),
        }
    }

    /// A name below a network that the scope may see.
    fn member(&self, network: &NetworkZone, front: &[String]) -> Answer {
        let known = |name: &String| network.host(name);
        let in_network = || network.name().to_owned();
        match front {
            [] => self.found(Vec::new(), Why::Range(in_network())),
            [name] => match known(name) {
                Some(host) => {
                    let why = Why::Workload { network: in_network(), node: host.node };
                    self.found(self.addresses(&host.addresses, RECORD_TTL), why)
                }
                None => self.missing(Why::NoWorkload { network: in_network() }),
            },
            [services @ .., name] => match known(name) {
                Some(host) => self.service(network, host, services),
                None => self.missing(Why::NoWorkload { network: in_network() }),
            },
        }
    }

    /// `_service._protocol` or `_protocol` in front of a workload's name.
    fn service(&self, network: &NetworkZone, host: &Host, front: &[String]) -> Answer {
        let matches = |service: &Service| match front {
            [protocol] => protocol.strip_prefix('_') == Some(&service.protocol),
            [name, protocol] => {
                protocol.strip_prefix('_') == Some(&service.protocol)
                    && name.strip_prefix('_') == Some(&service.service)
            }
            _ => false,
        };
        let services: Vec<_> = host.services.iter().filter(|service| matches(service)).collect();
        if services.is_empty() {
            return self.missing(Why::NoService { network: network.name().to_owned() });
        }
        let why = Why::Workload { network: network.name().to_owned(), node: host.node };
        let [_, _] = front else {
            return self.found(Vec::new(), why);
        };
        if !self.wants(RecordType::SRV) {
            return self.found(Vec::new(), why);
        }
        // The target as it was asked for: the same spelling, under the network's name or key.
        let target = self.name.trim_to(usize::from(self.name.num_labels()).saturating_sub(front.len()));
        let records = services.iter().map(|service| {
            let data = SRV::new(service.priority, service.weight, service.port, target.clone());
            Record::from_rdata(self.name.clone(), RECORD_TTL, RData::SRV(data))
        });
        let mut answer = self.found(records.collect(), why);
        answer.extra =
            host.addresses.iter().map(|address| address_record(&target, *address, RECORD_TTL)).collect();
        answer
    }

    /// The name of an address in a range that is answered here.
    fn reverse(&self, reverse: &Reverse, zone: &Name) -> Answer {
        let soa = || soa(zone, self.zones);
        let Some(address) = reverse.address() else {
            return if reverse.stray {
                self.negative(ResponseCode::NXDomain, soa(), Why::NoReverse)
            } else {
                // Part of an address: it may have names below it, whoever they belong to.
                self.negative(ResponseCode::NoError, soa(), Why::Domain)
            };
        };
        let (targets, why) = self.names_of(address);
        if targets.is_empty() {
            return self.negative(ResponseCode::NXDomain, soa(), why);
        }
        if !self.wants(RecordType::PTR) {
            return self.negative(ResponseCode::NoError, soa(), why);
        }
        let records = targets
            .into_iter()
            .map(|target| Record::from_rdata(self.name.clone(), RECORD_TTL, RData::PTR(PTR(target))));
        self.positive(records.collect(), why)
    }

    fn names_of(&self, address: IpAddr) -> (Vec<Name>, Why) {
        let below = |labels: &[&str]| {
            Name::from_labels(labels.iter().map(|label| label.as_bytes()))
                .ok()?
                .append_name(self.zones.apex())
                .ok()
        };
        for network in self.scope.visible(self.zones) {
            let names = network.names_of(address);
            let found: Vec<_> = names.iter().filter_map(|name| below(&[name, network.name()])).collect();
            if !found.is_empty() {
                let node = names.first().and_then(|name| network.host(name)).and_then(|host| host.node);
                return (found, Why::Workload { network: network.name().to_owned(), node });
            }
        }
        if let IpAddr::V6(v6) = address
            && self.scope.host
            && let Some(name) = self.zones.node_at(&v6)
            && let Some(Bearer::One(node)) = self.zones.node(name)
        {
            return (below(&[name, NODES]).into_iter().collect(), Why::Node(node));
        }
        let other = self.zones.networks().find(|network| !network.names_of(address).is_empty());
        (Vec::new(), other.map_or(Why::NoReverse, |network| Why::OtherReverse(network.name().to_owned())))
    }

    /// A name that is not ours.
    fn elsewhere(&self, labels: &[String]) -> Verdict {
        if labels.last().is_some_and(|last| last == "localhost") {
            // RFC 6761 6.3: never to be handed on.
            let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
            return Verdict::Ours(self.positive(self.addresses(&loopback, KEY_TTL), Why::Localhost));
        }
        // A short name that the search domains did not complete; it is somebody's workload
        // misspelt, and no business of the resolvers outside.
        if labels.len() == 1 && matches!(self.kind, RecordType::A | RecordType::AAAA | RecordType::ANY) {
            return Verdict::Ours(Answer {
                code: ResponseCode::NXDomain,
                authoritative: false,
                records: Vec::new(),
                extra: Vec::new(),
                soa: None,
                why: Why::NotForPlainNames,
            });
        }
        if self.scope.forward { Verdict::Forward } else { refuse(Why::NoForwarding) }
    }

    fn why_no_network(&self, label: &str) -> Why {
        match self.zones.networks().find(|network| network.name() == label) {
            Some(network) => Why::OtherScope(network.name().to_owned()),
            None => Why::NoNetwork,
        }
    }

    fn wants(&self, kind: RecordType) -> bool {
        self.kind == kind || self.kind == RecordType::ANY
    }

    fn addresses(&self, addresses: &[IpAddr], ttl: u32) -> Vec<Record> {
        let wanted = addresses.iter().filter(|address| match address {
            IpAddr::V4(_) => self.wants(RecordType::A),
            IpAddr::V6(_) => self.wants(RecordType::AAAA),
        });
        wanted.map(|address| address_record(self.name, *address, ttl)).collect()
    }

    /// A name that exists: its records, or the word that it has none of this type.
    fn found(&self, records: Vec<Record>, why: Why) -> Answer {
        if records.is_empty() {
            return self.negative(ResponseCode::NoError, soa(self.zones.apex(), self.zones), why);
        }
        self.positive(records, why)
    }

    fn missing(&self, why: Why) -> Answer {
        self.negative(ResponseCode::NXDomain, soa(self.zones.apex(), self.zones), why)
    }

    fn positive(&self, records: Vec<Record>, why: Why) -> Answer {
        Answer {
            code: ResponseCode::NoError,
            authoritative: true,
            records,
            extra: Vec::new(),
            soa: None,
            why,
        }
    }

    fn negative(&self, code: ResponseCode, soa: Record, why: Why) -> Answer {
        Answer { code, authoritative: true, records: Vec::new(), extra: Vec::new(), soa: Some(soa), why }
    }
}

pub(crate) fn address_record(name: &Name, address: IpAddr, ttl: u32) -> Record {
    let data = match address {
        IpAddr::V4(v4) => RData::A(A(v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
    };
    Record::from_rdata(name.clone(), ttl, data)
}

/// The record that tells how long "no" holds (RFC 2308). The serial is constant: nobody
/// transfers this zone, and a count of changes is nobody's business.
fn soa(zone: &Name, zones: &Zones) -> Record {
    let apex = zones.apex();
    let mailbox = apex.prepend_label("hostmaster").unwrap_or_else(|_| apex.clone());
    let ttl = i32::try_from(NEGATIVE_TTL).unwrap_or(1);
    let data = SOA::new(apex.clone(), mailbox, 1, ttl, ttl, ttl, NEGATIVE_TTL);
    Record::from_rdata(zone.clone(), NEGATIVE_TTL, RData::SOA(data))
}

#[cfg(test)]
mod tests;
