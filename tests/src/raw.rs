//! Raw packets: what a program with root and raw sockets can put onto its interface, true or not.
//!
//! [`Packet`] builds IP packets field by field, without the code under test; [`Injector`] writes them onto
//! an interface from inside a network namespace, below routing, addresses and the kernel's own checks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recvfrom, sendto, socket,
};

use crate::wait;

/// ICMP.
pub const ICMP: u8 = 1;
/// IPv4 within IP.
pub const IPIP: u8 = 4;
/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
/// IPv6 within IP.
pub const IPV6: u8 = 41;
/// IPv6 routing header.
pub const ROUTING: u8 = 43;
/// IPv6 fragment header.
pub const FRAGMENT: u8 = 44;
/// GRE.
pub const GRE: u8 = 47;
/// ICMPv6.
pub const ICMPV6: u8 = 58;
/// IPv6 destination options.
pub const DESTINATION: u8 = 60;
/// IPv6 hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;

/// TCP: SYN.
pub const SYN: u8 = 2;
/// TCP: FIN.
pub const FIN: u8 = 1;
/// TCP: ACK.
pub const ACK: u8 = 16;

/// An IP packet: addresses, protocol, what is behind the header, and what is odd about it.
#[derive(Clone, Debug)]
pub struct Packet {
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    body: Vec<u8>,
    options: Vec<u8>,
    /// Identification, offset in bytes, whether more follow.
    fragment: Option<(u16, u16, bool)>,
    hop_limit: u8,
}

impl Packet {
    /// A packet of any protocol; both addresses of one family.
    pub fn new(src: IpAddr, dst: IpAddr, protocol: u8, body: &[u8]) -> Self {
        let (options, fragment) = (Vec::new(), None);
        Self { src, dst, protocol, body: body.to_vec(), options, fragment, hop_limit: 64 }
    }

    /// UDP.
    pub fn udp(src: IpAddr, dst: IpAddr, ports: (u16, u16), load: &[u8]) -> Self {
        let mut body = ports_of(ports);
        body.extend(u16::try_from(8 + load.len()).unwrap_or(u16::MAX).to_be_bytes());
        body.extend([0, 0]);
        body.extend(load);
        checksum(src, dst, UDP, &mut body, 6);
        Self::new(src, dst, UDP, &body)
    }

    /// TCP without options.
    pub fn tcp(src: IpAddr, dst: IpAddr, ports: (u16, u16), flags: u8, load: &[u8]) -> Self {
        let mut body = ports_of(ports);
        body.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        body.extend(load);
        checksum(src, dst, TCP, &mut body, 16);
        Self::new(src, dst, TCP, &body)
    }

    /// ICMP of the addresses' family: type, code, four bytes, and the rest.
    pub fn icmp(src: IpAddr, dst: IpAddr, kind: (u8, u8), rest: [u8; 4], load: &[u8]) -> Self {
        let mut body = vec![kind.0, kind.1, 0, 0];
        body.extend(rest);
        body.extend(load);
        let protocol = if src.is_ipv4() { ICMP } else { ICMPV6 };
        checksum(src, dst, protocol, &mut body, 2);
        Self::new(src, dst, protocol, &body)
    }

    /// An echo request.
    pub fn echo(src: IpAddr, dst: IpAddr, load: &[u8]) -> Self {
        let kind = if src.is_ipv4() { 8 } else { 128 };
        Self::icmp(src, dst, (kind, 0), [0x51, 0x55, 0, 1], load)
    }

    /// A whole packet as the body of another.
    pub fn within(src: IpAddr, dst: IpAddr, protocol: u8, inner: &Self) -> Self {
        Self::new(src, dst, protocol, &inner.bytes())
    }

    /// IPv4 with options, padded to four bytes.
    pub fn options(mut self, options: &[u8]) -> Self {
        self.options = options.to_vec();
        self.options.resize(options.len().next_multiple_of(4), 0);
        self
    }

    /// The hop limit.
    pub const fn hop_limit(mut self, hop_limit: u8) -> Self {
        self.hop_limit = hop_limit;
        self
    }

    /// IPv6: an extension header in front of what is there. `content` is what follows its first two bytes.
    pub fn behind(mut self, kind: u8, content: &[u8]) -> Self {
        let len = (2 + content.len()).next_multiple_of(8);
        let mut header = vec![self.protocol, u8::try_from(len / 8 - 1).unwrap_or(u8::MAX)];
        header.extend(content);
        header.resize(len, 0);
        header.append(&mut self.body);
        (self.protocol, self.body) = (kind, header);
        self
    }

    /// A piece of this packet: the bytes from `from` to `to` of what is behind the header (IPv4) or would
    /// be behind the fragment header (IPv6).
    pub fn piece(&self, id: u16, from: usize, to: usize) -> Self {
        let to = to.min(self.body.len());
        let mut piece = self.clone();
        piece.body = self.body.get(from..to).unwrap_or_default().to_vec();
        let offset = u16::try_from(from).unwrap_or(u16::MAX) & !7;
        let more = to < self.body.len();
        if self.src.is_ipv4() {
            piece.fragment = Some((id, offset, more));
            return piece;
        }
        let field = (offset | u16::from(more)).to_be_bytes();
        let mut body = vec![self.protocol, 0, field[0], field[1], 0, 0];
        body.extend(id.to_be_bytes());
        body.append(&mut piece.body);
        (piece.protocol, piece.body) = (FRAGMENT, body);
        piece
    }

    /// The same piece, as if it lay `from` bytes into its packet.
    pub fn moved_to(mut self, from: u16) -> Self {
        if let Some((id, _, more)) = self.fragment {
            self.fragment = Some((id, from, more));
        } else if let Some(field) = self.body.get_mut(2..4) {
            let more = u16::from_be_bytes([field[0], field[1]]) & 1;
            field.copy_from_slice(&(from | more).to_be_bytes());
        }
        self
    }

    /// What goes onto the interface.
    pub fn bytes(&self) -> Vec<u8> {
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => self.v4(src, dst),
            (IpAddr::V6(src), IpAddr::V6(dst)) => self.v6(src, dst),
            (src, dst) => panic!("{src} and {dst} are of two families"),
        }
    }

    fn v4(&self, src: Ipv4Addr, dst: Ipv4Addr) -> Vec<u8> {
        let header = 20 + self.options.len();
        let (id, offset, more) = self.fragment.unwrap_or((0x5153, 0, false));
        let mut packet = vec![0x40 | u8::try_from(header / 4).unwrap_or(0xf), 0];
        packet.extend(u16::try_from(header + self.body.len()).unwrap_or(u16::MAX).to_be_bytes());
        packet.extend(id.to_be_bytes());
        packet.extend(((offset / 8) | (u16::from(more) << 13)).to_be_bytes());
        packet.extend([self.hop_limit, self.protocol, 0, 0]);
        packet.extend(src.octets());
        packet.extend(dst.octets());
        packet.extend(&self.options);
        let sum = !fold(&packet);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend(&self.body);
        packet
    }

    fn v6(&self, src: Ipv6Addr, dst: Ipv6Addr) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend(u16::try_from(self.body.len()).unwrap_or(u16::MAX).to_be_bytes());
        packet.extend([self.protocol, self.hop_limit]);
        packet.extend(src.octets());
        packet.extend(dst.octets());
        packet.extend(&self.body);
        packet
    }
}

fn ports_of((from, to): (u16, u16)) -> Vec<u8> {
    [from.to_be_bytes(), to.to_be_bytes()].concat()
}

/// Writes the transport checksum at `at`, with the pseudo-header unless it is ICMP for IPv4.
fn checksum(src: IpAddr, dst: IpAddr, protocol: u8, body: &mut [u8], at: usize) {
    let mut all = Vec::new();
    match (src, dst) {
        _ if protocol == ICMP => {}
        (IpAddr::V4(src), IpAddr::V4(dst)) => all.extend([src.octets(), dst.octets()].concat()),
        (IpAddr::V6(src), IpAddr::V6(dst)) => all.extend([src.octets(), dst.octets()].concat()),
        _ => {}
    }
    if protocol != ICMP {
        all.extend([0, protocol]);
        all.extend(u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes());
    }
    all.extend(&*body);
    let sum = match !fold(&all) {
        0 if protocol == UDP => u16::MAX,
        sum => sum,
    };
    body[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// RFC 1071.
fn fold(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | u64::from(pair.get(1).copied().unwrap_or(0)));
    let mut sum: u64 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(u16::MAX)
}

/// Writes packets onto one interface of one namespace, as they are.
#[derive(Debug)]
pub struct Injector {
    socket: OwnedFd,
    interface: LinkAddr,
}

impl Injector {
    /// In the namespace that `netns` names; packets to `beyond` are routed over the interface there.
    pub fn open(netns: &Path, interface: &str, beyond: IpAddr) -> Result<Self> {
        crate::ns::enter(netns, || {
            let interface = link(interface, beyond)?;
            let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
            Ok(Self { socket, interface })
        })?
    }

    /// Sends the bytes of a packet; a kernel that takes only a part of them is an error.
    pub fn send(&self, bytes: &[u8]) -> Result<()> {
        let sent = sendto(self.socket.as_raw_fd(), bytes, &self.interface, MsgFlags::empty())?;
        if sent != bytes.len() {
            bail!("{sent} of {} bytes were taken", bytes.len());
        }
        Ok(())
    }
}

/// The link address of an interface that has no hardware address, and so is in no listing: seen on a
/// packet that leaves by it.
fn link(interface: &str, beyond: IpAddr) -> Result<LinkAddr> {
    let index = usize::try_from(if_nametoindex(interface)?)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
    let any: IpAddr =
        if beyond.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let sender = UdpSocket::bind((any, 0))?;
    wait::value(&format!("a packet that leaves by {interface}"), Duration::from_secs(5), || {
        // It may well be refused there: nobody need have this address.
        let _ = sender.send_to(&[], (beyond, 9));
        let mut byte = [0];
        let received = std::iter::from_fn(|| recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut byte).ok());
        received.filter_map(|(_, from)| from).find(|from| from.ifindex() == index)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
    }

    fn v6(last: u16) -> IpAddr {
        IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last))
    }

    #[test]
    fn checksums_add_up_to_all_ones() {
        let echo = Packet::echo(v4(1), v4(2), b"odd").options(&[7]).bytes();
        assert_eq!((echo[0], fold(&echo[..24]), fold(&echo[24..])), (0x46, 0xffff, 0xffff));
        let udp = Packet::udp(v6(1), v6(2), (1, 2), b"odd").bytes();
        let pseudo = [&udp[8..40], &[0, UDP, 0, 11][..], &udp[40..]].concat();
        assert_eq!(fold(&pseudo), 0xffff);
    }

    #[test]
    fn pieces_make_up_the_whole_and_headers_stack_up() {
        let whole = Packet::udp(v4(1), v4(2), (1, 2), &[9; 40]);
        let (first, last) = (whole.piece(7, 0, 24).bytes(), whole.piece(7, 24, 99).bytes());
        assert_eq!((first[6], first[7], last[6], last[7]), (0x20, 0, 0, 3));
        assert_eq!([&first[20..], &last[20..]].concat(), whole.bytes()[20..]);
        let six = Packet::udp(v6(1), v6(2), (1, 2), &[9; 40]).behind(DESTINATION, &[1, 4]);
        let bytes = six.piece(7, 24, 99).moved_to(8).bytes();
        assert_eq!((bytes[6], bytes[40], bytes[42], bytes[43]), (FRAGMENT, DESTINATION, 0, 8));
        assert_eq!(six.bytes()[40..44], [UDP, 0, 1, 4]);
    }
}
