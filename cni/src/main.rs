//! sinew-cni: containers and pods on private networks (CNI specification 1.1).
//!
//! A container runtime starts this program for each thing it wants of a network: parameters in the
//! environment, the network's configuration on stdin, an answer or an error as JSON on stdout.
//!
//! ```text
//!  runtime ─▶ invocation, config ─▶ verbs ─▶ daemon: attach socket, control API
//!          ◀─ result or error    ◀─       ─▶ the container's namespace (CHECK, cleaning up)
//! ```
//! The plugin holds no state of its own but a note per attachment in the runtime directory, which it
//! needs only where a container is to be cleaned up while no daemon runs.

mod config;
mod daemon;
mod error;
mod inside;
mod invocation;
mod notes;
mod result;
mod verbs;

use std::io::{Read as _, Write as _};
use std::process::ExitCode;

use config::{Config, SUPPORTED};
use error::CniError;
use invocation::{Command, Invocation};

/// Longest configuration that is read: prevResult and GC's list grow with the containers.
const STDIN_MAX: u64 = 16 << 20;

fn main() -> ExitCode {
    if let Some(answer) = asked_by_a_person() {
        return write(&answer, ExitCode::SUCCESS);
    }
    let mut text = Vec::new();
    let read = std::io::stdin().lock().take(STDIN_MAX).read_to_end(&mut text);
    let version = config::version_of(&text);
    let outcome = match read {
        Ok(_) => run(&text),
        Err(error) => Err(CniError::io(format!("cannot read the configuration: {error}"))),
    };
    match outcome {
        Ok(answer) => write(&answer, ExitCode::SUCCESS),
        Err(error) => write(&error.json(&version), ExitCode::FAILURE),
    }
}

/// `--version` and `--help`, for people; runtimes give no arguments.
fn asked_by_a_person() -> Option<String> {
    let argument = std::env::args().nth(1)?;
    let version = concat!("sinew-cni ", env!("CARGO_PKG_VERSION"));
    match argument.as_str() {
        "--version" | "-V" => Some(format!("{version}\n")),
        _ => Some(format!(
            "{version}\n\nA CNI plugin: container runtimes call it, with CNI_COMMAND in the environment and a \
             network's configuration on stdin. Put it into the runtime's plugin directory and name it as \
             the type of a network:\n\n  {{\"cniVersion\": \"1.0.0\", \"name\": \"shop\", \"type\": \"sinew-cni\", \
             \"network\": \"shop\"}}\n\nCNI versions: {}\n",
            SUPPORTED.join(", ")
        )),
    }
}

/// Carries out one request; the answer is what goes to stdout, possibly nothing.
fn run(text: &[u8]) -> Result<String, CniError> {
    let command = Command::from_environment()?;
    if command == Command::Version {
        return Ok(config::versions(text));
    }
    let config = Config::parse(text)?;
    let invocation = Invocation::from_environment(command, &|name| std::env::var(name).ok())?;
    verbs::run(&config, &invocation)
}

fn write(text: &str, code: ExitCode) -> ExitCode {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}
