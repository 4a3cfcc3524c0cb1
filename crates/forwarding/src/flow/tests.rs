//! The flow number.

use std::hash::{DefaultHasher, Hasher};

use super::*;
use crate::offload::testing::{Model, echo_v6, fragment_v6};

fn hash(key: &FlowKey, packet: &[u8]) -> u16 {
    key.hash(&PacketInfo::parse(packet).unwrap())
}

#[test]
fn siphash_matches_its_reference() {
    // The first vector of the reference implementation: no input, key 00..=0f.
    let key = FlowKey::new(std::array::from_fn(|i| i as u8));
    assert_eq!(key.siphash(&[]).to_le_bytes(), [0xdc, 0xc4, 0x0f, 0x05, 0x58, 0x01, 0xac, 0xab]);
    // The standard library's hasher is the same function under a key of zeros.
    let key = FlowKey::new([0; 16]);
    let words = [3, u64::MAX, 0, 0x0123_4567_89ab_cdef, 9];
    for len in 0..=words.len() {
        let mut oracle = DefaultHasher::new();
        words[..len].iter().for_each(|word| oracle.write(&word.to_le_bytes()));
        assert_eq!(key.siphash(&words[..len]), oracle.finish(), "{len} words");
    }
}

#[test]
fn packets_of_one_flow_have_one_number_and_it_depends_on_the_key() {
    let keys: Vec<_> = (0..8).map(|i| FlowKey::new([i; 16])).collect();
    let numbers: Vec<_> = keys.iter().map(|key| hash(key, &Model::tcp(false, 10).build())).collect();
    for (key, number) in keys.iter().zip(&numbers) {
        let other = Model { seq: 5, flags: 1, ttl: 3, tos: 3, ..Model::tcp(false, 900) };
        assert_eq!(hash(key, &other.build()), *number);
    }
    assert!(numbers.iter().any(|number| *number != numbers[0]));
}

#[test]
fn each_part_of_the_tuple_counts() {
    let key = FlowKey::new([1; 16]);
    let base = Model::tcp(false, 10);
    let others = [
        Model { host: 7, ..base.clone() },
        Model { ports: (1, 443), ..base.clone() },
        Model { ports: (40_000, 1), ..base.clone() },
        Model { ports: (443, 40_000), ..base.clone() },
        Model::udp(false, 10),
        Model::tcp(true, 10),
    ];
    for other in others {
        assert_ne!(hash(&key, &other.build()), hash(&key, &base.build()), "{other:?}");
    }
    hash(&key, &echo_v6(1));
}

#[test]
fn all_fragments_of_a_packet_have_one_number() {
    let key = FlowKey::new([1; 16]);
    let packet = Model::udp(false, 800).build();
    let first = fragment_v6(&packet, 0, true);
    let later = fragment_v6(&packet, 20, false);
    assert_eq!(hash(&key, &first), hash(&key, &later));
}

#[test]
fn numbers_spread_evenly() {
    let key = FlowKey::new([9; 16]);
    let mut buckets = [0u32; 16];
    for port in 0..16_000 {
        let model = Model { ports: (port, 443), ..Model::tcp(false, 0) };
        buckets[usize::from(hash(&key, &model.build()) & 15)] += 1;
    }
    assert!(buckets.iter().all(|count| (850..1150).contains(count)), "{buckets:?}");
}
