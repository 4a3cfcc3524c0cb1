//! The demo's journey of a file: somebody outside hands it in, one machine computes with it, another keeps it, and
//! its owner, and nobody else, gets it back. The lab `journey` is the test of it; these are its two programs.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sinew_tests::lab::Lab;
use sinew_tests::process;
use sinew_tests::requirements::workspace_root;
use sinew_tests::tenant::{self, SOON, Workload};
use sinew_tests::wait;
use sinew_tests::workload::payload_file;

use super::network::{NETWORK, set_policy};
use super::{gateway, heading, indent};

const HOST: &str = "files.gw.example.test";
const OWNER: &str = "owner:correct-horse";
const BYTES: u64 = 4 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

const PICTURE: &str = "
     outside            c            a                 b                  d
   ┌────────┐ https   ┌─────────┐  ┌───────────┐     ┌────────────┐     ┌────────────┐
   │ curl   ├─────────┤ gateway ╞══╡ desk      ╞═════╡ press      ╞═════╡ db         │
   │ a file │password?│         │  │ takes it  │     │ gzip, hash │     │ PostgreSQL │
   └────────┘         └─────────┘  └───────────┘     └────────────┘     └────────────┘
";

/// Who may talk to whom on the way; the desk itself is reached by what is published.
const POLICY: &str = "default = \"deny\"\n\n\
    [[rule]]\nfrom = \"workload:desk\"\nto = \"workload:press\"\nallow = [\"tcp/8081\"]\n\n\
    [[rule]]\nfrom = \"workload:press\"\nto = \"workload:db\"\nallow = [\"tcp/5432\"]\n";

/// Shows it; what keeps running is returned, so that it lives as long as the demo.
pub(super) fn show(lab: &Lab) -> Result<Vec<Workload>> {
    heading("The journey of a file: in through the gateway, computed on b, kept on d, and back");
    println!("{PICTURE}");
    let mut workloads = programs(lab)?;
    set_policy(lab, POLICY)?;
    publish(lab)?;
    let file = lab.dir().join("report.csv");
    let sha256 = payload_file(&file, BYTES)?;
    hand_in(lab, &file, &sha256)?;
    fetch(lab, &file)?;
    strangers(lab)?;
    if lab.ns("a").is_kept() {
        workloads.iter_mut().for_each(|workload| workload.process().keep());
    }
    Ok(workloads)
}

fn programs(lab: &Lab) -> Result<Vec<Workload>> {
    let start = |node: &str, name: &str, next: &str| {
        let script = workspace_root().join(format!("tests/tests/journey/{name}.py")).display().to_string();
        Workload::start(lab, node, NETWORK, name, &["python3", &script, next])
    };
    Ok(vec![start("b", "press", "db")?, start("a", "desk", "press")?])
}

fn publish(lab: &Lab) -> Result<()> {
    let (user, password) = OWNER.split_once(':').unwrap_or_default();
    let users = tenant::users(&lab.dir().join("users"), user, password)?;
    let via = lab.key("c")?.node_id;
    let expose = ["expose", "desk", "--port", "8080", "--via", &via, "--name", "files", "--basic", &users];
    let output = lab.cli("a").run(&expose)?;
    println!(
        "  a$ sinew expose desk --port 8080 --via c --name files --basic users\n{}",
        indent(&output.stdout)
    );
    ensure!(output.code == Some(0), "sinew expose: {}", output.text());
    // No such file yet, says the database: everybody on the way is there.
    wait::until("desk, press and db stand", SOON, || {
        ask(lab, &["-u", OWNER, "-o", "/dev/null"]).is_ok_and(|status| status == "404")
    })
}

/// curl to the file's place; what it printed, and the status behind it.
fn ask(lab: &Lab, args: &[&str]) -> Result<String> {
    let mut command = gateway::curl(lab, HOST);
    command.args(["-m", "50", "-w", "%{http_code}"]).args(args);
    process::run_ok(command.arg(format!("https://{HOST}/files/report.csv")), PATIENCE)
}

fn hand_in(lab: &Lab, file: &Path, sha256: &str) -> Result<()> {
    let start = Instant::now();
    let said = ask(lab, &["-u", OWNER, "-T", &file.display().to_string()])?;
    println!(
        "  outside$ curl -u owner -T report.csv https://{HOST}/files/   ({:.2} s)",
        start.elapsed().as_secs_f64()
    );
    println!("{}", indent(said.trim_end_matches("201")));
    ensure!(said.ends_with("201") && said.contains(sha256), "the press on b says {said}, not {sha256}");
    Ok(())
}

fn fetch(lab: &Lab, file: &Path) -> Result<()> {
    let (start, got) = (Instant::now(), lab.dir().join("returned.csv"));
    let status = ask(lab, &["-u", OWNER, "-o", &got.display().to_string()])?;
    let took = start.elapsed().as_secs_f64();
    ensure!(
        status == "200" && std::fs::read(&got)? == std::fs::read(file)?,
        "other bytes came back: {status}"
    );
    println!(
        "  outside$ curl -u owner https://{HOST}/files/report.csv: the same {BYTES} bytes   ({took:.2} s)"
    );
    Ok(())
}

fn strangers(lab: &Lab) -> Result<()> {
    let shown: [(&str, &[&str]); 2] = [("curl", &[]), ("curl -u stranger", &["-u", "stranger:guess"])];
    for (words, args) in shown {
        let status = ask(lab, &[args, &["-o", "/dev/null"]].concat())?;
        println!("  outside$ {words} https://{HOST}/files/report.csv: {status}");
        ensure!(status == "401", "a stranger gets {status}");
    }
    Ok(())
}
