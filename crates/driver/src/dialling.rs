//! What dialling takes from the outside: names resolved off the loop, connections in the making.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr as _;

use sinew_carrier::connections::{Connections, Dial};
use sinew_control::api::Listener;
use sinew_types::{CarrierKind, NodeId};
use tokio::sync::mpsc;
use tracing::debug;

/// Answers of the resolver waiting for the loop.
const QUEUE: usize = 64;

/// A name without IPv6 addresses of its own, and its IPv4 addresses (RFC 7050 §2.2).
const WELL_KNOWN: &str = "ipv4only.arpa";
const WELL_KNOWN_ADDRESSES: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 0, 170), Ipv4Addr::new(192, 0, 0, 171)];

/// Lengths of a translator's prefix, and the octet that is zero whatever the length (RFC 6052 §2.2).
const PREFIXES: [u8; 6] = [96, 64, 56, 48, 40, 32];
const RESERVED: usize = 8;

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

    /// Asks the host's resolver, which may take its time; the node gives it up by itself. `only_ipv6`: the
    /// host has no way out over IPv4, so that IPv4 addresses that are written out need a translator.
    pub(crate) fn resolve(&self, peer: NodeId, host: String, port: u16, only_ipv6: bool) {
        let answers = self.answers.0.clone();
        tokio::spawn(async move {
            let mut addresses = match tokio::net::lookup_host((host.as_str(), port)).await {
                Ok(found) => found.collect(),
                Err(error) => {
                    debug!(%host, %error, "name not resolved");
                    Vec::new()
                }
            };
            if let Some(v4) = host.parse().ok().filter(|_| only_ipv6) {
                addresses.extend(translated(v4, port).await);
            }
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

/// Where a network's NAT64 makes an IPv4 address reachable, as its DNS64 shows with a name that has none but
/// well-known IPv4 addresses (RFC 7050). Names need no help: DNS64 translates them itself.
async fn translated(v4: Ipv4Addr, port: u16) -> Vec<SocketAddr> {
    let Ok(found) = tokio::net::lookup_host((WELL_KNOWN, port)).await else { return Vec::new() };
    let translated: BTreeSet<_> = found.flat_map(|at| translate(at.ip(), v4)).collect();
    translated.into_iter().map(|ip| SocketAddr::new(ip.into(), port)).collect()
}

/// An IPv4 address behind the prefix that `answer` shows, of whatever length a well-known address is found
/// after (RFC 7050 §3). Should there be two such lengths, both are tried: the wrong one leads nowhere.
fn translate(answer: IpAddr, v4: Ipv4Addr) -> Vec<Ipv6Addr> {
    let IpAddr::V6(answer) = answer else { return Vec::new() };
    let shows = |length: &u8| {
        let octets = embedded(*length).map(|at| answer.octets()[at]);
        WELL_KNOWN_ADDRESSES.contains(&octets.into()) && (*length == 96 || answer.octets()[RESERVED] == 0)
    };
    let behind = |length: u8| {
        let mut octets = answer.octets();
        embedded(length).into_iter().zip(v4.octets()).for_each(|(at, octet)| octets[at] = octet);
        octets.into()
    };
    PREFIXES.into_iter().filter(shows).map(behind).collect()
}

/// Where the octets of an IPv4 address are behind a prefix of this length (RFC 6052 §2.2).
fn embedded(length: u8) -> [usize; 4] {
    let mut free = (usize::from(length) / 8..).filter(|&at| at != RESERVED);
    [(); 4].map(|()| free.next().unwrap_or_default())
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

    #[test]
    fn an_ipv4_address_is_found_behind_the_prefix_that_the_well_known_name_shows() {
        let v4 = Ipv4Addr::new(198, 51, 100, 7);
        // The first six prefixes as in RFC 6052 §2.4.
        for (answer, expected) in [
            ("2001:db8:c000:aa::", Some("2001:db8:c633:6407::")),
            ("2001:db8:1c0:0:aa::", Some("2001:db8:1c6:3364:7::")),
            ("2001:db8:122:c000:0:aa00::", Some("2001:db8:122:c633:64:700::")),
            ("2001:db8:122:3c0:0:aa::", Some("2001:db8:122:3c6:33:6407::")),
            ("2001:db8:122:344:c0:0:aa00:0", Some("2001:db8:122:344:c6:3364:700:0")),
            ("64:ff9b::c000:aa", Some("64:ff9b::c633:6407")),
            ("2001:db8:1:2:3:4:c000:ab", Some("2001:db8:1:2:3:4:c633:6407")),
            // Octet 8 is not zero: no /64.
            ("2001:db8:122:344:1c0:0:aa00:0", None),
            ("2001:db8::1", None),
            ("192.0.0.170", None),
        ] {
            let expected: Vec<Ipv6Addr> = expected.iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(translate(answer.parse().unwrap(), v4), expected, "{answer}");
        }
    }
}
