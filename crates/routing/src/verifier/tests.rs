use super::*;
use crate::tests::puppet::Puppet;

fn key(puppet: &Puppet) -> ChainKey {
    ChainKey { addr: puppet.addr, seqno: puppet.record.seqno }
}

#[test]
fn the_memo_answers_as_the_direct_computation_does() {
    let (memo, direct) = (SharedMemo::default(), DirectVerifier::default());
    let puppets = [Puppet::new(1), Puppet::new(2), Puppet::at(1, 9)];
    for round in 0..3 {
        for puppet in &puppets {
            for (from, to) in [(500, 700), (0, 1023), (3, 4), (700, 1023), (1022, 1023), (5, 5), (9, 2)] {
                let (from, to) = (Metric::new(from), Metric::new(to));
                for value in [puppet.chain(from.units()), [round; 16]] {
                    let expected = direct.advance(&key(puppet), from, &value, to);
                    assert_eq!(memo.advance(&key(puppet), from, &value, to), expected, "{from:?} {to:?}");
                }
            }
        }
    }
}

#[test]
fn a_liars_values_do_not_grow_the_memo() {
    let (memo, puppet) = (SharedMemo::default(), Puppet::new(1));
    for lie in 0..100 {
        memo.advance(&key(&puppet), Metric::new(900), &[lie; 16], Metric::UNREACHABLE);
    }
    assert!(memo.ladders.read().expect("not poisoned").values().all(|all| all.len() <= LADDERS_MAX));
}

#[test]
fn records_are_checked_each_time_they_differ() {
    for verifier in [&DirectVerifier::default() as &dyn Verifier, &SharedMemo::default()] {
        let (first, second, other) = (Puppet::new(1), Puppet::at(1, 9), Puppet::new(2));
        let known = verifier.verify_origin(&first.record).expect("signed");
        assert_eq!((known.node, known.addr), (first.id, first.addr));
        assert!(Arc::ptr_eq(&known, &verifier.verify_origin(&first.record).expect("remembered")));
        assert!(verifier.verify_origin(&second.record).is_some());
        let mut swapped = second.record.clone();
        swapped.signature = first.record.signature;
        assert!(verifier.verify_origin(&swapped).is_none());
        let mut stolen = other.record;
        stolen.node = *first.id.as_bytes();
        assert!(verifier.verify_origin(&stolen).is_none());
        stolen.node = [0; 32];
        assert!(verifier.verify_origin(&stolen).is_none(), "no key at all");
    }
}
