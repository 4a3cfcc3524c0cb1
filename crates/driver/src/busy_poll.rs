//! Waiting without sleeping, for a moment, where the next packet is likely to follow at once.
//!
//! A core that has fallen asleep wakes more slowly than a small packet is handled: in a talk of short
//! questions and answers most of the time is waking. So after a small packet the loop looks again and
//! again for up to [`WINDOW`], giving its core to whoever else wants it between two looks
//! (`sched_yield`). As halt polling of hypervisors does, it begins only after a packet that came within
//! the window, and a wait that was longer ends it: an idle node, pings, and anything slower than 6,000
//! packets a second sleep as ever. Bulk traffic sleeps too, since what gathers meanwhile leaves in one
//! batch.

use std::time::Duration;

/// How long the loop stays awake.
const WINDOW: Duration = Duration::from_micros(150);
/// Bytes handled between two waits up to which traffic is no bulk.
const SMALL: usize = 4096;

/// Whether the next wait begins awake.
#[derive(Debug)]
pub(crate) struct BusyPoll {
    /// With one core there is nobody to answer meanwhile.
    useful: bool,
    /// The last packet came within the window.
    quick: bool,
    /// Bytes handled since the last wait.
    handled: usize,
}

impl BusyPoll {
    pub(crate) fn new(cores: usize) -> Self {
        Self { useful: cores > 1, quick: false, handled: 0 }
    }

    /// Packets of so many bytes were handled.
    pub(crate) fn on_handled(&mut self, bytes: usize) {
        self.handled += bytes;
    }

    /// A wait begins; how long it stays awake.
    pub(crate) fn begin(&mut self) -> Duration {
        let bulk = std::mem::take(&mut self.handled) > SMALL;
        if self.useful && self.quick && !bulk { WINDOW } else { Duration::ZERO }
    }

    /// A wait has ended after `waited`, with a packet or something else.
    pub(crate) fn end(&mut self, waited: Duration, packet: bool) {
        self.quick = packet && waited <= WINDOW;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_micros(60);
    const LATE: Duration = Duration::from_millis(5);

    #[test]
    fn only_a_quick_talk_of_small_packets_keeps_the_loop_awake() {
        let table = [
            // bytes handled before each wait, how long it took, whether it ended with a packet; awake next
            (64, SOON, true, 64, true),
            (64, LATE, true, 64, false),
            (64, SOON, false, 64, false),
            (64, SOON, true, 60_000, false),
        ];
        for (before, waited, packet, handled, awake) in table {
            let mut busy = BusyPoll::new(2);
            busy.on_handled(before);
            assert_eq!(busy.begin(), Duration::ZERO, "nothing is known yet");
            busy.end(waited, packet);
            busy.on_handled(handled);
            assert_eq!(busy.begin() > Duration::ZERO, awake, "{waited:?} {packet} {handled}");
        }
    }

    #[test]
    fn one_core_sleeps() {
        let mut busy = BusyPoll::new(1);
        busy.end(SOON, true);
        assert_eq!(busy.begin(), Duration::ZERO);
    }
}
