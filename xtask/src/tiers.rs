//! The test tiers, in the order in which a failure is cheapest to find.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use sinew_tests::requirements::{BUILD, lab_obstacle, workspace_root};

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

/// Packages whose tests have tiers of their own.
const SIM: &str = "crates/sim";
const LABS: &str = "tests";

/// Integration tests of `sinew-tests` that are not labs.
const NOT_LABS: &[&str] = &["tidy", "findings", "replay"];

/// Labs that wait more than they work, and measure nothing that a neighbour disturbs: several at once.
const WAITING: &[&str] = &[
    "discovery",
    "fallback",
    "gateway_acme",
    "gateway_certificates",
    "gateway_programs",
    "loops",
    "mistakes",
    "nat",
    "network_mistakes",
    "portmap",
    "weak",
];

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
    test(&["--test", "tidy", "--test", "findings"], &[])
}

fn units() -> Result<Outcome> {
    let mut args = vec!["--lib".to_owned(), "--bins".to_owned()];
    // The simulator's and the whole system's tests have tiers of their own, in release.
    for package in packages_but(&[SIM, LABS])? {
        args.extend(tests_of(&package)?.into_iter().flat_map(|name| ["--test".to_owned(), name]));
    }
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let mut outcome = test(&args, &[])?;
    let examples = test(&["--doc"], &[])?;
    outcome.counts.add(examples.counts);
    Ok(Outcome { ok: outcome.ok && examples.ok, ..outcome })
}

fn build() -> Result<Outcome> {
    cargo(BUILD, &[])
}

fn sim() -> Result<Outcome> {
    let names = tests_of(&workspace_root().join(SIM))?;
    release_tests(&names.iter().map(String::as_str).collect::<Vec<_>>(), &[])
}

fn replay() -> Result<Outcome> {
    release_tests(&["replay"], &[])
}

fn labs() -> Result<Outcome> {
    if let Some(obstacle) = lab_obstacle() {
        println!("note: {obstacle}; labs that need it are skipped (in CI: fail)");
    }
    let names = tests_of(&workspace_root().join(LABS))?;
    let names: Vec<_> = names.iter().map(String::as_str).filter(|name| !NOT_LABS.contains(name)).collect();
    let (waiting, measuring): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| WAITING.contains(name));
    // One lab at a time: they measure, and the machine is one.
    let mut outcome = release_tests(&measuring, &["--test-threads=1"])?;
    let rest = release_tests(&waiting, &["--test-threads=3"])?;
    outcome.counts.add(rest.counts);
    Ok(Outcome { ok: outcome.ok && rest.ok, ..outcome })
}

/// Tests of the workspace as a whole: selecting packages one by one gives what they share other features each
/// time, and builds it anew.
fn test(args: &[&str], run: &[&str]) -> Result<Outcome> {
    let all = [&["test", "--workspace", "--no-fail-fast"], args, &["--"], run].concat();
    cargo(&all, &[])
}

fn release_tests(names: &[&str], run: &[&str]) -> Result<Outcome> {
    let mut args = vec!["--release"];
    names.iter().for_each(|name| args.extend(["--test", name]));
    test(&args, run)
}

/// Folders of the workspace's packages, but for some.
fn packages_but(others: &[&str]) -> Result<Vec<PathBuf>> {
    let root = workspace_root();
    let mut folders: Vec<_> =
        ["daemon", "cli", "cni", "tests", "bench", "xtask"].map(|name| root.join(name)).into();
    for entry in std::fs::read_dir(root.join("crates"))? {
        folders.push(entry?.path());
    }
    folders.retain(|folder| others.iter().all(|other| *folder != root.join(other)));
    folders.sort();
    Ok(folders)
}

/// Names of a package's integration tests. Each is the only one of its name in the workspace (tidy).
fn tests_of(package: &Path) -> Result<Vec<String>> {
    let folder = package.join("tests");
    let mut names = Vec::new();
    if !folder.is_dir() {
        return Ok(names);
    }
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let file = path.is_file() && path.extension().is_some_and(|extension| extension == "rs");
        if file || path.join("main.rs").is_file() {
            names.push(path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
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
