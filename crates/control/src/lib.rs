//! What the daemon and its operators say to each other: the control API, and the configuration file.
//!
//! The API is HTTP with JSON over a unix socket ([`paths`] names its resources, [`api`] their
//! types). Every top-level object is a [`Versioned`] body, so scripts can tell what they read;
//! fields are only ever added within one schema version. Failures carry an [`ApiError`] with the
//! exit code that the command line ends with, so daemon and tool agree on what went wrong.
//!
//! The configuration ([`config`]) lives here too, because the daemon runs on it, `sinew config
//! check` judges it and `peers add --save` edits it: one parser, one verdict. The files that it
//! names are read elsewhere: files of secrets are a matter of the host.
//!
//! This is the only crate of the core that knows serde; it knows no protocol and no state.

pub mod api;
pub mod config;
pub mod doctor;
mod error;
pub mod paths;
pub mod policy_file;
pub mod publish_file;
pub mod resolv;
pub mod secrets;
pub mod target;
pub mod time;

pub use error::{ApiError, Exit};

use serde::{Deserialize, Serialize};

/// Version of every JSON object that this crate describes.
pub const SCHEMA_VERSION: u32 = 1;

/// Where the daemon listens for its operators unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/sinew/sinew.sock";

/// A top-level JSON object: a body's fields beside `schema_version`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Versioned<T> {
    /// Always [`SCHEMA_VERSION`] when we write; readers refuse what they do not know.
    pub schema_version: u32,
    /// The object itself.
    #[serde(flatten)]
    pub body: T,
}

impl<T> Versioned<T> {
    /// `body` in the current version.
    pub const fn new(body: T) -> Self {
        Self { schema_version: SCHEMA_VERSION, body }
    }
}
