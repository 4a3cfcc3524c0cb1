//! Moves sealed records between machines. A carrier knows neither keys nor peers: it takes bytes
//! for an underlay address and yields bytes from one; a wrong or hostile far end can at worst
//! lose its own records.
//!
//! * [`udp`]: one datagram per record, many per system call (UDP_SEGMENT, UDP_GRO).
//! * [`connections`]: TCP, WebSocket over TLS and QUIC, for networks that do not pass plain UDP.
//! * [`tls`]: what the last two show to the network in between.
//! * [`memory`]: datagrams without a network.
//!
//! All send from one buffer in which records of equal size follow each other (the last may be
//! shorter), because that is what sealing produces and what the kernel takes in one call. All
//! are meant for one task; nothing here spawns or locks between tasks, except what QUIC does inside.
#![allow(unsafe_code)]

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

pub mod connections;
pub mod memory;
mod ready;
mod recv;
pub mod tls;
pub mod udp;

pub use ready::ReadySet;
pub use recv::{Batch, RecvBuffer};

/// Why a socket could not be set up.
#[derive(Debug, Error)]
pub enum CarrierError {
    /// Another program has the port.
    #[error(
        "{carrier} port {addr} is in use: stop the program that holds it (`ss -lnp`) or set another under [listen]"
    )]
    InUse {
        /// "udp", "tcp", "quic" or "wss".
        carrier: &'static str,
        /// What was to be bound.
        addr: SocketAddr,
    },
    /// A port below 1024, or a policy of the host.
    #[error(
        "no permission to listen on {carrier} {addr}: ports below 1024 need root or CAP_NET_BIND_SERVICE"
    )]
    NotPermitted {
        /// "udp", "tcp", "quic" or "wss".
        carrier: &'static str,
        /// What was to be bound.
        addr: SocketAddr,
    },
    /// The address is not one of this host's.
    #[error("{addr} is no address of this host: listen on one shown by `ip address`, on 0.0.0.0 or on [::]")]
    NoSuchAddress {
        /// "udp", "tcp", "quic" or "wss".
        carrier: &'static str,
        /// What was to be bound.
        addr: SocketAddr,
    },
    /// Anything else.
    #[error("cannot open {carrier} socket {addr}: {source}")]
    Io {
        /// "udp", "tcp", "quic" or "wss".
        carrier: &'static str,
        /// What was to be bound.
        addr: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

impl CarrierError {
    fn explain(carrier: &'static str, addr: SocketAddr) -> impl Fn(io::Error) -> Self {
        move |source| match source.raw_os_error() {
            Some(libc::EADDRINUSE) => Self::InUse { carrier, addr },
            Some(libc::EACCES | libc::EPERM) => Self::NotPermitted { carrier, addr },
            Some(libc::EADDRNOTAVAIL) => Self::NoSuchAddress { carrier, addr },
            _ => Self::Io { carrier, addr, source },
        }
    }
}

/// Why records did not leave. `sent` is the length of the front part that did, a multiple of the
/// segment size; what follows is still the caller's.
#[derive(Debug, Error)]
pub enum SendError {
    /// The socket takes no more now.
    #[error("the socket takes no more now")]
    WouldBlock {
        /// Bytes that went.
        sent: usize,
    },
    /// Records larger than the local link carries, or than the carrier's framing allows. A shorter one
    /// at the end went.
    #[error("larger than the local link carries")]
    TooBig {
        /// Bytes that went.
        sent: usize,
    },
    /// The connection is not there (any more).
    #[error("no such connection")]
    Closed,
}

impl SendError {
    /// Bytes that went.
    pub const fn sent(&self) -> usize {
        match *self {
            Self::WouldBlock { sent } | Self::TooBig { sent } => sent,
            Self::Closed => 0,
        }
    }
}

/// Datagrams to and from any address; what [`udp::UdpCarrier`] and [`memory::MemoryCarrier`] share.
pub trait Datagrams {
    /// Waits until [`Datagrams::try_recv`] may find datagrams. Cancel safe.
    fn readable(&self) -> impl Future<Output = io::Result<()>>;

    /// Takes what has arrived into `buffer`; returns the number of batches, at least one.
    ///
    /// # Errors
    /// `WouldBlock` when there is nothing. Other errors concern this call alone.
    fn try_recv(&self, buffer: &mut RecvBuffer) -> io::Result<usize>;

    /// Sends `bytes`, cut into datagrams of `segment` bytes (the last may be shorter), with the
    /// two ECN bits `ecn`. An unreachable destination is counted and no error: nobody would do
    /// anything about it that the path's own probes do not.
    ///
    /// # Errors
    /// [`SendError`]; never `Closed`.
    fn try_send(&self, to: SocketAddr, bytes: &[u8], segment: usize, ecn: u8) -> Result<(), SendError>;

    /// Waits until [`Datagrams::try_send`] may take more after `WouldBlock`. Cancel safe.
    fn writable(&self) -> impl Future<Output = io::Result<()>>;

    /// The bound address, with the port the kernel chose if none was asked for.
    fn local_addr(&self) -> SocketAddr;

    /// The number of this socket in [`sinew_types::PathAddr::local`].
    fn local(&self) -> u32;
}
