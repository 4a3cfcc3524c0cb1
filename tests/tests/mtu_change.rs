//! A path that becomes narrower in the middle of a transfer, where ICMP is filtered: the transfer goes
//! on within two seconds, on every carrier; and one that becomes too narrow for a link is none.
//!
//! ```text
//!   a ── 1500 ── r ── 1500, then 1280 ── b        r is a plain router; a never hears from it
//!  nginx                                curl
//! ```

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sinew_tests::cli::text;
use sinew_tests::impair::{Faults, forward, shape};
use sinew_tests::lab::{Lab, interface, run_lab};
use sinew_tests::sinewd::PORT;
use sinew_tests::wait;
use sinew_tests::workload::{Nginx, Transfer, payload_file, url};

const WEB: u16 = 8080;
const FILE: u64 = 24 << 20;
const LINK_MBIT: u32 = 30;
const STALL: Duration = Duration::from_secs(2);
const SOON: Duration = Duration::from_secs(20);

/// `a` behind the router dials `b`, by these carriers.
fn start(lab: &mut Lab, via: &str, icmp: bool) -> Result<Nginx> {
    for name in ["a", "r", "b"] {
        lab.node(name)?;
    }
    lab.link("a", "r")?;
    lab.link("r", "b")?;
    forward(lab.ns("r"))?;
    for (at, peer) in [("a", "r"), ("r", "a"), ("r", "b"), ("b", "r")] {
        shape(lab.ns(at), &interface(peer), LINK_MBIT)?;
    }
    for at in ["a", "b"] {
        let gateway = lab.underlay("r", at);
        lab.ns(at).ip(&["route", "add", "default", "via", &gateway])?;
        if !icmp {
            Faults::of(lab.ns(at))?.filter_icmp(&interface("r"))?;
        }
    }
    lab.via = via.to_owned();
    let each = via.split(',').map(|carrier| format!("{carrier} = [\"0.0.0.0:{PORT}\"]\n"));
    lab.config("b").listen = each.collect();
    let uri = lab.uri("b", &lab.underlay("b", "r"))?;
    lab.key("a")?;
    lab.config("a").peers.push((uri, 0));
    lab.start_all()?;
    lab.wait_mesh()?;
    Nginx::start(lab.ns("a"), &lab.dir().join("web"), WEB)
}

/// The far side of the router takes no packet above `mtu`.
fn narrow(lab: &Lab, mtu: u32) -> Result<Instant> {
    let since = Instant::now();
    lab.ns("r").ip(&["link", "set", &interface("b"), "mtu", &mtu.to_string()])?;
    Ok(since)
}

fn transfer(lab: &Lab) -> Result<(Transfer, String)> {
    let hash = payload_file(&lab.dir().join("web/www/file"), FILE)?;
    let page = url(&lab.address("a")?, WEB, "file");
    let mut transfer = Transfer::start(lab.ns("b"), &page, &lab.dir().join("curl.log"))?;
    transfer.wait_bytes(FILE / 6, SOON)?;
    Ok((transfer, hash))
}

fn shrinks(via: &'static str) {
    run_lab(via, |lab| {
        let _nginx = start(lab, via, false)?;
        let (mut transfer, hash) = transfer(lab)?;
        let since = narrow(lab, 1280)?;
        let stall = transfer.repaired_after(since, 1 << 20, SOON).context("after the path shrank")?;
        eprintln!("{via}, 1500 to 1280: data again after {} ms", stall.as_millis());
        ensure!(stall < STALL, "no data for {stall:?}");
        let got = transfer.finish(Duration::from_secs(60))?;
        ensure!(got == (FILE, hash), "the file differs: {got:?}");
        Ok(())
    });
}

#[test]
fn udp_goes_on_when_the_path_shrinks_in_mid_flow() {
    shrinks("udp");
}

#[test]
fn quic_goes_on_when_the_path_shrinks_in_mid_flow() {
    shrinks("quic");
}

#[test]
fn tcp_goes_on_when_the_path_shrinks_in_mid_flow() {
    shrinks("tcp");
}

#[test]
fn wss_goes_on_when_the_path_shrinks_in_mid_flow() {
    shrinks("wss");
}

#[test]
fn a_path_that_becomes_too_narrow_for_a_link_makes_way_for_a_stream() {
    run_lab("narrow", |lab| {
        // The kernel's own TCP finds a path this narrow by ICMP only.
        let _nginx = start(lab, "udp,tcp", true)?;
        let (mut transfer, hash) = transfer(lab)?;
        let carrier = |lab: &Lab| -> Option<String> {
            lab.cli("b").peers_up().ok()?.first().map(|peer| text(peer, "carrier").to_owned())
        };
        ensure!(carrier(lab).as_deref() == Some("udp"), "over {:?}", carrier(lab));
        let since = narrow(lab, 1100)?;
        let stall = transfer.repaired_after(since, 1 << 20, SOON).context("after the path shrank")?;
        eprintln!("udp, 1500 to 1100: data again after {} ms, over {:?}", stall.as_millis(), carrier(lab));
        wait::until("the link over tcp", SOON, || carrier(lab).as_deref() == Some("tcp"))?;
        let got = transfer.finish(Duration::from_secs(60))?;
        ensure!(got == (FILE, hash), "the file differs: {got:?}");
        Ok(())
    });
}
