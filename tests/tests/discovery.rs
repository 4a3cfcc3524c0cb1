//! Nobody pastes lists of peers: nodes on one network find each other, a mesh that knows one node grows
//! by itself and outlives it, and the directory holds what its members are not trusted with.
//!
//! ```text
//!   a ─┐                                  n1 ─┐
//!      ├─ bridge "net" (no way out)       ... ├─ bridge "net", 10.N.0.1/8 each: thirty networks by
//!   b ─┘                                  n29 ┘  the rules of diversity, one link for the kernel
//! ```

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sinew_tests::cli::text;
use sinew_tests::lab::{Lab, run_lab};
use sinew_tests::ns::{self, End};
use sinew_tests::{process, wait};

const MTU: u32 = 1500;
/// Until thirty nodes have their links after the last has started.
const FORMED: Duration = Duration::from_secs(60);
/// Starts of thirty daemons on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A network without anything on it.
fn bridge(lab: &mut Lab) -> Result<()> {
    lab.node("net")?;
    lab.ns("net").ip(&["link", "add", "lan", "type", "bridge"])?;
    lab.ns("net").ip(&["link", "set", "lan", "up"]).map(|_| ())
}

/// A machine on it.
fn join(lab: &mut Lab, name: &str, address: &str) -> Result<()> {
    lab.node(name)?;
    lab.key(name)?;
    let port = format!("p-{name}");
    let near = End { ns: lab.ns(name), interface: "eth0", address };
    let far = End { ns: lab.ns("net"), interface: &port, address: "169.254.9.9/32" };
    ns::connect(near, far, MTU)?;
    let net = lab.ns("net");
    net.ip(&["addr", "flush", "dev", &port])?;
    net.ip(&["link", "set", &port, "master", "lan"])?;
    lab.config(name).finds = true;
    Ok(())
}

fn peer(lab: &Lab, at: &str, of: &str) -> Result<Option<Value>> {
    let id = lab.key(of)?.node_id;
    let peers = lab.cli(at).peers_up()?;
    Ok(peers.into_iter().find(|peer| text(peer, "node_id") == id))
}

#[test]
fn two_on_one_network_find_each_other_without_any_configuration() {
    run_lab("pair", |lab| {
        bridge(lab)?;
        join(lab, "a", "192.168.1.2/24")?;
        join(lab, "b", "192.168.1.3/24")?;
        lab.start("a")?;
        lab.wait_ready("a")?;
        lab.start("b")?;
        lab.wait_ready("b")?;
        let (start, target) = (Instant::now(), lab.address("b")?);
        lab.cli("a").wait_reachable(&target, PATIENCE)?;
        let took = start.elapsed();
        eprintln!("on one network: linked {:.2} s after the second was ready", took.as_secs_f64());
        ensure!(took < Duration::from_secs(3), "{took:?}");
        let link = peer(lab, "a", "b")?.context("no link")?;
        ensure!(text(&link, "endpoint") == "192.168.1.3:7463", "{link}");
        let sources = [
            text(&link, "source").to_owned(),
            text(&peer(lab, "b", "a")?.context("no link")?, "source").to_owned(),
        ];
        ensure!(sources.contains(&"lan".to_owned()), "{sources:?}");
        let check = lab.cli("a").json(&["netcheck"])?;
        ensure!(check["finding"]["lan"]["interfaces"] == serde_json::json!(["eth0"]), "{check}");
        ensure!(check["finding"]["known"]["lan"] == 1, "{check}");
        Ok(())
    });
}

#[test]
fn who_does_not_want_it_says_nothing_on_the_network() {
    run_lab("quiet", |lab| {
        bridge(lab)?;
        join(lab, "a", "192.168.1.2/24")?;
        join(lab, "b", "192.168.1.3/24")?;
        lab.config("a").extra = "\n[discovery]\ninterfaces = [\"wlan*\"]\n".to_owned();
        lab.start_all()?;
        lab.wait_ready("a")?;
        lab.wait_ready("b")?;
        // Both are long past what they do at the start once the third has found b.
        join(lab, "c", "192.168.1.4/24")?;
        lab.start("c")?;
        lab.wait_ready("c")?;
        lab.cli("c").wait_reachable(&lab.address("b")?, PATIENCE)?;
        for name in ["b", "c"] {
            wait::until(&format!("{name} knows one on its network"), PATIENCE, || {
                let check = lab.cli(name).json(&["netcheck"]);
                check.is_ok_and(|check| check["finding"]["known"]["lan"] == 1)
            })?;
        }
        let check = lab.cli("a").json(&["netcheck"])?;
        ensure!(check["finding"]["lan"]["interfaces"] == serde_json::json!([]), "{check}");
        Ok(())
    });
}

/// Nodes that know the hub and nothing else.
const CROWD: usize = 28;

fn name(number: usize) -> String {
    format!("n{number}")
}

/// Links of a node, the hub's aside.
fn links(lab: &Lab, at: &str, hub: &str) -> usize {
    let peers = lab.cli(at).peers_up().unwrap_or_default();
    peers.iter().filter(|peer| text(peer, "node_id") != hub).count()
}

fn crowd(lab: &mut Lab) -> Result<()> {
    bridge(lab)?;
    join(lab, "hub", "10.100.0.1/8")?;
    lab.config("hub").extra = "\n[discovery]\nlan = false\n".to_owned();
    let uri = lab.uri("hub", "10.100.0.1")?;
    lab.start("hub")?;
    lab.wait_ready("hub")?;
    for number in 0..CROWD {
        let name = name(number);
        join(lab, &name, &format!("10.{}.0.1/8", 101 + number))?;
        lab.config(&name).peers.push((uri.clone(), 0));
        // Two of them listen on their network: there the last one comes in.
        let lan = number == 1 || number == 2;
        lab.config(&name).extra = format!("\n[discovery]\nlan = {lan}\n");
        lab.start(&name)?;
    }
    Ok(())
}

/// One packet each way between any two, by the kernel's own ping.
fn any_two_talk(lab: &Lab) -> Result<()> {
    let addresses: Vec<_> = (0..CROWD).map(|number| lab.address(&name(number))).collect::<Result<_>>()?;
    for from in 0..CROWD {
        for (to, address) in addresses.iter().enumerate().filter(|(to, _)| *to != from) {
            wait::success(&format!("ping from n{from} to n{to}"), PATIENCE, || {
                let mut ping = lab.ns(&name(from)).command("ping");
                let said = process::run(ping.args(["-6", "-c1", "-W3", address]), PATIENCE)?;
                ensure!(said.code == Some(0), "{}", said.text());
                Ok(())
            })?;
        }
    }
    Ok(())
}

#[test]
fn thirty_that_know_one_become_a_mesh_that_outlives_it() {
    run_lab("crowd", |lab| {
        crowd(lab)?;
        let start = Instant::now();
        let hub = lab.key("hub")?.node_id;
        for number in 0..CROWD {
            let name = name(number);
            wait::until(&format!("{name} has four links of its own"), PATIENCE, || {
                links(lab, &name, &hub) >= 4
            })?;
        }
        eprintln!(
            "{CROWD} nodes have four links each, {:.1} s after the last start",
            start.elapsed().as_secs_f64()
        );
        ensure!(start.elapsed() < FORMED, "{:?}", start.elapsed());
        wait::until("n0 remembers peers", PATIENCE, || {
            let check = lab.cli("n0").json(&["netcheck"]);
            check.is_ok_and(|check| check["finding"]["remembered"].as_u64() >= Some(3))
        })?;
        lab.kill("hub");
        lab.stop("n0")?;
        lab.start("n0")?;
        lab.wait_ready("n0")?;
        join(lab, "late", "10.200.0.1/8")?;
        lab.start("late")?;
        lab.wait_ready("late")?;
        any_two_talk(lab)?;
        for to in ["n0", "n20"] {
            lab.cli("late").wait_reachable(&lab.address(to)?, PATIENCE)?;
        }
        // Whichever end dialled the other.
        let id = lab.key("late")?.node_id;
        let mut links = lab.cli("late").peers_up()?;
        for name in ["n1", "n2"] {
            links.extend(lab.cli(name).peers_up()?.into_iter().filter(|peer| text(peer, "node_id") == id));
        }
        ensure!(links.iter().any(|peer| text(peer, "source") == "lan"), "{links:?}");
        Ok(())
    });
}

/// `[discovery]` of a node that takes part in the directory by `entry`, and nowhere else.
fn by_directory(entry: &str, more: &str) -> String {
    format!("\n[discovery]\nlan = false\ndirectory = [\"{entry}\"]\n{more}")
}

#[test]
fn the_directory_finds_strangers_and_a_peer_that_has_moved() {
    run_lab("directory", |lab| {
        bridge(lab)?;
        join(lab, "keeper", "10.101.0.1/8")?;
        let own = "\n[discovery]\nlan = false\nlisten = [\"0.0.0.0:7464\"]\nserve = \"on\"\n";
        lab.config("keeper").extra = own.to_owned();
        lab.start("keeper")?;
        lab.wait_ready("keeper")?;
        let id = text(&lab.cli("keeper").json(&["key", "show"])?, "peer_id").to_owned();
        let entry = format!("/ip4/10.101.0.1/tcp/7464/p2p/{id}");
        // The keeper's own record is nobody's business: it links with nobody by itself.
        for (name, address) in [("b", "10.102.0.1/8"), ("c", "10.103.0.1/8")] {
            join(lab, name, address)?;
            let listen = "listen = [\"0.0.0.0:7464\"]\nserve = \"on\"\npublish = true\n";
            lab.config(name).extra = by_directory(&entry, listen);
            lab.start(name)?;
        }
        lab.cli("b").wait_reachable(&lab.address("c")?, PATIENCE)?;
        let sources: Vec<_> = ["b", "c"]
            .iter()
            .flat_map(|name| lab.cli(name).peers_up().unwrap_or_default())
            .map(|peer| text(&peer, "source").to_owned())
            .collect();
        ensure!(sources.contains(&"directory".to_owned()), "{sources:?}");
        wait::until("b reads its record back", PATIENCE, || {
            let check = lab.cli("b").json(&["netcheck"]);
            check.is_ok_and(|check| check["finding"]["directory"]["published"] == true)
        })?;
        // Where this one thinks that b is, nobody is; and it takes no peers but its own.
        join(lab, "d", "10.104.0.1/8")?;
        let uri = lab.uri("b", "10.250.0.1")?;
        lab.config("d").peers.push((uri, 0));
        lab.config("d").extra = by_directory(&entry, "\n[mesh]\naccept = \"listed\"\n");
        lab.start("d")?;
        lab.cli("d").wait_reachable(&lab.address("b")?, PATIENCE)?;
        let link = peer(lab, "d", "b")?.context("no link")?;
        ensure!(text(&link, "endpoint") == "10.102.0.1:7463", "{link}");
        ensure!(text(&link, "source") == "configured", "{link}");
        ensure!(lab.cli("d").peers_up()?.len() == 1, "only the one that is listed");
        Ok(())
    });
}
