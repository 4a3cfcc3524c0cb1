//! A gateway's daemon with a backend's node behind it, and the client outside.
//!
//! ```text
//!   client ───── gw ───── a   workloads of network "shop"
//!   no daemon    [gateway]
//! ```
//! gw is no member of the network. Its certificate covers every name below its domain.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::front::Pair;
use crate::lab::Lab;
use crate::process;
use crate::tenant::{self, SOON};
use crate::wait;

/// Names are given out below it.
pub const DOMAIN: &str = "gw.test";
/// The network of the workloads.
pub const NETWORK: &str = "shop";

/// What a client needs to know.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// Where clients find it.
    pub address: String,
    /// Its certificate, which clients trust.
    pub trust: Pair,
}

impl Gateway {
    /// Builds the machines, starts the daemons and makes the network; `more` is added to `[gateway]`.
    pub fn start(lab: &mut Lab, more: &str) -> Result<Self> {
        lab.line(&["client", "gw", "a"])?;
        Self::run(lab, more)
    }

    /// As [`Gateway::start`], on machines that are there.
    pub fn run(lab: &mut Lab, more: &str) -> Result<Self> {
        Self::run_behind(lab, "client", more)
    }

    /// As [`Gateway::run`], where clients come by this machine.
    pub fn run_behind(lab: &mut Lab, neighbour: &str, more: &str) -> Result<Self> {
        lab.peer("a", "gw")?;
        let trust = Pair::make(lab.dir(), "gw", &[&format!("*.{DOMAIN}")])?;
        lab.config("gw").extra = format!(
            "\n[gateway]\ndomain = \"{DOMAIN}\"\nhttps = [\"0.0.0.0:443\", \"[::]:443\"]\n\
             http = [\"0.0.0.0:80\", \"[::]:80\"]\n\
             log = \"{}/access.log\"\ncertificates = [{{ certificate = {:?}, key = {:?} }}]\n{more}\n",
            lab.dir().join("gwlog").display(),
            trust.chain,
            trust.key,
        );
        lab.start_all()?;
        lab.wait_mesh()?;
        tenant::network(lab, NETWORK, "10.20.0.0/16", "a", &[])?;
        Ok(Self { address: lab.underlay("gw", neighbour), trust })
    }

    /// `sinew expose` on the workload's node; served when it returns.
    pub fn expose(&self, lab: &Lab, workload: &str, options: &[&str]) -> Result<Value> {
        let gateway = lab.key("gw")?.node_id;
        let args = ["expose", workload, "--network", NETWORK, "--via", &gateway];
        let said = lab.cli("a").run_json(&[&args[..], options].concat())?;
        ensure!(said.code == Some(0), "{:?} {}", said.code, said.text());
        serde_json::from_str(&said.stdout).with_context(|| said.text())
    }

    /// Waits until the gateway reaches every backend of a host, and counts it as well. Until it was asked it
    /// counts as well, too, so whether it listens comes first.
    pub fn reaches(&self, lab: &Lab, host: &str) -> Result<()> {
        wait::until(&format!("{host} is reached"), SOON, || {
            let probed = lab.cli("gw").json(&["gateway", "probe", host]).unwrap_or_default();
            let probes = probed["probes"].as_array().cloned().unwrap_or_default();
            !probes.is_empty() && probes.iter().all(|probe| probe["connect_ms"].is_number())
        })?;
        wait::until(&format!("{host} is well"), SOON, || {
            let listed = lab.cli("gw").json(&["gateway", "ls"]).unwrap_or_default();
            let services = listed["services"].as_array().cloned().unwrap_or_default();
            let of_host = services.iter().filter(|service| service["host"] == host);
            let mut backends = of_host.flat_map(|service| service["backends"].as_array().cloned()).flatten();
            !services.is_empty() && backends.all(|backend| backend["healthy"] == true)
        })
    }

    /// A command of the client that finds the gateway behind these names, by a file of hosts of its own.
    pub fn client(&self, lab: &Lab, hosts: &[&str], program: &str) -> Result<Command> {
        let file = lab.dir().join("hosts");
        let line = format!("127.0.0.1 localhost\n{} {}\n", self.address, hosts.join(" "));
        std::fs::write(&file, line)?;
        let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
        let mut command = lab.ns("client").command("unshare");
        command.args(["--mount", "sh", "-c", script]).arg(&file).arg(program);
        Ok(command)
    }

    /// curl of the client to its end; what it printed.
    pub fn curl(&self, lab: &Lab, trust: &Path, args: &[&str]) -> Result<String> {
        let hosts: Vec<_> = args.iter().filter_map(|arg| host_of(arg)).collect();
        let mut command = self.client(lab, &hosts, "curl")?;
        command.args(["-sS", "--max-time", "50", "--cacert"]).arg(trust);
        process::run_ok(command.args(args), Duration::from_secs(60))
    }

    /// What the access log says of requests, a value each.
    pub fn requests(&self, lab: &Lab) -> Vec<Value> {
        let text = process::read_lossy(&lab.dir().join("gwlog/access.log"));
        let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok());
        lines.filter(|line: &Value| line["kind"] == "request").collect()
    }
}

/// The host of a URL.
fn host_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    rest.split(['/', ':']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_from_urls_alone() {
        assert_eq!(host_of("https://app.gw.test/x"), Some("app.gw.test"));
        assert_eq!(host_of("http://app.gw.test:80"), Some("app.gw.test"));
        assert_eq!(host_of("--http2"), None);
    }
}
