//! A service of each sort, as its author's node and its gateway describe it.

use sinew_control::api::*;

use super::{Answer, answer, id, json, name};

fn host(host: &str, state: AnswerState) -> AnswerHost {
    AnswerHost { host: host.to_owned(), state, code: String::new(), text: String::new(), dns: Vec::new() }
}

fn gateway(state: AnswerState, hosts: Vec<AnswerHost>, port: Option<u16>) -> gateway_answer::Answered {
    let addresses = vec!["gw1.example.org".to_owned(), "203.0.113.7".to_owned()];
    gateway_answer::Answered {
        service: name("a1"),
        seq: 7,
        state,
        hosts,
        addresses,
        port,
        code: String::new(),
        text: String::new(),
    }
}

/// The gateway's answer under a name that differs from a prepared one's.
mod gateway_answer {
    pub(super) use sinew_control::api::Answer as Answered;
}

/// Served under a name of the gateway, on two nodes.
pub(crate) fn live() -> Publication {
    let backend = |workload: &str, node: u8, weight| PublicationBackend {
        workload: workload.to_owned(),
        node: Some(id(node)),
        port: 8080,
        weight,
        here: node == 1,
    };
    let answer = gateway(AnswerState::Live, vec![host("app.gw1.example.org", AnswerState::Live)], None);
    Publication {
        id: "0123456789abcdef0123456789abcdef".to_owned(),
        seq: 7,
        name: "app".to_owned(),
        network: "shop".to_owned(),
        network_id: id(9),
        gateway: id(3),
        mode: PublishMode::Http,
        hosts: vec!["app".to_owned()],
        backends: vec![backend("web", 1, 1), backend("web2", 2, 3)],
        settings: Settings { plain: true, ..Settings::default() },
        state: PublicationState::Live,
        answer: Some(answer),
        answer_age_ms: Some(1500),
        code: String::new(),
        text: String::new(),
        expires: "2026-07-08T12:00:00.000Z".to_owned(),
        connections: 2,
        rx_bytes: 2100,
        tx_bytes: 48_000,
    }
}

/// Waits for a TXT record.
pub(crate) fn pending() -> Publication {
    let dns = vec![DnsToSet {
        name: "_sinew.www.example.org".to_owned(),
        kind: "TXT".to_owned(),
        value: "ivxw2k".to_owned(),
    }];
    let text = "the TXT record that proves the name is missing".to_owned();
    let waits = AnswerHost { dns, text, ..host("www.example.org", AnswerState::Pending) };
    Publication {
        name: "www-example-org".to_owned(),
        hosts: vec!["www.example.org".to_owned()],
        state: PublicationState::Pending,
        answer: Some(gateway(AnswerState::Pending, vec![waits], None)),
        ..live()
    }
}

/// A TCP port, of a workload that is gone.
pub(crate) fn port() -> Publication {
    let mut one = Publication {
        name: "db".to_owned(),
        mode: PublishMode::Tcp,
        hosts: Vec::new(),
        answer: Some(gateway(AnswerState::Live, Vec::new(), Some(20_001))),
        ..live()
    };
    one.backends.truncate(1);
    one.backends[0].node = None;
    one
}

pub(super) fn everything() -> Vec<Answer> {
    let requests = [("not_published".to_owned(), 3), ("ok".to_owned(), 41)].into();
    let all = Publications { services: vec![live(), pending(), port()], requests };
    let exposed =
        Exposed { change: "created".to_owned(), differences: vec!["new".to_owned()], publication: live() };
    let gone =
        Unexposed { id: live().id, name: "app".to_owned(), network: "shop".to_owned(), confirmed: true };
    vec![
        answer("GET /v1/publications", 200, json(all)),
        answer("POST /v1/publications/expose", 200, json(exposed)),
        answer("POST /v1/publications/unexpose", 200, json(gone)),
    ]
}
