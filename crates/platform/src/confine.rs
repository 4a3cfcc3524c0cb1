//! What a process gives up for good, so that a fault in it is no way to the rest of the machine
//! (protocol A9).
//!
//! Two processes, two fences. The daemon, which faces the network, keeps no capability, may not
//! start programs, enter namespaces or touch other processes, and sees only the files it needs.
//! The helper keeps three capabilities and the system calls its verbs take, and starts no program
//! either. What is given up goes in an order: files while there is still a right to say so, then
//! capabilities, then system calls, since the filter forbids the rest.
//!
//! Capabilities and files are a thread's own, so all this is refused once there is a second
//! thread: it would be left outside.
//!
//! A kernel without one of the mechanisms runs the node all the same; each [`Gap`] is for people.

use std::io;
use std::path::PathBuf;

use caps::{CapSet, CapsHashSet};
use thiserror::Error;

mod files;
mod syscalls;

/// Capabilities of the helper, and what each is for.
const HELPER: [caps::Capability; 3] = [
    // Enter and mount namespaces.
    caps::Capability::CAP_SYS_ADMIN,
    // Make devices, set addresses and routes in them.
    caps::Capability::CAP_NET_ADMIN,
    // Answer DNS in them, port 53.
    caps::Capability::CAP_NET_BIND_SERVICE,
];

/// What the daemon may still do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fence {
    /// Files and folders it reads, besides those of the system that name resolution needs. What
    /// does not exist is left out.
    pub read: Vec<PathBuf>,
    /// Folders it also writes.
    pub write: Vec<PathBuf>,
    /// Whether it may connect to services of this host (the system bus). Some of them take orders
    /// from root that are as good as capabilities, so only where it is needed.
    pub local_services: bool,
}

/// Why a process is not confined, and must not go on.
#[derive(Debug, Error)]
pub enum ConfineError {
    /// Somebody started a thread too early.
    #[error("cannot give up privileges: {0} threads run already, and all but one would keep theirs")]
    Threads(usize),
    /// The kernel refuses to take capabilities away.
    #[error("cannot give up capabilities: {0}")]
    Capabilities(String),
    /// Without it there is no telling how many threads there are.
    #[error("cannot read /proc/self/task: {0}; mount /proc")]
    NoProc(io::Error),
}

/// A fence that this kernel does not have, or not whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gap {
    /// No filter of system calls.
    Syscalls(String),
    /// No restriction to files.
    Files(String),
}

impl Gap {
    /// A short name that stays, for scripts.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Syscalls(_) => "no_seccomp",
            Self::Files(_) => "no_landlock",
        }
    }

    /// For people: what is missing, and why.
    pub fn text(&self) -> String {
        match self {
            Self::Syscalls(why) => format!("the daemon's system calls are not filtered: {why}"),
            Self::Files(why) => format!("the daemon is not kept from files of others: {why}"),
        }
    }

    /// For people: what to do.
    pub const fn fix(&self) -> &'static str {
        match self {
            Self::Syscalls(_) => "use a kernel with CONFIG_SECCOMP_FILTER (x86-64, ARM64 or RISC-V)",
            Self::Files(_) => "use Linux 6.7 or newer and add `landlock` to its `lsm=` parameter",
        }
    }
}

/// Gives up, in the daemon, every capability and whatever `fence` does not name.
///
/// # Errors
/// [`ConfineError`]; the process must end then.
pub fn daemon(fence: &Fence) -> Result<Vec<Gap>, ConfineError> {
    only_one_thread()?;
    let mut gaps = Vec::new();
    no_new_privileges()?;
    gaps.extend(files::restrict(fence));
    keep_capabilities(&[])?;
    gaps.extend(syscalls::filter_daemon(fence.local_services));
    Ok(gaps)
}

/// Gives up, in the helper, all but what its verbs need.
///
/// # Errors
/// As [`daemon`].
pub fn helper() -> Result<Vec<Gap>, ConfineError> {
    only_one_thread()?;
    no_new_privileges()?;
    keep_capabilities(&HELPER)?;
    Ok(syscalls::filter_helper().into_iter().collect())
}

fn only_one_thread() -> Result<(), ConfineError> {
    match std::fs::read_dir("/proc/self/task").map_err(ConfineError::NoProc)?.count() {
        1 => Ok(()),
        more => Err(ConfineError::Threads(more)),
    }
}

fn no_new_privileges() -> Result<(), ConfineError> {
    nix::sys::prctl::set_no_new_privs().map_err(|errno| ConfineError::Capabilities(errno.to_string()))
}

/// Keeps of `kept` what the process has; nothing can come back.
fn keep_capabilities(kept: &[caps::Capability]) -> Result<(), ConfineError> {
    let failed = |error: caps::errors::CapsError| ConfineError::Capabilities(error.to_string());
    let permitted = caps::read(None, CapSet::Permitted).map_err(failed)?;
    // Without CAP_SETPCAP (a service unit that grants only what is needed) the bounding set stays,
    // which is of no use to a process that gains nothing by starting programs, and starts none.
    if permitted.contains(&caps::Capability::CAP_SETPCAP) {
        shrink_bounding_set(kept);
    }
    let rest: CapsHashSet = kept.iter().copied().filter(|cap| permitted.contains(cap)).collect();
    let none = CapsHashSet::new();
    // An old kernel has no ambient set; then there is nothing in it.
    let _ = caps::clear(None, CapSet::Ambient);
    caps::set(None, CapSet::Inheritable, &none).map_err(failed)?;
    caps::set(None, CapSet::Effective, &rest).map_err(failed)?;
    caps::set(None, CapSet::Permitted, &rest).map_err(failed)
}

/// By number, up to the last the kernel knows: it may know more of them than we do.
fn shrink_bounding_set(kept: &[caps::Capability]) {
    for number in 0..64u8 {
        if kept.iter().any(|cap| cap.index() == number) {
            continue;
        }
        // SAFETY: PR_CAPBSET_DROP takes integers by value.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(number), 0, 0, 0) } != 0 {
            break;
        }
    }
}

#[cfg(test)]
mod tests;
