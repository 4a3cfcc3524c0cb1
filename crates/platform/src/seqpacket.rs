//! Messages between two processes of one program, with descriptors attached.
//!
//! SOCK_SEQPACKET keeps messages apart and tells the end of the other side; SCM_RIGHTS carries
//! descriptors. What was cut off, on either count, is said: half a message is none.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg,
    socketpair,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Descriptors that one message may carry.
pub const MAX_DESCRIPTORS: usize = 16;

/// One end of a connection.
#[derive(Debug)]
pub struct Seqpacket(OwnedFd);

/// One message.
#[derive(Debug)]
pub struct Received {
    /// Its length; 0 when the other side is gone.
    pub len: usize,
    /// Descriptors that came with it, closed on exec.
    pub descriptors: Vec<OwnedFd>,
    /// Bytes or descriptors did not fit and are lost.
    pub truncated: bool,
}

impl Seqpacket {
    /// Two ends of a new connection, closed on exec.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        Ok((Self(one), Self(other)))
    }

    /// Takes over a descriptor, if it is one end of such a connection.
    ///
    /// # Errors
    /// `InvalidInput` for anything else.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        let kind = nix::sys::socket::getsockopt(&fd, nix::sys::socket::sockopt::SockType);
        match kind {
            Ok(SockType::SeqPacket) => Ok(Self(fd)),
            _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a SOCK_SEQPACKET socket")),
        }
    }

    /// Sends one message with descriptors, which stay open here.
    ///
    /// # Errors
    /// `BrokenPipe` when the other side is gone; `WouldBlock` on a non-blocking end.
    pub fn send(&self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &[][..] } else { &rights[..] };
        let sent = retry(|| {
            let parts = [IoSlice::new(message)];
            sendmsg::<()>(self.0.as_raw_fd(), &parts, control, MsgFlags::MSG_NOSIGNAL, None)
        })?;
        if sent == message.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Receives one message into `buf`.
    ///
    /// # Errors
    /// What the kernel says; `WouldBlock` on a non-blocking end.
    pub fn receive(&self, buf: &mut [u8]) -> io::Result<Received> {
        let mut space = nix::cmsg_space!([RawFd; MAX_DESCRIPTORS]);
        let mut parts = [IoSliceMut::new(buf)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = loop {
            match recvmsg::<()>(self.0.as_raw_fd(), &mut parts, Some(&mut space), flags) {
                Err(Errno::EINTR) => {}
                result => break result?,
            }
        };
        let truncated = message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC);
        let mut descriptors = Vec::new();
        for control in message.cmsgs().into_iter().flatten() {
            if let ControlMessageOwned::ScmRights(raw) = control {
                // SAFETY: the kernel has just made these descriptors for us, and nobody else knows them.
                descriptors.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        Ok(Received { len: message.bytes, descriptors, truncated })
    }
}

fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

/// The same for a task that must not be held up.
#[derive(Debug)]
pub struct AsyncSeqpacket(AsyncFd<Seqpacket>);

impl AsyncSeqpacket {
    /// Takes over one end.
    ///
    /// # Errors
    /// When it cannot be watched.
    ///
    /// # Panics
    /// Outside a tokio runtime with IO enabled.
    pub fn new(end: Seqpacket) -> io::Result<Self> {
        let flags = OFlag::from_bits_retain(fcntl(&end, FcntlArg::F_GETFL)?);
        fcntl(&end, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        // SAFETY: the end owns its descriptor, always returns the same one and closes it only when
        // the AsyncFd drops it.
        Ok(Self(unsafe { AsyncFd::register(end) }?))
    }

    /// As [`Seqpacket::send`]. Cancel safe: sent whole or not at all.
    ///
    /// # Errors
    /// As there.
    pub async fn send(&self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.0.async_io(Interest::WRITABLE, |end| end.send(message, descriptors)).await
    }

    /// As [`Seqpacket::receive`]. Cancel safe.
    ///
    /// # Errors
    /// As there.
    pub async fn receive(&self, buf: &mut [u8]) -> io::Result<Received> {
        self.0.async_io(Interest::READABLE, |end| end.receive(buf)).await
    }
}

impl AsFd for Seqpacket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Seqpacket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl From<Seqpacket> for OwnedFd {
    fn from(end: Seqpacket) -> Self {
        end.0
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read as _;

    use super::*;

    #[test]
    fn messages_stay_apart_and_carry_descriptors() {
        let (one, other) = Seqpacket::pair().unwrap();
        let file = File::open("/proc/self/comm").unwrap();
        one.send(b"first", &[file.as_fd()]).unwrap();
        one.send(b"second", &[]).unwrap();
        let mut buf = [0; 64];
        let mut first = other.receive(&mut buf).unwrap();
        assert_eq!((&buf[..first.len], first.descriptors.len(), first.truncated), (&b"first"[..], 1, false));
        let mut text = String::new();
        File::from(first.descriptors.remove(0)).read_to_string(&mut text).unwrap();
        assert!(!text.is_empty());
        let second = other.receive(&mut buf).unwrap();
        assert_eq!((&buf[..second.len], second.descriptors.len()), (&b"second"[..], 0));
        drop(one);
        assert_eq!(other.receive(&mut buf).unwrap().len, 0, "the other side is gone");
    }

    #[test]
    fn what_does_not_fit_is_said_to_be_cut() {
        let (one, other) = Seqpacket::pair().unwrap();
        one.send(&[7; 65], &[]).unwrap();
        assert!(other.receive(&mut [0; 64]).unwrap().truncated);
        let file = File::open("/dev/null").unwrap();
        one.send(b"x", &[file.as_fd(); MAX_DESCRIPTORS + 1]).unwrap();
        assert!(other.receive(&mut [0; 64]).unwrap().truncated);
    }

    #[test]
    fn other_descriptors_are_refused() {
        assert!(Seqpacket::from_fd(File::open("/dev/null").unwrap().into()).is_err());
        assert!(Seqpacket::from_fd(Seqpacket::pair().unwrap().0.into()).is_ok());
    }
}
