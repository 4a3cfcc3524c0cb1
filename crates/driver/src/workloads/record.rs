//! What is kept of an attached workload, so that it survives a restart of the daemon.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use sinew_control::api::{AttachedBy, Watch};
use sinew_helper::{Attach, Id};
use sinew_types::NetworkId;

/// One attached workload, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Names the attachment, its pinned namespace and its first interface.
    pub(crate) id: String,
    /// The workload's name.
    pub(crate) name: String,
    /// At least one.
    pub(crate) interfaces: Vec<InterfaceRecord>,
    pub(crate) groups: Vec<String>,
    pub(crate) key: Option<String>,
    pub(crate) watch: Option<Watch>,
    pub(crate) by: AttachedBy,
    pub(crate) tag: Option<String>,
    /// The TAP device of a virtual machine.
    pub(crate) tap: Option<String>,
}

/// One interface of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InterfaceRecord {
    /// The network, as its text.
    pub(crate) network: String,
    /// What this node calls the network.
    pub(crate) network_name: String,
    /// Name inside the namespace; `None` until the helper has chosen one.
    pub(crate) name: Option<String>,
    pub(crate) mtu: u16,
    pub(crate) ipv4: Option<Ipv4Addr>,
    pub(crate) ipv6: Ipv6Addr,
    /// This node's own addresses in the network: the workload's resolvers, a virtual machine's gateway.
    pub(crate) gateway_ipv4: Option<Ipv4Addr>,
    pub(crate) gateway_ipv6: Ipv6Addr,
    /// What is reached through the interface.
    pub(crate) routes: Vec<(IpAddr, u8)>,
}

impl InterfaceRecord {
    /// The network's key; `None` for a record that makes no sense.
    pub(crate) fn network_id(&self) -> Option<NetworkId> {
        self.network.parse().ok()
    }

    /// Addresses without prefix length, IPv4 first.
    pub(crate) fn addresses(&self) -> Vec<IpAddr> {
        self.ipv4.map(IpAddr::V4).into_iter().chain([IpAddr::V6(self.ipv6)]).collect()
    }

    /// Where the workload asks for names.
    pub(crate) fn resolvers(&self) -> Vec<IpAddr> {
        self.gateway_ipv4.map(IpAddr::V4).into_iter().chain([IpAddr::V6(self.gateway_ipv6)]).collect()
    }
}

impl Record {
    /// What the helper is to make of interface number `at`: the first bears the attachment's id.
    pub(crate) fn to_helper(&self, at: usize) -> Option<Attach> {
        let interface = self.interfaces.get(at)?;
        let whole = |address: IpAddr| (address, if address.is_ipv4() { 32 } else { 128 });
        Some(Attach {
            id: self.helper_id(at)?,
            interface: interface.name.clone(),
            mtu: interface.mtu,
            addresses: interface.addresses().into_iter().map(whole).collect(),
            routes: interface.routes.clone(),
            resolver: interface.resolvers(),
            tap: self.tap.clone(),
        })
    }

    /// The helper's name for interface number `at`.
    pub(crate) fn helper_id(&self, at: usize) -> Option<Id> {
        if at == 0 { Id::new(&self.id) } else { Id::new(&format!("{}.{at}", self.id)) }
    }

    /// Of all interfaces.
    pub(crate) fn helper_ids(&self) -> Vec<Id> {
        (0..self.interfaces.len()).filter_map(|at| self.helper_id(at)).collect()
    }

    /// As it is stored.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// From the store; `None` for what another version wrote and this one does not understand.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let interface = InterfaceRecord {
            network: "n".repeat(52),
            network_name: "shop".into(),
            name: None,
            mtu: 1416,
            ipv4: Some([10, 20, 3, 7].into()),
            ipv6: "fd00:1:2:3::7".parse().unwrap(),
            gateway_ipv4: Some([10, 20, 3, 1].into()),
            gateway_ipv6: "fd00:1:2:3::1".parse().unwrap(),
            routes: vec![([10, 20, 0, 0].into(), 16)],
        };
        Record {
            id: "w-1".into(),
            name: "db".into(),
            interfaces: vec![interface.clone(), interface],
            groups: vec!["web".into()],
            key: None,
            watch: Some(Watch { pid: 7, start_ticks: 9 }),
            by: AttachedBy::Run,
            tag: None,
            tap: None,
        }
    }

    #[test]
    fn a_record_comes_back_from_its_bytes() {
        assert_eq!(Record::from_bytes(&record().to_bytes()), Some(record()));
        assert_eq!(Record::from_bytes(b"{}"), None);
    }

    #[test]
    fn each_interface_has_a_name_of_its_own_and_whole_addresses() {
        let first = record().to_helper(0).unwrap();
        assert_eq!(first.id.as_str(), "w-1");
        assert_eq!(first.addresses, [([10, 20, 3, 7].into(), 32), ("fd00:1:2:3::7".parse().unwrap(), 128)]);
        assert_eq!(first.resolver.len(), 2);
        assert_eq!(record().to_helper(1).unwrap().id.as_str(), "w-1.1");
        assert!(record().to_helper(2).is_none());
    }
}
