use sinew_types::MeshAddr;

use super::*;
use crate::tests::puppet::{Puppet, START_MS};

fn origin(seqno: u64) -> Arc<Origin> {
    let puppet = Puppet::at(1, START_MS + seqno);
    let addr: MeshAddr = puppet.addr;
    Arc::new(Origin { record: puppet.record, node: puppet.id, addr })
}

fn rank(seqno: u64) -> PackedRank {
    PackedRank::new(Seqno::new(START_MS + seqno), Metric::ONE)
}

#[test]
fn only_proofs_in_use_are_kept() {
    let mut dest = Destination::new(origin(0), Instant::ZERO);
    dest.add_proof(Proof::new(origin(0), Instant::FAR_FUTURE));
    let link = dest.link_mut(4);
    link.adv = Some(rank(0));
    link.set(PROVEN, true);
    for seqno in [3, 1, 2, 9, 5] {
        dest.add_proof(Proof::new(origin(seqno), Instant::FAR_FUTURE));
    }
    let kept: Vec<_> = dest.proofs.iter().map(|proof| proof.seqno().value() - START_MS).collect();
    // The one a neighbour's claim rests on, the newest, and the one just come.
    assert_eq!(kept, [0, 9, 5]);
    assert_eq!(dest.origin.record.seqno.value(), START_MS + 9);
}

#[test]
fn requests_add_up_and_lapse() {
    let mut dest = Destination::new(origin(0), Instant::ZERO);
    let at = |s: u64| Instant::from_micros(s * 1_000_000);
    dest.add_want(1, Seqno::new(5), at(0));
    dest.add_want(2, Seqno::new(7), at(10));
    dest.add_want(1, Seqno::new(3), at(20));
    assert_eq!((dest.want(1), dest.wanted()), (Some(Seqno::new(5)), Some(Seqno::new(7))));
    dest.expire_wants(at(40));
    assert_eq!((dest.want(2), dest.wanted()), (None, Some(Seqno::new(5))));
    dest.remove_link(1);
    assert_eq!(dest.wanted(), None);
}

#[test]
fn links_stay_sorted_by_slot() {
    let mut dest = Destination::new(origin(0), Instant::ZERO);
    for slot in [5, 1, 3, 1] {
        dest.link_mut(slot).adv = Some(rank(u64::from(slot)));
    }
    assert_eq!(dest.links.iter().map(|link| link.slot).collect::<Vec<_>>(), [1, 3, 5]);
    assert_eq!(dest.remove_link(3).and_then(|link| link.adv), Some(rank(3)));
    assert!(dest.link(3).is_none() && dest.link(5).is_some());
}
