//! Merge: from the documents of a network to what they amount to (protocol A7.3).
//!
//! A pure function of the set and the time. It goes through the kinds in the order of authority: what
//! the network is, whom the owner trusts, what is revoked, who may come, who belongs, and last what
//! members say of themselves. Later kinds see the outcome of earlier ones, never the other way round, so
//! there is one outcome and the order in which documents came does not show in it.
//!
//! Two rules make a theft survivable. **Revocation wins**: a REVOKE is a maximum that only grows, so no
//! date and no number that a thief writes helps. **The era**: an admin cannot go beyond the era that NET
//! states, and NET is the owner's alone, so the owner can always outbid an admin.

mod members;
mod publications;
mod rights;
mod workloads;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sha2::{Digest, Sha256};
use sinew_types::{NetworkId, NodeId};
use sinew_wire::document::{Body, Revocation, kind};

use crate::document::{DocumentId, Signed};
use crate::plan::Plan;
use crate::set::{DocumentSet, SlotKey};
use crate::state::{Authority, Fate, Fault, HeadState, State};

/// Most members of a network.
pub const MEMBERS_MAX: usize = 4096;
/// Most admins.
pub(crate) const GRANTS_MAX: usize = 64;
/// Most workloads of one member.
pub const WORKLOADS_MAX: usize = 256;
/// Most services of one author, those that were taken back a while ago included.
pub const PUBLICATIONS_MAX: usize = 128;
/// Most bytes of one network.
pub(crate) const BYTES_MAX: usize = 8 << 20;
/// Most documents whose authors are not known to have a right.
pub(crate) const ORPHANS_MAX: usize = 256;
/// Most documents of one author and of a kind that has no number of its own.
const OTHERS_MAX: usize = 64;
/// Most old GRANT documents.
const GRANT_DOCUMENTS_MAX: usize = 256;
/// Most tickets of one author.
const INVITES_MAX: usize = 256;
/// How far ahead an admin's clock may be where what it signs must not live long, seconds.
const AHEAD_MAX: u64 = 86_400;
/// At this age a HEAD is renewed by who may, seconds.
pub(crate) const RENEW_AFTER: u64 = 86_400;
/// From this age on a HEAD is stale, seconds.
pub const STALE_AFTER: u64 = 7 * 86_400;
/// What has expired so long ago is forgotten, seconds.
const FORGET_AFTER: u64 = 30 * 86_400;

/// What time it is, as far as that can be told (protocol A7.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Clock {
    /// This machine's clock, seconds since 1970.
    pub own: u64,
    /// The newest word of the owner that was ever seen.
    pub floor: u64,
    /// Whether something vouches for the clock (NTP).
    pub synchronised: bool,
}

/// Of what an admin revoked.
const REVOKED: Fate = Fate::Idle("revoked");

/// A clock so far ahead of the owner's last word is not believed unless something vouches for it.
const FAR_AHEAD: u64 = 400 * 86_400;

/// Judges the set.
pub fn judge(set: &DocumentSet, network: &NetworkId, clock: Clock) -> State {
    let mut skip = BTreeSet::new();
    loop {
        let mut judge = Judge::new(set, network, clock, &skip);
        judge.grants();
        judge.revocations();
        judge.invites();
        judge.members();
        judge.policy();
        judge.head();
        judge.workloads();
        judge.publications();
        judge.others();
        let surplus = judge.quotas();
        if surplus.is_empty() {
            judge.digest();
            return judge.finish();
        }
        // Authors that have more than they may: again without what is too much. Each round skips more,
        // and honest authors never get here.
        skip.extend(surplus);
    }
}

struct Judge<'a> {
    set: &'a DocumentSet,
    /// Documents above their author's number.
    skip: &'a BTreeSet<DocumentId>,
    network: NetworkId,
    now: u64,
    /// What the owner revoked.
    by_owner: BTreeMap<(u8, [u8; 32]), u32>,
    state: State,
}

/// What lets an author speak.
enum Right {
    Owner,
    /// An admin in force.
    Admin(crate::state::Admin),
    /// The key of a bearer ticket.
    Ticket(Box<crate::state::Ticket>),
    /// An admin whose grant has run out.
    Expired,
    /// A grant that was revoked.
    Void,
    Unknown,
}

impl<'a> Judge<'a> {
    fn new(set: &'a DocumentSet, network: &NetworkId, clock: Clock, skip: &'a BTreeSet<DocumentId>) -> Self {
        let owned = |(_, s): &(_, &Arc<Signed>)| s.document.author == *network.as_bytes();
        let floor = set.iter().filter(owned).map(|(_, s)| s.document.issued).max();
        let floor = floor.unwrap_or(0).max(clock.floor);
        let far = floor != 0 && !clock.synchronised && clock.own > floor.saturating_add(FAR_AHEAD);
        let now = if far { floor } else { clock.own.max(floor) };
        let net = set.net(network).cloned();
        let body = net.as_ref().and_then(|net| match &net.body {
            Some(Body::Net(body)) => Some(body.clone()),
            _ => None,
        });
        let state = State {
            era: net.as_ref().map_or(0, |net| net.era()),
            plan: Plan::new(network, body.as_ref().and_then(|body| body.range)),
            strict: body.as_ref().is_some_and(|body| body.strict),
            name: body.map(|body| body.name),
            admins: BTreeMap::new(),
            revoked: BTreeMap::new(),
            members: BTreeMap::new(),
            tickets: BTreeMap::new(),
            policy: None,
            workloads: BTreeMap::new(),
            names: BTreeMap::new(),
            publications: BTreeMap::new(),
            head: None,
            floor,
            at: now,
            next: None,
            faults: if far { vec![Fault::ClockAhead] } else { Vec::new() },
            fates: net.iter().map(|net| (net.id, Fate::Live)).collect(),
            digest: [0; 32],
            net,
        };
        Self { set, skip, network: *network, now, by_owner: BTreeMap::new(), state }
    }

    fn finish(mut self) -> State {
        let mut refused: BTreeMap<NodeId, usize> = BTreeMap::new();
        for id in self.skip {
            self.state.fates.insert(*id, Fate::Surplus);
            if let Some(signed) = self.set.get(id) {
                *refused.entry(signed.author).or_default() += 1;
            }
        }
        let faults = refused.into_iter().map(|(author, refused)| Fault::Surplus { author, refused });
        self.state.faults.extend(faults);
        self.state.faults.sort();
        self.state.faults.dedup();
        self.state
    }

    /// The documents of a kind that are looked at.
    fn of_kind(&self, kind: u8) -> impl Iterator<Item = (&'a SlotKey, &'a Arc<Signed>)> + use<'a> {
        let skip = self.skip;
        self.set.of_kind(kind).filter(move |(_, signed)| !skip.contains(&signed.id))
    }

    fn fate(&mut self, signed: &Signed, fate: Fate) {
        self.state.fates.insert(signed.id, fate);
    }

    /// Whether a time is past; if it is to come, the outcome will have to be looked at again then.
    fn is_past(&mut self, time: u64) -> bool {
        if time == 0 {
            return false;
        }
        if time > self.now {
            self.state.next = Some(self.state.next.map_or(time, |next| next.min(time)));
        }
        time <= self.now
    }

    /// What has been over for a month is forgotten: it would be kept for ever otherwise.
    fn is_forgotten(&self, signed: &Signed) -> bool {
        let expires = signed.document.expires;
        expires != 0 && expires.saturating_add(FORGET_AFTER) < self.now
    }

    /// The newest of the candidates: higher generation, then owner before admin, then higher number,
    /// then lower id.
    fn order(authority: Authority, signed: &Signed) -> impl Ord + use<> {
        let document = &signed.document;
        (
            authority != Authority::Ticket,
            document.generation,
            authority,
            document.seq,
            std::cmp::Reverse(signed.id),
        )
    }

    fn policy(&mut self) {
        let mut best: Option<(Authority, &Arc<Signed>)> = None;
        for (_, signed) in self.of_kind(kind::POLICY) {
            let scope = sinew_wire::document::Grant::POLICY;
            let Some(Body::Policy(policy)) = &signed.body else { continue };
            let Some(authority) = self.entitled(signed, scope) else { continue };
            if !crate::policy::has_room(policy) {
                self.fate(signed, Fate::Idle("it names more than 64 groups"));
                continue;
            }
            self.fate(signed, Fate::Idle("a newer policy is in force"));
            if best.is_none_or(|(by, old)| Self::order(authority, signed) > Self::order(by, old)) {
                best = Some((authority, signed));
            }
        }
        if let Some((_, signed)) = best
            && let Some(Body::Policy(policy)) = &signed.body
        {
            self.fate(signed, Fate::Live);
            self.state.policy = Some((Arc::clone(signed), policy.clone()));
        }
    }

    fn head(&mut self) {
        let mut best: Option<&Arc<Signed>> = None;
        for (_, signed) in self.of_kind(kind::HEAD) {
            let scope = sinew_wire::document::Grant::HEAD;
            if self.entitled(signed, scope).is_none() {
                continue;
            }
            self.fate(signed, Fate::Idle("a newer head is in force"));
            // The pair alone orders heads: an owner's old one must not hide an admin's new one.
            let order = |s: &Signed| (s.document.generation, s.document.seq, std::cmp::Reverse(s.id));
            if best.is_none_or(|old| order(signed) > order(old)) {
                best = Some(signed);
            }
        }
        let Some(signed) = best else { return };
        let Some(Body::Head(head)) = &signed.body else { return };
        self.fate(signed, Fate::Live);
        let known: BTreeMap<_, _> =
            self.revocations_in_force().map(|line| ((line.target, line.hint), line.generation)).collect();
        let holds = |line: &Revocation| {
            known.get(&(line.target, line.hint)).is_some_and(|&own| own >= line.generation)
        };
        let missing = head.revocations.iter().filter(|line| !holds(line)).count();
        let issued = signed.document.issued;
        self.is_past(issued.saturating_add(STALE_AFTER));
        self.is_past(issued.saturating_add(RENEW_AFTER));
        self.state.head = Some(HeadState {
            pair: (signed.era(), signed.document.seq),
            digest: head.digest,
            issued,
            missing,
            id: signed.id,
        });
    }

    fn revocations_in_force(&self) -> impl Iterator<Item = Revocation> + '_ {
        revocations(&self.state)
    }

    /// Kinds of later versions: kept and passed on if somebody who belongs here signed them.
    fn others(&mut self) {
        for (_, signed) in self.set.iter() {
            if self.skip.contains(&signed.id) || self.state.fates.contains_key(&signed.id) {
                continue;
            }
            let author = signed.author;
            let belongs = author == self.network.key()
                || self.state.admins.contains_key(&author)
                || self.state.members.contains_key(&author);
            let fate = match (belongs, self.is_forgotten(signed)) {
                (_, true) => Fate::Void,
                (true, false) => Fate::Idle("of a kind that this version does not know"),
                (false, false) => Fate::Orphan,
            };
            self.fate(signed, fate);
        }
    }

    /// What is too much: of an author over its number the highest slots; of a network over its size the
    /// highest of whoever has most; of orphans the highest ids (protocol A7.10).
    fn quotas(&mut self) -> Vec<DocumentId> {
        let owner = self.network.key();
        let mut counts: BTreeMap<(NodeId, u8), usize> = BTreeMap::new();
        let mut bytes: BTreeMap<NodeId, (usize, Vec<DocumentId>)> = BTreeMap::new();
        let (mut total, mut orphans, mut surplus) = (0, Vec::new(), Vec::new());
        for (key, signed) in self.set.iter().filter(|(_, signed)| !self.skip.contains(&signed.id)) {
            let fate = self.state.fates.get(&signed.id).copied().unwrap_or(Fate::Orphan);
            if fate == Fate::Orphan {
                orphans.push(signed.id);
            }
            if !fate.is_shared() {
                continue;
            }
            let count = counts.entry((signed.author, key.kind)).or_default();
            // A member that was revoked is no longer its admin's number, only the network's size.
            *count += usize::from(fate != REVOKED || key.kind != kind::MEMBER);
            if *count > limit(key.kind) {
                surplus.push(signed.id);
                continue;
            }
            total += signed.bytes.len();
            if signed.author != owner {
                let own = bytes.entry(signed.author).or_default();
                own.0 += signed.bytes.len();
                own.1.push(signed.id);
            }
        }
        while total > BYTES_MAX {
            let most = bytes.iter_mut().max_by_key(|(author, own)| (own.0, **author));
            let Some((_, (size, ids))) = most else { break };
            let Some(id) = ids.pop() else { break };
            let len = self.set.get(&id).map_or(0, |signed| signed.bytes.len());
            (*size, total) = (*size - len, total - len);
            surplus.push(id);
        }
        orphans.sort_unstable();
        surplus.extend(orphans.into_iter().skip(ORPHANS_MAX));
        surplus
    }

    /// Over slot and id of what the owner and admins have in force.
    fn digest(&mut self) {
        let mut hash = Sha256::new().chain_update(b"sinew/head/v1\0");
        for (key, signed) in self.set.iter() {
            let counts = matches!(key.kind, kind::NET..=kind::POLICY | kind::INVITE);
            if counts && self.state.fates.get(&signed.id) == Some(&Fate::Live) {
                hash.update([key.kind]);
                hash.update(key.subject);
                hash.update(signed.id);
            }
        }
        self.state.digest = hash.finalize().into();
    }
}

const fn limit(kind: u8) -> usize {
    match kind {
        kind::GRANT => GRANT_DOCUMENTS_MAX,
        kind::MEMBER | kind::REVOKE => MEMBERS_MAX,
        kind::WORKLOAD => WORKLOADS_MAX,
        kind::INVITE => INVITES_MAX,
        kind::PUBLISH => PUBLICATIONS_MAX,
        _ => OTHERS_MAX,
    }
}

/// First bytes of a hash of the subject, as HEAD lists it.
pub(crate) fn hint(subject: &[u8; 32]) -> [u8; 6] {
    let hash: [u8; 32] =
        Sha256::new().chain_update(b"sinew/subject/v1\0").chain_update(subject).finalize().into();
    let [a, b, c, d, e, f, ..] = hash;
    [a, b, c, d, e, f]
}

/// What is revoked, as HEAD lists it.
pub(crate) fn revocations(state: &State) -> impl Iterator<Item = Revocation> + '_ {
    state.revoked.iter().map(|(&(target, subject), &generation)| Revocation {
        target,
        hint: hint(&subject),
        generation,
    })
}
