//! The control socket: a name in the file system that belongs to one running daemon.
//!
//! A killed daemon leaves the name behind. The next one takes it over, but only if nobody answers
//! there any more and only if it is a socket. It carries its final permissions from the first
//! moment: the mode is set on the descriptor before `bind` makes the name.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, Group, chown};
use thiserror::Error;
use tokio::net::{UnixListener, UnixStream};

/// Connections the kernel holds until they are accepted.
const BACKLOG: i32 = 64;

/// Why there is no control socket.
#[derive(Debug, Error)]
pub enum SocketError {
    /// Another daemon answers there.
    #[error("{} is in use: another daemon runs (`ss -xlp`); stop it, or set another [control] socket", .0.display())]
    InUse(PathBuf),
    /// Something that is no socket has the name.
    #[error("{} exists and is no socket: remove it, or set another [control] socket", .0.display())]
    NotASocket(PathBuf),
    /// Longer than a socket's name may be.
    #[error("{} is too long for a socket: at most 107 bytes", .0.display())]
    TooLong(PathBuf),
    /// The group does not exist.
    #[error("there is no group `{0}`: `groupadd --system {0}`")]
    NoGroup(String),
    /// Anything else.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Removes the socket's name when dropped, if it is still ours, and the directory if it was made
/// for it and is empty. Until then the socket counts as in use, even if the listener is gone, so
/// that nobody takes the name over just before it is removed.
#[derive(Debug)]
pub struct SocketGuard {
    path: PathBuf,
    /// Keeps answering other daemons that ask whether the socket is stale.
    _answering: OwnedFd,
    identity: (u64, u64),
    made_directory: Option<PathBuf>,
}

impl SocketGuard {
    /// Where the socket is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketGuard {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            let _ = std::fs::remove_file(&self.path);
        }
        if let Some(directory) = &self.made_directory {
            let _ = std::fs::remove_dir(directory);
        }
    }
}

/// Listens at `path` with permission bits `mode`, owned by `group` if given (by name). A missing
/// directory is made (0755).
///
/// # Errors
/// [`SocketError`] with the remedy.
///
/// # Panics
/// Outside a tokio runtime with IO enabled.
pub fn unix_listener(
    path: &Path,
    mode: u32,
    group: Option<&str>,
) -> Result<(UnixListener, SocketGuard), SocketError> {
    let io = |action| {
        let path = path.to_owned();
        move |source| SocketError::Io { action, path, source }
    };
    let address = UnixAddr::new(path).map_err(|_| SocketError::TooLong(path.to_owned()))?;
    let group = group.map(find_group).transpose()?;
    let directory = directory_of(path);
    let made_directory = make_directory(&directory).map_err(io("make the directory of"))?;
    // Two daemons that start at once take turns here, or both could find the old socket stale.
    let lock = File::open(&directory).map_err(io("open the directory of"))?;
    let lock = Flock::lock(lock, FlockArg::LockExclusive)
        .map_err(|(_, errno)| io("lock the directory of")(errno.into()))?;
    remove_stale(path, &address)?;
    let fd = bind_at(&address, mode).map_err(|errno| io("bind")(errno.into()))?;
    let guard = SocketGuard {
        path: path.to_owned(),
        _answering: fd.try_clone().map_err(io("hold"))?,
        identity: identity(path).map_err(io("find"))?,
        made_directory,
    };
    if let Some(gid) = group {
        chown(path, None, Some(gid)).map_err(|errno| io("set the group of")(errno.into()))?;
    }
    // The umask took bits at `bind`, chown may have: the group gets its share only now.
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).map_err(io("set the mode of"))?;
    listen(&fd, Backlog::new(BACKLOG).unwrap_or(Backlog::MAXCONN))
        .map_err(|errno| io("listen on")(errno.into()))?;
    drop(lock);
    let listener = UnixListener::from_std(fd.into()).map_err(io("watch"))?;
    Ok((listener, guard))
}

fn bind_at(address: &UnixAddr, mode: u32) -> nix::Result<OwnedFd> {
    let fd = stream_socket()?;
    // Linux gives the name the descriptor's mode, less the umask: never more than wanted.
    fchmod(&fd, Mode::from_bits_truncate(mode & 0o700))?;
    bind(fd.as_raw_fd(), address)?;
    Ok(fd)
}

fn stream_socket() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Unix, SockType::Stream, flags, None)
}

/// Removes a socket that nobody listens on.
fn remove_stale(path: &Path, address: &UnixAddr) -> Result<(), SocketError> {
    let io = |action| {
        let path = path.to_owned();
        move |source| SocketError::Io { action, path, source }
    };
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io("examine")(error)),
        Ok(meta) if !meta.file_type().is_socket() => return Err(SocketError::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    let probe = stream_socket().map_err(|errno| io("probe")(errno.into()))?;
    match connect(probe.as_raw_fd(), address) {
        Err(Errno::ECONNREFUSED) => {
            tracing::info!(path = %path.display(), "removing the socket of a daemon that is gone");
            std::fs::remove_file(path).map_err(io("remove"))
        }
        Err(Errno::ENOENT) => Ok(()),
        // Answered, or its queue is full (EAGAIN): somebody is there.
        Ok(()) | Err(Errno::EAGAIN) => Err(SocketError::InUse(path.to_owned())),
        Err(errno) => Err(io("probe")(errno.into())),
    }
}

/// Removes the name of a control socket if nobody answers there: what a daemon leaves that was
/// killed. Anything else stays, and so does the name while another daemon starts.
pub fn sweep(path: &Path) {
    let Ok(address) = UnixAddr::new(path) else { return };
    let Ok(directory) = File::open(directory_of(path)) else { return };
    if let Ok(_turn) = Flock::lock(directory, FlockArg::LockExclusive) {
        let _ = remove_stale(path, &address);
    }
}

fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn make_directory(directory: &Path) -> io::Result<Option<PathBuf>> {
    if directory.is_dir() {
        return Ok(None);
    }
    DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    Ok(Some(directory.to_owned()))
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    path.symlink_metadata().map(|meta| (meta.dev(), meta.ino()))
}

fn find_group(name: &str) -> Result<Gid, SocketError> {
    Group::from_name(name)
        .ok()
        .flatten()
        .map(|group| group.gid)
        .ok_or_else(|| SocketError::NoGroup(name.to_owned()))
}

/// Who is at the other end of a control connection, as the kernel saw it connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCred {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Process, if it lives in a PID namespace we see.
    pub pid: Option<i32>,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

impl PeerCred {
    /// Whether it is root, the user this process runs as, or a member of `group` (a number).
    pub fn may_operate(&self, group: Option<u32>) -> bool {
        let member = |gid| self.gid == gid || self.groups.contains(&gid);
        self.uid == 0 || self.uid == nix::unistd::geteuid().as_raw() || group.is_some_and(member)
    }
}

/// The number of the group `name`, if there is one.
pub fn group_id(name: &str) -> Option<u32> {
    find_group(name).ok().map(Gid::as_raw)
}

/// Who is at the other end of `stream`.
///
/// # Errors
/// What the kernel says.
pub fn peer_cred(stream: &UnixStream) -> io::Result<PeerCred> {
    let cred = stream.peer_cred()?;
    Ok(PeerCred { uid: cred.uid(), gid: cred.gid(), pid: cred.pid(), groups: peer_groups(stream)? })
}

/// SO_PEERGROUPS: a list whose length the kernel tells when the room is too small.
fn peer_groups(stream: &UnixStream) -> io::Result<Vec<u32>> {
    /// Linux' own limit (NGROUPS_MAX).
    const GROUPS_MAX: usize = 65_536;
    let mut groups = vec![0u32; 32];
    loop {
        let mut len = libc::socklen_t::try_from(size_of_val(groups.as_slice())).map_err(io::Error::other)?;
        // SAFETY: `groups` has `len` bytes of room and `len` is a valid length to update.
        let result = unsafe {
            libc::getsockopt(
                stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &mut len,
            )
        };
        let count = len as usize / size_of::<u32>();
        if result == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() || count > GROUPS_MAX {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

#[cfg(test)]
mod tests;
