//! A ping that runs all the time, and what its answers say about silence.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use sinew_tests::lab::Lab;
use sinew_tests::process::{Proc, read_lossy};
use sinew_tests::wait;

use crate::SOON;

/// A ping that runs all the time and says when each answer came.
pub(crate) struct Beat {
    proc: Proc,
    log: PathBuf,
}

impl Beat {
    pub(crate) fn start(lab: &Lab) -> Result<Self> {
        let log = lab.dir().join("beat.log");
        let mut command = lab.ns("a").command("ping");
        command.args(["-6", "-n", "-D", "-i", "0.05", &lab.address("b")?]);
        let mut beat = Self { proc: Proc::spawn(&mut command, &log)?, log };
        beat.wait_after(SystemTime::UNIX_EPOCH, "the first answer")?;
        Ok(beat)
    }

    /// When answers came.
    fn answers(&self) -> Vec<SystemTime> {
        let log = read_lossy(&self.log);
        let answers = log.lines().filter(|line| line.contains("bytes from"));
        let stamps = answers.filter_map(|line| line.strip_prefix('[')?.split(']').next()?.parse().ok());
        stamps.map(|seconds: f64| SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seconds)).collect()
    }

    /// Waits for an answer that came after `since`; how long that took.
    pub(crate) fn wait_after(&mut self, since: SystemTime, what: &str) -> Result<Duration> {
        let answered = wait::value(what, SOON, || self.answers().into_iter().find(|at| *at > since))?;
        ensure!(self.proc.running(), "ping ended: {}", read_lossy(&self.log));
        Ok(answered.duration_since(since)?)
    }

    /// The longest silence since `since`.
    pub(crate) fn longest_gap(&self, since: SystemTime) -> Duration {
        let times: Vec<_> = self.answers().into_iter().filter(|at| *at >= since).collect();
        let first = times.first().and_then(|first| first.duration_since(since).ok()).unwrap_or_default();
        let between = times.windows(2).filter_map(|two| two[1].duration_since(two[0]).ok());
        between.chain([first]).max().unwrap_or_default()
    }

    /// Lets it run until it has been answered steadily for `time` after `since`.
    pub(crate) fn settle(&mut self, since: SystemTime, time: Duration) -> Result<()> {
        self.wait_after(since + time, "answers a while later").map(|_| ())
    }
}
