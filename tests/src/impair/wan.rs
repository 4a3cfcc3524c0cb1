//! A box in the middle of a link that delays, loses and reorders frames, as a long line does.
//!
//! ```text
//!   A ── veth ──┤ left     box     right ├── veth ── B
//! ```
//! The box owns a packet socket on each of its two interfaces and copies frames between them.
//! A frame waits in a queue ordered by the time at which it is due; the thread sleeps in
//! `ppoll` until a frame comes or is due. Loss and jitter come from a seeded generator, so that
//! two runs see the same pattern. The queue holds 8 MiB a direction, past which frames
//! are lost, as at any router.
//!
//! Frames are copied as they are: senders must not leave segmentation or checksums to a card
//! that does not exist (`ethtool -K … tx off tso off gso off gro off` on all four ends).

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::ifaddrs::getifaddrs;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recvfrom, send, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeSpec;

use crate::ns::Namespace;

/// `ARPHRD_ETHER`.
const ETHERNET: u16 = 1;
/// Bytes that may wait in each direction: 1 s at 64 Mbit/s, 20 ms at 3 Gbit/s.
const QUEUE: usize = 8 << 20;
/// Longer than any frame of a link of 9,000 bytes.
const FRAME: usize = 10_000;
/// Frames read from one side before the other gets its turn.
const BURST: usize = 64;
/// How soon a stopped box notices.
const IDLE: Duration = Duration::from_millis(50);
/// `PACKET_OUTGOING` of packet(7).
const OUTGOING: u8 = 4;
const SOCKET_BUFFER: usize = 8 << 20;

/// What happens to each frame, the same in both directions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WanFaults {
    /// How long it takes.
    pub delay: Duration,
    /// Most that is added to that at random; frames still keep their order.
    pub jitter: Duration,
    /// Share that is lost, 0 to 1.
    pub loss: f64,
    /// How many are lost in a row on average (Gilbert), 1 or more; 1 for losses that know nothing of each other.
    pub burst: f64,
    /// Share that overtakes: it goes at once, past those that wait.
    pub reorder: f64,
}

/// A running box; it ends with this handle.
#[derive(Debug)]
pub struct Wan {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Wan {
    /// Joins two interfaces of `ns`, which must have no addresses of their own.
    pub fn start(ns: &Namespace, interfaces: [&str; 2], faults: WanFaults) -> Result<Self> {
        let [left, right] = interfaces.map(|name| ns.enter(|| open(name))?);
        let ends = [left?, right?];
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || carry(&ends, faults, &stopped));
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Wan {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sends a frame out of an Ethernet interface of the calling thread's namespace; `false` if it is none.
pub(crate) fn send_frame(interface: &str, frame: &[u8]) -> Result<bool> {
    if link_address(interface)?.hatype() != ETHERNET {
        return Ok(false);
    }
    send(open(interface)?.as_raw_fd(), frame, MsgFlags::empty())?;
    Ok(true)
}

/// A packet socket on one interface of the calling thread's namespace.
fn open(interface: &str) -> Result<OwnedFd> {
    let link = link_address(interface)?;
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
    bind(socket.as_raw_fd(), &link).with_context(|| format!("bind to {interface}"))?;
    setsockopt(&socket, sockopt::RcvBufForce, &SOCKET_BUFFER)?;
    Ok(socket)
}

fn link_address(interface: &str) -> Result<LinkAddr> {
    let mut all = getifaddrs()?.filter(|address| address.interface_name == interface);
    let found = all.find_map(|address| address.address?.as_link_addr().copied());
    found.with_context(|| format!("no interface {interface}"))
}

/// Moves frames until told to stop.
fn carry(ends: &[OwnedFd; 2], faults: WanFaults, stop: &AtomicBool) {
    let mut directions = [1, 2].map(|seed| Direction::new(faults, seed));
    let mut buffer = vec![0; FRAME];
    while !stop.load(Ordering::Relaxed) {
        for (from, direction) in directions.iter_mut().enumerate() {
            for _ in 0..BURST {
                let Some(length) = receive(&ends[from], &mut buffer) else { break };
                direction.accept(Instant::now(), &buffer[..length]);
            }
            let out = ends[1 - from].as_raw_fd();
            // What the next link cannot take is lost there.
            direction.release(Instant::now(), |frame| {
                let _ = send(out, frame, MsgFlags::empty());
            });
        }
        let next = directions.iter().filter_map(Direction::due).min();
        let wait = next.map_or(IDLE, |due| due.saturating_duration_since(Instant::now()).min(IDLE));
        let mut polled = ends.each_ref().map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN));
        // Interrupted or not, the loop looks at everything again.
        let _ = ppoll(&mut polled, Some(TimeSpec::from_duration(wait)), None);
    }
}

/// Length of the next frame that came from outside; a packet socket also sees what leaves.
fn receive(end: &OwnedFd, buffer: &mut [u8]) -> Option<usize> {
    loop {
        let (length, from) = recvfrom::<LinkAddr>(end.as_raw_fd(), buffer).ok()?;
        if from.is_none_or(|from| from.pkttype() != OUTGOING) {
            return Some(length);
        }
    }
}

/// Frames on their way from one side to the other.
#[derive(Debug)]
struct Direction {
    faults: WanFaults,
    random: u64,
    /// By the time at which they are due, and by arrival among those due together.
    waiting: BTreeMap<(Instant, u64), Vec<u8>>,
    bytes: usize,
    arrivals: u64,
    /// When the last frame that keeps its place is due.
    last: Option<Instant>,
    /// Inside a row of losses.
    losing: bool,
}

impl Direction {
    fn new(faults: WanFaults, seed: u64) -> Self {
        Self {
            faults,
            random: seed,
            waiting: BTreeMap::new(),
            bytes: 0,
            arrivals: 0,
            last: None,
            losing: false,
        }
    }

    /// Takes a frame in, or loses it.
    fn accept(&mut self, now: Instant, frame: &[u8]) {
        if self.loses() || self.bytes + frame.len() > QUEUE {
            return;
        }
        let due = if self.chance() < self.faults.reorder {
            now
        } else {
            let late = self.faults.delay + self.faults.jitter.mul_f64(self.chance());
            let due = self.last.map_or(now + late, |last| last.max(now + late));
            self.last = Some(due);
            due
        };
        self.arrivals += 1;
        self.bytes += frame.len();
        self.waiting.insert((due, self.arrivals), frame.to_vec());
    }

    /// Whether the next frame is lost: rows begin so often that the share is that of the faults.
    fn loses(&mut self) -> bool {
        let WanFaults { loss, burst, .. } = self.faults;
        let chance = self.chance();
        self.losing = match (burst > 1.0, self.losing) {
            (false, _) => chance < loss,
            (true, true) => chance >= 1.0 / burst,
            (true, false) => chance < loss / (1.0 - loss) / burst,
        };
        self.losing
    }

    /// Lets out what is due.
    fn release(&mut self, now: Instant, mut out: impl FnMut(&[u8])) {
        while let Some(entry) = self.waiting.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let frame = entry.remove();
            self.bytes -= frame.len();
            out(&frame);
        }
    }

    /// When the next frame is due.
    fn due(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|((due, _), _)| *due)
    }

    /// The next number of a splitmix64 sequence, from 0 to 1 (1 itself not).
    fn chance(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAN: WanFaults = WanFaults {
        delay: Duration::from_millis(10),
        jitter: Duration::ZERO,
        loss: 0.0,
        burst: 1.0,
        reorder: 0.0,
    };

    fn released(direction: &mut Direction, now: Instant) -> Vec<u8> {
        let mut seen = Vec::new();
        direction.release(now, |frame| seen.push(frame[0]));
        seen
    }

    #[test]
    fn a_frame_comes_out_when_it_is_due_and_not_before() {
        let (mut direction, start) = (Direction::new(CLEAN, 1), Instant::now());
        direction.accept(start, &[7]);
        assert_eq!(direction.due(), Some(start + CLEAN.delay));
        assert!(released(&mut direction, start + Duration::from_millis(9)).is_empty());
        assert_eq!(released(&mut direction, start + CLEAN.delay), [7]);
        assert_eq!((direction.due(), direction.bytes), (None, 0));
    }

    #[test]
    fn jitter_keeps_the_order_and_reordering_does_not() {
        let far = Duration::from_secs(1);
        let order = |faults| {
            let (mut direction, start) = (Direction::new(faults, 1), Instant::now());
            (0..200).for_each(|number| {
                direction.accept(start + Duration::from_micros(10 * number), &[number as u8])
            });
            released(&mut direction, start + far)
        };
        let jittered = order(WanFaults { jitter: Duration::from_millis(5), ..CLEAN });
        assert!(jittered.is_sorted() && jittered.len() == 200);
        let reordered = order(WanFaults { reorder: 0.1, ..CLEAN });
        assert!(!reordered.is_sorted() && reordered.len() == 200);
    }

    #[test]
    fn about_the_asked_share_is_lost() {
        let (mut direction, start) = (Direction::new(WanFaults { loss: 0.1, ..CLEAN }, 1), Instant::now());
        (0..10_000).for_each(|_| direction.accept(start, &[1]));
        let kept = released(&mut direction, start + CLEAN.delay).len();
        assert!((8_800..9_200).contains(&kept), "{kept}");
    }

    #[test]
    fn losses_come_in_rows_of_the_asked_length() {
        let faults = WanFaults { loss: 0.1, burst: 5.0, ..CLEAN };
        let mut direction = Direction::new(faults, 1);
        let lost: Vec<_> = (0..20_000).map(|_| direction.loses()).collect();
        let losses = lost.iter().filter(|lost| **lost).count();
        let rows = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count();
        assert!((1_700..2_300).contains(&losses), "{losses}");
        assert!((4.0..6.0).contains(&(losses as f64 / rows as f64)), "{losses} in {rows} rows");
    }

    #[test]
    fn the_queue_is_bounded() {
        let (mut direction, start) = (Direction::new(CLEAN, 1), Instant::now());
        (0..QUEUE / 1000 + 50).for_each(|_| direction.accept(start, &[0; 1000]));
        assert!(direction.bytes <= QUEUE && direction.bytes > QUEUE - 1000);
    }
}
