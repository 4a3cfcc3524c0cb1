//! One real daemon: its configuration file, start, signals, kill and restart.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::ns::Namespace;
use crate::process::{self, Proc};
use crate::requirements::Bins;

/// Port of the labs' UDP and TCP listeners.
pub const PORT: u16 = 7463;

/// What goes into a node's configuration file.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Name for people.
    pub name: String,
    /// `router` or `stub`.
    pub class: &'static str,
    /// Folder for key, state, socket and log.
    pub dir: PathBuf,
    /// Peer URIs, each with its `cost`.
    pub peers: Vec<(String, u32)>,
    /// `[listen]` section without its heading.
    pub listen: String,
    /// Value of `[tun] inbound`, as TOML.
    pub inbound: String,
    /// Whether the node looks for others by itself; most labs are about those that are configured.
    pub finds: bool,
    /// More TOML, appended as it stands.
    pub extra: String,
    /// Environment of the daemon, beside the lab's own.
    pub env: Vec<(String, String)>,
    /// What the daemon sees as a file of the machine: our file, and over which. It then has a mount namespace of
    /// its own, so that what it mounts is seen by nobody else.
    pub overlaid: Option<(PathBuf, &'static str)>,
}

impl NodeConfig {
    /// A router that listens on UDP and TCP and lets the mesh in.
    pub fn new(name: &str, dir: &Path) -> Self {
        Self {
            name: name.to_owned(),
            class: "router",
            dir: dir.to_owned(),
            peers: Vec::new(),
            listen: format!("udp = [\"0.0.0.0:{PORT}\"]\ntcp = [\"0.0.0.0:{PORT}\"]\n"),
            inbound: "\"all\"".into(),
            finds: false,
            extra: String::new(),
            env: Vec::new(),
            overlaid: None,
        }
    }

    /// The key file.
    pub fn key_file(&self) -> PathBuf {
        self.dir.join("node.key")
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("sinew.sock")
    }

    /// The configuration file: in a folder of its own, as on a real host, so that what the daemon may
    /// write there is no right to the folder of its sockets.
    pub fn file(&self) -> PathBuf {
        self.dir.join("etc/sinewd.toml")
    }

    /// The daemon's log.
    pub fn log(&self) -> PathBuf {
        self.dir.join("sinewd.log")
    }

    /// The file's text.
    pub fn toml(&self) -> String {
        let dir = self.dir.display();
        let mut text = format!(
            "[node]\nkey_file = \"{dir}/node.key\"\nname = \"{}\"\nstate_dir = \"{dir}/state\"\nclass = \"{}\"\n\n\
             [listen]\n{}\n[tun]\nname = \"sinew0\"\ninbound = {}\n\n[control]\nsocket = \"{dir}/sinew.sock\"\n",
            self.name, self.class, self.listen, self.inbound
        );
        if !self.finds {
            text.push_str("\n[discovery]\nlan = false\n\n[peering]\ntarget = 0\n");
        }
        for (uri, cost) in &self.peers {
            let _ = write!(text, "\n[[peer]]\nuri = \"{uri}\"\n");
            if *cost != 0 {
                let _ = writeln!(text, "cost = {cost}");
            }
        }
        text.push_str(&self.extra);
        text
    }

    /// Writes the file.
    pub fn write(&self) -> Result<()> {
        std::fs::create_dir_all(self.dir.join("etc"))?;
        std::fs::write(self.file(), self.toml()).with_context(|| self.file().display().to_string())
    }
}

/// What `sinew key` tells about a key file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeKey {
    /// The public key as text.
    pub node_id: String,
    /// The mesh address.
    pub address: String,
}

/// Makes a key with `sinew key new`.
pub fn new_key(file: &Path) -> Result<NodeKey> {
    key_command("new", file)
}

/// Reads a key with `sinew key show`.
pub fn show_key(file: &Path) -> Result<NodeKey> {
    key_command("show", file)
}

fn key_command(verb: &str, file: &Path) -> Result<NodeKey> {
    let mut command = process::command(&Bins::get()?.sinew.to_string_lossy());
    command.args(["-o", "json", "key", verb]).arg(file);
    let text = process::run_ok(&mut command, Duration::from_secs(20))?;
    let value: serde_json::Value = serde_json::from_str(&text).with_context(|| text.clone())?;
    let field = |key| crate::cli::text(&value, key).to_owned();
    Ok(NodeKey { node_id: field("node_id"), address: field("address") })
}

/// A running `sinewd`.
#[derive(Debug)]
pub struct Sinewd {
    proc: Proc,
}

impl Sinewd {
    /// Writes the configuration and starts the daemon in `ns`.
    pub fn start(ns: &Namespace, config: &NodeConfig) -> Result<Self> {
        config.write()?;
        let sinewd = Bins::get()?.sinewd.to_string_lossy();
        let mut command = match &config.overlaid {
            None => ns.daemon_command(&sinewd),
            Some((file, over)) => {
                let mut command = ns.daemon_command("unshare");
                let bind = "mount --bind \"$1\" \"$2\" && shift 2 && exec \"$@\"";
                command.args(["--mount", "sh", "-c", bind, "sh"]).arg(file).args([over, &*sinewd]);
                command
            }
        };
        command.arg("--config").arg(config.file());
        command.envs(config.env.iter().map(|(name, value)| (name, value)));
        Ok(Self { proc: Proc::spawn(&mut command, &config.log())? })
    }

    /// The process.
    pub fn process(&mut self) -> &mut Proc {
        &mut self.proc
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.proc.kill();
    }

    /// SIGTERM; the exit code.
    pub fn stop(&mut self) -> Result<Option<i32>> {
        self.proc.signal(Signal::SIGTERM)?;
        self.proc.wait(Duration::from_secs(15))
    }

    /// SIGHUP.
    pub fn reload(&self) -> Result<()> {
        self.proc.signal(Signal::SIGHUP)
    }

    /// Lets it outlive this process.
    pub fn keep(&mut self) {
        self.proc.keep();
    }
}
