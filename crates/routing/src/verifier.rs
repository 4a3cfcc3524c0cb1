//! Checking signatures and chains, behind a trait so that a simulator may share the work.
//!
//! Both checks are pure functions of their arguments, so a memo changes no outcome. The budget
//! of a neighbour is charged as if every check were made, hence not even timing differs.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustc_hash::FxHashMap;
use sinew_types::{Domain, MeshAddr, Metric, NodeId, Seqno, verify};
use sinew_wire::routing::OriginRecord;

use crate::chain::{ChainKey, ChainValue};

/// Keys remembered by a memo before it starts afresh.
const MEMO_MAX: usize = 65_536;
/// Chains remembered per key.
const LADDERS_MAX: usize = 4;

/// A record whose signature holds, with the names that follow from its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The record as signed.
    pub record: OriginRecord,
    /// Who signed.
    pub node: NodeId,
    /// The signer's address.
    pub addr: MeshAddr,
}

/// Checks what origins sign and relays claim.
pub trait Verifier: Send + Sync + fmt::Debug {
    /// The record as an [`Origin`] if its key is a node's and its signature holds.
    fn verify_origin(&self, record: &OriginRecord) -> Option<Arc<Origin>>;

    /// As [`ChainKey::advance`].
    fn advance(&self, key: &ChainKey, from: Metric, value: &ChainValue, to: Metric) -> ChainValue {
        key.advance(from, value, to)
    }
}

/// Newest record by key: A1 wants the costly key check done once per key.
#[derive(Debug, Default)]
struct Known(FxHashMap<[u8; 32], Arc<Origin>>);

impl Known {
    fn check(&mut self, record: &OriginRecord) -> Option<Arc<Origin>> {
        let known = self.0.get(&record.node);
        if let Some(origin) = known.filter(|origin| origin.record == *record) {
            return Some(Arc::clone(origin));
        }
        let names = known.map(|origin| (origin.node, origin.addr));
        let (node, addr) = match names {
            Some(names) => names,
            None => NodeId::parse(&record.node).map(|node| (node, node.address())).ok()?,
        };
        if !verify(&node, Domain::ORIGIN, &record.signed_bytes(), &record.signature) {
            return None;
        }
        let origin = Arc::new(Origin { record: record.clone(), node, addr });
        if self.0.len() >= MEMO_MAX {
            self.0.clear();
        }
        self.0.insert(record.node, Arc::clone(&origin));
        Some(origin)
    }
}

/// Does every check itself; remembers only the newest record of each key.
#[derive(Debug, Default)]
pub struct DirectVerifier(Mutex<Known>);

impl Verifier for DirectVerifier {
    fn verify_origin(&self, record: &OriginRecord) -> Option<Arc<Origin>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).check(record)
    }
}

/// Shared by many routers of one process: every check is made once for all of them, and they
/// share the memory of the records.
#[derive(Debug, Default)]
pub struct SharedMemo {
    known: Mutex<Known>,
    ladders: RwLock<FxHashMap<MeshAddr, Vec<Ladder>>>,
}

impl Verifier for SharedMemo {
    fn verify_origin(&self, record: &OriginRecord) -> Option<Arc<Origin>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).check(record)
    }

    fn advance(&self, key: &ChainKey, from: Metric, value: &ChainValue, to: Metric) -> ChainValue {
        if from >= to {
            return *value;
        }
        let ladders = self.ladders.read().unwrap_or_else(PoisonError::into_inner);
        let known =
            ladders.get(&key.addr).and_then(|all| all.iter().find_map(|l| l.get(key, from, value, to)));
        drop(ladders);
        known.unwrap_or_else(|| self.learn(key, from, value, to))
    }
}

impl SharedMemo {
    fn learn(&self, key: &ChainKey, from: Metric, value: &ChainValue, to: Metric) -> ChainValue {
        let mut ladders = self.ladders.write().unwrap_or_else(PoisonError::into_inner);
        if ladders.len() >= MEMO_MAX {
            ladders.clear();
        }
        let all = ladders.entry(key.addr).or_default();
        let ladder = Ladder::climb(key, from, value);
        let found = ladder.at(to);
        // A ladder that contains an older one replaces it.
        all.retain(|old| !(old.seqno == key.seqno && ladder.find(old.base) == old.steps.first()));
        if all.len() >= LADDERS_MAX {
            all.remove(0);
        }
        all.push(ladder);
        found
    }
}

/// All values of one chain from some metric up to the cap.
#[derive(Debug)]
struct Ladder {
    seqno: Seqno,
    base: u16,
    steps: Vec<ChainValue>,
}

impl Ladder {
    fn climb(key: &ChainKey, from: Metric, value: &ChainValue) -> Self {
        let base = from.units();
        let mut steps = vec![*value];
        for i in base..Metric::UNREACHABLE.units() {
            let next = key.step(i + 1, &steps[usize::from(i - base)]);
            steps.push(next);
        }
        Self { seqno: key.seqno, base, steps }
    }

    fn find(&self, metric: u16) -> Option<&ChainValue> {
        self.steps.get(usize::from(metric.checked_sub(self.base)?))
    }

    fn at(&self, to: Metric) -> ChainValue {
        self.steps[usize::from(to.units() - self.base)]
    }

    fn get(&self, key: &ChainKey, from: Metric, value: &ChainValue, to: Metric) -> Option<ChainValue> {
        let here = self.seqno == key.seqno && self.find(from.units()) == Some(value);
        here.then(|| self.at(to))
    }
}

#[cfg(test)]
mod tests;
