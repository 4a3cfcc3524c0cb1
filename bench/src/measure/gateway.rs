//! What people outside get through a gateway: requests, latency at a rate that is no effort, large files.
//!
//! ```text
//!   client ── gw ── a   nginx: :80 plain, :443 TLS of its own
//!   h2load,   the subject
//!   curl
//! ```
//! The server is the same nginx for all, one process. Sinew encrypts between gw and a, others do not.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use sinew_tests::front::Pair;
use sinew_tests::gateway::DOMAIN;
use sinew_tests::process;
use sinew_tests::requirements::find_program;

use super::{Numbers, insert};
use crate::args::Options;
use crate::cpu::Snapshot;
use crate::peers::{Front, Subject, THROUGH, WEB, WebServer, temporary};
use crate::stage::{Scenario, Stage, Wire};
use crate::stats;

/// What a small response holds, as icons and answers of an API do.
const SMALL: usize = 600;
const PATIENCE: Duration = Duration::from_secs(120);
/// Requests a second at which nobody is busy, and connections that share them.
const CALM: (u32, u32) = (1000, 10);

/// Starts a subject on a stage of its own and measures it; what was measured before an error is kept.
pub(super) fn attempt(
    subject: &Subject,
    wire: Wire,
    options: &Options,
    numbers: &mut Numbers,
    errors: &mut Vec<String>,
) -> Result<()> {
    let mut stage = Stage::build(Scenario::Gateway, wire)?;
    let server = web_server(&stage, large(options))?;
    let front = subject.front(&mut stage, &server).context("cannot start")?;
    let run = Run { stage: &stage, front, options };
    type Part = fn(&Run<'_>, &mut Numbers) -> Result<()>;
    let parts: [(&str, Part); 4] =
        [("requests", requests), ("calm", calm), ("large", files), ("passthrough", through)];
    for (name, part) in parts {
        if let Err(error) = part(&run, numbers) {
            errors.push(format!("{name}: {error:#}"));
        }
    }
    Ok(())
}

/// Bytes of a large file.
fn large(options: &Options) -> u64 {
    if options.quick { 64 << 20 } else { 512 << 20 }
}

/// About how long one subject takes in one round.
pub(crate) fn estimate(options: &Options) -> Duration {
    (options.length() + Duration::from_secs(1)) * 4 + Duration::from_secs(10)
}

/// The configuration of the server, its files and certificates.
fn web_server(stage: &Stage, large: u64) -> Result<WebServer> {
    let nginx = find_program("nginx").context("not installed: apt-get install nginx-light")?;
    let folder = stage.dir("a").join("web");
    std::fs::create_dir_all(folder.join("www"))?;
    std::fs::write(folder.join("www/small"), vec![b'x'; SMALL])?;
    std::fs::File::create(folder.join("www/large"))?.set_len(large)?;
    let shown = Pair::make(stage.lab.dir(), "shown", &[&format!("*.{DOMAIN}")])?;
    let own = Pair::make(&folder, "own", &[THROUGH])?;
    let place = folder.display();
    let config = format!(
        "daemon off; master_process off; user root; pid {place}/pid; error_log {place}/error.log;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; sendfile on; keepalive_requests 1000000; {}\n\
         server {{ listen 80; listen [::]:80; listen 443 ssl http2; listen [::]:443 ssl http2;\n\
         ssl_certificate {}; ssl_certificate_key {}; root {place}/www; }} }}\n",
        temporary(&folder),
        own.chain.display(),
        own.key.display(),
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, config)?;
    let argv = [nginx.display().to_string(), "-c".into(), file.display().to_string()].to_vec();
    Ok(WebServer { argv, shown })
}

struct Run<'a> {
    stage: &'a Stage,
    front: Front,
    options: &'a Options,
}

/// What a load generator saw.
struct Load {
    per_second: f64,
    times_ms: Vec<f64>,
    /// CPU seconds for 10,000 requests: of what stands between, and of the whole machine.
    between: f64,
    everything: f64,
}

impl Run<'_> {
    fn address(&self) -> String {
        self.stage.underlay("gw", "client")
    }

    /// h2load for one measurement's length, after as long as it takes to warm up.
    fn load(&self, host: &str, port: u16, more: &[&str]) -> Result<Load> {
        let log = self.stage.dir("client").join("requests.tsv");
        let _ = std::fs::remove_file(&log);
        let mut command = self.stage.ns("client").command("h2load");
        command.args(["-D", &format!("{}", self.options.length().as_secs()), "--warm-up-time=1"]);
        command.arg(format!("--log-file={}", log.display())).args(more);
        command.arg(format!("--connect-to={}:{port}", self.address())).arg(format!("https://{host}/small"));
        let before = Snapshot::take();
        let said = process::run_ok(&mut command, PATIENCE)?;
        let spent = before.until_now();
        ensure!(said.contains(" 0 failed, 0 errored, 0 timeout"), "requests failed: {said}");
        let times_ms = times(&log)?;
        let each = 10_000.0 / times_ms.len().max(1) as f64;
        let between: f64 = self.front.daemons.iter().map(|pid| spent.of(*pid)).sum();
        Ok(Load {
            per_second: per_second(&said).with_context(|| format!("no rate: {said}"))?,
            times_ms,
            between: between * each,
            everything: spent.own * each,
        })
    }

    /// Megabytes a second of one large file.
    fn file(&self, host: &str, port: u16, version: &str) -> Result<f64> {
        let mut command = self.stage.ns("client").command("curl");
        command.args(["-sSfk", version, "-o", "/dev/null", "-w", "%{speed_download} %{size_download}"]);
        command.args(["--resolve", &format!("{host}:{port}:{}", self.address())]);
        let said = process::run_ok(command.arg(format!("https://{host}:{port}/large")), PATIENCE)?;
        let (speed, size) = said.split_once(' ').with_context(|| said.clone())?;
        if size.trim().parse::<u64>()? != large(self.options) {
            bail!("the file came with {size} bytes");
        }
        Ok(speed.parse::<f64>()? / 1e6)
    }
}

fn requests(run: &Run<'_>, numbers: &mut Numbers) -> Result<()> {
    let Some(port) = run.front.http else { return Ok(()) };
    let load = run.load(WEB, port, &["--h1", "-c32"])?;
    numbers.insert("gw_h1_per_s", load.per_second);
    numbers.insert("gw_h1_cpu", load.between);
    numbers.insert("gw_h1_cpu_all", load.everything);
    insert(numbers, "gw_h1_p99_ms", stats::percentile(&load.times_ms, 99.0));
    let load = run.load(WEB, port, &["-c16", "-m8"])?;
    numbers.insert("gw_h2_per_s", load.per_second);
    numbers.insert("gw_h2_cpu", load.between);
    numbers.insert("gw_h2_cpu_all", load.everything);
    insert(numbers, "gw_h2_p99_ms", stats::percentile(&load.times_ms, 99.0));
    Ok(())
}

fn calm(run: &Run<'_>, numbers: &mut Numbers) -> Result<()> {
    let Some(port) = run.front.http else { return Ok(()) };
    let (rate, connections) = CALM;
    let (each, connections) = (format!("--rps={}", rate / connections), format!("-c{connections}"));
    let load = run.load(WEB, port, &["--h1", &connections, &each])?;
    insert(numbers, "gw_calm_p50_ms", stats::percentile(&load.times_ms, 50.0));
    insert(numbers, "gw_calm_p99_ms", stats::percentile(&load.times_ms, 99.0));
    Ok(())
}

fn files(run: &Run<'_>, numbers: &mut Numbers) -> Result<()> {
    let Some(port) = run.front.http else { return Ok(()) };
    numbers.insert("gw_h1_mb_s", run.file(WEB, port, "--http1.1")?);
    numbers.insert("gw_h2_mb_s", run.file(WEB, port, "--http2")?);
    Ok(())
}

fn through(run: &Run<'_>, numbers: &mut Numbers) -> Result<()> {
    let Some(port) = run.front.through else { return Ok(()) };
    let load = run.load(THROUGH, port, &["--h1", "-c32"])?;
    numbers.insert("gw_thru_per_s", load.per_second);
    numbers.insert("gw_thru_cpu", load.between);
    insert(numbers, "gw_thru_p99_ms", stats::percentile(&load.times_ms, 99.0));
    numbers.insert("gw_thru_mb_s", run.file(THROUGH, port, "--http1.1")?);
    Ok(())
}

/// The rate in h2load's summary.
fn per_second(said: &str) -> Option<f64> {
    let line = said.lines().find(|line| line.starts_with("finished in"))?;
    line.split(", ").nth(1)?.strip_suffix(" req/s")?.parse().ok()
}

/// Milliseconds of each answered request in h2load's log: begin, status and microseconds, a line each.
fn times(log: &Path) -> Result<Vec<f64>> {
    let text = std::fs::read_to_string(log).with_context(|| log.display().to_string())?;
    let time = |line: &str| {
        let mut fields = line.split_whitespace().skip(1);
        let (status, time) = (fields.next()?.parse::<i32>().ok()?, fields.next()?.parse::<f64>().ok()?);
        (status == 200).then_some(time / 1e3)
    };
    let times: Vec<f64> = text.lines().filter_map(time).collect();
    ensure!(!times.is_empty(), "no request was answered with 200");
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_times_are_read_from_what_h2load_says() {
        let said = "starting\n\nfinished in 5.00s, 12345.60 req/s, 9.1MB/s\nrequests: 1 total\n";
        assert_eq!(per_second(said), Some(12345.6));
        assert_eq!(per_second("nothing"), None);
        let file = std::env::temp_dir().join(format!("sinew-h2load-{}", std::process::id()));
        std::fs::write(&file, "1000\t200\t2500\n1001\t503\t1\n1002\t200\t500\n1003\t-1\t9\n").unwrap();
        let found = times(&file);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(found.unwrap(), [2.5, 0.5]);
    }
}
