//! The public front on its own, from a TOML file: for labs, and for looking at it.
//!
//! `front FILE` serves until SIGTERM (then lets requests finish for ten seconds). SIGHUP reads the file
//! and the certificates again; SIGUSR1 writes the status to standard error, as JSON, first of the front,
//! then of the certificates that are ordered; SIGUSR2 orders new ones for all. Backends are addresses.
//! Events go to standard output, if `log = true`; their times are milliseconds of unix time.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use sinew_acme::{Challenges, Install, Manager, Pair as Issued, Proof, Texts, Wanted};
use sinew_gateway::config::Config;
use sinew_gateway::{Certificate, Certificates, Gateway, JsonLog, Observer, Options};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Deserialize)]
struct File {
    /// Threads; one for each processor by default.
    #[serde(default)]
    threads: usize,
    /// Write events.
    #[serde(default)]
    log: bool,
    #[serde(default)]
    certificates: Vec<Pair>,
    /// Certificates from an authority.
    acme: Option<Acme>,
    front: Config,
}

/// Whom certificates are ordered from, and for which hosts.
#[derive(Deserialize)]
struct Acme {
    directory: String,
    /// PEM file of the authority's own root; the system's by default.
    roots: Option<PathBuf>,
    folder: PathBuf,
    hosts: Vec<Wanted>,
    /// Answers `_acme-challenge` questions here.
    dns: Option<SocketAddr>,
    /// Seconds to wait after the first failure, and at most.
    #[serde(default = "minute")]
    retry: u64,
    #[serde(default = "day")]
    retry_max: u64,
}

fn minute() -> u64 {
    60
}

fn day() -> u64 {
    86_400
}

/// A certificate and the names it is used for.
#[derive(Deserialize)]
struct Pair {
    hosts: Vec<String>,
    chain: PathBuf,
    key: PathBuf,
}

fn read(path: &str) -> Result<File, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    toml::from_str(&text).map_err(|error| format!("{path}: {error}"))
}

fn load(certificates: &Certificates, pairs: &[Pair]) -> Result<(), String> {
    for pair in pairs {
        let certificate =
            Certificate::from_files(&pair.chain, &pair.key).map_err(|error| error.to_string())?;
        certificates.set(&pair.hosts, &certificate);
    }
    Ok(())
}

/// Where proofs are shown and certificates used: the front's table, and the name server's.
struct Shelf {
    certificates: Arc<Certificates>,
    texts: Arc<Texts>,
}

impl Shelf {
    fn show(&self, proof: &Proof, on: bool) {
        match proof {
            Proof::TlsAlpn { host, certificate } => {
                let made = |pair: Issued| Certificate::challenge_from_der(pair.chain, pair.key).ok();
                let shown = on.then(|| certificate.clone()).and_then(made);
                self.certificates.set_challenge(host, shown);
            }
            Proof::Http { token, answer, .. } => {
                self.certificates.set_answer(token, on.then_some(answer.as_str()));
            }
            Proof::Dns { name, value } if on => self.texts.set(name, value),
            Proof::Dns { name, value } => self.texts.clear(name, value),
        }
    }
}

impl Challenges for Shelf {
    fn set(&self, proof: &Proof) {
        self.show(proof, true);
    }

    fn clear(&self, proof: &Proof) {
        self.show(proof, false);
    }
}

impl Install for Shelf {
    fn install(&self, host: &str, pair: Issued) -> Result<(), String> {
        let certificate = Certificate::from_der(pair.chain, pair.key).map_err(|error| error.to_string())?;
        self.certificates.set(&[host], &certificate);
        say(&format!("certificate for {host}"));
        Ok(())
    }

    fn remove(&self, host: &str) {
        self.certificates.remove(host);
    }
}

/// The manager of ordered certificates.
struct Ordered {
    manager: Manager,
    texts: Arc<Texts>,
}

impl Ordered {
    fn start(acme: &Acme, certificates: &Arc<Certificates>) -> Result<Self, String> {
        let texts = Texts::new("ns.invalid");
        let shelf = Arc::new(Shelf { certificates: certificates.clone(), texts: texts.clone() });
        let mut options = sinew_acme::Options::new(&acme.folder);
        options.directory.clone_from(&acme.directory);
        options.rules.retry = Duration::from_secs(acme.retry);
        options.rules.retry_max = Duration::from_secs(acme.retry_max);
        let roots = acme.roots.as_ref().map(std::fs::read).transpose();
        options.roots = roots.map_err(|error| error.to_string())?;
        let manager = Manager::start(options, shelf.clone(), shelf).map_err(|error| error.to_string())?;
        if let Some(address) = acme.dns {
            let sockets = UdpSocket::bind(address).and_then(|udp| Ok((udp, TcpListener::bind(address)?)));
            let served = sockets.and_then(|(udp, tcp)| manager.serve_dns(&texts, udp, tcp));
            served.map_err(|error| format!("{address}: {error}"))?;
        }
        let ordered = Self { manager, texts };
        ordered.set(acme);
        Ok(ordered)
    }

    fn set(&self, acme: &Acme) {
        let wanted: Vec<_> = acme.hosts.iter().map(|wanted| wanted.host.as_str()).collect();
        self.texts.set_hosts(&wanted);
        self.manager.set_hosts(acme.hosts.clone());
    }
}

fn say(text: &str) {
    // In one piece, or events that go to the same file would come between.
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}

async fn serve(path: &str) -> Result<(), String> {
    let file = read(path)?;
    let certificates = Certificates::new();
    load(&certificates, &file.certificates)?;
    let observer: Arc<dyn Observer> =
        if file.log { Arc::new(JsonLog::new(std::io::stdout(), |ms| ms.to_string())) } else { Arc::new(()) };
    let options =
        Options { threads: file.threads, observer, certificates: certificates.clone(), ..Options::default() };
    let signals = |kind| signal(kind).map_err(|error| error.to_string());
    let mut term = signals(SignalKind::terminate())?;
    let mut hup = signals(SignalKind::hangup())?;
    let mut usr1 = signals(SignalKind::user_defined1())?;
    let mut usr2 = signals(SignalKind::user_defined2())?;
    let gateway = Gateway::start(options, file.front).map_err(|error| error.to_string())?;
    let ordered = file.acme.map(|acme| Ordered::start(&acme, &certificates)).transpose()?;
    say("ready");
    loop {
        tokio::select! {
            _ = term.recv() => break,
            _ = usr1.recv() => {
                say(&serde_json::to_string(&gateway.status()).unwrap_or_default());
                let hosts = ordered.as_ref().map(|ordered| ordered.manager.status());
                say(&serde_json::to_string(&hosts).unwrap_or_default());
            }
            _ = usr2.recv() => {
                if let Some(ordered) = &ordered {
                    for host in ordered.manager.status() {
                        ordered.manager.renew(&host.host);
                    }
                }
            }
            _ = hup.recv() => {
                let loaded = read(path).and_then(|file| {
                    load(gateway.certificates(), &file.certificates)?;
                    if let (Some(ordered), Some(acme)) = (&ordered, &file.acme) {
                        ordered.set(acme);
                    }
                    gateway.apply(file.front).map_err(|error| error.to_string())
                });
                say(&loaded.map_or_else(|error| format!("not reloaded: {error}"), |()| "reloaded".to_owned()));
            }
        }
    }
    drop(ordered);
    let all = gateway.shutdown(Duration::from_secs(10));
    say(if all { "drained" } else { "ended with connections open" });
    Ok(())
}

fn main() -> ExitCode {
    let Some(path) = std::env::args().nth(1) else {
        say("usage: front FILE");
        return ExitCode::from(2);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let served =
        runtime.map_err(|error| error.to_string()).and_then(|runtime| runtime.block_on(serve(&path)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&error);
            ExitCode::FAILURE
        }
    }
}
