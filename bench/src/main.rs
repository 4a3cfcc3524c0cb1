//! `cargo bench-net`: Sinew, the bare link and other overlays, measured side by side in one run.
//!
//! Numbers of one machine at one hour compare with each other and with nothing else. So every
//! *subject* (Sinew, raw veth, each installed peer) is measured in turn, round after round
//! (A B C A B C …), each time started afresh in namespaces of its own; ratios are taken within
//! a round, and how much CPU others used meanwhile is written beside them.
//!
//! | module | what it does |
//! |---|---|
//! | [`args`] | the command line |
//! | [`stage`] | namespaces, links and their offloads: what a subject runs on |
//! | [`peers`] | one file for each subject: find it, configure it, start it |
//! | [`measure`] | what is measured, one file for each kind of traffic |
//! | [`cpu`] | whose CPU time went where |
//! | [`run`] | scenarios × wires × rounds × subjects |
//! | [`stats`] | medians, spreads, percentiles |
//! | [`metrics`] | name, unit and direction of each number |
//! | [`report`] | tables, ratios, JSON |
//! | [`machine`] | what the numbers were taken on |
//! | [`cleanup`] | nothing stays behind, also after Ctrl-C |

// A command line talks to its user on standard output.
#![allow(clippy::print_stdout)]

mod args;
mod cleanup;
mod cpu;
mod machine;
mod measure;
mod metrics;
mod peers;
mod report;
mod run;
mod stage;
mod stats;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use sinew_tests::interrupt;
use sinew_tests::requirements::find_program;

/// Programs without which nothing can be measured, with their Debian packages.
const NEEDED: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("ss", "iproute2"),
    ("sysctl", "procps"),
    ("setpriv", "util-linux"),
    ("ethtool", "ethtool"),
    ("iperf3", "iperf3"),
];

fn main() -> ExitCode {
    let options = match args::parse() {
        Ok(options) => options,
        Err(code) => return code,
    };
    match work(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Measures and reports; whether every subject could be measured.
fn work(options: &args::Options) -> Result<bool> {
    let subjects = peers::choose(options)?;
    let plan = run::Plan::new(options, &subjects)?;
    if options.list {
        print!("{}{}", peers::listing(&subjects), absent(options));
        return Ok(true);
    }
    obstacle()?;
    interrupt::clean_up(cleanup::own)?;
    cleanup::stale();
    peers::build_sinew(&subjects)?;
    // Before the hours of measuring, not after.
    if let Some(file) = &options.json {
        std::fs::write(file, "{}\n").with_context(|| format!("cannot write {}", file.display()))?;
    }
    let machine = machine::Machine::read();
    println!("{machine}\n{plan}{}", absent(options));
    let results = run::all(options, &plan);
    cleanup::own();
    print!("{}", report::text(&results));
    if let Some(file) = &options.json {
        let json = report::json(&machine, options, &results);
        std::fs::write(file, format!("{json:#}\n"))
            .with_context(|| format!("cannot write {}", file.display()))?;
        println!("\nWritten to {}.", file.display());
    }
    Ok(results.iter().all(|result| result.failures.is_empty()))
}

/// Which peers are not measured for want of their programs.
fn absent(options: &args::Options) -> String {
    let names = peers::missing(options);
    if names.is_empty() {
        return String::new();
    }
    format!("Not found: {} (bench/README.md tells how to get them; --peer NAME=FILE)\n", names.join(" "))
}

fn obstacle() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("the benchmark makes network namespaces, so it needs root: sudo -E cargo bench-net");
    }
    if !std::path::Path::new("/dev/net/tun").exists() {
        bail!("/dev/net/tun is missing (modprobe tun)");
    }
    let mut missing: Vec<_> =
        NEEDED.iter().filter(|(program, _)| find_program(program).is_none()).map(|(_, p)| *p).collect();
    missing.dedup();
    if !missing.is_empty() {
        bail!("not installed: apt-get install {}", missing.join(" "));
    }
    Ok(())
}
