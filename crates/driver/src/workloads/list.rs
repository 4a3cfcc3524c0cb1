//! Workloads as the control API shows them: to whoever lists or attaches one.

use sinew_control::api::{
    AttachAnswer, AttachedInterface, Workload, WorkloadState, Workloads as List, pinned_namespace,
};
use sinew_node::overlay::NetworkStatus;
use sinew_types::InterfaceId;

use super::{InterfaceRecord, Parts, Record, Running, Workloads};
use crate::interfaces::Traffic;
use crate::names::Names;
use crate::networks;

impl Workloads {
    pub(super) fn list(&self, parts: &Parts<'_>) -> List {
        let networks = parts.node.overlay().networks();
        let mut workloads: Vec<_> = self
            .running
            .values()
            .flat_map(|running| {
                let interfaces = running.record.interfaces.iter().enumerate();
                interfaces.map(|(at, interface)| self.line(parts, &networks, running, at, interface))
            })
            .collect();
        workloads.sort_by(|a, b| (&a.name, &a.network).cmp(&(&b.name, &b.network)));
        List { workloads }
    }

    fn line(
        &self,
        parts: &Parts<'_>,
        networks: &[NetworkStatus],
        running: &Running,
        at: usize,
        interface: &InterfaceRecord,
    ) -> Workload {
        let record = &running.record;
        let traffic = running.interfaces.get(at).map(|&id| parts.interfaces.traffic(id));
        let Traffic { received, sent } = traffic.unwrap_or_default();
        let lease = networks::lease_until(parts.node, interface);
        Workload {
            id: record.id.clone(),
            name: record.name.clone(),
            network: interface.network_name.clone(),
            addresses: interface.addresses().iter().map(ToString::to_string).collect(),
            netns: Some(pinned_namespace(&self.control, &record.id).display().to_string()),
            pid: record.watch.map(|watch| watch.pid),
            state: state(parts, networks, running, running.interfaces.get(at), interface),
            rx_bytes: received,
            tx_bytes: sent,
            interface: interface.name.clone().unwrap_or_default(),
            mtu: u32::from(interface.mtu),
            by: record.by,
            tag: record.tag.clone(),
            key: record.key.clone(),
            lease_until: lease,
            resolvers: resolvers(parts.names, record).iter().map(ToString::to_string).collect(),
            search: search(parts.names, record),
        }
    }
}

fn state(
    parts: &Parts<'_>,
    networks: &[NetworkStatus],
    running: &Running,
    id: Option<&InterfaceId>,
    interface: &InterfaceRecord,
) -> WorkloadState {
    match id {
        _ if running.broken => WorkloadState::Broken,
        None => WorkloadState::Waiting,
        Some(_) => networks::state_of(parts.node, networks, interface),
    }
}

/// What whoever attached a workload is told.
pub(super) fn answer(names: &Names, record: &Record) -> AttachAnswer {
    let whole = |address: std::net::IpAddr| format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 });
    let interfaces = record.interfaces.iter().map(|interface| AttachedInterface {
        interface: interface.name.clone().unwrap_or_default(),
        network: interface.network_name.clone(),
        network_id: interface.network.clone(),
        addresses: interface.addresses().into_iter().map(whole).collect(),
        routes: interface.routes.iter().map(|(address, length)| format!("{address}/{length}")).collect(),
        mtu: u32::from(interface.mtu),
        mac: None,
    });
    AttachAnswer {
        id: record.id.clone(),
        name: record.name.clone(),
        interfaces: interfaces.collect(),
        resolvers: resolvers(names, record),
        search: search(names, record),
    }
}

/// Whom the workload asks for names: its first network's server, which answers for all of its.
fn resolvers(names: &Names, record: &Record) -> Vec<std::net::IpAddr> {
    let first = record.interfaces.first().filter(|_| names.is_on());
    first.map(InterfaceRecord::resolvers).unwrap_or_default()
}

fn search(names: &Names, record: &Record) -> Vec<String> {
    let of = |interface: &InterfaceRecord| names.search(&interface.network_name, &interface.network);
    record.interfaces.iter().filter_map(of).collect()
}
