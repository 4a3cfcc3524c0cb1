//! Replays one seed, or explores many: each run prints what it was drawn from first.
#![allow(clippy::print_stdout, reason = "a command speaks by printing")]

use std::process::ExitCode;

use sinew_sim::{Faults, Log, Params, Topology, run_logged};

const USAGE: &str =
    "usage: sinew-sim [--seed N] [--nodes N] [--topology line|ring|star|random[:DEGREE]|islands]
                 [--faults none|noise|links|all] [--runs N] [--log]
--runs N runs N seeds from the given one on, and stops at the first that fails.
--log prints every change of state: faults, links, adjacencies.";

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Ok(order) => explore(order),
        Err(error) => {
            println!("{error}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn explore(Order { params: first, runs, log }: Order) -> ExitCode {
    for seed in first.seed..first.seed.saturating_add(runs) {
        let params = Params { seed, ..first };
        let log = log.then(|| Box::new(|line: &str| println!("{line}")) as Log);
        println!("run {params}");
        match run_logged(params, log) {
            Ok(summary) => println!("  {summary}"),
            Err(failure) => {
                println!("FAILED {failure}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}

/// What the command line asks for.
struct Order {
    params: Params,
    runs: u64,
    log: bool,
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Order, String> {
    let mut params =
        Params { seed: 1, nodes: 10, topology: Topology::Random { degree: 4 }, faults: Faults::All };
    let (mut runs, mut log) = (1, false);
    while let Some(option) = args.next() {
        if option == "--help" {
            return Err(String::new());
        }
        if option == "--log" {
            log = true;
            continue;
        }
        let value = args.next().ok_or_else(|| format!("{option} needs a value"))?;
        let number = || value.parse().map_err(|_| format!("{option}: `{value}` is not a number"));
        match option.as_str() {
            "--seed" => params.seed = number()?,
            "--nodes" => params.nodes = number()?.clamp(2, 65_535) as usize,
            "--runs" => runs = number()?,
            "--topology" => params.topology = value.parse()?,
            "--faults" => params.faults = value.parse()?,
            _ => return Err(format!("unknown option {option}")),
        }
    }
    Ok(Order { params, runs, log })
}
