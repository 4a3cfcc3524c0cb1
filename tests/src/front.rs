//! The public front on its own (the gateway crate's example), nginx behind it, and clients.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::ns::Namespace;
use crate::process::{self, Proc};
use crate::requirements::build;
use crate::wait;

const DEADLINE: Duration = Duration::from_secs(60);
const READY: Duration = Duration::from_secs(10);

/// The program, built once for each run.
fn program() -> Result<&'static Path> {
    static PROGRAM: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let built = PROGRAM.get_or_init(|| match build() {
        Ok(folder) => Ok(folder.join("examples/front")),
        Err(error) => Err(format!("{error:#}")),
    });
    built.as_deref().map_err(|text| anyhow::anyhow!(text.clone()))
}

/// A certificate with its key, signed by itself.
#[derive(Clone, Debug)]
pub struct Pair {
    /// PEM file of the certificate; what clients trust.
    pub chain: PathBuf,
    /// PEM file of the key, mode 0600.
    pub key: PathBuf,
}

impl Pair {
    /// Makes one for these host names.
    pub fn make(folder: &Path, name: &str, hosts: &[&str]) -> Result<Self> {
        let pair =
            Self { chain: folder.join(format!("{name}.pem")), key: folder.join(format!("{name}.key")) };
        let names: Vec<_> = hosts.iter().map(|host| format!("DNS:{host}")).collect();
        let mut command = process::command("openssl");
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
        command.args(["-days", "30", "-subj", "/CN=lab", "-addext"]);
        command.arg(format!("subjectAltName={}", names.join(",")));
        command.arg("-keyout").arg(&pair.key).arg("-out").arg(&pair.chain);
        process::run_ok(&mut command, DEADLINE)?;
        Ok(pair)
    }

    /// The entry of a front's configuration.
    pub fn toml(&self, hosts: &[&str]) -> String {
        format!(
            "[[certificates]]\nhosts = {hosts:?}\nchain = {:?}\nkey = {:?}\n",
            self.chain.display().to_string(),
            self.key.display().to_string()
        )
    }
}

/// A running front.
#[derive(Debug)]
pub struct Front {
    proc: Proc,
    file: PathBuf,
}

impl Front {
    /// Starts it in `ns` with this configuration and waits until it listens.
    pub fn start(ns: &Namespace, folder: &Path, config: &str) -> Result<Self> {
        let file = folder.join("front.toml");
        std::fs::write(&file, config)?;
        let log = folder.join("front.log");
        // One that ran before has left its words there.
        let ready = || process::read_lossy(&log).lines().filter(|line| *line == "ready").count();
        let before = ready();
        let mut command = ns.command(&program()?.display().to_string());
        let mut proc = Proc::spawn(command.arg(&file), &log)?;
        let started = wait::until("the front is ready", READY, || !proc.running() || ready() > before);
        if started.is_err() || !proc.running() {
            bail!("the front does not start: {}", proc.log());
        }
        Ok(Self { proc, file })
    }

    /// Exchanges its configuration and certificates while it runs.
    pub fn reload(&mut self, config: &str) -> Result<()> {
        let count = |log: String| log.matches("reloaded").count();
        let before = count(self.proc.log());
        std::fs::write(&self.file, config)?;
        self.proc.signal(Signal::SIGHUP)?;
        wait::until("the front has reloaded", READY, || count(self.proc.log()) > before)?;
        let log = self.proc.log();
        match log.lines().rfind(|line| line.contains("reloaded")) {
            Some("reloaded") => Ok(()),
            other => bail!("{other:?}"),
        }
    }

    /// Lets it finish; its exit code.
    pub fn stop(&mut self) -> Result<Option<i32>> {
        self.proc.signal(Signal::SIGTERM)?;
        self.proc.wait(DEADLINE)
    }

    /// The hosts whose certificates it orders, as they stand now.
    pub fn hosts(&self) -> Result<Vec<serde_json::Value>> {
        let told = |log: &str| log.lines().filter(|line| line.starts_with("[{\"host\"")).count();
        let before = told(&self.proc.log());
        self.proc.signal(Signal::SIGUSR1)?;
        wait::until("the front tells its hosts", READY, || told(&self.proc.log()) > before)?;
        let log = self.proc.log();
        let line = log.lines().rfind(|line| line.starts_with("[{\"host\""));
        Ok(serde_json::from_str(line.context("no status")?)?)
    }

    /// What it has written: events, one JSON object a line, and its own words.
    pub fn log(&self) -> String {
        self.proc.log()
    }

    /// Its process.
    pub fn process(&self) -> &Proc {
        &self.proc
    }
}

/// Starts nginx in `ns` with these servers (`server { … }`), its files in `folder/www`. It is one process, so
/// that killing it leaves no worker that serves on.
pub fn nginx(ns: &Namespace, folder: &Path, name: &str, servers: &str) -> Result<Proc> {
    let run = folder.join(name);
    std::fs::create_dir_all(run.join("tmp"))?;
    let shown = run.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {shown}/tmp/{kind};\n"))
        .collect();
    let config = format!(
        "daemon off; master_process off; pid {shown}/pid; error_log {shown}/error.log; user root;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; client_max_body_size 0; keepalive_requests 1000000; root {};\n{temporary}{servers} }}\n",
        folder.join("www").display()
    );
    let file = run.join("nginx.conf");
    std::fs::write(&file, config)?;
    let mut command = ns.command("nginx");
    Proc::spawn(command.arg("-e").arg(run.join("error.log")).arg("-c").arg(&file), &run.join("nginx.log"))
}
