//! A service of this node as the control API shows it.

use sinew_control::api::{self, PublicationBackend, PublicationState};
use sinew_node::Node;
use sinew_node::overlay::{ExposureStatus, PublicationSpec, PublishMode, service_id};
use sinew_types::NetworkId;

use super::{key, state_of};
use crate::ingress::{Delivery, Ingress, Traffic};
use crate::networks::rfc3339;

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const fn mode(mode: PublishMode) -> api::PublishMode {
    match mode {
        PublishMode::Http => api::PublishMode::Http,
        PublishMode::TlsPassthrough => api::PublishMode::TlsPassthrough,
        PublishMode::Tcp => api::PublishMode::Tcp,
        PublishMode::Udp => api::PublishMode::Udp,
    }
}

fn backends(node: &Node, network: &NetworkId, spec: &PublicationSpec) -> Vec<PublicationBackend> {
    let state = node.overlay().state(network).ok();
    let own = node.overlay().own();
    let backend = |backend: &sinew_node::overlay::BackendSpec| {
        let workload = state.and_then(|state| state.workload(backend.home.as_bytes(), &backend.workload));
        let host = workload.and_then(|workload| workload.host);
        PublicationBackend {
            workload: backend.workload.to_string(),
            node: host.map(|host| host.to_string()),
            port: backend.port,
            weight: backend.weight,
            here: host == Some(own),
        }
    };
    spec.backends.iter().map(backend).collect()
}

/// What would be published.
pub(super) fn planned(node: &Node, network: &NetworkId, spec: &PublicationSpec) -> api::Publication {
    let name = node.overlay().name(network).map(|name| name.to_string()).unwrap_or_default();
    api::Publication {
        id: hex(&service_id(network, &node.overlay().own(), &spec.name)),
        seq: 0,
        name: spec.name.to_string(),
        network: name,
        network_id: network.to_string(),
        gateway: spec.gateway.to_string(),
        mode: mode(spec.mode),
        hosts: spec.hosts.clone(),
        backends: backends(node, network, spec),
        settings: settings(&spec.settings),
        state: PublicationState::Sending,
        answer: None,
        answer_age_ms: None,
        code: String::new(),
        text: String::new(),
        expires: String::new(),
        connections: 0,
        rx_bytes: 0,
        tx_bytes: 0,
    }
}

fn settings(bytes: &[u8]) -> api::Settings {
    serde_json::from_slice(bytes).unwrap_or_default()
}

/// A service as it stands.
pub(super) fn publication(
    node: &Node,
    network: &NetworkId,
    status: &ExposureStatus,
    ingress: &Ingress,
) -> api::Publication {
    let mut shown = planned(node, network, &status.spec);
    let Traffic { open, received, sent } = ingress.counters().traffic(&(*network.as_bytes(), status.service));
    (shown.connections, shown.rx_bytes, shown.tx_bytes) = (open, received, sent);
    match &status.publication {
        Some(publication) => {
            (shown.seq, shown.expires) = (publication.seq, rfc3339(publication.expires));
            fill(&mut shown, ingress.courier.delivery(&key(network, status)).as_ref());
        }
        None => {
            shown.state = PublicationState::Void;
            "not_entitled".clone_into(&mut shown.code);
            status.reason.unwrap_or("it does not count").clone_into(&mut shown.text);
        }
    }
    shown
}

/// Adds what the gateway said.
pub(super) fn fill(shown: &mut api::Publication, delivery: Option<&Delivery>) {
    let Some(delivery) = delivery else { return };
    if let Some((answer, at)) = &delivery.answer {
        shown.state = state_of(answer.state);
        (shown.code, shown.text) = (answer.code.clone(), answer.text.clone());
        shown.answer_age_ms = u64::try_from(at.elapsed().as_millis()).ok();
        shown.answer = Some(answer.clone());
        // An answer to an older version says nothing about this one.
        if delivery.seq != shown.seq && answer.state != api::AnswerState::Live {
            shown.state = PublicationState::Sending;
        }
    }
    if let Some(error) = delivery.error {
        shown.state = PublicationState::Unreachable;
        "unreachable".clone_into(&mut shown.code);
        error.clone_into(&mut shown.text);
    }
}
