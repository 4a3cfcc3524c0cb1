//! Noticing at once that the machine has slept, or that its clock was set.
//!
//! While a machine sleeps its timers stand still: what was to happen in five seconds happens five
//! seconds after the lid opens, and peers that gave us up an hour ago would be waited for. The
//! kernel cancels a timer on the wall clock when that clock jumps, which it does on resume too. How
//! long the sleep was is the difference between the clock that includes it and the one that does
//! not.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::unix::AsyncFd;

use crate::clock;

/// A time that is not reached, in seconds since 1970.
const NEVER: i64 = 1 << 40;
/// Between two readings of two clocks the process may have had to wait; less is no sleep.
const LEAST: Duration = Duration::from_millis(500);

/// What happened to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// The machine slept for so long.
    Slept(Duration),
    /// Somebody set the wall clock.
    ClockSet,
}

struct Timer(TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A stream of [`Wake`].
pub struct Wakes {
    timer: AsyncFd<Timer>,
    /// Time spent asleep since the machine started.
    asleep: Duration,
}

impl Wakes {
    /// Watches from now on.
    ///
    /// # Errors
    /// When the process has no descriptors left.
    ///
    /// # Panics
    /// Outside a tokio runtime with IO enabled.
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = Timer(TimerFd::new(ClockId::CLOCK_REALTIME, flags)?);
        arm(&timer)?;
        // SAFETY: the timer owns its descriptor, which is closed with it and not before.
        let timer = unsafe { AsyncFd::register(timer)? };
        Ok(Self { timer, asleep: clock::asleep() })
    }

    /// The next jump of time. Cancel safe.
    ///
    /// # Errors
    /// What the kernel says; watching is over then.
    pub async fn next(&mut self) -> io::Result<Wake> {
        let mut ready = self.timer.readable().await?;
        // Reading a cancelled timer fails, and is what makes it unreadable again.
        let _ = ready.get_inner().0.wait();
        arm(ready.get_inner())?;
        ready.clear_ready();
        Ok(judge(&mut self.asleep, clock::asleep()))
    }
}

impl std::fmt::Debug for Wakes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wakes")
    }
}

fn arm(timer: &Timer) -> io::Result<()> {
    let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
    Ok(timer.0.set(Expiration::OneShot(TimeSpec::new(NEVER, 0)), flags)?)
}

fn judge(known: &mut Duration, asleep: Duration) -> Wake {
    let slept = asleep.saturating_sub(*known);
    if slept < LEAST {
        return Wake::ClockSet;
    }
    *known = asleep;
    Wake::Slept(slept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_is_told_from_a_clock_that_was_set_and_told_once() {
        let mut known = Duration::from_secs(10);
        assert_eq!(judge(&mut known, Duration::from_millis(10_001)), Wake::ClockSet);
        assert_eq!(judge(&mut known, Duration::from_secs(75)), Wake::Slept(Duration::from_secs(65)));
        assert_eq!(judge(&mut known, Duration::from_secs(75)), Wake::ClockSet);
    }

    #[test]
    fn a_quiet_clock_says_nothing() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut wakes = Wakes::new().unwrap();
            let quiet = tokio::time::timeout(Duration::from_millis(50), wakes.next()).await;
            assert!(quiet.is_err(), "{quiet:?}");
        });
    }
}
