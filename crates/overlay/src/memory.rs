//! A bounded memory of document ids: what a peer is known to have, what was looked at and not taken.

use std::collections::{BTreeSet, VecDeque};

use crate::document::DocumentId;

/// The last so many ids.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    ids: BTreeSet<DocumentId>,
    order: VecDeque<DocumentId>,
    most: usize,
}

impl Memory {
    pub(crate) const fn new(most: usize) -> Self {
        Self { ids: BTreeSet::new(), order: VecDeque::new(), most }
    }

    pub(crate) fn insert(&mut self, id: DocumentId) {
        if !self.ids.insert(id) {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }

    pub(crate) fn contains(&self, id: &DocumentId) -> bool {
        self.ids.contains(id)
    }

    pub(crate) fn clear(&mut self) {
        self.ids.clear();
        self.order.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut memory = Memory::new(2);
        for n in [1, 2, 1, 3] {
            memory.insert([n; 32]);
        }
        assert!(!memory.contains(&[1; 32]) && memory.contains(&[2; 32]) && memory.contains(&[3; 32]));
        assert_eq!((memory.ids.len(), memory.order.len()), (2, 2));
    }
}
