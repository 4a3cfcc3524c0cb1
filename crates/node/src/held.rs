//! Packets that wait for a session: the first ones to a destination we have not talked to.
//!
//! Bounded per destination and in all, and short-lived: a handshake takes a round trip or two,
//! and a packet older than a second is one its sender has already given up on.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use sinew_types::{Instant, MeshAddr};
use sinew_wire::virtio::VirtioNetHdr;

/// Most packets held for one destination.
const PER_DESTINATION: usize = 32;
/// Most bytes held in all.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// How long a packet is worth holding.
const PATIENCE: Duration = Duration::from_secs(3);

/// One held packet, as it was read from the TUN.
#[derive(Debug)]
pub(crate) struct HeldPacket {
    pub(crate) vnet: VirtioNetHdr,
    pub(crate) packet: Vec<u8>,
    since: Instant,
}

/// The waiting packets by destination.
#[derive(Debug, Default)]
pub(crate) struct Held {
    by_destination: BTreeMap<MeshAddr, VecDeque<HeldPacket>>,
    bytes: usize,
}

impl Held {
    /// Holds a packet; returns how many others (or itself) had to go for it.
    pub(crate) fn push(&mut self, dst: MeshAddr, vnet: VirtioNetHdr, packet: &[u8], now: Instant) -> u64 {
        if self.bytes + packet.len() > MAX_BYTES {
            return 1;
        }
        let queue = self.by_destination.entry(dst).or_default();
        let mut dropped = 0;
        if queue.len() >= PER_DESTINATION {
            // The oldest goes: whoever retransmits wants the newest to arrive.
            self.bytes -= queue.pop_front().map_or(0, |old| old.packet.len());
            dropped = 1;
        }
        self.bytes += packet.len();
        queue.push_back(HeldPacket { vnet, packet: packet.to_vec(), since: now });
        dropped
    }

    /// Whether a packet waits for `dst`.
    pub(crate) fn waits_for(&self, dst: &MeshAddr) -> bool {
        self.by_destination.contains_key(dst)
    }

    /// Takes all packets that wait for `dst`.
    pub(crate) fn take(&mut self, dst: &MeshAddr) -> VecDeque<HeldPacket> {
        let queue = self.by_destination.remove(dst).unwrap_or_default();
        self.bytes -= queue.iter().map(|held| held.packet.len()).sum::<usize>();
        queue
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
