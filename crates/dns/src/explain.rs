//! The same answers, in words: for `sinew dns query` and `sinew dns records`.

use std::str::FromStr;

use hickory_proto::op::{Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};
use sinew_types::NodeId;

use crate::answer::{self, Answer, Verdict, Why};
use crate::question::{Question, Transport};
use crate::reverse;
use crate::scope::Scope;
use crate::upstream::{Answered, Failure, Forwarder};
use crate::zones::{NODES, Zones};

/// One record in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordText {
    /// Full name without the last dot.
    pub name: String,
    /// `A`, `AAAA`, `SRV`, `PTR` and so on.
    pub kind: String,
    /// Lifetime, seconds.
    pub ttl: u32,
    /// As in a zone file.
    pub data: String,
    /// The network whose word it is; else the mesh's, or somebody else's.
    pub network: Option<String>,
    /// The node that signed for it, or that it is about.
    pub node: Option<NodeId>,
}

/// An answer and its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The full name that was answered, without the last dot.
    pub name: String,
    /// Names tried before it, without success.
    pub tried: Vec<String>,
    /// `NOERROR`, `NXDOMAIN`, `REFUSED`, `SERVFAIL`.
    pub code: String,
    /// The records; none with `NOERROR`: the name exists, but not with this type.
    pub records: Vec<RecordText>,
    /// Whose word it is: `network shop`, `mesh`, `upstream 192.0.2.53:53`.
    pub source: String,
    /// Why this answer, in one line.
    pub why: String,
}

/// As [`crate::Dns::explain`].
pub(crate) async fn explain(
    zones: &Zones,
    scope: &Scope,
    forwarder: &Forwarder,
    name: &str,
    kind: &str,
) -> Result<Explanation, String> {
    let kind = RecordType::from_str(&kind.to_ascii_uppercase())
        .map_err(|_| format!("`{kind}` is no record type"))?;
    let mut tried = Vec::new();
    let candidates = candidates(zones, scope, name)?;
    let last = candidates.len().saturating_sub(1);
    for (at, name) in candidates.into_iter().enumerate() {
        let found = one(zones, scope, forwarder, &name, kind).await;
        if at == last || !(found.records.is_empty() && found.code == "NXDOMAIN") {
            return Ok(Explanation { tried, ..found });
        }
        tried.push(found.name);
    }
    Err(format!("`{name}` is no name"))
}

/// The names that libc would try, in its order (`ndots:1`).
fn candidates(zones: &Zones, scope: &Scope, text: &str) -> Result<Vec<Name>, String> {
    if let Ok(address) = text.parse() {
        return parse(&reverse::name_of(address)).map(|name| vec![name]);
    }
    let plain = parse(text)?;
    if text.ends_with('.') {
        return Ok(vec![plain]);
    }
    let mut searched = Vec::new();
    for domain in scope.search(zones) {
        searched.push(parse(&format!("{text}.{domain}"))?);
    }
    // On the host the search is the resolver's; there a network's name alone may end a name.
    if scope.host {
        searched.push(parse(&format!("{text}.{}", zones.domain()))?);
    }
    Ok(if text.contains('.') && !scope.host {
        std::iter::once(plain).chain(searched).collect()
    } else {
        searched.into_iter().chain(std::iter::once(plain)).collect()
    })
}

fn parse(text: &str) -> Result<Name, String> {
    let mut name = Name::from_ascii(text).map_err(|error| format!("`{text}` is no name: {error}"))?;
    name.set_fqdn(true);
    Ok(name)
}

async fn one(
    zones: &Zones,
    scope: &Scope,
    forwarder: &Forwarder,
    name: &Name,
    kind: RecordType,
) -> Explanation {
    match answer::answer(zones, scope, name, kind) {
        Verdict::Ours(answer) => local(name, &answer),
        Verdict::Forward => {
            let question = Question {
                metadata: {
                    let mut metadata = Metadata::new(0, MessageType::Query, OpCode::Query);
                    metadata.recursion_desired = true;
                    metadata
                },
                query: Query::query(name.clone(), kind),
                edns: None,
                transport: Transport::Udp,
            };
            remote(name, forwarder.ask(&question).await)
        }
    }
}

fn local(name: &Name, answer: &Answer) -> Explanation {
    let network = answer.why.network().map(str::to_owned);
    let node = match &answer.why {
        Why::Workload { node, .. } => *node,
        Why::Node(node) => Some(*node),
        _ => None,
    };
    let source = match &network {
        Some(network) => format!("network {network}"),
        None => "mesh".to_owned(),
    };
    let text = |record| RecordText { network: network.clone(), node, ..words(record) };
    Explanation {
        name: plain(name),
        tried: Vec::new(),
        code: code(answer.code),
        records: answer.records.iter().chain(&answer.extra).map(text).collect(),
        source,
        why: answer.why.to_string(),
    }
}

fn remote(name: &Name, result: Answered) -> Explanation {
    let failed = |status: ResponseCode, why: &str| Explanation {
        name: plain(name),
        tried: Vec::new(),
        code: code(status),
        records: Vec::new(),
        source: "upstream".to_owned(),
        why: why.to_owned(),
    };
    match result {
        Ok((bytes, server)) => match Message::from_vec(&bytes) {
            Ok(message) => Explanation {
                code: code(message.metadata.response_code),
                records: message.answers.iter().map(words).collect(),
                source: format!("upstream {server}"),
                ..failed(ResponseCode::NoError, "not below our domain: handed on")
            },
            Err(_) => failed(ResponseCode::ServFail, "the answer cannot be read"),
        },
        Err(Failure::Nobody) => {
            failed(ResponseCode::Refused, "not below our domain, and there is nobody to ask")
        }
        Err(Failure::Silent) => failed(ResponseCode::ServFail, "nobody answered within two seconds"),
    }
}

impl Zones {
    /// Every record that `scope` may see, by network and name. Addresses of keys are computed and
    /// reverse names follow from the others; neither is listed.
    pub fn records(&self, scope: &Scope) -> Vec<RecordText> {
        let mut found = Vec::new();
        let mut list = |name: String, why: Option<String>, node: Option<NodeId>, kinds: &[RecordType]| {
            let Ok(name) = parse(&name) else { return };
            for kind in kinds {
                if let Verdict::Ours(answer) = answer::answer(self, scope, &name, *kind) {
                    let text = |record| RecordText { network: why.clone(), node, ..words(record) };
                    found.extend(answer.records.iter().map(text));
                }
            }
        };
        let domain = self.domain();
        const ADDRESSES: &[RecordType] = &[RecordType::A, RecordType::AAAA];
        for network in scope.visible(self) {
            let why = || Some(network.name().to_owned());
            for (name, host) in network.hosts() {
                let full = format!("{name}.{}.{domain}", network.name());
                let mut services: Vec<_> =
                    host.services.iter().map(|s| format!("_{}._{}.{full}", s.service, s.protocol)).collect();
                services.sort_unstable();
                services.dedup();
                list(full, why(), host.node, ADDRESSES);
                for service in services {
                    list(service, why(), host.node, &[RecordType::SRV]);
                }
            }
        }
        for (name, node) in self.nodes() {
            list(format!("{name}.{NODES}.{domain}"), None, Some(node), ADDRESSES);
        }
        found
    }
}

fn words(record: &Record) -> RecordText {
    RecordText {
        name: plain(&record.name),
        kind: record.record_type().to_string(),
        ttl: record.ttl,
        data: record.data.to_string(),
        network: None,
        node: None,
    }
}

fn plain(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_owned()
}

fn code(code: ResponseCode) -> String {
    match code {
        ResponseCode::NoError => "NOERROR".to_owned(),
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        other => format!("{other:?}").to_ascii_uppercase(),
    }
}
