//! Names inside a network (protocol A7.11): what DNS answers from.
//!
//! A workload is called by its name; where two claim one name, who claimed it first has it, and the other
//! still answers to `NAME.NODE`, the first ten characters of its member's key. That longer form is
//! everybody's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sinew_types::{Label, NetworkId};
use sinew_wire::document::Service;

use crate::overlay::Overlay;
use crate::refusal::Refusal;
use crate::state::{State, Workload};

/// What a network's names lead to: one record for each workload that is somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameRecord {
    /// Its names, without the network's: first the short one, if it has it.
    pub names: Vec<String>,
    /// IPv4.
    pub ipv4: Option<Ipv4Addr>,
    /// IPv6.
    pub ipv6: Ipv6Addr,
    /// What it serves, for SRV records.
    pub services: Vec<Service>,
}

fn long_name(workload: &Workload) -> String {
    format!("{}.{}", workload.name, workload.home.short())
}

fn record(workload: &Workload) -> NameRecord {
    let short = workload.owns_name.then(|| workload.name.to_string());
    NameRecord {
        names: short.into_iter().chain([long_name(workload)]).collect(),
        ipv4: workload.ipv4,
        ipv6: workload.ipv6,
        services: workload.services.clone(),
    }
}

/// The workload that `name` means: a label, or a label and ten characters of a key.
fn find<'a>(state: &'a State, name: &str) -> Option<&'a Workload> {
    let found = match name.split_once('.') {
        None => state.named(&Label::parse(name).ok()?),
        Some(_) => state.workloads.values().find(|workload| long_name(workload) == name),
    };
    found.filter(|workload| workload.host.is_some())
}

impl Overlay {
    /// All names of a network, for a zone of DNS. Empty while the network is closed.
    ///
    /// # Errors
    /// [`Refusal::UnknownNetworkId`].
    pub fn names(&self, network: &NetworkId) -> Result<Vec<NameRecord>, Refusal> {
        let network = self.network(network)?;
        if !network.is_open(&self.own) {
            return Ok(Vec::new());
        }
        Ok(network.state.workloads.values().filter(|one| one.host.is_some()).map(record).collect())
    }

    /// The addresses behind a name.
    ///
    /// # Errors
    /// [`Refusal::UnknownNetworkId`], [`Refusal::UnknownName`].
    pub fn lookup(&self, network: &NetworkId, name: &str) -> Result<NameRecord, Refusal> {
        let network = self.network(network)?;
        let unknown = || Refusal::UnknownName { network: network.name(), name: name.to_owned() };
        find(&network.state, name).map(record).ok_or_else(unknown)
    }

    /// The name behind an address, for PTR.
    ///
    /// # Errors
    /// [`Refusal::UnknownNetworkId`], [`Refusal::UnknownName`].
    pub fn reverse(&self, network: &NetworkId, address: &IpAddr) -> Result<String, Refusal> {
        let network = self.network(network)?;
        let unknown = || Refusal::UnknownName { network: network.name(), name: address.to_string() };
        let workload = network.state.at_address(address).filter(|one| one.host.is_some());
        let names = workload.map(|workload| record(workload).names).ok_or_else(unknown)?;
        names.into_iter().next().ok_or_else(unknown)
    }

    /// Who serves `service` over `protocol`: name and port, for SRV.
    ///
    /// # Errors
    /// [`Refusal::UnknownNetworkId`].
    pub fn serving(
        &self,
        network: &NetworkId,
        service: &Label,
        protocol: u8,
    ) -> Result<Vec<(String, u16)>, Refusal> {
        let network = self.network(network)?;
        let workloads = network.state.workloads.values().filter(|one| one.host.is_some());
        let serving = workloads.flat_map(|workload| {
            let own = workload.services.iter().filter(|own| own.name == *service && own.protocol == protocol);
            own.filter_map(|own| Some((record(workload).names.into_iter().next()?, own.port)))
        });
        Ok(serving.collect())
    }
}
