//! Private networks and what runs in them, as the loop owns them: networks, workloads, names and
//! the store, and the one channel on which tasks of theirs report back.

use std::path::PathBuf;
use std::sync::Arc;

use sinew_control::api::Listener;
use sinew_helper::Helper;
use sinew_node::overlay::Event;
use sinew_node::{Node, Offloads};
use sinew_types::{Instant, InterfaceId, NetworkId, NodeId, UnixMicros};
use tokio::sync::mpsc;

use crate::command::{DnsCommand, NetworkCommand, WorkloadCommand};
use crate::interfaces::Interfaces;
use crate::names::Names;
use crate::networks::Networks;
use crate::persist::{Kept, Persist};
use crate::remembered;
use crate::workloads::{self, Parts, Workloads};

/// How something ended that the loop began and left to others: as many reports as it began.
pub(crate) enum Finished {
    Workload(Box<workloads::Finished>),
    /// What the documents' machine asked to be told of is on the disk.
    Stored(u64),
    /// Whoever waits for a join has waited long enough.
    JoinPatience(NetworkId),
}

/// What the node's own device was found to be.
pub(crate) struct Surroundings {
    pub(crate) offloads: Offloads,
    pub(crate) mtu: Option<u16>,
    /// The control socket; the helper pins namespaces beside it.
    pub(crate) socket: PathBuf,
    /// Tags of workloads that were ended while no daemon ran.
    pub(crate) ended: Vec<String>,
}

pub(crate) struct Tenants {
    networks: Networks,
    workloads: Workloads,
    names: Names,
    persist: Persist,
    finished: mpsc::UnboundedReceiver<Finished>,
}

impl Tenants {
    pub(crate) fn new(helper: Helper, persist: Persist, names: Names, around: Surroundings) -> Self {
        let (reports, finished) = mpsc::unbounded_channel();
        let networks = Networks::new(reports.clone());
        let workloads = Workloads::new(Arc::new(helper), reports, around);
        Self { networks, workloads, names, persist, finished }
    }

    /// Where the loop hears of what has ended.
    pub(crate) const fn finished(&mut self) -> &mut mpsc::UnboundedReceiver<Finished> {
        &mut self.finished
    }

    /// Takes up what an earlier run left.
    pub(crate) fn restore(&mut self, node: &mut Node, kept: Kept, now: Instant) {
        remembered::restore(node, &self.persist, &kept.peers, now);
        self.networks.restore(node, &kept, now);
        self.names.publish(node);
        self.workloads.restore(kept.workloads);
    }

    pub(crate) fn on_network_command(
        &mut self,
        node: &mut Node,
        command: NetworkCommand,
        listeners: &[Listener],
        now: Instant,
    ) {
        self.networks.handle(node, command, listeners, now);
    }

    pub(crate) fn on_workload_command(
        &mut self,
        node: &mut Node,
        interfaces: &mut Interfaces,
        command: WorkloadCommand,
        now: Instant,
    ) {
        let (workloads, mut parts) = self.parts(node, interfaces);
        workloads.handle(&mut parts, command, now);
    }

    pub(crate) fn on_dns_command(&self, command: DnsCommand) {
        self.names.handle(command, |text| self.workloads.find(text));
    }

    pub(crate) fn on_finished(
        &mut self,
        node: &mut Node,
        interfaces: &mut Interfaces,
        finished: Finished,
        now: Instant,
    ) {
        match finished {
            Finished::Stored(token) => node.with_overlay(now, |overlay, now| overlay.stored(token, now)),
            Finished::JoinPatience(network) => self.networks.on_patience(node, network, now),
            Finished::Workload(finished) => {
                let (workloads, mut parts) = self.parts(node, interfaces);
                workloads.on_finished(&mut parts, *finished, now);
            }
        }
    }

    /// What the documents' machine tells the shell.
    pub(crate) fn on_event(
        &mut self,
        node: &mut Node,
        interfaces: &mut Interfaces,
        event: Event,
        now: Instant,
    ) {
        match event {
            Event::Store { network, changes, token } => {
                self.networks.store(&self.persist, &network, changes, token);
            }
            Event::Forget(network) => {
                self.persist.delete_network(&network);
                let (workloads, mut parts) = self.parts(node, interfaces);
                workloads.leave(&mut parts, &network, now);
                self.names.publish(node);
            }
            Event::Changed => self.names.publish(node),
            Event::JoinDone { network, result } => self.networks.on_joined(node, network, result),
            Event::Readdressed { network, placed } => {
                let (workloads, mut parts) = self.parts(node, interfaces);
                workloads.readdress(&mut parts, &network, &placed, now);
            }
            Event::Asks { network, node: asks } => Networks::log_request(&network, &asks),
            Event::Alarm { network, fault } => Networks::log_fault(&network, &fault),
            // These concern the node alone.
            Event::WantPeer { .. } | Event::Bound { .. } | Event::Dead { .. } => {}
        }
    }

    /// A peer to try at the next start.
    pub(crate) fn remember(&self, node: &NodeId, record: &[u8], proven: UnixMicros) {
        remembered::store(&self.persist, node, record, proven);
    }

    /// A device failed to be read.
    pub(crate) fn on_interface_lost(
        &mut self,
        node: &mut Node,
        interfaces: &mut Interfaces,
        id: InterfaceId,
        now: Instant,
    ) {
        let (workloads, mut parts) = self.parts(node, interfaces);
        workloads.on_lost(&mut parts, id, now);
    }

    fn parts<'a>(
        &'a mut self,
        node: &'a mut Node,
        interfaces: &'a mut Interfaces,
    ) -> (&'a mut Workloads, Parts<'a>) {
        let parts = Parts { node, interfaces, names: &mut self.names, persist: &self.persist };
        (&mut self.workloads, parts)
    }
}
