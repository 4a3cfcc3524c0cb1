//! Verdicts, rule by rule, and walks through networks of tables.

use sinew_types::{Metric, Seqno};
use sinew_wire::routed::{HOP_LIMIT, Waypoints};

use super::*;
use crate::fib::FibEntry;

fn addr(last: u8) -> MeshAddr {
    let mut bytes = [0; 16];
    (bytes[0], bytes[1], bytes[15]) = (0xfd, 0x3f, last);
    MeshAddr::from_bytes(bytes).unwrap()
}

fn rank(seqno: u64, metric: u16) -> Rank {
    Rank { seqno: Seqno::new(seqno), metric: Metric::new(metric) }
}

fn header(dst: u8, watermark: Watermark, hop_limit: u8) -> RoutedHeader {
    RoutedHeader {
        dst: addr(dst),
        src: addr(99),
        watermark,
        hop_limit,
        ecn: 1,
        rescue: false,
        prio: 2,
        flow: 7,
        mode: 0,
        adj: 3,
        waypoints: Waypoints::NONE,
    }
}

fn fib(local: u8, routes: &[(u8, u8, Rank)]) -> Fib {
    let mut fib = Fib::new(addr(local), 1);
    for &(dst, next_hop, fd) in routes {
        let direct = dst == next_hop;
        fib.set(addr(dst), FibEntry { next_hop: addr(next_hop), fd, direct, mtu: 1360 });
    }
    fib
}

const fn wm(seqno: u32, fd: u16) -> Watermark {
    Watermark { seqno, fd }
}

#[test]
fn each_rule_has_its_verdict() {
    let fib = fib(1, &[(2, 3, rank(100, 10))]);
    let forward = Verdict::Forward { next_hop: addr(3), watermark: wm(100, 10) };
    let watermark = Verdict::Refuse(DropReason::Watermark, Some(ErrorCode::Watermark));
    let no_route = Verdict::Refuse(DropReason::NoRoute, Some(ErrorCode::NoRoute));
    let hop_limit = Verdict::Refuse(DropReason::HopLimit, Some(ErrorCode::HopLimit));
    let stub = Verdict::Refuse(DropReason::NotATransit, Some(ErrorCode::NoRoute));
    let table = [
        (Class::Router, header(2, wm(100, 11), HOP_LIMIT), forward),
        (Class::Router, header(2, wm(99, 1), HOP_LIMIT), forward),
        (Class::Router, header(2, Watermark::WORST, HOP_LIMIT), forward),
        (Class::Router, header(2, wm(100, 10), HOP_LIMIT), watermark),
        (Class::Router, header(2, wm(100, 9), HOP_LIMIT), watermark),
        (Class::Router, header(2, wm(101, 1000), HOP_LIMIT), watermark),
        (Class::Router, header(2, wm(100, 11), 2), forward),
        (Class::Router, header(2, wm(100, 11), 1), hop_limit),
        (Class::Router, header(2, wm(100, 11), 0), hop_limit),
        (Class::Router, header(4, wm(100, 11), HOP_LIMIT), no_route),
        (Class::Stub, header(2, wm(100, 11), HOP_LIMIT), stub),
        // What is for us needs neither watermark nor hops.
        (Class::Router, header(1, wm(100, 0), 0), Verdict::Local),
        (Class::Stub, header(1, wm(100, 0), 0), Verdict::Local),
    ];
    for (i, (class, header, expected)) in table.into_iter().enumerate() {
        assert_eq!(transit(&fib, class, &header), expected, "case {i}");
    }
    let later = RoutedHeader { mode: 1, ..header(2, wm(100, 11), HOP_LIMIT) };
    assert_eq!(transit(&fib, Class::Router, &later), Verdict::Refuse(DropReason::Unsupported, None));
}

#[test]
fn sequence_numbers_compare_across_the_wrap_of_their_low_half() {
    let high = (7u64 << 32) | 0xffff_ff00;
    let table = [
        (high + 0x200, wm(0xffff_ff00, 1), true),
        (high, wm(0x0000_0100, 1), false),
        (high, wm(0xffff_ff00, 5), true),
        (high, wm(0xffff_ff00, 4), false),
    ];
    for (own, watermark, expected) in table {
        assert_eq!(beats(rank(own, 4), watermark), expected, "{own:x} {watermark:?}");
    }
    assert!(beats(rank(3 << 31, 1022), Watermark::WORST), "the worst is no sequence number");
}

#[test]
fn the_next_header_has_one_hop_less_and_nothing_else_of_the_sender_s() {
    let before = header(2, wm(100, 11), 9);
    let after = forwarded(&before, wm(100, 10), 42);
    assert_eq!(after, RoutedHeader { hop_limit: 8, watermark: wm(100, 10), adj: 42, ..before });
}

#[test]
fn stale_tables_that_form_a_loop_drop_the_packet_instead() {
    // 1 and 2 each believe the other is the way to 9.
    let tables = [fib(1, &[(9, 2, rank(5, 10))]), fib(2, &[(9, 1, rank(5, 8))])];
    let (mut at, mut packet, mut hops) = (0, header(9, Watermark::WORST, HOP_LIMIT), 0);
    loop {
        match transit(&tables[at], Class::Router, &packet) {
            Verdict::Forward { watermark, .. } => packet = forwarded(&packet, watermark, 0),
            verdict => {
                assert_eq!(verdict, Verdict::Refuse(DropReason::Watermark, Some(ErrorCode::Watermark)));
                break;
            }
        }
        (at, hops) = (1 - at, hops + 1);
    }
    assert_eq!(hops, 2);
}

#[test]
fn a_loop_through_a_liar_ends_by_the_hop_limit() {
    let tables = [fib(1, &[(9, 2, rank(5, 10))]), fib(2, &[(9, 1, rank(5, 8))])];
    let (mut at, mut packet, mut hops) = (0, header(9, Watermark::WORST, HOP_LIMIT), 0u32);
    while let Verdict::Forward { .. } = transit(&tables[at], Class::Router, &packet) {
        // The liar resets the watermark.
        packet = forwarded(&packet, Watermark::WORST, 0);
        (at, hops) = (1 - at, hops + 1);
        assert!(hops < 100);
    }
    assert_eq!(hops, u32::from(HOP_LIMIT) - 1);
}

#[test]
fn a_table_has_no_entry_for_its_own_node_and_lists_in_order() {
    let mut fib = fib(1, &[(7, 7, rank(1, 1)), (3, 7, rank(1, 2)), (1, 7, rank(1, 3))]);
    assert_eq!(fib.sorted().iter().map(|(addr, _)| *addr).collect::<Vec<_>>(), [addr(3), addr(7)]);
    assert_eq!((fib.len(), fib.is_empty(), fib.get(&addr(1))), (2, false, None));
    fib.set_mtu(&addr(3), 1300);
    assert_eq!(fib.remove(&addr(3)).unwrap().mtu, 1300);
    assert_eq!(fib.get(&addr(3)), None);
}
