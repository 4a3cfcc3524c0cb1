//! A packet may meet a host again only if that host's feasibility distance improved in between
//! (routing-model D9). The end-to-end tag at the end of a routed record stays the same from hop
//! to hop, so a packet is known by it although no hop can read it.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;
use sinew_types::{Instant, Rank};

use super::Violation;

/// Packets under observation; older ones have long arrived.
const MOST: usize = 65_536;

/// The end of a routed datagram: the inner record's tag.
pub(crate) type Tail = [u8; 16];

#[derive(Debug)]
struct Packet {
    dst: usize,
    visits: Vec<(usize, Rank)>,
}

/// Where each packet has been.
#[derive(Debug, Default)]
pub(crate) struct Revisits {
    packets: FxHashMap<Tail, Packet>,
    order: VecDeque<Tail>,
}

/// The tail of a routed datagram.
pub(crate) fn tail(datagram: &[u8]) -> Option<Tail> {
    datagram.last_chunk().copied()
}

impl Revisits {
    /// A packet for host `dst` leaves its source.
    pub(crate) fn depart(&mut self, tail: Tail, dst: usize) {
        if self.order.len() >= MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.packets.remove(&oldest);
        }
        self.order.push_back(tail);
        self.packets.insert(tail, Packet { dst, visits: Vec::new() });
    }

    /// The destination of a known packet.
    pub(crate) fn destination(&self, tail: &Tail) -> Option<usize> {
        self.packets.get(tail).map(|packet| packet.dst)
    }

    /// `host` sends the packet on, its feasibility distance being `fd`.
    pub(crate) fn pass(&mut self, tail: &Tail, host: usize, fd: Rank, now: Instant) -> Result<(), Violation> {
        let Some(packet) = self.packets.get_mut(tail) else { return Ok(()) };
        if packet.visits.contains(&(host, fd)) {
            let text = format!(
                "a packet for host {} passed host {host} twice at the same distance {fd:?}; it came by {:?}",
                packet.dst, packet.visits
            );
            return Err(Violation::new(now, "revisits", text));
        }
        packet.visits.push((host, fd));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sinew_types::{Metric, Seqno};

    use super::*;

    #[test]
    fn a_second_visit_needs_a_better_distance() {
        let rank = |seqno| Rank { seqno: Seqno::new(seqno), metric: Metric::ONE };
        let mut check = Revisits::default();
        let tail = [7; 16];
        check.depart(tail, 5);
        assert!(check.pass(&tail, 1, rank(1), Instant::ZERO).is_ok());
        assert!(check.pass(&tail, 2, rank(1), Instant::ZERO).is_ok());
        assert!(check.pass(&tail, 1, rank(2), Instant::ZERO).is_ok());
        assert!(check.pass(&tail, 1, rank(1), Instant::ZERO).is_err());
        assert!(check.pass(&[8; 16], 1, rank(1), Instant::ZERO).is_ok());
    }
}
