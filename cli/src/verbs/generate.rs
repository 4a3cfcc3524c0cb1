//! Completions and manual pages, from the same definition as `--help`.

use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;
use sinew_control::{ApiError, Exit};

use crate::args::Args;
use crate::output;

pub(super) fn completions(shell: Shell) -> Result<Exit, ApiError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "sinew", &mut script);
    output::write(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}

pub(super) fn man(dir: &Path) -> Result<Exit, ApiError> {
    let made = std::fs::create_dir_all(dir).and_then(|()| clap_mangen::generate_to(Args::command(), dir));
    made.map_err(|error| {
        ApiError::invalid(format!("cannot write manual pages to {}: {error}", dir.display()), "")
    })?;
    Ok(Exit::Ok)
}
