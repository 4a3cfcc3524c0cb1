//! From numbers to series: which family each goes into, and under which labels. The only place that knows both.
//!
//! Others decide how many peers, workloads and hosts there are, and how they are called. So there is a bound to how
//! many are shown, and a number of those that are not; sums do not suffer from it.

use std::collections::BTreeSet;

use sinew_control::api::{GatewayCertificate, GatewayService, Severity, Workloads};
use sinew_control::time;
use sinew_node::{HandshakeResult, LinkState, MessageCounts, MessageKind, PeerStatus};
use sinew_types::DropReason;

use super::ledger::Ledger;
use super::numbers::{GatewayNumbers, NodeNumbers};
use super::text::{Family, Sheet};

/// Peers, workloads and hosts shown at most, each.
const SHOWN: usize = 1000;
/// Directions, from the side of whom the series is about.
const RECEIVED: &str = "received";
const SENT: &str = "sent";
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
const CONDITIONS: [&str; 5] = ["well", "down", "ejected", "draining", "unknown"];
const WORKLOAD_STATES: [&str; 4] = ["up", "waiting", "moved", "broken"];

/// One answer in the making.
#[derive(Debug, Default)]
pub(super) struct Page(Sheet);

impl Page {
    pub(super) fn text(&self) -> String {
        self.0.text()
    }

    /// Whether a part of the daemon has answered.
    pub(super) fn part(&mut self, part: &str, answered: bool) {
        self.0.set(Family::ScrapeSuccess, &[("part", part)], f64::from(u8::from(answered)));
    }

    fn left_out(&mut self, what: &str, all: usize) {
        self.0.set(Family::ScrapeLeftOut, &[("what", what)], all.saturating_sub(SHOWN) as f64);
    }

    // --- the node ---

    pub(super) fn node(&mut self, node: &NodeNumbers, ledger: &Ledger) {
        let (status, sheet) = (&node.status, &mut self.0);
        let (id, address) = (status.node.to_string(), status.address.to_string());
        sheet.set(Family::BuildInfo, &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
        let info = [
            ("node_id", id.as_str()),
            ("address", address.as_str()),
            ("name", status.name.as_str()),
            ("class", status.class.as_str()),
        ];
        sheet.set(Family::NodeInfo, &info, 1.0);
        sheet.set(Family::Uptime, &[], status.uptime.as_secs_f64());
        sheet.set(Family::Ready, &[], f64::from(u8::from(node.ready)));
        for severity in [Severity::Info, Severity::Warning, Severity::Error] {
            for finding in node.health.iter().filter(|finding| finding.severity == severity) {
                sheet.add(
                    Family::Health,
                    &[("code", finding.code.as_str()), ("severity", severity.as_str())],
                    1,
                );
            }
        }
        sheet.set(Family::Routes, &[], status.routes as f64);
        sheet.set(Family::Sessions, &[], status.sessions as f64);
        for reason in DropReason::ALL {
            sheet.add(Family::Drops, &[("reason", reason.as_str())], node.drops.get(*reason));
        }
        sheet.add(Family::RouteChanges, &[], node.counts.route_changes);
        for result in HandshakeResult::ALL {
            let count = node.counts.handshakes.get(result);
            sheet.add(Family::Handshakes, &[("result", result.as_str())], count);
        }
        self.messages(RECEIVED, &node.counts.received);
        self.messages(SENT, &node.counts.sent);
        self.peers(node, ledger);
    }

    fn messages(&mut self, direction: &str, counts: &MessageCounts) {
        for kind in MessageKind::ALL {
            let (labels, count) = ([("type", kind.as_str()), ("direction", direction)], counts.get(kind));
            self.0.add(Family::ControlBytes, &labels, count.bytes);
            self.0.add(Family::ControlMessages, &labels, count.messages);
        }
    }

    fn peers(&mut self, node: &NodeNumbers, ledger: &Ledger) {
        for (word, state) in [("up", LinkState::Up), ("connecting", LinkState::Connecting)] {
            let count = node.peers.iter().filter(|peer| peer.state == state).count();
            self.0.set(Family::Peers, &[("state", word)], count as f64);
        }
        self.left_out("peers", node.peers.len());
        // Those that are up matter most; which of them are shown must not change from scrape to scrape.
        let mut peers: Vec<_> = node.peers.iter().collect();
        peers.sort_unstable_by_key(|peer| (peer.state != LinkState::Up, peer.node));
        for peer in peers.into_iter().take(SHOWN) {
            let name = node.names.get(&peer.node).map_or("", String::as_str);
            self.peer(peer, name, ledger);
        }
    }

    fn peer(&mut self, peer: &PeerStatus, name: &str, ledger: &Ledger) {
        let (id, address) = (peer.node.to_string(), peer.address.to_string());
        let own = [("node_id", id.as_str())];
        let carrier = peer.path.map_or("", |path| path.carrier.as_str());
        let info = [
            own[0],
            ("address", address.as_str()),
            ("name", name),
            ("carrier", carrier),
            ("source", peer.source),
        ];
        let sheet = &mut self.0;
        sheet.set(Family::PeerInfo, &info, 1.0);
        sheet.set(Family::PeerUp, &own, f64::from(u8::from(peer.state == LinkState::Up)));
        let measured = [
            (Family::PeerRtt, peer.rtt.map(|rtt| rtt.as_secs_f64())),
            (Family::PeerJitter, peer.rtt.and(peer.jitter).map(|jitter| jitter.as_secs_f64())),
            (Family::PeerLoss, peer.path.map(|_| f64::from(peer.loss_permille) / 1000.0)),
            (Family::PeerMtu, peer.mtu.map(f64::from)),
        ];
        for (family, value) in measured {
            if let Some(value) = value {
                sheet.set(family, &own, value);
            }
        }
        for (carrier, traffic) in ledger.of(&peer.node) {
            let labels = |direction| [own[0], ("carrier", carrier.as_str()), ("direction", direction)];
            sheet.add(Family::PeerBytes, &labels(RECEIVED), traffic.rx_bytes);
            sheet.add(Family::PeerBytes, &labels(SENT), traffic.tx_bytes);
            sheet.add(Family::PeerPackets, &labels(RECEIVED), traffic.rx_packets);
            sheet.add(Family::PeerPackets, &labels(SENT), traffic.tx_packets);
        }
    }

    // --- workloads ---

    pub(super) fn workloads(&mut self, workloads: &Workloads) {
        let all = &workloads.workloads;
        for state in WORKLOAD_STATES {
            let count = all.iter().filter(|workload| workload.state.as_str() == state).count();
            self.0.set(Family::Workloads, &[("state", state)], count as f64);
        }
        self.left_out("workloads", all.len());
        for workload in all.iter().take(SHOWN) {
            let labels = |direction| {
                let name = ("workload", workload.name.as_str());
                let network = ("network", workload.network.as_str());
                [("id", workload.id.as_str()), name, network, ("direction", direction)]
            };
            self.0.add(Family::WorkloadBytes, &labels(RECEIVED), workload.rx_bytes);
            self.0.add(Family::WorkloadBytes, &labels(SENT), workload.tx_bytes);
        }
    }

    // --- the gateway ---

    pub(super) fn gateway(&mut self, gateway: &GatewayNumbers) {
        self.0.add(Family::GatewayConnections, &[], gateway.connections);
        for (reason, count) in &gateway.refused {
            self.0.add(Family::GatewayRefused, &[("reason", reason)], *count);
        }
        if let Some(heard) = gateway.names_heard {
            self.0.add(Family::GatewayNamesHeard, &[], heard);
        }
        let of_services = gateway.services.iter().map(|service| service.host.as_str());
        let of_requests = gateway.requests.iter().map(|(host, _)| host.as_str());
        let of_certificates =
            gateway.certificates.iter().flat_map(|one| one.hosts.iter().map(String::as_str));
        // What is served comes before what has a certificate only.
        let served: BTreeSet<_> = of_services.chain(of_requests).collect();
        let idle: BTreeSet<_> = of_certificates.filter(|host| !served.contains(host)).collect();
        self.left_out("hosts", served.len() + idle.len());
        let shown: BTreeSet<_> = served.into_iter().chain(idle).take(SHOWN).collect();
        for (host, classes) in gateway.requests.iter().filter(|(host, _)| shown.contains(host.as_str())) {
            for (class, count) in CLASSES.into_iter().zip(classes) {
                self.0.add(Family::GatewayRequests, &[("host", host), ("class", class)], *count);
            }
        }
        for service in gateway.services.iter().filter(|service| shown.contains(service.host.as_str())) {
            self.service(service);
        }
        for certificate in &gateway.certificates {
            self.certificate(certificate, &shown);
        }
    }

    /// Services of one host (by path) are summed up.
    fn service(&mut self, service: &GatewayService) {
        let host = ("host", service.host.as_str());
        self.0.add(Family::GatewayActive, &[host], service.connections);
        self.0.add(Family::GatewayStreams, &[host], service.streams);
        self.0.add(Family::GatewayBytes, &[host, ("direction", RECEIVED)], service.rx_bytes);
        self.0.add(Family::GatewayBytes, &[host, ("direction", SENT)], service.tx_bytes);
        for condition in CONDITIONS {
            let count = service.backends.iter().filter(|backend| backend.condition == condition).count();
            self.0.add(Family::GatewayBackends, &[host, ("condition", condition)], count as u64);
        }
    }

    fn certificate(&mut self, certificate: &GatewayCertificate, shown: &BTreeSet<&str>) {
        let Some(end) = certificate.not_after.as_deref().and_then(time::unix_seconds) else { return };
        for host in certificate.hosts.iter().filter(|host| shown.contains(host.as_str())) {
            let labels = [("host", host.as_str()), ("source", certificate.source.as_str())];
            self.0.set(Family::GatewayCertificate, &labels, end as f64);
        }
    }
}

#[cfg(test)]
pub(super) mod samples;
#[cfg(test)]
mod tests;
