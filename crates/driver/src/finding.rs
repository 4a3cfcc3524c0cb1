//! Where nodes are found, and where this one may be: announcements, the directory and the host's own
//! addresses on one side, the node on the other.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use sinew_control::api::{self, FindingDirectory, FindingLan, Listener};
use sinew_control::config::{self, Switch};
use sinew_discovery::Found;
use sinew_discovery::directory::{Directory, DirectoryConfig, DirectoryError, Serve};
use sinew_discovery::lan::{Lan, LanConfig};
use sinew_node::Node;
use sinew_node::directory::{Own, PeeringConfig};
use sinew_types::{CarrierKind, Class, Instant, NodeId};
use sinew_wire::directory::Place;
use tokio::sync::mpsc;
use tracing::debug;
use zeroize::Zeroizing;

/// Records waiting for the loop; what is too much is heard again.
const QUEUE: usize = 64;

/// The finders that run.
pub(crate) struct Finders {
    lan: Option<Lan>,
    directory: Option<Directory>,
    found: mpsc::Receiver<Found>,
    class: Class,
    share: bool,
}

impl Finders {
    /// Starts what is configured. Nothing here needs privileges. `seed`: of the key in the directory.
    pub(crate) fn start(config: &config::Config, seed: Zeroizing<[u8; 32]>) -> Result<Self, DirectoryError> {
        let (finders, found) = mpsc::channel(QUEUE);
        let discovery = &config.discovery;
        let lan = discovery
            .lan
            .then(|| Lan::start(LanConfig { interfaces: discovery.interfaces.clone() }, finders.clone()));
        let directory = match discovery.uses_directory() {
            true => Some(Directory::start(directory_config(discovery, seed), finders)?),
            false => None,
        };
        Ok(Self { lan, directory, found, class: config.node.class, share: config.peering.share })
    }

    /// Where the loop hears of records.
    pub(crate) const fn found(&mut self) -> &mut mpsc::Receiver<Found> {
        &mut self.found
    }

    pub(crate) fn on_found(&self, node: &mut Node, found: Found, now: Instant) {
        let Found { record, source } = found;
        if let Err(refusal) = node.handle_record(&record, source, now) {
            debug!(%refusal, source = source.as_str(), "a node record is not taken");
        }
    }

    /// This node is to be found where it listens now.
    pub(crate) fn set_listeners(&self, node: &mut Node, listeners: &[Listener], now: Instant) {
        node.set_own(self.own(listeners), now);
    }

    fn own(&self, listeners: &[Listener]) -> Own {
        Own {
            stub: self.class == Class::Stub,
            pass_on: self.share,
            peer_key: self.directory.as_ref().map(Directory::key),
            places: places(listeners),
        }
    }

    /// This node's record is new.
    pub(crate) fn announce(&self, record: Vec<u8>) {
        if let Some(lan) = &self.lan {
            lan.announce(record.clone());
        }
        if let Some(directory) = &self.directory {
            directory.publish(record);
        }
    }

    /// Somebody wants this node, and nobody knows where it is.
    pub(crate) fn look_up(&self, node: NodeId) {
        if let Some(directory) = &self.directory {
            directory.look_up(node);
        }
    }

    /// What `netcheck` shows.
    pub(crate) fn show(&self, node: &Node) -> api::Finding {
        let finding = node.finding();
        let count = |(word, n): (&str, u64)| (word.to_owned(), n);
        let known = finding.known.iter().map(|&(word, n)| count((word, n as u64)));
        let place = |place: &Place| {
            let carriers: Vec<_> = place.carriers.iter().map(|carrier| carrier.as_str()).collect();
            format!("{} ({})", place.addr, carriers.join(", "))
        };
        api::Finding {
            target: finding.target as u64,
            chosen: finding.chosen as u64,
            known: known.collect(),
            remembered: finding.proven as u64,
            refused: finding.refused.iter().filter(|(_, n)| *n > 0).map(count).collect(),
            places: finding.places.iter().map(place).collect(),
            shared: finding.shared,
            lan: self.lan.as_ref().map(|lan| {
                let status = lan.status();
                FindingLan { interfaces: status.interfaces, heard: status.heard, dropped: status.dropped }
            }),
            directory: self.directory.as_ref().map(show_directory),
        }
    }
}

fn show_directory(directory: &Directory) -> FindingDirectory {
    let status = directory.status();
    let refused = status.refused.iter().filter(|(_, n)| *n > 0);
    FindingDirectory {
        peer_id: status.peer_id.clone(),
        peers: status.peers as u64,
        connected: status.connected as u64,
        serving: status.serving,
        reachability: match status.reachable {
            Some(true) => "public",
            Some(false) => "private",
            None => "unknown",
        }
        .to_owned(),
        published: status.published,
        records: status.records as u64,
        refused: refused.map(|(word, n)| (word.to_owned(), n)).collect(),
    }
}

fn directory_config(discovery: &config::Discovery, seed: Zeroizing<[u8; 32]>) -> DirectoryConfig {
    DirectoryConfig {
        seed,
        entries: discovery.directory.clone(),
        listen: discovery.listen.clone(),
        serve: match discovery.serve {
            Switch::Auto => Serve::Auto,
            Switch::On => Serve::On,
            Switch::Off => Serve::Off,
        },
        publish: discovery.publish,
    }
}

/// `[peering]` as the node takes it.
pub(crate) fn peering(config: &config::Config) -> PeeringConfig {
    let config::Peering { target, max, .. } = config.peering;
    PeeringConfig { target, max, stub: config.node.class == Class::Stub }
}

/// Addresses with all carriers that listen there; those that mean the same everywhere first.
fn places(listeners: &[Listener]) -> Vec<Place> {
    let mut places: BTreeMap<SocketAddr, Vec<CarrierKind>> = BTreeMap::new();
    for listener in listeners {
        let Some(carrier) = CarrierKind::parse(&listener.carrier) else { continue };
        for addr in listener.endpoints.iter().filter_map(|text| text.parse::<SocketAddr>().ok()) {
            if sinew_node::is_place(addr.ip()) && addr.port() != 0 {
                places.entry(addr).or_default().push(carrier);
            }
        }
    }
    let mut places: Vec<_> = places
        .into_iter()
        .map(|(addr, mut carriers)| {
            carriers.sort_unstable_by_key(|carrier| carrier.rank());
            carriers.dedup();
            Place { addr, carriers }
        })
        .collect();
    places.sort_by_key(|place| sinew_node::is_private(place.addr.ip()));
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_for_all_carriers_of_an_address_and_public_ones_first() {
        let listener = |carrier: &str, endpoints: &[&str]| Listener {
            carrier: carrier.into(),
            address: "0.0.0.0:7".into(),
            endpoints: endpoints.iter().map(|text| (*text).to_owned()).collect(),
        };
        let listeners = [
            listener("tcp", &["10.0.0.1:7463", "203.0.113.1:7463", "127.0.0.1:7463"]),
            listener("udp", &["10.0.0.1:7463", "203.0.113.1:7463"]),
        ];
        let both = vec![CarrierKind::Udp, CarrierKind::Tcp];
        let place = |addr: &str| Place { addr: addr.parse().unwrap(), carriers: both.clone() };
        assert_eq!(places(&listeners), [place("203.0.113.1:7463"), place("10.0.0.1:7463")]);
    }
}
