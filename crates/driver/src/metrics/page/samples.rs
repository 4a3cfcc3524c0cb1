//! Numbers made up for tests: something of everything.

use std::collections::BTreeMap;
use std::time::Duration;

use sinew_control::api::{
    AttachedBy, GatewayBackend, GatewayCertificate, GatewayService, Health, PublishMode, Severity, Workload,
    WorkloadState, Workloads,
};
use sinew_node::{Counts, HandshakeResult, LinkState, PeerStatus, Status};
use sinew_types::{CarrierKind, Class, DropReason, Drops, Identity, NodeId, PathAddr};

use crate::metrics::{GatewayNumbers, NodeNumbers};

pub(in crate::metrics) fn id(number: u8) -> NodeId {
    Identity::from_seed([number; 32]).node_id()
}

pub(in crate::metrics) fn peer(number: u8) -> PeerStatus {
    let node = id(number);
    let remote = "10.0.0.2:7463".parse().unwrap();
    PeerStatus {
        node,
        address: node.address(),
        state: LinkState::Up,
        configured: true,
        source: "configured",
        path: Some(PathAddr { carrier: CarrierKind::Udp, local: 0, remote }),
        dialled: None,
        outbound: true,
        rtt: Some(Duration::from_micros(1500)),
        jitter: Some(Duration::from_micros(250)),
        loss_permille: 20,
        mtu: Some(1400),
        rx_bytes: 1000,
        tx_bytes: 2000,
        rx_packets: 10,
        tx_packets: 20,
        limit: None,
        uptime: Some(Duration::from_secs(5)),
        handshake_age: None,
        cipher: None,
        last_error: None,
    }
}

pub(in crate::metrics) fn node() -> NodeNumbers {
    let (own, waiting) = (id(9), peer(2));
    let waiting = PeerStatus { state: LinkState::Connecting, path: None, rtt: None, mtu: None, ..waiting };
    let (mut drops, mut counts) = (Drops::default(), Counts { route_changes: 4, ..Counts::default() });
    drops.add(DropReason::NoRoute, 3);
    counts.handshakes.count(HandshakeResult::New);
    NodeNumbers {
        status: Status {
            node: own,
            address: own.address(),
            name: "gw-1".to_owned(),
            class: Class::Router,
            uptime: Duration::from_millis(2500),
            peers_up: 1,
            peers_total: 2,
            routes: 7,
            sessions: 1,
        },
        ready: true,
        health: vec![Health {
            code: "no_peer".to_owned(),
            severity: Severity::Warning,
            text: String::new(),
            fix: String::new(),
        }],
        names: BTreeMap::from([(id(1), "a \"quoted\" name".to_owned())]),
        peers: vec![waiting, peer(1)],
        drops,
        counts,
    }
}

pub(in crate::metrics) fn workloads() -> Workloads {
    Workloads {
        workloads: vec![Workload {
            id: "w1".to_owned(),
            name: "web".to_owned(),
            network: "shop".to_owned(),
            addresses: Vec::new(),
            netns: None,
            pid: None,
            state: WorkloadState::Up,
            rx_bytes: 11,
            tx_bytes: 22,
            interface: String::new(),
            mtu: 1400,
            by: AttachedBy::Run,
            tag: None,
            key: None,
            lease_until: None,
            resolvers: Vec::new(),
            search: Vec::new(),
        }],
    }
}

pub(in crate::metrics) fn service(host: &str) -> GatewayService {
    let backend = GatewayBackend {
        addr: "web:80".to_owned(),
        healthy: true,
        condition: "well".to_owned(),
        node_id: None,
        weight: 1,
        active: 1,
    };
    GatewayService {
        host: host.to_owned(),
        paths: Vec::new(),
        hosts: Vec::new(),
        mode: PublishMode::Http,
        port: None,
        network: None,
        network_id: String::new(),
        author: String::new(),
        service: String::new(),
        since: String::new(),
        expires: String::new(),
        backends: vec![backend],
        certificate_expiry: None,
        connections: 1,
        requests: BTreeMap::new(),
        streams: 2,
        rx_bytes: 30,
        tx_bytes: 40,
    }
}

pub(in crate::metrics) fn certificate(host: &str, end: &str) -> GatewayCertificate {
    GatewayCertificate {
        hosts: vec![host.to_owned()],
        source: "file".to_owned(),
        not_before: None,
        not_after: Some(end.to_owned()),
        problem: None,
    }
}

pub(in crate::metrics) fn gateway() -> GatewayNumbers {
    GatewayNumbers {
        connections: 5,
        refused: vec![("bad_hello", 2), ("rate", 0)],
        // Two paths of one host are two services.
        requests: vec![
            ("app.gw.test".to_owned(), [0, 3, 0, 1, 0]),
            ("app.gw.test".to_owned(), [0, 4, 0, 0, 0]),
        ],
        services: vec![service("app.gw.test"), service("app.gw.test")],
        certificates: vec![certificate("app.gw.test", "1970-01-02T00:00:00.000Z")],
        names_heard: Some(86_400),
    }
}
