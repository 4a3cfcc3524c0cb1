//! A gateway among people who mean it no good, while a neighbour's service is in use.
//!
//! ```text
//!   client ──┐                    web      what the neighbour asks for, all the while
//!   mob ─────┴─ gw ─────── a      victim   what the mob asks for; of network "shop"
//!               [gateway]         till     of network "bank"
//! ```
//! The mob comes from several addresses, each with as many connections as the gateway lets it have. What
//! each kind of wrong request is answered stands in `corpus.py`, floods in `mob.py`; the crate's own tests have more of
//! both, without a mesh. The neighbour's waiting times depend on how many cores there are for everybody, so their bound
//! is a coarse one: nobody waits for a flood's own deadline to pass.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sinew_tests::gateway::{Gateway, NETWORK};
use sinew_tests::lab::{Lab, interface, run_lab};
use sinew_tests::process::{self, Proc};
use sinew_tests::tenant::{self, SOON, Workload, words};
use sinew_tests::wait;

const DEADLINE: Duration = Duration::from_secs(120);
const PYTHON: &str = "/usr/bin/python3";
/// Whom the mob asks: any path, and below one only.
const VICTIM: &str = "victim.gw.test";
const PATHS: &str = "paths.gw.test";
/// Addresses of the mob; each may have 512 connections.
const ADDRESSES: usize = 10;
/// Kinds of flood, and connections of each. More are silent than may be shaking hands.
const FLOODS: &[(&str, usize)] =
    &[("silent", 1500), ("half", 700), ("unfinished", 700), ("head", 150), ("body", 150), ("reset", 2)];
/// How long floods stand, in lines of the neighbour, one each second: longer than every deadline but a body's.
const LASTS: usize = 15;
/// What the neighbour's clients may wait for, milliseconds.
const P99: f64 = 1000.0;
/// What a daemon may keep of a flood that is over: heaps of its threads, its tables' room.
const KEEPS: u64 = 24 << 20;
const KEEPS_DESCRIPTORS: usize = 8;

fn script(name: &str) -> String {
    format!("{}/tests/gateway_hostile/{name}", env!("CARGO_MANIFEST_DIR"))
}

struct Stage {
    gateway: Gateway,
    /// Where the mob finds it.
    address: String,
    sources: Vec<String>,
    _workloads: [Workload; 2],
}

fn start(lab: &mut Lab) -> Result<Stage> {
    lab.line(&["client", "gw", "a"])?;
    lab.node("mob")?;
    lab.link("mob", "gw")?;
    // Somebody's proxy, which never comes.
    let gateway = Gateway::run(lab, "proxies = [\"192.0.2.1\"]\nproxy_protocol = true\n")?;
    let mut sources = Vec::new();
    for number in 0..ADDRESSES {
        let source = format!("10.99.0.{}", number + 1);
        lab.ns("mob").ip(&["addr", "add", &format!("{source}/24"), "dev", &interface("gw")])?;
        sources.push(source);
    }
    lab.ns("gw").ip(&["route", "add", "10.99.0.0/24", "dev", &interface("mob")])?;
    let nginx = tenant::nginx(&lab.dir().join("web"), "<h1>small</h1>\n")?;
    let web = Workload::start(lab, "a", NETWORK, "web", &words(&nginx))?;
    let victim = Workload::start(lab, "a", NETWORK, "victim", &[PYTHON, &script("victim.py"), "8080"])?;
    gateway.expose(lab, "web", &["--port", "80", "--name", "web"])?;
    gateway.expose(lab, "victim", &["--port", "8080", "--name", "victim"])?;
    let paths = ["--port", "8080", "--name", "paths", "--service", "paths", "--path", "/app"];
    gateway.expose(lab, "victim", &paths)?;
    for host in ["web.gw.test", VICTIM, PATHS] {
        gateway.reaches(lab, host)?;
    }
    let address = lab.underlay("gw", "mob");
    Ok(Stage { gateway, address, sources, _workloads: [web, victim] })
}

/// Lines of JSON that a program says, one each second.
struct Lines {
    proc: Proc,
    seen: usize,
}

impl Lines {
    fn start(command: &mut Command, lab: &Lab, name: &str) -> Result<Self> {
        Ok(Self { proc: Proc::spawn(command, &lab.dir().join(format!("{name}.log")))?, seen: 0 })
    }

    /// The next one that is whole.
    fn next(&mut self) -> Result<Value> {
        let mut found = None;
        wait::until("it says more", SOON, || {
            let log = self.proc.log();
            let whole = log.matches('\n').count();
            found = log.lines().take(whole).nth(self.seen).map(str::to_owned);
            found.is_some() || !self.proc.running()
        })?;
        let line = found.with_context(|| format!("it ended: {}", self.proc.log()))?;
        self.seen += 1;
        serde_json::from_str(&line).with_context(|| self.proc.log())
    }

    /// The last of those that have come; at least one more comes.
    fn latest(&mut self) -> Result<Value> {
        self.seen = self.proc.log().matches('\n').count().max(self.seen);
        self.next()
    }
}

impl Stage {
    fn neighbour(&self, lab: &Lab) -> Result<Lines> {
        let mut command = lab.ns("client").command(PYTHON);
        command.arg(script("neighbour.py")).args(["web.gw.test", &self.gateway.address]);
        Lines::start(command.arg(&self.gateway.trust.chain), lab, "neighbour")
    }

    fn flood(&self, lab: &Lab, kind: &str, count: usize) -> Result<Lines> {
        let mut command = lab.ns("mob").command(PYTHON);
        command.arg(script("mob.py")).args([kind, VICTIM, &self.address]).arg(&self.gateway.trust.chain);
        Lines::start(command.arg(count.to_string()).args(&self.sources), lab, &format!("mob-{kind}"))
    }
}

/// What the neighbour has seen for so many seconds: nothing went wrong, and nobody waited for long.
fn well(neighbour: &mut Lines, seconds: usize, when: &str) -> Result<()> {
    let mut times = [Vec::new(), Vec::new()];
    let first = neighbour.latest()?;
    let rest = (1..seconds).map(|_| neighbour.next()).collect::<Result<Vec<_>>>()?;
    for line in std::iter::once(first).chain(rest) {
        let errors = line["errors"].as_array().context("no errors")?;
        ensure!(errors.is_empty(), "{when}: {} errors, such as {}", errors.len(), errors[0]);
        for (kind, times) in ["kept", "fresh"].iter().zip(&mut times) {
            times.extend(line["times"][kind].as_array().into_iter().flatten().filter_map(Value::as_f64));
        }
    }
    for (kind, mut times) in ["an open connection", "a new one"].iter().zip(times) {
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times[(share * (times.len() - 1) as f64) as usize];
        ensure!(times.len() > seconds, "{when}: {} requests over {kind}", times.len());
        let (half, most) = (at(0.5), at(0.99));
        eprintln!("{when}, over {kind}: {} requests, p50 {half:.1} ms, p99 {most:.1} ms", times.len());
        ensure!(most < P99, "{when}: p99 over {kind} is {most:.0} ms");
    }
    Ok(())
}

/// Waits until as many of a flood as stand at once have ended, and each as its kind has to.
fn ends_as_it_must(kind: &str, count: usize, flood: &mut Lines) -> Result<()> {
    let mut line = Value::Null;
    wait::until(&format!("{kind} ends"), SOON, || {
        line = flood.latest().unwrap_or_default();
        let ended = |how: &str| line["ended"][how].as_u64().unwrap_or(0) as usize;
        match kind {
            "head" => ended("408") >= count,
            // A byte a second is slow and no crime: each has its place, and takes nobody else's. (Some are closed before
            // they have one: their handshake lost its own, since the mob has most of them.)
            "body" => line["standing"] == count && ended("408") == 0,
            "reset" => ended("goaway") > 0,
            _ => ended("closed") >= count,
        }
    })
    .with_context(|| format!("{kind}: {line}"))?;
    eprintln!("{kind}: {line}");
    Ok(())
}

/// Memory and descriptors of the gateway's daemon.
fn held(lab: &mut Lab) -> Result<(u64, usize)> {
    let process = lab.daemon("gw")?.process();
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", process.pid()))?.count();
    Ok((process.rss_bytes()?, descriptors))
}

/// How often the gateway has turned somebody away for this.
fn refused(lab: &Lab, reason: &str) -> Result<u64> {
    let listed: Value = serde_json::from_str(&lab.cli("gw").run_json(&["gateway", "ls"])?.stdout)?;
    Ok(listed["refused"][reason].as_u64().unwrap_or(0))
}

#[test]
fn floods_end_as_they_must_and_a_neighbour_notices_none_of_them() {
    run_lab("gwfloods", |lab| {
        let stage = start(lab)?;
        let mut neighbour = stage.neighbour(lab)?;
        well(&mut neighbour, 3, "before")?;
        let before = held(lab)?;
        let mut floods = Vec::new();
        for (kind, count) in FLOODS {
            floods.push((*kind, *count, stage.flood(lab, kind, *count)?));
        }
        well(&mut neighbour, LASTS, "under the floods")?;
        let during = held(lab)?;
        for (kind, count, flood) in &mut floods {
            ends_as_it_must(kind, *count, flood)?;
        }
        drop(floods);
        for reason in ["handshakes_full", "bad_request", "http2"] {
            ensure!(refused(lab, reason)? > 0, "nothing is counted as {reason}");
        }
        let mut after = (0, 0);
        wait::until("what the floods took is given back", SOON, || {
            after = held(lab).unwrap_or((u64::MAX, 0));
            after.0 <= before.0 + KEEPS && after.1 <= before.1 + KEEPS_DESCRIPTORS
        })
        .with_context(|| format!("before {before:?}, during {during:?}, after {after:?}"))?;
        eprintln!("bytes and descriptors: before {before:?}, during {during:?}, after {after:?}");
        ensure!(during.1 > before.1 + 500, "that was no flood");
        out_of_time(lab, &stage)?;
        well(&mut neighbour, 3, "after")
    });
}

/// Where there is room, each has as long as a handshake may take, and no longer.
fn out_of_time(lab: &Lab, stage: &Stage) -> Result<()> {
    let before = refused(lab, "handshake_timeout")?;
    let _few = ["silent", "half", "unfinished"].map(|kind| stage.flood(lab, kind, 10));
    wait::until("30 handshakes have run out of time", SOON, || {
        refused(lab, "handshake_timeout").is_ok_and(|count| count >= before + 30)
    })
}

#[test]
fn requests_that_are_not_what_they_seem_are_refused_and_reach_nobody() {
    run_lab("gwcorpus", |lab| {
        let stage = start(lab)?;
        let mut neighbour = stage.neighbour(lab)?;
        well(&mut neighbour, 2, "before")?;
        let mut corpus = lab.ns("mob").command(PYTHON);
        corpus.arg(script("corpus.py")).args([VICTIM, PATHS, &stage.address]);
        let said = process::run(corpus.arg(&stage.gateway.trust.chain), DEADLINE)?;
        ensure!(said.stdout.trim_end().ends_with(", 0 wrong"), "{}", said.text());
        eprint!("{}", said.stdout);
        well(&mut neighbour, 2, "after")?;
        for (reason, least) in [("bad_request", 20), ("bad_hello", 4), ("plain_http", 1), ("unknown_name", 1)]
        {
            let count = refused(lab, reason)?;
            ensure!(count >= least, "{count} are counted as {reason}");
        }
        let log = process::read_lossy(&lab.dir().join("a-shop-victim.log"));
        ensure!(log.contains("asked 'GET / HTTP/1.1'"), "nothing reached the victim: {log}");
        let smuggled = log.lines().find(|line| line.contains("SMUGGLED"));
        ensure!(smuggled.is_none(), "{smuggled:?}");
        // Who it was is known, whomever they said they were.
        let requests = stage.gateway.requests(lab);
        ensure!(!requests.is_empty());
        let spoofed =
            requests.iter().find(|one| one["client"].as_str().is_some_and(|from| from.starts_with("10.20.")));
        ensure!(spoofed.is_none(), "{spoofed:?}");
        no_such_backend(lab, &stage)
    });
}

/// A backend that would be the publisher's own machine, the gateway or another network's cannot be asked for.
fn no_such_backend(lab: &Lab, stage: &Stage) -> Result<()> {
    tenant::network(lab, "bank", "10.30.0.0/16", "a", &[])?;
    let _till = Workload::start(lab, "a", "bank", "till", &["sleep", "infinity"])?;
    let (gateway, address) = (lab.key("gw")?.node_id, lab.address("gw")?);
    for backend in ["127.0.0.1", "localhost", &address, &stage.address, &gateway, "till", "till.bank"] {
        let args =
            ["expose", backend, "--network", NETWORK, "--via", &gateway, "--port", "80", "--name", "evil"];
        let said = lab.cli("a").run(&args)?;
        ensure!(matches!(said.code, Some(1 | 4)), "{backend}: {:?} {}", said.code, said.text());
    }
    let listed = lab.cli("gw").run_json(&["gateway", "ls"])?;
    ensure!(!listed.stdout.contains("evil"), "{}", listed.stdout);
    Ok(())
}
