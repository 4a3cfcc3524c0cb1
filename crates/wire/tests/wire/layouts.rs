//! Exact bytes of every format, so that a layout cannot change by accident (protocol A2, A4, A5).

use sinew_types::{Class, Metric, Seqno};
use sinew_wire::error::{ErrorCode, ErrorReport};
use sinew_wire::frag::FragHeader;
use sinew_wire::handshake::{Cookie, Hs1, Hs1Payload, Hs2, Hs2Payload, Hs2Status};
use sinew_wire::probe::Probe;
use sinew_wire::record::{DataHeader, GsoKind, Kind, Prefix, SuperHeader, counter_of, lane_of, nonce_of};
use sinew_wire::request::{Request, TraceReply};
use sinew_wire::routed::{Layout, RoutedClear, RoutedHeader, Watermark, Waypoints, aad};
use sinew_wire::routing::{OriginRecord, RoutingMessage};
use sinew_wire::segment::{SegmentHeader, StreamClass};
use sinew_wire::virtio::VirtioNetHdr;

use crate::addr;

/// Hex of `bytes`, runs of one byte written as `xx*n` from four on.
fn shape(bytes: &[u8]) -> String {
    let runs = bytes.chunk_by(|a, b| a == b).map(|run| match run.len() {
        len @ ..4 => format!("{:02x}", run[0]).repeat(len),
        len => format!(" {:02x}*{len} ", run[0]),
    });
    runs.collect::<String>().trim().to_owned()
}

fn appended(emit: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    emit(&mut out);
    shape(&out)
}

#[test]
fn handshake_messages_have_the_layout_of_a2() {
    let hs1 = Hs1 { sender: 0x0403_0201, noise: [0xaa; 160], mac1: [0xbb; 16], mac2: [0xcc; 16] };
    let bytes = hs1.emit();
    assert_eq!(shape(&bytes), "0101000001020304 aa*160  bb*16  cc*16");
    assert_eq!(Hs1::mac1_input(&bytes), &bytes[..168]);
    assert_eq!(Hs1::mac2_input(&bytes), &bytes[..184]);
    let hs2 = Hs2 { sender: 1, receiver: 2, noise: [0xaa; 112] };
    assert_eq!(shape(&hs2.emit()), "020100000100000002000000 aa*112");
    let cookie = Cookie { receiver: 3, salt: [0xaa; 16], sealed: [0xbb; 32] };
    assert_eq!(shape(&cookie.emit()), "0300000003000000 aa*16  bb*32");
}

#[test]
fn handshake_payloads_have_the_layout_of_a2() {
    let hs1 = Hs1Payload {
        stamp: 1,
        assoc_own: 2,
        assoc_peer: 3,
        sign_bit: true,
        stub: false,
        wants_adjacency: true,
        ciphers: 3,
        ver_min: 1,
        ver_max: 2,
        max_lanes: 16,
        rx_max: 0x0580,
        psk_id: 0x11,
        features: 0x22,
        generation: 0x33,
    };
    let numbers = "01 00*7 02 00*7 03 00*7 05000300010210008005110000002200000033 00*21";
    assert_eq!(shape(&hs1.emit()), numbers);
    let hs2 = Hs2Payload {
        status: Hs2Status::Stale,
        cipher: 2,
        flags: 6,
        ver: 1,
        max_lanes: 16,
        rx_max: 0x0580,
        assoc_own: 1,
        assoc_peer: 2,
        last_stamp: 3,
        features: 0x22,
        observed: Some("10.1.2.3:258".parse().expect("an address")),
        generation: 0x33,
    };
    let head = "0102060001108005";
    let middle = "01 00*7 02 00*7 03 00*7 22 00*13 ffff0a010203020133 00*9";
    assert_eq!(shape(&hs2.emit()), format!("{head}{middle}"));
}

#[test]
fn records_have_the_layout_of_a4() {
    let data = DataHeader { receiver: 0x0403_0201, nonce: nonce_of(7, 0x0807_0605) };
    assert_eq!(shape(&data.emit()), "0400000001020304050607080000 0007".replace(' ', ""));
    let prefix = Prefix { kind: Kind::Mesh, csum_partial: true, network: 0x03_0201 };
    assert_eq!(shape(&prefix.emit()), "14010203");
    assert_eq!(shape(&SuperHeader { gso_size: 0x0102, kind: GsoKind::TcpV6 }.emit()), "02010400");
    let frag = FragHeader { piece: 2, last: true, frag_id: 0x0201, receiver: 3, nonce: 4 };
    assert_eq!(shape(&frag.emit()), "068201020300000004 00*7");
    let report =
        ErrorReport { code: ErrorCode::TooBig, mtu: 1300, record: DataHeader { receiver: 3, nonce: 4 } };
    assert_eq!(shape(&report.emit()), "070314050300000004 00*23");
    let virtio =
        VirtioNetHdr { flags: 1, gso_type: 4, hdr_len: 2, gso_size: 3, csum_start: 40, csum_offset: 16 };
    assert_eq!(shape(&virtio.emit()), "01040200030028001000");
}

#[test]
fn a_nonce_is_a_lane_and_a_counter_of_56_bits() {
    for (lane, counter) in [(0, 0), (15, 1), (255, (1 << 56) - 1)] {
        let nonce = nonce_of(lane, counter);
        assert_eq!((lane_of(nonce), counter_of(nonce)), (lane, counter));
    }
    assert_eq!(lane_of(nonce_of(3, u64::MAX)), 3, "a counter never spills into the lane");
}

#[test]
fn routed_records_have_the_layout_of_a4() {
    let clear = RoutedClear { waypoints: 2, receiver: 1, nonce: 2 };
    assert_eq!(shape(&clear.emit()), "05003c000100000002 00*7");
    let header = RoutedHeader {
        dst: addr(1),
        src: addr(2),
        watermark: Watermark { seqno: 0x0403_0201, fd: 0x0605 },
        hop_limit: 64,
        ecn: 2,
        rescue: true,
        prio: 1,
        flow: 0x0807,
        mode: 3,
        adj: 9,
        waypoints: Waypoints::new(&[0x1817_1615_1413_1211]).expect("one waypoint"),
    };
    let mut out = [0; 52];
    header.emit(&mut out);
    let (addrs, rest) = ("fd3f 00*13 01fd3f 00*13 02", "010203040506400e0708310911121314151617 18");
    assert_eq!(shape(&out), format!("{addrs}{}", rest.replace(' ', "")));
    assert_eq!(header.wire_len(), 52);
}

#[test]
fn a_routed_datagram_is_clear_header_body_head_tag_body() {
    let layout = Layout::of(1, 200).expect("fits");
    assert_eq!((layout.header.clone(), layout.body_head.clone()), (16..68, 68..84));
    assert_eq!((layout.tag.clone(), layout.body_rest.clone()), (84..100, 100..200));
    assert_eq!((layout.sealed(), layout.body_len()), (16..84, 116));
    let datagram: Vec<u8> = (0..200).collect();
    let expected = [&datagram[..16], &[116, 0], &datagram[184..]].concat();
    assert_eq!(aad(&datagram, &layout).map(Vec::from), Ok(expected));
}

#[test]
fn control_messages_have_the_layout_of_a5() {
    let segment =
        SegmentHeader { class: StreamClass::Routing, adj: 1, seq: 2, ack: 3, sack: 4, credit: 5, len: 6 };
    assert_eq!(shape(&segment.emit()), "0001020000000300000004 00*7 05000600");
    assert_eq!(appended(|out| Probe::Challenge { token: [7; 8] }.emit(out)), "01 07*8");
    assert_eq!(appended(|out| Probe::Ping { id: 1, sent_us: 2 }.emit(out)), "030100000002 00*7");
    assert_eq!(appended(|out| Probe::MtuProbe { id: 1, size: 1400 }.emit(out)), "05010000007805");
    assert_eq!(appended(|out| Request::AdjOpen { adj: 3 }.emit(out)), "0103");
    let trace = Request::Trace { id: 1, nonce: [5; 16], target: addr(2) };
    assert_eq!(appended(|out| trace.emit(out)), "0401 00*7  05*16 fd3f 00*13 02");
}

#[test]
fn a_trace_reply_signs_the_nonce_and_all_it_says() {
    let reply = TraceReply {
        id: 1,
        node: [0xaa; 32],
        name: "relay".into(),
        next_hop: Some([0xbb; 32]),
        next_rtt_us: 2,
        next_carrier: 3,
        next_mtu: 4,
        signature: [0xcc; 64],
    };
    let mut message = Vec::new();
    Request::TraceReply(Box::new(reply.clone())).emit(&mut message);
    let signed = reply.signed_bytes(&[9; 16]);
    assert_eq!(signed[..16], [9; 16]);
    assert_eq!(signed[16..], message[1..message.len() - 64]);
    assert_eq!(message[message.len() - 64..], [0xcc; 64]);
}

#[test]
fn routing_messages_are_type_length_body() {
    let hint = RoutingMessage::Hint { floor: 1, class: Class::Stub, k: 4096, radius: 1023 };
    assert_eq!(appended(|out| hint.emit(out)), "0107000100010010ff03");
    let (origin, seqno) = (addr(1), Seqno::new(0x0605_0403_0201));
    let update = RoutingMessage::Update { origin, seqno, metric: Metric::new(258), chain: [9; 16] };
    assert_eq!(appended(|out| update.emit(out)), "032800fd3f 00*13 010102030405060201 09*16");
    assert_eq!(appended(|out| RoutingMessage::Retract { origin }.emit(out)), "041000fd3f 00*13 01");
    let request = RoutingMessage::SeqnoRequest { origin, seqno };
    assert_eq!(appended(|out| request.emit(out)), "051600fd3f 00*13 01010203040506");
}

#[test]
fn an_origin_record_signs_what_stands_before_the_signature() {
    let record = OriginRecord {
        node: [0xaa; 32],
        seqno: Seqno::new(1),
        class: Class::Stub,
        landmark: true,
        landmark_power: 24,
        anchor: [0xbb; 16],
        expiry_min: 60,
        locator: vec![],
        signature: [0xcc; 64],
    };
    let mut bytes = Vec::new();
    record.emit(&mut bytes);
    assert_eq!(shape(&bytes), "aa*32 01 00*5 0318 bb*16 3c0000 cc*64");
    assert_eq!(record.signed_bytes(), bytes[..bytes.len() - 64]);
}
