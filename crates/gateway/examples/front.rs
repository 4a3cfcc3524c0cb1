//! The public front on its own, from a TOML file: for labs, and for looking at it.
//!
//! `front FILE` serves until SIGTERM (then lets requests finish for ten seconds). SIGHUP reads the file
//! and the certificates again; SIGUSR1 writes the status to standard error, as JSON. Backends are
//! addresses. Events go to standard output, if `log = true`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
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
    front: Config,
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

fn say(text: &str) {
    // In one piece, or events that go to the same file would come between.
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}

async fn serve(path: &str) -> Result<(), String> {
    let file = read(path)?;
    let certificates = Certificates::new();
    load(&certificates, &file.certificates)?;
    let observer: Arc<dyn Observer> =
        if file.log { Arc::new(JsonLog::new(std::io::stdout())) } else { Arc::new(()) };
    let options = Options { threads: file.threads, observer, certificates, ..Options::default() };
    let signals = |kind| signal(kind).map_err(|error| error.to_string());
    let mut term = signals(SignalKind::terminate())?;
    let mut hup = signals(SignalKind::hangup())?;
    let mut usr1 = signals(SignalKind::user_defined1())?;
    let gateway = Gateway::start(options, file.front).map_err(|error| error.to_string())?;
    say("ready");
    loop {
        tokio::select! {
            _ = term.recv() => break,
            _ = usr1.recv() => {
                say(&serde_json::to_string(&gateway.status()).unwrap_or_default());
            }
            _ = hup.recv() => {
                let loaded = read(path).and_then(|file| {
                    load(gateway.certificates(), &file.certificates)?;
                    gateway.apply(file.front).map_err(|error| error.to_string())
                });
                say(&loaded.map_or_else(|error| format!("not reloaded: {error}"), |()| "reloaded".to_owned()));
            }
        }
    }
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
