//! What all threads share, and the immutable snapshot that a configuration becomes.
//!
//! [`Snapshot::build`] checks a configuration and turns it into tables. State that must outlive
//! a change (a backend's health and connections, a service's counts) is taken over from the snapshot
//! before it by name; all else is new. A request holds the snapshot it began with.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use arc_swap::ArcSwap;
use rustc_hash::{FxHashMap, FxHashSet};
use rustls::ServerConfig;

use crate::access::Gatekeeper;
use crate::backend::Backend;
use crate::balance::Picker;
use crate::config::{self, Config, Mode, Protocol};
use crate::dial::Dial;
use crate::event::{Counters, Observer, Tally};
use crate::gateway::Handover;
use crate::limit::Connections;
use crate::net::Prefix;
use crate::route::{Routes, Site};
use crate::shaking::Handshakes;
use crate::tls::{self, Certificates};

/// Shared by all threads.
pub(crate) struct Shared {
    pub(crate) snapshot: ArcSwap<Snapshot>,
    pub(crate) certificates: Arc<Certificates>,
    pub(crate) dial: Arc<dyn Dial>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) handover: Option<Arc<dyn Handover>>,
    pub(crate) clients: Arc<Connections>,
    /// Connections of all listeners.
    pub(crate) seats: Arc<AtomicU32>,
    /// TLS handshakes under way.
    pub(crate) handshakes: Arc<Handshakes>,
    pub(crate) counters: Counters,
    pub(crate) tls: TlsSettings,
    pub(crate) stopping: tokio::sync::watch::Receiver<bool>,
    pub(crate) ids: crate::http::id::Ids,
    pub(crate) threads: usize,
}

/// TLS settings that do not depend on the configuration.
pub(crate) struct TlsSettings {
    pub(crate) open: Arc<ServerConfig>,
    pub(crate) challenge: Arc<ServerConfig>,
}

impl TlsSettings {
    pub(crate) fn new(certificates: &Arc<Certificates>) -> Result<Self, rustls::Error> {
        let (open, challenge) = (tls::open_settings(certificates)?, tls::challenge_settings(certificates)?);
        Ok(Self { open, challenge })
    }
}

/// One published service, ready to serve.
pub(crate) struct Service {
    pub(crate) name: Arc<str>,
    pub(crate) config: config::Service,
    pub(crate) picker: Picker,
    pub(crate) tally: Arc<Tally>,
    pub(crate) gate: Gatekeeper,
    /// Only for clients with a certificate of these authorities.
    pub(crate) closed: Option<Arc<ServerConfig>>,
    /// Where HTTP-01 challenges go that its backends have caused.
    pub(crate) http01: Option<Arc<Self>>,
}

/// A configuration as tables.
#[derive(Default)]
pub(crate) struct Snapshot {
    pub(crate) config: Config,
    pub(crate) services: FxHashMap<Arc<str>, Arc<Service>>,
    pub(crate) routes: Routes<Arc<Service>>,
}

/// What is wrong with a configuration; everything at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct ConfigError(pub Vec<String>);

/// Judges a configuration without running it, so that who puts it together from the wishes of many learns
/// whose is wrong.
///
/// # Errors
/// Everything that is wrong with it.
pub fn check(config: Config) -> Result<(), ConfigError> {
    Snapshot::build(config, &Snapshot::default(), &Certificates::new(), 1).map(|_| ())
}

impl Snapshot {
    /// Checks `config` and makes its tables, with the state of `before`.
    pub(crate) fn build(
        config: Config,
        before: &Self,
        certificates: &Arc<Certificates>,
        threads: usize,
    ) -> Result<Self, ConfigError> {
        let mut wrong = Vec::new();
        let mut snapshot = Self::default();
        for service in &config.services {
            check_service(service, &mut wrong);
            let old = before.services.get(service.name.as_str());
            match Service::build(service, old, certificates, threads) {
                Ok(built) => snapshot.add(Arc::new(built), &mut wrong),
                Err(error) => wrong.push(format!("service {}: {error}", service.name)),
            }
        }
        snapshot.check_hosts(&mut wrong);
        let default = config.default_host.as_ref();
        if let Some(host) = default.filter(|host| snapshot.site(host).is_none()) {
            wrong.push(format!("default_host {host}: no service has it"));
        }
        check_listeners(&config, &snapshot, &mut wrong);
        if !wrong.is_empty() {
            return Err(ConfigError(wrong));
        }
        snapshot.config = config;
        Ok(snapshot)
    }

    fn add(&mut self, service: Arc<Service>, wrong: &mut Vec<String>) {
        if self.services.insert(service.name.clone(), service.clone()).is_some() {
            wrong.push(format!("service {}: the name is taken", service.name));
        }
        let whole = ["/".to_owned()];
        let paths = if service.config.paths.is_empty() { &whole[..] } else { &service.config.paths };
        for host in &service.config.hosts {
            for path in paths {
                if !self.routes.add(host, path, service.clone()) {
                    wrong.push(format!("service {}: {host}{path} is taken", service.name));
                }
            }
        }
    }

    /// What is decided before a path is known must be the same for all paths of a host.
    fn check_hosts(&self, wrong: &mut Vec<String>) {
        let hosts: FxHashSet<&String> =
            self.services.values().flat_map(|service| &service.config.hosts).collect();
        for host in hosts {
            let Some(site) = self.routes.site(host) else { continue };
            let Some(first) = site.first() else { continue };
            let same = |other: &Arc<Service>| {
                other.config.mode == first.config.mode
                    && other.config.access.client_ca == first.config.access.client_ca
            };
            if !site.all().all(same) {
                wrong.push(format!("host {host}: all its services need one mode and one client_ca"));
            }
        }
    }

    pub(crate) fn site(&self, host: &str) -> Option<&Site<Arc<Service>>> {
        self.routes.site(host)
    }

    pub(crate) fn trusts(&self, address: std::net::IpAddr) -> bool {
        self.config.trusted_proxies.iter().any(|prefix: &Prefix| prefix.contains(address))
    }
}

impl Service {
    fn build(
        config: &config::Service,
        before: Option<&Arc<Self>>,
        certificates: &Arc<Certificates>,
        threads: usize,
    ) -> Result<Self, String> {
        let backend = |wanted: &config::Backend| {
            let known = |old: &Arc<Self>| {
                old.picker.backends().find(|backend| backend.target == wanted.target).cloned()
            };
            // What speaks another protocol now needs other connections.
            let old = before.filter(|old| old.config.protocol == config.protocol).and_then(known);
            let backend =
                old.unwrap_or_else(|| Arc::new(Backend::new(&config.name, wanted.target.clone(), threads)));
            if config.check.is_none() {
                // Nobody would ever say that it is well again.
                backend.set_down(false);
            }
            backend.set_drain(wanted.drain);
            (backend, wanted.weight)
        };
        let members = config.backends.iter().map(backend).collect();
        let closed = match (&config.access.client_ca, before) {
            (None, _) => None,
            // The same settings keep their tickets.
            (same, Some(old)) if *same == old.config.access.client_ca => old.closed.clone(),
            (Some(authorities), _) => Some(tls::closed_settings(certificates, authorities)?),
        };
        let http01 = match &config.http01 {
            None => None,
            Some(target) => {
                let old = before.and_then(|old| old.http01.as_ref());
                Some(Arc::new(Self::build(&asked(config, target), old, certificates, threads)?))
            }
        };
        Ok(Self {
            name: config.name.as_str().into(),
            picker: Picker::new(config.balance, members),
            tally: before.map(|old| old.tally.clone()).unwrap_or_default(),
            gate: Gatekeeper::new(&config.access, before.map(|old| &old.gate))?,
            config: config.clone(),
            closed,
            http01,
        })
    }
}

/// What answers the HTTP-01 challenges of a passed-through service: plain, small, and for everybody, as
/// authorities ask from anywhere.
fn asked(config: &config::Service, target: &config::Target) -> config::Service {
    config::Service {
        name: format!("{} http-01", config.name),
        mode: Mode::Http,
        plain: true,
        backends: vec![config::Backend { target: target.clone(), weight: 1, drain: false }],
        http01: None,
        check: None,
        access: config::Access::default(),
        body_max: Some(0),
        ..config.clone()
    }
}

fn check_service(service: &config::Service, wrong: &mut Vec<String>) {
    let mut say = |text: String| wrong.push(format!("service {}: {text}", service.name));
    let named = matches!(service.mode, Mode::Http | Mode::TlsPassthrough);
    if named == service.hosts.is_empty() {
        say(if named { "it needs a host".into() } else { "a port has no hosts".into() });
    }
    for host in &service.hosts {
        let name = host.strip_prefix("*.").unwrap_or(host);
        if crate::host::normal(name).is_none_or(|normal| normal != name)
            || !name.contains(|c: char| c.is_alphabetic())
        {
            say(format!("`{host}` is no host name in lower case"));
        }
    }
    if service.mode != Mode::Http && !service.paths.is_empty() {
        say("paths are for mode http".into());
    }
    for path in service.paths.iter().filter(|path| !path.starts_with('/')) {
        say(format!("the path `{path}` does not begin with /"));
    }
    if service.backends.is_empty() || service.backends.len() > 256 {
        say("it needs 1 to 256 backends".into());
    }
    let mut targets = FxHashSet::default();
    for backend in &service.backends {
        if !(1..=1000).contains(&backend.weight) {
            say(format!("backend {}: the weight is 1 to 1000", backend.target));
        }
        if !targets.insert(&backend.target) {
            say(format!("backend {} is there twice", backend.target));
        }
    }
    let access = &service.access;
    let http_only = !access.basic.is_empty() || access.forward.is_some() || access.client_ca.is_some();
    if service.mode != Mode::Http && http_only {
        say("users, forward and client_ca are for mode http".into());
    }
    if service.http01.is_some() && service.mode != Mode::TlsPassthrough {
        say("http01 is for mode tls-passthrough".into());
    }
    if service.plain && access.client_ca.is_some() {
        say("plain HTTP cannot ask for certificates".into());
    }
    if let Some(check) = &service.check
        && (check.fall == 0 || check.rise == 0 || check.timeout.is_zero() || check.interval.is_zero())
    {
        say("a check's numbers and times are above 0".into());
    }
}

fn check_listeners(config: &Config, snapshot: &Snapshot, wrong: &mut Vec<String>) {
    let mut taken = FxHashSet::default();
    for listener in &config.listeners {
        let mut say = |text: &str| wrong.push(format!("listener {}: {text}", listener.address));
        if !taken.insert((listener.address, listener.protocol == Protocol::Udp)) {
            say("it is there twice");
        }
        let needed = match listener.protocol {
            Protocol::Tcp => Some(Mode::Tcp),
            Protocol::Udp => Some(Mode::Udp),
            Protocol::Https | Protocol::Http => None,
        };
        if listener.shared && listener.protocol != Protocol::Https {
            say("only an https port can be shared");
        }
        match (&listener.service, needed) {
            (None, None) => {}
            (Some(_), None) => say("the host decides on the service here"),
            (None, Some(_)) => say("it needs a service"),
            (Some(name), Some(mode)) => match snapshot.services.get(name.as_str()) {
                Some(service) if service.config.mode == mode => {}
                Some(_) => say("its service has another mode"),
                None => say("its service does not exist"),
            },
        }
    }
}

#[cfg(test)]
mod tests;
