//! A socket for requests that bring descriptors (`SOCK_SEQPACKET`, `SCM_RIGHTS`).
//!
//! Holding a descriptor of a network namespace is the authority to attach to it (protocol A9): no
//! path that could be exchanged, no process number that could be reused. One message asks, one
//! answers; a message is a packet, so that neither side has to frame or to wait for the rest.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockFlag, SockType, accept4, getsockopt, recvmsg, send, sockopt,
};
use tokio::io::unix::AsyncFd;

use crate::socket::{SocketError, SocketGuard, listening};

/// Most descriptors of one request; a request with more is refused, and none of them stays open.
pub const DESCRIPTORS_MAX: usize = 2;
/// Room for as many as one message can carry (SCM_MAX_FD): what is cut off could not be closed.
const ROOM: usize = 253;

/// Where callers come in.
#[derive(Debug)]
pub struct Door {
    fd: AsyncFd<OwnedFd>,
}

impl Door {
    /// Opens the door at `path` with permission bits `mode`, owned by `group` if given.
    ///
    /// # Errors
    /// [`SocketError`] with the remedy.
    ///
    /// # Panics
    /// Outside a tokio runtime with IO enabled.
    pub fn open(path: &Path, mode: u32, group: Option<&str>) -> Result<(Self, SocketGuard), SocketError> {
        let (fd, guard) = listening(path, mode, group, SockType::SeqPacket)?;
        let watch = |source| SocketError::Io { action: "watch", path: path.to_owned(), source };
        Ok((Self { fd: watched(fd).map_err(watch)? }, guard))
    }

    /// The next caller.
    ///
    /// # Errors
    /// When this process has no descriptors left.
    pub async fn accept(&self) -> io::Result<Caller> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let raw = self.fd.async_io(tokio::io::Interest::READABLE, |fd| Ok(accept4(fd.as_raw_fd(), flags)?));
        // SAFETY: accept4 has just made this descriptor for us; nobody else owns it.
        let fd = unsafe { OwnedFd::from_raw_fd(raw.await?) };
        Ok(Caller { fd: watched(fd)? })
    }
}

/// One caller.
#[derive(Debug)]
pub struct Caller {
    fd: AsyncFd<OwnedFd>,
}

impl Caller {
    /// The process at the other end when it connected; 0 outside our PID namespace.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn pid(&self) -> io::Result<u32> {
        let cred = getsockopt(self.fd.get_ref(), sockopt::PeerCredentials)?;
        Ok(u32::try_from(cred.pid()).unwrap_or(0))
    }

    /// One message of at most `max` bytes with its descriptors.
    ///
    /// # Errors
    /// `UnexpectedEof` when the caller is gone, `InvalidData` for a longer message or more than
    /// [`DESCRIPTORS_MAX`] descriptors; else what the socket says.
    pub async fn receive(&self, max: usize) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
        self.fd.async_io(tokio::io::Interest::READABLE, |fd| receive(fd, max)).await
    }

    /// Sends one message.
    ///
    /// # Errors
    /// What the socket says; a caller that is gone is `BrokenPipe`.
    pub async fn send(&self, message: &[u8]) -> io::Result<()> {
        let write = |fd: &OwnedFd| Ok(send(fd.as_raw_fd(), message, MsgFlags::MSG_NOSIGNAL)?);
        self.fd.async_io(tokio::io::Interest::WRITABLE, write).await.map(drop)
    }
}

fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd always returns the same descriptor and closes it only when the AsyncFd drops it.
    unsafe { AsyncFd::register(fd) }.map_err(io::Error::from)
}

fn receive(fd: &OwnedFd, max: usize) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; max];
    let mut control = nix::cmsg_space!([libc::c_int; ROOM]);
    let (length, flags, descriptors) = {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(fd.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
        let mut descriptors = Vec::new();
        for part in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = part {
                // SAFETY: the kernel has just made these descriptors for this process; nobody else owns them.
                descriptors.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        (message.bytes, message.flags, descriptors)
    };
    let refused = |text| Err(io::Error::new(io::ErrorKind::InvalidData, text));
    if descriptors.len() > DESCRIPTORS_MAX {
        return refused("too many descriptors");
    }
    if flags.contains(MsgFlags::MSG_TRUNC) {
        return refused("message too long");
    }
    if length == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    bytes.truncate(length);
    Ok((bytes, descriptors))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{IoSlice, Read as _};

    use nix::sys::socket::{AddressFamily, ControlMessage, UnixAddr, connect, recv, sendmsg, socket};

    use super::*;

    fn call(path: &Path, message: &[u8], descriptors: &[i32]) -> OwnedFd {
        let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
        connect(fd.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
        let rights = [ControlMessage::ScmRights(descriptors)];
        let rights = if descriptors.is_empty() { &rights[..0] } else { &rights[..] };
        sendmsg::<()>(fd.as_raw_fd(), &[IoSlice::new(message)], rights, MsgFlags::empty(), None).unwrap();
        fd
    }

    #[tokio::test]
    async fn a_request_arrives_with_its_descriptors_and_is_answered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("attach.sock");
        let (door, _guard) = Door::open(&path, 0o660, None).unwrap();
        let file = File::open("/proc/self/comm").unwrap();
        let client = call(&path, b"hello", &[file.as_raw_fd(), file.as_raw_fd()]);
        let caller = door.accept().await.unwrap();
        assert_eq!(caller.pid().unwrap(), std::process::id());
        let (message, mut descriptors) = caller.receive(100).await.unwrap();
        assert_eq!((message.as_slice(), descriptors.len()), (b"hello".as_slice(), 2));
        let mut text = String::new();
        File::from(descriptors.remove(0)).read_to_string(&mut text).unwrap();
        assert!(!text.is_empty());
        caller.send(b"welcome").await.unwrap();
        let mut answer = [0; 20];
        assert_eq!(recv(client.as_raw_fd(), &mut answer, MsgFlags::empty()), Ok(7));
        drop(client);
        assert_eq!(caller.receive(100).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(caller.send(b"?").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn long_messages_and_too_many_descriptors_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("attach.sock");
        let (door, _guard) = Door::open(&path, 0o660, None).unwrap();
        let _long = call(&path, &[1; 101], &[]);
        let caller = door.accept().await.unwrap();
        assert_eq!(caller.receive(100).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
        let file = File::open("/proc/self/comm").unwrap();
        for count in [DESCRIPTORS_MAX + 1, ROOM] {
            let _many = call(&path, b"x", &vec![file.as_raw_fd(); count]);
            let caller = door.accept().await.unwrap();
            assert_eq!(caller.receive(100).await.unwrap_err().kind(), io::ErrorKind::InvalidData, "{count}");
        }
    }
}
