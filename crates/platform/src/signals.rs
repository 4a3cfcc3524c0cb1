//! Signals for a supervisor that passes them on to its program.
//!
//! What a terminal sends (`^C`) goes to the program as well, since both are in its foreground; only
//! what somebody sent to the supervisor alone has to be passed on. The kernel tells the two apart
//! for who reads signals from a descriptor.

use std::io;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What a supervisor passes on.
const PASSED_ON: [Signal; 6] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// Signals that came to this process.
#[derive(Debug)]
pub struct Signals(AsyncFd<SignalFd>);

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Its number.
    pub number: i32,
    /// A process sent it to this one; otherwise the kernel, to the whole foreground.
    pub to_us_alone: bool,
}

impl Signals {
    /// From now on the signals that a supervisor passes on have no effect on this thread and those
    /// it starts, but come out of [`Signals::next`]. Programs that are started are not affected.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Panics
    /// Outside a tokio runtime with IO enabled.
    pub fn catch() -> io::Result<Self> {
        let mut set = SigSet::empty();
        PASSED_ON.into_iter().for_each(|signal| set.add(signal));
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        // SAFETY: the descriptor is owned by the AsyncFd and closed with it, not before.
        Ok(Self(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE)? }))
    }

    /// The next one.
    ///
    /// # Errors
    /// What the system says.
    pub async fn next(&self) -> io::Result<Arrived> {
        loop {
            let mut ready = self.0.readable().await?;
            match self.0.get_ref().read_signal()? {
                Some(info) => {
                    let number = i32::try_from(info.ssi_signo).unwrap_or(libc::SIGTERM);
                    // kill, sigqueue and tgkill have codes from 0 down (sigaction(2)).
                    return Ok(Arrived { number, to_us_alone: info.ssi_code <= 0 });
                }
                None => ready.clear_ready(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_was_sent_to_us_says_so() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let arrived = runtime.block_on(async {
            let signals = Signals::catch().unwrap();
            // To this thread: another test's would not have it blocked.
            // SAFETY: takes values; the thread is this one.
            unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGUSR1) };
            signals.next().await.unwrap()
        });
        assert_eq!(arrived, Arrived { number: libc::SIGUSR1, to_us_alone: true });
    }
}
