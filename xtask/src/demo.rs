//! `cargo demo`: the main job, shown on one machine.
//!
//! Four network namespaces play four machines. Each runs the real `sinewd`; `a` and `d` have no
//! link with each other. Every step is checked: the exit code is 0 only if all of it worked.

mod gateway;
mod journey;
mod network;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use sinew_tests::lab::{Dial, Lab};
use sinew_tests::requirements::Bins;
use sinew_tests::workload::{Iperf, Nginx, fetch_text, ping, url};
use sinew_tests::{interrupt, ns, wait};

use crate::packages;

const FAMILY: &str = "sinewdemo";
const NODES: [&str; 4] = ["a", "b", "c", "d"];
const LINKS: [(&str, &str); 4] = [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")];
const WEB_PORT: u16 = 8080;

const PICTURE: &str = "
              ┌───────────────┐
        ┌─────┤ b  (relay)    ├─────┐
  ┌─────┴─┐   └───────────────┘   ┌─┴─────┐
  │ a     │                       │ d     │   a and d have no link:
  │ curl  │   ┌───────────────┐   │ nginx │   what they say to each other
  └─────┬─┘   │ c  (relay)    │   └─┬─────┘   crosses b or c, sealed end to end
        └─────┤               ├─────┘
              └───────────────┘
";

/// Runs the demo; with `keep` it stays up afterwards.
pub(crate) fn run(keep: bool) -> Result<bool> {
    if !nix::unistd::geteuid().is_root() {
        bail!("the demo makes network namespaces, so it needs root: sudo -E cargo demo");
    }
    packages::ensure()?;
    interrupt::clean_up(|| {
        let _ = clean();
    })?;
    clean()?;
    println!("Building sinewd and sinew (release) ...");
    let bins = Bins::get()?;
    let start = Instant::now();
    let mut lab = Lab::at(FAMILY.to_owned(), folder())?;
    if keep {
        lab.keep();
    }
    let shown = show(&mut lab);
    if let Err(error) = &shown {
        lab.print_logs();
        println!("\nThe demo FAILED: {error:#}");
    } else {
        println!("\nAll of it worked, in {:.0} s.", start.elapsed().as_secs_f64());
    }
    if keep {
        explain(&bins.sinew.display().to_string());
    } else {
        drop(lab);
        println!("Namespaces, daemons and files are removed. (`cargo demo --keep` leaves them up.)");
    }
    Ok(shown.is_ok())
}

/// Removes what `--keep` or a killed demo left.
pub(crate) fn clean() -> Result<bool> {
    let removed = ns::clean_all(FAMILY);
    if removed > 0 {
        println!("Removed {removed} namespaces of an earlier demo.");
    }
    if folder().exists() {
        ns::unmount_below(&folder());
        std::fs::remove_dir_all(folder())?;
    }
    Ok(true)
}

fn folder() -> PathBuf {
    std::env::temp_dir().join(FAMILY)
}

fn show(lab: &mut Lab) -> Result<()> {
    machines(lab)?;
    daemons(lab)?;
    neighbours(lab)?;
    let _nginx = web(lab)?;
    throughput(lab)?;
    let _workloads = network::show(lab)?;
    gateway::show(lab)?;
    let _more = journey::show(lab)?;
    failure(lab)
}

fn machines(lab: &mut Lab) -> Result<()> {
    heading("Four machines, two of them without a direct link");
    println!("{PICTURE}");
    for name in NODES {
        lab.node(name)?;
    }
    for (a, b) in LINKS {
        lab.link(a, b)?;
        println!("  link  {a} {} ── {} {b}", lab.underlay(a, b), lab.underlay(b, a));
    }
    Ok(())
}

fn daemons(lab: &mut Lab) -> Result<()> {
    heading("Each machine gets a key and a daemon");
    lab.peer_links(Dial::First)?;
    gateway::prepare(lab)?;
    for name in NODES {
        let key = lab.key(name)?;
        println!("  {name}  {}  {}", key.address, key.node_id);
    }
    let start = Instant::now();
    lab.start_all()?;
    lab.wait_mesh()?;
    println!("  all four reach each other after {:.2} s", start.elapsed().as_secs_f64());
    let address = lab.address("d")?;
    let direct = lab.ns("a").ip(&["-4", "route", "get", &lab.underlay("d", "b")]);
    ensure!(direct.is_err(), "a has an underlay route to d: {direct:?}");
    println!("  a has no underlay route to d; over the mesh d is {address}");
    Ok(())
}

fn neighbours(lab: &mut Lab) -> Result<()> {
    heading("Who talks to whom");
    for name in NODES {
        let peers = lab.cli(name).run(&["peers"])?;
        ensure!(peers.code == Some(0), "sinew peers on {name}: {}", peers.text());
        println!("  {name}$ sinew peers\n{}", indent(&peers.stdout));
        ensure!(lab.cli(name).peers_up()?.len() == 2, "{name} should have two live peers");
    }
    let target = lab.address("d")?;
    let verbs: [&[&str]; 2] = [&["ping", &target, "-c", "3"], &["trace", &target]];
    for args in verbs {
        let output = lab.cli("a").run(args)?;
        println!("  a$ sinew {}\n{}", args.join(" "), indent(&output.stdout));
        ensure!(matches!(output.code, Some(0 | 2)), "sinew {}: {}", args[0], output.text());
    }
    let report = ping(lab.ns("a"), &target, 5, 200)?;
    ensure!(report.received == report.sent, "the system's ping lost packets: {report:?}");
    println!("  a$ ping {target}: {}/{} answered", report.received, report.sent);
    Ok(())
}

fn web(lab: &mut Lab) -> Result<Nginx> {
    heading("A real web server on d, fetched from a");
    let dir = lab.dir().join("web");
    std::fs::create_dir_all(dir.join("www"))?;
    let page = "<h1>Hello across the mesh</h1>\n";
    std::fs::write(dir.join("www/index.html"), page)?;
    let mut nginx = Nginx::start(lab.ns("d"), &dir, WEB_PORT)?;
    if lab.ns("d").is_kept() {
        nginx.keep();
    }
    let address = url(&lab.address("d")?, WEB_PORT, "index.html");
    let got = fetch_text(lab.ns("a"), &address)?;
    println!("  a$ curl -g '{address}'\n{}", indent(&got));
    ensure!(got == page, "another page came back");
    Ok(nginx)
}

fn throughput(lab: &mut Lab) -> Result<()> {
    heading("Throughput from a to d through one relay (four daemons share this machine)");
    let server = Iperf::start(lab.ns("d"), lab.dir())?;
    let target = lab.address("d")?;
    let rate = server.measure(lab.ns("a"), &target, 3)?;
    println!("  a$ iperf3 -c {target} -t 3: {:.0} Mbit/s", rate / 1e6);
    ensure!(rate > 1e6, "less than 1 Mbit/s");
    Ok(())
}

fn failure(lab: &mut Lab) -> Result<()> {
    heading("The link in use goes silent");
    let target = lab.address("d")?;
    let path = lab.cli("a").trace_keys(&target)?;
    let relay = path.iter().filter_map(|key| lab.name_of(key)).find(|name| ["b", "c"].contains(name));
    let relay = relay.context("the trace names neither b nor c")?.to_owned();
    println!("  packets go through {relay}; now everything on the link a-{relay} is dropped, interfaces up");
    lab.cut("a", &relay)?;
    let cut = Instant::now();
    wait::until("d answers again", Duration::from_secs(30), || {
        lab.ns("a").run(&["ping", "-n", "-q", "-c", "1", "-W", "0.2", &target]).is_ok()
    })?;
    println!("  d answers again after {:.2} s", cut.elapsed().as_secs_f64());
    lab.heal("a", &relay)
}

fn heading(text: &str) {
    println!("\n── {text}");
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("      {line}\n")).collect()
}

fn explain(sinew: &str) {
    println!("\nThe mesh is left up. To explore it:");
    for verb in ["status", "peers", "routes", "sessions", "network show shop", "workload ls"] {
        println!("  {sinew} --socket {}/a/sinew.sock {verb}", folder().display());
    }
    println!("  ip netns exec {FAMILY}-a bash        # a shell on machine a");
    println!("  less {}/a/sinewd.log", folder().display());
    println!("To remove it: cargo demo --clean");
}
