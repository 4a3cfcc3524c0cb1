//! Containers on the machines of a lab: Debian's podman, which speaks CNI, with a busybox as root.
//!
//! Each machine has a podman of its own: storage, networks and runtime files lie in the lab's folder,
//! and it runs in the machine's network namespace. Only that: `ip netns exec` would also give it
//! mounts of its own, and the namespaces it pins would be gone with the command that made them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::lab::Lab;
use crate::process::{self, Output};
use crate::requirements::{Bins, CNI_PLUGINS, find_program};

/// How long a container may take to start, or to be removed.
const DEADLINE: Duration = Duration::from_secs(60);
/// What containers find in /bin.
const APPLETS: [&str; 10] = ["sh", "cat", "grep", "httpd", "ip", "nc", "nslookup", "ping", "sleep", "true"];

/// The containers of one machine; all are removed on drop.
#[derive(Debug)]
pub struct Podman {
    namespace: String,
    dir: PathBuf,
    socket: PathBuf,
}

impl Podman {
    /// Sets podman up on a machine of the lab.
    pub fn on(lab: &Lab, node: &str) -> Result<Self> {
        let dir = lab.dir().join(format!("{node}-podman"));
        let podman = Self {
            namespace: lab.ns(node).name().to_owned(),
            socket: lab.dir().join(node).join("sinew.sock"),
            dir,
        };
        for folder in ["networks", "plugins", "tmp"] {
            std::fs::create_dir_all(podman.dir.join(folder))?;
        }
        let plugin = &Bins::get()?.sinew_cni;
        let _ = std::fs::remove_file(podman.dir.join("plugins/sinew-cni"));
        std::os::unix::fs::symlink(plugin, podman.dir.join("plugins/sinew-cni"))
            .with_context(|| plugin.display().to_string())?;
        podman.rootfs()?;
        let d = podman.dir.display();
        // No limits beyond our own, and no systemd to ask for cgroups, in a test's container either.
        let conf = format!(
            "[engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\n\n\
             [containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=4096:4096\"]\nhttp_proxy = false\n\n\
             [network]\nnetwork_backend = \"cni\"\ncni_plugin_dirs = [\"{d}/plugins\", \"{CNI_PLUGINS}\"]\n\
             network_config_dir = \"{d}/networks\"\n"
        );
        std::fs::write(podman.dir.join("containers.conf"), conf)?;
        Ok(podman)
    }

    fn rootfs(&self) -> Result<()> {
        let root = self.dir.join("rootfs");
        for folder in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
            std::fs::create_dir_all(root.join(folder))?;
        }
        let busybox = find_program("busybox").context("busybox")?;
        std::fs::copy(busybox, root.join("bin/busybox"))?;
        for applet in APPLETS {
            let link = root.join("bin").join(applet);
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink("busybox", link)?;
        }
        Ok(())
    }

    /// Makes a network of our plugin alone; `more` are further keys, each with a comma before it.
    pub fn network(&self, name: &str, network: &str, more: &str) -> Result<()> {
        self.conflist(name, &self.plugin(network, more))
    }

    /// Makes a network of several plugins, as JSON objects with commas between them.
    pub fn conflist(&self, name: &str, plugins: &str) -> Result<()> {
        let text = format!(r#"{{"cniVersion": "1.0.0", "name": "{name}", "plugins": [{plugins}]}}"#);
        let file = self.dir.join("networks").join(format!("{name}.conflist"));
        std::fs::write(file, text).context("the lab's folder can be written")
    }

    /// Our plugin's entry in a list.
    pub fn plugin(&self, network: &str, more: &str) -> String {
        let socket = self.socket.display();
        format!(r#"{{"type": "sinew-cni", "network": "{network}", "socket": "{socket}"{more}}}"#)
    }

    /// A `podman` command line.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = process::command("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.namespace)).arg("podman");
        for (option, folder) in [("--root", "storage"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
            command.arg(option).arg(self.dir.join(folder));
        }
        command.env("CONTAINERS_CONF", self.dir.join("containers.conf")).args(args);
        command
    }

    /// Runs `podman` to its end; whatever its exit code.
    pub fn run(&self, args: &[&str]) -> Result<Output> {
        process::run(&mut self.command(args), DEADLINE)
    }

    /// Runs `podman`, which must succeed; what it printed.
    pub fn run_ok(&self, args: &[&str]) -> Result<String> {
        let output = self.run(args)?;
        if output.code != Some(0) {
            bail!("podman {}: exit {:?}: {}", args.join(" "), output.code, output.text());
        }
        Ok(output.stdout)
    }

    /// Starts a container on networks (`name` or `name:options`, several with commas) in the
    /// background.
    pub fn start(&self, name: &str, networks: &str, argv: &[&str]) -> Result<()> {
        let root = self.dir.join("rootfs").display().to_string();
        let head = ["run", "--detach", "--name", name, "--network", networks, "--rootfs", &root];
        self.run_ok(&[&head, argv].concat()).map(drop)
    }

    /// Runs a command in a container; whatever its exit code.
    pub fn exec(&self, name: &str, argv: &[&str]) -> Result<Output> {
        self.run(&[&["exec", name], argv].concat())
    }

    /// Runs a command in a container that must succeed; what it printed.
    pub fn exec_ok(&self, name: &str, argv: &[&str]) -> Result<String> {
        self.run_ok(&[&["exec", name], argv].concat())
    }

    /// Removes a container at once.
    pub fn remove(&self, name: &str) -> Result<()> {
        self.run_ok(&["rm", "--force", "--time", "0", name]).map(drop)
    }

    /// The file in which the runtime keeps a page for a container's web server.
    pub fn page(&self, name: &str, text: &str) -> Result<()> {
        let file: &Path = &self.dir.join("rootfs/tmp").join(name);
        std::fs::write(file, text).with_context(|| file.display().to_string())
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        if let Err(error) = self.run_ok(&["rm", "--force", "--all", "--time", "0"]) {
            eprintln!("containers on {} stay: {error:#}", self.namespace);
        }
    }
}
