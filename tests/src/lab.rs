//! Topologies of real nodes: namespaces, links, keys, configurations, daemons.
//!
//! ```text
//!   Lab ── node "a" ── namespace sinewlab-PID-LAB-a ── interfaces to-b, to-c, … ── sinewd
//!      └── link a–b: veth, 10.77.LINK.1/24 on a's side, .2 on b's
//! ```
//! Nodes know each other only as their configuration says: one `[[peer]]` for each link.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cli::Cli;
use crate::impair::Faults;
use crate::ns::{self, End, LAB_FAMILY, Namespace};
use crate::process::read_lossy;
use crate::requirements::{in_ci, lab_obstacle};
use crate::sinewd::{NodeConfig, NodeKey, PORT, Sinewd, new_key, show_key};
use crate::wait;

/// How long a node or a small mesh may take to be ready.
pub const READY: Duration = Duration::from_secs(30);

/// Which ends of a link have the other as a configured peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dial {
    /// Both: whichever comes back first reconnects.
    Both,
    /// Only the end that was named first.
    First,
}

/// One machine of a lab.
#[derive(Debug)]
pub struct Node {
    /// Its namespace.
    pub ns: Namespace,
    /// Its configuration, for the next start.
    pub config: NodeConfig,
    key: OnceCell<NodeKey>,
    daemon: Option<Sinewd>,
}

#[derive(Debug)]
struct Link {
    ends: [String; 2],
    subnet: usize,
}

/// A set of machines joined by links; all of it is gone after drop.
#[derive(Debug)]
pub struct Lab {
    prefix: String,
    dir: PathBuf,
    nodes: BTreeMap<String, Node>,
    links: Vec<Link>,
    keep: bool,
    /// Value of `via=` in peer URIs.
    pub via: String,
    /// Daemons are meant to log errors here; otherwise an ERROR line fails the lab.
    pub errors_expected: bool,
}

/// Runs a lab as a test: says so and passes where labs cannot run (fails in CI), shows the
/// daemons' logs when `body` fails, and always cleans up.
pub fn run_lab(name: &str, body: impl FnOnce(&mut Lab) -> Result<()>) {
    if let Some(obstacle) = lab_obstacle() {
        assert!(!in_ci(), "lab {name} cannot run in CI: {obstacle}");
        eprintln!("SKIPPED lab {name}: {obstacle}");
        return;
    }
    ns::clean_stale(LAB_FAMILY);
    let mut lab = Lab::new(LAB_FAMILY, name).unwrap_or_else(|error| panic!("lab {name}: {error:#}"));
    let result = catch_unwind(AssertUnwindSafe(|| body(&mut lab).and_then(|()| lab.check_logs())));
    if !matches!(result, Ok(Ok(()))) {
        lab.print_logs();
    }
    drop(lab);
    match result {
        Ok(Ok(())) => {}
        Ok(Err(error)) => panic!("lab {name}: {error:#}"),
        Err(panic) => resume_unwind(panic),
    }
}

impl Lab {
    /// An empty lab whose namespaces are `<family>-<pid>-<number>-…`.
    pub fn new(family: &str, name: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{family}-{}-{name}{count}", std::process::id());
        let dir = std::env::temp_dir().join(&prefix);
        Self::at(prefix, dir)
    }

    /// An empty lab with a prefix and folder of the caller's choice.
    pub fn at(prefix: String, dir: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        Ok(Self {
            prefix,
            dir,
            nodes: BTreeMap::new(),
            links: Vec::new(),
            keep: false,
            via: "udp".into(),
            errors_expected: false,
        })
    }

    /// Lets namespaces, daemons and files outlive this process; call it before adding nodes.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// The lab's folder, removed with it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Adds a machine.
    pub fn node(&mut self, name: &str) -> Result<()> {
        let mut ns = Namespace::create(&format!("{}-{name}", self.prefix))?;
        if self.keep {
            ns.keep();
        }
        let dir = self.dir.join(name);
        std::fs::create_dir_all(&dir)?;
        let node = Node { ns, config: NodeConfig::new(name, &dir), key: OnceCell::new(), daemon: None };
        self.nodes.insert(name.to_owned(), node);
        Ok(())
    }

    /// Adds a link of MTU 1500 between two machines.
    pub fn link(&mut self, a: &str, b: &str) -> Result<()> {
        self.link_mtu(a, b, 1500)
    }

    /// Adds a link between two machines, `mtu` bytes at both ends.
    pub fn link_mtu(&mut self, a: &str, b: &str, mtu: u32) -> Result<()> {
        let subnet = self.links.len();
        let (at_a, at_b) = (format!("10.77.{subnet}.1/24"), format!("10.77.{subnet}.2/24"));
        let end_a = End { ns: &self.get(a).ns, interface: &interface(b), address: &at_a };
        let end_b = End { ns: &self.get(b).ns, interface: &interface(a), address: &at_b };
        ns::connect(end_a, end_b, mtu)?;
        self.links.push(Link { ends: [a.to_owned(), b.to_owned()], subnet });
        Ok(())
    }

    /// Machines in a row, each linked to the next.
    pub fn line(&mut self, names: &[&str]) -> Result<()> {
        for name in names {
            self.node(name)?;
        }
        names.windows(2).try_for_each(|pair| self.link(pair[0], pair[1]))
    }

    /// A row whose last is linked to the first.
    pub fn ring(&mut self, names: &[&str]) -> Result<()> {
        self.line(names)?;
        match names {
            [first, .., last] => self.link(last, first),
            _ => bail!("a ring needs two machines"),
        }
    }

    /// Leaves around a hub.
    pub fn star(&mut self, hub: &str, leaves: &[&str]) -> Result<()> {
        self.node(hub)?;
        for leaf in leaves {
            self.node(leaf)?;
            self.link(leaf, hub)?;
        }
        Ok(())
    }

    /// Makes the two ends of every link peers.
    pub fn peer_links(&mut self, dial: Dial) -> Result<()> {
        let pairs: Vec<_> = self.links.iter().map(|link| link.ends.clone()).collect();
        for [a, b] in &pairs {
            self.peer(a, b)?;
            if dial == Dial::Both {
                self.peer(b, a)?;
            }
        }
        Ok(())
    }

    /// Configures `of` as a peer of `at`, at its address on their common link.
    pub fn peer(&mut self, at: &str, of: &str) -> Result<()> {
        self.key(at)?;
        let uri = self.uri(of, &self.underlay(of, at))?;
        self.get_mut(at).config.peers.push((uri, 0));
        Ok(())
    }

    /// The URI of a node at an underlay address.
    pub fn uri(&self, of: &str, address: &str) -> Result<String> {
        let key = self.key(of)?;
        Ok(format!("sinew://{}@{address}:{PORT}?via={}", key.node_id, self.via))
    }

    /// Starts the daemons of all machines that have a key.
    pub fn start_all(&mut self) -> Result<()> {
        let keyed = self.nodes.iter().filter(|(_, node)| node.key.get().is_some());
        let names: Vec<_> = keyed.map(|(name, _)| name.clone()).collect();
        names.iter().try_for_each(|name| self.start(name))
    }

    /// Starts one daemon with the configuration as it stands.
    pub fn start(&mut self, name: &str) -> Result<()> {
        self.key(name)?;
        let node = self.get_mut(name);
        node.daemon = Some(Sinewd::start(&node.ns, &node.config)?);
        if node.ns.is_kept() {
            node.daemon.iter_mut().for_each(Sinewd::keep);
        }
        Ok(())
    }

    /// Waits until every running daemon is ready and knows a route to every other.
    pub fn wait_mesh(&mut self) -> Result<()> {
        let names: Vec<_> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.daemon.is_some())
            .map(|(name, _)| name.clone())
            .collect();
        for name in &names {
            self.wait_ready(name)?;
        }
        for from in &names {
            for to in names.iter().filter(|to| *to != from) {
                let target = self.address(to)?;
                self.cli(from).wait_reachable(&target, READY)?;
            }
        }
        Ok(())
    }

    /// Waits until `sinew status --check ready` succeeds on one node.
    pub fn wait_ready(&mut self, name: &str) -> Result<()> {
        wait::value(&format!("{name} ready"), READY, || {
            let node = self.get_mut(name);
            let ended = node.daemon.as_mut().is_none_or(|daemon| !daemon.process().running());
            if ended {
                return Some(Err(anyhow::anyhow!(
                    "sinewd on {name} ended:\n{}",
                    read_lossy(&node.config.log())
                )));
            }
            let ready = self.cli(name).run(&["status", "--check", "ready"]).ok()?;
            (ready.code == Some(0)).then_some(Ok(()))
        })?
    }

    /// Kills a daemon with signal 9.
    pub fn kill(&mut self, name: &str) {
        if let Some(mut daemon) = self.get_mut(name).daemon.take() {
            daemon.kill();
        }
    }

    /// Stops a daemon cleanly; its exit code.
    pub fn stop(&mut self, name: &str) -> Result<Option<i32>> {
        let mut daemon = self.get_mut(name).daemon.take().with_context(|| format!("{name} does not run"))?;
        daemon.stop()
    }

    /// The running daemon of a machine.
    pub fn daemon(&mut self, name: &str) -> Result<&mut Sinewd> {
        self.get_mut(name).daemon.as_mut().with_context(|| format!("{name} does not run"))
    }

    /// The `sinew` command on a machine.
    pub fn cli(&self, name: &str) -> Cli<'_> {
        let node = self.get(name);
        Cli::new(&node.ns, node.config.socket())
    }

    /// The namespace of a machine.
    pub fn ns(&self, name: &str) -> &Namespace {
        &self.get(name).ns
    }

    /// The configuration of a machine, to change before the next start or reload.
    pub fn config(&mut self, name: &str) -> &mut NodeConfig {
        &mut self.get_mut(name).config
    }

    /// Key of a node, made on first use.
    pub fn key(&self, name: &str) -> Result<NodeKey> {
        let node = self.get(name);
        if let Some(key) = node.key.get() {
            return Ok(key.clone());
        }
        let key = new_key(&node.config.key_file())?;
        Ok(node.key.get_or_init(|| key).clone())
    }

    /// Takes the key file that lies in a node's folder as its key.
    pub fn adopt_key(&mut self, name: &str) -> Result<()> {
        let node = self.get_mut(name);
        node.key = OnceCell::from(show_key(&node.config.key_file())?);
        Ok(())
    }

    /// Mesh address of a node.
    pub fn address(&self, name: &str) -> Result<String> {
        Ok(self.key(name)?.address)
    }

    /// `at`'s IPv4 address on its link with `towards`.
    pub fn underlay(&self, at: &str, towards: &str) -> String {
        let found = self.links.iter().find_map(|link| match &link.ends {
            [a, b] if a == at && b == towards => Some(format!("10.77.{}.1", link.subnet)),
            [a, b] if b == at && a == towards => Some(format!("10.77.{}.2", link.subnet)),
            _ => None,
        });
        found.unwrap_or_else(|| panic!("no link {at}-{towards}"))
    }

    /// Pairs of machines with a link.
    pub fn links(&self) -> Vec<[String; 2]> {
        self.links.iter().map(|link| link.ends.clone()).collect()
    }

    /// Silently drops everything on a link, in both directions.
    pub fn cut(&self, a: &str, b: &str) -> Result<()> {
        Faults::of(self.ns(a))?.cut(&interface(b))?;
        Faults::of(self.ns(b))?.cut(&interface(a))
    }

    /// Ends [`Lab::cut`].
    pub fn heal(&self, a: &str, b: &str) -> Result<()> {
        Faults::of(self.ns(a))?.heal(&interface(b))?;
        Faults::of(self.ns(b))?.heal(&interface(a))
    }

    /// The name of the node that has this key.
    pub fn name_of(&self, node_id: &str) -> Option<&str> {
        let has = |node: &Node| node.key.get().is_some_and(|key| key.node_id == node_id);
        self.nodes.iter().find(|(_, node)| has(node)).map(|(name, _)| name.as_str())
    }

    fn get(&self, name: &str) -> &Node {
        self.nodes.get(name).unwrap_or_else(|| panic!("no machine {name}"))
    }

    fn get_mut(&mut self, name: &str) -> &mut Node {
        self.nodes.get_mut(name).unwrap_or_else(|| panic!("no machine {name}"))
    }

    /// No daemon may have panicked or logged an error.
    fn check_logs(&self) -> Result<()> {
        for (name, node) in &self.nodes {
            let log = read_lossy(&node.config.log());
            let bad = |line: &&str| line.contains("panicked at") || line.contains("ERROR");
            match log.lines().find(bad) {
                Some(line) if line.contains("panicked") || !self.errors_expected => {
                    bail!("{name} logged: {line}")
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The last lines of every daemon's log, on standard error.
    pub fn print_logs(&self) {
        for (name, node) in &self.nodes {
            let log = read_lossy(&node.config.log());
            let lines: Vec<_> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(40)..];
            if !tail.is_empty() {
                eprintln!("--- sinewd on {name}, last {} lines\n{}", tail.len(), tail.join("\n"));
            }
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        // Daemons before namespaces, or a namespace would live on until its last process ends.
        for node in self.nodes.values_mut() {
            node.daemon = None;
        }
        self.nodes.clear();
        ns::unmount_below(&self.dir);
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Name of the interface that leads to `peer`.
pub fn interface(peer: &str) -> String {
    let mut name = format!("to-{peer}");
    name.truncate(15);
    name
}
