//! A TUN without a kernel: two ends, each reads what the other wrote.
//!
//! One end stands for the device, the other for the host behind it. Packets keep their borders
//! and their virtio headers, the queue between is bounded as the real one is.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::{HEADER_LEN, MAX_FRAME, Offload, Tun, invalid, without_header};

/// Packets that wait in one direction before writing is refused; as the kernel's default.
pub const QUEUE_MAX: usize = 500;

#[derive(Default)]
struct Queue {
    frames: VecDeque<Vec<u8>>,
    reader: Option<Waker>,
    closed: bool,
}

/// One end of a [`pair`]. Dropping it makes the other end's reads fail, as when a device is
/// deleted.
pub struct MemoryTun {
    inbox: Arc<Mutex<Queue>>,
    outbox: Arc<Mutex<Queue>>,
    offload: Offload,
    name: String,
    ifindex: u32,
}

/// Two ends, both with every offload.
pub fn pair() -> (MemoryTun, MemoryTun) {
    pair_with(Offload::Uso)
}

/// Two ends with the given offload; with [`Offload::None`] only finished packets pass.
pub fn pair_with(offload: Offload) -> (MemoryTun, MemoryTun) {
    let (a, b) = (Arc::<Mutex<Queue>>::default(), Arc::<Mutex<Queue>>::default());
    let end = |inbox: &Arc<_>, outbox: &Arc<_>, ifindex| MemoryTun {
        inbox: Arc::clone(inbox),
        outbox: Arc::clone(outbox),
        offload,
        name: format!("memory{ifindex}"),
        ifindex,
    };
    (end(&a, &b, 1), end(&b, &a, 2))
}

fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    // A panic elsewhere leaves the queue whole: every change under the lock is a single push or pop.
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryTun {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inbox = lock(&self.inbox);
        if inbox.closed || !inbox.frames.is_empty() {
            return Poll::Ready(Ok(()));
        }
        inbox.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Tun for MemoryTun {
    async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_readable(cx)).await
    }

    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut inbox = lock(&self.inbox);
        match inbox.frames.pop_front() {
            Some(frame) => {
                let len = frame.len().min(buf.len());
                buf[..len].copy_from_slice(&frame[..len]);
                Ok(len)
            }
            None if inbox.closed => Err(io::ErrorKind::BrokenPipe.into()),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn try_writev(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        if self.offload == Offload::None {
            without_header(parts)?;
        }
        let frame: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        if frame.len() < HEADER_LEN || frame.len() > MAX_FRAME {
            return Err(invalid("a packet has ten header bytes and at most 65535 others"));
        }
        let mut outbox = lock(&self.outbox);
        if outbox.frames.len() >= QUEUE_MAX {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        outbox.frames.push_back(frame);
        if let Some(reader) = outbox.reader.take() {
            reader.wake();
        }
        Ok(())
    }

    fn offload(&self) -> Offload {
        self.offload
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn ifindex(&self) -> u32 {
        self.ifindex
    }
}

impl Drop for MemoryTun {
    fn drop(&mut self) {
        let mut outbox = lock(&self.outbox);
        outbox.closed = true;
        if let Some(reader) = outbox.reader.take() {
            reader.wake();
        }
    }
}

impl std::fmt::Debug for MemoryTun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MemoryTun({})", self.name)
    }
}
