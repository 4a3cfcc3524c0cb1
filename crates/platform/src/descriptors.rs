//! A message with a descriptor beside it, over a stream socket of this host (`SCM_RIGHTS`).
//!
//! Holding a descriptor of a network namespace is the authority to attach to it (protocol A9): no
//! path that could be exchanged, no process number that could be reused. A message is a length of
//! four bytes (little-endian), then as many bytes; the descriptor travels with the first of them.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// Longest message, bytes.
pub const MESSAGE_MAX: usize = 64 * 1024;

/// Sends one message; waits while the socket is full.
///
/// # Errors
/// `InvalidInput` above [`MESSAGE_MAX`]; else what the socket says.
pub fn send(stream: &mut UnixStream, message: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let length = u32::try_from(message.len()).ok().filter(|_| message.len() <= MESSAGE_MAX);
    let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "message too long"))?;
    let head = length.to_le_bytes();
    let raw: Vec<_> = descriptor.iter().map(AsRawFd::as_raw_fd).collect();
    let rights: Vec<_> = if raw.is_empty() { vec![] } else { vec![ControlMessage::ScmRights(&raw)] };
    let sent =
        sendmsg::<()>(stream.as_raw_fd(), &[IoSlice::new(&head)], &rights, MsgFlags::MSG_NOSIGNAL, None)?;
    // Four bytes go whole into any socket that takes one.
    stream.write_all(&head[sent..])?;
    stream.write_all(message)
}

/// Receives one message and the descriptor beside it, if there is one; waits for all of it.
///
/// # Errors
/// `UnexpectedEof` when the other side is gone, `InvalidData` for a message above [`MESSAGE_MAX`]
/// or more than one descriptor; else what the socket says.
pub fn receive(stream: &mut UnixStream) -> io::Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut head = [0; 4];
    let (got, descriptor) = receive_head(stream.as_fd(), &mut head)?;
    if got == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    stream.read_exact(&mut head[got..])?;
    let length = u32::from_le_bytes(head) as usize;
    if length > MESSAGE_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "message too long"));
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message)?;
    Ok((message, descriptor))
}

/// Room for this many descriptors; a sender of more is refused, and none of them stays open.
const ROOM: usize = 4;

fn receive_head(stream: BorrowedFd<'_>, head: &mut [u8; 4]) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut control = nix::cmsg_space!([libc::c_int; ROOM]);
    let mut parts = [IoSliceMut::new(head)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    let mut descriptors = Vec::new();
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = part {
            // SAFETY: the kernel has just made these descriptors for this process; nobody else owns them.
            descriptors.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    if descriptors.len() > 1 || message.flags.contains(MsgFlags::MSG_CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "more than one descriptor"));
    }
    Ok((message.bytes, descriptors.pop()))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read as _;

    use super::*;

    fn pair() -> (UnixStream, UnixStream) {
        UnixStream::pair().unwrap()
    }

    #[test]
    fn a_message_arrives_with_its_descriptor() {
        let (mut a, mut b) = pair();
        let file = File::open("/proc/self/comm").unwrap();
        send(&mut a, b"hello", Some(file.as_fd())).unwrap();
        let (message, descriptor) = receive(&mut b).unwrap();
        assert_eq!(message, b"hello");
        let mut text = String::new();
        File::from(descriptor.unwrap()).read_to_string(&mut text).unwrap();
        assert!(!text.is_empty());
    }

    #[test]
    fn a_message_without_descriptor_is_as_good() {
        let (mut a, mut b) = pair();
        send(&mut a, b"x", None).unwrap();
        send(&mut a, b"", None).unwrap();
        assert!(matches!(receive(&mut b).unwrap(), (message, None) if message == b"x"));
        assert!(matches!(receive(&mut b).unwrap(), (message, None) if message.is_empty()));
    }

    #[test]
    fn long_messages_and_several_descriptors_are_refused() {
        let (mut a, mut b) = pair();
        let long = vec![0; MESSAGE_MAX + 1];
        assert_eq!(send(&mut a, &long, None).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        a.write_all(&u32::MAX.to_le_bytes()).unwrap();
        assert_eq!(receive(&mut b).unwrap_err().kind(), io::ErrorKind::InvalidData);

        let (a, mut b) = pair();
        let two = [a.as_raw_fd(), a.as_raw_fd()];
        let parts = [IoSlice::new(&[1, 0, 0, 0])];
        let rights = [ControlMessage::ScmRights(&two)];
        sendmsg::<()>(a.as_raw_fd(), &parts, &rights, MsgFlags::empty(), None).unwrap();
        assert_eq!(receive(&mut b).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn the_end_of_the_other_side_is_an_end() {
        let (a, mut b) = pair();
        drop(a);
        assert_eq!(receive(&mut b).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
