//! Super-packets that cross a stream whole (kind 6, protocol A4).
//!
//! [`offer`] decides whether one from the TUN may go as it is; [`accept`] judges one from the wire
//! and makes the virtio header for the local kernel. The peer names a segment size and a kind; both
//! are believed only where they fit our own parse of the packet and what our kernel would make itself.
//! A super-packet's checksum is partial by definition.

use sinew_types::DropReason;
use sinew_wire::ip::{PROTO_TCP, PROTO_UDP, PacketInfo, Version};
use sinew_wire::record::{GsoKind, SuperHeader};
use sinew_wire::tcp;
use sinew_wire::virtio::{GSO_ECN, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, VirtioNetHdr};

use super::{SEGMENTS_MAX, SUPER_MAX, Transport};

/// The least segment size (protocol A4): smaller ones would only multiply packets.
pub const GSO_SIZE_MIN: u16 = 256;

/// Whether the packet read with `vnet` may travel whole to a peer whose inner MTU is `mtu`: the
/// header to send before it, or `None` if it has to be split.
pub fn offer(vnet: &VirtioNetHdr, packet: &[u8], mtu: usize) -> Option<SuperHeader> {
    let kind = match vnet.gso_type & !GSO_ECN {
        GSO_TCPV4 => GsoKind::TcpV4,
        GSO_TCPV6 => GsoKind::TcpV6,
        GSO_UDP_L4 => GsoKind::UdpL4,
        _ => return None,
    };
    let head = SuperHeader { gso_size: vnet.gso_size, kind };
    check(head, packet, mtu).ok().map(|_| head)
}

/// The virtio header for a super-packet from the wire, whose checksum field is made right for it;
/// `mtu` is the inner MTU of the path it came by.
///
/// # Errors
/// [`DropReason::BadInner`] for what is no packet or not exactly as long as it says,
/// [`DropReason::BadOffload`] for whatever else our own kernel would not have made.
pub fn accept(head: SuperHeader, packet: &mut [u8], mtu: usize) -> Result<VirtioNetHdr, DropReason> {
    let (info, transport) = check(head, packet, mtu)?;
    transport.leave_partial(packet, &info)?;
    let congestion = info.tcp_flags.is_some_and(|flags| flags & tcp::CWR != 0);
    let gso_type = head.kind as u8 | if congestion { GSO_ECN } else { 0 };
    let hdr_len = info.payload as u16;
    Ok(VirtioNetHdr { gso_type, hdr_len, gso_size: head.gso_size, ..transport.header() })
}

/// All rules of protocol A4 for kind 6.
fn check(head: SuperHeader, packet: &[u8], mtu: usize) -> Result<(PacketInfo, Transport), DropReason> {
    let info = PacketInfo::parse(packet).map_err(|_| DropReason::BadInner)?;
    let transport = Transport::of(packet, &info).ok_or(DropReason::BadOffload)?;
    let matches = matches!(
        (head.kind, info.version, info.protocol),
        (GsoKind::TcpV4, Version::V4, PROTO_TCP)
            | (GsoKind::TcpV6, Version::V6, PROTO_TCP)
            | (GsoKind::UdpL4, _, PROTO_UDP)
    );
    let size = usize::from(head.gso_size);
    let payload = info.total_len - info.payload;
    let data = info.tcp_flags.is_none_or(|flags| flags & (tcp::SYN | tcp::RST | tcp::URG) == 0);
    // More than one segment, or it would be no super-packet.
    let segments = payload.div_ceil(size.max(1));
    let ok = matches
        && data
        && head.gso_size >= GSO_SIZE_MIN
        && info.payload + size <= mtu
        && (2..=SEGMENTS_MAX).contains(&segments)
        && info.total_len <= SUPER_MAX;
    if ok { Ok((info, transport)) } else { Err(DropReason::BadOffload) }
}

#[cfg(test)]
mod tests;
