//! The subjects of a measurement, one file for each.
//!
//! A peer knows how to find its program, to write its configuration for the machines of a
//! [`Stage`], and to start it there with the settings that its makers ship. Everything that is
//! the same for all (namespaces, traffic, accounting) is outside.

mod boringtun;
mod gotatun;
mod haproxy;
mod mycelium;
mod nebula;
mod nginx;
mod raw;
mod sinew;
mod tinc;
mod uapi;
mod wireguard_go;
mod yggdrasil;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use sinew_tests::front::Pair;
use sinew_tests::process::{self, Proc};
use sinew_tests::requirements::find_program;
use sinew_tests::tenant::Workload;
use sinew_tests::wait;

use crate::args::Options;
use crate::stage::{COMMAND, Scenario, Stage};

/// Something that carries packets from A to B.
pub(crate) trait Peer {
    /// Name on the command line and in tables.
    fn name(&self) -> &str;

    /// Names of the program, the first found is used; empty when there is none to find.
    fn programs(&self) -> &'static [&'static str];

    /// Arguments that make the program tell its version.
    fn version_args(&self) -> &'static [&'static str] {
        &["--version"]
    }

    /// What stands for a version when there is no program to ask.
    fn origin(&self) -> String {
        String::new()
    }

    /// Whether it can take part in a scenario: most can relay, few are gateways.
    fn supports(&self, scenario: Scenario) -> bool {
        scenario != Scenario::Gateway
    }

    /// Stands between the client and a web server on `a`, which it may start as it needs it.
    fn front(&self, _program: &Path, _stage: &mut Stage, _server: &WebServer) -> Result<Front> {
        bail!("{} is no gateway", self.name())
    }

    /// Configures and starts it on every machine of the stage. What takes time without being
    /// part of a start (keys, files) comes before [`Overlay::started`].
    fn start(&self, program: &Path, stage: &mut Stage) -> Result<Overlay>;
}

/// A started subject; its daemons end with it.
#[derive(Debug)]
pub(crate) struct Overlay {
    /// When the first daemon was started.
    pub(crate) started: Instant,
    /// B's address, as A reaches it.
    pub(crate) target: IpAddr,
    /// Machine and process of each daemon.
    pub(crate) daemons: Vec<(&'static str, Proc)>,
}

impl Overlay {
    /// The bare stage, about to be filled with daemons.
    pub(crate) fn new(target: IpAddr) -> Self {
        Self { started: Instant::now(), target, daemons: Vec::new() }
    }
}

/// A web server that stands behind a gateway: plain HTTP on port 80, TLS of its own on 443.
#[derive(Debug)]
pub(crate) struct WebServer {
    /// Its command line, to be run on `a`.
    pub(crate) argv: Vec<String>,
    /// The certificate that a gateway shows for [`WEB`].
    pub(crate) shown: Pair,
}

/// The host whose TLS ends at a gateway.
pub(crate) const WEB: &str = "web.gw.test";
/// The host whose TLS goes through to the server.
pub(crate) const THROUGH: &str = "thru.gw.test";

/// A started gateway with what it needs; all of it ends with this.
#[derive(Debug)]
pub(crate) struct Front {
    /// Port where TLS for [`WEB`] ends.
    pub(crate) http: Option<u16>,
    /// Port where TLS for [`THROUGH`] goes through.
    pub(crate) through: Option<u16>,
    /// Everything between the client and the server, by process id.
    pub(crate) daemons: Vec<u32>,
    pub(crate) _running: Vec<Proc>,
    pub(crate) _workloads: Vec<Workload>,
}

/// A peer whose program was found.
pub(crate) struct Subject {
    pub(crate) peer: Box<dyn Peer>,
    pub(crate) program: PathBuf,
    pub(crate) version: String,
}

impl Subject {
    /// Name on the command line and in tables.
    pub(crate) fn name(&self) -> &str {
        self.peer.name()
    }

    /// Starts it as a gateway.
    pub(crate) fn front(&self, stage: &mut Stage, server: &WebServer) -> Result<Front> {
        self.peer.front(&self.program, stage, server)
    }

    /// Starts it.
    pub(crate) fn start(&self, stage: &mut Stage) -> Result<Overlay> {
        self.peer.start(&self.program, stage)
    }
}

/// Every subject there is, in the order of the tables.
fn all(options: &Options) -> Vec<Box<dyn Peer>> {
    let extra = &options.sinew_config;
    let mut peers: Vec<Box<dyn Peer>> = vec![
        Box::new(sinew::Sinew::new("sinew", sinew::Carrier::Udp, None, extra)),
        Box::new(sinew::Sinew::new("sinew-tcp", sinew::Carrier::Tcp, None, extra)),
    ];
    for (name, folder) in &options.sinew {
        peers.push(Box::new(sinew::Sinew::new(name, sinew::Carrier::Udp, Some(folder), extra)));
    }
    peers.push(Box::new(raw::Raw));
    peers.push(Box::new(wireguard_go::WIREGUARD_GO));
    peers.push(Box::new(boringtun::BORINGTUN));
    peers.push(Box::new(gotatun::GOTATUN));
    peers.push(Box::new(nebula::Nebula));
    peers.push(Box::new(yggdrasil::Yggdrasil));
    peers.push(Box::new(mycelium::Mycelium));
    peers.push(Box::new(tinc::Tinc));
    peers.push(Box::new(nginx::Nginx));
    peers.push(Box::new(haproxy::Haproxy));
    peers
}

/// The subjects to measure: those asked for, else those whose program is there.
pub(crate) fn choose(options: &Options) -> Result<Vec<Subject>> {
    let peers = all(options);
    let names: Vec<_> = peers.iter().map(|peer| peer.name().to_owned()).collect();
    let asked = options.only.iter().chain(options.peer.iter().map(|(name, _)| name));
    for name in asked {
        if !names.contains(name) {
            bail!("no subject `{name}`; there are {}", names.join(", "));
        }
    }
    for (at, name) in names.iter().enumerate() {
        if names[..at].contains(name) {
            bail!("two subjects are named `{name}`");
        }
    }
    let mut subjects = Vec::new();
    for peer in peers {
        let wanted = options.only.iter().any(|name| name == peer.name());
        if !options.only.is_empty() && !wanted {
            continue;
        }
        match find(peer.as_ref(), options)? {
            Some(program) => subjects.push(subject(peer, program)),
            None if wanted => bail!("{0} is not installed; --peer {0}=FILE names its program", peer.name()),
            None => {}
        }
    }
    if !options.only.is_empty() {
        subjects.sort_by_key(|subject| options.only.iter().position(|name| name == subject.name()));
    }
    Ok(subjects)
}

fn find(peer: &dyn Peer, options: &Options) -> Result<Option<PathBuf>> {
    if let Some((_, path)) = options.peer.iter().find(|(name, _)| name == peer.name()) {
        if !path.is_file() {
            bail!("--peer {}: {} is not a file", peer.name(), path.display());
        }
        return Ok(Some(std::fs::canonicalize(path)?));
    }
    if peer.programs().is_empty() {
        return Ok(Some(PathBuf::new()));
    }
    Ok(peer.programs().iter().find_map(|program| find_program(program)))
}

fn subject(peer: Box<dyn Peer>, program: PathBuf) -> Subject {
    let version =
        if program.as_os_str().is_empty() { peer.origin() } else { version(peer.as_ref(), &program) };
    Subject { peer, program, version }
}

fn version(peer: &dyn Peer, program: &Path) -> String {
    let mut command = process::command(&program.to_string_lossy());
    let text = process::run(command.args(peer.version_args()), COMMAND).map(|output| output.text());
    let text = text.unwrap_or_default();
    let numbered = |line: &&str| line.chars().any(|c| c.is_ascii_digit());
    text.lines().find(numbered).unwrap_or("version unknown").trim().to_owned()
}

/// Peers without a program here, when nobody asked for particular ones.
pub(crate) fn missing(options: &Options) -> Vec<String> {
    if !options.only.is_empty() {
        return Vec::new();
    }
    let absent = |peer: &dyn Peer| matches!(find(peer, options), Ok(None));
    all(options).iter().filter(|peer| absent(peer.as_ref())).map(|peer| peer.name().to_owned()).collect()
}

/// Starts the web server on `a`, on the bare link.
fn serve(stage: &Stage, server: &WebServer) -> Result<Proc> {
    let (program, args) = server.argv.split_first().context("no command")?;
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let running = stage.spawn("a", Path::new(program), &args)?;
    let listens = || stage.ns("a").listens(80) && stage.ns("a").listens(443);
    wait::until("the web server listens", COMMAND, listens).with_context(|| running.log())?;
    Ok(running)
}

/// Where an nginx puts what it does not keep in memory, as lines of its configuration.
pub(crate) fn temporary(folder: &Path) -> String {
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    kinds.iter().map(|kind| format!("{kind}_temp_path {}/{kind}; ", folder.display())).collect()
}

/// A process and those that it has started.
fn with_children(pid: u32) -> Vec<u32> {
    let file = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let children = text.split_whitespace().filter_map(|word| word.parse().ok());
    std::iter::once(pid).chain(children).collect()
}

/// One line for each subject.
pub(crate) fn listing(subjects: &[Subject]) -> String {
    let line = |subject: &Subject| {
        format!("{:14} {} {}\n", subject.name(), subject.program.display(), subject.version)
    };
    subjects.iter().map(line).collect()
}

/// Builds Sinew now rather than within a measurement, if any subject needs it.
pub(crate) fn build_sinew(subjects: &[Subject]) -> Result<()> {
    let own = ["sinew", "sinew-tcp"];
    if subjects.iter().any(|subject| own.contains(&subject.name())) {
        println!("Building sinewd and sinew (release) ...");
        sinew_tests::Bins::get()?;
    }
    Ok(())
}
