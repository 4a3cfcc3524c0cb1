//! Inner packets: the parse, its offsets, and everything that writes into a packet.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sinew_wire::icmp::{V4Error, V6Error, build_v4_error, build_v6_error};
use sinew_wire::ip::{self, PacketInfo};
use sinew_wire::tcp::clamp_mss;

fuzz_target!(|bytes: &[u8]| {
    let _ = PacketInfo::parse_quote(bytes);
    let answers = [
        build_v6_error(bytes, [0xfd3f, 0, 0, 0, 0, 0, 0, 1].into(), V6Error::PacketTooBig { mtu: 1280 }),
        build_v4_error(bytes, [10, 0, 0, 1].into(), V4Error::FragNeeded { mtu: 576 }),
    ];
    for answer in answers.iter().flatten() {
        PacketInfo::parse(answer).expect("our own packet");
    }
    let mut packet = bytes.to_vec();
    if let Ok(info) = PacketInfo::parse(bytes) {
        assert_eq!(info.total_len, bytes.len());
        assert!(info.payload <= info.total_len && info.l4 <= Some(info.payload));
        let _ = (info.checksum_ok(bytes), info.complete_checksum(&mut packet));
        if let Some(l4) = info.l4 {
            let _ = clamp_mss(&mut packet[l4..], 1000, false);
        }
    }
    let _ = (ip::set_ecn(&mut packet, ip::CE), ip::fill_v4_checksum(&mut packet));
});
