//! sinewd: the mesh daemon.
//!
//! This file turns a command line and a configuration file into a running node and its end into an
//! exit code. Everything that can be judged without touching the host (the file, the key, the mesh
//! secret) is judged first, so that nothing starts half-configured; [`run`] does the rest. The same
//! program is also the privileged helper, which it starts before it has a thread (protocol A9).

mod args;
mod run;

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use sinew_control::config::ConfigFile;
use sinew_control::secrets::Secret;
use sinew_platform::{KeyFileError, keyfile, secretfile};
use sinew_types::Identity;
use tracing_subscriber::EnvFilter;

use args::{Args, LogFormat};

/// Wrong usage or configuration.
const EXIT_CONFIG: u8 = 1;
/// The host cannot be set up.
const EXIT_HOST: u8 = 2;

/// Everything that a node starts with, judged and read.
pub(crate) struct Start {
    /// The configuration and its file.
    pub(crate) file: ConfigFile,
    /// The node's key.
    pub(crate) identity: Identity,
    /// The mesh secret; `None` = open mesh.
    pub(crate) secret: Option<Secret>,
    /// The process that keeps the privileges this one gives up.
    pub(crate) helper: sinew_helper::Connection,
}

/// Why there is no running node, in one or more lines.
struct Failure {
    exit: u8,
    text: String,
}

fn main() -> ExitCode {
    if let Some(end) = sinew_helper::run() {
        return end;
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_CONFIG) } else { ExitCode::SUCCESS };
        }
    };
    // Without a file there is only the manual page to be had: clap sees to that.
    let Some(config) = &args.config else { return manual_page() };
    match start(&args, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            for line in failure.text.lines() {
                eprintln!("sinewd: {line}");
            }
            ExitCode::from(failure.exit)
        }
    }
}

fn manual_page() -> ExitCode {
    let page = clap_mangen::Man::new(Args::command()).section("8");
    match page.render(&mut io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sinewd: cannot write the manual page: {error}");
            ExitCode::from(EXIT_HOST)
        }
    }
}

fn start(args: &Args, config: &Path) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&args.log_level)
        .map_err(|error| configuration(format!("--log-level {}: {error}", args.log_level)))?;
    log_to_stderr(args.log_format, filter);
    let file = ConfigFile::read(config).map_err(configuration)?;
    // Protocol A9: before any secret is read, no core dump and no debugger of the same user.
    sinew_platform::privilege::harden()
        .map_err(|error| Failure { exit: EXIT_HOST, text: format!("cannot forbid core dumps: {error}") })?;
    let known = known_key(&file)?;
    if let Some(identity) = &known {
        file.check_identity(&identity.node_id()).map_err(configuration)?;
    }
    let secret = mesh_secret(&file)?;
    if args.check {
        return Ok(());
    }
    let helper = sinew_helper::Connection::spawn(&file.config.control.socket).map_err(|error| Failure {
        exit: EXIT_HOST,
        text: format!("cannot start the helper process: {error}"),
    })?;
    let identity = match known {
        Some(identity) => identity,
        None => first_key(&file)?,
    };
    run::run(Start { file, identity, secret, helper })
        .map_err(|error| Failure { exit: EXIT_HOST, text: error.to_string() })
}

/// The node's key, if it has one yet.
fn known_key(file: &ConfigFile) -> Result<Option<Identity>, Failure> {
    match keyfile::load(&file.config.node.key_file) {
        Ok(seed) => Ok(Some(Identity::from_seed(*seed))),
        Err(KeyFileError::Missing { .. }) => Ok(None),
        Err(error) => Err(about("node.key_file", file, EXIT_CONFIG, &error)),
    }
}

/// Makes the key on the first start. If that fails it is the host's fault, not the file's.
fn first_key(file: &ConfigFile) -> Result<Identity, Failure> {
    keyfile::load_or_create(&file.config.node.key_file)
        .map(|seed| Identity::from_seed(*seed))
        .map_err(|error| about("node.key_file", file, EXIT_HOST, &error))
}

fn mesh_secret(file: &ConfigFile) -> Result<Option<Secret>, Failure> {
    let path = file.config.mesh.secret_file.as_deref();
    let loaded = path.map(secretfile::load).transpose();
    loaded.map_err(|error| about("mesh.secret_file", file, EXIT_CONFIG, &error))
}

fn about(key: &str, file: &ConfigFile, exit: u8, error: &KeyFileError) -> Failure {
    Failure { exit, text: format!("{}: {key}: {error}", file.path.display()) }
}

fn configuration(error: impl ToString) -> Failure {
    Failure { exit: EXIT_CONFIG, text: error.to_string() }
}

fn log_to_stderr(format: LogFormat, filter: EnvFilter) {
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().init(),
    }
}
