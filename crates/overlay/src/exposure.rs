//! Services of this node's network that a gateway is to offer, published by this node (protocol A11.2).
//!
//! What an operator asked for is kept as an [`Exposure`]; from it PUBLISH is signed, and signed anew when half
//! of its life is over. A version that an admin revoked is not signed anew: only the operator's next word
//! goes above it.

use std::collections::BTreeSet;
use std::hash::{Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::Arc;

use rustc_hash::FxHasher;
use sha2::{Digest, Sha256};
use sinew_types::{Instant, Label, NetworkId, NodeId};
use sinew_wire::document::{Body, Grant, Publish, PublishMode, PublishedBackend, kind};

use crate::document::{DocumentId, Draft, NO_GRANT, PUBLISH_LIFE, Signed, service_of, service_subject};
use crate::judge::PUBLICATIONS_MAX;
use crate::network::Network;
use crate::overlay::Overlay;
use crate::refusal::Refusal;
use crate::state::{Fate, Publication};

/// A workload's port, by the names that people use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendSpec {
    /// The member whose workload it is.
    pub home: NodeId,
    /// Its name.
    pub workload: Label,
    /// Port.
    pub port: u16,
    /// Share; see [`PublishedBackend::weight`].
    pub weight: u16,
}

/// A service that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicationSpec {
    /// What this node calls it; its id follows from it.
    pub name: Label,
    /// The gateway.
    pub gateway: NodeId,
    /// How it is reached.
    pub mode: PublishMode,
    /// Host names.
    pub hosts: Vec<String>,
    /// Who serves it.
    pub backends: Vec<BackendSpec>,
    /// For the gateway.
    pub settings: Vec<u8>,
    /// A hash of the key by which a lost name is got back.
    pub recovery: Option<[u8; 32]>,
}

/// A service that this node was told to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exposure {
    pub(crate) spec: PublicationSpec,
    /// The last document.
    pub(crate) document: DocumentId,
    /// Its generation.
    pub(crate) generation: u32,
    /// Its number.
    pub(crate) seq: u64,
}

/// How a service of this node stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExposureStatus {
    /// Its id.
    pub service: [u8; 16],
    /// What was asked for.
    pub spec: PublicationSpec,
    /// What counts; `None` if it does not.
    pub publication: Option<Publication>,
    /// Why it does not count.
    pub reason: Option<&'static str>,
}

/// A service whose streams end on this node: who may ask for which ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ingress {
    /// The network.
    pub network: NetworkId,
    /// The service.
    pub service: [u8; 16],
    /// Who published it.
    pub author: NodeId,
    /// The gateway that may ask.
    pub gateway: NodeId,
    /// Whether its streams are datagrams.
    pub datagrams: bool,
    /// Those of its backends that this node carries.
    pub ports: Vec<IngressPort>,
}

/// A port of a workload that this node carries, or would if it were there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IngressPort {
    /// The member that signed the WORKLOAD.
    pub home: NodeId,
    /// Its name.
    pub workload: Label,
    /// Where it is, IPv4 first; nowhere while there is no such workload.
    pub addresses: Vec<IpAddr>,
    /// Port.
    pub port: u16,
}

/// Documents, and the gateway that they are for.
pub type Notice = (NodeId, Vec<Arc<[u8]>>);

/// The id of the service that `author` calls `name`: an author that lost everything but its key takes the
/// same slot again.
pub fn service_id(network: &NetworkId, author: &NodeId, name: &Label) -> [u8; 16] {
    let hash: [u8; 32] = Sha256::new()
        .chain_update(b"sinew/service/v1\0")
        .chain_update(network.as_bytes())
        .chain_update(author.as_bytes())
        .chain_update(name.as_str())
        .finalize()
        .into();
    service_of(&hash)
}

impl Network {
    /// Whether an exposure has to be signed anew. `now` in seconds since 1970.
    fn is_due(&self, own: &NodeId, exposure: &Exposure, now: u64) -> bool {
        let subject = service_subject(service_id(&self.id, own, &exposure.spec.name));
        let revoked = self.state.revoked(kind::PUBLISH, &subject);
        if revoked.is_some_and(|revoked| revoked >= exposure.generation) {
            return false;
        }
        let Some(signed) = self.set.get(&exposure.document) else { return true };
        let document = &signed.document;
        let half = document.issued + document.expires.saturating_sub(document.issued) / 2;
        // A clock that was set back must not stop renewal either.
        half <= now || document.issued > now + PUBLISH_LIFE
    }

    /// What a gateway or a host does with publications depends on this alone.
    pub(crate) fn published_digest(&self) -> u64 {
        let mut hasher = FxHasher::default();
        for publication in self.state.publications.values() {
            publication.id.hash(&mut hasher);
            for backend in &publication.backends {
                let workload = self.state.workload(&backend.home, &backend.workload);
                workload.map(|w| (w.id, w.host, w.lease)).hash(&mut hasher);
            }
        }
        if !self.state.publications.is_empty() {
            self.state.head.as_ref().map(|head| head.id).hash(&mut hasher);
            self.rights_digest().hash(&mut hasher);
        }
        hasher.finish()
    }
}

impl Overlay {
    /// Publishes a service through a gateway, or changes one of the same name. Says whether anything is
    /// different now, and the service's id.
    ///
    /// # Errors
    /// A [`Refusal`].
    pub fn expose(
        &mut self,
        network: NetworkId,
        mut spec: PublicationSpec,
        now: Instant,
    ) -> Result<([u8; 16], bool), Refusal> {
        spec.hosts.sort_unstable();
        spec.hosts.dedup();
        spec.backends
            .sort_unstable_by(|a, b| (a.home, &a.workload, a.port).cmp(&(b.home, &b.workload, b.port)));
        let service = service_id(&network, &self.own, &spec.name);
        let Some(exposure) = self.prepare(&network, spec)? else { return Ok((service, false)) };
        let signed = self.sign_exposure(&network, &exposure, false, now)?;
        let exposure = after(exposure, &signed);
        let state = self.network_mut(&network)?;
        state.meta.exposures.retain(|old| old.spec.name != exposure.spec.name);
        state.meta.exposures.push(exposure);
        self.publish(&network, vec![signed], now);
        self.finish(now);
        Ok((service, true))
    }

    /// What is to be signed; `None` if it stands so already.
    fn prepare(&self, network: &NetworkId, spec: PublicationSpec) -> Result<Option<Exposure>, Refusal> {
        let state = self.network(network)?;
        state.me(&self.own)?;
        if !state.meta.ready {
            return Err(Refusal::NotReady { network: state.name() });
        }
        let old = state.meta.exposures.iter().find(|old| old.spec.name == spec.name);
        let own = state.set.of_kind(kind::PUBLISH).filter(|(key, _)| key.author == *self.own.as_bytes());
        if old.is_none() && own.count() >= PUBLICATIONS_MAX - 1 {
            let what = "services published by one node, those of the last days included";
            return Err(Refusal::Quota { network: state.name(), what, limit: PUBLICATIONS_MAX - 1 });
        }
        for backend in &spec.backends {
            if state.state.workload(backend.home.as_bytes(), &backend.workload).is_none() {
                let name = backend.workload.to_string();
                return Err(Refusal::UnknownName { network: state.name(), name });
            }
        }
        let same = |old: &&Exposure| old.spec == spec && self.is_live(network, old);
        if old.is_some_and(|old| same(&old)) {
            return Ok(None);
        }
        let seq = old.map_or(0, |old| old.seq);
        Ok(Some(Exposure { spec, document: [0; 32], generation: 0, seq }))
    }

    fn is_live(&self, network: &NetworkId, exposure: &Exposure) -> bool {
        let state = self.networks.get(network).map(|network| &network.state);
        state.is_some_and(|state| state.fates.get(&exposure.document) == Some(&Fate::Live))
    }

    /// Takes a service back. Its id.
    ///
    /// # Errors
    /// A [`Refusal`].
    pub fn unexpose(&mut self, network: NetworkId, name: &Label, now: Instant) -> Result<[u8; 16], Refusal> {
        let own = self.own;
        let state = self.network_mut(&network)?;
        let at = state.meta.exposures.iter().position(|one| one.spec.name == *name);
        let unknown = || Refusal::UnknownService { network: state.meta.name.clone(), name: name.to_string() };
        let exposure = state.meta.exposures.remove(at.ok_or_else(unknown)?);
        // Who is no member any more has nothing to take back: nobody counts what it said.
        if let Ok(gone) = self.sign_exposure(&network, &exposure, true, now) {
            self.publish(&network, vec![gone], now);
        }
        self.finish(now);
        Ok(service_id(&network, &own, name))
    }

    fn sign_exposure(
        &self,
        network: &NetworkId,
        exposure: &Exposure,
        removed: bool,
        now: Instant,
    ) -> Result<Signed, Refusal> {
        let (state, spec) = (self.network(network)?, &exposure.spec);
        let own = spec.backends.iter().all(|backend| backend.home == self.own);
        let grant = match state.rights(&self.own, Grant::POLICY) {
            Some(rights) if !own => rights.grant,
            _ if own => NO_GRANT,
            _ => {
                let what = "publish workloads of other members";
                return Err(Refusal::NotAnAdmin { network: state.name(), what });
            }
        };
        let backend = |backend: &BackendSpec| PublishedBackend {
            home: *backend.home.as_bytes(),
            workload: backend.workload.clone(),
            port: backend.port,
            weight: backend.weight,
        };
        let mut backends: Vec<_> = spec.backends.iter().map(backend).collect();
        backends.sort_unstable();
        let publish = Publish {
            gateway: *spec.gateway.as_bytes(),
            mode: spec.mode,
            hosts: if removed { Vec::new() } else { spec.hosts.clone() },
            backends: if removed { Vec::new() } else { backends },
            settings: if removed { Vec::new() } else { spec.settings.clone() },
            removed,
            recovery: spec.recovery.filter(|_| !removed),
        };
        if !publish.is_sound() {
            return Err(Refusal::BadPublication { reason: unsound(&publish) });
        }
        let subject = service_subject(service_id(network, &self.own, &spec.name));
        let revoked = state.state.revoked(kind::PUBLISH, &subject);
        let generation = (u32::from(state.state.era) << 16).max(revoked.map_or(0, |gone| gone + 1));
        let seq = self.seq(network, kind::PUBLISH, subject, now)?.max(exposure.seq + 1);
        let issued = self.seconds(now);
        let (network, expires, body) = (*network, issued + PUBLISH_LIFE, Body::Publish(publish));
        let draft = Draft { network, grant, subject, generation, seq, issued, expires, body };
        Ok(draft.sign(&self.identity))
    }

    /// After a judgement: signs anew what is half over. Says whether anything was.
    pub(crate) fn resign_exposures(&mut self, network: &NetworkId, now: Instant) -> bool {
        let seconds = self.seconds(now);
        let Some(state) = self.networks.get(network) else { return false };
        if state.meta.exposures.is_empty() || state.state.member(&self.own).is_none() {
            return false;
        }
        let due = |one: &&Exposure| state.is_due(&self.own, one, seconds);
        let due: Vec<Exposure> = state.meta.exposures.iter().filter(due).cloned().collect();
        let mut any = false;
        for exposure in due {
            let Ok(signed) = self.sign_exposure(network, &exposure, false, now) else { continue };
            let Some(state) = self.networks.get_mut(network) else { continue };
            let exposure = after(exposure, &signed);
            state.insert(Arc::new(signed), None);
            let own = state.meta.exposures.iter_mut().find(|own| own.spec.name == exposure.spec.name);
            own.into_iter().for_each(|own| *own = exposure.clone());
            any = true;
        }
        any
    }

    /// The services that this node publishes.
    ///
    /// # Errors
    /// [`Refusal::UnknownNetworkId`].
    pub fn exposures(&self, network: &NetworkId) -> Result<Vec<ExposureStatus>, Refusal> {
        let state = self.network(network)?;
        let status = |exposure: &Exposure| {
            let service = service_id(network, &self.own, &exposure.spec.name);
            let publication = state.state.publications.get(&(self.own, service_subject(service)));
            let publication = publication.filter(|publication| !publication.removed).cloned();
            let reason = match (&publication, state.state.fates.get(&exposure.document)) {
                (Some(_), _) => None,
                (None, Some(Fate::Idle(reason))) => Some(*reason),
                (None, Some(Fate::Surplus)) => Some("more than one node may publish"),
                (None, _) if state.me(&self.own).is_err() => Some("this node is no valid member"),
                (None, _) => Some("revoked"),
            };
            ExposureStatus { service, spec: exposure.spec.clone(), publication, reason }
        };
        Ok(state.meta.exposures.iter().map(status).collect())
    }

    /// What this node signed and a gateway has to hear of: what is published and what was taken back.
    ///
    /// # Errors
    /// [`Refusal::UnknownNetworkId`].
    pub fn published(&self, network: &NetworkId) -> Result<Vec<&Publication>, Refusal> {
        let all = self.network(network)?.state.publications.values();
        Ok(all.filter(|publication| publication.author == self.own).collect())
    }

    /// The documents by which a gateway, which is no member, sees that a service is published by right:
    /// authority before what rests on it. Empty if there is no such service.
    ///
    /// # Errors
    /// [`Refusal::UnknownNetworkId`].
    pub fn proof(
        &self,
        network: &NetworkId,
        author: &NodeId,
        service: [u8; 16],
    ) -> Result<Vec<Arc<[u8]>>, Refusal> {
        let state = self.network(network)?;
        let subject = service_subject(service);
        let Some(one) = state.state.publications.get(&(*author, subject)) else { return Ok(Vec::new()) };
        let Some(signed) = state.set.get(&one.id) else { return Ok(Vec::new()) };
        let mut proof = Proof::of(state);
        proof.node(author);
        proof.revocations(kind::PUBLISH, &subject);
        proof.add(state.set.get(&signed.document.grant));
        for backend in &one.backends {
            let Some(workload) = state.state.workload(&backend.home, &backend.workload) else { continue };
            proof.node(&workload.home);
            workload.host.iter().for_each(|host| proof.node(host));
            proof.revocations(kind::WORKLOAD, &workload.subject);
            proof.add(state.set.get(&workload.id));
            let attach = state.set.about(kind::ATTACH, workload.subject);
            attach.filter(|_| workload.keyed).for_each(|signed| proof.add(Some(signed)));
        }
        proof.add(Some(signed));
        Ok(proof.documents)
    }

    /// What gateways have to hear from this node though it is not its own: that the author of what they
    /// serve was revoked, by an admin, whose word travels this way before the author's can end.
    ///
    /// # Errors
    /// [`Refusal::UnknownNetworkId`].
    pub fn notices(&self, network: &NetworkId) -> Result<Vec<Notice>, Refusal> {
        let state = self.network(network)?;
        if state.rights(&self.own, Grant::REVOKE).is_none() {
            return Ok(Vec::new());
        }
        let mut gone: BTreeSet<(NodeId, NodeId)> = BTreeSet::new();
        for (_, signed) in state.set.of_kind(kind::PUBLISH) {
            let author = signed.author;
            let revoked = state.state.revoked(kind::MEMBER, author.as_bytes()).is_some();
            if let Some(gateway) =
                signed.host.filter(|_| revoked && !state.state.members.contains_key(&author))
            {
                gone.insert((gateway, author));
            }
        }
        let gateways: BTreeSet<NodeId> = gone.iter().map(|(gateway, _)| *gateway).collect();
        let notice = |gateway: NodeId| {
            let mut proof = Proof::of(state);
            for (_, author) in gone.iter().filter(|(by, _)| *by == gateway) {
                proof.revocations(kind::MEMBER, author.as_bytes());
            }
            (gateway, proof.documents)
        };
        Ok(gateways.into_iter().map(notice).collect())
    }

    /// Which streams from gateways end on this node. A workload of this node's own that is not there is among them: who
    /// asks for it is told so at once, where a closed port would have it wait.
    pub fn ingress(&self) -> Vec<Ingress> {
        let open = self.networks.values().filter(|network| network.is_open(&self.own));
        open.flat_map(|network| self.ingress_of(network)).collect()
    }

    fn ingress_of<'a>(&'a self, network: &'a Network) -> impl Iterator<Item = Ingress> + 'a {
        let live = network.state.publications.values().filter(|publication| !publication.removed);
        live.filter_map(|publication| {
            let ports = publication.backends.iter().filter_map(|backend| {
                let workload = network.state.workload(&backend.home, &backend.workload);
                let addresses = match workload.and_then(|workload| Some((workload, workload.host?))) {
                    Some((workload, host)) if host == self.own => {
                        workload.ipv4.map(IpAddr::V4).into_iter().chain([IpAddr::V6(workload.ipv6)]).collect()
                    }
                    None if backend.home == *self.own.as_bytes() => Vec::new(),
                    _ => return None,
                };
                Some(IngressPort {
                    home: NodeId::parse(&backend.home).ok()?,
                    workload: backend.workload.clone(),
                    addresses,
                    port: backend.port,
                })
            });
            let ports: Vec<IngressPort> = ports.collect();
            (!ports.is_empty()).then(|| Ingress {
                network: network.id,
                service: publication.service,
                author: publication.author,
                gateway: publication.gateway,
                datagrams: publication.mode == PublishMode::Udp,
                ports,
            })
        })
    }
}

/// What an exposure is after it was signed.
fn after(exposure: Exposure, signed: &Signed) -> Exposure {
    let (generation, seq) = (signed.document.generation, signed.document.seq);
    Exposure { document: signed.id, generation, seq, ..exposure }
}

/// What is wrong with a publication that nobody should sign.
fn unsound(publish: &Publish) -> &'static str {
    let by_name = matches!(publish.mode, PublishMode::Http | PublishMode::TlsPassthrough);
    if by_name && publish.hosts.is_empty() {
        "modes http and tls-passthrough need a host or a name"
    } else if !by_name && !publish.hosts.is_empty() {
        "modes tcp and udp have a port of their own and no host"
    } else if !publish.hosts.iter().all(|host| sinew_wire::document::is_host(host)) {
        "a host is a name in lower case: labels of a-z, 0-9 and hyphens"
    } else if publish.settings.len() > sinew_wire::document::SETTINGS_MAX {
        "the settings are longer than 8 KiB"
    } else {
        "1 to 16 backends with ports from 1 on and weights up to 1000, none twice, at most one of weight 0"
    }
}

/// Documents for a gateway, each once.
struct Proof<'a> {
    network: &'a Network,
    known: BTreeSet<DocumentId>,
    documents: Vec<Arc<[u8]>>,
}

impl<'a> Proof<'a> {
    /// NET and the newest HEAD.
    fn of(network: &'a Network) -> Self {
        let mut proof = Self { network, known: BTreeSet::new(), documents: Vec::new() };
        proof.add(network.state.net.as_ref());
        let head = network.state.head.as_ref().and_then(|head| network.set.get(&head.id));
        if let Some(head) = head {
            proof.add(network.set.get(&head.document.grant));
        }
        proof.add(head);
        proof
    }

    fn add(&mut self, signed: Option<&Arc<Signed>>) {
        if let Some(signed) = signed.filter(|signed| self.known.insert(signed.id)) {
            self.documents.push(Arc::clone(&signed.bytes));
        }
    }

    /// What makes a node a member, and takes it back.
    fn node(&mut self, node: &NodeId) {
        let network = self.network;
        if let Some(member) = network.state.members.get(node) {
            network.chain(member).iter().for_each(|signed| self.add(Some(signed)));
        }
        self.revocations(kind::MEMBER, node.as_bytes());
    }

    fn revocations(&mut self, target: u8, subject: &[u8; 32]) {
        let network = self.network;
        for signed in network.set.about(kind::REVOKE, *subject) {
            let of_kind = matches!(&signed.body, Some(Body::Revoke(revoke)) if revoke.target == target);
            if of_kind && network.state.fates.get(&signed.id) == Some(&Fate::Live) {
                self.add(network.set.get(&signed.document.grant));
                self.add(Some(signed));
            }
        }
    }
}
