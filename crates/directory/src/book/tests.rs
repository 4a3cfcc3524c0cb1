use sinew_types::Identity;

use super::*;
use crate::record::Own;

fn identity(n: u16) -> Identity {
    let mut seed = [3; 32];
    seed[..2].copy_from_slice(&n.to_le_bytes());
    Identity::from_seed(seed)
}

fn checked(n: u16, seq: u64) -> Checked {
    let identity = identity(n);
    let place = Place {
        addr: format!("203.0.113.{}:{}", 1 + n % 200, 1000 + seq % 1000).parse().unwrap(),
        carriers: vec![sinew_types::CarrierKind::Udp],
    };
    let record = Own { places: vec![place], ..Own::default() }.sign(&identity, seq);
    Checked { node: identity.node_id(), record }
}

fn rng() -> Rng {
    Rng::new([1; 32])
}

#[test]
fn the_newest_record_wins_whatever_the_order() {
    let (mut book, mut rng, now) = (Book::default(), rng(), Instant::ZERO);
    assert_eq!(book.note(checked(1, 5), Source::Directory, &mut rng, now), Ok(true));
    assert_eq!(book.note(checked(1, 5), Source::Directory, &mut rng, now), Ok(false), "the same again");
    assert_eq!(book.note(checked(1, 4), Source::Lan, &mut rng, now), Err(Refusal::Older), "replayed");
    assert_eq!(book.note(checked(1, 6), Source::Directory, &mut rng, now), Ok(true));
    let mut twin = checked(1, 6);
    twin.record.stub = true;
    assert_eq!(book.note(twin, Source::Directory, &mut rng, now), Err(Refusal::Older), "same number");
    assert_eq!(book.len(), 1);
    assert_eq!(book.get(&identity(1).node_id()).unwrap().record.seq, 6);
}

#[test]
fn whoever_tells_of_many_pushes_out_what_he_told_himself() {
    let (mut book, mut rng, now) = (Book::default(), rng(), Instant::ZERO);
    let (honest, liar) = (identity(9000).node_id(), identity(9001).node_id());
    for n in 0..8 {
        book.note(checked(n, 1), Source::Exchange(honest), &mut rng, now).unwrap();
        book.note(checked(100 + n, 1), Source::Lan, &mut rng, now).unwrap();
    }
    for n in 1000..2000 {
        book.note(checked(n, 1), Source::Exchange(liar), &mut rng, now).unwrap();
    }
    let of = |source| book.iter().filter(|(_, known)| known.source == source).count();
    assert_eq!((of(Source::Exchange(honest)), of(Source::Lan), of(Source::Exchange(liar))), (8, 8, 16));
}

#[test]
fn what_was_reached_is_not_pushed_out_by_anybody() {
    let (mut book, mut rng, now) = (Book::default(), rng(), Instant::ZERO);
    let good = identity(1).node_id();
    book.note(checked(1, 1), Source::Directory, &mut rng, now).unwrap();
    book.succeeded(&good, 7);
    for n in 1000..2000 {
        book.note(checked(n, 1), Source::Directory, &mut rng, now).unwrap();
    }
    assert_eq!(book.get(&good).unwrap().proven, Some(7));
    assert_eq!(book.len(), 65);
    book.expire(u64::MAX);
    assert_eq!(book.len(), 1, "and is kept when all else is void");
}

#[test]
fn pauses_grow_and_news_of_another_place_ends_them() {
    let (mut book, mut rng, now) = (Book::default(), rng(), Instant::ZERO);
    let node = identity(1).node_id();
    book.note(checked(1, 1), Source::Directory, &mut rng, now).unwrap();
    let mut last = Duration::ZERO;
    for _ in 0..4 {
        book.failed(&node, false, &mut rng, now);
        let pause = book.get(&node).unwrap().after.since(now);
        assert!(pause > last, "{pause:?} after {last:?}");
        last = pause;
    }
    book.note(checked(1, 2), Source::Directory, &mut rng, now).unwrap();
    assert_eq!((book.get(&node).unwrap().after, book.get(&node).unwrap().failures), (now, 0));
    for _ in 0..6 {
        book.failed(&node, false, &mut rng, now);
    }
    assert!(book.is_empty(), "what never answered is forgotten");
}
