//! Who may ask for which port of which workload: what the documents say, and where the workload is.
//!
//! Made anew by the loop whenever one of them changes, and never changed: a stream that was granted by
//! one table is held against the next.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use sinew_helper::Id;
use sinew_node::overlay::Ingress;
use sinew_types::NodeId;
use sinew_wire::ingress::{Open, Status};

/// A service: network and id.
pub(crate) type Service = ([u8; 32], [u8; 16]);

/// What may be asked for, by whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// Mesh address of the gateway.
    pub(crate) from: Ipv6Addr,
    pub(crate) open: Open,
    pub(crate) datagrams: bool,
}

impl Key {
    pub(crate) fn service(&self) -> Service {
        (self.open.network, self.open.service)
    }
}

/// Where it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The helper's name of the workload's namespace; `None` for a workload that is not attached now, or
    /// that is a virtual machine.
    pub(crate) namespace: Option<Id>,
    /// The workload's addresses, in the order in which they are tried.
    pub(crate) addresses: Vec<IpAddr>,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    entries: BTreeMap<Key, Target>,
    gateways: BTreeSet<NodeId>,
}

impl Table {
    /// `place` says in which namespace the workload with these addresses runs.
    pub(crate) fn new(published: &[Ingress], place: impl Fn(&Ingress, IpAddr) -> Option<Id>) -> Self {
        let mut table = Self::default();
        for one in published {
            table.gateways.insert(one.gateway);
            for port in &one.ports {
                let open = Open {
                    network: *one.network.as_bytes(),
                    service: one.service,
                    home: *port.home.as_bytes(),
                    workload: port.workload.clone(),
                    port: port.port,
                };
                let from = one.gateway.address().to_ipv6();
                let key = Key { from, open, datagrams: one.datagrams };
                let namespace = port.addresses.last().and_then(|address| place(one, *address));
                table.entries.insert(key, Target { namespace, addresses: port.addresses.clone() });
            }
        }
        table
    }

    /// The nodes that have a reason to come.
    pub(crate) fn gateways(&self) -> &BTreeSet<NodeId> {
        &self.gateways
    }

    /// Where a request leads, if it may.
    ///
    /// # Errors
    /// What to answer instead.
    pub(crate) fn find(&self, key: &Key) -> Result<&Target, Status> {
        let target = self.entries.get(key).ok_or(Status::NotPublished)?;
        if target.namespace.is_some() { Ok(target) } else { Err(Status::NotHere) }
    }

    /// Whether what was granted still is, and leads to the same place.
    pub(crate) fn still(&self, key: &Key, target: &Target) -> bool {
        self.entries.get(key) == Some(target)
    }
}

#[cfg(test)]
mod tests {
    use sinew_node::overlay::IngressPort;
    use sinew_types::{Identity, Label, NetworkId};

    use super::*;

    fn node(n: u8) -> NodeId {
        Identity::from_seed([n; 32]).node_id()
    }

    fn published() -> Ingress {
        let port = IngressPort {
            home: node(2),
            workload: Label::parse("web").unwrap(),
            addresses: vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            port: 80,
        };
        Ingress {
            network: NetworkId::new(node(1)),
            service: [7; 16],
            author: node(2),
            gateway: node(3),
            datagrams: false,
            ports: vec![port],
        }
    }

    fn key() -> Key {
        let one = published();
        let open = Open {
            network: *one.network.as_bytes(),
            service: one.service,
            home: *node(2).as_bytes(),
            workload: Label::parse("web").unwrap(),
            port: 80,
        };
        Key { from: node(3).address().to_ipv6(), open, datagrams: false }
    }

    #[test]
    fn nothing_is_granted_but_what_is_published_to_whom_it_is() {
        let here = |_: &Ingress, _: IpAddr| Id::new("w-1");
        let table = Table::new(&[published()], here);
        assert!(table.find(&key()).is_ok());
        let open = key().open;
        for other in [
            Key { from: node(4).address().to_ipv6(), ..key() },
            Key { datagrams: true, ..key() },
            Key { open: Open { port: 81, ..open.clone() }, ..key() },
            Key { open: Open { workload: Label::parse("db").unwrap(), ..open.clone() }, ..key() },
            Key { open: Open { home: [9; 32], ..open.clone() }, ..key() },
            Key { open: Open { service: [8; 16], ..open.clone() }, ..key() },
            Key { open: Open { network: [8; 32], ..open }, ..key() },
        ] {
            assert_eq!(table.find(&other), Err(Status::NotPublished), "{other:?}");
        }
    }

    #[test]
    fn a_stream_ends_with_its_publication_and_when_the_workload_moves() {
        let here = Table::new(&[published()], |_, _| Id::new("w-1"));
        let granted = here.find(&key()).unwrap().clone();
        assert!(here.still(&key(), &granted));
        assert!(!Table::default().still(&key(), &granted));
        let elsewhere = Table::new(&[published()], |_, _| Id::new("w-2"));
        assert!(!elsewhere.still(&key(), &granted));
        let gone = Table::new(&[published()], |_, _| None);
        assert_eq!(gone.find(&key()), Err(Status::NotHere));
        assert!(!gone.still(&key(), &granted));
    }
}
