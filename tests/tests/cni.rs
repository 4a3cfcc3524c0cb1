//! The CNI plugin against a real daemon, called as a runtime calls it: what podman never asks for
//! (CHECK, STATUS, GC), and a container on two networks at once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use sinew_tests::cli::text;
use sinew_tests::lab::{Dial, Lab, run_lab};
use sinew_tests::ns::{self, Namespace};
use sinew_tests::process::{self, Output};
use sinew_tests::{Bins, tenant, wait};

const DEADLINE: Duration = Duration::from_secs(30);

/// One network's configuration on one machine.
struct Plugin {
    dir: PathBuf,
    socket: PathBuf,
    networks: &'static str,
}

impl Plugin {
    fn on(lab: &Lab, node: &str, networks: &'static str) -> Self {
        Self { dir: lab.dir().to_owned(), socket: lab.dir().join(node).join("sinew.sock"), networks }
    }

    /// Calls the plugin for a container; `more` are further keys, each with a comma before it.
    fn call(&self, command: &str, container: &str, netns: Option<&Path>, more: &str) -> Result<Output> {
        let config = format!(
            r#"{{"cniVersion":"1.1.0","name":"pods","type":"sinew-cni","network":{},"socket":"{}"{more}}}"#,
            self.networks,
            self.socket.display()
        );
        let file = self.dir.join(format!("cni-{container}.json"));
        std::fs::write(&file, config)?;
        let script = format!("exec {} < {}", Bins::get()?.sinew_cni.display(), file.display());
        let mut shell = process::command("sh");
        shell.args(["-c", &script]).env("CNI_COMMAND", command);
        shell
            .env("CNI_CONTAINERID", container)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_NETNS", netns.unwrap_or(Path::new("")));
        process::run(&mut shell, DEADLINE)
    }

    fn call_ok(&self, command: &str, container: &str, netns: Option<&Path>, more: &str) -> Result<String> {
        let output = self.call(command, container, netns, more)?;
        ensure!(output.code == Some(0), "{command} of {container}: {}", output.text());
        Ok(output.stdout)
    }

    /// The code and message of an error.
    fn refused(
        &self,
        command: &str,
        container: &str,
        netns: Option<&Path>,
        more: &str,
    ) -> Result<(u64, String)> {
        let output = self.call(command, container, netns, more)?;
        ensure!(output.code != Some(0), "{command} of {container} succeeds: {}", output.text());
        let error: Value = serde_json::from_str(&output.stdout).with_context(|| output.text())?;
        Ok((error["code"].as_u64().context("no code")?, text(&error, "msg").to_owned()))
    }
}

fn start(lab: &mut Lab) -> Result<()> {
    lab.line(&["a", "b"])?;
    lab.peer_links(Dial::Both)?;
    lab.start_all()?;
    lab.wait_mesh()?;
    tenant::network(lab, "shop", "10.20.0.0/16", "a", &["b"])?;
    tenant::network(lab, "bank", "10.30.0.0/16", "b", &["a"])
}

fn container(lab: &Lab, name: &str) -> Result<(Namespace, PathBuf)> {
    let ns = Namespace::create(&format!("{}-{name}", lab.ns("a").name()))?;
    let path = Path::new("/run/netns").join(ns.name());
    Ok((ns, path))
}

fn names(lab: &Lab) -> Result<Vec<String>> {
    let all = lab.cli("a").list(&["workload", "ls"], "workloads")?;
    Ok(all.iter().map(|workload| text(workload, "name").to_owned()).collect())
}

#[test]
fn check_sees_what_was_done_to_a_container() {
    run_lab("cnicheck", |lab| {
        start(lab)?;
        let plugin = Plugin::on(lab, "a", r#""shop""#);
        let (ns, path) = container(lab, "c")?;
        plugin.call_ok("STATUS", "", None, "")?;
        let result = plugin.call_ok("ADD", "c0ffee", Some(&path), "")?;
        let previous = format!(r#","prevResult":{}"#, result.trim());
        plugin.call_ok("CHECK", "c0ffee", Some(&path), &previous)?;
        ns.ip(&["route", "del", "10.20.0.0/16", "dev", "eth0"])?;
        let (code, message) = plugin.refused("CHECK", "c0ffee", Some(&path), &previous)?;
        ensure!(code == 101 && message.contains("no route to 10.20.0.0/16"), "{code} {message}");
        plugin.call_ok("DEL", "c0ffee", Some(&path), &previous)?;
        plugin.call_ok("DEL", "c0ffee", Some(&path), &previous)?;
        let links = ns.ip(&["-br", "link"])?;
        ensure!(!links.contains("eth0"), "the interface is still there: {links}");
        let (code, _) = plugin.refused("CHECK", "c0ffee", Some(&path), &previous)?;
        ensure!(code == 101, "CHECK of what was deleted: {code}");
        Ok(())
    });
}

#[test]
fn a_container_may_be_on_two_networks() {
    run_lab("cnitwo", |lab| {
        start(lab)?;
        let plugin = Plugin::on(lab, "a", r#"["shop","bank"]"#);
        let (ns, path) = container(lab, "c")?;
        let result: Value = serde_json::from_str(&plugin.call_ok("ADD", "c0ffee", Some(&path), "")?)?;
        let interfaces = result["interfaces"].as_array().context("no interfaces")?;
        ensure!(interfaces.len() == 2 && text(&interfaces[0], "name") == "eth0", "{result}");
        ensure!(result["ips"].as_array().is_some_and(|ips| ips.len() == 4), "{result}");
        let links = ns.ip(&["-br", "link"])?;
        ensure!(interfaces.iter().all(|one| links.contains(text(one, "name"))), "{links} {result}");
        ensure!(names(lab)?.len() == 2, "{:?}", names(lab));
        // Killed in between: DEL takes both interfaces and both pins away by itself.
        lab.kill("a");
        plugin.call_ok("DEL", "c0ffee", None, "")?;
        let links = ns.ip(&["-br", "link"])?;
        ensure!(!interfaces.iter().any(|one| links.contains(text(one, "name"))), "{links}");
        let pins = std::fs::read_dir(lab.dir().join("a/netns")).map_or(0, Iterator::count);
        ensure!(pins == 0, "{pins} pins left");
        Ok(())
    });
}

/// A runtime that starts a node's hundred pods starts them all at once, and stops them so.
#[test]
fn a_hundred_containers_come_and_go_at_once_and_leave_nothing() {
    const CONTAINERS: usize = 100;
    run_lab("cnimany", |lab| {
        start(lab)?;
        let plugin = Plugin::on(lab, "a", r#""shop""#);
        let containers = (0..CONTAINERS).map(|n| container(lab, &format!("c{n}")));
        let containers: Vec<(Namespace, PathBuf)> = containers.collect::<Result<_>>()?;
        let before = lab.ns("a").snapshot()?;
        let all_at_once = |command: &'static str| -> Result<Vec<String>> {
            let plugin = &plugin;
            std::thread::scope(|scope| {
                let each = containers.iter().enumerate();
                let calls: Vec<_> = each
                    .map(|(n, (_, path))| {
                        scope.spawn(move || plugin.call_ok(command, &format!("id{n}"), Some(path), ""))
                    })
                    .collect();
                calls.into_iter().map(|call| call.join().map_err(|_| anyhow!("a call panicked"))?).collect()
            })
        };
        let begun = Instant::now();
        let results = all_at_once("ADD")?;
        eprintln!("{CONTAINERS} added in {:.1} s", begun.elapsed().as_secs_f64());
        let mut addresses = BTreeSet::new();
        for result in &results {
            let result: Value = serde_json::from_str(result)?;
            let ips = result["ips"].as_array().context("no addresses")?;
            addresses.extend(ips.iter().map(|ip| text(ip, "address").to_owned()));
        }
        ensure!(addresses.len() == 2 * CONTAINERS, "{} different addresses", addresses.len());
        ensure!(names(lab)?.len() == CONTAINERS, "{} workloads", names(lab)?.len());
        // The last one in sees the first one.
        let first = addresses.iter().next().and_then(|address| address.split('/').next()).context("none")?;
        containers[CONTAINERS - 1].0.run(&["ping", "-n", "-q", "-c", "1", "-W", "2", first])?;
        let begun = Instant::now();
        all_at_once("DEL")?;
        eprintln!("{CONTAINERS} deleted in {:.1} s", begun.elapsed().as_secs_f64());
        ensure!(names(lab)?.is_empty(), "left: {:?}", names(lab));
        let pins = std::fs::read_dir(lab.dir().join("a/netns")).map_or(0, Iterator::count);
        ensure!(pins == 0, "{pins} pins left");
        for (ns, _) in &containers {
            let links = ns.ip(&["-br", "link"])?;
            ensure!(links.lines().count() == 1, "an interface is left: {links}");
        }
        ensure!(lab.ns("a").snapshot()? == before, "the machine differs");
        let shown = lab.cli("a").json(&["network", "show", "shop"])?;
        ensure!(shown["workloads"].as_array().is_some_and(Vec::is_empty), "still in the documents: {shown}");
        // What comes next finds all as it was.
        plugin.call_ok("ADD", "next", Some(&containers[0].1), "")?;
        plugin.call_ok("DEL", "next", Some(&containers[0].1), "").map(drop)
    });
}

/// After a reboot the namespaces are gone, the daemon's memory is not, and runtimes clean up late.
#[test]
fn what_a_reboot_took_away_can_be_deleted() {
    run_lab("cniboot", |lab| {
        start(lab)?;
        let plugin = Plugin::on(lab, "a", r#""shop""#);
        let (ns, path) = container(lab, "c")?;
        plugin.call_ok("ADD", "c0ffee", Some(&path), "")?;
        lab.kill("a");
        drop(ns);
        ns::unmount_below(&lab.dir().join("a/netns"));
        std::fs::remove_dir_all(lab.dir().join("a/netns"))?;
        lab.start("a")?;
        lab.wait_ready("a")?;
        plugin.call_ok("DEL", "c0ffee", Some(&path), "")?;
        plugin.call_ok("DEL", "c0ffee", None, "")?;
        wait::until("it is forgotten", DEADLINE, || names(lab).is_ok_and(|all| all.is_empty()))?;
        let shown = lab.cli("a").json(&["network", "show", "shop"])?;
        ensure!(shown["workloads"].as_array().is_some_and(Vec::is_empty), "still in the documents: {shown}");
        let (_ns, path) = container(lab, "c")?;
        plugin.call_ok("ADD", "c0ffee", Some(&path), "").map(drop)
    });
}

#[test]
fn gc_removes_what_the_runtime_lost_and_a_lost_daemon_is_named() {
    run_lab("cnigc", |lab| {
        start(lab)?;
        let plugin = Plugin::on(lab, "a", r#""shop""#);
        let (_one, one) = container(lab, "one")?;
        let (_two, two) = container(lab, "two")?;
        plugin.call_ok("ADD", "one1", Some(&one), "")?;
        plugin.call_ok("ADD", "two2", Some(&two), "")?;
        let (code, _) = plugin.refused("GC", "", None, "")?;
        ensure!(code == 7 && names(lab)?.len() == 2, "GC without a list: {code}");
        plugin.call_ok(
            "GC",
            "",
            None,
            r#","cni.dev/valid-attachments":[{"containerID":"two2","ifname":"eth0"}]"#,
        )?;
        ensure!(names(lab)? == ["two2"], "{:?}", names(lab));
        let (code, message) =
            plugin.refused("ADD", "three", Some(&one), r#","runtimeConfig":{"ips":["10.99.0.1/24"]}"#)?;
        ensure!(code != 0 && names(lab)? == ["two2"], "{code} {message}");
        let missing = Plugin { networks: r#""nowhere""#, ..Plugin::on(lab, "a", "") };
        let (code, message) = missing.refused("ADD", "three", Some(&one), "")?;
        ensure!(code == 7 && message.contains("`nowhere`"), "{code} {message}");
        let (code, _) = missing.refused("STATUS", "", None, "")?;
        ensure!(code == 50, "STATUS of an unknown network: {code}");
        lab.kill("a");
        let (code, message) = plugin.refused("ADD", "three", Some(&one), "")?;
        ensure!(code == 11 && message.contains("no sinew daemon runs at"), "{code} {message}");
        Ok(())
    });
}
