//! The helper's side: from its start to its end.
//!
//! It has one thread, and one more while it works in a namespace. It ends when the daemon does,
//! however that ends: the connection closes, and the kernel sends a signal in case somebody else
//! holds it open. Signals that are meant for the daemon (a terminal's, a service manager's) are
//! ignored, because the daemon's own clean end still needs the helper.

use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::ExitCode;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, dup2_stdin, getppid};
use sinew_platform::seqpacket::Seqpacket;
use sinew_platform::{privilege, socket};

use crate::attachments::Attachments;
use crate::codec::{MAX_MESSAGE, Request};

/// Sent by the kernel when the daemon is gone; nobody else uses it.
const ORPHANED: Signal = Signal::SIGUSR1;
/// Signals for the daemon.
const NOT_OURS: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];

/// Why serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The daemon is gone.
    Gone,
    /// It sent something that its own code never sends.
    Malformed,
}

/// The whole life of a helper process. `socket` is the daemon's control socket; standard input is
/// the connection to it.
pub fn run(socket: &Path) -> ExitCode {
    // Whatever the daemon was started with and did not close is none of our business.
    privilege::close_inherited();
    match begin(socket) {
        Ok(End::Gone) => ExitCode::SUCCESS,
        Ok(End::Malformed) => {
            eprintln!(
                "sinewd-helper: a message from the daemon makes no sense; ending, because it may have been taken over"
            );
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("sinewd-helper: {error}");
            ExitCode::FAILURE
        }
    }
}

fn begin(socket: &Path) -> io::Result<End> {
    let daemon = getppid();
    let end = Seqpacket::from_fd(io::stdin().as_fd().try_clone_to_owned()?)
        .map_err(|error| io::Error::other(format!("this is started by sinewd, not by people ({error})")))?;
    dup2_stdin(std::fs::File::open("/dev/null")?)?;
    let orphaned = watch_signals()?;
    prctl::set_pdeathsig(ORPHANED)?;
    prctl::set_name(c"sinewd-helper")?;
    privilege::harden()?;
    let runtime = socket.parent().unwrap_or(Path::new("/"));
    let folder_was_there = runtime.exists();
    let mut attachments = Attachments::new(runtime)?;
    let result = serve_until(&end, &mut attachments, Some((&orphaned, daemon)));
    // A daemon that stopped cleanly left nothing; one that was killed left the socket's name.
    socket::sweep(socket);
    if !folder_was_there {
        let _ = std::fs::remove_dir(runtime);
    }
    result
}

fn watch_signals() -> io::Result<SignalFd> {
    let mut blocked: SigSet = NOT_OURS.into_iter().collect();
    blocked.add(ORPHANED);
    blocked.thread_block()?;
    let watched: SigSet = [ORPHANED].into_iter().collect();
    Ok(SignalFd::with_flags(&watched, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

/// Answers until the other end is closed.
///
/// # Errors
/// When the connection fails.
pub fn serve(end: &Seqpacket, runtime: &Path) -> io::Result<End> {
    serve_until(end, &mut Attachments::new(runtime)?, None)
}

fn serve_until(
    end: &Seqpacket,
    attachments: &mut Attachments,
    orphaned: Option<(&SignalFd, Pid)>,
) -> io::Result<End> {
    loop {
        if let Some((signals, daemon)) = orphaned
            && is_orphan(end, signals, daemon)?
        {
            return Ok(End::Gone);
        }
        let mut buf = [0; MAX_MESSAGE];
        let received = end.receive(&mut buf)?;
        if received.len == 0 {
            return Ok(End::Gone);
        }
        let message = Request::decode(&buf[..received.len], received.descriptors.len());
        let (number, request) = match message {
            Ok(message) if !received.truncated => message,
            _ => return Ok(End::Malformed),
        };
        let (reply, descriptors) = attachments.answer(request, received.descriptors);
        let lent: Vec<_> = descriptors.iter().map(|fd| fd.as_fd()).collect();
        match end.send(&reply.encode(number), &lent) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(End::Gone),
            result => result?,
        }
    }
}

/// Waits for a message; true if the daemon is gone before there is one.
fn is_orphan(end: &Seqpacket, signals: &SignalFd, daemon: Pid) -> io::Result<bool> {
    loop {
        let mut ready =
            [PollFd::new(end.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            result => result?,
        };
        while signals.read_signal()?.is_some() {}
        if getppid() != daemon {
            return Ok(true);
        }
        if ready[0].any() == Some(true) {
            return Ok(false);
        }
    }
}
