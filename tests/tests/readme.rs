//! The README's first page works when it is pasted: its `sh` blocks are run as they stand, one
//! after the other, in one shell that stops at the first failure. So does the guide of private
//! networks, which goes on where that page stands before it takes everything down.
//!
//! Only what the page builds is there already: the programs of all labs, in the same folder.
//!
//! ```text
//!   alice ───── relay ───── bob
//! ```

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sinew_tests::lab::run_lab;
use sinew_tests::ns;
use sinew_tests::process;
use sinew_tests::requirements::{build, workspace_root};

const MACHINES: [&str; 3] = ["alice", "relay", "bob"];
/// The page's first line. It builds the same programs, with fewer features of what they share, all anew.
const BUILD: &str = "cargo build --release\n";
/// Made by the page itself, so its presence says that the machines are a run's leftovers.
const FOLDER: &str = "/tmp/first-mesh";
const DEADLINE: Duration = Duration::from_secs(600);

/// The text of each fenced block marked `sh`.
fn blocks(page: &str) -> Vec<String> {
    let mut inside = false;
    let mut blocks = Vec::new();
    for line in page.lines() {
        match (inside, line.trim()) {
            (false, "```sh") => {
                inside = true;
                blocks.push(String::new());
            }
            (true, "```") => inside = false,
            (true, _) => blocks.last_mut().into_iter().for_each(|block: &mut String| {
                block.push_str(line);
                block.push('\n');
            }),
            _ => {}
        }
    }
    blocks
}

fn page(path: &str) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(workspace_root().join(path))?;
    let blocks = blocks(&text);
    ensure!(blocks.iter().any(|block| block.contains("sinew --socket")), "{path} has no sh blocks");
    Ok(blocks)
}

/// Runs a script of blocks on machines of its own; what it printed.
fn paste(script: &str) -> Result<String> {
    if Path::new(FOLDER).exists() {
        drop(Cleanup);
    }
    for name in MACHINES {
        ensure!(!ns::exists(name), "a namespace `{name}` that is not ours exists");
    }
    ensure!(script.starts_with(BUILD), "the page does not begin with its build");
    build()?;
    let script = script.replacen(BUILD, "", 1);
    let _cleanup = Cleanup;
    let mut shell = process::command("bash");
    shell.current_dir(workspace_root()).args(["-euo", "pipefail", "-c", &script]);
    let output = process::run(&mut shell, DEADLINE)?;
    ensure!(output.code == Some(0), "exit {:?}:\n{}", output.code, output.text());
    for name in MACHINES {
        ensure!(!ns::exists(name), "the page leaves `{name}` behind");
    }
    ensure!(!Path::new(FOLDER).exists(), "the page leaves {FOLDER} behind");
    Ok(output.text())
}

struct Cleanup;

impl Drop for Cleanup {
    fn drop(&mut self) {
        MACHINES.iter().filter(|name| ns::exists(name)).for_each(|name| ns::clean_one(name));
        let _ = std::fs::remove_dir_all(FOLDER);
    }
}

#[test]
fn the_first_page_works_when_pasted() {
    run_lab("readme", |_| {
        let said = paste(&page("README.md")?.concat())?;
        check(&said).with_context(|| said.clone())
    });
}

#[test]
fn the_guide_of_private_networks_works_when_pasted() {
    run_lab("guide", |_| {
        let mut first = page("README.md")?;
        let last = first.pop().context("the page takes nothing down")?;
        let guide = page("docs/guide/private-networks.md")?;
        let said = paste(&[first, guide, vec![last]].concat().concat())?;
        for promise in ["hello from web", "default = \"deny\"", "tcp/22\nverdict  denied"] {
            ensure!(said.contains(promise), "the guide does not show `{promise}`:\n{said}");
        }
        Ok(())
    });
}

/// What the page promises about what is seen.
fn check(output: &str) -> Result<()> {
    ensure!(output.contains("3 packets transmitted, 3 received"), "ping lost packets");
    let trace = output.split("HOP").nth(1).context("no trace")?;
    for name in MACHINES {
        ensure!(trace.contains(name), "the trace does not name {name}");
    }
    Ok(())
}

#[test]
fn only_sh_blocks_are_taken_from_the_page() {
    let page = "a\n```sh\none\ntwo\n```\n```console\nno\n```\n```sh\nthree\n```\n";
    assert_eq!(blocks(page), ["one\ntwo\n", "three\n"]);
}
