//! UDP at a given rate: the highest of [`STEPS`] at which less than 1 % is lost.
//!
//! The sender keeps to its rate in batches of `sendmmsg`, so that its own system calls are not
//! what is measured; the receiver reads with `recvmmsg` into a large buffer. The steps are
//! searched by halving, which takes a step that fails for the end of what is possible.

use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg, setsockopt, sockopt};
use sinew_tests::ns::Namespace;

use super::any;

/// Datagrams per second, each step at most a third above the one before, from 10,000 on.
pub(crate) const STEPS: &[u32] = &[
    2_500, 5_000, 10_000, 13_000, 17_000, 22_000, 28_000, 36_000, 46_000, 60_000, 75_000, 95_000, 120_000,
    150_000, 190_000, 240_000, 300_000, 380_000, 480_000, 600_000,
];

const PORT: u16 = 5303;
const BATCH: usize = 32;
/// What a step may lose, and how much of its rate must really have been sent.
const LOSS: f64 = 0.01;
const SENT: f64 = 0.9;
/// Silence after which nothing more is on its way.
const SILENCE: Duration = Duration::from_millis(150);
const RECEIVE_BUFFER: usize = 4 << 20;
/// Pause of a sender that is ahead of its rate: 5,000 wakes a second cost little.
const PACE: Duration = Duration::from_micros(200);
/// How often the receiver looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(50);
/// Longer than any datagram that is sent.
const DATAGRAM_MAX: usize = 2048;

/// Datagrams per second that arrived at the highest step which held; 0 when none did.
pub(crate) fn search(
    a: &Namespace,
    b: &Namespace,
    target: IpAddr,
    size: usize,
    length: Duration,
) -> Result<f64> {
    let receiver = b.enter(|| UdpSocket::bind((any(target), PORT)))?.context("receiver")?;
    setsockopt(&receiver, sockopt::RcvBufForce, &RECEIVE_BUFFER).context("receive buffer")?;
    receiver.set_read_timeout(Some(LOOK))?;
    let sender = a.enter(|| UdpSocket::bind((any(target), 0)))?.context("sender")?;
    sender.connect((target, PORT)).context("sender")?;
    let counter = Counter::default();
    std::thread::scope(|scope| {
        scope.spawn(|| receive(&receiver, &counter));
        let best = highest(STEPS, |rate| step(&sender, &counter, rate, size, length));
        counter.stop.store(true, Ordering::Relaxed);
        best
    })
}

/// Halves `steps`: what `holds` gives for the highest rate at which it gives something.
fn highest(steps: &[u32], mut holds: impl FnMut(u32) -> Result<Option<f64>>) -> Result<f64> {
    let (mut low, mut high) = (0, steps.len());
    let mut best = 0.0;
    while low < high {
        let middle = low.midpoint(high);
        match holds(steps[middle])? {
            Some(rate) => (best, low) = (rate, middle + 1),
            None => high = middle,
        }
    }
    Ok(best)
}

#[derive(Default)]
struct Counter {
    /// Datagrams of the step that runs.
    received: AtomicU64,
    /// Which step runs; late ones of an earlier step do not count.
    step: AtomicU64,
    stop: AtomicBool,
}

/// Sends one step; the rate of arrival when it held.
fn step(
    sender: &UdpSocket,
    counter: &Counter,
    rate: u32,
    size: usize,
    length: Duration,
) -> Result<Option<f64>> {
    let number = counter.step.fetch_add(1, Ordering::Relaxed) + 1;
    counter.received.store(0, Ordering::Relaxed);
    let mut packet = vec![0; size];
    packet[..8].copy_from_slice(&number.to_be_bytes());
    let start = Instant::now();
    let mut sent = 0u64;
    while start.elapsed() < length {
        let due = (start.elapsed().as_secs_f64() * f64::from(rate)) as u64;
        let batch = usize::try_from(due.saturating_sub(sent)).unwrap_or(BATCH).min(BATCH);
        if batch == 0 {
            std::thread::sleep(PACE);
            continue;
        }
        sent += send(sender, &packet, batch)? as u64;
    }
    let took = start.elapsed().as_secs_f64();
    let received = settled(counter);
    let lost = 1.0 - received as f64 / sent.max(1) as f64;
    let held = lost < LOSS && sent as f64 >= SENT * f64::from(rate) * took;
    Ok(held.then_some(received as f64 / took))
}

fn send(socket: &UdpSocket, packet: &[u8], count: usize) -> Result<usize> {
    let slices = vec![[IoSlice::new(packet)]; count];
    let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(count, None);
    let addresses = vec![None; count];
    let flags = MsgFlags::empty();
    match sendmmsg(socket.as_raw_fd(), &mut headers, &slices, &addresses, [], flags) {
        Ok(results) => Ok(results.count()),
        // What the kernel cannot take counts as not sent.
        Err(Errno::ENOBUFS | Errno::EAGAIN | Errno::ECONNREFUSED) => Ok(0),
        Err(error) => Err(error).context("sendmmsg"),
    }
}

/// Waits until nothing more arrives.
fn settled(counter: &Counter) -> u64 {
    let mut last = (counter.received.load(Ordering::Relaxed), Instant::now());
    while last.1.elapsed() < SILENCE {
        std::thread::sleep(Duration::from_millis(10));
        let now = counter.received.load(Ordering::Relaxed);
        if now != last.0 {
            last = (now, Instant::now());
        }
    }
    last.0
}

fn receive(socket: &UdpSocket, counter: &Counter) {
    let mut storage = vec![[0u8; DATAGRAM_MAX]; BATCH];
    let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None);
    while !counter.stop.load(Ordering::Relaxed) {
        let mut slices: Vec<_> = storage.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
        let got = recvmmsg(socket.as_raw_fd(), &mut headers, &mut slices, MsgFlags::MSG_WAITFORONE, None);
        // An error is the timeout of the socket, after which to look at `stop`.
        let count = got.map_or(0, |messages| messages.count());
        let step = counter.step.load(Ordering::Relaxed).to_be_bytes();
        let current = storage[..count].iter().filter(|buffer| buffer[..8] == step).count();
        counter.received.fetch_add(current as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_step_that_holds_is_found() {
        for limit in [0, 1, 2_500, 59_999, 60_000, 600_000, 1_000_000] {
            let mut tried = 0;
            let found = highest(STEPS, |rate| {
                tried += 1;
                Ok((rate <= limit).then_some(f64::from(rate)))
            });
            let expected = STEPS.iter().rev().find(|step| **step <= limit).copied().unwrap_or(0);
            assert_eq!(found.unwrap(), f64::from(expected));
            assert!(tried <= 5);
        }
    }

    #[test]
    fn steps_rise_and_are_fine_enough() {
        assert!(STEPS.windows(2).all(|pair| pair[0] < pair[1]));
        let fine = STEPS.iter().skip_while(|step| **step < 10_000).collect::<Vec<_>>();
        assert!(fine.windows(2).all(|pair| f64::from(*pair[1]) <= f64::from(*pair[0]) * 1.34));
    }

    #[test]
    fn a_slow_rate_over_loopback_arrives_whole() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        let counter = Counter::default();
        std::thread::scope(|scope| {
            scope.spawn(|| receive(&receiver, &counter));
            let rate = step(&sender, &counter, 1000, 200, Duration::from_millis(100)).unwrap();
            counter.stop.store(true, Ordering::Relaxed);
            assert!(rate.is_some());
        });
    }
}
