//! One keypair of an association, and when it is renewed, retired and erased (protocol A3).

use std::sync::Arc;
use std::time::Duration;

use sinew_noise::{Cipher, RecordKey, SplitKeys};
use sinew_types::{Instant, NodeId, Rng};

use crate::keys::{MAX_LANES, OpenEpoch, SealEpoch, SealLane, Traffic};
use crate::timers::earlier;

const REKEY_INITIATOR: Duration = Duration::from_secs(120);
const REKEY_JITTER: Duration = Duration::from_secs(10);
const REKEY_RESPONDER: Duration = Duration::from_secs(150);
/// How long an unused session waits before it looks again whether it is used.
const REKEY_RECHECK: Duration = Duration::from_secs(5);
/// How often a key in use is checked for wear.
const WEAR_CHECK: Duration = Duration::from_secs(10);
/// No sending from this age on.
const REJECT: Duration = Duration::from_secs(180);
/// Erased at this age.
const ERASE: Duration = Duration::from_secs(195);
/// A replaced epoch is erased after so long without a record.
const IDLE: Duration = Duration::from_secs(15);
/// Waits before each repetition of the confirming record.
const CONFIRM_MS: [u64; 6] = [250, 250, 500, 1000, 2000, 4000];
/// Without an answer for so long, the peer has given up its side.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(10);

/// What both halves are made from.
pub(crate) struct Material<'a> {
    pub(crate) peer: NodeId,
    pub(crate) keys: &'a SplitKeys,
    pub(crate) cipher: Cipher,
    /// Our index.
    pub(crate) index: u32,
    /// The peer's index.
    pub(crate) receiver: u32,
    /// Lanes the peer will receive on.
    pub(crate) peer_lanes: u8,
    pub(crate) id: u64,
    pub(crate) traffic: &'a Arc<Traffic>,
}

impl Material<'_> {
    pub(crate) fn halves(&self) -> (Arc<OpenEpoch>, Arc<SealEpoch>) {
        let receive = RecordKey::derive(&self.keys.receive, self.cipher, &self.keys.hash);
        let send = RecordKey::derive(&self.keys.send, self.cipher, &self.keys.hash);
        let open = OpenEpoch::new(self.peer, self.index, receive, MAX_LANES, Arc::clone(self.traffic));
        let lanes = self.peer_lanes.clamp(1, MAX_LANES);
        let seal = SealEpoch::new(self.id, self.receiver, send, self.keys.hash, lanes);
        (Arc::new(open), Arc::new(seal))
    }
}

/// The repeated first record of an initiator.
#[derive(Debug)]
struct Confirm {
    next: Instant,
    step: usize,
}

/// One keypair in use.
#[derive(Debug)]
pub(crate) struct Epoch {
    pub(crate) open: Arc<OpenEpoch>,
    pub(crate) seal: Arc<SealEpoch>,
    /// For what the machine itself seals.
    pub(crate) lane: SealLane,
    pub(crate) generation: u32,
    /// Whether we sent the HS1.
    pub(crate) ours: bool,
    pub(crate) born: Instant,
    /// Order of installation, to prefer the later of two of the same generation and initiator.
    pub(crate) id: u64,
    /// A record came back: both sides have it.
    pub(crate) mutual: bool,
    confirm: Option<Confirm>,
    rekey_at: Instant,
    wear_at: Instant,
    sent_at_birth: u64,
    retired: bool,
    /// For an epoch that is not preferred: records seen, and when it was looked at.
    idle: Option<(u64, Instant)>,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Repeat the confirming record.
    Confirm,
    /// The peer never answered.
    Unconfirmed,
    /// Look whether it is used, and renew it if so.
    Rekey,
    /// No more sending.
    Retire,
    /// Gone.
    Erase,
}

impl Epoch {
    pub(crate) fn new(
        open: Arc<OpenEpoch>,
        seal: Arc<SealEpoch>,
        generation: u32,
        ours: bool,
        rng: &mut Rng,
        now: Instant,
    ) -> Self {
        let jitter = Duration::from_micros(rng.below(REKEY_JITTER.as_micros() as u64));
        let rekey = if ours { REKEY_INITIATOR + jitter } else { REKEY_RESPONDER };
        let lane = seal.take_lane().expect("a fresh epoch has at least one lane");
        Self {
            generation,
            ours,
            born: now,
            id: seal.id(),
            mutual: !ours,
            confirm: ours.then(|| Confirm { next: now + Duration::from_millis(CONFIRM_MS[0]), step: 1 }),
            rekey_at: now + rekey,
            wear_at: now + WEAR_CHECK,
            sent_at_birth: open.traffic().counts().tx_packets,
            retired: false,
            idle: None,
            open,
            seal,
            lane,
        }
    }

    pub(crate) fn index(&self) -> u32 {
        self.open.index()
    }

    /// Whether records may be sealed with it.
    pub(crate) fn is_usable(&self) -> bool {
        !self.retired
    }

    /// A record opened under it.
    pub(crate) fn on_record(&mut self) {
        self.open.confirm();
        self.mutual = true;
        self.confirm = None;
    }

    /// Whether a record opened under it.
    pub(crate) const fn is_confirmed(&self) -> bool {
        self.mutual
    }

    /// Whether anything was sent since it was made but the confirming record.
    fn is_used(&self) -> bool {
        self.open.traffic().counts().tx_packets > self.sent_at_birth + 1
    }

    /// Whether a successor should be made now. `kept`: the session is to stay even if idle.
    pub(crate) fn wants_successor(&mut self, kept: bool, now: Instant) -> bool {
        if self.wear_at <= now {
            self.wear_at = now + WEAR_CHECK;
        }
        let old = self.rekey_at <= now;
        if old {
            self.rekey_at = now + REKEY_RECHECK;
        }
        self.seal.is_worn() || old && (kept || self.is_used())
    }

    /// The preferred epoch is watched for age and wear, others for idleness.
    pub(crate) fn set_preferred(&mut self, preferred: bool, now: Instant) {
        if preferred {
            self.idle = None;
        } else if self.idle.is_none() {
            self.idle = Some((self.open.records(), now + IDLE));
        }
    }

    /// What is due; asked until nothing is.
    pub(crate) fn poll_due(&mut self, now: Instant) -> Option<Due> {
        if self.born + ERASE <= now {
            return Some(Due::Erase);
        }
        if let Some((records, at)) = self.idle
            && at <= now
        {
            if self.open.records() == records {
                return Some(Due::Erase);
            }
            self.idle = Some((self.open.records(), now + IDLE));
        }
        if !self.retired && self.born + REJECT <= now {
            self.retired = true;
            self.seal.kill();
            return Some(Due::Retire);
        }
        if !self.mutual && self.born + CONFIRM_PATIENCE <= now {
            return Some(Due::Unconfirmed);
        }
        if let Some(confirm) = self.confirm.as_mut().filter(|c| c.next <= now) {
            let wait = CONFIRM_MS[confirm.step.min(CONFIRM_MS.len() - 1)];
            confirm.step += 1;
            confirm.next = now + Duration::from_millis(wait);
            return Some(Due::Confirm);
        }
        (!self.retired && self.idle.is_none() && self.rekey_at.min(self.wear_at) <= now).then_some(Due::Rekey)
    }

    pub(crate) fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let mut next = Some((self.born + ERASE, "epoch erasure"));
        if !self.retired {
            next = earlier(next, Some((self.born + REJECT, "epoch retirement")));
            if self.idle.is_none() {
                next = earlier(next, Some((self.rekey_at.min(self.wear_at), "rekey")));
            }
        }
        if !self.mutual {
            next = earlier(next, Some((self.born + CONFIRM_PATIENCE, "confirmation patience")));
        }
        next = earlier(next, self.idle.map(|(_, at)| (at, "idle epoch")));
        earlier(next, self.confirm.as_ref().map(|c| (c.next, "confirmation")))
    }
}
