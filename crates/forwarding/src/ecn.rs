//! Congestion marks through the tunnel, by RFC 6040: the outer header takes the inner's mark, every
//! hop merges what the underlay marked into the routed header, the end merges it into the packet.

use sinew_types::DropReason;
use sinew_wire::ip::{self, CE, ECT_0, ECT_1, NOT_ECT, V4_HEADER_MIN, V6_HEADER_LEN};

/// The mark of `inner` after a leg whose outer header arrived with `outer` (RFC 6040, figure 4).
///
/// # Errors
/// [`DropReason::EcnDrop`] for a congestion mark on a flow that cannot answer it.
pub const fn merge(inner: u8, outer: u8) -> Result<u8, DropReason> {
    match (inner & CE, outer & CE) {
        (NOT_ECT, CE) => Err(DropReason::EcnDrop),
        (NOT_ECT, _) => Ok(NOT_ECT),
        (CE, _) | (_, CE) => Ok(CE),
        (ECT_0, ECT_1) => Ok(ECT_1),
        (inner, _) => Ok(inner),
    }
}

/// The mark of an IP packet; [`NOT_ECT`] for anything else.
pub fn of(packet: &[u8]) -> u8 {
    match packet {
        [first, tos, ..] if first >> 4 == 4 => tos & CE,
        [first, second, ..] if first >> 4 == 6 => (second >> 4) & CE,
        _ => NOT_ECT,
    }
}

/// Merges `outer` into the IP header of `packet`, keeping an IPv4 header's checksum right.
///
/// # Errors
/// [`DropReason::EcnDrop`] as [`merge`]; [`DropReason::BadInner`] for what is not an IP packet.
pub fn apply(packet: &mut [u8], outer: u8) -> Result<(), DropReason> {
    let before = of(packet);
    let after = merge(before, outer)?;
    let whole = match packet.first().map_or(0, |first| first >> 4) {
        4 => packet.len() >= V4_HEADER_MIN,
        6 => packet.len() >= V6_HEADER_LEN,
        _ => false,
    };
    if !whole {
        return Err(DropReason::BadInner);
    }
    if after == before { Ok(()) } else { ip::set_ecn(packet, after).map_err(|_| DropReason::BadInner) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_merge_by_the_table_of_rfc_6040() {
        let drop = Err(DropReason::EcnDrop);
        // rows: inner Not-ECT, ECT(0), ECT(1), CE; columns: outer the same
        let table = [
            (NOT_ECT, [Ok(NOT_ECT), Ok(NOT_ECT), Ok(NOT_ECT), drop]),
            (ECT_0, [Ok(ECT_0), Ok(ECT_0), Ok(ECT_1), Ok(CE)]),
            (ECT_1, [Ok(ECT_1), Ok(ECT_1), Ok(ECT_1), Ok(CE)]),
            (CE, [Ok(CE); 4]),
        ];
        for (inner, row) in table {
            for (outer, expected) in [NOT_ECT, ECT_0, ECT_1, CE].into_iter().zip(row) {
                assert_eq!(merge(inner, outer), expected, "inner {inner:02b}, outer {outer:02b}");
            }
        }
    }

    /// Ones' complement sum of an IPv4 header; 0xffff if its checksum is right.
    fn header_sum(header: &[u8]) -> u32 {
        let sum: u32 = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
        (sum & 0xffff) + (sum >> 16)
    }

    #[test]
    fn an_ipv4_header_keeps_a_right_checksum_whatever_it_was() {
        for fill in 0..=255u8 {
            for tos in [0x02, 0x01, 0xfe, 0xfd, 0xb9] {
                let mut packet = [fill; 20];
                (packet[0], packet[1], packet[10], packet[11]) = (0x45, tos, 0, 0);
                let sum = header_sum(&packet);
                let sum = (sum & 0xffff) + (sum >> 16);
                packet[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
                apply(&mut packet, CE).unwrap();
                assert_eq!(packet[1], tos | CE);
                assert_eq!(header_sum(&packet), 0xffff, "fill {fill} tos {tos:02x}");
            }
        }
    }

    #[test]
    fn an_ipv6_header_changes_in_its_two_bits_alone() {
        let mut packet = [0xa5; 40];
        (packet[0], packet[1]) = (0x6c, 0x2f);
        apply(&mut packet, CE).unwrap();
        assert_eq!((packet[0], packet[1]), (0x6c, 0x3f));
        assert!(packet[2..].iter().all(|&byte| byte == 0xa5));
        assert_eq!(of(&packet), CE);
    }

    #[test]
    fn what_is_not_ip_is_refused() {
        for mut packet in [vec![], vec![0x60], vec![0x45; 19], vec![0x60; 39], vec![0x10; 60]] {
            assert_eq!(apply(&mut packet, NOT_ECT), Err(DropReason::BadInner), "{packet:?}");
        }
    }
}
