//! The header Linux puts before each packet of a TUN opened with `IFF_VNET_HDR`.
//!
//! It never crosses the network: it is made from our own parse (protocol A4), and read only from
//! the local kernel.

use crate::Malformed;
use crate::codec::{Put, Reader, array};

/// Length of the header.
pub const VIRTIO_NET_HDR_LEN: usize = 10;
/// Flag: the checksum at `csum_start + csum_offset` holds only the pseudo-header's sum.
pub const NEEDS_CSUM: u8 = 1;
/// Flag: the checksum was verified.
pub const DATA_VALID: u8 = 2;
/// No segmentation.
pub const GSO_NONE: u8 = 0;
/// TCP over IPv4.
pub const GSO_TCPV4: u8 = 1;
/// TCP over IPv6.
pub const GSO_TCPV6: u8 = 4;
/// UDP over either, cut into datagrams.
pub const GSO_UDP_L4: u8 = 5;
/// Bit beside the type: the first segment carries CWR.
pub const GSO_ECN: u8 = 0x80;

/// `struct virtio_net_hdr`, little-endian (TUNSETVNETLE).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct VirtioNetHdr {
    /// [`NEEDS_CSUM`], [`DATA_VALID`].
    pub flags: u8,
    /// One of the `GSO_` numbers.
    pub gso_type: u8,
    /// Length of all headers; wrong for forwarded packets, so never relied on.
    pub hdr_len: u16,
    /// Payload of each segment but the last.
    pub gso_size: u16,
    /// Where the checksummed part begins.
    pub csum_start: u16,
    /// Where the checksum lies, from `csum_start`.
    pub csum_offset: u16,
}

impl VirtioNetHdr {
    /// Reads the front of what the TUN gave.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        Ok(Self {
            flags: r.u8()?,
            gso_type: r.u8()?,
            hdr_len: r.u16()?,
            gso_size: r.u16()?,
            csum_start: r.u16()?,
            csum_offset: r.u16()?,
        })
    }

    /// Writes the ten bytes.
    pub fn emit(&self) -> [u8; VIRTIO_NET_HDR_LEN] {
        array(|w| {
            let w = w.u8(self.flags).u8(self.gso_type).u16(self.hdr_len).u16(self.gso_size);
            w.u16(self.csum_start).u16(self.csum_offset)
        })
    }

    /// Whether the checksum is still to be completed.
    pub const fn needs_csum(&self) -> bool {
        self.flags & NEEDS_CSUM != 0
    }
}
