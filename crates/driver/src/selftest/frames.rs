//! Test datagrams as the TUN carries them: virtio header, IPv6, UDP.

use std::net::{IpAddr, Ipv6Addr};

use sinew_wire::ip::{PROTO_UDP, PacketInfo, V6_HEADER_LEN};
use sinew_wire::udp;
use sinew_wire::virtio::{GSO_NONE, GSO_UDP_L4, NEEDS_CSUM, VIRTIO_NET_HDR_LEN, VirtioNetHdr};

/// Headers in front of the payload.
const HEADERS: usize = V6_HEADER_LEN + udp::HEADER_LEN;
const HOP_LIMIT: u8 = 64;

/// Address and port.
pub(super) type End = (Ipv6Addr, u16);

/// Datagrams of `size` bytes as one super-packet with a partial checksum.
pub(super) fn whole(from: End, to: End, payload: &[u8], size: usize) -> Vec<u8> {
    let header = VirtioNetHdr {
        flags: NEEDS_CSUM,
        gso_type: GSO_UDP_L4,
        hdr_len: HEADERS as u16,
        gso_size: size as u16,
        csum_start: V6_HEADER_LEN as u16,
        csum_offset: udp::CHECKSUM_OFFSET as u16,
    };
    [&header.emit()[..], &packet(from, to, payload, false)].concat()
}

/// One finished datagram.
pub(super) fn single(from: End, to: End, payload: &[u8]) -> Vec<u8> {
    [&VirtioNetHdr::default().emit()[..], &packet(from, to, payload, true)].concat()
}

fn packet(from: End, to: End, payload: &[u8], finished: bool) -> Vec<u8> {
    let length = (udp::HEADER_LEN + payload.len()) as u16;
    let mut packet = Vec::with_capacity(HEADERS + payload.len());
    packet.extend([0x60, 0, 0, 0]);
    packet.extend(length.to_be_bytes());
    packet.extend([PROTO_UDP, HOP_LIMIT]);
    packet.extend(from.0.octets());
    packet.extend(to.0.octets());
    packet.extend([from.1, to.1, length, 0].iter().flat_map(|field| field.to_be_bytes()));
    packet.extend_from_slice(payload);
    if let Ok(info) = PacketInfo::parse(&packet) {
        let sum = info.pseudo_header(usize::from(length)).fold();
        let _ = udp::set_checksum(&mut packet[V6_HEADER_LEN..], sum);
        if finished {
            let _ = info.complete_checksum(&mut packet);
        }
    }
    packet
}

/// The datagrams of a frame for `to`; none if it is for somebody else. Of a super-packet whose header
/// does not describe it, one that is all of it.
pub(super) fn datagrams(frame: &[u8], to: End) -> impl Iterator<Item = &[u8]> {
    parse(frame, to).into_iter().flat_map(|(payload, size)| payload.chunks(size))
}

fn parse(frame: &[u8], to: End) -> Option<(&[u8], usize)> {
    let header = VirtioNetHdr::parse(frame).ok()?;
    let packet = frame.get(VIRTIO_NET_HDR_LEN..)?;
    let info = PacketInfo::parse(packet).ok()?;
    let ours = info.dst == IpAddr::V6(to.0) && info.ports.is_some_and(|(_, port)| port == to.1);
    let payload = packet.get(info.payload..)?;
    if !ours || info.protocol != PROTO_UDP || payload.is_empty() {
        return None;
    }
    let place = (usize::from(header.csum_start), usize::from(header.csum_offset));
    let described = header.needs_csum() && place == (V6_HEADER_LEN, udp::CHECKSUM_OFFSET);
    let finished = header.needs_csum() || info.checksum_ok(packet);
    match header.gso_type {
        GSO_UDP_L4 if described && header.gso_size > 0 => Some((payload, usize::from(header.gso_size))),
        // A single one that nobody would accept is as good as lost.
        GSO_NONE => finished.then_some((payload, payload.len())),
        _ => Some((payload, payload.len())),
    }
}
