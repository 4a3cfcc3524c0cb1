//! Running cargo with its output passed on as it comes, while test results are counted.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use sinew_tests::requirements;

/// Tests that ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// What a command ended with.
pub(crate) struct Outcome {
    pub(crate) ok: bool,
    pub(crate) counts: Counts,
}

/// `cargo` with `args` and extra environment, from the workspace's root.
pub(crate) fn cargo(args: &[&str], env: &[(&str, &str)]) -> Result<Outcome> {
    println!("$ {}", shown(args, env));
    let mut command = requirements::cargo();
    command.args(args).envs(env.iter().copied());
    stream(&mut command)
}

fn shown(args: &[&str], env: &[(&str, &str)]) -> String {
    let mut text: String = env.iter().map(|(name, value)| format!("{name}='{value}' ")).collect();
    text.push_str("cargo ");
    text.push_str(&args.join(" "));
    text
}

/// Runs a command without standard input; its output lines go on to ours and are counted.
fn stream(command: &mut Command) -> Result<Outcome> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))?;
    let stdout = child.stdout.take().context("standard output was piped")?;
    let mut counts = Counts::default();
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        counts.add(count(&line));
        println!("{line}");
    }
    Ok(Outcome { ok: child.wait()?.success(), counts })
}

/// Reads libtest's closing line: "test result: ok. 3 passed; 1 failed; …".
fn count(line: &str) -> Counts {
    let Some((_, rest)) = line.split_once("test result: ").and_then(|(_, rest)| rest.split_once(". ")) else {
        return Counts::default();
    };
    let number = |word: &str| {
        let part = rest.split("; ").find(|part| part.trim_end().ends_with(word));
        part.and_then(|part| part.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    Counts { passed: number("passed"), failed: number("failed") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_of_a_test_binary_is_counted() {
        let line = "test result: FAILED. 24 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out";
        assert_eq!(count(line), Counts { passed: 24, failed: 2 });
        assert_eq!(count("test result: ok. 7 passed; 0 failed; 0 ignored"), Counts { passed: 7, failed: 0 });
        assert_eq!(count("test something ... ok"), Counts::default());
    }
}
