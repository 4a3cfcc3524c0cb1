//! Probes of an association: path challenges, pings, MTU probes, and the watch over sessions that
//! have no neighbour's liveness to watch them.

use std::collections::VecDeque;
use std::time::Duration;

use sinew_types::{DropReason, Instant, PathAddr};
use sinew_wire::probe::Probe;
use sinew_wire::record::{DATA_OVERHEAD, DataHeader, Kind};

use super::Association;
use crate::event::{Arrival, Event, Target, To};
use crate::paths::{CHALLENGE_SIZE, is_usable};
use crate::shared::Core;

/// Most pings whose answers are waited for.
const MAX_PINGS: usize = 64;
/// Shortest record that holds a challenge.
const CHALLENGE_LEAST: usize = DATA_OVERHEAD + 9;
/// How long a record may be reported about (protocol A4).
const REPORT_MEMORY: Duration = Duration::from_secs(10);
/// How often an active session is looked at, and an idle one.
const WATCH_ACTIVE: Duration = Duration::from_millis(250);
const WATCH_IDLE: Duration = Duration::from_secs(2);
/// A used session is probed when it is unanswered for three round trips, at least this.
const UNANSWERED_MIN: Duration = Duration::from_millis(200);
const PROBE_SPACING: Duration = Duration::from_millis(200);
const PROBES: u8 = 3;
/// How long an answer to a knock is an answer.
const KNOCK_LIFE: Duration = Duration::from_secs(5);
/// After giving up on the keys, time for the new handshake to work.
const WATCH_HOLD: Duration = Duration::from_secs(5);

/// Pings under way. Round trips are taken from our own note of when they left.
#[derive(Debug, Default)]
pub(crate) struct Pings {
    out: VecDeque<(u32, Instant, bool)>,
    last: u32,
    /// The last MTU probe, the record that it was, and when it left.
    sized: Option<(u32, DataHeader, Instant)>,
}

impl Pings {
    fn next(&mut self) -> u32 {
        self.last = self.last.wrapping_add(1).max(1);
        self.last
    }

    fn note(&mut self, told: bool, now: Instant) -> u32 {
        let id = self.next();
        if self.out.len() >= MAX_PINGS {
            self.out.pop_front();
        }
        self.out.push_back((id, now, told));
        id
    }

    fn take(&mut self, id: u32) -> Option<(Instant, bool)> {
        let at = self.out.iter().position(|&(out, ..)| out == id)?;
        self.out.remove(at).map(|(_, sent, told)| (sent, told))
    }
}

/// Knocks under way: one token for all addresses of a round, since any of them will do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Knocks {
    token: [u8; 8],
    until: Instant,
}

/// See [`Association::watch`].
#[derive(Debug)]
pub(super) struct Watch {
    next: Instant,
    probes: u8,
    packets: u64,
}

impl Watch {
    pub(super) const fn new(now: Instant) -> Self {
        Self { next: now, probes: 0, packets: 0 }
    }

    pub(super) const fn next(&self) -> Instant {
        self.next
    }
}

impl Association {
    /// Sends every challenge that is due.
    pub(super) fn send_challenges(&mut self, core: &mut Core, now: Instant) {
        if self.preferred(core).is_none() {
            return;
        }
        while let Some(due) = self.paths.poll_challenge(CHALLENGE_LEAST, &mut core.rng, now) {
            let mut payload = Vec::new();
            Probe::Challenge { token: due.token }.emit(&mut payload);
            let Some(epoch) = self.preferred(core) else { return };
            let mut bytes = Vec::with_capacity(due.size);
            if self.seal(epoch, Kind::Probe, due.size, &mut bytes, |buf| buf.extend_from_slice(&payload)) {
                self.traffic.count_sent(1, bytes.len());
                core.send(Some(self.peer), To::Path(due.path), bytes);
            }
        }
    }

    /// Sends the shortest possible challenge to a place where the peer may be (protocol A10.4). It makes
    /// nothing a path; an answer does. `false` if it could not be sealed.
    pub(crate) fn knock(&mut self, path: PathAddr, core: &mut Core, now: Instant) -> bool {
        let Some(epoch) = self.preferred(core) else { return false };
        let fresh = Knocks { token: core.rng.array(), until: now };
        let mut knocks = self.knocks.filter(|knocks| now < knocks.until).unwrap_or(fresh);
        knocks.until = now + KNOCK_LIFE;
        self.knocks = Some(knocks);
        let mut bytes = Vec::with_capacity(CHALLENGE_LEAST);
        let mut payload = Vec::new();
        Probe::Challenge { token: knocks.token }.emit(&mut payload);
        let sealed = self.seal(epoch, Kind::Probe, 0, &mut bytes, |buf| buf.extend_from_slice(&payload));
        if sealed {
            self.traffic.count_sent(1, bytes.len());
            core.send(Some(self.peer), To::Path(path), bytes);
        }
        sealed
    }

    /// Whether this answers a knock; if so, its source is proved: the peer is there.
    fn on_knock_answered(&mut self, token: [u8; 8], from: PathAddr, core: &mut Core, now: Instant) -> bool {
        let answered = self.knocks.is_some_and(|knocks| knocks.token == token && now < knocks.until);
        if answered && is_usable(&from) {
            self.paths.prove(from, true, &mut core.rng, now);
        }
        answered
    }

    fn send_probe(&mut self, probe: &Probe, least: usize, to: To, core: &mut Core) -> bool {
        let mut payload = Vec::new();
        probe.emit(&mut payload);
        self.send_record(Kind::Probe, &payload, least, to, core)
    }

    /// Sends a ping; its answer becomes an event.
    pub(crate) fn ping(&mut self, target: Target, core: &mut Core, now: Instant) -> u32 {
        let id = self.pings.note(true, now);
        let to = self.to(target);
        if self.send_probe(&Probe::Ping { id, sent_us: now.as_micros() }, 0, to, core) {
            self.traffic.expect_answer(now.as_micros());
        }
        id
    }

    /// Sends a record of exactly `size` bytes.
    pub(crate) fn mtu_probe(&mut self, target: Target, size: u16, core: &mut Core) -> u32 {
        let id = self.pings.next();
        let to = self.to(target);
        if self.send_probe(&Probe::MtuProbe { id, size }, usize::from(size), to, core)
            && let Some(epoch) = self.preferred(core)
            && let Some(record) = self.epochs[epoch].lane.last()
        {
            self.pings.sized = Some((id, record, core.now));
        }
        id
    }

    /// Which MTU probe went out in this record, if it is the last one and not older than a report of it
    /// may be.
    pub(crate) fn mtu_probe_in(&self, record: &DataHeader, now: Instant) -> Option<u32> {
        let (id, sent, at) = self.pings.sized?;
        (sent == *record && now.since(at) < REPORT_MEMORY).then_some(id)
    }

    /// A probe arrived.
    pub(crate) fn on_probe(
        &mut self,
        payload: &[u8],
        from: &Arrival,
        len_on_wire: usize,
        core: &mut Core,
        now: Instant,
    ) -> Result<(), DropReason> {
        let back = self.to(from.target());
        match (Probe::parse(payload)?, from) {
            (Probe::Challenge { token }, Arrival::Direct(path)) => {
                if self.paths.current() == Some(*path) {
                    core.event(Event::Doubted { peer: self.peer, path: *path });
                }
                // As long as the challenge: it shows that the path is wide enough both ways (A4).
                let least = len_on_wire.min(CHALLENGE_SIZE);
                self.send_probe(&Probe::Response { token }, least, back, core);
            }
            (Probe::Response { token }, Arrival::Direct(path)) => {
                if self.on_knock_answered(token, *path, core, now) {
                    return Ok(());
                }
                if let Some(rtt) = self.paths.on_response(token, *path, len_on_wire, now) {
                    self.rtt.sample(rtt);
                }
            }
            // protocol A3: a routed arrival proves nothing about the underlay.
            (Probe::Challenge { .. } | Probe::Response { .. }, Arrival::Routed { .. }) => {
                return Err(DropReason::BadControl);
            }
            (Probe::Ping { id, sent_us }, from) => {
                // A node measures the path that it uses.
                if let Arrival::Direct(path) = from {
                    self.paths.on_used_by_peer(*path, &mut core.rng, now);
                }
                self.send_probe(&Probe::Pong { id, sent_us }, 0, back, core);
            }
            (Probe::Pong { id, .. }, _) => {
                let (sent, told) = self.pings.take(id).ok_or(DropReason::BadControl)?;
                let rtt = now.since(sent);
                self.rtt.sample(rtt);
                if told {
                    let sent_us = sent.as_micros();
                    core.event(Event::Pong { peer: self.peer, id, from: *from, sent_us, rtt });
                }
            }
            // What arrived in another length than it left proves nothing about the path.
            (Probe::MtuProbe { id, size }, _) if usize::from(size) == len_on_wire => {
                self.send_probe(&Probe::MtuAck { id, size }, 0, back, core);
            }
            (Probe::MtuProbe { .. }, _) => return Err(DropReason::BadControl),
            (Probe::MtuAck { id, size }, _) => core.event(Event::MtuAck { peer: self.peer, id, size }),
        }
        Ok(())
    }

    /// Used sessions probe after max(3 RTT, 200 ms) unanswered; three probes, then a new handshake:
    /// the peer may have lost our keys (protocol A3). Adjacencies are watched by the node, per path.
    pub(super) fn watch(&mut self, core: &mut Core, now: Instant) {
        if self.watch.next > now {
            return;
        }
        let packets = self.traffic.counts().tx_packets;
        let active = packets != self.watch.packets;
        self.watch.packets = packets;
        let unanswered = self.traffic.unanswered_since_us().filter(|_| self.adjacency.number().is_none());
        let (Some(since), Some(way)) = (unanswered, self.way()) else {
            self.watch.probes = 0;
            self.watch.next = now + if active { WATCH_ACTIVE } else { WATCH_IDLE };
            return;
        };
        let limit = (self.rtt.estimate() * 3).max(UNANSWERED_MIN);
        let due = Instant::from_micros(since) + limit;
        if due > now {
            self.watch.next = due.min(now + WATCH_ACTIVE);
        } else if self.watch.probes < PROBES {
            self.watch.probes += 1;
            self.watch.next = now + (self.rtt.estimate() * 2).max(PROBE_SPACING);
            let id = self.pings.note(false, now);
            self.send_probe(&Probe::Ping { id, sent_us: now.as_micros() }, 0, way, core);
        } else {
            self.watch.probes = 0;
            self.watch.next = now + WATCH_HOLD;
            let target = match way {
                To::Path(path) => self.handshake_at(path),
                To::Routed(_) => {
                    core.event(Event::Unanswered { peer: self.peer, ingress: None });
                    Target::Routed
                }
            };
            self.aim(target, core, now);
        }
    }
}
