//! Whether labs can run here, and the binaries they run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};

/// Programs that the labs call, with the Debian package of each.
pub const PROGRAMS: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("tc", "iproute2"),
    ("ss", "iproute2"),
    ("nft", "nftables"),
    ("ping", "iputils-ping"),
    ("iperf3", "iperf3"),
    ("nginx", "nginx-light"),
    ("curl", "curl"),
    ("openssl", "openssl"),
    ("h2load", "nghttp2-client"),
    ("sshd", "openssh-server"),
    ("ssh", "openssh-client"),
    ("rsync", "rsync"),
    ("tshark", "tshark"),
    ("dumpcap", "wireshark-common"),
    ("ethtool", "ethtool"),
    ("sysctl", "procps"),
    ("setpriv", "util-linux"),
    ("setsid", "util-linux"),
    ("dig", "bind9-dnsutils"),
    ("getent", "libc-bin"),
    ("dbus-daemon", "dbus-daemon"),
    ("pgbench", "postgresql"),
    ("redis-server", "redis-server"),
    ("redis-benchmark", "redis-tools"),
    ("nsenter", "util-linux"),
    ("socat", "socat"),
    ("argon2", "argon2"),
    ("python3", "python3"),
    // A home router that passes on ports: the program alone, which starts no service.
    ("miniupnpd", "miniupnpd-nftables"),
    // A container runtime that speaks CNI, as the plugin's labs need one: Debian's podman 4 does (5
    // does not any more). crun refuses hybrid cgroups, so runc; pods want catatonit as their init;
    // a static busybox is all of a container's root; host-local stands for the stock plugins, with
    // which ours is chained.
    ("podman", "podman"),
    ("runc", "runc"),
    ("catatonit", "catatonit"),
    ("busybox", "busybox-static"),
    ("host-local", "containernetworking-plugins"),
    // A certificate authority with a resolver of its own, and somebody else's clients for it.
    ("pebble", "pebble"),
    ("unbound", "unbound"),
    // A translator between IPv6 and IPv4 outside of the kernel.
    ("haproxy", "haproxy"),
    ("tayga", "tayga"),
    ("dehydrated", "dehydrated"),
    ("caddy", "caddy"),
    // Clients of a gateway, and what stands behind it. Modules belong to Debian's own Python, which is not
    // always the one on the PATH, so they are named by their files.
    ("chromium", "chromium"),
    ("wrk", "wrk"),
    ("testssl", "testssl.sh"),
    ("/usr/lib/python3/dist-packages/grpc/__init__.py", "python3-grpcio"),
    ("/usr/lib/python3/dist-packages/websockets/__init__.py", "python3-websockets"),
    ("/usr/lib/python3/dist-packages/h2/__init__.py", "python3-h2"),
];

/// Where Debian puts the stock CNI plugins.
pub const CNI_PLUGINS: &str = "/usr/lib/cni";

/// Folder in the target folder where `cargo xtest` unpacks systemd-resolved for its lab.
pub const RESOLVED_FOLDER: &str = "test-tools/systemd-resolved";

/// Programs of [`PROGRAMS`] that are not installed, with their packages.
pub fn missing_programs() -> Vec<(&'static str, &'static str)> {
    PROGRAMS.iter().copied().filter(|(program, _)| find_program(program).is_none()).collect()
}

/// Where a program is, looking also into the `sbin` folders that `PATH` may lack and among the
/// stock CNI plugins.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/sbin", "/usr/sbin", "/sbin", CNI_PLUGINS].map(PathBuf::from);
    std::env::split_paths(&path).chain(usual).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// Whether the run is a continuous-integration one, in which no test may be skipped.
pub fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}

/// Why labs cannot run here, if they cannot.
pub fn lab_obstacle() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("namespaces need root".into());
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some("/dev/net/tun is missing (modprobe tun)".into());
    }
    let missing: Vec<_> = missing_programs().iter().map(|(_, package)| *package).collect();
    (!missing.is_empty())
        .then(|| format!("not installed: {} (`cargo xtest` installs them)", missing.join(" ")))
}

/// The binaries under test.
#[derive(Clone, Debug)]
pub struct Bins {
    /// The daemon.
    pub sinewd: PathBuf,
    /// The command.
    pub sinew: PathBuf,
    /// The CNI plugin; older folders of binaries do not have it.
    pub sinew_cni: PathBuf,
}

impl Bins {
    /// The release binaries of this workspace, built first if need be; `SINEW_BIN_DIR` names
    /// others, used as they are.
    pub fn get() -> Result<&'static Self> {
        static BINS: OnceLock<std::result::Result<Bins, String>> = OnceLock::new();
        let found = BINS.get_or_init(|| Self::find().map_err(|error| format!("{error:#}")));
        found.as_ref().map_err(|text| anyhow::anyhow!(text.clone()))
    }

    fn find() -> Result<Self> {
        let folder = match std::env::var_os("SINEW_BIN_DIR") {
            Some(folder) => PathBuf::from(folder),
            None => build()?,
        };
        let [sinewd, sinew, sinew_cni] = ["sinewd", "sinew", "sinew-cni"].map(|name| folder.join(name));
        let bins = Self { sinewd, sinew, sinew_cni };
        for file in [&bins.sinewd, &bins.sinew] {
            if !file.is_file() {
                bail!("{} is missing: cargo build --release", file.display());
            }
        }
        Ok(bins)
    }
}

/// The workspace's root folder: that of the run, where cargo names it (a target folder may be
/// shared by several checkouts), else that of the build.
pub fn workspace_root() -> PathBuf {
    let built_in = || PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(built_in, PathBuf::from);
    here.parent().map_or_else(|| here.clone(), Path::to_owned)
}

/// What cargo has to build for labs: programs of the workspace as a whole, the public front's example among
/// them. Selecting packages one by one gives what they share other features each time, and builds it anew.
pub const BUILD: &[&str] = &[
    "build",
    "--release",
    "--workspace",
    "--bin",
    "sinewd",
    "--bin",
    "sinew",
    "--bin",
    "sinew-cni",
    "--example",
    "front",
];

/// `cargo` in the workspace's root, without what the cargo above us says of the package that runs now: some
/// build scripts look at it, and all that rests on them would be built anew.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace_root());
    let of_a_package = |name: &str| {
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") || name == "OUT_DIR"
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_a_package)) {
        command.env_remove(name);
    }
    command
}

/// Builds them, if need be; the folder where they are.
pub fn build() -> Result<PathBuf> {
    let root = workspace_root();
    let status = cargo().args(BUILD).arg("--quiet").status();
    if !status.context("cannot run cargo")?.success() {
        bail!("the release build failed");
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(target.join("release"))
}
