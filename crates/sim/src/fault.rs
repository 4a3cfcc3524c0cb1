//! What goes wrong, when, and for how long; drawn from the seed before the run begins.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use sinew_types::{Instant, Rng};

use crate::topology::Edge;

/// One thing that goes wrong, or is mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A link loses everything from now on, and says nothing.
    LinkDown(usize),
    /// It works again.
    LinkUp(usize),
    /// A link loses a third of everything.
    LinkBad(usize),
    /// It is as it was.
    LinkGood(usize),
    /// A host stops between two instructions; only its key survives.
    Crash(usize),
    /// It starts again.
    Restart(usize, WallClock),
    /// A host gets another underlay address.
    Roam(usize),
}

/// What a host believes the time to be when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WallClock {
    /// It is right.
    Right,
    /// Set back by years: no battery, no network time yet.
    YearsBack,
}

/// Which faults happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faults {
    /// None, and links that lose nothing.
    None,
    /// Loss, jitter, reordering and duplication on every link.
    Noise,
    /// And links that fail silently, singly or so that the network is cut in two.
    Links,
    /// And hosts that crash and come back, some with their clock set back; hosts that move.
    All,
}

impl Faults {
    /// Whether links are imperfect.
    pub const fn noisy(self) -> bool {
        !matches!(self, Self::None)
    }
}

/// Mean time between two faults in a network of ten hosts; larger ones have more.
const INTERVAL_US: u64 = 6_000_000;
/// A fault lasts up to this long.
const LASTS_US: u64 = 12_000_000;

/// The faults of a run between `from` and `until`, each mended before the end.
pub(crate) fn draw(
    faults: Faults,
    nodes: usize,
    edges: &[Edge],
    (from, until): (Instant, Instant),
    rng: &mut Rng,
) -> Vec<(Instant, Fault)> {
    let mut plan = Vec::new();
    if matches!(faults, Faults::None | Faults::Noise) || edges.is_empty() {
        return plan;
    }
    let interval = INTERVAL_US * 10 / (nodes as u64).clamp(5, 100);
    let mut at = from;
    loop {
        at += Duration::from_micros(rng.below(2 * interval) + 1);
        if at >= until {
            break;
        }
        let end = (at + Duration::from_micros(rng.below(LASTS_US) + 200_000)).min(until);
        one(faults, nodes, edges, (at, end), rng, &mut plan);
    }
    plan.sort_by_key(|&(at, _)| at);
    plan
}

fn one(
    faults: Faults,
    nodes: usize,
    edges: &[Edge],
    (at, end): (Instant, Instant),
    rng: &mut Rng,
    plan: &mut Vec<(Instant, Fault)>,
) {
    let link = rng.below(edges.len() as u64) as usize;
    let host = rng.below(nodes as u64) as usize;
    let kinds = if faults == Faults::All { 10 } else { 6 };
    match rng.below(kinds) {
        0..=2 => plan.extend([(at, Fault::LinkDown(link)), (end, Fault::LinkUp(link))]),
        3 | 4 => plan.extend([(at, Fault::LinkBad(link)), (end, Fault::LinkGood(link))]),
        5 => {
            // A cut: hosts drawn into two camps, every link between them down at once.
            let camps: Vec<bool> = (0..nodes).map(|_| rng.below(2) == 0).collect();
            for (link, _) in edges.iter().enumerate().filter(|(_, edge)| camps[edge.a] != camps[edge.b]) {
                plan.extend([(at, Fault::LinkDown(link)), (end, Fault::LinkUp(link))]);
            }
        }
        6..=8 => {
            let clock = if rng.below(3) == 0 { WallClock::YearsBack } else { WallClock::Right };
            plan.extend([(at, Fault::Crash(host)), (end, Fault::Restart(host, clock))]);
        }
        _ => plan.push((at, Fault::Roam(host))),
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Noise => "noise",
            Self::Links => "links",
            Self::All => "all",
        })
    }
}

impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::None, Self::Noise, Self::Links, Self::All];
        let found = all.into_iter().find(|faults| faults.to_string() == text);
        found.ok_or_else(|| format!("unknown faults `{text}`: none, noise, links, all"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_mended_before_the_end() {
        let edges: Vec<_> = (1..20).map(|b| Edge { a: b - 1, b, late: false }).collect();
        let span = (Instant::from_micros(1_000_000), Instant::from_micros(60_000_000));
        let plan = draw(Faults::All, 20, &edges, span, &mut Rng::new([3; 32]));
        assert!(plan.len() > 10);
        assert!(plan.iter().all(|&(at, _)| at >= span.0 && at <= span.1));
        let downs = plan.iter().filter(|(_, fault)| matches!(fault, Fault::LinkDown(_))).count();
        let ups = plan.iter().filter(|(_, fault)| matches!(fault, Fault::LinkUp(_))).count();
        let crashes = plan.iter().filter(|(_, fault)| matches!(fault, Fault::Crash(_))).count();
        let restarts = plan.iter().filter(|(_, fault)| matches!(fault, Fault::Restart(..))).count();
        assert_eq!((downs, crashes), (ups, restarts));
        assert!(downs > 0 && crashes > 0);
    }

    #[test]
    fn names_read_back() {
        for name in ["none", "noise", "links", "all"] {
            assert_eq!(name.parse::<Faults>().unwrap().to_string(), name);
        }
        assert!("some".parse::<Faults>().is_err());
    }
}
