//! A ring of four under a running TCP transfer: the link or the relay in use dies without a
//! word, and traffic flows again over the other side of the ring in under a second (median of
//! 20 runs), with the transfer intact.
//!
//! ```text
//!          ┌───── b ─────┐
//!   curl   a             c   nginx      a and c have no link; packets go through b or d
//!          └───── d ─────┘
//! ```
//! Time is measured where it matters to people: at curl, from the fault to the end of the longest
//! silence that follows. TCP's own retransmission timer is part of it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sinew_tests::impair::shape;
use sinew_tests::lab::{Dial, Lab, interface, run_lab};
use sinew_tests::wait;
use sinew_tests::workload::{Nginx, Transfer, payload_file, url};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const RUNS: usize = 20;
const MIB: u64 = 1 << 20;
const FILE: u64 = 48 * MIB;
/// Slow enough that the transfer outlasts the fault.
const LINK_MBIT: u32 = 200;
const LIMIT: Duration = Duration::from_secs(1);
const DEADLINE: Duration = Duration::from_secs(60);
const PORT: u16 = 8080;

#[test]
fn a_silent_link_is_left_in_under_a_second() {
    run_lab("silent", |lab| {
        twenty_faults(lab, |lab, relay, run| {
            // The near link is seen by the sender of requests, the far one only by the relay.
            let end = if run.is_multiple_of(2) { "a" } else { "c" };
            lab.cut(end, relay)?;
            let fault = Instant::now();
            Ok((fault, Undo::Heal(end)))
        })
    });
}

#[test]
fn a_killed_relay_is_left_in_under_a_second() {
    run_lab("killed", |lab| {
        twenty_faults(lab, |lab, relay, _| {
            lab.kill(relay);
            Ok((Instant::now(), Undo::Restart))
        })
    });
}

enum Undo {
    Heal(&'static str),
    Restart,
}

/// Strikes the relay in use during [`RUNS`] transfers, and judges the median silence.
fn twenty_faults(
    lab: &mut Lab,
    strike: impl Fn(&mut Lab, &str, usize) -> Result<(Instant, Undo)>,
) -> Result<()> {
    let (_nginx, hash) = start(lab)?;
    let page = url(&lab.address("c")?, PORT, "file");
    let mut silences = Vec::new();
    for run in 0..RUNS {
        let mut transfer = Transfer::start(lab.ns("a"), &page, &lab.dir().join("curl.log"))?;
        transfer.wait_bytes(4 * MIB, DEADLINE)?;
        let relay = relay_in_use(lab)?;
        let (fault, undo) = strike(lab, &relay, run)?;
        let silence = transfer
            .repaired_after(fault, 4 * MIB, DEADLINE)
            .with_context(|| format!("run {run}: {relay} was struck"))?;
        let got = transfer.finish(DEADLINE)?;
        ensure!(got == (FILE, hash.clone()), "run {run}: the file differs: {got:?}");
        match undo {
            Undo::Heal(end) => lab.heal(end, &relay)?,
            Undo::Restart => lab.start(&relay)?,
        }
        wait_whole(lab)?;
        silences.push(silence);
    }
    silences.sort();
    let shown: Vec<_> = silences.iter().map(|silence| silence.as_millis()).collect();
    eprintln!("silences in ms: {shown:?}");
    ensure!(silences[RUNS / 2] < LIMIT, "median {} ms of {shown:?}", silences[RUNS / 2].as_millis());
    Ok(())
}

fn start(lab: &mut Lab) -> Result<(Nginx, String)> {
    lab.ring(&NAMES)?;
    for [a, b] in lab.links() {
        shape(lab.ns(&a), &interface(&b), LINK_MBIT)?;
        shape(lab.ns(&b), &interface(&a), LINK_MBIT)?;
    }
    lab.peer_links(Dial::Both)?;
    lab.start_all()?;
    lab.wait_mesh()?;
    wait_whole(lab)?;
    let dir = lab.dir().join("web");
    let nginx = Nginx::start(lab.ns("c"), &dir, PORT)?;
    let hash = payload_file(&dir.join("www/file"), FILE)?;
    Ok((nginx, hash))
}

/// Both neighbours of every machine are up again.
fn wait_whole(lab: &mut Lab) -> Result<()> {
    for name in NAMES {
        wait::until(&format!("{name} has both neighbours"), DEADLINE, || {
            lab.cli(name).peers_up().is_ok_and(|peers| peers.len() == 2)
        })?;
    }
    let target = lab.address("c")?;
    lab.cli("a").wait_reachable(&target, DEADLINE)
}

fn relay_in_use(lab: &mut Lab) -> Result<String> {
    let target = lab.address("c")?;
    let keys = lab.cli("a").trace_keys(&target)?;
    let relay = keys.iter().filter_map(|key| lab.name_of(key)).find(|name| ["b", "d"].contains(name));
    relay.map(str::to_owned).with_context(|| format!("no relay in {keys:?}"))
}
