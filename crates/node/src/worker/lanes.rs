//! This worker's sending lanes: one per session and way to reach it.
//!
//! A lane belongs to one worker and one path (protocol A3): records that overtake each other on
//! two paths of different length then meet two replay windows instead of one.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;
use sinew_session::{SealLane, SessionView};
use sinew_types::{DropReason, Instant, MeshAddr};
use sinew_wire::record::{DataHeader, counter_of};

/// How long a record is remembered for error reports about it (protocol A4.5).
const MEMORY: Duration = Duration::from_secs(10);
/// How often a lane notes how far it has come; so much longer a record may be remembered.
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// The way to a session: straight (`None`), or through a neighbour.
pub(crate) type Via = Option<MeshAddr>;

struct Held {
    epoch: u64,
    generation: u32,
    lane: SealLane,
    /// When the lane was last asked for.
    used: Instant,
    /// Everything below a counter was sent not after its time; in order, the first is due to go.
    notes: VecDeque<(Instant, u64)>,
}

impl Held {
    fn new(epoch: u64, generation: u32, lane: SealLane) -> Self {
        Self { epoch, generation, lane, used: Instant::ZERO, notes: VecDeque::new() }
    }

    fn at_work(&mut self, now: Instant) -> &mut SealLane {
        let due = |&(last, _): &(Instant, u64)| self.used.since(last) >= NOTE_EVERY;
        if self.used < now && self.notes.back().is_none_or(due) {
            self.notes.push_back((self.used, self.lane.sent()));
            while self.notes.get(1).is_some_and(|&(at, _)| now.since(at) >= MEMORY) {
                self.notes.pop_front();
            }
        }
        self.used = now;
        &mut self.lane
    }

    /// Whether this lane sent the record, and not too long ago.
    fn remembers(&self, header: &DataHeader, now: Instant) -> bool {
        let last = (self.used, self.lane.sent());
        let old = self.notes.iter().chain([&last]).filter(|&&(at, _)| now.since(at) >= MEMORY);
        let forgotten = old.map(|&(_, counter)| counter).max().unwrap_or(0);
        self.lane.has_sent(header.receiver, header.nonce) && counter_of(header.nonce) >= forgotten
    }
}

/// Lanes by session and way.
#[derive(Default)]
pub(crate) struct Lanes {
    held: FxHashMap<(MeshAddr, Via), Held>,
}

impl Lanes {
    /// The lane for a record of `session` by way of `via`.
    pub(crate) fn get(
        &mut self,
        session: &SessionView,
        via: Via,
        now: Instant,
    ) -> Result<&mut SealLane, DropReason> {
        self.held(session, via).map(|held| held.at_work(now))
    }

    /// The lane of a link, for what is only sealed as far as the neighbour: no error report ever
    /// quotes that.
    pub(crate) fn link(&mut self, session: &SessionView) -> Result<&mut SealLane, DropReason> {
        self.held(session, None).map(|held| &mut held.lane)
    }

    /// Takes a lane anew when the epoch or the path has changed.
    fn held(&mut self, session: &SessionView, via: Via) -> Result<&mut Held, DropReason> {
        let epoch = session.epoch.as_ref().ok_or(DropReason::NoSession)?;
        // Only a straight way changes with the session's own path; a relay's path is the relay's.
        let generation = if via.is_none() { session.generation } else { 0 };
        let key = (session.addr, via);
        let current = |held: &Held| held.epoch == epoch.id() && held.generation == generation;
        if !self.held.get(&key).is_some_and(current) {
            match epoch.take_lane() {
                Some(lane) => {
                    self.held.insert(key, Held::new(epoch.id(), generation, lane));
                }
                // All lanes are given out; a rekey is on its way. Reordering against the old
                // path may cost records until then, stopping would cost all of them.
                None => return self.any_of(session.addr, epoch.id()),
            }
        }
        self.held.get_mut(&key).ok_or(DropReason::LaneExhausted)
    }

    fn any_of(&mut self, session: MeshAddr, epoch: u64) -> Result<&mut Held, DropReason> {
        self.held
            .iter_mut()
            .filter(|((addr, _), held)| *addr == session && held.epoch == epoch)
            .min_by_key(|((_, via), _)| *via)
            .map(|(_, held)| held)
            .ok_or(DropReason::LaneExhausted)
    }

    /// The session in which a record with this header was sent in the last ten seconds.
    pub(crate) fn sender_of(&self, header: &DataHeader, now: Instant) -> Option<MeshAddr> {
        self.held.iter().find(|(_, held)| held.remembers(header, now)).map(|((addr, _), _)| *addr)
    }

    /// Drops every lane of a closed session, and with it this worker's hold on its keys.
    pub(crate) fn forget(&mut self, session: &MeshAddr) {
        self.held.retain(|(addr, _), _| addr != session);
    }
}
