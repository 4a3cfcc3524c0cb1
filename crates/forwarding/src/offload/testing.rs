//! Packets made and judged by the book, without the code under test: naive sums, plain loops.

use sinew_wire::tcp;
use sinew_wire::virtio::{GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, VirtioNetHdr};

/// A TCP or UDP packet, field by field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) v4: bool,
    pub(crate) udp: bool,
    pub(crate) host: u8,
    pub(crate) ports: (u16, u16),
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) options: Vec<u8>,
    pub(crate) id: u16,
    pub(crate) tos: u8,
    pub(crate) ttl: u8,
    pub(crate) payload: Vec<u8>,
}

impl Model {
    pub(crate) fn tcp(v4: bool, len: usize) -> Self {
        Self {
            v4,
            udp: false,
            host: 1,
            ports: (40_000, 443),
            seq: 0xffff_f000,
            ack: 77,
            flags: tcp::ACK,
            window: 501,
            // NOP NOP timestamps
            options: vec![1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 7],
            id: 0xfffe,
            tos: 0x02,
            ttl: 64,
            payload: (0..len).map(|i| (i * 7 + i / 251) as u8).collect(),
        }
    }

    pub(crate) fn udp(v4: bool, len: usize) -> Self {
        Self { udp: true, options: vec![], flags: 0, ..Self::tcp(v4, len) }
    }

    pub(crate) fn l4(&self) -> usize {
        if self.v4 { 20 } else { 40 }
    }

    pub(crate) fn headers(&self) -> usize {
        self.l4() + if self.udp { 8 } else { 20 + self.options.len() }
    }

    /// The packet with complete checksums.
    pub(crate) fn build(&self) -> Vec<u8> {
        let mut transport = self.transport();
        let at = if self.udp { 6 } else { 16 };
        let sum = naive_sum(&[&self.pseudo(transport.len()), &transport]);
        let checksum = if self.udp && !sum == 0 { 0xffff } else { !sum };
        transport[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        [self.network(transport.len()), transport].concat()
    }

    /// The packet with the pseudo-header's sum for a checksum.
    pub(crate) fn build_partial(&self) -> Vec<u8> {
        let mut packet = self.build();
        let sum = naive_sum(&[&self.pseudo(packet.len() - self.l4())]);
        let at = self.l4() + if self.udp { 6 } else { 16 };
        packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        packet
    }

    /// The header a kernel gives with [`Model::build_partial`].
    pub(crate) fn vnet(&self, gso_size: u16) -> VirtioNetHdr {
        let gso_type = match (gso_size, self.udp, self.v4) {
            (0, ..) => 0,
            (_, true, _) => GSO_UDP_L4,
            (_, _, true) => GSO_TCPV4,
            (_, _, false) => GSO_TCPV6,
        };
        VirtioNetHdr {
            flags: NEEDS_CSUM,
            gso_type,
            hdr_len: 9999,
            gso_size,
            csum_start: self.l4() as u16,
            csum_offset: if self.udp { 6 } else { 16 },
        }
    }

    /// What a cut at `size` has to give.
    pub(crate) fn cut(&self, size: usize) -> Vec<Self> {
        let count = self.payload.len().div_ceil(size);
        let pieces = self.payload.chunks(size).enumerate();
        pieces
            .map(|(i, payload)| {
                let mut flags = self.flags;
                if i + 1 < count {
                    flags &= !(tcp::FIN | tcp::PSH);
                }
                if i > 0 {
                    flags &= !tcp::CWR;
                }
                let seq = self.seq.wrapping_add((i * size) as u32);
                let id = self.id.wrapping_add(i as u16);
                Self { flags, seq, id, payload: payload.to_vec(), ..self.clone() }
            })
            .collect()
    }

    fn addresses(&self) -> (Vec<u8>, Vec<u8>) {
        if self.v4 {
            return (vec![10, 0, 0, self.host], vec![10, 0, 0, 200]);
        }
        let addr = |last| [vec![0xfd, 0x3f], vec![9; 13], vec![last]].concat();
        (addr(self.host), addr(200))
    }

    fn network(&self, transport: usize) -> Vec<u8> {
        let protocol = if self.udp { 17 } else { 6 };
        let (src, dst) = self.addresses();
        if !self.v4 {
            let len = (transport as u16).to_be_bytes();
            let head = [0x60 | self.tos >> 4, self.tos << 4 | 1, 2, 3, len[0], len[1], protocol, self.ttl];
            return [head.to_vec(), src, dst].concat();
        }
        let len = (20 + transport as u16).to_be_bytes();
        let id = self.id.to_be_bytes();
        let head = [0x45, self.tos, len[0], len[1], id[0], id[1], 0x40, 0, self.ttl, protocol, 0, 0];
        let mut header = [head.to_vec(), src, dst].concat();
        let checksum = (!naive_sum(&[&header])).to_be_bytes();
        header[10..12].copy_from_slice(&checksum);
        header
    }

    fn pseudo(&self, transport: usize) -> Vec<u8> {
        let (src, dst) = self.addresses();
        let protocol = if self.udp { 17 } else { 6 };
        [src, dst, (transport as u32).to_be_bytes().to_vec(), vec![0, protocol]].concat()
    }

    /// Transport header and payload, checksum zero.
    fn transport(&self) -> Vec<u8> {
        let mut out = [self.ports.0.to_be_bytes(), self.ports.1.to_be_bytes()].concat();
        if self.udp {
            out.extend((8 + self.payload.len() as u16).to_be_bytes());
            out.extend([0, 0]);
        } else {
            out.extend(self.seq.to_be_bytes());
            out.extend(self.ack.to_be_bytes());
            out.extend([((20 + self.options.len()) as u8) << 2, self.flags]);
            out.extend(self.window.to_be_bytes());
            out.extend([0; 4]);
            out.extend(&self.options);
        }
        out.extend(&self.payload);
        out
    }
}

/// RFC 1071, word by word; each part but the last has an even length.
pub(crate) fn naive_sum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// A packet whose transport header ends where no parser may look beyond: an ICMPv6 echo request.
pub(crate) fn echo_v6(payload: usize) -> Vec<u8> {
    let model = Model { options: vec![], ..Model::tcp(false, 0) };
    let mut icmp = vec![128, 0, 0, 0, 0, 1, 0, 1];
    icmp.extend((0..payload).map(|i| i as u8));
    let (src, dst) = model.addresses();
    let pseudo = [src, dst, (icmp.len() as u32).to_be_bytes().to_vec(), vec![0, 58]].concat();
    let checksum = (!naive_sum(&[&pseudo, &icmp])).to_be_bytes();
    icmp[2..4].copy_from_slice(&checksum);
    let mut packet = model.network(icmp.len());
    packet[6] = 58;
    [packet, icmp].concat()
}

/// The same packet as a fragment with the given offset (in units of 8 bytes) and more-bit.
pub(crate) fn fragment_v6(packet: &[u8], offset: u16, more: bool) -> Vec<u8> {
    let mut out = packet[..40].to_vec();
    let field = (offset << 3 | u16::from(more)).to_be_bytes();
    out.extend([packet[6], 0, field[0], field[1], 0, 0, 0, 5]);
    out.extend(&packet[40..]);
    out[6] = 44;
    let len = (out.len() as u16 - 40).to_be_bytes();
    out[4..6].copy_from_slice(&len);
    out
}

/// The same packet behind extension headers (hop-by-hop or destination options).
pub(crate) fn extended_v6(packet: &[u8], headers: usize) -> Vec<u8> {
    let mut out = packet[..40].to_vec();
    for i in 0..headers {
        let next = if i + 1 == headers { packet[6] } else { 60 };
        out.extend([next, 0, 1, 4, 0, 0, 0, 0]);
    }
    out.extend(&packet[40..]);
    out[6] = if headers == 0 { packet[6] } else { 60 };
    let len = (out.len() as u16 - 40).to_be_bytes();
    out[4..6].copy_from_slice(&len);
    out
}
