use std::sync::Arc;

use sinew_types::{Class, Identity, Instant, Seqno};

use super::*;
use crate::neighbour::Neighbour;
use crate::tests::puppet::Puppet;
use crate::verifier::Origin;

/// What one neighbour says: cost of the link, seqno, metric, proven.
type Said = (u16, u64, u16, bool);

fn rank(seqno: u64, metric: u16) -> PackedRank {
    PackedRank::new(Seqno::new(seqno), Metric::new(metric))
}

fn scene(said: &[Said]) -> (Destination, Neighbours) {
    let puppet = Puppet::new(200);
    let origin = Origin { record: puppet.record.clone(), node: puppet.id, addr: puppet.addr };
    let mut dest = Destination::new(Arc::new(origin), Instant::ZERO);
    dest.admitted = true;
    let mut neighbours = Neighbours::default();
    for (name, &(cost, seqno, metric, proven)) in said.iter().enumerate() {
        let id = Identity::from_seed([name as u8; 32]).node_id();
        let neighbour = Neighbour::new(id, Class::Router, Metric::new(cost), Metric::ONE, Instant::ZERO);
        let slot = neighbours.insert(neighbour).expect("room");
        let link = dest.link_mut(slot);
        link.adv = Some(rank(seqno, metric));
        link.set(PROVEN, proven);
    }
    (dest, neighbours)
}

#[test]
fn the_least_feasible_metric_wins() {
    // said, fd, next hop, wanted seqno; selected slot and own metric
    type Row = (&'static [Said], Option<(u64, u16)>, Option<Slot>, Option<u64>, Option<(Slot, u16)>);
    let table: [Row; 13] = [
        (&[(1, 1, 5, true), (1, 1, 4, true)], None, None, None, Some((1, 5))),
        // The link counts.
        (&[(1, 1, 5, true), (3, 1, 4, true)], None, None, None, Some((0, 6))),
        // Ties keep the next hop, else the lowest slot.
        (&[(1, 1, 5, true), (1, 1, 5, true)], None, Some(1), None, Some((1, 6))),
        (&[(1, 1, 5, true), (1, 1, 5, true)], None, None, None, Some((0, 6))),
        // The infeasible is out, however short the whole.
        (&[(1, 1, 5, true), (9, 1, 3, true)], Some((1, 5)), None, None, Some((1, 12))),
        (&[(1, 1, 5, true)], Some((1, 5)), None, None, None),
        // A newer seqno is always feasible.
        (&[(1, 2, 50, true)], Some((1, 5)), None, None, Some((0, 51))),
        // D2: the next hop stays though infeasible, unless something feasible is shorter.
        (&[(1, 1, 9, true)], Some((1, 5)), Some(0), None, Some((0, 10))),
        (&[(1, 1, 9, true), (2, 1, 4, true)], Some((1, 5)), Some(0), None, Some((1, 6))),
        // What a request asks for goes before the shorter.
        (&[(1, 1, 3, true), (1, 2, 30, true)], None, Some(0), Some(2), Some((1, 31))),
        (&[(1, 1, 3, true), (1, 2, 30, true)], None, Some(0), Some(3), Some((0, 4))),
        // Unproven is nothing (protocol finding 17).
        (&[(1, 1, 3, false), (1, 1, 30, true)], None, None, None, Some((1, 31))),
        // The cap is no route.
        (&[(1, 1, 1022, true)], None, None, None, None),
    ];
    for (said, fd, next_hop, wanted, expected) in table {
        let (mut dest, neighbours) = scene(said);
        dest.fd = fd.map(|(seqno, metric)| rank(seqno, metric));
        dest.next_hop = next_hop;
        if let Some(seqno) = wanted {
            dest.add_want(9, Seqno::new(seqno), Instant::ZERO);
        }
        let found = survey(&dest, &neighbours, None, Rules::default());
        let best = found.best.map(|pick| (pick.slot, pick.own.metric().units()));
        assert_eq!(best, expected, "{said:?} fd {fd:?} next {next_hop:?} wanted {wanted:?}");
    }
}

#[test]
fn what_is_out_of_reach_is_seen() {
    let (mut dest, neighbours) = scene(&[(1, 1, 9, true), (1, 1, 6, true), (1, 1, 2, false)]);
    (dest.fd, dest.next_hop) = (Some(rank(1, 5)), Some(0));
    let found = survey(&dest, &neighbours, None, Rules::default());
    assert!(found.unproven && found.better_out_of_reach(Significance::DAMPED));
    dest.admitted = false;
    let found = survey(&dest, &neighbours, None, Rules::default());
    assert!(found.best.is_none() && !found.unproven, "the evicted have no candidates");
}
