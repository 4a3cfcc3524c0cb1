//! Where this node is found, as a ticket says it: so that somebody who knows nobody else gets in.

use sinew_control::api::Listener;
use sinew_node::overlay::Contact;
use sinew_types::{CarrierKind, NodeId, PeerUri};

/// As many as a ticket carries of one node.
const ENDPOINTS_MAX: usize = 8;

/// This node, at the addresses that others may dial: one URI for each, its carriers together. Those of
/// this machine alone come last, for meshes within it.
pub(crate) fn contact(node: NodeId, listeners: &[Listener]) -> Contact {
    let mut found: Vec<(std::net::SocketAddr, Vec<CarrierKind>)> = Vec::new();
    for listener in listeners {
        let Some(carrier) = CarrierKind::parse(&listener.carrier) else { continue };
        for at in listener.endpoints.iter().filter_map(|text| text.parse().ok()) {
            match found.iter_mut().find(|(known, _)| *known == at) {
                Some((_, carriers)) if carriers.contains(&carrier) => {}
                Some((_, carriers)) => carriers.push(carrier),
                None => found.push((at, vec![carrier])),
            }
        }
    }
    found.sort_by_key(|(at, _)| at.ip().is_loopback());
    let uri = |(at, via): (std::net::SocketAddr, _)| PeerUri {
        node,
        host: at.ip().to_string(),
        port: at.port(),
        via,
        path: None,
    };
    Contact { node: *node.as_bytes(), endpoints: found.into_iter().take(ENDPOINTS_MAX).map(uri).collect() }
}

#[cfg(test)]
mod tests {
    use sinew_types::Identity;

    use super::*;

    #[test]
    fn a_ticket_names_each_address_once_with_all_its_carriers() {
        let node = Identity::from_seed([1; 32]).node_id();
        let listener = |carrier: &str, endpoints: &[&str]| Listener {
            carrier: carrier.to_owned(),
            address: String::new(),
            endpoints: endpoints.iter().map(|&at| at.to_owned()).collect(),
        };
        let listeners = [
            listener("udp", &["127.0.0.1:1", "10.0.0.1:7463", "[2001:db8::1]:7463"]),
            listener("tcp", &["10.0.0.1:7463"]),
            listener("later", &["10.0.0.2:1"]),
        ];
        let texts: Vec<_> = contact(node, &listeners).endpoints.iter().map(ToString::to_string).collect();
        let expected = [
            format!("sinew://{node}@10.0.0.1:7463?via=udp,tcp"),
            format!("sinew://{node}@[2001:db8::1]:7463?via=udp"),
            format!("sinew://{node}@127.0.0.1:1?via=udp"),
        ];
        assert_eq!(texts, expected);
        let many: Vec<_> = (1..=20).map(|n| format!("10.0.0.{n}:1")).collect();
        let many = [listener("udp", &many.iter().map(String::as_str).collect::<Vec<_>>())];
        assert_eq!(contact(node, &many).endpoints.len(), ENDPOINTS_MAX);
    }
}
