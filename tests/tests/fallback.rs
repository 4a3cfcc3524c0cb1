//! When a network stops passing UDP in the middle of a transfer, the transfer goes on over what it
//! does pass; when UDP comes back, so does the link.
//!
//! ```text
//!   a ───── b      b drops what arrives by UDP; a is not told
//!  curl   nginx    TCP (or only TLS, on 443) still passes
//! ```

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sinew_tests::cli::text;
use sinew_tests::impair::{Faults, shape};
use sinew_tests::lab::{Lab, interface, run_lab};
use sinew_tests::process::{Proc, read_lossy};
use sinew_tests::sinewd::PORT;
use sinew_tests::wait;
use sinew_tests::workload::{Nginx, Transfer, payload_file, url};

const WEB: u16 = 8080;
const FILE: u64 = 48 << 20;
/// The transfer has to last longer than UDP is away and back.
const LINK_MBIT: u32 = 5;
const ENOUGH: u64 = 256 << 10;
/// Traffic continues within this (issue: reach).
const FALLBACK: Duration = Duration::from_secs(5);
/// Back on UDP within this.
const UPGRADE: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(20);

/// `a` knows `b` by UDP and by another carrier; `b` serves a file.
fn start(lab: &mut Lab, second: &str) -> Result<Nginx> {
    lab.line(&["a", "b"])?;
    lab.via = format!("udp,{second}");
    let listen = format!("udp = [\"0.0.0.0:{PORT}\"]\n{second} = [\"0.0.0.0:{PORT}\"]\n");
    lab.config("b").listen = listen;
    lab.config("a").listen = "udp = [\"0.0.0.0:7463\"]\n".to_owned();
    lab.peer("a", "b")?;
    lab.key("b")?;
    for (at, peer) in [("a", "b"), ("b", "a")] {
        shape(lab.ns(at), &interface(peer), LINK_MBIT)?;
    }
    lab.start_all()?;
    lab.wait_mesh()?;
    Nginx::start(lab.ns("b"), &lab.dir().join("web"), WEB)
}

fn carrier(lab: &Lab) -> Option<String> {
    let peers = lab.cli("a").peers_up().ok()?;
    peers.first().map(|peer| text(peer, "carrier").to_owned())
}

fn wait_carrier(lab: &Lab, wanted: &str, deadline: Duration) -> Result<Duration> {
    let since = Instant::now();
    wait::until(&format!("the link over {wanted}"), deadline, || carrier(lab).as_deref() == Some(wanted))?;
    Ok(since.elapsed())
}

fn blocked_in_mid_flow(second: &'static str) {
    run_lab(second, |lab| {
        let _nginx = start(lab, second)?;
        wait_carrier(lab, "udp", SOON)?;
        let hash = payload_file(&lab.dir().join("web/www/file"), FILE)?;
        let page = url(&lab.address("b")?, WEB, "file");
        let mut transfer = Transfer::start(lab.ns("a"), &page, &lab.dir().join("curl.log"))?;
        transfer.wait_bytes(2 * ENOUGH, SOON)?;

        let blocked = Instant::now();
        Faults::of(lab.ns("b"))?.block_udp(&interface("a"))?;
        let gap = transfer.repaired_after(blocked, ENOUGH, SOON).context("after UDP was blocked")?;
        eprintln!("udp to {second}: data again after {} ms", gap.as_millis());
        ensure!(gap <= FALLBACK, "no data for {gap:?}");
        ensure!(carrier(lab).as_deref() == Some(second), "over {:?}", carrier(lab));

        Faults::of(lab.ns("b"))?.pass_udp(&interface("a"))?;
        let back = wait_carrier(lab, "udp", UPGRADE)?;
        eprintln!("{second} to udp: after {} ms", back.as_millis());
        ensure!(transfer.bytes() < FILE, "the transfer was over before UDP was back");
        let got = transfer.finish(Duration::from_secs(180))?;
        ensure!(got == (FILE, hash), "the file differs: {got:?}");
        Ok(())
    });
}

#[test]
fn udp_blocked_in_mid_flow_goes_on_over_tcp_and_comes_back() {
    blocked_in_mid_flow("tcp");
}

#[test]
fn udp_blocked_in_mid_flow_goes_on_over_wss_and_comes_back() {
    blocked_in_mid_flow("wss");
}

/// How many answers are missing between the first and the last that came.
fn missing(log: &str) -> usize {
    let number = |line: &str| line.split("icmp_seq=").nth(1)?.split(' ').next()?.parse::<usize>().ok();
    let came: BTreeSet<_> =
        log.lines().filter(|line| line.contains("bytes from")).filter_map(number).collect();
    came.first().zip(came.last()).map_or(0, |(first, last)| last - first + 1 - came.len())
}

fn upgraded_later(second: &'static str) {
    run_lab(&format!("late-{second}"), |lab| {
        lab.line(&["a", "b"])?;
        lab.via = format!("udp,{second}");
        lab.config("b").listen = format!("udp = [\"0.0.0.0:{PORT}\"]\n{second} = [\"0.0.0.0:{PORT}\"]\n");
        lab.peer("a", "b")?;
        lab.key("b")?;
        Faults::of(lab.ns("b"))?.block_udp(&interface("a"))?;
        lab.start_all()?;
        let before = Instant::now();
        lab.wait_mesh()?;
        ensure!(before.elapsed() < FALLBACK, "linked only after {:?}", before.elapsed());
        ensure!(carrier(lab).as_deref() == Some(second), "over {:?}", carrier(lab));
        let log = lab.dir().join("ping.log");
        let mut command = lab.ns("a").command("ping");
        let mut ping = Proc::spawn(command.args(["-6", "-n", "-i", "0.02", &lab.address("b")?]), &log)?;
        let answers = || read_lossy(&log).matches("bytes from").count();
        wait::until("answers", SOON, || answers() >= 50)?;
        Faults::of(lab.ns("b"))?.pass_udp(&interface("a"))?;
        wait_carrier(lab, "udp", UPGRADE)?;
        let before = answers();
        wait::until("answers over UDP", SOON, || answers() >= before + 100)?;
        ping.kill();
        let missing = missing(&read_lossy(&log));
        ensure!(missing == 0, "{missing} of {} answers are missing", answers());
        Ok(())
    });
}

#[test]
fn a_node_that_starts_where_udp_is_blocked_is_upgraded_from_tcp_without_the_loss_of_a_packet() {
    upgraded_later("tcp");
}

#[test]
fn a_node_that_starts_where_udp_is_blocked_is_upgraded_from_wss_without_the_loss_of_a_packet() {
    upgraded_later("wss");
}
