//! The journey of a file: from a person outside to a database on a third machine, and days later back.
//!
//! ```text
//!   person ── g ── r ──┬── a   desk    takes files, passes them on         (network "archive")
//!   (curl)  gateway    ├── b   press   compresses and measures them
//!                      └── c   store   PostgreSQL keeps them
//! ```
//! g is no member of the network, r carries everything and is no member either; a, b and c have no link with
//! each other, so that every word between the workloads crosses r.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sinew_tests::capture::Capture;
use sinew_tests::cli::text;
use sinew_tests::front::Pair;
use sinew_tests::lab::{Dial, Lab, interface, run_lab};
use sinew_tests::process::{self, Output};
use sinew_tests::requirements::workspace_root;
use sinew_tests::tenant::{self, Workload, words};
use sinew_tests::wait;
use sinew_tests::workload::{PAYLOAD_MARK, payload_file};

const NETWORK: &str = "archive";
const DOMAIN: &str = "gw.example.test";
const HOST: &str = "files.gw.example.test";
const BYTES: u64 = 8 << 20;
const USER: &str = "owner";
const PASSWORD: &str = "correct-horse";
const OWNER: &str = "owner:correct-horse";
const SOON: Duration = Duration::from_secs(30);

fn machines(lab: &mut Lab) -> Result<Pair> {
    lab.star("r", &["g", "a", "b", "c"])?;
    lab.peer_links(Dial::Both)?;
    lab.node("person")?;
    lab.link("person", "g")?;
    let pair = Pair::make(lab.dir(), "gateway", &[HOST])?;
    let front = lab.underlay("g", "person");
    lab.config("g").extra = format!(
        "\n[gateway]\ndomain = \"{DOMAIN}\"\nhttps = [\"{front}:443\"]\nhttp = [\"{front}:80\"]\n\
         certificates = [{{ certificate = \"{}\", key = \"{}\" }}]\n",
        pair.chain.display(),
        pair.key.display()
    );
    lab.start_all()?;
    lab.wait_mesh()?;
    tenant::network(lab, NETWORK, "10.20.0.0/16", "a", &["b", "c"])?;
    Ok(pair)
}

/// The three workloads, the database first.
fn workloads(lab: &Lab, postgres: &[String]) -> Result<[Workload; 3]> {
    let scripts = workspace_root().join("tests/tests/journey");
    let script = |name: &str| scripts.join(name).display().to_string();
    let store = Workload::start(lab, "c", NETWORK, "store", &words(postgres))?;
    let press = Workload::start(lab, "b", NETWORK, "press", &["python3", &script("press.py"), "store"])?;
    let desk = Workload::start(lab, "a", NETWORK, "desk", &["python3", &script("desk.py"), "press"])?;
    Ok([desk, press, store])
}

/// curl as the person outside runs it; what it printed, with the status on a line of its own.
fn curl(lab: &Lab, pair: &Pair, more: &[&str]) -> Result<Output> {
    let mut command = lab.ns("person").command("curl");
    command.args(["-sS", "--noproxy", "*", "--http2", "-m", "60", "-w", "\n%{http_code}", "--cacert"]);
    command.arg(&pair.chain).arg("--resolve").arg(format!("{HOST}:443:{}", lab.underlay("g", "person")));
    process::run(command.args(more).arg(format!("https://{HOST}/files/report.csv")), SOON + SOON)
}

fn status(output: &Output) -> &str {
    output.stdout.lines().last().unwrap_or_default()
}

fn fetch(lab: &Lab, pair: &Pair, user: &str, into: &Path) -> Result<String> {
    let output = curl(lab, pair, &["-u", user, "-o", &into.display().to_string()])?;
    Ok(status(&output).to_owned())
}

fn upload(lab: &Lab, pair: &Pair, file: &Path, sha256: &str) -> Result<()> {
    let output = curl(lab, pair, &["-u", OWNER, "-T", &file.display().to_string()])?;
    ensure!(status(&output) == "201", "the upload: {}", output.text());
    let said = output.stdout.lines().next().unwrap_or_default();
    let said: Value = serde_json::from_str(said).with_context(|| output.text())?;
    ensure!(text(&said, "sha256") == sha256 && said["bytes"] == BYTES, "the press measured {said}");
    ensure!(said["pressed_bytes"].as_u64().is_some_and(|pressed| pressed < BYTES / 2), "{said}");
    Ok(())
}

/// The desk, and nothing else, behind a password.
fn publish(lab: &Lab) -> Result<()> {
    let (gateway, users) = (lab.key("g")?.node_id, tenant::users(&lab.dir().join("users"), USER, PASSWORD)?);
    let expose = ["expose", "desk", "--network", NETWORK, "--port", "8080", "--via", &gateway];
    lab.cli("a").json(&[&expose[..], &["--name", "files", "--basic", &users]].concat()).map(drop)
}

/// Every link of the relay, recorded.
fn taps(lab: &Lab) -> Result<Vec<(Capture, PathBuf)>> {
    let tap = |end: &&str| {
        let file = lab.dir().join(format!("r-{end}.pcapng"));
        Ok((Capture::start(lab.ns("r"), &interface(end), &file)?, file))
    };
    ["g", "a", "b", "c"].iter().map(tap).collect()
}

/// The owner gets what he gave, byte for byte; nobody else gets anything.
fn comes_back(lab: &Lab, pair: &Pair, file: &Path) -> Result<()> {
    let got = lab.dir().join("returned");
    let mut last = String::new();
    wait::until("the file comes back", SOON, || {
        last = fetch(lab, pair, OWNER, &got).unwrap_or_else(|error| format!("{error:#}"));
        last == "200"
    })
    .with_context(|| format!("last answer: {last}"))?;
    ensure!(std::fs::read(&got)? == std::fs::read(file)?, "other bytes came back");
    let stolen = lab.dir().join("stolen");
    let strangers: [&[&str]; 3] = [&[], &["-u", "owner:wrong"], &["-u", "stranger:correct-horse"]];
    for stranger in strangers {
        let output = curl(lab, pair, &[stranger, &["-o", &stolen.display().to_string()]].concat())?;
        ensure!(status(&output) == "401", "a stranger ({stranger:?}) got {}", output.text());
        let told = std::fs::read(&stolen).unwrap_or_default();
        ensure!(
            !told.windows(PAYLOAD_MARK.len()).any(|part| part == PAYLOAD_MARK),
            "a stranger got the file"
        );
    }
    Ok(())
}

#[test]
fn a_file_travels_through_three_workloads_and_comes_back_after_a_restart() {
    run_lab("journey", |lab| {
        let pair = machines(lab)?;
        let postgres = tenant::postgres(&lab.dir().join("database"))?;
        let running = workloads(lab, &postgres)?;
        publish(lab)?;

        let file = lab.dir().join("report.csv");
        let sha256 = payload_file(&file, BYTES)?;
        let taps = taps(lab)?;
        let inside = Capture::start_in(&running[0].netns(lab)?, "sinew0", &lab.dir().join("desk.pcapng"))?;
        wait::until("desk, press and store stand", SOON, || {
            curl(lab, &pair, &["-u", OWNER]).is_ok_and(|none| status(&none) == "404")
        })?;
        upload(lab, &pair, &file, &sha256)?;
        comes_back(lab, &pair, &file)?;
        ensure!(inside.stop()?.scan(&[PAYLOAD_MARK])?[0] > 0, "the desk itself does not see the file");
        for (tap, path) in taps {
            let seen = tap.stop()?.scan(&[PAYLOAD_MARK, b"files/report.csv", b"INSERT INTO files"])?;
            ensure!(seen.iter().all(|count| *count == 0), "{} shows plaintext: {seen:?}", path.display());
            let recorded = std::fs::metadata(&path)?.len();
            ensure!(recorded > 64 << 10, "{}: {recorded} bytes are no such journey", path.display());
        }

        // Every machine restarts: programs, daemons, and the owner does nothing.
        for mut workload in running.into_iter() {
            workload.stop()?;
        }
        for name in ["g", "r", "a", "b", "c"] {
            ensure!(lab.stop(name)? == Some(0), "{name} did not stop cleanly");
        }
        lab.start_all()?;
        lab.wait_mesh()?;
        let _again = workloads(lab, &postgres)?;
        comes_back(lab, &pair, &file)
    });
}
