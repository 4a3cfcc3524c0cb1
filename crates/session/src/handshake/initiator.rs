//! Our own attempts to open or renew a session (protocol A2).
//!
//! An attempt lasts up to 90 s and is a row of *flights*: one HS1, whose bytes are repeated at
//! 0.25, 0.5, 1 and 2 s and replaced, with new ephemeral key and stamp, after 5 s. It may aim at
//! several targets at once, all of which get the same bytes; the first HS2 decides. While an epoch
//! works, a rekey goes inside the session first; if that brings no answer within a flight, the peer
//! may have lost the keys, and it goes on in clear.

use std::time::Duration;

use sinew_noise::mac::mac2;
use sinew_noise::{Cipher, HandshakeMac, Initiator, SplitKeys};
use sinew_types::{DropReason, Instant, PathAddr};
use sinew_wire::handshake::{Cookie, HS1_LEN, Hs1, Hs1Payload, Hs2, Hs2Payload, Hs2Status};

use super::VERSION;
use crate::association::{Association, Told};
use crate::epoch::{Epoch, Material};
use crate::event::{Arrival, AttemptFailure, Event, Target};
use crate::keys::MAX_LANES;
use crate::paths::is_usable;
use crate::shared::Core;

/// When the same bytes are sent again, after the first time.
const REPEAT_MS: [u64; 4] = [250, 500, 1000, 2000];
/// Repetitions before the way over relays is doubted. The other side doubts its own way back one earlier.
const PATIENT: usize = 3;
const RENEW: Duration = Duration::from_secs(5);
const RENEW_JITTER_US: u64 = 333_000;
const GIVE_UP: Duration = Duration::from_secs(90);
/// Most STALE answers an attempt follows.
const MAX_STALE: u8 = 3;
/// After so many HS2 that do not decrypt, a flight reads no more of them.
const MAX_BAD: u8 = 8;
/// Most targets of one attempt.
const MAX_TARGETS: usize = 8;
const COOKIE_LIFE: Duration = Duration::from_secs(120);

/// One place the HS1 goes to.
#[derive(Debug)]
struct Aim {
    target: Target,
    /// A cookie is bound to the source address it was given to, so it stays with its target.
    cookie: Option<([u8; 16], Instant)>,
}

/// One HS1 under way.
struct Flight {
    noise: Initiator,
    message: [u8; HS1_LEN],
    mac: HandshakeMac,
    index: u32,
    generation: u32,
    sent: Instant,
    /// Repetitions so far.
    repeats: usize,
    renew_at: Instant,
    bad: u8,
    cookies: u8,
}

impl core::fmt::Debug for Flight {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Flight(index {:08x}, generation {})", self.index, self.generation)
    }
}

/// An attempt at a new epoch.
#[derive(Debug)]
pub(crate) struct Attempt {
    started: Instant,
    aims: Vec<Aim>,
    /// Goes inside the current epoch, as kind 3.
    inside: bool,
    flight: Option<Flight>,
    /// When to launch, while there is no flight.
    launch_at: Instant,
    stale: u8,
    flights: usize,
    /// The higher side of a simultaneous opening does not repeat its own (protocol A2).
    pub(crate) quiet: bool,
}

impl Attempt {
    fn new(inside: bool, now: Instant) -> Self {
        Self {
            started: now,
            aims: Vec::new(),
            inside,
            flight: None,
            launch_at: now,
            stale: 0,
            flights: 0,
            quiet: false,
        }
    }

    /// Generation of the epoch it is making.
    pub(crate) fn generation(&self) -> Option<u32> {
        self.flight.as_ref().map(|flight| flight.generation)
    }

    /// Whether an HS1 left less than a second ago.
    pub(crate) fn is_recent(&self, now: Instant) -> bool {
        self.flight.as_ref().is_some_and(|f| now.since(f.sent) < Duration::from_secs(1))
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = PathAddr> + '_ {
        self.aims.iter().filter_map(|aim| match aim.target {
            Target::Direct(path) => Some(path),
            Target::Routed => None,
        })
    }

    pub(crate) fn aims_at(&self, path: &PathAddr) -> bool {
        self.aims.iter().any(|aim| aim.target == Target::Direct(*path))
    }

    /// Takes a target out; `true` if none is left.
    pub(crate) fn forget(&mut self, path: &PathAddr) -> bool {
        let before = self.aims.len();
        self.aims.retain(|aim| aim.target != Target::Direct(*path));
        self.aims.len() < before && self.aims.is_empty() && !self.inside
    }

    fn next_repeat(&self) -> Option<Instant> {
        let flight = self.flight.as_ref().filter(|_| !self.quiet)?;
        REPEAT_MS.get(flight.repeats).map(|&ms| flight.sent + Duration::from_millis(ms))
    }

    pub(crate) fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let at = match &self.flight {
            None => self.launch_at,
            Some(flight) => self.next_repeat().map_or(flight.renew_at, |at| at.min(flight.renew_at)),
        };
        Some((at.min(self.started + GIVE_UP), "handshake"))
    }
}

impl Association {
    /// Starts an attempt at `target`, or adds it to the one under way.
    pub(crate) fn aim(&mut self, target: Target, core: &mut Core, now: Instant) {
        if let Target::Direct(path) = target
            && !is_usable(&path)
        {
            return;
        }
        let attempt = self.attempt.get_or_insert_with(|| Attempt::new(false, now));
        if attempt.aims.iter().any(|aim| aim.target == target) || attempt.aims.len() >= MAX_TARGETS {
            return;
        }
        let was_inside = core::mem::replace(&mut attempt.inside, false);
        attempt.quiet = false;
        attempt.aims.push(Aim { target, cookie: None });
        if was_inside {
            // Inside the session it had no macs; in clear nobody would look at it.
            self.drop_flight(core, now);
        }
        if self.attempt.as_ref().is_some_and(|attempt| attempt.flight.is_some()) {
            self.send_flight(Some(target), core, now);
        } else {
            self.drive_attempt(core, now);
        }
    }

    /// Renews the keys inside the session, where no flood can block it and no observer sees it.
    pub(crate) fn rekey(&mut self, core: &mut Core, now: Instant) {
        if self.attempt.is_none() {
            self.attempt = Some(Attempt::new(true, now));
            self.drive_attempt(core, now);
        }
    }

    /// The attempt under way, if any, need not wait for its turn: the network is another one.
    pub(crate) fn send_again(&mut self, core: &mut Core, now: Instant) {
        if self.attempt.as_ref().is_some_and(|attempt| !attempt.inside && !attempt.is_recent(now)) {
            self.drop_flight(core, now);
            self.drive_attempt(core, now);
        }
    }

    /// A new HS1 at once: something shows that the peer is there and has lost our keys.
    pub(crate) fn hurry(&mut self, target: Target, core: &mut Core, now: Instant) {
        self.aim(target, core, now);
        if self.attempt.as_ref().is_some_and(|attempt| !attempt.is_recent(now)) {
            self.drop_flight(core, now);
            self.drive_attempt(core, now);
        }
    }

    /// Does what is due for the attempt.
    pub(crate) fn drive_attempt(&mut self, core: &mut Core, now: Instant) {
        let Some(attempt) = &mut self.attempt else { return };
        if attempt.started + GIVE_UP <= now {
            return self.give_up(AttemptFailure::NoAnswer, core, now);
        }
        let repeat = attempt.next_repeat().is_some_and(|at| at <= now);
        let over_relays = attempt.aims.iter().any(|aim| aim.target == Target::Routed);
        match &attempt.flight {
            Some(flight) if flight.renew_at <= now => {
                if over_relays {
                    core.event(Event::Unanswered { peer: self.peer, ingress: None });
                }
                self.drop_flight(core, now);
                self.widen_attempt();
                self.launch(core, now);
            }
            Some(_) if repeat => {
                if let Some(flight) = &mut attempt.flight {
                    flight.repeats += 1;
                    if flight.repeats > PATIENT && over_relays {
                        core.event(Event::Unanswered { peer: self.peer, ingress: None });
                    }
                }
                self.send_flight(None, core, now);
            }
            Some(_) => {}
            None if attempt.launch_at <= now => self.launch(core, now),
            None => {}
        }
    }

    /// An unanswered rekey inside goes on in clear (protocol A2).
    fn widen_attempt(&mut self) {
        let target = match self.paths.current() {
            Some(path) if !self.is_private() => Target::Direct(path),
            _ => Target::Routed,
        };
        if let Some(attempt) = self.attempt.as_mut().filter(|attempt| attempt.inside) {
            attempt.inside = false;
            attempt.aims.push(Aim { target, cookie: None });
        }
    }

    fn launch(&mut self, core: &mut Core, now: Instant) {
        let above = self.stamp_sent.max(self.stamp_peer).saturating_add(1);
        let stamp = core.unix(now).max(above);
        let Some(attempt) = &self.attempt else { return };
        // protocol A2: with two mesh secrets active, a peer may still hold only the other one.
        let secret = attempt.flights % core.secrets.len();
        let payload = Hs1Payload {
            stamp,
            assoc_own: self.own,
            assoc_peer: self.their,
            sign_bit: core.own.sign_bit(),
            stub: core.is_stub(),
            wants_adjacency: self.wants_adjacency && !self.barred,
            ciphers: core.config.ciphers.0,
            ver_min: VERSION,
            ver_max: VERSION,
            max_lanes: MAX_LANES,
            rx_max: core.config.rx_max,
            psk_id: core.secrets[secret].id,
            features: 0,
            generation: self.generation.saturating_add(1),
        };
        let (inside, generation) = (attempt.inside, payload.generation);
        let index = core.indexes.allocate(self.peer, &mut core.rng, now);
        let seed = core.rng.array();
        let psk = &core.secrets[secret].psk;
        let started = Initiator::start(&core.config.identity, &self.peer, psk, &payload.emit(), seed);
        let Ok((noise, bytes)) = started else {
            core.indexes.release(index, now);
            return self.give_up(AttemptFailure::Incompatible, core, now);
        };
        let mac = HandshakeMac::new(&self.peer, psk);
        let mut hs1 = Hs1 { sender: index, noise: bytes, mac1: [0; 16], mac2: [0; 16] };
        if !inside {
            hs1.mac1 = mac.mac1(Hs1::mac1_input(&hs1.emit()));
        }
        self.stamp_sent = stamp;
        let renew_at = now + RENEW + Duration::from_micros(core.rng.below(RENEW_JITTER_US));
        if let Some(attempt) = &mut self.attempt {
            attempt.flights += 1;
            attempt.quiet = false;
            attempt.flight = Some(Flight {
                noise,
                message: hs1.emit(),
                mac,
                index,
                generation,
                sent: now,
                repeats: 0,
                renew_at,
                bad: 0,
                cookies: 0,
            });
        }
        self.send_flight(None, core, now);
    }

    /// Sends the HS1 of the flight, to one target or to all.
    fn send_flight(&mut self, only: Option<Target>, core: &mut Core, now: Instant) {
        let Some(attempt) = &self.attempt else { return };
        let Some(flight) = &attempt.flight else { return };
        let message = flight.message;
        if attempt.inside {
            self.send_inside(&message, core);
            return;
        }
        for aim in &attempt.aims {
            if only.is_some_and(|only| only != aim.target) {
                continue;
            }
            let mut bytes = message;
            if let Some((cookie, _)) = aim.cookie.filter(|&(_, since)| now.since(since) < COOKIE_LIFE) {
                let mac = mac2(&cookie, Hs1::mac2_input(&message));
                bytes[HS1_LEN - mac.len()..].copy_from_slice(&mac);
            }
            core.send(Some(self.peer), self.to(aim.target), bytes.to_vec());
        }
    }

    fn drop_flight(&mut self, core: &mut Core, now: Instant) {
        if let Some(attempt) = &mut self.attempt
            && let Some(flight) = attempt.flight.take()
        {
            core.indexes.release(flight.index, now);
            attempt.launch_at = now;
        }
    }

    /// Ends the attempt without a word.
    pub(crate) fn drop_attempt(&mut self, core: &mut Core, now: Instant) {
        self.drop_flight(core, now);
        self.attempt = None;
    }

    /// The association got a new name: what is under way carries the old one.
    pub(crate) fn restart_attempt(&mut self, core: &mut Core, now: Instant) {
        self.drop_flight(core, now);
        if self.attempt.as_ref().is_some_and(|attempt| attempt.aims.is_empty()) {
            self.attempt = None;
        }
    }

    /// A session stands; targets that did not answer first may still become paths.
    pub(crate) fn finish_attempt(&mut self, core: &mut Core, now: Instant) {
        let aims = self.attempt.as_mut().map(|attempt| core::mem::take(&mut attempt.aims));
        self.drop_attempt(core, now);
        for aim in aims.unwrap_or_default() {
            if let Target::Direct(path) = aim.target {
                self.paths.solicit(path, &mut core.rng, now);
            }
        }
    }

    fn give_up(&mut self, reason: AttemptFailure, core: &mut Core, now: Instant) {
        let aims = self.attempt.as_mut().map(|attempt| core::mem::take(&mut attempt.aims));
        self.drop_attempt(core, now);
        for aim in aims.unwrap_or_default() {
            core.event(Event::AttemptFailed { peer: self.peer, target: aim.target, reason });
        }
    }

    /// Whether `index` names the HS1 under way.
    pub(crate) fn has_flight(&self, index: u32) -> bool {
        let flight = self.attempt.as_ref().and_then(|attempt| attempt.flight.as_ref());
        flight.is_some_and(|flight| flight.index == index)
    }

    /// HS2 arrived for the HS1 under way.
    pub(crate) fn on_hs2(
        &mut self,
        hs2: &Hs2,
        from: &Arrival,
        core: &mut Core,
        now: Instant,
    ) -> Result<(), DropReason> {
        let attempt = self.attempt.as_mut().ok_or(DropReason::UnknownIndex)?;
        let flight = attempt.flight.as_mut().ok_or(DropReason::UnknownIndex)?;
        // protocol A2: forged HS2 must not end an attempt, nor cost us without end.
        if flight.bad >= MAX_BAD {
            return Err(DropReason::BadHandshake);
        }
        let Ok((keys, payload)) = flight.noise.finish(&hs2.noise) else {
            flight.bad += 1;
            return Err(DropReason::BadHandshake);
        };
        let payload = Hs2Payload::parse(&payload).map_err(|_| DropReason::BadHandshake);
        match payload {
            Ok(payload) if payload.status == Hs2Status::Stale => {
                self.on_stale(payload.last_stamp, core, now);
                Ok(())
            }
            Ok(payload) => self.on_answer(hs2, &keys, &payload, from, core, now),
            Err(reason) => {
                self.drop_flight(core, now);
                self.postpone(now);
                Err(reason)
            }
        }
    }

    /// Only the responder could read our stamp and write this: follow it, at once (protocol A2).
    fn on_stale(&mut self, last_stamp: u64, core: &mut Core, now: Instant) {
        self.stamp_peer = self.stamp_peer.max(last_stamp);
        self.drop_flight(core, now);
        let Some(attempt) = &mut self.attempt else { return };
        attempt.stale += 1;
        // The same secret again: it was the right one.
        attempt.flights = attempt.flights.saturating_sub(1);
        if attempt.stale <= MAX_STALE { self.launch(core, now) } else { self.postpone(now) }
    }

    fn postpone(&mut self, now: Instant) {
        if let Some(attempt) = &mut self.attempt {
            attempt.launch_at = now + RENEW;
        }
    }

    fn on_answer(
        &mut self,
        hs2: &Hs2,
        keys: &SplitKeys,
        payload: &Hs2Payload,
        from: &Arrival,
        core: &mut Core,
        now: Instant,
    ) -> Result<(), DropReason> {
        let cipher = Cipher::from_code(payload.cipher).filter(|&c| core.config.ciphers.contains(c));
        let agreed = payload.ver == VERSION && payload.assoc_own != 0 && payload.assoc_peer == self.own;
        let (Some(cipher), true) = (cipher, agreed) else {
            self.give_up(AttemptFailure::Incompatible, core, now);
            return Err(DropReason::Unsupported);
        };
        let Some(attempt) = &mut self.attempt else { return Err(DropReason::UnknownIndex) };
        let Some(flight) = attempt.flight.take() else { return Err(DropReason::UnknownIndex) };
        let proved = attempt.aims.iter().any(|aim| aim.target == from.target());
        let inside = attempt.inside;
        let id = core.next_id();
        let (open, seal) = Material {
            peer: self.peer,
            keys,
            cipher,
            index: flight.index,
            receiver: hs2.sender,
            peer_lanes: payload.max_lanes,
            id,
            traffic: &self.traffic,
        }
        .halves();
        let epoch = Epoch::new(open, seal, flight.generation, true, &mut core.rng, now);
        let index = epoch.index();
        self.stamp_peer = self.stamp_peer.max(payload.last_stamp);
        self.meet(payload.assoc_own, *from, core);
        self.install(epoch, payload.assoc_own, Told::from(payload), core, now);
        // protocol A2: our own completed, so a delayed answer is not needed.
        self.delayed = None;
        if !inside {
            self.note_arrival_of_hs2(from, proved, payload, core, now);
        }
        self.finish_attempt(core, now);
        // protocol A2: one record at once, so that the responder may use the epoch too.
        if let Some(at) = self.epoch_at(index) {
            let to = if inside { self.way() } else { Some(self.to(from.target())) };
            if let Some(to) = to {
                self.send_keepalive_to(at, to, core);
            }
        }
        Ok(())
    }

    /// The peer answered what we sent there: that path is proved. From elsewhere it is a candidate.
    fn note_arrival_of_hs2(
        &mut self,
        from: &Arrival,
        proved: bool,
        payload: &Hs2Payload,
        core: &mut Core,
        now: Instant,
    ) {
        match *from {
            Arrival::Direct(path) if proved => self.paths.prove(path, true, &mut core.rng, now),
            Arrival::Direct(path) => {
                let len = sinew_wire::handshake::HS2_LEN;
                self.paths.on_received(path, len, &mut core.rng, now);
            }
            Arrival::Routed { .. } => self.routed = true,
        }
        if let (Arrival::Direct(path), Some(addr)) = (from, payload.observed) {
            core.event(Event::Observed { peer: self.peer, path: *path, addr });
        }
    }

    /// A cookie arrived for the HS1 under way: send it again, with the cookie's mac.
    pub(crate) fn on_cookie(
        &mut self,
        cookie: &Cookie,
        from: &Arrival,
        core: &mut Core,
        now: Instant,
    ) -> Result<(), DropReason> {
        let attempt = self.attempt.as_mut().ok_or(DropReason::UnknownIndex)?;
        let flight = attempt.flight.as_mut().ok_or(DropReason::UnknownIndex)?;
        let target = from.target();
        let aim = attempt.aims.iter_mut().find(|aim| aim.target == target);
        // protocol A2: a cookie never roams an endpoint.
        let aim = aim.ok_or(DropReason::BadHandshake)?;
        let mac1 = Hs1::parse(&flight.message)?.mac1;
        let opened = flight.mac.open_cookie(&cookie.salt, &mac1, &cookie.sealed);
        aim.cookie = Some((opened.map_err(|_| DropReason::BadHandshake)?, now));
        flight.cookies += 1;
        // Whoever can see our HS1 can answer it with cookies; he shall not make us repeat it often.
        if flight.cookies <= 1 {
            self.send_flight(Some(target), core, now);
        }
        Ok(())
    }
}
