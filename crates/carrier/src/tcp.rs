//! Records on TCP streams, for networks that do not pass UDP.
//!
//! A record stands behind its length (u16, little-endian). Each connection has a number, the
//! `local` of its [`sinew_types::PathAddr`]; numbers are not used twice. One [`TcpCarrier`] owns
//! all listeners and connections and is driven by [`TcpCarrier::next`] from one task: wakers mark
//! the connections that have something to do, so a turn costs what is ready, not what is open.
//!
//! A stream keeps state for a stranger before anybody has proved anything. Therefore accepted
//! connections are bounded in number, per source, in time and in memory until the caller says
//! that the far end is [`TcpCarrier::authenticated`] (threats: protocol B 37).
//!
//! Nothing is queued without bound: what the kernel does not take waits in at most 256 KB, then
//! sending is refused, and [`TcpEvent::Writable`] tells when there is room again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixStream};
use tokio::time::{Instant, Sleep};

use crate::{CarrierError, SendError};

mod batch;
mod connection;
mod half_open;
mod stream;

pub use batch::RecordBatch;
pub use connection::CloseReason;

use batch::Pool;
use connection::{Connection, Step};
use half_open::HalfOpen;
use crate::ready::ReadySet;
use stream::Stream;

/// Connections the kernel holds for us until they are accepted.
const BACKLOG: i32 = 1024;
/// Connections accepted in one turn, so that a flood of them does not starve the others.
const ACCEPT_BURST: usize = 64;
/// Pause when the process has no descriptors left; accepting would fail at once, again and again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bounds on what strangers may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpLimits {
    /// Accepted connections that have proved nothing yet.
    pub half_open: usize,
    /// Of these, from one IPv4 address or one IPv6 /64.
    pub half_open_per_source: usize,
    /// Connections in all.
    pub connections: usize,
    /// How long an accepted connection may prove nothing.
    pub accepted_within: Duration,
    /// How long connecting may take.
    pub connect_within: Duration,
    /// How long a connection of our own may prove nothing once it stands.
    pub dialled_within: Duration,
}

impl Default for TcpLimits {
    /// The numbers of protocol B 37; our own connections get time for a few handshake attempts.
    fn default() -> Self {
        Self {
            half_open: 1024,
            half_open_per_source: 16,
            connections: 8192,
            accepted_within: Duration::from_secs(5),
            connect_within: Duration::from_secs(10),
            dialled_within: Duration::from_secs(30),
        }
    }
}

/// What happened on the streams.
#[derive(Debug)]
pub enum TcpEvent {
    /// Somebody connected to one of our listeners.
    Accepted {
        /// Number of the connection.
        local: u32,
        /// The far end.
        remote: SocketAddr,
    },
    /// A connection of ours stands.
    Connected {
        /// Number of the connection.
        local: u32,
        /// The far end.
        remote: SocketAddr,
    },
    /// Records arrived. Give the batch back by [`TcpCarrier::recycle`] when done.
    Records(RecordBatch),
    /// There is room again after [`SendError::WouldBlock`].
    Writable {
        /// Number of the connection.
        local: u32,
    },
    /// A connection is gone, also one that never stood. Not sent after [`TcpCarrier::close`].
    Closed {
        /// Number of the connection.
        local: u32,
        /// The far end.
        remote: SocketAddr,
        /// Why.
        reason: CloseReason,
    },
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpStats {
    /// Connections refused because of a limit.
    pub refused: u64,
    /// Accept calls that failed (no descriptors left, for one).
    pub accept_errors: u64,
    /// Connections that did not prove themselves in time.
    pub unproven: u64,
    /// Connections that broke the framing.
    pub bad_framing: u64,
}

/// All TCP listeners and connections of a node.
pub struct TcpCarrier {
    limits: TcpLimits,
    listeners: Vec<TcpListener>,
    connections: BTreeMap<u32, Connection>,
    ready: Arc<ReadySet>,
    last_local: u32,
    half_open: HalfOpen,
    deadlines: BTreeSet<(Instant, u32)>,
    accept_after: Option<Instant>,
    timer: Option<std::pin::Pin<Box<Sleep>>>,
    events: VecDeque<TcpEvent>,
    pool: Pool,
    stats: TcpStats,
}

impl Default for TcpCarrier {
    fn default() -> Self {
        Self::new(TcpLimits::default())
    }
}

impl TcpCarrier {
    /// A carrier without listeners and connections.
    pub fn new(limits: TcpLimits) -> Self {
        Self {
            limits,
            listeners: Vec::new(),
            connections: BTreeMap::new(),
            ready: Arc::default(),
            last_local: 0,
            half_open: HalfOpen::default(),
            deadlines: BTreeSet::new(),
            accept_after: None,
            timer: None,
            events: VecDeque::new(),
            pool: Pool::default(),
            stats: TcpStats::default(),
        }
    }

    /// Listens on `addr` (port 0: the kernel chooses) too; returns the bound address. An IPv6
    /// listener is IPv6 only.
    ///
    /// # Errors
    /// [`CarrierError`] with the remedy.
    ///
    /// # Panics
    /// Outside a tokio runtime with IO enabled.
    pub fn listen(&mut self, addr: SocketAddr) -> Result<SocketAddr, CarrierError> {
        let listener = open_listener(addr).map_err(CarrierError::explain("tcp", addr))?;
        let bound = listener.local_addr().map_err(CarrierError::explain("tcp", addr))?;
        self.listeners.push(listener);
        self.ready.wake_owner();
        Ok(bound)
    }

    /// Starts a connection; [`TcpEvent::Connected`] or [`TcpEvent::Closed`] follows. Returns its
    /// number, which already takes records to send.
    pub fn connect(&mut self, remote: SocketAddr) -> u32 {
        let local = self.take_local();
        let socket = if remote.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let future = async move { socket?.connect(remote).await };
        let deadline = Instant::now() + self.limits.connect_within;
        let connection = Connection::connecting(remote, Box::pin(future), self.ready.waker(local));
        self.insert(local, connection, deadline);
        local
    }

    /// Connects two carriers of one process without a network: `a` sees [`TcpEvent::Connected`]
    /// to `at_b`, `b` sees [`TcpEvent::Accepted`] from `at_a`. Returns the numbers at `a` and `b`.
    ///
    /// # Errors
    /// When the process has no descriptors left.
    pub fn pair(a: &mut Self, b: &mut Self, at_a: SocketAddr, at_b: SocketAddr) -> io::Result<(u32, u32)> {
        let (end_a, end_b) = UnixStream::pair()?;
        let (local_a, local_b) = (a.take_local(), b.take_local());
        a.adopt(local_a, at_b, Stream::Pair(end_a), a.limits.dialled_within);
        a.events.push_back(TcpEvent::Connected { local: local_a, remote: at_b });
        b.adopt(local_b, at_a, Stream::Pair(end_b), b.limits.accepted_within);
        b.events.push_back(TcpEvent::Accepted { local: local_b, remote: at_a });
        Ok((local_a, local_b))
    }

    /// Sends `bytes`, cut into records of `segment` bytes (the last may be shorter), on
    /// connection `local`. A record goes whole or not at all.
    ///
    /// # Errors
    /// `WouldBlock` when 256 KB wait already, `TooBig` for records above 65,535 bytes, `Closed`
    /// without such a connection.
    pub fn try_send(&mut self, local: u32, bytes: &[u8], segment: usize) -> Result<(), SendError> {
        let connection = self.connections.get_mut(&local).ok_or(SendError::Closed)?;
        match connection.send(bytes, segment.max(1)) {
            Ok(result) => {
                if connection.has_output() {
                    self.ready.mark(local);
                }
                result
            }
            Err(error) => {
                self.drop_connection(local, CloseReason::Failed(error));
                self.ready.wake_owner();
                Err(SendError::Closed)
            }
        }
    }

    /// Bytes that connection `local` would still queue; 0 without such a connection.
    pub fn room(&self, local: u32) -> usize {
        self.connections.get(&local).map_or(0, Connection::room)
    }

    /// Says that the far end has proved who it is: the limits on strangers no longer hold.
    pub fn authenticated(&mut self, local: u32) {
        let Some(connection) = self.connections.get_mut(&local) else { return };
        connection.authenticate();
        if let Some(deadline) = connection.deadline.take() {
            self.deadlines.remove(&(deadline, local));
        }
        if connection.accepted {
            connection.accepted = false;
            self.half_open.leave(connection.remote.ip());
        }
        self.ready.mark(local);
    }

    /// Ends a connection; what the kernel has not taken is lost. No event follows.
    pub fn close(&mut self, local: u32) {
        self.remove(local);
    }

    /// Gives a batch's memory back for the next read.
    pub fn recycle(&mut self, batch: RecordBatch) {
        self.pool.put(batch);
    }

    /// Counters since the start.
    pub fn stats(&self) -> TcpStats {
        self.stats
    }

    /// Connections, of which the second number has proved nothing yet.
    pub fn counts(&self) -> (usize, usize) {
        (self.connections.len(), self.half_open.total())
    }

    /// The next event. Cancel safe: an event is lost only with its caller.
    pub async fn next(&mut self) -> TcpEvent {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`TcpCarrier::next`], for a caller that asks others in the same breath.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<TcpEvent> {
        self.ready.set_owner(cx.waker());
        if self.events.is_empty() {
            self.poll_deadlines(cx);
            self.poll_accept(cx);
        }
        // Only those marked so far: out of tokio's budget a connection marks itself again at once.
        let mut turns = self.ready.len();
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(event);
            }
            let next = if turns > 0 { self.ready.take() } else { None };
            let Some(local) = next else { break };
            turns -= 1;
            self.drive(local);
        }
        if !self.ready.is_empty() {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn drive(&mut self, local: u32) {
        let Some(connection) = self.connections.get_mut(&local) else { return };
        let remote = connection.remote;
        let step = connection.drive(&mut self.pool);
        if connection.take_relief() {
            self.events.push_back(TcpEvent::Writable { local });
        }
        match step {
            Step::Idle => {}
            Step::Connected => {
                self.set_deadline(local, Instant::now() + self.limits.dialled_within);
                self.events.push_back(TcpEvent::Connected { local, remote });
                self.ready.mark(local);
            }
            Step::Records { bytes, ranges } => {
                self.events.push_back(TcpEvent::Records(RecordBatch { local, remote, bytes, ranges }));
                self.ready.mark(local);
            }
            Step::Again => self.ready.mark(local),
            Step::Closed(reason) => self.drop_connection(local, reason),
        }
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>) {
        if self.accept_after.is_some() {
            return;
        }
        let listeners = std::mem::take(&mut self.listeners);
        let mut burst = ACCEPT_BURST;
        for listener in &listeners {
            while burst > 0 {
                let Poll::Ready(result) = listener.poll_accept(cx) else { break };
                burst -= 1;
                match result {
                    Ok((stream, remote)) => self.admit(stream, remote),
                    Err(error) => self.accept_failed(&error),
                }
            }
        }
        self.listeners = listeners;
        if burst == 0 {
            cx.waker().wake_by_ref();
        }
    }

    fn admit(&mut self, stream: TcpStream, remote: SocketAddr) {
        let full = self.connections.len() >= self.limits.connections;
        if full || !self.half_open.enter(remote.ip(), &self.limits) {
            self.stats.refused += 1;
            // Reset instead of a closing handshake: no state stays behind for a flood.
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            return;
        }
        let local = self.take_local();
        self.adopt(local, remote, Stream::tcp(stream), self.limits.accepted_within);
        if let Some(connection) = self.connections.get_mut(&local) {
            connection.accepted = true;
        }
        self.events.push_back(TcpEvent::Accepted { local, remote });
    }

    fn accept_failed(&mut self, error: &io::Error) {
        self.stats.accept_errors += 1;
        let exhausted = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
        if error.raw_os_error().is_some_and(|code| exhausted.contains(&code)) {
            tracing::warn!(%error, "cannot accept TCP connections; raise LimitNOFILE");
            self.accept_after = Some(Instant::now() + ACCEPT_PAUSE);
        }
    }

    fn poll_deadlines(&mut self, cx: &mut Context<'_>) {
        loop {
            let due = self.deadlines.first().map(|&(at, _)| at).into_iter().chain(self.accept_after).min();
            let Some(due) = due else { return };
            match &mut self.timer {
                Some(timer) if timer.deadline() == due => {}
                Some(timer) => timer.as_mut().reset(due),
                None => self.timer = Some(Box::pin(tokio::time::sleep_until(due))),
            }
            if self.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_pending()) {
                return;
            }
            self.expire(due);
        }
    }

    fn expire(&mut self, now: Instant) {
        self.timer = None;
        self.accept_after = self.accept_after.filter(|&at| at > now);
        while let Some(&(at, local)) = self.deadlines.first().filter(|&&(at, _)| at <= now) {
            self.deadlines.remove(&(at, local));
            let connecting = self.connections.get(&local).is_some_and(Connection::is_connecting);
            let reason = if connecting { CloseReason::ConnectTimeout } else { CloseReason::Unproven };
            self.drop_connection(local, reason);
        }
    }

    fn adopt(&mut self, local: u32, remote: SocketAddr, stream: Stream, within: Duration) {
        let connection = Connection::open(remote, stream, self.ready.waker(local));
        self.insert(local, connection, Instant::now() + within);
    }

    fn insert(&mut self, local: u32, connection: Connection, deadline: Instant) {
        self.connections.insert(local, connection);
        self.set_deadline(local, deadline);
        self.ready.mark(local);
    }

    fn set_deadline(&mut self, local: u32, deadline: Instant) {
        let Some(connection) = self.connections.get_mut(&local) else { return };
        if let Some(old) = connection.deadline.replace(deadline) {
            self.deadlines.remove(&(old, local));
        }
        self.deadlines.insert((deadline, local));
    }

    fn remove(&mut self, local: u32) -> Option<Connection> {
        let connection = self.connections.remove(&local)?;
        if let Some(deadline) = connection.deadline {
            self.deadlines.remove(&(deadline, local));
        }
        if connection.accepted {
            self.half_open.leave(connection.remote.ip());
        }
        Some(connection)
    }

    fn drop_connection(&mut self, local: u32, reason: CloseReason) {
        let Some(connection) = self.remove(local) else { return };
        match reason {
            CloseReason::Unproven => self.stats.unproven += 1,
            CloseReason::BadFraming => self.stats.bad_framing += 1,
            _ => {}
        }
        self.events.push_back(TcpEvent::Closed { local, remote: connection.remote, reason });
    }

    fn take_local(&mut self) -> u32 {
        loop {
            self.last_local = self.last_local.wrapping_add(1).max(1);
            if !self.connections.contains_key(&self.last_local) {
                return self.last_local;
            }
        }
    }
}

impl std::fmt::Debug for TcpCarrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TcpCarrier({} listeners, {} connections)", self.listeners.len(), self.connections.len())
    }
}

fn open_listener(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // On Linux this only passes over connections of a former run that linger in TIME_WAIT.
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests;
