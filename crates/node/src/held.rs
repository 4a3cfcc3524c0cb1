//! Packets that wait for a session, or for a node to know our number for a private network: the first
//! ones to a destination we have not talked to.
//!
//! Bounded per destination and in all, and short-lived: a handshake takes a round trip or two,
//! and a packet older than a second is one its sender has already given up on.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use sinew_overlay::Slot;
use sinew_types::{Instant, InterfaceId, MeshAddr};
use sinew_wire::virtio::VirtioNetHdr;

use crate::worker::Inner;

/// Most packets held for one destination.
const PER_DESTINATION: usize = 32;
/// Most bytes held in all.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// How long a packet is worth holding.
const PATIENCE: Duration = Duration::from_secs(3);

/// One held packet, as it was read from the TUN.
#[derive(Debug)]
pub(crate) struct HeldPacket {
    pub(crate) interface: InterfaceId,
    pub(crate) vnet: VirtioNetHdr,
    pub(crate) packet: Vec<u8>,
    since: Instant,
}

/// The waiting packets by destination and network (0 for the mesh).
#[derive(Debug, Default)]
pub(crate) struct Held {
    by_destination: BTreeMap<(MeshAddr, Slot), VecDeque<HeldPacket>>,
    bytes: usize,
}

impl Held {
    /// Holds a packet; returns how many others (or itself) had to go for it.
    pub(crate) fn push(
        &mut self,
        dst: MeshAddr,
        inner: Inner,
        vnet: VirtioNetHdr,
        packet: &[u8],
        now: Instant,
    ) -> u64 {
        if self.bytes + packet.len() > MAX_BYTES {
            return 1;
        }
        let queue = self.by_destination.entry((dst, inner.network)).or_default();
        let mut dropped = 0;
        if queue.len() >= PER_DESTINATION {
            // The oldest goes: whoever retransmits wants the newest to arrive.
            self.bytes -= queue.pop_front().map_or(0, |old| old.packet.len());
            dropped = 1;
        }
        self.bytes += packet.len();
        queue.push_back(HeldPacket { interface: inner.interface, vnet, packet: packet.to_vec(), since: now });
        dropped
    }

    /// Whether a packet waits for `dst`.
    pub(crate) fn waits_for(&self, dst: &MeshAddr) -> bool {
        self.by_destination.range((*dst, 0)..=(*dst, Slot::MAX)).next().is_some()
    }

    /// For whom packets wait.
    pub(crate) fn destinations(&self) -> Vec<MeshAddr> {
        let mut all: Vec<_> = self.by_destination.keys().map(|(dst, _)| *dst).collect();
        all.dedup();
        all
    }

    /// Takes all packets that wait for `dst`, of whatever network.
    pub(crate) fn take(&mut self, dst: &MeshAddr) -> Vec<HeldPacket> {
        let range = (*dst, 0)..=(*dst, Slot::MAX);
        let keys: Vec<_> = self.by_destination.range(range).map(|(&key, _)| key).collect();
        let taken: Vec<_> = keys.iter().filter_map(|key| self.by_destination.remove(key)).flatten().collect();
        self.bytes -= taken.iter().map(|held| held.packet.len()).sum::<usize>();
        taken
    }

    /// Drops what waits for `dst` in one network; how many.
    pub(crate) fn forget(&mut self, dst: &MeshAddr, network: Slot) -> u64 {
        let queue = self.by_destination.remove(&(*dst, network)).unwrap_or_default();
        self.bytes -= queue.iter().map(|held| held.packet.len()).sum::<usize>();
        queue.len() as u64
    }

    /// Takes out the packets that waited too long.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<HeldPacket> {
        let mut expired = Vec::new();
        for queue in self.by_destination.values_mut() {
            while queue.front().is_some_and(|held| now.since(held.since) >= PATIENCE) {
                expired.extend(queue.pop_front());
            }
        }
        self.bytes -= expired.iter().map(|held| held.packet.len()).sum::<usize>();
        self.by_destination.retain(|_, queue| !queue.is_empty());
        expired
    }

    /// When the oldest packet is given up.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.by_destination.values().filter_map(VecDeque::front).map(|held| held.since + PATIENCE).min()
    }
}
