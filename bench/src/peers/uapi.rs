//! What all userspace WireGuards share, which is all but their names and arguments: keys, addresses,
//! and configuration over their control socket.
//!
//! The socket speaks lines of `key=value` and stands in one folder for all namespaces, so
//! interface names carry the process id of the run.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sinew_tests::wait;
use x25519_dalek::{PublicKey, StaticSecret};

use super::{Overlay, Peer};
use crate::cleanup::{UAPI, interface_prefix};
use crate::stage::{self, Scenario, Stage};

const PORT: u16 = 51820;
/// WireGuard's own choice for a 1500-byte underlay.
const MTU: u32 = 1420;
const START: Duration = Duration::from_secs(10);

/// A userspace WireGuard.
pub(super) struct Wireguard {
    pub(super) name: &'static str,
    pub(super) programs: &'static [&'static str],
    /// Its arguments, in which `IF` stands for the interface.
    pub(super) args: &'static [&'static str],
}

impl Peer for Wireguard {
    fn name(&self) -> &str {
        self.name
    }

    fn programs(&self) -> &'static [&'static str] {
        self.programs
    }

    /// WireGuard relays nothing by itself: R's kernel would have to.
    fn supports(&self, scenario: Scenario) -> bool {
        scenario == Scenario::Pair
    }

    fn start(&self, program: &Path, stage: &mut Stage) -> Result<Overlay> {
        start(program, self.args, stage)
    }
}

/// Starts `program` with `args` on A and B, and joins them.
fn start(program: &Path, args: &[&str], stage: &Stage) -> Result<Overlay> {
    let keys = [secret()?, secret()?];
    let nodes = ["a", "b"];
    let inner = [1, 2].map(|host| IpAddr::V4(Ipv4Addr::new(10, 99, 0, host)));
    std::fs::create_dir_all(UAPI).with_context(|| UAPI.to_owned())?;
    let mut overlay = Overlay::new(inner[1]);
    overlay.started = Instant::now();
    for node in nodes {
        let name = interface(node);
        let args: Vec<_> = args.iter().map(|word| if *word == "IF" { name.as_str() } else { word }).collect();
        overlay.daemons.push((node, stage.spawn(node, program, &args)?));
    }
    for (at, node) in nodes.iter().enumerate() {
        let other = 1 - at;
        let endpoint = format!("{}:{PORT}", stage.underlay(nodes[other], node));
        let text = settings(&keys[at], &PublicKey::from(&keys[other]), &endpoint, inner[other]);
        let name = interface(node);
        let (_, daemon) = &mut overlay.daemons[at];
        let mut stream = wait::success(&format!("{name}'s control socket"), START, || {
            if !daemon.running() {
                bail!("ended: {}", daemon.log());
            }
            Ok(UnixStream::connect(socket(&name))?)
        })?;
        send(&mut stream, &text)?;
        stage::address(stage.ns(node), &name, inner[at], 24, MTU)?;
    }
    Ok(overlay)
}

fn interface(node: &str) -> String {
    format!("{}{node}", interface_prefix())
}

fn socket(interface: &str) -> PathBuf {
    Path::new(UAPI).join(format!("{interface}.sock"))
}

fn secret() -> Result<StaticSecret> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    Ok(StaticSecret::from(bytes))
}

fn settings(own: &StaticSecret, peer: &PublicKey, endpoint: &str, inner: IpAddr) -> String {
    format!(
        "set=1\nprivate_key={}\nlisten_port={PORT}\nreplace_peers=true\npublic_key={}\nendpoint={endpoint}\n\
         replace_allowed_ips=true\nallowed_ip={inner}/32\n\n",
        hex(&own.to_bytes()),
        hex(peer.as_bytes()),
    )
}

fn send(stream: &mut UnixStream, text: &str) -> Result<()> {
    stream.set_read_timeout(Some(START))?;
    stream.write_all(text.as_bytes())?;
    for line in BufReader::new(stream).lines() {
        match line?.as_str() {
            "errno=0" => return Ok(()),
            line if line.starts_with("errno=") => bail!("the daemon refused its configuration: {line}"),
            _ => {}
        }
    }
    bail!("the daemon hung up on its configuration")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_lines_that_end_with_an_empty_one() {
        let key = StaticSecret::from([1; 32]);
        let text = settings(&key, &PublicKey::from(&key), "10.77.0.2:51820", Ipv4Addr::LOCALHOST.into());
        assert!(text.starts_with("set=1\nprivate_key=0101") && text.ends_with("allowed_ip=127.0.0.1/32\n\n"));
        assert!(text.lines().all(|line| line.is_empty() || line.contains('=')));
    }

    #[test]
    fn an_interface_name_fits_the_kernel() {
        assert!(interface("a").len() <= 15);
    }
}
