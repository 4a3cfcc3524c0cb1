//! What a gateway makes of the documents that publishers bring it (protocol A11.2).
//!
//! A gateway is no member of the networks it serves. Whoever publishes brings the documents that prove
//! the claim; the gateway keeps them in a set of its own for each network and judges that as members do.
//! So it needs nobody's word that it does not hold signed, in whatever order it comes, and an older word
//! never takes the place of a newer one.
//!
//! A publisher chooses what it brings, so it may keep back what was revoked. HEAD names revocations, and a
//! claim that rests on a document which the newest HEAD here says is revoked does not count, whether or
//! not the REVOKE itself was brought. What stays possible until a newer HEAD comes is told by
//! [`Claim::head_issued`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sinew_types::{Label, NetworkId, NodeId};
use sinew_wire::document::{Body, Document, PublishMode, kind};

use crate::document::{DocumentId, Flaw, KeyRing, Signed, Unverified, service_of};
use crate::judge::{Clock, hint, judge};
use crate::set::{DocumentSet, Inserted};
use crate::state::{Fate, Publication, State};

/// Most documents and bytes that are kept of one network.
const DOCUMENTS_MAX: usize = 4096;
const BYTES_MAX: usize = 4 << 20;

/// Why documents were not taken at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimError {
    /// A document, counted from 1, is no good by itself.
    Document {
        /// Which.
        index: usize,
        /// Why.
        flaw: Flaw,
    },
    /// There are none, or none that says which network.
    Empty,
    /// More than is kept of one network.
    TooMuch,
}

impl std::fmt::Display for ClaimError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Document { index, flaw } => write!(f, "document {index}: {flaw}"),
            Self::Empty => f.write_str("there are no documents"),
            Self::TooMuch => f.write_str("more documents than a gateway keeps of one network"),
        }
    }
}

impl std::error::Error for ClaimError {}

/// A backend of a claim, with where it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimBackend {
    /// The member that signed the WORKLOAD.
    pub home: NodeId,
    /// Its name.
    pub workload: Label,
    /// Port.
    pub port: u16,
    /// Share; 0: it is asked who may come in, and gets no clients.
    pub weight: u16,
    /// The node that carries the workload that bears the name now, to be dialled; `None` if no document
    /// here says so.
    pub node: Option<NodeId>,
}

/// A service that its network vouches for, meant for `gateway`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The network.
    pub network: NetworkId,
    /// What its owner calls it.
    pub network_name: Option<Label>,
    /// Who signed it.
    pub author: NodeId,
    /// The service's id; with the author's key, its name for ever.
    pub service: [u8; 16],
    /// The document.
    pub id: DocumentId,
    /// The number of this version: only ever rises.
    pub seq: u64,
    /// When it was signed, seconds since 1970.
    pub issued: u64,
    /// Until when.
    pub expires: u64,
    /// It was taken back: everything below but `gateway` and `mode` is empty.
    pub removed: bool,
    /// The gateway that is meant. **One that is somebody else is to be refused.**
    pub gateway: NodeId,
    /// How it is reached.
    pub mode: PublishMode,
    /// Host names, rising: a label is one under the gateway's own domain.
    pub hosts: Vec<String>,
    /// JSON of `control::api::Settings`; may be empty.
    pub settings: Vec<u8>,
    /// A hash of the key by which a lost name is got back.
    pub recovery: Option<[u8; 32]>,
    /// Who serves it.
    pub backends: Vec<ClaimBackend>,
    /// When the newest HEAD here was signed; `None` without one. What was revoked after that may not be
    /// known here.
    pub head_issued: Option<u64>,
}

/// What a network has at a gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claimed {
    /// What counts, by author and service, tombstones included.
    pub claims: Vec<Claim>,
    /// What does not, and why.
    pub idle: Vec<Idle>,
}

/// A PUBLISH that does not count now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idle {
    /// Who signed it.
    pub author: NodeId,
    /// The service.
    pub service: [u8; 16],
    /// Why, for people.
    pub reason: &'static str,
}

/// The documents of all networks that publish through one gateway.
#[derive(Debug, Default)]
pub struct Claims {
    keys: KeyRing,
    networks: BTreeMap<NetworkId, DocumentSet>,
}

impl Claims {
    /// Takes documents, all of one network, and says what the network has now. Costs about 100 µs for
    /// each document that is new. Also good to restore from [`Self::documents`]. `unix` in seconds.
    ///
    /// # Errors
    /// [`ClaimError`]; nothing was taken then.
    pub fn take(&mut self, documents: &[Vec<u8>], unix: u64) -> Result<(NetworkId, Claimed), ClaimError> {
        let first =
            documents.iter().find_map(|bytes| Document::parse(bytes).ok()).ok_or(ClaimError::Empty)?;
        let flawed = |index| move |flaw| ClaimError::Document { index, flaw };
        let key = self.keys.node(&first.network).ok_or(flawed(1)(Flaw::BadKey))?;
        let network = NetworkId::new(key);
        let mut set = self.networks.get(&network).cloned().unwrap_or_default();
        for (bytes, index) in documents.iter().zip(1..) {
            let document = Unverified::parse(bytes, &network).map_err(flawed(index))?;
            if set.contains(&document.id) {
                continue;
            }
            let signed = document.verify(&mut self.keys).map_err(flawed(index))?;
            if set.insert(Arc::new(signed)) == Inserted::New
                && (set.len() > DOCUMENTS_MAX || set.bytes() > BYTES_MAX)
            {
                return Err(ClaimError::TooMuch);
            }
        }
        let state = judge(&set, &network, clock(unix));
        // Before the rest is dropped: what counts for nothing is told once.
        let claimed = claimed(&set, &state, &network);
        prune(&mut set, &state);
        self.networks.insert(network, set);
        Ok((network, claimed))
    }

    /// What a network has now; time alone may change it.
    pub fn claimed(&self, network: &NetworkId, unix: u64) -> Claimed {
        let Some(set) = self.networks.get(network) else { return Claimed::default() };
        claimed(set, &judge(set, network, clock(unix)), network)
    }

    /// The networks that are known.
    pub fn networks(&self) -> impl Iterator<Item = &NetworkId> {
        self.networks.keys()
    }

    /// What is to be kept of a network over a restart.
    pub fn documents(&self, network: &NetworkId) -> Vec<Arc<[u8]>> {
        let set = self.networks.get(network);
        set.into_iter().flat_map(|set| set.iter().map(|(_, signed)| Arc::clone(&signed.bytes))).collect()
    }

    /// Forgets a network of which nothing is kept any more.
    pub fn forget(&mut self, network: &NetworkId) {
        self.networks.remove(network);
    }
}

/// The gateway's own clock counts: it is a server on the public Internet, with certificates that end.
const fn clock(unix: u64) -> Clock {
    Clock { own: unix, floor: 0, synchronised: true }
}

/// Drops what says nothing about a claim: a publisher must not fill the gateway with its network's rest.
fn prune(set: &mut DocumentSet, state: &State) {
    let mut nodes: BTreeSet<[u8; 32]> = BTreeSet::new();
    let mut names: BTreeSet<([u8; 32], Label)> = BTreeSet::new();
    for (_, signed) in set.of_kind(kind::PUBLISH) {
        nodes.insert(*signed.author.as_bytes());
        let Some(Body::Publish(publish)) = &signed.body else { continue };
        nodes.extend(publish.backends.iter().map(|backend| backend.home));
        names.extend(publish.backends.iter().map(|backend| (backend.home, backend.workload.clone())));
    }
    let bears = |signed: &Signed| match &signed.body {
        Some(Body::Workload(body)) => names.contains(&(signed.document.author, body.name.clone())),
        _ => false,
    };
    let workloads = set.of_kind(kind::WORKLOAD).filter(|(_, signed)| bears(signed));
    let subjects: BTreeSet<[u8; 32]> = workloads.map(|(key, _)| key.subject).collect();
    for subject in &subjects {
        nodes.extend(set.about(kind::ATTACH, *subject).filter_map(|at| at.host.map(|host| *host.as_bytes())));
    }
    let tickets: BTreeSet<[u8; 32]> = set
        .of_kind(kind::MEMBER)
        .filter(|(key, _)| nodes.contains(&key.subject))
        .map(|(key, _)| key.author)
        .collect();
    let needed = |signed: &Signed| match signed.document.kind {
        kind::NET | kind::GRANT | kind::REVOKE | kind::HEAD | kind::PUBLISH => true,
        kind::MEMBER => nodes.contains(&signed.document.subject),
        kind::WORKLOAD => bears(signed),
        kind::ATTACH => subjects.contains(&signed.document.subject),
        kind::INVITE => tickets.contains(&signed.document.subject),
        _ => false,
    };
    let shared = |id: &DocumentId| state.fates.get(id).is_some_and(|fate| fate.is_shared());
    let gone: Vec<DocumentId> =
        set.iter().filter(|(_, s)| !needed(s) || !shared(&s.id)).map(|(_, s)| s.id).collect();
    gone.iter().for_each(|id| _ = set.remove(id));
}

fn claimed(set: &DocumentSet, state: &State, network: &NetworkId) -> Claimed {
    let head = HeadRevocations::new(set, state);
    let mut out = Claimed::default();
    for publication in state.publications.values() {
        match head.void(set, state, publication) {
            Some(reason) => {
                let (author, service) = (publication.author, publication.service);
                out.idle.push(Idle { author, service, reason });
            }
            None => out.claims.push(claim(state, network, publication, &head)),
        }
    }
    for (key, signed) in set.of_kind(kind::PUBLISH) {
        let reason = match state.fates.get(&signed.id) {
            Some(Fate::Live) => continue,
            Some(Fate::Idle("a newer one is in force")) => continue,
            Some(Fate::Idle(reason)) => reason,
            Some(Fate::Orphan) => "nothing that was brought makes its author a member or admin",
            Some(Fate::Void | Fate::Surplus) | None => "it is over",
        };
        out.idle.push(Idle { author: signed.author, service: service_of(&key.subject), reason });
    }
    out
}

fn claim(state: &State, network: &NetworkId, one: &Publication, head: &HeadRevocations) -> Claim {
    let backends = one.backends.iter().filter_map(|backend| {
        let workload = state.workload(&backend.home, &backend.workload);
        let workload = workload.filter(|workload| {
            let document = (kind::WORKLOAD, &workload.subject, workload.generation);
            !head.names(document) && !head.is_out(state, &workload.home)
        });
        let node = workload.and_then(|workload| workload.host).filter(|host| !head.is_out(state, host));
        Some(ClaimBackend {
            home: NodeId::parse(&backend.home).ok()?,
            workload: backend.workload.clone(),
            port: backend.port,
            weight: backend.weight,
            node,
        })
    });
    Claim {
        network: *network,
        network_name: state.name.clone(),
        author: one.author,
        service: one.service,
        id: one.id,
        seq: one.seq,
        issued: one.issued,
        expires: one.expires,
        removed: one.removed,
        gateway: one.gateway,
        mode: one.mode,
        hosts: one.hosts.clone(),
        settings: one.settings.clone(),
        recovery: one.recovery,
        backends: backends.collect(),
        head_issued: state.head.as_ref().map(|head| head.issued),
    }
}

/// What the newest HEAD says is revoked.
struct HeadRevocations(BTreeMap<(u8, [u8; 6]), u32>);

impl HeadRevocations {
    fn new(set: &DocumentSet, state: &State) -> Self {
        let head = state.head.as_ref().and_then(|head| set.get(&head.id));
        let Some(Body::Head(body)) = head.and_then(|head| head.body.as_ref()) else {
            return Self(BTreeMap::new());
        };
        let lines = body.revocations.iter();
        Self(lines.map(|line| ((line.target, line.hint), line.generation)).collect())
    }

    /// Whether it names documents of this kind, subject and generation.
    fn names(&self, (kind, subject, generation): (u8, &[u8; 32], u32)) -> bool {
        self.0.get(&(kind, hint(subject))).is_some_and(|&revoked| generation <= revoked)
    }

    /// Whether a node's membership is revoked by it.
    fn is_out(&self, state: &State, node: &NodeId) -> bool {
        let member = state.members.get(node);
        member.is_some_and(|member| self.names((kind::MEMBER, node.as_bytes(), member.generation)))
    }

    /// Why a claim that was judged good rests on something revoked.
    fn void(&self, set: &DocumentSet, state: &State, one: &Publication) -> Option<&'static str> {
        let document = &set.get(&one.id)?.document;
        let grant = set.get(&document.grant);
        let revoked = self.names((kind::PUBLISH, &document.subject, document.generation));
        let granted = grant.is_some_and(|grant| {
            self.names((kind::GRANT, &grant.document.subject, grant.document.generation))
        });
        match (revoked || granted, grant.is_none() && self.is_out(state, &one.author)) {
            (true, _) => Some("revoked"),
            (false, true) => Some("its author was revoked"),
            (false, false) => None,
        }
    }
}
