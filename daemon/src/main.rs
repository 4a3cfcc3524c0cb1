//! sinewd: the mesh daemon.
//!
//! This file turns a command line and a configuration file into a running node and its end into an
//! exit code. Everything that can be judged without touching the host (the file, the key, the mesh
//! secret) is judged first, so that nothing starts half-configured; [`run`] does the rest.

mod args;
mod run;

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use clap::Parser as _;
use sinew_control::config::ConfigFile;
use sinew_control::secrets::{self, Secret, SecretError};
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
}

/// Why there is no running node, in one or more lines.
struct Failure {
    exit: u8,
    text: String,
}

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_CONFIG) } else { ExitCode::SUCCESS };
        }
    };
    match start(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            for line in failure.text.lines() {
                eprintln!("sinewd: {line}");
            }
            ExitCode::from(failure.exit)
        }
    }
}

fn start(args: &Args) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&args.log_level)
        .map_err(|error| configuration(format!("--log-level {}: {error}", args.log_level)))?;
    let file = ConfigFile::read(&args.config).map_err(configuration)?;
    if args.check {
        return check(&file);
    }
    let identity = own_key(&file)?;
    file.check_identity(&identity.node_id()).map_err(configuration)?;
    let secret = mesh_secret(&file)?;
    log_to_stderr(args.log_format, filter);
    run::run(Start { file, identity, secret })
        .map_err(|error| Failure { exit: EXIT_HOST, text: error.to_string() })
}

/// Judges what is there. A key that is made on the first start is not missed before it.
fn check(file: &ConfigFile) -> Result<(), Failure> {
    match secrets::load_key(&file.config.node.key_file) {
        Ok(identity) => file.check_identity(&identity.node_id()).map_err(configuration)?,
        Err(SecretError::Missing { .. }) => {}
        Err(error) => return Err(about("node.key_file", file, &error)),
    }
    mesh_secret(file).map(drop)
}

fn own_key(file: &ConfigFile) -> Result<Identity, Failure> {
    let mut seed = Secret::new([0; 32]);
    getrandom::fill(seed.as_mut_slice()).map_err(|error| Failure {
        exit: EXIT_HOST,
        text: format!("no random bytes from the system: {error}"),
    })?;
    secrets::load_or_create_key(&file.config.node.key_file, &seed)
        .map_err(|error| about("node.key_file", file, &error))
}

fn mesh_secret(file: &ConfigFile) -> Result<Option<Secret>, Failure> {
    let path = file.config.mesh.secret_file.as_deref();
    path.map(secrets::load_mesh_secret).transpose().map_err(|error| about("mesh.secret_file", file, &error))
}

/// A secret file that cannot be made is the host's fault, any other the configuration's.
fn about(key: &str, file: &ConfigFile, error: &SecretError) -> Failure {
    let exit = if matches!(error, SecretError::NotMade { .. }) { EXIT_HOST } else { EXIT_CONFIG };
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
