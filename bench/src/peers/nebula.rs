//! `nebula`: certificates from an authority of our own; relayed, R is lighthouse and relay.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use sinew_tests::requirements::find_program;

use super::{Overlay, Peer};
use crate::stage::{Scenario, Stage};

pub(crate) struct Nebula;

const PORT: u16 = 4242;

impl Peer for Nebula {
    fn name(&self) -> &str {
        "nebula"
    }

    fn programs(&self) -> &'static [&'static str] {
        &["nebula"]
    }

    fn version_args(&self) -> &'static [&'static str] {
        &["-version"]
    }

    fn start(&self, program: &Path, stage: &mut Stage) -> Result<Overlay> {
        let cert = cert_program(program)?;
        let file = |name: &str| stage.lab.dir().join(name).display().to_string();
        let (ca_crt, ca_key) = (file("ca.crt"), file("ca.key"));
        Stage::tool(&cert, &["ca", "-name", "bench", "-out-crt", &ca_crt, "-out-key", &ca_key])?;
        for node in stage.nodes() {
            let (ip, dir) = (format!("{}/24", inner(node)), stage.dir(node));
            let (crt, key) = (dir.join("host.crt"), dir.join("host.key"));
            Stage::tool(
                &cert,
                &[
                    "sign",
                    "-ca-crt",
                    &ca_crt,
                    "-ca-key",
                    &ca_key,
                    "-name",
                    node,
                    "-ip",
                    &ip,
                    "-out-crt",
                    &crt.to_string_lossy(),
                    "-out-key",
                    &key.to_string_lossy(),
                ],
            )?;
            std::fs::write(dir.join("nebula.yml"), config(stage, node, &ca_crt))?;
        }
        let mut overlay = Overlay::new(inner("b"));
        overlay.started = Instant::now();
        for node in stage.nodes() {
            let config = stage.dir(node).join("nebula.yml");
            let daemon = stage.spawn(node, program, &["-config", &config.to_string_lossy()])?;
            overlay.daemons.push((node, daemon));
        }
        Ok(overlay)
    }
}

fn cert_program(program: &Path) -> Result<PathBuf> {
    let beside = program.with_file_name("nebula-cert");
    if beside.is_file() {
        return Ok(beside);
    }
    find_program("nebula-cert").context("nebula-cert is neither beside nebula nor on the PATH")
}

fn inner(node: &str) -> IpAddr {
    let host = match node {
        "a" => 1,
        "b" => 2,
        _ => 3,
    };
    IpAddr::V4(Ipv4Addr::new(10, 98, 0, host))
}

fn config(stage: &Stage, node: &str, ca: &str) -> String {
    let dir = stage.dir(node).display().to_string();
    let hosts: String = stage
        .neighbours(node)
        .into_iter()
        .map(|peer| format!("  \"{}\": [\"{}:{PORT}\"]\n", inner(peer), stage.underlay(peer, node)))
        .collect();
    let (lighthouse, relay) = match (stage.scenario, node) {
        (Scenario::Pair | Scenario::Gateway, _) => {
            ("am_lighthouse: false".to_owned(), "use_relays: false".to_owned())
        }
        (Scenario::Relay, "r") => ("am_lighthouse: true".to_owned(), "am_relay: true".to_owned()),
        (Scenario::Relay, _) => (
            format!("hosts: [\"{}\"]", inner("r")),
            format!("use_relays: true\n  relays: [\"{}\"]", inner("r")),
        ),
    };
    format!(
        "pki:\n  ca: {ca}\n  cert: {dir}/host.crt\n  key: {dir}/host.key\n\
         static_host_map:\n{hosts}lighthouse:\n  {lighthouse}\nrelay:\n  {relay}\n\
         listen:\n  host: 0.0.0.0\n  port: {PORT}\ntun:\n  dev: nebula0\n  mtu: 1300\n\
         logging:\n  level: warning\nfirewall:\n  outbound: [{{port: any, proto: any, host: any}}]\n  \
         inbound: [{{port: any, proto: any, host: any}}]\n"
    )
}
