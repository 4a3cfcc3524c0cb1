//! The control side: carries values between the machines until nothing is left to carry.
//!
//! Sessions, routing and the fast path never see each other; here is where a confirmed session
//! becomes a link, a link becomes a neighbour, a neighbour's frame becomes a changed FIB, and
//! only then is the frame acknowledged (protocol A5: acknowledged means processed).

use sinew_forwarding::{Cause, FibEntry};
use sinew_routing::RouteChange;
use sinew_session::{self as session, AttemptFailure, Receipt, Target, To};
use sinew_types::{Budget, DropReason, Instant, MeshAddr, NodeId};
use sinew_wire::error::{ErrorCode, ErrorReport};
use sinew_wire::request::Request;
use sinew_wire::segment::StreamClass;

use crate::counts::HandshakeResult;
use crate::dial::DialAction;
use crate::event::Event;
use crate::link::Link;
use crate::node::Node;
use crate::worker::{MIN_INNER_MTU, Report};

/// Answers to one peer's WHO_IS a second, and at once (protocol A5.6).
const WHO_IS_RATE: u64 = 10;
const WHO_IS_BURST: u64 = 32;
/// Rounds of carrying before giving the caller a turn; each round drains everything once.
const MAX_ROUNDS: usize = 64;

impl Node {
    /// Carries everything that is waiting.
    pub(crate) fn pump(&mut self, now: Instant) {
        for _ in 0..MAX_ROUNDS {
            let mut moved = self.drain_reports(now);
            moved |= self.drain_sessions(now);
            moved |= self.drain_routing(now);
            moved |= self.drain_overlay(now);
            moved |= self.drain_dialler(now);
            moved |= self.drain_transmits(now);
            if !moved {
                return self.due.set(None);
            }
        }
        self.due.set(Some(Some((now, "more to carry"))));
    }

    // --- from the fast path ---

    pub(crate) fn drain_reports(&mut self, now: Instant) -> bool {
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

    pub(crate) fn on_report(
        &mut self,
        report: &Report,
        bytes: &mut [u8],
        now: Instant,
    ) -> Result<(), DropReason> {
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
            Report::Miss { dst, inner, vnet, range } => {
                let dropped = self.held.push(*dst, *inner, *vnet, &bytes[range.clone()], now);
                self.drops.add(DropReason::HoldQueue, dropped);
                if !self.is_between_paths(dst) {
                    self.want_session(dst, now);
                }
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

    /// Whether a session stands with whoever is at `dst` and only its path is missing: that is looked for
    /// already.
    fn is_between_paths(&self, dst: &MeshAddr) -> bool {
        let session = self.sessions.keys().session(dst);
        session.is_some_and(|session| session.epoch.is_some() && session.path.is_none())
            && self.fib.get(dst).is_none()
    }

    pub(crate) fn link_at(&mut self, addr: &MeshAddr) -> Option<&mut Link> {
        let peer = self.sessions.keys().session(addr)?.peer;
        self.links.get_mut(&peer)
    }

    /// Starts a session with whoever owns `dst`, if routing or the networks know who that is.
    pub(crate) fn want_session(&mut self, dst: &MeshAddr, now: Instant) {
        match self.router.node_of(dst).or_else(|| self.listed_at.get(dst).copied()) {
            Some(node) => self.open_routed(node, now),
            None => self.ask_who_is(*dst, now),
        }
    }

    /// A stub asks its upstream whose address this is.
    pub(crate) fn ask_who_is(&mut self, addr: MeshAddr, now: Instant) {
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
        let fresh = || Budget::new(WHO_IS_RATE, WHO_IS_BURST, now);
        if !self.asked.entry(peer).or_insert_with(fresh).try_take(now) {
            return self.drops.count(DropReason::RateLimited);
        }
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
            Ok(node) if self.is_wanted(&node.address()) => self.open_routed(node, now),
            // The answer came late: what waited was given up, or went out already.
            Ok(_) => {}
            Err(_) => self.drops.count(DropReason::BadControl),
        }
    }

    /// Whether packets or people wait for whoever is at `addr`.
    fn is_wanted(&self, addr: &MeshAddr) -> bool {
        self.held.waits_for(addr) || self.probes.wait_for(addr)
    }

    pub(crate) fn open_routed(&mut self, node: NodeId, now: Instant) {
        self.sessions.set_routed(node, true, now);
        self.sessions.open(node, Target::Routed, now);
    }

    /// Somebody behind a relay uses a session that we no longer have: we restarted. It would find
    /// out by its probes; greeting it saves a second. The routed source is only a neighbour's
    /// word, so this is rare and bounded.
    pub(crate) fn greet(&mut self, src: MeshAddr, now: Instant) {
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
    pub(crate) fn on_error_report(&mut self, body: &[u8], now: Instant) -> Result<(), DropReason> {
        let report = ErrorReport::parse(body).map_err(|_| DropReason::Malformed)?;
        if let Some((peer, id)) = self.sessions.mtu_probe_in(&report.record, now) {
            if report.code == ErrorCode::TooBig {
                self.on_probe_too_big(peer, id, report.mtu, now);
            }
            return Ok(());
        }
        let addr = self.worker.sent_record(&report.record, now).ok_or(DropReason::UnmatchedError)?;
        let Some(peer) = self.sessions.keys().session(&addr).map(|session| session.peer) else {
            return Err(DropReason::UnmatchedError);
        };
        let cause = match report.code {
            ErrorCode::TooBig => {
                if let Some(routed) = self.searches.get_mut(&peer) {
                    routed.search.on_too_big(report.mtu, now);
                }
                return Ok(());
            }
            ErrorCode::HopLimit => Cause::HopLimit,
            ErrorCode::NoRoute | ErrorCode::Watermark => Cause::NoRoute,
        };
        self.worker.heard_of_trouble(addr, cause, now);
        Ok(())
    }

    // --- from sessions ---

    pub(crate) fn drain_sessions(&mut self, now: Instant) -> bool {
        let mut moved = false;
        while let Some(event) = self.sessions.poll_event() {
            moved = true;
            self.on_session_event(event, now);
        }
        moved
    }

    pub(crate) fn on_session_event(&mut self, event: session::Event, now: Instant) {
        use session::Event as E;
        match event {
            E::Up { peer, fresh } => {
                let result = if fresh { HandshakeResult::New } else { HandshakeResult::Renewed };
                self.tally.handshakes.count(result);
                if fresh {
                    self.overlay_peer_up(peer, now);
                }
                self.on_session_up(peer, now);
            }
            E::Closed { peer, reason } => {
                self.on_session_closed(peer, &format!("the session ended: {reason:?}"), now)
            }
            E::Message { peer, class, bytes, receipt } => self.on_message(peer, class, bytes, receipt, now),
            E::Processed { peer, class, ordinal } => {
                if class == StreamClass::Routing {
                    self.router.on_processed(&peer, ordinal, now);
                } else {
                    // There may be room again.
                    self.overlay_owes = true;
                }
            }
            E::AdjacencyUp { peer, adj, .. } => self.on_adjacency_up(peer, adj, now),
            E::AdjacencyDown { peer, .. } => self.on_adjacency_down(peer, now),
            E::PathUp { peer, path } => self.on_path_up(peer, path, now),
            E::PathDown { peer, .. } => self.sync_link(peer, now),
            E::Pong { peer, id, from, rtt, .. } => self.on_pong(peer, id, from, rtt, now),
            E::MtuAck { peer, id, size: _ } => self.on_mtu_ack(peer, id, now),
            E::AttemptFailed { peer, target, reason } => self.on_attempt_failed(peer, target, reason, now),
            E::DuplicateIdentity { node, .. } => self.emit(Event::DuplicateIdentity { node }),
            E::Unanswered { peer, ingress } => self.on_unanswered(&peer, ingress, now),
            E::Doubted { peer, path } => self.on_doubted(peer, path, now),
            E::Observed { peer, path, addr } => self.on_seen(peer, path, addr, now),
        }
    }

    /// A direct path that is still being tried carries no data yet: then what waits goes out with
    /// [`Node::take_path`].
    pub(crate) fn on_session_up(&mut self, peer: NodeId, now: Instant) {
        self.watch_pair(peer, now);
        self.start_search(peer, now);
        if self.is_reachable(&peer) {
            self.release_held(&peer.address(), now);
            self.probes.on_session_up(&mut self.sessions, peer, now);
        }
    }

    pub(crate) fn on_attempt_failed(
        &mut self,
        peer: NodeId,
        target: Target,
        reason: AttemptFailure,
        now: Instant,
    ) {
        if let Target::Direct(path) = target
            && self.is_beside_link(&peer, &path)
        {
            // The link stands: nothing has failed that anybody needs.
            return self.start_search(peer, now);
        }
        self.tally.handshakes.count(reason.into());
        if let (AttemptFailure::TooNarrow, Target::Direct(path)) = (reason, target)
            && self.refused.allow(peer.address(), now)
        {
            self.emit(Event::LinkRefused { peer, path });
        }
        match target {
            Target::Direct(path) => {
                let reason = reason.to_string();
                self.dialler.on_candidate_failed(&peer, (path.carrier, path.remote), &reason, now);
            }
            Target::Routed => self.dialler.note_error(&peer, format!("over relays: {reason}")),
        }
        self.start_search(peer, now);
    }

    /// Sends what waited for a session with `dst`.
    pub(crate) fn release_held(&mut self, dst: &MeshAddr, now: Instant) {
        for mut held in self.held.take(dst) {
            let (worker, view) = self.fast_path(now);
            worker.outbound(&view, held.interface, held.vnet, &mut held.packet);
        }
    }

    pub(crate) fn on_session_closed(&mut self, peer: NodeId, reason: &str, now: Instant) {
        let addr = peer.address();
        self.worker.forget(&addr);
        self.searches.remove(&peer);
        self.asked.remove(&peer);
        self.dialler.note_error(&peer, reason);
        self.sync_link(peer, now);
        self.forget_pair(&peer, now);
        self.overlay_peer_down(peer, now);
    }

    pub(crate) fn on_message(
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
            StreamClass::Documents => self.on_documents(peer, &bytes, now),
        }
        self.sessions.acknowledge(receipt, now);
    }

    // --- routing ---

    pub(crate) fn drain_routing(&mut self, now: Instant) -> bool {
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

    pub(crate) fn apply_routes(&mut self, now: Instant) -> bool {
        let mut moved = false;
        while let Some(change) = self.router.poll_change() {
            moved = true;
            self.apply_route(change, now);
        }
        while let Some(event) = self.router.poll_event() {
            if let sinew_routing::Event::DuplicateIdentity(node) = event {
                self.emit(Event::DuplicateIdentity { node });
            }
        }
        moved
    }

    pub(crate) fn apply_route(&mut self, change: RouteChange, now: Instant) {
        let RouteChange { node, addr, next_hop, fd, .. } = change;
        let before = self.fib.get(&addr).map(|entry| entry.next_hop);
        let appeared = next_hop.is_some() && before.is_none();
        if before != next_hop.map(|hop| hop.address()) {
            self.tally.route_changes += 1;
        }
        match (next_hop, fd) {
            (Some(hop), Some(fd)) => {
                let next_hop = hop.address();
                let known = self.fib.get(&addr).filter(|entry| entry.next_hop == next_hop);
                let mtu = known.map_or(MIN_INNER_MTU, |entry| entry.mtu);
                self.fib.set(addr, FibEntry { next_hop, fd, direct: next_hop == addr, mtu });
            }
            _ => drop(self.fib.remove(&addr)),
        }
        // A stub has no other routes than those to its neighbours: to all others its upstream relays.
        let relayed = next_hop.is_some() || self.router.default_next_hop().is_some();
        self.sessions.set_routed(node, relayed, now);
        if self.is_up(&node) {
            self.start_search(node, now);
            if appeared {
                self.release_held(&addr, now);
            }
        } else if appeared {
            self.on_member_reachable(node, now);
        }
    }

    // --- dialling and sending ---

    pub(crate) fn drain_dialler(&mut self, now: Instant) -> bool {
        let mut moved = false;
        while let Some(action) = self.dialler.poll_action() {
            moved = true;
            match action {
                DialAction::Resolve { peer, host, port } => self.emit(Event::Resolve { peer, host, port }),
                DialAction::Connect { peer, carrier, remote, host, path } => {
                    self.emit(Event::Connect { peer, carrier, remote, host, path });
                }
                DialAction::OpenUdp { peer, remote } => self.open_udp(peer, remote, now),
            }
        }
        moved
    }

    pub(crate) fn drain_transmits(&mut self, now: Instant) -> bool {
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
