//! TCP, UDP, ICMP and virtio headers by themselves.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sinew_fuzz::same_front;
use sinew_wire::icmp::IcmpHeader;
use sinew_wire::tcp::{TcpHeader, clamp_mss};
use sinew_wire::udp::UdpHeader;
use sinew_wire::virtio::VirtioNetHdr;

fuzz_target!(|bytes: &[u8]| {
    let _ = (UdpHeader::parse(bytes), IcmpHeader::parse(bytes));
    if let Ok(tcp) = TcpHeader::parse(bytes) {
        assert_eq!(tcp.options(bytes).len() + 20, tcp.header_len);
    }
    let mut l4 = bytes.to_vec();
    if let Ok(true) = clamp_mss(&mut l4, 1000, false) {
        assert_eq!(clamp_mss(&mut l4, 1000, false), Ok(false));
    }
    if let Ok(header) = VirtioNetHdr::parse(bytes) {
        same_front(bytes, &header.emit());
    }
});
