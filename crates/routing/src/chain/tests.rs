use super::*;
use crate::tests::puppet::Puppet;
use crate::verifier::DirectVerifier;

fn proof(puppet: &Puppet, verifier: &DirectVerifier) -> Proof {
    let origin = verifier.verify_origin(&puppet.record).expect("signed");
    Proof::new(origin, Instant::FAR_FUTURE)
}

#[test]
fn a_genuine_value_proves_its_metric_and_nothing_lower() {
    let (puppet, verifier) = (Puppet::new(1), DirectVerifier::default());
    for metric in [0, 1, 7, 500, 1022] {
        let mut fresh = proof(&puppet, &verifier);
        let value = puppet.chain(metric);
        for claimed in [0, 1, 6, 7, 8, 499, 500, 1022] {
            let genuine = fresh.verify(Metric::new(claimed), &value, &verifier);
            assert_eq!(genuine, claimed == metric, "h_{metric} shown as {claimed}");
        }
    }
}

#[test]
fn the_lowest_value_seen_is_the_base_of_all_that_follows() {
    let (puppet, verifier) = (Puppet::new(1), DirectVerifier::default());
    let mut proof = proof(&puppet, &verifier);
    // metric claimed, price, base afterwards
    for (metric, price, low) in [(100, 923, 100), (120, 20, 100), (90, 10, 90), (95, 5, 90)] {
        assert_eq!(proof.price(Metric::new(metric)), price);
        assert!(proof.verify(Metric::new(metric), &puppet.chain(metric), &verifier));
        assert_eq!(proof.low, Metric::new(low));
    }
    assert_eq!(proof.prove(Metric::new(89), &verifier), None);
    assert_eq!(proof.prove(Metric::new(90), &verifier), Some(puppet.chain(90)));
    assert_eq!(proof.prove(Metric::new(400), &verifier), Some(puppet.chain(400)));
}

#[test]
fn every_step_depends_on_address_seqno_and_position() {
    let (a, b, later) = (Puppet::new(1), Puppet::new(2), Puppet::at(1, 7));
    let key = |p: &Puppet| ChainKey { addr: p.addr, seqno: p.record.seqno };
    let step = |p: &Puppet, i| key(p).step(i, &[0; 16]);
    let all = [step(&a, 1), step(&a, 2), step(&b, 1), step(&later, 1)];
    for (i, x) in all.iter().enumerate() {
        assert!(all.iter().skip(i + 1).all(|y| x != y));
    }
}

/// Protocol A6, computed by hand (Python hashlib) for the documentation's test vector.
#[test]
fn the_first_step_is_the_one_of_the_protocol() {
    let addr =
        MeshAddr::from_bytes([0xfd, 0x3f, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]).expect("in range");
    let key = ChainKey { addr, seqno: Seqno::new(0x0102_0304_0506) };
    assert_eq!(key.step(1, &[0xaa; 16]), VECTOR);
    let two = key.advance(Metric::ZERO, &[0xaa; 16], Metric::new(2));
    assert_eq!(two, key.step(2, &VECTOR));
}

const VECTOR: ChainValue =
    [0xa4, 0x6a, 0x02, 0xfe, 0x23, 0xde, 0x5f, 0x0d, 0x24, 0xfd, 0x1a, 0x09, 0x52, 0xbe, 0x46, 0x51];
