//! `yggdrasil`: links over TCP, everything else as its `-genconf` has it.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Overlay, Peer};
use crate::stage::Stage;

pub(crate) struct Yggdrasil;

const PORT: u16 = 9001;

impl Peer for Yggdrasil {
    fn name(&self) -> &str {
        "yggdrasil"
    }

    fn programs(&self) -> &'static [&'static str] {
        &["yggdrasil"]
    }

    fn version_args(&self) -> &'static [&'static str] {
        &["-version"]
    }

    fn start(&self, program: &Path, stage: &mut Stage) -> Result<Overlay> {
        for node in stage.nodes() {
            let text = Stage::tool(program, &["-genconf", "-json"])?;
            let mut config: Value = serde_json::from_str(&text).context("-genconf gave no JSON")?;
            config["MulticastInterfaces"] = json!([]);
            config["AdminListen"] = json!("none");
            config["IfName"] = json!("ygg0");
            config["Listen"] = json!([format!("tcp://0.0.0.0:{PORT}")]);
            config["Peers"] = json!(stage.dialled(node, PORT));
            std::fs::write(stage.dir(node).join("yggdrasil.conf"), config.to_string())?;
        }
        let file = |node: &str| stage.dir(node).join("yggdrasil.conf").display().to_string();
        let address = Stage::tool(program, &["-useconffile", &file("b"), "-address"])?;
        let mut overlay = Overlay::new(address.trim().parse().context("B's address")?);
        overlay.started = Instant::now();
        // Who is dialled comes first, so that no start waits for a second try.
        for node in stage.nodes().iter().rev() {
            let args = ["-useconffile", &file(node), "-loglevel", "warn"];
            overlay.daemons.push((node, stage.spawn(node, program, &args)?));
        }
        Ok(overlay)
    }
}
