//! UDP sockets that move up to 64 datagrams per system call.
//!
//! quinn-udp does the system calls: UDP_SEGMENT on send, UDP_GRO and recvmmsg on receive, ECN
//! both ways, DF always set (IP_MTU_DISCOVER = PROBE), because the path MTU is probed from above
//! and a fragment is never wanted.
//!
//! Segmentation can be refused: by a driver without checksum offload (EIO), by an old kernel when
//! a segment exceeds the MTU (EINVAL). Then the datagrams go one by one; only if that works was
//! segmentation at fault, and it stays off for this socket.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{PoisonError, RwLock};
use std::task::{Context, Poll};

use nix::sys::socket::{setsockopt, sockopt};
use quinn_udp::{BATCH_SIZE, EcnCodepoint, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::recv::{Batch, RecvBuffer};
use crate::{CarrierError, Datagrams, SendError};

/// Socket buffers, bytes each way: a burst at 10 Gb/s has to survive a scheduling delay of some
/// milliseconds. Granted in full with CAP_NET_ADMIN, else up to `net.core.{r,w}mem_max`.
const SOCKET_BUFFER: usize = 8 << 20;
/// Most bytes the kernel takes in one segmented send (65,535 less IPv4 and UDP headers).
const SEND_MAX: usize = 65_507;

/// What a socket has done with datagrams it could neither send nor report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UdpStats {
    /// Sends refused as unreachable, forbidden or unanswerable (ENETUNREACH, EPERM, port 0...).
    pub unreachable: u64,
    /// Receive calls that failed with something else than "nothing there".
    pub recv_errors: u64,
}

/// A UDP socket for records. All methods take `&self`; one task uses it.
pub struct UdpCarrier {
    /// Watched for reading alone: the kernel tells of room at every datagram that has left, and
    /// nobody waits for it.
    socket: AsyncFd<UdpSocket>,
    /// Behind a lock only because it is made anew when an error was not segmentation's fault.
    state: RwLock<UdpSocketState>,
    local_addr: SocketAddr,
    local: u32,
    segmentation: AtomicBool,
    aggregation: AtomicBool,
    unreachable: AtomicU64,
    recv_errors: AtomicU64,
}

impl UdpCarrier {
    /// Binds `addr` (port 0: the kernel chooses), never sharing the port. `local` is this
    /// socket's number in [`sinew_types::PathAddr::local`]. An IPv6 socket is IPv6 only.
    ///
    /// # Errors
    /// [`CarrierError`] with the remedy.
    ///
    /// # Panics
    /// Outside a tokio runtime with IO enabled.
    pub fn bind(addr: SocketAddr, local: u32) -> Result<Self, CarrierError> {
        Self::open(addr, local, None).map_err(CarrierError::explain("udp", addr))
    }

    /// As [`UdpCarrier::bind`], for one interface: what is sent leaves by it, from an address of its, whatever
    /// the order of the host's routes; nothing is received by another. Takes no privilege since Linux 5.7.
    ///
    /// # Errors
    /// What the kernel says.
    ///
    /// # Panics
    /// Outside a tokio runtime with IO enabled.
    pub fn bind_to_interface(addr: SocketAddr, local: u32, interface: &str) -> io::Result<Self> {
        Self::open(addr, local, Some(interface))
    }

    fn open(addr: SocketAddr, local: u32, interface: Option<&str>) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if addr.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        if let Some(interface) = interface {
            socket.bind_device(Some(interface.as_bytes()))?;
        }
        enlarge_buffers(&socket);
        socket.bind(&addr.into())?;
        let state = make_state(&socket)?;
        if state.may_fragment() {
            tracing::warn!(%addr, "this kernel does not set DF: large records may travel in fragments");
        }
        let segmentation = AtomicBool::new(state.max_gso_segments() > 1);
        let aggregation = AtomicBool::new(state.gro_segments() > 1);
        let socket = UdpSocket::from(socket);
        Ok(Self {
            local_addr: socket.local_addr()?,
            socket: watch(socket, Interest::READABLE)?,
            state: RwLock::new(state),
            local,
            segmentation,
            aggregation,
            unreachable: AtomicU64::new(0),
            recv_errors: AtomicU64::new(0),
        })
    }

    /// Whether many datagrams leave in one system call.
    pub fn segmentation(&self) -> bool {
        self.segmentation.load(Relaxed)
    }

    /// Switches segmentation off (or on again), for drivers that corrupt what they cut.
    pub fn set_segmentation(&self, on: bool) {
        self.segmentation.store(on, Relaxed);
    }

    /// Whether datagrams that belong together are received as one (UDP_GRO).
    pub fn aggregation(&self) -> bool {
        self.aggregation.load(Relaxed)
    }

    /// Switches aggregation off (or on again): the kernel then hands over each datagram by itself,
    /// and a [`RecvBuffer`] should have more slots.
    ///
    /// # Errors
    /// What the kernel says; it does not know UDP_GRO before Linux 5.0.
    pub fn set_aggregation(&self, on: bool) -> io::Result<()> {
        setsockopt(self.socket.get_ref(), sockopt::UdpGroSegment, &on)?;
        self.aggregation.store(on, Relaxed);
        Ok(())
    }

    /// As [`Datagrams::readable`], without a future of its own: for the one task that waits.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_read_ready(cx).map_ok(drop)
    }

    /// Counters since the start.
    pub fn stats(&self) -> UdpStats {
        UdpStats { unreachable: self.unreachable.load(Relaxed), recv_errors: self.recv_errors.load(Relaxed) }
    }

    /// One system call for `bytes`, at most 64 segments.
    fn send_once(&self, to: SocketAddr, bytes: &[u8], segment: usize, ecn: u8) -> io::Result<()> {
        let transmit = Transmit {
            destination: to,
            ecn: EcnCodepoint::from_bits(ecn),
            contents: bytes,
            segment_size: (segment < bytes.len()).then_some(segment),
            src_ip: None,
        };
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.try_send(UdpSockRef::from(self.socket.get_ref()), &transmit)
    }

    /// What an error means for the caller; `Ok` where there is nothing he could do.
    fn judge(&self, error: &io::Error) -> Result<(), SendError> {
        match error.raw_os_error() {
            _ if error.kind() == io::ErrorKind::WouldBlock => Err(SendError::WouldBlock { sent: 0 }),
            Some(libc::EMSGSIZE) => Err(SendError::TooBig { sent: 0 }),
            _ => {
                self.unreachable.fetch_add(1, Relaxed);
                Ok(())
            }
        }
    }

    /// Sends one chunk the kernel can take in one call, or piece by piece if it will not.
    fn send_chunk(&self, to: SocketAddr, chunk: &[u8], segment: usize, ecn: u8) -> Result<(), SendError> {
        let segmented = segment < chunk.len();
        if segmented && !self.segmentation() {
            return self.send_singly(to, chunk, segment, ecn);
        }
        let Err(error) = self.send_once(to, chunk, segment, ecn) else { return Ok(()) };
        let refused = matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL));
        if refused {
            // quinn-udp now avoids segmentation and IPv4 ECN for good; whether it should is
            // decided below, so it starts afresh.
            self.renew_state();
        }
        if !(refused && segmented) {
            return self.judge(&error);
        }
        let before = self.unreachable.load(Relaxed);
        self.send_singly(to, chunk, segment, ecn)?;
        if self.unreachable.load(Relaxed) == before {
            tracing::info!(local = %self.local_addr, %error, "UDP segmentation refused; sending singly");
            self.set_segmentation(false);
        }
        Ok(())
    }

    fn send_singly(&self, to: SocketAddr, chunk: &[u8], segment: usize, ecn: u8) -> Result<(), SendError> {
        for (at, datagram) in chunk.chunks(segment).enumerate() {
            if let Err(error) = self.send_once(to, datagram, segment, ecn) {
                self.judge(&error).map_err(|error| after(error, at * segment))?;
            }
        }
        Ok(())
    }

    /// The last datagram may be shorter than those that were too big, and an answer that a peer waits
    /// for. Returns what is to be said of them all.
    fn send_tail(&self, to: SocketAddr, bytes: &[u8], segment: usize, ecn: u8, sent: usize) -> SendError {
        let tail = &bytes[bytes.len() - bytes.len() % segment..];
        let left = !tail.is_empty()
            && sent + tail.len() < bytes.len()
            && self.send_once(to, tail, segment, ecn).is_ok();
        SendError::TooBig { sent: sent + if left { tail.len() } else { 0 } }
    }

    fn renew_state(&self) {
        if let Ok(fresh) = make_state(self.socket.get_ref()) {
            // quinn-udp asks for aggregation each time.
            if !self.aggregation() {
                let _ = setsockopt(self.socket.get_ref(), sockopt::UdpGroSegment, &false);
            }
            *self.state.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        }
    }

    fn receive(&self, buffer: &mut RecvBuffer) -> io::Result<usize> {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let (mut slices, slots) = buffer.io_slices();
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let count = state.recv(UdpSockRef::from(self.socket.get_ref()), &mut slices[..slots], &mut metas)?;
        for meta in &metas[..count] {
            buffer.push(Batch {
                from: meta.addr,
                stride: meta.stride.max(1),
                len: meta.len,
                ecn: meta.ecn.map_or(0, |ecn| ecn as u8),
                arrived: meta.timestamp,
            });
        }
        Ok(count)
    }

    /// A call that did not fill its slots has emptied the socket, and epoll tells of what comes next:
    /// asking again before that would be a system call for nothing at every packet.
    fn forget_readiness(&self) {
        let nothing: io::Result<()> =
            self.socket.try_io(Interest::READABLE, |_| Err(io::ErrorKind::WouldBlock.into()));
        drop(nothing);
    }
}

impl Datagrams for UdpCarrier {
    async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await.map(drop)
    }

    fn try_recv(&self, buffer: &mut RecvBuffer) -> io::Result<usize> {
        buffer.clear();
        let result = self.socket.try_io(Interest::READABLE, |_| self.receive(buffer));
        match &result {
            Ok(count) if *count < buffer.slots() => self.forget_readiness(),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                self.recv_errors.fetch_add(1, Relaxed);
            }
            _ => {}
        }
        result
    }

    fn try_send(&self, to: SocketAddr, bytes: &[u8], segment: usize, ecn: u8) -> Result<(), SendError> {
        let segment = segment.max(1);
        if segment.min(bytes.len()) > SEND_MAX {
            return Err(SendError::TooBig { sent: 0 });
        }
        // A datagram with source port 0 wants no answer, and EINVAL would look like a refusal of
        // segmentation: a stranger could switch it off.
        if to.port() == 0 || to.ip().is_unspecified() {
            self.unreachable.fetch_add(1, Relaxed);
            return Ok(());
        }
        let chunk = (SEND_MAX / segment).clamp(1, MAX_SEGMENTS) * segment;
        for (at, part) in bytes.chunks(chunk).enumerate() {
            match self.send_chunk(to, part, segment, ecn).map_err(|error| after(error, at * chunk)) {
                Err(SendError::TooBig { sent }) => return Err(self.send_tail(to, bytes, segment, ecn, sent)),
                result => result?,
            }
        }
        Ok(())
    }

    async fn writable(&self) -> io::Result<()> {
        let again = self.socket.get_ref().try_clone()?;
        watch(again, Interest::WRITABLE)?.writable().await.map(drop)
    }

    fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    fn local(&self) -> u32 {
        self.local
    }
}

impl std::fmt::Debug for UdpCarrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UdpCarrier#{}({})", self.local, self.local_addr)
    }
}

/// Segments in one call: UDP_MAX_SEGMENTS of kernels before 6.9.
const MAX_SEGMENTS: usize = 64;

fn watch(socket: UdpSocket, interest: Interest) -> io::Result<AsyncFd<UdpSocket>> {
    // SAFETY: a `UdpSocket` owns its open descriptor, returns the same one always, and is closed only
    // when the AsyncFd drops it.
    unsafe { AsyncFd::register_with_interest(socket, interest) }.map_err(Into::into)
}

fn after(error: SendError, before: usize) -> SendError {
    match error {
        SendError::WouldBlock { sent } => SendError::WouldBlock { sent: before + sent },
        SendError::TooBig { sent } => SendError::TooBig { sent: before + sent },
        SendError::Closed => SendError::Closed,
    }
}

/// Sets up the socket for quinn-udp, but without the destination of each datagram: nobody reads it,
/// and the 96 bytes that quinn-udp 0.6 has for control messages do not hold it together with the
/// arrival time, the segment size and (last, so lost) the ECN bits.
fn make_state(socket: &impl AsFd) -> io::Result<UdpSocketState> {
    let state = UdpSocketState::new(UdpSockRef::from(socket))?;
    // One of the two fails, by family; a socket without timestamps has no waiting times, no more.
    let _ = setsockopt(socket, sockopt::Ipv4PacketInfo, &false);
    let _ = setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &false);
    Ok(state)
}

/// Best effort: a small buffer costs speed, not correctness.
fn enlarge_buffers(socket: &Socket) {
    if setsockopt(socket, sockopt::RcvBufForce, &SOCKET_BUFFER).is_err() {
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    }
    if setsockopt(socket, sockopt::SndBufForce, &SOCKET_BUFFER).is_err() {
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    }
}

#[cfg(test)]
mod tests;
