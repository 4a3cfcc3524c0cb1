//! Splits against segments built by the book.

use proptest::prelude::*;
use sinew_wire::virtio::NEEDS_CSUM;

use super::*;
use crate::offload::testing::{Model, echo_v6, extended_v6, fragment_v6, naive_sum};

/// All segments of `packet`, or why there are none.
fn split(
    vnet: &VirtioNetHdr,
    packet: &[u8],
    mtu: usize,
    checksum: Checksum,
) -> Result<Vec<(Vec<u8>, bool)>, DropReason> {
    let mut packet = packet.to_vec();
    let mut split = Split::new(vnet, &mut packet, mtu)?;
    let (count, longest) = (split.count(), split.longest());
    let mut out = vec![0xee; longest];
    let mut segments = Vec::new();
    while let Some(segment) = split.write_into(&mut out, checksum) {
        segments.push((out[..segment.len].to_vec(), segment.csum_partial));
        assert!(segments.len() <= count);
    }
    assert_eq!(segments.len(), count);
    assert_eq!(segments.iter().map(|(bytes, _)| bytes.len()).max(), Some(longest));
    Ok(segments)
}

fn check_cut(model: &Model, gso_size: u16, mtu: usize, size: usize) {
    let vnet = model.vnet(gso_size);
    let complete = split(&vnet, &model.build_partial(), mtu, Checksum::Complete).unwrap();
    let expected: Vec<_> = model.cut(size).iter().map(|part| (part.build(), false)).collect();
    assert_eq!(complete, expected, "{} bytes at {gso_size}, MTU {mtu}", model.payload.len());
    let partial = split(&vnet, &model.build_partial(), mtu, Checksum::Partial).unwrap();
    let expected: Vec<_> = model.cut(size).iter().map(|part| (part.build_partial(), true)).collect();
    assert_eq!(partial, expected);
}

#[test]
fn tcp_super_packets_are_cut_at_the_segment_size_or_the_path_s() {
    for v4 in [false, true] {
        let headers = Model::tcp(v4, 0).headers();
        let table = [
            // payload, gso_size, mtu, expected size
            (60_000, 1388, 1500, 1388),
            (61_072, 1388, 1500, 1388),
            (60_001, 1388, 1388 + headers, 1388),
            (60_001, 1388, 1387 + headers, 1387),
            (60_001, 1388, 1280, 1280 - headers),
            (3000, 1000, 1280, 1000),
            (65_000, 8000, 1280, 1280 - headers),
            (500, 1, 1280, 1),
        ];
        for (len, gso_size, mtu, size) in table {
            check_cut(&Model::tcp(v4, len), gso_size, mtu, size);
        }
    }
}

#[test]
fn fin_and_psh_stay_with_the_last_segment_and_cwr_with_the_first() {
    for v4 in [false, true] {
        let flags = tcp::ACK | tcp::FIN | tcp::PSH | tcp::CWR | tcp::ECE;
        check_cut(&Model { flags, ..Model::tcp(v4, 5000) }, 1200, 1500, 1200);
        check_cut(&Model { flags, options: vec![], ..Model::tcp(v4, 2401) }, 1200, 1500, 1200);
    }
}

#[test]
fn udp_super_packets_are_cut_at_datagram_borders_and_nowhere_else() {
    for v4 in [false, true] {
        check_cut(&Model::udp(v4, 40_000), 1200, 1280, 1200);
        check_cut(&Model::udp(v4, 36_000), 1200, 1280, 1200);
        let model = Model::udp(v4, 40_000);
        let result = split(&model.vnet(1300), &model.build_partial(), 1280, Checksum::Complete);
        assert_eq!(result, Err(DropReason::TooBig));
    }
}

#[test]
fn a_single_packet_that_fits_is_passed_on_with_the_checksum_asked_for() {
    for model in [Model::tcp(false, 900), Model::tcp(true, 0), Model::udp(false, 0), Model::udp(true, 7)] {
        let (partial, complete) = (model.build_partial(), model.build());
        let vnet = model.vnet(0);
        assert_eq!(split(&vnet, &partial, 1280, Checksum::Partial), Ok(vec![(partial.clone(), true)]));
        assert_eq!(split(&vnet, &partial, 1280, Checksum::Complete), Ok(vec![(complete.clone(), false)]));
        // Complete already: nothing to leave.
        let plain = VirtioNetHdr::default();
        assert_eq!(split(&plain, &complete, 1280, Checksum::Partial), Ok(vec![(complete.clone(), false)]));
        // Whatever the kernel left in the field, what leaves is right.
        let mut odd = partial.clone();
        odd[usize::from(vnet.csum_start + vnet.csum_offset)] ^= 0x55;
        assert_eq!(split(&vnet, &odd, 1280, Checksum::Complete), Ok(vec![(complete, false)]));
    }
}

#[test]
fn tcp_data_too_large_for_the_path_is_cut_though_it_is_no_super_packet() {
    for v4 in [false, true] {
        let model = Model { flags: tcp::ACK | tcp::PSH, ..Model::tcp(v4, 1380) };
        let size = 1280 - model.headers();
        let expected: Vec<_> = model.cut(size).iter().map(|part| (part.build(), false)).collect();
        assert_eq!(
            split(&model.vnet(0), &model.build_partial(), 1280, Checksum::Complete),
            Ok(expected.clone())
        );
        let plain = VirtioNetHdr::default();
        assert_eq!(split(&plain, &model.build(), 1280, Checksum::Complete), Ok(expected));
        // A broken checksum must not be made whole.
        let mut broken = model.build();
        *broken.last_mut().unwrap() ^= 1;
        assert_eq!(split(&plain, &broken, 1280, Checksum::Complete), Err(DropReason::TooBig));
    }
}

#[test]
fn what_may_not_be_cut_is_too_big() {
    let syn = Model { flags: tcp::SYN, ..Model::tcp(false, 1400) };
    let rst = Model { flags: tcp::RST, ..Model::tcp(false, 1400) };
    let urgent = Model { flags: tcp::ACK | tcp::URG, ..Model::tcp(true, 1400) };
    let fragment = fragment_v6(&Model::tcp(false, 1400).build(), 0, true);
    let table =
        [syn.build(), rst.build(), urgent.build(), Model::udp(false, 1400).build(), echo_v6(1400), fragment];
    for packet in table {
        let result = split(&VirtioNetHdr::default(), &packet, 1280, Checksum::Partial);
        assert_eq!(result, Err(DropReason::TooBig), "{:02x?}", &packet[..60]);
    }
}

#[test]
fn a_path_too_small_for_the_headers_is_no_path() {
    let model = Model::tcp(false, 3000);
    for mtu in [0, 40, model.headers()] {
        let result = split(&model.vnet(1200), &model.build_partial(), mtu, Checksum::Partial);
        assert_eq!(result, Err(DropReason::TooBig), "{mtu}");
    }
}

#[test]
fn a_syn_leaves_with_an_mss_that_the_path_carries() {
    for (v4, flags, before, mtu, after) in [
        (false, tcp::SYN, 1440, 1280, 1220),
        (true, tcp::SYN | tcp::ACK, 1460, 1280, 1240),
        (false, tcp::SYN, 1200, 1280, 1200),
        (false, tcp::ACK, 1440, 1280, 1440),
    ] {
        // The second variant puts the option at an odd offset.
        for (lead, tail) in [(vec![], vec![]), (vec![1], vec![1, 1, 1])] {
            let options =
                |mss: u16| [lead.clone(), vec![2, 4, (mss >> 8) as u8, mss as u8], tail.clone()].concat();
            let model = Model { flags, options: options(before), ..Model::tcp(v4, 0) };
            let expected = Model { options: options(after), ..model.clone() };
            let vnet = model.vnet(0);
            let result = split(&vnet, &model.build_partial(), mtu, Checksum::Complete);
            assert_eq!(result, Ok(vec![(expected.build(), false)]), "{before} -> {after}");
            let result = split(&VirtioNetHdr::default(), &model.build(), mtu, Checksum::Complete);
            assert_eq!(result, Ok(vec![(expected.build(), false)]), "complete, {before} -> {after}");
        }
    }
}

#[test]
fn a_partial_checksum_of_another_protocol_is_completed_where_the_kernel_says() {
    let complete = echo_v6(100);
    let mut partial = complete.clone();
    partial[42..44].copy_from_slice(&[0, 0]);
    // The kernel leaves the pseudo-header's sum there.
    let mut pseudo = partial[8..40].to_vec();
    pseudo.extend([0, 0, 0, 108, 0, 0, 0, 58]);
    partial[42..44].copy_from_slice(&naive_sum(&[&pseudo]).to_be_bytes());
    let vnet = VirtioNetHdr { flags: NEEDS_CSUM, csum_start: 40, csum_offset: 2, ..VirtioNetHdr::default() };
    assert_eq!(split(&vnet, &partial, 1280, Checksum::Partial), Ok(vec![(complete, false)]));
}

#[test]
fn a_partial_checksum_lies_in_no_header_that_we_read_but_its_own() {
    let packets = [
        (Model::tcp(false, 100).build_partial(), 40, 16, 72),
        (Model::udp(true, 100).build_partial(), 20, 6, 28),
        (echo_v6(100), 40, 2, 48),
        (fragment_v6(&Model::udp(false, 100).build(), 0, true), 0, 0, 56),
        (fragment_v6(&Model::udp(false, 100).build(), 8, false), 0, 0, 48),
    ];
    for (packet, own_start, own_offset, payload) in packets {
        for (csum_start, csum_offset) in (0..60).flat_map(|start| (0..40).map(move |offset| (start, offset)))
        {
            let vnet = VirtioNetHdr { flags: NEEDS_CSUM, csum_start, csum_offset, ..VirtioNetHdr::default() };
            let own = own_start > 0 && (csum_start, csum_offset) == (own_start, own_offset);
            let result = split(&vnet, &packet, 1280, Checksum::Partial);
            assert_eq!(result.is_ok(), own || csum_start >= payload, "{csum_start} + {csum_offset}");
            for (segment, _) in result.unwrap_or_default() {
                assert_eq!(PacketInfo::parse(&segment), PacketInfo::parse(&packet));
            }
        }
    }
}

#[test]
fn extension_headers_are_walked_and_kept_in_every_segment() {
    let model = Model { options: vec![], ..Model::tcp(false, 3000) };
    let packet = extended_v6(&model.build_partial(), 2);
    let vnet = VirtioNetHdr { csum_start: 56, ..model.vnet(1000) };
    let segments = split(&vnet, &packet, 1280, Checksum::Complete).unwrap();
    let expected: Vec<_> =
        model.cut(1000).iter().map(|part| (extended_v6(&part.build(), 2), false)).collect();
    assert_eq!(segments, expected);
}

/// What is wrong with a header.
type Change = fn(&mut VirtioNetHdr);

#[test]
fn a_virtio_header_that_does_not_fit_the_packet_is_refused() {
    let (tcp6, tcp4, udp6) = (Model::tcp(false, 3000), Model::tcp(true, 3000), Model::udp(false, 3000));
    let with = |model: &Model, change: Change| {
        let mut vnet = model.vnet(1000);
        change(&mut vnet);
        split(&vnet, &model.build_partial(), 1500, Checksum::Partial).map(drop)
    };
    let table: [(&Model, Change); 9] = [
        (&tcp6, |vnet| vnet.gso_size = 0),
        (&tcp6, |vnet| vnet.gso_type = GSO_TCPV4),
        (&tcp4, |vnet| vnet.gso_type = GSO_TCPV6),
        (&tcp6, |vnet| vnet.gso_type = GSO_UDP_L4),
        (&udp6, |vnet| vnet.gso_type = GSO_TCPV6),
        (&tcp6, |vnet| vnet.gso_type = 3),
        (&tcp6, |vnet| vnet.gso_type = 0x7f),
        (&tcp6, |vnet| vnet.csum_start = 3060),
        (&tcp6, |vnet| vnet.csum_offset = u16::MAX),
    ];
    for (i, (model, change)) in table.iter().enumerate() {
        assert_eq!(with(model, *change), Err(DropReason::BadOffload), "case {i}");
    }
    assert_eq!(with(&tcp6, |vnet| vnet.hdr_len = 0), Ok(()), "hdr_len is not read");
    assert_eq!(with(&tcp6, |vnet| vnet.gso_type |= GSO_ECN), Ok(()));
    let fragment = fragment_v6(&tcp6.build_partial(), 0, true);
    let result = split(&tcp6.vnet(1000), &fragment, 1500, Checksum::Partial);
    assert_eq!(result, Err(DropReason::BadOffload));
    let cut_short = &tcp6.build_partial()[..2000];
    assert_eq!(split(&tcp6.vnet(1000), cut_short, 1500, Checksum::Partial), Err(DropReason::BadInner));
}

#[test]
fn a_buffer_too_short_ends_the_split_without_a_panic() {
    let model = Model::tcp(false, 3000);
    let mut packet = model.build_partial();
    let mut split = Split::new(&model.vnet(1000), &mut packet, 1500).unwrap();
    assert_eq!(split.write_into(&mut [0; 100], Checksum::Partial), None);
    assert_eq!(split.write_into(&mut [0; 2000], Checksum::Partial), None);
}

proptest! {
    #[test]
    fn any_super_packet_splits_into_what_the_book_says(
        v4: bool, udp: bool, len in 1usize..20_000, gso in 1u16..4000, mtu in 1280usize..3000, flags: u8,
    ) {
        let flags = if udp { 0 } else { flags & (tcp::FIN | tcp::PSH | tcp::CWR | tcp::ECE) | tcp::ACK };
        let base = if udp { Model::udp(v4, len) } else { Model::tcp(v4, len) };
        let model = Model { flags, ..base };
        let room = mtu - model.headers();
        if udp && usize::from(gso) > room {
            let result = split(&model.vnet(gso), &model.build_partial(), mtu, Checksum::Partial);
            prop_assert_eq!(result, Err(DropReason::TooBig));
        } else {
            check_cut(&model, gso, mtu, room.min(usize::from(gso)));
        }
    }

    #[test]
    fn no_header_and_no_packet_panics(
        header: [u8; 10], bytes in proptest::collection::vec(any::<u8>(), 0..200), version in 0usize..3, mtu in 0usize..300,
    ) {
        let mut packet = bytes;
        // Half-way plausible packets get further than noise.
        if let Some(first) = packet.first_mut() {
            *first = [*first, 0x45, 0x60][version];
        }
        let len = packet.len();
        if version == 1 && len >= 20 {
            packet[2..4].copy_from_slice(&(len as u16).to_be_bytes());
            packet[9] = if packet[9] & 1 == 0 { 6 } else { 17 };
        }
        if version == 2 && len >= 40 {
            packet[4..6].copy_from_slice(&(len as u16 - 40).to_be_bytes());
            packet[6] = [6, 17, 44, 60][usize::from(packet[6] & 3)];
        }
        let vnet = VirtioNetHdr::parse(&header).unwrap();
        for checksum in [Checksum::Partial, Checksum::Complete] {
            let _ = split(&vnet, &packet, mtu, checksum);
        }
    }
}
