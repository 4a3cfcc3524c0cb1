//! The desk: where claims are decided and the front is told. One thread, one thing at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use sinew_acme::HostStatus;
use sinew_control::api::Answer;
use sinew_control::config;
use sinew_gateway::config as front;
use sinew_gateway::{Certificates, Gateway, Handover, Options};
use sinew_node::overlay::{Claim, Claimed};
use sinew_platform::{clock, heap};
use sinew_registry::{Accept, Key, Offer, PortRange, Refusal, Registry, Rules, Transport};
use sinew_store::{Batch, Entry, Table};
use sinew_types::{NetworkId, NodeId};
use sinew_wire::document::{Document, kind};
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use super::answer;
use super::bind::{self, Sockets};
use super::build;
use super::certificates::Files;
use super::dial::{self, MeshDial};
use super::documents::Documents;
use super::follow::Follow;
use super::log::{Events, Log};
use super::look::{Looked, Looks};
use super::ordered::{self, Authority, Ordered};
use super::share::{Aside, Shared};
use super::tide::Tide;
use crate::command::GatewayCommand;
use crate::ingress::Errand;
use crate::network::Network;
use crate::persist::Persist;

/// How often what runs out is looked for.
const TICK: Duration = Duration::from_secs(1);
/// How often, in ticks, documents are judged anew: memberships run out by the minute at best.
const JUDGE: u64 = 30;
/// First byte of the record of a backend that the operator has taken out.
const DRAINED: u8 = b'x';

/// What the loop wants.
pub(crate) enum Order {
    /// A request of the control API.
    Command(GatewayCommand),
    /// Another configuration, perhaps the same.
    Reload(Box<config::Gateway>),
    /// The end.
    Drain {
        /// How long what is under way may take.
        grace: Duration,
        /// Whether all of it had ended.
        done: oneshot::Sender<bool>,
    },
}

/// What a desk is made of.
pub(crate) struct Parts {
    pub(crate) config: config::Gateway,
    pub(crate) internal: Vec<String>,
    pub(crate) own: NodeId,
    pub(crate) sockets: Arc<Sockets>,
    pub(crate) shared: Option<Shared>,
    pub(crate) clients: u32,
    pub(crate) authority: Option<Authority>,
    pub(crate) kept: Vec<Entry>,
}

/// A claim that counts, and the service as its author wants it.
pub(super) struct Live {
    pub(super) claim: Claim,
    pub(super) template: front::Service,
}

/// The desk.
pub(crate) struct Desk {
    pub(super) config: config::Gateway,
    internal: Vec<String>,
    own: NodeId,
    sockets: Arc<Sockets>,
    /// Which of them are shared with the mesh.
    shared: Vec<SocketAddr>,
    /// Connections that clients may have.
    clients: u32,
    pub(super) persist: Persist,
    documents: Documents,
    pub(super) registry: Registry,
    pub(super) live: BTreeMap<Key, Live>,
    pub(super) front: Option<Gateway>,
    pub(super) dial: Arc<MeshDial>,
    pub(super) certificates: Arc<Certificates>,
    pub(super) files: Files,
    pub(super) ordered: Option<Ordered>,
    pub(super) log: Arc<Log>,
    looks: Looks,
    /// Whom names are asked of, if another gateway decides on them.
    pub(super) follow: Option<Follow>,
    /// What the front runs on.
    pub(super) applied: front::Config,
    /// Where people find it.
    pub(super) found_at: Vec<IpAddr>,
    /// Targets that the operator has taken out.
    pub(super) drained: BTreeSet<String>,
    /// What went wrong last, for people; empty when all is well.
    pub(super) trouble: Vec<String>,
    tide: Tide,
}

pub(super) fn now() -> u64 {
    clock::unix() / 1_000_000
}

/// The gateway that decides on the names, if it is another.
fn registrar(config: &config::Gateway, own: NodeId) -> Option<NodeId> {
    config.registrar.filter(|registrar| *registrar != own)
}

fn rules(config: &config::Gateway, internal: &[String], own: NodeId) -> Rules {
    let range = |range: Option<(u16, u16)>| range.map(|(first, last)| PortRange { first, last });
    Rules {
        domain: config.domain.clone(),
        registrar: registrar(config, own),
        internal: internal.to_vec(),
        reserved: config.reserved.iter().cloned().collect(),
        accept: match &config.accept {
            config::PublishAccept::Any => Accept::Any,
            config::PublishAccept::Keys(keys) => Accept::Keys(keys.iter().copied().collect()),
        },
        per_network: config.per_network,
        tcp: range(config.tcp_ports),
        udp: range(config.udp_ports),
    }
}

impl Desk {
    /// Takes up what an earlier run promised, and starts the front with it.
    ///
    /// # Errors
    /// For people: a certificate, the log, the front.
    pub(crate) fn new(parts: Parts, persist: Persist) -> Result<Self, String> {
        let Parts { config, internal, own, sockets, shared, clients, authority, kept } = parts;
        let (shared, door) = shared.map(|Shared { at, door }| (at, door)).unzip();
        let entries = kept.iter().map(|(key, value)| (key.as_slice(), value.as_slice()));
        let (registry, damaged) = Registry::restore(rules(&config, &internal, own), entries);
        if damaged > 0 {
            warn!(damaged, "records of the gateway's register are not understood and left as they are");
        }
        let (documents, networks) = Documents::restore(&kept, now());
        let log = Log::start(&config.log).map_err(|error| format!("[gateway] log: {error}"))?;
        let certificates = Certificates::new();
        let mut files = Files::default();
        files.load(&config.certificates, &certificates).map_err(|error| format!("[gateway] {error}"))?;
        let order = |authority| Ordered::start(authority, &certificates, files.hosts());
        let ordered = authority.map(order).transpose().map_err(|error| format!("[gateway.acme] {error}"))?;
        let dial = Arc::new(MeshDial::new());
        let options = Options {
            threads: 0,
            dial: dial.clone(),
            bind: sockets.clone(),
            observer: Arc::new(Events::new(&log)),
            certificates: certificates.clone(),
            handover: door.map(|door| Arc::new(Aside(door)) as Arc<dyn Handover>),
        };
        let front = Gateway::start(options, front::Config::default()).map_err(|error| error.to_string())?;
        let drained = |(key, _): &Entry| String::from_utf8(key.strip_prefix(&[DRAINED])?.to_vec()).ok();
        let follow = registrar(&config, own).zip(config.domain.clone());
        let mut desk = Self {
            follow: follow.map(|(registrar, domain)| Follow::new(own, registrar, domain)),
            looks: Looks::new(&config),
            drained: kept.iter().filter_map(drained).collect(),
            config,
            internal,
            own,
            sockets,
            shared: shared.unwrap_or_default(),
            clients,
            persist,
            documents,
            registry,
            live: BTreeMap::new(),
            front: Some(front),
            dial,
            certificates,
            files,
            ordered,
            log,
            applied: front::Config::default(),
            found_at: Vec::new(),
            trouble: Vec::new(),
            tide: Tide::default(),
        };
        for network in networks {
            let claimed = desk.documents.claimed(&network, now());
            desk.judge(&network, claimed, now());
        }
        desk.serve();
        match desk.trouble.first() {
            Some(trouble) => Err(trouble.clone()),
            None => Ok(desk),
        }
    }

    /// Works until the loop says that it is over.
    pub(crate) async fn run(
        mut self,
        mut errands: mpsc::Receiver<Errand>,
        mut orders: mpsc::Receiver<Order>,
    ) {
        self.found_at = bind::public(&self.config, &Network::now().await);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut ticks = 0;
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Command(command)) => self.command(command),
                    Some(Order::Reload(config)) => {
                        self.reload(*config);
                        self.found_at = bind::public(&self.config, &Network::now().await);
                    }
                    Some(Order::Drain { grace, done }) => {
                        let _ = done.send(self.drain(grace));
                        return;
                    }
                    None => return,
                },
                Some(errand) = errands.recv() => match errand {
                    Errand::Brought(brought) => self.brought(brought),
                    Errand::Asked(asked) => self.tell(asked),
                },
                news = Follow::next(&mut self.follow) => self.followed(news),
                looked = self.looks.next() => self.looked(&looked),
                _ = tick.tick() => {
                    ticks += 1;
                    self.tick(ticks % JUDGE == 0);
                }
            }
            let room = self.looks.room();
            for lookup in self.registry.lookups(now(), room) {
                self.looks.begin(lookup);
            }
        }
    }

    fn drain(&mut self, grace: Duration) -> bool {
        // The front's own copies go with its listeners: the port is free at once.
        self.sockets.close();
        let all = self.front.take().is_none_or(|front| front.shutdown(grace));
        info!(all, "the gateway has ended");
        all
    }

    fn tick(&mut self, judge: bool) {
        if self.front.as_ref().is_some_and(|front| self.tide.is_out(front.connections())) {
            heap::give_back();
        }
        let mut changed = self.registry.tick(now());
        if judge {
            self.judge_all();
            changed = true;
        }
        if changed {
            self.serve();
        }
        self.settle(None);
    }

    fn looked(&mut self, looked: &Looked) {
        let Looked { lookup, finding } = looked;
        if self.registry.found(&lookup.domain, &lookup.network, *finding, now()) {
            info!(domain = lookup.domain, network = %lookup.network, ?finding, "a domain has another standing");
            self.serve();
        }
        self.settle(None);
    }

    /// Another configuration. What it cannot change without a restart stays as it was.
    fn reload(&mut self, config: config::Gateway) {
        let fixed = self.config.clone();
        self.config = config::Gateway {
            domain: fixed.domain,
            registrar: fixed.registrar,
            https: fixed.https,
            http: fixed.http,
            log: fixed.log,
            acme: fixed.acme,
            ..config
        };
        self.registry.set_rules(rules(&self.config, &self.internal, self.own));
        self.looks.configure(&self.config);
        self.log.reopen();
        self.trouble.clear();
        if let Err(error) = self.files.load(&self.config.certificates, &self.certificates) {
            warn!(error, "certificates are not exchanged; those in use stay");
            self.trouble.push(error);
        }
        self.judge_all();
        self.serve();
        self.settle(None);
    }

    // --- claims ---

    /// Judges all networks' claims again: by time, other rules or other holders.
    pub(super) fn judge_all(&mut self) {
        for network in self.documents.networks() {
            let claimed = self.documents.claimed(&network, now());
            self.judge(&network, claimed, now());
        }
    }

    /// Takes what a publisher brought.
    pub(super) fn publish(&mut self, documents: &[Vec<u8>], unix: u64) -> Answer {
        let (network, claimed) = match self.documents.take(documents, unix) {
            Ok(taken) => taken,
            Err(error @ super::documents::Refused::Full) => {
                return answer::refused("quota", error.to_string());
            }
            Err(error) => return answer::refused("bad_documents", error.to_string()),
        };
        let meant = documents.iter().rev().find_map(|bytes| meant(bytes));
        let idle = |author: &[u8; 32], service: &[u8; 16]| {
            let own =
                claimed.idle.iter().find(|idle| idle.author.as_bytes() == author && idle.service == *service);
            own.map(|idle| answer::refused("not_entitled", idle.reason))
        };
        let why = meant.as_ref().and_then(|(author, service, _)| idle(author, service));
        let mut answers = self.judge(&network, claimed, unix);
        self.serve();
        let Some((author, service, seq)) = meant else { return answer::noted() };
        let of = |(key, _): &(Key, Answer)| *key.author.as_bytes() == author && key.service == service;
        let found = answers.iter().position(of).map(|at| answers.swap_remove(at).1);
        // What is served may have changed with it: a port that could not be had, say.
        let found =
            found.or(why).unwrap_or_else(|| answer::refused("older", "a newer version of it is known here"));
        Answer { service: Some(hex(&service)), seq, ..found }
    }

    /// Offers all that a network has to the register, and ends what it has no more.
    fn judge(&mut self, network: &NetworkId, claimed: Claimed, unix: u64) -> Vec<(Key, Answer)> {
        let mut answers = Vec::new();
        let mut kept = BTreeSet::new();
        for claim in claimed.claims {
            let key = Key { network: *network, author: claim.author, service: claim.service };
            let answer = self.claim(&key, claim, unix);
            if self.live.contains_key(&key) {
                kept.insert(key.clone());
            }
            answers.push((key, answer));
        }
        let gone: Vec<_> =
            self.live.keys().filter(|key| key.network == *network && !kept.contains(*key)).cloned().collect();
        for key in gone {
            info!(network = %network, author = %key.author, service = hex(&key.service), "a service has ended");
            self.live.remove(&key);
            self.registry.end(&key, unix);
        }
        answers
    }

    fn claim(&mut self, key: &Key, claim: Claim, unix: u64) -> Answer {
        if claim.gateway != self.own {
            return answer::refused("other_gateway", format!("it is meant for {}", claim.gateway));
        }
        let made = build::settings(&claim).and_then(|settings| {
            let template = if claim.removed { None } else { Some(build::template(&claim, &settings)?) };
            Ok((settings, template))
        });
        let (settings, template) = match made {
            Ok(made) => made,
            Err(error) => {
                self.live.remove(key);
                self.registry.end(key, unix);
                return answer::refused("bad_settings", error);
            }
        };
        let offer = Offer {
            key: key.clone(),
            seq: claim.seq,
            digest: claim.id,
            expires: claim.expires,
            removed: claim.removed,
            mode: build::mode(claim.mode),
            hosts: claim.hosts.clone(),
            paths: settings.paths,
            client_ca: settings.access.client_ca.as_deref().map(|text| Sha256::digest(text).into()),
            wish: settings.port,
            recovery: claim.recovery,
        };
        let outcome = self.registry.offer(&offer, unix);
        match (&outcome, template) {
            (Ok(outcome), Some(template)) if !outcome.withdrawn => {
                if self.live.insert(key.clone(), Live { claim, template }).is_none() {
                    info!(network = %key.network, author = %key.author, hosts = ?offer.hosts, "a service is published");
                }
            }
            (Err(refusal), _) => {
                self.live.remove(key);
                info!(network = %key.network, why = refusal.text(answer::date), "a service is refused");
            }
            _ => _ = self.live.remove(key),
        }
        self.answer(outcome.as_ref(), offer.mode)
    }

    fn answer(
        &self,
        outcome: Result<&sinew_registry::Outcome, &Refusal>,
        mode: sinew_registry::Mode,
    ) -> Answer {
        let orders = self.orders();
        let lacks = |host: &str| self.lacks(mode, host, &orders);
        match outcome {
            Ok(outcome) => answer::of_outcome(outcome, self.here(), lacks),
            Err(refusal) => answer::of_refusal(refusal),
        }
    }

    /// How orders of certificates stand.
    pub(super) fn orders(&self) -> BTreeMap<String, HostStatus> {
        self.ordered.as_ref().map(Ordered::status).unwrap_or_default()
    }

    /// Why a host that needs a certificate has none.
    pub(super) fn lacks(
        &self,
        mode: sinew_registry::Mode,
        host: &str,
        orders: &BTreeMap<String, HostStatus>,
    ) -> Option<String> {
        let has = mode != sinew_registry::Mode::Http || self.certificates.get(host).is_some();
        (!has).then(|| ordered::missing(ordered::order_of(orders, host), host))
    }

    // --- what is served ---

    /// Tells the front what is to be served, if that has changed.
    pub(super) fn serve(&mut self) {
        let addresses = bind::addresses(&self.config);
        self.open_ports(&addresses);
        let (config, table) = self.front_config(&addresses);
        self.dial.set(table);
        self.order_certificates(&config);
        if config == self.applied {
            return;
        }
        let Some(front) = &self.front else { return };
        match front.apply(config.clone()) {
            Ok(()) => self.applied = config,
            Err(error) => {
                // Each service was judged alone and its places are its own, so this is the host's fault.
                warn!(%error, "the front does not take what is published; it goes on as before");
                self.trouble.push(error.to_string());
            }
        }
        self.sockets.tidy();
    }

    fn order_certificates(&mut self, config: &front::Config) {
        let Some(ordered) = &mut self.ordered else { return };
        let http = config.services.iter().filter(|service| service.mode == front::Mode::Http);
        let hosts = http.flat_map(|service| service.hosts.iter().cloned()).collect();
        ordered.want(&hosts, self.files.hosts());
    }

    /// Ports that this machine has for other programs are exchanged.
    fn open_ports(&mut self, addresses: &[IpAddr]) {
        let wanted =
            self.registry.serving().flat_map(|serving| build::port_listeners(addresses, &serving, false));
        let fresh: Vec<_> = wanted
            .filter(|listener| {
                let same = |old: &front::Listener| {
                    old.address == listener.address && old.protocol == listener.protocol
                };
                !self.applied.listeners.iter().any(same)
            })
            .collect();
        for listener in fresh {
            let udp = listener.protocol == front::Protocol::Udp;
            if let Err(error) = self.sockets.prepare(listener.address, udp) {
                warn!(address = %listener.address, %error, "a port of the range cannot be had");
                let transport = if udp { Transport::Udp } else { Transport::Tcp };
                self.registry.port_unusable(transport, listener.address.port());
            }
        }
    }

    fn front_config(&self, addresses: &[IpAddr]) -> (front::Config, dial::Table) {
        let mut config = front::Config {
            listeners: build::listeners(&self.config, &self.shared),
            own_host: self.config.domain.clone(),
            limits: front::Limits { connections: self.clients, ..front::Limits::default() },
            trusted_proxies: self.config.proxies.iter().filter_map(|text| text.parse().ok()).collect(),
            ..front::Config::default()
        };
        let mut table = dial::Table::new();
        for serving in self.registry.serving() {
            let Some(live) = self.live.get(serving.key) else { continue };
            build::routes(&live.claim, &mut table);
            let mut service = live.template.clone();
            service.name = build::name(&serving);
            service.hosts.clone_from(&serving.hosts);
            for backend in &mut service.backends {
                backend.drain = self.drained.contains(&*backend.target.0);
            }
            config.services.push(service);
            config.listeners.extend(build::port_listeners(addresses, &serving, self.config.proxy_protocol));
        }
        (config, table)
    }

    // --- the disk ---

    /// Stores what has changed; whoever waits for an answer gets it once that is on the disk.
    pub(super) fn settle(&mut self, answer: Option<(oneshot::Sender<Answer>, Answer)>) {
        let mut batch = Batch::new();
        for (key, value) in self.registry.drain_changes() {
            let put = match &value {
                Some(value) => batch.put(Table::Gateway, &key, value).map(|_| ()),
                None => {
                    batch.delete(Table::Gateway, &key);
                    Ok(())
                }
            };
            put.unwrap_or_else(|error| warn!(%error, "a record of the register is not stored"));
        }
        for network in self.documents.networks() {
            let wanted = self.registry.knows(&network);
            self.documents.store(&network, wanted, &mut batch);
        }
        let reply = move || answer.into_iter().for_each(|(reply, answer)| _ = reply.send(answer));
        if batch.is_empty() {
            reply();
        } else {
            // A disk that fails is told of by whoever writes; what is served is served.
            self.persist.submit(batch, move |_| reply());
        }
    }

    /// Notes that a backend gets nothing new, or something again.
    pub(super) fn set_drained(&mut self, target: &str, drained: bool) {
        let key = [&[DRAINED][..], target.as_bytes()].concat();
        if drained {
            self.drained.insert(target.to_owned());
            self.persist.put(Table::Gateway, &key, &[]);
        } else {
            self.drained.remove(target);
            let mut batch = Batch::new();
            batch.delete(Table::Gateway, &key);
            self.persist.submit(batch, |_| {});
        }
    }
}

/// Author, service and number of a PUBLISH.
fn meant(bytes: &[u8]) -> Option<([u8; 32], [u8; 16], u64)> {
    let document = Document::parse(bytes).ok().filter(|document| document.kind == kind::PUBLISH)?;
    Some((document.author, *document.subject.last_chunk()?, document.seq))
}

/// As ids of services are written.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
