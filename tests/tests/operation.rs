//! A node's life on its host: reload without losing a session, a stop that leaves nothing, a
//! start that repairs what `kill -9` left.
//!
//! ```text
//!   a ───── b ───── c
//! ```

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sinew_tests::cli::{number, text};
use sinew_tests::lab::{Dial, Lab, run_lab};
use sinew_tests::wait;
use sinew_tests::workload::ping;

const DEADLINE: Duration = Duration::from_secs(30);

fn pair(lab: &mut Lab) -> Result<()> {
    lab.line(&["a", "b"])?;
    lab.peer_links(Dial::First)?;
    lab.start_all()?;
    lab.wait_mesh()
}

/// Time since the link from `at` to the node `id` came up, in milliseconds.
fn link_age(lab: &Lab, at: &str, id: &str) -> Result<f64> {
    let peers = lab.cli(at).list(&["peers"], "peers")?;
    let peer = peers.iter().find(|peer| text(peer, "node_id") == id).context("no such peer")?;
    number(peer, "uptime_ms").with_context(|| format!("not up: {peer}"))
}

#[test]
fn a_reload_adds_a_peer_and_drops_no_session() {
    run_lab("reload", |lab| {
        lab.line(&["a", "b", "c"])?;
        lab.peer("a", "b")?;
        lab.key("c")?;
        lab.start_all()?;
        let b = lab.key("b")?;
        lab.cli("a").wait_reachable(&b.address, DEADLINE)?;
        let before = link_age(lab, "a", &b.node_id)?;
        let started = number(&lab.cli("b").json(&["status"])?, "uptime_ms").context("uptime_ms")?;

        // b learns of c by its configuration file and SIGHUP, while a pings it.
        let mut file = lab.config("b").clone();
        let address = lab.underlay("c", "b");
        let uri = lab.uri("c", &address)?;
        file.peers.push((uri, 0));
        file.write()?;
        lab.daemon("b")?.reload()?;
        let c = lab.address("c")?;
        lab.cli("a").wait_reachable(&c, DEADLINE)?;

        let report = ping(lab.ns("a"), &b.address, 10, 20)?;
        ensure!(report.received == report.sent, "{report:?}");
        let after = link_age(lab, "a", &b.node_id)?;
        ensure!(after > before, "the session started anew: {before} ms, then {after} ms");
        let uptime = number(&lab.cli("b").json(&["status"])?, "uptime_ms").context("uptime_ms")?;
        ensure!(uptime > started, "the daemon started anew");
        Ok(())
    });
}

#[test]
fn a_reload_of_a_broken_file_changes_nothing_and_is_told() {
    run_lab("badreload", |lab| {
        pair(lab)?;
        lab.errors_expected = true;
        let b = lab.key("b")?;
        let before = link_age(lab, "a", &b.node_id)?;
        let file = lab.config("a").file();
        let good = std::fs::read_to_string(&file)?;
        std::fs::write(&file, format!("{good}\n[node2]\nx = 1\n"))?;
        let output = lab.cli("a").run(&["config", "reload"])?;
        ensure!(output.code == Some(1), "exit {:?}: {}", output.code, output.text());
        ensure!(output.text().contains("node2"), "the key is not named: {}", output.text());
        lab.daemon("a")?.reload()?;
        let log = lab.config("a").log();
        wait::until("the daemon logs the bad key", DEADLINE, || {
            std::fs::read_to_string(&log).is_ok_and(|text| text.contains("node2"))
        })?;
        ensure!(link_age(lab, "a", &b.node_id)? > before, "the session started anew");
        Ok(())
    });
}

#[test]
fn a_clean_stop_leaves_no_address_route_socket_or_file() {
    run_lab("stop", |lab| {
        lab.line(&["a", "b"])?;
        lab.peer_links(Dial::First)?;
        let clean = lab.ns("a").snapshot()?;
        lab.start_all()?;
        lab.wait_mesh()?;
        let running = lab.ns("a").snapshot()?;
        ensure!(running != clean && running.contains("sinew0"), "nothing was set up:\n{running}");
        let code = lab.stop("a")?;
        ensure!(code == Some(0), "exit {code:?}");
        let after = lab.ns("a").snapshot()?;
        ensure!(after == clean, "left behind:\n{after}\ninstead of:\n{clean}");
        ensure!(!lab.config("a").socket().exists(), "the control socket is still there");
        let gone = lab.cli("a").run(&["status"])?;
        ensure!(gone.code == Some(6), "exit {:?} without a daemon: {}", gone.code, gone.text());
        Ok(())
    });
}

#[test]
fn a_start_repairs_what_kill_9_left() {
    run_lab("repair", |lab| {
        lab.line(&["a", "b"])?;
        lab.peer_links(Dial::Both)?;
        let clean = lab.ns("a").snapshot()?;
        lab.start_all()?;
        lab.wait_mesh()?;
        for _ in 0..3 {
            lab.kill("a");
            lab.start("a")?;
            lab.wait_mesh()?;
        }
        let target = lab.address("b")?;
        let report = ping(lab.ns("a"), &target, 10, 20)?;
        ensure!(report.received == report.sent, "{report:?}");
        ensure!(lab.stop("a")? == Some(0), "no clean stop after a repair");
        let after = lab.ns("a").snapshot()?;
        ensure!(after == clean, "left behind:\n{after}\ninstead of:\n{clean}");
        Ok(())
    });
}
