//! `sinew doctor`, `netcheck` and `why` with real trouble under them: each names what is wrong, what it comes
//! from and what to do, and is content again once that is done.
//!
//! ```text
//!   a ───── b      a dials b; the packet filter of b, or what a was told, is the trouble
//! ```

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sinew_tests::cli::text;
use sinew_tests::impair::Faults;
use sinew_tests::lab::{Lab, interface, run_lab};
use sinew_tests::sinewd::PORT;
use sinew_tests::wait;

const SOON: Duration = Duration::from_secs(30);
/// Back on UDP within this, and forgotten that it was not.
const UPGRADE: Duration = Duration::from_secs(60);

/// `a` knows `b` by UDP and TCP.
fn two(lab: &mut Lab) -> Result<()> {
    lab.line(&["a", "b"])?;
    lab.via = "udp,tcp".to_owned();
    lab.config("b").listen = format!("udp = [\"0.0.0.0:{PORT}\"]\ntcp = [\"0.0.0.0:{PORT}\"]\n");
    lab.config("a").listen = format!("udp = [\"0.0.0.0:{PORT}\"]\n");
    lab.key("a").map(drop)
}

/// Exit code and findings of `sinew doctor` on `a`.
fn doctor(lab: &Lab) -> Result<(i32, Vec<Value>)> {
    let output = lab.cli("a").run_json(&["doctor"])?;
    let value: Value =
        serde_json::from_str(&output.stdout).with_context(|| format!("not JSON: {}", output.text()))?;
    ensure!(value["schema_version"] == 1, "{value}");
    let findings = value["findings"].as_array().cloned().context("no findings")?;
    Ok((output.code.unwrap_or(-1), findings))
}

/// Waits until the doctor has this word, with every one of `words` in what it says of it, and people are told
/// the same.
fn diagnosed(lab: &Lab, code: &str, exit: i32, words: &[&str]) -> Result<()> {
    let told = |finding: &Value| {
        let all = ["text", "cause", "fix"].map(|key| text(finding, key)).join("; ");
        text(finding, "code") == code && words.iter().all(|word| all.contains(word))
    };
    let found = wait::until(&format!("the doctor says {code}"), SOON, || {
        doctor(lab).is_ok_and(|(got, findings)| got == exit && findings.iter().any(told))
    });
    found.with_context(|| format!("{words:?} in {:#?}", doctor(lab)))?;
    let table = lab.cli("a").run(&["doctor"])?;
    ensure!(table.code == Some(exit), "exit {:?}", table.code);
    let flat = table.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for word in words.iter().chain([&code]) {
        ensure!(flat.contains(word), "people are not told {word}: {}", table.stdout);
    }
    Ok(())
}

fn carrier_passes(lab: &Lab, carrier: &str) -> Result<Value> {
    let check = lab.cli("a").json(&["netcheck"])?;
    let carriers = check["carriers"].as_array().context("no carriers")?;
    let one = carriers.iter().find(|one| text(one, "carrier") == carrier).context("not that carrier")?;
    Ok(one["passes"].clone())
}

#[test]
fn a_firewall_that_drops_udp_is_named_until_it_lets_it_pass() {
    run_lab("noudp", |lab| {
        two(lab)?;
        lab.peer("a", "b")?;
        Faults::of(lab.ns("b"))?.block_udp(&interface("a"))?;
        lab.start_all()?;
        lab.wait_mesh()?;
        diagnosed(lab, "udp_blocked", 2, &["firewall", "let it pass UDP"])?;
        ensure!(carrier_passes(lab, "udp")? == false && carrier_passes(lab, "tcp")? == true);
        let table = lab.cli("a").run(&["netcheck"])?;
        let row = table.stdout.lines().find(|line| line.starts_with("udp")).unwrap_or_default();
        ensure!(table.code == Some(0) && row.contains("no answer"), "{}", table.stdout);
        let why = lab.cli("a").run(&["why", &lab.address("b")?])?;
        ensure!(why.code == Some(0), "direct over TCP: exit {:?}", why.code);
        let told = why.stdout.contains("because udp did not answer [better_failed]");
        ensure!(told && why.stdout.contains("let firewalls on the way pass"), "{}", why.stdout);
        Faults::of(lab.ns("b"))?.pass_udp(&interface("a"))?;
        wait::until("nothing is wrong", UPGRADE, || {
            doctor(lab).is_ok_and(|(code, findings)| {
                code == 0 && !findings.iter().any(|one| text(one, "code") == "udp_blocked")
            })
        })
        .with_context(|| format!("{:#?}", doctor(lab)))
    });
}

#[test]
fn a_network_that_passes_nothing_is_named() {
    run_lab("nothing", |lab| {
        two(lab)?;
        lab.peer("a", "b")?;
        lab.start_all()?;
        lab.wait_mesh()?;
        diagnosed_well(lab)?;
        lab.cut("a", "b")?;
        diagnosed(lab, "nothing_passes", 2, &["offline", "ping"])?;
        diagnosed(lab, "peer_down", 2, &["sinew why"])?;
        let why = lab.cli("a").run(&["why", &lab.address("b")?])?;
        ensure!(why.code == Some(3) && why.stdout.contains("unreachable"), "{:?} {}", why.code, why.stdout);
        ensure!(why.stdout.contains("[no_route]") && why.stdout.contains("sinew routes"), "{}", why.stdout);
        lab.heal("a", "b")?;
        wait::until("all is well again", UPGRADE, || diagnosed_well(lab).is_ok())
    });
}

fn diagnosed_well(lab: &Lab) -> Result<()> {
    let (code, findings) = doctor(lab)?;
    ensure!(code == 0, "exit {code}: {findings:#?}");
    Ok(())
}

#[test]
fn a_closed_port_is_told_from_silence() {
    run_lab("port", |lab| {
        two(lab)?;
        let uri = lab.uri("b", &lab.underlay("b", "a"))?.replace(":7463", ":7999");
        lab.config("a").peers.push((uri.replace("udp,tcp", "tcp"), 0));
        lab.start_all()?;
        diagnosed(lab, "peer_down", 2, &["7999", "refused"])?;
        let why = lab.cli("a").run(&["why", &lab.key("b")?.node_id])?;
        ensure!(why.code == Some(3) && why.stdout.contains("refused"), "{:?} {}", why.code, why.stdout);
        Ok(())
    });
}

#[test]
fn a_host_without_a_way_out_is_told_so() {
    run_lab("route", |lab| {
        two(lab)?;
        // Nobody is there, and the host has no default route.
        let uri = lab.uri("b", "203.0.113.9")?;
        lab.config("a").peers.push((uri, 0));
        lab.start_all()?;
        diagnosed(lab, "peer_down", 2, &["203.0.113.9", "unreachable", "default route"])
    });
}

#[test]
fn a_name_that_means_nothing_is_told_from_a_peer_that_is_down() {
    run_lab("name", |lab| {
        two(lab)?;
        let uri = lab.uri("b", "nowhere.invalid")?;
        lab.config("a").peers.push((uri, 0));
        lab.start_all()?;
        diagnosed(lab, "peer_down", 2, &["nowhere.invalid"])
    });
}

#[test]
fn a_link_that_loses_packets_is_blamed_on_the_network() {
    run_lab("loss", |lab| {
        two(lab)?;
        lab.peer("a", "b")?;
        lab.start_all()?;
        lab.wait_mesh()?;
        Faults::of(lab.ns("b"))?.lose(&interface("a"), 25)?;
        diagnosed(lab, "link_lossy", 2, &["% of its probes", "not at Sinew"])
    });
}

#[test]
fn without_a_daemon_every_verb_says_so_and_how_to_start_it() {
    run_lab("daemon", |lab| {
        two(lab)?;
        for verb in [&["doctor"][..], &["netcheck"], &["why", "b"]] {
            for output in [lab.cli("a").run(verb)?, lab.cli("a").run_json(verb)?] {
                ensure!(output.code == Some(6), "{verb:?}: exit {:?}: {}", output.code, output.text());
                let told = ["no daemon runs at", "sinew.sock", "sinewd --config", "systemctl start sinewd"];
                let all = told.iter().all(|words| output.text().contains(words));
                ensure!(all, "{verb:?}: {}", output.text());
            }
        }
        Ok(())
    });
}

#[test]
fn somebody_nobody_knows_is_no_trouble_of_the_network() {
    run_lab("unknown", |lab| {
        two(lab)?;
        lab.start_all()?;
        diagnosed(lab, "alone", 0, &["[[peer]]", "sinew peers add"])?;
        let why = lab.cli("a").run(&["why", "nobody"])?;
        ensure!(why.code == Some(4), "exit {:?}: {}", why.code, why.text());
        Ok(())
    });
}
