//! Datagrams without a network: every carrier of one [`MemoryNet`] reaches every other, in order,
//! without loss until a queue is full.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use crate::recv::RecvBuffer;
use crate::{Datagrams, SendError};

/// Batches that wait at one receiver; more are lost, as in a full socket buffer.
const QUEUE_MAX: usize = 1024;
/// Largest payload of a UDP datagram, bytes.
const DATAGRAM_MAX: usize = 65_507;

struct Arrived {
    from: SocketAddr,
    bytes: Vec<u8>,
    stride: usize,
    ecn: u8,
}

#[derive(Default)]
struct Inbox {
    batches: VecDeque<Arrived>,
    reader: Option<Waker>,
}

/// A network in memory. Clones are the same network.
#[derive(Clone, Default)]
pub struct MemoryNet {
    inboxes: Arc<Mutex<BTreeMap<SocketAddr, Inbox>>>,
}

impl MemoryNet {
    /// An empty network.
    pub fn new() -> Self {
        Self::default()
    }

    /// A carrier at `addr`; `None` if that is taken.
    pub fn bind(&self, addr: SocketAddr, local: u32) -> Option<MemoryCarrier> {
        let mut inboxes = self.lock();
        if inboxes.contains_key(&addr) {
            return None;
        }
        inboxes.insert(addr, Inbox::default());
        drop(inboxes);
        Some(MemoryCarrier { net: self.clone(), addr, local })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, Inbox>> {
        // Each change under the lock is a single insertion or removal, so a panic leaves it whole.
        self.inboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for MemoryNet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.lock().keys()).finish()
    }
}

/// One socket of a [`MemoryNet`].
#[derive(Debug)]
pub struct MemoryCarrier {
    net: MemoryNet,
    addr: SocketAddr,
    local: u32,
}

impl Datagrams for MemoryCarrier {
    async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| {
            let mut inboxes = self.net.lock();
            let inbox = inboxes.entry(self.addr).or_default();
            if inbox.batches.is_empty() {
                inbox.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    fn try_recv(&self, buffer: &mut RecvBuffer) -> io::Result<usize> {
        buffer.clear();
        let mut inboxes = self.net.lock();
        let inbox = inboxes.entry(self.addr).or_default();
        while buffer.len() < buffer.slots() {
            let Some(next) = inbox.batches.pop_front() else { break };
            buffer.push_copy(next.from, &next.bytes, next.stride, next.ecn);
        }
        if buffer.is_empty() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(buffer.len()) }
    }

    fn try_send(&self, to: SocketAddr, bytes: &[u8], segment: usize, ecn: u8) -> Result<(), SendError> {
        let segment = segment.max(1);
        if segment.min(bytes.len()) > DATAGRAM_MAX {
            return Err(SendError::TooBig { sent: 0 });
        }
        let mut inboxes = self.net.lock();
        let Some(inbox) = inboxes.get_mut(&to) else { return Ok(()) };
        let chunk = (DATAGRAM_MAX / segment).clamp(1, 64) * segment;
        for part in bytes.chunks(chunk) {
            if inbox.batches.len() < QUEUE_MAX {
                let arrived = Arrived {
                    from: self.addr,
                    bytes: part.to_vec(),
                    stride: segment.min(part.len()),
                    ecn: ecn & 3,
                };
                inbox.batches.push_back(arrived);
            }
        }
        if let Some(reader) = inbox.reader.take() {
            reader.wake();
        }
        Ok(())
    }

    async fn writable(&self) -> io::Result<()> {
        Ok(())
    }

    fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    fn local(&self) -> u32 {
        self.local
    }
}

impl Drop for MemoryCarrier {
    fn drop(&mut self) {
        self.net.lock().remove(&self.addr);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_reach_their_address_in_order_and_nobody_else() {
        let net = MemoryNet::new();
        let addrs: [SocketAddr; 3] =
            ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"].map(|text| text.parse().unwrap());
        let carriers = addrs.map(|addr| net.bind(addr, 0).unwrap());
        assert!(net.bind(addrs[0], 1).is_none());
        let bytes: Vec<u8> = (0..250).collect();
        carriers[0].try_send(addrs[1], &bytes, 100, 2).unwrap();
        let mut buffer = RecvBuffer::new(4);
        assert_eq!(carriers[2].try_recv(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(carriers[1].try_recv(&mut buffer).unwrap(), 1);
        let (batch, got) = buffer.get_mut(0).unwrap();
        assert_eq!((batch.from, batch.ecn), (addrs[0], 2));
        assert_eq!(batch.ranges().map(|r| r.len()).collect::<Vec<_>>(), [100, 100, 50]);
        assert_eq!(got, &bytes[..]);
    }
}
