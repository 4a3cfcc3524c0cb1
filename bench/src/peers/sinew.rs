//! Sinew itself, of this workspace or of another build.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::Value;
use sinew_tests::gateway::{Gateway, NETWORK};
use sinew_tests::requirements::Bins;
use sinew_tests::sinewd::{NodeConfig, PORT};
use sinew_tests::tenant::{Workload, words};

use super::{Front, Overlay, Peer, THROUGH, WEB, WebServer};
use crate::stage::{Scenario, Stage};

/// What links are made of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Carrier {
    Udp,
    Tcp,
}

impl Carrier {
    const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

pub(crate) struct Sinew {
    name: String,
    carrier: Carrier,
    /// Folder of another build's binaries.
    folder: Option<PathBuf>,
    /// TOML for the end of the configuration.
    extra: String,
}

impl Sinew {
    /// A build of Sinew under a name of its own.
    pub(crate) fn new(name: &str, carrier: Carrier, folder: Option<&PathBuf>, extra: &str) -> Self {
        // On the command line a line break can be written as \n.
        let extra = format!("\n{}\n", extra.replace("\\n", "\n"));
        Self { name: name.to_owned(), carrier, folder: folder.cloned(), extra }
    }

    fn binaries(&self) -> Result<(PathBuf, PathBuf)> {
        let Some(folder) = &self.folder else {
            let bins = Bins::get()?;
            return Ok((bins.sinewd.clone(), bins.sinew.clone()));
        };
        let found = |name: &str| {
            let file = folder.join(name);
            std::fs::canonicalize(&file).with_context(|| file.display().to_string())
        };
        Ok((found("sinewd")?, found("sinew")?))
    }
}

impl Peer for Sinew {
    fn name(&self) -> &str {
        &self.name
    }

    fn programs(&self) -> &'static [&'static str] {
        &[]
    }

    fn origin(&self) -> String {
        match &self.folder {
            Some(folder) => folder.display().to_string(),
            None => "this workspace".into(),
        }
    }

    /// Another build's gateway is not started: its command may know other words.
    fn supports(&self, scenario: Scenario) -> bool {
        scenario != Scenario::Gateway || self.folder.is_none()
    }

    fn front(&self, _program: &Path, stage: &mut Stage, server: &WebServer) -> Result<Front> {
        stage.lab.via = self.carrier.name().into();
        let gateway = Gateway::run(&mut stage.lab, &self.extra)?;
        let lab = &mut stage.lab;
        let web = Workload::start(lab, "a", NETWORK, "web", &words(&server.argv))?;
        gateway.expose(lab, "web", &["--port", "80", "--name", "web"])?;
        gateway.expose(lab, "web", &["--port", "443", "--name", "thru", "--mode", "tls-passthrough"])?;
        gateway.reaches(lab, WEB)?;
        gateway.reaches(lab, THROUGH)?;
        let daemons = vec![lab.daemon("gw")?.process().pid(), lab.daemon("a")?.process().pid()];
        let _workloads = vec![web];
        Ok(Front { http: Some(443), through: Some(443), daemons, _running: Vec::new(), _workloads })
    }

    fn start(&self, _program: &Path, stage: &mut Stage) -> Result<Overlay> {
        let (sinewd, sinew) = self.binaries()?;
        let mut keys = Vec::new();
        for node in stage.nodes() {
            let file = stage.dir(node).join("node.key");
            let text = Stage::tool(&sinew, &["-o", "json", "key", "new", &file.to_string_lossy()])?;
            let key: Value = serde_json::from_str(&text).with_context(|| text.clone())?;
            keys.push((*node, key));
        }
        let field = |node: &str, name: &str| {
            let key = keys.iter().find(|(other, _)| *other == node).map(|(_, key)| key);
            key.and_then(|key| key.get(name)?.as_str()).unwrap_or_default().to_owned()
        };
        let via = self.carrier.name();
        let mut configs = Vec::new();
        for node in stage.nodes() {
            let mut config = NodeConfig::new(node, &stage.dir(node));
            for peer in stage.neighbours(node) {
                let (id, host) = (field(peer, "node_id"), stage.underlay(peer, node));
                config.peers.push((format!("sinew://{id}@{host}:{PORT}?via={via}"), 0));
            }
            config.extra.clone_from(&self.extra);
            config.write()?;
            configs.push((*node, config.file()));
        }
        let mut overlay = Overlay::new(field("b", "address").parse().context("B's mesh address")?);
        overlay.started = Instant::now();
        for (node, file) in configs {
            let daemon = stage.spawn(node, &sinewd, &["--config", &file.to_string_lossy()])?;
            overlay.daemons.push((node, daemon));
        }
        Ok(overlay)
    }
}
