//! The daemon's command line.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// The mesh daemon: joins this machine to a mesh and keeps running in the foreground.
#[derive(Debug, Parser)]
#[command(name = "sinewd", version, max_term_width = 100)]
#[command(
    after_help = "SIGHUP reloads the configuration; SIGTERM and SIGINT stop and undo every change to the \
host.\nExit codes: 0 clean, 1 usage or configuration, 2 cannot set up the host."
)]
pub(crate) struct Args {
    /// Configuration file (TOML)
    #[arg(long, value_name = "FILE", required_unless_present = "man")]
    pub(crate) config: Option<PathBuf>,

    /// Judge the configuration, say what is wrong with it, and start nothing
    #[arg(long)]
    pub(crate) check: bool,

    /// Write the manual page (sinewd.8) to standard output, and start nothing
    #[arg(long, exclusive = true)]
    pub(crate) man: bool,

    /// How to write the log on stderr
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,

    /// What to log: error, warn, info, debug, trace, or a filter such as `info,sinew_session=debug`
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    pub(crate) log_level: String,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}
