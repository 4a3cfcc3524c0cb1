//! Why something was not done, in words for the operator, with the step that failed.

use std::io;

use nix::errno::Errno;
use sinew_platform::net::NetError;
use sinew_tun::TunError;

use crate::codec::Why;

/// One refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) why: Why,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn new(why: Why, text: impl Into<String>) -> Self {
        Self { why, text: text.into() }
    }

    /// A step that the kernel refused.
    pub(crate) fn step(action: impl std::fmt::Display, error: impl Into<io::Error>) -> Self {
        let error = error.into();
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EPERM | Errno::EACCES) => Self::new(
                Why::NotPermitted,
                format!(
                    "no permission to {action}: sinewd needs CAP_SYS_ADMIN and CAP_NET_ADMIN at its start"
                ),
            ),
            _ => Self::new(Why::Failed, format!("cannot {action}: {error}")),
        }
    }
}

impl From<NetError> for Failure {
    fn from(error: NetError) -> Self {
        let why = match &error {
            NetError::NotPermitted(_) => Why::NotPermitted,
            _ => Why::Failed,
        };
        Self::new(why, error.to_string())
    }
}

impl From<TunError> for Failure {
    fn from(error: TunError) -> Self {
        match &error {
            TunError::NoPrivilege { .. } => Self::new(Why::NotPermitted, error.to_string()),
            TunError::NameTaken { name } => {
                let text =
                    format!("interface `{name}` exists in the workload's namespace: choose another name");
                Self::new(Why::Taken, text)
            }
            _ => Self::new(Why::Failed, error.to_string()),
        }
    }
}
