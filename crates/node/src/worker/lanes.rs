//! This worker's sending lanes: one per session and way to reach it.
//!
//! A lane belongs to one worker and one path (protocol A3): records that overtake each other on
//! two paths of different length then meet two replay windows instead of one.

use rustc_hash::FxHashMap;
use sinew_session::{SealLane, SessionView};
use sinew_types::{DropReason, MeshAddr};
use sinew_wire::record::DataHeader;

/// The way to a session: straight (`None`), or through a neighbour.
pub(crate) type Via = Option<MeshAddr>;

struct Held {
    epoch: u64,
    generation: u32,
    lane: SealLane,
}

/// Lanes by session and way.
#[derive(Default)]
pub(crate) struct Lanes {
    held: FxHashMap<(MeshAddr, Via), Held>,
}

impl Lanes {
    /// The lane for `session` by way of `via`, taken anew when the epoch or the path has changed.
    pub(crate) fn get(&mut self, session: &SessionView, via: Via) -> Result<&mut SealLane, DropReason> {
        let epoch = session.epoch.as_ref().ok_or(DropReason::NoSession)?;
        // Only a straight way changes with the session's own path; a relay's path is the relay's.
        let generation = if via.is_none() { session.generation } else { 0 };
        let key = (session.addr, via);
        let current = |held: &Held| held.epoch == epoch.id() && held.generation == generation;
        if !self.held.get(&key).is_some_and(current) {
            match epoch.take_lane() {
                Some(lane) => {
                    self.held.insert(key, Held { epoch: epoch.id(), generation, lane });
                }
                // All lanes are given out; a rekey is on its way. Reordering against the old
                // path may cost records until then, stopping would cost all of them.
                None => return self.any_of(session.addr, epoch.id()),
            }
        }
        self.held.get_mut(&key).map(|held| &mut held.lane).ok_or(DropReason::LaneExhausted)
    }

    fn any_of(&mut self, session: MeshAddr, epoch: u64) -> Result<&mut SealLane, DropReason> {
        self.held
            .iter_mut()
            .filter(|((addr, _), held)| *addr == session && held.epoch == epoch)
            .min_by_key(|((_, via), _)| *via)
            .map(|(_, held)| &mut held.lane)
            .ok_or(DropReason::LaneExhausted)
    }

    /// The session in which a record with this header was sent.
    pub(crate) fn sender_of(&self, header: &DataHeader) -> Option<MeshAddr> {
        let sent = |held: &Held| held.lane.has_sent(header.receiver, header.nonce);
        self.held.iter().find(|(_, held)| sent(held)).map(|((addr, _), _)| *addr)
    }

    /// Drops every lane of a closed session, and with it this worker's hold on its keys.
    pub(crate) fn forget(&mut self, session: &MeshAddr) {
        self.held.retain(|(addr, _), _| addr != session);
    }
}
