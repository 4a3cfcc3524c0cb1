//! What dialling takes from the outside: names resolved off the loop, connections in the making.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr as _;

use sinew_carrier::connections::{Connections, Dial};
use sinew_control::api::Listener;
use sinew_types::{CarrierKind, NodeId};
use tokio::sync::mpsc;
use tracing::debug;

/// Answers of the resolver waiting for the loop.
const QUEUE: usize = 64;

/// A resolver's answer.
pub(crate) struct Resolved {
    pub(crate) peer: NodeId,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// None if the name does not resolve.
    pub(crate) addresses: Vec<SocketAddr>,
}

/// Names and connections that are waited for.
pub(crate) struct Dialling {
    answers: (mpsc::Sender<Resolved>, mpsc::Receiver<Resolved>),
    /// Connections in the making, by number.
    connecting: HashMap<u32, NodeId>,
    /// Host and port of the HTTP proxy.
    proxy: Option<String>,
}

impl Dialling {
    pub(crate) fn new(proxy: Option<String>) -> Self {
        Self { answers: mpsc::channel(QUEUE), connecting: HashMap::new(), proxy }
    }

    pub(crate) fn answers(&mut self) -> &mut mpsc::Receiver<Resolved> {
        &mut self.answers.1
    }

    /// Asks the host's resolver, which may take its time; the node gives it up by itself.
    pub(crate) fn resolve(&self, peer: NodeId, host: String, port: u16) {
        let answers = self.answers.0.clone();
        tokio::spawn(async move {
            let addresses = match tokio::net::lookup_host((host.as_str(), port)).await {
                Ok(found) => found.collect(),
                Err(error) => {
                    debug!(%host, %error, "name not resolved");
                    Vec::new()
                }
            };
            // The loop is gone only when the daemon stops.
            let _ = answers.send(Resolved { peer, host, port, addresses }).await;
        });
    }

    pub(crate) fn connect(&mut self, connections: &mut Connections, peer: NodeId, dial: Dial) {
        let dial = Dial { proxy: self.proxy.clone(), ..dial };
        self.connecting.insert(connections.connect(dial), peer);
    }

    /// The connection is made or has failed; for whom it was, if it was one of ours in the making.
    pub(crate) fn connected(&mut self, local: u32) -> Option<NodeId> {
        self.connecting.remove(&local)
    }
}

/// Where this node itself would answer: dialling that would be a node that talks to itself.
pub(crate) fn own_endpoints(listeners: &[Listener]) -> BTreeSet<(CarrierKind, SocketAddr)> {
    let mut own = BTreeSet::new();
    for listener in listeners {
        let Some(carrier) = CarrierKind::parse(&listener.carrier) else { continue };
        let bound = SocketAddr::from_str(&listener.address).ok();
        let loopback = bound.filter(|bound| bound.ip().is_unspecified()).map(|bound| {
            let ip = if bound.is_ipv6() {
                IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1u16])
            } else {
                [127, 0, 0, 1].into()
            };
            SocketAddr::new(ip, bound.port())
        });
        let endpoints = listener.endpoints.iter().filter_map(|text| text.parse().ok());
        own.extend(endpoints.chain(bound).chain(loopback).map(|at| (carrier, at)));
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_everywhere_is_at_each_address_and_on_the_loopback() {
        let listener = Listener {
            carrier: "tcp".into(),
            address: "0.0.0.0:7".into(),
            endpoints: vec!["192.0.2.1:7".into(), "192.0.2.2:7".into()],
        };
        let own = own_endpoints(&[listener]);
        for at in ["192.0.2.1:7", "192.0.2.2:7", "127.0.0.1:7"] {
            assert!(own.contains(&(CarrierKind::Tcp, at.parse().unwrap())), "{at}");
        }
        assert!(!own.contains(&(CarrierKind::Udp, "192.0.2.1:7".parse().unwrap())));
    }
}
