//! Round trips of 64-byte UDP datagrams, one at a time.
//!
//! Probes are [`GAP`] apart: back to back they would keep the daemons' threads awake, and hide
//! what waking them costs.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sinew_tests::ns::Namespace;

use super::any;

const PORT: u16 = 5301;
const SIZE: usize = 64;
const GAP: Duration = Duration::from_millis(5);
/// After that a probe counts as lost.
const LOST: Duration = Duration::from_secs(1);
/// For the first answer after a start, and how often it is asked for.
const FIRST: Duration = Duration::from_secs(60);
const FIRST_GAP: Duration = Duration::from_millis(10);

/// When to stop.
#[derive(Clone, Copy)]
pub(crate) enum Until<'a> {
    Count(u32),
    Stopped(&'a AtomicBool),
}

/// Round trips in the order they were made.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) times_ms: Vec<f64>,
    pub(crate) sent: u32,
    pub(crate) lost: u32,
}

/// A server in B that sends everything back.
pub(crate) struct Echo {
    target: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Starts to answer on every address of `ns`.
    pub(crate) fn start(ns: &Namespace, target: IpAddr) -> Result<Self> {
        let socket = ns.enter(|| UdpSocket::bind((any(target), PORT)))?.context("echo server")?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    // A reply that cannot be sent is a lost probe, which the client counts.
                    let _ = socket.send_to(&buffer[..length], from);
                }
            }
        });
        Ok(Self { target: SocketAddr::new(target, PORT), stop, thread: Some(thread) })
    }

    /// Asks every [`FIRST_GAP`] until an answer comes; the time since `since`.
    pub(crate) fn first_answer(&self, from: &Namespace, since: Instant) -> Result<Duration> {
        let socket = self.client(from)?;
        socket.set_read_timeout(Some(FIRST_GAP))?;
        let mut buffer = [0; SIZE];
        while since.elapsed() < FIRST {
            // Before the route exists there is an error at once, and no wait in the receive.
            if socket.send_to(&[0; SIZE], self.target).is_err() {
                std::thread::sleep(FIRST_GAP);
            } else if socket.recv_from(&mut buffer).is_ok() {
                return Ok(since.elapsed());
            }
        }
        bail!("no answer from {} within {:.0} s of the start", self.target, FIRST.as_secs_f64())
    }

    /// Measures round trips.
    pub(crate) fn measure(&self, from: &Namespace, until: Until<'_>) -> Result<Report> {
        let socket = self.client(from)?;
        socket.connect(self.target)?;
        socket.set_read_timeout(Some(LOST))?;
        let mut report = Report::default();
        let more = |sent| match until {
            Until::Count(count) => sent < count,
            Until::Stopped(stop) => !stop.load(Ordering::Relaxed),
        };
        while more(report.sent) {
            report.sent += 1;
            match probe(&socket, report.sent)? {
                Some(time) => report.times_ms.push(time.as_secs_f64() * 1e3),
                None => report.lost += 1,
            }
            std::thread::sleep(GAP);
        }
        Ok(report)
    }

    /// Measures round trips for as long as `work` takes.
    pub(crate) fn measure_during<T>(
        &self,
        from: &Namespace,
        work: impl FnOnce() -> T,
    ) -> Result<(T, Report)> {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let pings = scope.spawn(|| self.measure(from, Until::Stopped(&stop)));
            let done = work();
            stop.store(true, Ordering::Relaxed);
            match pings.join() {
                Ok(report) => Ok((done, report?)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    fn client(&self, from: &Namespace) -> Result<UdpSocket> {
        from.enter(|| UdpSocket::bind((any(self.target.ip()), 0)))?.context("ping client")
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One probe; `None` when its own answer did not come.
fn probe(socket: &UdpSocket, number: u32) -> Result<Option<Duration>> {
    let mut packet = [0; SIZE];
    packet[..4].copy_from_slice(&number.to_be_bytes());
    let start = Instant::now();
    if socket.send(&packet).is_err() {
        return Ok(None);
    }
    let mut answer = [0; SIZE];
    // A late answer to an earlier probe is passed over.
    while start.elapsed() < LOST {
        match socket.recv(&mut answer) {
            Ok(_) if answer[..4] == packet[..4] => return Ok(Some(start.elapsed())),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    Ok(None)
}
