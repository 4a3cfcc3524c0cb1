//! Containers on private networks: podman, the plugin, two machines.
//!
//! ```text
//!   a ── b      shop: 10.20.0.0/16
//!   │    └ client: busybox, nc by name
//!   └ web: busybox, httpd
//! ```

use std::time::Duration;

use anyhow::{Result, ensure};
use sinew_tests::cli::text;
use sinew_tests::lab::{Dial, Lab, run_lab};
use sinew_tests::podman::Podman;
use sinew_tests::{tenant, wait};

const SOON: Duration = Duration::from_secs(20);
const PAGE: &str = "from a container";
const SERVER: [&str; 5] = ["httpd", "-f", "-h", "/tmp", "-p80"];

fn start(lab: &mut Lab) -> Result<()> {
    lab.line(&["a", "b"])?;
    lab.peer_links(Dial::Both)?;
    lab.start_all()?;
    lab.wait_mesh()?;
    tenant::network(lab, "shop", "10.20.0.0/16", "a", &["b"])
}

fn names(lab: &Lab, node: &str) -> Result<Vec<String>> {
    let all = lab.cli(node).list(&["workload", "ls"], "workloads")?;
    Ok(all.iter().map(|workload| text(workload, "name").to_owned()).collect())
}

/// Asks for the page until it comes: a session has to be opened first. By `nc`: the static busybox's
/// `wget` dies over names, whatever the network.
fn fetch(podman: &Podman, host: &str) -> Result<()> {
    let ask = format!("printf 'GET /index HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {host} 80");
    wait::until(&format!("the page of {host}"), SOON, || {
        let got = podman.exec("client", &["sh", "-c", &ask]);
        got.is_ok_and(|got| got.stdout.ends_with(PAGE))
    })
}

/// Both containers up, and the client sees the server.
fn pair(lab: &mut Lab) -> Result<(Podman, Podman)> {
    start(lab)?;
    let (at_a, at_b) = (Podman::on(lab, "a")?, Podman::on(lab, "b")?);
    for podman in [&at_a, &at_b] {
        podman.network("pods", "shop", "")?;
    }
    at_a.page("index", PAGE)?;
    at_a.start("web", "pods", &SERVER)?;
    at_b.start("client", "pods", &["sleep", "1000"])?;
    fetch(&at_b, "web")?;
    Ok((at_a, at_b))
}

#[test]
fn containers_on_two_machines_reach_each_other_by_name_and_leave_nothing() {
    run_lab("podman", |lab| {
        let before = {
            start(lab)?;
            lab.ns("a").snapshot()?
        };
        let (at_a, at_b) = (Podman::on(lab, "a")?, Podman::on(lab, "b")?);
        for podman in [&at_a, &at_b] {
            podman.network("pods", "shop", "")?;
        }
        at_a.page("index", PAGE)?;
        at_a.start("web", "pods", &SERVER)?;
        at_b.start("client", "pods", &["sleep", "1000"])?;
        fetch(&at_b, "web.shop.sinew.internal")?;
        fetch(&at_b, "web")?;
        let listed = lab.cli("a").list(&["workload", "ls"], "workloads")?;
        ensure!(text(&listed[0], "name") == "web" && text(&listed[0], "by") == "cni", "{listed:?}");
        let addresses = at_a.exec_ok("web", &["ip", "addr", "show", "dev", "eth0"])?;
        let own = tenant::addresses(lab, "a", "web")?;
        ensure!(own.iter().all(|address| addresses.contains(address.as_str())), "{own:?} {addresses}");
        fetch(&at_b, &own[0])?;
        at_a.remove("web")?;
        ensure!(names(lab, "a")?.is_empty(), "{:?}", names(lab, "a"));
        let after = lab.ns("a").snapshot()?;
        ensure!(before == after, "the machine is not as before:\n{before}\n{after}");
        let missing = at_b.exec("client", &["nslookup", "web.shop.sinew.internal"])?;
        ensure!(missing.code != Some(0), "the name is still there: {}", missing.text());
        Ok(())
    });
}

#[test]
fn a_container_keeps_its_network_through_a_restart_of_the_daemon() {
    run_lab("podmanrestart", |lab| {
        let (_at_a, at_b) = pair(lab)?;
        let before = tenant::addresses(lab, "a", "web")?;
        lab.kill("a");
        lab.start("a")?;
        lab.wait_mesh()?;
        wait::until("the workload is back", SOON, || names(lab, "a").is_ok_and(|names| names == ["web"]))?;
        ensure!(tenant::addresses(lab, "a", "web")? == before, "other addresses than {before:?}");
        fetch(&at_b, "web")
    });
}

#[test]
fn a_container_can_be_removed_while_no_daemon_runs() {
    run_lab("podmandown", |lab| {
        let (at_a, _at_b) = pair(lab)?;
        let pins = lab.dir().join("a/netns");
        let count = || std::fs::read_dir(&pins).map_or(0, Iterator::count);
        ensure!(count() == 1, "{} pinned namespaces", count());
        lab.kill("a");
        at_a.remove("web")?;
        ensure!(count() == 0, "a namespace is still pinned");
        // What cannot be asked for is refused in words that say what to do.
        let refused = at_a.start("late", "pods", &["sleep", "1000"]).unwrap_err().to_string();
        ensure!(refused.contains("no sinew daemon runs at"), "{refused}");
        lab.start("a")?;
        lab.wait_mesh()?;
        wait::until("the workload is forgotten", SOON, || {
            names(lab, "a").is_ok_and(|names| names.is_empty())
        })?;
        let word = lab.dir().join("a/detached");
        let left = std::fs::read_dir(&word)?.count();
        ensure!(left == 0, "{left} words in {} were not taken", word.display());
        at_a.start("web", "pods", &SERVER)
    });
}

#[test]
fn a_container_has_a_bridge_and_a_private_network_side_by_side() {
    run_lab("podmanchain", |lab| {
        start(lab)?;
        let (at_a, at_b) = (Podman::on(lab, "a")?, Podman::on(lab, "b")?);
        let bridge = r#"{"type": "bridge", "bridge": "pods0", "isGateway": true,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": "192.168.7.0/24"}]]}}"#;
        at_a.conflist("both", &format!("{bridge}, {}", at_a.plugin("shop", "")))?;
        at_b.network("pods", "shop", "")?;
        at_a.page("index", PAGE)?;
        at_a.start("web", "both", &SERVER)?;
        at_b.start("client", "pods", &["sleep", "1000"])?;
        fetch(&at_b, "web")?;
        at_a.exec_ok("web", &["ping", "-c1", "-W2", "192.168.7.1"])?;
        at_a.remove("web")?;
        ensure!(names(lab, "a")?.is_empty(), "{:?}", names(lab, "a"));
        Ok(())
    });
}
