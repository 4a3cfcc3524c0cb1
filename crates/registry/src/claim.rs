//! A claim and its way through the rules.

use sinew_types::{NetworkId, NodeId};

use crate::name::Host;
use crate::proof::{Finding, Proof, TxtRecord};
use crate::record::RecordKey;
use crate::refusal::Refusal;
use crate::registry::{Holding, Key, Mode, Registry, Seen, Service, Wanted};
use crate::rules::{Accept, DOMAINS_PER_NETWORK, HOLD, LIFE_MAX, PER_NETWORK, TOMBSTONE, TOTAL};

/// Hosts of one service.
const HOSTS_MAX: usize = 16;

/// A claim whose author is known to be entitled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// What it is known by.
    pub key: Key,
    /// Its number: the highest counts.
    pub seq: u64,
    /// What tells two statements of one number apart.
    pub digest: [u8; 32],
    /// Until when it holds.
    pub expires: u64,
    /// It ends the service.
    pub removed: bool,
    /// How it is to be reached.
    pub mode: Mode,
    /// Its hosts: labels below the gateway's domain, or domains of one's own.
    pub hosts: Vec<String>,
    /// Path prefixes; none for everything.
    pub paths: Vec<String>,
    /// Digest of the authority whose certificates clients must show.
    pub client_ca: Option<[u8; 32]>,
    /// The port that is wished for, in modes `tcp` and `udp`.
    pub wish: Option<u16>,
    /// What the publisher promises to be known by later.
    pub recovery: Option<[u8; 32]>,
}

/// What became of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Each host.
    pub hosts: Vec<HostOutcome>,
    /// The port, for TCP and UDP.
    pub port: Option<u16>,
    /// The service has ended, as was asked.
    pub withdrawn: bool,
}

/// What became of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostOutcome {
    /// In full; as it was asked for, if nobody gets it.
    pub host: String,
    /// How it stands.
    pub state: HostState,
}

/// How a host stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostState {
    /// It is served.
    Serving,
    /// Its owner has not yet said so by this record.
    Waiting {
        /// To be set in the domain.
        record: TxtRecord,
        /// What the last look found.
        last: Option<Finding>,
    },
    /// A name of which its registrar has not said that this network holds it.
    Unregistered {
        /// Where it is to be published first.
        registrar: NodeId,
        /// When its list was heard last.
        heard: Option<u64>,
    },
    /// It is not to be had.
    Refused(Refusal),
}

impl Registry {
    /// Takes a claim. The same once more changes nothing, but asks again for what was refused or is being waited for.
    ///
    /// # Errors
    /// [`Refusal`]: nothing of it is taken. If a service ran under an older claim, it has ended, since its author
    /// wants it no longer as it was.
    pub fn offer(&mut self, offer: &Offer, now: u64) -> Result<Outcome, Refusal> {
        self.check_number(offer, now)?;
        if offer.removed {
            return Ok(self.withdraw(offer, now));
        }
        let Key { network, author, .. } = &offer.key;
        if let Accept::Keys(listed) = &self.rules.accept
            && !listed.contains(&network.key())
            && !listed.contains(author)
        {
            self.end(&offer.key, now);
            return Err(Refusal::NotAccepted { network: *network, author: *author });
        }
        check_shape(offer)?;
        self.check_room(&offer.key)?;
        match self.claim(offer, now) {
            Ok(service) => {
                self.keep(offer, service.since);
                let hosts = self.outcomes(&offer.key, &service);
                let port = service.port;
                self.services.insert(offer.key.clone(), service);
                Ok(Outcome { hosts, port, withdrawn: false })
            }
            Err(refusal) => {
                if self.end(&offer.key, now) {
                    self.keep(offer, now);
                }
                Err(refusal)
            }
        }
    }

    /// The number, against what was seen before, and the time.
    fn check_number(&self, offer: &Offer, now: u64) -> Result<(), Refusal> {
        match self.seen.get(&offer.key) {
            Some(seen) if seen.seq > offer.seq => {
                return Err(Refusal::Stale { seq: seen.seq, withdrawn: seen.removed });
            }
            Some(seen) if seen.seq == offer.seq && seen.digest != offer.digest => {
                return Err(Refusal::Equivocation);
            }
            _ => {}
        }
        if offer.expires > now + LIFE_MAX {
            return Err(Refusal::TooLong);
        }
        // The end of a service is worth hearing late, too.
        if offer.expires <= now && !offer.removed {
            return Err(Refusal::Expired);
        }
        Ok(())
    }

    fn withdraw(&mut self, offer: &Offer, now: u64) -> Outcome {
        self.end(&offer.key, now);
        // Where there is no room, an end that is forgotten is no harm but to its author.
        if self.check_room(&offer.key).is_ok() {
            self.keep(offer, now);
        }
        Outcome { hosts: Vec::new(), port: None, withdrawn: true }
    }

    fn keep(&mut self, offer: &Offer, since: u64) {
        let seen = Seen {
            seq: offer.seq,
            digest: offer.digest,
            removed: offer.removed,
            since,
            until: offer.expires.saturating_add(TOMBSTONE),
        };
        if self.seen.get(&offer.key) != Some(&seen) {
            self.seen.insert(offer.key.clone(), seen);
            self.changed.insert(RecordKey::Seen(offer.key.clone()));
        }
    }

    fn check_room(&self, key: &Key) -> Result<(), Refusal> {
        if self.seen.contains_key(key) {
            return Ok(());
        }
        if self.seen.len() >= TOTAL {
            return Err(Refusal::Full { what: "services" });
        }
        let of_network = self.seen.keys().filter(|other| other.network == key.network).count();
        if of_network >= PER_NETWORK {
            return Err(Refusal::Quota { what: "services", limit: PER_NETWORK as u32 });
        }
        Ok(())
    }

    /// The service that comes of it.
    fn claim(&mut self, offer: &Offer, now: u64) -> Result<Service, Refusal> {
        let before = self.services.get(&offer.key).map(|service| service.hosts.clone()).unwrap_or_default();
        let seen = self.seen.get(&offer.key).filter(|seen| !seen.removed);
        let since = seen.map_or(now, |seen| seen.since);
        let mut service = Service {
            mode: offer.mode,
            paths: paths(&offer.paths),
            client_ca: offer.client_ca,
            since,
            expires: offer.expires,
            port: None,
            hosts: Vec::new(),
        };
        for text in &offer.hosts {
            let claim = self.claim_host(offer, &service, text, now);
            service.hosts.push(Wanted { text: text.clone(), claim });
        }
        if let Some(transport) = offer.mode.transport() {
            let port = self.ports.claim(&self.rules, transport, offer, now)?;
            self.changed.insert(RecordKey::Port(transport, port));
            service.port = Some(port);
        } else if let Some(Err(refusal)) =
            service.hosts.iter().map(|wanted| wanted.claim.clone()).reduce(Result::or)
        {
            return Err(refusal);
        }
        self.let_go(&offer.key, &before, &service, now);
        Ok(service)
    }

    /// Hosts that a newer claim no longer has.
    fn let_go(&mut self, key: &Key, before: &[Wanted], service: &Service, now: u64) {
        self.services.remove(key);
        let gone =
            before.iter().filter(|wanted| !service.hosts.iter().any(|kept| kept.claim == wanted.claim));
        gone.for_each(|wanted| self.release_host(wanted, &key.network, now));
    }

    fn claim_host(
        &mut self,
        offer: &Offer,
        service: &Service,
        text: &str,
        now: u64,
    ) -> Result<Host, Refusal> {
        let host =
            Host::parse(text, &self.rules).map_err(|why| Refusal::BadName { host: text.to_owned(), why })?;
        if service.hosts.iter().any(|wanted| wanted.claim.as_ref() == Ok(&host)) {
            return Err(Refusal::Shape { why: "a host is named twice" });
        }
        match &host {
            Host::Name(label) => self.claim_name(offer, label, now)?,
            Host::Domain(domain) => self.claim_domain(domain, &offer.key.network, now)?,
        }
        self.check_neighbours(&offer.key, service, &host)?;
        Ok(host)
    }

    fn claim_name(&mut self, offer: &Offer, label: &str, now: u64) -> Result<(), Refusal> {
        if self.rules.registrar.is_some() {
            return self.claim_followed(offer, label);
        }
        let network = offer.key.network;
        let until = offer.expires + HOLD;
        if let Some(holding) = self.names.get(label).filter(|holding| holding.network != network) {
            let Holding { network: holder, since, until, .. } = *holding;
            let host = Host::Name(label.to_owned()).full(&self.rules);
            let until = Some(until).filter(|_| !self.in_use(label));
            return Err(Refusal::Taken { host, holder, since, until });
        }
        if let Some(holding) = self.names.get_mut(label) {
            if holding.until < until {
                holding.until = until;
                self.changed.insert(RecordKey::Name(label.to_owned()));
            }
            return Ok(());
        }
        if self.names.len() >= TOTAL {
            return Err(Refusal::Full { what: "names" });
        }
        let limit = self.rules.per_network;
        if self.names.values().filter(|holding| holding.network == network).count() >= limit as usize {
            return Err(Refusal::Quota { what: "names", limit });
        }
        let holding = Holding { network, since: now, until, recovery: offer.recovery, transfer: None };
        self.names.insert(label.to_owned(), holding);
        self.changed.insert(RecordKey::Name(label.to_owned()));
        Ok(())
    }

    fn claim_domain(&mut self, domain: &str, network: &NetworkId, now: u64) -> Result<(), Refusal> {
        if let Some(proof) = self.proofs.get_mut(domain).and_then(|proofs| proofs.get_mut(network)) {
            proof.again(now);
            return Ok(());
        }
        if self.proofs.len() >= TOTAL {
            return Err(Refusal::Full { what: "domains" });
        }
        let mut rivals = 0;
        let mut own = 0;
        for (other, claimant, _) in self.proofs() {
            rivals += usize::from(other == domain);
            own += usize::from(claimant == network);
        }
        // Else one domain could be claimed by keys without number.
        if rivals >= DOMAINS_PER_NETWORK {
            return Err(Refusal::Full { what: "claims to this domain" });
        }
        if own >= DOMAINS_PER_NETWORK {
            return Err(Refusal::Quota { what: "domains", limit: DOMAINS_PER_NETWORK as u32 });
        }
        self.proofs.entry(domain.to_owned()).or_default().insert(*network, Proof::new(now));
        self.changed.insert(RecordKey::Proof(domain.to_owned(), *network));
        Ok(())
    }

    /// Other services of the network under the same host.
    fn check_neighbours(&self, key: &Key, service: &Service, host: &Host) -> Result<(), Refusal> {
        let under = |other: &Service| other.hosts.iter().any(|wanted| wanted.claim.as_ref() == Ok(host));
        let others = self.services.iter().filter(|(other, _)| other.network == key.network && *other != key);
        for (other, neighbour) in others.filter(|(_, neighbour)| under(neighbour)) {
            let author: NodeId = other.author;
            if neighbour.mode != service.mode || neighbour.client_ca != service.client_ca {
                let host = host.full(&self.rules);
                return Err(Refusal::OtherMode { host, mode: neighbour.mode, author });
            }
            if let Some(path) = service.paths.iter().find(|path| neighbour.paths.contains(path)) {
                let place = format!("{}{path}", host.full(&self.rules));
                return Err(Refusal::PathTaken { place, author, since: neighbour.since });
            }
        }
        Ok(())
    }
}

/// Paths in the one spelling that is compared.
fn paths(paths: &[String]) -> Vec<String> {
    let mut paths: Vec<_> = paths.iter().map(|path| path.trim_end_matches('/').to_owned()).collect();
    paths.sort_unstable();
    paths.dedup();
    if paths.is_empty() { vec![String::new()] } else { paths }
}

fn check_shape(offer: &Offer) -> Result<(), Refusal> {
    let named = offer.mode.transport().is_none();
    let why = match offer.hosts.len() {
        0 if named => "a service of this mode needs a host",
        1.. if !named => "a service at a port has no hosts",
        count if count > HOSTS_MAX => "a service has at most 16 hosts",
        _ if offer.mode != Mode::Http && !offer.paths.is_empty() => "paths are for mode http",
        _ => return Ok(()),
    };
    Err(Refusal::Shape { why })
}
