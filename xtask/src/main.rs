//! Developer commands.
//!
//! - `cargo xtest [TIER…]` installs what is missing and runs every test tier, or the named ones.
//! - `cargo demo [--keep|--clean]` shows the main job on one machine, in namespaces of its own.
//!
//! Both are what the README tells a newcomer to type, and `.ci/run` is nothing but the first.

// A command line talks to its user on standard output.
#![allow(clippy::print_stdout)]

mod demo;
mod docs;
mod exec;
mod licences;
mod packages;
mod tiers;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtest [TIER...]       run all test tiers, or the named ones
       cargo xtest --list          name the tiers
       cargo demo [--keep]         show a mesh at work; --keep leaves it up
       cargo demo --clean          remove what --keep left";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match words.as_slice() {
        ["test", "--list"] => Ok(tiers::list()),
        ["test", names @ ..] if names.iter().all(|name| tiers::exists(name)) => tiers::run(names),
        ["demo"] => demo::run(false),
        ["demo", "--keep"] => demo::run(true),
        ["demo", "--clean"] => demo::clean(),
        ["help" | "--help" | "-h"] | ["test" | "demo", "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(true)
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(1);
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
