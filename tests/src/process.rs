//! Child processes that cannot outlive the test and whose output is there when it fails.
//!
//! Every child runs under `setpriv --pdeathsig KILL`, so that it dies with the thread that
//! started it even when the test itself is killed; [`Proc`] kills and reaps it on drop.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait;

/// A command that is killed together with the calling thread.
pub fn command(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]);
    command
}

/// A command in a session of its own, which outlives this process.
pub fn detached(program: &str) -> Command {
    let mut command = Command::new("setsid");
    command.args(["--", program]);
    command
}

/// What a finished command said.
#[derive(Clone, Debug)]
pub struct Output {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Both streams, for messages.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Runs to the end, or kills after `deadline` and fails.
pub fn run(command: &mut Command, deadline: Duration) -> Result<Output> {
    let shown = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {shown}"))?;
    let out = drain(child.stdout.take());
    let err = drain(child.stderr.take());
    let status = wait_child(&mut child, deadline);
    if status.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let stdout = out.join().unwrap_or_default();
    let stderr = err.join().unwrap_or_default();
    match status {
        Some(status) => Ok(Output { code: status.code(), stdout, stderr }),
        None => bail!("still running after {:.0} s: {shown}\n{stdout}{stderr}", deadline.as_secs_f64()),
    }
}

/// Runs to the end; anything but exit code 0 is an error that carries the output.
pub fn run_ok(command: &mut Command, deadline: Duration) -> Result<String> {
    let shown = format!("{command:?}");
    let output = run(command, deadline)?;
    if output.code != Some(0) {
        bail!("exit {:?}: {shown}\n{}", output.code, output.text());
    }
    Ok(output.stdout)
}

fn drain(stream: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            let _ = stream.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

fn wait_child(child: &mut Child, deadline: Duration) -> Option<ExitStatus> {
    let end = Instant::now() + deadline;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
            _ => return None,
        }
    }
}

/// A running child with its output in a file.
#[derive(Debug)]
pub struct Proc {
    child: Child,
    log: PathBuf,
    /// Left running on drop (`cargo demo --keep`).
    keep: bool,
}

impl Proc {
    /// Starts `command`, appending both output streams to `log`.
    pub fn spawn(command: &mut Command, log: &Path) -> Result<Self> {
        let file = append(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self { child, log: log.to_owned(), keep: false })
    }

    /// Starts `command` with its standard output piped to the caller, errors to `log`.
    pub fn piped(command: &mut Command, log: &Path) -> Result<(Self, std::process::ChildStdout)> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(append(log)?)
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let stdout = child.stdout.take().context("standard output was piped")?;
        Ok((Self { child, log: log.to_owned(), keep: false }, stdout))
    }

    /// Lets the child outlive this handle.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid()).context("a pid fits 31 bits")?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("cannot send {signal}"))
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for the end; kills and fails after `deadline`.
    pub fn wait(&mut self, deadline: Duration) -> Result<Option<i32>> {
        match wait_child(&mut self.child, deadline) {
            Some(status) => Ok(status.code()),
            None => {
                self.kill();
                bail!("did not end within {:.0} s\n{}", deadline.as_secs_f64(), self.log())
            }
        }
    }

    /// Everything written so far.
    pub fn log(&self) -> String {
        read_lossy(&self.log)
    }

    /// Waits until the output contains `needle`.
    pub fn wait_log(&mut self, needle: &str, deadline: Duration) -> Result<()> {
        let what = format!("`{needle}` in {}", self.log.display());
        let mut ended = false;
        let found = wait::until(&what, deadline, || {
            ended = !self.running();
            self.log().contains(needle) || ended
        });
        if ended && !self.log().contains(needle) {
            bail!("ended before it said `{needle}`:\n{}", self.log());
        }
        found
    }

    /// Resident memory in bytes.
    pub fn rss_bytes(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("VmRSS")?;
        let kib: u64 = line.split_whitespace().nth(1).context("VmRSS value")?.parse()?;
        Ok(kib * 1024)
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        if !self.keep {
            self.kill();
        }
    }
}

fn append(path: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.with_context(|| format!("cannot open {}", path.display()))
}

/// A text file as far as it can be read.
pub fn read_lossy(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_past_its_deadline_is_killed_and_reported() {
        let error = run(command("sleep").arg("1000"), Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("still running"), "{error}");
    }

    #[test]
    fn exit_code_and_both_streams_are_kept() {
        let script = "echo out; echo err >&2; exit 3";
        let output = run(command("sh").args(["-c", script]), Duration::from_secs(10)).unwrap();
        assert_eq!((output.code, output.stdout.trim(), output.stderr.trim()), (Some(3), "out", "err"));
    }

    #[test]
    fn a_dropped_child_is_gone() {
        let log = std::env::temp_dir().join(format!("sinew-proc-{}", std::process::id()));
        let child = Proc::spawn(command("sleep").arg("1000"), &log).unwrap();
        let path = format!("/proc/{}", child.pid());
        assert!(Path::new(&path).exists());
        drop(child);
        assert!(!Path::new(&path).exists());
        let _ = std::fs::remove_file(log);
    }
}
