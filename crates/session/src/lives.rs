//! Whether two machines use one key: what a peer's association ids tell.
//!
//! A machine draws its half of an association's id at random and never goes back to one it has
//! left (protocol A3.1): a restart, however often and from wherever, brings a new one. So if an id
//! comes back after another one was in force, both have machines that live, and one peer's handshakes
//! take the session from the other's. Handshakes cannot be replayed into this: an id counts when a
//! record opened under keys made for it.

use std::collections::VecDeque;

/// Ids remembered per peer.
const KEPT: usize = 4;
/// One return could be an answer that was on its way for very long.
const RETURNS_SUSPECT: u8 = 2;

/// The ids that a peer has had, the present one last.
#[derive(Debug, Default)]
pub(crate) struct Lives {
    ids: VecDeque<u64>,
    returns: u8,
}

impl Lives {
    /// The peer is now known by `id`; whether that makes it two machines.
    pub(crate) fn is_twin(&mut self, id: u64) -> bool {
        if self.ids.back() == Some(&id) {
            return false;
        }
        let known = self.ids.iter().position(|&known| known == id);
        if let Some(at) = known {
            self.ids.remove(at);
            self.returns = self.returns.saturating_add(1);
        } else if self.ids.len() >= KEPT {
            self.ids.pop_front();
        }
        self.ids.push_back(id);
        known.is_some() && self.returns >= RETURNS_SUSPECT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_id_that_comes_back_is_another_machine() {
        // ids in order, for each whether it is reported
        let table: [(&[u64], &[usize]); 5] = [
            (&[1, 1, 1, 1], &[]),
            (&[1, 2, 3, 4, 5, 6, 7], &[]),
            (&[1, 2, 1], &[]),
            (&[1, 2, 1, 2, 1, 1, 2], &[3, 4, 6]),
            (&[1, 2, 3, 1, 2, 3], &[4, 5]),
        ];
        for (ids, expected) in table {
            let mut lives = Lives::default();
            let found: Vec<_> = (0..ids.len()).filter(|&at| lives.is_twin(ids[at])).collect();
            assert_eq!(found, expected, "{ids:?}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut lives = Lives::default();
        assert!((0..1000).all(|id| !lives.is_twin(id)));
        assert_eq!(lives.ids.len(), KEPT);
    }
}
