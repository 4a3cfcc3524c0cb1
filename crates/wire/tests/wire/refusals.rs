//! What the formats do not have is malformed, by the rule that says so.

use sinew_wire::Malformed;
use sinew_wire::error::{ERR_LEN, ErrorCode, ErrorReport};
use sinew_wire::frag::FragHeader;
use sinew_wire::handshake::{Cookie, HS1_LEN, Hs1, Hs2, Hs2Payload};
use sinew_wire::probe::Probe;
use sinew_wire::record::{DATA_OVERHEAD, DataHeader, Prefix, SuperHeader};
use sinew_wire::request::{NAME_MAX, Request, TraceReply};
use sinew_wire::routed::{Layout, ROUTED_OVERHEAD, RoutedClear, RoutedHeader, Waypoints, body_type_allowed};
use sinew_wire::routing::{FRAME_MAX, FrameBuilder, RoutingFrame, RoutingMessage};
use sinew_wire::segment::{CHUNK_MAX, SegmentHeader};

use crate::addr;

#[test]
fn a_handshake_of_another_length_or_version_is_malformed() {
    let good = Hs1 { sender: 1, noise: [0; 160], mac1: [0; 16], mac2: [0; 16] }.emit();
    assert!(Hs1::parse(&good).is_ok());
    assert_eq!(Hs1::parse(&good[..HS1_LEN - 1]), Err(Malformed));
    assert_eq!(Hs1::parse(&[&good[..], &[0]].concat()), Err(Malformed));
    for (at, value) in [(0, 2), (1, 2), (2, 1), (3, 1)] {
        let mut bad = good;
        bad[at] = value;
        assert_eq!(Hs1::parse(&bad), Err(Malformed), "byte {at}");
    }
    assert_eq!(Hs2::parse(&good[..124]), Err(Malformed));
    assert_eq!(Cookie::parse(&good[..56]), Err(Malformed));
    assert_eq!(Hs2Payload::parse(&[2; 64]).map(|_| ()), Err(Malformed), "an unknown status");
}

#[test]
fn a_record_needs_room_for_prefix_and_tag_and_zero_reserved_bytes() {
    let mut record = [0; DATA_OVERHEAD];
    record[0] = 4;
    assert!(DataHeader::parse(&record).is_ok());
    assert_eq!(DataHeader::parse(&record[1..]), Err(Malformed));
    for at in 1..4 {
        let mut bad = record;
        bad[at] = 1;
        assert_eq!(DataHeader::parse(&bad), Err(Malformed));
    }
}

#[test]
fn a_prefix_has_seven_kinds_and_one_flag() {
    let parses = |first: u8| Prefix::parse(&[first, 0, 0, 0]).is_ok();
    let good: Vec<u8> = (0..=255).filter(|&first| parses(first)).collect();
    let expected: Vec<u8> = (0..7).chain(0x10..0x17).collect();
    assert_eq!(good, expected);
    assert_eq!(Prefix::parse(&[0, 0, 0]), Err(Malformed));
    assert_eq!(SuperHeader::parse(&[0, 1, 2, 0]), Err(Malformed));
}

#[test]
fn only_handshakes_data_and_errors_are_routed() {
    let allowed: Vec<u8> = (0..=255).filter(|&kind| body_type_allowed(kind)).collect();
    assert_eq!(allowed, [1, 2, 3, 4, 7]);
}

#[test]
fn a_routed_body_is_never_shorter_than_its_two_ends() {
    for waypoints in 0..=4u8 {
        let least = ROUTED_OVERHEAD + 8 * usize::from(waypoints) + 32;
        assert!(Layout::of(waypoints, least).is_ok());
        assert_eq!(Layout::of(waypoints, least - 1), Err(Malformed));
    }
    assert_eq!(Layout::of(5, 1500), Err(Malformed));
}

#[test]
fn a_routed_header_length_is_44_and_whole_waypoints() {
    let mut datagram = [0; 300];
    datagram[0] = 5;
    let parses = |len: u8| {
        let mut datagram = datagram;
        datagram[2] = len;
        RoutedClear::parse(&datagram).is_ok()
    };
    let good: Vec<u8> = (0..=255).filter(|&len| parses(len)).collect();
    assert_eq!(good, [44, 52, 60, 68, 76]);
}

#[test]
fn a_routed_header_holds_as_many_waypoints_as_it_says() {
    let mut opened = [0; 76];
    opened[..16].copy_from_slice(addr(1).as_bytes());
    opened[16..32].copy_from_slice(addr(2).as_bytes());
    for (count, len, ok) in [(0, 44, true), (4, 76, true), (0, 52, false), (2, 52, false), (5, 76, false)] {
        opened[42] = count;
        assert_eq!(RoutedHeader::parse(&opened[..len]).is_ok(), ok, "{count} in {len} bytes");
    }
    (opened[42], opened[39]) = (0, 0x20);
    assert_eq!(RoutedHeader::parse(&opened[..44]), Err(Malformed), "a reserved bit");
    (opened[39], opened[0]) = (0, 0xfe);
    assert_eq!(RoutedHeader::parse(&opened[..44]), Err(Malformed), "an address outside the mesh");
    assert_eq!(Waypoints::new(&[0; 5]), None);
}

#[test]
fn a_record_has_at_most_three_pieces_and_none_is_empty() {
    let mut record = [0; 33];
    record[0] = 6;
    for (piece, ok) in [(0, true), (0x82, true), (3, false), (0x83, false)] {
        record[1] = piece;
        assert_eq!(FragHeader::parse(&record).is_ok(), ok, "{piece:#x}");
    }
    record[1] = 0;
    assert_eq!(FragHeader::parse(&record[..32]), Err(Malformed));
}

#[test]
fn an_error_report_has_32_bytes_and_four_codes() {
    let report =
        ErrorReport { code: ErrorCode::NoRoute, mtu: 0, record: DataHeader { receiver: 1, nonce: 2 } };
    let good = report.emit();
    assert_eq!(good.len(), ERR_LEN);
    let codes: Vec<u8> = (0..=255)
        .filter(|&code| {
            let mut bytes = good;
            bytes[1] = code;
            ErrorReport::parse(&bytes).is_ok()
        })
        .collect();
    assert_eq!(codes, [1, 2, 3, 4]);
    let mut bad = good;
    bad[16] = 1;
    assert_eq!(ErrorReport::parse(&bad), Err(Malformed), "what a link does not seal stays empty");
}

#[test]
fn only_class_0_carries_an_adjacency_number() {
    let mut header = [0; 22];
    header[1] = 1;
    assert!(SegmentHeader::parse(&header).is_ok());
    for class in [1, 2, 3] {
        header[0] = class;
        assert_eq!(SegmentHeader::parse(&header), Err(Malformed), "class {class}");
    }
}

#[test]
fn a_segment_is_exactly_its_chunk_and_a_chunk_is_bounded() {
    let segment = |len: u16, actual: usize| {
        let mut bytes = vec![0; 22 + actual];
        bytes[20..22].copy_from_slice(&len.to_le_bytes());
        SegmentHeader::split(&bytes).map(|(_, chunk)| chunk.len())
    };
    assert_eq!(segment(5, 5), Ok(5));
    assert_eq!(segment(5, 6), Err(Malformed));
    assert_eq!(segment(CHUNK_MAX as u16, CHUNK_MAX), Ok(CHUNK_MAX));
    assert_eq!(segment(CHUNK_MAX as u16 + 1, CHUNK_MAX + 1), Err(Malformed));
}

#[test]
fn a_probe_may_be_padded_with_zeros_and_nothing_else() {
    let mut bytes = Vec::new();
    Probe::MtuProbe { id: 1, size: 1400 }.emit(&mut bytes);
    bytes.resize(1360, 0);
    assert_eq!(Probe::parse(&bytes), Ok(Probe::MtuProbe { id: 1, size: 1400 }));
    bytes[1000] = 1;
    assert_eq!(Probe::parse(&bytes), Err(Malformed));
}

fn reply(name: &str) -> Request {
    Request::TraceReply(Box::new(TraceReply {
        id: 1,
        node: [1; 32],
        name: name.into(),
        next_hop: None,
        next_rtt_us: 0,
        next_carrier: 0,
        next_mtu: 0,
        signature: [0; 64],
    }))
}

fn round_trip(request: &Request) -> Result<Request, Malformed> {
    let mut bytes = Vec::new();
    request.emit(&mut bytes);
    Request::parse(&bytes)
}

#[test]
fn a_name_is_short_printable_text() {
    assert_eq!(round_trip(&reply("réseau")), Ok(reply("réseau")));
    assert_eq!(round_trip(&reply("\u{1b}[2J")), Err(Malformed), "a terminal escape");
    let long = "é".repeat(NAME_MAX);
    assert_eq!(round_trip(&reply(&long)), Ok(reply(&long[..NAME_MAX])), "our own is cut, not refused");
}

#[test]
fn a_request_of_a_later_version_is_not_an_error() {
    assert_eq!(Request::parse(&[200, 1, 2]), Ok(Request::Other { tag: 200, body: vec![1, 2] }));
    assert_eq!(Request::parse(&[]), Err(Malformed));
    assert_eq!(Request::parse(&[1, 2, 3]), Err(Malformed), "trailing bytes of a known one");
}

fn messages(frame: &[u8]) -> Vec<Result<RoutingMessage, Malformed>> {
    RoutingFrame::parse(frame).collect()
}

#[test]
fn optional_routing_messages_are_passed_over_and_others_refused() {
    let retract = RoutingMessage::Retract { origin: addr(1) };
    let mut frame = vec![0x80, 2, 0, 7, 7];
    retract.emit(&mut frame);
    assert_eq!(messages(&frame), [Ok(retract)]);
    assert_eq!(messages(&[0x7f, 0, 0]), [Err(Malformed)]);
}

#[test]
fn nothing_follows_a_malformed_routing_message() {
    let mut frame = vec![4, 1, 0, 7];
    RoutingMessage::Retract { origin: addr(1) }.emit(&mut frame);
    assert_eq!(messages(&frame), [Err(Malformed)]);
    assert_eq!(messages(&[3]), [Err(Malformed)]);
    assert_eq!(messages(&[4, 16, 0, 1]), [Err(Malformed)], "a length past the end");
}

#[test]
fn a_metric_above_the_cap_has_no_spelling() {
    let mut update = vec![3, 40, 0];
    update.extend_from_slice(addr(1).as_bytes());
    update.extend_from_slice(&[0; 24]);
    for (metric, ok) in [(1023u16, true), (1024, false)] {
        update[25..27].copy_from_slice(&metric.to_le_bytes());
        assert_eq!(messages(&update)[0].is_ok(), ok, "{metric}");
    }
}

#[test]
fn an_origin_flag_that_could_not_be_passed_on_is_refused() {
    let mut record = vec![0; 32 + 6 + 2 + 16 + 2 + 1 + 64];
    let parses = |record: &[u8]| sinew_wire::routing::OriginRecord::parse(record).is_ok();
    assert!(parses(&record));
    record[38] = 4;
    assert!(!parses(&record));
    record[38] = 0;
    record[58] = 65;
    record.resize(record.len() + 65, 0);
    assert!(!parses(&record), "a locator above 64 bytes");
}

#[test]
fn a_frame_is_filled_to_its_limit_and_never_past_it() {
    let retract = RoutingMessage::Retract { origin: addr(1) };
    let mut out = vec![0xee; 10];
    let mut builder = FrameBuilder::new(&mut out);
    assert!(builder.is_empty());
    let mut pushed = 0;
    while builder.push(&retract) {
        pushed += 1;
    }
    assert_eq!(pushed, FRAME_MAX / 19);
    assert_eq!(out.len(), 10 + 19 * pushed);
    assert_eq!(messages(&out[10..]).len(), pushed);
}
