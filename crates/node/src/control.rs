//! The control side: carries values between the machines until nothing is left to carry.
//!
//! Sessions, routing and the fast path never see each other; here is where a confirmed session
//! becomes a link, a link becomes a neighbour, a neighbour's frame becomes a changed FIB, and
//! only then is the frame acknowledged (protocol A5: acknowledged means processed).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use sinew_forwarding::FibEntry;
use sinew_path::Search;
use sinew_routing::RouteChange;
use sinew_session::{self as session, Arrival, Receipt, Target, To};
use sinew_types::{Class, DropReason, Instant, MeshAddr, NodeId, PathAddr};
use sinew_wire::error::{ErrorCode, ErrorReport};
use sinew_wire::request::Request;
use sinew_wire::segment::StreamClass;

use crate::dial::DialAction;
use crate::event::Event;
use crate::link::{Link, LinkAction};
use crate::node::{Node, RoutedSearch};
use crate::worker::{MIN_INNER_MTU, Report};

/// Rounds of carrying before giving the caller a turn; each round drains everything once.
const MAX_ROUNDS: usize = 64;
const ROUTED_OVERHEAD: u16 = sinew_wire::routed::ROUTED_OVERHEAD as u16;

impl Node {
    /// Carries everything that is waiting.
    pub(crate) fn pump(&mut self, now: Instant) {
        for _ in 0..MAX_ROUNDS {
            let mut moved = self.drain_reports(now);
            moved |= self.drain_sessions(now);
            moved |= self.drain_routing(now);
            moved |= self.drain_dialler(now);
            moved |= self.drain_transmits(now);
            if !moved {
                break;
            }
        }
    }

    // --- from the fast path ---

    fn drain_reports(&mut self, now: Instant) -> bool {
        if self.worker.reports.is_empty() {
            return false;
        }
        let (list, mut bytes) = self.worker.reports.take();
        for report in &list {
            if let Err(reason) = self.on_report(report, &mut bytes, now) {
                self.drops.count(reason);
            }
        }
        self.worker.reports.recycle(list, bytes);
        true
    }

    fn on_report(&mut self, report: &Report, bytes: &mut [u8], now: Instant) -> Result<(), DropReason> {
        match report {
            Report::Handshake { from, range } => {
                self.sessions.handle_handshake(*from, &mut bytes[range.clone()], now)
            }
            Report::Control { index, from, kind, range, wire_len } => {
                self.sessions.handle_control(*index, *from, *kind, &bytes[range.clone()], *wire_len, now)
            }
            Report::Notice(notice) => {
                self.sessions.on_notice(*notice, now);
                Ok(())
            }
            Report::UnknownIndex { from } => {
                self.sessions.unknown_index(*from, now);
                Ok(())
            }
            Report::UnknownRoutedIndex { src } => {
                self.greet(*src, now);
                Ok(())
            }
            Report::Miss { dst, vnet, range } => {
                let dropped = self.held.push(*dst, *vnet, &bytes[range.clone()], now);
                self.drops.add(DropReason::HoldQueue, dropped);
                self.want_session(dst, now);
                Ok(())
            }
            Report::Error { range } => self.on_error_report(&bytes[range.clone()], now),
            Report::Active { peer } => {
                if let Some(link) = self.link_at(peer) {
                    link.on_active(now);
                }
                Ok(())
            }
        }
    }

    fn link_at(&mut self, addr: &MeshAddr) -> Option<&mut Link> {
        let peer = self.sessions.keys().session(addr)?.peer;
        self.links.get_mut(&peer)
    }

    /// Starts a session with whoever owns `dst`, if routing knows who that is.
    fn want_session(&mut self, dst: &MeshAddr, now: Instant) {
        match self.router.node_of(dst) {
            Some(node) => self.open_routed(node, now),
            None => self.ask_who_is(*dst, now),
        }
    }

    /// A stub asks its upstream whose address this is.
    fn ask_who_is(&mut self, addr: MeshAddr, now: Instant) {
        let Some(upstream) = self.router.default_next_hop() else { return };
        if !self.greeted.allow(addr, now) {
            return;
        }
        let mut message = Vec::new();
        Request::WhoIs { addr }.emit(&mut message);
        if self.sessions.send(upstream, StreamClass::Requests, &message, now).is_err() {
            self.drops.count(DropReason::BadControl);
        }
    }

    pub(crate) fn answer_who_is(&mut self, peer: NodeId, addr: &MeshAddr, now: Instant) {
        let Some(node) = self.node_of(addr) else { return };
        let mut message = Vec::new();
        Request::WhoIsReply { node: *node.as_bytes() }.emit(&mut message);
        if self.sessions.send(peer, StreamClass::Requests, &message, now).is_err() {
            self.drops.count(DropReason::BadControl);
        }
    }

    /// The address proves the key, whoever told it; only an answer to a question of ours is used.
    pub(crate) fn on_who_is_reply(&mut self, bytes: &[u8; 32], now: Instant) {
        match NodeId::parse(bytes) {
            Ok(node) if self.held.waits_for(&node.address()) => self.open_routed(node, now),
            _ => self.drops.count(DropReason::BadControl),
        }
    }

    pub(crate) fn open_routed(&mut self, node: NodeId, now: Instant) {
        self.sessions.set_routed(node, true, now);
        self.sessions.open(node, Target::Routed, now);
    }

    /// Somebody behind a relay uses a session that we no longer have: we restarted. It would find
    /// out by its probes; greeting it saves a second. The routed source is only a neighbour's
    /// word, so this is rare and bounded.
    fn greet(&mut self, src: MeshAddr, now: Instant) {
        if !self.greeted.allow(src, now) {
            return;
        }
        if let Some(node) = self.router.node_of(&src)
            && !self.is_up(&node)
        {
            self.open_routed(node, now);
        }
    }

    /// Protocol A4: an error report is a hint. It is believed only about a record we sent, and
    /// even then it only makes us look.
    fn on_error_report(&mut self, body: &[u8], now: Instant) -> Result<(), DropReason> {
        let report = ErrorReport::parse(body).map_err(|_| DropReason::Malformed)?;
        let addr = self.worker.sent_record(&report.quote, now).ok_or(DropReason::UnmatchedError)?;
        let Some(peer) = self.sessions.keys().session(&addr).map(|session| session.peer) else {
            return Err(DropReason::UnmatchedError);
        };
        if report.code == ErrorCode::TooBig
            && let Some(routed) = self.searches.get_mut(&peer)
        {
            routed.search.on_too_big(report.mtu, now);
        }
        Ok(())
    }

    // --- from sessions ---

    fn drain_sessions(&mut self, now: Instant) -> bool {
        let mut moved = false;
        while let Some(event) = self.sessions.poll_event() {
            moved = true;
            self.on_session_event(event, now);
        }
        moved
    }

    fn on_session_event(&mut self, event: session::Event, now: Instant) {
        use session::Event as E;
        match event {
            E::Up { peer, .. } => self.on_session_up(peer, now),
            E::Closed { peer, reason } => {
                self.on_session_closed(peer, &format!("the session ended: {reason:?}"), now)
            }
            E::Message { peer, class, bytes, receipt } => self.on_message(peer, class, bytes, receipt, now),
            E::Processed { peer, class, ordinal } => {
                if class == StreamClass::Routing {
                    self.router.on_processed(&peer, ordinal, now);
                }
            }
            E::AdjacencyUp { peer, adj, .. } => self.on_adjacency_up(peer, adj, now),
            E::AdjacencyDown { peer, .. } => self.on_adjacency_down(peer, now),
            E::PathUp { peer, path } => self.on_path_up(peer, path, now),
            E::PathDown { peer, .. } => self.sync_link(peer, now),
            E::Pong { peer, id, from, rtt, .. } => self.on_pong(peer, id, from, rtt, now),
            E::MtuAck { peer, id, size: _ } => self.on_mtu_ack(peer, id, now),
            E::AttemptFailed { peer, reason, .. } => {
                self.dialler.on_candidate_failed(&peer, format!("{reason:?}"), now);
            }
            E::DuplicateIdentity { .. } => self.emit(Event::DuplicateIdentity),
            E::Observed { .. } => {}
        }
    }

    fn on_session_up(&mut self, peer: NodeId, now: Instant) {
        self.release_held(&peer.address(), now);
        self.start_search(peer, now);
        self.probes.on_session_up(&mut self.sessions, peer, now);
    }

    /// Sends what waited for a session with `dst`.
    fn release_held(&mut self, dst: &MeshAddr, now: Instant) {
        for mut held in self.held.take(dst) {
            let (worker, view) = self.fast_path(now);
            worker.outbound(&view, held.vnet, &mut held.packet);
        }
    }

    fn on_session_closed(&mut self, peer: NodeId, reason: &str, now: Instant) {
        let addr = peer.address();
        self.worker.forget(&addr);
        self.searches.remove(&peer);
        self.dialler.note_error(&peer, reason);
        self.sync_link(peer, now);
    }

    fn on_message(
        &mut self,
        peer: NodeId,
        class: StreamClass,
        bytes: Vec<u8>,
        receipt: Receipt,
        now: Instant,
    ) {
        match class {
            StreamClass::Routing => return self.on_frame(peer, bytes, receipt, now),
            StreamClass::Requests => match Request::parse(&bytes) {
                Ok(request) => self.on_request(peer, request, now),
                Err(_) => self.drops.count(DropReason::BadControl),
            },
            StreamClass::Documents => self.drops.count(DropReason::Unsupported),
        }
        self.sessions.acknowledge(receipt, now);
    }

    /// A routing frame is handled at once, or waits unacknowledged while its sender has used up its
    /// share of our time (protocol A5: withheld credit, never a dropped message).
    fn on_frame(&mut self, peer: NodeId, bytes: Vec<u8>, receipt: Receipt, now: Instant) {
        let busy = self.router.busy_until(&peer, now);
        if busy.is_some() || self.waiting.contains_key(&peer) {
            self.looked = now;
            self.waiting.entry(peer).or_default().push_back((bytes, receipt));
        } else {
            self.handle_frame(peer, &bytes, receipt, now);
        }
    }

    fn handle_frame(&mut self, peer: NodeId, bytes: &[u8], receipt: Receipt, now: Instant) {
        if let Err(misbehaviour) = self.router.handle_frame(&peer, bytes, now)
            && let Some(pause) = misbehaviour.close_for
        {
            self.bar(peer, now + pause, now);
            self.dialler.note_error(&peer, misbehaviour.to_string());
        }
        // ROUTING-MODEL D3: the forwarding table first, the acknowledgement after.
        self.apply_routes(now);
        self.sessions.acknowledge(receipt, now);
    }

    /// A neighbour that lies is none for a while; its session may go on.
    fn bar(&mut self, peer: NodeId, until: Instant, now: Instant) {
        self.barred.insert(peer, until);
        self.sessions.set_adjacent(peer, false, now);
    }

    /// Frames whose senders have their share again, and neighbours whose time is served.
    pub(crate) fn tend_neighbours(&mut self, now: Instant) {
        self.looked = now;
        let peers: Vec<_> = self.waiting.keys().copied().collect();
        for peer in peers {
            while self.router.busy_until(&peer, now).is_none()
                && let Some((bytes, receipt)) = self.waiting.get_mut(&peer).and_then(VecDeque::pop_front)
            {
                self.handle_frame(peer, &bytes, receipt, now);
            }
        }
        self.waiting.retain(|_, frames| !frames.is_empty());
        let served: Vec<_> =
            self.barred.iter().filter(|(_, until)| **until <= now).map(|(p, _)| *p).collect();
        for peer in served {
            self.barred.remove(&peer);
            self.sessions.set_adjacent(peer, true, now);
        }
    }

    /// When [`Node::tend_neighbours`] has something to do.
    pub(crate) fn neighbours_due(&self) -> Option<Instant> {
        let waiting =
            self.waiting.keys().map(|peer| self.router.busy_until(peer, self.looked).unwrap_or(self.looked));
        waiting.chain(self.barred.values().copied()).min()
    }

    // --- links ---

    /// Makes the link follow the path that the session uses: it may have several, and change over
    /// without a word when the old one falls silent.
    fn sync_link(&mut self, peer: NodeId, now: Instant) {
        let session = self.sessions.keys().session(&peer.address()).cloned();
        let used = session.as_ref().and_then(|session| session.path);
        let linked = self.links.get(&peer).map(|link| link.path);
        match (linked, used) {
            (Some(old), Some(path)) if old == path => {}
            (_, Some(path)) => self.take_path(peer, path, now),
            (Some(old), None) => self.drop_link(peer, old, now),
            (None, None) => {}
        }
    }

    fn take_path(&mut self, peer: NodeId, path: PathAddr, now: Instant) {
        let addr = peer.address();
        let mut link = Link::new(path, self.dialler.cost(&peer), self.rng.fork(), now);
        let known = self.sessions.info(&peer, now);
        let paths = known.iter().flat_map(|info| &info.paths);
        if let Some(rtt) = paths.filter(|known| known.path == path).find_map(|known| known.rtt) {
            link.quality.on_rtt(rtt, now);
        }
        if let Some(old) = self.links.remove(&peer) {
            // The same neighbour by another way: what routing knows of it stays, what was
            // measured of the old way does not.
            link.adj = old.adj;
            link.routing = old.routing;
        }
        let cost = link.quality.cost();
        let routing = link.routing;
        self.link_info.insert(addr, Arc::clone(&link.info));
        self.links.insert(peer, link);
        if routing {
            self.router.set_cost(&peer, cost, now);
        }
        self.dialler.on_path_up(&peer);
        self.searches.remove(&peer);
        self.emit(Event::LinkUp { peer, path });
        self.ping_link(peer, now);
        self.release_held(&addr, now);
    }

    fn on_path_up(&mut self, peer: NodeId, path: PathAddr, now: Instant) {
        if path.carrier.is_stream() {
            self.emit(Event::Authenticated { path });
        }
        self.sync_link(peer, now);
    }

    fn drop_link(&mut self, peer: NodeId, path: PathAddr, now: Instant) {
        self.links.remove(&peer);
        self.link_info.remove(&peer.address());
        self.dialler.on_path_down(&peer, now);
        self.emit(Event::LinkDown { peer, path });
        self.start_search(peer, now);
    }

    fn on_adjacency_up(&mut self, peer: NodeId, adj: u8, now: Instant) {
        self.sync_link(peer, now);
        let Some(link) = self.links.get_mut(&peer) else { return };
        let known = std::mem::replace(&mut link.routing, true);
        link.adj = Some(adj);
        let (cost, floor) = (link.quality.cost(), link.quality.fix_floor());
        if known {
            // A new incarnation: what the router knew of the old one is void (ROUTING-MODEL D1).
            self.router.neighbour_down(&peer, now);
        }
        let stub = self.sessions.keys().session(&peer.address()).is_some_and(|session| session.stub);
        let class = if stub { Class::Stub } else { Class::Router };
        self.router.neighbour_up(peer, cost, floor, class, now);
    }

    fn on_adjacency_down(&mut self, peer: NodeId, now: Instant) {
        if let Some(link) = self.links.get_mut(&peer) {
            link.adj = None;
            link.routing = false;
            link.quality.release_floor();
        }
        self.waiting.remove(&peer);
        self.router.neighbour_down(&peer, now);
        self.apply_routes(now);
    }

    fn on_pong(&mut self, peer: NodeId, id: u32, from: Arrival, rtt: Duration, now: Instant) {
        if let Arrival::Direct(path) = from
            && let Some(link) = self.links.get_mut(&peer)
            && link.path == path
            && let Some(change) = link.on_pong(id, rtt, now)
        {
            if let (Some(cost), true) = (change, link.routing) {
                self.router.set_cost(&peer, cost, now);
            }
            return;
        }
        self.on_probe_pong(peer, id, rtt, now);
    }

    fn ping_link(&mut self, peer: NodeId, now: Instant) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        let id = self.sessions.ping(peer, Target::Direct(link.path), now);
        link.on_ping_sent(id, now);
    }

    pub(crate) fn tend_links(&mut self, now: Instant) {
        let due = |link: &Link| link.poll_timeout().is_some_and(|(at, _)| at <= now);
        let peers: Vec<_> = self.links.iter().filter(|(_, link)| due(link)).map(|(peer, _)| *peer).collect();
        for peer in peers {
            self.tend_link(peer, now);
        }
    }

    fn tend_link(&mut self, peer: NodeId, now: Instant) {
        self.sync_link(peer, now);
        while let Some(link) = self.links.get_mut(&peer) {
            let path = link.path;
            match link.poll(now) {
                Some(LinkAction::Ping) => self.ping_link(peer, now),
                Some(LinkAction::ProbeMtu(size)) => {
                    let id = self.sessions.mtu_probe(peer, Target::Direct(path), size, now);
                    link.on_mtu_probe_sent(id, size);
                }
                Some(LinkAction::Dead) => {
                    self.dialler.note_error(&peer, "the link fell silent");
                    self.sessions.path_dead(peer, path, now);
                    self.drain_sessions(now);
                    break;
                }
                None => break,
            }
        }
        if let Some(link) = self.links.get_mut(&peer)
            && let Some(cost) = link.settle(now)
            && link.routing
        {
            self.router.set_cost(&peer, cost, now);
        }
    }

    // --- packet size toward peers behind relays ---

    /// Begins the size search toward a peer that is reached through `via` and no direct path.
    fn start_search(&mut self, peer: NodeId, now: Instant) {
        let addr = peer.address();
        let Some(entry) = self.fib.get(&addr) else { return };
        let via = entry.next_hop;
        if self.links.contains_key(&peer) || !self.is_up(&peer) {
            return;
        }
        if self.searches.get(&peer).is_some_and(|routed| routed.via == via) {
            return;
        }
        let Some(link) = self.link_info.get(&via) else { return };
        let ceiling = (link.payload() as u16).saturating_sub(ROUTED_OVERHEAD);
        let search = Search::new(28 + ROUTED_OVERHEAD, ceiling, now);
        self.searches.insert(peer, RoutedSearch { search, via, probe: None });
    }

    pub(crate) fn tend_searches(&mut self, now: Instant) {
        let due = |routed: &RoutedSearch| routed.search.poll_timeout().is_some_and(|(at, _)| at <= now);
        let peers: Vec<_> = self.searches.iter().filter(|(_, routed)| due(routed)).map(|(p, _)| *p).collect();
        for peer in peers {
            self.tend_search(peer, now);
        }
    }

    fn tend_search(&mut self, peer: NodeId, now: Instant) {
        let Some(routed) = self.searches.get_mut(&peer) else { return };
        let changed = routed.search.handle_timeout(now);
        if let Some(size) = routed.search.poll_probe(now) {
            let id = self.sessions.mtu_probe(peer, Target::Routed, size, now);
            routed.probe = Some((id, size));
        }
        if changed {
            self.publish_mtu(peer);
        }
    }

    fn on_mtu_ack(&mut self, peer: NodeId, id: u32, now: Instant) {
        if let Some(link) = self.links.get_mut(&peer)
            && link.on_mtu_ack(id, now)
        {
            self.restart_searches_via(&peer.address(), now);
            self.tend_link(peer, now);
            return;
        }
        let Some(routed) = self.searches.get_mut(&peer) else { return };
        if let Some((probe, size)) = routed.probe
            && probe == id
            && routed.search.on_acked(size, now)
        {
            self.publish_mtu(peer);
        }
        self.tend_search(peer, now);
    }

    fn publish_mtu(&mut self, peer: NodeId) {
        let Some(routed) = self.searches.get(&peer) else { return };
        let inner = routed.search.payload().saturating_sub(sinew_wire::record::DATA_OVERHEAD as u16);
        self.fib.set_mtu(&peer.address(), inner.max(MIN_INNER_MTU));
    }

    /// The first link's size changed: what lies behind it may carry more, or less.
    fn restart_searches_via(&mut self, via: &MeshAddr, now: Instant) {
        let behind = |routed: &RoutedSearch| routed.via == *via;
        let peers: Vec<_> = self.searches.iter().filter(|(_, r)| behind(r)).map(|(p, _)| *p).collect();
        for peer in peers {
            self.searches.remove(&peer);
            self.start_search(peer, now);
        }
    }

    // --- routing ---

    fn drain_routing(&mut self, now: Instant) -> bool {
        let mut moved = self.apply_routes(now);
        let dirty: Vec<_> = self.router.dirty_neighbours().collect();
        for neighbour in dirty {
            while self.sessions.writable(&neighbour, StreamClass::Routing) {
                self.buf.clear();
                if !self.router.poll_frame(&neighbour, now, &mut self.buf) {
                    break;
                }
                moved = true;
                if self.sessions.send(neighbour, StreamClass::Routing, &self.buf, now).is_err() {
                    self.drops.count(DropReason::BadControl);
                    break;
                }
            }
        }
        moved
    }

    fn apply_routes(&mut self, now: Instant) -> bool {
        let mut moved = false;
        while let Some(change) = self.router.poll_change() {
            moved = true;
            self.apply_route(change, now);
        }
        while let Some(event) = self.router.poll_event() {
            if let sinew_routing::Event::DuplicateIdentity(_) = event {
                self.emit(Event::DuplicateIdentity);
            }
        }
        moved
    }

    fn apply_route(&mut self, change: RouteChange, now: Instant) {
        let RouteChange { node, addr, next_hop, fd, .. } = change;
        match (next_hop, fd) {
            (Some(hop), Some(fd)) => {
                let next_hop = hop.address();
                let known = self.fib.get(&addr).filter(|entry| entry.next_hop == next_hop);
                let mtu = known.map_or(MIN_INNER_MTU, |entry| entry.mtu);
                self.fib.set(addr, FibEntry { next_hop, fd, direct: next_hop == addr, mtu });
            }
            _ => drop(self.fib.remove(&addr)),
        }
        self.sessions.set_routed(node, next_hop.is_some(), now);
        if self.is_up(&node) {
            self.start_search(node, now);
        }
    }

    // --- dialling and sending ---

    fn drain_dialler(&mut self, now: Instant) -> bool {
        let mut moved = false;
        while let Some(action) = self.dialler.poll_action() {
            moved = true;
            match action {
                DialAction::Resolve { peer, host, port } => self.emit(Event::Resolve { peer, host, port }),
                DialAction::Connect { peer, carrier, remote } => {
                    self.emit(Event::Connect { peer, carrier, remote });
                }
                DialAction::OpenUdp { peer, remote } => self.open_udp(peer, remote, now),
            }
        }
        moved
    }

    fn open_udp(&mut self, peer: NodeId, remote: std::net::SocketAddr, now: Instant) {
        let socket = self.udp_sockets.iter().find(|socket| socket.ipv6 == remote.is_ipv6());
        let Some(socket) = socket else {
            let family = if remote.is_ipv6() { "IPv6" } else { "IPv4" };
            let error = format!("no local {family} UDP socket for {remote}: add one to [listen] udp");
            self.dialler.on_candidate_failed(&peer, error, now);
            return;
        };
        let path = PathAddr { carrier: sinew_types::CarrierKind::Udp, local: socket.local, remote };
        self.sessions.open(peer, Target::Direct(path), now);
    }

    fn drain_transmits(&mut self, now: Instant) -> bool {
        let mut moved = false;
        let mut buf = core::mem::take(&mut self.buf);
        loop {
            buf.clear();
            let Some(transmit) = self.sessions.poll_transmit(&mut buf) else { break };
            moved = true;
            match transmit.to {
                To::Path(path) => self.control_tx.push(path, 0, &buf),
                To::Routed(addr) => {
                    let (worker, view) = self.fast_path(now);
                    if let Err(reason) = worker.send_routed(&view, &addr, &buf) {
                        self.drops.count(reason);
                    }
                }
            }
        }
        self.buf = buf;
        moved
    }
}
