//! One pair of identities that know each other: its epochs, paths, streams and adjacency.
//!
//! ```text
//!  Closed ─send HS1─▶ opening (no epoch, an attempt) ─HS2─▶ up (at least one epoch)
//!    ▲  └──HS1─▶ pending (kept by the responder's gate) ─first record─▶ up
//!    └── no epoch left │ 15 s of silence about control messages │ local close
//! ```
//! An *epoch* is one keypair; rekeying adds one and lets the old one die, and nothing above notices.
//! The *association* is what lives across them, named by a random number from each side. If either
//! number changes, the other side has forgotten us: everything that came from it is flushed before
//! anything new is delivered (protocol A3).

mod control;
mod probes;

use std::sync::Arc;

use sinew_noise::hash::sha256;
use sinew_types::{CarrierKind, Instant, MeshAddr, NodeId, PathAddr};
use sinew_wire::handshake::{Hs1Payload, Hs2Payload};
use sinew_wire::segment::StreamClass;

use crate::adjacency::Adjacency;
use crate::arq::{Rtt, Stream};
use crate::epoch::{Due, Epoch};
use crate::event::{Arrival, AttemptFailure, CloseReason, Event, Target, To};
use crate::handshake::{Attempt, Delayed};
use crate::keys::{SessionView, Traffic};
use crate::lives::Lives;
use crate::paths::{Change, Paths};
use crate::ratelimit::Group;
use crate::shared::Core;
use crate::timers::earlier;

use probes::{Knocks, Pings, Watch};

/// Separates this hash from all others.
const BINDING_TAG: &[u8] = b"sinew/binding/v1\0";
/// Most epochs kept at a time: current, previous, and the two of a simultaneous opening.
const MAX_EPOCHS: usize = 4;
/// Least record payload that a peer takes: an inner packet of 1280 and some room.
const RX_MIN: u16 = 1300;

/// What the peer said about itself in the handshake.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    pub(crate) stub: bool,
    pub(crate) rx_max: u16,
    pub(crate) wants_adjacency: bool,
}

impl From<&Hs1Payload> for Told {
    fn from(payload: &Hs1Payload) -> Self {
        let rx_max = payload.rx_max.max(RX_MIN);
        Self { stub: payload.stub, rx_max, wants_adjacency: payload.wants_adjacency }
    }
}

impl From<&Hs2Payload> for Told {
    fn from(payload: &Hs2Payload) -> Self {
        let rx_max = payload.rx_max.max(RX_MIN);
        Self { stub: payload.stub(), rx_max, wants_adjacency: payload.wants_adjacency() }
    }
}

/// See the module's description.
#[derive(Debug)]
pub(crate) struct Association {
    pub(crate) peer: NodeId,
    pub(crate) addr: MeshAddr,
    /// Our half of the association id.
    pub(crate) own: u64,
    /// The peer's half, 0 while unknown.
    pub(crate) their: u64,
    lives: Lives,
    pub(crate) born: Instant,
    pub(crate) outbound: bool,
    pub(crate) epochs: Vec<Epoch>,
    /// Highest generation that both sides are known to have.
    pub(crate) generation: u32,
    pub(crate) attempt: Option<Attempt>,
    pub(crate) delayed: Option<Delayed>,
    pub(crate) paths: Paths,
    /// Whether relays can reach the peer.
    pub(crate) routed: bool,
    pub(crate) adjacency: Adjacency,
    pub(crate) streams: [Stream; 3],
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) rtt: Rtt,
    pub(crate) told: Told,
    /// Whether the session is to stay though nobody uses it.
    pub(crate) kept: bool,
    /// Whether we would be neighbours; `barred` is the node's veto.
    pub(crate) wants_adjacency: bool,
    pub(crate) barred: bool,
    /// Until when the openings of the adjacency are paid for, a second each.
    openings_paid: Instant,
    pub(crate) stamp_sent: u64,
    pub(crate) stamp_peer: u64,
    pub(crate) pings: Pings,
    knocks: Option<Knocks>,
    watch: Watch,
    /// Whose share of the table it takes, if the identity is a stranger's.
    pub(crate) group: Option<Group>,
    pub(crate) closing: Option<CloseReason>,
    pub(crate) up: bool,
    reachable: bool,
    buffered: usize,
}

impl Association {
    pub(crate) fn new(peer: NodeId, own: u64, traffic: Arc<Traffic>, core: &mut Core, now: Instant) -> Self {
        let streams = StreamClass::ALL.map(|class| Stream::new(class, core.next_id()));
        Self {
            peer,
            addr: peer.address(),
            own,
            their: 0,
            lives: Lives::default(),
            born: now,
            outbound: false,
            epochs: Vec::new(),
            generation: 0,
            attempt: None,
            delayed: None,
            paths: Paths::default(),
            routed: false,
            adjacency: Adjacency::new(),
            streams,
            traffic,
            rtt: Rtt::default(),
            told: Told::default(),
            kept: false,
            wants_adjacency: false,
            barred: false,
            openings_paid: now,
            stamp_sent: 0,
            stamp_peer: 0,
            pings: Pings::default(),
            knocks: None,
            watch: Watch::new(now),
            group: None,
            closing: None,
            up: false,
            reachable: false,
            buffered: 0,
        }
    }

    /// What is to hold for this association only is bound to this (protocol A7): equal on both
    /// sides, gone with the association, and of no use to whoever was not told both ids.
    pub(crate) fn binding(&self, core: &Core) -> Option<[u8; 32]> {
        if !self.up {
            return None;
        }
        let mut ends = [(core.own, self.own), (self.peer, self.their)];
        ends.sort_unstable_by_key(|(node, _)| *node);
        let [(lower, lower_id), (higher, higher_id)] = ends;
        let ids = [lower_id.to_le_bytes(), higher_id.to_le_bytes()];
        Some(sha256(&[BINDING_TAG, lower.as_bytes(), higher.as_bytes(), &ids[0], &ids[1]]))
    }

    // --- epochs ---

    /// The epoch to send on (protocol A2): highest generation; of equal ones that of the lower
    /// NodeId, so that both sides choose alike; then the later.
    pub(crate) fn preferred(&self, core: &Core) -> Option<usize> {
        let lower_is_ours = core.own < self.peer;
        let usable = self.epochs.iter().enumerate().filter(|(_, e)| e.is_usable());
        usable.max_by_key(|(_, e)| (e.generation, e.ours == lower_is_ours, e.id)).map(|(at, _)| at)
    }

    pub(crate) fn epoch_at(&self, index: u32) -> Option<usize> {
        self.epochs.iter().position(|epoch| epoch.index() == index)
    }

    /// Takes a new epoch of the pair (own, `their`) into use. Flushes everything if the peer is not
    /// the one we knew.
    pub(crate) fn install(&mut self, epoch: Epoch, their: u64, told: Told, core: &mut Core, now: Instant) {
        if self.up && self.their != their {
            self.flush(core, now);
        }
        let fresh = !self.up;
        if fresh {
            self.born = now;
            self.reset_streams(core);
        }
        (self.their, self.told, self.up) = (their, told, true);
        if epoch.mutual {
            self.generation = self.generation.max(epoch.generation);
        }
        core.keys.insert_epoch(Arc::clone(&epoch.open));
        self.epochs.push(epoch);
        self.prefer(core, now);
        while self.epochs.len() > MAX_EPOCHS {
            let preferred = self.preferred(core);
            let oldest = (0..self.epochs.len()).find(|at| Some(*at) != preferred).unwrap_or(0);
            self.erase(oldest, core, now);
        }
        core.event(Event::Up { peer: self.peer, fresh });
    }

    /// The peer has proved that it is alive under this id; tells if that makes it two machines.
    pub(crate) fn meet(&mut self, their: u64, from: Arrival, core: &mut Core) {
        if self.lives.is_twin(their) {
            core.event(Event::DuplicateIdentity { node: self.peer, from });
        }
    }

    /// The epoch at `at` is known to both sides.
    pub(crate) fn confirm(&mut self, at: usize, core: &mut Core, now: Instant) {
        let Some(epoch) = self.epochs.get_mut(at) else { return };
        epoch.on_record();
        self.generation = self.generation.max(epoch.generation);
        let made = Some(epoch.generation);
        // An attempt at a generation that both have already has nothing left to do (protocol A2).
        if self.attempt.as_ref().is_some_and(|a| a.generation().is_some() && a.generation() <= made) {
            self.finish_attempt(core, now);
        }
    }

    /// Tells the epochs which of them is preferred.
    fn prefer(&mut self, core: &Core, now: Instant) {
        let preferred = self.preferred(core);
        for (at, epoch) in self.epochs.iter_mut().enumerate() {
            epoch.set_preferred(Some(at) == preferred, now);
        }
    }

    /// Erases an epoch: its keys are dead from now on, in every snapshot.
    pub(crate) fn erase(&mut self, at: usize, core: &mut Core, now: Instant) {
        let epoch = self.epochs.remove(at);
        epoch.seal.kill();
        core.keys.remove_epoch(epoch.index());
        core.indexes.release(epoch.index(), now);
    }

    /// Forgets all that came from the peer (protocol A3), telling what ends.
    pub(crate) fn flush(&mut self, core: &mut Core, now: Instant) {
        let steps = self.adjacency.close(false);
        self.take_steps(steps, core);
        while !self.epochs.is_empty() {
            self.erase(0, core, now);
        }
        self.paths.clear();
        self.tell_path_changes(core, now);
        self.adjacency = Adjacency::new();
        self.reset_streams(core);
        (self.pings, self.knocks) = (Pings::default(), None);
        (self.their, self.generation, self.up) = (0, 0, false);
    }

    fn reset_streams(&mut self, core: &mut Core) {
        self.streams = StreamClass::ALL.map(|class| Stream::new(class, core.next_id()));
    }

    /// Ends the association: flushed, and if an attempt is on its way it goes on under a new name,
    /// since an id that was closed is never used again.
    fn end(&mut self, reason: CloseReason, core: &mut Core, now: Instant) {
        if self.up {
            self.flush(core, now);
            core.event(Event::Closed { peer: self.peer, reason });
        }
        self.own = core.association_id();
        self.delayed = None;
        self.restart_attempt(core, now);
    }

    // --- where to send ---

    /// Where control records go: the path in use, else one about to be, else relays, else whatever
    /// has answered at all.
    pub(crate) fn way(&self) -> Option<To> {
        let tentative = self.paths.tentative();
        let direct = self.paths.current().or(tentative.filter(|_| self.paths.is_half_wide()));
        let routed = self.routed.then_some(To::Routed(self.addr));
        direct.map(To::Path).or(routed).or(tentative.map(To::Path))
    }

    /// protocol A3: to a routed peer only ever at its own address.
    pub(crate) fn to(&self, target: Target) -> To {
        match target {
            Target::Direct(path) => To::Path(path),
            Target::Routed => To::Routed(self.addr),
        }
    }

    // --- time ---

    pub(crate) fn poll_timeout(&self, core: &Core) -> Option<(Instant, &'static str)> {
        let mut next = self.epochs.iter().map(Epoch::poll_timeout).fold(None, earlier);
        next = earlier(next, self.attempt.as_ref().and_then(Attempt::poll_timeout));
        next = earlier(next, self.delayed.as_ref().map(|d| (d.until, "delayed answer")));
        if self.preferred(core).is_none() {
            return next;
        }
        next = earlier(next, self.paths.poll_timeout());
        next = earlier(next, Some((self.watch.next(), "session watch")));
        next = earlier(next, self.adjacency_due());
        let adjacent = self.adjacency.number().is_some();
        for (at, stream) in self.streams.iter().enumerate() {
            let can_send = if at == 0 { adjacent } else { self.way().is_some() };
            if can_send {
                next = earlier(next, stream.poll_timeout());
            }
        }
        next
    }

    pub(crate) fn handle_timeout(&mut self, core: &mut Core, now: Instant) {
        self.age_epochs(core, now);
        self.drive_attempt(core, now);
        self.paths.handle_timeout(now);
        if self.way().is_some() && self.preferred(core).is_some() {
            for stream in &mut self.streams {
                stream.handle_timeout(&self.rtt, now);
                if stream.is_given_up(now) {
                    self.closing = Some(CloseReason::Unacknowledged);
                }
            }
        }
        self.watch(core, now);
    }

    fn age_epochs(&mut self, core: &mut Core, now: Instant) {
        let mut at = 0;
        while at < self.epochs.len() {
            let Some(due) = self.epochs[at].poll_due(now) else {
                at += 1;
                continue;
            };
            match due {
                Due::Erase => self.erase(at, core, now),
                Due::Unconfirmed => self.on_unconfirmed(at, core, now),
                Due::Confirm => self.send_keepalive(at, core),
                Due::Retire => {}
                Due::Rekey => {
                    let kept = self.kept || self.adjacency.number().is_some();
                    if self.epochs[at].wants_successor(kept, now) {
                        self.rekey(core, now);
                    }
                }
            }
        }
        self.prefer(core, now);
    }

    /// The peer never sent a record under our epoch: it dropped its side.
    fn on_unconfirmed(&mut self, at: usize, core: &mut Core, now: Instant) {
        self.erase(at, core, now);
        if self.epochs.is_empty() {
            self.closing = Some(CloseReason::Unconfirmed);
        }
    }

    // --- after every input ---

    /// Draws the consequences of whatever has just happened. `false`: nothing is left to keep.
    pub(crate) fn settle(&mut self, core: &mut Core, now: Instant) -> bool {
        if self.up && self.epochs.is_empty() {
            self.closing = self.closing.or(Some(CloseReason::Expired));
        }
        if let Some(reason) = self.closing.take() {
            self.end(reason, core, now);
        }
        self.prefer(core, now);
        self.send_challenges(core, now);
        self.tell_path_changes(core, now);
        self.settle_adjacency(core, now);
        let reachable = self.way().is_some();
        if reachable && !self.reachable {
            self.streams.iter_mut().for_each(|stream| stream.resume(now));
        }
        self.reachable = reachable;
        let held: usize = self.streams.iter().map(Stream::held).sum();
        core.buffered = (core.buffered + held).saturating_sub(self.buffered);
        self.buffered = held;
        self.publish(core);
        self.up || self.attempt.is_some()
    }

    pub(crate) fn tell_path_changes(&mut self, core: &mut Core, now: Instant) {
        while let Some(change) = self.paths.poll_change() {
            let peer = self.peer;
            match change {
                Change::Up(path) => core.event(Event::PathUp { peer, path }),
                Change::Down(path) => core.event(Event::PathDown { peer, path }),
                Change::GivenUp { path, ours, narrow } if ours || narrow => {
                    let reason = if narrow { AttemptFailure::TooNarrow } else { AttemptFailure::NoAnswer };
                    core.event(Event::AttemptFailed { peer, target: Target::Direct(path), reason });
                }
                Change::GivenUp { .. } => {}
                // Three probes without answer: perhaps the peer has lost our keys (protocol A2).
                Change::Doubt(path) => self.aim(self.handshake_at(path), core, now),
            }
        }
    }

    /// A path died. Without another one the keys may be gone too: the peer may have restarted.
    pub(crate) fn on_path_dead(&mut self, path: PathAddr, core: &mut Core, now: Instant) {
        let used = self.paths.current() == Some(path);
        self.paths.dead(&path, now);
        if used && self.paths.current().is_none() && !self.is_private() {
            self.aim(Target::Direct(path), core, now);
        }
    }

    /// Nothing that was known of the underlay need be true any more.
    pub(crate) fn on_network_changed(&mut self, core: &mut Core, now: Instant) {
        self.paths.recheck(&mut core.rng, now);
        self.send_again(core, now);
    }

    /// A pair that relays connect and that never meant to be neighbours: what direct paths it has are its
    /// own business, and carry no handshake in clear, which would ask for an adjacency.
    pub(crate) fn is_private(&self) -> bool {
        self.routed && !self.wants_adjacency
    }

    /// Where a handshake goes when records over this path go unanswered.
    fn handshake_at(&self, path: PathAddr) -> Target {
        if self.is_private() { Target::Routed } else { Target::Direct(path) }
    }

    /// The paths through one of our UDP sockets, known or aimed at.
    pub(crate) fn through(&self, local: u32) -> Vec<PathAddr> {
        let aimed = self.attempt.iter().flat_map(Attempt::paths);
        let mut paths: Vec<_> = self.paths.known().map(|known| known.path).chain(aimed).collect();
        paths.retain(|path| path.carrier == CarrierKind::Udp && path.local == local);
        paths
    }

    /// Whether the path is known or aimed at.
    pub(crate) fn uses(&self, path: &PathAddr) -> bool {
        let aimed = self.attempt.as_ref().is_some_and(|attempt| attempt.aims_at(path));
        aimed || self.paths.known().any(|known| known.path == *path)
    }

    /// Nothing can be sent there any more.
    pub(crate) fn on_path_closed(&mut self, path: PathAddr, core: &mut Core, now: Instant) {
        self.paths.closed(&path);
        let last = self.attempt.as_mut().is_some_and(|attempt| attempt.forget(&path));
        if last {
            self.drop_attempt(core, now);
            let (peer, target) = (self.peer, Target::Direct(path));
            core.event(Event::AttemptFailed { peer, target, reason: AttemptFailure::PathClosed });
        }
    }

    /// Lets the fast path see what has changed.
    fn publish(&self, core: &mut Core) {
        let Some(preferred) = self.preferred(core) else {
            core.keys.remove_session(&self.addr);
            return;
        };
        let path = self.paths.current();
        core.keys.insert_session(SessionView {
            peer: self.peer,
            addr: self.addr,
            epoch: Some(Arc::clone(&self.epochs[preferred].seal)),
            generation: self.paths.generation(),
            path,
            validated: self.paths.validated().collect(),
            adj: self.adjacency.number(),
            stub: self.told.stub,
            traffic: Arc::clone(&self.traffic),
            rx_max: self.told.rx_max,
            stream: path.is_some_and(|path| path.carrier.is_stream()),
        });
    }

    /// Takes everything of this association out of the shared tables.
    pub(crate) fn dismantle(&mut self, core: &mut Core, now: Instant) {
        self.flush(core, now);
        self.drop_attempt(core, now);
        core.keys.remove_session(&self.addr);
        core.buffered = core.buffered.saturating_sub(self.buffered);
        self.buffered = 0;
    }
}
