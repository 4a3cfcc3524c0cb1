//! The replay window of one lane: a sliding bitmap of 8192 counters (RFC 6479, as in WireGuard).
//!
//! One word of the bitmap is always being cleared ahead of the highest counter, so the window that
//! is really looked back is 64 counters shorter than the bitmap. The window only ever sees counters
//! of records that opened, so nobody outside can move it.

const BITMAP_BITS: u64 = 8192;
const WORD_BITS: u64 = 64;
const WORDS: usize = (BITMAP_BITS / WORD_BITS) as usize;

/// How far behind the highest counter a record may come.
pub(crate) const WINDOW: u64 = BITMAP_BITS - WORD_BITS;
/// Counters from here on are refused: no honest lane reaches them (protocol A3).
pub(crate) const COUNTER_LIMIT: u64 = (1 << 32) - (1 << 13);

/// Which counters of a lane were seen.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    /// Highest counter seen, plus one.
    next: u64,
    seen: [u64; WORDS],
}

impl Window {
    pub(crate) const fn new() -> Self {
        Self { next: 0, seen: [0; WORDS] }
    }

    /// Takes `counter` once; `false` if it was taken before, lies behind the window or is above
    /// the limit.
    pub(crate) fn accept(&mut self, counter: u64) -> bool {
        if counter >= COUNTER_LIMIT {
            return false;
        }
        let number = counter + 1;
        if number + WINDOW < self.next {
            return false;
        }
        if number > self.next {
            self.advance(number);
        }
        let (word, bit) = ((number / WORD_BITS) as usize % WORDS, 1 << (number % WORD_BITS));
        let fresh = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        fresh
    }

    /// Clears the words between the old and the new top.
    fn advance(&mut self, number: u64) {
        let (old, new) = (self.next / WORD_BITS, number / WORD_BITS);
        for word in (old + 1..=new).take(WORDS) {
            self.seen[word as usize % WORDS] = 0;
        }
        self.next = number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const L: u64 = WINDOW + 1;
    const R: u64 = COUNTER_LIMIT;

    #[test]
    fn the_counter_table_of_wireguard_holds_step_by_step() {
        let table = [
            (0, true),
            (1, true),
            (1, false),
            (9, true),
            (8, true),
            (7, true),
            (7, false),
            (L, true),
            (L - 1, true),
            (L - 1, false),
            (L - 2, true),
            (2, true),
            (2, false),
            (L + 16, true),
            (3, false),
            (L + 16, false),
            (L * 4, true),
            (L * 4 - (L - 1), true),
            (10, false),
            (L * 4 - L, false),
            (L * 4 - (L + 1), false),
            (L * 4 - (L - 2), true),
            (L * 4 + 1 - L, false),
            (0, false),
            (R, false),
            (R - 1, true),
            (R, false),
            (R - 1, false),
            (R - 2, true),
            (R + 1, false),
            (R + 2, false),
            (R - 2, false),
            (R - 3, true),
            (0, false),
        ];
        let mut window = Window::new();
        for (step, (counter, accepted)) in table.into_iter().enumerate() {
            assert_eq!(window.accept(counter), accepted, "step {}: counter {counter}", step + 1);
        }
    }

    #[test]
    fn the_six_sweeps_of_wireguard_hold() {
        let w = WINDOW;
        let up = |from: u64, to: u64| (from..=to).map(|c| (c, true)).collect::<Vec<_>>();
        let down = |from: u64, to: u64| (to..=from).rev().map(|c| (c, true)).collect::<Vec<_>>();
        let sweeps = [
            [up(1, w), vec![(0, true), (0, false)]].concat(),
            [up(2, w + 1), vec![(1, true), (0, false)]].concat(),
            down(w, 0),
            [down(w + 1, 1), vec![(0, false)]].concat(),
            [down(w, 1), vec![(w + 1, true), (0, false)]].concat(),
            [down(w, 1), vec![(0, true), (w + 1, true)]].concat(),
        ];
        for (number, steps) in sweeps.into_iter().enumerate() {
            let mut window = Window::new();
            for (counter, accepted) in steps {
                assert_eq!(window.accept(counter), accepted, "sweep {}: counter {counter}", number + 1);
            }
        }
    }

    #[test]
    fn a_jump_over_the_whole_bitmap_forgets_everything_behind_it() {
        let mut window = Window::new();
        for counter in 0..100 {
            assert!(window.accept(counter));
        }
        assert!(window.accept(1 << 24), "a new process skips 2^24 counters (protocol A3)");
        assert!(window.accept((1 << 24) - WINDOW));
        assert!(!window.accept(99));
    }
}
