//! Links that are hardly links. Down a ladder of nine, from a good one to a quarter of the packets lost each way, 800 ms
//! there and back and 256 kbit/s: a link stays up while it gets worse, routing converges over the worst, and it is as
//! good as ever when the network is.
//!
//! ```text
//!   a ── box ── b ── c        the box delays and loses; both its sides are shaped
//! ```

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sinew_tests::cli::{number, text};
use sinew_tests::impair::{Wan, WanFaults};
use sinew_tests::lab::{Dial, Lab, interface, run_lab};
use sinew_tests::ns::{self, End};
use sinew_tests::wait;
use sinew_tests::workload::ping;

const WEAK: WanFaults = WanFaults {
    delay: Duration::from_millis(400),
    jitter: Duration::from_millis(40),
    loss: 0.25,
    burst: 1.0,
    reorder: 0.0,
};
const GOOD: WanFaults = WanFaults {
    delay: Duration::from_millis(5),
    jitter: Duration::ZERO,
    loss: 0.0,
    burst: 1.0,
    reorder: 0.0,
};

/// Rate, round trip (ms), loss (percent of the packets, each way), and losses in a row.
const LADDER: &[(&str, u64, f64, f64)] = &[
    ("100mbit", 16, 0.1, 1.0),
    ("25mbit", 40, 1.0, 2.0),
    ("8mbit", 90, 2.0, 2.0),
    ("3mbit", 200, 3.0, 3.0),
    ("1500kbit", 300, 5.0, 3.0),
    ("800kbit", 450, 8.0, 4.0),
    ("25mbit", 600, 1.5, 4.0),
    ("500kbit", 450, 12.0, 6.0),
    ("256kbit", 800, 25.0, 6.0),
];
/// Rungs on which the link that was there at the top has to last.
const LASTS: usize = 8;
const PATIENCE: Duration = Duration::from_secs(60);

/// `a` and `b` with a box between them, and `c` behind `b`.
fn topology(lab: &mut Lab) -> Result<()> {
    for name in ["a", "box", "b", "c"] {
        lab.node(name)?;
    }
    for (name, address) in [("a", "10.90.0.1/24"), ("b", "10.90.0.2/24")] {
        let side = format!("to-{name}");
        let near = End { ns: lab.ns(name), interface: "wan", address };
        let far = End { ns: lab.ns("box"), interface: &side, address: "169.254.9.9/32" };
        ns::connect(near, far, 1500)?;
        lab.ns("box").ip(&["addr", "flush", "dev", &side])?;
        for (ns, device) in [(lab.ns(name), "wan"), (lab.ns("box"), side.as_str())] {
            ns.run(&["ethtool", "-K", device, "tx", "off", "tso", "off", "gso", "off", "gro", "off"])?;
        }
    }
    lab.link("b", "c")?;
    lab.peer_links(Dial::Both)?;
    let uri = lab.uri("b", "10.90.0.2")?;
    lab.key("a")?;
    lab.config("a").peers.push((uri, 0));
    ensure!(interface("c") == "to-c", "names");
    Ok(())
}

fn shaped(lab: &Lab, rate: Option<&str>) -> Result<()> {
    for name in ["a", "b"] {
        let verb = if rate.is_some() { "replace" } else { "del" };
        let mut argv = vec!["tc", "qdisc", verb, "dev", "wan", "root"];
        if let Some(rate) = rate {
            argv.extend(["tbf", "rate", rate, "burst", "4000", "latency", "300ms"]);
        }
        lab.ns(name).run(&argv)?;
    }
    Ok(())
}

#[test]
fn a_link_that_is_hardly_one_stays_up_and_recovers() {
    run_lab("weak", |lab| {
        topology(lab)?;
        shaped(lab, Some("256kbit"))?;
        let weak = Wan::start(lab.ns("box"), ["to-a", "to-b"], WEAK)?;
        lab.start_all()?;
        let peer = |lab: &Lab| lab.cli("a").peers_up().ok()?.first().cloned();
        wait::until("a link", PATIENCE, || peer(lab).is_some())?;
        let c = lab.address("c")?;
        let started = Instant::now();
        let known = lab.key("c")?.node_id;
        wait::until("a route to c", PATIENCE, || {
            let routes = lab.cli("a").list(&["routes"], "routes").unwrap_or_default();
            routes.iter().any(|route| text(route, "node_id") == known)
        })?;
        eprintln!("converged after {} ms", started.elapsed().as_millis());

        let report = ping(lab.ns("a"), &c, 60, 250)?;
        let up = peer(lab).context("the link is gone")?;
        let uptime = number(&up, "uptime_ms").context("uptime")?;
        eprintln!("{} of {} pings; the link is up for {uptime} ms", report.received, report.sent);
        ensure!(report.received >= report.sent / 10, "{report:?}");
        ensure!(uptime >= 15_000.0, "the link did not stay up while it was used: {up}");

        drop(weak);
        shaped(lab, None)?;
        let _good = Wan::start(lab.ns("box"), ["to-a", "to-b"], GOOD)?;
        let healed = Instant::now();
        wait::until("every packet passes, and quickly", PATIENCE, || {
            let report = ping(lab.ns("a"), &c, 10, 50);
            report.is_ok_and(|report| {
                report.received == report.sent && report.avg_ms.is_some_and(|ms| ms < 100.0)
            })
        })?;
        eprintln!("quick again after {} ms", healed.elapsed().as_millis());
        let now = peer(lab).context("the link is gone")?;
        ensure!(number(&now, "uptime_ms") > Some(uptime), "it was another link: {now}");
        Ok(())
    });
}

fn rung(round_trip_ms: u64, loss_percent: f64, burst: f64) -> WanFaults {
    let delay = Duration::from_millis(round_trip_ms / 2);
    WanFaults { delay, jitter: delay / 10, loss: loss_percent / 100.0, burst, reorder: 0.0 }
}

#[test]
fn a_link_lasts_down_a_ladder_of_ever_worse_networks() {
    run_lab("ladder", |lab| {
        topology(lab)?;
        let mut rungs = LADDER.iter().enumerate();
        let (_, &(rate, round_trip, loss, burst)) = rungs.next().context("no rung")?;
        shaped(lab, Some(rate))?;
        let mut wan = Wan::start(lab.ns("box"), ["to-a", "to-b"], rung(round_trip, loss, burst))?;
        lab.start_all()?;
        lab.wait_mesh()?;
        let c = lab.address("c")?;
        let uptime = |lab: &Lab| number(lab.cli("a").peers_up().ok()?.first()?, "uptime_ms");
        let mut before = uptime(lab).context("no link at the top")?;
        for (at, &(rate, round_trip, loss, burst)) in rungs {
            drop(wan);
            shaped(lab, Some(rate))?;
            wan = Wan::start(lab.ns("box"), ["to-a", "to-b"], rung(round_trip, loss, burst))?;
            // Four and a half seconds: enough for a link that cannot bear it to fall.
            let report = ping(lab.ns("a"), &c, 30, 150)?;
            eprintln!("rung {at}: {rate} {round_trip} ms {loss} %: {} of {}", report.received, report.sent);
            if at < LASTS {
                let now = uptime(lab).with_context(|| format!("the link is gone on rung {at}"))?;
                ensure!(now > before, "another link on rung {at}: {now} ms after {before} ms");
                // Both ways, and half of that for what chance adds.
                let expected = f64::from(report.sent) * (1.0 - 2.0 * loss / 100.0) / 2.0;
                ensure!(f64::from(report.received) >= expected, "rung {at}: {report:?}");
                before = now;
            }
        }
        drop(wan);
        shaped(lab, None)?;
        let _good = Wan::start(lab.ns("box"), ["to-a", "to-b"], GOOD)?;
        wait::until("every packet passes again", PATIENCE, || {
            ping(lab.ns("a"), &c, 10, 50).is_ok_and(|report| report.received == report.sent)
        })
    });
}
