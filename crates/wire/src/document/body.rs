//! What the body of each known kind says (protocol A7.2).

use std::net::{Ipv4Addr, Ipv6Addr};

use sinew_types::{Label, Signature};

use super::kind;
use super::policy::PolicySpec;
use super::publish::Publish;
use super::tlv::{Builder, Fields};
use crate::Malformed;
use crate::codec::{Put, Reader};

/// Most groups of one member or workload.
const GROUPS_MAX: usize = 64;
/// Most services of one workload.
const SERVICES_MAX: usize = 64;
/// Most nodes that may honour one ticket.
const ACCEPTORS_MAX: usize = 3;

/// An IPv4 range cut into members' subnets of one length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range4 {
    /// First address.
    pub first: Ipv4Addr,
    /// Length of the range's prefix.
    pub len: u8,
    /// Length of a member's prefix.
    pub member_len: u8,
}

/// A member's IPv4 subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subnet4 {
    /// First address.
    pub first: Ipv4Addr,
    /// Length of the prefix.
    pub len: u8,
}

/// NET: what the network is. Its era is the upper half of the document's generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Net {
    /// What the owner calls it.
    pub name: Label,
    /// The IPv4 range; `None` for IPv6 only.
    pub range: Option<Range4>,
    /// Without a fresh HEAD nothing passes.
    pub strict: bool,
}

/// GRANT: the subject may act for the owner, within bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// What it may sign; see the constants.
    pub scopes: u16,
    /// First and last number of a subnet it may give to members.
    pub numbers: (u16, u16),
    /// Longest life of what it signs, seconds.
    pub longest: Option<u32>,
}

impl Grant {
    /// May sign MEMBER and INVITE.
    pub const ADMIT: u16 = 1;
    /// May sign REVOKE.
    pub const REVOKE: u16 = 2;
    /// May sign POLICY.
    pub const POLICY: u16 = 4;
    /// May sign HEAD.
    pub const HEAD: u16 = 8;
    /// Everything there is.
    pub const ALL: u16 = 15;
}

/// MEMBER: the subject belongs to the network and has these addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Number of its subnet: the last 16 bits of its /64.
    pub number: u16,
    /// Its IPv4 subnet.
    pub subnet: Option<Subnet4>,
    /// Its groups, rising.
    pub groups: Vec<Label>,
    /// When it was first admitted, seconds since 1970; kept when the document is renewed.
    pub since: u64,
    /// The key of the ticket by which it came.
    pub ticket: Option<[u8; 32]>,
    /// What people call it.
    pub name: Option<Label>,
}

/// REVOKE: documents of this kind about the subject are void up to this document's generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revoke {
    /// Which kind.
    pub target: u8,
}

/// A port that a workload serves, for SRV records.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    /// Name, without underscore.
    pub name: Label,
    /// IP protocol number.
    pub protocol: u8,
    /// Port.
    pub port: u16,
}

/// WORKLOAD: a name and addresses inside the author's subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Its name.
    pub name: Label,
    /// Its IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    pub ipv6: Ipv6Addr,
    /// Its groups, rising; `None` for all of its member's.
    pub groups: Option<Vec<Label>>,
    /// What it serves, rising.
    pub services: Vec<Service>,
    /// The subject is a key, which says by ATTACH where the workload is.
    pub keyed: bool,
    /// It is gone; what remains says so.
    pub removed: bool,
    /// When its name was first claimed, seconds since 1970; kept when the document is renewed.
    pub since: u64,
}

/// One line of a HEAD: some subject's documents of a kind are void up to a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revocation {
    /// Kind of the void documents.
    pub target: u8,
    /// First bytes of the hash of the subject.
    pub hint: [u8; 6],
    /// Up to which generation.
    pub generation: u32,
}

/// HEAD: the state of the set at one moment. Era and counter are generation and sequence number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Over slots and document ids.
    pub digest: [u8; 32],
    /// Revocations in force, rising.
    pub revocations: Vec<Revocation>,
}

/// How a ticket may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InviteMode {
    /// An acceptor counts and signs.
    Counted,
    /// The ticket's key signs by itself.
    Bearer,
}

/// INVITE: what the holder of the subject's key may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite {
    /// How.
    pub mode: InviteMode,
    /// How many nodes may come by it.
    pub uses: u16,
    /// Groups they get, rising.
    pub groups: Vec<Label>,
    /// Nodes that may sign for it.
    pub acceptors: Vec<[u8; 32]>,
    /// A person has to agree.
    pub approval: bool,
    /// Bearer: number and IPv4 subnet it carries.
    pub number: Option<u16>,
    /// Bearer: the IPv4 subnet.
    pub subnet: Option<Subnet4>,
}

/// ATTACH: the workload with the author's key is at this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attach {
    /// The member that carries it.
    pub host: [u8; 32],
    /// The host agrees; domain `HANDOVER`.
    pub signature: Signature,
}

/// What a document of a known kind says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Kind 1.
    Net(Net),
    /// Kind 2.
    Grant(Grant),
    /// Kind 3.
    Member(Member),
    /// Kind 4.
    Revoke(Revoke),
    /// Kind 5.
    Policy(PolicySpec),
    /// Kind 6.
    Workload(Workload),
    /// Kind 7.
    Head(Head),
    /// Kind 8.
    Invite(Invite),
    /// Kind 9.
    Publish(Publish),
    /// Kind 10.
    Attach(Attach),
}

pub(crate) fn put_label(out: &mut Vec<u8>, label: &Label) {
    out.u8(label.as_str().len() as u8).bytes(label.as_str().as_bytes());
}

pub(crate) fn read_label(r: &mut Reader<'_>) -> Result<Label, Malformed> {
    let len = usize::from(r.u8()?);
    label(r.bytes(len)?)
}

fn label(bytes: &[u8]) -> Result<Label, Malformed> {
    let text = core::str::from_utf8(bytes).map_err(|_| Malformed)?;
    Label::parse(text).map_err(|_| Malformed)
}

fn label_bytes(label: &Label) -> Vec<u8> {
    label.as_str().as_bytes().to_vec()
}

/// Reads a whole value with `read`.
pub(super) fn whole<'a, T>(
    value: &'a [u8],
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, Malformed>,
) -> Result<T, Malformed> {
    let mut r = Reader::new(value);
    let out = read(&mut r)?;
    r.finish().map(|()| out)
}

/// A set as a list: strictly rising, so that it has one spelling.
pub(super) fn rising<T: Ord>(
    value: &[u8],
    most: usize,
    read: impl Fn(&mut Reader<'_>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let (mut r, mut list) = (Reader::new(value), Vec::new());
    while !r.is_empty() {
        let one = read(&mut r)?;
        if list.len() == most || list.last().is_some_and(|last| *last >= one) {
            return Err(Malformed);
        }
        list.push(one);
    }
    Ok(list)
}

fn groups(value: &[u8]) -> Result<Vec<Label>, Malformed> {
    rising(value, GROUPS_MAX, read_label)
}

fn group_bytes(groups: &[Label]) -> Vec<u8> {
    let mut out = Vec::new();
    groups.iter().for_each(|group| put_label(&mut out, group));
    out
}

fn u16_of(value: &[u8]) -> Result<u16, Malformed> {
    whole(value, Reader::u16)
}

fn ipv4(r: &mut Reader<'_>) -> Result<Ipv4Addr, Malformed> {
    r.array::<4>().map(Ipv4Addr::from)
}

impl Range4 {
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (first, [len, member_len]) = (ipv4(r)?, r.array()?);
        let range = Self { first, len, member_len };
        if range.is_sound() { Ok(range) } else { Err(Malformed) }
    }

    /// A range of 8 to 28 bits in subnets of at most 30, not more than 2^16 of them, without host bits.
    pub fn is_sound(&self) -> bool {
        let lengths = (8..=28).contains(&self.len)
            && self.member_len > self.len
            && self.member_len <= 30
            && self.member_len - self.len <= 16;
        lengths && Subnet4 { first: self.first, len: self.len }.is_sound()
    }
}

impl Subnet4 {
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (first, len) = (ipv4(r)?, r.u8()?);
        let subnet = Self { first, len };
        if subnet.is_sound() { Ok(subnet) } else { Err(Malformed) }
    }

    fn bytes(self) -> Vec<u8> {
        let mut out = Vec::new();
        out.bytes(&self.first.octets()).u8(self.len);
        out
    }

    /// At most 30 bits long, without host bits.
    pub fn is_sound(&self) -> bool {
        (1..=30).contains(&self.len) && self.first.to_bits() << self.len == 0
    }

    /// Whether `address` lies in it.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let host = 32 - u32::from(self.len.clamp(1, 32));
        address.to_bits() >> host == self.first.to_bits() >> host
    }
}

impl Body {
    /// Reads the body of a document of `kind`; `None` for a kind we do not know.
    pub fn parse(kind: u8, body: &[u8]) -> Result<Option<Self>, Malformed> {
        let mut f = Fields::new(body);
        let body = match kind {
            kind::NET => Self::Net(Net::read(&mut f)?),
            kind::GRANT => Self::Grant(Grant::read(&mut f)?),
            kind::MEMBER => Self::Member(Member::read(&mut f)?),
            kind::REVOKE => Self::Revoke(Revoke { target: whole(f.required(1)?, Reader::u8)? }),
            kind::POLICY => Self::Policy(PolicySpec::read(f.required(1)?, f.required(2)?)?),
            kind::WORKLOAD => Self::Workload(Workload::read(&mut f)?),
            kind::HEAD => Self::Head(Head::read(&mut f)?),
            kind::INVITE => Self::Invite(Invite::read(&mut f)?),
            kind::PUBLISH => Self::Publish(Publish::read(&mut f)?),
            kind::ATTACH => Self::Attach(Attach {
                host: whole(f.required(1)?, Reader::array)?,
                signature: whole(f.required(2)?, Reader::array)?,
            }),
            _ => return Ok(None),
        };
        f.finish()?;
        Ok(Some(body))
    }

    /// The number of its kind.
    pub const fn kind(&self) -> u8 {
        match self {
            Self::Net(_) => kind::NET,
            Self::Grant(_) => kind::GRANT,
            Self::Member(_) => kind::MEMBER,
            Self::Revoke(_) => kind::REVOKE,
            Self::Policy(_) => kind::POLICY,
            Self::Workload(_) => kind::WORKLOAD,
            Self::Head(_) => kind::HEAD,
            Self::Invite(_) => kind::INVITE,
            Self::Publish(_) => kind::PUBLISH,
            Self::Attach(_) => kind::ATTACH,
        }
    }

    /// The bytes for a document.
    pub fn emit(&self) -> Vec<u8> {
        let mut b = Builder::default();
        match self {
            Self::Net(net) => net.write(&mut b),
            Self::Grant(grant) => grant.write(&mut b),
            Self::Member(member) => member.write(&mut b),
            Self::Revoke(revoke) => _ = b.field(1, &[revoke.target]),
            Self::Policy(policy) => {
                b.field(1, &policy.write_default()).field(2, &policy.write_rules());
            }
            Self::Workload(workload) => workload.write(&mut b),
            Self::Head(head) => head.write(&mut b),
            Self::Invite(invite) => invite.write(&mut b),
            Self::Publish(publish) => publish.write(&mut b),
            Self::Attach(attach) => {
                b.field(1, &attach.host).field(2, &attach.signature);
            }
        }
        b.0
    }
}

impl Net {
    fn read(f: &mut Fields<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            name: label(f.required(1)?)?,
            range: f.optional(2)?.map(|value| whole(value, Range4::read)).transpose()?,
            strict: f.flag(3)?,
        })
    }

    fn write(&self, b: &mut Builder) {
        let range = self.range.map(|range| {
            let mut out = Vec::new();
            out.bytes(&range.first.octets()).u8(range.len).u8(range.member_len);
            out
        });
        b.field(1, &label_bytes(&self.name)).option(2, range).flag(3, self.strict);
    }
}

impl Grant {
    fn read(f: &mut Fields<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            scopes: u16_of(f.required(1)?)?,
            numbers: whole(f.required(2)?, |r| Ok((r.u16()?, r.u16()?)))?,
            longest: f.optional(3)?.map(|value| whole(value, Reader::u32)).transpose()?,
        })
    }

    fn write(&self, b: &mut Builder) {
        let mut numbers = Vec::new();
        numbers.u16(self.numbers.0).u16(self.numbers.1);
        b.field(1, &self.scopes.to_le_bytes()).field(2, &numbers);
        b.option(3, self.longest.map(|seconds| seconds.to_le_bytes().to_vec()));
    }
}

impl Member {
    fn read(f: &mut Fields<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            number: u16_of(f.required(1)?)?,
            subnet: f.optional(2)?.map(|value| whole(value, Subnet4::read)).transpose()?,
            groups: groups(f.required(3)?)?,
            since: whole(f.required(4)?, Reader::u64)?,
            ticket: f.optional(5)?.map(|value| whole(value, Reader::array)).transpose()?,
            name: f.optional(6)?.map(label).transpose()?,
        })
    }

    fn write(&self, b: &mut Builder) {
        b.field(1, &self.number.to_le_bytes()).option(2, self.subnet.map(Subnet4::bytes));
        b.field(3, &group_bytes(&self.groups)).field(4, &self.since.to_le_bytes());
        b.option(5, self.ticket.map(|key| key.to_vec())).option(6, self.name.as_ref().map(label_bytes));
    }
}

impl Workload {
    fn read(f: &mut Fields<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            name: label(f.required(1)?)?,
            ipv4: f.optional(2)?.map(|value| whole(value, ipv4)).transpose()?,
            ipv6: whole(f.required(3)?, |r| r.array::<16>().map(Ipv6Addr::from))?,
            groups: f.optional(4)?.map(groups).transpose()?,
            services: f.optional(5)?.map(services).transpose()?.unwrap_or_default(),
            keyed: f.flag(6)?,
            removed: f.flag(7)?,
            since: whole(f.required(8)?, Reader::u64)?,
        })
    }

    fn write(&self, b: &mut Builder) {
        b.field(1, &label_bytes(&self.name)).option(2, self.ipv4.map(|ip| ip.octets().to_vec()));
        b.field(3, &self.ipv6.octets()).option(4, self.groups.as_deref().map(group_bytes));
        let services = self.services.iter().fold(Vec::new(), |mut out, service| {
            put_label(&mut out, &service.name);
            out.u8(service.protocol).u16(service.port);
            out
        });
        b.option(5, (!services.is_empty()).then_some(services)).flag(6, self.keyed).flag(7, self.removed);
        b.field(8, &self.since.to_le_bytes());
    }
}

fn services(value: &[u8]) -> Result<Vec<Service>, Malformed> {
    let read = |r: &mut Reader<'_>| Ok(Service { name: read_label(r)?, protocol: r.u8()?, port: r.u16()? });
    let list = rising(value, SERVICES_MAX, read)?;
    // An empty list is left out; here it would be a second spelling.
    if list.is_empty() { Err(Malformed) } else { Ok(list) }
}

impl Head {
    fn read(f: &mut Fields<'_>) -> Result<Self, Malformed> {
        let digest = whole(f.required(1)?, Reader::array)?;
        let read =
            |r: &mut Reader<'_>| Ok(Revocation { target: r.u8()?, hint: r.array()?, generation: r.u32()? });
        Ok(Self { digest, revocations: rising(f.required(2)?, usize::MAX, read)? })
    }

    fn write(&self, b: &mut Builder) {
        let mut out = Vec::with_capacity(11 * self.revocations.len());
        for one in &self.revocations {
            out.u8(one.target).bytes(&one.hint).u32(one.generation);
        }
        b.field(1, &self.digest).field(2, &out);
    }
}

impl Invite {
    fn read(f: &mut Fields<'_>) -> Result<Self, Malformed> {
        let mode = match whole(f.required(1)?, Reader::u8)? {
            1 => InviteMode::Counted,
            2 => InviteMode::Bearer,
            _ => return Err(Malformed),
        };
        let acceptors = |value| {
            let (mut r, mut list) = (Reader::new(value), Vec::new());
            while !r.is_empty() {
                list.push(r.array()?);
            }
            if list.len() <= ACCEPTORS_MAX { Ok(list) } else { Err(Malformed) }
        };
        Ok(Self {
            mode,
            uses: u16_of(f.required(2)?)?,
            groups: groups(f.required(3)?)?,
            acceptors: acceptors(f.required(4)?)?,
            approval: f.flag(5)?,
            number: f.optional(6)?.map(u16_of).transpose()?,
            subnet: f.optional(7)?.map(|value| whole(value, Subnet4::read)).transpose()?,
        })
    }

    fn write(&self, b: &mut Builder) {
        let mode = match self.mode {
            InviteMode::Counted => 1,
            InviteMode::Bearer => 2,
        };
        b.field(1, &[mode]).field(2, &self.uses.to_le_bytes()).field(3, &group_bytes(&self.groups));
        b.field(4, &self.acceptors.concat()).flag(5, self.approval);
        b.option(6, self.number.map(|number| number.to_le_bytes().to_vec()));
        b.option(7, self.subnet.map(Subnet4::bytes));
    }
}
