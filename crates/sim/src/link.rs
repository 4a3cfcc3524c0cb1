//! One underlay link: what becomes of a datagram that is given to it.
//!
//! Each direction has its own latency, jitter, loss, reordering and duplication. Jitter alone
//! keeps the order, as queues do; reordering is a chance of its own, as parallel paths make it.
//! Rates are not modelled: a link takes any amount.

use sinew_types::{Instant, Rng};

/// What a reordered datagram is late by, at most, on top of the latency.
const REORDER_MAX_US: u64 = 20_000;
/// Chances are given in millionths.
pub(crate) const MILLION: u64 = 1_000_000;
/// What a bad link loses.
const BAD_LOSS: u64 = MILLION / 3;
/// IPv4 and UDP headers below a datagram.
const HEADERS: usize = 28;

/// What one direction of a link does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Direction {
    /// Time on the way, microseconds.
    pub latency_us: u64,
    /// Most that is added to it, microseconds.
    pub jitter_us: u64,
    /// Chance of loss, millionths.
    pub loss: u64,
    /// Chance to overtake or be overtaken, millionths.
    pub reorder: u64,
    /// Chance to arrive twice, millionths.
    pub duplicate: u64,
}

impl Direction {
    /// Nothing but a constant latency.
    pub const fn clean(latency_us: u64) -> Self {
        Self { latency_us, jitter_us: 0, loss: 0, reorder: 0, duplicate: 0 }
    }
}

/// What becomes of one datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is gone, and nobody knows.
    Lost,
    /// The sender's kernel refuses it: larger than the interface.
    Refused,
    /// It arrives then, and perhaps again.
    Arrives(Instant, Option<Instant>),
}

/// A link between two hosts.
#[derive(Clone, Debug)]
pub struct Link {
    /// The hosts at its ends.
    pub ends: [usize; 2],
    /// A link that is down loses everything silently.
    pub up: bool,
    /// A bad link loses a third of everything besides.
    pub bad: bool,
    /// Largest IP packet, bytes.
    pub mtu: usize,
    /// Whether too large a datagram is refused to the sender's face rather than lost on the way.
    pub refuses: bool,
    /// From `ends[0]` to `ends[1]`, and back.
    pub directions: [Direction; 2],
    /// No arrival before this one, reordering aside.
    last_arrival: [Instant; 2],
}

impl Link {
    /// A link that is up.
    pub const fn new(ends: [usize; 2], directions: [Direction; 2], mtu: usize, refuses: bool) -> Self {
        Self { ends, up: true, bad: false, mtu, refuses, directions, last_arrival: [Instant::ZERO; 2] }
    }

    /// The far end, seen from `host`.
    pub fn other(&self, host: usize) -> usize {
        if self.ends[0] == host { self.ends[1] } else { self.ends[0] }
    }

    /// Gives a datagram of `len` bytes to the link at the end of `from`.
    pub fn carry(&mut self, from: usize, len: usize, now: Instant, rng: &mut Rng) -> Fate {
        let way = usize::from(self.ends[1] == from);
        let direction = self.directions[way];
        if len + HEADERS > self.mtu {
            return if self.refuses { Fate::Refused } else { Fate::Lost };
        }
        let loss = direction.loss + if self.bad { BAD_LOSS } else { 0 };
        if !self.up || chance(loss, rng) {
            return Fate::Lost;
        }
        let first = self.arrival(way, now, rng);
        let second = chance(direction.duplicate, rng).then(|| self.arrival(way, now, rng));
        Fate::Arrives(first, second)
    }

    fn arrival(&mut self, way: usize, now: Instant, rng: &mut Rng) -> Instant {
        let direction = self.directions[way];
        let on_the_way = direction.latency_us + jitter(direction.jitter_us, rng);
        let at = Instant::from_micros(now.as_micros() + on_the_way);
        if chance(direction.reorder, rng) {
            return Instant::from_micros(at.as_micros() + rng.below(REORDER_MAX_US));
        }
        self.last_arrival[way] = self.last_arrival[way].max(at);
        self.last_arrival[way]
    }

    /// Latency of a reliable stream's segment: what is lost comes late instead.
    pub(crate) fn carry_stream(&mut self, from: usize, now: Instant, rng: &mut Rng) -> Instant {
        const RETRANSMISSION_US: u64 = 200_000;
        let way = usize::from(self.ends[1] == from);
        let late = if chance(self.directions[way].loss, rng) { RETRANSMISSION_US } else { 0 };
        let latency = self.directions[way].latency_us + jitter(self.directions[way].jitter_us, rng);
        Instant::from_micros(now.as_micros() + latency + late)
    }
}

/// No draw where there is nothing to draw: clean links cost nothing.
pub(crate) fn chance(millionths: u64, rng: &mut Rng) -> bool {
    millionths > 0 && rng.below(MILLION) < millionths
}

fn jitter(most_us: u64, rng: &mut Rng) -> u64 {
    if most_us == 0 { 0 } else { rng.below(most_us) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(us: u64) -> Instant {
        Instant::from_micros(us)
    }

    fn link(direction: Direction) -> Link {
        Link::new([4, 9], [direction; 2], 1500, true)
    }

    #[test]
    fn a_clean_link_delays_and_keeps_the_order() {
        let mut link = link(Direction { jitter_us: 5_000, ..Direction::clean(1_000) });
        let mut rng = Rng::new([1; 32]);
        let mut last = Instant::ZERO;
        for us in 0..1_000 {
            let Fate::Arrives(when, None) = link.carry(4, 100, at(us), &mut rng) else { panic!("lost") };
            assert!(when >= last && when >= at(us + 1_000) && when < at(us + 1_000 + 6_000));
            last = when;
        }
    }

    #[test]
    fn chances_are_met() {
        let direction =
            Direction { loss: 100_000, duplicate: 50_000, reorder: 20_000, ..Direction::clean(1) };
        let mut link = link(direction);
        let mut rng = Rng::new([1; 32]);
        let (mut lost, mut twice) = (0, 0);
        for us in 0..10_000 {
            match link.carry(9, 100, at(us), &mut rng) {
                Fate::Lost => lost += 1,
                Fate::Arrives(_, Some(_)) => twice += 1,
                _ => {}
            }
        }
        assert!((800..1200).contains(&lost) && (350..550).contains(&twice), "{lost} {twice}");
    }

    #[test]
    fn what_is_too_large_is_refused_or_lost() {
        let mut link = link(Direction::clean(1));
        let mut rng = Rng::new([1; 32]);
        assert!(matches!(link.carry(4, 1472, at(0), &mut rng), Fate::Arrives(..)));
        assert_eq!(link.carry(4, 1473, at(0), &mut rng), Fate::Refused);
        link.refuses = false;
        assert_eq!(link.carry(4, 1473, at(0), &mut rng), Fate::Lost);
    }

    #[test]
    fn a_link_that_is_down_says_nothing() {
        let mut link = link(Direction::clean(1));
        link.up = false;
        assert_eq!(link.carry(4, 100, at(0), &mut Rng::new([1; 32])), Fate::Lost);
    }
}
