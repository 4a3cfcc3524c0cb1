//! Merging against its own inverse, and against rules one by one.

use std::collections::BTreeMap;

use proptest::prelude::*;
use sinew_wire::virtio::{GSO_NONE, NEEDS_CSUM};

use super::*;
use crate::offload::testing::{Model, echo_v6, extended_v6, fragment_v6, naive_sum};
use crate::offload::{Checksum, Split};

type Written = Vec<(VirtioNetHdr, Vec<u8>)>;

/// What the TUN is given for one batch.
fn merge(packets: &[(Vec<u8>, bool)], offloads: Offloads) -> Written {
    let mut coalescer = Coalescer::new();
    let mut written = Written::new();
    let mut emit = |_: InterfaceId, header: &VirtioNetHdr, packet: &[u8]| {
        never_lies(header, packet);
        written.push((*header, packet.to_vec()));
    };
    for (packet, partial) in packets {
        coalescer.push(&mut packet.clone(), *partial, Sink::node(offloads), &mut emit).unwrap();
    }
    coalescer.flush(&mut emit);
    assert!(coalescer.is_empty());
    written
}

/// Checks a header against the packet with a parser of its own: the rules a kernel relies on.
fn never_lies(header: &VirtioNetHdr, packet: &[u8]) {
    if header.flags == 0 {
        assert_eq!(*header, VirtioNetHdr::default());
        return;
    }
    assert_eq!(header.flags, NEEDS_CSUM);
    let v4 = packet[0] >> 4 == 4;
    let (mut protocol, mut l4) =
        if v4 { (packet[9], usize::from(packet[0] & 15) * 4) } else { (packet[6], 40) };
    while !v4 && protocol == 60 {
        (protocol, l4) = (packet[l4], l4 + 8 * (1 + usize::from(packet[l4 + 1])));
    }
    assert!(!v4 || packet[6] & 0x3f == 0 && packet[7] == 0, "a fragment");
    let (offset, header_len) = match protocol {
        6 => (16, usize::from(packet[l4 + 12] >> 4) * 4),
        17 => (6, 8),
        other => panic!("partial checksum of protocol {other}"),
    };
    assert_eq!((usize::from(header.csum_start), header.csum_offset), (l4, offset));
    let length = u16::from_be_bytes(if v4 { [packet[2], packet[3]] } else { [packet[4], packet[5]] });
    assert_eq!(usize::from(length) + if v4 { 0 } else { 40 }, packet.len());
    let addresses = if v4 { &packet[12..20] } else { &packet[8..40] };
    let tail = [((packet.len() - l4) as u32).to_be_bytes().to_vec(), vec![0, protocol]].concat();
    let at = l4 + usize::from(offset);
    let field = u16::from_be_bytes([packet[at], packet[at + 1]]);
    assert_eq!(field, naive_sum(&[addresses, &tail]), "the pseudo-header's sum");
    if header.gso_type == GSO_NONE {
        assert_eq!((header.gso_size, header.hdr_len), (0, 0));
        return;
    }
    let expected = match (protocol, v4) {
        (17, _) => GSO_UDP_L4,
        (_, true) => GSO_TCPV4,
        (_, false) => GSO_TCPV6,
    };
    assert_eq!(header.gso_type, expected);
    assert_eq!(usize::from(header.hdr_len), l4 + header_len);
    let payload = packet.len() - l4 - header_len;
    assert!(payload > usize::from(header.gso_size) && header.gso_size > 0);
    assert!(payload.div_ceil(usize::from(header.gso_size)) <= SEGMENTS_MAX && packet.len() <= SUPER_MAX);
    assert!(!v4 || naive_sum(&[&packet[..l4]]) == 0xffff, "the IPv4 header's checksum");
    if protocol == 17 {
        assert_eq!(usize::from(u16::from_be_bytes([packet[l4 + 4], packet[l4 + 5]])), packet.len() - l4);
    }
}

/// What a kernel makes of it: single packets with complete checksums.
fn segments(written: &Written) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (header, packet) in written {
        let mut packet = packet.clone();
        let mut split = Split::new(header, &mut packet, usize::from(u16::MAX)).unwrap();
        let mut out = vec![0; 70_000];
        while let Some(segment) = split.write_into(&mut out, Checksum::Complete) {
            all.push(out[..segment.len].to_vec());
        }
    }
    all
}

fn partial(models: &[Model]) -> Vec<(Vec<u8>, bool)> {
    models.iter().map(|model| (model.build_partial(), true)).collect()
}

fn whole(models: &[Model]) -> Vec<(Vec<u8>, bool)> {
    models.iter().map(|model| (model.build(), false)).collect()
}

fn lengths(written: &Written, headers: usize) -> Vec<usize> {
    written.iter().map(|(_, packet)| packet.len() - headers).collect()
}

#[test]
fn what_was_one_super_packet_is_one_again() {
    for v4 in [false, true] {
        for (base, size) in [(Model::tcp(v4, 0), 1388), (Model::udp(v4, 0), 1200)] {
            for len in [2 * size, 2 * size + 1, 44 * size, 40 * size + 7] {
                let flags = if base.udp { 0 } else { tcp::ACK | tcp::PSH };
                let payload = vec![0x5a; len];
                let model = Model { flags, payload, ..base.clone() };
                for packets in [partial(&model.cut(size)), whole(&model.cut(size))] {
                    let written = merge(&packets, Offloads::ALL);
                    assert_eq!(written.len(), 1, "{len} bytes");
                    assert_eq!(written[0].1, model.build_partial());
                    let expected =
                        VirtioNetHdr { hdr_len: model.headers() as u16, ..model.vnet(size as u16) };
                    assert_eq!(written[0].0, expected);
                }
            }
        }
    }
}

#[test]
fn a_super_packet_has_64_segments_and_65535_bytes_at_most() {
    let model = Model::udp(false, 130 * 100);
    assert_eq!(lengths(&merge(&partial(&model.cut(100)), Offloads::ALL), 48), [6400, 6400, 200]);
    for v4 in [false, true] {
        let model = Model::tcp(v4, 0);
        let room = (65_535 - model.headers()) / 1400 * 1400;
        // Too long for one IP packet, so built piece by piece.
        let pieces: Vec<_> = (0..50u32)
            .map(|i| Model { seq: i * 1400, id: i as u16, payload: vec![1; 1400], ..model.clone() })
            .collect();
        let written = merge(&partial(&pieces), Offloads::ALL);
        assert_eq!(lengths(&written, model.headers()), [room, 50 * 1400 - room]);
    }
}

/// What the second of two segments has besides its place.
type Change = fn(&mut Model);

#[test]
fn a_segment_merges_only_with_one_it_differs_from_as_a_cut_would() {
    let changes: [(&str, bool, Change); 19] = [
        ("nothing", true, |_| {}),
        ("PSH", true, |m| m.flags |= tcp::PSH),
        ("FIN", true, |m| m.flags |= tcp::FIN),
        ("a shorter payload", true, |m| m.payload.truncate(10)),
        ("a longer payload", false, |m| m.payload.push(1)),
        ("no payload", false, |m| m.payload.clear()),
        ("a gap", false, |m| m.seq += 1),
        ("a repetition", false, |m| m.seq -= 1),
        ("another acknowledgement", false, |m| m.ack += 1),
        ("another window", false, |m| m.window += 1),
        ("other options", false, |m| m.options[7] += 1),
        ("more options", false, |m| m.options.extend([1, 1, 1, 1])),
        ("ECE", false, |m| m.flags |= tcp::ECE),
        ("CWR", false, |m| m.flags |= tcp::CWR),
        ("SYN", false, |m| m.flags |= tcp::SYN),
        ("RST", false, |m| m.flags |= tcp::RST),
        ("a congestion mark", false, |m| m.tos |= 3),
        ("another hop limit", false, |m| m.ttl -= 1),
        ("another sender", false, |m| m.host += 1),
    ];
    for v4 in [false, true] {
        for (what, merges, change) in changes {
            let [first, mut second] = <[Model; 2]>::try_from(Model::tcp(v4, 2000).cut(1000)).unwrap();
            change(&mut second);
            let written = merge(&partial(&[first.clone(), second.clone()]), Offloads::ALL);
            assert_eq!(written.len(), if merges { 1 } else { 2 }, "{what}");
            assert_eq!(segments(&written), [first.build(), second.build()], "{what}");
        }
    }
    let [first, mut second] = <[Model; 2]>::try_from(Model::tcp(true, 2000).cut(1000)).unwrap();
    second.id = second.id.wrapping_add(1);
    assert_eq!(merge(&partial(&[first, second]), Offloads::ALL).len(), 2, "another identification");
}

#[test]
fn nothing_joins_after_the_last() {
    let pieces = Model::tcp(false, 4000).cut(1000);
    for end in [tcp::PSH, tcp::FIN] {
        let mut pieces = pieces.clone();
        pieces[1].flags |= end;
        assert_eq!(lengths(&merge(&partial(&pieces), Offloads::ALL), 72), [2000, 2000]);
        pieces[0].flags |= end;
        assert_eq!(lengths(&merge(&partial(&pieces), Offloads::ALL), 72), [1000, 1000, 2000]);
    }
    let mut pieces = Model::udp(false, 4000).cut(1000);
    pieces[1].payload.truncate(999);
    assert_eq!(lengths(&merge(&partial(&pieces), Offloads::ALL), 48), [1999, 2000]);
}

#[test]
fn a_whole_checksum_is_verified_before_merging() {
    for base in [Model::tcp(false, 3000), Model::udp(true, 3000)] {
        let mut packets = whole(&base.cut(1000));
        let broken = packets[1].0.len() - 1;
        packets[1].0[broken] ^= 1;
        let written = merge(&packets, Offloads::ALL);
        assert_eq!(
            written.iter().map(|w| w.1.clone()).collect::<Vec<_>>(),
            packets.iter().map(|p| p.0.clone()).collect::<Vec<_>>()
        );
        assert!(written.iter().all(|(header, _)| *header == VirtioNetHdr::default()), "left to the kernel");
    }
    // An IPv4 header with a wrong checksum stays alone too, and wrong.
    let mut packets = partial(&Model::tcp(true, 2000).cut(1000));
    packets[1].0[10] ^= 1;
    let written = merge(&packets, Offloads::ALL);
    assert_eq!(written.len(), 2);
    assert_eq!(written[1].1, packets[1].0);
}

#[test]
fn udp_without_a_checksum_stays_without() {
    let mut packets = whole(&Model::udp(true, 2000).cut(1000));
    for (packet, _) in &mut packets {
        packet[26..28].copy_from_slice(&[0, 0]);
    }
    let written = merge(&packets, Offloads::ALL);
    assert_eq!(
        written.iter().map(|w| w.1.clone()).collect::<Vec<_>>(),
        packets.iter().map(|p| p.0.clone()).collect::<Vec<_>>()
    );
}

#[test]
fn a_partial_checksum_is_honoured_only_where_its_place_is_certain() {
    let tcp = Model { options: vec![], ..Model::tcp(false, 100) }.build_partial();
    let udp = Model::udp(false, 100).build_partial();
    let mut short_udp = udp.clone();
    short_udp[45] -= 1;
    let bad = Err(DropReason::BadOffload);
    let table = [
        (tcp.clone(), Ok(())),
        (udp.clone(), Ok(())),
        (extended_v6(&tcp, 1), Ok(())),
        (extended_v6(&tcp, 8), Ok(())),
        (extended_v6(&tcp, 9), bad),
        (fragment_v6(&tcp, 0, true), bad),
        (fragment_v6(&tcp, 0, false), bad),
        (fragment_v6(&udp, 3, false), bad),
        (echo_v6(10), bad),
        (short_udp, bad),
        (tcp[..tcp.len() - 1].to_vec(), Err(DropReason::BadInner)),
        ([tcp, vec![0]].concat(), Err(DropReason::BadInner)),
        (vec![], Err(DropReason::BadInner)),
    ];
    let all = [Offloads::ALL, Offloads::NONE, Offloads::PLAIN];
    let cases = table.into_iter().enumerate().flat_map(|case| all.map(|offloads| (case.clone(), offloads)));
    for ((i, (packet, expected)), offloads) in cases {
        let mut coalescer = Coalescer::new();
        let mut count = 0;
        let mut emit = |_: InterfaceId, header: &VirtioNetHdr, packet: &[u8]| {
            never_lies(header, packet);
            count += 1;
        };
        assert_eq!(
            coalescer.push(&mut packet.clone(), true, Sink::node(offloads), &mut emit),
            expected,
            "case {i}"
        );
        coalescer.flush(&mut emit);
        assert_eq!(count, u32::from(expected.is_ok()), "case {i}");
    }
}

#[test]
fn a_lying_checksum_field_is_replaced_by_our_own() {
    let model = Model { flags: tcp::ACK | tcp::PSH, ..Model::tcp(false, 500) };
    let mut packet = model.build_partial();
    packet[56] ^= 0x77;
    let written = merge(&[(packet, true)], Offloads::ALL);
    assert_eq!(written[0].1, model.build_partial());
}

#[test]
fn what_cannot_merge_does_not_overtake_its_flow() {
    let data = Model::tcp(false, 2000).cut(1000);
    let ack = Model { payload: vec![], ack: 78, ..data[1].clone() };
    let written = merge(&partial(&[data[0].clone(), data[1].clone(), ack.clone()]), Offloads::ALL);
    assert_eq!(lengths(&written, 72), [2000, 0]);
    // A fragment whose ports nobody sees waits for everything between the same addresses.
    let fragment = fragment_v6(&Model::udp(false, 64).build(), 1, true);
    let echo = echo_v6(8);
    for other in [fragment, echo] {
        let packets = [(data[0].build_partial(), true), (other.clone(), false)];
        let written = merge(&packets, Offloads::ALL);
        assert_eq!(written[1].1, other);
    }
}

#[test]
fn flows_merge_side_by_side_and_more_than_fit_still_come_through() {
    for flows in [2u16, 4, 5, 9] {
        let mut packets = Vec::new();
        for i in 0..10 {
            for flow in 0..flows {
                let model = Model { ports: (flow, 80), ..Model::tcp(false, 10_000) };
                packets.push((model.cut(1000)[i].build_partial(), true));
            }
        }
        let written = merge(&packets, Offloads::ALL);
        assert_eq!(segments(&written).len(), packets.len());
        if usize::from(flows) <= FLOWS {
            assert_eq!(written.len(), usize::from(flows));
        }
    }
}

#[test]
fn what_the_tun_does_not_take_is_not_made() {
    let (tcp, udp) =
        (partial(&Model::tcp(false, 3000).cut(1000)), partial(&Model::udp(false, 3000).cut(1000)));
    for (offloads, counts) in [
        (Offloads::ALL, (1, 1)),
        (Offloads { udp: false, ..Offloads::ALL }, (1, 3)),
        (Offloads { tcp: false, ..Offloads::ALL }, (3, 1)),
        (Offloads::NONE, (3, 3)),
        (Offloads::PLAIN, (3, 3)),
    ] {
        assert_eq!((merge(&tcp, offloads).len(), merge(&udp, offloads).len()), counts, "{offloads:?}");
    }
}

#[test]
fn a_tun_without_virtio_headers_gets_finished_packets() {
    for model in [Model::tcp(false, 100), Model::tcp(true, 99), Model::udp(false, 1), Model::udp(true, 0)] {
        let finished = vec![(VirtioNetHdr::default(), model.build())];
        assert_eq!(merge(&[(model.build_partial(), true)], Offloads::PLAIN), finished);
        assert_eq!(merge(&[(model.build(), false)], Offloads::PLAIN), finished, "nothing to complete");
    }
}

/// A step in the life of a flow.
#[derive(Clone, Debug)]
struct Step {
    flow: u8,
    len: usize,
    change: u8,
    partial: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![4 => Just(1000usize), 1 => Just(0), 1 => 1..1200usize];
    let change = prop_oneof![6 => Just(0u8), 1 => any::<u8>()];
    (0..6u8, len, change, any::<bool>()).prop_map(|(flow, len, change, partial)| Step {
        flow,
        len,
        change,
        partial,
    })
}

/// The packets of interleaved flows, TCP and UDP, IPv4 and IPv6, with all that may go wrong.
fn packets(steps: &[Step]) -> Vec<(Vec<u8>, Vec<u8>, bool)> {
    let mut flows: BTreeMap<u8, Model> = BTreeMap::new();
    let mut all = Vec::new();
    for step in steps {
        let fresh = || {
            let v4 = step.flow & 1 != 0;
            let base = if step.flow >= 4 { Model::udp(v4, 0) } else { Model::tcp(v4, 0) };
            Model { ports: (step.flow.into(), 80), ..base }
        };
        let flow = flows.entry(step.flow).or_insert_with(fresh);
        flow.payload = (0..step.len).map(|i| (i as u8) ^ step.change).collect();
        let mut packet = flow.clone();
        match step.change % 16 {
            1 => packet.flags |= tcp::PSH,
            2 => packet.flags |= tcp::FIN,
            3 => packet.flags |= tcp::CWR,
            4 => packet.flags |= tcp::ECE,
            5 => flow.ack += 1,
            6 => flow.window += 1,
            7 => packet.tos |= 3,
            8 => packet.seq = packet.seq.wrapping_sub(1000),
            9 => flow.seq = flow.seq.wrapping_add(1000),
            10 => packet.id = 5,
            11 => packet.flags |= tcp::SYN,
            12 => packet.ttl = 9,
            _ => {}
        }
        if packet.udp {
            packet.flags = 0;
        }
        flow.seq = flow.seq.wrapping_add(step.len as u32);
        flow.id = flow.id.wrapping_add(1);
        let complete = packet.build();
        if step.change % 16 == 13 && !step.partial {
            let mut broken = complete;
            *broken.last_mut().unwrap() ^= 0x10;
            all.push((broken.clone(), broken, false));
        } else if step.partial {
            all.push((packet.build_partial(), complete, true));
        } else {
            all.push((complete.clone(), complete, false));
        }
    }
    all
}

/// The packets of each flow in their order. The last byte tells broken packets apart well enough.
fn by_flow<'a>(packets: impl Iterator<Item = &'a Vec<u8>>) -> BTreeMap<Vec<u8>, Vec<Vec<u8>>> {
    let mut flows: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
    for packet in packets {
        let l4 = if packet[0] >> 4 == 4 { 20 } else { 40 };
        flows.entry(packet[l4..l4 + 4].to_vec()).or_default().push(packet.clone());
    }
    flows
}

proptest! {
    #[test]
    fn split_after_merge_gives_every_flow_as_it_was(steps in proptest::collection::vec(step(), 0..120)) {
        let packets = packets(&steps);
        let input: Vec<_> = packets.iter().map(|(packet, _, partial)| (packet.clone(), *partial)).collect();
        let written = merge(&input, Offloads::ALL);
        let out = segments(&written);
        prop_assert_eq!(by_flow(out.iter()), by_flow(packets.iter().map(|(_, complete, _)| complete)));
    }

    #[test]
    fn merge_after_split_gives_the_super_packet(
        v4: bool, udp: bool, size in 100usize..3000, count in 2usize..=64, last in 1usize..100, psh: bool,
    ) {
        let len = (size * (count - 1) + last).min(64_000).max(size + 1);
        let base = if udp { Model::udp(v4, len) } else { Model::tcp(v4, len) };
        let flags = if udp { 0 } else { tcp::ACK | if psh { tcp::PSH } else { 0 } };
        let model = Model { flags, ..base };
        let mut packet = model.build_partial();
        let mut split = Split::new(&model.vnet(size as u16), &mut packet, 9000).unwrap();
        let mut packets = Vec::new();
        let mut out = vec![0; 9000];
        while let Some(segment) = split.write_into(&mut out, Checksum::Partial) {
            packets.push((out[..segment.len].to_vec(), segment.csum_partial));
        }
        let written = merge(&packets, Offloads::ALL);
        prop_assert_eq!(written.len(), 1);
        prop_assert_eq!(&written[0].1, &model.build_partial());
        prop_assert_eq!(written[0].0.gso_size, size as u16);
    }

    /// Finding 35: whatever a peer sends, the header handed to the kernel is true.
    #[test]
    fn no_wire_input_makes_the_virtio_header_lie(
        seeds in proptest::collection::vec((any::<u8>(), any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..40),
    ) {
        let mut coalescer = Coalescer::new();
        let mut emit = |_: InterfaceId, header: &VirtioNetHdr, packet: &[u8]| never_lies(header, packet);
        for (kind, at, value, partial) in seeds {
            let v4 = kind & 1 != 0;
            let mut packet = if kind & 2 != 0 { Model::udp(v4, 200) } else { Model::tcp(v4, 200) }.build_partial();
            if kind & 4 != 0 && !v4 {
                packet = extended_v6(&packet, usize::from(kind >> 4));
            }
            if kind & 8 != 0 {
                let at = at.index(packet.len());
                packet[at] = value;
            }
            let _ = coalescer.push(&mut packet, partial, Sink::node(Offloads::ALL), &mut emit);
        }
        coalescer.flush(&mut emit);
    }

    #[test]
    fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..120), partial: bool) {
        let mut coalescer = Coalescer::new();
        let mut emit = |_: InterfaceId, _: &VirtioNetHdr, _: &[u8]| {};
        let _ = coalescer.push(&mut bytes.clone(), partial, Sink::node(Offloads::ALL), &mut emit);
        coalescer.flush(&mut emit);
    }
}

#[test]
fn packets_for_two_devices_never_merge_though_all_their_headers_would() {
    let segments = Model::udp(false, 3_000).cut(1000);
    let mut coalescer = Coalescer::new();
    let mut written = Vec::new();
    let mut emit = |to: InterfaceId, header: &VirtioNetHdr, packet: &[u8]| {
        written.push((to.0, header.gso_type, packet.len()));
    };
    for segment in segments.iter().take(3) {
        for interface in [InterfaceId(1), InterfaceId(2)] {
            let sink = Sink { interface, offloads: Offloads::ALL };
            coalescer.push(&mut segment.build_partial(), true, sink, &mut emit).unwrap();
        }
    }
    coalescer.flush(&mut emit);
    written.sort_unstable();
    let [(1, kind, len), (2, other_kind, other_len)] = written[..] else { panic!("{written:?}") };
    assert_eq!((kind, len), (other_kind, other_len));
    assert!(kind != GSO_NONE && len > 2000, "each was merged by itself");
}
