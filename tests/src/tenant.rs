//! Private networks as their owners use them: `sinew network` and `sinew workload` on the machines
//! of a lab, and the servers that people run in them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::cli::text;
use crate::lab::Lab;
use crate::process::{self, Output, Proc, read_lossy};
use crate::requirements::Bins;
use crate::wait;

/// How long a join, an attachment or a server may take to stand.
pub const SOON: Duration = Duration::from_secs(20);
/// How long a job in a workload may take.
const JOB: Duration = Duration::from_secs(180);

/// Makes the network `name` on `owner` and lets `others` join it with a ticket each.
pub fn network(lab: &Lab, name: &str, ipv4: &str, owner: &str, others: &[&str]) -> Result<()> {
    let key = lab.dir().join(format!("{name}.owner.key"));
    let key = key.display().to_string();
    lab.cli(owner).json(&["network", "create", name, "--ipv4", ipv4, "--owner-key", &key])?;
    others.iter().try_for_each(|other| join(lab, name, owner, other))
}

/// Lets `other` join the network `name` with a counted ticket that `admin` makes.
pub fn join(lab: &Lab, name: &str, admin: &str, other: &str) -> Result<()> {
    let ticket = ticket(lab, name, admin, &[])?;
    let joined = lab.cli(other).json(&["network", "join", &format!("@{}", ticket.display())])?;
    ensure!(text(&joined, "state") == "ready", "{other} has not joined {name}: {joined}");
    Ok(())
}

/// A ticket for the network `name`, in a file of its own.
pub fn ticket(lab: &Lab, name: &str, admin: &str, options: &[&str]) -> Result<PathBuf> {
    let args = [&["network", "invite", name], options].concat();
    let made = lab.cli(admin).json(&args)?;
    let ticket = text(&made, "ticket");
    ensure!(ticket.starts_with("sinewnet1"), "no ticket: {made}");
    let file = tempfile::Builder::new().prefix("ticket").tempfile_in(lab.dir())?.into_temp_path().keep()?;
    std::fs::write(&file, ticket)?;
    Ok(file)
}

/// A program that `sinew workload run` keeps running.
#[derive(Debug)]
pub struct Workload {
    proc: Proc,
    node: String,
    name: String,
}

impl Workload {
    /// Starts `argv` on `node` as workload `name` of `network`; returns when it is attached.
    pub fn start(lab: &Lab, node: &str, network: &str, name: &str, argv: &[&str]) -> Result<Self> {
        Self::start_with(lab, node, network, name, &[], argv)
    }

    /// As [`Workload::start`], with more options of `sinew workload run`.
    pub fn start_with(
        lab: &Lab,
        node: &str,
        network: &str,
        name: &str,
        options: &[&str],
        argv: &[&str],
    ) -> Result<Self> {
        let log = lab.dir().join(format!("{node}-{network}-{name}.log"));
        let mut command = run_command(lab, node, network, name, options, argv)?;
        let mut proc = Proc::spawn(&mut command, &log)?;
        let what = format!("{name} of {network} on {node} is attached");
        wait::until(&what, SOON, || !proc.running() || attached(lab, node, name))?;
        ensure!(proc.running(), "{name} of {network} on {node} ended: {}", read_lossy(&log));
        Ok(Self { proc, node: node.to_owned(), name: name.to_owned() })
    }

    /// Runs a command inside; whatever its exit code.
    pub fn exec(&self, lab: &Lab, argv: &[&str]) -> Result<Output> {
        let args = [&["workload", "exec", &self.name, "--"], argv].concat();
        lab.cli(&self.node).run(&args)
    }

    /// Runs a command inside that must succeed; what it printed.
    pub fn run(&self, lab: &Lab, argv: &[&str]) -> Result<String> {
        let output = self.exec(lab, argv)?;
        if output.code != Some(0) {
            bail!("{} in {}: exit {:?}: {}", argv.join(" "), self.name, output.code, output.text());
        }
        Ok(output.stdout)
    }

    /// Its addresses, IPv4 before IPv6.
    pub fn addresses(&self, lab: &Lab) -> Result<Vec<String>> {
        addresses(lab, &self.node, &self.name)
    }

    /// The file that opens its network namespace.
    pub fn netns(&self, lab: &Lab) -> Result<PathBuf> {
        let all = lab.cli(&self.node).list(&["workload", "ls"], "workloads")?;
        let own = all.iter().find(|workload| text(workload, "name") == self.name);
        let path = own.map(|workload| text(workload, "netns")).filter(|path| !path.is_empty());
        path.map(PathBuf::from).with_context(|| format!("{} has no namespace: {all:?}", self.name))
    }

    /// The supervising process.
    pub fn process(&mut self) -> &mut Proc {
        &mut self.proc
    }

    /// Asks it to end; the exit code of `sinew workload run`.
    pub fn stop(&mut self) -> Result<Option<i32>> {
        self.proc.signal(Signal::SIGTERM)?;
        self.proc.wait(SOON)
    }
}

/// Runs `argv` to its end as workload `name`; whatever its exit code.
pub fn job(lab: &Lab, node: &str, network: &str, name: &str, argv: &[&str]) -> Result<Output> {
    process::run(&mut run_command(lab, node, network, name, &[], argv)?, JOB)
}

/// As [`job`], but it must succeed; what it printed.
pub fn job_ok(lab: &Lab, node: &str, network: &str, name: &str, argv: &[&str]) -> Result<String> {
    let output = job(lab, node, network, name, argv)?;
    if output.code != Some(0) {
        bail!("{} as {name} on {node}: exit {:?}: {}", argv.join(" "), output.code, output.text());
    }
    Ok(output.stdout)
}

fn run_command(
    lab: &Lab,
    node: &str,
    network: &str,
    name: &str,
    options: &[&str],
    argv: &[&str],
) -> Result<std::process::Command> {
    let mut command = lab.ns(node).command(&Bins::get()?.sinew.to_string_lossy());
    command.arg("--socket").arg(lab.dir().join(node).join("sinew.sock"));
    command.args(["workload", "run", name, "--network", network]).args(options).arg("--").args(argv);
    Ok(command)
}

fn attached(lab: &Lab, node: &str, name: &str) -> bool {
    addresses(lab, node, name).is_ok_and(|addresses| !addresses.is_empty())
}

/// Addresses of a workload on `node`, IPv4 before IPv6.
pub fn addresses(lab: &Lab, node: &str, name: &str) -> Result<Vec<String>> {
    let all = lab.cli(node).list(&["workload", "ls"], "workloads")?;
    let mut found: Vec<String> = Vec::new();
    for workload in all.iter().filter(|workload| text(workload, "name") == name) {
        let list = workload.get("addresses").and_then(serde_json::Value::as_array);
        found.extend(list.into_iter().flatten().filter_map(|a| a.as_str().map(str::to_owned)));
    }
    found.sort_by_key(|address| address.contains(':'));
    Ok(found)
}

/// Waits until `node` has heard of a workload somewhere in the network: word of it takes a moment.
pub fn known(lab: &Lab, node: &str, network: &str, workload: &str) -> Result<()> {
    let name = format!("{workload}.{network}.sinew.internal");
    wait::until(&format!("{node} knows {workload}"), SOON, || {
        lab.cli(node).run(&["dns", "query", &name]).is_ok_and(|said| said.code == Some(0))
    })
}

/// Where Debian keeps PostgreSQL's server programs.
fn postgres_bin() -> Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").context("PostgreSQL is not installed")?;
    let newest = versions.filter_map(|entry| Some(entry.ok()?.path().join("bin"))).max();
    newest.context("PostgreSQL has no programs")
}

/// Makes a database folder and gives the command that serves it on every address.
pub fn postgres(dir: &Path) -> Result<Vec<String>> {
    let bin = postgres_bin()?;
    let data = dir.join("data");
    std::fs::create_dir_all(dir)?;
    let mut chown = process::command("chown");
    process::run_ok(chown.arg("postgres:postgres").arg(dir), SOON)?;
    let mut init = process::command("setpriv");
    init.args(AS_POSTGRES).arg(bin.join("initdb")).args(["--auth=trust", "--no-sync", "-D"]).arg(&data);
    process::run_ok(init.current_dir("/"), JOB)?;
    let hba = data.join("pg_hba.conf");
    std::fs::write(&hba, "local all all trust\nhost all all all trust\n")?;
    let mut command = vec!["setpriv".to_owned()];
    command.extend(AS_POSTGRES.map(str::to_owned));
    let socket = format!("unix_socket_directories={}", dir.display());
    command.extend([bin.join("postgres").display().to_string(), "-D".into(), data.display().to_string()]);
    for setting in ["listen_addresses=*", "fsync=off", "max_connections=40", &socket] {
        command.extend(["-c".to_owned(), setting.to_owned()]);
    }
    Ok(command)
}

const AS_POSTGRES: [&str; 3] = ["--reuid=postgres", "--regid=postgres", "--clear-groups"];

/// The command of a redis that keeps nothing and lets in whoever the network lets in.
pub fn redis() -> Vec<String> {
    let words = ["redis-server", "--bind", "0.0.0.0", "::", "--protected-mode", "no", "--save", ""];
    words.map(str::to_owned).to_vec()
}

/// Makes a page and gives the command of an nginx that serves it on port 80 of every address.
pub fn nginx(dir: &Path, page: &str) -> Result<Vec<String>> {
    std::fs::create_dir_all(dir.join("www"))?;
    std::fs::write(dir.join("www/index.html"), page)?;
    nginx_with(dir, &format!("server {{ listen 80; listen [::]:80; root {}/www; }}", dir.display()))
}

/// The same with these `server` blocks.
pub fn nginx_with(dir: &Path, servers: &str) -> Result<Vec<String>> {
    std::fs::create_dir_all(dir)?;
    let (d, conf) = (dir.display(), dir.join("nginx.conf"));
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String = temporary.iter().map(|kind| format!("{kind}_temp_path {d}/{kind}; ")).collect();
    std::fs::write(
        &conf,
        format!(
            "daemon off; master_process off; pid {d}/nginx.pid; error_log stderr notice;\n\
             events {{ worker_connections 256; }}\n\
             http {{ access_log off; {temporary}\n{servers} }}\n"
        ),
    )?;
    Ok(["nginx", "-p", &d.to_string(), "-c", &conf.display().to_string()].map(str::to_owned).to_vec())
}

/// Writes the file of one user for `sinew expose --basic`; its path, as an argument.
pub fn users(file: &Path, user: &str, password: &str) -> Result<String> {
    let mut argon2 = process::command("sh");
    argon2.args(["-c", &format!("printf %s {password} | argon2 0123456789abcdef -id -e")]);
    std::fs::write(file, format!("{user}:{}", process::run_ok(&mut argon2, SOON)?))?;
    Ok(file.display().to_string())
}

/// Borrowed words, as commands are given.
pub fn words(argv: &[String]) -> Vec<&str> {
    argv.iter().map(String::as_str).collect()
}
