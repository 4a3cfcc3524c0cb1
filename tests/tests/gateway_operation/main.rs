//! What publishers and operators do with a gateway, each once, as they do it.
//!
//! ```text
//!   client ───── gw ───── a ───── b   web, other (nginx), auth (Python) of network "shop"
//!   curl         [gateway]
//! ```
//! a made the network and may revoke; b joined it. The client has no daemon.

mod access;
mod ending;

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use sinew_tests::cli::text;
use sinew_tests::gateway::{Gateway, NETWORK};
use sinew_tests::lab::{Lab, run_lab};
use sinew_tests::process::{self, Output};
use sinew_tests::tenant::{self, SOON, Workload, words};
use sinew_tests::wait;

/// The promise for what was taken back.
const AT_ONCE: Duration = Duration::from_secs(1);

/// nginx as a workload, whose page is its name. It tells a client's user, and has something large.
fn web(lab: &Lab, node: &str, name: &str) -> Result<Workload> {
    let folder = lab.dir().join(name);
    let nginx = tenant::nginx(&folder, &format!("{name}\n"))?;
    std::fs::write(folder.join("www/large"), vec![b'x'; 3 << 20])?;
    let conf = folder.join("nginx.conf");
    let user = "location /user { return 200 \"$http_x_auth_request_user|$http_authorization\"; } }";
    std::fs::write(&conf, std::fs::read_to_string(&conf)?.replacen("; } }", &format!("; {user} }}"), 1))?;
    Workload::start(lab, node, NETWORK, name, &words(&nginx))
}

/// curl on the client to a name of the gateway's, whatever becomes of it; `path` with its slash.
fn curl(lab: &Lab, gateway: &Gateway, name: &str, path: &str, args: &[&str]) -> Result<Output> {
    let mut command = lab.ns("client").command("curl");
    command.args(["-sS", "--max-time", "20", "--cacert"]).arg(&gateway.trust.chain);
    command.args(["--resolve", &format!("{name}.gw.test:443:{}", gateway.address)]);
    process::run(command.args(args).arg(format!("https://{name}.gw.test{path}")), SOON + SOON)
}

/// Its status; `000` without an answer.
fn status(lab: &Lab, gateway: &Gateway, name: &str, args: &[&str]) -> Result<String> {
    let args = [&["-o", "/dev/null", "-w", "%{http_code}"], args].concat();
    Ok(curl(lab, gateway, name, "/", &args)?.stdout)
}

fn page(lab: &Lab, gateway: &Gateway, name: &str) -> Result<String> {
    Ok(curl(lab, gateway, name, "/", &[])?.stdout)
}

/// Services that the gateway serves now, by their first hosts.
fn served(lab: &Lab) -> Result<Vec<String>> {
    let listed: Value = serde_json::from_str(&lab.cli("gw").run_json(&["gateway", "ls"])?.stdout)?;
    let services = listed["services"].as_array().cloned().unwrap_or_default();
    let mut hosts: Vec<_> = services.iter().map(|service| text(service, "host").to_owned()).collect();
    hosts.sort_unstable();
    Ok(hosts)
}

/// `sinew apply`: its exit code, what it says of each service, and what it took back.
fn apply(lab: &Lab, services: &str, options: &[&str]) -> Result<(Option<i32>, Vec<String>, Vec<String>)> {
    let file = lab.dir().join("services.toml");
    let gateway = lab.key("gw")?.node_id;
    std::fs::write(&file, format!("network = \"{NETWORK}\"\nvia = \"{gateway}\"\n{services}"))?;
    let said = lab.cli("a").run_json(&[&["apply", &file.display().to_string()], options].concat())?;
    let value: Value = serde_json::from_str(&said.stdout)?;
    let all = |key: &str| value[key].as_array().cloned().unwrap_or_default();
    let change = |one: &Value| {
        let lines = one["differences"].as_array().cloned().unwrap_or_default();
        let lines: Vec<_> = lines.iter().filter_map(Value::as_str).collect();
        format!("{} {}: {}", text(one, "change"), text(&one["publication"], "name"), lines.join(", "))
    };
    let pruned = all("pruned").iter().map(|one| text(one, "name").to_owned()).collect();
    Ok((said.code, all("services").iter().map(change).collect(), pruned))
}

const APP: &str = "[[service]]\nhosts = [\"app\"]\nbackends = [\"web:80\"]\n";
const SHOP: &str = "[[service]]\nhosts = [\"shop\"]\nbackends = [\"other:80\"]\n";
const BOTH: &str = "[[service]]\nhosts = [\"app\"]\nbackends = [\"web:80\", \"other:80\"]\n";

#[test]
fn a_file_of_services_is_made_so_once_and_what_it_does_not_name_is_pruned() {
    run_lab("gwapply", |lab| {
        let gateway = Gateway::start(lab, "")?;
        let _servers = [web(lab, "a", "web")?, web(lab, "a", "other")?];
        let two = format!("{APP}{SHOP}");
        let new = vec!["created app: new".to_owned(), "created shop: new".to_owned()];
        ensure!(apply(lab, &two, &["--dry-run"])? == (Some(2), new.clone(), vec![]), "only said");
        ensure!(served(lab)?.is_empty(), "a dry run published something");
        ensure!(apply(lab, &two, &[])? == (Some(0), new, vec![]), "made");
        ensure!(page(lab, &gateway, "app")? == "web\n" && page(lab, &gateway, "shop")? == "other\n");
        let same = vec!["unchanged app: ".to_owned(), "unchanged shop: ".to_owned()];
        for options in [&["--dry-run"][..], &[], &["--prune"]] {
            let again = apply(lab, &two, options)?;
            ensure!(again == (Some(0), same.clone(), vec![]), "{options:?}: {again:?}");
        }
        // One is changed, the other not named any more: it stays until that is asked for.
        let changed = vec!["changed app: + backend other:80*1".to_owned()];
        ensure!(apply(lab, BOTH, &[])? == (Some(0), changed, vec![]), "changed");
        ensure!(page(lab, &gateway, "shop")? == "other\n", "nobody asked for its end");
        let same = vec!["unchanged app: ".to_owned()];
        let gone = vec!["shop".to_owned()];
        let dry = apply(lab, BOTH, &["--prune", "--dry-run"])?;
        ensure!(dry == (Some(2), same.clone(), gone.clone()), "{dry:?}");
        ensure!(page(lab, &gateway, "shop")? == "other\n", "a dry run took it back");
        let pruned = apply(lab, BOTH, &["--prune"])?;
        ensure!(pruned == (Some(0), same, gone), "{pruned:?}");
        wait::until("shop is gone", AT_ONCE, || {
            page(lab, &gateway, "shop").is_ok_and(|page| page.is_empty())
        })?;
        wait::until("the gateway has heard", SOON, || served(lab).is_ok_and(|all| all == ["app.gw.test"]))?;
        drained(lab, &gateway)
    });
}

/// What the operator takes out gets nobody new, and finishes what it has.
fn drained(lab: &Lab, gateway: &Gateway) -> Result<()> {
    gateway.reaches(lab, "app.gw.test")?;
    let pages = || -> Result<Vec<String>> {
        let mut pages = (0..6).map(|_| page(lab, gateway, "app")).collect::<Result<Vec<_>>>()?;
        pages.sort_unstable();
        pages.dedup();
        Ok(pages)
    };
    ensure!(pages()? == ["other\n", "web\n"], "{:?}", pages());
    let got = lab.dir().join("got");
    let mut command = lab.ns("client").command("curl");
    command.args(["-sS", "--fail", "--limit-rate", "1M", "--cacert"]).arg(&gateway.trust.chain);
    command.args(["--resolve", &format!("app.gw.test:443:{}", gateway.address), "-o"]).arg(&got);
    let drain = |more: &[&str]| {
        let args = [&["gateway", "drain", "web", "--host", "app.gw.test"], more].concat();
        lab.cli("gw").json(&args)
    };
    // Whichever has it: both are drained while it is on its way, one after the other.
    let mut transfer =
        process::Proc::spawn(command.arg("https://app.gw.test/large"), &lab.dir().join("transfer.log"))?;
    let size = || std::fs::metadata(&got).map_or(0, |meta| meta.len());
    wait::until("the transfer gets on", SOON, || size() > 0 || !transfer.running())?;
    let told = drain(&[])?;
    ensure!(told["backends"] == serde_json::json!(["app.gw.test web:80"]), "{told}");
    ensure!(pages()? == ["other\n"], "a client was sent to the one that is drained: {:?}", pages());
    drain(&["--undo"])?;
    ensure!(pages()? == ["other\n", "web\n"], "{:?}", pages());
    lab.cli("gw").json(&["gateway", "drain", "other"])?;
    ensure!(pages()? == ["web\n"], "{:?}", pages());
    ensure!(transfer.wait(SOON)? == Some(0) && size() == 3 << 20, "{} bytes; {}", size(), transfer.log());
    let unknown = lab.cli("gw").run(&["gateway", "drain", "nobody"])?;
    ensure!(unknown.code == Some(4), "{:?} {}", unknown.code, unknown.text());
    Ok(())
}

#[test]
fn a_publisher_is_told_where_people_find_it_whatever_the_gateway_listens_on() {
    run_lab("gwplaces", |lab| {
        lab.line(&["client", "gw", "a"])?;
        let (outer, inner) = (lab.underlay("gw", "client"), lab.underlay("gw", "a"));
        let ports = "tcp_ports = \"20000-20009\"";
        // A name, and a port that is not the usual one.
        let gateway = Gateway::run(lab, ports)?;
        let own = lab.config("gw").extra.replace(":443\"", ":8443\"");
        let _web = web(lab, "a", "web")?;
        let told = |lab: &Lab, options: &[&str]| -> Result<(String, Value)> {
            // There is one network only, so nobody has to say which.
            let id = lab.key("gw")?.node_id;
            let args = [&["expose", "web", "--port", "80", "--via", &id], options].concat();
            let said = lab.cli("a").run(&args)?;
            ensure!(said.code == Some(0), "{:?} {}", said.code, said.text());
            let listed = lab.cli("a").list(&["expose", "ls"], "services")?;
            Ok((said.stdout, listed[0]["answer"].clone()))
        };
        let (said, _) = told(lab, &["--name", "app"])?;
        ensure!(said.contains("in shop: live\n  https://app.gw.test\n"), "{said}");
        let restart = |lab: &mut Lab, extra: String| -> Result<()> {
            lab.config("gw").extra = extra;
            lab.cli("a").json(&["unexpose", "app"])?;
            lab.stop("gw")?;
            lab.start("gw")?;
            lab.wait_mesh()
        };
        restart(lab, own.clone())?;
        let (said, answer) = told(lab, &["--name", "app"])?;
        ensure!(said.contains("\n  https://app.gw.test:8443\n"), "{said}");
        let addresses = answer["addresses"].as_array().cloned().unwrap_or_default();
        ensure!(addresses.first().is_some_and(|first| first == "gw.test"), "{answer}");
        ensure!(
            [&outer, &inner].iter().all(|one| addresses.contains(&Value::from(one.as_str()))),
            "{answer}"
        );
        let mut command = lab.ns("client").command("curl");
        command.args(["-sS", "-o", "/dev/null", "-w", "%{redirect_url}", "-H", "Host: app.gw.test"]);
        let moved = process::run_ok(command.arg(format!("http://{}/x", gateway.address)), SOON)?;
        ensure!(moved == "https://app.gw.test:8443/x", "{moved}");
        // No name: addresses alone, of one interface if that is what it listens on.
        let nameless = own.replace("domain = \"gw.test\"\n", "");
        restart(lab, nameless.replace("0.0.0.0:8443", &format!("{outer}:8443")))?;
        let (said, answer) = told(lab, &["--mode", "tcp", "--service", "app"])?;
        let port = answer["port"].as_u64().unwrap_or(0);
        ensure!(said.contains(&format!("\n  tcp://{outer}:{port}\n")), "{said}");
        let mut command = lab.ns("client").command("curl");
        let got = process::run_ok(command.args(["-sS", &format!("http://{outer}:{port}/")]), SOON)?;
        ensure!(got == "web\n", "{got}");
        several_networks(lab)
    });
}

/// A name that two networks have is not guessed, and one that none has is said.
fn several_networks(lab: &Lab) -> Result<()> {
    tenant::network(lab, "bank", "10.30.0.0/16", "a", &[])?;
    let _till = Workload::start(lab, "a", "bank", "till", &["sleep", "infinity"])?;
    let id = lab.key("gw")?.node_id;
    let expose = |workload: &str| {
        lab.cli("a").run(&["expose", workload, "--port", "80", "--via", &id, "--mode", "tcp", "--dry-run"])
    };
    let said = expose("till")?;
    ensure!(said.code == Some(0) && said.stdout.contains("in bank"), "{:?} {}", said.code, said.text());
    let said = expose("nobody")?;
    ensure!(said.code == Some(4) && said.text().contains("nobody"), "{:?} {}", said.code, said.text());
    let both = ["--network", "bank"];
    let _both = Workload::start_with(lab, "a", NETWORK, "both", &both, &["sleep", "infinity"])?;
    let said = expose("both")?;
    ensure!(said.code == Some(1) && said.text().contains("--network"), "{:?} {}", said.code, said.text());
    Ok(())
}
