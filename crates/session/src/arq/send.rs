//! The sending half of a stream: chunks, window, loss, time-out.
//!
//! A chunk is *arrived* when the receiver's bitmap says so and *gone* when the receiver has
//! processed it; only the latter frees it. Loss is judged by transmission order, as in QUIC
//! (RFC 9002 §6.1): a chunk is lost when three sent after it have arrived. When everything arrived
//! but is not processed, the first chunk is repeated at the time-out as a probe, since the
//! acknowledgement that we wait for may itself have been lost.

use std::collections::VecDeque;
use std::time::Duration;

use sinew_types::Instant;
use sinew_wire::segment::CHUNK_MAX;

use super::Rtt;

/// Most chunks between the oldest not processed and the newest sent: as many as the bitmap has bits.
pub(super) const SPAN: usize = 64;
const FIRST_WINDOW: u32 = 10;
const MIN_WINDOW: u32 = 2;
const REORDERING: u64 = 3;
/// What a receiver takes at least, before it has said more.
const FIRST_CREDIT: usize = 16 * 1024;
/// Without any word about this stream for so long, the association is over (protocol A5).
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Debug)]
struct Chunk {
    bytes: Vec<u8>,
    /// The message that ends here.
    ends: Option<u64>,
    sent_at: Instant,
    /// Number of its last transmission; 0 = not sent yet.
    sent_as: u64,
    again: bool,
    arrived: bool,
    lost: bool,
}

/// The sending half.
#[derive(Debug)]
pub(super) struct Sender {
    /// Number of the first chunk in `chunks`.
    base: u32,
    chunks: VecDeque<Chunk>,
    /// How many of them were sent at least once.
    sent: usize,
    bytes: usize,
    messages: u64,
    transmissions: u64,
    /// Window in chunks, and arrivals counted toward the next one.
    window: u32,
    progress: u32,
    threshold: u32,
    /// Losses of transmissions up to this one do not shrink the window again.
    recovery: u64,
    credit: usize,
    timeout_at: Option<Instant>,
    doublings: u32,
    /// Since when we wait for any word.
    waiting_since: Option<Instant>,
}

impl Sender {
    pub(super) fn new() -> Self {
        Self {
            base: 0,
            chunks: VecDeque::new(),
            sent: 0,
            bytes: 0,
            messages: 0,
            transmissions: 0,
            window: FIRST_WINDOW,
            progress: 0,
            threshold: SPAN as u32,
            recovery: 0,
            credit: FIRST_CREDIT,
            timeout_at: None,
            doublings: 0,
            waiting_since: None,
        }
    }

    /// Bytes held, sent or not.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a message given now would be sent now: nothing waits and the window is open.
    pub(super) fn is_open(&self) -> bool {
        self.sent == self.chunks.len()
            && self.sent < SPAN
            && self.in_flight() < self.window as usize
            && self.bytes + CHUNK_MAX <= self.credit
    }

    /// Cuts a message into chunks; returns its ordinal. The first chunk begins with the length.
    pub(super) fn push(&mut self, message: &[u8]) -> u64 {
        self.messages += 1;
        let length = (message.len() as u16).to_le_bytes();
        let first = message.len().min(CHUNK_MAX - length.len());
        let mut rest = &message[first..];
        let mut bytes = Vec::with_capacity(length.len() + first);
        bytes.extend_from_slice(&length);
        bytes.extend_from_slice(&message[..first]);
        loop {
            let ends = rest.is_empty().then_some(self.messages);
            self.bytes += bytes.len();
            self.chunks.push_back(Chunk {
                bytes,
                ends,
                sent_at: Instant::ZERO,
                sent_as: 0,
                again: false,
                arrived: false,
                lost: false,
            });
            if ends.is_some() {
                return self.messages;
            }
            let (now, later) = rest.split_at(rest.len().min(CHUNK_MAX));
            (bytes, rest) = (now.to_vec(), later);
        }
    }

    fn in_flight(&self) -> usize {
        self.chunks.iter().take(self.sent).filter(|c| !c.arrived && !c.lost).count()
    }

    /// Which chunk to send next, if any may go.
    fn next(&self) -> Option<usize> {
        let lost = self.chunks.iter().take(self.sent).position(|c| c.lost);
        // A probe for a lost acknowledgement may always go.
        if lost == Some(0) && self.in_flight() == 0 {
            return Some(0);
        }
        if self.in_flight() >= self.window as usize {
            return None;
        }
        if lost.is_some() {
            return lost;
        }
        let chunk = self.chunks.get(self.sent)?;
        let outstanding: usize = self.chunks.iter().take(self.sent).map(|c| c.bytes.len()).sum();
        (self.sent < SPAN && outstanding + chunk.bytes.len() <= self.credit).then_some(self.sent)
    }

    pub(super) fn has_more(&self) -> bool {
        self.next().is_some()
    }

    /// Number of the next chunk to be sent for the first time (for acknowledgements without data).
    pub(super) fn next_seq(&self) -> u32 {
        self.base.wrapping_add(self.sent as u32)
    }

    /// Takes the next chunk that may be sent now.
    pub(super) fn poll(&mut self, rtt: &Rtt, now: Instant) -> Option<(u32, &[u8])> {
        let at = self.next()?;
        self.transmissions += 1;
        let chunk = &mut self.chunks[at];
        chunk.again = chunk.sent_as != 0;
        chunk.sent_as = self.transmissions;
        chunk.sent_at = now;
        chunk.lost = false;
        self.sent = self.sent.max(at + 1);
        self.waiting_since.get_or_insert(now);
        if self.timeout_at.is_none() {
            self.timeout_at = Some(now + rtt.timeout(self.doublings));
        }
        Some((self.base.wrapping_add(at as u32), &self.chunks[at].bytes))
    }

    /// Word from the receiver. Returns the ordinal of the last message it has processed, if that is
    /// news; `None` inside is no news. `Err`: it claims what was never sent.
    pub(super) fn on_ack(
        &mut self,
        ack: u32,
        arrived: u64,
        credit: usize,
        rtt: &mut Rtt,
        now: Instant,
    ) -> Result<Option<u64>, ()> {
        let gone = ack.wrapping_sub(self.base);
        if gone >= 1 << 31 {
            return Ok(None);
        }
        let gone = gone as usize;
        if gone > self.sent {
            return Err(());
        }
        self.credit = credit;
        if self.waiting_since.is_some() {
            self.waiting_since = Some(now);
        }
        let (mut processed, mut newest, mut news) = (None, 0, 0);
        for _ in 0..gone {
            let Some(chunk) = self.chunks.pop_front() else { break };
            self.bytes -= chunk.bytes.len();
            processed = chunk.ends.or(processed);
            if !chunk.arrived {
                news += 1;
                newest = newest.max(chunk.sent_as);
                sample(&chunk, rtt, now);
            }
        }
        self.sent -= gone;
        self.base = ack;
        for (bit, chunk) in self.chunks.iter_mut().take(self.sent.min(SPAN)).enumerate() {
            if arrived >> bit & 1 == 1 && !chunk.arrived {
                chunk.arrived = true;
                chunk.lost = false;
                news += 1;
                newest = newest.max(chunk.sent_as);
                sample(chunk, rtt, now);
            }
        }
        self.after_ack(gone > 0 || news > 0, news, newest, rtt, now);
        Ok(processed)
    }

    fn after_ack(&mut self, progress: bool, news: u32, newest: u64, rtt: &Rtt, now: Instant) {
        self.grow(news);
        self.find_losses(newest);
        if self.sent == 0 {
            self.timeout_at = None;
            self.waiting_since = None;
            self.doublings = 0;
        } else if progress {
            self.doublings = 0;
            self.timeout_at = Some(now + rtt.timeout(0));
        }
    }

    fn grow(&mut self, news: u32) {
        if self.window < self.threshold {
            self.window += news;
        } else {
            self.progress += news;
            if self.progress >= self.window {
                self.progress -= self.window;
                self.window += 1;
            }
        }
        self.window = self.window.min(SPAN as u32);
    }

    fn find_losses(&mut self, newest: u64) {
        let mut worst = 0;
        for chunk in self.chunks.iter_mut().take(self.sent) {
            if !chunk.arrived && !chunk.lost && chunk.sent_as + REORDERING <= newest {
                chunk.lost = true;
                worst = worst.max(chunk.sent_as);
            }
        }
        if worst > self.recovery {
            self.shrink();
        }
    }

    /// Halves the window, once for all that is in flight now.
    fn shrink(&mut self) {
        self.window = (self.window / 2).max(MIN_WINDOW);
        self.threshold = self.window;
        self.progress = 0;
        self.recovery = self.transmissions;
    }

    pub(super) fn handle_timeout(&mut self, rtt: &Rtt, now: Instant) {
        if self.timeout_at.is_none_or(|at| at > now) {
            return;
        }
        self.doublings += 1;
        self.timeout_at = Some(now + rtt.timeout(self.doublings));
        let mut missing = false;
        for chunk in self.chunks.iter_mut().take(self.sent).filter(|c| !c.arrived) {
            chunk.lost = true;
            missing = true;
        }
        if missing {
            self.shrink();
        } else if let Some(first) = self.chunks.front_mut() {
            // All arrived, nothing processed: ask again.
            first.lost = true;
        }
    }

    pub(super) const fn timeout_at(&self) -> Option<Instant> {
        self.timeout_at
    }

    /// When the peer's silence ends the association.
    pub(super) fn gives_up_at(&self) -> Option<Instant> {
        self.waiting_since.map(|since| since + PATIENCE)
    }

    /// There was no way to send for a while: time did not count.
    pub(super) fn resume(&mut self, now: Instant) {
        if self.sent > 0 {
            self.waiting_since = Some(now);
            self.timeout_at = Some(now);
        }
    }
}

/// Karn's rule: only chunks sent once tell the round trip.
fn sample(chunk: &Chunk, rtt: &mut Rtt, now: Instant) {
    if !chunk.again {
        rtt.sample(now.since(chunk.sent_at));
    }
}
