//! What the owner's key signs. The key belongs in a drawer, not on a node: these are functions from
//! documents to documents, for the command line to call where the key is.

use std::collections::BTreeSet;
use std::sync::Arc;

use sinew_types::{Identity, Label, NetworkId, NodeId};
use sinew_wire::document::{Body, Grant, Member as MemberBody, Net, PolicySpec, Range4, Revoke, kind};

use crate::admin::head_body;
use crate::document::{Draft, KeyRing, NO_GRANT, Signed, Unverified};
use crate::judge::{Clock, judge};
use crate::plan::Plan;
use crate::refusal::Refusal;
use crate::set::DocumentSet;
use crate::state::{Member, State};

/// A network to be founded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founding {
    /// What it is called.
    pub name: Label,
    /// Its IPv4 range; `None` for IPv6 only.
    pub range: Option<Range4>,
    /// Whether nothing passes without a fresh HEAD.
    pub strict: bool,
    /// The first member, which is also the first admin.
    pub admin: NodeId,
    /// What people call that node.
    pub admin_name: Option<Label>,
    /// Its groups.
    pub groups: Vec<Label>,
    /// Which numbers it may give to members; the lower half if `None`.
    pub numbers: Option<(u16, u16)>,
}

/// Makes a network: NET, a GRANT and a MEMBER for the first node, and the first HEAD. `unix` in seconds.
///
/// # Errors
/// [`Refusal::BadRange`].
pub fn found(owner: &Identity, founding: &Founding, unix: u64) -> Result<Vec<Vec<u8>>, Refusal> {
    let network = NetworkId::new(owner.node_id());
    if let Some(range) = founding.range.filter(|range| !range.is_sound()) {
        let reason = "a range has 8 to 28 bits and no host bits, subnets of it at most 30 bits and at \
                      most 65,536 of them";
        let range = format!("{}/{} in /{}", range.first, range.len, range.member_len);
        return Err(Refusal::BadRange { range, reason });
    }
    let plan = Plan::new(&network, founding.range);
    let last = plan.last_number();
    let numbers = founding.numbers.unwrap_or((1, (last / 2).max(1)));
    if numbers.0 == 0 || numbers.0 > numbers.1 || numbers.1 > last {
        let range = format!("{} to {}", numbers.0, numbers.1);
        return Err(Refusal::BadRange {
            range,
            reason: "numbers of members begin at 1 and end with the range",
        });
    }
    let mut owner = Owner::new(owner, &DocumentSet::default(), unix);
    let net = Net { name: founding.name.clone(), range: founding.range, strict: founding.strict };
    owner.say(*network.as_bytes(), 0, Body::Net(net));
    let grant = Grant { scopes: Grant::ALL, numbers, longest: None };
    owner.say(*founding.admin.as_bytes(), 0, Body::Grant(grant));
    let subnet = plan.subnets(numbers.0).and_then(|subnets| subnets.v4);
    let groups: BTreeSet<Label> = founding.groups.iter().cloned().collect();
    let member = MemberBody {
        number: numbers.0,
        subnet,
        groups: groups.into_iter().collect(),
        since: unix,
        ticket: None,
        name: founding.admin_name.clone(),
    };
    owner.say(*founding.admin.as_bytes(), 0, Body::Member(member));
    owner.say_head();
    Ok(owner.signed.iter().map(|signed| signed.bytes.to_vec()).collect())
}

/// An admin less.
#[derive(Clone, Debug)]
pub struct AdminRevoked {
    /// What was signed.
    pub documents: Vec<Signed>,
    /// Members that it had admitted and that the owner keeps.
    pub kept: Vec<NodeId>,
    /// Those that the owner does not keep.
    pub lost: Vec<NodeId>,
}

/// The owner at work: what is in force, and what was signed to change it.
#[derive(Debug)]
pub struct Owner<'a> {
    key: &'a Identity,
    network: NetworkId,
    set: DocumentSet,
    state: State,
    unix: u64,
    signed: Vec<Arc<Signed>>,
}

impl<'a> Owner<'a> {
    /// Reads the documents of the owner's network, as `sinew network export` gives them.
    ///
    /// # Errors
    /// [`Refusal::BadDocument`].
    pub fn read(key: &'a Identity, documents: &[Vec<u8>], unix: u64) -> Result<Self, Refusal> {
        let (network, mut keys) = (NetworkId::new(key.node_id()), KeyRing::default());
        let mut set = DocumentSet::default();
        for (bytes, index) in documents.iter().zip(1..) {
            let signed = Unverified::parse(bytes, &network).and_then(|document| document.verify(&mut keys));
            let signed = signed.map_err(|flaw| Refusal::BadDocument { index, reason: flaw.describe() })?;
            set.insert(Arc::new(signed));
        }
        Ok(Self::new(key, &set, unix))
    }

    pub(crate) fn new(key: &'a Identity, set: &DocumentSet, unix: u64) -> Self {
        let network = NetworkId::new(key.node_id());
        let set = set.clone();
        let state = judge(&set, &network, clock(unix));
        Self { key, network, set, state, unix, signed: Vec::new() }
    }

    /// What is in force.
    pub const fn state(&self) -> &State {
        &self.state
    }

    fn name(&self) -> Label {
        self.state.name.clone().unwrap_or_else(|| Label::parse("network").expect("a label"))
    }

    fn era(&self) -> u32 {
        u32::from(self.state.era) << 16
    }

    /// Signs one more document.
    fn say(&mut self, subject: [u8; 32], generation: u32, body: Body) {
        self.say_until(subject, generation, 0, body);
    }

    fn say_until(&mut self, subject: [u8; 32], generation: u32, expires: u64, body: Body) {
        let kind = body.kind();
        let own = |signed: &&Arc<Signed>| signed.author == self.key.node_id();
        let last = self.set.about(kind, subject).filter(own).map(|signed| signed.document.seq).max();
        let seq = last.map_or(0, |last| last.saturating_add(1)).max(self.unix.saturating_mul(1_000_000));
        let draft = Draft {
            network: self.network,
            grant: NO_GRANT,
            subject,
            generation,
            seq,
            issued: self.unix,
            expires,
            body,
        };
        self.add(draft.sign(self.key));
    }

    fn add(&mut self, signed: Signed) {
        let signed = Arc::new(signed);
        self.set.insert(Arc::clone(&signed));
        self.signed.push(signed);
    }

    fn say_head(&mut self) {
        self.state = judge(&self.set, &self.network, clock(self.unix));
        let highest = self.state.head.as_ref().map_or((0, 0), |head| head.pair);
        let counter = if highest.0 >= self.state.era { highest.1.saturating_add(1) } else { 1 };
        let draft = Draft {
            network: self.network,
            grant: NO_GRANT,
            subject: *self.network.as_bytes(),
            generation: u32::from(self.state.era.max(highest.0)) << 16,
            seq: counter,
            issued: self.unix,
            expires: 0,
            body: Body::Head(head_body(&self.state)),
        };
        self.add(draft.sign(self.key));
    }

    fn finish(mut self) -> Vec<Signed> {
        self.say_head();
        self.signed.into_iter().map(Arc::unwrap_or_clone).collect()
    }

    /// Above what is there and what was revoked.
    fn next_generation(&self, kind: u8, subject: &[u8; 32]) -> u32 {
        let there = self.set.about(kind, *subject).map(|signed| signed.document.generation + 1).max();
        let revoked = self.state.revoked(kind, subject).map(|revoked| revoked + 1);
        [Some(self.era()), there, revoked].into_iter().flatten().max().unwrap_or(0)
    }

    /// Makes a key an admin, or changes what it may. Sub-ranges of different admins must not overlap: that
    /// is what keeps them from giving out one subnet twice while they cannot hear each other.
    ///
    /// # Errors
    /// [`Refusal::OverlappingSubnets`], [`Refusal::BadRange`].
    pub fn grant(mut self, admin: NodeId, grant: Grant, lasts: Option<u64>) -> Result<Vec<Signed>, Refusal> {
        let (first, last) = grant.numbers;
        if first == 0 || first > last || last > self.state.plan.last_number() {
            let (range, reason) = (format!("{first} to {last}"), "numbers begin at 1 and end with the range");
            return Err(Refusal::BadRange { range, reason });
        }
        let others = self.state.admins.iter().filter(|(node, _)| **node != admin);
        for (by, other) in others {
            let (from, to) = other.grant.numbers;
            if first <= to && from <= last {
                let subnet = format!("{first} to {last}");
                return Err(Refusal::OverlappingSubnets { network: self.name(), subnet, by: *by });
            }
        }
        let generation = self.next_generation(kind::GRANT, admin.as_bytes());
        let expires = lasts.map_or(0, |seconds| self.unix + seconds);
        self.say_until(*admin.as_bytes(), generation, expires, Body::Grant(grant));
        Ok(self.finish())
    }

    /// A sub-range for another admin: half of the largest that nobody has.
    pub fn free_numbers(&self) -> Option<(u16, u16)> {
        let mut ranges: Vec<(u16, u16)> =
            self.state.admins.values().map(|admin| admin.grant.numbers).collect();
        ranges.sort_unstable();
        let last = u32::from(self.state.plan.last_number());
        let (mut from, mut best) = (1u32, None::<(u32, u32)>);
        for (first, to) in
            ranges.into_iter().map(|(a, b)| (u32::from(a), u32::from(b))).chain([(last + 1, 0)])
        {
            if first > from && best.is_none_or(|(a, b)| first - from > b - a) {
                best = Some((from, first));
            }
            from = from.max(to + 1);
        }
        let (from, end) = best?;
        let to = from + (end - from).div_ceil(2) - 1;
        Some((u16::try_from(from).ok()?, u16::try_from(to).ok()?))
    }

    /// Takes back an admin's right and all that it granted. Members that it admitted and that are to
    /// `keep` are signed again by the owner in the same step; so is its policy.
    ///
    /// # Errors
    /// [`Refusal::UnknownMember`] if the key is no admin.
    pub fn revoke_admin(
        mut self,
        admin: &NodeId,
        keep: impl Fn(&Member) -> bool,
    ) -> Result<AdminRevoked, Refusal> {
        let known = self.state.admins.get(admin).copied();
        let unknown = || Refusal::UnknownMember { network: self.name(), node: *admin };
        let generation = known.ok_or_else(unknown)?.generation.max(self.era());
        let by = |member: &&Member| {
            let ticket = self.state.tickets.get(member.author.as_bytes()).map(|ticket| ticket.author);
            member.author == *admin || ticket == Some(*admin)
        };
        let members = self.state.members.values().filter(|member| member.is_valid()).filter(by);
        let (kept, lost): (Vec<Member>, Vec<Member>) = members.cloned().partition(|member| keep(member));
        let policy = self.state.policy.clone().filter(|(signed, _)| signed.author == *admin);
        for member in &kept {
            self.renew(member, member.generation);
        }
        if let Some((signed, policy)) = policy {
            self.say(*self.network.as_bytes(), signed.document.generation, Body::Policy(policy));
        }
        self.say(*admin.as_bytes(), generation, Body::Revoke(Revoke { target: kind::GRANT }));
        let nodes = |members: Vec<Member>| members.iter().map(|member| member.node).collect();
        Ok(AdminRevoked { documents: self.finish(), kept: nodes(kept), lost: nodes(lost) })
    }

    /// Signs a member again as the owner.
    fn renew(&mut self, member: &Member, generation: u32) {
        let body = MemberBody {
            number: member.number,
            subnet: member.subnets.v4,
            groups: member.groups.clone(),
            since: member.since,
            ticket: member.ticket,
            name: member.name.clone(),
        };
        self.say_until(*member.node.as_bytes(), generation, member.expires, Body::Member(body));
    }

    /// Begins the next era: what is in force is signed again above everything an admin could have signed,
    /// members that somebody revoked and that are listed in `readmit` come back, and admins not listed in
    /// `keep` lose their right.
    ///
    /// # Errors
    /// [`Refusal::EraUsedUp`] after 65,535 eras.
    pub fn next_era(mut self, keep: &[NodeId], readmit: &[Member]) -> Result<Vec<Signed>, Refusal> {
        let era = self.state.era.checked_add(1).ok_or(Refusal::EraUsedUp { network: self.name() })?;
        let Some(Body::Net(net)) = self.state.net.as_ref().and_then(|net| net.body.clone()) else {
            let reason = "the document that says what the network is, is missing";
            return Err(Refusal::BadDocument { index: 0, reason });
        };
        let members: Vec<Member> =
            self.state.members.values().filter(|member| member.is_valid()).cloned().collect();
        let admins = self.state.admins.clone();
        let policy = self.state.policy.clone();
        for (admin, old) in admins.iter().filter(|(admin, _)| !keep.contains(admin)) {
            let generation = old.generation.max(self.era());
            self.say(*admin.as_bytes(), generation, Body::Revoke(Revoke { target: kind::GRANT }));
        }
        let network = *self.network.as_bytes();
        let generation = u32::from(era) << 16;
        self.say(network, generation, Body::Net(net));
        for (admin, old) in admins.iter().filter(|(admin, _)| keep.contains(admin)) {
            self.say_until(*admin.as_bytes(), generation, old.expires, Body::Grant(old.grant));
        }
        for member in members.iter().chain(readmit) {
            let generation = self.next_generation(kind::MEMBER, member.node.as_bytes()).max(generation);
            self.renew(member, generation);
        }
        if let Some((_, policy)) = policy {
            self.say(network, generation, Body::Policy(policy));
        }
        Ok(self.finish())
    }

    /// Puts a policy in force.
    pub fn set_policy(mut self, policy: PolicySpec) -> Vec<Signed> {
        let network = *self.network.as_bytes();
        let generation = self.next_generation(kind::POLICY, &network);
        self.say(network, generation, Body::Policy(policy));
        if generation > 0 {
            self.say(network, generation - 1, Body::Revoke(Revoke { target: kind::POLICY }));
        }
        self.finish()
    }
}

fn clock(unix: u64) -> Clock {
    Clock { own: unix, floor: 0, synchronised: true }
}
