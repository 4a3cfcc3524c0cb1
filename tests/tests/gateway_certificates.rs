//! The gateway of the daemon gets its certificates from a real authority: what is published is served over TLS that
//! clients trust, without a file of the operator's.
//!
//! ```text
//!   client ──── gw ──── ca   pebble (the authority), unbound (whom it asks for names)
//!   curl     [gateway] ─ a   web (nginx) of network "shop"
//! ```
//! ca is no node of the mesh, nor is client.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;
use sinew_tests::acme::{Authority, Temper};
use sinew_tests::cli::text;
use sinew_tests::lab::{Lab, run_lab};
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
