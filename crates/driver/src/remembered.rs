//! Peers that were good, over a restart: with all entries into the mesh out of reach, they are the way back.
//!
//! A value is the time of the last success, Unix microseconds, eight bytes little-endian, and the node
//! record after it.

use sinew_node::Node;
use sinew_node::directory::book::REMEMBERED_MAX;
use sinew_store::{Batch, Entry, Table};
use sinew_types::{Instant, NodeId, UnixMicros};

use crate::persist::Persist;

pub(crate) fn store(persist: &Persist, node: &NodeId, record: &[u8], proven: UnixMicros) {
    persist.put(Table::Peers, node.as_bytes(), &[&proven.to_le_bytes(), record].concat());
}

/// Tells the node of the newest, and forgets the rest.
pub(crate) fn restore(node: &mut Node, persist: &Persist, entries: &[Entry], now: Instant) {
    let read = |(key, value): &Entry| {
        let (proven, record) = value.split_first_chunk::<8>()?;
        Some((u64::from_le_bytes(*proven), key.clone(), record.to_vec()))
    };
    let mut known: Vec<_> = entries.iter().filter_map(read).collect();
    known.sort_unstable_by(|a, b| b.cmp(a));
    let surplus = known.split_off(known.len().min(REMEMBERED_MAX));
    for (proven, _, record) in known {
        node.handle_remembered(&record, proven, now);
    }
    let mut batch = Batch::new();
    for (_, key, _) in &surplus {
        batch.delete(Table::Peers, key);
    }
    if !batch.is_empty() {
        persist.submit(batch, |_| {});
    }
}
