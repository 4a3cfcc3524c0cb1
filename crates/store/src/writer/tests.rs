//! Order, acknowledgement, a full queue, and a disk that fails and recovers.

use std::sync::mpsc::{Sender, channel};

use super::*;
use crate::store::Table;

fn one(key: &[u8], value: &[u8]) -> Batch {
    let mut batch = Batch::new();
    batch.put(Table::Journal, key, value).unwrap();
    batch
}

fn tell<T: Send + 'static>(to: &Sender<(T, bool)>, what: T) -> Done {
    let to = to.clone();
    Box::new(move |result| {
        let _ = to.send((what, result.is_ok()));
    })
}

#[test]
fn batches_are_acknowledged_in_order_and_the_last_one_wins() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let writer = Writer::start(Store::open(&path).unwrap(), 1000).unwrap();
    let (sender, told) = channel();
    for at in 0..500_u32 {
        writer.submit(one(b"k", &at.to_be_bytes()), tell(&sender, at)).unwrap();
    }
    writer.close();
    drop(sender);
    let told: Vec<_> = told.iter().collect();
    assert_eq!(told, (0..500).map(|at| (at, true)).collect::<Vec<_>>());
    let store = Store::open(&path).unwrap();
    assert_eq!(store.all(Table::Journal).unwrap(), [(b"k".to_vec(), 499_u32.to_be_bytes().to_vec())]);
}

#[test]
fn a_full_queue_gives_the_batch_back_and_never_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let writer = Writer::start(Store::open(&folder.path().join("store")).unwrap(), 2).unwrap();
    let (entered, at_work) = channel();
    let (release, gate) = channel::<()>();
    let hold: Done = Box::new(move |_| {
        entered.send(()).unwrap();
        gate.recv().unwrap();
    });
    writer.submit(one(b"0", b""), hold).unwrap();
    at_work.recv().unwrap();
    let (sender, told) = channel();
    for at in 1..=2 {
        writer.submit(one(&[at], b""), tell(&sender, at)).unwrap();
    }
    let rejected = writer.submit(one(&[3], b""), tell(&sender, 3)).unwrap_err();
    assert!(!rejected.ended);
    assert_eq!(rejected.batch, one(&[3], b""));
    release.send(()).unwrap();
    assert_eq!([told.recv().unwrap(), told.recv().unwrap()], [(1, true), (2, true)]);
    writer.submit(rejected.batch, rejected.done).unwrap();
    assert_eq!(told.recv().unwrap(), (3, true));
}
