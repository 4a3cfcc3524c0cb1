//! Workloads: from a namespace that somebody handed in to an interface that the node serves.
//!
//! ```text
//!  attach socket ─▶ place in each network ─▶ helper makes the interfaces ─▶ node, names ─▶ answer
//!                    (a signed document)      (a task; the loop goes on)
//! ```
//! What the helper does takes milliseconds and so happens in tasks, which hand their outcome back
//! to the loop as a [`Finished`]. A step that fails takes back those before it. Records are stored;
//! after a restart the helper takes hold again of what stayed in the pinned namespaces.

mod list;
mod meanwhile;
mod record;

use std::collections::BTreeMap;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use sinew_control::ApiError;
use sinew_control::api::{self, AttachAnswer, AttachRequest, Detach, Detached};
use sinew_helper::{Attached, Helper, HelperError, Why};
use sinew_node::{Interface, Node, Offloads, overlay};
use sinew_platform::{clock, process};
use sinew_tun::{Tun as _, TunDevice};
use sinew_types::{Instant, InterfaceId, NetworkId};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use crate::attach::Attach;
use crate::command::{Reply, WorkloadCommand};
use crate::interfaces::Interfaces;
use crate::names::Names;
use crate::networks::{self, Placed};
use crate::persist::Persist;
use crate::tenants::{Finished as Report, Surroundings};
use list::answer;
pub(crate) use meanwhile::ended_meanwhile;
pub(crate) use record::{InterfaceRecord, Record};

/// MTU of workloads on a node without a device of its own: it fits UDP over IPv6 on Ethernet
/// (protocol A4).
const DEFAULT_MTU: u16 = 1416;
/// Most workloads of a node.
const MAX_WORKLOADS: usize = 1024;

/// How something that was begun for a workload ended.
pub(crate) enum Finished {
    /// The helper was asked for a workload's interfaces.
    Attached { record: Record, result: Result<Vec<Attached>, HelperError>, asker: Asker },
    /// The helper let a workload's interfaces go.
    Detached { id: String, name: String, result: Result<(), HelperError>, reply: Option<Reply<Detached>> },
    /// The process ended whose end ends the attachment.
    Ended { id: String },
}

/// Who waits for an attachment.
pub(crate) enum Asker {
    /// A caller of the attach socket.
    Caller { reply: Reply<AttachAnswer>, watch: Option<OwnedFd> },
    /// Nobody: the daemon starts.
    Restart,
}

/// A workload that is attached.
struct Running {
    record: Record,
    interfaces: Vec<InterfaceId>,
    /// The helper is at it; the name is taken already.
    pending: bool,
    broken: bool,
}

/// What the loop's other parts lend to a step.
pub(crate) struct Parts<'a> {
    pub(crate) node: &'a mut Node,
    pub(crate) interfaces: &'a mut Interfaces,
    pub(crate) names: &'a mut Names,
    pub(crate) persist: &'a Persist,
}

/// The workloads of this node.
pub(crate) struct Workloads {
    helper: Arc<Helper>,
    reports: mpsc::UnboundedSender<Report>,
    running: BTreeMap<String, Running>,
    next_interface: u32,
    /// As the node's own device: what its kernel was found to do.
    offloads: Offloads,
    mtu: u16,
    /// Where the helper pins namespaces.
    control: PathBuf,
    /// Tags of workloads that were ended while no daemon ran.
    ended: Vec<String>,
}

impl Workloads {
    pub(crate) fn new(
        helper: Arc<Helper>,
        reports: mpsc::UnboundedSender<Report>,
        around: Surroundings,
    ) -> Self {
        Self {
            helper,
            reports,
            running: BTreeMap::new(),
            next_interface: InterfaceId::NODE.0,
            offloads: around.offloads,
            mtu: around.mtu.unwrap_or(DEFAULT_MTU),
            control: around.socket,
            ended: around.ended,
        }
    }

    /// Carries out one request. A caller that has gone away is no error.
    pub(crate) fn handle(&mut self, parts: &mut Parts<'_>, command: WorkloadCommand, now: Instant) {
        match command {
            WorkloadCommand::List(reply) => drop(reply.send(Ok(self.list(parts)))),
            WorkloadCommand::Attach(attach, reply) => self.attach(parts, attach, reply, now),
            WorkloadCommand::Detach(detach, reply) => self.detach(parts, &detach, reply, now),
            WorkloadCommand::Terms(query, reply) => {
                drop(reply.send(networks::lease_terms(parts.node, &query, now)));
            }
            WorkloadCommand::Lease(renewal, reply) => {
                let result =
                    self.find(&renewal.workload).and_then(|id| self.renew(parts, &id, &renewal, now));
                drop(reply.send(result));
            }
        }
    }

    /// Goes on where a task has ended.
    pub(crate) fn on_finished(&mut self, parts: &mut Parts<'_>, finished: Finished, now: Instant) {
        match finished {
            Finished::Attached { record, result: Ok(attached), asker } => {
                self.on_attached(parts, record, attached, asker, now);
            }
            Finished::Attached { record, result: Err(error), asker } => {
                self.on_attach_failed(parts, record, &error, asker, now);
            }
            Finished::Detached { id, name, result, reply } => {
                if let Err(error) = &result {
                    warn!(workload = name, %error, "not detached cleanly");
                }
                if let Some(reply) = reply {
                    let answer = result.map(|()| Detached { id, name });
                    drop(reply.send(answer.map_err(|error| ApiError::internal(error.to_string()))));
                }
            }
            Finished::Ended { id } => {
                if self.running.contains_key(&id) {
                    info!(id, "the workload's process has ended");
                    self.let_go(parts, &id, None, now);
                }
            }
        }
    }

    // --- attaching ---

    fn attach(&mut self, parts: &mut Parts<'_>, attach: Attach, reply: Reply<AttachAnswer>, now: Instant) {
        let Attach { request, netns, watch } = attach;
        let record = match self.check(&request).and_then(|()| self.place(parts, &request, now)) {
            Ok(record) => record,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let running = Running { record: record.clone(), interfaces: vec![], pending: true, broken: false };
        self.running.insert(record.id.clone(), running);
        let (helper, reports) = (Arc::clone(&self.helper), self.reports.clone());
        tokio::spawn(async move {
            let result = make_interfaces(&helper, &record, Some(netns)).await;
            let asker = Asker::Caller { reply, watch };
            tell(&reports, Finished::Attached { record, result, asker });
        });
    }

    fn check(&self, request: &AttachRequest) -> Result<(), ApiError> {
        if request.networks.is_empty() {
            return Err(ApiError::bad_request("a workload needs a network"));
        }
        if self.running.len() >= MAX_WORKLOADS {
            return Err(ApiError::refused(format!("this node runs {MAX_WORKLOADS} workloads already")));
        }
        let taken = |running: &Running| {
            let tag = request.tag.is_some() && running.record.tag == request.tag;
            running.record.name == request.name || tag
        };
        if self.running.values().any(taken) {
            return Err(ApiError::workload_exists(&request.name));
        }
        Ok(())
    }

    /// Takes an address in each network; what was taken is given back if one refuses.
    fn place(
        &self,
        parts: &mut Parts<'_>,
        request: &AttachRequest,
        now: Instant,
    ) -> Result<Record, ApiError> {
        let mut placed: Vec<Placed> = Vec::new();
        for wish in &request.networks {
            match networks::place(parts.node, request, wish, now) {
                Ok(one) => placed.push(one),
                Err(error) => {
                    for one in &placed {
                        let keyed = request.key.is_some();
                        networks::give_back(parts.node, &one.network, &request.name, keyed, now);
                    }
                    return Err(error);
                }
            }
        }
        let wishes = request.networks.iter();
        let interfaces = placed.into_iter().zip(wishes).map(|(one, wish)| InterfaceRecord {
            network: one.network.to_string(),
            network_name: one.name,
            // Of a machine's TAP device it is the name outside.
            name: wish.interface.clone().filter(|_| !request.tap),
            mtu: self.mtu,
            ipv4: one.ipv4,
            ipv6: one.ipv6,
            gateway_ipv4: one.gateway_ipv4,
            gateway_ipv6: one.gateway_ipv6,
            routes: one.routes,
        });
        Ok(Record {
            id: new_id(),
            name: request.name.clone(),
            interfaces: interfaces.collect(),
            groups: request.groups.clone(),
            key: request.key.clone(),
            watch: request.watch,
            by: request.by,
            tag: request.tag.clone(),
            tap: request.networks.first().and_then(|first| first.interface.clone()).filter(|_| request.tap),
        })
    }

    fn on_attached(
        &mut self,
        parts: &mut Parts<'_>,
        mut record: Record,
        attached: Vec<Attached>,
        asker: Asker,
        now: Instant,
    ) {
        if !self.running.contains_key(&record.id) {
            // Let go while the helper was at it, which only now can take it back.
            if let Asker::Caller { reply, .. } = asker {
                drop(reply.send(Err(ApiError::refused(format!("`{}` was detached meanwhile", record.name)))));
            }
            return self.take_back(record, None);
        }
        let (mut interfaces, mut sockets) = (Vec::new(), Vec::new());
        let mut made = Ok(());
        for (at, mut one) in attached.into_iter().enumerate() {
            sockets.append(&mut one.dns);
            made = self.add_interface(parts, &mut record, at, one, now).map(|id| interfaces.push(id));
            if made.is_err() {
                break;
            }
        }
        let id = record.id.clone();
        let networks: Vec<_> = record.interfaces.iter().filter_map(InterfaceRecord::network_id).collect();
        let sockets =
            sockets.into_iter().map(|pair| (UdpSocket::from(pair.udp), TcpListener::from(pair.tcp)));
        parts.names.serve(&id, &record.name, &networks, sockets);
        let running = Running { record, interfaces, pending: false, broken: false };
        let running = &*self.running.entry(id.clone()).insert_entry(running).into_mut();
        match (made, asker) {
            (Ok(()), asker) => {
                info!(workload = running.record.name, id, "attached");
                let ended = match asker {
                    Asker::Caller { reply, watch } => {
                        // What was promised survives a crash: a next start takes away what nobody remembers.
                        let answer = answer(parts.names, &running.record);
                        parts.persist.put_workload(&running.record, move |stored| {
                            let unstored = || ApiError::internal("the workload could not be stored");
                            drop(reply.send(stored.then_some(answer).ok_or_else(unstored)));
                        });
                        watch
                    }
                    Asker::Restart => {
                        parts.persist.put_workload(&running.record, |_| {});
                        watch_again(&running.record)
                    }
                };
                self.watch(&id, ended);
            }
            (Err(error), asker) => {
                if let Asker::Caller { reply, .. } = asker {
                    drop(reply.send(Err(ApiError::internal(error))));
                }
                self.let_go(parts, &id, None, now);
            }
        }
    }

    fn add_interface(
        &mut self,
        parts: &mut Parts<'_>,
        record: &mut Record,
        at: usize,
        attached: Attached,
        now: Instant,
    ) -> Result<InterfaceId, String> {
        let name = record.name.clone();
        let interface = record.interfaces.get_mut(at).ok_or("more interfaces than asked for")?;
        interface.name = Some(attached.interface);
        let network = interface.network_id().ok_or("a network that is none")?;
        let whole = self.offloads != Offloads::PLAIN;
        let device = TunDevice::from_fd(attached.tun, attached.ifindex, whole).map_err(|e| e.to_string())?;
        self.next_interface += 1;
        let number = InterfaceId(self.next_interface);
        debug!(workload = name, interface = number.0, offload = device.offload().as_str(), "interface");
        parts.interfaces.add(number, device);
        let description = Interface {
            network,
            ipv4: interface.ipv4,
            ipv6: interface.ipv6,
            gateway_ipv4: interface.gateway_ipv4,
            gateway_ipv6: Some(interface.gateway_ipv6),
            offloads: self.offloads,
            mtu: interface.mtu,
        };
        parts.node.add_interface(number, description, now);
        Ok(number)
    }

    fn on_attach_failed(
        &mut self,
        parts: &mut Parts<'_>,
        record: Record,
        error: &HelperError,
        asker: Asker,
        now: Instant,
    ) {
        let gone = matches!(error, HelperError::Refused { why: Why::Unknown, .. });
        match asker {
            Asker::Caller { reply, .. } => drop(reply.send(Err(explain(error)))),
            Asker::Restart if gone => info!(workload = record.name, "its namespace is gone: forgotten"),
            Asker::Restart => warn!(workload = record.name, %error, "not taken up again"),
        }
        self.running.remove(&record.id);
        self.give_back(parts, &record, now);
    }

    // --- letting go ---

    fn detach(&mut self, parts: &mut Parts<'_>, detach: &Detach, reply: Reply<Detached>, now: Instant) {
        match self.find(&detach.workload) {
            Ok(id) => self.let_go(parts, &id, Some(reply), now),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// Ends an attachment; the helper deletes the interfaces while the loop goes on.
    fn let_go(&mut self, parts: &mut Parts<'_>, id: &str, reply: Option<Reply<Detached>>, now: Instant) {
        let Some(running) = self.running.remove(id) else { return };
        for interface in &running.interfaces {
            parts.node.remove_interface(*interface, now);
            parts.interfaces.remove(*interface);
        }
        parts.names.stop(id);
        let record = running.record;
        self.give_back(parts, &record, now);
        if !running.pending {
            return self.take_back(record, reply);
        }
        if let Some(reply) = reply {
            drop(reply.send(Ok(Detached { id: record.id, name: record.name })));
        }
    }

    /// Has the helper delete the interfaces.
    fn take_back(&self, record: Record, reply: Option<Reply<Detached>>) {
        let (helper, reports) = (Arc::clone(&self.helper), self.reports.clone());
        tokio::spawn(async move {
            let mut result = Ok(());
            for helper_id in record.helper_ids() {
                result = result.and(helper.detach(&helper_id).await);
            }
            tell(&reports, Finished::Detached { id: record.id, name: record.name, result, reply });
        });
    }

    fn give_back(&self, parts: &mut Parts<'_>, record: &Record, now: Instant) {
        parts.persist.delete_workload(&record.id);
        for network in record.interfaces.iter().filter_map(InterfaceRecord::network_id) {
            networks::give_back(parts.node, &network, &record.name, record.key.is_some(), now);
        }
    }

    /// A network gave this node another subnet: the workload's interface is set up anew.
    pub(crate) fn readdress(
        &mut self,
        parts: &mut Parts<'_>,
        network: &NetworkId,
        placed: &overlay::Placed,
        now: Instant,
    ) {
        let of_name = |running: &&mut Running| running.record.name == placed.name.as_str();
        let Some(running) = self.running.values_mut().find(of_name) else { return };
        let record = &mut running.record;
        let found = record.interfaces.iter_mut().find(|one| one.network_id().as_ref() == Some(network));
        let Some(interface) = found else { return };
        (interface.ipv4, interface.ipv6) = (placed.ipv4, placed.ipv6);
        (interface.gateway_ipv4, interface.gateway_ipv6) = placed.resolver;
        info!(workload = record.name, "has other addresses now");
        running.pending = true;
        for interface in std::mem::take(&mut running.interfaces) {
            parts.node.remove_interface(interface, now);
            parts.interfaces.remove(interface);
        }
        parts.names.stop(&running.record.id);
        let record = running.record.clone();
        let (helper, reports) = (Arc::clone(&self.helper), self.reports.clone());
        tokio::spawn(async move {
            let result = make_interfaces(&helper, &record, None).await;
            tell(&reports, Finished::Attached { record, result, asker: Asker::Restart });
        });
    }

    /// A device failed to be read: its namespace or the device itself is gone.
    pub(crate) fn on_lost(&mut self, parts: &mut Parts<'_>, interface: InterfaceId, now: Instant) {
        let lost = self.running.values_mut().find(|running| running.interfaces.contains(&interface));
        if let Some(running) = lost {
            warn!(workload = running.record.name, "its interface is gone; `sinew workload detach` clears it");
            running.broken = true;
        }
        parts.interfaces.remove(interface);
        parts.node.remove_interface(interface, now);
    }

    /// The attachments of a network that this node leaves or is put out of.
    pub(crate) fn leave(&mut self, parts: &mut Parts<'_>, network: &NetworkId, now: Instant) {
        let of_network = |record: &Record| {
            record.interfaces.iter().any(|interface| interface.network_id().as_ref() == Some(network))
        };
        let ids: Vec<_> = self
            .running
            .values()
            .map(|r| &r.record)
            .filter(|r| of_network(r))
            .map(|r| r.id.clone())
            .collect();
        for id in ids {
            self.let_go(parts, &id, None, now);
        }
    }

    // --- the daemon's own start ---

    /// Takes up again what an earlier run attached, and lets go what it began and nobody remembers.
    pub(crate) fn restore(&mut self, records: Vec<Record>) {
        for record in &records {
            let running =
                Running { record: record.clone(), interfaces: vec![], pending: true, broken: false };
            self.running.insert(record.id.clone(), running);
        }
        let (helper, reports) = (Arc::clone(&self.helper), self.reports.clone());
        let without_us = std::mem::take(&mut self.ended);
        tokio::spawn(async move {
            let known: Vec<_> = records.iter().flat_map(Record::helper_ids).collect();
            match helper.list().await {
                Ok(all) => {
                    for stray in all.iter().filter(|id| !known.contains(id)) {
                        info!(id = stray.as_str(), "left by a run that was killed: removed");
                        if let Err(error) = helper.detach(stray).await {
                            warn!(id = stray.as_str(), %error, "not removed");
                        }
                    }
                }
                Err(error) => warn!(%error, "the helper's list"),
            }
            for record in records {
                let died = record.watch.is_some_and(|w| !process::is_running(w.pid, w.start_ticks));
                let ended = died || record.tag.as_ref().is_some_and(|tag| without_us.contains(tag));
                let result = make_interfaces(&helper, &record, None).await;
                let id = record.id.clone();
                tell(&reports, Finished::Attached { record, result, asker: Asker::Restart });
                if ended {
                    tell(&reports, Finished::Ended { id });
                }
            }
        });
    }

    // --- small things ---

    /// The attachment that a name, id or tag means.
    pub(crate) fn find(&self, text: &str) -> Result<String, ApiError> {
        let fits =
            |record: &Record| record.name == text || record.id == text || record.tag.as_deref() == Some(text);
        let found = self.running.values().find(|running| fits(&running.record));
        found.map(|running| running.record.id.clone()).ok_or_else(|| ApiError::unknown_workload(text))
    }

    /// Tells the loop when the process ends.
    fn watch(&self, id: &str, ended: Option<OwnedFd>) {
        let Some(ended) = ended else { return };
        let (reports, id) = (self.reports.clone(), id.to_owned());
        tokio::spawn(async move {
            if process::ended(ended).await.is_ok() {
                tell(&reports, Finished::Ended { id });
            }
        });
    }

    fn renew(
        &mut self,
        parts: &mut Parts<'_>,
        id: &str,
        renewal: &api::LeaseRenewal,
        now: Instant,
    ) -> Result<api::Leased, ApiError> {
        let running = self.running.get(id).ok_or_else(|| ApiError::unknown_workload(id))?;
        let interfaces = &running.record.interfaces;
        let until = networks::take_leases(parts.node, interfaces, &renewal.leases, now)?;
        Ok(api::Leased { id: id.to_owned(), until })
    }
}

/// The loop is gone only when the daemon stops; the helper keeps what it made.
fn tell(reports: &mpsc::UnboundedSender<Report>, finished: Finished) {
    let _ = reports.send(Report::Workload(Box::new(finished)));
}

/// Asks the helper for all interfaces of a workload; those that were made go again if one fails.
async fn make_interfaces(
    helper: &Helper,
    record: &Record,
    netns: Option<OwnedFd>,
) -> Result<Vec<Attached>, HelperError> {
    use std::os::fd::AsFd as _;

    let mut made = Vec::new();
    for at in 0..record.interfaces.len() {
        let attach = record.to_helper(at).ok_or(HelperError::Limits)?;
        let result = match &netns {
            Some(netns) => helper.attach(&attach, Some(netns.as_fd())).await,
            None => helper.reattach(&attach).await,
        };
        match result {
            Ok(one) => made.push(one),
            Err(error) => {
                for id in record.helper_ids().iter().take(at) {
                    if let Err(error) = helper.detach(id).await {
                        warn!(id = id.as_str(), %error, "not taken back");
                    }
                }
                return Err(error);
            }
        }
    }
    Ok(made)
}

fn watch_again(record: &Record) -> Option<OwnedFd> {
    let watch = record.watch?;
    let fd = process::pidfd(watch.pid).ok()?;
    // The number may have changed hands since.
    process::is_running(watch.pid, watch.start_ticks).then_some(fd)
}

fn explain(error: &HelperError) -> ApiError {
    match error {
        HelperError::Refused { .. } | HelperError::Limits => ApiError::bad_namespace(&error.to_string()),
        HelperError::Ended | HelperError::Io(_) => ApiError::internal(error.to_string()),
    }
}

/// Never used again: the helper's names of two attachments must not meet.
fn new_id() -> String {
    let mut bytes = [0; 8];
    // Without randomness there is the clock, which does as well here: the name is no secret.
    if getrandom::fill(&mut bytes).is_err() {
        bytes = clock::unix().to_le_bytes();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
