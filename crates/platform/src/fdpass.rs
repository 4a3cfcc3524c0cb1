//! One question and one answer over a unix socket, with descriptors beside the question.
//!
//! The asker sends its message with the descriptors on the first byte, closes its sending side,
//! and reads the answer to the end. Nothing has to be framed, and a peer that stops halfway is
//! seen at once. Descriptors that were not asked for are closed, never kept.

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use tokio::io::Interest;

/// Bytes read at once.
const CHUNK: usize = 16 * 1024;
/// Room for as many descriptors as one message can carry (SCM_MAX_FD): of a list that is cut, those
/// that fit would stay open with nobody to know them.
const DESCRIPTORS: usize = 253;

/// Sends `message` with `fds` to the socket at `path`, and reads the answer, at most `limit` bytes.
/// Waits at most `patience` for each step.
///
/// # Errors
/// What the system says; `InvalidData` for a longer answer.
pub fn ask(
    path: &Path,
    message: &[u8],
    fds: &[BorrowedFd<'_>],
    limit: usize,
    patience: Duration,
) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let raw: Vec<RawFd> = fds.iter().map(|fd| fd.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &[][..] } else { &rights };
    let sent = sendmsg::<UnixAddr>(
        stream.as_raw_fd(),
        &[IoSlice::new(message)],
        control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    stream.write_all(message.get(sent..).unwrap_or_default())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    stream.take(most).read_to_end(&mut answer)?;
    if answer.len() > limit { Err(too_long()) } else { Ok(answer) }
}

/// Reads a question to its end: at most `limit` bytes and `most` descriptors, which are closed on
/// exec.
///
/// # Errors
/// What the system says; `InvalidData` for a longer question or more descriptors.
pub async fn question(
    stream: &tokio::net::UnixStream,
    limit: usize,
    most: usize,
) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let (mut message, mut fds) = (Vec::new(), Vec::new());
    loop {
        stream.readable().await?;
        let read =
            stream.try_io(Interest::READABLE, || read_some(stream.as_raw_fd(), &mut message, &mut fds));
        match read {
            Ok(0) => return Ok((message, fds)),
            Ok(_) if message.len() > limit || fds.len() > most => return Err(too_long()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

fn read_some(socket: RawFd, message: &mut Vec<u8>, fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut chunk = [0; CHUNK];
    let mut control = nix::cmsg_space!([RawFd; DESCRIPTORS]);
    let mut room = [IoSliceMut::new(&mut chunk)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let received = recvmsg::<UnixAddr>(socket, &mut room, Some(&mut control), flags)?;
    for part in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = part {
            // SAFETY: the kernel has just made these descriptors for us; nobody else has them.
            fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    let (bytes, cut) = (received.bytes, received.flags.contains(MsgFlags::MSG_CTRUNC));
    if cut {
        return Err(too_long());
    }
    message.extend_from_slice(&chunk[..bytes]);
    Ok(bytes)
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "too long, or too many descriptors")
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// A socket that answers one question with what `answer` makes of it.
    fn answering<T: Send + 'static>(
        answer: impl FnOnce(io::Result<(Vec<u8>, Vec<OwnedFd>)>) -> (Vec<u8>, T) + Send + 'static,
    ) -> (tempfile::TempDir, std::thread::JoinHandle<T>) {
        let dir = tempfile::tempdir().unwrap();
        let listener = std::os::unix::net::UnixListener::bind(dir.path().join("s")).unwrap();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                listener.set_nonblocking(true).unwrap();
                let listener = tokio::net::UnixListener::from_std(listener).unwrap();
                let (mut stream, _) = listener.accept().await.unwrap();
                let (bytes, result) = answer(question(&stream, 100_000, 2).await);
                stream.write_all(&bytes).await.unwrap();
                result
            })
        });
        (dir, thread)
    }

    #[test]
    fn descriptors_arrive_with_a_question_longer_than_a_read() {
        let (dir, thread) = answering(|asked| {
            let (message, fds) = asked.unwrap();
            let mut text = String::new();
            std::fs::File::from(fds.into_iter().next().unwrap()).read_to_string(&mut text).unwrap();
            (format!("{} {text}", message.len()).into_bytes(), ())
        });
        let file = dir.path().join("f");
        std::fs::write(&file, "inside").unwrap();
        let file = std::fs::File::open(file).unwrap();
        let patience = Duration::from_secs(10);
        let answer = ask(&dir.path().join("s"), &[7; 90_000], &[file.as_fd()], 100, patience).unwrap();
        thread.join().unwrap();
        assert_eq!(String::from_utf8(answer).unwrap(), "90000 inside");
    }

    #[test]
    fn more_than_was_asked_for_is_refused_on_both_sides() {
        let (dir, thread) = answering(|asked| (vec![0; 11], asked.unwrap_err().kind()));
        let here = std::fs::File::open("/").unwrap();
        let three = [here.as_fd(); 3];
        let refused = ask(&dir.path().join("s"), b"x", &three, 10, Duration::from_secs(10)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
        assert_eq!(thread.join().unwrap(), io::ErrorKind::InvalidData);
    }
}
