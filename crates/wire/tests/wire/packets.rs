//! Inner packets: the one parse, checksums, and ICMP errors.

use proptest::prelude::*;
use sinew_wire::checksum::{Sum, complete, pseudo_header, update};
use sinew_wire::icmp::{IcmpHeader, V4Error, V6Error, build_v4_error, build_v6_error};
use sinew_wire::ip::{self, Fragment, PacketInfo, Version};
use sinew_wire::tcp::{self, TcpHeader, clamp_mss};
use sinew_wire::{Malformed, udp};

const V6_SRC: [u8; 16] = [0xfd, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const V6_DST: [u8; 16] = [0xfd, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0x20, 0, 0, 0, 0, next, 63];
    packet.extend_from_slice(&V6_SRC);
    packet.extend_from_slice(&V6_DST);
    packet.extend_from_slice(payload);
    ip::set_total_len(&mut packet, 40 + payload.len()).expect("fits");
    packet
}

fn v4(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 1, 0, 0, 0x12, 0x34, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    packet[6..8].copy_from_slice(&fragment.to_be_bytes());
    packet.extend_from_slice(payload);
    ip::set_total_len(&mut packet, 20 + payload.len()).expect("fits");
    ip::fill_v4_checksum(&mut packet).expect("a header");
    packet
}

/// A TCP segment with `options` and no data.
fn tcp(flags: u8, options: &[u8]) -> Vec<u8> {
    let mut segment = vec![0, 80, 1, 0, 0, 0, 0, 7, 0, 0, 0, 9, 0, flags, 1, 0, 0, 0, 0, 0];
    segment[12] = (((20 + options.len()) / 4) << 4) as u8;
    segment.extend_from_slice(options);
    segment
}

fn udp(data: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0, 53, 2, 0, 0, 0, 0, 0];
    datagram.extend_from_slice(data);
    udp::set_length(&mut datagram, 8 + data.len() as u16).expect("a header");
    datagram
}

/// Fills the partial checksum, then completes it, as two kernels would.
fn with_checksum(mut packet: Vec<u8>) -> Vec<u8> {
    let info = PacketInfo::parse(&packet).expect("a packet");
    let l4 = info.l4.expect("a transport header");
    let partial = info.pseudo_header(packet.len() - l4).fold();
    let at = l4 + info.csum_offset().expect("TCP or UDP");
    packet[at..at + 2].copy_from_slice(&partial.to_be_bytes());
    info.complete_checksum(&mut packet).expect("TCP or UDP");
    packet
}

#[test]
fn one_parse_answers_for_tcp_and_udp_in_both_versions() {
    let info = PacketInfo::parse(&v6(6, &tcp(tcp::SYN, &[1; 4]))).expect("a packet");
    assert_eq!((info.version, info.protocol, info.ecn, info.hop_limit), (Version::V6, 6, ip::ECT_0, 63));
    assert_eq!((info.l4, info.payload, info.total_len), (Some(40), 64, 64));
    assert_eq!((info.ports, info.tcp_flags), (Some((80, 256)), Some(tcp::SYN)));
    assert_eq!((info.csum_offset(), info.fragment, info.ext_walked), (Some(16), Fragment::None, true));
    let info = PacketInfo::parse(&v4(17, 0x4000, &udp(b"abc"))).expect("a packet");
    assert_eq!((info.version, info.protocol, info.ecn, info.hop_limit), (Version::V4, 17, ip::ECT_1, 64));
    assert_eq!((info.l4, info.payload, info.total_len), (Some(20), 28, 31));
    assert_eq!((info.ports, info.tcp_flags), (Some((53, 512)), None));
    assert_eq!((info.csum_offset(), info.dont_fragment), (Some(6), true));
}

#[test]
fn a_packet_fills_its_buffer_exactly() {
    for packet in [v6(6, &tcp(0, &[])), v4(6, 0, &tcp(0, &[]))] {
        assert!(PacketInfo::parse(&packet).is_ok());
        for end in 0..packet.len() {
            assert_eq!(PacketInfo::parse(&packet[..end]), Err(Malformed), "{end}");
        }
        assert_eq!(PacketInfo::parse(&[&packet[..], &[0]].concat()), Err(Malformed));
    }
}

#[test]
fn a_transport_header_is_whole_or_the_packet_is_malformed() {
    let long_options = [&tcp(0, &[1; 8])[..24], &[][..]].concat();
    let short_udp = [0, 53, 2, 0, 0, 7, 0, 0];
    let long_udp = [0, 53, 2, 0, 0, 9, 0, 0];
    let table: [(u8, &[u8]); 6] = [
        (6, &tcp(0, &[])[..19]),
        (6, &long_options),
        (17, &[0; 7]),
        (17, &short_udp),
        (17, &long_udp),
        (58, &[128, 0, 0, 0, 0, 0, 0]),
    ];
    for (next, payload) in table {
        assert_eq!(PacketInfo::parse(&v6(next, payload)), Err(Malformed), "{next} {payload:?}");
    }
    let tiny_first_fragment = v4(6, 0x2000, &tcp(0, &[])[..8]);
    assert_eq!(PacketInfo::parse(&tiny_first_fragment), Err(Malformed), "RFC 1858");
}

/// Extension headers of 8 bytes each, then `payload`.
fn chain(kinds: &[u8], last: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for next in kinds.iter().skip(1).chain([&last]) {
        out.extend_from_slice(&[*next, 0, 1, 4, 0, 0, 0, 0]);
    }
    out.extend_from_slice(payload);
    v6(kinds.first().copied().unwrap_or(last), &out)
}

#[test]
fn extension_headers_are_walked_to_a_bound() {
    for count in 1..=8 {
        let info = PacketInfo::parse(&chain(&[60; 8][..count], 17, &udp(b""))).expect("a packet");
        assert_eq!((info.l4, info.ext_walked, info.protocol), (Some(40 + 8 * count), true, 17));
    }
    let info = PacketInfo::parse(&chain(&[60; 9], 17, &udp(b""))).expect("a packet");
    assert_eq!((info.l4, info.ext_walked, info.ports), (None, false, None));
    assert_eq!(info.csum_offset(), None);
    let mixed = PacketInfo::parse(&chain(&[0, 43, 60], 6, &tcp(0, &[]))).expect("a packet");
    assert_eq!((mixed.l4, mixed.protocol), (Some(64), 6));
    assert_eq!(PacketInfo::parse(&v6(60, &[6, 1, 0, 0, 0, 0, 0, 0])), Err(Malformed), "past the end");
    assert_eq!(PacketInfo::parse(&v6(60, &[])), Err(Malformed), "no header at all");
}

#[test]
fn an_authentication_header_counts_in_words() {
    let mut payload = vec![17, 4, 0, 0];
    payload.resize(24, 0);
    payload.extend_from_slice(&udp(b""));
    let info = PacketInfo::parse(&v6(51, &payload)).expect("a packet");
    assert_eq!((info.l4, info.protocol), (Some(64), 17));
}

fn v6_fragment(next: u8, offset_and_more: u16, payload: &[u8]) -> Vec<u8> {
    let [high, low] = offset_and_more.to_be_bytes();
    v6(44, &[&[next, 0, high, low, 0, 0, 1, 2], payload].concat())
}

#[test]
fn a_later_fragment_has_no_ports() {
    let later6 = PacketInfo::parse(&v6_fragment(6, 8, &tcp(0, &[]))).expect("a packet");
    let later4 = PacketInfo::parse(&v4(6, 1, &tcp(0, &[]))).expect("a packet");
    for info in [later6, later4] {
        assert_eq!((info.fragment, info.protocol), (Fragment::Later, 6));
        assert_eq!((info.l4, info.ports, info.tcp_flags, info.csum_offset()), (None, None, None, None));
    }
    assert_eq!((later6.fragment_id, later4.fragment_id), (0x0102, 0x1234));
}

#[test]
fn a_first_fragment_has_ports_but_may_not_be_left_partial() {
    let whole_length = [0, 53, 2, 0, 4, 0, 0, 0];
    for packet in [v6_fragment(17, 1, &whole_length), v4(17, 0x2000, &whole_length)] {
        let info = PacketInfo::parse(&packet).expect("a packet");
        assert_eq!((info.fragment, info.ports), (Fragment::First, Some((53, 512))));
        assert_eq!(info.csum_offset(), None);
        assert_eq!(info.complete_checksum(&mut packet.clone()), Err(Malformed));
    }
    let atomic = PacketInfo::parse(&v6_fragment(17, 0, &udp(b""))).expect("a packet");
    assert_eq!(atomic.fragment, Fragment::First);
    let twice = v6_fragment(44, 1, &[17, 0, 0, 0, 0, 0, 0, 0, 0, 53, 2, 0, 0, 8, 0, 0]);
    assert_eq!(PacketInfo::parse(&twice), Err(Malformed));
}

#[test]
fn a_fragment_says_which_bytes_it_holds() {
    let range = |packet: &[u8]| PacketInfo::parse(packet).expect("a packet").fragment_range;
    let whole = udp(&[7; 24]);
    assert_eq!(range(&v4(17, 0, &whole)), (0, 0));
    assert_eq!(range(&v4(17, 0x2000, &whole)), (0, 32));
    assert_eq!(range(&v4(17, 0x2003, &whole)), (24, 56));
    assert_eq!(range(&v6_fragment(17, 1, &whole)), (0, 32));
    assert_eq!(range(&v6_fragment(17, 3 << 3, &whole)), (24, 56));
    // Headers in front of the fragment header are no part of it.
    let behind = [&[44, 0, 1, 4, 0, 0, 0, 0], &v6_fragment(17, 1, &whole)[40..]].concat();
    assert_eq!(range(&v6(60, &behind)), (0, 32));
}

#[test]
fn a_source_route_is_seen_until_it_is_used_up() {
    let routed = |packet: &[u8]| PacketInfo::parse(packet).map(|info| info.source_routed);
    let with_options = |options: &[u8]| {
        let mut packet = v4(17, 0, &udp(b"x"));
        let padded: Vec<u8> =
            options.iter().copied().chain([0; 3]).take(options.len().next_multiple_of(4)).collect();
        packet[0] = 0x45 + (padded.len() / 4) as u8;
        packet.splice(20..20, padded);
        let len = packet.len();
        ip::set_total_len(&mut packet, len).expect("fits");
        packet
    };
    for kind in [131, 137] {
        for (pointer, left) in [(4, true), (7, true), (8, false)] {
            let option = [1, kind, 7, pointer, 10, 0, 0, 3];
            assert_eq!(routed(&with_options(&option)), Ok(left), "option {kind}, pointer {pointer}");
        }
    }
    for harmless in [&[7, 7, 4, 0, 0, 0, 0][..], &[1, 1, 1], &[148, 4, 0, 0], &[0, 131, 7, 4]] {
        assert_eq!(routed(&with_options(harmless)), Ok(false), "{harmless:?}");
    }
    for broken in [&[7, 0, 0, 0][..], &[7, 1, 0, 0], &[7, 9, 4, 0], &[1, 1, 1, 7], &[131, 2, 1, 1, 131]] {
        assert_eq!(routed(&with_options(broken)), Err(Malformed), "{broken:?}");
    }
    for kind in [0, 2, 4, 200] {
        for (left, result) in [(0, false), (1, true), (255, true)] {
            let header = [17, 0, kind, left, 0, 0, 0, 0];
            assert_eq!(routed(&v6(43, &[&header[..], &udp(b"x")].concat())), Ok(result), "type {kind}");
        }
    }
}

#[test]
fn a_quote_may_be_cut_behind_the_ports() {
    let quote = &v4(6, 0, &tcp(0, &[]))[..28];
    let info = PacketInfo::parse_quote(quote).expect("a quote");
    assert_eq!((info.l4, info.payload, info.ports, info.tcp_flags), (Some(20), 20, Some((80, 256)), None));
}

#[test]
fn checksums_agree_with_rfc_1071_and_wrong_ones_are_seen() {
    let rfc = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(Sum::default().bytes(&rfc).fold(), 0xddf2);
    for packet in [v6(6, &tcp(0, &[])), v6(17, &udp(b"odd")), v4(6, 0, &tcp(0, &[])), v4(17, 0, &udp(b"x"))] {
        let mut packet = with_checksum(packet);
        let info = PacketInfo::parse(&packet).expect("a packet");
        assert!(info.checksum_ok(&packet));
        let port = info.l4.expect("a header");
        packet[port] ^= 1;
        assert!(!info.checksum_ok(&packet));
    }
}

#[test]
fn only_udp_over_ipv4_may_do_without_a_checksum() {
    for (packet, ok) in [(v4(17, 0, &udp(b"x")), true), (v6(17, &udp(b"x")), false)] {
        let info = PacketInfo::parse(&packet).expect("a packet");
        assert_eq!(info.checksum_ok(&packet), ok);
    }
}

#[test]
fn a_computed_zero_is_written_as_ones_for_udp_alone() {
    let mut udp = [0, 0, 0, 0, 0, 0, 0xff, 0xff];
    assert_eq!(complete(&mut udp, 6), Ok(()));
    assert_eq!(udp[6..], [0xff, 0xff]);
    let mut tcp = [0; 20];
    tcp[16..18].copy_from_slice(&[0xff, 0xff]);
    assert_eq!(complete(&mut tcp, 16), Ok(()));
    assert_eq!(tcp[16..18], [0, 0]);
    assert_eq!(complete(&mut [0; 4], 3), Err(Malformed));
}

/// The textbook sum, word by word.
fn slow_sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(*w.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

proptest! {
    #[test]
    fn the_fast_sum_is_the_slow_sum(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..100) {
        prop_assert_eq!(Sum::default().bytes(&bytes).fold(), slow_sum(&bytes));
        let (a, b) = bytes.split_at((2 * cut).min(bytes.len() & !1));
        prop_assert_eq!(Sum::default().bytes(a).bytes(b).fold(), slow_sum(&bytes));
    }

    #[test]
    fn an_updated_checksum_is_the_computed_one(
        mut bytes in prop::collection::vec(1u8.., 20), at in 0usize..10, new: u16,
    ) {
        let before = Sum::default().bytes(&bytes).checksum();
        let old = u16::from_be_bytes([bytes[2 * at], bytes[2 * at + 1]]);
        bytes[2 * at..2 * at + 2].copy_from_slice(&new.to_be_bytes());
        prop_assert_eq!(update(before, old, new), Sum::default().bytes(&bytes).checksum());
    }

    #[test]
    fn setting_ecn_keeps_an_ipv4_header_valid(ecn in 0u8..4) {
        for mut packet in [v4(17, 0, &udp(b"")), v6(17, &udp(b""))] {
            ip::set_ecn(&mut packet, ecn).expect("a packet");
            prop_assert_eq!(PacketInfo::parse(&packet).map(|info| info.ecn), Ok(ecn));
            prop_assert!(packet[0] == 0x60 || Sum::default().bytes(&packet[..20]).is_valid());
        }
    }
}

#[test]
fn an_mss_is_only_ever_lowered_and_the_checksum_follows() {
    let aligned = [2, 4, 0x05, 0xa0];
    let odd = [1, 2, 4, 0x05, 0xa0, 1, 1, 1];
    for options in [&aligned[..], &odd[..]] {
        let mut packet = with_checksum(v6(6, &tcp(tcp::SYN, options)));
        let info = PacketInfo::parse(&packet).expect("a packet");
        assert_eq!(clamp_mss(&mut packet[40..], 1500, false), Ok(false), "never raised");
        assert_eq!(clamp_mss(&mut packet[40..], 1200, false), Ok(true));
        assert!(info.checksum_ok(&packet), "{options:?}");
        assert_eq!(clamp_mss(&mut packet[40..], 1200, false), Ok(false));
    }
    assert_eq!(clamp_mss(&mut tcp(tcp::ACK, &aligned), 1200, false), Ok(false), "not a SYN");
    for junk in [[0, 2, 4, 5], [3, 0, 2, 4], [3, 1, 2, 4], [9, 40, 2, 4], [1, 1, 1, 2]] {
        assert_eq!(clamp_mss(&mut tcp(tcp::SYN, &junk), 1, false), Ok(false), "{junk:?}");
    }
}

#[test]
fn a_partial_checksum_does_not_cover_the_mss() {
    let mut segment = tcp(tcp::SYN, &[2, 4, 0x05, 0xa0]);
    tcp::set_checksum(&mut segment, 0x1234).expect("a header");
    assert_eq!(clamp_mss(&mut segment, 1200, true), Ok(true));
    assert_eq!(TcpHeader::parse(&segment).map(|header| header.checksum), Ok(0x1234));
}

#[test]
fn ipv6_errors_are_valid_packets_that_quote_what_fits() {
    let offending = v6(17, &udp(&[7; 2000]));
    let from = "fd3f::9".parse().expect("an address");
    let error = build_v6_error(&offending, from, V6Error::PacketTooBig { mtu: 1300 }).expect("an answer");
    let info = PacketInfo::parse(&error).expect("a packet");
    assert_eq!((error.len(), info.src, info.dst), (1280, from.into(), V6_SRC.into()));
    let header = IcmpHeader::parse(&error[40..]).expect("a header");
    assert_eq!((header.kind, header.code, header.rest), (2, 0, 1300u32.to_be_bytes()));
    assert_eq!(error[48..], offending[..1232]);
    let sum = pseudo_header(info.src, info.dst, ip::PROTO_ICMPV6, error.len() - 40);
    assert!(sum.bytes(&error[40..]).is_valid());
}

#[test]
fn ipv4_errors_are_valid_packets_that_quote_what_fits() {
    let offending = v4(17, 0x4000, &udp(&[7; 1000]));
    let from = "10.0.0.9".parse().expect("an address");
    let error = build_v4_error(&offending, from, V4Error::FragNeeded { mtu: 900 }).expect("an answer");
    let info = PacketInfo::parse(&error).expect("a packet");
    assert_eq!((error.len(), info.src, info.dst), (576, from.into(), [10, 0, 0, 1].into()));
    let header = IcmpHeader::parse(&error[20..]).expect("a header");
    assert_eq!((header.kind, header.code, header.rest), (3, 4, [0, 0, 3, 132]));
    assert!(Sum::default().bytes(&error[..20]).is_valid() && Sum::default().bytes(&error[20..]).is_valid());
}

/// A packet with other addresses than the usual ones.
fn readdressed(mut packet: Vec<u8>, at: usize, addr: &[u8]) -> Vec<u8> {
    packet[at..at + addr.len()].copy_from_slice(addr);
    packet
}

#[test]
fn no_ipv6_error_is_sent_about_an_error_or_to_nobody() {
    let from = "fd3f::9".parse().expect("an address");
    let icmp = |kind: u8| v6(58, &[kind, 0, 0, 0, 0, 0, 0, 0]);
    let plain = || v6(17, &udp(b""));
    let group = [&[0xff, 2][..], &[0; 14]].concat();
    let error = V6Error::NoRoute;
    assert!(build_v6_error(&icmp(128), from, error).is_some(), "an echo request is answered");
    let refused = [
        ("destination unreachable", icmp(1)),
        ("an unknown error", icmp(127)),
        ("a redirect", icmp(137)),
        ("an error behind extension headers", chain(&[60, 60], 58, &[1, 0, 0, 0, 0, 0, 0, 0])),
        ("a chain not walked", chain(&[60; 9], 17, &udp(b""))),
        ("a later fragment", v6_fragment(17, 8, &[0; 8])),
        ("no source", readdressed(plain(), 8, &[0; 16])),
        ("a group as source", readdressed(plain(), 8, &group)),
        ("a group as destination", readdressed(plain(), 24, &group)),
        ("IPv4", v4(17, 0, &udp(b""))),
    ];
    for (what, packet) in refused {
        assert_eq!(build_v6_error(&packet, from, error), None, "{what}");
    }
    let too_big = V6Error::PacketTooBig { mtu: 1280 };
    assert!(build_v6_error(&readdressed(plain(), 24, &group), from, too_big).is_some(), "RFC 4443 e.3");
}

#[test]
fn no_ipv4_error_is_sent_about_an_error_or_to_nobody() {
    let from = "10.0.0.9".parse().expect("an address");
    let icmp = |kind: u8| v4(1, 0, &[kind, 0, 0, 0, 0, 0, 0, 0]);
    let plain = || v4(17, 0, &udp(b""));
    let error = V4Error::HostUnreachable;
    assert!(build_v4_error(&icmp(8), from, error).is_some(), "an echo request is answered");
    let refused = [
        ("unreachable", icmp(3)),
        ("a redirect", icmp(5)),
        ("time exceeded", icmp(11)),
        ("a later fragment", v4(17, 1, &[0; 8])),
        ("no source", readdressed(plain(), 12, &[0; 4])),
        ("loopback as source", readdressed(plain(), 12, &[127, 0, 0, 1])),
        ("a group as source", readdressed(plain(), 12, &[224, 0, 0, 1])),
        ("everybody as destination", readdressed(plain(), 16, &[255; 4])),
        ("IPv6", v6(17, &udp(b""))),
    ];
    for (what, packet) in refused {
        assert_eq!(build_v4_error(&packet, from, error), None, "{what}");
    }
}

#[test]
fn lengths_that_cannot_be_told_are_refused() {
    assert_eq!(ip::set_total_len(&mut v4(17, 0, &udp(b"")), 65_536), Err(Malformed));
    assert_eq!(ip::set_total_len(&mut v6(17, &udp(b"")), 39), Err(Malformed));
    assert_eq!(ip::set_total_len(&mut v6(17, &udp(b"")), 65_575), Ok(()));
    assert_eq!(ip::v4_id(&v4(17, 0, &udp(b""))), Ok(0x1234));
}
