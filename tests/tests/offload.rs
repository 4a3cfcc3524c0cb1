//! The switches of `[offload]`, and the fall-back when the kernel does not do what it promises.
//!
//! ```text
//!   a ───── b
//! ```
//! Both ends take and give super-packets by themselves, so each switch is turned at one of them: what
//! one end sends at once, the other must take one by one, and the other way round.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sinew_tests::lab::{Dial, Lab, run_lab};
use sinew_tests::ns::Namespace;
use sinew_tests::workload::{Nginx, fetch, payload_file, url};

const PORT: u16 = 8080;
const BYTES: u64 = 8 << 20;
const DEADLINE: Duration = Duration::from_secs(60);
const KEYS: [&str; 4] = ["tun_read", "tun_write", "udp_send", "udp_receive"];

/// Starts a pair; `off` at node a.
fn start(lab: &mut Lab, via: &str, off: &[&str]) -> Result<()> {
    lab.via = via.to_owned();
    lab.line(&["a", "b"])?;
    lab.peer_links(Dial::First)?;
    let switches: String = off.iter().map(|key| format!("{key} = \"off\"\n")).collect();
    lab.config("a").extra = format!("\n[offload]\n{switches}");
    lab.start_all()?;
    lab.wait_mesh()
}

/// Starts a pair; in front of everything that comes into node a stand these rules.
fn start_behind(lab: &mut Lab, rules: &[&str]) -> Result<()> {
    lab.line(&["a", "b"])?;
    lab.peer_links(Dial::First)?;
    let chain = "add table inet fault
        add chain inet fault in { type filter hook input priority 0; }";
    let rules: String = rules.iter().map(|rule| format!("\nadd rule inet fault in {rule}")).collect();
    lab.ns("a").run(&["nft", &format!("{chain}{rules}")])?;
    lab.start_all()?;
    lab.wait_mesh()
}

fn state(lab: &Lab, node: &str) -> Result<Value> {
    Ok(lab.cli(node).json(&["status"])?["offload"].clone())
}

/// Files cross the mesh intact both ways.
fn transfers(lab: &Lab) -> Result<()> {
    for (server, client) in [("a", "b"), ("b", "a")] {
        let dir = lab.dir().join(format!("nginx-{server}"));
        let _nginx = Nginx::start(lab.ns(server), &dir, PORT)?;
        let sent = payload_file(&dir.join("www/file"), BYTES)?;
        let log = dir.join("curl.log");
        let from = url(&lab.address(server)?, PORT, "file");
        let (bytes, hash) = fetch(lab.ns(client), &from, &log, DEADLINE)?;
        ensure!((bytes, &hash) == (BYTES, &sent), "{server} to {client}: {bytes} bytes, {hash}");
    }
    Ok(())
}

/// Whether the kernel has a feature of the interface switched on; `None` without `ethtool`.
fn feature(ns: &Namespace, name: &str) -> Option<bool> {
    let all = ns.run(&["ethtool", "-k", "sinew0"]).ok()?;
    let line = all.lines().find(|line| line.trim().starts_with(&format!("{name}:")))?;
    Some(line.contains(": on"))
}

#[test]
fn everything_is_on_where_the_kernel_passes_the_tests() {
    run_lab("offload-auto", |lab| {
        start(lab, "udp", &[])?;
        for node in ["a", "b"] {
            let state = state(lab, node)?;
            let on = json!({"tun_read": "on", "tun_write": "on", "udp_send": "on", "udp_receive": "on", "notes": []});
            ensure!(state == on, "{node}: {state}");
        }
        let text = lab.cli("a").run(&["status"])?.stdout;
        ensure!(text.contains("tun read on, tun write on, udp send on, udp receive on"), "{text}");
        ensure!(feature(lab.ns("a"), "tcp-segmentation-offload") != Some(false), "no TSO");
        transfers(lab)
    });
}

#[test]
fn each_switch_off_and_all_of_them_still_carry_tcp_intact() {
    let mut cases: Vec<Vec<&str>> = KEYS.iter().map(|key| vec![*key]).collect();
    cases.push(KEYS.to_vec());
    for off in cases {
        run_lab("offload-off", |lab| {
            start(lab, "udp", &off)?;
            check(lab, &off).with_context(|| format!("{off:?} off"))
        });
    }
}

#[test]
fn super_packets_that_cross_a_stream_are_cut_for_a_tun_that_takes_none() {
    for off in [vec!["tun_write"], vec!["tun_read", "tun_write"]] {
        run_lab("offload-stream", |lab| {
            start(lab, "tcp", &off)?;
            check(lab, &off).with_context(|| format!("{off:?} off"))
        });
    }
}

fn check(lab: &Lab, off: &[&str]) -> Result<()> {
    let state = state(lab, "a")?;
    for key in KEYS {
        let expected = if off.contains(&key) { "off" } else { "on" };
        ensure!(state[key] == expected, "{key}: {state}");
    }
    ensure!(state["notes"] == json!([]), "as configured needs no note: {state}");
    if let Some(on) = feature(lab.ns("a"), "tcp-segmentation-offload") {
        ensure!(on != off.contains(&"tun_read"), "tcp-segmentation-offload: {on}");
    }
    transfers(lab)?;
    let drops = lab.cli("a").json(&["drops"])?;
    for reason in ["tun_queue", "bad_offload", "bad_inner"] {
        let counted =
            drops["drops"].as_array().is_some_and(|all| all.iter().any(|one| one["reason"] == reason));
        ensure!(!counted, "{reason}: {drops}");
    }
    Ok(())
}

/// Long packets vanish in the packet filter, as in a kernel that loses what it was to cut. Both
/// directions find it out by themselves, say so once, and leave the rest on.
#[test]
fn what_fails_its_test_is_switched_off_with_a_reason() {
    run_lab("offload-fault", |lab| {
        start_behind(
            lab,
            &["iifname sinew0 meta length > 2000 drop", "iifname lo ip protocol udp meta length > 2000 drop"],
        )?;
        let (faulty, good) = (state(lab, "a")?, state(lab, "b")?);
        let found = [&faulty["tun_read"], &faulty["tun_write"], &faulty["udp_send"], &faulty["udp_receive"]];
        ensure!(found == ["on", "off", "off", "on"], "{faulty}");
        let notes = faulty["notes"].to_string();
        ensure!(notes.contains("udp_send is off: ") && notes.contains("tun_write is off: "), "{notes}");
        ensure!(good["notes"] == json!([]), "{good}");
        let log = std::fs::read_to_string(lab.config("a").log())?;
        for key in ["udp_send", "tun_write"] {
            let told = log.lines().filter(|line| line.contains(&format!("`{key} = \"on\"` under [offload]")));
            ensure!(told.count() == 1, "{key} in {log}");
        }
        // The filter stays: only what goes in pieces gets through it.
        transfers(lab)
    });
}

/// Where not even single packets come back, nothing has been found out.
#[test]
fn a_packet_filter_that_lets_nothing_in_switches_nothing_off() {
    run_lab("offload-filter", |lab| {
        start_behind(lab, &["iifname { \"lo\", \"sinew0\" } drop"])?;
        let state = state(lab, "a")?;
        for key in KEYS {
            ensure!(state[key] == "on", "{key}: {state}");
        }
        Ok(())
    });
}

#[test]
fn a_changed_switch_asks_for_a_restart() {
    run_lab("offload-reload", |lab| {
        start(lab, "udp", &["udp_send"])?;
        let config = lab.config("a");
        config.extra = "\n[offload]\nudp_send = \"on\"\n".to_owned();
        config.write()?;
        let told = lab.cli("a").json(&["config", "reload"])?;
        let change = &told["changes"][0];
        ensure!(change["key"] == "offload.udp_send" && change["effect"] == "restart", "{told}");
        ensure!(state(lab, "a")?["udp_send"] == "off", "still as it started");
        Ok(())
    });
}
