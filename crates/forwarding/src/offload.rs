//! Segmentation and checksum offload, done by ourselves between the TUN and the wire.
//!
//! The local kernel hands over super-packets with partial checksums; the wire carries segments, one
//! record each; the far kernel gets super-packets again. [`Split`] cuts, [`Coalescer`] merges, and
//! [`super_packet`] judges the super-packets that cross a stream whole.
//!
//! One rule rules them all (protocol A4): metadata for the local kernel is never taken from the wire.
//! A virtio header is made here, from our own parse of the packet it describes; the one thing a peer
//! may say is that a checksum is partial, and that is honoured only where its place is certain.

mod coalesce;
mod split;
pub mod super_packet;

pub use coalesce::{Coalescer, Offloads, Sink};
pub use split::{Segment, Split};

use sinew_types::DropReason;
use sinew_wire::checksum;
use sinew_wire::ip::{PROTO_TCP, PROTO_UDP, PacketInfo, Version};
use sinew_wire::tcp;
use sinew_wire::udp::{self, UdpHeader};
use sinew_wire::virtio::{GSO_NONE, NEEDS_CSUM, VirtioNetHdr};

/// Segments in a super-packet at most: what every kernel with UDP offload takes.
pub const SEGMENTS_MAX: usize = 64;
/// Longest super-packet, headers included.
pub const SUPER_MAX: usize = 65_535;

/// How checksums are to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// With the pseudo-header's sum only, where the packet allows it; the peer is told.
    Partial,
    /// Whole, for whoever is not told.
    Complete,
}

/// Where the transport checksum of a packet lies, known beyond doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Transport {
    /// Start of the transport header.
    l4: usize,
    /// The checksum's place behind that.
    csum_offset: usize,
}

impl Transport {
    /// Of a TCP or UDP packet that is no fragment, has no unwalked extension header, all of its
    /// transport header, and (UDP) the length it claims; `None` for all others, which get no
    /// metadata (protocol A4).
    fn of(packet: &[u8], info: &PacketInfo) -> Option<Self> {
        let (l4, csum_offset) = (info.l4?, info.csum_offset()?);
        if info.protocol == PROTO_UDP {
            let header = UdpHeader::parse(packet.get(l4..)?).ok()?;
            if usize::from(header.length) != info.total_len - l4 {
                return None;
            }
        }
        Some(Self { l4, csum_offset })
    }

    /// Writes the sum of the pseudo-header into the checksum field of `packet`.
    fn leave_partial(self, packet: &mut [u8], info: &PacketInfo) -> Result<(), DropReason> {
        let l4 = packet.get_mut(self.l4..).ok_or(DropReason::BadOffload)?;
        let sum = info.pseudo_header(l4.len()).fold();
        let set = if info.protocol == PROTO_TCP { tcp::set_checksum } else { udp::set_checksum };
        set(l4, sum).map_err(|_| DropReason::BadOffload)
    }

    /// Writes the whole checksum, whatever the field holds.
    fn complete(self, packet: &mut [u8], info: &PacketInfo) -> Result<(), DropReason> {
        self.leave_partial(packet, info)?;
        let l4 = packet.get_mut(self.l4..).ok_or(DropReason::BadOffload)?;
        checksum::complete(l4, self.csum_offset).map_err(|_| DropReason::BadOffload)
    }

    /// The virtio header of a packet whose checksum is partial.
    const fn header(self) -> VirtioNetHdr {
        VirtioNetHdr {
            flags: NEEDS_CSUM,
            gso_type: GSO_NONE,
            hdr_len: 0,
            gso_size: 0,
            csum_start: self.l4 as u16,
            csum_offset: self.csum_offset as u16,
        }
    }
}

/// Length of the IP header when it is the shortest there is, which is all that kernels merge.
const fn plain_ip_header(version: Version) -> usize {
    match version {
        Version::V4 => sinew_wire::ip::V4_HEADER_MIN,
        Version::V6 => sinew_wire::ip::V6_HEADER_LEN,
    }
}

#[cfg(test)]
pub(crate) mod testing;
