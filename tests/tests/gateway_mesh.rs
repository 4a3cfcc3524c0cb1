//! A public gateway with real programs: people outside reach chosen services of private networks, and nothing else.
//!
//! ```text
//!   client ───── gw ───── relay ─┬─ a   web (nginx), db (PostgreSQL), echo (UDP) of network "shop"
//!   curl, psql   [gateway]       └─ b   web2 (nginx) of "shop"; network "rival" is b's own
//! ```
//! gw is no member of either network, relay no member and no gateway. The client has no daemon.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sinew_tests::capture::Capture;
use sinew_tests::cli::text;
use sinew_tests::front::Pair;
use sinew_tests::lab::{Lab, interface, run_lab};
use sinew_tests::process::{self, Output, Proc};
use sinew_tests::tenant::{self, SOON, Workload, words};
use sinew_tests::wait;

const PAGE: &str = "<h1>only-the-client-reads-this</h1>\n";
const MARK: &[u8] = b"only-the-client-reads-this";
/// The promise for a backend that has died, and for what was taken back.
const DEAD: Duration = Duration::from_secs(3);
const AT_ONCE: Duration = Duration::from_secs(1);

struct Stage {
    /// Where clients find gw.
    address: String,
    trust: Pair,
}

fn start(lab: &mut Lab) -> Result<Stage> {
    lab.line(&["client", "gw", "relay", "a"])?;
    lab.node("b")?;
    lab.link("relay", "b")?;
    for node in ["gw", "a", "b"] {
        lab.peer(node, "relay")?;
        // As a node is by default; the labs' own is open.
        lab.config(node).inbound = "\"established\"".into();
    }
    let trust = Pair::make(lab.dir(), "gw", &["*.gw.test"])?;
    lab.config("gw").extra = format!(
        "\n[gateway]\ndomain = \"gw.test\"\nhttps = [\"0.0.0.0:443\"]\nhttp = [\"0.0.0.0:80\"]\n\
         tcp_ports = \"20000-20009\"\nudp_ports = \"20000-20009\"\nlog = \"{0}/gwlog/access.log\"\n\
         certificates = [{{ certificate = {1:?}, key = {2:?} }}]\n",
        lab.dir().display(),
        trust.chain,
        trust.key,
    );
    lab.start_all()?;
    lab.wait_mesh()?;
    tenant::network(lab, "shop", "10.20.0.0/16", "a", &["b"])?;
    Ok(Stage { address: lab.underlay("gw", "client"), trust })
}

fn web(lab: &Lab, node: &str, name: &str) -> Result<Workload> {
    let nginx = tenant::nginx(&lab.dir().join(name), PAGE)?;
    Workload::start(lab, node, "shop", name, &words(&nginx))
}

fn expose(lab: &Lab, node: &str, workload: &str, options: &[&str]) -> Result<(Output, Value)> {
    let gateway = lab.key("gw")?.node_id;
    let args = ["expose", workload, "--via", &gateway];
    let said = lab.cli(node).run_json(&[&args[..], options].concat())?;
    let value = serde_json::from_str(&said.stdout).with_context(|| said.text())?;
    Ok((said, value))
}

fn expose_live(lab: &Lab, workload: &str, options: &[&str]) -> Result<Value> {
    let (said, value) = expose(lab, "a", workload, &[&["--network", "shop"], options].concat())?;
    ensure!(said.code == Some(0), "{:?} {}", said.code, said.text());
    Ok(value)
}

impl Stage {
    /// curl on the client; whatever its exit code.
    fn curl(&self, lab: &Lab, trust: &Pair, args: &[&str]) -> Result<Output> {
        let mut command = lab.ns("client").command("curl");
        command.args(["-sS", "--max-time", "20", "--cacert"]).arg(&trust.chain);
        for host in ["app.gw.test", "thru.gw.test", "other.gw.test"] {
            for port in [443, 80] {
                command.args(["--resolve", &format!("{host}:{port}:{}", self.address)]);
            }
        }
        process::run(command.args(args), Duration::from_secs(30))
    }

    fn page(&self, lab: &Lab) -> Result<bool> {
        let said = self.curl(lab, &self.trust, &["--fail", "https://app.gw.test/"])?;
        Ok(said.code == Some(0) && said.stdout == PAGE)
    }

    /// Status and seconds of a request.
    fn status(&self, lab: &Lab) -> Result<(u16, f64)> {
        let format = "%{http_code} %{time_total}";
        let said = self.curl(lab, &self.trust, &["-o", "/dev/null", "-w", format, "https://app.gw.test/"])?;
        let (code, time) = said.stdout.split_once(' ').with_context(|| said.text())?;
        Ok((code.parse()?, time.parse()?))
    }

    /// Whether a TCP connection of the client to gw stands.
    fn connects(&self, lab: &Lab, port: u16) -> Result<bool> {
        let to = format!("{}:{port}", self.address).parse()?;
        lab.ns("client").enter(|| std::net::TcpStream::connect_timeout(&to, AT_ONCE).is_ok())
    }
}

#[test]
fn a_page_of_a_private_network_is_fetched_from_outside_and_only_what_was_chosen() {
    run_lab("gwmesh", |lab| {
        let stage = start(lab)?;
        let _web = web(lab, "a", "web")?;
        let _db = web(lab, "a", "db")?;
        ensure!(!stage.page(lab)?, "served before anybody asked for it");
        let seen = Capture::start(lab.ns("relay"), &interface("gw"), &lab.dir().join("relay.pcapng"))?;
        let exposed = expose_live(lab, "web", &["--port", "80", "--name", "app"])?;
        ensure!(exposed["publication"]["answer"]["hosts"][0]["host"] == "app.gw.test", "{exposed}");
        ensure!(stage.page(lab)?, "the page does not come");
        ensure!(stage.status(lab)?.0 == 200);
        let moved = stage.curl(
            lab,
            &stage.trust,
            &["-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", "http://app.gw.test/x"],
        )?;
        ensure!(moved.stdout == "301 https://app.gw.test/x", "{}", moved.text());
        // Nothing else answers.
        let other = stage.curl(lab, &stage.trust, &["https://other.gw.test/"])?;
        ensure!(other.code == Some(35), "a name nobody published: {:?} {}", other.code, other.text());
        for port in [20_000, 20_009, 7464, 8080] {
            ensure!(!stage.connects(lab, port)?, "port {port} answers");
        }
        second_network(lab, &stage)?;
        operator(lab)?;
        let pcap = seen.stop()?;
        // The page alone is a few, since what belongs together crosses in one.
        let packets = pcap.count("udp")?;
        ensure!(packets >= 8, "the relay's link was not recorded: {packets} packets");
        let found = pcap.scan(&[MARK, b"app.gw.test"])?;
        ensure!(found == [0, 0], "the relay has read it: {found:?}");
        restart(lab, &stage)?;
        taken_back(lab, &stage)
    });
}

/// Another network asks for the same name, and hears whose it is.
fn second_network(lab: &Lab, stage: &Stage) -> Result<()> {
    tenant::network(lab, "rival", "10.30.0.0/16", "b", &[])?;
    let nginx = tenant::nginx(&lab.dir().join("fake"), "<h1>fake</h1>\n")?;
    let _fake = Workload::start(lab, "b", "rival", "fake", &words(&nginx))?;
    let (said, value) = expose(lab, "b", "fake", &["--network", "rival", "--port", "80", "--name", "app"])?;
    let shop = lab.cli("a").json(&["network", "show", "shop"])?;
    let publication = &value["publication"];
    ensure!(said.code == Some(5) && text(publication, "code") == "name_taken", "{:?} {value}", said.code);
    let why = text(publication, "text");
    ensure!(why.contains(text(&shop, "id")) && why.contains("since 20"), "{why}");
    for (option, code) in [("ab", "name_too_short"), ("admin", "name_reserved")] {
        let (_, value) = expose(lab, "b", "fake", &["--network", "rival", "--port", "80", "--name", option])?;
        ensure!(text(&value["publication"], "code") == code, "{option}: {value}");
    }
    ensure!(stage.page(lab)?, "the holder has lost it");
    Ok(())
}

/// What the operator of the gateway sees.
fn operator(lab: &Lab) -> Result<()> {
    let listed = lab.cli("gw").json(&["gateway", "ls"])?;
    let service = &listed["services"][0];
    ensure!(service["host"] == "app.gw.test" && service["mode"] == "http", "{listed}");
    ensure!(
        service["backends"][0]["addr"] == "web:80" && service["backends"][0]["healthy"] == true,
        "{listed}"
    );
    ensure!(service["requests"]["2xx"].as_u64() >= Some(3), "{listed}");
    ensure!(service["tx_bytes"].as_u64() >= Some(PAGE.len() as u64), "{listed}");
    ensure!(service["certificate_expiry"].is_string(), "{listed}");
    let probed = lab.cli("gw").json(&["gateway", "probe", "app.gw.test"])?;
    ensure!(probed["probes"][0]["connect_ms"].is_number(), "{probed}");
    let names = lab.cli("gw").json(&["gateway", "name", "ls"])?;
    ensure!(names["names"].as_array().is_some_and(|names| names.len() == 1), "{names}");
    let log = lab.cli("gw").json(&["gateway", "log"])?;
    let line = log["lines"].as_array().and_then(|lines| lines.iter().find(|line| line["kind"] == "request"));
    ensure!(line.is_some_and(|line| line["host"] == "app.gw.test" && line["status"] == 200), "{log}");
    let written = lab.dir().join("gwlog/access.log");
    wait::until("the access log is written", SOON, || {
        std::fs::read_to_string(&written).is_ok_and(|text| text.contains("\"status\":200"))
    })?;
    let other = lab.cli("a").run(&["gateway", "ls"])?;
    ensure!(other.code == Some(1) && other.text().contains("no gateway"), "{}", other.text());
    Ok(())
}

/// A restart asks nobody: what was promised is served, the name is where it was.
fn restart(lab: &mut Lab, stage: &Stage) -> Result<()> {
    let before = lab.cli("gw").json(&["gateway", "name", "ls"])?;
    lab.stop("gw")?;
    // Its publisher cannot tell it anything.
    lab.kill("a");
    lab.start("gw")?;
    lab.wait_ready("gw")?;
    let after = lab.cli("gw").json(&["gateway", "name", "ls"])?;
    ensure!(before["names"] == after["names"] && !before["names"].is_null(), "{before} {after}");
    let listed = lab.cli("gw").run_json(&["gateway", "ls"])?;
    ensure!(listed.stdout.contains("app.gw.test"), "{}", listed.text());
    lab.start("a")?;
    lab.wait_mesh()?;
    wait::until("the page comes after a restart", SOON, || stage.page(lab).unwrap_or(false))
}

fn taken_back(lab: &Lab, stage: &Stage) -> Result<()> {
    let gone = lab.cli("a").run(&["unexpose", "app"])?;
    ensure!(gone.code == Some(0), "{}", gone.text());
    let began = Instant::now();
    let said = stage.curl(lab, &stage.trust, &["https://app.gw.test/"])?;
    ensure!(said.code != Some(0) && began.elapsed() < AT_ONCE, "{:?} after {:?}", said.code, began.elapsed());
    let names = lab.cli("gw").json(&["gateway", "name", "ls"])?;
    ensure!(names["names"][0]["in_use"] == false, "{names}");
    Ok(())
}

#[test]
fn of_two_backends_one_may_die_and_without_any_the_answer_comes_at_once() {
    run_lab("gwdead", |lab| {
        let stage = start(lab)?;
        let (mut web, mut other) = (web(lab, "a", "web")?, web(lab, "b", "web2")?);
        tenant::known(lab, "a", "shop", "web2")?;
        expose_live(lab, "web", &["--port", "80", "--name", "app", "--backend", "web2:80"])?;
        ensure!(stage.page(lab)?, "the page does not come");
        let healthy = |wanted: usize| {
            let listed = lab.cli("gw").run_json(&["gateway", "ls"]).ok()?;
            let listed: Value = serde_json::from_str(&listed.stdout).ok()?;
            let backends = listed["services"][0]["backends"].as_array()?.clone();
            Some(backends.iter().filter(|one| one["healthy"] == true).count() == wanted)
        };
        wait::until("both are well", SOON, || healthy(2) == Some(true))?;
        other.process().kill();
        let died = Instant::now();
        wait::until("the dead one is out", DEAD, || healthy(1) == Some(true))?;
        eprintln!("out after {} ms", died.elapsed().as_millis());
        for _ in 0..6 {
            ensure!(stage.status(lab)?.0 == 200, "a client was sent to the dead one");
        }
        web.process().kill();
        wait::until("the other is out", DEAD, || healthy(0) == Some(true))?;
        let (status, seconds) = stage.status(lab)?;
        eprintln!("then {status} in {seconds} s");
        ensure!(status == 503 && seconds < 0.5, "{status} after {seconds} s");
        Ok(())
    });
}

#[test]
fn tls_tcp_and_udp_go_through_and_the_end_lets_clients_finish() {
    run_lab("gwports", |lab| {
        let stage = start(lab)?;
        passthrough(lab, &stage)?;
        let dir = lab.dir().join("pg");
        let server = tenant::postgres(&dir)?;
        let _db = Workload::start(lab, "a", "shop", "db", &words(&server))?;
        let exposed = expose_live(lab, "db", &["--port", "5432", "--mode", "tcp"])?;
        let port = exposed["publication"]["answer"]["port"].as_u64().context("no port")?;
        wait::until("psql gets through", SOON, || {
            let mut psql = lab.ns("client").command("psql");
            psql.args([
                "-h",
                &stage.address,
                "-p",
                &port.to_string(),
                "-U",
                "postgres",
                "-Atc",
                "select 6*7",
            ]);
            process::run(&mut psql, SOON).is_ok_and(|said| said.stdout.trim() == "42")
        })?;
        let echo = ["socat", "UDP6-LISTEN:9000,fork,reuseaddr", "EXEC:cat"];
        let _echo = Workload::start(lab, "a", "shop", "echo", &echo)?;
        let exposed = expose_live(lab, "echo", &["--port", "9000", "--mode", "udp"])?;
        let port = exposed["publication"]["answer"]["port"].as_u64().context("no port")?;
        let to = format!("{}:{port}", stage.address);
        let socket = lab.ns("client").enter(|| UdpSocket::bind("0.0.0.0:0"))??;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        wait::until("a datagram comes back", SOON, || {
            let mut got = [0; 64];
            socket.send_to(b"ping", &to).is_ok()
                && socket.recv_from(&mut got).is_ok_and(|(length, _)| &got[..length] == b"ping")
        })?;
        drains(lab, &stage)
    });
}

/// TLS ends at the workload, whose certificate the client sees.
fn passthrough(lab: &Lab, stage: &Stage) -> Result<()> {
    let own = Pair::make(lab.dir(), "own", &["thru.gw.test"])?;
    let folder = lab.dir().join("thru");
    let nginx = tenant::nginx(&folder, PAGE)?;
    let conf = folder.join("nginx.conf");
    let tls = format!(
        "listen 80; listen 443 ssl; ssl_certificate {}; ssl_certificate_key {};",
        own.chain.display(),
        own.key.display()
    );
    std::fs::write(&conf, std::fs::read_to_string(&conf)?.replace("listen 80;", &tls))?;
    let _thru = Workload::start(lab, "a", "shop", "thru", &words(&nginx))?;
    let seen = Capture::start(lab.ns("gw"), "sinew0", &lab.dir().join("gw.pcapng"))?;
    expose_live(lab, "thru", &["--port", "443", "--mode", "tls-passthrough", "--name", "thru"])?;
    let said = stage.curl(lab, &own, &["--fail", "https://thru.gw.test/"])?;
    ensure!(said.stdout == PAGE, "{}", said.text());
    let wrong = stage.curl(lab, &stage.trust, &["https://thru.gw.test/"])?;
    ensure!(wrong.code == Some(60), "the gateway's own certificate was shown: {}", wrong.text());
    wait::until("the record has the hello", SOON, || seen.holds(b"thru.gw.test").unwrap_or(false))?;
    let found = seen.stop()?.scan(&[MARK])?;
    ensure!(found == [0], "the gateway has read it: {found:?}");
    Ok(())
}

/// SIGTERM: what is under way finishes, nothing new begins.
fn drains(lab: &mut Lab, stage: &Stage) -> Result<()> {
    let folder = lab.dir().join("large");
    let nginx = tenant::nginx(&folder, PAGE)?;
    std::fs::write(folder.join("www/file"), vec![b'x'; 3 << 20])?;
    let _large = Workload::start(lab, "a", "shop", "large", &words(&nginx))?;
    expose_live(lab, "large", &["--port", "80", "--name", "app"])?;
    let got = lab.dir().join("got");
    let mut command = lab.ns("client").command("curl");
    command.args(["-sS", "--fail", "--limit-rate", "1M", "--cacert"]).arg(&stage.trust.chain);
    command.args(["--resolve", &format!("app.gw.test:443:{}", stage.address), "-o"]).arg(&got);
    let mut transfer = Proc::spawn(command.arg("https://app.gw.test/file"), &lab.dir().join("transfer.log"))?;
    let size = || std::fs::metadata(&got).map_or(0, |meta| meta.len());
    wait::until("the transfer gets on", SOON, || size() > 0 || !transfer.running())?;
    ensure!(transfer.running(), "it was over too soon: {}", transfer.log());
    lab.daemon("gw")?.process().signal(nix::sys::signal::Signal::SIGTERM)?;
    wait::until("nobody new gets in", SOON, || !stage.connects(lab, 443).unwrap_or(true))?;
    ensure!(transfer.running(), "the transfer was cut: {}", transfer.log());
    ensure!(transfer.wait(SOON)? == Some(0) && size() == 3 << 20, "{} bytes; {}", size(), transfer.log());
    ensure!(lab.daemon("gw")?.process().wait(SOON)? == Some(0));
    Ok(())
}
