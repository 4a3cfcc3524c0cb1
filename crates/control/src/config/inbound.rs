//! `[tun] inbound`: what other nodes may open toward this one.
//!
//! Closed by default, because every address of the mesh can be reached by everyone in it. A rule
//! is `SERVICE [from NODEID]` with SERVICE `tcp/PORT`, `udp/PORT` or `icmp`.

use std::fmt;
use std::str::FromStr;

use sinew_types::NodeId;

/// The policy for packets that start a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Inbound {
    /// Replies and ICMPv6 echo.
    #[default]
    Established,
    /// Everything.
    All,
    /// Replies, echo, and what one of the rules allows.
    Rules(Vec<InboundRule>),
}

/// One permission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundRule {
    /// What may be reached.
    pub service: Service,
    /// By whom; `None` = everyone.
    pub from: Option<NodeId>,
}

/// What a rule opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// A TCP port.
    Tcp(u16),
    /// A UDP port.
    Udp(u16),
    /// All of ICMP.
    Icmp,
}

impl FromStr for InboundRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split_ascii_whitespace();
        let service = words.next().ok_or("the rule is empty")?.parse()?;
        let from = match (words.next(), words.next(), words.next()) {
            (None, ..) => None,
            (Some("from"), Some(node), None) => {
                Some(node.parse().map_err(|error| format!("bad node id `{node}`: {error}"))?)
            }
            (Some("from"), None, _) => return Err("who? `from` needs a node id".to_owned()),
            (Some(word), ..) if word != "from" => return Err(format!("`{word}` is not `from`")),
            _ => return Err("one node id per rule".to_owned()),
        };
        Ok(Self { service, from })
    }
}

impl FromStr for Service {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "icmp" {
            return Ok(Self::Icmp);
        }
        let (protocol, port) = text.split_once('/').ok_or_else(|| format!("unknown service `{text}`"))?;
        let port = port.parse().ok().filter(|&port| port != 0).ok_or_else(|| format!("bad port `{port}`"))?;
        match protocol {
            "tcp" => Ok(Self::Tcp(port)),
            "udp" => Ok(Self::Udp(port)),
            _ => Err(format!("unknown protocol `{protocol}`")),
        }
    }
}

impl fmt::Display for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Established => f.write_str("established"),
            Self::All => f.write_str("all"),
            Self::Rules(rules) => {
                let rules: Vec<_> = rules.iter().map(InboundRule::to_string).collect();
                f.write_str(&rules.join(", "))
            }
        }
    }
}

impl fmt::Display for InboundRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.service {
            Service::Tcp(port) => write!(f, "tcp/{port}")?,
            Service::Udp(port) => write!(f, "udp/{port}")?,
            Service::Icmp => f.write_str("icmp")?,
        }
        match self.from {
            Some(node) => write!(f, " from {node}"),
            None => Ok(()),
        }
    }
}
