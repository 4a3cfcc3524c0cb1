//! Many connections that wait: what each costs a gateway, and that open WebSockets outlive what operators do: another
//! configuration, another certificate, and the gateway's end for as long as its grace period lasts.
//!
//! ```text
//!   client ────────── gw ─┬─ a   live-a (WebSocket server) of network "shop"
//!   many addresses        ├─ b   live-b, the same
//!                         └─ c   live-c
//! ```
//! `SINEW_WEBSOCKETS=9000` opens as many, a thousand without. Each takes two descriptors at the gateway and three at its
//! workload's node, of whose streams one gateway has a half at most. `SINEW_IDLE=10000` opens as many connections
//! that have had an answer and wait, a thousand without; each takes one descriptor.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use sinew_tests::front::Pair;
use sinew_tests::gateway::{Gateway, NETWORK};
use sinew_tests::lab::{Lab, interface, run_lab};
use sinew_tests::process::{self, Proc};
use sinew_tests::tenant::{self, SOON, Workload, words};
use sinew_tests::wait;

const DEADLINE: Duration = Duration::from_secs(120);
/// WebSockets of one client address; a gateway lets in 512.
const EACH: usize = 400;
/// What a connection that waits may cost.
const KIB_EACH: f64 = 32.0;
/// What the first connections make the daemon take once, and it keeps: heaps of its threads, sessions' tickets.
const ONCE: u64 = 2 << 20;
const GRACE: u64 = 12;
/// Nodes with a server each.
const SERVERS: &[&str] = &["a", "b", "c"];

fn script(name: &str) -> String {
    format!("{}/tests/gateway_sockets/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A number of connections that the environment may change.
fn number(name: &str) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(1000)
}

fn count() -> usize {
    number("SINEW_WEBSOCKETS")
}

struct Stage {
    address: String,
    herd: Proc,
    rounds: u32,
}

fn gateway_section(trust: &Pair, more: &str) -> String {
    format!(
        "\n[gateway]\ndomain = \"gw.test\"\nhttps = [\"0.0.0.0:443\"]\ngrace = {GRACE}\n\
         certificates = [{{ certificate = {:?}, key = {:?} }}]\n{more}",
        trust.chain, trust.key,
    )
}

fn start(lab: &mut Lab) -> Result<()> {
    lab.line(&["client", "gw", "a"])?;
    for node in SERVERS {
        if *node != "a" {
            lab.node(node)?;
            lab.link("gw", node)?;
        }
        lab.peer(node, "gw")?;
    }
    let trust = Pair::make(lab.dir(), "gw", &["*.gw.test"])?;
    lab.config("gw").extra = gateway_section(&trust, "");
    lab.start_all()?;
    lab.wait_mesh()?;
    tenant::network(lab, "shop", "10.20.0.0/16", "a", &SERVERS[1..])
}

/// Opens them all, from as many addresses as it takes; what each costs the gateway must be little.
fn gather(lab: &mut Lab, kind: &str, host: &str, count: usize) -> Result<Stage> {
    let trust = Pair { chain: lab.dir().join("gw.pem"), key: lab.dir().join("gw.key") };
    let address = lab.underlay("gw", "client");
    let mut sources = Vec::new();
    for number in 0..count.div_ceil(EACH) {
        let source = format!("10.99.0.{}", number + 1);
        lab.ns("client").ip(&["addr", "add", &format!("{source}/24"), "dev", &interface("gw")])?;
        sources.push(source);
    }
    lab.ns("gw").ip(&["route", "add", "10.99.0.0/24", "dev", &interface("client")])?;
    let mut command = lab.ns("client").command("python3");
    command.args([&script("herd.py"), kind, host, &address]).arg(&trust.chain);
    command.arg(count.to_string()).args(&sources);
    let before = lab.daemon("gw")?.process().rss_bytes()?;
    let began = Instant::now();
    let mut herd = Proc::spawn(&mut command, &lab.dir().join("herd.log"))?;
    herd.wait_log(&format!("open {count}"), DEADLINE)?;
    let took = began.elapsed();
    let after = lab.daemon("gw")?.process().rss_bytes()?;
    let each = after.saturating_sub(before + ONCE) as f64 / 1024.0 / count as f64;
    eprintln!("{count} {kind} opened in {:.1} s, {each:.1} KiB each at the gateway", took.as_secs_f64());
    ensure!(each <= KIB_EACH, "{each:.1} KiB each");
    Ok(Stage { address, herd, rounds: 0 })
}

impl Stage {
    /// How many of them still carry what is said.
    fn alive(&mut self) -> Result<usize> {
        self.rounds += 1;
        self.herd.signal(Signal::SIGUSR1)?;
        let round = format!("round {}: ", self.rounds);
        self.herd.wait_log(&round, DEADLINE)?;
        let said = || self.herd.log().lines().find_map(|line| line.strip_prefix(&round).map(str::to_owned));
        let line = wait::value("the whole line", SOON, || said().filter(|line| line.contains(" of ")))?;
        Ok(line.split(' ').next().context("a number")?.parse()?)
    }

    fn serial(&self, lab: &Lab) -> Result<String> {
        let script = format!(
            "openssl s_client -connect {}:443 -servername live.gw.test </dev/null 2>/dev/null | \
             openssl x509 -noout -serial",
            self.address
        );
        process::run_ok(lab.ns("client").command("sh").args(["-c", &script]), SOON)
    }

    fn connects(&self, lab: &Lab) -> Result<bool> {
        let to = format!("{}:443", self.address).parse()?;
        lab.ns("client").enter(|| std::net::TcpStream::connect_timeout(&to, Duration::from_secs(1)).is_ok())
    }
}

#[test]
fn open_websockets_outlive_a_reload_another_certificate_and_the_grace_period() {
    run_lab("gwsockets", |lab| {
        start(lab)?;
        let echo = script("echo.py");
        let mut servers = Vec::new();
        for node in SERVERS {
            let name = format!("live-{node}");
            servers.push(Workload::start(lab, node, "shop", &name, &["python3", &echo, "8080"])?);
        }
        for node in SERVERS {
            tenant::known(lab, "a", "shop", &format!("live-{node}"))?;
        }
        let gateway = lab.key("gw")?.node_id;
        let args =
            ["expose", "live-a", "--network", "shop", "--via", &gateway, "--port", "8080", "--name", "live"];
        let args = [&args[..], &["--backend", "live-b:8080", "--backend", "live-c:8080"]].concat();
        lab.cli("a").json(&args)?;
        // Until it was asked, a server counts as well.
        wait::until("all servers listen", SOON, || {
            let probed = lab.cli("gw").json(&["gateway", "probe", "live.gw.test"]).unwrap_or_default();
            let probes = probed["probes"].as_array().cloned().unwrap_or_default();
            probes.iter().filter(|probe| probe["connect_ms"].is_number()).count() == SERVERS.len()
        })?;
        wait::until("all servers are well", SOON, || {
            let listed = lab.cli("gw").json(&["gateway", "ls"]).unwrap_or_default();
            let backends = listed["services"][0]["backends"].as_array().cloned().unwrap_or_default();
            backends.iter().filter(|backend| backend["healthy"] == true).count() == SERVERS.len()
        })?;
        let mut stage = gather(lab, "live", "live.gw.test", count())?;
        ensure!(stage.alive()? == count());

        // Another certificate in the same files, and another configuration.
        let serial = stage.serial(lab)?;
        let trust = Pair::make(lab.dir(), "gw", &["*.gw.test"])?;
        lab.config("gw").extra = gateway_section(&trust, "publish = { reserved = [\"billing\"] }\n");
        lab.config("gw").write()?;
        lab.cli("gw").json(&["config", "reload"])?;
        wait::until("the other certificate is used", SOON, || {
            stage.serial(lab).is_ok_and(|now| !now.is_empty() && now != serial)
        })?;
        ensure!(stage.alive()? == count(), "after a reload");

        let began = Instant::now();
        lab.daemon("gw")?.process().signal(Signal::SIGTERM)?;
        wait::until("nobody new is let in", SOON, || stage.connects(lab).is_ok_and(|connects| !connects))?;
        let alive = stage.alive()?;
        let lasted = began.elapsed();
        ensure!(
            lasted < Duration::from_secs(GRACE),
            "the round took {lasted:?}, longer than the grace period"
        );
        ensure!(alive == count(), "{alive} after the signal");
        lab.daemon("gw")?.process().wait(DEADLINE)?;
        let ended = began.elapsed().as_secs_f64();
        eprintln!("ended {ended:.1} s after the signal");
        ensure!(ended >= GRACE as f64 - 1.0 && ended < GRACE as f64 + 10.0, "ended after {ended:.1} s");
        ensure!(stage.alive()? == 0, "without a gateway");
        Ok(())
    });
}

#[test]
fn connections_that_wait_between_requests_cost_little() {
    run_lab("gwidle", |lab| {
        let gateway = Gateway::start(lab, "")?;
        let nginx = tenant::nginx(&lab.dir().join("web"), "<h1>small</h1>\n")?;
        let _web = Workload::start(lab, "a", NETWORK, "web", &words(&nginx))?;
        gateway.expose(lab, "web", &["--port", "80", "--name", "web"])?;
        gateway.reaches(lab, "web.gw.test")?;
        let count = number("SINEW_IDLE");
        let mut stage = gather(lab, "idle", "web.gw.test", count)?;
        ensure!(stage.alive()? == count, "not all of them had another answer");
        Ok(())
    });
}
