//! The gateway in the words of the control API.

use std::collections::BTreeMap;

use sinew_acme::HostStatus;
use sinew_control::api::{
    AnswerState, GatewayBackend, GatewayCertificate, GatewayCertificates, GatewayDomain, GatewayListener,
    GatewayName, GatewayNames, GatewayPort, GatewayService, GatewayStatus, Health, Severity,
};
use sinew_gateway::{Condition, ServiceStatus, Status};
use sinew_registry::{HostOutcome, Key, Mode, Service, Serving, State};

use super::answer::{self, date};
use super::build;
use super::certificates;
use super::desk::{Desk, Live, hex};
use super::log::short;
use super::ordered;
use crate::metrics::GatewayNumbers;

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

impl Desk {
    pub(super) fn status(&self) -> GatewayStatus {
        let status = self.front.as_ref().map(sinew_gateway::Gateway::status);
        let empty = Status { connections: 0, refused: Vec::new(), services: Vec::new() };
        let status = status.unwrap_or(empty);
        let orders = self.orders();
        let mut services: Vec<_> = self
            .registry
            .services()
            .map(|(key, service, hosts)| self.service(key, service, hosts, &status, &orders))
            .collect();
        services.sort_by(|a, b| {
            (a.host.contains('/'), &a.host, &a.paths).cmp(&(b.host.contains('/'), &b.host, &b.paths))
        });
        let refused = status.refused.iter().filter(|(_, count)| *count > 0);
        GatewayStatus {
            domain: self.config.domain.clone(),
            registrar: self.registrar(),
            listeners: self.listeners(),
            connections: status.connections,
            refused: refused.map(|(word, count)| ((*word).to_owned(), *count)).collect(),
            health: self.health(&services, &orders),
            services,
        }
    }

    fn listeners(&self) -> Vec<GatewayListener> {
        let addresses = self.front.as_ref().map(sinew_gateway::Gateway::addresses).unwrap_or_default();
        let word = |protocol| match protocol {
            sinew_gateway::config::Protocol::Https => "https",
            sinew_gateway::config::Protocol::Http => "http",
            sinew_gateway::config::Protocol::Tcp => "tcp",
            sinew_gateway::config::Protocol::Udp => "udp",
        };
        let each = addresses.into_iter().map(|(listener, bound)| GatewayListener {
            address: bound.to_string(),
            protocol: word(listener.protocol).to_owned(),
        });
        each.collect()
    }

    fn service(
        &self,
        key: &Key,
        service: &Service,
        hosts: Vec<HostOutcome>,
        status: &Status,
        orders: &BTreeMap<String, HostStatus>,
    ) -> GatewayService {
        let lacks = |host: &str| self.lacks(service.mode, host, orders);
        let hosts: Vec<_> = hosts.iter().map(|host| answer::of_host(host, self.here(), lacks)).collect();
        let served =
            hosts.iter().filter(|host| host.state == AnswerState::Live || host.code == "certificate_missing");
        let serving = Serving { key, service, hosts: served.map(|host| host.host.clone()).collect() };
        let name = build::name(&serving);
        let of_front = status.services.iter().find(|other| other.name == name);
        let live = self.live.get(key);
        let first = serving.hosts.first().or(hosts.first().map(|host| &host.host));
        let host = first.cloned().unwrap_or_else(|| name.clone());
        let count = |of: &dyn Fn(&ServiceStatus) -> u64| of_front.map_or(0, of);
        let classes = of_front.map(|front| front.statuses).unwrap_or_default();
        GatewayService {
            certificate_expiry: certificates::expiry(&self.certificates, &host)
                .filter(|_| service.mode == Mode::Http)
                .map(date),
            host,
            paths: service.paths.iter().filter(|path| !path.is_empty()).cloned().collect(),
            hosts,
            mode: build::shown(service.mode),
            port: service.port,
            network: live.and_then(|live| live.claim.network_name.as_ref()).map(ToString::to_string),
            network_id: key.network.to_string(),
            author: key.author.to_string(),
            service: hex(&key.service),
            since: date(service.since),
            expires: date(service.expires),
            backends: live.map(|live| backends(live, of_front)).unwrap_or_default(),
            connections: count(&|front| front.active),
            requests: CLASSES
                .iter()
                .zip(classes)
                .map(|(class, count)| ((*class).to_owned(), count))
                .collect(),
            streams: count(&|front| front.streams),
            rx_bytes: count(&|front| front.rx_bytes),
            tx_bytes: count(&|front| front.tx_bytes),
        }
    }

    fn health(&self, services: &[GatewayService], orders: &BTreeMap<String, HostStatus>) -> Vec<Health> {
        let mut health: Vec<Health> = Vec::new();
        let mut note = |code: &str, text: String, fix: &str| {
            let fix = fix.to_owned();
            health.push(Health { code: code.to_owned(), severity: Severity::Warning, text, fix });
        };
        for trouble in &self.trouble {
            note("gateway", trouble.clone(), "correct it and reload: `sinew config reload`");
        }
        if let Some(away) = self.away() {
            note("registrar_away", away, "`sinew ping` it; it is the gateway under [gateway] registrar");
        }
        for order in orders.values().filter(|order| ordered::fails(order)) {
            let why = order.last_error.as_deref().unwrap_or("it cannot be proved");
            let text = match order.not_after {
                Some(end) => {
                    format!("the certificate for {} is not renewed and ends {}: {why}", order.host, date(end))
                }
                None => format!("no certificate for {}: {why}", order.host),
            };
            note(
                "certificate_order",
                text,
                "`sinew gateway cert` shows all orders; the next try comes by itself",
            );
        }
        for host in services.iter().flat_map(|service| &service.hosts) {
            // What is on order was told of above, if it fails.
            if host.code == "certificate_missing" && ordered::order_of(orders, &host.host).is_none() {
                note(
                    "certificate_missing",
                    host.text.clone(),
                    "list a certificate under [gateway] certificates",
                );
            }
        }
        let dead = |service: &&GatewayService| {
            // What is not served yet is not asked after either.
            let asked = |backend: &&GatewayBackend| backend.weight > 0 && backend.condition != "unknown";
            let clients = || service.backends.iter().filter(asked);
            clients().next().is_some() && clients().all(|backend| !backend.healthy)
        };
        for service in services.iter().filter(dead) {
            let text = format!("no backend of {} can be reached", service.host);
            note("no_backend", text, "`sinew gateway probe HOST` says why, for each");
        }
        health
    }

    pub(super) fn certificates_shown(&self) -> GatewayCertificates {
        let mut all = self.files.shown().to_vec();
        let orders = self.orders();
        all.extend(orders.values().map(ordered::shown));
        for service in self.status().services {
            let lacking = service.hosts.iter().filter(|host| host.code == "certificate_missing");
            for host in lacking.filter(|host| ordered::order_of(&orders, &host.host).is_none()) {
                all.push(GatewayCertificate {
                    hosts: vec![host.host.clone()],
                    source: "none".to_owned(),
                    not_before: None,
                    not_after: None,
                    problem: Some(host.text.clone()),
                });
            }
        }
        GatewayCertificates { certificates: all }
    }

    pub(super) fn numbers(&self) -> GatewayNumbers {
        let Some(front) = self.front.as_ref().map(sinew_gateway::Gateway::status) else {
            return GatewayNumbers::default();
        };
        GatewayNumbers {
            connections: front.connections,
            refused: front.refused,
            requests: front.services.into_iter().flat_map(|service| service.hosts).collect(),
            services: self.status().services,
            certificates: self.certificates_shown().certificates,
            names_heard: self.registry.heard(),
        }
    }

    pub(super) fn names(&self) -> GatewayNames {
        let domain = self.config.domain.as_deref().unwrap_or_default();
        let name = |(label, holding): (&str, &sinew_registry::Holding)| GatewayName {
            name: label.to_owned(),
            host: format!("{label}.{domain}"),
            network_id: holding.network.to_string(),
            since: date(holding.since),
            until: date(holding.until),
            in_use: self.registry.in_use(label),
            transfer_to: holding.transfer.as_ref().map(|transfer| transfer.to.to_string()),
            transfer_at: holding.transfer.as_ref().map(|transfer| date(transfer.at)),
        };
        let domains = self.registry.proofs().map(|(domain, network, proof)| {
            let (state, since, failures) = match proof.state {
                State::Proved { since, failures, .. } => ("proved", since, u32::from(failures)),
                State::Waiting { tries, .. } => ("waiting", proof.since, tries),
            };
            GatewayDomain {
                domain: domain.to_owned(),
                network_id: network.to_string(),
                state: state.to_owned(),
                since: date(since),
                next_look: date(proof.next),
                failures,
            }
        });
        let ports = self.registry.ports().map(|(transport, port, holding)| GatewayPort {
            transport: transport.as_str().to_owned(),
            port,
            network_id: holding.key.network.to_string(),
            since: date(holding.since),
            until: date(holding.until),
        });
        GatewayNames {
            registrar: self.registrar(),
            names: self.registry.names().map(name).collect(),
            domains: domains.collect(),
            ports: ports.collect(),
        }
    }
}

fn backends(live: &Live, front: Option<&ServiceStatus>) -> Vec<GatewayBackend> {
    let known: BTreeMap<&str, _> =
        front.iter().flat_map(|front| &front.backends).map(|one| (one.target.as_str(), one)).collect();
    let each = live.claim.backends.iter().map(|backend| {
        let target = build::target(&live.claim, backend);
        let status = known.get(&*target.0);
        let condition = match status.map(|status| status.condition) {
            Some(Condition::Well) => "well",
            Some(Condition::Down) => "down",
            Some(Condition::Ejected) => "ejected",
            Some(Condition::Draining) => "draining",
            // The front dials it when it has something to ask, and keeps no watch.
            None if backend.weight == 0 => "asked",
            None => "unknown",
        };
        GatewayBackend {
            addr: short(&target.0).to_owned(),
            healthy: matches!(condition, "well" | "asked") && backend.node.is_some(),
            condition: condition.to_owned(),
            node_id: backend.node.map(|node| node.to_string()),
            weight: backend.weight,
            active: status.map_or(0, |status| status.active),
        }
    });
    each.collect()
}
