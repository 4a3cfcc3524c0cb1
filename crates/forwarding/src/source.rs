//! Whose packet is it: the address checks at both ends of the mesh.
//!
//! A session proves who sent a record; the packet inside may name anyone. So on the way in the inner
//! source must be the address of the session's peer and the destination this node's, and on the way
//! out the source must be this node's and the destination in the mesh. Both read the fixed IPv6
//! header alone and cost two comparisons.

use sinew_types::{DropReason, MeshAddr};

const IPV6_HEADER: usize = 40;

/// Checks a packet that a session with the node at `peer` delivered to the node at `local`.
///
/// # Errors
/// [`DropReason::BadInner`] unless IPv6, [`DropReason::SourceSpoofed`], [`DropReason::NotForUs`].
pub fn check_inbound(peer: &MeshAddr, local: &MeshAddr, packet: &[u8]) -> Result<(), DropReason> {
    let (src, dst) = addresses(packet).ok_or(DropReason::BadInner)?;
    if src != peer.as_bytes() {
        return Err(DropReason::SourceSpoofed);
    }
    if dst != local.as_bytes() {
        return Err(DropReason::NotForUs);
    }
    Ok(())
}

/// Checks a packet that the local system sends into the mesh, and returns its destination.
///
/// # Errors
/// [`DropReason::NotMesh`] for anything but IPv6 to another mesh address (the system also tries
/// multicast), [`DropReason::NotOurSource`] for a source that is not this node's.
pub fn check_outbound(local: &MeshAddr, packet: &[u8]) -> Result<MeshAddr, DropReason> {
    let (src, dst) = addresses(packet).ok_or(DropReason::NotMesh)?;
    let dst = MeshAddr::from_bytes(*dst).filter(|dst| dst != local).ok_or(DropReason::NotMesh)?;
    if src != local.as_bytes() {
        return Err(DropReason::NotOurSource);
    }
    Ok(dst)
}

/// Source and destination of an IPv6 packet.
fn addresses(packet: &[u8]) -> Option<(&[u8; 16], &[u8; 16])> {
    let header = packet.first_chunk::<IPV6_HEADER>().filter(|header| header[0] >> 4 == 6)?;
    Some((header[8..].first_chunk()?, header[24..].first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(last: u8) -> MeshAddr {
        let mut bytes = [0; 16];
        (bytes[0], bytes[1], bytes[15]) = (0xfd, 0x3f, last);
        MeshAddr::from_bytes(bytes).unwrap()
    }

    fn packet(src: [u8; 16], dst: [u8; 16]) -> Vec<u8> {
        [&[0x60, 0, 0, 0, 0, 0, 59, 64][..], &src, &dst].concat()
    }

    #[test]
    fn a_peer_may_send_from_its_own_address_to_ours_and_nothing_else() {
        let (peer, local, other) = (addr(1), addr(2), addr(3));
        let table = [
            (packet(*peer.as_bytes(), *local.as_bytes()), Ok(())),
            (packet(*other.as_bytes(), *local.as_bytes()), Err(DropReason::SourceSpoofed)),
            (packet(*local.as_bytes(), *local.as_bytes()), Err(DropReason::SourceSpoofed)),
            (packet([0; 16], *local.as_bytes()), Err(DropReason::SourceSpoofed)),
            (packet(*peer.as_bytes(), *other.as_bytes()), Err(DropReason::NotForUs)),
            (packet(*peer.as_bytes(), [0xff; 16]), Err(DropReason::NotForUs)),
            (packet(*peer.as_bytes(), *local.as_bytes())[..39].to_vec(), Err(DropReason::BadInner)),
            (vec![0x45; 60], Err(DropReason::BadInner)),
            (vec![], Err(DropReason::BadInner)),
        ];
        for (packet, expected) in table {
            assert_eq!(check_inbound(&peer, &local, &packet), expected, "{packet:02x?}");
        }
    }

    #[test]
    fn only_our_own_packets_enter_the_mesh_and_only_for_the_mesh() {
        let (local, dst) = (addr(1), addr(2));
        let link_local = "fe80::1".parse::<std::net::Ipv6Addr>().unwrap().octets();
        let all_routers = "ff02::2".parse::<std::net::Ipv6Addr>().unwrap().octets();
        let table = [
            (packet(*local.as_bytes(), *dst.as_bytes()), Ok(dst)),
            (packet(*addr(3).as_bytes(), *dst.as_bytes()), Err(DropReason::NotOurSource)),
            (packet(link_local, *dst.as_bytes()), Err(DropReason::NotOurSource)),
            (packet(link_local, all_routers), Err(DropReason::NotMesh)),
            (packet(*local.as_bytes(), *local.as_bytes()), Err(DropReason::NotMesh)),
            (vec![0x45; 60], Err(DropReason::NotMesh)),
        ];
        for (packet, expected) in table {
            assert_eq!(check_outbound(&local, &packet), expected, "{packet:02x?}");
        }
    }
}
