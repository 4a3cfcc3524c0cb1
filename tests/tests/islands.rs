//! Two islands that have lived apart, joined while they run: by a new link, and by a peer that
//! an operator adds without a restart.
//!
//! ```text
//!   a ───── b   ·   c ───── d          then        a ───── b ═════ c ───── d
//! ```

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sinew_tests::cli::text;
use sinew_tests::lab::{Dial, Lab, run_lab};
use sinew_tests::wait;
use sinew_tests::workload::ping;

const DEADLINE: Duration = Duration::from_secs(30);

fn start(lab: &mut Lab) -> Result<()> {
    lab.line(&["a", "b"])?;
    lab.line(&["c", "d"])?;
    lab.peer_links(Dial::First)?;
    lab.start_all()?;
    for (from, to) in [("a", "b"), ("b", "a"), ("c", "d"), ("d", "c")] {
        let target = lab.address(to)?;
        lab.cli(from).wait_reachable(&target, DEADLINE)?;
    }
    Ok(())
}

#[test]
fn islands_joined_late_become_one_mesh() {
    run_lab("islands", |lab| {
        start(lab)?;
        let far = lab.address("d")?;
        let apart = lab.cli("a").run(&["ping", &far, "-c", "1"])?;
        ensure!(matches!(apart.code, Some(3 | 4)), "d is reachable before there is a way: {}", apart.text());

        lab.link("b", "c")?;
        let address = lab.underlay("c", "b");
        let uri = lab.uri("c", &address)?;
        let joined = Instant::now();
        lab.cli("b").json(&["peers", "add", &uri])?;
        lab.wait_mesh()?;
        eprintln!("one mesh {:.2} s after the peer was added", joined.elapsed().as_secs_f64());
        let report = ping(lab.ns("a"), &far, 20, 20)?;
        ensure!(report.received == report.sent, "{report:?}");

        // And apart again: what was learned over the bridge has to go.
        let id = lab.key("c")?.node_id;
        lab.cli("b").json(&["peers", "rm", &id])?;
        wait::until("a has lost its route to d", DEADLINE, || {
            let routes = lab.cli("a").list(&["routes"], "routes").unwrap_or_default();
            routes.iter().all(|route| text(route, "destination") != far)
        })
    });
}

#[test]
fn a_saved_peer_is_in_the_file_and_survives_a_restart() {
    run_lab("saved", |lab| {
        start(lab)?;
        lab.link("b", "c")?;
        let address = lab.underlay("c", "b");
        let uri = lab.uri("c", &address)?;
        lab.cli("b").json(&["peers", "add", &uri, "--save"])?;
        let file = std::fs::read_to_string(lab.config("b").file())?;
        ensure!(file.contains(&uri), "the peer is not in the file:\n{file}");
        lab.config("b").peers.push((uri, 0));
        lab.stop("b")?;
        lab.start("b")?;
        lab.wait_mesh()
    });
}
