//! `[discovery]` and `[peering]`: how nodes are found, and how many of them this one links with.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use sinew_types::{Class, Rate};

use super::diagnose::Problems;
use super::schema;
use super::{Switch, check, limits};

/// `[discovery]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// Whether nodes on the same network find each other.
    pub lan: bool,
    /// Names of the interfaces for that, a star at the end for anything; empty: all that look like networks.
    pub interfaces: Vec<String>,
    /// Where the directory is entered: multiaddresses, of an address or a name, with TCP port and peer id.
    pub directory: Vec<String>,
    /// Whether this node's record is put into the directory.
    pub publish: bool,
    /// TCP sockets on which this node takes part in the directory.
    pub listen: Vec<SocketAddr>,
    /// Whether it answers others there; `auto`: once others say that they reach it.
    pub serve: Switch,
}

impl Discovery {
    /// Whether there is anything to do with the directory.
    pub const fn uses_directory(&self) -> bool {
        !self.directory.is_empty() || !self.listen.is_empty()
    }
}

/// `[peering]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peering {
    /// Links to keep, and as many again on local networks; 0: only configured ones.
    pub target: usize,
    /// Links at most; beyond it, those that others open are closed.
    pub max: usize,
    /// What may be sent to each peer that has no limit of its own.
    pub limit: Option<Rate>,
    /// Whether neighbours may tell others where this node is.
    pub share: bool,
}

impl Peering {
    /// Links to keep where nothing else is said: of a router, and of a stub.
    const TARGET: (usize, usize) = (8, 2);
    /// Links at most where nothing else is said.
    const MAX: usize = 64;
    /// The most that may be asked for.
    const LIMIT: usize = 1024;
}

pub(super) fn discovery(raw: schema::Discovery, problems: &mut Problems<'_>) -> Discovery {
    let listen = check::sockets("discovery.listen", &raw.listen, problems);
    for (i, text) in raw.directory.iter().enumerate().filter(|(_, text)| !is_entry(text)) {
        problems.bad_value(
            &format!("discovery.directory[{i}]"),
            format!("`{}` is no multiaddress with TCP port and peer id", text.escape_debug()),
        );
    }
    for (i, name) in raw.interfaces.iter().enumerate().filter(|(_, name)| !is_interface(name)) {
        let problem = format!("bad interface name `{}`", name.escape_debug());
        problems.bad_value(&format!("discovery.interfaces[{i}]"), problem);
    }
    let discovery = Discovery {
        lan: raw.lan.unwrap_or(true),
        interfaces: raw.interfaces,
        directory: raw.directory,
        publish: raw.publish,
        listen,
        serve: check::switch("discovery.serve", raw.serve.as_deref(), problems),
    };
    if discovery.publish && !discovery.uses_directory() {
        let remedy = "add an entry to `directory`, or `listen` to start one";
        problems.add("discovery.publish", "there is no directory to publish in", remedy);
    }
    if discovery.serve == Switch::On && discovery.listen.is_empty() {
        problems.add("discovery.serve", "nobody can ask a node that does not listen", "add `listen`");
    }
    discovery
}

/// The shape `/ip4|ip6/ADDRESS/tcp/PORT/p2p/ID` or `/dns|dns4|dns6/NAME/tcp/PORT/p2p/ID`; what stands in it is
/// judged by who uses it.
fn is_entry(text: &str) -> bool {
    let parts: Vec<_> = text.split('/').collect();
    let ["", host, name, "tcp", port, "p2p", id] = parts[..] else { return false };
    let known = match host {
        "ip4" => name.parse::<Ipv4Addr>().is_ok(),
        "ip6" => name.parse::<Ipv6Addr>().is_ok(),
        "dns" | "dns4" | "dns6" => is_host_name(name),
        _ => false,
    };
    let port = port.parse::<u16>().is_ok_and(|port| port != 0);
    known && port && id.len() >= 46 && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn is_host_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name.len() <= 253 && name.split('.').all(check::is_label)
}

fn is_interface(name: &str) -> bool {
    let bare = name.strip_suffix('*').unwrap_or(name);
    name.len() <= 16
        && !name.is_empty()
        && bare.chars().all(|c| c.is_ascii_alphanumeric() || "-_.@:".contains(c))
}

pub(super) fn peering(raw: &schema::Peering, class: Class, problems: &mut Problems<'_>) -> Peering {
    let mut number = |key: &str, value: Option<i64>, default: usize| match value.map(usize::try_from) {
        None => default,
        Some(Ok(value)) if value <= Peering::LIMIT => value,
        Some(_) => {
            problems.bad_value(key, "out of range");
            default
        }
    };
    let stub = class == Class::Stub;
    let (router_target, stub_target) = Peering::TARGET;
    let target = number("peering.target", raw.target, if stub { stub_target } else { router_target });
    let max = number("peering.max", raw.max, Peering::MAX);
    if max < target {
        problems.add("peering.max", "it is less than `target`", "make it at least twice as much");
    }
    let limit = limits::limit("peering.limit", raw.limit.as_deref(), problems);
    Peering { target, max, limit, share: raw.share.unwrap_or(!stub) }
}
