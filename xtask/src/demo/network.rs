//! The demo's private network: programs on three machines that see each other by name, and that
//! nobody else sees, not even their own machines.

use std::time::Instant;

use anyhow::{Result, ensure};
use sinew_tests::lab::Lab;
use sinew_tests::tenant::{self, SOON, Workload, words};
use sinew_tests::wait;

use super::{heading, indent};

pub(super) const NETWORK: &str = "shop";
const RANGE: &str = "10.20.0.0/16";
pub(super) const PAGE: &str = "<h1>Hello from inside</h1>\n";

const PICTURE: &str = "
     a                  b                  d
   ┌───────────┐      ┌───────────┐      ┌───────────┐
   │ shell     │      │ web       │      │ db        │    shop, 10.20.0.0/16:
   │ curl psql │      │ nginx     │      │ PostgreSQL│    c relays and is not a member
   └───────────┘      └───────────┘      └───────────┘
";

/// Shows it; what keeps running is returned, so that it lives as long as the demo.
pub(super) fn show(lab: &mut Lab) -> Result<Vec<Workload>> {
    heading("A private network on a, b and d, with a workload on each");
    println!("{PICTURE}");
    members(lab)?;
    let mut workloads = servers(lab)?;
    by_name(lab, &workloads[0])?;
    unseen(lab, &workloads[1])?;
    policy(lab, &workloads[0])?;
    if lab.ns("a").is_kept() {
        workloads.iter_mut().for_each(|workload| workload.process().keep());
    }
    Ok(workloads)
}

fn members(lab: &Lab) -> Result<()> {
    let start = Instant::now();
    tenant::network(lab, NETWORK, RANGE, "a", &["b", "d"])?;
    println!("  a made it; b and d joined with a ticket each; all in {:.2} s", start.elapsed().as_secs_f64());
    say(lab, "a", &["network", "members", NETWORK])
}

/// A shell on a, a page on b, a database on d.
fn servers(lab: &Lab) -> Result<Vec<Workload>> {
    let shell = Workload::start(lab, "a", NETWORK, "shell", &["sleep", "infinity"])?;
    let nginx = tenant::nginx(&lab.dir().join("inside"), PAGE)?;
    let web = Workload::start(lab, "b", NETWORK, "web", &words(&nginx))?;
    let postgres = tenant::postgres(&lab.dir().join("db"))?;
    let db = Workload::start(lab, "d", NETWORK, "db", &words(&postgres))?;
    say(lab, "d", &["workload", "ls"])?;
    Ok(vec![shell, web, db])
}

fn by_name(lab: &Lab, shell: &Workload) -> Result<()> {
    let curl = ["curl", "-sS", "--fail", "--noproxy", "*", "http://web/"];
    let got = wait::success("the page comes", SOON, || shell.run(lab, &curl))?;
    println!("  shell on a$ curl http://web/\n{}", indent(&got));
    ensure!(got == PAGE, "another page came back");
    let psql = ["psql", "-h", "db", "-U", "postgres", "-Atc", "select 6 * 7"];
    let got = wait::success("the database answers", SOON, || shell.run(lab, &psql))?;
    println!("  shell on a$ psql -h db -c 'select 6 * 7'\n{}", indent(&got));
    ensure!(got.trim() == "42", "the database says {got}");
    Ok(())
}

/// The machine that carries a workload is no member's program: it reaches nobody inside.
fn unseen(lab: &Lab, web: &Workload) -> Result<()> {
    for address in web.addresses(lab)? {
        let host = if address.contains(':') { format!("[{address}]") } else { address.clone() };
        let argv = ["curl", "-gsS", "--noproxy", "*", "-m", "1", &format!("http://{host}/")];
        let reached = lab.ns("b").run(&argv);
        ensure!(reached.is_err(), "machine b reaches {address}, which is private");
        println!("  b itself$ curl http://{host}/: no way there");
    }
    Ok(())
}

/// Puts a policy in force, and shows it.
pub(super) fn set_policy(lab: &Lab, text: &str) -> Result<()> {
    let file = lab.dir().join("policy.toml");
    std::fs::write(&file, text)?;
    println!("  now only this:\n{}", indent(text));
    lab.cli("a").json(&["network", "policy", "set", NETWORK, &file.display().to_string()]).map(drop)
}

fn policy(lab: &Lab, shell: &Workload) -> Result<()> {
    let text = "default = \"deny\"\n\n[[rule]]\nfrom = \"workload:shell\"\nto = \"workload:web\"\nallow = [\"tcp/80\"]\n";
    set_policy(lab, text)?;
    let psql = ["psql", "-h", "db", "-U", "postgres", "-Atc", "select 1"];
    let set = Instant::now();
    wait::until("the database is closed", SOON, || {
        let argv = [&["env", "PGCONNECT_TIMEOUT=2"], &psql[..]].concat();
        shell.exec(lab, &argv).is_ok_and(|out| out.code != Some(0))
    })?;
    println!("  psql is refused, {:.1} s after; the page still comes:", set.elapsed().as_secs_f64());
    shell.run(lab, &["curl", "-sS", "--fail", "--noproxy", "*", "http://web/"])?;
    say(lab, "a", &["network", "policy", "trace", NETWORK, "shell", "db", "tcp/5432"])
}

/// Shows what a command prints; a verdict of `deny` is an answer too.
fn say(lab: &Lab, node: &str, args: &[&str]) -> Result<()> {
    let output = lab.cli(node).run(args)?;
    println!("  {node}$ sinew {}\n{}", args.join(" "), indent(&output.stdout));
    ensure!(matches!(output.code, Some(0 | 5)), "sinew {}: {}", args.join(" "), output.text());
    Ok(())
}
