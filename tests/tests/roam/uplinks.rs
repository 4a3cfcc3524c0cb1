//! Several uplinks, and several addresses of a peer: one in use, the others standing by.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use sinew_tests::cli::text;
use sinew_tests::impair::{Faults, shape};
use sinew_tests::lab::{Lab, run_lab};
use sinew_tests::ns::{self, End};
use sinew_tests::sinewd::PORT;
use sinew_tests::wait;
use sinew_tests::workload::{Nginx, Transfer, payload_file, url};

use crate::beat::Beat;
use crate::{SOON, WEB, pass, start, topology, uplink};

/// The longest silence when one of two uplinks is pulled.
const GAP: Duration = Duration::from_secs(1);
/// The longest of a TCP transfer inside: it tries again by its own timer, some 0.2, 0.6 and 1.4 s after the last answer. On
/// a busy machine the second may fall into the silence, and the third is the first to get through.
const TCP_GAP: Duration = Duration::from_secs(2);

#[test]
fn of_two_uplinks_the_second_takes_over_when_the_first_is_pulled_and_flows_survive() {
    run_lab("uplinks", |lab| {
        topology(lab)?;
        uplink(lab, "up2", "10.78.2")?;
        lab.ns("a").ip(&["route", "add", "default", "via", "10.78.2.254", "metric", "200"])?;
        start(lab)?;
        let mut beat = Beat::start(lab)?;
        let before = SystemTime::now();
        beat.settle(before, Duration::from_secs(1))?;

        let pulled = SystemTime::now();
        lab.ns("a").ip(&["link", "set", "wan", "down"])?;
        beat.settle(pulled, Duration::from_secs(3))?;
        let gap = beat.longest_gap(pulled);
        eprintln!("first uplink pulled: {} ms of silence", gap.as_millis());
        ensure!(gap < GAP, "{gap:?} of silence");
        Ok(())
    });
}

#[test]
fn of_two_addresses_of_a_peer_the_second_stands_by_and_a_flapping_first_moves_nothing() {
    run_lab("standby", |lab| {
        topology(lab)?;
        // b has a second address, by a link of its own.
        let far = End { ns: lab.ns("b"), interface: "dsl", address: "10.79.0.2/24" };
        let near = End { ns: lab.ns("r"), interface: "r-dsl", address: "10.79.0.254/24" };
        ns::connect(near, far, 1500)?;
        let second = lab.uri("b", "10.79.0.2")?;
        // A socket for each, so that answers leave from where they were asked.
        let first = lab.underlay("b", "r");
        lab.config("b").listen = format!("udp = [\"{first}:{PORT}\", \"10.79.0.2:{PORT}\"]\n");
        lab.config("a").peers.push((second, 0));
        start(lab)?;
        let mut beat = Beat::start(lab)?;
        let b = lab.address("b")?;
        let states = || -> Result<Vec<(String, String)>> {
            let ways = lab.cli("a").list(&["why", &b], "candidates")?;
            Ok(ways
                .iter()
                .map(|way| (text(way, "remote").to_owned(), text(way, "state").to_owned()))
                .collect())
        };
        let in_use = || -> Option<String> {
            states().ok()?.into_iter().find(|(_, state)| state == "in_use").map(|(remote, _)| remote)
        };
        wait::until("one in use, one standing by", SOON, || {
            let states = states().unwrap_or_default();
            let has = |wanted: &str| states.iter().any(|(_, state)| state == wanted);
            has("in_use") && has("standby")
        })?;
        let first = in_use().context("no path in use")?;
        let (interface, other) = if first.starts_with("10.79.") { ("dsl", "to-r") } else { ("to-r", "dsl") };

        // What goes by the first address vanishes without a word.
        let cut = SystemTime::now();
        Faults::of(lab.ns("b"))?.cut(interface)?;
        beat.settle(cut, Duration::from_secs(3))?;
        let gap = beat.longest_gap(cut);
        eprintln!("first address cut ({interface}): {} ms of silence", gap.as_millis());
        ensure!(gap < GAP, "{gap:?} of silence");
        let second = in_use().context("no path in use")?;
        ensure!(second != first, "still over {first} though {interface} is cut, not {other}");

        // It comes back, and goes and comes again: no reason to move.
        for _ in 0..3 {
            Faults::of(lab.ns("b"))?.heal(interface)?;
            pass(Duration::from_millis(1500))?;
            ensure!(in_use() == Some(second.clone()), "moved back to {:?}", in_use());
            Faults::of(lab.ns("b"))?.cut(interface)?;
        }
        let gap = beat.longest_gap(SystemTime::now() - Duration::from_secs(4));
        ensure!(gap < GAP, "{gap:?} of silence while the path that is not used flapped");
        Ok(())
    });
}

/// The second uplink of `a`, which the kernel likes less than the first.
const OTHER: &str = "up2";

fn other_uplink(lab: &Lab) -> Result<()> {
    uplink(lab, OTHER, "10.78.2")?;
    lab.ns("a").ip(&["route", "add", "default", "via", "10.78.2.254", "metric", "200"])?;
    Ok(())
}

/// Interface and state of each path that `a` has to `b`.
fn paths(lab: &Lab) -> Result<Vec<(String, String)>> {
    let ways = lab.cli("a").list(&["why", &lab.address("b")?], "candidates")?;
    Ok(ways.iter().map(|way| (text(way, "interface").to_owned(), text(way, "state").to_owned())).collect())
}

fn has_path(lab: &Lab, interface: &str, state: &str) -> bool {
    let wanted = (interface.to_owned(), state.to_owned());
    paths(lab).is_ok_and(|paths| paths.contains(&wanted))
}

fn wait_path(lab: &Lab, interface: &str, state: &str) -> Result<()> {
    wait::until(&format!("{interface} {state}"), SOON, || has_path(lab, interface, state))
        .with_context(|| format!("paths: {:?}", paths(lab)))
}

/// UDP sockets of `a` that belong to an interface.
fn pinned_sockets(lab: &Lab) -> Result<Vec<String>> {
    let sockets = lab.ns("a").run(&["ss", "-Huan"])?;
    let own = sockets.lines().filter(|line| line.contains(&format!("%{OTHER}:")));
    Ok(own.map(str::to_owned).collect())
}

/// How often the black hole is tried, each time on the uplink that is in use.
fn rounds() -> usize {
    std::env::var("SINEW_ROAM_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2)
}

#[test]
fn of_two_uplinks_the_second_takes_over_when_the_first_passes_nothing_and_flows_survive() {
    const FILE: u64 = 20_000_000;
    run_lab("hole", |lab| {
        topology(lab)?;
        other_uplink(lab)?;
        for interface in ["r-wan", "r-up2"] {
            shape(lab.ns("r"), interface, 40)?;
        }
        start(lab)?;
        wait_path(lab, "wan", "in_use")?;
        wait_path(lab, OTHER, "standby")?;
        let peers = lab.cli("a").peers_up()?;
        ensure!(peers.first().is_some_and(|peer| text(peer, "interface") == "wan"), "{peers:?}");
        let _nginx = Nginx::start(lab.ns("b"), &lab.dir().join("web"), WEB)?;
        let hash = payload_file(&lab.dir().join("web/www/file"), FILE)?;
        let page = url(&lab.address("b")?, WEB, "file");
        let log = lab.dir().join("curl.log");
        let mut beat = Beat::start(lab)?;
        for round in 0..rounds() {
            let (used, other) = if round % 2 == 0 { ("wan", OTHER) } else { (OTHER, "wan") };
            let mut transfer = Transfer::start(lab.ns("a"), &page, &log)?;
            transfer.wait_bytes(FILE / 10, SOON)?;
            let (cut, since) = (SystemTime::now(), Instant::now());
            Faults::of(lab.ns("r"))?.swallow(&format!("r-{used}"))?;
            let silence = transfer.repaired_after(since, FILE / 2, SOON)?;
            beat.settle(cut, Duration::from_secs(3))?;
            let gap = beat.longest_gap(cut);
            eprintln!(
                "{used} passes nothing: the transfer went on after {} ms, {} ms between two answers to ping",
                silence.as_millis(),
                gap.as_millis()
            );
            ensure!(gap < GAP && silence < TCP_GAP, "{gap:?} of silence, the transfer's {silence:?}");
            let got = transfer.finish(Duration::from_secs(120))?;
            ensure!(got == (FILE, hash.clone()), "the file differs: {got:?}");
            wait_path(lab, other, "in_use")?;

            Faults::of(lab.ns("r"))?.release(&format!("r-{used}"))?;
            wait_path(lab, used, "standby")?;
            ensure!(has_path(lab, other, "in_use"), "moved back: {:?}", paths(lab)?);
        }
        Ok(())
    });
}

#[test]
fn an_uplink_that_comes_is_taken_up_and_one_that_goes_leaves_nothing() {
    run_lab("later", |lab| {
        topology(lab)?;
        start(lab)?;
        ensure!(pinned_sockets(lab)?.is_empty() && paths(lab)?.len() == 1, "{:?}", paths(lab)?);

        other_uplink(lab)?;
        wait_path(lab, OTHER, "standby")?;
        ensure!(pinned_sockets(lab)?.len() == 1, "{:?}", pinned_sockets(lab)?);
        ensure!(has_path(lab, "wan", "in_use"), "{:?}", paths(lab)?);

        let a = lab.ns("a");
        a.ip(&["route", "del", "default", "via", "10.78.2.254"])?;
        wait::until("no path over it", SOON, || paths(lab).is_ok_and(|paths| paths.len() == 1))?;
        ensure!(pinned_sockets(lab)?.is_empty(), "{:?}", pinned_sockets(lab)?);

        // It goes while it is in use.
        a.ip(&["route", "add", "default", "via", "10.78.2.254", "metric", "200"])?;
        wait_path(lab, OTHER, "standby")?;
        let mut beat = Beat::start(lab)?;
        let cut = SystemTime::now();
        Faults::of(lab.ns("r"))?.swallow("r-wan")?;
        beat.settle(cut, Duration::from_secs(3))?;
        // b only answers, so that it finds out by where the questions come from.
        let gap = beat.longest_gap(cut);
        eprintln!("the first passes nothing, and only one side speaks: {} ms of silence", gap.as_millis());
        ensure!(gap < GAP, "{gap:?} of silence");
        wait_path(lab, OTHER, "in_use")?;
        Faults::of(lab.ns("r"))?.release("r-wan")?;
        wait_path(lab, "wan", "standby")?;
        let pulled = SystemTime::now();
        lab.ns("a").ip(&["link", "set", OTHER, "down"])?;
        beat.settle(pulled, Duration::from_secs(3))?;
        let gap = beat.longest_gap(pulled);
        eprintln!("the second pulled while it is in use: {} ms of silence", gap.as_millis());
        ensure!(gap < GAP, "{gap:?} of silence");
        ensure!(pinned_sockets(lab)?.is_empty(), "{:?}", pinned_sockets(lab)?);
        Ok(())
    });
}
