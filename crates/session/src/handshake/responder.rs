//! The gate: what becomes of handshakes that others start (protocol A2).
//!
//! The order is cheap to dear, and nothing is stored before the initiator's key is known:
//!
//! ```text
//! shape → mac1 → repetition of the pending one → load: cookie → rate, share
//!       → Noise es, ss → list → NodeId → stamp → generation → Noise ee, se → HS2, one pending slot
//! ```
//! An answered HS1 occupies the one pending slot of its identity for ten seconds. It changes nothing
//! else: HS1 can be replayed, and forged by a thief of our key. Only the first record under the
//! epoch moves it into the association (`Sessions::confirm`).

use std::sync::Arc;
use std::time::Duration;

use sinew_noise::hash::sha256;
use sinew_noise::mac::{routed_source, underlay_source};
use sinew_noise::{Cipher, CipherSet, Received, Responder, choose};
use sinew_types::{DropReason, Instant, NodeId};
use sinew_wire::handshake::{
    Cookie, FLAG_STUB, FLAG_WANTS_ADJACENCY, HS1_LEN, HS2_LEN, Hs1, Hs1Payload, Hs2, Hs2Payload, Hs2Status,
};

use super::gate::{MAX_PENDING, MAX_RESENDS, PENDING_LIFE, Pending};
use super::{Delayed, VERSION};
use crate::association::{Association, Told};
use crate::config::Accept;
use crate::epoch::{Epoch, Material};
use crate::event::{Arrival, Event, To};
use crate::keys::{MAX_LANES, Traffic};
use crate::ratelimit::SourceKey;
use crate::sessions::{MAX_BUFFERED, Sessions};
use crate::shared::Core;

/// A handshake message that has passed the cheap checks.
struct Hello {
    from: Arrival,
    message: [u8; HS1_LEN],
    hs1: Hs1,
    /// Whose session it came through, for a rekey inside.
    inside: Option<NodeId>,
    digest: [u8; 32],
    /// Its answer was put off once.
    waited: bool,
}

/// What a cookie is bound to.
fn cookie_source(from: &Arrival) -> [u8; 18] {
    match from {
        Arrival::Direct(path) => underlay_source(&path.remote),
        Arrival::Routed { src, .. } => routed_source(src),
    }
}

/// Where an answer goes to somebody we may not know.
fn back(from: &Arrival) -> To {
    match *from {
        Arrival::Direct(path) => To::Path(path),
        Arrival::Routed { src, .. } => To::Routed(src),
    }
}

/// How long the answer of the lower side of a simultaneous opening waits.
const DELAY: Duration = Duration::from_millis(250);
/// A message that comes more often over relays does so because our answers to it are lost on theirs.
const LATE: u8 = 2;

impl Sessions {
    /// HS1 in clear.
    pub(crate) fn on_hs1(&mut self, message: &[u8], from: Arrival, now: Instant) -> Result<(), DropReason> {
        let hs1 = Hs1::parse(message)?;
        let message: [u8; HS1_LEN] = message.try_into().map_err(|_| DropReason::Malformed)?;
        let covered = Hs1::mac1_input(&message);
        let secrets = &self.core.secrets;
        let secret = secrets.iter().position(|s| s.to_us.verify_mac1(covered, &hs1.mac1));
        let secret = secret.ok_or(DropReason::BadMac1)?;
        let digest = sha256(&[covered]);
        let hello = Hello { from, message, hs1, inside: None, digest, waited: false };
        if self.resend(&hello) {
            return Ok(());
        }
        self.gate.load.on_arrival(now);
        if self.gate.load.is_high(now) && !self.has_cookie(&hello, now) {
            self.send_cookie(&hello, secret, now);
            return Err(DropReason::CookieRequired);
        }
        let admitted = self.gate.buckets.take(SourceKey::of(&from), now) && self.gate.shares.take(&from, now);
        if !admitted {
            return Err(DropReason::RateLimited);
        }
        self.read_hs1(&hello, secret, now)
    }

    /// HS1 as kind 3 of a session: no macs, no queue, since the session already vouches for it.
    pub(crate) fn on_hs1_inside(
        &mut self,
        message: &[u8],
        peer: NodeId,
        from: Arrival,
        now: Instant,
    ) -> Result<(), DropReason> {
        let hs1 = Hs1::parse(message)?;
        let message: [u8; HS1_LEN] = message.try_into().map_err(|_| DropReason::Malformed)?;
        let digest = sha256(&[Hs1::mac1_input(&message)]);
        let hello = Hello { from, message, hs1, inside: Some(peer), digest, waited: false };
        if self.resend(&hello) {
            return Ok(());
        }
        // Known or not, nobody has more than his share of our time.
        if !self.gate.buckets.take(SourceKey::Inside(peer), now) {
            return Err(DropReason::RateLimited);
        }
        self.read_hs1(&hello, 0, now)
    }

    /// An answer that was put off is due.
    pub(crate) fn on_delayed(&mut self, peer: NodeId, delayed: &Delayed, now: Instant) {
        let Ok(hs1) = Hs1::parse(&delayed.message) else { return };
        let covered = Hs1::mac1_input(&delayed.message);
        let secrets = &self.core.secrets;
        let secret = secrets.iter().position(|s| s.to_us.verify_mac1(covered, &hs1.mac1)).unwrap_or(0);
        let digest = sha256(&[covered]);
        let inside = delayed.inside.then_some(peer);
        let hello = Hello { from: delayed.from, message: delayed.message, hs1, inside, digest, waited: true };
        // Whatever is wrong with it by now was counted when it came.
        let _ = self.read_hs1(&hello, secret, now);
    }

    /// A byte-identical repetition of the pending HS1 gets the stored HS2 again.
    fn resend(&mut self, hello: &Hello) -> bool {
        let Some(peer) = self.gate.by_digest.get(&hello.digest).copied() else { return false };
        let Some(pending) = self.gate.pending.get_mut(&peer) else { return false };
        if pending.resends < MAX_RESENDS {
            pending.resends += 1;
            pending.note_answered(&hello.from);
            let hs2 = pending.hs2;
            if let (true, Arrival::Routed { ingress, .. }) = (pending.resends > LATE, hello.from) {
                self.core.event(Event::Unanswered { peer, ingress: Some(ingress) });
            }
            self.answer(peer, hello, &hs2);
        }
        true
    }

    fn answer(&mut self, peer: NodeId, hello: &Hello, hs2: &[u8; HS2_LEN]) {
        if hello.inside.is_none() {
            self.core.send(Some(peer), back(&hello.from), hs2.to_vec());
        } else if let Some(association) = self.peers.get_mut(&peer) {
            association.send_inside(hs2, &mut self.core);
        }
    }

    fn has_cookie(&mut self, hello: &Hello, now: Instant) -> bool {
        let source = cookie_source(&hello.from);
        let covered = Hs1::mac2_input(&hello.message);
        self.gate.jar.verify_mac2(covered, &hello.hs1.mac2, &source, now)
    }

    fn send_cookie(&mut self, hello: &Hello, secret: usize, now: Instant) {
        let cookie = self.gate.jar.cookie(&cookie_source(&hello.from), now);
        let salt = self.core.rng.array();
        let sealed = self.core.secrets[secret].to_us.seal_cookie(&salt, &hello.hs1.mac1, &cookie);
        let bytes = Cookie { receiver: hello.hs1.sender, salt, sealed }.emit();
        self.core.send(None, back(&hello.from), bytes.to_vec());
    }

    /// The dear part.
    fn read_hs1(&mut self, hello: &Hello, secret: usize, now: Instant) -> Result<(), DropReason> {
        let (received, payload, secret) = self.open_hs1(hello, secret)?;
        let peer = self.identify(hello, &received, &payload)?;
        if !(payload.ver_min..=payload.ver_max).contains(&VERSION) || payload.assoc_own == 0 {
            return Err(DropReason::Unsupported);
        }
        let pending = self.gate.pending.get(&peer).map_or(0, |pending| pending.stamp);
        let newest = self.gate.stamps.get(&peer).max(pending);
        if payload.stamp <= newest {
            return self.answer_stale(peer, hello, received, &payload, newest, secret, now);
        }
        self.check_generation(&peer, &payload)?;
        if self.must_wait(&peer, hello, now) {
            return Ok(());
        }
        self.answer_fresh(peer, hello, received, &payload, now)
    }

    fn open_hs1(
        &mut self,
        hello: &Hello,
        secret: usize,
    ) -> Result<(Received, Hs1Payload, usize), DropReason> {
        let seed = self.core.rng.array();
        let read = |core: &Core, secret: usize| {
            let psk = &core.secrets[secret].psk;
            let read = Responder::read(&core.config.identity, psk, &hello.hs1.noise, seed);
            let received = read.map_err(|_| DropReason::BadHandshake)?;
            let payload = Hs1Payload::parse(&received.payload).map_err(|_| DropReason::BadHandshake)?;
            Ok::<_, DropReason>((received, payload))
        };
        let (received, payload) = read(&self.core, secret)?;
        // mac1 has told which mesh secret it is; inside a session only the payload does.
        let named = self.core.secrets.iter().position(|s| s.id == payload.psk_id);
        match named.ok_or(DropReason::BadHandshake)? {
            named if named == secret => Ok((received, payload, secret)),
            other if hello.inside.is_some() => {
                let (received, payload) = read(&self.core, other)?;
                Ok((received, payload, other))
            }
            _ => Err(DropReason::BadHandshake),
        }
    }

    /// Who it is, and whether we speak to him.
    fn identify(
        &mut self,
        hello: &Hello,
        received: &Received,
        payload: &Hs1Payload,
    ) -> Result<NodeId, DropReason> {
        let listed = self.gate.listed_keys.contains(&received.x25519);
        if self.core.config.accept == Accept::Listed && !listed {
            return Err(DropReason::NotListed);
        }
        let peer = NodeId::from_x25519(&received.x25519, payload.sign_bit);
        let peer = peer.map_err(|_| DropReason::BadHandshake)?;
        if peer == self.core.own {
            self.core.event(Event::DuplicateIdentity { node: peer, from: hello.from });
            return Err(DropReason::SelfHandshake);
        }
        // protocol A2: over relays the proved identity must own the source it is answered at.
        if let Arrival::Routed { src, .. } = hello.from
            && hello.inside.is_none()
            && src != peer.address()
        {
            return Err(DropReason::BadHandshake);
        }
        if hello.inside.is_some_and(|inside| inside != peer) {
            return Err(DropReason::BadHandshake);
        }
        if self.addresses.get(&peer.address()).is_some_and(|known| *known != peer) {
            self.core.event(Event::DuplicateIdentity { node: peer, from: hello.from });
            return Err(DropReason::BadHandshake);
        }
        Ok(peer)
    }

    /// Tells the newest stamp, and stores nothing about the handshake (protocol A2).
    #[expect(clippy::too_many_arguments, reason = "one step of the gate, split off for its length")]
    fn answer_stale(
        &mut self,
        peer: NodeId,
        hello: &Hello,
        received: Received,
        payload: &Hs1Payload,
        newest: u64,
        secret: usize,
        now: Instant,
    ) -> Result<(), DropReason> {
        let free = hello.inside.is_some() || self.gate.may_answer_stale(peer, now);
        if !free && !self.has_cookie(hello, now) {
            self.send_cookie(hello, secret, now);
            return Err(DropReason::CookieRequired);
        }
        let answer = Hs2Payload {
            status: Hs2Status::Stale,
            cipher: 0,
            flags: 0,
            ver: VERSION,
            max_lanes: 0,
            rx_max: 0,
            assoc_own: 0,
            assoc_peer: payload.assoc_own,
            last_stamp: newest,
            features: 0,
            observed: None,
            generation: payload.generation,
        };
        let reply = received.responder.reply(&answer.emit());
        let (noise, _keys) = reply.map_err(|_| DropReason::BadHandshake)?;
        let hs2 = Hs2 { sender: 0, receiver: hello.hs1.sender, noise };
        self.answer(peer, hello, &hs2.emit());
        Err(DropReason::StaleHandshake)
    }

    /// protocol A2: an HS1 of the same pair that could only make an epoch nobody would use is not
    /// answered.
    fn check_generation(&self, peer: &NodeId, payload: &Hs1Payload) -> Result<(), DropReason> {
        let Some(association) = self.peers.get(peer) else { return Ok(()) };
        // 0: sent before the peer had heard of our id, but under its own that we know.
        let knows_us = payload.assoc_peer == association.own || payload.assoc_peer == 0;
        if !(association.up && association.their == payload.assoc_own && knows_us) {
            return Ok(());
        }
        let won = association.epochs.iter().any(|e| e.mutual && e.ours && e.generation == payload.generation);
        let lost = payload.generation < association.generation || won && self.core.own < *peer;
        if lost { Err(DropReason::StaleHandshake) } else { Ok(()) }
    }

    /// Two that open at once: the lower NodeId puts its answer off, the higher one stops repeating
    /// (protocol A2). `true`: the answer waits.
    fn must_wait(&mut self, peer: &NodeId, hello: &Hello, now: Instant) -> bool {
        let lower = self.core.own < *peer;
        let Some(association) = self.peers.get_mut(peer) else { return false };
        let put_off = association.delayed.as_ref().is_some_and(|d| d.message == hello.message);
        if put_off {
            return true;
        }
        let Some(attempt) = association.attempt.as_mut().filter(|attempt| attempt.is_recent(now)) else {
            return false;
        };
        if !lower {
            attempt.quiet = true;
            return false;
        }
        if hello.waited {
            return false;
        }
        association.delayed = Some(Delayed {
            until: now + DELAY,
            message: hello.message,
            from: hello.from,
            inside: hello.inside.is_some(),
        });
        true
    }

    fn answer_fresh(
        &mut self,
        peer: NodeId,
        hello: &Hello,
        received: Received,
        payload: &Hs1Payload,
        now: Instant,
    ) -> Result<(), DropReason> {
        self.make_room(&peer, hello, now)?;
        let ours = self.core.config.ciphers;
        let cipher = choose(ours, CipherSet(payload.ciphers)).ok_or(DropReason::Unsupported)?;
        let (own, traffic, wants_adjacency) = self.pending_identity(&peer, hello);
        let answer = self.answer_payload(hello, payload, cipher, own, wants_adjacency);
        let reply = received.responder.reply(&answer.emit());
        let (noise, keys) = reply.map_err(|_| DropReason::BadHandshake)?;
        self.gate.drop_pending(&peer, &mut self.core, now);
        let core = &mut self.core;
        let index = core.indexes.allocate(peer, &mut core.rng, now);
        let (open, seal) = Material {
            peer,
            keys: &keys,
            cipher,
            index,
            receiver: hello.hs1.sender,
            peer_lanes: payload.max_lanes,
            id: core.next_id(),
            traffic: &traffic,
        }
        .halves();
        core.keys.insert_epoch(Arc::clone(&open));
        let hs2 = Hs2 { sender: index, receiver: hello.hs1.sender, noise }.emit();
        let mut pending = Pending {
            digest: hello.digest,
            hs2,
            resends: 0,
            answered: Vec::new(),
            open,
            seal,
            own,
            their: payload.assoc_own,
            generation: payload.generation,
            stamp: payload.stamp,
            told: Told::from(payload),
            wants_adjacency,
            inside: hello.inside.is_some(),
            expires: now + PENDING_LIFE,
            source: SourceKey::of(&hello.from),
        };
        pending.note_answered(&hello.from);
        self.gate.insert(peer, pending);
        self.answer(peer, hello, &hs2);
        Ok(())
    }

    fn answer_payload(
        &self,
        hello: &Hello,
        payload: &Hs1Payload,
        cipher: Cipher,
        own: u64,
        wants_adjacency: bool,
    ) -> Hs2Payload {
        let observed = match hello.from {
            Arrival::Direct(path) if hello.inside.is_none() => Some(path.remote),
            _ => None,
        };
        let stub = if self.core.is_stub() { FLAG_STUB } else { 0 };
        let adjacency = if wants_adjacency { FLAG_WANTS_ADJACENCY } else { 0 };
        Hs2Payload {
            status: Hs2Status::Ok,
            cipher: cipher.code(),
            flags: stub | adjacency,
            ver: VERSION,
            max_lanes: MAX_LANES,
            rx_max: self.core.config.rx_max,
            assoc_own: own,
            assoc_peer: payload.assoc_own,
            last_stamp: payload.stamp,
            features: 0,
            observed,
            generation: payload.generation,
        }
    }

    /// Limits on pending handshakes and on sessions.
    fn make_room(&mut self, peer: &NodeId, hello: &Hello, now: Instant) -> Result<(), DropReason> {
        let known = |p: &NodeId| self.listed.contains(p) || self.peers.contains_key(p);
        if !self.gate.pending.contains_key(peer) && self.gate.pending.len() >= MAX_PENDING {
            // Whoever we know goes before strangers.
            let stranger = self.gate.expiry.iter().map(|&(_, p)| p).find(|p| !known(p));
            match stranger.filter(|_| known(peer)) {
                Some(stranger) => self.gate.drop_pending(&stranger, &mut self.core, now),
                None => return Err(DropReason::TableFull),
            }
        }
        if self.listed.contains(peer) || self.peers.contains_key(peer) {
            return Ok(());
        }
        // protocol A5: control buffers are bounded in all.
        let remote = matches!(hello.from, Arrival::Routed { .. });
        if remote && self.core.buffered > MAX_BUFFERED || self.is_crowded(SourceKey::of(&hello.from)) {
            return Err(DropReason::TableFull);
        }
        Ok(())
    }

    /// Our half of the id, the counters, and whether we would be neighbours.
    fn pending_identity(&mut self, peer: &NodeId, hello: &Hello) -> (u64, Arc<Traffic>, bool) {
        // Whoever renews keys inside a session asks for nothing new, whatever path the record took.
        let direct = matches!(hello.from, Arrival::Direct(_)) && hello.inside.is_none();
        let adjacent = self.core.config.adjacency;
        if let Some(association) = self.peers.get(peer) {
            let wants = association.wants_adjacency || direct && adjacent;
            return (association.own, Arc::clone(&association.traffic), wants && !association.barred);
        }
        let (own, traffic) = match self.gate.pending.get(peer) {
            Some(pending) => (pending.own, Arc::clone(pending.open.traffic())),
            None => (self.core.association_id(), Arc::default()),
        };
        (own, traffic, direct && adjacent)
    }

    /// The first record under a pending epoch opened: now, and only now, it counts (protocol A2).
    pub(crate) fn promote(&mut self, peer: NodeId, from: Arrival, now: Instant) {
        let Some(pending) = self.gate.take(&peer) else { return };
        if !self.admit(&peer, &pending, now) {
            return pending.discard(&mut self.core, now);
        }
        let core = &mut self.core;
        let Some(association) = self.peers.get_mut(&peer) else { return };
        // Closed and opened again meanwhile: the answer went out under a name that is gone.
        if association.own != pending.own {
            return pending.discard(core, now);
        }
        self.gate.stamps.raise(peer, pending.stamp);
        let (open, seal) = (Arc::clone(&pending.open), Arc::clone(&pending.seal));
        let epoch = Epoch::new(open, seal, pending.generation, false, &mut core.rng, now);
        let index = epoch.index();
        association.wants_adjacency |= pending.wants_adjacency;
        association.meet(pending.their, from, core);
        association.install(epoch, pending.their, pending.told, core, now);
        if let Some(at) = association.epoch_at(index) {
            association.confirm(at, core, now);
        }
        association.note_first_record(&pending, &from, core, now);
        // The initiator repeats its record until it hears from us.
        if let Some(at) = association.epoch_at(index) {
            let to = association.to(from.target());
            association.send_keepalive_to(at, to, core);
        }
    }
}

impl Association {
    /// A round trip through the source proves the path: HS2 went there, the record came from there.
    fn note_first_record(&mut self, pending: &Pending, from: &Arrival, core: &mut Core, now: Instant) {
        match *from {
            Arrival::Direct(path) if pending.answered.contains(&path) && !pending.inside => {
                self.paths.prove(path, false, &mut core.rng, now);
            }
            Arrival::Direct(path) => self.paths.on_received(path, HS2_LEN, &mut core.rng, now),
            Arrival::Routed { .. } => self.routed = true,
        }
    }
}
