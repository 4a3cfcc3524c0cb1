//! The clocks the core is fed from.

use std::time::Duration;

use sinew_types::{Instant, UnixMicros};

/// Time since the machine started, suspension included (CLOCK_BOOTTIME, protocol A3): a session
/// must not look fresh after a night with the lid closed.
pub fn boottime() -> Instant {
    Instant::from_micros(read(libc::CLOCK_BOOTTIME))
}

/// Wall-clock time, microseconds since 1970; an ordering hint only.
pub fn unix() -> UnixMicros {
    read(libc::CLOCK_REALTIME)
}

/// How long the machine has slept since it started.
pub fn asleep() -> Duration {
    let awake = read(libc::CLOCK_MONOTONIC);
    Duration::from_micros(read(libc::CLOCK_BOOTTIME).saturating_sub(awake))
}

fn read(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec to write to; both clocks exist on every Linux since 2.6.39,
    // and on failure it stays zero.
    unsafe { libc::clock_gettime(clock, &mut time) };
    // Before 1970 counts as 1970.
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_time_never_goes_back_and_unix_time_is_of_this_century() {
        let (first, second) = (boottime(), boottime());
        assert!(first > Instant::ZERO && second >= first);
        assert!(unix() > 1_600_000_000_000_000);
    }
}
