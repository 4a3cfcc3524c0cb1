//! Network namespaces of others: what they are called by, how to work in one.
//!
//! A thread's namespace cannot be lent and given back without the risk of staying in the wrong
//! one, so [`enter`] works on a thread that ends with the work.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::fstat;
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

/// `NS_GET_NSTYPE` of linux/nsfs.h: the CLONE_NEW… flag of a namespace.
const NS_GET_NSTYPE: libc::Ioctl = 0xb703;

/// Whether `fd` is a network namespace. A file on which one was mounted once, or another kind of
/// namespace, is none.
pub fn is_network_namespace(fd: BorrowedFd<'_>) -> bool {
    // Not every file takes the ioctl for what it is: only those of nsfs are asked.
    let Ok(stat) = fstatfs(fd) else { return false };
    if stat.filesystem_type() != NSFS_MAGIC {
        return false;
    }
    // SAFETY: NS_GET_NSTYPE takes no argument and touches no memory of ours.
    unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE) == libc::CLONE_NEWNET }
}

/// What tells one namespace from another: device and inode.
///
/// # Errors
/// What the kernel says.
pub fn identity(fd: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    let stat = fstat(fd)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// The namespace of the calling thread.
///
/// # Errors
/// Without /proc.
pub fn own() -> io::Result<OwnedFd> {
    Ok(File::open("/proc/thread-self/ns/net")?.into())
}

/// Calls `work` on a thread of its own that lives in `namespace`: sockets, devices and
/// /proc/sys/net are those of the namespace there. Needs CAP_SYS_ADMIN here and there.
///
/// # Errors
/// When the namespace cannot be entered, or no thread be had.
pub fn enter<T: Send>(namespace: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    on_a_thread(|| {
        setns(namespace, CloneFlags::CLONE_NEWNET)?;
        Ok(work())
    })
}

/// A new, empty namespace. It lives as long as the descriptor, a mount of it or a process in it.
///
/// # Errors
/// Without CAP_SYS_ADMIN, or when the kernel's limit is reached.
pub fn make() -> io::Result<OwnedFd> {
    on_a_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        own()
    })
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the work in the namespace failed half-way")))
    })
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn only_network_namespaces_are_taken_for_some() {
        assert!(is_network_namespace(own().unwrap().as_fd()));
        for other in ["/proc/self/ns/mnt", "/proc/self/status", "/dev/null"] {
            assert!(!is_network_namespace(File::open(other).unwrap().as_fd()), "{other}");
        }
    }

    #[test]
    fn work_is_done_in_the_namespace_and_the_caller_stays_in_its_own() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let before = identity(own().unwrap().as_fd()).unwrap();
        let made = make().unwrap();
        let there = enter(made.as_fd(), || identity(own().unwrap().as_fd()).unwrap()).unwrap();
        assert_eq!(there, identity(made.as_fd()).unwrap());
        assert_ne!(there, before);
        assert_eq!(identity(own().unwrap().as_fd()).unwrap(), before);
    }
}
