//! The mesh does not carry itself: not by configuration, not by a name, not by a route. And what
//! only looks like a loop, a mesh inside a private network of another, works.
//!
//! ```text
//!   own address, address of a network, route into the tunnel:   a ───── b
//!
//!   nested:   a ─────────────── b            outer mesh
//!             outer-a ═════════ outer-b      workloads of a private network, each with a daemon of
//!                     inner mesh             its own inside
//! ```

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sinew_tests::cli::{Cli, text};
use sinew_tests::lab::{Dial, READY, run_lab};
use sinew_tests::ns::Namespace;
use sinew_tests::requirements::Bins;
use sinew_tests::sinewd::{NodeConfig, NodeKey, PORT, new_key};
use sinew_tests::tenant::{self, Workload};
use sinew_tests::wait;
use sinew_tests::workload::ping;

const SOON: Duration = Duration::from_secs(20);
/// What WireGuard's own test allows a tunnel whose packets are routed into itself.
const LOOP_BYTES: u64 = 70_000;

#[test]
fn a_node_does_not_dial_itself() {
    run_lab("own", |lab| {
        lab.line(&["a", "b"])?;
        lab.via = "udp,tcp".into();
        let own = lab.underlay("a", "b");
        let (uri, wrong) = (lab.key("b")?.node_id, own);
        lab.config("a").peers.push((format!("sinew://{uri}@{wrong}:{PORT}?via=udp,tcp"), 0));
        lab.key("a")?;
        lab.start("a")?;
        let refused = wait::value("the refusal", SOON, || {
            let why = lab.cli("a").run_json(&["why", &uri]).ok()?;
            let why: serde_json::Value = serde_json::from_str(&why.stdout).ok()?;
            let known = why.get("candidates")?.as_array()?.clone();
            (known.len() == 2).then_some(known)
        })?;
        for known in &refused {
            ensure!(text(known, "state") == "failed", "{known}");
            ensure!(text(known, "answer").contains("this node itself"), "{known}");
        }
        Ok(())
    });
}

#[test]
fn a_node_is_not_dialled_inside_a_private_network() {
    run_lab("within", |lab| {
        lab.line(&["a", "b"])?;
        lab.node("c")?;
        lab.peer_links(Dial::First)?;
        lab.start_all()?;
        lab.wait_mesh()?;
        tenant::network(lab, "lab", "10.20.0.0/16", "a", &["b"])?;
        let workload = Workload::start(lab, "b", "lab", "box", &["sleep", "infinity"])?;
        let addresses = workload.addresses(lab)?;
        let inside = addresses.iter().find(|address| address.contains(':')).context("an IPv6 address")?;
        let node = lab.key("c")?.node_id;
        lab.config("a").peers.push((format!("sinew://{node}@[{inside}]:{PORT}?via=udp,tcp"), 0));
        lab.config("a").write()?;
        lab.cli("a").json(&["config", "reload"])?;
        let refused = wait::value("the refusal", SOON, || {
            let why = lab.cli("a").run_json(&["why", &node]).ok()?;
            let why: serde_json::Value = serde_json::from_str(&why.stdout).ok()?;
            let known = why.get("candidates")?.as_array()?.clone();
            let failed = |known: &serde_json::Value| text(known, "state") == "failed";
            (!known.is_empty() && known.iter().all(failed)).then_some(known)
        })?;
        for known in &refused {
            ensure!(text(known, "answer").contains("usable address"), "{known}");
        }
        Ok(())
    });
}

/// Bytes that the host has put into an interface.
fn sent_into(ns: &Namespace, interface: &str) -> Result<u64> {
    let path = format!("/sys/class/net/{interface}/statistics/tx_bytes");
    Ok(ns.run(&["cat", &path])?.trim().parse()?)
}

#[test]
fn a_route_to_the_peer_through_the_tunnel_does_not_loop_and_heals() {
    run_lab("inside", |lab| {
        lab.line(&["a", "b"])?;
        lab.via = "udp,tcp".into();
        lab.peer_links(Dial::First)?;
        lab.start_all()?;
        lab.wait_mesh()?;
        let (target, underlay) = (lab.address("b")?, lab.underlay("b", "a"));
        let before = sent_into(lab.ns("a"), "sinew0")?;
        lab.ns("a").ip(&["route", "add", &format!("{underlay}/32"), "dev", "sinew0"])?;
        let lost = ping(lab.ns("a"), &target, 50, 100)?;
        ensure!(lost.received < lost.sent, "the route leads into the tunnel: {lost:?}");
        let fed = sent_into(lab.ns("a"), "sinew0")? - before;
        eprintln!("{fed} bytes went into the tunnel");
        ensure!(fed < LOOP_BYTES, "{fed} bytes: the tunnel feeds itself");
        lab.ns("a").ip(&["route", "del", &format!("{underlay}/32"), "dev", "sinew0"])?;
        lab.cli("a").wait_reachable(&target, READY)
    });
}

/// A daemon inside a workload: its configuration and key.
fn inner(lab: &sinew_tests::lab::Lab, name: &str) -> Result<(NodeConfig, NodeKey)> {
    let dir = lab.dir().join(name);
    std::fs::create_dir_all(&dir)?;
    let mut config = NodeConfig::new(name, &dir);
    // The outer mesh has the name that a device has by default.
    config.extra = String::new();
    let key = new_key(&config.key_file())?;
    Ok((config, key))
}

fn write_inner(config: &NodeConfig) -> Result<()> {
    config.write()?;
    let text = config.toml().replace("name = \"sinew0\"", "name = \"inner0\"");
    std::fs::write(config.file(), text)?;
    Ok(())
}

#[test]
fn a_mesh_inside_a_private_network_of_another_works() {
    run_lab("nested", |lab| {
        lab.line(&["a", "b"])?;
        lab.peer_links(Dial::First)?;
        lab.start_all()?;
        lab.wait_mesh()?;
        tenant::network(lab, "lab", "10.20.0.0/16", "a", &["b"])?;
        let sinewd = Bins::get()?.sinewd.display().to_string();

        let (one, key_one) = inner(lab, "inner-a")?;
        write_inner(&one)?;
        let file = one.file().display().to_string();
        let outer_a = Workload::start(lab, "a", "lab", "outer-a", &[&sinewd, "--config", &file])?;
        let addresses = outer_a.addresses(lab)?;
        let address = addresses.first().context("outer-a has an address")?;

        let (mut two, _) = inner(lab, "inner-b")?;
        two.peers.push((format!("sinew://{}@{address}:{PORT}?via=udp,tcp", key_one.node_id), 0));
        write_inner(&two)?;
        let file = two.file().display().to_string();
        let outer_b = Workload::start(lab, "b", "lab", "outer-b", &[&sinewd, "--config", &file])?;

        let cli = Cli::new(lab.ns("b"), two.socket());
        cli.wait_reachable(&key_one.address, READY)?;
        let peers = cli.peers_up()?;
        let endpoint = text(peers.first().context("a peer")?, "endpoint").to_owned();
        ensure!(endpoint == format!("{address}:{PORT}"), "the inner mesh goes over {endpoint}");
        let said =
            outer_b.run(lab, &["ping", "-6", "-c", "5", "-i", "0.2", "-s", "1000", &key_one.address])?;
        ensure!(said.contains(" 5 received"), "{said}");
        Ok(())
    });
}
