//! Private networks and what runs in them, as the loop owns them: networks, workloads, names and
//! the store, and the one channel on which tasks of theirs report back.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sinew_control::ApiError;
use sinew_control::api::Listener;
use sinew_control::config::Config;
use sinew_helper::Helper;
use sinew_node::overlay::Event;
use sinew_node::{Node, Offloads};
use sinew_types::{Instant, InterfaceId, NetworkId, NodeId, UnixMicros};
use tokio::sync::mpsc;

use crate::command::{DnsCommand, GatewayCommand, NetworkCommand, PublicationCommand, WorkloadCommand};
use crate::gateway::{self, Public};
use crate::interfaces::Interfaces;
use crate::names::Names;
use crate::networks::{self, Networks};
use crate::persist::{Kept, Persist};
use crate::publications::Publications;
use crate::remembered;
use crate::workloads::{self, Parts, Workloads};

/// How something ended that the loop began and left to others: as many reports as it began.
pub(crate) enum Finished {
    Workload(Box<workloads::Finished>),
    /// What the documents' machine asked to be told of is on the disk.
    Stored(u64),
    /// Whoever waits for a join has waited long enough.
    JoinPatience(NetworkId),
    /// The public gateway has let its clients finish.
    Drained,
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
    gateway: Option<Public>,
    reports: mpsc::UnboundedSender<Finished>,
    publications: Publications,
    /// What is published, or where its workloads are, may be different.
    published_stale: bool,
    finished: mpsc::UnboundedReceiver<Finished>,
}

impl Tenants {
    pub(crate) fn new(
        helper: Arc<Helper>,
        persist: Persist,
        names: Names,
        publications: Publications,
        around: Surroundings,
    ) -> Self {
        let (reports, finished) = mpsc::unbounded_channel();
        let networks = Networks::new(reports.clone());
        let workloads = Workloads::new(helper, reports.clone(), around);
        Self {
            networks,
            workloads,
            names,
            persist,
            gateway: None,
            reports,
            publications,
            published_stale: true,
            finished,
        }
    }

    /// This node is a public gateway from here on.
    ///
    /// # Errors
    /// Why it cannot be one, for people.
    pub(crate) fn serve_public(&mut self, start: gateway::Start) -> Result<(), String> {
        self.gateway = Some(Public::start(start, self.persist.clone())?);
        Ok(())
    }

    pub(crate) fn on_gateway_command(&self, command: GatewayCommand) {
        match &self.gateway {
            Some(gateway) => gateway.handle(command),
            None => command.refuse(ApiError::no_gateway()),
        }
    }

    /// The configuration was read again.
    pub(crate) fn on_reload(&self, config: &Config) {
        if let (Some(gateway), Some(config)) = (&self.gateway, &config.gateway) {
            gateway.reload(config.clone());
        }
    }

    /// Whether the end has to wait for the gateway's clients: then [`Finished::Drained`] comes.
    pub(crate) fn drain(&self, grace: Duration) -> bool {
        let Some(gateway) = &self.gateway else { return false };
        let (ended, reports) = (gateway.drain(grace), self.reports.clone());
        tokio::spawn(async move {
            // An error means that it has ended already.
            let _ = ended.await;
            let _ = reports.send(Finished::Drained);
        });
        true
    }

    /// Where the loop hears of what has ended.
    pub(crate) const fn finished(&mut self) -> &mut mpsc::UnboundedReceiver<Finished> {
        &mut self.finished
    }

    /// Takes up what an earlier run left.
    pub(crate) fn restore(&mut self, node: &mut Node, kept: Kept, now: Instant) {
        remembered::restore(node, &self.persist, &kept.peers, now);
        self.networks.restore(node, &kept, now);
        networks::give_back_forgotten(node, &kept.workloads, now);
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
        self.published_stale = true;
    }

    /// `via`: the gateway that the command means, if it names one.
    pub(crate) fn on_publication_command(
        &mut self,
        node: &mut Node,
        command: PublicationCommand,
        via: Option<Result<NodeId, ApiError>>,
        now: Instant,
    ) {
        self.publications.handle(node, command, via, now);
        self.published_stale = true;
    }

    /// Brings what is published in line with what is known. Once in a turn of the loop, after its events.
    pub(crate) fn settle(&mut self, node: &mut Node) {
        if std::mem::take(&mut self.published_stale) {
            let workloads = &self.workloads;
            self.publications.refresh(node, |network, address| workloads.namespace_of(network, address));
        }
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
            // The loop ends by it.
            Finished::Drained => {}
            Finished::Workload(finished) => {
                let (workloads, mut parts) = self.parts(node, interfaces);
                workloads.on_finished(&mut parts, *finished, now);
                self.published_stale = true;
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
                self.published_stale = true;
            }
            Event::Changed => {
                self.names.publish(node);
                self.published_stale = true;
            }
            Event::Published(_) => self.published_stale = true,
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
        self.published_stale = true;
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
