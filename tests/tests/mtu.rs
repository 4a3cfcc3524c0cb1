//! Full-size TCP over every underlay MTU, over UDP and TCP carriers, direct and relayed, while
//! ICMP is filtered: at least 80 % of the rate at 1500.
//!
//! ```text
//!   direct     a ═════ r ───── b                  ═══ 1500 (9000 when the rest is)
//!   relayed    a ═════ r ───── b ═════ s ───── c  ─── the MTU under test
//! ```
//! r and s are plain IPv4 routers, not nodes: what is too big for the far side vanishes there,
//! and the complaint about it never arrives. That is how carriers' networks behave. All links
//! are shaped alike, so that rates can be compared on one machine.

use anyhow::{Context, Result, ensure};
use sinew_tests::impair::{Faults, forward, shape};
use sinew_tests::lab::{Lab, interface, run_lab};
use sinew_tests::workload::{Iperf, ping};

const MTUS: [u32; 5] = [1280, 1340, 1420, 1500, 9000];
const REFERENCE: u32 = 1500;
const LINK_MBIT: u32 = 150;
const SECONDS: u32 = 3;
const SHARE: f64 = 0.8;

#[test]
fn udp_direct_holds_its_rate_on_every_mtu() {
    matrix("udp", false);
}

#[test]
fn udp_relayed_holds_its_rate_on_every_mtu() {
    matrix("udp", true);
}

#[test]
fn tcp_direct_holds_its_rate_on_every_mtu() {
    matrix("tcp", false);
}

#[test]
fn tcp_relayed_holds_its_rate_on_every_mtu() {
    matrix("tcp", true);
}

fn matrix(via: &'static str, relayed: bool) {
    let mut rates = Vec::new();
    for mtu in MTUS {
        run_lab("mtu", |lab| {
            let rate = measure(lab, via, relayed, mtu).with_context(|| format!("underlay MTU {mtu}"))?;
            eprintln!("{via} {} {mtu}: {:.1} Mbit/s", if relayed { "relayed" } else { "direct" }, rate / 1e6);
            rates.push((mtu, rate));
            Ok(())
        });
    }
    let Some(&(_, reference)) = rates.iter().find(|(mtu, _)| *mtu == REFERENCE) else {
        return; // Skipped: labs cannot run here.
    };
    let slow: Vec<_> = rates.iter().filter(|(_, rate)| *rate < reference * SHARE).collect();
    assert!(slow.is_empty(), "below {SHARE} of {reference:.0} bit/s: {slow:?}");
}

fn measure(lab: &mut Lab, via: &str, relayed: bool, mtu: u32) -> Result<f64> {
    lab.via = via.to_owned();
    let near = mtu.max(REFERENCE);
    lab.node("a")?;
    hop(lab, "a", "r", "b", near, mtu)?;
    let far = if relayed {
        hop(lab, "b", "s", "c", near, mtu)?;
        "c"
    } else {
        "b"
    };
    lab.start_all()?;
    lab.wait_mesh()?;
    let target = lab.address(far)?;
    let small = ping(lab.ns("a"), &target, 3, 100)?;
    ensure!(small.received > 0, "not even a ping passes");
    let server = Iperf::start(lab.ns(far), lab.dir())?;
    server.measure(lab.ns("a"), &target, SECONDS)
}

/// Adds node `to` behind the plain router `by`, reachable from node `from`.
fn hop(lab: &mut Lab, from: &str, by: &str, to: &str, near: u32, far: u32) -> Result<()> {
    lab.node(by)?;
    lab.node(to)?;
    lab.link_mtu(from, by, near)?;
    lab.link_mtu(by, to, far)?;
    forward(lab.ns(by))?;
    for (at, peer) in [(from, by), (by, from), (by, to), (to, by)] {
        shape(lab.ns(at), &interface(peer), LINK_MBIT)?;
    }
    for (at, gateway, behind) in
        [(from, lab.underlay(by, from), (to, by)), (to, lab.underlay(by, to), (from, by))]
    {
        let address = lab.underlay(behind.0, behind.1);
        lab.ns(at).ip(&["route", "add", &format!("{address}/32"), "via", &gateway])?;
        Faults::of(lab.ns(at))?.filter_icmp(&interface(by))?;
    }
    // Both ends know the other's address beyond the router.
    let (there, here) = (lab.underlay(to, by), lab.underlay(from, by));
    let (to_uri, from_uri) = (lab.uri(to, &there)?, lab.uri(from, &here)?);
    lab.config(from).peers.push((to_uri, 0));
    lab.config(to).peers.push((from_uri, 0));
    Ok(())
}
