//! What operators let their nodes carry: bandwidth for others, bandwidth to a peer, and nothing for others.
//!
//! ```text
//!   a ───── r ───── b        limits: r carries 20 Mbit/s between others; then a sends r no more than that
//! iperf3          iperf3 -s
//!
//!       ┌── r ──┐            r carries nothing for others: a and b are apart until s comes
//!   a ──┤       ├── b
//!       └── s ──┘
//!
//!         a ─── s            leaf carries nothing for others, and keeps no table: whom it does not know
//!       ┌─┤                  it asks a, or b when its link with a is cut
//!  leaf │ │
//!       └─b
//! ```

use anyhow::{Result, ensure};
use sinew_tests::cli::{number, text};
use sinew_tests::lab::{Dial, Lab, READY, run_lab};
use sinew_tests::wait;
use sinew_tests::workload::{Iperf, ping};

const LIMIT: f64 = 20e6;
const SECONDS: u32 = 3;

/// Measured and shown: bits per second of TCP payload.
fn measure(lab: &Lab, server: &Iperf, to: &str, what: &str) -> Result<f64> {
    let rate = server.measure(lab.ns("a"), &lab.address(to)?, SECONDS)?;
    eprintln!("a to {to}, {what}: {:.1} Mbit/s", rate / 1e6);
    Ok(rate)
}

/// Headers count, so that TCP's own share of the limit is less than all of it.
fn is_limited(rate: f64) -> Result<()> {
    ensure!((0.60 * LIMIT..1.05 * LIMIT).contains(&rate), "{:.1} Mbit/s", rate / 1e6);
    Ok(())
}

fn is_free(rate: f64) -> Result<()> {
    ensure!(rate > 3.0 * LIMIT, "{:.1} Mbit/s", rate / 1e6);
    Ok(())
}

fn dropped(lab: &Lab, node: &str, reason: &str) -> Result<bool> {
    let all = lab.cli(node).list(&["drops"], "drops")?;
    Ok(all.iter().any(|drop| text(drop, "reason") == reason && number(drop, "count") > Some(0.0)))
}

/// Writes more configuration and has the running daemon read it; every change must be in force at once.
fn reload(lab: &mut Lab, node: &str, extra: &str) -> Result<()> {
    lab.config(node).extra = extra.to_owned();
    lab.config(node).write()?;
    let changes = lab.cli(node).list(&["config", "reload"], "changes")?;
    let live = !changes.is_empty() && changes.iter().all(|change| text(change, "effect") == "live");
    ensure!(live, "{changes:?}");
    Ok(())
}

#[test]
fn bandwidth_for_others_and_to_a_peer_stays_within_its_limit() {
    run_lab("limits", |lab| {
        lab.line(&["a", "r", "b"])?;
        lab.peer_links(Dial::First)?;
        lab.config("r").extra = "\n[transit]\nlimit = \"20 Mbit/s\"\n".into();
        lab.start_all()?;
        lab.wait_mesh()?;
        let (at_b, at_r) = (Iperf::start(lab.ns("b"), lab.dir())?, Iperf::start(lab.ns("r"), lab.dir())?);
        is_limited(measure(lab, &at_b, "b", "r limits transit")?)?;
        is_free(measure(lab, &at_r, "r", "r limits transit")?)?;
        ensure!(dropped(lab, "r", "transit_limit")?, "nothing counted");
        ensure!(!dropped(lab, "r", "peer_limit")?, "no peer has a limit");

        reload(lab, "r", "")?;
        is_free(measure(lab, &at_b, "b", "no limit")?)?;
        // The last thing in the file is the entry of r.
        reload(lab, "a", "limit = \"20 Mbit/s\"\n")?;
        let peers = lab.cli("a").peers_up()?;
        ensure!(peers.iter().all(|peer| number(peer, "limit") == Some(LIMIT / 8.0)), "{peers:?}");
        is_limited(measure(lab, &at_r, "r", "a limits r")?)?;
        is_limited(measure(lab, &at_b, "b", "a limits r")?)?;
        ensure!(dropped(lab, "a", "peer_limit")?, "nothing counted");
        // Not for a moment did a limit cost the link.
        let ups: Vec<_> = lab.cli("r").peers_up()?;
        ensure!(ups.len() == 2 && ups.iter().all(|up| number(up, "uptime_ms") > Some(12_000.0)), "{ups:?}");
        Ok(())
    });
}

#[test]
fn a_node_without_transit_is_reached_and_passed_by() {
    run_lab("leaf", |lab| {
        for name in ["a", "b", "r", "s"] {
            lab.node(name)?;
        }
        for (from, to) in [("a", "r"), ("b", "r"), ("a", "s"), ("b", "s")] {
            lab.link(from, to)?;
        }
        lab.peer_links(Dial::First)?;
        lab.config("r").extra = "\n[transit]\nenabled = false\n".into();
        for name in ["a", "b", "r"] {
            lab.start(name)?;
        }
        let [a, b, r] = [lab.address("a")?, lab.address("b")?, lab.address("r")?];
        for (from, to) in [("a", &r), ("b", &r), ("r", &a), ("r", &b)] {
            lab.cli(from).wait_reachable(to, READY)?;
        }
        ensure!(text(&lab.cli("r").json(&["status"])?, "class") == "stub", "r takes itself for a router");
        let through = ping(lab.ns("a"), &b, 5, 100)?;
        ensure!(through.received == 0, "r carried {through:?}");

        lab.start("s")?;
        lab.cli("a").wait_reachable(&b, READY)?;
        let expected: Vec<_> =
            ["a", "s", "b"].iter().map(|name| Ok(lab.key(name)?.node_id)).collect::<Result<_>>()?;
        ensure!(lab.cli("a").trace_keys(&b)? == expected, "not over s");
        // And r, too, uses others: it has no link with s.
        let s = lab.address("s")?;
        wait::success("r reaches s", READY, || {
            let report = ping(lab.ns("r"), &s, 5, 100)?;
            ensure!(report.received == report.sent, "{report:?}");
            Ok(())
        })
    });
}

/// Whether `from` gets an answer from an address, by `sinew ping` alone.
fn answered(lab: &Lab, from: &str, address: &str) -> Result<()> {
    let output = lab.cli(from).run_json(&["ping", address, "-c", "3", "-i", "0.2"])?;
    ensure!(matches!(output.code, Some(0 | 2)), "{from}: exit {:?}: {}", output.code, output.text());
    Ok(())
}

fn goes_over(lab: &Lab, from: &str, hops: &[&str], to: &str) -> Result<()> {
    let expected: Vec<_> =
        [&[from], hops, &[to]].concat().iter().map(|n| Ok(lab.key(n)?.node_id)).collect::<Result<_>>()?;
    let found = lab.cli(from).trace_keys(&lab.address(to)?)?;
    ensure!(found == expected, "from {from} to {to} over {found:?}, not {expected:?}");
    Ok(())
}

#[test]
fn a_leaf_pings_and_traces_whom_it_has_no_link_with_and_whom_it_lost_one_with() {
    run_lab("stranger", |lab| {
        for name in ["leaf", "a", "b", "s"] {
            lab.node(name)?;
        }
        for (from, to) in [("leaf", "a"), ("leaf", "b"), ("a", "b"), ("a", "s")] {
            lab.link(from, to)?;
        }
        lab.peer_links(Dial::First)?;
        lab.config("leaf").extra = "\n[transit]\nenabled = false\n".into();
        lab.start_all()?;
        let [s, a, leaf] = [lab.address("s")?, lab.address("a")?, lab.address("leaf")?];
        lab.cli("b").wait_reachable(&s, READY)?;
        lab.cli("s").wait_reachable(&leaf, READY)?;
        for name in ["a", "b"] {
            lab.cli("leaf").wait_reachable(&lab.address(name)?, READY)?;
        }
        // The leaf itself has sent nothing to s so far but answers; a restart forgets even those.
        lab.kill("leaf");
        lab.start("leaf")?;
        lab.wait_ready("leaf")?;
        answered(lab, "leaf", &s)?;
        // By a, or by b and a: both are upstreams.
        let traced = lab.cli("leaf").trace_keys(&s)?;
        ensure!(traced.last() == Some(&lab.key("s")?.node_id), "the trace ends at {traced:?}");
        wait::success("both links stand", READY, || {
            let links = lab.cli("leaf").peers_up()?.len();
            ensure!(links == 2, "{links} links");
            Ok(())
        })?;

        lab.cut("leaf", "a")?;
        wait::success("both ends see the cut", READY, || {
            let ups = [lab.cli("leaf").peers_up()?.len(), lab.cli("a").peers_up()?.len()];
            ensure!(ups == [1, 2], "{ups:?}");
            Ok(())
        })?;
        lab.cli("a").wait_reachable(&leaf, READY)?;
        answered(lab, "leaf", &a)?;
        goes_over(lab, "leaf", &["b"], "a")?;
        goes_over(lab, "a", &["b"], "leaf")?;
        goes_over(lab, "leaf", &["b", "a"], "s")
    });
}
