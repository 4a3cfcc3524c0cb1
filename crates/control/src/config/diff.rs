//! What differs between two configurations, and what each difference means for a running node.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sinew_types::{NodeId, Rate};

use super::{Config, Forward, Gateway, Inbound, Mtu, Peer, Switch, keys};

/// What a change does to a running node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// In force at once, nothing is interrupted.
    Live,
    /// In force at once; the link to the peer in question ends or is made anew.
    Reconnects,
    /// In force when the daemon is started again.
    Restart,
}

impl Effect {
    /// The word in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Reconnects => "reconnects",
            Self::Restart => "restart",
        }
    }
}

/// One key with two values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Dotted key; for a peer `peer.uri`, `peer.cost` or `peer.limit`.
    pub key: String,
    /// What it was; `null` = not there.
    pub old: Option<String>,
    /// What it is; `null` = gone.
    pub new: Option<String>,
    /// What the change does.
    pub effect: Effect,
}

/// Every difference, in the order of the manual.
pub fn diff(old: &Config, new: &Config) -> Vec<Change> {
    let mut changes: Vec<_> = scalars(old)
        .into_iter()
        .zip(scalars(new))
        .filter(|((_, before), (_, after))| before != after)
        .map(|((key, before), (_, after))| change(key, before, after))
        .collect();
    changes.extend(peers(old, new));
    changes
}

fn change(key: &'static str, old: Option<String>, new: Option<String>) -> Change {
    let effect = keys::find(key).map_or(Effect::Restart, |key| key.effect);
    Change { key: key.to_owned(), old, new, effect }
}

/// All values but the peers, as text.
fn scalars(config: &Config) -> Vec<(&'static str, Option<String>)> {
    let Config {
        node,
        mesh,
        listen,
        tls,
        proxy,
        reach,
        transit,
        peers: _,
        tun,
        offload,
        discovery,
        peering,
        control,
        metrics,
        dns,
        gateway,
    } = config;
    let path = |path: &std::path::Path| Some(path.display().to_string());
    let list = |addrs: &[std::net::SocketAddr]| {
        Some(addrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
    };
    let mut all = vec![
        ("node.key_file", path(&node.key_file)),
        ("node.name", node.name.clone()),
        ("node.state_dir", path(&node.state_dir)),
        ("node.class", Some(node.class.as_str().to_owned())),
        ("mesh.secret_file", mesh.secret_file.as_deref().and_then(path)),
        ("mesh.accept", Some(mesh.accept.as_str().to_owned())),
        ("listen.udp", list(&listen.udp)),
        ("listen.tcp", list(&listen.tcp)),
        ("listen.quic", list(&listen.quic)),
        ("listen.wss", list(&listen.wss)),
        ("tls.certificate", tls.files.as_ref().and_then(|(certificate, _)| path(certificate))),
        ("tls.key", tls.files.as_ref().and_then(|(_, key)| path(key))),
        ("proxy.http", proxy.http.clone()),
        ("reach.direct", Some(reach.direct.to_string())),
        ("reach.port_mapping", Some(reach.port_mapping.to_string())),
        ("reach.uplinks", Some(reach.uplinks.to_string())),
        ("transit.enabled", Some(transit.enabled.to_string())),
        ("transit.limit", transit.limit.map(|rate| rate.to_string())),
        ("tun.enabled", Some(tun.enabled.to_string())),
        ("tun.name", Some(tun.name.clone())),
        ("tun.mtu", Some(mtu(tun.mtu))),
        ("tun.inbound", Some(inbound(&tun.inbound))),
        ("offload.tun_read", switch(offload.tun_read)),
        ("offload.tun_write", switch(offload.tun_write)),
        ("offload.udp_send", switch(offload.udp_send)),
        ("offload.udp_receive", switch(offload.udp_receive)),
        ("discovery.lan", Some(discovery.lan.to_string())),
        ("discovery.interfaces", words(&discovery.interfaces)),
        ("discovery.directory", words(&discovery.directory)),
        ("discovery.publish", Some(discovery.publish.to_string())),
        ("discovery.listen", list(&discovery.listen)),
        ("discovery.serve", switch(discovery.serve)),
        ("peering.target", Some(peering.target.to_string())),
        ("peering.max", Some(peering.max.to_string())),
        ("peering.limit", peering.limit.map(|rate| rate.to_string())),
        ("peering.share", Some(peering.share.to_string())),
        ("dns.enabled", Some(dns.enabled.to_string())),
        ("dns.domain", Some(dns.domain.clone())),
        ("dns.forward", forward(&dns.forward)),
        ("control.socket", path(&control.socket)),
        ("metrics.listen", metrics.listen.map(|addr| addr.to_string())),
    ];
    all.extend(gateway_scalars(gateway.as_ref()));
    all
}

fn gateway_scalars(gateway: Option<&Gateway>) -> Vec<(&'static str, Option<String>)> {
    let list = |items: &[String]| Some(items.join(", ")).filter(|text| !text.is_empty());
    let addrs =
        |addrs: &[std::net::SocketAddr]| list(&addrs.iter().map(ToString::to_string).collect::<Vec<_>>());
    let range = |range: Option<(u16, u16)>| range.map(|(first, last)| format!("{first}-{last}"));
    let of = |value: &dyn Fn(&Gateway) -> Option<String>| gateway.and_then(value);
    let files =
        |gateway: &Gateway| list(&gateway.certificates.iter().map(ToString::to_string).collect::<Vec<_>>());
    vec![
        ("gateway.domain", of(&|gateway| gateway.domain.clone())),
        ("gateway.registrar", of(&|gateway| Some(gateway.registrar?.to_string()))),
        ("gateway.followers", of(&|gateway| list(&nodes(&gateway.followers)))),
        ("gateway.https", of(&|gateway| addrs(&gateway.https))),
        ("gateway.http", of(&|gateway| addrs(&gateway.http))),
        ("gateway.tcp_ports", of(&|gateway| range(gateway.tcp_ports))),
        ("gateway.udp_ports", of(&|gateway| range(gateway.udp_ports))),
        ("gateway.certificates.certificate", of(&files)),
        ("gateway.acme.directory", of(&|gateway| Some(gateway.acme.as_ref()?.directory.clone()))),
        ("gateway.acme.email", of(&|gateway| gateway.acme.as_ref()?.email.clone())),
        (
            "gateway.acme.ca_file",
            of(&|gateway| Some(gateway.acme.as_ref()?.ca_file.as_ref()?.display().to_string())),
        ),
        ("gateway.acme.dns", of(&|gateway| addrs(&gateway.acme.as_ref()?.dns))),
        ("gateway.publish.accept", of(&|gateway| Some(gateway.accept.to_string()))),
        ("gateway.publish.per_network", of(&|gateway| Some(gateway.per_network.to_string()))),
        ("gateway.publish.reserved", of(&|gateway| list(&gateway.reserved))),
        ("gateway.proxies", of(&|gateway| list(&gateway.proxies))),
        ("gateway.proxy_protocol", of(&|gateway| Some(gateway.proxy_protocol.to_string()))),
        ("gateway.resolvers", of(&|gateway| addrs(&gateway.resolvers))),
        ("gateway.log", of(&|gateway| Some(gateway.log.to_string()))),
        ("gateway.grace", of(&|gateway| Some(gateway.grace.to_string()))),
    ]
}

fn nodes(nodes: &[NodeId]) -> Vec<String> {
    nodes.iter().map(ToString::to_string).collect()
}

fn mtu(mtu: Mtu) -> String {
    match mtu {
        Mtu::Auto => "auto".to_owned(),
        Mtu::Fixed(bytes) => bytes.to_string(),
    }
}

fn words(list: &[String]) -> Option<String> {
    Some(list.join(", ")).filter(|text| !text.is_empty())
}

fn switch(switch: Switch) -> Option<String> {
    Some(switch.as_str().to_owned())
}

/// The rules as one value: what counts is all of them together.
fn forward(rules: &[Forward]) -> Option<String> {
    let texts: Vec<_> = rules.iter().map(ToString::to_string).collect();
    Some(texts.join("; ")).filter(|text| !text.is_empty())
}

fn inbound(policy: &Inbound) -> String {
    policy.to_string()
}

/// Peers are told apart by URI. A node that keeps another URI keeps its link and sessions; only one
/// that is no longer named is let go.
fn peers(old: &Config, new: &Config) -> Vec<Change> {
    let (before, after) = (by_uri(old), by_uri(new));
    let mut changes = Vec::new();
    for (uri, peer) in &before {
        match after.get(uri) {
            None => {
                let stays = new.peers.iter().any(|other| other.uri.node == peer.uri.node);
                let effect = if stays { Effect::Live } else { Effect::Reconnects };
                changes.push(Change { effect, ..change("peer.uri", Some(uri.clone()), None) });
            }
            Some(now) => {
                if now.cost != peer.cost {
                    let text = |cost: u16| Some(format!("{cost} ({uri})"));
                    changes.push(change("peer.cost", text(peer.cost), text(now.cost)));
                }
                if now.limit != peer.limit {
                    let text = |limit: Option<Rate>| limit.map(|limit| format!("{limit} ({uri})"));
                    changes.push(change("peer.limit", text(peer.limit), text(now.limit)));
                }
            }
        }
    }
    for uri in after.keys().filter(|uri| !before.contains_key(*uri)) {
        changes.push(change("peer.uri", None, Some(uri.clone())));
    }
    changes
}

fn by_uri(config: &Config) -> BTreeMap<String, &Peer> {
    config.peers.iter().map(|peer| (peer.uri.to_string(), peer)).collect()
}
