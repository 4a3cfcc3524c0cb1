//! The register itself: its tables, what runs out, and what is served.

use std::collections::{BTreeMap, BTreeSet};

use sinew_types::{NetworkId, NodeId};

use crate::claim::{HostOutcome, HostState};
use crate::follow::Following;
use crate::name::Host;
use crate::ports::{PortHolding, Ports, Transport};
use crate::proof::{Finding, Lookup, Proof, State, txt_record};
use crate::record::RecordKey;
use crate::refusal::Refusal;
use crate::rules::{HOLD, NOTICE, Rules};

/// What a published service is known by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The network that it belongs to.
    pub network: NetworkId,
    /// Who published it.
    pub author: NodeId,
    /// What its author calls it.
    pub service: [u8; 16],
}

/// How a service is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// By its hosts; TLS ends at the gateway.
    Http,
    /// By its hosts; TLS goes through.
    Passthrough,
    /// At a TCP port.
    Tcp,
    /// At a UDP port.
    Udp,
}

impl Mode {
    /// The word in configuration and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Passthrough => "tls-passthrough",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// The kind of port that it needs.
    pub const fn transport(self) -> Option<Transport> {
        match self {
            Self::Tcp => Some(Transport::Tcp),
            Self::Udp => Some(Transport::Udp),
            Self::Http | Self::Passthrough => None,
        }
    }
}

/// A service that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// How it is reached.
    pub mode: Mode,
    /// Path prefixes without a slash at the end; the empty one is everything.
    pub paths: Vec<String>,
    /// Digest of the authority whose certificates clients must show.
    pub client_ca: Option<[u8; 32]>,
    /// First taken.
    pub since: u64,
    /// Until when its author's word holds.
    pub expires: u64,
    /// Its port, for TCP and UDP.
    pub port: Option<u16>,
    pub(crate) hosts: Vec<Wanted>,
}

/// A host as its author wrote it, and what became of it when it was claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) text: String,
    pub(crate) claim: Result<Host, Refusal>,
}

/// The newest statement about a service that was seen, also of one that has ended: so that an older one
/// cannot bring it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) seq: u64,
    pub(crate) digest: [u8; 32],
    pub(crate) removed: bool,
    pub(crate) since: u64,
    pub(crate) until: u64,
}

/// A name below the gateway's domain that somebody holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Who.
    pub network: NetworkId,
    /// Since when.
    pub since: u64,
    /// Until when, if it is not claimed again.
    pub until: u64,
    /// What the first claim promised to be known by later (protocol A8).
    pub recovery: Option<[u8; 32]>,
    /// By the operator's word it will be somebody else's.
    pub transfer: Option<Transfer>,
}

/// A name that will change hands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Whose it will be.
    pub to: NetworkId,
    /// When.
    pub at: u64,
}

/// Why a name cannot be transferred.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// Nobody holds it.
    #[error("nobody holds this name")]
    Unknown,
    /// The new holder has it already.
    #[error("this network holds the name already")]
    Same,
    /// None is under way.
    #[error("no transfer of this name is under way")]
    None,
    /// Another gateway decides.
    #[error("the gateway {0} decides on the names of this domain: transfer it there")]
    Elsewhere(NodeId),
}

/// What the front is to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serving<'a> {
    /// Which service.
    pub key: &'a Key,
    /// As it was taken.
    pub service: &'a Service,
    /// Those of its hosts that it has, in full.
    pub hosts: Vec<String>,
}

/// Names, proofs, ports and services of one gateway.
#[derive(Clone, Debug)]
pub struct Registry {
    pub(crate) rules: Rules,
    pub(crate) names: BTreeMap<String, Holding>,
    pub(crate) proofs: BTreeMap<String, BTreeMap<NetworkId, Proof>>,
    pub(crate) ports: Ports,
    pub(crate) services: BTreeMap<Key, Service>,
    pub(crate) seen: BTreeMap<Key, Seen>,
    pub(crate) following: Following,
    pub(crate) changed: BTreeSet<RecordKey>,
}

impl Registry {
    /// An empty one.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            names: BTreeMap::new(),
            proofs: BTreeMap::new(),
            ports: Ports::default(),
            services: BTreeMap::new(),
            seen: BTreeMap::new(),
            following: Following::default(),
            changed: BTreeSet::new(),
        }
    }

    /// What the operator has decided.
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The operator decides anew. What was taken is not judged again; whose claim is refused now loses it when it
    /// runs out.
    pub fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// All services, with what became of their hosts.
    pub fn services(&self) -> impl Iterator<Item = (&Key, &Service, Vec<HostOutcome>)> {
        self.services.iter().map(|(key, service)| (key, service, self.outcomes(key, service)))
    }

    /// What the front is to serve now: services with a host or a port.
    pub fn serving(&self) -> impl Iterator<Item = Serving<'_>> {
        self.services.iter().filter_map(|(key, service)| {
            let outcomes = self.outcomes(key, service).into_iter();
            let hosts: Vec<_> =
                outcomes.filter(|host| host.state == HostState::Serving).map(|host| host.host).collect();
            let any = !hosts.is_empty() || service.port.is_some();
            any.then_some(Serving { key, service, hosts })
        })
    }

    /// Whether anything is known of a network's services, living or withdrawn a short while ago.
    pub fn knows(&self, network: &NetworkId) -> bool {
        self.seen.keys().any(|key| key.network == *network)
    }

    /// Names that somebody holds, by label.
    pub fn names(&self) -> impl Iterator<Item = (&str, &Holding)> {
        self.names.iter().map(|(label, holding)| (label.as_str(), holding))
    }

    /// Own domains that somebody claims.
    pub fn proofs(&self) -> impl Iterator<Item = (&str, &NetworkId, &Proof)> {
        let each = |(domain, proofs)| {
            let domain: &String = domain;
            let proofs: &BTreeMap<NetworkId, Proof> = proofs;
            proofs.iter().map(move |(network, proof)| (domain.as_str(), network, proof))
        };
        self.proofs.iter().flat_map(each)
    }

    /// Ports that somebody holds.
    pub fn ports(&self) -> impl Iterator<Item = (Transport, u16, &PortHolding)> {
        self.ports.held.iter().map(|((transport, port), holding)| (*transport, *port, holding))
    }

    /// Whether something is published under a label by its holder.
    pub fn in_use(&self, label: &str) -> bool {
        let Some(holding) = self.names.get(label) else { return false };
        let uses = |wanted: &Wanted| matches!(&wanted.claim, Ok(Host::Name(name)) if name == label);
        let mut own = self.services.iter().filter(|(key, _)| key.network == holding.network);
        own.any(|(_, service)| service.hosts.iter().any(uses))
    }

    /// Whose a domain is, of those who have proved it: the first.
    pub(crate) fn owner(&self, domain: &str) -> Option<(NetworkId, u64)> {
        let proved = self.proofs.get(domain)?.iter().filter_map(|(network, proof)| match proof.state {
            State::Proved { since, .. } => Some((since, *network)),
            State::Waiting { .. } => None,
        });
        proved.min().map(|(since, network)| (network, since))
    }

    /// What became of each host of a service, as things are now.
    pub(crate) fn outcomes(&self, key: &Key, service: &Service) -> Vec<HostOutcome> {
        let each = |wanted: &Wanted| match &wanted.claim {
            Err(refusal) => {
                HostOutcome { host: wanted.text.clone(), state: HostState::Refused(refusal.clone()) }
            }
            Ok(host) => HostOutcome { host: host.full(&self.rules), state: self.host_state(key, host) },
        };
        service.hosts.iter().map(each).collect()
    }

    fn host_state(&self, key: &Key, host: &Host) -> HostState {
        let taken = |holder, since| {
            HostState::Refused(Refusal::Taken { host: host.full(&self.rules), holder, since, until: None })
        };
        match host {
            Host::Name(label) => match self.names.get(label) {
                Some(holding) if holding.network != key.network => taken(holding.network, holding.since),
                Some(_) => HostState::Serving,
                None => self.unheld(),
            },
            Host::Domain(domain) => match self.owner(domain) {
                Some((network, _)) if network == key.network => HostState::Serving,
                owner => {
                    let proof = self.proofs.get(domain).and_then(|proofs| proofs.get(&key.network));
                    match (owner, proof.map(|proof| proof.state)) {
                        (Some((holder, since)), Some(State::Proved { .. })) => taken(holder, since),
                        (_, Some(State::Waiting { last, .. })) => self.waiting(domain, key, last),
                        _ => self.waiting(domain, key, None),
                    }
                }
            },
        }
    }

    fn waiting(&self, domain: &str, key: &Key, last: Option<Finding>) -> HostState {
        HostState::Waiting { record: self.txt(domain, &key.network), last }
    }

    pub(crate) fn txt(&self, domain: &str, network: &NetworkId) -> crate::TxtRecord {
        txt_record(domain, network, self.rules.domain.as_deref().unwrap_or_default())
    }

    // --- proofs ---

    /// TXT records to look up now, at most `max`.
    pub fn lookups(&mut self, now: u64, max: usize) -> Vec<Lookup> {
        let mut due: Vec<_> = self
            .proofs()
            .filter(|(.., proof)| proof.next <= now)
            .map(|(domain, network, proof)| (proof.next, domain.to_owned(), *network))
            .collect();
        due.sort_unstable();
        due.truncate(max);
        let ask = |(_, domain, network): (u64, String, NetworkId)| {
            let proof = self.proofs.get_mut(&domain).and_then(|proofs| proofs.get_mut(&network));
            proof.into_iter().for_each(|proof| proof.asked(now));
            let record = self.txt(&domain, &network);
            Lookup { domain, network, record }
        };
        due.into_iter().map(ask).collect()
    }

    /// What a look for a record has found. Whether other hosts are served now.
    pub fn found(&mut self, domain: &str, network: &NetworkId, finding: Finding, now: u64) -> bool {
        let before = self.owner(domain);
        let Some(proofs) = self.proofs.get_mut(domain) else { return false };
        let contested = proofs.iter().any(|(other, proof)| other != network && proof.is_proved());
        let Some(proof) = proofs.get_mut(network) else { return false };
        let was = proof.is_proved();
        proof.found(finding, contested, now);
        if proof.is_proved() && !was {
            // Whoever had it may have lost it to this one: its record is looked at, not believed for a day.
            let others = proofs.iter_mut().filter(|(other, proof)| *other != network && proof.is_proved());
            others.for_each(|(_, proof)| proof.contest(now));
        }
        self.changed.insert(RecordKey::Proof(domain.to_owned(), *network));
        self.owner(domain) != before
    }

    // --- the operator's word ---

    /// A name will be another network's, after notice.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn transfer(&mut self, label: &str, to: NetworkId, now: u64) -> Result<Transfer, TransferError> {
        let holding = self.own_name(label)?;
        if holding.network == to {
            return Err(TransferError::Same);
        }
        let transfer = Transfer { to, at: now + NOTICE };
        holding.transfer = Some(transfer.clone());
        self.changed.insert(RecordKey::Name(label.to_owned()));
        Ok(transfer)
    }

    /// It stays where it is after all.
    ///
    /// # Errors
    /// [`TransferError`].
    pub fn cancel_transfer(&mut self, label: &str) -> Result<(), TransferError> {
        let holding = self.own_name(label)?;
        holding.transfer.take().ok_or(TransferError::None)?;
        self.changed.insert(RecordKey::Name(label.to_owned()));
        Ok(())
    }

    fn own_name(&mut self, label: &str) -> Result<&mut Holding, TransferError> {
        match self.rules.registrar {
            Some(registrar) => Err(TransferError::Elsewhere(registrar)),
            None => self.names.get_mut(label).ok_or(TransferError::Unknown),
        }
    }

    // --- what runs out ---

    /// Another program of this machine listens at a port: its service gets another when it is claimed again.
    pub fn port_unusable(&mut self, transport: Transport, port: u16) {
        self.ports.set_unusable(transport, port);
        if let Some(holding) = self.ports.held.remove(&(transport, port)) {
            self.changed.insert(RecordKey::Port(transport, port));
            if let Some(service) = self.services.get_mut(&holding.key) {
                service.port = None;
            }
        }
    }

    /// Ends a service: its author's word counts no longer. Whether it was there.
    pub fn end(&mut self, key: &Key, now: u64) -> bool {
        let Some(service) = self.services.remove(key) else { return false };
        service.hosts.iter().for_each(|wanted| self.release_host(wanted, &key.network, now));
        for (transport, port) in self.ports.release(key, now) {
            self.changed.insert(RecordKey::Port(transport, port));
        }
        true
    }

    /// A service wants a host no longer.
    pub(crate) fn release_host(&mut self, wanted: &Wanted, network: &NetworkId, now: u64) {
        match &wanted.claim {
            Ok(Host::Name(label)) => self.release_name(label, network, now),
            Ok(Host::Domain(domain)) => self.release_domain(domain, network),
            Err(_) => {}
        }
    }

    fn release_name(&mut self, label: &str, network: &NetworkId, now: u64) {
        // A follower holds names for nobody.
        if self.rules.registrar.is_some() || self.in_use(label) {
            return;
        }
        if let Some(holding) = self.names.get_mut(label).filter(|holding| holding.network == *network) {
            holding.until = now + HOLD;
            self.changed.insert(RecordKey::Name(label.to_owned()));
        }
    }

    /// An own domain is not held: whoever owns it says by his record whose it is.
    fn release_domain(&mut self, domain: &str, network: &NetworkId) {
        let wants = |wanted: &Wanted| matches!(&wanted.claim, Ok(Host::Domain(other)) if other == domain);
        let mut own = self.services.iter().filter(|(key, _)| key.network == *network);
        if own.any(|(_, service)| service.hosts.iter().any(wants)) {
            return;
        }
        if let Some(proofs) = self.proofs.get_mut(domain) {
            proofs.remove(network);
            if proofs.is_empty() {
                self.proofs.remove(domain);
            }
            self.changed.insert(RecordKey::Proof(domain.to_owned(), *network));
        }
    }

    /// Lets go what has run out. Whether other things are served now.
    pub fn tick(&mut self, now: u64) -> bool {
        let ended: Vec<_> = self
            .services
            .iter()
            .filter(|(_, service)| service.expires <= now)
            .map(|(key, _)| key.clone())
            .collect();
        ended.iter().for_each(|key| _ = self.end(key, now));
        let moved = self.carry_out_transfers(now);
        let run_out = self.names.iter().filter(|(_, holding)| self.counts_until(holding) <= now);
        let run_out: Vec<_> = run_out.map(|(label, _)| label.clone()).collect();
        for label in &run_out {
            self.names.remove(label);
            self.changed.insert(self.name_record(label));
        }
        let changed = &mut self.changed;
        self.seen.retain(|key, seen| keep(seen.until > now, changed, || RecordKey::Seen(key.clone())));
        self.ports.held.retain(|(transport, port), holding| {
            keep(holding.until > now, changed, || RecordKey::Port(*transport, *port))
        });
        !ended.is_empty() || moved || !run_out.is_empty()
    }

    fn carry_out_transfers(&mut self, now: u64) -> bool {
        // A follower cannot know whether it was taken back.
        if self.rules.registrar.is_some() {
            return false;
        }
        let mut moved = Vec::new();
        for (label, holding) in &mut self.names {
            let Some(transfer) = holding.transfer.take_if(|transfer| transfer.at <= now) else { continue };
            *holding = Holding {
                since: now,
                until: now + HOLD,
                recovery: None,
                network: transfer.to,
                transfer: None,
            };
            moved.push(label.clone());
        }
        let any = !moved.is_empty();
        self.changed.extend(moved.into_iter().map(RecordKey::Name));
        any
    }
}

fn keep(stays: bool, changed: &mut BTreeSet<RecordKey>, key: impl FnOnce() -> RecordKey) -> bool {
    if !stays {
        changed.insert(key());
    }
    stays
}

#[cfg(test)]
pub(crate) mod tests;
