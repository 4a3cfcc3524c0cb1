//! What a node says of its own reachability is true: one with an address of its own, one behind a translator.
//!
//! ```text
//!   k1 ──┐
//!   k2 ──┼── wan ── open          open: an address of its own
//!        └───────── home ── a     home: nftables masquerade; nobody outside can begin a talk with a
//! ```
//! Two judges, who do not know of each other: neighbours, who say where they see the node's datagrams come from
//! (protocol A10.1), and members of the directory, who try to connect to it (AutoNAT; protocol A12.5).

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;
use sinew_tests::cli::text;
use sinew_tests::impair::forward;
use sinew_tests::lab::{Lab, READY, run_lab};
use sinew_tests::ns::{self, End};
use sinew_tests::wait;

/// Members test each other twice a minute.
const JUDGED: Duration = Duration::from_secs(180);
const NETS: [(&str, &str); 4] =
    [("k1", "198.51.100"), ("k2", "203.0.113"), ("open", "192.0.2"), ("home", "198.18.7")];

fn way_out(lab: &Lab, inner: &str, outer: &str, net: &str) -> Result<()> {
    let (near, far) = (format!("{net}.2/24"), format!("{net}.254/24"));
    let near = End { ns: lab.ns(inner), interface: "wan", address: &near };
    let far = End { ns: lab.ns(outer), interface: &format!("to-{inner}"), address: &far };
    ns::connect(near, far, 1500)?;
    lab.ns(inner).ip(&["route", "add", "default", "via", &format!("{net}.254")])?;
    Ok(())
}

fn topology(lab: &mut Lab) -> Result<()> {
    for name in ["wan", "k1", "k2", "open", "home", "a"] {
        lab.node(name)?;
    }
    for (name, net) in NETS {
        way_out(lab, name, "wan", net)?;
    }
    way_out(lab, "a", "home", "192.168.1")?;
    for router in ["wan", "home"] {
        forward(lab.ns(router))?;
    }
    let masquerade = "table ip nat {\nchain out { type nat hook postrouting priority 100; oifname \"wan\" masquerade; }\n}";
    lab.ns("home").run(&["nft", masquerade]).map(|_| ())
}

/// `k1` and `k2` answer in the directory; the others take part, and answer if they are reached.
fn start(lab: &mut Lab) -> Result<()> {
    let mut entries = Vec::new();
    for (name, net) in &NETS[..2] {
        lab.key(name)?;
        let section = "\n[discovery]\nlan = false\nlisten = [\"0.0.0.0:7464\"]\nserve = \"on\"\n";
        lab.config(name).extra = format!("{section}\n[peering]\ntarget = 0\n");
        lab.config(name).finds = true;
        lab.start(name)?;
        lab.wait_ready(name)?;
        let id = text(&lab.cli(name).json(&["key", "show"])?, "peer_id").to_owned();
        entries.push(format!("\"/ip4/{net}.2/tcp/7464/p2p/{id}\""));
    }
    for name in ["open", "a"] {
        lab.key(name)?;
        for (keeper, net) in &NETS[..2] {
            let uri = lab.uri(keeper, &format!("{net}.2"))?;
            lab.config(name).peers.push((uri, 0));
        }
        lab.config(name).finds = true;
        lab.config(name).extra = format!(
            "\n[reach]\nport_mapping = false\n\n[discovery]\nlan = false\nlisten = [\"0.0.0.0:7464\"]\n\
             directory = [{}]\n\n[peering]\ntarget = 0\n",
            entries.join(", ")
        );
        lab.start(name)?;
        lab.wait_ready(name)?;
    }
    Ok(())
}

fn directory(lab: &Lab, name: &str) -> Result<Value> {
    Ok(lab.cli(name).json(&["netcheck"])?["finding"]["directory"].clone())
}

#[test]
fn a_node_knows_whether_it_is_public_or_behind_a_translator() {
    run_lab("reachable", |lab| {
        topology(lab)?;
        start(lab)?;
        for (name, nat, mapping) in
            [("open", "none", "none"), ("a", "endpoint_independent", "endpoint-independent")]
        {
            wait::success(&format!("{name} is told by its neighbours"), READY, || {
                let (check, status) = (lab.cli(name).json(&["netcheck"])?, lab.cli(name).json(&["status"])?);
                ensure!(text(&check, "nat") == nat, "{name}: nat {}: {}", check["nat"], check["reflected"]);
                ensure!(text(&status["reach"], "mapping_ipv4") == mapping, "{name}: {}", status["reach"]);
                Ok(())
            })?;
        }
        let outside = lab.cli("a").json(&["status"])?["reach"]["reflexive"].clone();
        ensure!(outside == serde_json::json!(["198.18.7.2:7463"]), "{outside}");

        let since = Instant::now();
        for (name, verdict, serving) in [("open", "public", true), ("a", "private", false)] {
            wait::success(&format!("{name} is tested"), JUDGED, || {
                let seen = directory(lab, name)?;
                ensure!(
                    text(&seen, "reachability") == verdict && seen["serving"] == serving,
                    "{name}: {seen}"
                );
                Ok(())
            })?;
            eprintln!("{name} knows that it is {verdict} after {:.0} s", since.elapsed().as_secs_f64());
        }
        Ok(())
    });
}
