//! What the owner's key signs: founding a network, making and unmaking admins.
//!
//! The key belongs on a machine that is never online, so nothing here needs a node: documents go in,
//! documents come out, and a node takes them like any others. Each step ends with a HEAD, so that
//! nobody can be shown the state before it.

use std::sync::Arc;

use sinew_types::{Identity, Label, NetworkId, NodeId};
use sinew_wire::document::{Body, Head, Member as MemberBody, Net, Revoke, kind};
pub use sinew_wire::document::{Grant, Range4};

use crate::document::{Draft, Flaw, KeyRing, NO_GRANT, Signed, Unverified};
use crate::judge::{Clock, judge, revocations};
use crate::plan::Plan;
use crate::set::DocumentSet;
use crate::state::{Admin, Member, State};

/// The first era.
const FIRST_ERA: u16 = 1;

/// A network to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founding {
    /// What the owner calls it.
    pub name: Label,
    /// The IPv4 range; `None` for IPv6 only.
    pub range: Option<Range4>,
    /// Without a fresh HEAD nothing passes.
    pub strict: bool,
    /// The first admin and member.
    pub admin: NodeId,
    /// Subnets the admin may give to members, first and last number; the first becomes its own.
    pub numbers: (u16, u16),
}

/// Why the owner's key was not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OwnerError {
    /// The documents do not say what the network is.
    #[error("the documents do not hold the network's own (NET)")]
    NoNetwork,
    /// The key is not that of the network.
    #[error("this key is not the owner's of that network")]
    NotOwner,
    /// A document among them is broken.
    #[error("a document among them is broken: {0}")]
    Flaw(#[from] Flaw),
    /// Numbers that the range does not have, or none.
    #[error("subnets {0} to {1} are not all in the network's range")]
    BadNumbers(u16, u16),
    /// Another admin has some of these subnets.
    #[error("{0} may give out some of these subnets already")]
    Overlap(NodeId),
    /// Nothing is left to give.
    #[error("no subnets are left for another admin")]
    NothingLeft,
    /// The node is no admin.
    #[error("{0} is no admin of this network")]
    NoAdmin(NodeId),
}

/// What revoking an admin does.
#[derive(Clone, Debug)]
pub struct Revoked {
    /// To be handed to a node.
    pub documents: Vec<Signed>,
    /// Members that the admin had admitted, and that stay by the owner's word.
    pub kept: Vec<NodeId>,
    /// Members that go, because their place was the admin's to give.
    pub lost: Vec<NodeId>,
    /// Whether the policy was the admin's, and stays by the owner's word.
    pub policy: bool,
}

/// Founds a network: what it is, its first admin, that admin's membership, and a HEAD over them.
///
/// # Errors
/// [`OwnerError::BadNumbers`].
pub fn found(owner: &Identity, founding: &Founding, now: u64) -> Result<Vec<Signed>, OwnerError> {
    let network = NetworkId::new(owner.node_id());
    let plan = Plan::new(&network, founding.range);
    let (first, last) = founding.numbers;
    check_numbers(&plan, founding.numbers)?;
    let member = plan.subnets(first).ok_or(OwnerError::BadNumbers(first, last))?;
    let whole = *network.as_bytes();
    let node = *founding.admin.as_bytes();
    let (era, one) = (u32::from(FIRST_ERA) << 16, u32::from(FIRST_ERA) << 16 | 1);
    let net = Net { name: founding.name.clone(), range: founding.range, strict: founding.strict };
    let grant = Grant { scopes: Grant::ALL, numbers: founding.numbers, longest: None };
    let member = MemberBody {
        number: first,
        subnet: member.v4,
        groups: Vec::new(),
        since: now,
        ticket: None,
        name: None,
    };
    let mut papers = Papers { network, set: DocumentSet::default(), state: State::nothing(&network), now };
    let documents = [
        papers.draft(whole, era, 0, Body::Net(net)),
        papers.draft(node, one, 0, Body::Grant(grant)),
        papers.draft(node, one, 0, Body::Member(member)),
    ];
    Ok(papers.conclude(owner, documents.into()))
}

/// The documents of a network, as the owner reads them before signing.
#[derive(Debug)]
pub struct Papers {
    network: NetworkId,
    set: DocumentSet,
    state: State,
    now: u64,
}

impl Papers {
    /// Reads and judges documents.
    ///
    /// # Errors
    /// [`OwnerError::Flaw`], [`OwnerError::NoNetwork`].
    pub fn read<'a>(
        network: NetworkId,
        documents: impl IntoIterator<Item = &'a [u8]>,
        now: u64,
    ) -> Result<Self, OwnerError> {
        let (mut set, mut keys) = (DocumentSet::default(), KeyRing::default());
        for bytes in documents {
            set.insert(Arc::new(Unverified::parse(bytes, &network)?.verify(&mut keys)?));
        }
        let state = judged(&set, &network, now);
        if state.net.is_none() {
            return Err(OwnerError::NoNetwork);
        }
        Ok(Self { network, set, state, now })
    }

    /// What the documents amount to.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Makes `node` an admin, or changes what it may do. Without `numbers` it gets the upper half of
    /// the largest run of subnets that no admin has.
    ///
    /// # Errors
    /// The key or the numbers are not right.
    pub fn grant(
        mut self,
        owner: &Identity,
        node: NodeId,
        scopes: u16,
        numbers: Option<(u16, u16)>,
        longest: Option<u32>,
    ) -> Result<Vec<Signed>, OwnerError> {
        self.check_owner(owner)?;
        let numbers = match numbers {
            Some(numbers) => numbers,
            None => self.free_numbers(&node).ok_or(OwnerError::NothingLeft)?,
        };
        check_numbers(&self.state.plan, numbers)?;
        let overlaps =
            |admin: &Admin| numbers.0 <= admin.grant.numbers.1 && admin.grant.numbers.0 <= numbers.1;
        if let Some((other, _)) =
            self.state.admins.iter().find(|(other, admin)| **other != node && overlaps(admin))
        {
            return Err(OwnerError::Overlap(*other));
        }
        let old = self.state.admin(&node).map(|admin| admin.generation);
        let revoked = self.state.revoked(kind::GRANT, node.as_bytes());
        let era = u32::from(self.state.era) << 16;
        let generation = old.max(revoked).unwrap_or(0).max(era) + 1;
        let body = Body::Grant(Grant { scopes, numbers, longest });
        let draft = self.draft(*node.as_bytes(), generation, 0, body);
        Ok(self.conclude(owner, vec![draft]))
    }

    /// Ends an admin's rights. All that it admitted would be void with them, since a thief can
    /// backdate; those in `keep` and the policy are signed again by the owner in the same step.
    ///
    /// # Errors
    /// The key is not the owner's, or the node is no admin.
    pub fn revoke(
        mut self,
        owner: &Identity,
        node: NodeId,
        keep: impl Fn(&Member) -> bool,
    ) -> Result<Revoked, OwnerError> {
        self.check_owner(owner)?;
        let admin = *self.state.admin(&node).ok_or(OwnerError::NoAdmin(node))?;
        let revoke = Body::Revoke(Revoke { target: kind::GRANT });
        let mut drafts = vec![self.draft(*node.as_bytes(), admin.generation, 0, revoke)];
        let admitted =
            self.state.members.values().filter(|member| member.is_valid() && member.author == node);
        let (kept, lost): (Vec<_>, Vec<_>) = admitted.partition(|member| keep(member));
        for member in &kept {
            drafts.extend(self.set.get(&member.id).and_then(|signed| self.again(signed)));
        }
        let policy = self.state.policy.as_ref().filter(|(signed, _)| signed.author == node);
        drafts.extend(policy.and_then(|(signed, _)| self.again(signed)));
        let policy = policy.is_some();
        let ids = |members: Vec<&Member>| members.iter().map(|member| member.node).collect();
        let (kept, lost) = (ids(kept), ids(lost));
        Ok(Revoked { documents: self.conclude(owner, drafts), kept, lost, policy })
    }

    fn check_owner(&self, owner: &Identity) -> Result<(), OwnerError> {
        if owner.node_id() == self.network.key() { Ok(()) } else { Err(OwnerError::NotOwner) }
    }

    /// The same statement by the owner: of one generation its word goes before an admin's.
    fn again(&self, signed: &Signed) -> Option<Draft> {
        let document = &signed.document;
        let body = signed.body.clone()?;
        Some(self.draft(document.subject, document.generation, document.expires, body))
    }

    fn draft(&self, subject: [u8; 32], generation: u32, expires: u64, body: Body) -> Draft {
        let own = |signed: &&Arc<Signed>| signed.author == self.network.key();
        let last = self.set.about(body.kind(), subject).filter(own).map(|signed| signed.document.seq).max();
        Draft {
            network: self.network,
            grant: NO_GRANT,
            subject,
            generation,
            seq: last.unwrap_or(0) + 1,
            issued: self.now,
            expires,
            body,
        }
    }

    /// Signs the drafts, and a HEAD over what is in force with them.
    fn conclude(&mut self, owner: &Identity, drafts: Vec<Draft>) -> Vec<Signed> {
        let mut documents: Vec<_> = drafts.into_iter().map(|draft| draft.sign(owner)).collect();
        for signed in &documents {
            self.set.insert(Arc::new(signed.clone()));
        }
        self.state = judged(&self.set, &self.network, self.now);
        let era = self.state.era;
        let counter =
            self.state.head.as_ref().filter(|head| head.pair.0 == era).map_or(0, |head| head.pair.1);
        let mut revocations: Vec<_> = revocations(&self.state).collect();
        revocations.sort_unstable();
        revocations.dedup();
        let body = Body::Head(Head { digest: self.state.digest, revocations });
        let mut head = self.draft(*self.network.as_bytes(), u32::from(era) << 16, 0, body);
        head.seq = counter + 1;
        documents.push(head.sign(owner));
        documents
    }

    /// The upper half of the largest run of numbers that no other admin has.
    fn free_numbers(&self, node: &NodeId) -> Option<(u16, u16)> {
        let others = self.state.admins.iter().filter(|(other, _)| *other != node);
        let mut taken: Vec<_> = others.map(|(_, admin)| admin.grant.numbers).collect();
        taken.sort_unstable();
        let end = u32::from(self.state.plan.last_number()) + 1;
        let (mut from, mut best) = (1, (0, 0));
        for (first, last) in taken.iter().map(|&(a, b)| (u32::from(a), u32::from(b))).chain([(end, end)]) {
            if first > from && first - from > best.1 - best.0 {
                best = (from, first);
            }
            from = from.max(last + 1);
        }
        let (first, end) = best;
        let half = first + (end - first) / 2;
        (end > first).then(|| Some((u16::try_from(half).ok()?, u16::try_from(end - 1).ok()?))).flatten()
    }
}

fn judged(set: &DocumentSet, network: &NetworkId, now: u64) -> State {
    judge(set, network, Clock { own: now, floor: 0, synchronised: true })
}

fn check_numbers(plan: &Plan, (first, last): (u16, u16)) -> Result<(), OwnerError> {
    if first == 0 || first > last || last > plan.last_number() {
        return Err(OwnerError::BadNumbers(first, last));
    }
    Ok(())
}

impl State {
    /// What no documents amount to.
    fn nothing(network: &NetworkId) -> Self {
        judge(&DocumentSet::default(), network, Clock::default())
    }
}

#[cfg(test)]
mod tests;
