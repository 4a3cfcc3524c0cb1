//! Network namespaces and the veth pairs between them.
//!
//! A namespace is named `<family>-<pid>-<lab>-<node>`: the pid tells a later run whether the
//! owner still lives, so that leftovers of a killed run can be removed without touching anybody
//! else's. Interfaces are created inside the namespaces; the machine's own are never touched.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process;

const COMMAND_DEADLINE: Duration = Duration::from_secs(20);

/// Family of the labs' namespaces.
pub const LAB_FAMILY: &str = "sinewlab";

/// One network namespace, deleted on drop.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    keep: bool,
}

impl Namespace {
    /// Makes the namespace with its loopback up.
    pub fn create(name: &str) -> Result<Self> {
        ip(&["netns", "add", name])?;
        let ns = Self { name: name.to_owned(), keep: false };
        ns.ip(&["link", "set", "lo", "up"])?;
        // Duplicate address detection would hold every address back for a second.
        ns.run(&["sysctl", "-qw", "net.ipv6.conf.all.accept_dad=0", "net.ipv6.conf.default.accept_dad=0"])?;
        Ok(ns)
    }

    /// Its name, as `ip netns exec` takes it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Lets it, and what is started in it from now on, outlive this process (`cargo demo --keep`).
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// Whether it outlives this process.
    pub fn is_kept(&self) -> bool {
        self.keep
    }

    /// A command inside, killed together with the calling thread (unless the namespace is kept).
    pub fn command(&self, program: &str) -> Command {
        let mut command = if self.keep { process::detached("ip") } else { process::command("ip") };
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// As [`Namespace::command`], but in this process's mount namespace: what a daemon mounts (the
    /// names of its workloads' namespaces) is seen here, and is still there after its end.
    pub fn daemon_command(&self, program: &str) -> Command {
        let mut command = if self.keep { process::detached("nsenter") } else { process::command("nsenter") };
        command.args([&format!("--net=/run/netns/{}", self.name), "--", program]);
        command
    }

    /// Runs a command line inside; its standard output.
    pub fn run(&self, argv: &[&str]) -> Result<String> {
        let (program, args) = argv.split_first().context("an empty command line")?;
        process::run_ok(self.command(program).args(args), COMMAND_DEADLINE)
    }

    /// Runs `ip` on this namespace.
    pub fn ip(&self, args: &[&str]) -> Result<String> {
        let mut all = vec!["-n", self.name.as_str()];
        all.extend_from_slice(args);
        ip(&all)
    }

    /// Calls `work` on a thread of its own that lives in this namespace: sockets that it opens
    /// belong here.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        enter(&self.path(), work)
    }

    /// The file that opens it.
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// Addresses, routes, rules, devices, listening sockets and packet filter as one text, to
    /// compare before and after. Counters and timers are left out.
    pub fn snapshot(&self) -> Result<String> {
        let mut text = String::new();
        for argv in [
            &["ip", "-br", "addr"][..],
            &["ip", "-4", "route", "show", "table", "all"],
            &["ip", "-6", "route", "show", "table", "all"],
            &["ip", "rule"],
            &["ip", "-6", "rule"],
            &["ss", "-Hlntu"],
            &["nft", "list", "tables"],
        ] {
            text.push_str(&self.run(argv)?);
        }
        Ok(text)
    }

    /// Whether something listens on TCP `port`.
    pub fn listens(&self, port: u16) -> bool {
        let filter = format!("sport = :{port}");
        self.run(&["ss", "-Hltn", &filter]).is_ok_and(|out| !out.trim().is_empty())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if !self.keep {
            remove(&self.name);
        }
    }
}

/// Calls `work` on a thread of its own that lives in the namespace which `path` opens.
pub fn enter<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> Result<T> {
    let file = std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            nix::sched::setns(&file, nix::sched::CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        });
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// A command in the network namespace that `path` opens, killed together with the calling thread.
pub fn command_in(path: &Path, program: &str) -> Command {
    let mut command = process::command("nsenter");
    command.arg(format!("--net={}", path.display())).args(["--", program]);
    command
}

/// Ends what runs in the network namespaces that are pinned below a folder, and unmounts whatever is
/// mounted there.
pub fn unmount_below(folder: &Path) {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let mut below: Vec<_> = points.filter(|point| Path::new(point).starts_with(folder)).collect();
    // The innermost first.
    below.sort_by_key(|point| std::cmp::Reverse(point.len()));
    for point in below {
        kill_in(Path::new(point));
        let _ = nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH);
    }
}

/// Ends the processes of a pinned network namespace, which outlive a supervisor that was killed.
fn kill_in(pin: &Path) {
    use std::os::unix::fs::MetadataExt as _;

    let inode = |path: &Path| std::fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    let Some(pinned) = inode(pin) else { return };
    if inode(Path::new("/proc/self/ns/net")) == Some(pinned) {
        return;
    }
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        if inode(Path::new(&format!("/proc/{pid}/ns/net"))) == Some(pinned) {
            end(pid);
        }
    }
}

/// One end of a link: a namespace, the interface's name in it, and its IPv4 address.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// Where.
    pub ns: &'a Namespace,
    /// Interface name, at most 15 characters.
    pub interface: &'a str,
    /// Address with prefix length.
    pub address: &'a str,
}

/// Joins two namespaces by a veth pair with `mtu` bytes and brings it up.
pub fn connect(a: End<'_>, b: End<'_>, mtu: u32) -> Result<()> {
    let mtu = mtu.to_string();
    a.ns.ip(&[
        "link",
        "add",
        a.interface,
        "mtu",
        &mtu,
        "type",
        "veth",
        "peer",
        "name",
        b.interface,
        "netns",
        b.ns.name(),
        "mtu",
        &mtu,
    ])?;
    for end in [a, b] {
        end.ns.ip(&["addr", "add", end.address, "dev", end.interface])?;
        end.ns.ip(&["link", "set", end.interface, "up"])?;
    }
    Ok(())
}

/// Removes what runs of `family` left behind whose process is gone.
pub fn clean_stale(family: &str) {
    for name in list(family) {
        let pid = name.split('-').nth(1).and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            clean_one(&name);
        }
    }
}

/// Removes every namespace of `family` with all that runs in it.
pub fn clean_all(family: &str) -> usize {
    let names = list(family);
    names.iter().for_each(|name| clean_one(name));
    names.len()
}

/// Removes one namespace with all that runs in it.
pub fn clean_one(name: &str) {
    kill_inside(name);
    remove(name);
}

/// Whether a namespace of this name exists.
pub fn exists(name: &str) -> bool {
    Path::new("/run/netns").join(name).exists()
}

fn list(family: &str) -> Vec<String> {
    let listing = ip(&["netns", "list"]).unwrap_or_default();
    let names = listing.lines().filter_map(|line| line.split_whitespace().next());
    names.filter(|name| name.starts_with(&format!("{family}-"))).map(str::to_owned).collect()
}

fn kill_inside(name: &str) {
    let pids = ip(&["netns", "pids", name]).unwrap_or_default();
    for pid in pids.lines().filter_map(|line| line.trim().parse().ok()) {
        end(pid);
    }
}

fn remove(name: &str) {
    if let Err(error) = ip(&["netns", "del", name]) {
        eprintln!("cannot remove namespace {name}: {error:#}");
    }
}

fn ip(args: &[&str]) -> Result<String> {
    let output = process::run(process::command("ip").args(args), COMMAND_DEADLINE)?;
    if output.code != Some(0) {
        bail!("ip {}: {}", args.join(" "), output.stderr.trim());
    }
    Ok(output.stdout)
}

/// Kills a process; one that is gone is as good.
fn end(pid: i32) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
}
