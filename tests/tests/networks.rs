//! A private network over its life: policy, revocation, restarts, a workload that moves.
//!
//! ```text
//!   a ───── b ───── c        network "shop" on all three; a is its admin
//! ```

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use sinew_tests::cli::text;
use sinew_tests::lab::{Dial, Lab, run_lab};
use sinew_tests::process;
use sinew_tests::requirements::Bins;
use sinew_tests::tenant::{self, SOON, Workload, words};
use sinew_tests::wait;
use sinew_tests::workload::{Iperf, payload_file};

const RANGE: &str = "10.20.0.0/16";
const MIB: u64 = 1 << 20;

fn start(lab: &mut Lab, members: &[&str]) -> Result<()> {
    lab.line(&["a", "b", "c"])?;
    lab.peer_links(Dial::Both)?;
    lab.start_all()?;
    lab.wait_mesh()?;
    tenant::network(lab, "shop", RANGE, "a", members)
}

fn web(lab: &Lab, node: &str, name: &str, options: &[&str]) -> Result<Workload> {
    let nginx = tenant::nginx(&lab.dir().join(name), "<h1>shop</h1>\n")?;
    Workload::start_with(lab, node, "shop", name, options, &words(&nginx))
}

fn client(lab: &Lab, node: &str, name: &str, options: &[&str]) -> Result<Workload> {
    Workload::start_with(lab, node, "shop", name, options, &["sleep", "infinity"])
}

/// Whether `client` gets the page of `host` within a second.
fn gets(lab: &Lab, client: &Workload, host: &str) -> Result<bool> {
    let argv = ["curl", "-gsS", "--fail", "--noproxy", "*", "-m", "1", &format!("http://{host}/")];
    Ok(client.exec(lab, &argv)?.code == Some(0))
}

#[test]
fn a_policy_holds_at_once_and_explains_itself() {
    run_lab("policy", |lab| {
        start(lab, &["b"])?;
        // Groups are given with the membership, and a workload is in all of its member's unless it names some.
        let ticket = tenant::ticket(lab, "shop", "a", &["--group", "front", "--group", "back"])?;
        lab.cli("c").json(&["network", "join", &format!("@{}", ticket.display())])?;
        let _web = web(lab, "a", "web", &[])?;
        let friend = client(lab, "c", "friend", &["--group", "front"])?;
        let other = client(lab, "c", "other", &["--group", "back"])?;
        for client in [&friend, &other] {
            wait::until("everybody reaches the page", SOON, || gets(lab, client, "web").unwrap_or(false))?;
        }
        let file = lab.dir().join("policy.toml");
        std::fs::write(
            &file,
            "default = \"deny\"\n[[rule]]\nfrom = \"group:front\"\nto = \"workload:web\"\nallow = [\"tcp/80\", \"icmp\"]\n",
        )?;
        lab.cli("a").json(&["network", "policy", "set", "shop", &file.display().to_string()])?;
        wait::until("the policy reaches both ends", SOON, || !gets(lab, &other, "web").unwrap_or(true))?;
        ensure!(gets(lab, &friend, "web")?, "the rule does not let its group in");
        for (from, service, code) in
            [("friend", "tcp/80", 0), ("other", "tcp/80", 5), ("friend", "tcp/22", 5)]
        {
            let said = lab.cli("a").run(&["network", "policy", "trace", "shop", from, "web", service])?;
            ensure!(said.code == Some(code), "{from} {service}: {:?} {}", said.code, said.text());
        }
        let refused = std::fs::write(&file, "default = \"maybe\"\n").map(|()| {
            lab.cli("a").run(&["network", "policy", "set", "shop", &file.display().to_string()])
        })??;
        ensure!(refused.code == Some(1) && refused.text().contains("policy.toml"), "{}", refused.text());
        ensure!(gets(lab, &friend, "web")?, "a bad file changed the policy");
        Ok(())
    });
}

#[test]
fn a_revoked_member_is_cut_within_five_seconds() {
    run_lab("revoke", |lab| {
        start(lab, &["b", "c"])?;
        let _web = web(lab, "a", "web", &[])?;
        let _backup = web(lab, "b", "backup", &[])?;
        let spy = client(lab, "c", "spy", &[])?;
        for host in ["web", "backup"] {
            wait::until("c reaches everybody", SOON, || gets(lab, &spy, host).unwrap_or(false))?;
        }
        let address = tenant::addresses(lab, "b", "backup")?.swap_remove(0);
        let node = lab.key("c")?.node_id;
        lab.cli("a").json(&["network", "revoke", "shop", &node])?;
        let revoked = Instant::now();
        wait::until("b has cut c off", Duration::from_secs(5), || {
            !gets(lab, &spy, &address).unwrap_or(true)
        })?;
        eprintln!("revoked at a, cut at b after {} ms", revoked.elapsed().as_millis());
        ensure!(!gets(lab, &spy, "web")?, "a still serves c");
        let shown = lab.cli("c").json(&["network", "show", "shop"])?;
        ensure!(text(&shown, "state") == "revoked", "c does not know: {shown}");
        Ok(())
    });
}

/// The daemon at either end is killed while a file is on its way between two workloads.
#[test]
fn workloads_survive_restarts_of_their_daemon() {
    run_lab("survive", |lab| {
        start(lab, &["b", "c"])?;
        let _web = web(lab, "a", "web", &[])?;
        payload_file(&lab.dir().join("web/www/file"), 60 * MIB)?;
        let reader = client(lab, "c", "reader", &[])?;
        let got = lab.dir().join("got");
        let fetch = format!("curl -sS --fail --limit-rate 8M -o {} http://web/file", got.display());
        let mut command = lab.ns("c").command(&Bins::get()?.sinew.to_string_lossy());
        command.arg("--socket").arg(lab.dir().join("c/sinew.sock"));
        command.args(["workload", "exec", "reader", "--", "sh", "-c", &fetch]);
        let mut transfer = process::Proc::spawn(&mut command, &lab.dir().join("transfer.log"))?;
        let size = || std::fs::metadata(&got).map_or(0, |meta| meta.len());
        for (victim, after) in [("a", 8 * MIB), ("c", 30 * MIB)] {
            wait::until("the transfer gets on", SOON, || size() > after)?;
            lab.kill(victim);
            lab.start(victim)?;
            lab.wait_ready(victim)?;
        }
        let code = transfer.wait(Duration::from_secs(60))?;
        ensure!(code == Some(0), "the transfer broke ({code:?}): {}", transfer.log());
        let mut compare = process::command("cmp");
        process::run_ok(compare.arg(&got).arg(lab.dir().join("web/www/file")), SOON)?;
        drop(reader);
        Ok(())
    });
}

#[test]
fn a_workload_with_a_key_moves_and_its_peers_follow() {
    run_lab("moves", |lab| {
        start(lab, &["b", "c"])?;
        let key = lab.dir().join("web.key").display().to_string();
        lab.cli("a").json(&["key", "new", &key])?;
        let mut first = web(lab, "a", "web", &["--key", &key])?;
        let reader = client(lab, "c", "reader", &[])?;
        wait::until("the page where it was", SOON, || gets(lab, &reader, "web").unwrap_or(false))?;
        let before = first.addresses(lab)?;
        let second = web(lab, "b", "web", &["--key", &key])?;
        let moved = Instant::now();
        ensure!(second.addresses(lab)? == before, "it has other addresses now");
        first.process().kill();
        wait::until("peers follow within two seconds", Duration::from_secs(2), || {
            gets(lab, &reader, "web").unwrap_or(false)
        })?;
        eprintln!("followed after {} ms", moved.elapsed().as_millis());
        Ok(())
    });
}

#[test]
fn a_workload_ends_with_its_program_and_leaves_nothing() {
    run_lab("ends", |lab| {
        start(lab, &[])?;
        let before = lab.ns("a").snapshot()?;
        let said = tenant::job(lab, "a", "shop", "short", &["sh", "-c", "ip -br addr show sinew0; exit 7"])?;
        ensure!(said.code == Some(7) && said.stdout.contains("10.20."), "{:?} {}", said.code, said.text());
        let mut killed = client(lab, "a", "killed", &[])?;
        killed.process().kill();
        wait::until("the list is empty", SOON, || {
            lab.cli("a").list(&["workload", "ls"], "workloads").is_ok_and(|all| all.is_empty())
        })?;
        let pins = lab.dir().join("a/netns");
        wait::until("no namespace is held", SOON, || {
            std::fs::read_dir(&pins).map_or(true, |mut entries| entries.next().is_none())
        })?;
        ensure!(lab.ns("a").snapshot()? == before, "the machine differs");
        Ok(())
    });
}

/// Packets of workloads may cost no more than a tenth of the rate between the machines.
#[test]
fn workloads_are_as_fast_as_their_machines() {
    run_lab("fast", |lab| {
        start(lab, &["b"])?;
        let server = Iperf::start(lab.ns("b"), lab.dir())?;
        let far = lab.address("b")?;
        let serving = Workload::start(lab, "b", "shop", "iperf", &["iperf3", "-s"])?;
        let host = serving.addresses(lab)?.swap_remove(0);
        let sender = client(lab, "a", "sender", &[])?;
        let measure = || -> Result<f64> {
            let said = sender.run(lab, &["iperf3", "-J", "-c", &host, "-t", "3"])?;
            let value: serde_json::Value = serde_json::from_str(&said)?;
            match value.pointer("/end/sum_received/bits_per_second").and_then(serde_json::Value::as_f64) {
                Some(rate) => Ok(rate),
                None => bail!("iperf3 said: {said}"),
            }
        };
        let mut ratios = Vec::new();
        for _ in 0..3 {
            let machine = server.measure(lab.ns("a"), &far, 3)?;
            let workload = measure()?;
            eprintln!("machines {:.2} Gb/s, workloads {:.2} Gb/s", machine / 1e9, workload / 1e9);
            ratios.push(workload / machine);
        }
        ratios.sort_by(f64::total_cmp);
        ensure!(ratios[1] > 0.75, "workloads are slower than their machines: {ratios:?}");
        Ok(())
    });
}
