//! Another process of this host, named so that a reused number is noticed.
//!
//! While this daemon runs it holds a descriptor (`pidfd`), which becomes readable when the process
//! ends. Across a restart only number and start time can be kept; together they name one process.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// A process by its number and when it began, in clock ticks since the host started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// The number.
    pub pid: u32,
    /// Field 22 of `/proc/PID/stat`.
    pub started: u64,
}

impl Process {
    /// The process of this number that runs now.
    pub fn running(pid: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(Self { pid, started: start_time(&stat)? })
    }

    /// Whether it still runs.
    pub fn is_running(&self) -> bool {
        Self::running(self.pid) == Some(*self)
    }

    /// A descriptor that becomes readable when the process ends.
    ///
    /// # Errors
    /// `ESRCH` when it has ended already; else what the kernel says.
    pub fn watch(&self) -> io::Result<OwnedFd> {
        // SAFETY: pidfd_open takes two integers and returns a new descriptor or -1.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, self.pid, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us; it fits an int.
        let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
        // The number may have changed hands between its look-up and this call.
        if self.is_running() { Ok(fd) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) }
    }
}

/// The name in parentheses may hold anything, also spaces and parentheses: count from its end.
/// A zombie has ended, whatever its parent still wants to know.
fn start_time(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let tail = " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 23 24";
        for name in ["cat", "a b", "x) S (y", "))"] {
            assert_eq!(start_time(&format!("7 ({name}){tail}")), Some(4711), "{name}");
        }
        assert_eq!(start_time(&format!("7 (x){}", tail.replacen('S', "Z", 1))), None);
        assert_eq!(start_time("7 (x) S 1"), None);
        assert_eq!(start_time(""), None);
    }

    #[test]
    fn the_end_of_a_process_is_seen() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let process = Process::running(child.id()).unwrap();
        assert!(process.is_running());
        let watch = process.watch().unwrap();
        let mut fds = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, PollTimeout::ZERO).unwrap(), 0, "it has not ended yet");
        drop(child.stdin.take());
        assert_eq!(poll(&mut fds, 10_000_u16).unwrap(), 1);
        child.wait().unwrap();
        assert!(!process.is_running());
        assert!(process.watch().is_err());
    }

    #[test]
    fn a_reused_number_is_another_process() {
        let own = Process::running(std::process::id()).unwrap();
        let former = Process { started: own.started.wrapping_sub(1), ..own };
        assert!(own.is_running() && !former.is_running());
        assert!(former.watch().is_err());
    }
}
