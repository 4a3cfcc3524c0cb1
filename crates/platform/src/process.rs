//! Processes that cannot be taken for others, although the kernel uses numbers again.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor that stands for one process: readable once it has ended.
///
/// # Errors
/// `ESRCH` when there is no such process.
pub fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
    // SAFETY: pidfd_open takes integers by value.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match i32::try_from(fd) {
        // SAFETY: the kernel has just made this descriptor for us, closed on exec.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends a signal to the process that a pidfd stands for; no error when it has ended.
pub(crate) fn signal(pidfd: BorrowedFd<'_>, signal: i32) {
    let nothing: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: the descriptor lives through the call, and no siginfo is given.
    unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, nothing, 0) };
}

/// Waits until the process of a [`pidfd`] has ended.
///
/// # Errors
/// When the descriptor cannot be watched.
///
/// # Panics
/// Outside a tokio runtime with IO enabled.
pub async fn ended(pidfd: OwnedFd) -> io::Result<()> {
    // SAFETY: an OwnedFd always returns the same descriptor and closes it only when the AsyncFd drops it.
    let watched = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?;
    watched.readable().await.map(drop)
}

/// When a process started, in ticks since boot: together with its number this names it for good.
///
/// # Errors
/// When it has ended, or /proc is not there.
pub fn start_ticks(pid: u32) -> io::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    started(&stat).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// Whether the process of this number that started then still runs. One that waits to be buried
/// has ended.
pub fn is_running(pid: u32, start_ticks: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let buried = stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'));
    !buried && started(&stat) == Some(start_ticks)
}

/// Field 22 of stat. Field 2 is the program's name in brackets, which may hold anything.
fn started(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(") ")?;
    rest.split(' ').nth(19)?.parse().ok()
}

/// The network namespace of a process, open.
///
/// # Errors
/// When it has ended, or is not ours to look at.
pub fn network_namespace(pid: u32) -> io::Result<File> {
    File::open(format!("/proc/{pid}/ns/net"))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn the_start_is_found_behind_any_name() {
        let fields: Vec<_> = (4..=30).map(|field| field.to_string()).collect();
        let stat = format!("7 (a) b) (c)) S {}", fields.join(" "));
        assert_eq!(started(&stat), Some(22));
        assert_eq!(started("7 (x"), None);
        assert!(start_ticks(std::process::id()).is_ok_and(|ticks| ticks > 0));
    }

    #[test]
    fn a_process_that_ended_or_another_one_does_not_run() {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let (pid, ticks) = (child.id(), start_ticks(child.id()).unwrap());
        let ended = pidfd(pid).unwrap();
        assert!(is_running(pid, ticks) && !is_running(pid, ticks.wrapping_sub(1)));
        drop(child.stdin.take());
        let mut fds = [nix::poll::PollFd::new(ended.as_fd(), nix::poll::PollFlags::POLLIN)];
        assert_eq!(nix::poll::poll(&mut fds, 10_000_u16).unwrap(), 1);
        assert!(!is_running(pid, ticks), "not buried, but ended");
        child.wait().unwrap();
        assert!(!is_running(pid, ticks));
    }

    #[test]
    fn a_pidfd_needs_a_process() {
        assert!(pidfd(std::process::id()).is_ok());
        assert_eq!(pidfd(u32::MAX).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }
}
