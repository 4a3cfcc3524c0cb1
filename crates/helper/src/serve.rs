//! The helper's side: from its start to its end.
//!
//! It has one thread, and one more while it works in a namespace. It ends when the daemon does,
//! however that ends: the connection closes, and the kernel sends a signal in case somebody else
//! holds it open. Signals that are meant for the daemon (a terminal's, a service manager's) are
//! ignored, because the daemon's own clean end still needs the helper.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{Pid, dup2_stdin, getppid};
use sinew_platform::seqpacket::Seqpacket;
use sinew_platform::{confine, privilege, program, socket};

use crate::attachments::Attachments;
use crate::codec::{MAX_MESSAGE, Request};

/// The words that make `sinewd` a helper instead of a daemon: the first, then one of two, then
/// the folder of pins and the sockets.
const ARGUMENT: &str = "--helper";
const MADE: &str = "folder-made";
const FOUND: &str = "folder-found";

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

/// What a helper is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// The daemon makes the folder of its sockets, so that it has to go again.
    made: bool,
    /// Where namespaces get their names.
    pins: PathBuf,
    /// The daemon's sockets.
    sockets: Vec<PathBuf>,
}

impl Arguments {
    pub(crate) fn new(pins: &Path, sockets: &[&Path]) -> io::Result<Self> {
        let sockets = sockets.iter().map(std::path::absolute).collect::<io::Result<Vec<_>>>()?;
        let mut arguments = Self { made: false, pins: std::path::absolute(pins)?, sockets };
        arguments.made = !arguments.runtime().exists();
        Ok(arguments)
    }

    /// The folder of pins and sockets.
    fn runtime(&self) -> &Path {
        self.pins.parent().unwrap_or(Path::new("/"))
    }

    /// As words of a command line.
    pub(crate) fn words(&self) -> Vec<OsString> {
        let made = if self.made { MADE } else { FOUND };
        let sockets = self.sockets.iter().map(OsString::from);
        [ARGUMENT.into(), made.into(), self.pins.clone().into()].into_iter().chain(sockets).collect()
    }

    /// Reads them back; `None` if this is no helper.
    fn read(mut words: impl Iterator<Item = OsString>) -> Option<Self> {
        let (first, made, pins) = (words.next()?, words.next()?, words.next()?);
        let whole = first == ARGUMENT && (made == MADE || made == FOUND);
        let sockets = words.map(PathBuf::from).collect();
        whole.then(|| Self { made: made == MADE, pins: pins.into(), sockets })
    }
}

/// The whole life of a helper process, if this is one: call it first of all in `main`.
pub fn run() -> Option<ExitCode> {
    let arguments = Arguments::read(std::env::args_os().skip(1))?;
    // Whatever the daemon was started with and did not close is none of our business.
    privilege::close_inherited();
    Some(match begin(&arguments) {
        Ok(End::Gone) => ExitCode::SUCCESS,
        Ok(End::Malformed) => {
            eprintln!(
                "sinewd-helper: a message from the daemon makes no sense; ending, because it may have been \
                 taken over"
            );
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("sinewd-helper: {error}");
            ExitCode::FAILURE
        }
    })
}

fn begin(arguments: &Arguments) -> io::Result<End> {
    let daemon = getppid();
    let end = Seqpacket::from_fd(io::stdin().as_fd().try_clone_to_owned()?)
        .map_err(|error| io::Error::other(format!("this is started by sinewd, not by people ({error})")))?;
    dup2_stdin(std::fs::File::open("/dev/null")?)?;
    let orphaned = watch_signals()?;
    prctl::set_pdeathsig(ORPHANED)?;
    prctl::set_name(c"sinewd-helper")?;
    privilege::harden()?;
    let runtime = arguments.runtime();
    let mut attachments = Attachments::new(&arguments.pins)?;
    // The daemon tells of what this kernel lacks.
    confine::helper().map_err(io::Error::other)?;
    let result = serve_until(&end, &mut attachments, Some((&orphaned, daemon)));
    // Even a daemon that stops cleanly leaves them: it may no longer remove anything there.
    arguments.sockets.iter().for_each(|path| socket::sweep(path));
    if arguments.made {
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
pub fn serve(end: &Seqpacket, pins: &Path) -> io::Result<End> {
    serve_until(end, &mut Attachments::new(pins)?, None)
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
        // Most of its life it waits: what it used for the last answer goes meanwhile.
        program::give_back();
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
