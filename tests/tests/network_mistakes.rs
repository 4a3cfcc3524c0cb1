//! What goes wrong when people make, join and use networks: one clear line, the right exit code,
//! nothing half-made.
//!
//! ```text
//!   a ───── b
//! ```

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use sinew_tests::cli::text;
use sinew_tests::lab::{Dial, Lab, run_lab};
use sinew_tests::process::Output;
use sinew_tests::tenant::{self, SOON, Workload};
use sinew_tests::wait;

fn start(lab: &mut Lab) -> Result<()> {
    lab.line(&["a", "b"])?;
    lab.peer_links(Dial::First)?;
    lab.start_all()?;
    lab.wait_mesh()?;
    tenant::network(lab, "shop", "10.20.0.0/16", "a", &[])
}

fn expect(output: &Output, code: i32, words: &[&str]) -> Result<()> {
    let said = output.text();
    ensure!(output.code == Some(code), "exit {:?}, not {code}: {said}", output.code);
    for word in words {
        ensure!(said.contains(word), "`{word}` is not in: {said}");
    }
    ensure!(output.stderr.lines().count() <= 3, "more than a clear line: {said}");
    Ok(())
}

fn networks(lab: &Lab, node: &str) -> Result<usize> {
    Ok(lab.cli(node).list(&["network", "ls"], "networks")?.len())
}

#[test]
fn tickets_that_cannot_be_used_say_why() {
    run_lab("tickets", |lab| {
        start(lab)?;
        let join =
            |file: &std::path::Path| lab.cli("b").run(&["network", "join", &format!("@{}", file.display())]);
        let good = std::fs::read_to_string(tenant::ticket(lab, "shop", "a", &[])?)?;

        let bad = lab.dir().join("bad");
        std::fs::write(&bad, good.replace("sinewnet1", "sinewnet1x"))?;
        expect(&join(&bad)?, 1, &["ticket"]).context("damaged")?;
        std::fs::write(&bad, "hello")?;
        expect(&join(&bad)?, 1, &["ticket"]).context("no ticket at all")?;

        let short = tenant::ticket(lab, "shop", "a", &["--expires", "1s"])?;
        let made = SystemTime::now();
        wait::until("the ticket has expired", SOON, || {
            // Tickets say whole seconds.
            made.elapsed().is_ok_and(|age| age > Duration::from_secs(2))
        })?;
        expect(&join(&short)?, 5, &["expired"])?;

        let pinned = tenant::ticket(lab, "shop", "a", &["--for", &lab.key("a")?.node_id])?;
        ensure!(join(&pinned)?.code != Some(0), "a ticket for another node was taken");
        ensure!(networks(lab, "b")? == 0, "a refused ticket left a network behind");
        Ok(())
    });
}

#[test]
fn a_ticket_is_used_once() {
    run_lab("once", |lab| {
        lab.star("hub", &["a", "b", "c"])?;
        lab.peer_links(Dial::First)?;
        lab.start_all()?;
        lab.wait_mesh()?;
        tenant::network(lab, "shop", "10.20.0.0/16", "a", &[])?;
        let ticket = format!("@{}", tenant::ticket(lab, "shop", "a", &[])?.display());
        let first = lab.cli("b").json(&["network", "join", &ticket])?;
        ensure!(text(&first, "state") == "ready", "{first}");
        expect(&lab.cli("c").run(&["network", "join", &ticket])?, 5, &["used"])?;
        ensure!(networks(lab, "c")? == 0, "a refused ticket left a network behind");
        Ok(())
    });
}

#[test]
fn names_and_addresses_that_cannot_be_had_are_refused() {
    run_lab("places", |lab| {
        start(lab)?;
        let db = Workload::start(lab, "a", "shop", "db", &["sleep", "infinity"])?;
        let own = db.addresses(lab)?.swap_remove(0);
        let run = |name: &str, network: &str| {
            lab.cli("a").run(&["workload", "run", name, "--network", network, "--", "true"])
        };
        expect(&run("web", "bank")?, 4, &["bank", "network"]).context("unknown network")?;
        expect(&run("web", "shop=10.99.0.7")?, 1, &["10.99.0.7"]).context("outside the subnet")?;
        expect(&run("db", "shop")?, 1, &["db"]).context("a name already taken")?;
        ensure!(run("web", &format!("shop={own}"))?.code != Some(0), "an address was given twice");
        expect(&run("Bad_Name", "shop")?, 1, &["Bad_Name"]).context("no DNS label")?;
        let attach =
            lab.cli("a").run(&["workload", "attach", "x", "--network", "shop", "--netns", "/nowhere"])?;
        expect(&attach, 1, &["/nowhere"]).context("a dead path")?;
        let file = lab.dir().join("file").display().to_string();
        std::fs::write(&file, "")?;
        let attach = lab.cli("a").run(&["workload", "attach", "x", "--network", "shop", "--netns", &file])?;
        ensure!(attach.code == Some(1), "a file passed for a namespace: {}", attach.text());
        expect(&lab.cli("a").run(&["workload", "detach", "nobody"])?, 4, &["nobody"])?;
        expect(&lab.cli("a").run(&["workload", "exec", "nobody", "--", "true"])?, 4, &["nobody"])?;
        let left = lab.cli("a").list(&["workload", "ls"], "workloads")?;
        ensure!(left.len() == 1, "something half-made stayed: {left:?}");
        Ok(())
    });
}

#[test]
fn who_is_no_admin_is_told_so() {
    run_lab("noadmin", |lab| {
        start(lab)?;
        tenant::join(lab, "shop", "a", "b")?;
        expect(&lab.cli("b").run(&["network", "invite", "shop"])?, 5, &["shop"])?;
        let node = lab.key("a")?.node_id;
        expect(&lab.cli("b").run(&["network", "revoke", "shop", &node])?, 5, &["shop"])?;
        expect(&lab.cli("b").run(&["network", "show", "nothing"])?, 4, &["nothing"])?;
        expect(&lab.cli("a").run(&["network", "create", "shop", "--ipv4", "10.30.0.0/16"])?, 1, &["shop"])?;
        Ok(())
    });
}

#[test]
fn without_a_daemon_everything_says_so() {
    run_lab("nodaemon", |lab| {
        lab.node("a")?;
        lab.key("a")?;
        for args in [&["network", "ls"][..], &["workload", "ls"], &["dns", "status"]] {
            expect(&lab.cli("a").run(args)?, 6, &["sinewd"])?;
        }
        let run = lab.cli("a").run(&["workload", "run", "x", "--network", "shop", "--", "true"])?;
        expect(&run, 6, &["sinewd"])
    });
}

/// A node that left may come back, and gets on with what the others did meanwhile.
#[test]
fn leaving_and_joining_again_works() {
    run_lab("again", |lab| {
        start(lab)?;
        tenant::join(lab, "shop", "a", "b")?;
        let mut one = Workload::start(lab, "b", "shop", "one", &["sleep", "infinity"])?;
        lab.cli("b").json(&["network", "leave", "shop"])?;
        ensure!(networks(lab, "b")? == 0, "the network is still there");
        wait::until("its workload is detached", SOON, || {
            lab.cli("b").list(&["workload", "ls"], "workloads").is_ok_and(|all| all.is_empty())
        })?;
        one.stop()?;
        tenant::join(lab, "shop", "a", "b")?;
        let web = Workload::start(lab, "a", "shop", "web", &["sleep", "infinity"])?;
        let two = Workload::start(lab, "b", "shop", "two", &["sleep", "infinity"])?;
        let far = web.addresses(lab)?.swap_remove(0);
        wait::until("both reach each other again", Duration::from_secs(10), || {
            two.exec(lab, &["ping", "-n", "-c", "1", "-W", "1", &far]).is_ok_and(|out| out.code == Some(0))
        })
    });
}
