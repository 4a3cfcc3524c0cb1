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

    /// No network of that name or id is here.
    pub fn unknown_network(network: &str) -> Self {
        let hint = "`sinew network ls` lists the networks of this node";
        Self::new("unknown_network", Exit::Unknown, format!("no network `{network}` here"), hint)
    }

    /// The network has no such member.
    pub fn unknown_member(network: &str, member: &str) -> Self {
        let hint = format!("`sinew network members {network}` lists them");
        Self::new("unknown_member", Exit::Unknown, format!("`{member}` is no member of {network}"), hint)
    }

    /// This node has no such workload.
    pub fn unknown_workload(workload: &str) -> Self {
        let hint = "`sinew workload ls` lists the workloads of this node";
        Self::new("unknown_workload", Exit::Unknown, format!("no workload `{workload}` here"), hint)
    }

    /// Nothing answers to that name.
    pub fn unknown_name(name: &str) -> Self {
        let hint = "`sinew dns records` lists the names that this node answers";
        Self::new("unknown_name", Exit::Unknown, format!("no record for `{name}`"), hint)
    }

    /// Nothing of that name is published through this gateway.
    pub fn unknown_service(service: &str) -> Self {
        let hint = "`sinew gateway ls` and `sinew gateway name ls` list what there is";
        Self::new("unknown_service", Exit::Unknown, format!("nothing here is called `{service}`"), hint)
    }

    /// This node serves nothing to people outside.
    pub fn no_gateway() -> Self {
        let hint = "add a [gateway] section to its configuration and restart it";
        Self::new("no_gateway", Exit::Usage, "this node is no gateway", hint)
    }

    /// Several networks fit.
    pub fn ambiguous_network(network: &str, candidates: &str) -> Self {
        let message = format!("`{network}` fits several networks");
        Self::new("ambiguous_network", Exit::Usage, message, format!("say which: {candidates}"))
    }

    /// The name is taken on this node.
    pub fn network_exists(name: &str) -> Self {
        let message = format!("this node has a network `{name}` already");
        Self::new("network_exists", Exit::Usage, message, "choose another name")
    }

    /// The name or tag is taken on this node.
    pub fn workload_exists(name: &str) -> Self {
        let message = format!("this node has a workload `{name}` already");
        let hint = format!("choose another name, or end it: `sinew workload detach {name}`");
        Self::new("workload_exists", Exit::Usage, message, hint)
    }

    /// The owner has not granted this node what the request needs; `scope` is the missing one.
    pub fn not_admin(network: &str, scope: &str) -> Self {
        let message = format!("this node may not do that in {network}: it lacks the scope `{scope}`");
        let hint = format!(
            "run it on an admin (`sinew network members {network}`), or let the owner grant it: \
`sinew network admin grant {network} NODE`"
        );
        Self::new("not_admin", Exit::Denied, message, hint)
    }

    /// A document or change that the rules of the network refuse.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new("refused", Exit::Denied, message, "")
    }

    /// The network is not ready on this node.
    pub fn network_not_ready(network: &str, why: &str) -> Self {
        let hint = format!("`sinew network show {network}` says what is missing");
        Self::new("network_not_ready", Exit::Degraded, format!("{network} is not ready: {why}"), hint)
    }

    /// Not a ticket, damaged, or of another version.
    pub fn bad_ticket(why: &str) -> Self {
        let hint = "copy the whole of it, from `sinewnet1` on; `sinew network invite` makes a new one";
        Self::new("bad_ticket", Exit::Usage, format!("this ticket cannot be used: {why}"), hint)
    }

    /// The acceptor said no: used up, expired, revoked, for another node.
    pub fn join_refused(why: &str) -> Self {
        let hint = "ask an admin of the network for a new one: `sinew network invite`";
        Self::new("join_refused", Exit::Denied, format!("the ticket was refused: {why}"), hint)
    }

    /// No acceptor of the ticket answered in time.
    pub fn join_unanswered(acceptors: &str) -> Self {
        let message = format!("nobody who accepts this ticket answers: {acceptors}");
        let hint = "is this node connected (`sinew peers`), and is the admin running? The ticket stays good";
        Self::new("join_unanswered", Exit::Unreachable, message, hint)
    }

    /// The namespace that was handed in cannot be used.
    pub fn bad_namespace(why: &str) -> Self {
        Self::new("bad_namespace", Exit::Usage, format!("this namespace cannot be attached: {why}"), "")
    }

    /// The other side's answer is not understood.
    pub fn bad_answer(what: &str) -> Self {
        let hint = "sinew and sinewd differ in version: `sinew --version`, `sinewd --version`";
        Self::new("bad_answer", Exit::Usage, format!("the daemon's answer is not understood: {what}"), hint)
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
