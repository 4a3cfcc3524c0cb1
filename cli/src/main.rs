//! sinew: inspect and steer a running mesh node.
//!
//! A verb asks the daemon (`client`), gives the answer to a pure function of `render` for the
//! table, or to serde for JSON, and ends with an exit code. What goes to stdout is only ever the
//! answer; errors and hints go to stderr.

mod args;
mod client;
mod output;
mod render;
mod verbs;

use std::process::ExitCode;

use clap::Parser as _;
use sinew_control::{ApiError, Exit};

use args::Args;
use output::Out;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print();
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Ok };
            return ExitCode::from(exit.code());
        }
    };
    let out = Out { format: args.output, wide: args.wide };
    match run(args, out) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            out.error(&error);
            ExitCode::from(error.exit)
        }
    }
}

fn run(args: Args, out: Out) -> Result<u8, ApiError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| ApiError::invalid(format!("cannot start: {error}"), ""))?;
    runtime.block_on(verbs::run(args, out))
}
