//! `config reload` and what the daemon runs on.

use serde::{Deserialize, Serialize};

use crate::config::Change;

/// The configuration that the daemon loaded last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedConfig {
    /// Where it came from.
    pub file: String,
    /// When, RFC 3339.
    pub loaded_at: String,
    /// The file's text as it was then.
    pub text: String,
}

/// What a reload did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    /// The file that was read.
    pub file: String,
    /// Each key that differs, and its effect. Keys that need a restart keep their old value.
    pub changes: Vec<Change>,
}
