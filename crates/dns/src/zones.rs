//! The names this node knows, as one value that never changes: it is built whole, published, and
//! read by every server without a lock.
//!
//! Names come from documents that others signed and, for nodes, from what they say of
//! themselves. Both are checked to be single labels of letters, digits and hyphens on the way in.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use hickory_proto::rr::Name;
use rustc_hash::FxHashMap;
use sinew_types::NodeId;
use thiserror::Error;

/// The domain unless configured otherwise. `.internal` is reserved for private use.
pub const DOMAIN_DEFAULT: &str = "sinew.internal";

/// Lifetime of a name's records, seconds. A workload moves within two; whoever asks is on this
/// machine and is answered from memory, so that a cache would save nothing and only be stale.
/// Not zero, which some resolvers take for "never valid".
pub const RECORD_TTL: u32 = 1;

/// Lifetime of "there is no such name", seconds: programs ask for their peers before these run.
pub const NEGATIVE_TTL: u32 = 1;

/// Lifetime of a key's address, seconds: it is computed and never changes.
pub const KEY_TTL: u32 = 3600;

/// Longest domain, characters.
const DOMAIN_MAX: usize = 125;

/// Labels below the domain that no network may take.
const RESERVED: &[&str] = &[KEYS, NODES];
pub(crate) const KEYS: &str = "id";
pub(crate) const NODES: &str = "node";

/// A name that cannot be one label of a domain name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{text}` cannot be a name: {why}")]
pub struct BadName {
    /// As given.
    pub text: String,
    /// What is wrong.
    pub why: &'static str,
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Any address in it.
    pub address: IpAddr,
    /// Its length, bits.
    pub length: u8,
}

impl Prefix {
    /// Whether all of `other` lies in it.
    pub fn covers(&self, other: &Self) -> bool {
        let (ours, theirs) = (aligned(self.address), aligned(other.address));
        let shift = 128_u32.saturating_sub(self.length.into());
        self.address.is_ipv4() == other.address.is_ipv4()
            && self.length <= other.length
            && (ours ^ theirs).checked_shr(shift).unwrap_or(0) == 0
    }

    /// Whether `address` lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.covers(&Self { address, length: if address.is_ipv4() { 32 } else { 128 } })
    }
}

/// The address' bits, left-aligned in 128.
fn aligned(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// A service of a workload: `_SERVICE._PROTOCOL.NAME…` SRV.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Without the underscore: `http`.
    pub service: String,
    /// Without the underscore: `tcp`, `udp`.
    pub protocol: String,
    /// Port.
    pub port: u16,
    /// Lower is tried first.
    pub priority: u16,
    /// Share among those of one priority.
    pub weight: u16,
}

/// What stands behind one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Its addresses, both families.
    pub addresses: Vec<IpAddr>,
    /// Its services.
    pub services: Vec<Service>,
    /// The node that signed for it.
    pub node: Option<NodeId>,
}

/// One network's names. Shared between successive [`Zones`] while it does not change.
#[derive(Debug)]
pub struct NetworkZone {
    key: [u8; 32],
    name: String,
    ranges: Vec<Prefix>,
    hosts: BTreeMap<String, Host>,
    reverse: FxHashMap<IpAddr, Vec<String>>,
}

impl NetworkZone {
    /// A network without names yet. `ranges`: its addresses; reverse questions for them stay here.
    ///
    /// # Errors
    /// [`BadName`]: not a label, or one that the domain uses itself.
    pub fn new(key: [u8; 32], name: &str, ranges: Vec<Prefix>) -> Result<Self, BadName> {
        let name = network_label(name)?;
        Ok(Self { key, name, ranges, hosts: BTreeMap::new(), reverse: FxHashMap::default() })
    }

    /// Whether a network can have this name here.
    pub fn is_name(name: &str) -> bool {
        network_label(name).is_ok()
    }

    /// Adds a workload; one of the same name is replaced.
    ///
    /// # Errors
    /// [`BadName`]: not a label; of a service: not `[a-z0-9-]`.
    pub fn add(&mut self, name: &str, mut host: Host) -> Result<(), BadName> {
        let name = label(name)?;
        for service in &mut host.services {
            service.service = label(&service.service)?;
            service.protocol = label(&service.protocol)?;
        }
        if let Some(before) = self.hosts.remove(&name) {
            for address in before.addresses {
                if let Some(names) = self.reverse.get_mut(&address) {
                    names.retain(|other| *other != name);
                }
            }
        }
        for address in &host.addresses {
            let names = self.reverse.entry(*address).or_default();
            if !names.contains(&name) {
                names.push(name.clone());
            }
        }
        self.hosts.insert(name, host);
        Ok(())
    }

    /// Its key.
    pub const fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn ranges(&self) -> &[Prefix] {
        &self.ranges
    }

    pub(crate) fn host(&self, name: &str) -> Option<&Host> {
        self.hosts.get(name)
    }

    pub(crate) fn hosts(&self) -> impl Iterator<Item = (&str, &Host)> {
        self.hosts.iter().map(|(name, host)| (name.as_str(), host))
    }

    pub(crate) fn names_of(&self, address: IpAddr) -> &[String] {
        self.reverse.get(&address).map_or(&[], Vec::as_slice)
    }
}

fn network_label(name: &str) -> Result<String, BadName> {
    let name = label(name)?;
    if RESERVED.contains(&name.as_str()) {
        return Err(BadName { text: name, why: "the domain uses this name itself" });
    }
    Ok(name)
}

/// Who bears a node's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bearer {
    One(NodeId),
    /// Two nodes call themselves so. Names of nodes are their own word: neither is believed.
    Several,
}

/// All names, immutable once published.
#[derive(Debug)]
pub struct Zones {
    domain: Name,
    labels: Vec<String>,
    networks: FxHashMap<[u8; 32], Arc<NetworkZone>>,
    nodes: BTreeMap<String, Bearer>,
    addresses: FxHashMap<Ipv6Addr, String>,
}

impl Zones {
    /// An empty set under `domain` (see [`DOMAIN_DEFAULT`]).
    ///
    /// # Errors
    /// [`BadName`]: not a domain name of at least one label, or one under which names cannot live.
    pub fn new(domain: &str) -> Result<Self, BadName> {
        let bad = |why| BadName { text: domain.to_owned(), why };
        let labels = domain
            .strip_suffix('.')
            .unwrap_or(domain)
            .split('.')
            .map(label)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| bad(error.why))?;
        if matches!(labels.last().map(String::as_str), Some("arpa" | "localhost")) {
            return Err(bad("this domain has a meaning of its own"));
        }
        // 253 characters in all, and two labels of 63 with their dots must fit in front.
        if labels.iter().map(|label| label.len() + 1).sum::<usize>() > DOMAIN_MAX + 1 {
            return Err(bad("at most 125 characters, so that names fit below it"));
        }
        let mut name =
            Name::from_labels(labels.iter().map(String::as_bytes)).map_err(|_| bad("not a domain name"))?;
        name.set_fqdn(true);
        Ok(Self {
            domain: name,
            labels,
            networks: FxHashMap::default(),
            nodes: BTreeMap::new(),
            addresses: FxHashMap::default(),
        })
    }

    /// Adds a network; one of the same key is replaced.
    pub fn insert(&mut self, network: Arc<NetworkZone>) {
        self.networks.insert(network.key, network);
    }

    /// Adds what a node calls itself. A name that two claim is answered for neither.
    ///
    /// # Errors
    /// [`BadName`]: it has no form as a label; the node is still found by its key.
    pub fn add_node(&mut self, node: NodeId, name: &str) -> Result<(), BadName> {
        let name = label(name)?;
        match self.nodes.get_mut(&name) {
            Some(Bearer::One(other)) if *other == node => {}
            Some(bearer) => {
                if let Bearer::One(other) = *bearer {
                    self.addresses.remove(&other.address().to_ipv6());
                }
                *bearer = Bearer::Several;
            }
            None => {
                self.addresses.insert(node.address().to_ipv6(), name.clone());
                self.nodes.insert(name, Bearer::One(node));
            }
        }
        Ok(())
    }

    /// The domain, as text without the last dot.
    pub fn domain(&self) -> String {
        self.labels.join(".")
    }

    /// The network with this key.
    pub fn network(&self, key: &[u8; 32]) -> Option<&NetworkZone> {
        self.networks.get(key).map(AsRef::as_ref)
    }

    pub(crate) const fn apex(&self) -> &Name {
        &self.domain
    }

    pub(crate) fn labels(&self) -> &[String] {
        &self.labels
    }

    pub(crate) fn networks(&self) -> impl Iterator<Item = &NetworkZone> {
        self.networks.values().map(AsRef::as_ref)
    }

    pub(crate) fn node(&self, name: &str) -> Option<Bearer> {
        self.nodes.get(name).copied()
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = (&str, NodeId)> {
        self.nodes.iter().filter_map(|(name, bearer)| match bearer {
            Bearer::One(node) => Some((name.as_str(), *node)),
            Bearer::Several => None,
        })
    }

    pub(crate) fn node_at(&self, address: &Ipv6Addr) -> Option<&str> {
        self.addresses.get(address).map(String::as_str)
    }
}

/// `text` in lower case, if it is one label: letters, digits, inner hyphens, 1 to 63 characters.
pub(crate) fn label(text: &str) -> Result<String, BadName> {
    let bad = |why| Err(BadName { text: text.to_owned(), why });
    match text.as_bytes() {
        [] => bad("it is empty"),
        [_, .., _] if text.len() > 63 => bad("at most 63 characters"),
        [b'-', ..] | [.., b'-'] => bad("a hyphen stands only inside"),
        bytes if !bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-') => {
            bad("letters, digits and hyphens only")
        }
        _ => Ok(text.to_ascii_lowercase()),
    }
}

#[cfg(test)]
mod tests;
