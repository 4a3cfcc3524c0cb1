//! Certificates that are ordered from an authority, for hosts that no file covers.
//!
//! `sinew-acme` decides when, proves the host and keeps the files; here is what it needs of this daemon: which
//! hosts are published, where proofs are shown (the front's table, a name server for the domain's wildcard), and who
//! takes a finished certificate into use. The operator's files come first: their hosts are not ordered.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::sync::Arc;

use sinew_acme::{
    ChallengeKind, Challenges, HostState, HostStatus, Install, Manager, Pair, Proof, Texts, Wanted,
};
use sinew_control::api::GatewayCertificate;
use sinew_control::config;
use sinew_gateway::{Certificate, Certificates};

use super::answer::date;
use super::certificates::{FileHosts, covers};

/// Below the state folder.
const FOLDER: &str = "acme";
/// What [`config::Acme::dns`] proves is proved by this name server, below the domain.
const SERVER: &str = "ns";

/// What an authority needs of the host, taken while there are privileges.
pub(crate) struct Authority {
    options: sinew_acme::Options,
    dns: Vec<(UdpSocket, TcpListener)>,
    /// The domain whose wildcard is proved by `dns`.
    domain: Option<String>,
}

impl Authority {
    /// Binds the name server and reads by whom the authority is known, if the configuration has one.
    ///
    /// # Errors
    /// An address that cannot be had, a file that cannot be read; for people.
    pub(crate) fn prepare(gateway: &config::Gateway, state_dir: &Path) -> Result<Option<Self>, String> {
        let Some(acme) = &gateway.acme else { return Ok(None) };
        let mut options = sinew_acme::Options::new(state_dir.join(FOLDER));
        options.directory.clone_from(&acme.directory);
        options.contact = acme.email.iter().map(|email| format!("mailto:{email}")).collect();
        if let Some(path) = &acme.ca_file {
            let read = std::fs::read(path);
            let failed = |error| format!("cannot read [gateway.acme] ca_file {}: {error}", path.display());
            options.roots = Some(read.map_err(failed)?);
        }
        options.read_roots().map_err(|error| error.to_string())?;
        let mut dns = Vec::new();
        for address in &acme.dns {
            let bound = UdpSocket::bind(address).and_then(|udp| Ok((udp, TcpListener::bind(address)?)));
            let failed = |error| format!("cannot listen at {address} for [gateway.acme] dns: {error}");
            dns.push(bound.map_err(failed)?);
        }
        let domain = gateway.domain.clone().filter(|_| !dns.is_empty());
        Ok(Some(Self { options, dns, domain }))
    }
}

/// Where proofs are shown and certificates used.
struct Shelf {
    certificates: Arc<Certificates>,
    files: FileHosts,
    texts: Arc<Texts>,
}

impl Shelf {
    fn show(&self, proof: &Proof, on: bool) {
        match proof {
            Proof::TlsAlpn { host, certificate } => {
                let made = |pair: Pair| Certificate::challenge_from_der(pair.chain, pair.key).ok();
                let shown = on.then(|| certificate.clone()).and_then(made);
                self.certificates.set_challenge(host, shown);
            }
            Proof::Http { token, answer, .. } => {
                self.certificates.set_answer(token, on.then_some(answer.as_str()));
            }
            Proof::Dns { name, value } if on => self.texts.set(name, value),
            Proof::Dns { name, value } => self.texts.clear(name, value),
        }
    }
}

impl Challenges for Shelf {
    fn set(&self, proof: &Proof) {
        self.show(proof, true);
    }

    fn clear(&self, proof: &Proof) {
        self.show(proof, false);
    }
}

impl Install for Shelf {
    fn install(&self, host: &str, pair: Pair) -> Result<(), String> {
        let certificate = Certificate::from_der(pair.chain, pair.key).map_err(|error| error.to_string())?;
        // A file that has come meanwhile stays.
        self.files.unless_given(host, || self.certificates.set(&[host], &certificate));
        Ok(())
    }

    fn remove(&self, host: &str) {
        self.files.unless_given(host, || self.certificates.remove(host));
    }
}

/// Certificates on order.
pub(super) struct Ordered {
    manager: Manager,
    texts: Arc<Texts>,
    domain: Option<String>,
    wanted: Vec<Wanted>,
}

impl Ordered {
    /// Starts the thread that orders; it has no hosts yet.
    ///
    /// # Errors
    /// For people: the folder, the roots.
    pub(super) fn start(
        authority: Authority,
        certificates: &Arc<Certificates>,
        files: &FileHosts,
    ) -> Result<Self, String> {
        let Authority { options, dns, domain } = authority;
        let server = domain.as_ref().map_or_else(String::new, |domain| format!("{SERVER}.{domain}"));
        let texts = Texts::new(&server);
        let shelf = Shelf { certificates: certificates.clone(), files: files.clone(), texts: texts.clone() };
        let shelf = Arc::new(shelf);
        let manager = Manager::start(options, shelf.clone(), shelf).map_err(|error| error.to_string())?;
        for (udp, tcp) in dns {
            manager.serve_dns(&texts, udp, tcp).map_err(|error| error.to_string())?;
        }
        Ok(Self { manager, texts, domain, wanted: Vec::new() })
    }

    /// Keeps certificates for these hosts and no others, but for those that a file gives.
    pub(super) fn want(&mut self, hosts: &BTreeSet<String>, files: &FileHosts) {
        let wanted = files.with(|given| wanted(hosts, given, self.domain.as_deref()));
        if wanted != self.wanted {
            self.texts.set_hosts(&wanted.iter().map(|wanted| &wanted.host).collect::<Vec<_>>());
            self.manager.set_hosts(wanted.clone());
            self.wanted = wanted;
        }
    }

    /// How each order stands, by host.
    pub(super) fn status(&self) -> BTreeMap<String, HostStatus> {
        self.manager.status().into_iter().map(|status| (status.host.clone(), status)).collect()
    }
}

/// What has to be ordered: the domain's wildcard if it can be proved, and each host that nothing covers.
fn wanted(hosts: &BTreeSet<String>, files: &BTreeSet<String>, domain: Option<&str>) -> Vec<Wanted> {
    let wildcard = domain.map(|domain| format!("*.{domain}")).filter(|wildcard| !files.contains(wildcard));
    let whole: BTreeSet<_> = wildcard.iter().cloned().collect();
    let single = hosts.iter().filter(|host| !covers(files, host) && !covers(&whole, host));
    let single =
        single.map(|host| Wanted::new(host.as_str(), &[ChallengeKind::TlsAlpn01, ChallengeKind::Http01]));
    let whole = whole.iter().map(|host| Wanted::new(host.as_str(), &[ChallengeKind::Dns01]));
    whole.chain(single).collect()
}

/// The order that a host's certificate comes from: its own, or its domain's.
pub(super) fn order_of<'a>(orders: &'a BTreeMap<String, HostStatus>, host: &str) -> Option<&'a HostStatus> {
    let wildcard = || orders.get(&format!("*.{}", host.split_once('.')?.1));
    orders.get(host).or_else(wildcard)
}

/// Why a host has no certificate yet, for people.
pub(super) fn missing(order: Option<&HostStatus>, host: &str) -> String {
    let Some(order) = order else { return format!("the gateway has no certificate for {host} yet") };
    match (&order.last_error, order.next_try) {
        (None, _) => format!("the gateway is ordering a certificate for {host}"),
        (Some(error), None) => format!("the gateway is ordering a certificate for {host} again: {error}"),
        (Some(error), Some(next)) => {
            format!("no certificate for {host}: {error}; the next order is placed at {}", date(next))
        }
    }
}

/// Whether orders for it fail, so that somebody should look.
pub(super) const fn fails(order: &HostStatus) -> bool {
    matches!(order.state, HostState::Failing | HostState::Impossible) || order.failures > 0
}

/// For people.
pub(super) fn shown(order: &HostStatus) -> GatewayCertificate {
    let lacks = matches!(order.state, HostState::Waiting | HostState::Ordering);
    let ordering = || lacks.then(|| "it is being ordered".to_owned());
    let failed = order.last_error.as_ref().map(|error| match order.next_try {
        Some(next) => format!("{error}; next try {}", date(next)),
        None => format!("{error}; it is being ordered again"),
    });
    GatewayCertificate {
        hosts: vec![order.host.clone()],
        source: "acme".to_owned(),
        not_before: order.not_before.map(date),
        not_after: order.not_after.map(date),
        problem: failed.or_else(ordering),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(hosts: &[&str]) -> BTreeSet<String> {
        hosts.iter().map(|host| (*host).to_owned()).collect()
    }

    #[test]
    fn hosts_are_ordered_that_neither_a_file_nor_the_wildcard_covers() {
        let hosts = set(&["app.gw.test", "shop.example", "deep.er.gw.test"]);
        let ordered = |files: &[&str], domain| -> Vec<_> {
            wanted(&hosts, &set(files), domain).into_iter().map(|wanted| wanted.host).collect()
        };
        assert_eq!(ordered(&[], None), ["app.gw.test", "deep.er.gw.test", "shop.example"]);
        assert_eq!(ordered(&[], Some("gw.test")), ["*.gw.test", "deep.er.gw.test", "shop.example"]);
        assert_eq!(ordered(&["*.gw.test"], Some("gw.test")), ["deep.er.gw.test", "shop.example"]);
        assert_eq!(ordered(&["shop.example"], None), ["app.gw.test", "deep.er.gw.test"]);
    }

    #[test]
    fn a_wildcard_is_proved_by_a_record_and_others_at_their_ports() {
        let wanted = wanted(&set(&["shop.example"]), &set(&[]), Some("gw.test"));
        assert_eq!(wanted[0].challenges, [ChallengeKind::Dns01]);
        assert_eq!(wanted[1].challenges, [ChallengeKind::TlsAlpn01, ChallengeKind::Http01]);
    }
}
