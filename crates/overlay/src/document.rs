//! A document that was read, checked by itself and found to be its author's (protocol A7.1).
//!
//! What is checked here depends on the document alone: shape, size, keys, signature, and which fields a
//! kind may have. Whether its author may say so depends on the other documents and is
//! [`judge`](crate::judge())'s question; so is whether it still counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use sinew_types::{Domain, Identity, NetworkId, NodeId, Signature, verify};
use sinew_wire::document::{Body, DOCUMENT_HEADER_LEN, DOCUMENT_MAX, Document, kind};
pub use sinew_wire::sync::DocumentId;

/// No document: the author needs no grant.
pub const NO_GRANT: DocumentId = [0; 32];
/// Longest lease of a moving workload, seconds.
pub const LEASE_MAX: u64 = 600;
/// Longest life of a PUBLISH, seconds.
pub const PUBLISH_LIFE: u64 = 7 * 86_400;
/// Longest body.
pub(crate) const DOCUMENT_ROOM: usize = DOCUMENT_MAX - DOCUMENT_HEADER_LEN - 64;
/// Most keys that are remembered as tested.
const KEYS_MAX: usize = 32_768;

/// What is wrong with a document by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Not of the shape of documents, or of its kind.
    Malformed,
    /// Of another network.
    OtherNetwork,
    /// A field that is no key.
    BadKey,
    /// The author did not sign this.
    BadSignature,
    /// A field that documents of its kind do not have so.
    BadField,
    /// Longer than documents of its kind are.
    TooLong,
}

impl Flaw {
    /// The same as text that lives as long as the program.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Malformed => "not of the shape of a document of its kind",
            Self::OtherNetwork => "of another network",
            Self::BadKey => "a field that has to be a key is none",
            Self::BadSignature => "the signature is not its author's",
            Self::BadField => "a field is not as documents of its kind have it",
            Self::TooLong => "longer than documents of its kind are",
        }
    }
}

impl std::fmt::Display for Flaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.describe())
    }
}

impl std::error::Error for Flaw {}

/// A document as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The envelope.
    pub document: Document,
    /// What it says; `None` for a kind this version does not know.
    pub body: Option<Body>,
    /// SHA-256 of the signed bytes.
    pub id: DocumentId,
    /// Who signed it.
    pub author: NodeId,
    /// The subject, where it has to be a key.
    pub subject: Option<NodeId>,
    /// ATTACH: the host. PUBLISH: the gateway.
    pub host: Option<NodeId>,
    /// As it travels.
    pub bytes: Arc<[u8]>,
}

impl Signed {
    /// The era of its generation.
    pub const fn era(&self) -> u16 {
        (self.document.generation >> 16) as u16
    }
}

/// Keys that were tested, so that each costs the torsion test once (protocol A1.1).
#[derive(Debug, Default)]
pub struct KeyRing(BTreeMap<[u8; 32], Option<NodeId>>);

impl KeyRing {
    /// The key of these bytes, if it is one.
    pub fn node(&mut self, bytes: &[u8; 32]) -> Option<NodeId> {
        if let Some(known) = self.0.get(bytes) {
            return *known;
        }
        if self.0.len() >= KEYS_MAX {
            self.0.clear();
        }
        let node = NodeId::parse(bytes).ok();
        self.0.insert(*bytes, node);
        node
    }
}

/// The network that a document names, whether or not it is any good.
pub fn network_of(bytes: &[u8]) -> Option<[u8; 32]> {
    Document::parse(bytes).ok().map(|document| document.network)
}

/// The id of a document: SHA-256 over tag and signed bytes.
pub(crate) fn id_of(document: &Document) -> DocumentId {
    let hash = Sha256::new().chain_update(Domain::DOCUMENT.tag()).chain_update(document.signed_bytes());
    hash.finalize().into()
}

/// A document that has the right shape and whose signature was not looked at.
#[derive(Debug)]
pub struct Unverified {
    document: Document,
    bytes: Arc<[u8]>,
    /// Its id.
    pub id: DocumentId,
}

impl Unverified {
    /// Reads `bytes`.
    ///
    /// # Errors
    /// [`Flaw::Malformed`], [`Flaw::OtherNetwork`].
    pub fn parse(bytes: &[u8], network: &NetworkId) -> Result<Self, Flaw> {
        let document = Document::parse(bytes).map_err(|_| Flaw::Malformed)?;
        if document.network != *network.as_bytes() {
            return Err(Flaw::OtherNetwork);
        }
        let id = id_of(&document);
        Ok(Self { document, bytes: bytes.into(), id })
    }

    /// Its kind.
    pub const fn kind(&self) -> u8 {
        self.document.kind
    }

    /// Who is said to have signed it.
    pub const fn author(&self) -> &[u8; 32] {
        &self.document.author
    }

    /// Checks keys, fields and signature. Costs about 100 µs.
    ///
    /// # Errors
    /// The [`Flaw`].
    pub fn verify(self, keys: &mut KeyRing) -> Result<Signed, Flaw> {
        let Self { document, bytes, id } = self;
        if bytes.len() > longest(document.kind) {
            return Err(Flaw::TooLong);
        }
        let body = Body::parse(document.kind, &document.body).map_err(|_| Flaw::Malformed)?;
        check_fields(&document, body.as_ref())?;
        let author = keys.node(&document.author).ok_or(Flaw::BadKey)?;
        let subject = match document.kind {
            kind::GRANT | kind::MEMBER | kind::INVITE | kind::ATTACH => {
                Some(keys.node(&document.subject).ok_or(Flaw::BadKey)?)
            }
            _ => None,
        };
        if !verify(&author, Domain::DOCUMENT, &document.signed_bytes(), &document.signature) {
            return Err(Flaw::BadSignature);
        }
        let mut carrier = None;
        if let Some(Body::Attach(attach)) = &body {
            let host = keys.node(&attach.host).ok_or(Flaw::BadKey)?;
            if !verify(&host, Domain::HANDOVER, &Lease::of(&document, attach.host).bytes(), &attach.signature)
            {
                return Err(Flaw::BadSignature);
            }
            carrier = Some(host);
        }
        if let Some(Body::Publish(publish)) = &body {
            carrier = Some(keys.node(&publish.gateway).ok_or(Flaw::BadKey)?);
        }
        Ok(Signed { document, body, id, author, subject, host: carrier, bytes })
    }
}

/// Longest document of a kind: what one author may have of a kind is counted in documents.
const fn longest(kind: u8) -> usize {
    match kind {
        kind::POLICY | kind::HEAD | kind::PUBLISH => DOCUMENT_MAX,
        kind::MEMBER | kind::WORKLOAD | kind::INVITE => 2048,
        kind::NET | kind::GRANT | kind::REVOKE | kind::ATTACH => 1024,
        _ => 4096,
    }
}

/// Which fields a kind may have (protocol A7.2).
fn check_fields(document: &Document, body: Option<&Body>) -> Result<(), Flaw> {
    let owner = document.author == document.network;
    let granted = document.grant != NO_GRANT;
    let whole = document.subject == document.network;
    let within = |most| document.expires > document.issued && document.expires - document.issued <= most;
    let ok = match body {
        Some(Body::Net(_)) => owner && !granted && whole && document.expires == 0,
        Some(Body::Grant(grant)) => owner && !granted && grant.numbers.0 <= grant.numbers.1,
        Some(Body::Policy(_)) => owner != granted && whole,
        Some(Body::Head(_)) => owner != granted && whole && document.generation & 0xffff == 0,
        Some(Body::Revoke(_)) => owner != granted && document.expires == 0,
        Some(Body::Member(_) | Body::Invite(_)) => owner != granted,
        Some(Body::Workload(workload)) => !granted && (workload.keyed || is_place(&document.subject)),
        Some(Body::Attach(_)) => !granted && document.author == document.subject && within(LEASE_MAX),
        Some(Body::Publish(_)) => {
            !(owner && granted) && is_service(&document.subject) && within(PUBLISH_LIFE)
        }
        None => true,
    };
    if ok { Ok(()) } else { Err(Flaw::BadField) }
}

/// The subject of a workload without a key: the host part of its address. A new workload at an address
/// takes the place of the one before, so what is gone leaves no trace for ever.
pub(crate) fn place_subject(host: u32) -> [u8; 32] {
    let mut subject = [0; 32];
    subject[28..].copy_from_slice(&host.to_be_bytes());
    subject
}

fn is_place(subject: &[u8; 32]) -> bool {
    subject[..28] == [0; 28] && subject[28..] != [0; 4]
}

/// The subject of a PUBLISH: its service's id behind 16 zeros.
pub(crate) fn service_subject(service: [u8; 16]) -> [u8; 32] {
    let mut subject = [0; 32];
    subject[16..].copy_from_slice(&service);
    subject
}

/// The service that a PUBLISH is about.
pub(crate) fn service_of(subject: &[u8; 32]) -> [u8; 16] {
    subject.last_chunk().copied().unwrap_or_default()
}

fn is_service(subject: &[u8; 32]) -> bool {
    subject[..16] == [0; 16] && subject[16..] != [0; 16]
}

/// What an author is about to sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// Which network.
    pub network: NetworkId,
    /// What lets the author say this; [`NO_GRANT`] if it needs nothing.
    pub grant: DocumentId,
    /// About whom.
    pub subject: [u8; 32],
    /// `era << 16 | n`.
    pub generation: u32,
    /// Above the author's last one for this slot.
    pub seq: u64,
    /// Now, seconds since 1970.
    pub issued: u64,
    /// Until when, seconds since 1970; 0 without end.
    pub expires: u64,
    /// What it says.
    pub body: Body,
}

impl Draft {
    /// The document, signed by `author`.
    pub fn sign(self, author: &Identity) -> Signed {
        let node = author.node_id();
        let mut document = Document {
            kind: self.body.kind(),
            network: *self.network.as_bytes(),
            author: *node.as_bytes(),
            grant: self.grant,
            subject: self.subject,
            generation: self.generation,
            seq: self.seq,
            issued: self.issued,
            expires: self.expires,
            body: self.body.emit(),
            signature: [0; 64],
        };
        document.signature = author.sign(Domain::DOCUMENT, &document.signed_bytes());
        let mut bytes = Vec::with_capacity(document.emitted_len());
        document.emit(&mut bytes);
        let subject = match document.kind {
            kind::GRANT | kind::MEMBER | kind::INVITE | kind::ATTACH => NodeId::parse(&document.subject).ok(),
            _ => None,
        };
        let host = match &self.body {
            Body::Attach(attach) => NodeId::parse(&attach.host).ok(),
            Body::Publish(publish) => NodeId::parse(&publish.gateway).ok(),
            _ => None,
        };
        let id = id_of(&document);
        Signed { document, body: Some(self.body), id, author: node, subject, host, bytes: bytes.into() }
    }
}

/// Where a moving workload is, for how long: what the host agrees to, and what the workload's key then
/// signs (protocol A7.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Which network.
    pub network: [u8; 32],
    /// The workload's key.
    pub workload: [u8; 32],
    /// The member that carries it.
    pub host: [u8; 32],
    /// Above what revocations name.
    pub generation: u32,
    /// The highest wins.
    pub seq: u64,
    /// From when, seconds since 1970.
    pub issued: u64,
    /// Until when; at most 600 s later.
    pub expires: u64,
}

impl Lease {
    fn of(document: &Document, host: [u8; 32]) -> Self {
        Self {
            network: document.network,
            workload: document.subject,
            host,
            generation: document.generation,
            seq: document.seq,
            issued: document.issued,
            expires: document.expires,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = [self.network, self.workload, self.host].concat();
        out.extend(self.generation.to_le_bytes());
        [self.seq, self.issued, self.expires].iter().for_each(|value| out.extend(value.to_le_bytes()));
        out
    }

    /// The host agrees to carry the workload.
    pub fn consent(&self, host: &Identity) -> Signature {
        host.sign(Domain::HANDOVER, &self.bytes())
    }

    /// The ATTACH: signed by the workload's key, with the host's consent.
    pub fn attach(&self, network: NetworkId, workload: &Identity, consent: Signature) -> Signed {
        let body = Body::Attach(sinew_wire::document::Attach { host: self.host, signature: consent });
        Draft {
            network,
            grant: NO_GRANT,
            subject: self.workload,
            generation: self.generation,
            seq: self.seq,
            issued: self.issued,
            expires: self.expires,
            body,
        }
        .sign(workload)
    }
}
