//! What operators let this worker send: to each neighbour, and for others altogether.
//!
//! Buckets are made and taken away by the control side, when links and settings change; packets only draw
//! on them. Without a limit a packet pays for one comparison. What the control side sends (routing,
//! keepalives, handshakes of our own, error reports) does not come by here: a limit must not take the mesh
//! down that it is for.

use rustc_hash::FxHashMap;
use sinew_forwarding::Meter;
use sinew_types::{DropReason, Instant, MeshAddr, Rate};

/// Every limit in force.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    transit: Option<Meter>,
    /// By the neighbour's address; only of links that have a limit.
    links: FxHashMap<MeshAddr, Meter>,
}

impl Meters {
    /// Sets what passes for others; an unchanged limit keeps its bucket.
    pub(crate) fn set_transit(&mut self, rate: Option<Rate>, now: Instant) {
        if self.transit.as_ref().map(Meter::rate) != rate {
            self.transit = rate.map(|rate| Meter::new(rate, now));
        }
    }

    /// Sets what goes over a link; an unchanged limit keeps its bucket.
    pub(crate) fn set_link(&mut self, link: MeshAddr, rate: Option<Rate>, now: Instant) {
        if self.links.get(&link).map(Meter::rate) == rate {
            return;
        }
        match rate {
            None => self.links.remove(&link),
            Some(rate) => self.links.insert(link, Meter::new(rate, now)),
        };
    }

    /// Draws for a record of this node's own traffic.
    #[inline]
    pub(super) fn draw_own(&mut self, link: &MeshAddr, bytes: usize, now: Instant) -> Result<(), DropReason> {
        if self.links.is_empty() { Ok(()) } else { self.draw(link, bytes, now, false) }
    }

    /// Draws for a record of somebody else.
    #[inline]
    pub(super) fn draw_transit(
        &mut self,
        link: &MeshAddr,
        bytes: usize,
        now: Instant,
    ) -> Result<(), DropReason> {
        if self.links.is_empty() && self.transit.is_none() {
            return Ok(());
        }
        self.draw(link, bytes, now, true)
    }

    /// From all buckets that count, or from none: what one refuses must not cost another.
    #[inline(never)]
    fn draw(&mut self, link: &MeshAddr, bytes: usize, now: Instant, transit: bool) -> Result<(), DropReason> {
        let mut link = self.links.get_mut(link);
        let mut transit = self.transit.as_mut().filter(|_| transit);
        if link.as_mut().is_some_and(|meter| !meter.admits(bytes, now)) {
            return Err(DropReason::PeerLimit);
        }
        if transit.as_mut().is_some_and(|meter| !meter.admits(bytes, now)) {
            return Err(DropReason::TransitLimit);
        }
        for meter in [link, transit].into_iter().flatten() {
            meter.take(bytes);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use sinew_types::Identity;

    use super::*;

    fn addr(n: u8) -> MeshAddr {
        Identity::from_seed([n; 32]).node_id().address()
    }

    fn rate(text: &str) -> Option<Rate> {
        text.parse().ok()
    }

    /// Bytes that pass at one moment, of records of 1,000.
    fn passes(mut draw: impl FnMut() -> Result<(), DropReason>) -> (usize, DropReason) {
        for n in 0..100_000 {
            if let Err(reason) = draw() {
                return (n * 1000, reason);
            }
        }
        (usize::MAX, DropReason::Unsupported)
    }

    const UNLIMITED: (usize, DropReason) = (usize::MAX, DropReason::Unsupported);

    #[test]
    fn each_link_has_a_bucket_of_its_own_and_others_traffic_one_besides() {
        let now = Instant::ZERO;
        let mut meters = Meters::default();
        assert_eq!(passes(|| meters.draw_transit(&addr(1), 1000, now)), UNLIMITED);
        meters.set_link(addr(1), rate("20 Mbit/s"), now);
        meters.set_transit(rate("10 Mbit/s"), now);
        // Three quarters of 300 ms.
        assert_eq!(passes(|| meters.draw_transit(&addr(2), 1000, now)), (281_000, DropReason::TransitLimit));
        assert_eq!(passes(|| meters.draw_own(&addr(2), 1000, now)), UNLIMITED);
        // What the one limit refused was not taken from the other.
        assert_eq!(passes(|| meters.draw_transit(&addr(1), 1000, now)), (0, DropReason::TransitLimit));
        assert_eq!(passes(|| meters.draw_own(&addr(1), 1000, now)), (562_000, DropReason::PeerLimit));
        meters.set_transit(None, now);
        assert_eq!(passes(|| meters.draw_transit(&addr(1), 1000, now)), (0, DropReason::PeerLimit));
    }

    #[test]
    fn a_limit_set_again_gives_no_new_burst_and_one_taken_away_is_gone() {
        let now = Instant::ZERO;
        let mut meters = Meters::default();
        for expected in [562_000, 0] {
            meters.set_link(addr(1), rate("20 Mbit/s"), now);
            meters.set_transit(rate("20 Mbit/s"), now);
            assert_eq!(passes(|| meters.draw_transit(&addr(1), 1000, now)).0, expected);
        }
        assert_eq!(passes(|| meters.draw_own(&addr(1), 1000, now)), (0, DropReason::PeerLimit));
        meters.set_link(addr(1), None, now);
        meters.set_transit(None, now);
        assert_eq!(passes(|| meters.draw_transit(&addr(1), 1000, now)), UNLIMITED);
        assert!(meters.links.is_empty());
    }
}
