//! The test tiers, in the order in which a failure is cheapest to find.

use std::time::{Duration, Instant};

use anyhow::Result;
use sinew_tests::requirements::{lab_obstacle, workspace_root};

use crate::exec::{Counts, Outcome, cargo};
use crate::{docs, licences, packages};

struct Tier {
    name: &'static str,
    what: &'static str,
    run: fn() -> Result<Outcome>,
}

const TIERS: &[Tier] = &[
    Tier { name: "fmt", what: "formatting", run: fmt },
    Tier { name: "licences", what: "licences, bans and sources of dependencies", run: licences::check },
    Tier { name: "clippy", what: "lints, warnings are errors", run: clippy },
    Tier { name: "tidy", what: "layering, sizes, purity; what the pages say of the code", run: tidy },
    Tier { name: "units", what: "unit and integration tests of every crate", run: units },
    Tier { name: "build", what: "release build of daemon and command", run: build },
    Tier { name: "sim", what: "seeded simulator, in release", run: sim },
    Tier { name: "replay", what: "fuzz corpus through the decoders", run: replay },
    Tier { name: "labs", what: "network namespaces with real programs", run: labs },
    Tier { name: "demo", what: "what the README promises, as a newcomer runs it", run: demo },
    Tier { name: "docs", what: "rustdoc, warnings are errors; links in the guides", run: documents },
];

/// Integration tests of `sinew-tests` that are not labs.
const NOT_LABS: &[&str] = &["tidy", "findings", "replay"];

/// Prints the tiers.
pub(crate) fn list() -> bool {
    TIERS.iter().for_each(|tier| println!("{:10} {}", tier.name, tier.what));
    true
}

/// Whether there is a tier of this name.
pub(crate) fn exists(name: &str) -> bool {
    TIERS.iter().any(|tier| tier.name == name)
}

/// Runs all tiers or the named ones, up to the first failure; whether all passed.
pub(crate) fn run(names: &[&str]) -> Result<bool> {
    packages::ensure()?;
    let chosen: Vec<_> = TIERS.iter().filter(|tier| names.is_empty() || names.contains(&tier.name)).collect();
    let mut total = Counts::default();
    let mut times = Vec::new();
    let mut failure = None;
    for tier in chosen {
        println!("\n== {}: {}", tier.name, tier.what);
        let start = Instant::now();
        let outcome = (tier.run)().unwrap_or_else(|error| {
            println!("error: {error:#}");
            Outcome { ok: false, counts: Counts::default() }
        });
        let took = start.elapsed();
        total.add(outcome.counts);
        times.push((tier.name, took, outcome));
        let (name, took, outcome) =
            times.last().map(|(n, t, o)| (*n, *t, o)).unwrap_or_else(|| unreachable!());
        println!("== {name}: {} in {}", if outcome.ok { "ok" } else { "FAILED" }, seconds(took));
        if !outcome.ok {
            failure = Some(name);
            // A tier without tests, such as formatting, still is one failure.
            total.failed += u64::from(total.failed == 0);
            break;
        }
    }
    summary(&times, failure);
    println!("{} passed, {} failed", total.passed, total.failed);
    Ok(failure.is_none())
}

fn summary(times: &[(&str, Duration, Outcome)], failure: Option<&str>) {
    println!("\n{:10} {:>9} {:>8} {:>8}", "tier", "time", "passed", "failed");
    for (name, took, outcome) in times {
        let Counts { passed, failed } = outcome.counts;
        println!("{name:10} {:>9} {passed:>8} {failed:>8}", seconds(*took));
    }
    if let Some(name) = failure {
        println!("\n{name} failed; repeat it with: cargo xtest {name}");
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn fmt() -> Result<Outcome> {
    let mut outcome = cargo(&["fmt", "--all", "--", "--check"], &[])?;
    if outcome.ok && workspace_root().join("fuzz/Cargo.toml").exists() {
        outcome = cargo(&["fmt", "--manifest-path", "fuzz/Cargo.toml", "--", "--check"], &[])?;
    }
    Ok(outcome)
}

fn clippy() -> Result<Outcome> {
    cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"], &[])
}

fn tidy() -> Result<Outcome> {
    let args =
        ["test", "-p", "sinew-tests", "--lib", "--test", "tidy", "--test", "findings", "--no-fail-fast"];
    cargo(&args, &[])
}

fn units() -> Result<Outcome> {
    // The simulator and the whole-system tests have tiers of their own, in release.
    let args =
        ["test", "--workspace", "--exclude", "sinew-tests", "--exclude", "sinew-sim", "--no-fail-fast"];
    cargo(&args, &[])
}

fn build() -> Result<Outcome> {
    cargo(&["build", "--release", "-p", "sinew-daemon", "-p", "sinew-cli", "-p", "sinew-cni"], &[])
}

fn sim() -> Result<Outcome> {
    cargo(&["test", "--release", "-p", "sinew-sim", "--no-fail-fast"], &[])
}

fn replay() -> Result<Outcome> {
    cargo(&["test", "--release", "-p", "sinew-tests", "--test", "replay"], &[])
}

fn labs() -> Result<Outcome> {
    if let Some(obstacle) = lab_obstacle() {
        println!("note: {obstacle}; labs that need it are skipped (in CI: fail)");
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(workspace_root().join("tests/tests"))? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if !NOT_LABS.contains(&name.as_str()) && (path.is_file() || path.join("main.rs").is_file()) {
            names.push(name);
        }
    }
    names.sort();
    let mut args = vec!["test", "--release", "-p", "sinew-tests", "--no-fail-fast"];
    names.iter().for_each(|name| args.extend(["--test", name.as_str()]));
    // One lab at a time: they measure, and the machine is one.
    args.extend(["--", "--test-threads=1"]);
    cargo(&args, &[])
}

fn demo() -> Result<Outcome> {
    if let Some(obstacle) = lab_obstacle()
        && !sinew_tests::requirements::in_ci()
    {
        println!("SKIPPED: {obstacle}");
        return Ok(Outcome { ok: true, counts: Counts::default() });
    }
    cargo(&["demo"], &[])
}

fn documents() -> Result<Outcome> {
    let args = ["doc", "--workspace", "--no-deps", "--document-private-items"];
    let outcome = cargo(&args, &[("RUSTDOCFLAGS", "-D warnings")])?;
    if !outcome.ok {
        return Ok(outcome);
    }
    docs::check()
}
