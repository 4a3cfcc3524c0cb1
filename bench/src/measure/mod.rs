//! Everything that is measured on one started subject, in one fixed order.
//!
//! | file | traffic |
//! |---|---|
//! | [`tcp`] | iperf3 |
//! | [`ping`] | UDP ping-pong, also the first packet after a start |
//! | [`exchange`] | TCP requests and responses |
//! | [`flood`] | UDP at a given rate |
//! | [`gateway`] | people outside, by HTTP and TLS |
//!
//! Memory is read idle, after TCP, and after the UDP floods, which come last because some
//! daemons never give back what an overload made them take.

mod exchange;
mod flood;
pub(crate) mod gateway;
mod ping;
mod tcp;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::args::{Group, Options};
use crate::cpu::Snapshot;
use crate::peers::{Overlay, Subject};
use crate::stage::{Scenario, Stage, Wire};
use crate::stats;

/// Numbers by metric key.
pub(crate) type Numbers = BTreeMap<&'static str, f64>;

/// Answers in a row after which a subject counts as settled.
const SETTLED: u32 = 50;
/// With nothing to do: then a daemon is as small as it gets.
pub(crate) const REST: Duration = Duration::from_secs(5);
/// Lines of each daemon's log that go into a failure.
const LOG_TAIL: usize = 5;

/// One measurement: adds what it found.
type Part = fn(&mut Run<'_>, &ping::Echo, &mut Numbers) -> Result<()>;

/// Outcome of one subject in one round: what was measured, and what went wrong on the way.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub(crate) numbers: Numbers,
    pub(crate) errors: Vec<String>,
}

/// Starts a subject on a stage of its own, measures it, and takes everything down.
pub(crate) fn round(subject: &Subject, scenario: Scenario, wire: Wire, options: &Options) -> Round {
    let mut round = Round::default();
    let before = Snapshot::take();
    let clock = std::time::Instant::now();
    let tried = match scenario {
        Scenario::Gateway => gateway::attempt(subject, wire, options, &mut round.numbers, &mut round.errors),
        Scenario::Pair | Scenario::Relay => attempt(subject, scenario, wire, options, &mut round),
    };
    if let Err(error) = tried {
        round.errors.push(format!("{error:#}"));
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let share = before.until_now().foreign / clock.elapsed().as_secs_f64() / cores;
    round.numbers.insert("foreign_percent", share * 100.0);
    round
}

fn attempt(
    subject: &Subject,
    scenario: Scenario,
    wire: Wire,
    options: &Options,
    round: &mut Round,
) -> Result<()> {
    let mut stage = Stage::build(scenario, wire)?;
    let overlay = subject.start(&mut stage).context("cannot start")?;
    let mut run = Run { stage: &stage, overlay, options };
    let started = run.overlay.started;
    let echo = ping::Echo::start(stage.ns("b"), run.overlay.target)?;
    let first = echo.first_answer(stage.ns("a"), started).with_context(|| run.logs())?;
    round.numbers.insert("first_ping_s", first.as_secs_f64());
    let parts: [(Group, Part); 4] =
        [(Group::Rtt, idle), (Group::Rr, requests), (Group::Tcp, streams), (Group::Rtt, loaded)];
    run.settle(&echo)?;
    std::thread::sleep(REST);
    run.rss("rss_idle_mb", &mut round.numbers);
    for (group, part) in parts.into_iter().filter(|(group, _)| options.measures(*group)) {
        if let Err(error) = part(&mut run, &echo, &mut round.numbers) {
            round.errors.push(format!("{group:?}: {error:#}"));
        }
        run.alive()?;
    }
    run.rss("rss_tcp_mb", &mut round.numbers);
    if options.measures(Group::Udp) {
        for (key, size) in [("udp1200_pps", 1200), ("udp200_pps", 200)] {
            let rate =
                flood::search(stage.ns("a"), stage.ns("b"), run.target(), size, options.step_length())?;
            round.numbers.insert(key, rate);
        }
        run.alive()?;
    }
    run.rss("rss_end_mb", &mut round.numbers);
    Ok(())
}

/// A subject under measurement.
struct Run<'a> {
    stage: &'a Stage,
    overlay: Overlay,
    options: &'a Options,
}

impl Run<'_> {
    fn target(&self) -> IpAddr {
        self.overlay.target
    }

    /// Some answers in a row: sessions stand in both directions and sizes are agreed on.
    fn settle(&self, echo: &ping::Echo) -> Result<()> {
        let report = echo.measure(self.stage.ns("a"), ping::Until::Count(SETTLED))?;
        if report.times_ms.is_empty() {
            bail!("no answer after the first: {}", self.logs());
        }
        Ok(())
    }

    /// Memory of the daemon that has most, in MB.
    fn rss(&self, key: &'static str, numbers: &mut Numbers) {
        let sizes = self.overlay.daemons.iter().filter_map(|(_, daemon)| daemon.rss_bytes().ok());
        if let Some(most) = sizes.max() {
            numbers.insert(key, most as f64 / 1e6);
        }
    }

    /// Every daemon must still run.
    fn alive(&mut self) -> Result<()> {
        let ended =
            self.overlay.daemons.iter_mut().find_map(|(node, daemon)| (!daemon.running()).then_some(*node));
        match ended {
            Some(node) => bail!("the daemon of {node} ended: {}", self.logs()),
            None => Ok(()),
        }
    }

    /// The last lines of each daemon's log.
    fn logs(&self) -> String {
        let tail = |text: String| {
            let lines: Vec<_> = text.lines().collect();
            lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n")
        };
        let logs = self.overlay.daemons.iter().map(|(node, daemon)| (node, tail(daemon.log())));
        logs.filter(|(_, log)| !log.is_empty()).map(|(node, log)| format!("\n[{node}] {log}")).collect()
    }
}

fn idle(run: &mut Run<'_>, echo: &ping::Echo, numbers: &mut Numbers) -> Result<()> {
    let report = echo.measure(run.stage.ns("a"), ping::Until::Count(run.options.pings()))?;
    insert(numbers, "rtt_p50_ms", stats::percentile(&report.times_ms, 50.0));
    insert(numbers, "rtt_p99_ms", stats::percentile(&report.times_ms, 99.0));
    Ok(())
}

fn requests(run: &mut Run<'_>, _echo: &ping::Echo, numbers: &mut Numbers) -> Result<()> {
    let (a, b) = (run.stage.ns("a"), run.stage.ns("b"));
    let report = exchange::measure(a, b, run.target(), run.options.rr_length())?;
    numbers.insert("rr_per_s", report.per_second);
    insert(numbers, "rr_p99_us", stats::percentile(&report.times_us, 99.0));
    Ok(())
}

fn streams(run: &mut Run<'_>, _echo: &ping::Echo, numbers: &mut Numbers) -> Result<()> {
    let iperf = tcp::Bench::start(run.stage, run.target())?;
    let before = Snapshot::take();
    let one = iperf.run(run.options.length(), &[])?;
    let spent = before.until_now();
    numbers.insert("tcp1_mbps", one.mbps);
    insert(numbers, "retransmits", one.retransmits);
    let gigabytes = one.bytes / 1e9;
    let mut daemons = 0.0;
    for (node, daemon) in &run.overlay.daemons {
        let used = spent.of(daemon.pid()) / gigabytes;
        daemons += used;
        let key = match *node {
            "a" => "cpu_a",
            "r" => "cpu_r",
            _ => "cpu_b",
        };
        numbers.insert(key, used);
    }
    numbers.insert("cpu_daemons", daemons);
    numbers.insert("cpu_all", spent.own / gigabytes);
    numbers.insert("tcp4_mbps", iperf.run(run.options.length(), &["-P", "4"])?.mbps);
    numbers.insert("tcp_reverse_mbps", iperf.run(run.options.length(), &["-R"])?.mbps);
    Ok(())
}

fn loaded(run: &mut Run<'_>, echo: &ping::Echo, numbers: &mut Numbers) -> Result<()> {
    let iperf = tcp::Bench::start(run.stage, run.target())?;
    let rate = run.options.load.map(|mbit| ["-b".to_owned(), format!("{mbit}M")]);
    let extra: Vec<&str> = rate.iter().flatten().map(String::as_str).collect();
    let (load, report) =
        echo.measure_during(run.stage.ns("a"), || iperf.run(run.options.length(), &extra))?;
    numbers.insert("loaded_mbps", load?.mbps);
    insert(numbers, "loaded_rtt_p50_ms", stats::percentile(&report.times_ms, 50.0));
    insert(numbers, "loaded_rtt_p99_ms", stats::percentile(&report.times_ms, 99.0));
    numbers.insert("loaded_lost_percent", 100.0 * f64::from(report.lost) / f64::from(report.sent.max(1)));
    Ok(())
}

/// The wildcard address of the other's family.
fn any(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn insert(numbers: &mut Numbers, key: &'static str, value: Option<f64>) {
    if let Some(value) = value {
        numbers.insert(key, value);
    }
}
