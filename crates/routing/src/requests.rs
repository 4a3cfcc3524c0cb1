//! Asking for freshness: the way out when nothing feasible is left (routing-model D4, D5).
//!
//! A request travels towards the origin along next hops; where a relay has none, to everyone who
//! advertises the destination. The answer is an UPDATE with the asked seqno; it is told to those
//! who asked and to nobody else. A relay remembers who asked ([`Destination::wants`]) and repeats
//! the request on its own timer: a lost or blocked request must not starve anyone.
//!
//! [`Destination::wants`]: crate::destination::Destination

use sinew_types::{Instant, Seqno};

use crate::destination::{FORCE, PROVEN};
use crate::neighbour::Slot;
use crate::rank::PackedRank;
use crate::router::Router;
use crate::rules::Rule;
use crate::selection::{out_of_reach, selectable};
use crate::table::Key;

impl Router {
    /// Sends a request to one neighbour.
    pub(crate) fn request(&mut self, key: Key, slot: Slot, seqno: Seqno) {
        let Some(neighbour) = self.neighbours.get_mut(slot) else { return };
        let asked = neighbour.seqno_requests.entry(key).or_insert(seqno);
        *asked = seqno.max(*asked);
        self.neighbours.mark_ready(slot);
    }

    /// Asks everyone who advertises the destination.
    pub(crate) fn ask_everyone(&mut self, key: Key, seqno: Seqno) {
        let Some(dest) = self.table.get(key) else { return };
        let slots: Vec<_> = dest.links.iter().filter(|l| l.adv.is_some()).map(|l| l.slot).collect();
        for slot in slots {
            self.request(key, slot, seqno);
        }
    }

    /// Passes the highest pending request on: to the next hop, else to every advertiser that is
    /// not itself waiting for us.
    pub(crate) fn forward(&mut self, key: Key) {
        let Some(dest) = self.table.get(key) else { return };
        let Some(seqno) = dest.asked else { return };
        let slots = match dest.next_hop.filter(|&slot| dest.want(slot).is_none()) {
            Some(slot) => vec![slot],
            None => {
                let open = dest.links.iter().filter(|l| l.adv.is_some() && dest.want(l.slot).is_none());
                open.map(|link| link.slot).collect()
            }
        };
        for slot in slots {
            self.request(key, slot, seqno);
        }
    }

    /// A neighbour asks for a seqno of somebody else's origin.
    pub(crate) fn answer_as_relay(&mut self, key: Key, slot: Slot, seqno: Seqno, now: Instant) {
        let (Some(dest), Some(neighbour)) = (self.table.get(key), self.neighbours.get(slot)) else { return };
        // D4: accepted only from those we would tell, or it pins us to the asked seqno for ever.
        if !dest.admitted || !self.tells_others(dest, neighbour) {
            return;
        }
        let fresh = dest.own.is_some_and(|own| own.seqno() >= seqno);
        if fresh && dest.next_hop != Some(slot) {
            return self.mark(key, slot, FORCE, now);
        }
        let Some(dest) = self.table.get_mut(key) else { return };
        dest.add_want(slot, seqno, now);
        if dest.asked.is_none_or(|asked| asked < seqno) {
            dest.asked = Some(seqno);
            self.forward(key);
        }
        self.reselect(key, now);
    }

    /// Repeats what has not been answered.
    pub(crate) fn retry(&mut self, key: Key, now: Instant) {
        let Some(dest) = self.table.get_mut(key) else { return };
        dest.expire_wants(now);
        dest.asked = dest.wanted();
        let pending = dest.asked.is_some();
        let starved = dest.admitted && dest.next_hop.is_none();
        if starved && let Some(seqno) = dest.next_seqno() {
            self.ask_everyone(key, seqno);
        }
        if pending && self.rules.hold(Rule::RelaysRepeat) {
            self.forward(key);
        }
        if self.rules.hold(Rule::AskForBetter) {
            self.ask_for_better(key);
        }
        self.ask_for_records(key);
    }

    /// D5: an infeasible path that would be significantly shorter is asked for, or "shortest"
    /// becomes false for ever once a metric has fallen and risen.
    fn ask_for_better(&mut self, key: Key) {
        let Some((dest, fd)) = self.table.get(key).and_then(|dest| Some((dest, dest.fd?))) else { return };
        let mut asks = Vec::new();
        for link in &dest.links {
            let (Some(adv), Some(neighbour)) = (link.adv, self.neighbours.get(link.slot)) else { continue };
            let metric = adv.metric().plus(neighbour.cost());
            let feasible = selectable(dest, link.slot, adv, self.rules);
            if !feasible && out_of_reach(metric, dest.metric(), self.config.significance) {
                let behind = adv.seqno() < fd.seqno();
                asks.push((link.slot, if behind { fd.seqno() } else { fd.seqno().next() }));
            }
        }
        for (slot, seqno) in asks {
            self.request(key, slot, seqno);
        }
    }

    /// Asks for the records that would prove what could be selected.
    pub(crate) fn ask_for_records(&mut self, key: Key) {
        let Some(dest) = self.table.get(key) else { return };
        let addr = dest.origin.addr;
        let useful =
            |adv: Option<PackedRank>, slot| adv.is_some_and(|adv| selectable(dest, slot, adv, self.rules));
        let unproven = dest.links.iter().filter(|l| !l.has(PROVEN) && useful(l.adv, l.slot));
        let slots: Vec<_> = unproven.map(|link| link.slot).collect();
        for slot in slots {
            self.request_record(slot, addr);
        }
    }

    pub(crate) fn request_record(&mut self, slot: Slot, addr: sinew_types::MeshAddr) {
        let Some(neighbour) = self.neighbours.get_mut(slot) else { return };
        neighbour.record_requests.insert(addr);
        self.neighbours.mark_ready(slot);
    }
}
