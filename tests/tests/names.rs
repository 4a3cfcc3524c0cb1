//! Names and ways in, end to end: what a workload and its machine resolve, domains that go elsewhere,
//! and a node that knows nobody but has a ticket.
//!
//! ```text
//!   a ───── b        network "shop", made on a; b has no [[peer]]
//! ```

use std::net::{TcpListener, UdpSocket};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use sinew_dns::{Dns, Host, NetworkZone, Scope, ServerHandle, Servers, Upstream, Zones};
use sinew_tests::cli::text;
use sinew_tests::lab::{Dial, Lab, run_lab};
use sinew_tests::process;
use sinew_tests::sinewd::new_key;
use sinew_tests::tenant::{self, SOON, Workload};
use sinew_tests::wait;

const RANGE: &str = "10.20.0.0/16";
/// Has subnets for all of them.
const WIDE: &str = "10.16.0.0/12";
/// More members than fit into 64 KiB of documents in hexadecimal.
const MANY: usize = 140;
/// What a request may be that brings no documents.
const SMALL: u64 = 64 * 1024;

/// The name of a member, as `at` shows it.
fn name_of(lab: &Lab, at: &str, member: &str) -> Result<String> {
    let key = lab.key(member)?.node_id;
    let members = lab.cli(at).list(&["network", "members", "shop"], "members")?;
    let found = members.iter().find(|one| text(one, "node_id") == key);
    Ok(text(found.with_context(|| format!("{member} is no member: {members:?}"))?, "name").to_owned())
}

#[test]
fn a_node_that_knows_nobody_comes_in_by_its_ticket_alone_and_stays() {
    run_lab("alone", |lab| {
        lab.line(&["a", "b"])?;
        lab.key("a")?;
        lab.key("b")?;
        lab.start_all()?;
        lab.wait_ready("a")?;
        lab.wait_ready("b")?;
        tenant::network(lab, "shop", RANGE, "a", &["b"])?;
        ensure!(name_of(lab, "a", "b")? == "b" && name_of(lab, "b", "a")? == "a", "members have no names");
        let target = Workload::start(lab, "a", "shop", "target", &["sleep", "infinity"])?;
        let address = target.addresses(lab)?.swap_remove(0);
        let client = Workload::start(lab, "b", "shop", "client", &["sleep", "infinity"])?;
        let reaches = |lab: &Lab| {
            let ping = ["ping", "-n", "-q", "-c", "1", "-W", "1", &address];
            client.exec(lab, &ping).is_ok_and(|output| output.code == Some(0))
        };
        wait::until("b reaches a's workload", SOON, || reaches(lab))?;
        let (a, b) = (lab.address("a")?, lab.address("b")?);
        lab.cli("b").wait_reachable(&a, SOON)?;

        // Nothing but the ticket ever said where a is; a new process still knows.
        ensure!(lab.stop("b")? == Some(0), "a clean end");
        lab.start("b")?;
        lab.cli("b").wait_reachable(&a, SOON)?;
        wait::until("b reaches a's workload again", SOON, || reaches(lab))?;
        lab.kill("a");
        lab.start("a")?;
        lab.cli("a").wait_reachable(&b, SOON)?;
        wait::until("also after a was killed", SOON, || reaches(lab))
    });
}

#[test]
fn documents_of_a_large_network_are_carried_by_hand() {
    run_lab("documents", |lab| {
        lab.line(&["a", "b"])?;
        lab.peer_links(Dial::First)?;
        lab.start_all()?;
        lab.wait_mesh()?;
        tenant::network(lab, "shop", WIDE, "a", &["b"])?;
        lab.ns("b").ip(&["link", "set", "to-a", "down"])?;
        for number in 0..MANY {
            let key = new_key(&lab.dir().join(format!("{number}.key")))?;
            lab.cli("a").json(&["network", "approve", "shop", &key.node_id])?;
        }
        let members = |lab: &Lab, at: &str| -> Result<usize> {
            Ok(lab.cli(at).list(&["network", "members", "shop"], "members")?.len())
        };
        ensure!(members(lab, "a")? == MANY + 2 && members(lab, "b")? == 2, "b heard of them");
        let file = lab.dir().join("shop.documents");
        let name = file.display().to_string();
        let exported = lab.cli("a").run(&["network", "documents", "export", "shop", &name])?;
        ensure!(exported.code == Some(0), "{}", exported.text());
        let size = file.metadata()?.len();
        ensure!(size > SMALL, "{size} bytes prove nothing");
        let taken = lab.cli("b").run(&["network", "documents", "import", "shop", &name])?;
        ensure!(taken.code == Some(0), "{size} bytes: {}", taken.text());
        ensure!(members(lab, "b")? == MANY + 2, "not all were taken: {}", taken.text());
        Ok(())
    });
}

/// A name server on `at` with `www.corp.DOMAIN`.
fn stranger(lab: &Lab, at: &str, towards: &str, domain: &str, last: u8) -> Result<(Dns, ServerHandle)> {
    let mut zone = NetworkZone::new([7; 32], "corp", vec![])?;
    zone.add("www", Host { addresses: vec![[192, 0, 2, last].into()], ..Host::default() })?;
    let mut zones = Zones::new(domain)?;
    zones.insert(Arc::new(zone));
    let dns = Dns::start(Upstream { servers: Servers::None, rules: vec![] }, Arc::new(zones))?;
    let address = lab.underlay(at, towards);
    let bind = || -> Result<_> {
        let at = (address.as_str(), 53);
        Ok((UdpSocket::bind(at)?, TcpListener::bind(at)?))
    };
    let (udp, tcp) = lab.ns(at).enter(bind)??;
    let handle = dns.serve(Scope { host: false, ..Scope::host(vec![[7; 32]]) }, udp, tcp)?;
    Ok((dns, handle))
}

/// What `dig` says in a workload, one answer a line.
fn dig(lab: &Lab, workload: &Workload, args: &str) -> Result<String> {
    let words: Vec<_> =
        ["dig", "+short", "+tries=1", "+timeout=5"].into_iter().chain(args.split(' ')).collect();
    workload.run(lab, &words)
}

#[test]
fn workloads_and_their_machine_resolve_every_kind_of_name_and_some_domains_go_elsewhere() {
    run_lab("names", |lab| {
        lab.line(&["a", "b"])?;
        lab.peer_links(Dial::First)?;
        let corp = lab.underlay("b", "a");
        lab.config("a").extra = format!(
            "\n[[dns.forward]]\ndomain = \"example\"\nservers = [\"{corp}\"]\n\
             [[dns.forward]]\ndomain = \"secret.example\"\nservers = []\n"
        );
        lab.start_all()?;
        lab.wait_mesh()?;
        let (_dns, asked) = stranger(lab, "b", "a", "example", 80)?;
        tenant::network(lab, "shop", RANGE, "a", &["b"])?;
        let options = ["--service", "postgres=tcp/5432", "--service", "metrics=udp/9"];
        let db = Workload::start_with(lab, "b", "shop", "db", &options, &["sleep", "infinity"])?;
        let web = Workload::start(lab, "a", "shop", "web", &["sleep", "infinity"])?;
        let addresses = db.addresses(lab)?;
        let (v4, v6) = (&addresses[0], &addresses[1]);
        let full = "db.shop.sinew.internal";
        wait::until("the news of db reaches a", SOON, || {
            dig(lab, &web, &format!("{full} A")).is_ok_and(|found| found.trim() == *v4)
        })?;
        let id = lab.key("b")?.node_id;
        let expected = [
            (format!("{full} AAAA"), v6.clone()),
            (format!("-x {v4}"), format!("{full}.")),
            (format!("-x {v6}"), format!("{full}.")),
            (format!("_postgres._tcp.{full} SRV"), format!("0 0 5432 {full}.")),
            (format!("_metrics._udp.{full} SRV"), format!("0 0 9 {full}.")),
            (format!("{id}.id.sinew.internal AAAA"), lab.address("b")?),
            ("www.corp.example A".to_owned(), "192.0.2.80".to_owned()),
        ];
        let host = format!("@{}", lab.address("a")?);
        for (question, answer) in &expected {
            let found = dig(lab, &web, question)?;
            ensure!(found.trim() == answer, "{question} in a workload: {found}");
            let argv = format!("dig {host} +short +tries=1 +timeout=5 {question}");
            let found = lab.ns("a").run(&argv.split(' ').collect::<Vec<_>>())?;
            ensure!(found.trim() == answer, "{question} on the machine: {found}");
        }
        let found = web.run(lab, &["getent", "ahosts", "db"])?;
        ensure!(found.contains(v4.as_str()) && found.contains(v6.as_str()), "libc: {found}");

        let before = asked.status().counts.queries();
        let refused = web.run(lab, &["dig", "+tries=1", "www.secret.example", "A"])?;
        ensure!(refused.contains("REFUSED"), "{refused}");
        ensure!(asked.status().counts.queries() == before, "a name that goes to nobody went somewhere");
        let status = lab.cli("a").json(&["dns", "status"])?;
        ensure!(status["forward"][0]["domain"] == "example", "{status}");

        // A mistake is one line, and nothing starts.
        let file = lab.dir().join("wrong.toml");
        std::fs::write(&file, "[[dns.forward]]\ndomain = \"corp.example\"\nservers = [\"ns1\"]\n")?;
        let sinewd = sinew_tests::requirements::Bins::get()?.sinewd.display().to_string();
        let mut check = process::command(&sinewd);
        let said = process::run(check.arg("--config").arg(&file).arg("--check"), SOON)?;
        ensure!(
            said.code == Some(1) && said.text().contains("wrong.toml:3: dns.forward.servers"),
            "{said:?}"
        );
        Ok(())
    });
}
