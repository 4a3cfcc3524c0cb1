//! A star: four leaves that only the hub joins.
//!
//! ```text
//!        a
//!        │
//!   d ── h ── b
//!        │
//!        c
//! ```

use std::time::Duration;

use anyhow::{Result, ensure};
use sinew_tests::cli::{number, text};
use sinew_tests::lab::{Dial, Lab, run_lab};
use sinew_tests::wait;
use sinew_tests::workload::{Iperf, ping};

const LEAVES: [&str; 4] = ["a", "b", "c", "d"];
const DEADLINE: Duration = Duration::from_secs(30);

fn start(lab: &mut Lab) -> Result<()> {
    lab.star("h", &LEAVES)?;
    lab.peer_links(Dial::First)?;
    lab.start_all()?;
    lab.wait_mesh()
}

#[test]
fn every_leaf_reaches_every_other_over_the_hub() {
    run_lab("star", |lab| {
        start(lab)?;
        let hub = lab.key("h")?.node_id;
        for from in LEAVES {
            for to in LEAVES.into_iter().filter(|to| *to != from) {
                let report = ping(lab.ns(from), &lab.address(to)?, 5, 20)?;
                ensure!(report.received == report.sent, "{from} to {to}: {report:?}");
                let hops = lab.cli(from).trace_keys(&lab.address(to)?)?;
                ensure!(hops.len() == 3 && hops[1] == hub, "{from} to {to} goes {hops:?}");
            }
        }
        let routes = lab.cli("a").list(&["routes"], "routes")?;
        for leaf in ["b", "c", "d"] {
            let address = lab.address(leaf)?;
            let route = routes.iter().find(|route| text(route, "destination") == address);
            ensure!(route.is_some_and(|route| text(route, "next_hop") == hub), "{leaf}: {route:?}");
        }
        Ok(())
    });
}

#[test]
fn leaves_talk_at_speed_over_the_hub() {
    run_lab("starspeed", |lab| {
        start(lab)?;
        let server = Iperf::start(lab.ns("b"), lab.dir())?;
        let rate = server.measure(lab.ns("a"), &lab.address("b")?, 3)?;
        eprintln!("leaf to leaf: {:.0} Mbit/s", rate / 1e6);
        ensure!(rate > 50e6, "{:.1} Mbit/s", rate / 1e6);
        Ok(())
    });
}

#[test]
fn without_the_hub_a_leaf_is_unreachable_and_with_it_back_it_is_not() {
    run_lab("hubless", |lab| {
        start(lab)?;
        let target = lab.address("b")?;
        lab.kill("h");
        wait::until("a sees that b is gone", DEADLINE, || {
            let output = lab.cli("a").run(&["ping", &target, "-c", "1"]);
            output.is_ok_and(|output| output.code == Some(3))
        })?;
        let peer = lab.cli("a").list(&["peers"], "peers")?;
        ensure!(number(&peer[0], "uptime_ms").is_none_or(|up| up == 0.0), "the hub still counts: {peer:?}");
        lab.start("h")?;
        lab.wait_mesh()
    });
}
