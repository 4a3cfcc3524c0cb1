//! What the documents of a network amount to: the outcome of [`judge`](crate::judge()).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use sinew_types::{Label, NodeId};
use sinew_wire::document::{Grant, Invite, InviteMode, PolicySpec, PublishMode, PublishedBackend, Service};

use crate::document::{DocumentId, Signed};
use crate::plan::{Plan, Subnets};

/// What a document counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is in force.
    Live,
    /// It may count again, and is kept and passed on: the word says why it does not.
    Idle(&'static str),
    /// Nothing here says that its author may speak; kept for a while, not passed on.
    Orphan,
    /// It never counts again.
    Void,
    /// Its author has more than it may have.
    Surplus,
}

impl Fate {
    /// Whether others are told of the document.
    pub const fn is_shared(self) -> bool {
        matches!(self, Self::Live | Self::Idle(_))
    }
}

/// Whose word a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Authority {
    /// The key of a ticket that signs by itself.
    Ticket,
    /// An admin.
    Admin,
    /// The owner.
    Owner,
}

/// An admin in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admin {
    /// The document that makes it one.
    pub id: DocumentId,
    /// What it may do.
    pub grant: Grant,
    /// Generation of that document.
    pub generation: u32,
    /// Until when, seconds since 1970; 0 without end.
    pub expires: u64,
    /// Whether that is past.
    pub expired: bool,
}

/// Whether a member is one now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Standing {
    /// It is.
    Valid,
    /// Its time is over.
    Expired,
    /// Another node came by the same bearer ticket: neither is believed.
    Suspended,
    /// Its subnet was given to somebody before it.
    Conflict,
}

impl Standing {
    /// The word for JSON and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Expired => "expired",
            Self::Suspended => "suspended",
            Self::Conflict => "subnet_conflict",
        }
    }
}

/// A member, valid or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which node.
    pub node: NodeId,
    /// The MEMBER document.
    pub id: DocumentId,
    /// Who signed it.
    pub author: NodeId,
    /// By what right.
    pub authority: Authority,
    /// Generation of the document.
    pub generation: u32,
    /// Its subnet's number.
    pub number: u16,
    /// Its addresses.
    pub subnets: Subnets,
    /// Its groups, rising.
    pub groups: Vec<Label>,
    /// What people call it.
    pub name: Option<Label>,
    /// First admission, seconds since 1970.
    pub since: u64,
    /// Until when; 0 without end.
    pub expires: u64,
    /// The key of the ticket by which it came.
    pub ticket: Option<[u8; 32]>,
    /// Whether it counts.
    pub standing: Standing,
}

impl Member {
    /// Whether it counts.
    pub fn is_valid(&self) -> bool {
        self.standing == Standing::Valid
    }
}

/// A workload of a valid member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// The member whose subnet its addresses lie in.
    pub home: NodeId,
    /// What the document is about: its key, or its place.
    pub subject: [u8; 32],
    /// Its name.
    pub name: Label,
    /// Whether the name is its own, or another had it first.
    pub owns_name: bool,
    /// IPv4.
    pub ipv4: Option<Ipv4Addr>,
    /// IPv6.
    pub ipv6: Ipv6Addr,
    /// The groups that count: its own, as far as its member has them.
    pub groups: Vec<Label>,
    /// What it serves.
    pub services: Vec<Service>,
    /// Whether it moves by the word of its own key.
    pub keyed: bool,
    /// The member that carries it now; `None` while the lease of a moving one has run out.
    pub host: Option<NodeId>,
    /// Until when that lease runs.
    pub lease: Option<u64>,
    /// When the name was first claimed.
    pub since: u64,
    /// The document.
    pub id: DocumentId,
    /// Its number.
    pub seq: u64,
    /// Its generation.
    pub generation: u32,
}

impl Workload {
    /// Its addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.ipv4.map(IpAddr::V4).into_iter().chain([IpAddr::V6(self.ipv6)])
    }
}

/// A service that is published, or was taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// Who says so.
    pub author: NodeId,
    /// Its id, unique with its author.
    pub service: [u8; 16],
    /// The gateway that is meant.
    pub gateway: NodeId,
    /// How it is reached.
    pub mode: PublishMode,
    /// Host names, rising.
    pub hosts: Vec<String>,
    /// Who serves it.
    pub backends: Vec<PublishedBackend>,
    /// For the gateway.
    pub settings: Vec<u8>,
    /// A hash of the key by which a lost name is got back.
    pub recovery: Option<[u8; 32]>,
    /// It was taken back.
    pub removed: bool,
    /// The document.
    pub id: DocumentId,
    /// Its number.
    pub seq: u64,
    /// Its generation.
    pub generation: u32,
    /// When it was signed, seconds since 1970.
    pub issued: u64,
    /// Until when.
    pub expires: u64,
}

/// A ticket in force or expired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Its key.
    pub key: NodeId,
    /// The INVITE.
    pub id: DocumentId,
    /// Who issued it.
    pub author: NodeId,
    /// Its generation.
    pub generation: u32,
    /// What it says.
    pub invite: Invite,
    /// Until when; 0 without end.
    pub expires: u64,
    /// Whether that is past.
    pub expired: bool,
}

impl Ticket {
    /// Whether its own key may sign.
    pub fn is_bearer(&self) -> bool {
        self.invite.mode == InviteMode::Bearer
    }
}

/// The newest HEAD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadState {
    /// Era and counter.
    pub pair: (u16, u64),
    /// The digest it states.
    pub digest: [u8; 32],
    /// When it was signed, seconds since 1970.
    pub issued: u64,
    /// Revocations that it names and that are not in force here.
    pub missing: usize,
    /// The document.
    pub id: DocumentId,
}

/// What an operator has to know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// One author said two things under one generation and number.
    Equivocation {
        /// Who.
        author: NodeId,
        /// Of what kind.
        kind: u8,
    },
    /// Two nodes came by one bearer ticket; both are suspended.
    TicketTwice {
        /// The ticket's key.
        ticket: NodeId,
    },
    /// A member was given a subnet that another has.
    SubnetTwice {
        /// Who does not get it.
        node: NodeId,
        /// Who has it.
        by: NodeId,
    },
    /// Two workloads claim one name.
    NameTwice {
        /// The name.
        name: Label,
        /// Whose workload is not called so.
        node: NodeId,
        /// Whose is.
        by: NodeId,
    },
    /// The owner granted one number to two admins.
    GrantsOverlap {
        /// One.
        one: NodeId,
        /// The other.
        other: NodeId,
    },
    /// An author has more documents than it may have.
    Surplus {
        /// Who.
        author: NodeId,
        /// How many are refused.
        refused: usize,
    },
    /// This machine's clock is far ahead of the owner's newest word and nobody vouches for it.
    ClockAhead,
}

/// The whole outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// NET in force.
    pub net: Option<Arc<Signed>>,
    /// What the owner calls the network.
    pub name: Option<Label>,
    /// Without a fresh HEAD nothing passes.
    pub strict: bool,
    /// The era.
    pub era: u16,
    /// The address plan.
    pub plan: Plan,
    /// Admins.
    pub admins: BTreeMap<NodeId, Admin>,
    /// Up to which generation documents of a kind about a subject are void.
    pub revoked: BTreeMap<(u8, [u8; 32]), u32>,
    /// Members.
    pub members: BTreeMap<NodeId, Member>,
    /// Tickets by key.
    pub tickets: BTreeMap<[u8; 32], Ticket>,
    /// The policy, with the document.
    pub policy: Option<(Arc<Signed>, PolicySpec)>,
    /// Workloads by home and subject.
    pub workloads: BTreeMap<(NodeId, [u8; 32]), Workload>,
    /// Who has a name.
    pub names: BTreeMap<Label, (NodeId, [u8; 32])>,
    /// Services by author and subject, those taken back included.
    pub publications: BTreeMap<(NodeId, [u8; 32]), Publication>,
    /// The newest HEAD.
    pub head: Option<HeadState>,
    /// The newest word of the owner, seconds since 1970.
    pub floor: u64,
    /// By which time documents were judged.
    pub at: u64,
    /// When time alone will change the outcome.
    pub next: Option<u64>,
    /// What an operator has to know.
    pub faults: Vec<Fault>,
    /// What each document counts for.
    pub fates: BTreeMap<DocumentId, Fate>,
    /// Digest over what is in force, for a HEAD.
    pub digest: [u8; 32],
}

impl State {
    /// A member that counts.
    pub fn member(&self, node: &NodeId) -> Option<&Member> {
        self.members.get(node).filter(|member| member.is_valid())
    }

    /// An admin that counts.
    pub fn admin(&self, node: &NodeId) -> Option<&Admin> {
        self.admins.get(node).filter(|admin| !admin.expired)
    }

    /// The highest generation of a subject that was revoked, if any was.
    pub fn revoked(&self, kind: u8, subject: &[u8; 32]) -> Option<u32> {
        self.revoked.get(&(kind, *subject)).copied()
    }

    /// The workload that has an address.
    pub fn at_address(&self, address: &IpAddr) -> Option<&Workload> {
        self.workloads.values().find(|workload| workload.addresses().any(|own| own == *address))
    }

    /// The workload that has a name.
    pub fn named(&self, name: &Label) -> Option<&Workload> {
        self.workloads.get(self.names.get(name)?)
    }

    /// The workload of `home` that bears a name, whether or not the name is its own in the network. Of two
    /// that one member calls the same, the lower subject.
    pub fn workload(&self, home: &[u8; 32], name: &Label) -> Option<&Workload> {
        let home = self.members.keys().find(|node| node.as_bytes() == home)?;
        let own = self.workloads.range((*home, [0; 32])..=(*home, [0xff; 32]));
        own.map(|(_, workload)| workload).find(|workload| workload.name == *name)
    }

    /// The member in whose subnet an address lies.
    pub fn home_of(&self, address: &IpAddr) -> Option<&Member> {
        self.members.values().filter(|member| member.is_valid()).find(|member| match address {
            IpAddr::V4(v4) => member.subnets.v4.is_some_and(|subnet| subnet.contains(*v4)),
            IpAddr::V6(v6) => v6.to_bits() >> 64 == member.subnets.v6.to_bits() >> 64,
        })
    }

    /// Ids of the documents that others are told of, rising.
    pub fn shared(&self) -> impl Iterator<Item = &DocumentId> + '_ {
        self.fates.iter().filter(|(_, fate)| fate.is_shared()).map(|(id, _)| id)
    }
}
