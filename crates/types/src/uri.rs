//! Peer URIs: `sinew://<NodeId>@host:port?via=udp,tcp`. A URI always carries the key, so that
//! whoever answers at the address has to prove it. `&path=/x` is what a WebSocket asks for, where
//! a web server in front of the node tells by it whom a request is for.

use core::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use thiserror::Error;

use crate::address::MeshAddr;
use crate::identity::{NodeId, NodeIdError};
use crate::path::CarrierKind;

/// Where and how to reach a peer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerUri {
    /// Who must answer.
    pub node: NodeId,
    /// Host name or literal address, without brackets; names are resolved anew on every attempt.
    pub host: String,
    /// Port, the same for every carrier of this URI.
    pub port: u16,
    /// Carriers to try; never empty. Their order says nothing: the best that works is used.
    pub via: Vec<CarrierKind>,
    /// What a WebSocket asks for, from the first slash; `None` is "/".
    pub path: Option<String>,
}

/// Longest path of a URI, bytes.
const PATH_MAX: usize = 128;

/// What is wrong with a peer URI, and what it should look like.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum UriError {
    /// Another scheme or none.
    #[error("a peer URI starts with sinew:// (sinew://NODEID@host:port?via=udp,tcp)")]
    Scheme,
    /// No key.
    #[error("the node id is missing: sinew://NODEID@host:port (`sinew key show` on the peer prints it)")]
    NoNode,
    /// Not a key.
    #[error("bad node id: {0}")]
    Node(#[from] NodeIdError),
    /// No host, or characters that no host has.
    #[error("bad host `{0}`: a name, an IPv4 address, or an IPv6 address in brackets")]
    Host(String),
    /// No port, or not one.
    #[error("bad port `{0}`: a number from 1 to 65535")]
    Port(String),
    /// An unknown query key.
    #[error("unknown option `{0}`: via= and path= are known")]
    Option(String),
    /// Not what HTTP can ask for.
    #[error("bad path `{0}`: a slash, then letters, digits and any of - . _ ~ /, at most 128 bytes")]
    Path(String),
    /// An unknown carrier.
    #[error("unknown carrier `{0}`: one of udp, quic, tcp, wss")]
    Carrier(String),
    /// A mesh address cannot carry the mesh.
    #[error("{0} is a mesh address; a peer is reached over the underlying network")]
    MeshEndpoint(Ipv6Addr),
}

impl FromStr for PeerUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let rest = text.strip_prefix("sinew://").ok_or(UriError::Scheme)?;
        let (node, rest) = rest.split_once('@').ok_or(UriError::NoNode)?;
        let node = node.parse()?;
        let (endpoint, query) = rest.split_once('?').unwrap_or((rest, ""));
        let endpoint = endpoint.strip_suffix('/').unwrap_or(endpoint);
        let (host, port) = endpoint.rsplit_once(':').ok_or_else(|| UriError::Port(String::new()))?;
        let port = match port.parse() {
            Ok(number) if number != 0 => number,
            _ => return Err(UriError::Port(port.to_owned())),
        };
        let host = parse_host(host)?;
        let (via, path) = parse_query(query)?;
        Ok(Self { node, host, port, via, path })
    }
}

impl PeerUri {
    /// What a WebSocket asks for.
    pub fn path(&self) -> &str {
        self.path.as_deref().unwrap_or("/")
    }
}

fn parse_host(text: &str) -> Result<String, UriError> {
    let bad = || UriError::Host(text.to_owned());
    if let Some(inner) = text.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or_else(bad)?;
        let bare = inner.split_once('%').map_or(inner, |(addr, _zone)| addr);
        let addr: Ipv6Addr = bare.parse().map_err(|_| bad())?;
        // A3: mesh addresses are refused as underlay endpoints, or the mesh would carry itself.
        if MeshAddr::contains(&addr) {
            return Err(UriError::MeshEndpoint(addr));
        }
        return Ok(inner.to_owned());
    }
    let ok = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if text.is_empty() || text.len() > 253 || !text.chars().all(ok) {
        return Err(bad());
    }
    Ok(text.to_owned())
}

fn parse_query(query: &str) -> Result<(Vec<CarrierKind>, Option<String>), UriError> {
    let (mut via, mut path) = (Vec::new(), None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        if let Some(text) = pair.strip_prefix("path=") {
            path = Some(parse_path(text)?);
            continue;
        }
        let list = pair.strip_prefix("via=").ok_or_else(|| UriError::Option(pair.to_owned()))?;
        for word in list.split(',') {
            let kind = CarrierKind::parse(word).ok_or_else(|| UriError::Carrier(word.to_owned()))?;
            if !via.contains(&kind) {
                via.push(kind);
            }
        }
    }
    if via.is_empty() {
        via = vec![CarrierKind::Udp, CarrierKind::Tcp];
    }
    Ok((via, path.filter(|path| path != "/")))
}

fn parse_path(text: &str) -> Result<String, UriError> {
    let ok = |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c);
    if !text.starts_with('/') || text.len() > PATH_MAX || !text.chars().all(ok) {
        return Err(UriError::Path(text.to_owned()));
    }
    Ok(text.to_owned())
}

impl fmt::Display for PeerUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let via: Vec<_> = self.via.iter().map(|kind| kind.as_str()).collect();
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "sinew://{}@{open}{}{close}:{}?via={}", self.node, self.host, self.port, via.join(","))?;
        self.path.iter().try_for_each(|path| write!(f, "&path={path}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Identity;

    fn id() -> NodeId {
        Identity::from_seed([1; 32]).node_id()
    }

    #[test]
    fn good_uris_round_trip() {
        for tail in [
            "10.0.0.1:7463",
            "[2001:db8::1]:7463",
            "relay.example.org:443?via=tcp",
            "a:1?via=udp,tcp",
            "a:1?via=wss&path=/x/y-1",
        ] {
            let uri: PeerUri = format!("sinew://{}@{tail}", id()).parse().unwrap();
            assert_eq!(uri.to_string().parse(), Ok(uri));
        }
    }

    #[test]
    fn each_mistake_has_its_own_answer() {
        let table = [
            ("http://x", UriError::Scheme),
            ("sinew://host:1", UriError::NoNode),
            ("sinew://abc@host:1", UriError::Node(NodeIdError::TextLength)),
            ("sinew://ID@:1", UriError::Host(String::new())),
            ("sinew://ID@host:0", UriError::Port("0".into())),
            ("sinew://ID@host:99999", UriError::Port("99999".into())),
            ("sinew://ID@host", UriError::Port(String::new())),
            ("sinew://ID@host:1?x=2", UriError::Option("x=2".into())),
            ("sinew://ID@host:1?path=x", UriError::Path("x".into())),
            ("sinew://ID@host:1?path=/a b", UriError::Path("/a b".into())),
            ("sinew://ID@host:1?via=smoke", UriError::Carrier("smoke".into())),
            ("sinew://ID@[fd3f::1]:1", UriError::MeshEndpoint("fd3f::1".parse().unwrap())),
        ];
        for (text, expected) in table {
            assert_eq!(text.replace("ID", &id().to_string()).parse::<PeerUri>(), Err(expected), "{text}");
        }
    }
}
