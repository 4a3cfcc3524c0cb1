//! `network policy`: who may talk to whom inside a network.
//!
//! A policy is an ordered list of rules, the first that fits decides, and a default for the rest.
//! What a rule names is text with one spelling each ([`Selector`], [`Service`]), the same in the
//! policy's file, in JSON and in tables.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserializer};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use super::networks::DocumentVersion;

/// What happens to a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It passes.
    #[default]
    Allow,
    /// It is dropped, at both ends.
    Deny,
}

impl Action {
    /// The word in JSON and in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// A whole policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// For packets that no rule names. Members of a network are let in by default; nobody else is
    /// in any case.
    #[serde(default)]
    pub default: Action,
    /// In order; the first that fits decides.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// One rule, as the signed document has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Who begins the flow: any of these; at least one.
    pub from: Vec<Selector>,
    /// Whom it is for: any of these; at least one.
    pub to: Vec<Selector>,
    /// What happens.
    pub action: Action,
    /// To what it applies: any of these; at least one, and all of one protocol.
    pub services: Vec<Service>,
}

/// Whom a rule names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// `any`: everybody in the network.
    Any,
    /// `group:NAME`.
    Group(String),
    /// `workload:NAME`.
    Workload(String),
    /// `member:NODE`: every workload of a node; its id, or a name or beginning that this node
    /// knows it by.
    Member(String),
}

/// What a rule applies to: a protocol, and ports where it has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// `any`: every protocol.
    Any,
    /// `tcp`, `tcp/80`, `tcp/8000-8100`, `udp/…`, `icmp` (ICMP and ICMPv6), or a protocol's number.
    Protocol {
        /// IP protocol number; 1 stands for ICMPv6 as well.
        number: u8,
        /// First and last port; `None` = all, or a protocol without ports.
        ports: Option<(u16, u16)>,
    },
}

/// Protocols that have a word and ports.
const WITH_PORTS: [(&str, u8); 2] = [("tcp", 6), ("udp", 17)];
/// ICMP's number; ICMPv6 (58) is meant with it.
const ICMP: u8 = 1;

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Group(name) => write!(f, "group:{name}"),
            Self::Workload(name) => write!(f, "workload:{name}"),
            Self::Member(name) => write!(f, "member:{name}"),
        }
    }
}

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const TAKES: &str = "write any, group:NAME, workload:NAME or member:NODE";
        if text == "any" {
            return Ok(Self::Any);
        }
        let wrong = || format!("`{}` names nobody; {TAKES}", text.escape_debug());
        let (kind, name) = text.split_once(':').ok_or_else(wrong)?;
        let no_name = |takes: &str| Err(format!("`{}` is no name; {takes}", name.escape_debug()));
        match kind {
            "group" | "workload" if !label(name) => no_name("write 1 to 63 of a-z, 0-9 and hyphens"),
            "member" if !node(name) => no_name("write a node id, the beginning of one, or a node's name"),
            "group" => Ok(Self::Group(name.to_owned())),
            "workload" => Ok(Self::Workload(name.to_owned())),
            "member" => Ok(Self::Member(name.to_owned())),
            _ => Err(wrong()),
        }
    }
}

/// A DNS label: what groups and workloads are called.
fn label(name: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let ends = !name.starts_with('-') && !name.ends_with('-');
    (1..=63).contains(&name.len()) && ends && name.bytes().all(inner)
}

/// What nodes are called ([`config`](crate::config), `node.name`).
fn node(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c))
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Protocol { number, ports } = self else { return f.write_str("any") };
        match WITH_PORTS.iter().find(|(_, known)| known == number) {
            Some((word, _)) => f.write_str(word)?,
            None if *number == ICMP => f.write_str("icmp")?,
            None => write!(f, "{number}")?,
        }
        match ports {
            None => Ok(()),
            Some((first, last)) if first == last => write!(f, "/{first}"),
            Some((first, last)) => write!(f, "/{first}-{last}"),
        }
    }
}

impl FromStr for Service {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const TAKES: &str = "write any, tcp, tcp/80, udp/5000-5100, icmp or a protocol's number";
        let wrong = |why: &str| format!("`{}` {why}; {TAKES}", text.escape_debug());
        let (protocol, ports) = match text.split_once('/') {
            Some((protocol, ports)) => (protocol, Some(ports)),
            None => (text, None),
        };
        let known = WITH_PORTS.iter().find(|(word, _)| *word == protocol);
        let number = match (known, protocol) {
            (None, "any") if ports.is_none() => return Ok(Self::Any),
            (Some((_, number)), _) => *number,
            (None, "icmp") => ICMP,
            (None, number) if number.chars().all(|c| c.is_ascii_digit()) => {
                number.parse().map_err(|_| wrong("is no protocol"))?
            }
            _ => return Err(wrong("is no protocol")),
        };
        let has_ports = WITH_PORTS.iter().any(|&(_, known)| known == number);
        let ports = match ports {
            None => None,
            Some(_) if !has_ports => return Err(wrong("has no ports")),
            Some(ports) => Some(range(ports).ok_or_else(|| wrong("is no port or range of ports"))?),
        };
        Ok(Self::Protocol { number, ports })
    }
}

/// `80` or `8000-8100`, from 1 on and not backwards.
fn range(text: &str) -> Option<(u16, u16)> {
    let port = |text: &str| {
        let digits = text.chars().all(|c| c.is_ascii_digit());
        text.parse().ok().filter(|&port: &u16| digits && port > 0)
    };
    match text.split_once('-') {
        None => port(text).map(|port| (port, port)),
        Some((first, last)) => Some((port(first)?, port(last)?)).filter(|(first, last)| first <= last),
    }
}

macro_rules! as_text {
    ($($kind:ty),+) => {$(
        impl Serialize for $kind {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )+};
}
as_text!(Selector, Service);

/// The policy in force, or one to put in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyInForce {
    /// The network's id.
    pub network: String,
    /// The policy; groups and workloads by name, members by node id.
    pub policy: Policy,
    /// Who signed it; `null` = none was ever set.
    pub author: Option<String>,
    /// When, RFC 3339.
    pub issued: Option<String>,
}

/// Puts a policy in force. Only on an admin with scope `policy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySet {
    /// Which network.
    pub network: String,
    /// The policy.
    pub policy: Policy,
}

/// Asks what a policy would mean in a network, without changing anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyTrace {
    /// Which network.
    pub network: String,
    /// The policy to judge by; `null` = the one in force.
    #[serde(default)]
    pub policy: Option<Policy>,
    /// The flows in question; may be empty, for the warnings alone.
    pub flows: Vec<Flow>,
}

/// A flow in question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    /// A workload by name (`NAME` or `NAME.NODE`), an address of the network, or a [`Selector`].
    pub from: String,
    /// As `from`.
    pub to: String,
    /// IP protocol number; 1 also asks for ICMPv6.
    pub protocol: u8,
    /// Destination port, for protocols that have them.
    pub port: Option<u16>,
}

/// What a policy means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyVerdicts {
    /// One for each flow, in order.
    pub verdicts: Vec<FlowVerdict>,
    /// Rules that name what the network does not have; they may be meant for later.
    pub warnings: Vec<PolicyWarning>,
}

/// What happens to one flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowVerdict {
    /// As asked.
    pub from: String,
    /// As asked.
    pub to: String,
    /// As asked, `tcp/5432`.
    pub service: Service,
    /// Whether both ends let it pass.
    pub allowed: bool,
    /// The rule that decided, from 1; `null` = the default, or something other than a rule.
    pub rule: Option<u32>,
    /// Why, in one line.
    pub why: String,
    /// Both ends, each by the policy it holds: they differ while a change spreads.
    pub ends: Vec<FlowEnd>,
}

/// One end's view of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowEnd {
    /// The member that judges.
    pub node_id: String,
    /// The name of its side: `from` or `to`.
    pub side: String,
    /// What it does with the flow, as far as this node can tell.
    pub allowed: bool,
    /// The HEAD it told last.
    pub version: Option<DocumentVersion>,
}

/// A rule to look at again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyWarning {
    /// Which, from 1.
    pub rule: u32,
    /// What about it.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_a_rule_names_has_one_spelling() {
        for text in ["any", "group:web", "workload:db-1", "member:paris", "member:k4.x_y"] {
            assert_eq!(text.parse::<Selector>().expect(text).to_string(), text);
        }
        for text in ["", "web", "Group:web", "user:x", "any:x"] {
            let refused = text.parse::<Selector>().unwrap_err();
            assert!(refused.contains("write any, group:NAME"), "{text}: {refused}");
        }
        for text in
            ["group:", "group:a b", "workload:a:b", "workload:Web", "group:-a", "member:", "member:a/b"]
        {
            let refused = text.parse::<Selector>().unwrap_err();
            assert!(refused.contains("is no name; write "), "{text}: {refused}");
        }
    }

    #[test]
    fn what_a_rule_applies_to_has_one_spelling() {
        for text in ["any", "tcp", "tcp/80", "udp/5000-5100", "icmp", "47", "tcp/1-65535"] {
            assert_eq!(text.parse::<Service>().expect(text).to_string(), text);
        }
        assert_eq!("6/80".parse::<Service>().unwrap().to_string(), "tcp/80");
        for text in [
            "",
            "tcp/",
            "tcp/0",
            "tcp/90-80",
            "tcp/70000",
            "tcp/+8",
            "icmp/1",
            "sctp",
            "132/1",
            "256",
            "+6",
            "any/1",
            "x",
        ] {
            let refused = text.parse::<Service>().unwrap_err();
            assert!(refused.contains("write any, tcp,"), "{text}: {refused}");
        }
    }
}
