//! What the splitter's and the coalescer's targets share: packets as whoever reads them wants them.

use sinew_forwarding::offload::{Checksum, Split};
use sinew_types::DropReason;
use sinew_wire::ip::{self, PROTO_UDP, PacketInfo, Version};
use sinew_wire::virtio::VirtioNetHdr;

/// Bytes of the transport checksum; `None` where there is none to speak of.
pub fn checksum_field(packet: &[u8], info: &PacketInfo) -> Option<std::ops::Range<usize>> {
    let at = info.l4? + info.csum_offset()?;
    packet.get(at..at + 2).map(|_| at..at + 2)
}

/// The sum that a partial checksum consists of.
pub fn pseudo_sum(info: &PacketInfo) -> [u8; 2] {
    info.pseudo_header(info.total_len - info.l4.unwrap_or_default()).fold().to_be_bytes()
}

/// Makes the checksum right, whatever it was; packets that have none stay as they are.
pub fn complete(packet: &mut [u8]) {
    let Ok(info) = PacketInfo::parse(packet) else { return };
    // What a UDP packet carries behind its own length is nobody's.
    let own = info.l4.is_some_and(|l4| {
        info.protocol != PROTO_UDP || packet[l4 + 4..l4 + 6] == ((info.total_len - l4) as u16).to_be_bytes()
    });
    if let Some(field) = checksum_field(packet, &info).filter(|_| own) {
        packet[field].copy_from_slice(&pseudo_sum(&info));
        info.complete_checksum(packet).expect("a whole transport header");
    }
}

/// The packet in the one spelling that our own code gives: a sum that comes out as zero may also be
/// written as its complement, which proves the same.
pub fn spelled(mut packet: Vec<u8>) -> Vec<u8> {
    let Ok(info) = PacketInfo::parse(&packet) else { return packet };
    if info.version == Version::V4 && v4_header_ok(&packet) {
        ip::fill_v4_checksum(&mut packet).expect("an IPv4 header");
    }
    let none = checksum_field(&packet, &info).is_some_and(|field| packet[field] == [0, 0]);
    if info.checksum_ok(&packet) && !(none && info.protocol == PROTO_UDP) {
        complete(&mut packet);
    }
    packet
}

/// Whether the checksum of an IPv4 header is right.
pub fn v4_header_ok(packet: &[u8]) -> bool {
    let header = &packet[..usize::from(packet[0] & 15) * 4];
    sinew_wire::checksum::Sum::default().bytes(header).is_valid()
}

/// All segments, and whether each one's checksum is partial; lengths are what was said of them.
pub fn cut(
    vnet: &VirtioNetHdr,
    packet: &mut [u8],
    mtu: usize,
    checksum: Checksum,
) -> Result<Vec<(Vec<u8>, bool)>, DropReason> {
    let mut split = Split::new(vnet, packet, mtu)?;
    let (count, longest) = (split.count(), split.longest());
    let (mut out, mut segments) = (vec![0xaa; longest], Vec::new());
    while let Some(segment) = split.write_into(&mut out, checksum) {
        segments.push((out[..segment.len].to_vec(), segment.csum_partial));
    }
    assert_eq!(segments.len(), count);
    assert_eq!(segments.iter().map(|(segment, _)| segment.len()).max(), Some(longest));
    assert!(longest <= mtu);
    assert!(split.write_into(&mut out, checksum).is_none(), "more after the last");
    Ok(segments)
}
