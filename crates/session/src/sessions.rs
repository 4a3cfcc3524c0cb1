//! The machine over all peers: finds the association an input belongs to, lets it work, and draws
//! the consequences.
//!
//! # Using it
//! One input (`open`, `handle_*`, `on_notice`, `send`, `acknowledge`, …), then drain: `poll_event`
//! until `None`, `poll_transmit` until `None`, and `poll_timeout` for the next wake-up. Records of
//! kinds 0 to 3 are opened by the fast path with [`Sessions::keys`] and given to
//! [`Sessions::handle_control`]; of all other records the machine hears only by
//! [`Sessions::on_notice`].

mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use sinew_types::{CarrierKind, DropReason, Instant, MeshAddr, NodeId, PathAddr, UnixMicros};
use sinew_wire::handshake::{Cookie, Hs2, MSG_COOKIE, MSG_HS1, MSG_HS2};
use sinew_wire::record::{DataHeader, Kind};
use sinew_wire::segment::StreamClass;

use crate::association::Association;
use crate::config::Config;
use crate::error::SendError;
use crate::event::{Arrival, AttemptFailure, CloseReason, Event, Notice, Receipt, Target, Transmit};
use crate::handshake::Gate;
use crate::keys::KeyTable;
use crate::paths::is_usable;
use crate::ratelimit::Group;
use crate::shared::Core;
use crate::timers::{Timers, earlier};

/// Control buffers of all associations; above it new remote strangers are refused (protocol A5).
pub(crate) const MAX_BUFFERED: usize = 64 * 1024 * 1024;

/// Far ends are compared without the local socket: a peer may answer from another one of ours.
type Endpoint = (CarrierKind, SocketAddr);

/// The session machine. See the crate's description.
#[derive(Debug)]
pub struct Sessions {
    pub(crate) core: Core,
    pub(crate) peers: BTreeMap<NodeId, Association>,
    pub(crate) addresses: BTreeMap<MeshAddr, NodeId>,
    pub(crate) gate: Gate,
    pub(crate) listed: BTreeSet<NodeId>,
    groups: BTreeMap<Group, u32>,
    endpoints: BTreeMap<Endpoint, (NodeId, Option<Instant>)>,
    timers: Timers,
}

impl Sessions {
    /// A machine without sessions. `seed` must be random: all keys follow from it. `unix` is the
    /// wall clock at `now`; it only orders handshakes.
    pub fn new(config: Config, seed: [u8; 32], unix: UnixMicros, now: Instant) -> Self {
        let mut core = Core::new(config, seed, unix, now);
        let gate = Gate::new(core.rng.array(), now);
        Self {
            core,
            peers: BTreeMap::new(),
            addresses: BTreeMap::new(),
            gate,
            listed: BTreeSet::new(),
            groups: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            timers: Timers::default(),
        }
    }

    // --- configuration ---

    /// The wall clock was set.
    pub fn set_unix(&mut self, unix: UnixMicros, now: Instant) {
        self.core.set_unix(unix, now);
    }

    /// Configured peers and members: with [`Accept::Listed`](crate::Accept::Listed) only they may
    /// open sessions, and theirs are never evicted. Sessions that exist are not touched.
    pub fn set_listed(&mut self, listed: BTreeSet<NodeId>) {
        self.gate.set_listed(&listed);
        self.listed = listed;
    }

    /// How many handshake messages wait in front of [`Sessions::handle_handshake`].
    pub fn set_queued(&mut self, handshakes: usize, now: Instant) {
        let now = self.core.tick(now);
        self.gate.load.on_queued(handshakes, now);
    }

    /// Whether strangers have to show a cookie now.
    pub fn is_under_load(&self) -> bool {
        self.gate.load.is_high(self.core.now)
    }

    // --- opening and closing ---

    /// Starts a session with `peer` at `target`. If one lives, a direct target becomes one more path
    /// of it, once it has answered a challenge.
    pub fn open(&mut self, peer: NodeId, target: Target, now: Instant) {
        let now = self.core.tick(now);
        let refused = match target {
            _ if peer == self.core.own => Some(AttemptFailure::OwnIdentity),
            Target::Direct(path) if !is_usable(&path) => Some(AttemptFailure::BadTarget),
            _ if !self.enter(peer, now) => Some(AttemptFailure::TableFull),
            _ => None,
        };
        if let Some(reason) = refused {
            return self.core.event(Event::AttemptFailed { peer, target, reason });
        }
        if let Target::Direct(path) = target {
            self.remember(&path, peer);
        }
        self.with(peer, now, |association, core| {
            let lives = association.preferred(core).is_some();
            association.outbound |= !lives;
            match target {
                Target::Direct(path) => {
                    association.wants_adjacency |= core.config.adjacency;
                    if lives {
                        association.paths.solicit(path, &mut core.rng, now);
                    } else {
                        association.aim(target, core, now);
                    }
                }
                Target::Routed => {
                    association.routed = true;
                    if !lives {
                        association.aim(target, core, now);
                    }
                }
            }
        });
    }

    /// Ends the session and every attempt. The peer is not told (there is no such message), except
    /// that an open adjacency is closed in order if the network lets it.
    pub fn close(&mut self, peer: NodeId, now: Instant) {
        let now = self.core.tick(now);
        self.endpoints.retain(|_, (node, _)| *node != peer);
        self.gate.drop_pending(&peer, &mut self.core, now);
        let Some(association) = self.peers.get_mut(&peer) else { return };
        association.barred = true;
        association.settle(&mut self.core, now);
        let mut bytes = Vec::new();
        while let Some(to) = association.poll_segment(&mut self.core, &mut bytes) {
            self.core.send(Some(peer), to, core::mem::take(&mut bytes));
        }
        self.remove(peer, CloseReason::Local, now);
    }

    /// A stream ended or a socket is gone: nothing can be sent on this path any more.
    pub fn path_closed(&mut self, path: PathAddr, now: Instant) {
        let now = self.core.tick(now);
        let peers: Vec<_> = self.peers.iter().filter(|(_, a)| a.uses(&path)).map(|(peer, _)| *peer).collect();
        for peer in peers {
            self.with(peer, now, |association, core| association.on_path_closed(path, core, now));
        }
    }

    /// One of our UDP sockets is gone, and with it every path through it.
    pub fn socket_closed(&mut self, local: u32, now: Instant) {
        let now = self.core.tick(now);
        let through = |(peer, a): (&NodeId, &Association)| {
            let peer = *peer;
            a.through(local).into_iter().map(move |path| (peer, path))
        };
        let through: Vec<_> = self.peers.iter().flat_map(through).collect();
        for (peer, path) in through {
            self.with(peer, now, |association, core| association.on_path_closed(path, core, now));
        }
    }

    /// The path in use is silent: those in reserve are asked whether they still work.
    pub fn ask_reserve(&mut self, peer: NodeId, now: Instant) {
        let now = self.core.tick(now);
        self.with(peer, now, |association, core| association.paths.ask_reserve(&mut core.rng, now));
    }

    /// The node's liveness found the path dead. Another validated path takes over; without one the
    /// adjacency closes. The path stays known and is challenged again every second.
    pub fn path_dead(&mut self, peer: NodeId, path: PathAddr, now: Instant) {
        let now = self.core.tick(now);
        self.with(peer, now, |association, core| association.on_path_dead(path, core, now));
    }

    /// The host's network has changed, or it has slept: every direct path is asked for a sign of life, and
    /// handshakes under way go out anew.
    pub fn network_changed(&mut self, now: Instant) {
        let now = self.core.tick(now);
        let peers: Vec<_> = self.peers.keys().copied().collect();
        for peer in peers {
            self.with(peer, now, |association, core| association.on_network_changed(core, now));
        }
    }

    /// All direct paths to the peer are dead.
    pub fn adjacency_drop(&mut self, peer: NodeId, now: Instant) {
        let now = self.core.tick(now);
        self.with(peer, now, |association, core| {
            let paths: Vec<_> = association.paths.validated().collect();
            for path in paths {
                association.on_path_dead(path, core, now);
            }
        });
    }

    /// The node has measured its paths: this one, if it is validated, is used from now on.
    pub fn prefer_path(&mut self, peer: NodeId, path: PathAddr, now: Instant) {
        let now = self.core.tick(now);
        self.with(peer, now, |association, _| association.paths.prefer(path));
    }

    /// Knocks at places where the peer may be (protocol A10.4): a short challenge each, whose answer makes
    /// a path of wherever it comes from. The caller bounds how often; how many were sent.
    pub fn knock(&mut self, peer: NodeId, paths: &[PathAddr], now: Instant) -> usize {
        let now = self.core.tick(now);
        let knock = |association: &mut Association, core: &mut Core| {
            let usable = paths.iter().filter(|path| is_usable(path));
            usable.filter(|path| association.knock(**path, core, now)).count()
        };
        self.with(peer, now, knock).unwrap_or(0)
    }

    /// The direct paths of a pair that is not adjacent are given up, relays go on. `agreed`: both sides do
    /// so, and sources that nobody asked for are no paths for a few seconds.
    pub fn retire_paths(&mut self, peer: NodeId, agreed: bool, now: Instant) {
        let now = self.core.tick(now);
        self.with(peer, now, |association, core| {
            if association.is_private() {
                association.paths.retire(agreed, now);
                association.tell_path_changes(core, now);
            }
        });
    }

    /// Whether relays connect us with `peer` and neither means to be the other's neighbour: a direct path
    /// is then private to the pair.
    pub fn is_private(&self, peer: &NodeId) -> bool {
        self.peers.get(peer).is_some_and(Association::is_private)
    }

    /// Whether relays carry the session with `peer` for lack of a direct path.
    pub fn is_relayed(&self, peer: &NodeId) -> bool {
        self.peers.get(peer).is_some_and(|a| a.routed && a.paths.current().is_none())
    }

    /// Whether a direct path to `peer` may become an adjacency (the default for direct peers).
    pub fn set_adjacent(&mut self, peer: NodeId, wanted: bool, now: Instant) {
        let now = self.core.tick(now);
        self.with(peer, now, |association, _| {
            association.wants_adjacency = wanted;
            association.barred = !wanted;
        });
    }

    /// Whether routing can reach the peer: control then goes over relays while no direct path lives.
    pub fn set_routed(&mut self, peer: NodeId, routed: bool, now: Instant) {
        let now = self.core.tick(now);
        self.with(peer, now, |association, _| association.routed = routed);
    }

    /// Whether the session with `peer` is to have new keys in time although nobody uses it; without,
    /// it ends when its keys are too old. Forgotten when the session ends.
    pub fn set_kept(&mut self, peer: NodeId, kept: bool) {
        if let Some(association) = self.peers.get_mut(&peer) {
            association.kept = kept;
        }
    }

    /// As [`Sessions::open`] over relays, for when a way to the peer is known again: an attempt under way
    /// does not wait for its next turn.
    pub fn hurry(&mut self, peer: NodeId, now: Instant) {
        let now = self.core.tick(now);
        if peer == self.core.own || !self.enter(peer, now) {
            return;
        }
        self.with(peer, now, |association, core| {
            association.routed = true;
            if association.preferred(core).is_none() {
                association.hurry(Target::Routed, core, now);
            }
        });
    }

    // --- messages in ---

    /// A handshake message in clear (types 1 to 3).
    ///
    /// # Errors
    /// The reason why it went no further; `StaleHandshake` and `CookieRequired` were answered.
    pub fn handle_handshake(
        &mut self,
        from: Arrival,
        message: &mut [u8],
        now: Instant,
    ) -> Result<(), DropReason> {
        let now = self.core.tick(now);
        if let Arrival::Direct(path) = from
            && !is_usable(&path)
        {
            return Err(DropReason::Malformed);
        }
        match message.first() {
            Some(&MSG_HS1) => self.on_hs1(message, from, now),
            Some(&MSG_HS2) => self.on_hs2(message, from, now),
            Some(&MSG_COOKIE) => self.on_cookie(message, from, now),
            _ => Err(DropReason::UnknownType),
        }
    }

    fn on_hs2(&mut self, message: &[u8], from: Arrival, now: Instant) -> Result<(), DropReason> {
        let hs2 = Hs2::parse(message)?;
        let peer = self.flight_owner(hs2.receiver)?;
        let answer = self.with(peer, now, |association, core| association.on_hs2(&hs2, &from, core, now));
        answer.unwrap_or(Err(DropReason::UnknownIndex))
    }

    fn on_cookie(&mut self, message: &[u8], from: Arrival, now: Instant) -> Result<(), DropReason> {
        let cookie = Cookie::parse(message)?;
        let peer = self.flight_owner(cookie.receiver)?;
        let taken =
            self.with(peer, now, |association, core| association.on_cookie(&cookie, &from, core, now));
        taken.unwrap_or(Err(DropReason::UnknownIndex))
    }

    fn flight_owner(&self, index: u32) -> Result<NodeId, DropReason> {
        let peer = self.core.indexes.owner(index).ok_or(DropReason::UnknownIndex)?;
        let flying = self.peers.get(&peer).is_some_and(|association| association.has_flight(index));
        if flying { Ok(peer) } else { Err(DropReason::UnknownIndex) }
    }

    /// A record of kind 0 to 3 that the fast path has opened. `len_on_wire` is the length of the
    /// whole record.
    ///
    /// # Errors
    /// The reason why it went no further.
    pub fn handle_control(
        &mut self,
        index: u32,
        from: Arrival,
        kind: Kind,
        payload: &[u8],
        len_on_wire: usize,
        now: Instant,
    ) -> Result<(), DropReason> {
        let now = self.core.tick(now);
        let peer = self.on_record(index, from, len_on_wire, now).ok_or(DropReason::UnknownIndex)?;
        let done = match kind {
            Kind::Keepalive => Ok(()),
            Kind::Control => {
                self.within(peer, |association, core| association.on_segment(payload, &from, core, now))
            }
            Kind::Probe => self.within(peer, |association, core| {
                association.on_probe(payload, &from, len_on_wire, core, now)
            }),
            Kind::Handshake => self.on_inside(peer, payload, from, now),
            _ => Err(DropReason::Unsupported),
        };
        self.settle(peer, now);
        done
    }

    /// HS1 or HS2 inside a session.
    fn on_inside(
        &mut self,
        peer: NodeId,
        message: &[u8],
        from: Arrival,
        now: Instant,
    ) -> Result<(), DropReason> {
        match message.first() {
            Some(&MSG_HS1) => self.on_hs1_inside(message, peer, from, now),
            Some(&MSG_HS2) => {
                let hs2 = Hs2::parse(message)?;
                if self.flight_owner(hs2.receiver)? != peer {
                    return Err(DropReason::UnknownIndex);
                }
                self.within(peer, |association, core| association.on_hs2(&hs2, &from, core, now))
            }
            _ => Err(DropReason::UnknownType),
        }
    }

    /// What the fast path noticed.
    pub fn on_notice(&mut self, notice: Notice, now: Instant) {
        let now = self.core.tick(now);
        match notice {
            Notice::Confirmed { index, from } => {
                if let Some(peer) = self.on_record(index, from, 0, now) {
                    self.settle(peer, now);
                }
            }
            Notice::NewSource { index, from, bytes } => {
                if let Some(peer) = self.on_record(index, Arrival::Direct(from), bytes, now) {
                    self.settle(peer, now);
                }
            }
            Notice::LanesExhausted { peer } => {
                self.with(peer, now, |association, core| association.rekey(core, now));
            }
        }
    }

    /// A record opened under the epoch `index`: it confirms the epoch, and tells of its source.
    fn on_record(&mut self, index: u32, from: Arrival, bytes: usize, now: Instant) -> Option<NodeId> {
        let peer = self.core.indexes.owner(index)?;
        if self.gate.pending.get(&peer).is_some_and(|pending| pending.open.index() == index) {
            self.promote(peer, from, now);
        }
        let association = self.peers.get_mut(&peer)?;
        let at = association.epoch_at(index)?;
        if !association.epochs[at].is_confirmed() {
            association.confirm(at, &mut self.core, now);
        }
        match from {
            Arrival::Direct(path) => association.paths.on_received(path, bytes, &mut self.core.rng, now),
            Arrival::Routed { .. } => {}
        }
        Some(peer)
    }

    /// Whether a direct path to `peer` answers, and is still to show that it is wide enough for a link:
    /// [`Event::PathUp`] or [`Event::AttemptFailed`] follows.
    pub fn is_trying(&self, peer: &NodeId) -> bool {
        self.peers.get(peer).is_some_and(|association| association.paths.tentative().is_some())
    }

    /// 32 bytes that stand for the association with `peer`, and change when either side forgets the
    /// other (protocol A7): a network's handle holds for one association. `None` without one.
    pub fn binding(&self, peer: &NodeId) -> Option<[u8; 32]> {
        self.peers.get(peer)?.binding(&self.core)
    }

    // --- control streams ---

    /// Gives a message to the control channel; returns its ordinal, which
    /// [`Event::Processed`] will name or pass. Ordinals rise from 1 in each incarnation of the
    /// stream, not always by one.
    ///
    /// # Errors
    /// [`SendError`].
    pub fn send(
        &mut self,
        peer: NodeId,
        class: StreamClass,
        message: &[u8],
        now: Instant,
    ) -> Result<u64, SendError> {
        let now = self.core.tick(now);
        let sent = self.with(peer, now, |association, _| association.send_message(class, message));
        sent.unwrap_or(Err(SendError::NoSession))
    }

    /// Whether [`Sessions::send`] would take the longest message now; for routing, whether a message
    /// would also leave now.
    pub fn writable(&self, peer: &NodeId, class: StreamClass) -> bool {
        self.peers.get(peer).is_some_and(|association| association.is_writable(class))
    }

    /// A message was processed (protocol A5): only now the peer is told.
    pub fn acknowledge(&mut self, receipt: Receipt, now: Instant) {
        let now = self.core.tick(now);
        self.with(receipt.peer, now, |association, _| association.acknowledge(receipt, now));
    }

    // --- probes ---

    /// Pings the peer on one path or over relays; [`Event::Pong`] names the id. Without a session or
    /// a known path nothing is sent.
    pub fn ping(&mut self, peer: NodeId, target: Target, now: Instant) -> u32 {
        let now = self.core.tick(now);
        self.with(peer, now, |association, core| association.ping(target, core, now)).unwrap_or(0)
    }

    /// Sends a record of `size` bytes in all; [`Event::MtuAck`] names the id if it arrives whole.
    pub fn mtu_probe(&mut self, peer: NodeId, target: Target, size: u16, now: Instant) -> u32 {
        let now = self.core.tick(now);
        self.with(peer, now, |association, core| association.mtu_probe(target, size, core)).unwrap_or(0)
    }

    /// Whose MTU probe went out in the record with this header, in the last ten seconds: what the
    /// machine seals itself, no worker knows of (protocol A4).
    pub fn mtu_probe_in(&self, record: &DataHeader, now: Instant) -> Option<(NodeId, u32)> {
        self.peers
            .iter()
            .find_map(|(peer, association)| association.mtu_probe_in(record, now).map(|id| (*peer, id)))
    }

    // --- outputs ---

    /// The next datagram; its bytes are appended to `buf`.
    pub fn poll_transmit(&mut self, buf: &mut Vec<u8>) -> Option<Transmit> {
        if let Some(datagram) = self.core.out.pop_front() {
            buf.extend_from_slice(&datagram.bytes);
            return Some(Transmit { peer: datagram.peer, to: datagram.to });
        }
        while let Some(peer) = self.core.ready.first().copied() {
            let polled = self
                .peers
                .get_mut(&peer)
                .and_then(|association| association.poll_segment(&mut self.core, buf));
            if let Some(to) = polled {
                return Some(Transmit { peer: Some(peer), to });
            }
            self.core.ready.remove(&peer);
            self.reschedule(peer);
        }
        None
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.core.events.pop_front()
    }

    /// When to call [`Sessions::handle_timeout`], and what for.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        earlier(self.timers.next(), self.gate.poll_timeout())
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.core.tick(now);
        self.gate.expire(&mut self.core, now);
        // Each once: what is only due for sending stays due until `poll_transmit`.
        for peer in self.timers.due(now) {
            let delayed = self
                .peers
                .get_mut(&peer)
                .and_then(|association| association.delayed.take_if(|delayed| delayed.until <= now));
            if let Some(delayed) = delayed {
                self.on_delayed(peer, &delayed, now);
            }
            if self.with(peer, now, |association, core| association.handle_timeout(core, now)).is_none() {
                self.timers.set(peer, None);
            }
        }
    }

    /// The fast path's snapshot of keys and sessions.
    pub const fn keys(&self) -> &KeyTable {
        &self.core.keys
    }

    // --- inside ---

    /// Lets the association of `peer` work, and settles it. `None` if there is none.
    fn with<R>(
        &mut self,
        peer: NodeId,
        now: Instant,
        work: impl FnOnce(&mut Association, &mut Core) -> R,
    ) -> Option<R> {
        let association = self.peers.get_mut(&peer)?;
        let result = work(association, &mut self.core);
        self.settle(peer, now);
        Some(result)
    }

    /// As `with`, without settling.
    fn within(
        &mut self,
        peer: NodeId,
        work: impl FnOnce(&mut Association, &mut Core) -> Result<(), DropReason>,
    ) -> Result<(), DropReason> {
        let association = self.peers.get_mut(&peer).ok_or(DropReason::UnknownIndex)?;
        work(association, &mut self.core)
    }

    fn settle(&mut self, peer: NodeId, now: Instant) {
        let Some(association) = self.peers.get_mut(&peer) else { return };
        if !association.settle(&mut self.core, now) {
            return self.remove(peer, CloseReason::Expired, now);
        }
        if association.has_segments(now) {
            self.core.ready.insert(peer);
        }
        if let (Some(path), Some(_)) = (association.paths.current(), association.adjacency.number()) {
            self.remember(&path, peer);
        }
        self.reschedule(peer);
    }

    fn reschedule(&mut self, peer: NodeId) {
        let deadline = self.peers.get(&peer).and_then(|association| association.poll_timeout(&self.core));
        self.timers.set(peer, deadline);
    }
}
