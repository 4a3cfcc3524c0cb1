//! One connection. For a stream: framing, a bounded queue for what the kernel does not take, and no
//! memory while idle (reading happens in a buffer that all connections share; only a cut record
//! stays here). QUIC frames and queues by itself.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use sinew_types::{CarrierKind, PathAddr};
use tokio::time::Instant;

use super::batch::{Pool, READ_MAX};
use super::datagrams::Datagrams;
use super::event::CloseReason;
use super::stream::Stream;
use crate::SendError;

/// Bytes of the length in front of a record.
const PREFIX: usize = 2;
/// Bytes that wait for the kernel before sending is refused.
const QUEUE_MAX: usize = 256 * 1024;
/// Bytes held for a far end that has proved nothing, and so the longest record it may send
/// (protocol B 37).
const UNPROVEN_MAX: usize = 16 * 1024;
/// Records handed to the kernel in one call.
const WRITE_BATCH: usize = 64;
/// Capacity an empty queue may keep.
const IDLE_CAPACITY: usize = 64 * 1024;

pub(crate) type Connecting = Pin<Box<dyn Future<Output = io::Result<Wire>> + Send>>;

/// What a connection moves records on.
pub(crate) enum Wire {
    Stream(Stream),
    Datagrams(Box<Datagrams>),
}

enum State {
    Connecting(Connecting),
    Open(Wire),
}

/// What came of looking at a connection.
pub(crate) enum Step {
    /// Nothing to do until woken.
    Idle,
    /// The connection stands now.
    Connected,
    /// Whole records; there may be more.
    Records {
        bytes: Vec<u8>,
        ranges: Vec<Range<usize>>,
    },
    /// Something was read but no whole record; look again when the others had their turn.
    Again,
    Closed(CloseReason),
}

pub(crate) struct Connection {
    pub(crate) path: PathAddr,
    /// Whether it still counts among the half-open.
    pub(crate) accepted: bool,
    pub(crate) deadline: Option<Instant>,
    state: State,
    waker: Waker,
    /// Framed bytes the kernel has not taken.
    output: VecDeque<u8>,
    /// Sending was refused since the last relief.
    starved: bool,
    /// The beginning of a record whose end has not come.
    cut: Vec<u8>,
    proven: bool,
    /// Whether a whole record has come: a far end that speaks our language.
    spoke: bool,
}

impl Connection {
    pub(crate) fn connecting(path: PathAddr, future: Connecting, waker: Waker) -> Self {
        Self::new(path, State::Connecting(future), waker)
    }

    pub(crate) fn open(path: PathAddr, stream: Stream, waker: Waker) -> Self {
        Self::new(path, State::Open(Wire::Stream(stream)), waker)
    }

    fn new(path: PathAddr, state: State, waker: Waker) -> Self {
        Self {
            path,
            accepted: false,
            deadline: None,
            state,
            waker,
            output: VecDeque::new(),
            starved: false,
            cut: Vec::new(),
            proven: false,
            spoke: false,
        }
    }

    pub(crate) fn is_connecting(&self) -> bool {
        matches!(self.state, State::Connecting(_))
    }

    pub(crate) fn authenticate(&mut self) {
        self.proven = true;
    }

    pub(crate) fn room(&self) -> usize {
        match &self.state {
            State::Open(Wire::Datagrams(datagrams)) => datagrams.room(),
            _ => QUEUE_MAX.saturating_sub(self.output.len()),
        }
    }

    /// The largest record that passes now; `None` where only the framing sets a limit.
    pub(crate) fn payload(&self) -> Option<usize> {
        match &self.state {
            State::Open(Wire::Datagrams(datagrams)) => Some(datagrams.payload()),
            _ => None,
        }
    }

    /// The same, once after each change.
    pub(crate) fn take_resized(&mut self) -> Option<usize> {
        match &mut self.state {
            State::Open(Wire::Datagrams(datagrams)) => datagrams.take_resized(),
            _ => None,
        }
    }

    pub(crate) fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// True once after sending was refused and half of the queue is free again.
    pub(crate) fn take_relief(&mut self) -> bool {
        if let State::Open(Wire::Datagrams(datagrams)) = &mut self.state {
            return datagrams.take_relief();
        }
        let relief = self.starved && self.output.len() <= QUEUE_MAX / 2;
        self.starved &= !relief;
        relief
    }

    /// Sends or queues records. The outer error means that the stream is broken.
    pub(crate) fn send(&mut self, bytes: &[u8], segment: usize) -> io::Result<Result<(), SendError>> {
        if segment.min(bytes.len()) > usize::from(u16::MAX) {
            return Ok(Err(SendError::TooBig { sent: 0 }));
        }
        match &mut self.state {
            State::Open(Wire::Datagrams(datagrams)) => return datagrams.send(bytes, segment),
            // Its queue is QUIC's own, and not there yet.
            State::Connecting(_) if self.path.carrier == CarrierKind::Quic => {
                return Ok(Err(SendError::WouldBlock { sent: 0 }));
            }
            _ => {}
        }
        let mut sent = 0;
        for group in bytes.chunks(segment.saturating_mul(WRITE_BATCH)) {
            // Order: nothing passes what is queued already.
            let taken = if self.has_output() { 0 } else { self.write_through(group, segment)? };
            sent += taken;
            for record in group[taken..].chunks(segment) {
                if self.room() < PREFIX + record.len() {
                    self.starved = true;
                    return Ok(Err(SendError::WouldBlock { sent }));
                }
                self.output.extend(prefix(record));
                self.output.extend(record);
                sent += record.len();
            }
        }
        Ok(Ok(()))
    }

    /// Hands up to [`WRITE_BATCH`] records to the kernel in one call, with the rest of a record it
    /// took in part queued. Returns how many bytes of `group` are dealt with.
    fn write_through(&mut self, group: &[u8], segment: usize) -> io::Result<usize> {
        let State::Open(Wire::Stream(stream)) = &mut self.state else { return Ok(0) };
        let mut prefixes = [[0; PREFIX]; WRITE_BATCH];
        for (slot, record) in prefixes.iter_mut().zip(group.chunks(segment)) {
            *slot = prefix(record);
        }
        let mut parts = [IoSlice::new(&[]); 2 * WRITE_BATCH];
        let mut count = 0;
        for (head, record) in prefixes.iter().zip(group.chunks(segment)) {
            parts[count] = IoSlice::new(head);
            parts[count + 1] = IoSlice::new(record);
            count += 2;
        }
        let mut written = match stream.try_write_vectored(&parts[..count]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            result => result?,
        };
        let mut taken = 0;
        for (head, record) in prefixes.iter().zip(group.chunks(segment)) {
            if written == 0 {
                break;
            }
            // Begun is sent: the rest follows whatever the bound says, at most one record.
            let left_head = head.get(written..).unwrap_or_default();
            let left = record.get(written.saturating_sub(PREFIX)..).unwrap_or_default();
            self.output.extend(left_head);
            self.output.extend(left);
            written = written.saturating_sub(PREFIX + record.len());
            taken += record.len();
        }
        Ok(taken)
    }

    /// Writes what waits, reads once.
    pub(crate) fn drive(&mut self, pool: &mut Pool) -> Step {
        let waker = self.waker.clone();
        let mut cx = Context::from_waker(&waker);
        if let State::Connecting(future) = &mut self.state {
            return match future.as_mut().poll(&mut cx) {
                Poll::Pending => Step::Idle,
                Poll::Ready(Ok(wire)) => {
                    self.begin(wire);
                    Step::Connected
                }
                Poll::Ready(Err(error)) => Step::Closed(CloseReason::Failed(error)),
            };
        }
        if let State::Open(Wire::Datagrams(datagrams)) = &mut self.state {
            return datagrams.drive(&mut cx, pool);
        }
        match self.flush(&mut cx).and_then(|()| self.read(&mut cx, pool)) {
            Ok(step) => step,
            Err(error) => Step::Closed(CloseReason::Failed(error)),
        }
    }

    fn begin(&mut self, mut wire: Wire) {
        if let Wire::Stream(stream) = &mut wire {
            stream.set_waker(&self.waker);
        }
        self.state = State::Open(wire);
    }

    fn flush(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let State::Open(Wire::Stream(stream)) = &mut self.state else { return Ok(()) };
        while !self.output.is_empty() {
            let Poll::Ready(ready) = stream.poll_write_ready(cx) else { return Ok(()) };
            ready?;
            let (front, back) = self.output.as_slices();
            match stream.try_write_vectored(&[IoSlice::new(front), IoSlice::new(back)]) {
                Ok(written) => drop(self.output.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        if self.output.capacity() > IDLE_CAPACITY {
            self.output = VecDeque::new();
        }
        stream.flush(cx)
    }

    fn read(&mut self, cx: &mut Context<'_>, pool: &mut Pool) -> io::Result<Step> {
        let State::Open(Wire::Stream(stream)) = &mut self.state else { return Ok(Step::Idle) };
        match stream.poll_read_ready(cx) {
            Poll::Pending => return Ok(Step::Idle),
            Poll::Ready(ready) => ready?,
        }
        let limit = if self.proven { READ_MAX } else { UNPROVEN_MAX };
        if self.cut.len() >= limit {
            // A long record close behind the handshake: the rest waits in the kernel until the
            // far end is proven, or its time is up.
            return Ok(Step::Idle);
        }
        let (mut bytes, mut ranges) = pool.take();
        let kept = self.cut.len();
        bytes[..kept].copy_from_slice(&self.cut);
        let read = loop {
            match stream.try_read(&mut bytes[kept..limit]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => break Some(result?),
            }
            match stream.poll_read_ready(cx) {
                Poll::Pending => break None,
                Poll::Ready(ready) => ready?,
            }
        };
        let step = match read {
            None => Step::Idle,
            Some(0) => Step::Closed(CloseReason::Ended),
            Some(more) => match split(&bytes[..kept + more], limit, self.spoke, &mut ranges) {
                None => Step::Closed(CloseReason::BadFraming),
                Some(end) => {
                    self.cut.clear();
                    self.cut.extend_from_slice(&bytes[end..kept + more]);
                    if !ranges.is_empty() {
                        self.spoke = true;
                        return Ok(Step::Records { bytes, ranges });
                    }
                    Step::Again
                }
            },
        };
        pool.put_parts(bytes, ranges);
        Ok(step)
    }
}

fn prefix(record: &[u8]) -> [u8; PREFIX] {
    // `send` refuses longer records before any byte is framed.
    u16::try_from(record.len()).unwrap_or(u16::MAX).to_le_bytes()
}

/// Finds the whole records in `bytes`; returns where the last one ends. `None`: a record of no
/// bytes, or one longer than `limit` from a far end that never sent a good one (`spoke`).
fn split(bytes: &[u8], limit: usize, spoke: bool, ranges: &mut Vec<Range<usize>>) -> Option<usize> {
    let mut at = 0;
    while let Some(&[low, high]) = bytes.get(at..at + PREFIX) {
        let len = usize::from(u16::from_le_bytes([low, high]));
        if len == 0 || (PREFIX + len > limit && !spoke && ranges.is_empty()) {
            return None;
        }
        let end = at + PREFIX + len;
        if end > bytes.len() {
            break;
        }
        ranges.push(at + PREFIX..end);
        at = end;
    }
    Some(at)
}
