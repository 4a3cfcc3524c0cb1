//! Inputs to nodes, and what comes out of them.

use std::net::{IpAddr, SocketAddr};

use sinew_node::{Event, Node};
use sinew_types::{Instant, InterfaceId, PathAddr};
use sinew_wire::handshake::{COOKIE_LEN, HS1_LEN, HS2_LEN};
use sinew_wire::record::DATA_OVERHEAD;
use sinew_wire::routed::{MSG_ROUTED, ROUTED_OVERHEAD};
use sinew_wire::virtio::VirtioNetHdr;

use crate::check::{Violation, revisits};
use crate::host::{host_name, host_named};
use crate::queue::Happening;
use crate::world::World;

/// Wake-ups in a row that lead nowhere before a node counts as spinning.
const SPIN_LIMIT: u32 = 100;
/// What waits while a node is drained.
#[derive(Default)]
struct Waiting {
    refused: Vec<(PathAddr, usize)>,
    echoes: Vec<(usize, Vec<u8>)>,
    answers: Vec<(InterfaceId, Vec<u8>)>,
}

impl World {
    pub(crate) fn happen(&mut self, what: Happening) -> Result<(), Violation> {
        match what {
            Happening::Datagram { to, mut from, ecn, mut bytes } => {
                let Some(host) = self.net.host_at(&to) else { return Ok(()) };
                let Some(local) = self.hosts[host].socket_at(to.port()) else { return Ok(()) };
                from.local = local;
                self.feed(host, |node, now| {
                    let len = bytes.len();
                    node.handle_datagrams(from, ecn, &mut bytes, len, now);
                })
            }
            Happening::Started { host } => self.after_input(host),
            Happening::Wake { host } => self.wake(host),
            Happening::Flow { flow } => self.on_flow(flow),
            Happening::Fault(fault) => self.on_fault(fault),
            Happening::Record { stream, to, bytes } => self.on_record(stream, to, bytes),
            Happening::Connected { stream } => self.on_connected(stream),
            Happening::Closed { stream, to } => self.on_closed(stream, to),
        }
    }

    /// One input to a node, then everything that follows from it.
    pub(crate) fn feed(
        &mut self,
        host: usize,
        input: impl FnOnce(&mut Node, Instant),
    ) -> Result<(), Violation> {
        let now = self.hosts[host].local(self.now);
        let Some(node) = self.hosts[host].node.as_mut() else { return Ok(()) };
        input(node, now);
        self.hosts[host].idle_wakes = 0;
        self.after_input(host)
    }

    fn wake(&mut self, host: usize) -> Result<(), Violation> {
        let (now, local) = (self.now, self.hosts[host].local(self.now));
        if self.hosts[host].wake == Some(now) {
            self.hosts[host].wake = None;
        }
        let Some(node) = self.hosts[host].node.as_mut() else { return Ok(()) };
        if node.poll_timeout().is_none_or(|(due, _)| due > local) {
            self.plan_wake(host);
            return Ok(());
        }
        node.handle_timeout(local);
        if let Some((due, why)) = node.poll_timeout()
            && due <= local
        {
            self.hosts[host].idle_wakes += 1;
            if self.hosts[host].idle_wakes > SPIN_LIMIT {
                let text = format!("host {host} spins: its timer `{why}` stays due");
                return Err(Violation::new(now, "timers", text));
            }
        } else {
            self.hosts[host].idle_wakes = 0;
        }
        self.after_input(host)
    }

    /// Queues the next wake-up, unless an earlier one is queued.
    pub(crate) fn plan_wake(&mut self, host: usize) {
        let state = &self.hosts[host];
        let Some((due, _)) = state.node.as_ref().and_then(|node| node.poll_timeout()) else { return };
        let local = state.local(self.now);
        let due = if due <= local { self.now } else { state.world(due) };
        if due != Instant::FAR_FUTURE && state.wake.is_none_or(|wake| wake > due || wake < self.now) {
            self.hosts[host].wake = Some(due);
            self.queue.push(due, Happening::Wake { host });
        }
    }

    fn on_flow(&mut self, flow: usize) -> Result<(), Violation> {
        let plan = self.flows[flow];
        if self.now >= plan.until {
            return Ok(());
        }
        self.queue.push(self.now + plan.interval, Happening::Flow { flow });
        if self.hosts[plan.src].node.is_some() {
            self.request(plan.src, plan.dst)?;
        }
        Ok(())
    }

    /// A program on `src` sends a packet to host `dst`.
    pub(crate) fn send_packet(
        &mut self,
        src: usize,
        dst: usize,
        mut packet: Vec<u8>,
    ) -> Result<(), Violation> {
        self.departing = Some((dst, packet.len()));
        let result = self.feed(src, |node, now| {
            node.handle_tun(InterfaceId::NODE, VirtioNetHdr::default(), &mut packet, now)
        });
        self.departing = None;
        result
    }

    /// Takes everything that a node has to say, checks it, and plans its next wake-up.
    pub(crate) fn after_input(&mut self, host: usize) -> Result<(), Violation> {
        let Some(mut node) = self.hosts[host].node.take() else { return Ok(()) };
        let result = self.drain(host, &mut node);
        if self.log.is_some() {
            self.note_adjacencies(host, &node);
        }
        self.hosts[host].node = Some(node);
        result?;
        self.plan_wake(host);
        self.loops.look(self.hosts.as_slice(), host, self.now)
    }

    fn drain(&mut self, host: usize, node: &mut Node) -> Result<(), Violation> {
        let local = self.hosts[host].local(self.now);
        let mut waiting = Waiting::default();
        loop {
            let mut moved = self.drain_transmits(host, node, &mut waiting)?;
            while let Some((to, frame)) = node.poll_tun() {
                moved = true;
                if to == InterfaceId::NODE {
                    waiting.echoes.extend(self.apps.receive(host, frame, self.now)?);
                } else {
                    let answer = self.workloads.receive(host, to, frame, self.now)?;
                    waiting.answers.extend(answer.map(|answer| (to, answer)));
                }
            }
            while let Some(event) = node.poll_event() {
                moved = true;
                self.on_event(host, node, event)?;
            }
            for (path, size) in waiting.refused.drain(..) {
                moved = true;
                node.handle_refused(path, size, local);
            }
            for (from, mut packet) in waiting.answers.drain(..) {
                moved = true;
                node.handle_tun(from, VirtioNetHdr::default(), &mut packet, local);
            }
            if !moved {
                match waiting.echoes.pop() {
                    None => return Ok(()),
                    Some((dst, mut packet)) => {
                        self.departing = Some((dst, packet.len()));
                        node.handle_tun(InterfaceId::NODE, VirtioNetHdr::default(), &mut packet, local);
                    }
                }
            }
        }
    }

    fn drain_transmits(
        &mut self,
        host: usize,
        node: &mut Node,
        waiting: &mut Waiting,
    ) -> Result<bool, Violation> {
        let mut moved = false;
        while let Some(transmit) = node.poll_transmit() {
            moved = true;
            for datagram in transmit.bytes.chunks(transmit.segment.max(1)) {
                if !self.transmit(host, transmit.to, transmit.ecn, datagram)? {
                    waiting.refused.push((transmit.to, datagram.len()));
                }
            }
        }
        self.check_routed(host, node)?;
        Ok(moved)
    }

    /// One datagram leaves a host; `false` if the kernel refuses it.
    fn transmit(&mut self, host: usize, to: PathAddr, ecn: u8, bytes: &[u8]) -> Result<bool, Violation> {
        self.trace.note(self.now, host, to.remote, bytes);
        self.plaintext.look(host, bytes, self.now)?;
        self.sent_bytes[host] += bytes.len() as u64;
        if bytes.first() == Some(&MSG_ROUTED) {
            if self.swallowers.contains(&host) {
                return Ok(true);
            }
            self.routed.extend(revisits::tail(bytes).map(|tail| (tail, bytes.len())));
        }
        if to.carrier.is_stream() {
            self.send_record(host, to.local, bytes);
            return Ok(true);
        }
        let source = self.hosts[host].source(to.local);
        Ok(self.net.send((host, source), to.remote, ecn, bytes, self.now, &mut self.queue))
    }

    /// Tells the log which adjacencies of a host are not what they were.
    fn note_adjacencies(&mut self, host: usize, node: &Node) {
        let links = self.net.links.iter().filter(|link| link.ends.contains(&host));
        let others: Vec<_> = links.map(|link| link.other(host)).collect();
        for other in others {
            let now = node.adjacency(&self.hosts[other].addr);
            let before = self.noted.insert((host, other), now).flatten();
            if before != now {
                self.note(host, format_args!("adjacency with {other}: {before:?} to {now:?}"));
            }
        }
    }

    /// Tells the checker of revisits which packets this host has sent on.
    fn check_routed(&mut self, host: usize, node: &Node) -> Result<(), Violation> {
        let departing = self.departing.take();
        for (tail, len) in core::mem::take(&mut self.routed) {
            if self.revisits.destination(&tail).is_none()
                && let Some((dst, packet)) = departing
                && len == packet + DATA_OVERHEAD + ROUTED_OVERHEAD
                && !is_handshake(len)
            {
                self.revisits.depart(tail, dst);
            }
            let Some(dst) = self.revisits.destination(&tail) else { continue };
            if let Some(fd) = node.feasibility_distance(&self.hosts[dst].addr) {
                self.revisits.pass(&tail, host, fd, self.now)?;
            }
        }
        Ok(())
    }

    fn on_event(&mut self, host: usize, node: &mut Node, event: Event) -> Result<(), Violation> {
        let local = self.hosts[host].local(self.now);
        match event {
            Event::Resolve { peer, host, port } => {
                let named = host_named(&host).and_then(|number| self.hosts.get(number)).map(|host| host.at);
                let literal = host.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, port));
                let at = named.or(literal);
                node.handle_resolved(peer, (&host, port), at.as_slice(), local);
            }
            Event::Connect { peer, remote, .. } => self.connect(host, peer, remote),
            Event::OpenSockets { count } => {
                let locals = self.hosts[host].open_sockets(count);
                node.handle_opened(&locals, local);
            }
            Event::CloseSockets { locals } => {
                self.hosts[host].opened.retain(|open| !locals.contains(open));
            }
            Event::Overlay(event) => self.on_overlay_event(host, node, event),
            Event::LinkUp { path, .. } => self.note(host, format_args!("link up over {path:?}")),
            Event::LinkDown { path, .. } => self.note(host, format_args!("link down over {path:?}")),
            // Every host has a key of its own, whatever restarts, roams or lies.
            Event::DuplicateIdentity { node } => {
                let text = format!("{} takes {node} for two machines", host_name(host));
                return Err(Violation::new(self.now, "twins", text));
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether a routed datagram has the length of a handshake: those are sent again as they are, so
/// their end names no single packet.
fn is_handshake(len: usize) -> bool {
    [HS1_LEN, HS2_LEN, COOKIE_LEN].contains(&(len - ROUTED_OVERHEAD))
}
