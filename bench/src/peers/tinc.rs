//! `tincd` 1.0: RSA keys, default ciphers, router mode; relayed, R forwards for A and B.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use super::{Overlay, Peer};
use crate::stage::Stage;

pub(crate) struct Tinc;

impl Peer for Tinc {
    fn name(&self) -> &str {
        "tincd"
    }

    fn programs(&self) -> &'static [&'static str] {
        &["tincd"]
    }

    fn start(&self, program: &Path, stage: &mut Stage) -> Result<Overlay> {
        for node in stage.nodes() {
            configure(program, stage, node)?;
        }
        // Everybody has everybody's public key.
        for node in stage.nodes() {
            let text = std::fs::read(stage.dir(node).join("hosts").join(node))?;
            for other in stage.nodes().iter().filter(|other| *other != node) {
                std::fs::write(stage.dir(other).join("hosts").join(node), &text)?;
            }
        }
        let mut overlay = Overlay::new(inner("b"));
        overlay.started = Instant::now();
        for node in stage.nodes() {
            let dir = stage.dir(node);
            let (config, pid) = (format!("--config={}", dir.display()), dir.join("tinc.pid"));
            let pid = format!("--pidfile={}", pid.display());
            overlay.daemons.push((node, stage.spawn(node, program, &[&config, "-D", &pid])?));
        }
        Ok(overlay)
    }
}

fn configure(program: &Path, stage: &Stage, node: &str) -> Result<()> {
    let dir = stage.dir(node);
    std::fs::create_dir_all(dir.join("hosts"))?;
    let mut conf = format!("Name = {node}\nInterface = tinc0\nAddressFamily = ipv4\nMode = router\n");
    for peer in stage.neighbours(node) {
        let _ = writeln!(conf, "ConnectTo = {peer}");
    }
    std::fs::write(dir.join("tinc.conf"), conf)?;
    let address = stage.neighbours(node).first().map(|peer| stage.underlay(node, peer)).unwrap_or_default();
    // R has an address on each link; both its neighbours must find theirs.
    let second =
        stage.neighbours(node).get(1).map(|peer| format!("Address = {}\n", stage.underlay(node, peer)));
    let host = format!("Address = {address}\n{}Subnet = {}/32\n", second.unwrap_or_default(), inner(node));
    std::fs::write(dir.join("hosts").join(node), host)?;
    let up = dir.join("tinc-up");
    let script = format!(
        "#!/bin/sh\nip link set \"$INTERFACE\" mtu 1400 up\nip addr add {}/24 dev \"$INTERFACE\"\n",
        inner(node)
    );
    std::fs::write(&up, script)?;
    std::fs::set_permissions(&up, std::fs::Permissions::from_mode(0o755))?;
    Stage::tool(program, &[&format!("--config={}", dir.display()), "-K2048"]).map(|_| ())
}

fn inner(node: &str) -> IpAddr {
    let host = match node {
        "a" => 1,
        "b" => 2,
        _ => 3,
    };
    IpAddr::V4(Ipv4Addr::new(10, 97, 0, host))
}
