//! From the node's own account of itself to the types of the control API.

use std::collections::BTreeMap;
use std::time::Duration;

use sinew_control::api::{
    self, Direction, Graph, GraphLink, GraphNode, LinkKind, Peer, PeerState, Peers, PingProbe, Reach, Route,
    RouteAnswer, RouteOrigin, Routes, RoutesShow, Session, Sessions, TraceHop,
};
use sinew_node::{Asked, LinkState, Node, PeerStatus, PingAnswer, RouteStatus, SessionStatus};
use sinew_types::{CarrierKind, Instant, NodeId, PathAddr, Rate};

/// Names that nodes have told us, by key: an answer to `trace`, or our own.
pub(crate) type Names = BTreeMap<NodeId, String>;

/// Bytes per second of each peer's link since the last look.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    last: BTreeMap<NodeId, (Instant, u64, u64, u64, u64)>,
}

/// Shortest time over which a rate is taken.
const RATE_WINDOW: Duration = Duration::from_millis(900);

impl Rates {
    /// Received and sent bytes per second of a peer whose counters stand at `rx` and `tx`.
    fn update(&mut self, peer: NodeId, rx: u64, tx: u64, now: Instant) -> (u64, u64) {
        let entry = self.last.entry(peer).or_insert((now, rx, tx, 0, 0));
        let (since, old_rx, old_tx, ..) = *entry;
        let passed = now.since(since);
        if passed >= RATE_WINDOW {
            let per_second = |bytes: u64| (bytes as f64 / passed.as_secs_f64()) as u64;
            let rates = (per_second(rx.saturating_sub(old_rx)), per_second(tx.saturating_sub(old_tx)));
            *entry = (now, rx, tx, rates.0, rates.1);
        }
        (entry.3, entry.4)
    }
}

pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The interface that a path leaves by, where that is not everybody's.
pub(crate) fn interface(interfaces: &BTreeMap<u32, String>, path: &PathAddr) -> Option<String> {
    interfaces.get(&path.local).filter(|_| path.carrier == CarrierKind::Udp).cloned()
}

pub(crate) fn peers(
    node: &Node,
    (names, interfaces): (&Names, &BTreeMap<u32, String>),
    rates: &mut Rates,
    now: Instant,
) -> Peers {
    let peer = |status: PeerStatus| {
        let interface = status.path.and_then(|path| interface(interfaces, &path));
        Peer { interface, ..peer(status, names, rates, now) }
    };
    Peers { peers: node.peers(now).into_iter().map(peer).collect() }
}

fn peer(status: PeerStatus, names: &Names, rates: &mut Rates, now: Instant) -> Peer {
    let (rx_rate, tx_rate) = rates.update(status.node, status.rx_bytes, status.tx_bytes, now);
    let endpoint = status.path.map(|path| path.remote.to_string()).or(status.dialled);
    Peer {
        node_id: status.node.to_string(),
        address: status.address.to_string(),
        name: names.get(&status.node).cloned(),
        endpoint,
        carrier: status.path.map(|path| path.carrier.as_str().to_owned()),
        interface: None,
        direction: if status.outbound { Direction::Out } else { Direction::In },
        state: match status.state {
            LinkState::Up => PeerState::Up,
            LinkState::Connecting => PeerState::Connecting,
        },
        configured: status.configured,
        source: status.source.to_owned(),
        rtt_ms: status.rtt.map(millis),
        jitter_ms: status.rtt.and(status.jitter).map(millis),
        loss: status.path.map(|_| f64::from(status.loss_permille) / 1000.0),
        mtu: status.mtu.map(u32::from),
        rx_bytes: status.rx_bytes,
        tx_bytes: status.tx_bytes,
        rx_rate,
        tx_rate,
        limit: status.limit.map(Rate::bytes_per_second),
        uptime_ms: status.uptime.map(whole_millis),
        handshake_age_ms: status.handshake_age.map(whole_millis),
        cipher: status.cipher.map(str::to_owned),
        version: None,
        last_error: status.last_error,
    }
}

pub(crate) fn reach(node: &Node) -> Reach {
    let reach = node.reach();
    let [ipv4, ipv6] = reach.mapping.map(|mapping| mapping.as_str().to_owned());
    Reach {
        direct: reach.direct,
        reflexive: reach.reflexive.iter().map(ToString::to_string).collect(),
        mapping_ipv4: ipv4,
        mapping_ipv6: ipv6,
    }
}

pub(crate) fn sessions(node: &Node, now: Instant) -> Sessions {
    Sessions { sessions: node.sessions(now).into_iter().map(session).collect() }
}

fn session(status: SessionStatus) -> Session {
    let path = match (status.path, status.via) {
        (Some(path), _) => Some(path.to_string()),
        (None, via) => via.map(|via| format!("via {}", via.short())),
    };
    Session {
        node_id: status.node.to_string(),
        address: status.address.to_string(),
        direct: status.path.is_some(),
        path,
        rtt_ms: status.rtt.map(millis),
        cipher: status.cipher.map(str::to_owned),
        rekey_age_ms: Some(whole_millis(status.rekey_age)),
        rx_bytes: status.rx_bytes,
        tx_bytes: status.tx_bytes,
        drops: 0,
    }
}

pub(crate) fn routes(node: &Node, show: RoutesShow, now: Instant) -> Routes {
    let wanted = |route: &RouteStatus| route.selected || show == RoutesShow::All;
    Routes { routes: node.routes(now).into_iter().filter(wanted).map(route).collect() }
}

fn route(status: RouteStatus) -> Route {
    Route {
        destination: status.address.to_string(),
        node_id: status.node.to_string(),
        next_hop: status.next_hop.map(|hop| hop.to_string()),
        metric_ms: status.metric.is_reachable().then(|| status.metric.millis()),
        hops: None,
        seqno: status.seqno.value(),
        feasible: status.feasible,
        selected: status.selected,
        age_ms: whole_millis(status.age),
        origin: match status.next_hop {
            None => RouteOrigin::Local,
            Some(hop) if hop == status.node => RouteOrigin::Neighbour,
            Some(_) => RouteOrigin::Learned,
        },
    }
}

pub(crate) fn route_answer(node: &Node, target: NodeId, now: Instant) -> RouteAnswer {
    let routes: Vec<_> = node.routes(now).into_iter().filter(|route| route.node == target).collect();
    let reachable = node.is_reachable(&target);
    let decision = match routes.iter().find(|route| route.selected) {
        Some(RouteStatus { next_hop: None, .. }) => "this node".to_owned(),
        Some(RouteStatus { next_hop: Some(hop), metric, .. }) => {
            let others = routes.len() - 1;
            format!(
                "via {}: lowest feasible cost, {} ms; {others} other advertisement(s)",
                hop.short(),
                metric.millis()
            )
        }
        None if reachable => "direct peer without a route".to_owned(),
        None if routes.is_empty() => "no neighbour advertises it".to_owned(),
        None => "no advertisement is feasible now; a fresh one has been asked for".to_owned(),
    };
    RouteAnswer {
        destination: target.address().to_string(),
        node_id: target.to_string(),
        reachable,
        decision,
        routes: routes.into_iter().map(route).collect(),
    }
}

pub(crate) fn graph(node: &Node, names: &Names, now: Instant) -> Graph {
    let status = node.status(now);
    let graph_node = |id: NodeId| GraphNode {
        node_id: id.to_string(),
        address: id.address().to_string(),
        name: if id == status.node { Some(status.name.clone()) } else { names.get(&id).cloned() }
            .filter(|name| !name.is_empty()),
        class: (id == status.node).then(|| status.class.as_str().to_owned()),
        local: id == status.node,
    };
    let peers = node.peers(now);
    let routes: Vec<_> = node.routes(now).into_iter().filter(|route| route.selected).collect();
    let mut ids: Vec<_> =
        routes.iter().map(|route| route.node).chain(peers.iter().map(|peer| peer.node)).collect();
    ids.sort_unstable();
    ids.dedup();
    let links = peers.iter().filter(|peer| peer.path.is_some()).map(|peer| GraphLink {
        from: status.node.to_string(),
        to: peer.node.to_string(),
        kind: LinkKind::Link,
        metric_ms: routes.iter().find(|route| route.node == peer.node).map(|route| route.metric.millis()),
        carrier: peer.path.map(|path| path.carrier.as_str().to_owned()),
        rtt_ms: peer.rtt.map(millis),
    });
    let learned = routes.iter().filter_map(|route| {
        let hop = route.next_hop.filter(|hop| *hop != route.node)?;
        Some(GraphLink {
            from: hop.to_string(),
            to: route.node.to_string(),
            kind: LinkKind::Route,
            metric_ms: Some(route.metric.millis()),
            carrier: None,
            rtt_ms: None,
        })
    });
    Graph { nodes: ids.into_iter().map(graph_node).collect(), links: links.chain(learned).collect() }
}

/// Empty while nobody has said whose the address is.
fn node_id(asked: Asked, found: Option<NodeId>) -> String {
    asked.node().or(found).map(|node| node.to_string()).unwrap_or_default()
}

pub(crate) fn ping(target: Asked, seq: u32, answer: Option<PingAnswer>, names: &Names) -> PingProbe {
    let name = |id: &NodeId| names.get(id).cloned().unwrap_or_else(|| id.short());
    let Some(answer) = answer else {
        let error = Some("no answer in time".to_owned());
        return PingProbe {
            seq,
            node_id: node_id(target, None),
            rtt_ms: None,
            path: None,
            direct: false,
            error,
        };
    };
    PingProbe {
        seq,
        node_id: node_id(target, Some(answer.node)),
        rtt_ms: Some(millis(answer.rtt)),
        path: Some(match (&answer.via, &answer.path) {
            (Some(via), _) => format!("via {}", name(via)),
            (None, Some(path)) => path.to_string(),
            (None, None) => "this node".to_owned(),
        }),
        direct: answer.via.is_none(),
        error: None,
    }
}

pub(crate) fn trace(target: Asked, hops: &[sinew_node::TraceHop], complete: bool) -> api::Trace {
    let last = hops.last().filter(|_| complete).map(|hop| hop.node);
    api::Trace {
        address: target.address().to_string(),
        node_id: node_id(target, last),
        reached: complete,
        error: (!complete).then(|| "the next hop did not answer, or there is none".to_owned()),
        hops: hops.iter().map(trace_hop).collect(),
    }
}

fn trace_hop(hop: &sinew_node::TraceHop) -> TraceHop {
    TraceHop {
        node_id: hop.node.to_string(),
        address: hop.address.to_string(),
        name: Some(hop.name.clone()).filter(|name| !name.is_empty()),
        carrier: hop.carrier.map(|carrier| carrier.as_str().to_owned()),
        rtt_ms: hop.rtt.map(millis),
        loss: None,
        mtu: Some(u32::from(hop.mtu)),
    }
}
