//! `mycelium`: links over TCP (over QUIC it loses full-size packets on a 1500-byte link).

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Overlay, Peer};
use crate::stage::Stage;

pub(crate) struct Mycelium;

const PORT: u16 = 9651;

impl Peer for Mycelium {
    fn name(&self) -> &str {
        "mycelium"
    }

    fn programs(&self) -> &'static [&'static str] {
        &["mycelium"]
    }

    fn start(&self, program: &Path, stage: &mut Stage) -> Result<Overlay> {
        for node in stage.nodes() {
            let mut key = [0; 32];
            getrandom::fill(&mut key).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
            let file = stage.dir(node).join("priv_key.bin");
            let mut options = std::fs::OpenOptions::new();
            options.write(true).create_new(true).mode(0o600).open(file)?.write_all(&key)?;
        }
        let key = |node: &str| stage.dir(node).join("priv_key.bin").display().to_string();
        let text = Stage::tool(program, &["--key-file", &key("b"), "inspect", "--json"])?;
        let inspected: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
        let address = inspected.get("address").and_then(Value::as_str).context("B's address")?;
        let mut overlay = Overlay::new(address.parse().context("B's address")?);
        overlay.started = Instant::now();
        // Who is dialled comes first: a failed dial is tried again only after 5 s.
        for node in stage.nodes().iter().rev() {
            let (key, port) = (key(node), PORT.to_string());
            let mut args = vec![
                "--key-file",
                &key,
                "--tcp-listen-port",
                &port,
                "--disable-quic",
                "--disable-peer-discovery",
                "--silent",
                "--tun-name",
                "myc0",
            ];
            let peers = stage.dialled(node, PORT);
            if !peers.is_empty() {
                args.push("--peers");
                args.extend(peers.iter().map(String::as_str));
            }
            overlay.daemons.push((node, stage.spawn(node, program, &args)?));
        }
        Ok(overlay)
    }
}
