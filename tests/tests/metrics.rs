//! The node's numbers as monitoring reads them: `/metrics` asked with a real curl, read strictly, before and after
//! things have happened.
//!
//! ```text
//!   client ───── gw ───── a   web (nginx) of network "shop"
//!   curl         [gateway]
//! ```

use std::net::UdpSocket;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use sinew_tests::front::Pair;
use sinew_tests::lab::{Lab, run_lab};
use sinew_tests::process::{self, Output, read_lossy};
use sinew_tests::prometheus::Scrape;
use sinew_tests::sinewd::PORT;
use sinew_tests::tenant::{self, SOON, Workload, words};
use sinew_tests::wait;
use sinew_tests::workload::ping;

const LOCAL: &str = "127.0.0.1:9463";
const PAGE: &str = "<h1>counted</h1>\n";
const HOST: (&str, &str) = ("host", "app.gw.test");
const SENT: (&str, &str) = ("direction", "sent");
const RECEIVED: (&str, &str) = ("direction", "received");

fn curl(lab: &Lab, node: &str, args: &[&str]) -> Result<Output> {
    let mut command = lab.ns(node).command("curl");
    command.args(["-sS", "--max-time", "20"]).args(args);
    process::run(&mut command, Duration::from_secs(30))
}

fn scrape(lab: &Lab, node: &str) -> Result<Scrape> {
    let said = curl(lab, node, &["--fail", &format!("http://{LOCAL}/metrics")])?;
    ensure!(said.code == Some(0), "{:?}: {}", said.code, said.text());
    Scrape::parse(&said.stdout).with_context(|| said.stdout.clone())
}

/// Scrapes `node` until `is` holds: an answer may be a second old.
fn until(lab: &Lab, node: &str, what: &str, is: impl Fn(&Scrape) -> Result<bool>) -> Result<Scrape> {
    wait::success(what, SOON, || {
        let scrape = scrape(lab, node)?;
        ensure!(is(&scrape)?, "not yet");
        Ok(scrape)
    })
}

fn start(lab: &mut Lab) -> Result<Pair> {
    lab.line(&["client", "gw", "a"])?;
    lab.peer("a", "gw")?;
    let trust = Pair::make(lab.dir(), "gw", &["*.gw.test"])?;
    lab.config("gw").extra = format!(
        "\n[metrics]\nlisten = \"{LOCAL}\"\n\n[gateway]\ndomain = \"gw.test\"\nhttps = [\"0.0.0.0:443\"]\n\
         certificates = [{{ certificate = {:?}, key = {:?} }}]\n",
        trust.chain, trust.key,
    );
    lab.config("a").extra = "\n[metrics]\nlisten = \"0.0.0.0:9463\"\n".into();
    lab.key("gw")?;
    lab.start_all()?;
    lab.wait_mesh()?;
    tenant::network(lab, "shop", "10.20.0.0/16", "a", &[])?;
    Ok(trust)
}

#[test]
fn the_numbers_of_a_node_move_with_what_happens() {
    run_lab("metrics", |lab| {
        let trust = start(lab)?;
        traffic_of_peers(lab)?;
        what_is_dropped(lab)?;
        let nginx = tenant::nginx(&lab.dir().join("web"), PAGE)?;
        let web = Workload::start(lab, "a", "shop", "web", &words(&nginx))?;
        a_published_page(lab, &trust)?;
        workloads(lab, &web)?;
        who_may_ask_what(lab)
    });
}

fn traffic_of_peers(lab: &Lab) -> Result<()> {
    let (a, gw) = (lab.key("a")?, lab.key("gw")?);
    let own = ("node_id", a.node_id.as_str());
    // A direct peer answers before there is a route to it.
    let before = until(lab, "gw", "routing has spoken", |now| {
        let told = now.sum("sinew_control_bytes_total", &[("type", "origin"), SENT])?;
        Ok(now.sum("sinew_routes", &[])? >= 1.0 && told > 0.0)
    })?;
    ensure!(before.sum("sinew_node_info", &[("node_id", &gw.node_id), ("name", "gw")])? == 1.0);
    ensure!(before.sum("sinew_build_info", &[])? == 1.0 && before.sum("sinew_ready", &[])? == 1.0);
    ensure!(before.sum("sinew_peers", &[("state", "up")])? == 1.0);
    ensure!(before.sum("sinew_peer_up", &[own])? == 1.0);
    ensure!(before.sum("sinew_peer_info", &[own, ("carrier", "udp")])? == 1.0);
    ensure!(before.sum("sinew_sessions", &[])? == 1.0);
    ensure!(before.sum("sinew_route_changes_total", &[])? >= 1.0);
    ensure!(before.sum("sinew_handshakes_total", &[("result", "new")])? >= 1.0);
    ensure!(before.sum("sinew_scrape_success", &[])? == 2.0);
    let report = ping(lab.ns("a"), &gw.address, 20, 10)?;
    ensure!(report.received == 20, "{report:?}");
    until(lab, "gw", "the peer's traffic is counted", |after| {
        let udp = ("carrier", "udp");
        let more = |name: &str, direction| -> Result<f64> {
            let labels = [own, udp, direction];
            Ok(after.sum(name, &labels)? - before.sum(name, &labels)?)
        };
        // Twenty echoes of 84 bytes at least, each way, each a record.
        Ok(more("sinew_peer_bytes_total", RECEIVED)? >= 20.0 * 84.0
            && more("sinew_peer_bytes_total", SENT)? >= 20.0 * 84.0
            && more("sinew_peer_packets_total", RECEIVED)? >= 20.0
            && more("sinew_peer_packets_total", SENT)? >= 20.0)
    })?;
    let measured = until(lab, "gw", "the round trip is measured", |after| {
        Ok(after.sum("sinew_peer_rtt_seconds", &[own]).is_ok_and(|rtt| rtt > 0.0 && rtt < 1.0))
    })?;
    let loss = measured.sum("sinew_peer_loss_ratio", &[own])?;
    ensure!((0.0..=1.0).contains(&loss), "{loss}");
    ensure!(measured.sum("sinew_uptime_seconds", &[])? > 0.0);
    Ok(())
}

/// A stranger sends what is no message of ours.
fn what_is_dropped(lab: &Lab) -> Result<()> {
    let dropped = |scrape: &Scrape| scrape.sum("sinew_drops_total", &[("reason", "unknown_type")]);
    let before = dropped(&scrape(lab, "gw")?)?;
    let to = format!("{}:{PORT}", lab.underlay("gw", "client"));
    lab.ns("client").enter(|| -> std::io::Result<()> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        for _ in 0..7 {
            socket.send_to(&[0xee; 40], &to)?;
        }
        Ok(())
    })??;
    until(lab, "gw", "what a stranger sent is counted", |after| Ok(dropped(after)? >= before + 7.0))?;
    Ok(())
}

fn a_published_page(lab: &Lab, trust: &Pair) -> Result<()> {
    let via = lab.key("gw")?.node_id;
    lab.cli("a").json(&[
        "expose",
        "web",
        "--network",
        "shop",
        "--port",
        "80",
        "--name",
        "app",
        "--via",
        &via,
    ])?;
    let address = format!("app.gw.test:443:{}", lab.underlay("gw", "client"));
    let chain = trust.chain.display().to_string();
    for (path, code, times) in [("", "200", 5), ("nothing-here", "404", 2)] {
        for _ in 0..times {
            let url = format!("https://app.gw.test/{path}");
            let args =
                ["--cacert", &chain, "--resolve", &address, "-o", "/dev/null", "-w", "%{http_code}", &url];
            let said = curl(lab, "client", &args)?;
            ensure!(said.stdout == code, "{}", said.text());
        }
    }
    let counted =
        |scrape: &Scrape, class| scrape.sum("sinew_gateway_requests_total", &[HOST, ("class", class)]);
    let after = until(lab, "gw", "each request is counted once", |after| {
        Ok(counted(after, "2xx").unwrap_or(0.0) >= 5.0 && counted(after, "4xx")? >= 2.0)
    })?;
    ensure!(
        counted(&after, "2xx")? == 5.0 && counted(&after, "4xx")? == 2.0 && counted(&after, "5xx")? == 0.0
    );
    ensure!(after.sum("sinew_gateway_connections_total", &[])? >= 7.0);
    ensure!(after.sum("sinew_gateway_bytes_total", &[HOST, SENT])? >= 5.0 * PAGE.len() as f64);
    ensure!(after.sum("sinew_gateway_backends", &[HOST, ("condition", "well")])? == 1.0);
    let end = after.sum("sinew_gateway_certificate_expiry_timestamp_seconds", &[("source", "file")])?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs_f64();
    let days = (end - now) / 86_400.0;
    ensure!((29.0..31.0).contains(&days), "the certificate is made for 30 days; {days} are left");
    // A name that nobody has published is turned away before a request is understood.
    let args = ["-k", "--resolve", &address.replace("app", "other"), "https://other.gw.test/"];
    ensure!(curl(lab, "client", &args)?.code != Some(0));
    until(lab, "gw", "a refusal is counted", |after| {
        Ok(after.sum("sinew_gateway_refused_total", &[("reason", "unknown_name")])? == 1.0)
    })?;
    Ok(())
}

/// Another workload of the network fetches the page, over the interfaces of both.
fn workloads(lab: &Lab, web: &Workload) -> Result<()> {
    let bytes = |scrape: &Scrape, name, direction| {
        scrape.sum("sinew_workload_bytes_total", &[("workload", name), ("network", "shop"), direction])
    };
    let probe = Workload::start(lab, "a", "shop", "probe", &["sleep", "600"])?;
    let before = until(lab, "a", "both are there", |after| {
        Ok(after.sum("sinew_workloads", &[("state", "up")])? == 2.0)
    })?;
    let address = web.addresses(lab)?.into_iter().next().context("no address")?;
    let page =
        probe.run(lab, &["curl", "-sS", "--fail", "--max-time", "10", &format!("http://{address}/")])?;
    ensure!(page == PAGE, "{page}");
    until(lab, "a", "the bytes of both are counted", |after| {
        let more = |name, direction| -> Result<f64> {
            Ok(bytes(after, name, direction)? - bytes(&before, name, direction)?)
        };
        // The page, and a few segments around it.
        let least = (PAGE.len() + 4 * 40) as f64;
        Ok(more("web", SENT)? >= least
            && more("probe", RECEIVED)? >= least
            && more("web", RECEIVED)? >= least)
    })?;
    Ok(())
}

/// One resource, and who reaches the address may read it; the log says so where that is more than this machine.
fn who_may_ask_what(lab: &Lab) -> Result<()> {
    for (method, path) in [("GET", ""), ("GET", "v1/status"), ("POST", "metrics"), ("GET", "metrics/x")] {
        let url = format!("http://{LOCAL}/{path}");
        let said = curl(lab, "gw", &["-X", method, "-o", "/dev/null", "-w", "%{http_code}", &url])?;
        ensure!(said.stdout == "404", "{method} /{path}: {}", said.text());
    }
    let open = format!("http://{}:9463/metrics", lab.underlay("a", "gw"));
    let said = curl(lab, "gw", &["--fail", &open])?;
    Scrape::parse(&said.stdout).with_context(|| said.text())?;
    let closed = format!("http://{}:9463/metrics", lab.underlay("gw", "a"));
    ensure!(curl(lab, "a", &[&closed])?.code == Some(7), "gw answers to others");
    let warned = |node: &str| {
        let log = read_lossy(&lab.dir().join(node).join("sinewd.log"));
        log.lines().any(|line| line.contains("metrics at") && line.contains("whoever reaches it"))
    };
    ensure!(warned("a") && !warned("gw"), "the log says nothing of an open address, or of a closed one");
    Ok(())
}
