//! Packets for a TUN without virtio headers.

use super::testing::Model;
use super::*;

#[test]
fn a_plain_tun_gets_complete_checksums() {
    for model in [Model::tcp(false, 100), Model::tcp(true, 99), Model::udp(false, 1), Model::udp(true, 0)] {
        let mut packet = model.build_partial();
        assert_eq!(complete_plain(&mut packet, true), Ok(()));
        assert_eq!(packet, model.build());
        assert_eq!(complete_plain(&mut packet, false), Ok(()));
        assert_eq!(packet, model.build(), "nothing to complete");
    }
    assert_eq!(complete_plain(&mut [0x60; 10], false), Err(DropReason::BadInner));
}
