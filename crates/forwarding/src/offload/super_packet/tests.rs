//! The rules of kind 6, one by one, and the way there and back.

use sinew_wire::virtio::{GSO_NONE, NEEDS_CSUM};

use super::*;
use crate::offload::testing::{Model, fragment_v6};

#[test]
fn what_is_offered_is_accepted_with_a_true_header() {
    for v4 in [false, true] {
        for (model, size) in [(Model::tcp(v4, 60_000), 1300), (Model::udp(v4, 60_000), 1200)] {
            let mut packet = model.build_partial();
            let head = offer(&model.vnet(size), &packet, 1416).unwrap();
            let at = model.l4() + if model.udp { 6 } else { 16 };
            packet[at] ^= 0x33;
            let header = accept(head, &mut packet, 1416).unwrap();
            assert_eq!(packet, model.build_partial(), "the checksum field is our own");
            assert_eq!(header, VirtioNetHdr { hdr_len: model.headers() as u16, ..model.vnet(size) });
            assert_eq!(header.flags, NEEDS_CSUM);
        }
    }
    let model = Model { flags: tcp::ACK | tcp::CWR, ..Model::tcp(false, 5000) };
    let head = SuperHeader { gso_size: 1300, kind: GsoKind::TcpV6 };
    assert_eq!(accept(head, &mut model.build_partial(), 1416).unwrap().gso_type, GSO_TCPV6 | GSO_ECN);
}

#[test]
fn what_breaks_one_rule_is_neither_offered_nor_accepted() {
    let tcp6 = Model::tcp(false, 5000);
    let with = |change: &dyn Fn(&mut Model)| {
        let mut model = tcp6.clone();
        change(&mut model);
        model.build_partial()
    };
    let plain = tcp6.build_partial();
    let mut udp_length = Model::udp(false, 5000).build_partial();
    udp_length[45] ^= 1;
    let table = [
        ("good", GsoKind::TcpV6, 1300, plain.clone(), Ok(())),
        ("least size", GsoKind::TcpV6, 256, plain.clone(), Ok(())),
        ("too small", GsoKind::TcpV6, 255, plain.clone(), Err(DropReason::BadOffload)),
        ("zero", GsoKind::TcpV6, 0, plain.clone(), Err(DropReason::BadOffload)),
        ("the path's MSS", GsoKind::TcpV6, 1344, plain.clone(), Ok(())),
        ("above the path's MSS", GsoKind::TcpV6, 1345, plain.clone(), Err(DropReason::BadOffload)),
        ("wrong version", GsoKind::TcpV4, 1300, plain.clone(), Err(DropReason::BadOffload)),
        ("wrong protocol", GsoKind::UdpL4, 1300, plain.clone(), Err(DropReason::BadOffload)),
        ("64 segments", GsoKind::TcpV6, 256, with(&|m| m.payload = vec![0; 64 * 256]), Ok(())),
        (
            "65 segments",
            GsoKind::TcpV6,
            256,
            with(&|m| m.payload = vec![0; 64 * 256 + 1]),
            Err(DropReason::BadOffload),
        ),
        (
            "one segment",
            GsoKind::TcpV6,
            1300,
            with(&|m| m.payload = vec![0; 1300]),
            Err(DropReason::BadOffload),
        ),
        ("no payload", GsoKind::TcpV6, 1300, with(&|m| m.payload.clear()), Err(DropReason::BadOffload)),
        ("SYN", GsoKind::TcpV6, 1300, with(&|m| m.flags |= tcp::SYN), Err(DropReason::BadOffload)),
        ("RST", GsoKind::TcpV6, 1300, with(&|m| m.flags |= tcp::RST), Err(DropReason::BadOffload)),
        ("fragment", GsoKind::TcpV6, 1300, fragment_v6(&plain, 0, true), Err(DropReason::BadOffload)),
        ("UDP length", GsoKind::UdpL4, 1200, udp_length, Err(DropReason::BadInner)),
        ("cut short", GsoKind::TcpV6, 1300, plain[..3000].to_vec(), Err(DropReason::BadInner)),
        ("stretched", GsoKind::TcpV6, 1300, [plain.clone(), vec![0]].concat(), Err(DropReason::BadInner)),
        ("noise", GsoKind::TcpV6, 1300, vec![0; 2000], Err(DropReason::BadInner)),
    ];
    for (name, kind, gso_size, packet, expected) in table {
        let head = SuperHeader { gso_size, kind };
        assert_eq!(accept(head, &mut packet.clone(), 1416).map(drop), expected, "{name}");
        let vnet = VirtioNetHdr { gso_type: kind as u8, gso_size, ..tcp6.vnet(1300) };
        assert_eq!(offer(&vnet, &packet, 1416).is_some(), expected.is_ok(), "{name}, offered");
    }
    let single = VirtioNetHdr { gso_type: GSO_NONE, ..tcp6.vnet(1300) };
    assert_eq!(offer(&single, &plain, 1416), None);
}
