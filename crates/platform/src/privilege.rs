//! What this process may do, and what others may do to it.

use std::fmt;
use std::io;

use thiserror::Error;

/// Capabilities a node may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capability {
    /// Make TUN devices, set addresses and routes.
    NetAdmin,
    /// Listen on ports below 1024.
    NetBindService,
}

impl Capability {
    /// Its number in linux/capability.h.
    const fn bit(self) -> u32 {
        match self {
            Self::NetBindService => 10,
            Self::NetAdmin => 12,
        }
    }

    /// Its name in capabilities(7).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NetBindService => "CAP_NET_BIND_SERVICE",
            Self::NetAdmin => "CAP_NET_ADMIN",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is missing to run as configured.
#[derive(Debug, Error)]
#[error("missing {}: run as root, or set `AmbientCapabilities={}` in the service unit", join(.0, ", "), join(.0, " "))]
pub struct Missing(pub Vec<Capability>);

fn join(capabilities: &[Capability], between: &str) -> String {
    capabilities.iter().map(|capability| capability.as_str()).collect::<Vec<_>>().join(between)
}

/// Checks that the calling thread has all of `needed`. Where that cannot be found out (no /proc)
/// nothing is missing; what needs the capability will say so.
///
/// # Errors
/// [`Missing`] with the names.
pub fn check(needed: &[Capability]) -> Result<(), Missing> {
    let Some(effective) = effective() else { return Ok(()) };
    let missing: Vec<_> = needed.iter().copied().filter(|c| effective & (1 << c.bit()) == 0).collect();
    if missing.is_empty() { Ok(()) } else { Err(Missing(missing)) }
}

/// The effective set of the calling thread.
fn effective() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/thread-self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// Keeps keys out of core dumps and away from debuggers of the same user (protocol A9). Call
/// once, before any key is read.
///
/// # Errors
/// What the kernel says; the process is then as open as before.
pub fn harden() -> io::Result<()> {
    // SAFETY: PR_SET_DUMPABLE takes integers by value.
    if unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `none` is a valid rlimit that lives through the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Lets this process have as many descriptors as its hard limit says, and tells how many that are; where it
/// cannot be told, as few as any system gives.
pub fn raise_descriptors() -> u64 {
    const LEAST: u64 = 1024;
    let mut limit = libc::rlimit { rlim_cur: LEAST, rlim_max: LEAST };
    // SAFETY: `limit` is a valid rlimit to write to that lives through the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return LEAST;
    }
    let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
    // SAFETY: `raised` is a valid rlimit that lives through the call.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raised) } == 0 {
        raised.rlim_cur
    } else {
        limit.rlim_cur
    }
}

/// Closes every descriptor but standard input, output and error. The first thing a process does
/// that was started by a bigger one: whatever owns a descriptor here afterwards owns nothing.
pub fn close_inherited() {
    // SAFETY: takes integers by value; that nothing here owns these descriptors yet is the caller's
    // promise. Kernels before 5.9 refuse, and what closes on exec is closed all the same.
    unsafe { libc::syscall(libc::SYS_close_range, 3 as libc::c_uint, libc::c_uint::MAX, 0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_capabilities_are_named_with_the_remedy() {
        let text = Missing(vec![Capability::NetAdmin, Capability::NetBindService]).to_string();
        assert!(text.contains("CAP_NET_ADMIN, CAP_NET_BIND_SERVICE"), "{text}");
        assert!(text.contains("AmbientCapabilities=CAP_NET_ADMIN CAP_NET_BIND_SERVICE"), "{text}");
    }

    #[test]
    fn nothing_is_missing_where_nothing_is_needed() {
        assert!(check(&[]).is_ok());
        assert!(effective().is_some(), "/proc/thread-self/status has CapEff");
    }

    #[test]
    fn a_hardened_process_is_not_dumpable() {
        harden().unwrap();
        // SAFETY: PR_GET_DUMPABLE takes no arguments.
        assert_eq!(unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0) }, 0);
    }
}
