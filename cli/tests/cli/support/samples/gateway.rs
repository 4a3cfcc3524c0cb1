//! A gateway with two services, one of which waits for its proof.

use std::collections::BTreeMap;

use sinew_control::api::*;

use super::super::{Answer, answer};
use super::{id, json};

fn backend(addr: &str, healthy: bool) -> GatewayBackend {
    GatewayBackend {
        addr: addr.to_owned(),
        healthy,
        condition: if healthy { "well" } else { "down" }.to_owned(),
        node_id: Some(id(2)),
        weight: if healthy { 1 } else { 2 },
        active: 3,
    }
}

fn host(host: &str, state: AnswerState) -> AnswerHost {
    let live = state == AnswerState::Live;
    let dns =
        DnsToSet { name: format!("_sinew.{host}"), kind: "TXT".to_owned(), value: "ns4bx7fb6mga".to_owned() };
    AnswerHost {
        host: host.to_owned(),
        state,
        code: if live { "" } else { "proof_missing" }.to_owned(),
        text: if live { String::new() } else { format!("waits for the TXT record _sinew.{host}") },
        dns: if live { Vec::new() } else { vec![dns] },
    }
}

fn service(first: AnswerHost, mode: PublishMode, port: Option<u16>) -> GatewayService {
    let tcp = mode == PublishMode::Tcp;
    GatewayService {
        host: first.host.clone(),
        paths: Vec::new(),
        hosts: if tcp { Vec::new() } else { vec![first] },
        mode,
        port,
        network: Some("shop".to_owned()),
        network_id: id(9),
        author: id(2),
        service: "00112233445566778899aabbccddeeff".to_owned(),
        since: "2026-07-01T12:34:56.000Z".to_owned(),
        expires: "2026-07-08T12:34:56.000Z".to_owned(),
        backends: vec![backend("web:8080", true), backend("web2:8080", false)],
        certificate_expiry: (!tcp).then(|| "2026-09-29T12:34:56.000Z".to_owned()),
        connections: 4,
        requests: BTreeMap::from([("2xx".to_owned(), 1200), ("5xx".to_owned(), 3)]),
        streams: 0,
        rx_bytes: 4096,
        tx_bytes: 7_340_032,
    }
}

fn registrar(problem: Option<&str>) -> GatewayRegistrar {
    GatewayRegistrar {
        node_id: id(8),
        heard: Some("2026-07-01T12:34:56.000Z".to_owned()),
        age_ms: Some(75_000),
        problem: problem.map(str::to_owned),
    }
}

fn status() -> GatewayStatus {
    GatewayStatus {
        domain: Some("gw.test".to_owned()),
        registrar: Some(registrar(None)),
        listeners: vec![GatewayListener { address: "0.0.0.0:443".to_owned(), protocol: "https".to_owned() }],
        services: vec![
            service(host("app.gw.test", AnswerState::Live), PublishMode::Http, None),
            service(host("shop.example", AnswerState::Pending), PublishMode::TlsPassthrough, None),
            service(host("tcp/20001", AnswerState::Live), PublishMode::Tcp, Some(20_001)),
        ],
        connections: 1300,
        refused: BTreeMap::from([("unknown_name".to_owned(), 17)]),
        health: Vec::new(),
    }
}

fn probed() -> GatewayProbed {
    let probe = BackendProbe {
        addr: "web:8080".to_owned(),
        node_id: Some(id(2)),
        connect_ms: Some(1.25),
        error: None,
    };
    let service = service(host("shop.example", AnswerState::Pending), PublishMode::Http, None);
    GatewayProbed { service, probes: vec![probe] }
}

fn log() -> GatewayLog {
    let lines = [
        r#"{"kind":"request","time":"2026-07-01T12:34:56.000Z","id":"r1","client":"198.51.100.7:5000","version":"HTTP/2.0","tls":true,"method":"GET","host":"app.gw.test","path":"/a","service":"app.gw.test","backend":"web:8080","user":null,"status":503,"error":"no_backend","rx_bytes":0,"tx_bytes":2048,"duration_ms":1.5,"aborted":false}"#,
        r#"{"kind":"stream","time":"2026-07-01T12:34:57.000Z","client":"198.51.100.7:5001","service":"tcp/20001","host":null,"backend":"db:5432","rx_bytes":10,"tx_bytes":20,"duration_ms":12.0,"end":"closed"}"#,
        r#"{"kind":"backend","time":"2026-07-01T12:34:58.123Z","service":"app.gw.test","backend":"web2:8080","condition":"down","cause":"no answer in time"}"#,
    ];
    let lines = lines.map(|line| serde_json::from_str(line).expect("samples are JSON"));
    GatewayLog { lines: lines.to_vec(), next: 3, lost: 0 }
}

fn certificates() -> GatewayCertificates {
    let certificate = GatewayCertificate {
        hosts: vec!["*.gw.test".to_owned(), "gw.test".to_owned()],
        source: "file".to_owned(),
        not_before: Some("2026-07-01T12:34:56.000Z".to_owned()),
        not_after: Some("2026-09-29T12:34:56.000Z".to_owned()),
        problem: None,
    };
    GatewayCertificates { certificates: vec![certificate] }
}

fn names() -> GatewayNames {
    let time = |day: u8| format!("2026-07-{day:02}T12:34:56.000Z");
    let name = |label: &str, in_use, to: Option<u8>| GatewayName {
        name: label.to_owned(),
        host: format!("{label}.gw.test"),
        network_id: id(9),
        since: time(1),
        until: time(31),
        in_use,
        transfer_to: to.map(id),
        transfer_at: to.map(|_| time(8)),
    };
    GatewayNames {
        registrar: Some(registrar(Some("it is busy"))),
        names: vec![name("app", true, None), name("old", false, None), name("sold", true, Some(3))],
        domains: vec![GatewayDomain {
            domain: "shop.example".to_owned(),
            network_id: id(9),
            state: "waiting".to_owned(),
            since: time(2),
            next_look: time(2),
            failures: 4,
        }],
        ports: vec![GatewayPort {
            transport: "tcp".to_owned(),
            port: 20_001,
            network_id: id(9),
            since: time(3),
            until: time(30),
        }],
    }
}

pub(super) fn answers() -> Vec<Answer> {
    let drained = GatewayDrained { backends: vec!["app.gw.test web:8080".to_owned()], active: 3 };
    vec![
        answer("GET /v1/gateway", 200, json(status())),
        answer("POST /v1/gateway/probe", 200, json(probed())),
        answer("POST /v1/gateway/log", 200, json(log())),
        answer("POST /v1/gateway/drain", 200, json(drained)),
        answer("GET /v1/gateway/certificates", 200, json(certificates())),
        answer("GET /v1/gateway/names", 200, json(names())),
        answer("POST /v1/gateway/names/transfer", 200, json(names())),
    ]
}
