//! One network of this node: its documents, what they amount to, and what is to be done about it.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxHasher;
use sinew_types::{Budget, Instant, Label, NetworkId, NodeId};
use sinew_wire::document::{Grant, kind};
use sinew_wire::sync::BUCKETS;

use crate::document::{DocumentId, NO_GRANT, Signed};
use crate::event::Change;
use crate::join::{Entry, Joining};
use crate::judge::{Clock, STALE_AFTER, judge};
use crate::memory::Memory;
use crate::policy::PolicySpec;
use crate::refusal::Refusal;
use crate::set::{DocumentSet, Inserted, summary};
use crate::snapshot::NetworkView;
use crate::state::{Fate, Fault, Member, State};
use crate::stored::Meta;
use crate::view;

/// Documents that were looked at and not kept are not asked for again.
const REFUSED_MAX: usize = 4096;
/// Most documents asked for and not yet come.
pub(crate) const ASKED_MAX: usize = 4096;
/// How long one that was asked for is waited for before another peer is asked.
pub(crate) const ASK_AGAIN: Duration = Duration::from_secs(3);
/// Most equivocations that are remembered.
const EQUIVOCATIONS_MAX: usize = 64;
/// How many documents of one author are taken unasked per second, and at once: more wait for the next
/// comparison of whole sets, where only the newest of each slot travel.
const AUTHOR_RATE: (u64, u64) = (20, 512);
/// Most authors whose rate is counted.
const AUTHORS_MAX: usize = 8192;

/// What this node may sign for the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rights {
    pub(crate) grant: DocumentId,
    pub(crate) numbers: (u16, u16),
    pub(crate) longest: Option<u32>,
    pub(crate) owner: bool,
}

#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) id: NetworkId,
    pub(crate) meta: Meta,
    pub(crate) set: DocumentSet,
    pub(crate) state: State,
    pub(crate) summary: Box<[[u8; 8]; BUCKETS]>,
    pub(crate) view: Arc<NetworkView>,
    /// Seed of the view's tables.
    seed: u64,
    /// Documents that the store has.
    written: BTreeSet<DocumentId>,
    written_meta: zeroize::Zeroizing<Vec<u8>>,
    pub(crate) joining: Option<Joining>,
    /// Who asks for approval, by which ticket, and under which name.
    pub(crate) pending: BTreeMap<NodeId, ([u8; 32], Option<Label>)>,
    pub(crate) approved: BTreeSet<NodeId>,
    pub(crate) journal: BTreeMap<([u8; 32], [u8; 32]), Entry>,
    pub(crate) refused: Memory,
    /// Whether some of them were only too many, or too early.
    turned_away: bool,
    pub(crate) asked: BTreeMap<DocumentId, Instant>,
    /// What came since the last judgement, and from whom; `None` is ourselves.
    pub(crate) fresh: BTreeMap<DocumentId, Option<NodeId>>,
    pub(crate) judge_at: Option<Instant>,
    pub(crate) judged: Instant,
    pub(crate) head_at: Option<Instant>,
    pub(crate) summary_at: Instant,
    pub(crate) partners_at: Instant,
    pub(crate) partners: BTreeSet<NodeId>,
    pub(crate) wanted: BTreeMap<NodeId, Instant>,
    pub(crate) told: BTreeSet<Fault>,
    equivocations: BTreeSet<Fault>,
    authors: BTreeMap<NodeId, Budget>,
}

/// What a judgement brought.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Documents that others may now be told of, and from whom they came.
    pub(crate) news: Vec<(DocumentId, Option<NodeId>)>,
    /// For the store.
    pub(crate) changes: Vec<Change>,
    /// Faults that were not told yet.
    pub(crate) faults: Vec<Fault>,
    /// Whether the fast path sees something new.
    pub(crate) changed: bool,
    /// Whether documents were turned away that would be taken now.
    pub(crate) retry: bool,
}

impl Outcome {
    /// What a second judgement brought in addition.
    pub(crate) fn then(&mut self, next: Self) {
        self.news.extend(next.news);
        self.changes.extend(next.changes);
        self.faults.extend(next.faults);
        self.changed |= next.changed;
        self.retry |= next.retry;
    }
}

impl Network {
    pub(crate) fn new(id: NetworkId, meta: Meta, seed: u64, now: Instant) -> Self {
        let set = DocumentSet::default();
        let state = judge(&set, &id, Clock::default());
        let policy = PolicySpec::default();
        let view = view::build((&id, &meta.name), meta.slot, &state, &policy, seed, false);
        Self {
            id,
            meta,
            set,
            state,
            summary: Box::new([[0; 8]; BUCKETS]),
            view: Arc::new(view),
            seed,
            written: BTreeSet::new(),
            written_meta: zeroize::Zeroizing::new(Vec::new()),
            joining: None,
            pending: BTreeMap::new(),
            approved: BTreeSet::new(),
            journal: BTreeMap::new(),
            refused: Memory::new(REFUSED_MAX),
            turned_away: false,
            asked: BTreeMap::new(),
            fresh: BTreeMap::new(),
            judge_at: None,
            judged: now,
            head_at: None,
            summary_at: now,
            partners_at: now,
            partners: BTreeSet::new(),
            wanted: BTreeMap::new(),
            told: BTreeSet::new(),
            equivocations: BTreeSet::new(),
            authors: BTreeMap::new(),
        }
    }

    pub(crate) fn name(&self) -> Label {
        self.meta.name.clone()
    }

    /// A document that was verified. Says whether it is new here.
    pub(crate) fn insert(&mut self, signed: Arc<Signed>, from: Option<NodeId>) -> bool {
        let (id, author, kind) = (signed.id, signed.author, signed.document.kind);
        self.asked.remove(&id);
        let inserted = self.set.insert(signed);
        if let Inserted::Equivocation { .. } = inserted
            && self.equivocations.len() < EQUIVOCATIONS_MAX
        {
            self.equivocations.insert(Fault::Equivocation { author, kind });
        }
        let kept = matches!(
            inserted,
            Inserted::New | Inserted::Replaced(_) | Inserted::Equivocation { kept: true, .. }
        );
        if kept {
            self.fresh.insert(id, from);
        } else {
            self.refused.insert(id);
        }
        kept
    }

    /// Whether one more document of this author is taken, though nobody asked for it.
    pub(crate) fn may_come(&mut self, author: NodeId, now: Instant) -> bool {
        if self.authors.len() >= AUTHORS_MAX && !self.authors.contains_key(&author) {
            self.authors.clear();
        }
        let (rate, burst) = AUTHOR_RATE;
        self.authors.entry(author).or_insert_with(|| Budget::new(rate, burst, now)).try_take(now)
    }

    /// Works out what the documents amount to now.
    pub(crate) fn judge(&mut self, own: &NodeId, clock: Clock, now: Instant) -> Outcome {
        let before: BTreeSet<DocumentId> = self.state.shared().copied().collect();
        let rights = self.rights_digest();
        let clock = Clock { floor: self.meta.floor, ..clock };
        self.state = judge(&self.set, &self.id, clock);
        let gone: Vec<_> = self
            .state
            .fates
            .iter()
            .filter(|(_, fate)| matches!(fate, Fate::Void | Fate::Surplus))
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            let fate = self.state.fates.remove(&id);
            self.set.remove(&id);
            self.refused.insert(id);
            self.turned_away |= fate == Some(Fate::Surplus);
        }
        self.state.faults.extend(self.equivocations.iter().cloned());
        // Who had no right may have one now: what was not taken is worth asking for again.
        let retry = self.rights_digest() != rights && std::mem::take(&mut self.turned_away);
        if retry {
            self.refused.clear();
        }
        self.summary = summary(self.state.shared());
        self.meta.floor = self.state.floor;
        if let Some(head) = &self.state.head {
            self.meta.head = self.meta.head.max(head.pair);
        }
        self.meta.ready |= self.holds_required_head();
        self.judge_at = None;
        self.judged = now;
        let news = self.news(&before);
        let faults: BTreeSet<Fault> = self.state.faults.iter().cloned().collect();
        let untold = faults.difference(&self.told).cloned().collect();
        self.told = faults;
        let changed = self.rebuild(own);
        Outcome { news, changes: self.changes(), faults: untold, changed, retry }
    }

    /// A hash of everything that decides who may speak.
    pub(crate) fn rights_digest(&self) -> u64 {
        let mut hasher = FxHasher::default();
        let state = &self.state;
        state.era.hash(&mut hasher);
        state.admins.values().for_each(|admin| admin.id.hash(&mut hasher));
        state.members.values().for_each(|member| (member.id, member.standing).hash(&mut hasher));
        state.tickets.keys().for_each(|key| key.hash(&mut hasher));
        hasher.finish()
    }

    fn news(&mut self, before: &BTreeSet<DocumentId>) -> Vec<(DocumentId, Option<NodeId>)> {
        let fresh = std::mem::take(&mut self.fresh);
        let new = self.state.shared().filter(|id| !before.contains(*id));
        let news = new.map(|id| (*id, fresh.get(id).copied().flatten())).collect();
        // What is still an orphan may yet be news.
        self.fresh =
            fresh.into_iter().filter(|(id, _)| self.state.fates.get(id) == Some(&Fate::Orphan)).collect();
        news
    }

    /// What the store has to be told.
    pub(crate) fn changes(&mut self) -> Vec<Change> {
        let shared: BTreeSet<DocumentId> = self.state.shared().copied().collect();
        let mut changes: Vec<Change> =
            self.written.difference(&shared).map(|id| Change::DropDocument { id: *id }).collect();
        for id in shared.difference(&self.written) {
            if let Some(signed) = self.set.get(id) {
                changes.push(Change::PutDocument { id: *id, bytes: signed.bytes.to_vec() });
            }
        }
        self.written = shared;
        let meta = zeroize::Zeroizing::new(self.meta.emit());
        if meta != self.written_meta {
            changes.push(Change::PutMeta(meta.to_vec()));
            self.written_meta = meta;
        }
        changes
    }

    /// After a restart the store has all of this already.
    pub(crate) fn mark_written(&mut self, documents: impl Iterator<Item = DocumentId>, meta: Vec<u8>) {
        self.written = documents.collect();
        self.written_meta = zeroize::Zeroizing::new(meta);
    }

    /// Builds the fast path's view anew; says whether it differs.
    fn rebuild(&mut self, own: &NodeId) -> bool {
        let default = PolicySpec::default();
        let policy = self.state.policy.as_ref().map_or(&default, |(_, policy)| policy);
        let open = self.is_open(own);
        let (id, slot) = ((&self.id, &self.meta.name), self.meta.slot);
        let view = view::build(id, slot, &self.state, policy, self.seed, open);
        let same = view.same_as(&self.view);
        if !same {
            self.view = Arc::new(view);
        }
        !same
    }

    /// Whether the HEAD that a ticket promised is here, and all that it names (protocol A7.5).
    fn holds_required_head(&self) -> bool {
        let held = self.state.head.as_ref().map_or((0, 0), |head| head.pair);
        let missing = self.state.head.as_ref().map_or(0, |head| head.missing);
        self.state.net.is_some() && held >= self.meta.required && missing == 0
    }

    /// Whether packets may pass.
    pub(crate) fn is_open(&self, own: &NodeId) -> bool {
        let fresh = !self.state.strict || self.stale_days().is_none();
        self.meta.ready && fresh && self.state.member(own).is_some()
    }

    /// How many days old the newest HEAD is, if that is too many.
    pub(crate) fn stale_days(&self) -> Option<u64> {
        let head = self.state.head.as_ref()?;
        let age = self.state.at.saturating_sub(head.issued);
        (age >= STALE_AFTER).then_some(age / 86_400)
    }

    /// What this node may sign of what `scope` covers.
    pub(crate) fn rights(&self, own: &NodeId, scope: u16) -> Option<Rights> {
        if *own == self.id.key() {
            let numbers = (1, self.state.plan.last_number());
            return Some(Rights { grant: NO_GRANT, numbers, longest: None, owner: true });
        }
        let admin = self.state.admin(own).filter(|admin| admin.grant.scopes & scope != 0)?;
        let grant = admin.grant;
        Some(Rights { grant: admin.id, numbers: grant.numbers, longest: grant.longest, owner: false })
    }

    /// As [`Self::rights`], with a reason if there are none.
    pub(crate) fn must(&self, own: &NodeId, scope: u16) -> Result<Rights, Refusal> {
        let what = match scope {
            Grant::ADMIT => "admit members",
            Grant::REVOKE => "revoke",
            Grant::POLICY => "set the policy",
            _ => "sign for all",
        };
        self.rights(own, scope).ok_or_else(|| Refusal::NotAnAdmin { network: self.name(), what })
    }

    /// This node, if it is a member.
    pub(crate) fn me(&self, own: &NodeId) -> Result<&Member, Refusal> {
        let refuse = |reason| Refusal::NotAMember { network: self.name(), reason };
        match self.state.members.get(own) {
            Some(member) if member.is_valid() => Ok(member),
            Some(member) => Err(refuse(member.standing.as_str())),
            None if self.state.revoked(kind::MEMBER, own.as_bytes()).is_some() => Err(refuse("revoked")),
            None => Err(refuse("not admitted yet")),
        }
    }

    /// The documents that make a member one, in the order of authority.
    pub(crate) fn chain(&self, member: &Member) -> Vec<Arc<Signed>> {
        let signed = self.set.get(&member.id);
        let grant = signed.and_then(|signed| self.set.get(&signed.document.grant));
        let issuer = grant.and_then(|grant| self.set.get(&grant.document.grant));
        [self.state.net.as_ref(), issuer, grant, signed].into_iter().flatten().cloned().collect()
    }

    /// Highest sequence number that is known of an author's documents about a subject.
    pub(crate) fn last_seq(&self, kind: u8, subject: [u8; 32], author: &NodeId) -> u64 {
        let own = |signed: &&Arc<Signed>| signed.author == *author;
        self.set.about(kind, subject).filter(own).map(|signed| signed.document.seq).max().unwrap_or(0)
    }
}
