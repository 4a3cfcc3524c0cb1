//! The programs on the hosts: requests that are echoed, and a ledger of what came back.
//!
//! Every packet is a pure function of its number, so what comes out of a TUN is compared byte
//! for byte with what went in, and nothing has to be kept. All packets carry one marker, by
//! which the checker for plaintext knows them on a link.

use sinew_types::{Instant, MeshAddr, Rng};
use sinew_wire::checksum::pseudo_header;
use sinew_wire::ip::{PROTO_ICMPV6, PROTO_UDP, PacketInfo};
use sinew_wire::udp::HEADER_LEN;
use sinew_wire::virtio::{GSO_NONE, VIRTIO_NET_HDR_LEN, VirtioNetHdr};

use crate::check::Violation;

const V6_HEADER_LEN: usize = 40;
const PORT: u16 = 7;
/// Marker, number, direction.
const HEAD_LEN: usize = 16 + 8 + 1;
/// Payloads are 64 to 1163 bytes, so that the smallest inner MTU takes them all.
const PAYLOAD: (u64, u64) = (64, 1100);

/// One request, and how far it has come.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    /// Who asked.
    pub src: usize,
    /// Whom.
    pub dst: usize,
    /// When.
    pub sent: Instant,
    /// When the request came out at the destination.
    pub arrived: Option<Instant>,
    /// When the echo came back.
    pub answered: Option<Instant>,
}

/// The two directions of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Request = 1,
    Echo = 2,
}

/// The programs of all hosts.
#[derive(Debug)]
pub struct Apps {
    marker: [u8; 16],
    addrs: Vec<MeshAddr>,
    ledger: Vec<Exchange>,
    /// ICMPv6 errors that local senders were given.
    pub errors: u64,
}

impl Apps {
    pub(crate) fn new(addrs: Vec<MeshAddr>, rng: &mut Rng) -> Self {
        Self { marker: rng.array(), addrs, ledger: Vec::new(), errors: 0 }
    }

    /// The 16 bytes that every packet carries.
    pub(crate) const fn marker(&self) -> [u8; 16] {
        self.marker
    }

    /// All exchanges, by number.
    pub fn ledger(&self) -> &[Exchange] {
        &self.ledger
    }

    /// A new request; its number and the packet for the TUN of `src`.
    pub(crate) fn request(&mut self, src: usize, dst: usize, now: Instant) -> (usize, Vec<u8>) {
        let number = self.ledger.len();
        self.ledger.push(Exchange { src, dst, sent: now, arrived: None, answered: None });
        (number, self.packet(number, Way::Request))
    }

    /// Takes what came out of the TUN of `host`; the echo to send, if it is a request.
    pub(crate) fn receive(
        &mut self,
        host: usize,
        frame: &[u8],
        now: Instant,
    ) -> Result<Option<(usize, Vec<u8>)>, Violation> {
        let wrong = |text: String| Violation::new(now, "delivery", text);
        let vnet = VirtioNetHdr::parse(frame).map_err(|_| wrong(format!("host {host}: no virtio header")))?;
        let packet = &frame[VIRTIO_NET_HDR_LEN..];
        let info = PacketInfo::parse(packet).map_err(|_| wrong(format!("host {host}: not an IP packet")))?;
        if info.protocol == PROTO_ICMPV6 {
            self.errors += 1;
            return Ok(None);
        }
        if vnet.gso_type != GSO_NONE || vnet.needs_csum() {
            return Err(wrong(format!("host {host}: offload asked for where none was given: {vnet:?}")));
        }
        let (number, way) =
            self.identify(packet).ok_or_else(|| wrong(format!("host {host}: strange packet")))?;
        if self.packet(number, way) != packet {
            return Err(wrong(format!("host {host}: packet {number} was altered")));
        }
        let exchange = &mut self.ledger[number];
        let (place, stamp) = match way {
            Way::Request => (exchange.dst, &mut exchange.arrived),
            Way::Echo => (exchange.src, &mut exchange.answered),
        };
        if place != host {
            return Err(wrong(format!("packet {number} for host {place} came out at host {host}")));
        }
        if stamp.replace(now).is_some() {
            return Err(wrong(format!("packet {number} came out at host {host} twice")));
        }
        let asker = exchange.src;
        Ok((way == Way::Request).then(|| (asker, self.packet(number, Way::Echo))))
    }

    fn identify(&self, packet: &[u8]) -> Option<(usize, Way)> {
        let payload = packet.get(V6_HEADER_LEN + HEADER_LEN..)?;
        let (marker, rest) = payload.split_first_chunk::<16>()?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let way = match rest.first()? {
            1 => Way::Request,
            2 => Way::Echo,
            _ => return None,
        };
        let number = usize::try_from(u64::from_le_bytes(*number)).ok()?;
        (*marker == self.marker && number < self.ledger.len()).then_some((number, way))
    }

    /// Packet `number` of one way: an IPv6 UDP packet with a valid checksum.
    fn packet(&self, number: usize, way: Way) -> Vec<u8> {
        let exchange = &self.ledger[number];
        let (src, dst) = match way {
            Way::Request => (exchange.src, exchange.dst),
            Way::Echo => (exchange.dst, exchange.src),
        };
        let (src, dst) = (self.addrs[src], self.addrs[dst]);
        let number = number as u64;
        let payload_len = (PAYLOAD.0 + number * 97 % PAYLOAD.1) as usize;
        let udp_len = (HEADER_LEN + payload_len) as u16;
        // Every other flow is ECN-capable (ECT(0)), so that the code point is seen to survive.
        let ecn = (number as u8 & 1) << 1;
        let mut packet = Vec::with_capacity(V6_HEADER_LEN + usize::from(udp_len));
        packet.extend_from_slice(&[0x60, ecn << 4, 0, 0]);
        packet.extend_from_slice(&udp_len.to_be_bytes());
        packet.extend_from_slice(&[PROTO_UDP, 64]);
        packet.extend_from_slice(src.as_bytes());
        packet.extend_from_slice(dst.as_bytes());
        packet.extend_from_slice(&PORT.to_be_bytes());
        packet.extend_from_slice(&PORT.to_be_bytes());
        packet.extend_from_slice(&udp_len.to_be_bytes());
        packet.extend_from_slice(&[0, 0]);
        packet.extend_from_slice(&self.marker);
        packet.extend_from_slice(&number.to_le_bytes());
        packet.push(way as u8);
        packet.extend((HEAD_LEN..payload_len).map(|at| (at as u64 ^ number) as u8));
        let (src, dst) = (src.to_ipv6().into(), dst.to_ipv6().into());
        let sum = pseudo_header(src, dst, PROTO_UDP, udp_len.into()).bytes(&packet[V6_HEADER_LEN..]);
        let checksum = match sum.checksum() {
            0 => 0xffff,
            other => other,
        };
        packet[V6_HEADER_LEN + 6..V6_HEADER_LEN + 8].copy_from_slice(&checksum.to_be_bytes());
        packet
    }
}

#[cfg(test)]
mod tests {
    use sinew_types::Identity;

    use super::*;

    fn apps() -> Apps {
        let addr = |seed| Identity::from_seed([seed; 32]).node_id().address();
        Apps::new(vec![addr(1), addr(2), addr(3)], &mut Rng::new([5; 32]))
    }

    fn frame(packet: &[u8]) -> Vec<u8> {
        [VirtioNetHdr::default().emit().as_slice(), packet].concat()
    }

    #[test]
    fn a_request_is_echoed_and_both_are_noted() {
        let mut apps = apps();
        let (number, request) = apps.request(0, 2, Instant::ZERO);
        let info = PacketInfo::parse(&request).unwrap();
        assert!(info.checksum_ok(&request));
        let at = Instant::from_micros(5);
        let (to, echo) = apps.receive(2, &frame(&request), at).unwrap().unwrap();
        assert_eq!(to, 0);
        assert_eq!(apps.receive(0, &frame(&echo), at).unwrap(), None);
        assert_eq!(apps.ledger()[number].answered, Some(at));
    }

    #[test]
    fn a_packet_altered_misdelivered_or_delivered_twice_is_a_violation() {
        let mut apps = apps();
        let (_, request) = apps.request(0, 2, Instant::ZERO);
        let mut altered = request.clone();
        altered[70] ^= 1;
        assert!(apps.receive(2, &frame(&altered), Instant::ZERO).is_err());
        assert!(apps.receive(1, &frame(&request), Instant::ZERO).is_err());
        assert!(apps.receive(2, &frame(&request), Instant::ZERO).is_ok());
        assert!(apps.receive(2, &frame(&request), Instant::ZERO).is_err());
    }
}
