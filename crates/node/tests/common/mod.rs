//! A few nodes on ideal wires under virtual time: enough to follow single packets by hand.
//! (Whole networks with loss and faults live in `sinew-sim`.)

pub(crate) mod lab;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sinew_node::directory::PeeringConfig;
use sinew_node::{Accept, Config, Event, InboundPolicy, Limits, Node, Offloads, PeerConfig, UdpSocket};
use sinew_types::{CarrierKind, Class, Identity, Instant, InterfaceId, MeshAddr, Metric, NodeId, PathAddr};
use sinew_wire::virtio::{VIRTIO_NET_HDR_LEN, VirtioNetHdr};

/// One way over any wire.
pub(crate) const LATENCY: Duration = Duration::from_millis(2);

/// A datagram on a wire.
#[derive(Clone, Debug)]
pub(crate) struct Flying {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) bytes: Vec<u8>,
}

/// What a wire does with a datagram: pass it on (changed or not), or lose it.
pub(crate) type Tap = Box<dyn FnMut(Flying) -> Vec<Flying>>;

pub(crate) struct Net {
    pub(crate) now: Instant,
    pub(crate) nodes: Vec<Node>,
    pub(crate) ids: Vec<NodeId>,
    /// Inner packets that came out, by node.
    pub(crate) received: Vec<Vec<Vec<u8>>>,
    /// What the local kernel was told of each of them.
    pub(crate) headers: Vec<Vec<VirtioNetHdr>>,
    /// What came out for workloads, by node.
    pub(crate) workloads: Vec<Vec<(InterfaceId, VirtioNetHdr, Vec<u8>)>>,
    /// Datagrams that arrived where no node is.
    pub(crate) outside: Vec<Flying>,
    pub(crate) events: Vec<(usize, Event)>,
    flying: BTreeMap<(Instant, u64), Flying>,
    sequence: u64,
    /// Events handled so far.
    pub(crate) steps: u64,
    pub(crate) tap: Option<Tap>,
    /// Whether the wires are streams: so once a node has asked for one.
    streams: bool,
    /// Datagrams of this length also arrive as one if they were sent as one.
    pub(crate) batched: Option<usize>,
}

pub(crate) fn endpoint(index: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, index as u8 + 1], 7463))
}

pub(crate) fn path(to: usize) -> PathAddr {
    PathAddr { carrier: CarrierKind::Udp, local: 0, remote: endpoint(to) }
}

/// As [`path`], for a stream.
pub(crate) fn stream(to: usize) -> PathAddr {
    PathAddr { carrier: CarrierKind::Tcp, ..path(to) }
}

impl Net {
    /// As [`Net::new`], with streams for wires.
    #[allow(dead_code)] // Not every test binary has streams.
    pub(crate) fn over_streams(count: usize, links: &[(usize, usize)]) -> Self {
        Self::over_streams_with(count, links, |_, config| config)
    }

    /// As [`Net::with`], with streams for wires.
    #[allow(dead_code)]
    pub(crate) fn over_streams_with(
        count: usize,
        links: &[(usize, usize)],
        adjust: impl Fn(usize, Config) -> Config,
    ) -> Self {
        Self::with(count, links, |i, mut config| {
            for peer in &mut config.peers {
                peer.uri = peer.uri.to_string().replace("via=udp", "via=tcp").parse().expect("a URI");
            }
            adjust(i, config)
        })
    }

    /// `count` nodes; `links` says who dials whom.
    pub(crate) fn new(count: usize, links: &[(usize, usize)]) -> Self {
        Self::with(count, links, |_, config| config)
    }

    pub(crate) fn with(
        count: usize,
        links: &[(usize, usize)],
        adjust: impl Fn(usize, Config) -> Config,
    ) -> Self {
        let identity = |i: usize| Arc::new(Identity::from_seed([i as u8 + 1; 32]));
        let ids: Vec<_> = (0..count).map(|i| identity(i).node_id()).collect();
        let now = Instant::from_micros(1_000_000);
        let nodes = (0..count).map(|i| {
            let dialled = links.iter().filter(|(from, _)| *from == i);
            let peers = dialled.map(|&(_, to)| PeerConfig {
                uri: format!("sinew://{}@{}?via=udp", ids[to], endpoint(to)).parse().expect("a URI"),
                cost: Metric::ZERO,
            });
            let config = Config {
                identity: identity(i),
                name: format!("node-{i}"),
                class: Class::Router,
                secrets: Vec::new(),
                accept: Accept::Any,
                inbound: InboundPolicy::All,
                peers: peers.collect(),
                device_mtu: 1416,
                offloads: Offloads::ALL,
                udp_sockets: vec![UdpSocket { local: 0, ipv6: false }],
                direct: false,
                peering: PeeringConfig::OFF,
                limits: Limits::default(),
                max_routes: 4096,
                unix: 1_800_000_000_000_000,
            };
            Node::new(adjust(i, config), [i as u8 + 101; 32], now)
        });
        let nodes: Vec<_> = nodes.collect();
        let mut net = Self {
            now,
            received: vec![Vec::new(); count],
            headers: vec![Vec::new(); count],
            workloads: vec![Vec::new(); count],
            outside: Vec::new(),
            nodes,
            ids,
            events: Vec::new(),
            flying: BTreeMap::new(),
            sequence: 0,
            steps: 0,
            tap: None,
            streams: false,
            batched: None,
        };
        (0..count).for_each(|i| net.drain(i));
        net
    }

    pub(crate) fn address(&self, index: usize) -> MeshAddr {
        self.ids[index].address()
    }

    /// Runs for `time`.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    /// Runs until `done`, at most for `limit`; whether it came true.
    #[allow(dead_code)] // Not every test binary waits for something.
    pub(crate) fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + limit;
        while !done(self) {
            if !self.step(end) {
                return done(self);
            }
        }
        true
    }

    fn step(&mut self, end: Instant) -> bool {
        let timers = self.nodes.iter().enumerate().filter_map(|(i, node)| Some((node.poll_timeout()?.0, i)));
        let timer = timers.min();
        let flight = self.flying.keys().next().copied();
        let next = timer.map(|t| t.0).into_iter().chain(flight.map(|f| f.0)).min();
        let Some(at) = next.filter(|&at| at <= end) else { return false };
        self.now = self.now.max(at);
        self.steps += 1;
        assert!(
            self.steps < 100_000,
            "stuck: {:?}",
            self.nodes.iter().map(|n| n.poll_timeout()).collect::<Vec<_>>()
        );
        match flight.filter(|f| f.0 <= at) {
            Some(key) => {
                if let Some(datagram) = self.flying.remove(&key) {
                    self.arrive(datagram);
                }
            }
            None => {
                let index = timer.map_or(0, |t| t.1);
                self.nodes[index].handle_timeout(self.now);
                self.drain(index);
            }
        }
        true
    }

    /// Hands a datagram to its receiver as if it came from `from`.
    pub(crate) fn arrive(&mut self, mut datagram: Flying) {
        let whole = datagram.bytes.len();
        let len = self.batched.filter(|&len| whole.is_multiple_of(len)).unwrap_or(whole);
        let Some(node) = self.nodes.get_mut(datagram.to) else { return self.outside.push(datagram) };
        if self.streams {
            let records = std::iter::once(datagram.bytes.as_mut_slice());
            node.handle_records(stream(datagram.from), records, self.now);
        } else {
            node.handle_datagrams(path(datagram.from), 0, &mut datagram.bytes, len, self.now);
        }
        self.drain(datagram.to);
    }

    /// Feeds an inner packet in at `index`.
    pub(crate) fn send(&mut self, index: usize, packet: &[u8]) {
        self.nodes[index].handle_tun(
            InterfaceId::NODE,
            VirtioNetHdr::default(),
            &mut packet.to_vec(),
            self.now,
        );
        self.drain(index);
    }

    /// Takes all that node `index` has to give.
    pub(crate) fn drain(&mut self, index: usize) {
        while let Some(event) = self.nodes[index].poll_event() {
            if let Event::Resolve { peer, host, port } = &event {
                let addr: SocketAddr = format!("{host}:{port}").parse().expect("a literal address");
                self.nodes[index].handle_resolved(*peer, (host, *port), &[addr], self.now);
            }
            if let Event::Connect { peer, carrier: CarrierKind::Tcp, remote, .. } = event {
                self.streams = true;
                let path = PathAddr { remote, ..stream(0) };
                self.nodes[index].handle_connected(peer, path, self.now);
            }
            self.events.push((index, event));
        }
        let mut out = Vec::new();
        while let Some(transmit) = self.nodes[index].poll_transmit() {
            let SocketAddr::V4(remote) = transmit.to.remote else { continue };
            let to = usize::from(remote.ip().octets()[3]) - 1;
            let together = self.batched == Some(transmit.segment);
            let chunk = if together { transmit.bytes.len() } else { transmit.segment };
            out.extend(transmit.bytes.chunks(chunk).map(|b| Flying { from: index, to, bytes: b.to_vec() }));
        }
        for datagram in out {
            let passed = match &mut self.tap {
                Some(tap) => tap(datagram),
                None => vec![datagram],
            };
            passed.into_iter().for_each(|datagram| self.launch(datagram));
        }
        while let Some((to, frame)) = self.nodes[index].poll_tun() {
            let header = VirtioNetHdr::parse(frame).expect("a frame begins with its header");
            let packet = frame[VIRTIO_NET_HDR_LEN..].to_vec();
            if to == InterfaceId::NODE {
                self.headers[index].push(header);
                self.received[index].push(packet);
            } else {
                self.workloads[index].push((to, header, packet));
            }
        }
    }

    /// Puts a datagram on its wire.
    pub(crate) fn launch(&mut self, datagram: Flying) {
        self.sequence += 1;
        self.flying.insert((self.now + LATENCY, self.sequence), datagram);
    }
}

/// An inner UDP packet with a right checksum.
pub(crate) fn udp_packet(src: MeshAddr, dst: MeshAddr, port: u16, payload: &[u8]) -> Vec<u8> {
    let len = 8 + payload.len();
    let mut packet = vec![0x60, 0, 0, 0, 0, 0, 17, 64];
    packet[4..6].copy_from_slice(&(len as u16).to_be_bytes());
    packet.extend_from_slice(src.as_bytes());
    packet.extend_from_slice(dst.as_bytes());
    packet.extend_from_slice(&40_000u16.to_be_bytes());
    packet.extend_from_slice(&port.to_be_bytes());
    packet.extend_from_slice(&(len as u16).to_be_bytes());
    packet.extend_from_slice(&[0, 0]);
    packet.extend_from_slice(payload);
    finish_udp(&mut packet);
    packet
}

/// Gives an IPv6 packet of UDP its right checksum.
pub(crate) fn finish_udp(packet: &mut [u8]) {
    packet[46..48].fill(0);
    let info = sinew_wire::ip::PacketInfo::parse(packet).expect("a packet");
    let pseudo = info.pseudo_header(packet.len() - 40).fold();
    packet[46..48].copy_from_slice(&pseudo.to_be_bytes());
    info.complete_checksum(packet).expect("a UDP packet");
    assert!(info.checksum_ok(packet));
}
