//! Two tenants with the same addresses on the same machines, neither of whom can tell.
//!
//! ```text
//!            a ───────────── b ───────────── c
//!   shop     db (PostgreSQL)  cache (redis)   web (nginx)
//!   bank     web (nginx)      db (PostgreSQL) cache (redis)
//! ```
//! Both use 10.20.0.0/16; a and c have no direct link, b relays between them.

use anyhow::{Result, ensure};
use sinew_tests::lab::{Dial, Lab, run_lab};
use sinew_tests::tenant::{self, Workload, job_ok, words};

const RANGE: &str = "10.20.0.0/16";
/// Where each tenant's servers run: database, cache, page.
const TENANTS: [(&str, [&str; 3]); 2] = [("shop", ["a", "b", "c"]), ("bank", ["b", "c", "a"])];

fn start(lab: &mut Lab) -> Result<()> {
    lab.line(&["a", "b", "c"])?;
    lab.peer_links(Dial::First)?;
    lab.start_all()?;
    lab.wait_mesh()?;
    tenant::network(lab, "shop", RANGE, "a", &["b", "c"])?;
    tenant::network(lab, "bank", RANGE, "c", &["a", "b"])
}

fn page(tenant: &str) -> String {
    format!("<h1>{tenant}</h1>\n")
}

/// Names are each tenant's own: both have a `db`. On one machine workloads need different names.
fn servers(lab: &Lab) -> Result<Vec<Workload>> {
    let mut running = Vec::new();
    for (tenant, [database, cache, web]) in TENANTS {
        let postgres = tenant::postgres(&lab.dir().join(format!("{tenant}-db")))?;
        running.push(Workload::start(lab, database, tenant, &format!("{tenant}-db"), &words(&postgres))?);
        let redis = tenant::redis();
        running.push(Workload::start(lab, cache, tenant, &format!("{tenant}-cache"), &words(&redis))?);
        let nginx = tenant::nginx(&lab.dir().join(format!("{tenant}-web")), &page(tenant))?;
        running.push(Workload::start(lab, web, tenant, &format!("{tenant}-web"), &words(&nginx))?);
    }
    Ok(running)
}

/// Waits inside a workload until a port of another answers, by name.
fn wait_for(host: &str, port: u16) -> String {
    format!(
        "for i in $(seq 100); do curl -s telnet://{host}:{port} </dev/null -m 0.2 && break; [ $? = 28 ] && break; done"
    )
}

#[test]
fn each_tenants_servers_work_across_machines_by_name() {
    run_lab("tenants", |lab| {
        start(lab)?;
        let _servers = servers(lab)?;
        for (tenant, [database, cache, web]) in TENANTS {
            // The client sits on the machine that has none of this pair.
            let bench = format!(
                "{}; pgbench -q -i -s 2 -h {tenant}-db -U postgres postgres && \
                 pgbench -h {tenant}-db -U postgres -c 4 -T 3 postgres",
                wait_for(&format!("{tenant}-db"), 5432)
            );
            let said = job_ok(lab, cache, tenant, &format!("{tenant}-pgbench"), &["sh", "-c", &bench])?;
            ensure!(said.contains("number of failed transactions: 0 "), "pgbench: {said}");
            eprintln!("{tenant}: {}", said.lines().filter(|l| l.contains("tps")).collect::<String>());

            let redis = format!("redis-benchmark -h {tenant}-cache -q -n 20000 -c 20 -t set,get");
            let said = job_ok(lab, web, tenant, &format!("{tenant}-load"), &["sh", "-c", &redis])?;
            ensure!(said.contains("GET: "), "redis-benchmark: {said}");

            let argv = ["curl", "-sS", "--fail", "--noproxy", "*", &format!("http://{tenant}-web/")];
            let got = job_ok(lab, database, tenant, &format!("{tenant}-curl"), &argv)?;
            ensure!(got == page(tenant), "{tenant} got another page: {got}");
        }
        Ok(())
    });
}

/// What a workload of one tenant can find out about the other: nothing, by name or by address.
#[test]
fn a_tenant_sees_nothing_of_the_other_nor_of_the_host() {
    run_lab("isolated", |lab| {
        start(lab)?;
        let servers = servers(lab)?;
        let spy = Workload::start(lab, "b", "shop", "spy", &["sleep", "infinity"])?;
        let own: Vec<_> = servers[..3].iter().map(|w| w.addresses(lab)).collect::<Result<Vec<_>>>()?.concat();
        let theirs: Vec<_> =
            servers[3..].iter().map(|w| w.addresses(lab)).collect::<Result<Vec<_>>>()?.concat();
        ensure!(own.len() == 6 && theirs.len() == 6, "addresses: {own:?} {theirs:?}");
        let answers = |address: &str| -> Result<bool> {
            let out = spy.exec(lab, &["ping", "-n", "-q", "-c", "2", "-W", "1", "-i", "0.2", address])?;
            Ok(out.code == Some(0))
        };
        for address in &own {
            ensure!(answers(address)?, "{address} of the own network does not answer");
        }
        // The same IPv4 addresses may well be in use here, by fellows: what counts is who answers.
        for address in theirs.iter().filter(|address| !own.contains(address)) {
            ensure!(!answers(address)?, "{address} of another tenant answers");
        }
        for name in ["bank-db", "bank-db.bank.sinew.internal", "bank-web.shop.sinew.internal"] {
            let out = spy.exec(lab, &["getent", "ahosts", name])?;
            ensure!(out.code != Some(0), "{name} resolves: {}", out.stdout);
        }
        for host in ["10.77.0.1", "10.77.0.2", &lab.address("b")?, &lab.address("a")?] {
            ensure!(!answers(host)?, "{host} of a machine answers a workload");
        }
        let routes = spy.run(lab, &["ip", "-o", "route", "show", "table", "all"])?;
        ensure!(!routes.contains("default"), "a way out: {routes}");
        Ok(())
    });
}
