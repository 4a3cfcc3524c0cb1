//! From the file's shape to values that can be used as they stand; all mistakes at once.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use sinew_types::{Class, MeshAddr, NodeId, PeerUri};

use super::diagnose::{ConfigError, Problems};
use super::schema::{self, WordOrList, WordOrNumber};
use super::{
    Accept, Config, ConfigFile, Control, Dns, Forward, Inbound, Listen, Mesh, Mtu, Node, Offload, Peer,
    Proxy, Reach, Switch, Tls, Tun, finding, gateway, limits, metrics,
};
use crate::DEFAULT_SOCKET;

/// Where the mesh listens without a `[listen]` section.
const DEFAULT_PORT: u16 = 7463;
/// The kernel's limit for interface names (IFNAMSIZ without its NUL).
const INTERFACE_NAME_MAX: usize = 15;
/// The kernel's limit for unix socket paths (sun_path without its NUL).
const SOCKET_PATH_MAX: usize = 107;
/// Longest node name: it travels in trace answers of at most 64 bytes.
const NODE_NAME_MAX: usize = 64;

/// Where names of nodes and workloads stand without a `[dns] domain`.
const DEFAULT_DOMAIN: &str = "sinew.internal";
/// Room for the longest name under the domain: label, network and two dots (RFC 1035 §2.3.4).
const DOMAIN_MAX: usize = 253 - 2 * 64;

/// Parses and judges a file.
pub(super) fn config(path: &Path, text: &str) -> Result<Config, ConfigError> {
    let mut problems = Problems::new(path, text);
    let root: schema::Root = match toml::from_str(text) {
        Ok(root) => root,
        Err(error) => {
            problems.add_toml(&error);
            schema::Root::default()
        }
    };
    later_versions(&root, &mut problems);
    let class = limits::class(root.node.class.as_deref(), &root.transit, &mut problems);
    let node = node(root.node, class, &mut problems);
    let listen = listen(root.listen, &mut problems);
    let has_tun = root.tun.enabled.unwrap_or(true);
    let gateway = root.gateway.map(|raw| gateway::gateway(raw, &listen, has_tun, &mut problems));
    let config = Config {
        discovery: finding::discovery(root.discovery, &mut problems),
        peering: finding::peering(&root.peering, node.class, &mut problems),
        transit: limits::transit(&root.transit, node.class, &mut problems),
        node,
        mesh: mesh(root.mesh, &mut problems),
        listen,
        tls: tls(root.tls, &mut problems),
        proxy: proxy(root.proxy, &mut problems),
        reach: Reach {
            direct: root.reach.direct.unwrap_or(true),
            port_mapping: root.reach.port_mapping.unwrap_or(true),
            uplinks: root.reach.uplinks.unwrap_or(true),
        },
        peers: peers(&root.peer, &mut problems),
        tun: tun(root.tun, &mut problems),
        offload: offload(root.offload, &mut problems),
        control: control(root.control, &mut problems),
        metrics: metrics::metrics(root.metrics, &mut problems),
        dns: dns(root.dns, &mut problems),
        gateway,
    };
    metrics::collisions(&config, &mut problems);
    problems.finish(config)
}

/// Refuses this node's own key among its peers.
pub(super) fn identity(file: &ConfigFile, own: &NodeId) -> Result<(), ConfigError> {
    let mut problems = Problems::new(&file.path, &file.text);
    for (i, _) in file.config.peers.iter().enumerate().filter(|(_, peer)| peer.uri.node == *own) {
        problems.add(&format!("peer[{i}].uri"), OWN_KEY, OWN_KEY_REMEDY);
    }
    problems.finish(())
}

const OWN_KEY: &str = "this is the node's own key";
const OWN_KEY_REMEDY: &str = "put the other node's URI here (`sinew invite` on it prints it)";

/// Judges one URI for a running node.
pub(super) fn peer(own: &NodeId, uri: &str, cost: u16) -> Result<Peer, String> {
    let uri = peer_uri(uri)?;
    if uri.node == *own {
        return Err(format!("{OWN_KEY}; {OWN_KEY_REMEDY}"));
    }
    if cost > Peer::MAX_COST {
        return Err(format!("cost {cost} is more than {} ms", Peer::MAX_COST));
    }
    Ok(Peer { uri, cost, limit: None })
}

/// What is known but not built yet: refused when it would have to do something.
fn later_versions(root: &schema::Root, problems: &mut Problems<'_>) {
    let asked = [(
        "dashboard",
        "the dashboard",
        "remove the section",
        root.dashboard.as_ref().is_some_and(|d| d.listen.is_some()),
    )];
    for (path, what, remedy, _) in asked.into_iter().filter(|(.., asked)| *asked) {
        problems.add(path, format!("{what} is not in this version"), remedy);
    }
}

fn node(raw: schema::Node, class: Class, problems: &mut Problems<'_>) -> Node {
    let printable = |name: &str| {
        !name.is_empty()
            && name.len() <= NODE_NAME_MAX
            && name.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c))
    };
    if let Some(name) = raw.name.as_deref().filter(|name| !printable(name)) {
        let problem = format!("bad name `{}`", name.escape_debug());
        problems.add("node.name", problem, "use letters, digits, `-`, `_` and `.`, at most 64 bytes");
    }
    Node {
        key_file: file_path("node.key_file", raw.key_file, "/var/lib/sinew/node.key", problems),
        name: raw.name,
        state_dir: file_path("node.state_dir", raw.state_dir, "/var/lib/sinew", problems),
        class,
    }
}

fn mesh(raw: schema::Mesh, problems: &mut Problems<'_>) -> Mesh {
    let accept = match raw.accept.as_deref() {
        None | Some("any") => Accept::Any,
        Some("listed") => Accept::Listed,
        Some(other) => {
            problems.bad_value("mesh.accept", format!("unknown value `{other}`"));
            Accept::Any
        }
    };
    let secret_file = raw.secret_file.map(|path| file_path("mesh.secret_file", Some(path), "", problems));
    Mesh { secret_file, accept }
}

pub(super) fn file_path(
    key: &str,
    value: Option<String>,
    default: &str,
    problems: &mut Problems<'_>,
) -> PathBuf {
    if value.as_deref() == Some("") {
        problems.bad_value(key, "the path is empty");
    }
    PathBuf::from(value.unwrap_or_else(|| default.to_owned()))
}

fn listen(raw: Option<schema::Listen>, problems: &mut Problems<'_>) -> Listen {
    let Some(raw) = raw else {
        let any = [IpAddr::from([0; 4]), IpAddr::from([0u16; 8])].map(|ip| SocketAddr::new(ip, DEFAULT_PORT));
        return Listen { udp: any.to_vec(), tcp: any.to_vec(), quic: Vec::new(), wss: Vec::new() };
    };
    let listen = Listen {
        udp: sockets("listen.udp", &raw.udp, problems),
        tcp: sockets("listen.tcp", &raw.tcp, problems),
        quic: sockets("listen.quic", &raw.quic, problems),
        wss: sockets("listen.wss", &raw.wss, problems),
    };
    apart("listen.quic", &listen.quic, "listen.udp", &listen.udp, problems);
    apart("listen.wss", &listen.wss, "listen.tcp", &listen.tcp, problems);
    listen
}

/// Two carriers on one kind of socket need ports of their own.
fn apart(key: &str, addrs: &[SocketAddr], other: &str, taken: &[SocketAddr], problems: &mut Problems<'_>) {
    for addr in addrs {
        if let Some(first) = taken.iter().find(|taken| overlap(**taken, *addr)) {
            problems.add(key, format!("{addr} overlaps with {first} of {other}"), "give it another port");
        }
    }
}

fn tls(raw: schema::Tls, problems: &mut Problems<'_>) -> Tls {
    match (raw.certificate, raw.key) {
        (Some(certificate), Some(key)) => {
            let certificate = file_path("tls.certificate", Some(certificate), "", problems);
            Tls { files: Some((certificate, file_path("tls.key", Some(key), "", problems))) }
        }
        (None, None) => Tls::default(),
        (given, _) => {
            let (key, missing) =
                if given.is_some() { ("certificate", "key") } else { ("key", "certificate") };
            let problem = format!("needs `{missing}` beside it");
            problems.add(&format!("tls.{key}"), problem, "give both, or none");
            Tls::default()
        }
    }
}

fn proxy(raw: schema::Proxy, problems: &mut Problems<'_>) -> Proxy {
    let usable = |text: &str| {
        let host_char = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
        let (host, port) = text.rsplit_once(':')?;
        let host = !host.is_empty() && host.chars().all(host_char);
        (host && port.parse::<u16>().is_ok_and(|port| port != 0)).then_some(())
    };
    let http =
        raw.http.map(|text| text.strip_prefix("http://").unwrap_or(&text).trim_end_matches('/').to_owned());
    if let Some(text) = http.as_deref().filter(|text| usable(text).is_none()) {
        problems.bad_value("proxy.http", format!("bad proxy `{}`", text.escape_debug()));
    }
    Proxy { http }
}

pub(super) fn sockets(key: &str, texts: &[String], problems: &mut Problems<'_>) -> Vec<SocketAddr> {
    let mut taken: Vec<(usize, SocketAddr)> = Vec::new();
    for (i, text) in texts.iter().enumerate() {
        let path = format!("{key}[{i}]");
        let addr: SocketAddr = match text.parse() {
            Ok(addr) => addr,
            Err(_) => {
                problems.bad_value(&path, format!("`{text}` is not an address with port"));
                continue;
            }
        };
        if let IpAddr::V6(ip) = addr.ip()
            && MeshAddr::contains(&ip)
        {
            let remedy = "listen on an address of the underlying network";
            problems.add(&path, format!("{ip} is a mesh address, which cannot carry the mesh"), remedy);
        } else if let Some((first, other)) = taken.iter().find(|(_, other)| overlap(*other, addr)) {
            let line = problems.line_of(&format!("{key}[{first}]")).unwrap_or_default();
            let problem = if *other == addr {
                format!("{addr} is listed twice (first in line {line})")
            } else {
                format!("{addr} overlaps with {other} in line {line}")
            };
            problems.add(&path, problem, "remove one of them");
        } else {
            taken.push((i, addr));
        }
    }
    taken.into_iter().map(|(_, addr)| addr).collect()
}

/// Whether the kernel would refuse the second of two sockets. Port 0 is a new port each time, and
/// IPv6 sockets are v6-only.
pub(super) fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port()
        && a.port() != 0
        && a.is_ipv4() == b.is_ipv4()
        && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}

fn peers(raw: &[schema::Peer], problems: &mut Problems<'_>) -> Vec<Peer> {
    let mut peers: Vec<(usize, Peer)> = Vec::new();
    for (i, entry) in raw.iter().enumerate() {
        let path = format!("peer[{i}].uri");
        let cost = peer_cost(entry.cost, &format!("peer[{i}].cost"), problems);
        let limit = limits::limit(&format!("peer[{i}].limit"), entry.limit.as_deref(), problems);
        let Some(text) = &entry.uri else {
            problems.bad_value(&path, "a [[peer]] without uri");
            continue;
        };
        let uri = match peer_uri(text) {
            Ok(uri) => uri,
            Err(problem) => {
                problems.add(&path, problem, "");
                continue;
            }
        };
        let same = |other: &Peer| {
            (other.uri.node, &other.uri.host, other.uri.port) == (uri.node, &uri.host, uri.port)
        };
        if let Some((first, _)) = peers.iter().find(|(_, other)| same(other)) {
            let line = problems.line_of(&format!("peer[{first}].uri")).unwrap_or_default();
            let problem = format!("this peer is listed twice (first in line {line})");
            problems.add(&path, problem, "keep one entry; carriers go together as ?via=udp,tcp");
            continue;
        }
        peers.push((i, Peer { uri, cost, limit }));
    }
    peers.into_iter().map(|(_, peer)| peer).collect()
}

fn peer_cost(raw: Option<i64>, path: &str, problems: &mut Problems<'_>) -> u16 {
    let cost = raw.unwrap_or(0);
    match u16::try_from(cost).ok().filter(|&cost| cost <= Peer::MAX_COST) {
        Some(cost) => cost,
        None => {
            problems.bad_value(path, format!("{cost} is out of range"));
            0
        }
    }
}

fn peer_uri(text: &str) -> Result<PeerUri, String> {
    text.parse().map_err(|error| format!("{error}"))
}

fn tun(raw: schema::Tun, problems: &mut Problems<'_>) -> Tun {
    let name = raw.name.unwrap_or_else(|| "sinew0".to_owned());
    let usable = |c: char| c.is_ascii_graphic() && !"/:%".contains(c);
    if name.is_empty()
        || name.len() > INTERFACE_NAME_MAX
        || !name.chars().all(usable)
        || name == "."
        || name == ".."
    {
        problems.bad_value("tun.name", format!("`{}` is no interface name", name.escape_debug()));
    }
    let mtu = match raw.mtu {
        None => Mtu::Auto,
        Some(WordOrNumber::Word(word)) if word == "auto" => Mtu::Auto,
        Some(WordOrNumber::Word(word)) => {
            problems.bad_value("tun.mtu", format!("unknown value `{word}`"));
            Mtu::Auto
        }
        Some(WordOrNumber::Number(bytes)) => match u16::try_from(bytes) {
            Ok(bytes @ 1280..) => Mtu::Fixed(bytes),
            _ => {
                problems.bad_value("tun.mtu", format!("{bytes} is out of range"));
                Mtu::Auto
            }
        },
    };
    Tun { enabled: raw.enabled.unwrap_or(true), name, mtu, inbound: inbound(raw.inbound, problems) }
}

fn inbound(raw: Option<WordOrList>, problems: &mut Problems<'_>) -> Inbound {
    match raw {
        None => Inbound::Established,
        Some(WordOrList::Word(word)) => match word.as_str() {
            "established" => Inbound::Established,
            "all" => Inbound::All,
            _ => {
                problems.bad_value("tun.inbound", format!("unknown value `{word}`"));
                Inbound::Established
            }
        },
        Some(WordOrList::List(texts)) => {
            let mut rules = Vec::new();
            for (i, text) in texts.iter().enumerate() {
                match text.parse() {
                    Ok(rule) => rules.push(rule),
                    Err(problem) => {
                        problems.bad_value(&format!("tun.inbound[{i}]"), format!("`{text}`: {problem}"))
                    }
                }
            }
            Inbound::Rules(rules)
        }
    }
}

pub(super) fn switch(key: &str, word: Option<&str>, problems: &mut Problems<'_>) -> Switch {
    match word {
        None | Some("auto") => Switch::Auto,
        Some("on") => Switch::On,
        Some("off") => Switch::Off,
        Some(other) => {
            problems.bad_value(key, format!("unknown value `{}`", other.escape_debug()));
            Switch::Auto
        }
    }
}

fn offload(raw: schema::Offload, problems: &mut Problems<'_>) -> Offload {
    let mut switch = |key: &str, word: Option<String>| switch(key, word.as_deref(), problems);
    Offload {
        tun_read: switch("offload.tun_read", raw.tun_read),
        tun_write: switch("offload.tun_write", raw.tun_write),
        udp_send: switch("offload.udp_send", raw.udp_send),
        udp_receive: switch("offload.udp_receive", raw.udp_receive),
    }
}

fn control(raw: schema::Control, problems: &mut Problems<'_>) -> Control {
    let socket = file_path("control.socket", raw.socket, DEFAULT_SOCKET, problems);
    if socket.as_os_str().len() > SOCKET_PATH_MAX {
        problems.add("control.socket", "the path is too long for a unix socket", "at most 107 bytes");
    }
    Control { socket }
}

fn dns(raw: schema::Dns, problems: &mut Problems<'_>) -> Dns {
    let domain = raw.domain.unwrap_or_else(|| DEFAULT_DOMAIN.to_owned());
    if domain.len() > DOMAIN_MAX || !domain.split('.').all(is_label) {
        let problem = format!("bad domain `{}`", domain.escape_debug());
        problems.add("dns.domain", problem, DOMAIN_REMEDY);
    }
    let forward = forward(&raw.forward, &domain, problems);
    Dns { enabled: raw.enabled.unwrap_or(true), domain, forward }
}

const DOMAIN_REMEDY: &str = "write labels of a-z, 0-9 and hyphens with dots between them";

pub(super) fn is_label(label: &str) -> bool {
    let inner = label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    (1..=63).contains(&label.len()) && inner && !label.starts_with('-') && !label.ends_with('-')
}

fn forward(raw: &[schema::Forward], ours: &str, problems: &mut Problems<'_>) -> Vec<Forward> {
    if raw.len() > Forward::RULES_MAX {
        let problem = format!("{} rules", raw.len());
        problems.add("dns.forward", problem, format!("at most {}", Forward::RULES_MAX));
    }
    let mut rules: Vec<Forward> = Vec::new();
    for (i, entry) in raw.iter().enumerate() {
        let path = format!("dns.forward[{i}].domain");
        let servers = name_servers(entry.servers.as_deref(), &format!("dns.forward[{i}].servers"), problems);
        let Some(text) = &entry.domain else {
            problems.bad_value(&path, "a [[dns.forward]] without domain");
            continue;
        };
        let domain = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let below = |name: &str, zone: &str| name.strip_suffix(zone).is_some_and(|head| head.ends_with('.'));
        if domain.len() > 253 || !domain.split('.').all(is_label) {
            problems.add(&path, format!("bad domain `{}`", text.escape_debug()), DOMAIN_REMEDY);
        } else if domain == ours || below(&domain, ours) {
            let problem = format!("{domain} is answered by this node and never handed on");
            problems.add(&path, problem, "remove the entry");
        } else if rules.iter().any(|rule| rule.domain == domain) {
            problems.add(&path, format!("{domain} is listed twice"), "put all its servers in one entry");
        } else {
            rules.push(Forward { domain, servers });
        }
    }
    rules
}

pub(super) fn name_servers(
    texts: Option<&[String]>,
    path: &str,
    problems: &mut Problems<'_>,
) -> Vec<SocketAddr> {
    let Some(texts) = texts else {
        problems.bad_value(path, "a [[dns.forward]] without servers");
        return Vec::new();
    };
    if texts.len() > Forward::SERVERS_MAX {
        let problem = format!("{} name servers", texts.len());
        problems.add(path, problem, format!("at most {}", Forward::SERVERS_MAX));
    }
    let mut servers = Vec::new();
    for (i, text) in texts.iter().enumerate() {
        let plain = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, Forward::PORT));
        match plain.or_else(|_| text.parse::<SocketAddr>()) {
            Ok(server) if !server.ip().is_unspecified() && server.port() != 0 => servers.push(server),
            _ => problems.bad_value(&format!("{path}[{i}]"), format!("`{text}` is no name server")),
        }
    }
    servers
}
