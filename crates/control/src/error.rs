//! How a request fails, and the exit code that the command line makes of it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Exit codes of the `sinew` command; part of the outside interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done as asked.
    Ok = 0,
    /// Wrong usage or configuration.
    Usage = 1,
    /// Reachable but not as asked: relayed, degraded, not ready.
    Degraded = 2,
    /// Unreachable or timed out.
    Unreachable = 3,
    /// Unknown peer, network or name.
    Unknown = 4,
    /// Denied by permission or policy.
    Denied = 5,
    /// The daemon does not run.
    NotRunning = 6,
    /// Refused without `--accept-risk`.
    Risk = 7,
}

impl Exit {
    /// The number.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The exit behind a number; unknown numbers count as [`Exit::Usage`].
    pub const fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Ok,
            2 => Self::Degraded,
            3 => Self::Unreachable,
            4 => Self::Unknown,
            5 => Self::Denied,
            6 => Self::NotRunning,
            7 => Self::Risk,
            _ => Self::Usage,
        }
    }
}

/// A refused or failed request; the body of every answer that is not 2xx, [versioned](crate::Versioned).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct ApiError {
    /// Stable word for scripts, such as `unknown_target`.
    pub code: String,
    /// One line for people: what went wrong.
    pub message: String,
    /// The next step, empty where there is none.
    #[serde(default)]
    pub hint: String,
    /// Exit code of the command line ([`Exit`]).
    pub exit: u8,
}

impl ApiError {
    /// An error of any kind; prefer the named constructors.
    pub fn new(code: &str, exit: Exit, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), hint: hint.into(), exit: exit.code() }
    }

    /// The request itself makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new("bad_request", Exit::Usage, message, "")
    }

    /// A value is refused; `hint` says what would be taken.
    pub fn invalid(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new("invalid", Exit::Usage, message, hint)
    }

    /// The configuration file is refused; nothing was changed.
    pub fn bad_config(message: impl Into<String>) -> Self {
        Self::new(
            "bad_config",
            Exit::Usage,
            message,
            "nothing was changed; correct the file and reload again",
        )
    }

    /// No peer or node of that name, id or address is known.
    pub fn unknown_target(target: &str) -> Self {
        let hint = "`sinew peers` and `sinew routes` list what this node knows";
        Self::new("unknown_target", Exit::Unknown, format!("`{target}` is not known here"), hint)
    }

    /// The target is known but cannot be reached.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::new("unreachable", Exit::Unreachable, message, "`sinew trace` shows how far packets get")
    }

    /// Nothing came back in time.
    pub fn timed_out(message: impl Into<String>) -> Self {
        Self::new("timed_out", Exit::Unreachable, message, "")
    }

    /// The caller may not do this.
    pub fn denied(message: impl Into<String>) -> Self {
        Self::new("denied", Exit::Denied, message, "run it as root or as a member of group `sinew`")
    }

    /// This version does not do that.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new("unsupported", Exit::Usage, message, "")
    }

    /// No resource has that path, or not with that method.
    pub fn no_such_resource(path: &str) -> Self {
        let hint = "sinew and sinewd differ in version: `sinew --version`, `sinewd --version`";
        Self::new("no_such_resource", Exit::Usage, format!("the daemon has no {path}"), hint)
    }

    /// The daemon failed although the request was fine.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new("internal", Exit::Degraded, message, "the daemon's log says more")
    }

    /// HTTP status that goes with the error.
    pub fn http_status(&self) -> u16 {
        match (self.code.as_str(), Exit::from_code(self.exit)) {
            ("internal", _) => 500,
            ("unsupported", _) => 501,
            ("no_such_resource", _) | (_, Exit::Unknown) => 404,
            (_, Exit::Denied) => 403,
            (_, Exit::Degraded | Exit::NotRunning) => 503,
            (_, Exit::Unreachable) => 504,
            (_, Exit::Risk) => 409,
            (_, Exit::Ok | Exit::Usage) => 400,
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
