//! Over random values: what is emitted parses back to itself; over random bytes: nothing panics,
//! and what parses is emitted as the same bytes, so a value has one spelling.

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use sinew_types::{Class, MeshAddr, Metric, Seqno};
use sinew_wire::directory::RECORD_MAX;
use sinew_wire::error::{ErrorCode, ErrorReport};
use sinew_wire::frag::FragHeader;
use sinew_wire::handshake::{Cookie, Hs1, Hs1Payload, Hs2, Hs2Payload, Hs2Status};
use sinew_wire::icmp::{IcmpHeader, V4Error, V6Error, build_v4_error, build_v6_error};
use sinew_wire::ip::PacketInfo;
use sinew_wire::probe::Probe;
use sinew_wire::punch::{Candidate, CandidateKind, Guess, MAX_CANDIDATES, Mapping, Punch};
use sinew_wire::record::{DataHeader, Kind, Prefix, SuperHeader};
use sinew_wire::request::{RECORDS_MAX, Request, TraceReply};
use sinew_wire::routed::{RoutedClear, RoutedHeader, Watermark, Waypoints};
use sinew_wire::routing::{OriginRecord, RoutingFrame, RoutingMessage};
use sinew_wire::segment::{SegmentHeader, StreamClass};
use sinew_wire::tcp::{TcpHeader, clamp_mss};
use sinew_wire::udp::UdpHeader;
use sinew_wire::virtio::VirtioNetHdr;

fn bytes<const N: usize>() -> impl Strategy<Value = [u8; N]> {
    prop::collection::vec(any::<u8>(), N).prop_map(|v| v.try_into().expect("N bytes"))
}

fn addr() -> impl Strategy<Value = MeshAddr> {
    bytes::<16>().prop_map(|mut b| {
        (b[0], b[1]) = (0xfd, 0x3f);
        MeshAddr::from_bytes(b).expect("in fd3f::/16")
    })
}

fn seqno() -> impl Strategy<Value = Seqno> {
    any::<u64>().prop_map(Seqno::new)
}

fn class() -> impl Strategy<Value = Class> {
    prop::sample::select(vec![Class::Router, Class::Stub])
}

fn hs1_payload() -> impl Strategy<Value = Hs1Payload> {
    let words =
        (any::<[u64; 3]>(), any::<[bool; 3]>(), any::<[u16; 2]>(), any::<[u8; 3]>(), any::<[u32; 3]>());
    words.prop_map(|(q, b, h, o, w)| Hs1Payload {
        stamp: q[0],
        assoc_own: q[1],
        assoc_peer: q[2],
        sign_bit: b[0],
        stub: b[1],
        wants_adjacency: b[2],
        ciphers: h[0],
        ver_min: o[0],
        ver_max: o[1],
        max_lanes: o[2],
        rx_max: h[1],
        psk_id: w[0],
        features: w[1],
        generation: w[2],
    })
}

fn hs2_payload() -> impl Strategy<Value = Hs2Payload> {
    let v4 = (any::<[u8; 4]>(), 1u16..).prop_map(Into::into);
    let v6 = (any::<[u8; 16]>(), 1u16..).prop_map(Into::into);
    let observed = prop::option::of(prop_oneof![v4, v6]);
    let words = (any::<bool>(), any::<[u8; 3]>(), any::<[u16; 2]>(), any::<[u64; 3]>(), any::<[u32; 2]>());
    (words, observed).prop_map(|((stale, o, h, q, w), observed)| Hs2Payload {
        status: if stale { Hs2Status::Stale } else { Hs2Status::Ok },
        cipher: o[0],
        flags: h[0],
        ver: o[1],
        max_lanes: o[2],
        rx_max: h[1],
        assoc_own: q[0],
        assoc_peer: q[1],
        last_stamp: q[2],
        features: w[0],
        observed,
        generation: w[1],
    })
}

fn routed_header() -> impl Strategy<Value = RoutedHeader> {
    let waypoints = prop::collection::vec(any::<u64>(), 0..=4);
    let small = (0u8..4, any::<bool>(), 0u8..4, 0u8..16);
    (addr(), addr(), any::<(u32, u16, u8, u16, u8)>(), small, waypoints).prop_map(
        |(dst, src, (seqno, fd, hop_limit, flow, adj), (ecn, rescue, prio, mode), waypoints)| RoutedHeader {
            dst,
            src,
            watermark: Watermark { seqno, fd },
            hop_limit,
            ecn,
            rescue,
            prio,
            flow,
            mode,
            adj,
            waypoints: Waypoints::new(&waypoints).expect("at most four"),
        },
    )
}

fn trace_reply() -> impl Strategy<Value = Request> {
    let name = prop::collection::vec(prop::sample::select(vec!['a', 'ü', '-', '網']), 0..20);
    let numbers = any::<(u64, u32, u8, u16)>();
    (bytes(), bytes::<64>(), prop::option::of(bytes()), name, numbers).prop_map(
        |(node, signature, next_hop, name, (id, next_rtt_us, next_carrier, next_mtu))| {
            let name = name.into_iter().collect();
            let reply =
                TraceReply { id, node, name, next_hop, next_rtt_us, next_carrier, next_mtu, signature };
            Request::TraceReply(Box::new(reply))
        },
    )
}

fn socket_addr() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
        any::<u128>().prop_map(|bits| IpAddr::V6((bits | 1 << 127).into())),
    ];
    (ip, any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

fn punch() -> impl Strategy<Value = Box<Punch>> {
    let known = [Mapping::Unknown, Mapping::Open, Mapping::EndpointIndependent, Mapping::AddressDependent];
    let mapping = prop_oneof![prop::sample::select(known.to_vec()), (5u8..).prop_map(Mapping::Other)];
    let guess = (socket_addr(), prop_oneof![i8::MIN..=-1, 1..=i8::MAX]);
    let guess = guess.prop_map(|(addr, step)| Guess { ip: addr.ip(), port: addr.port(), step });
    let kinds = vec![CandidateKind::Local, CandidateKind::Reflexive, CandidateKind::Mapped];
    let kind = prop_oneof![prop::sample::select(kinds), (4u8..).prop_map(CandidateKind::Other)];
    let candidate = (kind, socket_addr()).prop_map(|(kind, addr)| Candidate { kind, addr });
    let candidates = prop::collection::vec(candidate, 0..=MAX_CANDIDATES);
    (any::<(u32, u32)>(), mapping, prop::option::of(guess), candidates).prop_map(
        |((round, rtt_us), mapping, guess, candidates)| {
            Box::new(Punch { round, rtt_us, mapping, guess, candidates })
        },
    )
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        any::<u8>().prop_map(|adj| Request::AdjOpen { adj }),
        any::<u8>().prop_map(|adj| Request::AdjAck { adj }),
        any::<u8>().prop_map(|adj| Request::AdjClose { adj }),
        (any::<u64>(), bytes(), addr()).prop_map(|(id, nonce, target)| Request::Trace { id, nonce, target }),
        trace_reply(),
        addr().prop_map(|addr| Request::WhoIs { addr }),
        bytes().prop_map(|node| Request::WhoIsReply { node }),
        socket_addr().prop_map(|addr| Request::Observed { addr }),
        punch().prop_map(Request::Punch),
        punch().prop_map(Request::PunchReply),
        any::<u32>().prop_map(|round| Request::PunchEnd { round }),
        (any::<u32>(), bytes(), socket_addr()).prop_map(|(id, node, addr)| Request::Witness {
            id,
            node,
            ip: addr.ip()
        }),
        any::<(u32, bool)>().prop_map(|(id, seen)| Request::WitnessReply { id, seen }),
        any::<(u32, u16)>().prop_map(|(round, ports)| Request::Scatter { round, ports }),
        any::<u8>().prop_map(|count| Request::RecordsAsk { count }),
        prop::collection::vec(prop::collection::vec(any::<u8>(), 1..=RECORD_MAX), 0..=RECORDS_MAX)
            .prop_map(Request::Records),
        (34u8.., prop::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(tag, body)| Request::Other { tag, body }),
    ]
}

fn origin_record() -> impl Strategy<Value = OriginRecord> {
    let locator = prop::collection::vec(any::<u8>(), 0..=64);
    let rest = (bytes(), bytes(), bytes::<64>(), any::<(bool, u8, u16)>());
    (seqno(), class(), locator, rest).prop_map(|(seqno, class, locator, rest)| {
        let (node, anchor, signature, (landmark, landmark_power, expiry_min)) = rest;
        OriginRecord { node, seqno, class, landmark, landmark_power, anchor, expiry_min, locator, signature }
    })
}

fn routing_message() -> impl Strategy<Value = RoutingMessage> {
    let metric = (0u16..=1023).prop_map(Metric::new);
    prop_oneof![
        (class(), any::<(u16, u16, u16)>()).prop_map(|(class, (floor, k, radius))| RoutingMessage::Hint {
            floor,
            class,
            k,
            radius
        }),
        origin_record().prop_map(RoutingMessage::Origin),
        (addr(), seqno(), metric, bytes()).prop_map(|(origin, seqno, metric, chain)| {
            RoutingMessage::Update { origin, seqno, metric, chain }
        }),
        addr().prop_map(|origin| RoutingMessage::Retract { origin }),
        (addr(), seqno()).prop_map(|(origin, seqno)| RoutingMessage::SeqnoRequest { origin, seqno }),
        addr().prop_map(|origin| RoutingMessage::RouteRequest { origin }),
        addr().prop_map(|origin| RoutingMessage::RecordRequest { origin }),
    ]
}

proptest! {
    #[test]
    fn handshake_payloads_round_trip(hs1 in hs1_payload(), hs2 in hs2_payload()) {
        prop_assert_eq!(Hs1Payload::parse(&hs1.emit()), Ok(hs1));
        prop_assert_eq!(Hs2Payload::parse(&hs2.emit()), Ok(hs2));
    }

    #[test]
    fn reserved_bytes_of_a_sealed_payload_are_ignored(hs1 in hs1_payload(), junk in bytes::<18>()) {
        let mut payload = hs1.emit();
        payload[46..].copy_from_slice(&junk);
        prop_assert_eq!(Hs1Payload::parse(&payload), Ok(hs1));
    }

    #[test]
    fn routed_headers_round_trip(header in routed_header()) {
        let mut out = vec![0; header.wire_len()];
        header.emit(&mut out);
        prop_assert_eq!(RoutedHeader::parse(&out), Ok(header));
    }

    #[test]
    fn requests_round_trip(request in request()) {
        let mut out = Vec::new();
        request.emit(&mut out);
        prop_assert_eq!(Request::parse(&out), Ok(request));
    }

    #[test]
    fn routing_frames_round_trip(messages in prop::collection::vec(routing_message(), 0..5)) {
        let mut frame = Vec::new();
        messages.iter().for_each(|message| message.emit(&mut frame));
        let parsed: Result<Vec<_>, _> = RoutingFrame::parse(&frame).collect();
        prop_assert_eq!(parsed, Ok(messages));
    }

    #[test]
    fn error_reports_round_trip(receiver: u32, nonce: u64, mtu: u16) {
        let report = ErrorReport { code: ErrorCode::TooBig, mtu, record: DataHeader { receiver, nonce } };
        prop_assert_eq!(ErrorReport::parse(&report.emit()), Ok(report));
    }

    #[test]
    fn small_headers_round_trip(
        (receiver, nonce, frag_id, last) in any::<(u32, u64, u16, bool)>(),
        (piece, waypoints, network) in (0u8..3, 0u8..=4, 0u32..1 << 24),
        csum_partial: bool,
    ) {
        let record = |header: &[u8]| [header, &[0; 200]].concat();
        let data = DataHeader { receiver, nonce };
        prop_assert_eq!(DataHeader::parse(&record(&data.emit())), Ok(data));
        let clear = RoutedClear { waypoints, receiver, nonce };
        prop_assert_eq!(RoutedClear::parse(&record(&clear.emit())), Ok(clear));
        let frag = FragHeader { piece, last, frag_id, receiver, nonce };
        prop_assert_eq!(FragHeader::parse(&record(&frag.emit())), Ok(frag));
        let prefix = Prefix { kind: Kind::Network, csum_partial, network };
        prop_assert_eq!(Prefix::parse(&prefix.emit()), Ok(prefix));
    }

    #[test]
    fn segments_round_trip((seq, ack, sack, credit) in any::<(u32, u32, u64, u16)>(), len in 0u16..1100) {
        let header = SegmentHeader { class: StreamClass::Documents, adj: 0, seq, ack, sack, credit, len };
        let segment = [&header.emit()[..], &vec![7; len.into()]].concat();
        prop_assert_eq!(SegmentHeader::split(&segment), Ok((header, &segment[22..])));
    }
}

/// What parses must be emitted as the bytes it came from.
fn one_spelling(bytes: &[u8]) -> Result<(), TestCaseError> {
    macro_rules! fixed {
        ($($name:ty),*) => { $(if let Ok(value) = <$name>::parse(bytes) {
            let out = value.emit();
            prop_assert_eq!(&out[..], &bytes[..out.len()], "{}", stringify!($name));
        })* };
    }
    fixed!(Hs1, Hs2, Cookie, DataHeader, Prefix, SuperHeader, RoutedClear, FragHeader, ErrorReport);
    fixed!(SegmentHeader, VirtioNetHdr);
    macro_rules! appended {
        ($($name:ty),*) => { $(if let Ok(value) = <$name>::parse(bytes) {
            let mut out = Vec::new();
            value.emit(&mut out);
            prop_assert_eq!(&out[..], &bytes[..out.len()], "{}", stringify!($name));
        })* };
    }
    appended!(Probe, Request, OriginRecord);
    if let Ok(header) = RoutedHeader::parse(bytes) {
        let mut out = vec![0; header.wire_len()];
        header.emit(&mut out);
        prop_assert_eq!(&out[..], bytes);
    }
    Ok(())
}

/// Everything else that reads foreign bytes; only a panic fails.
fn survives(bytes: &mut [u8]) {
    let _ = (Hs1Payload::parse(bytes), Hs2Payload::parse(bytes));
    let _ = RoutingFrame::parse(bytes).count();
    let _ = (TcpHeader::parse(bytes), UdpHeader::parse(bytes), IcmpHeader::parse(bytes));
    let _ = (PacketInfo::parse_quote(bytes), clamp_mss(&mut bytes.to_vec(), 1000, false));
    let _ =
        build_v6_error(bytes, "fd3f::1".parse().expect("an address"), V6Error::PacketTooBig { mtu: 1280 });
    let _ = build_v4_error(bytes, "10.0.0.1".parse().expect("an address"), V4Error::FragNeeded { mtu: 576 });
    if let Ok(info) = PacketInfo::parse(bytes) {
        assert!(info.payload <= info.total_len && info.l4 <= Some(info.payload));
        assert_eq!(info.total_len, bytes.len());
        let _ = (info.checksum_ok(bytes), info.complete_checksum(bytes));
    }
    let _ = sinew_wire::ip::set_ecn(bytes, 3);
    let _ = sinew_wire::ip::fill_v4_checksum(bytes);
}

/// A first byte that some parser likes, often enough, and a plausible length.
fn foreign_bytes() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![0u8..8, prop::sample::select(vec![0x45u8, 0x46, 0x60]), any::<u8>()];
    let len = prop_oneof![0usize..300, prop::sample::select(vec![4usize, 22, 44, 56, 64, 72, 124, 200])];
    // Mostly zeros, so that reserved bytes pass now and then.
    let byte = prop_oneof![3 => Just(0u8), 1 => any::<u8>()];
    (first, len.prop_flat_map(move |len| prop::collection::vec(byte.clone(), len))).prop_map(
        |(first, mut bytes)| {
            if let Some(byte) = bytes.first_mut() {
                *byte = first;
            }
            bytes
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn random_bytes_never_panic_and_have_one_spelling(mut bytes in foreign_bytes()) {
        one_spelling(&bytes)?;
        survives(&mut bytes);
    }

    #[test]
    fn random_packets_never_panic(mut packet in foreign_bytes(), v6: bool, next: u8) {
        let len = (packet.len() as u16).to_be_bytes();
        if v6 && packet.len() >= 40 {
            let payload = (packet.len() as u16 - 40).to_be_bytes();
            (packet[0], packet[4], packet[5], packet[6]) = (0x60, payload[0], payload[1], next % 61);
        } else if packet.len() >= 20 {
            (packet[0], packet[2], packet[3], packet[9]) = (0x45, len[0], len[1], next % 61);
        }
        survives(&mut packet);
    }
}
