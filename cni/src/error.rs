//! Errors as runtimes expect them: a code of the specification, one line, and what to do.

use serde::Serialize;
use sinew_control::{ApiError, Exit};

/// Codes of the specification that this plugin uses, and two of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Code {
    /// Incompatible CNI version.
    Version = 1,
    /// Invalid necessary environment variables.
    Environment = 4,
    /// I/O failure.
    Io = 5,
    /// Failed to decode content.
    Decode = 6,
    /// Invalid network config.
    Config = 7,
    /// Try again later.
    TryAgain = 11,
    /// The plugin is not available (STATUS).
    NotAvailable = 50,
    /// The network's rules refuse it.
    Refused = 100,
    /// CHECK: the container is not as it was left.
    Changed = 101,
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CniError {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) details: String,
}

impl CniError {
    pub(crate) fn new(code: Code, message: impl Into<String>, details: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: details.into() }
    }

    pub(crate) fn io(message: impl Into<String>) -> Self {
        Self::new(Code::Io, message, "")
    }

    pub(crate) fn config(message: impl Into<String>, details: impl Into<String>) -> Self {
        Self::new(Code::Config, message, details)
    }

    pub(crate) fn changed(message: impl Into<String>) -> Self {
        Self::new(Code::Changed, message, "the runtime should delete and add it again")
    }

    /// The object on stdout.
    pub(crate) fn json(&self, version: &str) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Object<'a> {
            cni_version: &'a str,
            code: u32,
            msg: &'a str,
            #[serde(skip_serializing_if = "str::is_empty")]
            details: &'a str,
        }
        let object = Object {
            cni_version: version,
            code: self.code as u32,
            msg: &self.message,
            details: &self.details,
        };
        let text = serde_json::to_string(&object).expect("a plain struct with string keys");
        text + "\n"
    }
}

/// What the daemon refuses, or why it gives no answer.
impl From<ApiError> for CniError {
    fn from(error: ApiError) -> Self {
        let code = match (error.code.as_str(), Exit::from_code(error.exit)) {
            ("bad_namespace", _) => Code::Environment,
            // Ready, free or back in a moment: the runtime may try again.
            ("workload_exists" | "network_not_ready", _)
            | (_, Exit::NotRunning | Exit::Unreachable | Exit::Degraded) => Code::TryAgain,
            (_, Exit::Unknown | Exit::Usage) => Code::Config,
            _ => Code::Refused,
        };
        Self::new(code, error.message, error.hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_the_daemon_has_the_code_that_tells_the_runtime_what_to_do() {
        for (error, code) in [
            (ApiError::unknown_network("x"), 7),
            (ApiError::invalid("x", ""), 7),
            (ApiError::workload_exists("x"), 11),
            (ApiError::network_not_ready("x", "y"), 11),
            (ApiError::new("daemon_not_running", Exit::NotRunning, "x", ""), 11),
            (ApiError::bad_namespace("x"), 4),
            (ApiError::refused("x"), 100),
        ] {
            assert_eq!(CniError::from(error.clone()).code as u32, code, "{}", error.code);
        }
    }

    #[test]
    fn an_error_is_an_object_of_the_specification() {
        let error = CniError::new(Code::TryAgain, "no daemon", "start it");
        let text = error.json("1.0.0");
        assert_eq!(
            text,
            "{\"cniVersion\":\"1.0.0\",\"code\":11,\"msg\":\"no daemon\",\"details\":\"start it\"}\n"
        );
        assert!(!CniError::io("x").json("1.0.0").contains("details"));
    }
}
