//! The loop that owns the node: waits for whatever comes first, hands it in, and carries out what
//! comes back.
//!
//! One task, no locks: sockets, TUN, control requests, resolver answers and the timer all end in a
//! call on the node, followed by one drain of its outputs. Each source has a budget per turn, so
//! that none can starve the others.

use std::io;
use std::time::Duration;

use sinew_carrier::connections::{ConnectionEvent, Connections, Dial};
use sinew_carrier::udp::UdpCarrier;
use sinew_carrier::{Datagrams, RecvBuffer};
use sinew_node::{Event, Node};
use sinew_platform::clock;
use sinew_tun::Tun as _;
use sinew_types::{CarrierKind, InterfaceId, PathAddr};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use crate::command::{Command, NodeCommand, PublicationCommand};
use crate::dialling::{Dialling, Resolved, own_endpoints};
use crate::finding::Finders;
use crate::interfaces::Interfaces;
use crate::network::{News, Underlay};
use crate::operate::Operations;
use crate::outlet::{Congested, Outlet, STREAM_ROOM};
use crate::persist::Kept;
use crate::portmap::Mapped;
use crate::signals::Signals;
use crate::socket_queue::{CONGESTION_EXPERIENCED, SocketQueue};
use crate::sockets::Sockets;
use crate::tenants::{Finished, Tenants};
use crate::wait::{Alarm, Rota, Sources, Wake};

/// Bytes read from the TUN in one turn: a few super-packets, some 100 µs of work, so that whatever
/// comes the other way waits no longer than that.
const TUN_BUDGET: usize = 256 * 1024;
/// As much from one socket.
const UDP_BUDGET: usize = 256 * 1024;
/// Frames read from the TUN in one turn, however small.
const TUN_FRAMES: usize = 64;
/// Waiting bytes that are sent in the middle of a turn. Small frames share a system call, of which
/// this is most of what one takes; a super-packet goes at once, while the cache still holds it.
const SEND_AT: usize = 48 * 1024;
/// Slots of the receive buffer: for batches, and for datagrams that come one by one.
const BATCH_SLOTS: usize = 4;
const DATAGRAM_SLOTS: usize = 32;
/// How often a nearly full stream is looked at, and how long it may hold up everybody else.
const CONGESTION: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));
/// Longest sleep, so that a clock set forward is noticed.
const MAX_SLEEP: Duration = Duration::from_secs(30);

/// The node with its edges.
pub(crate) struct Shell {
    pub(crate) node: Node,
    pub(crate) udp: Sockets,
    /// Whether there is a socket for each way out; it takes a restart to have it otherwise.
    uplinks: bool,
    pub(crate) connections: Connections,
    pub(crate) interfaces: Interfaces,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) operations: Operations,
    tenants: Tenants,
    dialling: Dialling,
    /// A signal has asked for the end, and clients of the gateway may still finish.
    stopping: bool,
    /// The host's network, and what becomes of it.
    pub(crate) underlay: Underlay,
    finders: Finders,
    /// How long datagrams wait in the sockets that the node listens on.
    waiting: Vec<SocketQueue>,
    /// The stream that was sent to last, while it is nearly full, and since when.
    congested: Congested,
    rota: Rota,
    alarm: Alarm,
    recv: RecvBuffer,
    frame: Vec<u8>,
}

impl Shell {
    pub(crate) fn new(
        node: Node,
        (udp, connections): (Vec<UdpCarrier>, Connections),
        interfaces: Interfaces,
        commands: mpsc::Receiver<Command>,
        operations: Operations,
        tenants: Tenants,
        (dialling, underlay, finders): (Dialling, Underlay, Finders),
    ) -> Self {
        let udp_queues = udp.iter().map(|_| SocketQueue::default()).collect();
        let uplinks = operations.config().reach.uplinks;
        let batches = udp.iter().all(UdpCarrier::aggregation);
        let slots = if batches { BATCH_SLOTS } else { DATAGRAM_SLOTS };
        Self {
            node,
            udp: Sockets::new(udp),
            uplinks,
            connections,
            interfaces,
            commands,
            tenants,
            operations,
            dialling,
            stopping: false,
            underlay,
            finders,
            waiting: udp_queues,
            congested: None,
            rota: Rota::default(),
            alarm: Alarm::new(),
            recv: RecvBuffer::new(slots),
            frame: vec![0; sinew_tun::MAX_FRAME],
        }
    }

    /// Runs until a signal ends it.
    pub(crate) async fn run(&mut self, signals: &mut Signals) -> io::Result<()> {
        self.follow_uplinks();
        loop {
            self.drain();
            match self.wait(signals).await? {
                Wake::Udp(at) => self.on_udp(at),
                Wake::Connection(event) => self.on_connection(event),
                Wake::Tun(id) => self.on_tun(id)?,
                Wake::Alarm => {}
                Wake::Timer => self.node.handle_timeout(clock::boottime()),
                Wake::Command(command) => self.on_command(command),
                Wake::Finished(Finished::Drained) => return Ok(()),
                Wake::Finished(finished) => {
                    let now = clock::boottime();
                    self.tenants.on_finished(&mut self.node, &mut self.interfaces, finished, now);
                }
                Wake::Resolved(answer) => {
                    let Resolved { peer, host, port, addresses } = answer;
                    self.node.handle_resolved(peer, (&host, port), &addresses, clock::boottime());
                }
                Wake::News(news) => self.on_news(news),
                Wake::Mapped(mapped) => self.on_mapped(mapped),
                Wake::Found(found) => self.finders.on_found(&mut self.node, found, clock::boottime()),
                Wake::Reload => self.on_reload_signal(),
                Wake::Stop(signal) => {
                    let grace = self.operations.gateway_grace();
                    if std::mem::replace(&mut self.stopping, true) || !self.tenants.drain(grace) {
                        info!(signal, "stopping");
                        return Ok(());
                    }
                    info!(signal, ?grace, "the gateway's clients may finish; another signal ends it at once");
                }
            }
        }
    }

    /// Takes up what an earlier run left.
    pub(crate) fn restore(&mut self, kept: Kept) {
        self.tenants.restore(&mut self.node, kept, clock::boottime());
        self.finders.set_listeners(&mut self.node, self.operations.listeners(), clock::boottime());
    }

    async fn wait(&mut self, signals: &mut Signals) -> io::Result<Wake> {
        let now = clock::boottime();
        let due = self.node.poll_timeout().map_or(MAX_SLEEP, |(at, _)| at.since(now).min(MAX_SLEEP));
        if due.is_zero() {
            return Ok(Wake::Timer);
        }
        let paused = self.is_congested();
        let due = if paused { due.min(CONGESTION.0) } else { due };
        let sources = Sources {
            udp: &self.udp,
            interfaces: Some(&self.interfaces).filter(|_| !paused),
            connections: &mut self.connections,
            commands: &mut self.commands,
            finished: self.tenants.finished(),
            resolved: self.dialling.answers(),
            news: &mut self.underlay.news,
            mapped: self.underlay.maps.news(),
            found: self.finders.found(),
            alarm: &mut self.alarm,
        };
        sources.next(&mut self.rota, signals, due).await
    }

    /// Whether the TUN should wait for a nearly full stream: what waits in the kernel is not lost,
    /// and its senders notice. A stream that does not move holds up the others for a moment only.
    fn is_congested(&mut self) -> bool {
        let Some((local, since)) = self.congested else { return false };
        let room = self.connections.room(local);
        // A connection that is gone has no room at all.
        let full = room < STREAM_ROOM && room > 0;
        if !full {
            self.congested = None;
        }
        full && since.elapsed() < CONGESTION.1
    }

    // --- in ---

    fn on_udp(&mut self, at: usize) {
        let Some(socket) = self.udp.get(at) else { return };
        let mut taken = 0;
        let mut outlet =
            Outlet { udp: &self.udp, connections: &mut self.connections, congested: &mut self.congested };
        while taken < UDP_BUDGET {
            match socket.try_recv(&mut self.recv) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    debug!(%error, "receive failed");
                    return;
                }
            }
            let (now, unix) = (clock::boottime(), Duration::from_micros(clock::unix()));
            for (batch, mut bytes) in self.recv.iter_mut() {
                let from = PathAddr { carrier: CarrierKind::Udp, local: socket.local(), remote: batch.from };
                taken += bytes.len();
                if self.waiting.get_mut(at).is_some_and(|queue| queue.tells(&batch, unix, now)) {
                    let (marked, rest) = bytes.split_at_mut(batch.stride.min(bytes.len()));
                    self.node.handle_datagrams(from, CONGESTION_EXPERIENCED, marked, batch.stride, now);
                    bytes = rest;
                }
                if let Some(onward) = self.node.handle_batch(from, batch.ecn, bytes, batch.stride, now) {
                    outlet.send_onward(&mut self.node, &onward);
                }
            }
            outlet.send_all(&mut self.node);
            self.interfaces.write_all(&mut self.node);
        }
    }

    /// Reads what a device has. Without its own device a node is of no use; a workload's may go.
    fn on_tun(&mut self, id: InterfaceId) -> io::Result<()> {
        match self.read_tun(id) {
            Ok(()) => self.interfaces.look_again(id),
            Err(error) if id == InterfaceId::NODE => return Err(error),
            Err(error) => self.on_interface_lost(id, &error),
        }
        Ok(())
    }

    fn read_tun(&mut self, id: InterfaceId) -> io::Result<()> {
        let Some(tun) = self.interfaces.get(id) else { return Ok(()) };
        let now = clock::boottime();
        let mut taken = 0;
        let mut outlet =
            Outlet { udp: &self.udp, connections: &mut self.connections, congested: &mut self.congested };
        for _ in 0..TUN_FRAMES {
            match tun.try_read(&mut self.frame) {
                Ok(len) => {
                    taken += len;
                    self.interfaces.on_read(id, len);
                    self.node.handle_tun_frame(id, &mut self.frame[..len], now);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
            if self.node.transmit_backlog() > SEND_AT {
                outlet.send_all(&mut self.node);
                if outlet.congested.is_some() {
                    break;
                }
            }
            if taken >= TUN_BUDGET {
                break;
            }
        }
        Ok(())
    }

    fn on_interface_lost(&mut self, id: InterfaceId, error: &io::Error) {
        debug!(%error, interface = id.0, "a workload's device");
        self.tenants.on_interface_lost(&mut self.node, &mut self.interfaces, id, clock::boottime());
    }

    fn on_connection(&mut self, event: ConnectionEvent) {
        let now = clock::boottime();
        match event {
            ConnectionEvent::Accepted { .. } | ConnectionEvent::Writable { .. } => {}
            ConnectionEvent::Connected { path } => {
                if let Some(peer) = self.dialling.connected(path.local) {
                    self.node.handle_connected(peer, path, now);
                }
            }
            ConnectionEvent::Records(mut batch) => {
                self.node.handle_records(batch.path, batch.iter_mut(), now);
                self.connections.recycle(batch);
            }
            ConnectionEvent::Resized { path, payload } => self.node.handle_payload(path, payload, now),
            ConnectionEvent::Closed { path, reason } => match self.dialling.connected(path.local) {
                Some(peer) => self.node.handle_connect_failed(peer, path, &reason.to_string(), now),
                None => self.node.handle_disconnected(path, now),
            },
        }
    }

    fn on_command(&mut self, command: Command) {
        self.operations.offload.look_at(self.udp.bound());
        let (node, now) = (&mut self.node, clock::boottime());
        match command {
            Command::Network(command) => {
                self.tenants.on_network_command(node, command, self.operations.listeners(), now);
            }
            Command::Workload(command) => {
                self.tenants.on_workload_command(node, &mut self.interfaces, command, now);
            }
            Command::Publication(command) => {
                let via = match &command {
                    PublicationCommand::Expose(expose, _) => {
                        Some(self.operations.gateway(node, &expose.via, now))
                    }
                    _ => None,
                };
                self.tenants.on_publication_command(node, command, via, now);
            }
            Command::Dns(command) => self.tenants.on_dns_command(command),
            Command::Gateway(command) => self.tenants.on_gateway_command(command),
            Command::Node(command) => {
                let reload = matches!(command, NodeCommand::Reload(_));
                self.operations.handle(node, &self.finders, command, now);
                if reload {
                    self.tenants.on_reload(self.operations.config());
                }
            }
        }
    }

    /// Whatever happened to the host's network, or while it slept, paths are asked and peers dialled at once. A clock
    /// that was set changes dates alone.
    fn on_news(&mut self, news: News) {
        let now = clock::boottime();
        match news {
            News::ClockSet => return self.node.set_unix(clock::unix(), now),
            News::Slept(time) => {
                info!(seconds = time.as_secs(), "the machine slept");
                self.node.set_unix(clock::unix(), now);
            }
            News::Network(network) => {
                info!(addresses = network.addresses.len(), "the host's network has changed");
                self.underlay.maps.set_uplink(network.uplinks[0]);
                self.underlay.network = network;
                self.follow_uplinks();
                self.publish_endpoints();
            }
        }
        self.node.handle_network_change(now);
    }

    /// A socket for each way out of the host, and paths over all of them.
    fn follow_uplinks(&mut self) {
        let network = &self.underlay.network;
        if !self.uplinks {
            return;
        }
        let closed = self.udp.follow(network);
        self.operations.on_uplinks(self.udp.interfaces(network));
        self.node.set_udp_sockets(self.udp.for_dialling(network), &closed, clock::boottime());
    }

    /// The router in front of us passes on a port, or does not any more.
    fn on_mapped(&mut self, mapped: Mapped) {
        self.underlay.mapped = mapped.outside;
        self.operations.on_mapping(mapped.state);
        self.publish_endpoints();
    }

    fn publish_endpoints(&mut self) {
        let Underlay { network, mapped, .. } = &self.underlay;
        self.operations.on_network(network, *mapped);
        self.node.set_own_endpoints(own_endpoints(self.operations.listeners()));
        self.node.set_endpoints(network.endpoints(self.udp.bound(), *mapped));
        self.finders.set_listeners(&mut self.node, self.operations.listeners(), clock::boottime());
    }

    fn on_reload_signal(&mut self) {
        let reloaded = self.operations.reload(&mut self.node, clock::boottime());
        self.tenants.on_reload(self.operations.config());
        match reloaded {
            Ok(reload) => info!(changes = reload.changes.len(), "configuration reloaded"),
            Err(error) => warn!(%error, "configuration not reloaded; the running one stays"),
        }
    }

    // --- out ---

    /// Carries out everything the node wants.
    fn drain(&mut self) {
        loop {
            while let Some(event) = self.node.poll_event() {
                self.on_event(event);
            }
            let mut outlet =
                Outlet { udp: &self.udp, connections: &mut self.connections, congested: &mut self.congested };
            if !outlet.send_all(&mut self.node) {
                break;
            }
        }
        self.tenants.settle(&mut self.node);
        self.interfaces.write_all(&mut self.node);
        self.operations.forget_gone();
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Resolve { peer, host, port } => {
                let [ipv4, ipv6] = self.underlay.network.uplinks;
                self.dialling.resolve(peer, host, port, ipv4.is_none() && ipv6.is_some());
            }
            Event::Connect { peer, carrier, remote, host, path } => {
                self.dialling.connect(
                    &mut self.connections,
                    peer,
                    Dial { host, path, ..Dial::new(carrier, remote) },
                );
            }
            Event::OpenSockets { count } => {
                let opened = self.udp.open(count);
                self.node.handle_opened(&opened, clock::boottime());
            }
            Event::CloseSockets { locals } => self.udp.close(&locals),
            Event::Disconnect { path } => self.connections.close(path.local),
            Event::Authenticated { path } => self.connections.authenticated(path.local),
            Event::LinkUp { peer, path } => {
                info!(%peer, %path, "link up");
                if let Some(payload) =
                    self.connections.payload(path.local).filter(|_| path.carrier == CarrierKind::Quic)
                {
                    self.node.handle_payload(path, payload, clock::boottime());
                }
            }
            Event::LinkDown { peer, path } => info!(%peer, %path, "link down"),
            Event::LinkRefused { peer, path } => warn!(
                "the way to {peer} at {} carries less than 1,200 bytes a packet; a link needs that: raise \
                 the MTU on the way, or let it use a stream (?via=udp,tcp)",
                path.remote
            ),
            Event::OwnRecord { record } => self.finders.announce(record),
            Event::Remember { node, record, proven } => self.tenants.remember(&node, &record, proven),
            Event::LookUp { node } => self.finders.look_up(node),
            Event::DuplicateIdentity { node } => {
                if let Some(line) = self.operations.note_duplicate(&self.node, node, clock::boottime()) {
                    warn!("{line}");
                }
            }
            Event::Overlay(event) => {
                self.tenants.on_event(&mut self.node, &mut self.interfaces, event, clock::boottime());
            }
            Event::PingDone { request, answer } => self.operations.on_ping(request, answer),
            Event::TraceDone { request, hops, complete } => {
                self.operations.on_trace(request, &hops, complete)
            }
        }
    }
}
