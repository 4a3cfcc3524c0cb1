//! Stream carriers: records arrive in order and late rather than lost, until the stream breaks.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use sinew_types::{CarrierKind, Instant, NodeId, PathAddr};

use crate::check::Violation;
use crate::queue::Happening;
use crate::world::World;

/// A stream whose link stays down this long breaks.
const PATIENCE: Duration = Duration::from_secs(20);
/// A connection attempt that meets nobody fails after this.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
/// Most bytes that wait in a socket.
const MOST_STALLED: usize = 1 << 20;

/// One connection.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    /// Opener and acceptor.
    ends: [usize; 2],
    /// The far end, as each of them sees it.
    remotes: [SocketAddr; 2],
    /// Whom the opener wants there.
    peer: NodeId,
    /// Whether the opener's SYN was answered.
    stands: bool,
    broken: bool,
    last_arrival: [Instant; 2],
    /// Records that wait for the link, with their sender's end.
    stalled: VecDeque<(usize, Vec<u8>)>,
    stalled_bytes: usize,
    stalled_since: Option<Instant>,
}

impl Stream {
    fn path(&self, number: u32, end: usize) -> PathAddr {
        PathAddr { carrier: CarrierKind::Tcp, local: number, remote: self.remotes[end] }
    }
}

impl World {
    pub(crate) fn connect(&mut self, host: usize, peer: NodeId, remote: SocketAddr) {
        let number = self.streams.keys().next_back().map_or(1, |last| last + 1);
        let from = SocketAddr::new(self.hosts[host].at.ip(), 20_000 + (number % 40_000) as u16);
        let target = self.net.host_at(&remote).filter(|&target| self.hosts[target].node.is_some());
        let arrival = target.and_then(|target| self.net.stream_segment(host, target, self.now));
        let (at, stands) = match arrival {
            Some(arrival) => (arrival + arrival.since(self.now), true),
            None => (self.now + CONNECT_PATIENCE, false),
        };
        let stream = Stream {
            ends: [host, target.unwrap_or(host)],
            remotes: [remote, from],
            peer,
            stands,
            broken: !stands,
            last_arrival: [self.now; 2],
            stalled: VecDeque::new(),
            stalled_bytes: 0,
            stalled_since: None,
        };
        self.streams.insert(number, stream);
        self.queue.push(at, Happening::Connected { stream: number });
    }

    pub(crate) fn on_connected(&mut self, number: u32) -> Result<(), Violation> {
        let Some(stream) = self.streams.get(&number) else { return Ok(()) };
        let (host, peer, path) = (stream.ends[0], stream.peer, stream.path(number, 0));
        if stream.stands && !stream.broken {
            return self.feed(host, |node, now| node.handle_connected(peer, path, now));
        }
        self.streams.remove(&number);
        self.feed(host, |node, now| node.handle_connect_failed(peer, path, "connection refused", now))
    }

    /// A host writes one record.
    pub(crate) fn send_record(&mut self, host: usize, number: u32, bytes: &[u8]) {
        let Some(stream) = self.streams.get_mut(&number).filter(|stream| !stream.broken) else { return };
        let end = usize::from(stream.ends[1] == host);
        let to = stream.ends[1 - end];
        let arrival = self.net.stream_segment(host, to, self.now).filter(|_| stream.stalled.is_empty());
        match arrival {
            Some(at) => {
                stream.last_arrival[end] = stream.last_arrival[end].max(at);
                let record = Happening::Record { stream: number, to, bytes: bytes.to_vec() };
                self.queue.push(stream.last_arrival[end], record);
            }
            None if stream.stalled_bytes + bytes.len() <= MOST_STALLED => {
                if stream.stalled_since.is_none() {
                    stream.stalled_since = Some(self.now);
                    self.queue.push(self.now + PATIENCE, Happening::Closed { stream: number, to: host });
                    self.queue.push(self.now + PATIENCE, Happening::Closed { stream: number, to });
                }
                stream.stalled_bytes += bytes.len();
                stream.stalled.push_back((host, bytes.to_vec()));
            }
            None => {}
        }
    }

    /// A link came up: what waited goes on.
    pub(crate) fn flush_streams(&mut self) {
        let waiting = |(&number, stream): (&u32, &Stream)| (!stream.stalled.is_empty()).then_some(number);
        let numbers: Vec<_> = self.streams.iter().filter_map(waiting).collect();
        for number in numbers {
            let Some(stream) = self.streams.get_mut(&number) else { continue };
            if self.net.stream_segment(stream.ends[0], stream.ends[1], self.now).is_none() {
                continue;
            }
            stream.stalled_since = None;
            stream.stalled_bytes = 0;
            for (host, bytes) in core::mem::take(&mut stream.stalled) {
                self.send_record(host, number, &bytes);
            }
        }
    }

    pub(crate) fn on_record(&mut self, number: u32, to: usize, mut bytes: Vec<u8>) -> Result<(), Violation> {
        let Some(stream) = self.streams.get(&number).filter(|stream| !stream.broken) else { return Ok(()) };
        let path = stream.path(number, usize::from(stream.ends[1] == to));
        self.feed(to, |node, now| {
            let len = bytes.len();
            node.handle_datagrams(path, 0, &mut bytes, len, now);
        })
    }

    /// A host is gone or has moved: its streams break, and the far ends learn it.
    pub(crate) fn close_streams_of(&mut self, host: usize) {
        for (&number, stream) in self.streams.iter_mut().filter(|(_, stream)| stream.ends.contains(&host)) {
            if !core::mem::replace(&mut stream.broken, true) {
                let other = stream.ends[usize::from(stream.ends[0] == host)];
                let soon = self.now + Duration::from_millis(50);
                self.queue.push(soon, Happening::Closed { stream: number, to: other });
                if self.hosts[host].node.is_some() {
                    self.queue.push(soon, Happening::Closed { stream: number, to: host });
                }
            }
        }
    }

    /// An end learns that its stream is gone.
    pub(crate) fn on_closed(&mut self, number: u32, to: usize) -> Result<(), Violation> {
        let Some(stream) = self.streams.get_mut(&number) else { return Ok(()) };
        let stalled = stream.stalled_since.is_some_and(|since| self.now.since(since) >= PATIENCE);
        stream.broken |= stalled;
        if !stream.broken {
            return Ok(());
        }
        let path = stream.path(number, usize::from(stream.ends[1] == to));
        self.feed(to, |node, now| node.handle_disconnected(path, now))
    }
}
