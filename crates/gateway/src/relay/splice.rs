//! Two TCP sockets, with the kernel moving the bytes once there are many.

use std::cell::RefCell;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::pipe2;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::{BUFFER, Count, Moved, SCRATCH};

/// Full reads in a row after which a direction counts as busy.
const BUSY: u32 = 2;

/// Bytes asked of a pipe; the kernel gives 64 KiB without being asked.
const PIPE: usize = 256 * 1024;

/// Empty pipes that a thread keeps for the next busy stream.
const SHELF: usize = 32;

thread_local! {
    static SPARE: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// An empty pipe. Never given back with bytes in it: they would reach another connection.
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    fn take() -> io::Result<Self> {
        if let Some(pipe) = SPARE.with_borrow_mut(Vec::pop) {
            return Ok(pipe);
        }
        let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        // A refusal (too many pipes of one user) leaves the usual size.
        let _ = fcntl(&write, FcntlArg::F_SETPIPE_SZ(PIPE as i32));
        Ok(Self { read, write })
    }

    fn give_back(self) {
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < SHELF {
                spare.push(self);
            }
        });
    }
}

/// Both directions; an error of either ends both.
pub(super) async fn both(client: &TcpStream, backend: &TcpStream, moved: &Moved) -> io::Result<()> {
    let up = direction(client, backend, &moved.up);
    let down = direction(backend, client, &moved.down);
    tokio::try_join!(up, down).map(|_| ())
}

async fn direction(from: &TcpStream, to: &TcpStream, moved: &Count) -> io::Result<()> {
    let mut busy = 0;
    loop {
        from.readable().await?;
        let step = if busy >= BUSY {
            busy = 0;
            spliced(from, to, moved).await?
        } else {
            copied(from, to, moved).await?
        };
        match step {
            Step::Full => busy += 1,
            Step::Some => busy = 0,
            Step::Nothing => {}
            Step::End => break,
        }
    }
    // The other side may have gone already, which the other direction will tell.
    let _ = SockRef::from(to).shutdown(Shutdown::Write);
    Ok(())
}

#[derive(PartialEq, Eq)]
enum Step {
    /// As much as was asked for: there is more.
    Full,
    Some,
    Nothing,
    End,
}

/// One read and what it takes to get rid of it.
async fn copied(from: &TcpStream, to: &TcpStream, moved: &Count) -> io::Result<Step> {
    let (length, kept) = match BUFFER.with_borrow_mut(|buffer| read_and_write(from, to, buffer)) {
        Ok(done) => done,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Step::Nothing),
        Err(error) => return Err(error),
    };
    if length == 0 {
        return Ok(Step::End);
    }
    moved.add(length);
    let mut rest = &kept[..];
    while !rest.is_empty() {
        to.writable().await?;
        match to.try_write(rest) {
            Ok(taken) => rest = &rest[taken..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(if length >= SCRATCH / 4 { Step::Full } else { Step::Some })
}

/// Reads into the thread's buffer and writes what is taken at once; the length read and the rest.
fn read_and_write(from: &TcpStream, to: &TcpStream, buffer: &mut [u8]) -> io::Result<(usize, Vec<u8>)> {
    let length = from.try_read(buffer)?;
    if 0 < length && length < buffer.len() {
        drained(from);
    }
    let taken = match to.try_write(&buffer[..length]) {
        Ok(taken) => taken,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
        Err(error) => return Err(error),
    };
    Ok((length, buffer[taken..length].to_vec()))
}

/// A short read has emptied the socket, and epoll tells of what comes next: asking again before that
/// would be a system call for nothing at every request. An end is not forgotten by this.
fn drained(from: &TcpStream) {
    let nothing: io::Result<()> = from.try_io(Interest::READABLE, || Err(io::ErrorKind::WouldBlock.into()));
    drop(nothing);
}

/// Through a pipe until the sender pauses or ends.
async fn spliced(from: &TcpStream, to: &TcpStream, moved: &Count) -> io::Result<Step> {
    let Ok(pipe) = Pipe::take() else { return copied(from, to, moved).await };
    loop {
        let length = match pull(from, &pipe) {
            Ok(0) => {
                pipe.give_back();
                return Ok(Step::End);
            }
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                pipe.give_back();
                return Ok(Step::Nothing);
            }
            Err(error) => return Err(error),
        };
        moved.add(length);
        let mut left = length;
        while left > 0 {
            to.writable().await?;
            match push(&pipe, to, left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => left -= taken,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        // Lets the thread's other connections have their turn.
        tokio::task::consume_budget().await;
    }
}

fn flags() -> SpliceFFlags {
    SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE
}

fn pull(from: &TcpStream, pipe: &Pipe) -> io::Result<usize> {
    from.try_io(Interest::READABLE, || {
        Ok(splice(from.as_fd(), None, pipe.write.as_fd(), None, PIPE, flags())?)
    })
}

fn push(pipe: &Pipe, to: &TcpStream, length: usize) -> io::Result<usize> {
    to.try_io(Interest::WRITABLE, || Ok(splice(pipe.read.as_fd(), None, to.as_fd(), None, length, flags())?))
}
