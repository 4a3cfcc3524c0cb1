//! A certificate authority for labs: Debian's pebble, and unbound as the resolver it asks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::lab::Lab;
use crate::process::{self, Proc};
use crate::wait;

const DEADLINE: Duration = Duration::from_secs(60);

/// What an authority is like.
#[derive(Clone, Copy, Debug)]
pub struct Temper {
    /// How long its certificates are good, seconds.
    pub validity: u32,
    /// Good nonces that it refuses, of a hundred.
    pub nonce_reject: u32,
}

impl Default for Temper {
    fn default() -> Self {
        Self { validity: 90 * 86_400, nonce_reject: 5 }
    }
}

/// A running authority with its resolver, on a node of a lab.
#[derive(Debug)]
pub struct Authority {
    node: String,
    folder: PathBuf,
    address: String,
    temper: Temper,
    /// Beside the zone `lab.`.
    records: Vec<String>,
    pebble: Option<Proc>,
    unbound: Option<Proc>,
}

impl Authority {
    /// Starts it on `node`. Hosts lead to `gateway`; what is below `_acme-challenge.` of `delegated` is
    /// asked of port 53 there.
    pub fn start(lab: &Lab, node: &str, gateway: &str, temper: Temper, delegated: &[&str]) -> Result<Self> {
        let folder = lab.dir().join("authority");
        std::fs::create_dir_all(&folder)?;
        let address = lab.underlay(node, gateway);
        own_certificate(&folder, &address)?;
        let mut authority = Self {
            node: node.to_owned(),
            folder,
            address,
            temper,
            records: Vec::new(),
            pebble: None,
            unbound: None,
        };
        let gateway = lab.underlay(gateway, node);
        authority.resolve(lab, &gateway, &gateway, delegated)?;
        authority.revive(lab)?;
        Ok(authority)
    }

    /// Where its resolver can be asked.
    pub fn resolver(&self) -> String {
        format!("{}:53", self.address)
    }

    /// Has the resolver know these records from the next [`Authority::resolve`] on, each as a zone file has it.
    pub fn know(&mut self, records: &[&str]) {
        self.records = records.iter().map(|&record| record.to_owned()).collect();
    }

    /// Its directory.
    pub fn directory(&self) -> String {
        format!("https://{}:14000/dir", self.address)
    }

    /// PEM file of the root by which the directory itself is known.
    pub fn own_root(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Has unbound lead every host of `lab.` to `host`, and `_acme-challenge.` of `delegated` to the name
    /// server at `server`; with nothing remembered.
    pub fn resolve(&mut self, lab: &Lab, host: &str, server: &str, delegated: &[&str]) -> Result<()> {
        let mut config = format!(
            "server:\n interface: 127.0.0.1\n interface: {}\n access-control: 0.0.0.0/0 allow\n do-daemonize: no\n chroot: \"\"\n username: \"\"\n pidfile: \"\"\n \
             directory: \"{}\"\n use-syslog: no\n module-config: \"iterator\"\n do-not-query-localhost: no\n \
             qname-minimisation: yes\n cache-max-negative-ttl: 1\n local-zone: \"lab.\" redirect\n \
             local-data: \"lab. 1 A {host}\"\n",
            self.address,
            self.folder.display()
        );
        for record in &self.records {
            config += &format!(" local-data: '{record}'\n");
        }
        for name in delegated {
            config += &format!(" local-zone: \"_acme-challenge.{name}.\" transparent\n");
        }
        for name in delegated {
            config += &format!("stub-zone:\n name: \"_acme-challenge.{name}.\"\n stub-addr: {server}\n");
        }
        config += "remote-control:\n control-enable: no\n";
        let file = self.folder.join("unbound.conf");
        std::fs::write(&file, config)?;
        // The old one first: it has the port.
        self.unbound = None;
        let ns = lab.ns(&self.node);
        let mut command = ns.command("unbound");
        self.unbound =
            Some(Proc::spawn(command.arg("-d").arg("-c").arg(&file), &self.folder.join("unbound.log"))?);
        let asks = || {
            process::run_ok(ns.command("dig").args(["+short", "+time=1", "@127.0.0.1", "x.lab"]), DEADLINE)
        };
        wait::until("unbound answers", DEADLINE, || asks().is_ok_and(|said| said.trim() == host))
    }

    /// Starts pebble; after a stop it has forgotten every account, and its roots are new.
    pub fn revive(&mut self, lab: &Lab) -> Result<()> {
        let config = format!(
            "{{\"pebble\":{{\"listenAddress\":\"{0}:14000\",\"managementListenAddress\":\"127.0.0.1:15000\",\
             \"certificate\":\"{1}/leaf.pem\",\"privateKey\":\"{1}/leaf.key\",\"httpPort\":80,\"tlsPort\":443,\
             \"ocspResponderURL\":\"\",\"externalAccountBindingRequired\":false,\
             \"certificateValidityPeriod\":{2}}}}}",
            self.address,
            self.folder.display(),
            self.temper.validity
        );
        let file = self.folder.join("pebble.json");
        std::fs::write(&file, config)?;
        let ns = lab.ns(&self.node);
        let mut command = ns.command("pebble");
        command.arg("-config").arg(&file).args(["-dnsserver", "127.0.0.1:53"]);
        command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_AUTHZREUSE", "0");
        command.env("PEBBLE_WFE_NONCEREJECT", self.temper.nonce_reject.to_string());
        self.pebble = Some(Proc::spawn(&mut command, &self.folder.join("pebble.log"))?);
        wait::until("pebble listens", DEADLINE, || ns.listens(14000) && ns.listens(15000))
    }

    /// Ends pebble.
    pub fn stop(&mut self) -> Result<()> {
        let mut pebble = self.pebble.take().context("it does not run")?;
        pebble.signal(Signal::SIGTERM)?;
        pebble.wait(DEADLINE).map(drop)
    }

    /// The root of the certificates that it gives now, as a PEM file.
    pub fn root(&self, lab: &Lab) -> Result<PathBuf> {
        let file = self.folder.join("root.pem");
        let mut command = lab.ns(&self.node).command("curl");
        command.args(["-sSf", "--cacert"]).arg(self.own_root()).arg("-o").arg(&file);
        // Pebble shows the same certificate on both ports, and the address in it is the outer one.
        command.args(["--connect-to", &format!("{}:15000:127.0.0.1:15000", self.address)]);
        process::run_ok(command.arg(format!("https://{}:15000/roots/0", self.address)), DEADLINE)?;
        Ok(file)
    }

    /// What pebble wrote since it was first started.
    pub fn log(&self) -> String {
        process::read_lossy(&self.folder.join("pebble.log"))
    }

    /// Orders that were placed since its first start.
    pub fn orders(&self) -> usize {
        self.log().matches(" orders in the db").count()
    }
}

/// The certificate of the directory itself: an authority and a leaf, as one that signs itself is refused.
fn own_certificate(folder: &Path, address: &str) -> Result<()> {
    let file = |name: &str| folder.join(name).display().to_string();
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"];
    let mut ca = process::command("openssl");
    ca.args(["req", "-x509"]).args(key).args(["-subj", "/CN=directory", "-keyout", &file("ca.key")]);
    process::run_ok(ca.args(["-out", &file("ca.pem")]), DEADLINE)?;
    let mut leaf = process::command("openssl");
    leaf.args(["req", "-x509"]).args(key).args(["-subj", "/CN=leaf", "-keyout", &file("leaf.key")]);
    leaf.args(["-CA", &file("ca.pem"), "-CAkey", &file("ca.key"), "-out", &file("leaf.pem")]);
    leaf.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    leaf.arg("-addext").arg(format!("subjectAltName=IP:{address}"));
    process::run_ok(&mut leaf, DEADLINE).map(drop)
}
