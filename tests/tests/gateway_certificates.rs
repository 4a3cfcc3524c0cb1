//! The gateway of the daemon gets its certificates from a real authority: what is published is served over TLS that
//! clients trust, without a file of the operator's.
//!
//! ```text
//!   client ──── gw ──── ca   pebble (the authority), unbound (whom it asks for names)
//!   curl     [gateway] ─ a   web (nginx), own (Caddy) of network "shop"
//! ```
//! ca is no node of the mesh, nor is client. Caddy orders certificates itself, for which its workload has a second
//! interface, to ca; the authority's questions reach it through the gateway alone.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;
use sinew_tests::acme::{Authority, Temper};
use sinew_tests::cli::text;
use sinew_tests::lab::{Lab, run_lab};
use sinew_tests::ns;
use sinew_tests::process::{self, Proc};
use sinew_tests::tenant::{self, SOON, Workload, words};
use sinew_tests::wait;

const PAGE: &str = "<h1>by TLS</h1>\n";
const DEADLINE: Duration = Duration::from_secs(100);
/// Asked for once a second on one connection.
const PAGES: usize = 70;

struct Stage {
    authority: Authority,
    address: String,
}

/// `dns`: the gateway proves its whole domain by a record.
fn start(lab: &mut Lab, temper: Temper, dns: bool) -> Result<Stage> {
    lab.line(&["client", "gw", "ca"])?;
    lab.node("a")?;
    lab.link("gw", "a")?;
    lab.peer("a", "gw")?;
    let authority = Authority::start(lab, "ca", "gw", temper, &["gw.lab"])?;
    let dns = if dns { format!(", dns = [\"{}:53\"]", lab.underlay("gw", "ca")) } else { String::new() };
    lab.config("gw").extra = format!(
        "\n[gateway]\ndomain = \"gw.lab\"\nhttps = [\"0.0.0.0:443\"]\nhttp = [\"0.0.0.0:80\"]\n\
         acme = {{ directory = {:?}, email = \"ops@gw.lab\", ca_file = {:?}{dns} }}\nresolvers = [{:?}]\n",
        authority.directory(),
        authority.own_root(),
        authority.resolver(),
    );
    lab.start_all()?;
    lab.wait_mesh()?;
    tenant::network(lab, "shop", "10.20.0.0/16", "a", &[])?;
    Ok(Stage { authority, address: lab.underlay("gw", "client") })
}

fn web(lab: &Lab) -> Result<Workload> {
    let nginx = tenant::nginx(&lab.dir().join("web"), PAGE)?;
    Workload::start(lab, "a", "shop", "web", &words(&nginx))
}

fn expose(lab: &Lab, options: &[&str]) -> Result<Value> {
    let gateway = lab.key("gw")?.node_id;
    let args = ["expose", "web", "--network", "shop", "--via", &gateway, "--port", "80"];
    let said = lab.cli("a").run_json(&[&args, options].concat())?;
    let value: Value = serde_json::from_str(&said.stdout)?;
    Ok(value["publication"].clone())
}

fn certificates(lab: &Lab) -> Result<Vec<Value>> {
    let listed = lab.cli("gw").json(&["gateway", "cert"])?;
    Ok(listed["certificates"].as_array().cloned().unwrap_or_default())
}

impl Stage {
    /// Whether the page comes by TLS that the authority's root vouches for.
    fn page(&self, lab: &Lab, root: &Path, host: &str) -> bool {
        let mut command = lab.ns("client").command("curl");
        command.args(["-sSf", "--max-time", "10", "--cacert"]).arg(root);
        command.args(["--resolve", &format!("{host}:443:{}", self.address), &format!("https://{host}/")]);
        process::run(&mut command, DEADLINE).is_ok_and(|said| said.stdout == PAGE)
    }

    fn serial(&self, lab: &Lab, host: &str) -> Result<String> {
        let script = format!(
            "openssl s_client -connect {}:443 -servername {host} </dev/null 2>/dev/null | \
             openssl x509 -noout -serial",
            self.address
        );
        process::run_ok(lab.ns("client").command("sh").args(["-c", &script]), DEADLINE)
    }
}

#[test]
fn each_published_host_is_ordered_and_kept_over_a_restart() {
    run_lab("gwcert", |lab| {
        let stage = start(lab, Temper::default(), false)?;
        let root = stage.authority.root(lab)?;
        let _web = web(lab)?;
        ensure!(certificates(lab)?.is_empty(), "ordered before anything was published");
        let began = Instant::now();
        let first = expose(lab, &["--name", "app", "--wait", "60"])?;
        ensure!(first["state"] == "live", "{first}");
        eprintln!("live {} ms after it was published", began.elapsed().as_millis());
        ensure!(stage.page(lab, &root, "app.gw.lab"), "the page does not come");
        let listed = certificates(lab)?;
        let [certificate] = &listed[..] else { anyhow::bail!("{listed:?}") };
        ensure!(certificate["source"] == "acme" && certificate["hosts"][0] == "app.gw.lab", "{certificate}");
        ensure!(certificate["not_after"].is_string() && certificate["problem"].is_null(), "{certificate}");
        // A name that nobody published is not ordered, whoever asks for it.
        ensure!(!stage.page(lab, &root, "other.gw.lab"));
        let (serial, orders) = (stage.serial(lab, "app.gw.lab")?, stage.authority.orders());
        lab.stop("gw")?;
        lab.start("gw")?;
        lab.wait_ready("gw")?;
        wait::until("the page comes again", DEADLINE, || stage.page(lab, &root, "app.gw.lab"))?;
        ensure!(stage.serial(lab, "app.gw.lab")? == serial && stage.authority.orders() == orders);
        let gone = lab.cli("a").run(&["unexpose", "app"])?;
        ensure!(gone.code == Some(0), "{}", gone.text());
        wait::until("it is not kept any more", SOON, || certificates(lab).is_ok_and(|all| all.is_empty()))
    });
}

#[test]
fn a_domain_of_ones_own_is_served_once_a_record_proves_it() {
    run_lab("gwown", |lab| {
        let mut stage = start(lab, Temper::default(), false)?;
        let root = stage.authority.root(lab)?;
        let _web = web(lab)?;
        let said = expose(lab, &["--host", "shop.test"])?;
        ensure!(said["state"] == "pending" && said["code"] == "proof_missing", "{said}");
        let record = &said["answer"]["hosts"][0]["dns"][0];
        ensure!(record["kind"] == "TXT", "{said}");
        ensure!(stage.authority.orders() == 0, "ordered for a domain that is nobody's yet");
        let gateway = lab.underlay("gw", "ca");
        let (address, proof) = (
            format!("shop.test. 1 A {gateway}"),
            format!("{}. 1 TXT \"{}\"", text(record, "name"), text(record, "value")),
        );
        // Somebody else's proof first.
        let wrong = format!("{}. 1 TXT \"somebody-else\"", text(record, "name"));
        stage.authority.know(&[&address, &wrong]);
        stage.authority.resolve(lab, &gateway, &gateway, &["gw.lab"])?;
        let domain =
            || lab.cli("gw").json(&["gateway", "name", "ls"]).unwrap_or_default()["domains"][0].clone();
        let looks = || domain()["failures"].as_u64();
        let before = looks();
        // One look may have been under way.
        wait::until("another's record is looked at", DEADLINE, || looks() >= before.map(|looks| looks + 2))?;
        ensure!(domain()["state"] == "waiting", "{}", domain());
        stage.authority.know(&[&address, &proof]);
        stage.authority.resolve(lab, &gateway, &gateway, &["gw.lab"])?;
        wait::until("the page comes", DEADLINE, || stage.page(lab, &root, "shop.test"))
    });
}

#[test]
fn one_wildcard_serves_all_names_and_is_renewed_while_clients_stay_connected() {
    run_lab("gwwild", |lab| {
        // Renewed after a minute: no gateway renews sooner.
        let stage = start(lab, Temper { validity: 80, ..Temper::default() }, true)?;
        let root = stage.authority.root(lab)?;
        let held = || certificates(lab).is_ok_and(|all| all.len() == 1 && all[0]["not_after"].is_string());
        wait::until("the wildcard is there before anything is published", DEADLINE, held)?;
        ensure!(certificates(lab)?[0]["hosts"][0] == "*.gw.lab");
        let _web = web(lab)?;
        for name in ["app", "shop"] {
            let publication = expose(lab, &["--name", name])?;
            ensure!(publication["state"] == "live", "{publication}");
            ensure!(stage.page(lab, &root, &format!("{name}.gw.lab")), "{name} is not served at once");
        }
        let serial = stage.serial(lab, "app.gw.lab")?;
        let script = format!(
            "(for n in $(seq {PAGES}); do printf 'GET / HTTP/1.1\\r\\nHost: app.gw.lab\\r\\n\\r\\n'; \
              sleep 1; done) | openssl s_client -quiet -connect {}:443 -servername app.gw.lab 2>/dev/null",
            stage.address
        );
        let mut command = lab.ns("client").command("sh");
        let mut client = Proc::spawn(command.args(["-c", &script]), &lab.dir().join("client.log"))?;
        wait::until("it is renewed", DEADLINE, || {
            stage.serial(lab, "app.gw.lab").is_ok_and(|now| !now.is_empty() && now != serial)
        })?;
        ensure!(stage.page(lab, &root, "shop.gw.lab"), "not by the new one");
        client.wait(DEADLINE)?;
        let pages = client.log().matches(PAGE.trim()).count();
        ensure!(pages == PAGES, "the connection that was open has {pages} of {PAGES} pages");
        Ok(())
    });
}

/// Hosts whose certificates Caddy orders, with the one kind of proof that each may use.
const OWN: &[(&str, &str, &str)] =
    &[("one", "http-01", "disable_tlsalpn_challenge"), ("two", "tls-alpn-01", "disable_http_challenge")];

/// Caddy's configuration in its folder: a site for nobody, so that it listens, and these.
fn caddyfile(lab: &Lab, stage: &Stage, sites: &[(&str, &str, &str)]) -> Result<String> {
    let folder = lab.dir().join("caddy");
    std::fs::create_dir_all(folder.join("www"))?;
    std::fs::write(folder.join("www/index.html"), PAGE)?;
    let shown = folder.display();
    let mut text = format!(
        "{{\n admin localhost:2019\n skip_install_trust\n storage file_system {shown}/storage\n}}\n\
         localhost {{\n tls internal\n}}\n"
    );
    for (name, _, without) in sites {
        text += &format!(
            "{name}.gw.lab {{\n root * {shown}/www\n file_server\n tls {{\n issuer acme {{\n dir {}\n \
             email ops@shop.lab\n trusted_roots {}\n {without}\n }}\n }}\n}}\n",
            stage.authority.directory(),
            stage.authority.own_root().display(),
        );
    }
    let file = folder.join("Caddyfile");
    std::fs::write(&file, text)?;
    Ok(file.display().to_string())
}

/// A second interface of the workload, to ca.
fn uplink(lab: &Lab, workload: &Workload) -> Result<()> {
    let (netns, ca) = (workload.netns(lab)?, lab.ns("ca"));
    let inside = |args: &[&str]| process::run_ok(ns::command_in(&netns, "ip").args(args), SOON);
    inside(&["link", "add", "up0", "type", "veth", "peer", "name", "up1", "netns", ca.name()])?;
    inside(&["addr", "add", "10.88.0.1/30", "dev", "up0"])?;
    inside(&["link", "set", "up0", "up"])?;
    ca.ip(&["addr", "add", "10.88.0.2/30", "dev", "up1"])?;
    ca.ip(&["link", "set", "up1", "up"])?;
    inside(&["route", "add", &format!("{}/32", lab.underlay("ca", "gw")), "via", "10.88.0.2"])?;
    Ok(())
}

#[test]
fn a_server_behind_passthrough_proves_its_hosts_itself_through_the_gateway() {
    run_lab("gwself", |lab| {
        let stage = start(lab, Temper::default(), false)?;
        let root = stage.authority.root(lab)?;
        let file = caddyfile(lab, &stage, &[])?;
        let home = format!("HOME={}", lab.dir().join("caddy").display());
        let caddy = ["env", &home, "caddy", "run", "--adapter", "caddyfile", "--config", &file];
        let own = Workload::start(lab, "a", "shop", "own", &caddy)?;
        uplink(lab, &own)?;
        let gateway = lab.key("gw")?.node_id;
        for (name, proof, _) in OWN {
            let args = ["expose", "own", "--network", "shop", "--via", &gateway, "--port", "443"];
            let args = [&args[..], &["--mode", "tls-passthrough", "--name", name]].concat();
            let http: &[&str] = if *proof == "http-01" { &["--acme-http", "own:80"] } else { &[] };
            lab.cli("a").json(&[&args[..], http].concat())?;
        }
        wait::success("it listens, and counts as well", SOON, || {
            for (name, ..) in OWN {
                let probed = lab.cli("gw").json(&["gateway", "probe", &format!("{name}.gw.lab")])?;
                ensure!(probed["probes"][0]["connect_ms"].is_number(), "{probed}");
            }
            let listed = lab.cli("gw").json(&["gateway", "ls"])?;
            let services = listed["services"].as_array().cloned().unwrap_or_default();
            let backends = services.iter().filter_map(|service| service["backends"].as_array()).flatten();
            // The one that is asked for proofs alone (weight 0) is not looked at.
            let well =
                backends.filter(|backend| backend["weight"] == 1 && backend["healthy"] == true).count();
            ensure!(well == OWN.len(), "{listed}");
            Ok(())
        })?;
        ensure!(stage.authority.orders() == 0, "ordered by the gateway, which has no business with it");
        caddyfile(lab, &stage, OWN)?;
        own.run(lab, &["caddy", "reload", "--adapter", "caddyfile", "--config", &file])?;
        for (name, proof, _) in OWN {
            let host = format!("{name}.gw.lab");
            wait::until(&format!("{host} is served"), DEADLINE, || stage.page(lab, &root, &host))?;
            let log = process::read_lossy(&lab.dir().join("a-shop-own.log"));
            let proved =
                |line: &str| line.contains(&host) && line.contains("challenge_type") && line.contains(proof);
            ensure!(log.lines().any(proved), "{host} was not proved by {proof}: {log}");
        }
        ensure!(stage.authority.orders() == OWN.len(), "{} orders", stage.authority.orders());
        ensure!(certificates(lab)?.is_empty(), "the gateway has certificates for them");
        // Nothing else of that port is reached without TLS.
        let mut command = lab.ns("client").command("curl");
        command.args(["-sS", "-o", "/dev/null", "-w", "%{http_code}"]);
        let said = process::run_ok(
            command.args(["--resolve", &format!("one.gw.lab:80:{}", stage.address), "http://one.gw.lab/"]),
            SOON,
        )?;
        ensure!(said == "301", "{said}");
        Ok(())
    });
}
