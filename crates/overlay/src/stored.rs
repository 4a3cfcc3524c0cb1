//! What a network needs after a restart beyond its documents, as bytes for the store.
//!
//! Our own format, read back by ourselves: a version byte and fields in order. What does not fit is
//! refused whole; the network is then made anew from its documents.

use std::fmt;

use sinew_types::{Label, NodeId};
use sinew_wire::document::{PublishMode, Service};
use sinew_wire::ticket::Contact;
use zeroize::Zeroizing;

use crate::document::DocumentId;
use crate::event::WorkloadSpec;
use crate::exposure::{BackendSpec, Exposure, PublicationSpec};
use crate::snapshot::Slot;

const VERSION: u8 = 3;
/// The version without published services at the end.
const WITHOUT_EXPOSURES: u8 = 2;
/// The version without contacts at the end.
const WITHOUT_CONTACTS: u8 = 1;

/// A workload that this node was told to have, and the host part it got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Intent {
    pub(crate) spec: WorkloadSpec,
    pub(crate) host: u32,
    pub(crate) since: u64,
    /// The last document that says so.
    pub(crate) document: DocumentId,
    /// Its number.
    pub(crate) seq: u64,
    /// Number of the subnet it was signed for.
    pub(crate) number: u16,
}

/// The rest of a network.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) name: Label,
    pub(crate) slot: Slot,
    pub(crate) floor: u64,
    /// The highest HEAD that was ever held.
    pub(crate) head: (u16, u64),
    /// The HEAD that has to be held before anything passes.
    pub(crate) required: (u16, u64),
    /// Whether it was.
    pub(crate) ready: bool,
    /// The last number given to a member: it comes back as late as possible, since whoever has not
    /// heard of a revocation still takes it for the revoked one's.
    pub(crate) last_number: u16,
    pub(crate) intents: Vec<Intent>,
    /// The ticket, while joining; erased from memory when dropped.
    pub(crate) ticket: Zeroizing<Vec<u8>>,
    /// Where the ticket said that members are: after a restart perhaps the only ones that this node
    /// knows how to reach.
    pub(crate) contacts: Vec<Contact>,
    /// Services that this node was told to publish.
    pub(crate) exposures: Vec<Exposure>,
}

impl fmt::Debug for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Meta({}, slot {}, head {:?})", self.name, self.slot, self.head)
    }
}

struct Out(Vec<u8>);

impl Out {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    fn long(&mut self, bytes: &[u8]) -> &mut Self {
        self.u64(bytes.len() as u64).bytes(bytes)
    }

    fn labels(&mut self, labels: &[Label]) {
        self.u64(labels.len() as u64);
        labels.iter().for_each(|label| _ = self.long(label.as_str().as_bytes()));
    }
}

struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        u16::try_from(self.u64()?).ok()
    }

    fn long(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u64()?).ok()?;
        self.bytes(len)
    }

    fn label(&mut self) -> Option<Label> {
        Label::parse(core::str::from_utf8(self.long()?).ok()?).ok()
    }

    fn list<T>(&mut self, mut one: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.u64()?;
        // Each entry has at least a byte, so a wrong count ends with the bytes.
        let mut list = Vec::new();
        for _ in 0..count {
            list.push(one(self)?);
        }
        Some(list)
    }
}

impl Meta {
    /// For the store.
    pub(crate) fn emit(&self) -> Vec<u8> {
        let mut out = Out(vec![VERSION]);
        out.long(self.name.as_str().as_bytes()).u64(u64::from(self.slot)).u64(self.floor);
        for pair in [self.head, self.required] {
            out.u64(u64::from(pair.0)).u64(pair.1);
        }
        out.u64(u64::from(self.ready)).u64(u64::from(self.last_number)).long(&self.ticket);
        out.u64(self.intents.len() as u64);
        self.intents.iter().for_each(|intent| intent.write(&mut out));
        out.u64(self.contacts.len() as u64);
        for contact in &self.contacts {
            out.bytes(&contact.node).u64(contact.endpoints.len() as u64);
            contact.endpoints.iter().for_each(|uri| _ = out.long(uri.to_string().as_bytes()));
        }
        out.u64(self.exposures.len() as u64);
        self.exposures.iter().for_each(|exposure| exposure.write(&mut out));
        out.0
    }

    /// From the store.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut r = In(bytes);
        let [version] = r.array()?;
        if !(WITHOUT_CONTACTS..=VERSION).contains(&version) {
            return None;
        }
        let (name, slot, floor) = (r.label()?, u32::try_from(r.u64()?).ok()?, r.u64()?);
        let (head, required) = ((r.u16()?, r.u64()?), (r.u16()?, r.u64()?));
        let (ready, last_number) = (r.u64()? != 0, r.u16()?);
        let ticket = Zeroizing::new(r.long()?.to_vec());
        let intents = r.list(Intent::read)?;
        let contacts = if version > WITHOUT_CONTACTS { r.list(contact)? } else { Vec::new() };
        let exposures = if version > WITHOUT_EXPOSURES { r.list(Exposure::read)? } else { Vec::new() };
        let meta = Self {
            name,
            slot,
            floor,
            head,
            required,
            ready,
            last_number,
            intents,
            ticket,
            contacts,
            exposures,
        };
        r.0.is_empty().then_some(meta)
    }
}

fn contact(r: &mut In<'_>) -> Option<Contact> {
    let node = r.array()?;
    let endpoints = r.list(|r| core::str::from_utf8(r.long()?).ok()?.parse().ok())?;
    Some(Contact { node, endpoints })
}

impl Exposure {
    fn write(&self, out: &mut Out) {
        let spec = &self.spec;
        out.long(spec.name.as_str().as_bytes()).bytes(spec.gateway.as_bytes()).bytes(&[spec.mode as u8]);
        out.u64(spec.hosts.len() as u64);
        spec.hosts.iter().for_each(|host| _ = out.long(host.as_bytes()));
        out.u64(spec.backends.len() as u64);
        for backend in &spec.backends {
            out.bytes(backend.home.as_bytes()).long(backend.workload.as_str().as_bytes());
            out.u64(u64::from(backend.port)).u64(u64::from(backend.weight));
        }
        out.long(&spec.settings).u64(u64::from(spec.recovery.is_some()));
        if let Some(recovery) = &spec.recovery {
            out.bytes(recovery);
        }
        out.bytes(&self.document).u64(u64::from(self.generation)).u64(self.seq);
    }

    fn read(r: &mut In<'_>) -> Option<Self> {
        let (name, gateway, [mode]) = (r.label()?, NodeId::parse(&r.array()?).ok()?, r.array()?);
        let modes = [PublishMode::Http, PublishMode::TlsPassthrough, PublishMode::Tcp, PublishMode::Udp];
        let mode = modes.into_iter().find(|known| *known as u8 == mode)?;
        let hosts = r.list(|r| core::str::from_utf8(r.long()?).ok().map(str::to_owned))?;
        let backends = r.list(|r| {
            let (home, workload) = (NodeId::parse(&r.array()?).ok()?, r.label()?);
            Some(BackendSpec { home, workload, port: r.u16()?, weight: r.u16()? })
        })?;
        let settings = r.long()?.to_vec();
        let recovery = if r.u64()? != 0 { Some(r.array()?) } else { None };
        let spec = PublicationSpec { name, gateway, mode, hosts, backends, settings, recovery };
        let (document, generation, seq) = (r.array()?, u32::try_from(r.u64()?).ok()?, r.u64()?);
        Some(Self { spec, document, generation, seq })
    }
}

impl Intent {
    fn write(&self, out: &mut Out) {
        let spec = &self.spec;
        out.long(spec.name.as_str().as_bytes()).u64(u64::from(self.host)).u64(self.since);
        out.bytes(&self.document).u64(self.seq).u64(u64::from(self.number));
        out.u64(u64::from(spec.ipv4.is_some()));
        if let Some(ipv4) = spec.ipv4 {
            out.bytes(&ipv4.octets());
        }
        out.u64(u64::from(spec.groups.is_some()));
        if let Some(groups) = &spec.groups {
            out.labels(groups);
        }
        out.u64(spec.services.len() as u64);
        for service in &spec.services {
            out.long(service.name.as_str().as_bytes()).bytes(&[service.protocol]);
            out.u64(u64::from(service.port));
        }
        out.u64(u64::from(spec.key.is_some()));
        if let Some(key) = spec.key {
            out.bytes(key.as_bytes());
        }
    }

    fn read(r: &mut In<'_>) -> Option<Self> {
        let (name, host, since) = (r.label()?, u32::try_from(r.u64()?).ok()?, r.u64()?);
        let (document, seq, number) = (r.array()?, r.u64()?, r.u16()?);
        let ipv4 = if r.u64()? != 0 { Some(r.array::<4>()?.into()) } else { None };
        let groups = if r.u64()? != 0 { Some(r.list(In::label)?) } else { None };
        let services = r.list(|r| {
            let (name, [protocol]) = (r.label()?, r.array()?);
            Some(Service { name, protocol, port: r.u16()? })
        })?;
        let key = if r.u64()? != 0 { Some(NodeId::parse(&r.array()?).ok()?) } else { None };
        let spec = WorkloadSpec { name, ipv4, groups, services, key };
        Some(Self { spec, host, since, document, seq, number })
    }
}

#[cfg(test)]
mod tests {
    use sinew_types::Identity;

    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_nothing_else() {
        let label = |text: &str| Label::parse(text).unwrap();
        let spec = WorkloadSpec {
            name: label("web"),
            ipv4: Some([10, 1, 2, 3].into()),
            groups: Some(vec![label("a"), label("b")]),
            services: vec![Service { name: label("http"), protocol: 6, port: 80 }],
            key: Some(Identity::from_seed([1; 32]).node_id()),
        };
        let bare = WorkloadSpec { ipv4: None, groups: None, services: vec![], key: None, ..spec.clone() };
        let intent = |spec| Intent { spec, host: 3, since: 4, document: [5; 32], seq: 6, number: 7 };
        let meta = Meta {
            name: label("lab"),
            slot: 9,
            floor: 10,
            head: (1, 2),
            required: (3, 4),
            ready: true,
            last_number: 12,
            intents: vec![intent(spec), intent(bare)],
            ticket: Zeroizing::new(vec![1, 2, 3]),
            contacts: Vec::new(),
            exposures: Vec::new(),
        };
        // As earlier versions wrote it: without the counts at the end.
        let mut earlier = meta.emit();
        for version in [WITHOUT_EXPOSURES, WITHOUT_CONTACTS] {
            earlier.truncate(earlier.len() - 8);
            earlier[0] = version;
            assert_eq!(Meta::parse(&earlier), Some(meta.clone()));
        }
        let node = Identity::from_seed([2; 32]).node_id();
        let endpoints =
            ["10.0.0.1:7463", "[fd00::1]:7463"].map(|at| format!("sinew://{node}@{at}").parse().unwrap());
        let contact = Contact { node: *node.as_bytes(), endpoints: endpoints.to_vec() };
        let spec = PublicationSpec {
            name: label("app"),
            gateway: node,
            mode: PublishMode::TlsPassthrough,
            hosts: vec!["app".into(), "app.example.org".into()],
            backends: vec![BackendSpec { home: node, workload: label("web"), port: 80, weight: 2 }],
            settings: b"{}".to_vec(),
            recovery: Some([3; 32]),
        };
        let exposure = Exposure { spec, document: [5; 32], generation: 6, seq: 7 };
        let bare = PublicationSpec {
            recovery: None,
            mode: PublishMode::Udp,
            hosts: vec![],
            ..exposure.spec.clone()
        };
        let bare = Exposure { spec: bare, ..exposure.clone() };
        let meta = Meta { contacts: vec![contact], exposures: vec![exposure, bare], ..meta };
        let bytes = meta.emit();
        assert_eq!(Meta::parse(&bytes), Some(meta));
        for len in 0..bytes.len() {
            assert_eq!(Meta::parse(&bytes[..len]), None, "cut at {len}");
        }
        assert_eq!(Meta::parse(&[&bytes[..], &[0]].concat()), None);
    }
}
