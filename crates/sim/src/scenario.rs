//! A whole run: faults while the checkers watch, then peace, in which everyone must be able to
//! talk within a bound.

use std::fmt;
use std::time::Duration;

use sinew_types::{Drops, Instant, Rng};
use thiserror::Error;

use crate::check::Violation;
use crate::params::Params;
use crate::underlay::Counts;
use crate::world::{Log, World};

/// How long after the last fault every connected pair must be able to talk.
pub const SETTLE_BOUND: Duration = Duration::from_secs(30);
/// How long the network is watched after it has settled.
const AFTERMATH: Duration = Duration::from_secs(5);
/// How often it is looked at whether it has settled.
const LOOK: Duration = Duration::from_millis(250);
/// A pair that does not talk yet tries again this often.
const RETRY: Duration = Duration::from_secs(1);
/// Pairs that talk during the faults, each this often.
const FLOWS: usize = 100;
const FLOW_INTERVAL: Duration = Duration::from_millis(400);
/// Pairs that must talk in the end; all of them in a small network.
const PAIRS: usize = 300;

/// What a run was like.
#[derive(Clone, Debug)]
pub struct Summary {
    /// What it was drawn from.
    pub params: Params,
    /// From the last fault until everyone could talk.
    pub settled: Duration,
    /// Requests and those that were answered.
    pub requests: (usize, usize),
    /// What the links carried.
    pub counts: Counts,
    /// What the nodes dropped.
    pub drops: Drops,
    /// The hash over every datagram.
    pub trace: u64,
}

/// A violation, with the command that shows it again.
#[derive(Clone, Debug, Error)]
#[error("{violation}\n  replay: cargo run --release -p sinew-sim --bin sinew-sim -- {params}")]
pub struct Failure {
    /// What the run was drawn from.
    pub params: Params,
    /// What went wrong.
    pub violation: Violation,
}

/// Runs one seed.
///
/// # Errors
/// The first violation of any checker.
pub fn run(params: Params) -> Result<Summary, Failure> {
    run_logged(params, None)
}

/// As [`run`], telling a log of every change of state.
///
/// # Errors
/// The first violation of any checker.
pub fn run_logged(params: Params, log: Option<Log>) -> Result<Summary, Failure> {
    let plan = params.plan();
    let mut world = World::new(&plan);
    world.log = log;
    let fail = |violation| Failure { params, violation };
    let mut rng = params.rng();
    start_flows(&mut world, plan.faults_end, &mut rng);
    world.run_until(plan.faults_end).map_err(fail)?;
    let settled = settle(&mut world, &pairs(params.nodes, &mut rng)).map_err(fail)?;
    world.run_for(AFTERMATH).map_err(fail)?;
    let ledger = world.apps().ledger();
    let answered = ledger.iter().filter(|exchange| exchange.answered.is_some()).count();
    Ok(Summary {
        params,
        settled,
        requests: (ledger.len(), answered),
        counts: world.counts(),
        drops: world.drops(),
        trace: world.trace(),
    })
}

fn pair(nodes: usize, rng: &mut Rng) -> (usize, usize) {
    let src = rng.below(nodes as u64) as usize;
    let dst = rng.below(nodes as u64 - 1) as usize;
    (src, if dst >= src { dst + 1 } else { dst })
}

fn start_flows(world: &mut World, until: Instant, rng: &mut Rng) {
    let nodes = world.hosts().len();
    for _ in 0..(2 * nodes).min(FLOWS) {
        let (src, dst) = pair(nodes, rng);
        world.flow(src, dst, FLOW_INTERVAL, until);
    }
}

/// The pairs that must talk in the end.
fn pairs(nodes: usize, rng: &mut Rng) -> Vec<(usize, usize)> {
    if nodes * (nodes - 1) <= PAIRS {
        let others = |src| (0..nodes).filter(move |&dst| dst != src).map(move |dst| (src, dst));
        return (0..nodes).flat_map(others).collect();
    }
    (0..PAIRS).map(|_| pair(nodes, rng)).collect()
}

/// Lets pairs talk until all have, and every pair has a path.
fn settle(world: &mut World, pairs: &[(usize, usize)]) -> Result<Duration, Violation> {
    let began = world.now();
    let mut silent: Vec<_> = pairs.iter().map(|&(src, dst)| (src, dst, Vec::new())).collect();
    let mut next_try = began;
    loop {
        if world.now() >= next_try {
            next_try = world.now() + RETRY;
            for (src, dst, tries) in &mut silent {
                tries.push(world.request(*src, *dst)?);
            }
        }
        world.run_for(LOOK)?;
        let ledger = world.apps().ledger();
        silent.retain(|(_, _, tries)| tries.iter().all(|&number| ledger[number].answered.is_none()));
        let missing = if silent.is_empty() { world.unreachable(3) } else { Vec::new() };
        let past = world.now().since(began);
        if silent.is_empty() && missing.is_empty() {
            return Ok(past);
        }
        if past >= SETTLE_BOUND {
            let names: Vec<_> = silent.iter().take(3).map(|&(src, dst, _)| (src, dst)).collect();
            let silent = silent.len();
            let text = format!(
                "{past:?} after the last fault {silent} pairs do not talk, such as {names:?}; without a path: {missing:?}{}",
                names.iter().chain(&missing).take(2).map(|&pair| world.explain(pair)).collect::<String>()
            );
            return Err(Violation::new(world.now(), "liveness", text));
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (requests, answered) = self.requests;
        let Counts { sent, bytes, lost, refused, nowhere, .. } = self.counts;
        writeln!(f, "settled {:?} after the last fault, trace {:016x}", self.settled, self.trace)?;
        writeln!(f, "  requests {requests}, answered {answered}")?;
        writeln!(
            f,
            "  datagrams {sent}, bytes {bytes}, lost {lost}, refused {refused}, to nowhere {nowhere}"
        )?;
        write!(f, "  drops")?;
        for (reason, count) in self.drops.iter() {
            write!(f, " {reason} {count}")?;
        }
        Ok(())
    }
}
