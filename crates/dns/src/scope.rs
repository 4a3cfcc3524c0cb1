//! What whoever asks at one socket may see.
//!
//! A workload sees the names of its own network. The host sees the networks it is told to, and
//! the names of nodes. Ranges of different networks may overlap, so the reverse names depend on
//! the scope, too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::zones::{NetworkZone, Prefix, Zones};

/// The mesh itself.
const MESH: Prefix = Prefix { address: IpAddr::V6(Ipv6Addr::new(0xfd3f, 0, 0, 0, 0, 0, 0, 0)), length: 16 };

/// Ranges that are private everywhere (RFC 1918, RFC 4193, RFC 6598): what a workload asks about
/// them is answered here, in the same words whether or not another network of this node uses them.
const PRIVATE: &[Prefix] = &[
    Prefix { address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 0)), length: 8 },
    Prefix { address: IpAddr::V4(Ipv4Addr::new(172, 16, 0, 0)), length: 12 },
    Prefix { address: IpAddr::V4(Ipv4Addr::new(192, 168, 0, 0)), length: 16 },
    Prefix { address: IpAddr::V4(Ipv4Addr::new(100, 64, 0, 0)), length: 10 },
    Prefix { address: IpAddr::V6(Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0)), length: 7 },
];

/// Who asks at one pair of sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// `host`, or the workload's name; for people.
    pub label: String,
    /// Networks whose names exist here. Of two that bear one name the first is meant; each is
    /// always found by its key in place of its name.
    pub networks: Vec<[u8; 32]>,
    /// Whether this is the host: it sees the names of nodes, and asks about its own private
    /// ranges elsewhere.
    pub host: bool,
    /// Whether names that are not ours are handed on; else they are refused.
    pub forward: bool,
}

impl Scope {
    /// A workload's: its own network, all other names handed on.
    pub fn workload(label: &str, network: [u8; 32]) -> Self {
        Self { label: label.to_owned(), networks: vec![network], host: false, forward: true }
    }

    /// The host's.
    pub fn host(networks: Vec<[u8; 32]>) -> Self {
        Self { label: "host".to_owned(), networks, host: true, forward: true }
    }

    /// Domains for the `search` line of whoever asks here.
    pub fn search(&self, zones: &Zones) -> Vec<String> {
        if self.host {
            return Vec::new();
        }
        self.visible(zones).map(|network| format!("{}.{}", network.name(), zones.domain())).collect()
    }

    /// The networks that exist here, in order.
    pub(crate) fn visible<'a>(&'a self, zones: &'a Zones) -> impl Iterator<Item = &'a NetworkZone> {
        self.networks.iter().filter_map(|key| zones.network(key))
    }

    /// The network that `label` means here: by name, or by key in text form.
    pub(crate) fn network<'a>(&'a self, zones: &'a Zones, label: &str) -> Option<&'a NetworkZone> {
        self.visible(zones).find(|network| network.name() == label).or_else(|| {
            let key = label.parse::<sinew_types::NodeId>().ok()?;
            self.visible(zones).find(|network| network.key() == key.as_bytes())
        })
    }

    /// The range of ours that `asked` lies in: its reverse names are answered here.
    ///
    /// The shortest range wins, so that the answer does not show where a network begins.
    pub(crate) fn claims(&self, zones: &Zones, asked: &Prefix) -> Option<Prefix> {
        let fixed = if self.host { std::slice::from_ref(&MESH) } else { PRIVATE };
        if let Some(range) = fixed.iter().find(|range| range.covers(asked)) {
            return Some(*range);
        }
        // On the host a private IPv4 range may be its LAN's as well as that of a network it is
        // not part of; then the LAN is meant.
        let ours = |network: &&NetworkZone| {
            !self.host || asked.address.is_ipv6() || self.networks.contains(network.key())
        };
        let ranges = zones.networks().filter(ours).flat_map(NetworkZone::ranges);
        ranges.filter(|range| range.covers(asked)).min_by_key(|range| range.length).copied()
    }
}
