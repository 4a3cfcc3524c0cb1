//! A node with two uplinks and a peer with one address, under virtual time: a wire for each socket of `a`,
//! of which any may go dead without a word.

#[allow(dead_code)] // Packets and their checksums are all that is needed of it.
mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sinew_node::directory::PeeringConfig;
use sinew_node::{Accept, Config, Event, InboundPolicy, Limits, Node, Offloads, PeerConfig, UdpSocket, Way};
use sinew_types::{CarrierKind, Class, Identity, Instant, InterfaceId, Metric, NodeId, PathAddr};
use sinew_wire::virtio::VirtioNetHdr;

const LATENCY: Duration = Duration::from_millis(2);
const FIRST: u32 = 0;
const OTHER: u32 = 7;
const BEAT: Duration = Duration::from_millis(20);

struct Net {
    now: Instant,
    /// `a` and `b`.
    nodes: [Node; 2],
    ids: [NodeId; 2],
    /// Datagrams under way: to whom, and over which socket of `a`.
    flying: BTreeMap<(Instant, u64), (usize, u32, Vec<u8>)>,
    sequence: u64,
    /// Sockets of `a` behind which nothing passes.
    dead: BTreeSet<u32>,
    /// How long packets take one way, by the socket of `a`; otherwise [`LATENCY`].
    latency: BTreeMap<u32, Duration>,
    /// Over which sockets `a` has sent.
    used: BTreeSet<u32>,
    /// When answers came to `a`.
    answers: Vec<Instant>,
}

/// Where `a` is seen, by its socket, and `b`.
fn endpoint(node: usize, local: u32) -> SocketAddr {
    SocketAddr::from(([10, local as u8, 0, node as u8 + 1], 7463))
}

fn sockets(locals: &[u32]) -> Vec<UdpSocket> {
    locals.iter().map(|&local| UdpSocket { local, ipv6: false }).collect()
}

fn config(n: u8, locals: &[u32], peers: Vec<PeerConfig>) -> Config {
    Config {
        identity: Arc::new(Identity::from_seed([n; 32])),
        name: String::new(),
        class: Class::Router,
        secrets: Vec::new(),
        accept: Accept::Any,
        inbound: InboundPolicy::All,
        peers,
        device_mtu: 1416,
        offloads: Offloads::ALL,
        udp_sockets: sockets(locals),
        direct: false,
        peering: PeeringConfig::OFF,
        limits: Limits::default(),
        max_routes: 4096,
        unix: 1_800_000_000_000_000,
    }
}

impl Net {
    fn new(locals: &[u32], dead: &[u32]) -> Self {
        let now = Instant::from_micros(1_000_000);
        let ids = [1, 2].map(|n| Identity::from_seed([n; 32]).node_id());
        let uri = format!("sinew://{}@{}?via=udp", ids[1], endpoint(1, 0)).parse().expect("a URI");
        let peers = vec![PeerConfig { uri, cost: Metric::ZERO }];
        let a = Node::new(config(1, locals, peers), [11; 32], now);
        let b = Node::new(config(2, &[FIRST], Vec::new()), [12; 32], now);
        let mut net = Self {
            now,
            nodes: [a, b],
            ids,
            flying: BTreeMap::new(),
            sequence: 0,
            dead: dead.iter().copied().collect(),
            latency: BTreeMap::new(),
            used: BTreeSet::new(),
            answers: Vec::new(),
        };
        net.drain(0);
        net
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let timers = self.nodes.iter().enumerate().filter_map(|(i, n)| Some((n.poll_timeout()?.0, i)));
            let timer = timers.min();
            let flight = self.flying.first_key_value().map(|(key, _)| *key);
            let next = timer.map(|t| t.0).into_iter().chain(flight.map(|f| f.0)).min();
            let Some(at) = next.filter(|&at| at <= end) else { break };
            self.now = self.now.max(at);
            let node = match flight.filter(|f| f.0 <= at).and_then(|key| self.flying.remove(&key)) {
                Some((to, local, mut bytes)) => {
                    let (own, remote) =
                        if to == 0 { (local, endpoint(1, 0)) } else { (0, endpoint(0, local)) };
                    let from = PathAddr { carrier: CarrierKind::Udp, local: own, remote };
                    let stride = bytes.len();
                    self.nodes[to].handle_datagrams(from, 0, &mut bytes, stride, self.now);
                    to
                }
                None => {
                    let node = timer.map_or(0, |t| t.1);
                    self.nodes[node].handle_timeout(self.now);
                    node
                }
            };
            self.drain(node);
        }
        self.now = end;
    }

    fn drain(&mut self, node: usize) {
        while let Some(event) = self.nodes[node].poll_event() {
            if let Event::Resolve { peer, host, port } = event {
                let addr = format!("{host}:{port}").parse().expect("a literal address");
                self.nodes[node].handle_resolved(peer, (&host, port), &[addr], self.now);
            }
        }
        while let Some(transmit) = self.nodes[node].poll_transmit() {
            let SocketAddr::V4(remote) = transmit.to.remote else { continue };
            let local = if node == 0 { transmit.to.local } else { u32::from(remote.ip().octets()[1]) };
            if node == 0 {
                self.used.insert(local);
            }
            for bytes in transmit.bytes.chunks(transmit.segment) {
                self.sequence += 1;
                if !self.dead.contains(&local) {
                    let latency = self.latency.get(&local).copied().unwrap_or(LATENCY);
                    let key = (self.now + latency, self.sequence);
                    self.flying.insert(key, (1 - node, local, bytes.to_vec()));
                }
            }
        }
        let mut came = 0;
        while self.nodes[node].poll_tun().is_some() {
            came += 1;
        }
        for _ in 0..came {
            if node == 0 {
                self.answers.push(self.now);
            } else {
                self.say(1);
            }
        }
    }

    fn say(&mut self, node: usize) {
        let [a, b] = self.ids.map(|id| id.address());
        let (from, to) = if node == 0 { (a, b) } else { (b, a) };
        let mut packet = common::udp_packet(from, to, 9, b"beat");
        self.nodes[node].handle_tun(InterfaceId::NODE, VirtioNetHdr::default(), &mut packet, self.now);
        self.drain(node);
    }

    /// Asks and is answered all the time; the longest time without an answer.
    fn talk(&mut self, time: Duration) -> Duration {
        let (begin, end) = (self.now, self.now + time);
        self.answers.clear();
        while self.now < end {
            self.say(0);
            self.run(BEAT);
        }
        let times: Vec<_> = [begin].into_iter().chain(self.answers.iter().copied()).chain([end]).collect();
        times.windows(2).map(|two| two[1].since(two[0])).max().unwrap_or_default()
    }

    fn ways(&self, node: usize) -> Vec<Way> {
        self.nodes[node].ways(&self.ids[1 - node], self.now).paths
    }

    fn in_use(&self) -> Option<u32> {
        self.ways(0).iter().find(|way| way.in_use).map(|way| way.path.local)
    }

    fn standing_by(&self) -> Vec<u32> {
        let reserve = |way: &&Way| way.validated && !way.in_use;
        self.ways(0).iter().filter(reserve).map(|way| way.path.local).collect()
    }
}

#[test]
fn a_path_over_each_uplink_stands_by_and_takes_over_with_both_directions_in_time() {
    for (dead, seed) in [(FIRST, 0), (OTHER, 1)] {
        let mut net = Net::new(&[FIRST, OTHER], &[]);
        net.run(Duration::from_secs(3) + BEAT * seed);
        assert_eq!((net.in_use(), net.standing_by()), (Some(FIRST), vec![OTHER]));
        assert!(net.talk(Duration::from_secs(3)) < Duration::from_millis(100));
        net.dead.insert(dead);
        let gap = net.talk(Duration::from_secs(5));
        if dead == OTHER {
            assert!(gap < Duration::from_millis(100), "what stands by carries nothing: {gap:?}");
            continue;
        }
        assert_eq!(net.in_use(), Some(OTHER));
        assert!(gap < Duration::from_millis(700), "{gap:?}");
        // It comes back, and is no reason to move.
        net.dead.clear();
        assert!(net.talk(Duration::from_secs(15)) < Duration::from_millis(100));
        assert_eq!((net.in_use(), net.standing_by()), (Some(OTHER), vec![FIRST]));
    }
}

#[test]
fn the_kernels_uplink_is_dialled_first_and_the_others_if_it_brings_no_answer() {
    let mut net = Net::new(&[FIRST, OTHER], &[FIRST, OTHER]);
    net.run(Duration::from_secs(1));
    assert_eq!(net.used, BTreeSet::from([FIRST]));
    net.run(Duration::from_secs(3));
    assert_eq!(net.used, BTreeSet::from([FIRST, OTHER]));
    net.dead.remove(&OTHER);
    net.run(Duration::from_secs(20));
    assert_eq!((net.in_use(), net.standing_by()), (Some(OTHER), Vec::new()));
}

#[test]
fn a_clearly_shorter_way_is_taken_after_a_while_and_a_little_shorter_one_never() {
    let ms = Duration::from_millis;
    let mut net = Net::new(&[FIRST, OTHER], &[]);
    net.latency = BTreeMap::from([(FIRST, ms(20)), (OTHER, ms(17))]);
    net.run(Duration::from_secs(600));
    assert_eq!(net.in_use(), Some(FIRST), "15 % are no reason to move");
    net.latency.insert(OTHER, ms(10));
    // Several measurements say so first.
    net.run(Duration::from_secs(10));
    assert_eq!(net.in_use(), Some(FIRST));
    assert!(net.talk(Duration::from_secs(120)) < ms(120), "flows do not notice");
    assert_eq!(net.in_use(), Some(OTHER));
    assert_eq!(
        net.ways(1).iter().find(|way| way.in_use).map(|way| way.path.remote),
        Some(endpoint(0, OTHER))
    );
}

#[test]
fn a_way_that_was_just_taken_is_kept_for_a_minute_however_short_the_other_becomes() {
    let ms = Duration::from_millis;
    let mut net = Net::new(&[FIRST, OTHER], &[]);
    net.latency = BTreeMap::from([(FIRST, ms(20)), (OTHER, ms(14))]);
    while net.in_use() != Some(OTHER) {
        net.run(Duration::from_secs(1));
        assert!(net.now < Instant::from_micros(300_000_000), "it is not taken");
    }
    net.latency.insert(FIRST, ms(1));
    // Under traffic links are measured often: it is known within half of this time.
    net.talk(Duration::from_secs(55));
    assert_eq!(net.in_use(), Some(OTHER));
    net.talk(Duration::from_secs(60));
    assert_eq!(net.in_use(), Some(FIRST));
}

#[test]
fn uplinks_come_and_go() {
    let mut net = Net::new(&[FIRST], &[]);
    net.run(Duration::from_secs(3));
    assert_eq!((net.in_use(), net.standing_by()), (Some(FIRST), Vec::new()));
    net.nodes[0].set_udp_sockets(sockets(&[FIRST, OTHER]), &[], net.now);
    net.drain(0);
    net.run(Duration::from_secs(1));
    assert_eq!(net.standing_by(), [OTHER]);
    // What is only not dialled through any more goes on.
    net.nodes[0].set_udp_sockets(sockets(&[FIRST]), &[], net.now);
    net.drain(0);
    assert_eq!(net.standing_by(), [OTHER]);
    net.nodes[0].set_udp_sockets(sockets(&[FIRST]), &[OTHER], net.now);
    net.drain(0);
    assert!(net.ways(0).iter().all(|way| way.path.local == FIRST), "{:?}", net.ways(0));
    assert!(net.talk(Duration::from_secs(2)) < Duration::from_millis(100));
}

#[test]
fn what_an_uplink_has_not_brought_is_asked_for_again_after_some_minutes() {
    let mut net = Net::new(&[FIRST, OTHER], &[OTHER]);
    net.run(Duration::from_secs(60));
    assert_eq!((net.in_use(), net.standing_by()), (Some(FIRST), Vec::new()));
    net.dead.clear();
    net.run(Duration::from_secs(300));
    assert_eq!(net.standing_by(), [OTHER]);
}
