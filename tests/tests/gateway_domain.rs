//! Several gateways: one domain with a registrar and a follower, and one name of its owner's through two domains.
//!
//! ```text
//!             ┌─ gw1 ─┐
//!   client ───┤       ├─ a ── b      a: web (nginx) of network "shop"; b: fake (nginx) of network "rival"
//!   curl      └─ gw2 ─┘
//! ```
//! The client has no daemon; it has an address of each gateway, as from a name with two address records.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sinew_tests::cli::text;
use sinew_tests::front::Pair;
use sinew_tests::lab::{Lab, run_lab};
use sinew_tests::process::{self, Output, Proc};
use sinew_tests::tenant::{self, SOON, Workload, words};
use sinew_tests::wait;
use sinew_wire::ingress::{ANSWER_HEAD_LEN, AnswerHead, NameList, PORT, Request, Status, Verb};

const PAGE: &str = "<h1>shop</h1>\n";
const FAKE: &str = "<h1>rival</h1>\n";
/// A list that nobody asks for is a minute old at most.
const REFRESHED: Duration = Duration::from_secs(90);
/// An answer of a node that is asked directly.
const PROMPT: Duration = Duration::from_secs(5);

struct Stage {
    /// Of gw1 and gw2, as the client has them.
    addresses: [String; 2],
    trust: Pair,
    _web: Workload,
    _fake: Workload,
}

/// The machines, not started.
fn machines(lab: &mut Lab) -> Result<()> {
    lab.line(&["client", "gw1", "a", "b"])?;
    lab.node("gw2")?;
    lab.link("client", "gw2")?;
    lab.link("gw2", "a")?;
    for (at, of) in [("a", "gw1"), ("a", "gw2"), ("b", "a")] {
        lab.peer(at, of)?;
    }
    for gateway in ["gw1", "gw2"] {
        // As a node is by default; the labs' own is open.
        lab.config(gateway).inbound = "\"established\"".into();
    }
    Ok(())
}

fn start(lab: &mut Lab, trust: Pair) -> Result<Stage> {
    lab.start_all()?;
    lab.wait_mesh()?;
    tenant::network(lab, "shop", "10.20.0.0/16", "a", &[])?;
    tenant::network(lab, "rival", "10.30.0.0/16", "b", &[])?;
    let server = |name: &str, page| tenant::nginx(&lab.dir().join(name), page);
    let web = Workload::start(lab, "a", "shop", "web", &words(&server("web", PAGE)?))?;
    let fake = Workload::start(lab, "b", "rival", "fake", &words(&server("fake", FAKE)?))?;
    let addresses = ["gw1", "gw2"].map(|gateway| lab.underlay(gateway, "client"));
    Ok(Stage { addresses, trust, _web: web, _fake: fake })
}

fn section(domain: &str, trust: &Pair, more: &str) -> String {
    format!(
        "\n[gateway]\ndomain = {domain:?}\nhttps = [\"0.0.0.0:443\"]\n\
         certificates = [{{ certificate = {:?}, key = {:?} }}]\n{more}\n",
        trust.chain, trust.key
    )
}

/// `sinew expose` on the node of a network; what it printed.
fn expose(lab: &Lab, network: &str, gateway: &str, options: &[&str]) -> Result<(Output, Value)> {
    let (node, workload) = if network == "shop" { ("a", "web") } else { ("b", "fake") };
    let gateway = lab.key(gateway)?.node_id;
    let args = ["expose", workload, "--network", network, "--via", &gateway, "--port", "80"];
    let said = lab.cli(node).run_json(&[&args[..], options].concat())?;
    let value: Value = serde_json::from_str(&said.stdout).with_context(|| said.text())?;
    Ok((said, value["publication"].clone()))
}

impl Stage {
    /// What the client gets from a host by these addresses, tried in turn.
    fn page(&self, lab: &Lab, host: &str, addresses: &[String]) -> Result<Output> {
        let mut command = lab.ns("client").command("curl");
        command.args(["-sS", "--fail", "--max-time", "10", "--cacert"]).arg(&self.trust.chain);
        command.args(["--resolve", &format!("{host}:443:{}", addresses.join(","))]);
        process::run(command.arg(format!("https://{host}/")), SOON)
    }

    /// Waits until a host has this page at one gateway, 0 or 1; `None`: nothing is served there.
    fn shows(&self, lab: &Lab, gateway: usize, page: Option<&str>) -> Result<()> {
        let address = std::slice::from_ref(&self.addresses[gateway]);
        wait::until(&format!("gw{} shows {page:?}", gateway + 1), REFRESHED, || {
            let said = self.page(lab, "app.gw.test", address);
            said.is_ok_and(|said| match page {
                Some(page) => said.stdout == page,
                // The name is unknown there: the handshake fails.
                None => said.code == Some(35),
            })
        })
    }
}

fn registrar(lab: &Lab) -> Value {
    lab.cli("gw2").json(&["gateway", "name", "ls"]).unwrap_or_default()["registrar"].clone()
}

#[test]
fn two_gateways_serve_one_name_and_one_of_them_while_the_other_is_away() {
    run_lab("gwdomain", |lab| {
        let trust = Pair::make(lab.dir(), "gw", &["*.gw.test"])?;
        machines(lab)?;
        let (first, second) = (lab.key("gw1")?.node_id, lab.key("gw2")?.node_id);
        lab.config("gw1").extra = section("gw.test", &trust, "");
        lab.config("gw2").extra = section("gw.test", &trust, &format!("registrar = {first:?}"));
        let stage = start(lab, trust)?;
        // Until its operator says so, the registrar tells a follower nothing.
        wait::until("gw2 hears why it hears nothing", SOON, || {
            text(&registrar(lab), "problem").contains("followers")
        })?;
        let said = lab.cli("gw2").run_json(&["gateway", "ls"])?;
        ensure!(said.code == Some(2) && said.stdout.contains("registrar_away"), "{}", said.text());
        lab.config("gw1").extra = section("gw.test", &stage.trust, &format!("followers = [{second:?}]"));
        lab.config("gw1").write()?;
        lab.cli("gw1").json(&["config", "reload"])?;
        wait::until("gw2 hears the list", REFRESHED, || {
            let registrar = registrar(lab);
            registrar["problem"].is_null() && registrar["age_ms"].is_u64()
        })?;
        first_at_the_registrar(lab, &stage, &first)?;
        asked_by_others(lab)?;
        claimed_by_another(lab, "first")?;
        without_the_registrar(lab, &stage)?;
        the_registrar_decides(lab, &stage)
    });
}

/// What nobody holds waits at the follower, and is there as soon as the registrar has given it away.
fn first_at_the_registrar(lab: &Lab, stage: &Stage, registrar: &str) -> Result<()> {
    let names = ["--name", "app"];
    let (said, waits) = expose(lab, "shop", "gw2", &[&names[..], &["--service", "app-2"]].concat())?;
    ensure!(said.code == Some(2) && text(&waits, "code") == "name_unregistered", "{:?} {waits}", said.code);
    ensure!(text(&waits, "text").contains(registrar), "it does not say where to go: {waits}");
    stage.shows(lab, 1, None)?;
    let (said, live) = expose(lab, "shop", "gw1", &names)?;
    ensure!(said.code == Some(0), "{live}");
    let began = Instant::now();
    stage.shows(lab, 0, Some(PAGE))?;
    stage.shows(lab, 1, Some(PAGE))?;
    eprintln!("what waited at the follower was served {} ms later", began.elapsed().as_millis());
    // What the registrar has given away is served at once: the follower asks.
    let both = ["--name", "quick"];
    expose(lab, "shop", "gw1", &both)?;
    let began = Instant::now();
    let (said, live) = expose(lab, "shop", "gw2", &[&both[..], &["--service", "quick-2"]].concat())?;
    eprintln!("at once: {} ms", began.elapsed().as_millis());
    ensure!(said.code == Some(0) && text(&live, "state") == "live", "{live}");
    let [at_first, at_second] =
        ["gw1", "gw2"].map(|gateway| lab.cli(gateway).json(&["gateway", "name", "ls"]));
    let (at_first, at_second) = (at_first?, at_second?);
    ensure!(at_first["names"] == at_second["names"], "{at_first} {at_second}");
    Ok(())
}

/// The byte that an asker of NAMES hears, and the list.
fn ask(lab: &Lab, from: &str, gateway: &str, domain: &str) -> Result<(Status, Option<NameList>)> {
    let to = SocketAddr::new(lab.address(gateway)?.parse()?, PORT);
    let mut stream = lab.ns(from).enter(|| TcpStream::connect_timeout(&to, PROMPT))??;
    stream.set_read_timeout(Some(PROMPT))?;
    stream.write_all(&Request::Names(domain.to_owned()).emit().context("a domain")?)?;
    let mut head = [0; ANSWER_HEAD_LEN];
    stream.read_exact(&mut head)?;
    let head = AnswerHead::parse(&head, Verb::Names)?;
    let mut list = Vec::new();
    stream.read_to_end(&mut list)?;
    ensure!(list.len() == head.len as usize, "{} of {} bytes", list.len(), head.len);
    let list = (head.status == Status::Ok).then(|| NameList::parse(&list)).transpose()?;
    Ok((head.status, list))
}

/// The list is for those whom the operator names, and for the registrar's own domain.
fn asked_by_others(lab: &Lab) -> Result<()> {
    let (status, list) = ask(lab, "gw2", "gw1", "gw.test")?;
    ensure!(status == Status::Ok && list.is_some_and(|list| list.0.len() == 2), "{status:?}");
    for (from, to, domain) in [("gw2", "gw1", "other.test"), ("a", "gw1", "gw.test")] {
        let (status, _) = ask(lab, from, to, domain)?;
        ensure!(status == Status::NotPublished, "{from} asks {to} for {domain}: {status:?}");
    }
    let network = lab.cli("b").json(&["network", "show", "rival"])?;
    let said = lab.cli("gw2").run(&["gateway", "name", "transfer", "app", "--to", text(&network, "id")])?;
    ensure!(said.code != Some(0) && said.text().contains("decides"), "{}", said.text());
    Ok(())
}

/// Whoever comes second hears whose it is, wherever it asks. Each time by a name of its own for the service: what was
/// refused already is not asked about again.
fn claimed_by_another(lab: &Lab, service: &str) -> Result<()> {
    let shop = lab.cli("a").json(&["network", "show", "shop"])?;
    let (said, refused) = expose(lab, "rival", "gw2", &["--name", "app", "--service", service])?;
    let why = text(&refused, "text");
    ensure!(said.code == Some(5) && text(&refused, "code") == "name_taken", "{:?} {refused}", said.code);
    ensure!(why.contains(text(&shop, "id")) && why.contains("since 20"), "{why}");
    Ok(())
}

/// gw1 is gone: what was known is served, also after a restart, and nothing is added.
fn without_the_registrar(lab: &mut Lab, stage: &Stage) -> Result<()> {
    lab.kill("gw1");
    let began = Instant::now();
    let said = stage.page(lab, "app.gw.test", &stage.addresses)?;
    eprintln!(
        "with the registrar dead, the page came by the other address after {} ms",
        began.elapsed().as_millis()
    );
    ensure!(said.stdout == PAGE, "with two addresses, one of them dead: {}", said.text());
    ensure!(stage.page(lab, "app.gw.test", &stage.addresses[..1])?.code == Some(7), "gw1 lives");
    let began = Instant::now();
    let (said, waits) = expose(lab, "shop", "gw2", &["--name", "other"])?;
    eprintln!("that no name is added was heard after {} ms", began.elapsed().as_millis());
    ensure!(said.code == Some(2) && text(&waits, "code") == "name_unregistered", "{:?} {waits}", said.code);
    ensure!(text(&waits, "text").contains("away"), "{waits}");
    claimed_by_another(lab, "while-away")?;
    lab.stop("gw2")?;
    lab.start("gw2")?;
    lab.wait_ready("gw2")?;
    stage.shows(lab, 1, Some(PAGE))?;
    let other = stage.page(lab, "other.gw.test", &stage.addresses[1..])?;
    ensure!(other.code == Some(35), "a name that nobody registered: {}", other.text());
    Ok(())
}

/// The registrar comes back without its memory, and another network is first: the follower follows.
fn the_registrar_decides(lab: &mut Lab, stage: &Stage) -> Result<()> {
    // Else a would bring it there again.
    lab.cli("a").run(&["unexpose", "app", "--wait", "0.1"])?;
    std::fs::remove_dir_all(lab.dir().join("gw1/state"))?;
    lab.start("gw1")?;
    lab.wait_mesh()?;
    let (said, live) = expose(lab, "rival", "gw1", &["--name", "app"])?;
    ensure!(said.code == Some(0), "{live}");
    stage.shows(lab, 0, Some(FAKE))?;
    stage.shows(lab, 1, None)?;
    let (said, live) = expose(lab, "rival", "gw2", &["--name", "app", "--service", "app-2"])?;
    ensure!(said.code == Some(0), "{live}");
    stage.shows(lab, 1, Some(FAKE))?;
    // What will change hands is known at the follower, too, before it does.
    let shop = lab.cli("a").json(&["network", "show", "shop"])?;
    lab.cli("gw1").json(&["gateway", "name", "transfer", "app", "--to", text(&shop, "id")])?;
    wait::until("gw2 knows of the transfer", REFRESHED, || {
        let names = lab.cli("gw2").json(&["gateway", "name", "ls"]).unwrap_or_default();
        names["names"][0]["transfer_to"] == shop["id"]
    })
}

/// A name server on the client's machine that knows these records, each as a zone file has it.
fn name_server(lab: &Lab, records: &[String]) -> Result<Proc> {
    let folder = lab.dir().join("names");
    std::fs::create_dir_all(&folder)?;
    let mut config = format!(
        "server:\n interface: 0.0.0.0\n access-control: 0.0.0.0/0 allow\n do-daemonize: no\n chroot: \"\"\n \
         username: \"\"\n pidfile: \"\"\n directory: \"{}\"\n use-syslog: no\n module-config: \"iterator\"\n \
         local-zone: \"shop.test.\" static\n",
        folder.display()
    );
    records.iter().for_each(|record| config += &format!(" local-data: '{record}'\n"));
    config += "remote-control:\n control-enable: no\n";
    let file = folder.join("unbound.conf");
    std::fs::write(&file, config)?;
    let mut command = lab.ns("client").command("unbound");
    let server = Proc::spawn(command.arg("-d").arg("-c").arg(&file), &folder.join("unbound.log"))?;
    wait::until("the name server answers", SOON, || {
        let mut dig = lab.ns("client").command("dig");
        dig.args(["+short", "+time=1", "@127.0.0.1", "shop.test"]);
        process::run(&mut dig, PROMPT).is_ok_and(|said| said.code == Some(0) && !said.stdout.is_empty())
    })?;
    Ok(server)
}

#[test]
fn a_domain_of_its_owner_s_is_served_by_gateways_of_two_domains() {
    run_lab("gwtwo", |lab| {
        let trust = Pair::make(lab.dir(), "gw", &["shop.test"])?;
        machines(lab)?;
        for (gateway, domain) in [("gw1", "one.test"), ("gw2", "two.test")] {
            let resolver = format!("resolvers = [\"{}:53\"]", lab.underlay("client", gateway));
            lab.config(gateway).extra = section(domain, &trust, &resolver);
        }
        let stage = start(lab, trust)?;
        let mut records: Vec<_> =
            stage.addresses.iter().map(|address| format!("shop.test. 1 A {address}")).collect();
        for (gateway, service) in [("gw1", "shop"), ("gw2", "shop-2")] {
            let options = ["--host", "shop.test", "--service", service, "--wait", "5"];
            let (_, waits) = expose(lab, "shop", gateway, &options)?;
            let dns = &waits["answer"]["hosts"][0]["dns"][0];
            ensure!(dns["kind"] == "TXT", "{waits}");
            records.push(format!("{}. 1 TXT \"{}\"", text(dns, "name"), text(dns, "value")));
        }
        // One name, a record for each gateway's domain: neither is the other's proof.
        ensure!(records[2] != records[3], "{records:?}");
        let _names = name_server(lab, &records)?;
        for address in &stage.addresses {
            wait::until(&format!("{address} serves it"), REFRESHED, || {
                let said = stage.page(lab, "shop.test", std::slice::from_ref(address));
                said.is_ok_and(|said| said.stdout == PAGE)
            })?;
        }
        lab.kill("gw1");
        let said = stage.page(lab, "shop.test", &stage.addresses)?;
        ensure!(said.stdout == PAGE, "with one gateway dead: {}", said.text());
        Ok(())
    });
}
