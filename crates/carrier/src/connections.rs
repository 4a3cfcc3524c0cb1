//! Carriers with connections, for networks that do not pass plain UDP: TCP, WebSocket over TLS, QUIC.
//!
//! On a stream (TCP, WebSocket) a record stands behind its length (u16, little-endian); QUIC has
//! datagrams. Each connection has a number, the `local` of its [`sinew_types::PathAddr`]; numbers
//! are not used twice. One [`Connections`] owns all listeners and connections and is driven by
//! [`Connections::next`] from one task: wakers mark the connections that have something to do, so
//! a turn costs what is ready, not what is open.
//!
//! A connection keeps state for a stranger before anybody has proved anything. Therefore accepted
//! connections are bounded in number, per source, in time and in memory until the caller says
//! that the far end is [`Connections::authenticated`] (threats: protocol B 37).
//!
//! Nothing is queued without bound: what the kernel (or QUIC's pacing) does not take waits in at most 256 KB, then
//! sending is refused, and [`ConnectionEvent::Writable`] tells when there is room again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use sinew_types::{CarrierKind, PathAddr};
use socket2::SockRef;
use tokio::net::UnixStream;
use tokio::time::{Instant, Sleep};

use crate::tls::{self, Certificate, TlsError};
use crate::{CarrierError, SendError};

mod batch;
mod connection;
mod datagrams;
mod dial;
mod door;
mod event;
mod half_open;
mod listener;
mod stream;
mod websocket;

pub use batch::RecordBatch;
pub use dial::Dial;
pub use door::Door;
pub use event::{CloseReason, ConnectionEvent};

use crate::ready::ReadySet;
use batch::Pool;
use connection::{Connecting, Connection, Step};
use half_open::HalfOpen;
use listener::{Arrival, Listener};
use stream::Stream;

/// Connections accepted in one turn, so that a flood of them does not starve the others.
const ACCEPT_BURST: usize = 64;
/// Pause when the process has no descriptors left; accepting would fail at once, again and again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bounds on what strangers may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Accepted connections that have proved nothing yet.
    pub half_open: usize,
    /// Of these, from one IPv4 address or one IPv6 /64.
    pub half_open_per_source: usize,
    /// Connections in all.
    pub connections: usize,
    /// How long an accepted connection may prove nothing; TLS has the same time before that.
    pub accepted_within: Duration,
    /// How long connecting may take.
    pub connect_within: Duration,
    /// How long a connection of our own may prove nothing once it stands.
    pub dialled_within: Duration,
}

impl Default for ConnectionLimits {
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

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionStats {
    /// Connections refused because of a limit.
    pub refused: u64,
    /// Accept calls that failed (no descriptors left, for one).
    pub accept_errors: u64,
    /// Connections that did not prove themselves in time.
    pub unproven: u64,
    /// Connections that broke the framing.
    pub bad_framing: u64,
}

/// All listeners and connections of a node.
pub struct Connections {
    limits: ConnectionLimits,
    listeners: Vec<Listener>,
    /// QUIC endpoints that only dial, made when they are first needed: for IPv4, for IPv6.
    quic: [Option<quinn::Endpoint>; 2],
    connections: BTreeMap<u32, Connection>,
    ready: Arc<ReadySet>,
    last_local: u32,
    half_open: HalfOpen,
    deadlines: BTreeSet<(Instant, u32)>,
    accept_after: Option<Instant>,
    timer: Option<std::pin::Pin<Box<Sleep>>>,
    events: VecDeque<ConnectionEvent>,
    pool: Pool,
    stats: ConnectionStats,
}

impl Default for Connections {
    fn default() -> Self {
        Self::new(ConnectionLimits::default())
    }
}

impl Connections {
    /// A carrier without listeners and connections.
    pub fn new(limits: ConnectionLimits) -> Self {
        Self {
            limits,
            listeners: Vec::new(),
            quic: [None, None],
            connections: BTreeMap::new(),
            ready: Arc::default(),
            last_local: 0,
            half_open: HalfOpen::default(),
            deadlines: BTreeSet::new(),
            accept_after: None,
            timer: None,
            events: VecDeque::new(),
            pool: Pool::default(),
            stats: ConnectionStats::default(),
        }
    }

    /// Listens on `addr` (port 0: the kernel chooses) for TCP too; returns the bound address. An IPv6
    /// listener is IPv6 only.
    ///
    /// # Errors
    /// [`CarrierError`] with the remedy.
    ///
    /// # Panics
    /// Outside a tokio runtime with IO enabled.
    pub fn listen(&mut self, addr: SocketAddr) -> Result<SocketAddr, CarrierError> {
        self.add_listener("tcp", addr, Listener::tcp(addr))
    }

    /// As [`Connections::listen`], for WebSockets over TLS.
    ///
    /// # Errors
    /// [`CarrierError`] with the remedy.
    pub fn listen_wss(&mut self, addr: SocketAddr, shown: &Certificate) -> Result<SocketAddr, CarrierError> {
        self.add_listener("wss", addr, Listener::wss(addr, shown))
    }

    /// Takes in WebSockets over TLS that come by a port that is somebody else's, who hands them over.
    ///
    /// # Errors
    /// When TLS cannot be set up with what is to be shown.
    pub fn share_wss(&mut self, shown: &Certificate) -> Result<Door, TlsError> {
        let (listener, door) = Listener::door(shown)?;
        self.listeners.push(listener);
        self.ready.wake_owner();
        Ok(door)
    }

    /// As [`Connections::listen`], for QUIC.
    ///
    /// # Errors
    /// [`CarrierError`] with the remedy.
    pub fn listen_quic(&mut self, addr: SocketAddr, shown: &Certificate) -> Result<SocketAddr, CarrierError> {
        self.add_listener("quic", addr, Listener::quic(addr, shown))
    }

    fn add_listener(
        &mut self,
        carrier: &'static str,
        addr: SocketAddr,
        opened: io::Result<(Listener, SocketAddr)>,
    ) -> Result<SocketAddr, CarrierError> {
        let (listener, bound) = opened.map_err(CarrierError::explain(carrier, addr))?;
        self.listeners.push(listener);
        self.ready.wake_owner();
        Ok(bound)
    }

    /// Starts a connection; [`ConnectionEvent::Connected`] or [`ConnectionEvent::Closed`] follows.
    /// Returns its number, which on a stream already takes records to send.
    pub fn connect(&mut self, dial: Dial) -> u32 {
        let local = self.take_local();
        let path = dial.path(local);
        let future = self.dialling(dial).unwrap_or_else(|error| Box::pin(std::future::ready(Err(error))));
        let deadline = Instant::now() + self.limits.connect_within;
        let connection = Connection::connecting(path, future, self.ready.waker(local));
        self.insert(local, connection, deadline);
        local
    }

    fn dialling(&mut self, dial: Dial) -> io::Result<Connecting> {
        let failed = |error: TlsError| io::Error::other(error.to_string());
        match dial.carrier {
            CarrierKind::Tcp => Ok(dial::tcp(dial.remote)),
            CarrierKind::Wss => {
                let tls = tls::client(listener::ALPN_WEB).map_err(failed)?;
                Ok(dial::websocket(dial, Arc::new(tls)))
            }
            CarrierKind::Quic => {
                let ipv6 = dial.remote.is_ipv6();
                let config = listener::quic_client(ipv6).map_err(failed)?;
                let connecting = self.endpoint(ipv6)?.connect_with(config, dial.remote, &dial.host);
                Ok(dial::quic(connecting.map_err(|error| io::Error::other(error.to_string()))?))
            }
            CarrierKind::Udp => Err(io::Error::other("plain UDP has no connections")),
        }
    }

    /// The QUIC endpoint that dials this family: a listener's, so that a NAT keeps one hole for both,
    /// or one of its own.
    fn endpoint(&mut self, ipv6: bool) -> io::Result<quinn::Endpoint> {
        if let Some(endpoint) = self.listeners.iter().find_map(|listener| listener.endpoint(ipv6)) {
            return Ok(endpoint.clone());
        }
        let slot = &mut self.quic[usize::from(ipv6)];
        if let Some(endpoint) = slot {
            return Ok(endpoint.clone());
        }
        let any: IpAddr = if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        Ok(slot.insert(listener::endpoint(SocketAddr::new(any, 0), None)?).clone())
    }

    /// Connects two carriers of one process without a network: `a` sees [`ConnectionEvent::Connected`]
    /// to `at_b`, `b` sees [`ConnectionEvent::Accepted`] from `at_a`. Returns the numbers at `a` and `b`.
    ///
    /// # Errors
    /// When the process has no descriptors left.
    pub fn pair(a: &mut Self, b: &mut Self, at_a: SocketAddr, at_b: SocketAddr) -> io::Result<(u32, u32)> {
        let (end_a, end_b) = UnixStream::pair()?;
        let (local_a, local_b) = (a.take_local(), b.take_local());
        let path = |local, remote| PathAddr { carrier: CarrierKind::Tcp, local, remote };
        let (to_b, to_a) = (path(local_a, at_b), path(local_b, at_a));
        a.adopt(to_b, Stream::Pair(end_a), a.limits.dialled_within);
        a.events.push_back(ConnectionEvent::Connected { path: to_b });
        b.adopt(to_a, Stream::Pair(end_b), b.limits.accepted_within);
        b.events.push_back(ConnectionEvent::Accepted { path: to_a });
        Ok((local_a, local_b))
    }

    /// Sends `bytes`, cut into records of `segment` bytes (the last may be shorter), on
    /// connection `local`. A record goes whole or not at all.
    ///
    /// # Errors
    /// `WouldBlock` when 256 KB wait already, `TooBig` for records above 65,535 bytes (on QUIC:
    /// above [`Connections::payload`]), `Closed` without such a connection.
    pub fn try_send(&mut self, local: u32, bytes: &[u8], segment: usize) -> Result<(), SendError> {
        let connection = self.connections.get_mut(&local).ok_or(SendError::Closed)?;
        match connection.send(bytes, segment.max(1)) {
            Ok(result) => {
                let resized = connection.take_resized().map(|payload| (connection.path, payload));
                if connection.has_output() {
                    self.ready.mark(local);
                }
                if let Some((path, payload)) = resized {
                    self.events.push_back(ConnectionEvent::Resized { path, payload });
                    self.ready.wake_owner();
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

    /// The largest record that connection `local` carries now; `None` where only the framing sets a
    /// limit, and without such a connection.
    pub fn payload(&self, local: u32) -> Option<usize> {
        self.connections.get(&local).and_then(Connection::payload)
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
            self.half_open.leave(connection.path.remote.ip());
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
    pub fn stats(&self) -> ConnectionStats {
        self.stats
    }

    /// Connections, of which the second number has proved nothing yet.
    pub fn counts(&self) -> (usize, usize) {
        (self.connections.len(), self.half_open.total())
    }

    /// The next event. Cancel safe: an event is lost only with its caller.
    pub async fn next(&mut self) -> ConnectionEvent {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`Connections::next`], for a caller that asks others in the same breath.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionEvent> {
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
        let (path, accepted) = (connection.path, connection.accepted);
        let step = connection.drive(&mut self.pool);
        if connection.take_relief() {
            self.events.push_back(ConnectionEvent::Writable { path });
        }
        if let Some(payload) = connection.take_resized() {
            self.events.push_back(ConnectionEvent::Resized { path, payload });
        }
        match step {
            Step::Idle => {}
            Step::Connected => {
                let (within, event) = if accepted {
                    (self.limits.accepted_within, ConnectionEvent::Accepted { path })
                } else {
                    (self.limits.dialled_within, ConnectionEvent::Connected { path })
                };
                self.set_deadline(local, Instant::now() + within);
                self.events.push_back(event);
                self.ready.mark(local);
            }
            Step::Records { bytes, ranges } => {
                self.events.push_back(ConnectionEvent::Records(RecordBatch { path, bytes, ranges }));
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
        let mut listeners = std::mem::take(&mut self.listeners);
        let mut burst = ACCEPT_BURST;
        for listener in &mut listeners {
            while burst > 0 {
                let Poll::Ready(result) = listener.poll_accept(cx) else { break };
                burst -= 1;
                match result {
                    Ok(arrival) => self.admit(arrival),
                    Err(error) => self.accept_failed(&error),
                }
            }
        }
        self.listeners = listeners;
        if burst == 0 {
            cx.waker().wake_by_ref();
        }
    }

    fn admit(&mut self, arrival: Arrival) {
        let remote = arrival.remote();
        // A source that can be forged takes nobody's place.
        if let Arrival::Quic(incoming) = &arrival
            && self.half_open.total() >= self.limits.half_open / 2
            && incoming.may_retry()
        {
            return self.ask_for_address(arrival);
        }
        let full = self.connections.len() >= self.limits.connections;
        if full || !self.half_open.enter(remote.ip(), &self.limits) {
            self.stats.refused += 1;
            return refuse(arrival);
        }
        let path = PathAddr { carrier: arrival.carrier(), local: self.take_local(), remote };
        let waker = self.ready.waker(path.local);
        let mut connection = match arrival {
            Arrival::Tcp(stream, _) => {
                self.events.push_back(ConnectionEvent::Accepted { path });
                Connection::open(path, Stream::tcp(stream), waker)
            }
            Arrival::Wss(stream, _, tls, first) => {
                Connection::connecting(path, listener::websocket(stream, tls, first), waker)
            }
            Arrival::Quic(incoming) => match incoming.accept() {
                Ok(connecting) => Connection::connecting(path, dial::quic(connecting), waker),
                Err(_) => {
                    self.stats.accept_errors += 1;
                    return self.half_open.leave(remote.ip());
                }
            },
        };
        connection.accepted = true;
        self.insert(path.local, connection, Instant::now() + self.limits.accepted_within);
    }

    /// QUIC's own cookie (RFC 9000 §8.1.2): no state here, and the next packet proves the address.
    fn ask_for_address(&mut self, arrival: Arrival) {
        if let Arrival::Quic(incoming) = arrival
            && let Err(error) = incoming.retry()
        {
            self.stats.refused += 1;
            error.into_incoming().ignore();
        }
    }

    fn accept_failed(&mut self, error: &io::Error) {
        self.stats.accept_errors += 1;
        let exhausted = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
        if error.raw_os_error().is_some_and(|code| exhausted.contains(&code)) {
            tracing::warn!(%error, "cannot accept connections; raise LimitNOFILE");
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
            let ours = |connection: &Connection| connection.is_connecting() && !connection.accepted;
            let connecting = self.connections.get(&local).is_some_and(ours);
            let reason = if connecting { CloseReason::ConnectTimeout } else { CloseReason::Unproven };
            self.drop_connection(local, reason);
        }
    }

    fn adopt(&mut self, path: PathAddr, stream: Stream, within: Duration) {
        let connection = Connection::open(path, stream, self.ready.waker(path.local));
        self.insert(path.local, connection, Instant::now() + within);
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
            self.half_open.leave(connection.path.remote.ip());
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
        self.events.push_back(ConnectionEvent::Closed { path: connection.path, reason });
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

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connections({} listeners, {} open)", self.listeners.len(), self.connections.len())
    }
}

/// No state stays behind for a flood: a reset instead of a closing handshake, silence on QUIC.
fn refuse(arrival: Arrival) {
    match arrival {
        Arrival::Tcp(stream, _) | Arrival::Wss(stream, ..) => {
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
        Arrival::Quic(incoming) => incoming.ignore(),
    }
}

#[cfg(test)]
mod tests;
