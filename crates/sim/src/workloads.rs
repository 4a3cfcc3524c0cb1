//! Workloads of private networks: programs that call each other, and a ledger of what came out where.
//!
//! As with [`traffic`](crate::traffic), every packet is a pure function of its number and carries the
//! marker that the checker for plaintext knows. What comes out at a device must be meant for it: for this
//! network and this address, unaltered, and once.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use sinew_types::{Instant, InterfaceId, NetworkId};
use sinew_wire::checksum::pseudo_header;
use sinew_wire::ip::{PROTO_ICMPV6, PROTO_UDP, PacketInfo};
use sinew_wire::udp::HEADER_LEN;
use sinew_wire::virtio::VIRTIO_NET_HDR_LEN;

use crate::check::Violation;

const V6_HEADER_LEN: usize = 40;
const PORT: u16 = 9;
const LOAD_LEN: usize = 200;

/// A workload with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Where it is.
    pub host: usize,
    /// Its device there.
    pub interface: InterfaceId,
    /// Its network.
    pub network: NetworkId,
    /// Its address.
    pub ipv6: Ipv6Addr,
}

/// A call of one workload to another, by their numbers.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Who called.
    pub from: usize,
    /// Whom.
    pub to: usize,
    /// When.
    pub sent: Instant,
    /// When the call came out.
    pub arrived: Option<Instant>,
    /// When the answer came back.
    pub answered: Option<Instant>,
}

/// All workloads, and their calls.
#[derive(Debug)]
pub struct Workloads {
    marker: [u8; 16],
    all: Vec<Workload>,
    calls: Vec<Call>,
    /// ICMP answers by host.
    pub told: BTreeMap<usize, u64>,
}

impl Workloads {
    pub(crate) const fn new(marker: [u8; 16]) -> Self {
        Self { marker, all: Vec::new(), calls: Vec::new(), told: BTreeMap::new() }
    }

    /// All workloads, by number.
    pub fn all(&self) -> &[Workload] {
        &self.all
    }

    /// All calls, by number.
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }

    pub(crate) fn add(&mut self, workload: Workload) -> usize {
        self.all.push(workload);
        self.all.len() - 1
    }

    /// A device number that no workload of the host has.
    pub(crate) fn free_interface(&self, host: usize) -> InterfaceId {
        InterfaceId(1 + self.all.iter().filter(|workload| workload.host == host).count() as u32)
    }

    /// A new call; its number, and the packet for the caller's device.
    pub(crate) fn call(&mut self, from: usize, to: usize, now: Instant) -> (usize, Vec<u8>) {
        self.calls.push(Call { from, to, sent: now, arrived: None, answered: None });
        let number = self.calls.len() - 1;
        (number, self.packet(number, false))
    }

    /// Takes what came out of a device; the answer to send there, if it is a call.
    pub(crate) fn receive(
        &mut self,
        host: usize,
        interface: InterfaceId,
        frame: &[u8],
        now: Instant,
    ) -> Result<Option<Vec<u8>>, Violation> {
        let wrong =
            |text: String| Violation::new(now, "isolation", format!("host {host}, {interface}: {text}"));
        let packet = frame.get(VIRTIO_NET_HDR_LEN..).unwrap_or_default();
        let info = PacketInfo::parse(packet).map_err(|_| wrong("not an IP packet".into()))?;
        if info.protocol == PROTO_ICMPV6 {
            *self.told.entry(host).or_default() += 1;
            return Ok(None);
        }
        let load = packet.get(V6_HEADER_LEN + HEADER_LEN..).unwrap_or_default();
        let number = load.get(16..24).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
        let number = number.and_then(|number| usize::try_from(number).ok());
        let known = number.filter(|&number| number < self.calls.len() && load.starts_with(&self.marker));
        let number = known.ok_or_else(|| wrong("a strange packet".into()))?;
        let answer = load[24] != 0;
        if self.packet(number, answer) != packet {
            return Err(wrong(format!("packet {number} was altered")));
        }
        let Call { from, to, .. } = self.calls[number];
        let place = self.all[if answer { from } else { to }];
        if (place.host, place.interface) != (host, interface) {
            return Err(wrong(format!("packet {number} is for host {}", place.host)));
        }
        let call = &mut self.calls[number];
        let stamp = if answer { &mut call.answered } else { &mut call.arrived };
        if stamp.replace(now).is_some() {
            return Err(wrong(format!("packet {number} came out twice")));
        }
        Ok((!answer).then(|| self.packet(number, true)))
    }

    fn packet(&self, number: usize, answer: bool) -> Vec<u8> {
        let Call { from, to, .. } = self.calls[number];
        let (src, dst) = if answer { (to, from) } else { (from, to) };
        let (src, dst) = (self.all[src].ipv6, self.all[dst].ipv6);
        let udp_len = (HEADER_LEN + LOAD_LEN) as u16;
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend_from_slice(&udp_len.to_be_bytes());
        packet.extend_from_slice(&[PROTO_UDP, 64]);
        packet.extend_from_slice(&src.octets());
        packet.extend_from_slice(&dst.octets());
        packet.extend_from_slice(&PORT.to_be_bytes());
        packet.extend_from_slice(&PORT.to_be_bytes());
        packet.extend_from_slice(&udp_len.to_be_bytes());
        packet.extend_from_slice(&[0, 0]);
        packet.extend_from_slice(&self.marker);
        packet.extend_from_slice(&(number as u64).to_le_bytes());
        packet.push(u8::from(answer));
        packet.extend((25..LOAD_LEN).map(|at| (at ^ number) as u8));
        let (src, dst) = (IpAddr::V6(src), IpAddr::V6(dst));
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
    use sinew_wire::virtio::VirtioNetHdr;

    use super::*;

    fn frame(packet: &[u8]) -> Vec<u8> {
        [VirtioNetHdr::default().emit().as_slice(), packet].concat()
    }

    #[test]
    fn a_packet_elsewhere_altered_or_twice_is_a_violation() {
        let network = |n| NetworkId::new(Identity::from_seed([n; 32]).node_id());
        let mut workloads = Workloads::new([0xab; 16]);
        let workload = |host, interface, net, last| Workload {
            host,
            interface: InterfaceId(interface),
            network: network(net),
            ipv6: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last),
        };
        let from = workloads.add(workload(0, 1, 1, 1));
        let to = workloads.add(workload(1, 1, 1, 2));
        // The same address on the same host, in another network.
        workloads.add(workload(1, 2, 2, 2));
        let (number, packet) = workloads.call(from, to, Instant::ZERO);
        let receive = |workloads: &mut Workloads, host, interface, packet: &[u8]| {
            workloads.receive(host, InterfaceId(interface), &frame(packet), Instant::ZERO)
        };
        assert!(receive(&mut workloads, 1, 2, &packet).is_err(), "in the other network");
        assert!(receive(&mut workloads, 0, 1, &packet).is_err(), "back to its sender");
        let mut altered = packet.clone();
        altered[100] ^= 1;
        assert!(receive(&mut workloads, 1, 1, &altered).is_err());
        let answer = receive(&mut workloads, 1, 1, &packet).unwrap().unwrap();
        assert!(receive(&mut workloads, 1, 1, &packet).is_err(), "twice");
        assert_eq!(receive(&mut workloads, 0, 1, &answer), Ok(None));
        assert!(workloads.calls()[number].answered.is_some());
    }
}
