//! The README's first page works when it is pasted: its `sh` blocks are run as they stand, one
//! after the other, in one shell that stops at the first failure.
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
use sinew_tests::requirements::workspace_root;

const MACHINES: [&str; 3] = ["alice", "relay", "bob"];
/// Made by the page itself, so its presence says that the machines are a run's leftovers.
const FOLDER: &str = "/tmp/first-mesh";
const DEADLINE: Duration = Duration::from_secs(600);

/// The text of all fenced blocks marked `sh`.
fn blocks(page: &str) -> String {
    let mut inside = false;
    let mut script = String::new();
    for line in page.lines() {
        match (inside, line.trim()) {
            (false, "```sh") => inside = true,
            (true, "```") => inside = false,
            (true, _) => {
                script.push_str(line);
                script.push('\n');
            }
            _ => {}
        }
    }
    script
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
        if Path::new(FOLDER).exists() {
            drop(Cleanup);
        }
        for name in MACHINES {
            ensure!(!ns::exists(name), "a namespace `{name}` that is not ours exists");
        }
        let page = std::fs::read_to_string(workspace_root().join("README.md"))?;
        let script = blocks(&page);
        ensure!(script.contains("sinew --socket"), "the page has no sh blocks");
        let _cleanup = Cleanup;
        let mut shell = process::command("bash");
        shell.current_dir(workspace_root()).args(["-euo", "pipefail", "-c", &script]);
        let output = process::run(&mut shell, DEADLINE)?;
        ensure!(output.code == Some(0), "exit {:?}:\n{}", output.code, output.text());
        check(&output.stdout).with_context(|| output.text())?;
        for name in MACHINES {
            ensure!(!ns::exists(name), "the page leaves `{name}` behind");
        }
        ensure!(!Path::new(FOLDER).exists(), "the page leaves {FOLDER} behind");
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
    assert_eq!(blocks(page), "one\ntwo\nthree\n");
}
