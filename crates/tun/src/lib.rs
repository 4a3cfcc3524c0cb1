//! TUN devices: where packets of this host enter and leave the mesh.
//!
//! Every packet, in both directions, stands behind a 10-byte virtio header (`virtio_net_hdr`,
//! little-endian), so that the layers above know one format. On Linux the kernel writes and reads
//! that header itself and hands over super-packets of up to 64 KB; where it does not, the header
//! is made here: all zero on the way in, required to be zero on the way out ([`Offload::None`]).
//!
//! [`TunDevice`] is the real one (made by the `tun` crate; the offload request is ours),
//! [`memory::pair`] its double; [`inside`] makes devices for other processes. All are used through the trait [`Tun`] from one task.
#![allow(unsafe_code)]

use std::io::{self, IoSlice};

mod device;
mod error;
pub mod inside;
pub mod memory;

pub use device::{TunConfig, TunDevice};
pub use error::TunError;

/// Bytes of the virtio header in front of every packet.
pub const HEADER_LEN: usize = 10;

/// Largest packet a device hands over, header included: what a read buffer must hold.
pub const MAX_FRAME: usize = HEADER_LEN + 65_535;

/// What the kernel takes from us and gives to us unsegmented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Offload {
    /// Nothing: one finished packet at a time, checksum complete, header all zero.
    None,
    /// Partial checksums and TCP super-packets, both IP versions.
    Tso,
    /// As [`Offload::Tso`], and UDP super-packets.
    Uso,
}

impl Offload {
    /// The word used in logs and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Tso => "tso",
            Self::Uso => "uso",
        }
    }
}

/// A device that carries IP packets between this host and the mesh.
pub trait Tun {
    /// Waits until [`Tun::try_read`] may find a packet, or the device is gone. Cancel safe; only
    /// the task that waited last is sure to be woken.
    fn readable(&self) -> impl Future<Output = io::Result<()>>;

    /// Takes one packet, header first, into `buf`; returns its length with the header. A buffer
    /// shorter than [`MAX_FRAME`] may lose the end of a packet.
    ///
    /// # Errors
    /// `WouldBlock` when there is none. Any other error means that the device is gone.
    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize>;

    /// Hands one packet, header first, to the host.
    ///
    /// # Errors
    /// As [`Tun::try_writev`].
    fn try_write(&self, packet: &[u8]) -> io::Result<()> {
        self.try_writev(&[IoSlice::new(packet)])
    }

    /// Hands one packet, given in `parts` (the header lies wholly in the first), to the host.
    ///
    /// # Errors
    /// `WouldBlock` when the host takes no more now; `InvalidInput` for a packet without a whole
    /// header or one that asks for an offload this device does not have; else what the kernel
    /// says (it refuses malformed packets, and everything while the link is down). In each case
    /// the packet is lost and the device goes on.
    fn try_writev(&self, parts: &[IoSlice<'_>]) -> io::Result<()>;

    /// What may be left to the kernel.
    fn offload(&self) -> Offload;

    /// Interface name.
    fn name(&self) -> &str;

    /// Interface index.
    fn ifindex(&self) -> u32;
}

fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

/// The parts of a packet for a device without virtio header: the same without their first ten
/// bytes, which have to be zero.
fn without_header<'a>(parts: &'a [IoSlice<'a>]) -> io::Result<(IoSlice<'a>, &'a [IoSlice<'a>])> {
    let (first, rest) = parts.split_first().ok_or_else(|| invalid("no packet"))?;
    let (header, body) =
        first.split_at_checked(HEADER_LEN).ok_or_else(|| invalid("a packet starts with ten header bytes"))?;
    if header.iter().any(|&byte| byte != 0) {
        return Err(invalid("this device takes finished packets only"));
    }
    Ok((IoSlice::new(body), rest))
}

#[cfg(test)]
mod tests;
