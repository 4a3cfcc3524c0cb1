//! One node and its neighbourhood, as the API would describe them.

use sinew_control::Versioned;
use sinew_control::api::*;
use sinew_control::config::{Change, Effect};
use sinew_types::{Identity, NodeId};

use super::{ATTACH, Answer, answer};

mod gateway;
mod networks;
pub(crate) mod publish;

pub(crate) use networks::verdicts;

pub(crate) fn node(n: u8) -> NodeId {
    Identity::from_seed([n; 32]).node_id()
}

fn id(n: u8) -> String {
    node(n).to_string()
}

fn address(n: u8) -> String {
    node(n).address().to_string()
}

fn name(text: &str) -> Option<String> {
    Some(text.to_owned())
}

pub(crate) fn json<T: serde::Serialize>(body: T) -> String {
    serde_json::to_string(&Versioned::new(body)).expect("samples are plain structs")
}

pub(crate) fn status(ready: bool) -> Status {
    let listener = |carrier: &str| Listener {
        carrier: carrier.to_owned(),
        address: "0.0.0.0:7463".to_owned(),
        endpoints: vec!["192.0.2.1:7463".to_owned()],
    };
    let finding = Health {
        code: "no_peers".to_owned(),
        severity: Severity::Error,
        text: "none of 2 configured peers is up".to_owned(),
        fix: "`sinew peers` shows the last error of each".to_owned(),
    };
    Status {
        node_id: id(1),
        address: address(1),
        name: name("paris"),
        class: "router".to_owned(),
        version: "0.1.0".to_owned(),
        uptime_ms: 7_384_000,
        ready,
        peers_up: u64::from(ready),
        peers_total: 2,
        routes: 3,
        sessions: 2,
        tun: name("sinew0"),
        mtu: Some(1416),
        offload: offload(ready),
        listeners: vec![listener("udp"), listener("tcp")],
        reach: reach(),
        health: if ready { vec![] } else { vec![finding] },
    }
}

fn reach() -> Reach {
    Reach {
        direct: true,
        reflexive: vec!["198.51.100.7:40001".to_owned()],
        mapping_ipv4: "endpoint-independent".to_owned(),
        mapping_ipv6: "none".to_owned(),
    }
}

fn offload(all: bool) -> Offload {
    let on = |on: bool| if on { "on" } else { "off" }.to_owned();
    let note = "udp_send is off: Linux 7.0.3 corrupts batches of equally long datagrams".to_owned();
    Offload {
        tun_read: Some(on(true)),
        tun_write: Some(on(true)),
        udp_send: on(all),
        udp_receive: on(true),
        notes: if all { vec![] } else { vec![note] },
    }
}

pub(crate) fn peers() -> Peers {
    let up = Peer {
        node_id: id(2),
        address: address(2),
        name: name("rome"),
        endpoint: name("192.0.2.2:7463"),
        carrier: name("udp"),
        interface: None,
        direction: Direction::Out,
        state: PeerState::Up,
        configured: true,
        source: "configured".into(),
        rtt_ms: Some(12.345),
        jitter_ms: Some(0.4),
        loss: Some(0.005),
        mtu: Some(1436),
        rx_bytes: 1_234_567,
        tx_bytes: 890,
        rx_rate: 125_000,
        tx_rate: 0,
        limit: Some(2_500_000),
        uptime_ms: Some(61_000),
        handshake_age_ms: Some(59_000),
        cipher: name("aes-256-gcm"),
        version: name("1"),
        last_error: None,
    };
    let waiting = Peer {
        node_id: id(3),
        address: address(3),
        name: None,
        endpoint: name("[2001:db8::3]:7463"),
        carrier: name("tcp"),
        state: PeerState::Waiting,
        rtt_ms: None,
        jitter_ms: None,
        loss: None,
        mtu: None,
        rx_bytes: 0,
        tx_bytes: 0,
        rx_rate: 0,
        limit: None,
        uptime_ms: None,
        handshake_age_ms: None,
        cipher: None,
        version: None,
        last_error: name("connection refused"),
        ..up.clone()
    };
    Peers { peers: vec![up, waiting] }
}

fn route(n: u8, via: Option<u8>, selected: bool, origin: RouteOrigin) -> Route {
    Route {
        destination: address(n),
        node_id: id(n),
        next_hop: via.map(id),
        metric_ms: Some(u64::from(n) * 6),
        hops: via.map(|via| 1 + u32::from(via != n)),
        seqno: 1_751_371_200_000,
        feasible: selected,
        selected,
        age_ms: 4_200,
        origin,
    }
}

pub(crate) fn routes(all: bool) -> Routes {
    let mut routes = vec![
        route(1, None, true, RouteOrigin::Local),
        route(2, Some(2), true, RouteOrigin::Neighbour),
        route(4, Some(2), true, RouteOrigin::Learned),
    ];
    if all {
        routes.push(Route { metric_ms: None, ..route(4, Some(3), false, RouteOrigin::Learned) });
    }
    Routes { routes }
}

pub(crate) fn route_answer(reachable: bool) -> RouteAnswer {
    RouteAnswer {
        destination: address(4),
        node_id: id(4),
        reachable,
        decision: if reachable {
            "lowest metric of 1 feasible route"
        } else {
            "no neighbour has told a route"
        }
        .to_owned(),
        routes: if reachable { vec![route(4, Some(2), true, RouteOrigin::Learned)] } else { vec![] },
    }
}

pub(crate) fn sessions() -> Sessions {
    let direct = Session {
        node_id: id(2),
        address: address(2),
        path: name("udp/192.0.2.2:7463"),
        direct: true,
        rtt_ms: Some(12.3),
        cipher: name("aes-256-gcm"),
        rekey_age_ms: Some(59_000),
        rx_bytes: 5_000_000_000,
        tx_bytes: 4096,
        drops: 2,
    };
    let path = Some(format!("via {}", id(2)));
    let relayed = Session { node_id: id(4), address: address(4), path, direct: false, ..direct.clone() };
    Sessions { sessions: vec![direct, relayed] }
}

pub(crate) fn probe(seq: u32, rtt_ms: Option<f64>, direct: bool) -> PingProbe {
    PingProbe {
        seq,
        node_id: id(4),
        rtt_ms,
        path: rtt_ms.map(|_| if direct { "udp/192.0.2.4:7463".to_owned() } else { format!("via {}", id(2)) }),
        direct: rtt_ms.is_some() && direct,
        error: rtt_ms.is_none().then(|| "no answer within 2 s".to_owned()),
    }
}

/// Probes as the daemon streams them.
pub(crate) fn stream(probes: &[PingProbe]) -> String {
    probes.iter().map(|probe| json(probe) + "\n").collect()
}

pub(crate) fn trace(reached: bool) -> Trace {
    let hop = |n: u8, who: &str, rtt_ms| TraceHop {
        node_id: id(n),
        address: address(n),
        name: name(who),
        carrier: (n != 1).then(|| "udp".to_owned()),
        rtt_ms,
        loss: rtt_ms.map(|_| 0.0),
        mtu: (n != 1).then_some(1436),
    };
    let mut hops = vec![hop(1, "paris", None), hop(2, "rome\u{1b}[2J", Some(12.3))];
    if reached {
        hops.push(hop(4, "oslo", Some(30.0)));
    }
    let error = (!reached).then(|| "rome has no route to it".to_owned());
    Trace { address: address(4), node_id: id(4), reached, error, hops }
}

pub(crate) fn drops() -> Drops {
    let drop = |reason: &str, count| DropCount { reason: reason.to_owned(), count };
    Drops { total: 12, drops: vec![drop("replayed", 10), drop("source_spoofed", 2)] }
}

pub(crate) fn graph() -> Graph {
    let node = |n: u8, who: Option<&str>, class: &str| GraphNode {
        node_id: id(n),
        address: address(n),
        name: who.map(ToOwned::to_owned),
        class: name(class),
        local: n == 1,
    };
    let link = |from: u8, to: u8, kind, carrier: Option<&str>| GraphLink {
        from: id(from),
        to: id(to),
        kind,
        metric_ms: Some(u64::from(to) * 6),
        carrier: carrier.map(ToOwned::to_owned),
        rtt_ms: carrier.map(|_| 12.3),
    };
    Graph {
        nodes: vec![
            node(1, Some("paris"), "router"),
            node(2, Some("rome <\"&"), "router"),
            node(3, None, "stub"),
            node(4, Some("oslo"), "router"),
        ],
        links: vec![
            link(1, 2, LinkKind::Link, Some("udp")),
            link(1, 3, LinkKind::Link, Some("tcp")),
            link(2, 4, LinkKind::Route, None),
        ],
    }
}

pub(crate) fn changes() -> Vec<Change> {
    let change = |key: &str, old: Option<&str>, new: Option<&str>, effect| Change {
        key: key.to_owned(),
        old: old.map(ToOwned::to_owned),
        new: new.map(ToOwned::to_owned),
        effect,
    };
    vec![
        change("tun.inbound", Some("established"), Some("all"), Effect::Live),
        change("tun.mtu", Some("auto"), Some("1400"), Effect::Restart),
        change("peer.uri", Some("sinew://…@192.0.2.9:7463?via=udp"), None, Effect::Reconnects),
    ]
}

/// A daemon that is well.
pub(crate) fn everything() -> Vec<Answer> {
    let changed = PeerChanged { node_id: id(2), changed: true, saved: name("/etc/sinew/sinew.toml") };
    let unchanged = PeerChanged { node_id: id(2), changed: false, saved: None };
    let reload = Reload { file: "/etc/sinew/sinew.toml".to_owned(), changes: changes() };
    let loaded = LoadedConfig {
        file: "/etc/sinew/sinew.toml".to_owned(),
        loaded_at: "2026-07-01T12:00:00.000Z".to_owned(),
        text: "[node]\nname = \"paris\"\n".to_owned(),
    };
    vec![
        answer("GET /v1/status", 200, json(status(true))),
        answer("GET /v1/key", 200, json(Key::of(&Identity::from_seed([1; 32])))),
        answer("GET /v1/peers", 200, json(peers())),
        answer("POST /v1/peers/add", 200, json(changed)),
        answer("POST /v1/peers/rm", 200, json(unchanged)),
        answer("GET /v1/routes?show=selected", 200, json(routes(false))),
        answer("GET /v1/routes?show=all", 200, json(routes(true))),
        answer("POST /v1/routes/get", 200, json(route_answer(true))),
        answer("GET /v1/sessions", 200, json(sessions())),
        answer("POST /v1/ping", 200, stream(&[probe(1, Some(30.5), false), probe(2, Some(12.0), true)])),
        answer("POST /v1/trace", 200, json(trace(true))),
        answer("GET /v1/drops", 200, json(drops())),
        answer("GET /v1/graph", 200, json(graph())),
        answer("GET /v1/config", 200, json(loaded)),
        answer("POST /v1/config/reload", 200, json(reload)),
    ]
    .into_iter()
    .chain(networks::everything())
    .chain(gateway::answers())
    .chain(publish::everything())
    .collect()
}
