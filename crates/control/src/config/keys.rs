//! Every key of the file: what it takes, and what changing it in a running node does.

use super::diff::Effect;

/// One key.
pub(super) struct Key {
    /// Dotted path; list elements have no index.
    pub(super) path: &'static str,
    /// What to write there.
    pub(super) takes: &'static str,
    /// What a change does.
    pub(super) effect: Effect,
}

const fn key(path: &'static str, takes: &'static str, effect: Effect) -> Key {
    Key { path, takes, effect }
}

const PATH: &str = "a path in quotes";
const BOOL: &str = "true or false";
const LISTEN: &str = "a list of addresses with port, such as [\"0.0.0.0:7463\", \"[::]:7463\"]";
const ADDRESS: &str = "an address with port, such as \"127.0.0.1:9463\"";
const PROXY: &str = "a host with port, such as \"proxy.example:3128\"";
const SWITCH: &str = "\"auto\", \"on\" or \"off\"";
const RATE: &str = "a bandwidth in kbit/s, Mbit/s or Gbit/s, such as \"20 Mbit/s\"";
const TEXT: &str = "a text in quotes";
const NODE: &str = "a node id, as `sinew key show` prints it";
const PORTS: &str = "a range of ports, such as \"20000-20999\"";

/// All of them, in the order of the manual.
pub(super) const KEYS: &[Key] = &[
    key("node.key_file", PATH, Effect::Restart),
    key("node.name", "a name in quotes, such as \"node-1\"", Effect::Restart),
    key("node.state_dir", PATH, Effect::Restart),
    key("node.class", "\"router\" or \"stub\"", Effect::Restart),
    key("mesh.secret_file", PATH, Effect::Restart),
    key("mesh.accept", "\"any\" or \"listed\"", Effect::Restart),
    key("listen.udp", LISTEN, Effect::Restart),
    key("listen.tcp", LISTEN, Effect::Restart),
    key("listen.quic", LISTEN, Effect::Restart),
    key("listen.wss", LISTEN, Effect::Restart),
    key("tls.certificate", PATH, Effect::Restart),
    key("tls.key", PATH, Effect::Restart),
    key("proxy.http", PROXY, Effect::Restart),
    key("reach.direct", BOOL, Effect::Live),
    key("reach.port_mapping", BOOL, Effect::Restart),
    key("reach.uplinks", BOOL, Effect::Restart),
    key("transit.enabled", BOOL, Effect::Restart),
    key("transit.limit", RATE, Effect::Live),
    key("peer.uri", "a peer URI, such as \"sinew://NODEID@host:7463?via=udp,tcp\"", Effect::Live),
    key("peer.cost", "milliseconds from 0 to 2000", Effect::Live),
    key("peer.limit", RATE, Effect::Live),
    key("tun.enabled", BOOL, Effect::Restart),
    key("tun.name", "an interface name of at most 15 characters, such as \"sinew0\"", Effect::Restart),
    key("tun.mtu", "\"auto\" or a number from 1280 to 65535", Effect::Restart),
    key(
        "tun.inbound",
        "\"established\", \"all\", or a list such as [\"tcp/22 from NODEID\", \"udp/53\", \"icmp\"]",
        Effect::Live,
    ),
    key("offload.tun_read", SWITCH, Effect::Restart),
    key("offload.tun_write", SWITCH, Effect::Restart),
    key("offload.udp_send", SWITCH, Effect::Restart),
    key("offload.udp_receive", SWITCH, Effect::Restart),
    key("control.socket", PATH, Effect::Restart),
    key("metrics.listen", ADDRESS, Effect::Restart),
    key("dashboard.listen", ADDRESS, Effect::Restart),
    key("discovery.lan", BOOL, Effect::Restart),
    key("discovery.interfaces", "a list of interface names, such as [\"eth0\", \"wl*\"]", Effect::Restart),
    key(
        "discovery.directory",
        "a list such as [\"/ip4/203.0.113.5/tcp/7464/p2p/12D3KooW...\"] (`sinew key show` there prints the id)",
        Effect::Restart,
    ),
    key("discovery.publish", BOOL, Effect::Restart),
    key("discovery.listen", "a list of addresses with port, such as [\"0.0.0.0:7464\"]", Effect::Restart),
    key("discovery.serve", SWITCH, Effect::Restart),
    key("peering.target", "a number of links from 0 to 1024", Effect::Live),
    key("peering.max", "a number of links from 0 to 1024", Effect::Live),
    key("peering.limit", RATE, Effect::Live),
    key("peering.share", BOOL, Effect::Restart),
    key("dns.enabled", BOOL, Effect::Restart),
    key("dns.domain", TEXT, Effect::Restart),
    key("dns.forward.domain", "a domain, such as \"corp.example\"", Effect::Restart),
    key(
        "dns.forward.servers",
        "a list of name servers, such as [\"10.0.0.53\", \"[fd00::53]:5353\"]",
        Effect::Restart,
    ),
    key("gateway.domain", "a domain, such as \"gw1.example.org\"", Effect::Restart),
    key("gateway.registrar", NODE, Effect::Restart),
    key("gateway.followers", "a list of node ids, as `sinew key show` prints them", Effect::Live),
    key("gateway.https", LISTEN, Effect::Restart),
    key("gateway.http", LISTEN, Effect::Restart),
    key("gateway.tcp_ports", PORTS, Effect::Live),
    key("gateway.udp_ports", PORTS, Effect::Live),
    key("gateway.certificates.certificate", PATH, Effect::Live),
    key("gateway.certificates.key", PATH, Effect::Live),
    key(
        "gateway.publish.accept",
        "\"any\", or a list of ids of networks and of nodes that publish",
        Effect::Live,
    ),
    key("gateway.publish.per_network", "a number from 1 to 1000", Effect::Live),
    key("gateway.publish.reserved", "a list of labels, such as [\"billing\"]", Effect::Live),
    key("gateway.proxies", "a list of addresses and ranges, such as [\"10.0.0.0/8\"]", Effect::Live),
    key("gateway.proxy_protocol", BOOL, Effect::Live),
    key("gateway.resolvers", "a list of name servers, such as [\"192.0.2.53\"]", Effect::Live),
    key(
        "gateway.log",
        "\"off\", \"stderr\" or a path, such as \"/var/log/sinew/access.log\"",
        Effect::Restart,
    ),
    key("gateway.grace", "seconds from 0 to 3600", Effect::Live),
    key("gateway.acme.directory", "an address that begins with https://", Effect::Restart),
    key("gateway.acme.email", "an address, such as \"ops@example.org\"", Effect::Restart),
    key("gateway.acme.ca_file", PATH, Effect::Restart),
    key("gateway.acme.dns", "a list of addresses, such as [\"0.0.0.0:53\"]", Effect::Restart),
];

/// The entry of a dotted path.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// Names that may stand directly inside `section` (the empty path is the file itself).
pub(super) fn inside(section: &str) -> Vec<&'static str> {
    let mut names = Vec::new();
    for key in KEYS {
        let rest = if section.is_empty() {
            Some(key.path)
        } else {
            key.path.strip_prefix(section).and_then(|rest| rest.strip_prefix('.'))
        };
        if let Some(name) = rest.and_then(|rest| rest.split('.').next())
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    names
}
