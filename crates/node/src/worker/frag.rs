//! Fragments of records, for links too small to carry an inner 1280 (protocol A4, FRAG).
//!
//! Only whole records are cut, only on such links, into at most three pieces; each piece is
//! sealed by itself, so reassembly works on authenticated bytes of the neighbour. 64 records
//! may be under reassembly on a link, each for half a second.

use std::collections::VecDeque;
use std::time::Duration;

use rustc_hash::FxHashMap;
use sinew_types::{DropReason, Instant, MeshAddr};
use sinew_wire::frag::MAX_PIECES;

/// Most records under reassembly on one link.
const PER_LINK: usize = 64;
/// How long a record may wait for its other pieces.
const PATIENCE: Duration = Duration::from_millis(500);
/// Longest record that is ever cut: an inner 1280 with every header we put around it, and room.
const MAX_RECORD: usize = 1600;

#[derive(Debug)]
struct Partial {
    id: u16,
    since: Instant,
    pieces: [Option<Vec<u8>>; MAX_PIECES],
    count: Option<usize>,
}

/// Records under reassembly, by link.
#[derive(Debug, Default)]
pub(crate) struct Reassembly {
    links: FxHashMap<MeshAddr, VecDeque<Partial>>,
    /// Records given up since last asked.
    lost: u64,
}

impl Reassembly {
    /// Takes one opened piece; gives the record once all are there.
    pub(crate) fn push(
        &mut self,
        link: MeshAddr,
        id: u16,
        index: usize,
        last: bool,
        piece: &[u8],
        now: Instant,
    ) -> Result<Option<Vec<u8>>, DropReason> {
        if index >= MAX_PIECES || piece.len() > MAX_RECORD {
            return Err(DropReason::Malformed);
        }
        let queue = self.links.entry(link).or_default();
        while queue.front().is_some_and(|partial| now.since(partial.since) >= PATIENCE) {
            queue.pop_front();
            self.lost += 1;
        }
        let at = match queue.iter().position(|partial| partial.id == id) {
            Some(at) => at,
            None => {
                if queue.len() >= PER_LINK {
                    queue.pop_front();
                    self.lost += 1;
                }
                queue.push_back(Partial { id, since: now, pieces: Default::default(), count: None });
                queue.len() - 1
            }
        };
        let partial = &mut queue[at];
        if partial.pieces[index].is_some() || (last && partial.count.is_some()) {
            return Err(DropReason::Fragment);
        }
        partial.pieces[index] = Some(piece.to_vec());
        if last {
            partial.count = Some(index + 1);
        }
        let Some(count) = partial.count else { return Ok(None) };
        if partial.pieces[..count].iter().any(Option::is_none) {
            return Ok(None);
        }
        let record =
            queue.remove(at).map(|done| done.pieces.into_iter().flatten().flatten().collect::<Vec<u8>>());
        record.filter(|record| record.len() <= MAX_RECORD).map(Some).ok_or(DropReason::Fragment)
    }

    /// Records given up since last asked: too late, or crowded out.
    pub(crate) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    pub(crate) fn forget(&mut self, link: &MeshAddr) {
        self.links.remove(link);
    }
}

/// How to cut `len` bytes so that no piece exceeds `room`; `None` if three pieces do not do.
pub(crate) fn cut(len: usize, room: usize) -> Option<usize> {
    let pieces = len.div_ceil(room.max(1));
    (pieces <= MAX_PIECES).then(|| len.div_ceil(pieces))
}

#[cfg(test)]
mod tests {
    use sinew_types::Identity;

    use super::*;

    fn link() -> MeshAddr {
        Identity::from_seed([1; 32]).node_id().address()
    }

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1000)
    }

    #[test]
    fn pieces_in_any_order_give_the_record_once() {
        let mut r = Reassembly::default();
        assert_eq!(r.push(link(), 7, 1, true, b"cd", at(0)), Ok(None));
        assert_eq!(r.push(link(), 7, 0, false, b"ab", at(1)), Ok(Some(b"abcd".to_vec())));
        assert_eq!(r.push(link(), 7, 0, false, b"ab", at(2)), Ok(None));
    }

    #[test]
    fn a_duplicate_piece_and_a_fourth_piece_are_refused() {
        let mut r = Reassembly::default();
        assert_eq!(r.push(link(), 7, 0, false, b"ab", at(0)), Ok(None));
        assert_eq!(r.push(link(), 7, 0, false, b"xx", at(0)), Err(DropReason::Fragment));
        assert_eq!(r.push(link(), 7, 3, true, b"xx", at(0)), Err(DropReason::Malformed));
    }

    #[test]
    fn an_unfinished_record_is_given_up_after_half_a_second_and_the_table_is_bounded() {
        let mut r = Reassembly::default();
        assert_eq!(r.push(link(), 7, 0, false, b"ab", at(0)), Ok(None));
        assert_eq!(r.push(link(), 7, 1, true, b"cd", at(500)), Ok(None));
        for id in 0..1000 {
            let _ = r.push(link(), id, 0, false, b"ab", at(500));
        }
        assert!(r.links[&link()].len() <= PER_LINK);
    }

    #[test]
    fn records_are_cut_into_even_pieces() {
        assert_eq!(cut(1316, 1220), Some(658));
        assert_eq!(cut(1200, 1220), Some(1200));
        assert_eq!(cut(1316, 300), None);
    }
}
