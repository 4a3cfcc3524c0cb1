//! The machine itself: networks, peers, and the one place where a judgement takes effect.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use sinew_types::{Identity, Instant, Label, NetworkId, NodeId, Rng, UnixMicros};
use sinew_wire::document::{Grant, kind};
use sinew_wire::request::Request;

use crate::document::{DocumentId, KeyRing, Signed, Unverified};
use crate::event::{Change, Event, Placed, StoredNetwork};
use crate::join::Reserved;
use crate::judge::{Clock, RENEW_AFTER};
use crate::network::{Network, Outcome};
use crate::peer::{Ours, Peer};
use crate::refusal::Refusal;
use crate::snapshot::{Slot, Snapshot};
use crate::state::State;
use crate::stored::Meta;

/// Most networks of one node.
pub(crate) const NETWORKS_MAX: usize = 64;
/// Judgements that nobody waits for are this far apart.
const JUDGE_EVERY: Duration = Duration::from_millis(50);
/// A network's members look at each other's sets this often.
pub(crate) const SUMMARY_EVERY: Duration = Duration::from_secs(30);
/// How often the choice of peers is looked at.
const PARTNERS_EVERY: Duration = Duration::from_secs(5);
/// A newer HEAD is reported to admins so long after it came: several may come at once.
const REPORT_AFTER: Duration = Duration::from_millis(200);
/// More news than this at once is not pushed; the sets are compared instead.
const PUSH_MAX: usize = 64;

/// What was dropped, by reason; plain counters for `sinew drops` and for tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages and documents not of their shape, or with a wrong signature.
    pub bad: u64,
    /// Documents above the rate of their peer or author.
    pub limited: u64,
    /// Messages about networks that the peer has no part in.
    pub uninvited: u64,
}

/// All private networks of one node.
#[derive(Debug)]
pub struct Overlay {
    pub(crate) identity: Arc<Identity>,
    pub(crate) own: NodeId,
    pub(crate) rng: Rng,
    unix: UnixMicros,
    unix_at: Instant,
    synchronised: bool,
    pub(crate) keys: KeyRing,
    pub(crate) networks: BTreeMap<NetworkId, Network>,
    pub(crate) peers: BTreeMap<NodeId, Peer>,
    events: VecDeque<Event>,
    snapshot: Arc<Snapshot>,
    pub(crate) snapshot_stale: bool,
    pub(crate) tokens: u64,
    pub(crate) reserved: BTreeMap<u64, Reserved>,
    pub(crate) counts: Counts,
    deadline: Option<Instant>,
    /// What this node would be called by those that admit it.
    pub(crate) own_name: Option<Label>,
}

impl Overlay {
    /// A node without networks. `unix` is the wall clock at `now`.
    pub fn new(identity: Arc<Identity>, seed: [u8; 32], unix: UnixMicros, now: Instant) -> Self {
        Self {
            own: identity.node_id(),
            identity,
            rng: Rng::new(seed),
            unix,
            unix_at: now,
            synchronised: false,
            keys: KeyRing::default(),
            networks: BTreeMap::new(),
            peers: BTreeMap::new(),
            events: VecDeque::new(),
            snapshot: Arc::default(),
            snapshot_stale: false,
            tokens: 0,
            reserved: BTreeMap::new(),
            counts: Counts::default(),
            deadline: None,
            own_name: None,
        }
    }

    /// What this node would be called where a ticket gives it no name.
    pub fn set_own_name(&mut self, name: Option<Label>) {
        self.own_name = name;
    }

    /// The wall clock, and whether something vouches for it.
    pub fn set_unix(&mut self, unix: UnixMicros, synchronised: bool, now: Instant) {
        (self.unix, self.unix_at, self.synchronised) = (unix, now, synchronised);
        let ids: Vec<_> = self.networks.keys().copied().collect();
        ids.iter().for_each(|id| self.judge(id, now));
        self.finish(now);
    }

    pub(crate) fn unix_micros(&self, now: Instant) -> UnixMicros {
        self.unix + u64::try_from(now.since(self.unix_at).as_micros()).unwrap_or(u64::MAX)
    }

    /// Seconds since 1970.
    pub(crate) fn seconds(&self, now: Instant) -> u64 {
        self.unix_micros(now) / 1_000_000
    }

    fn clock(&self, now: Instant) -> Clock {
        Clock { own: self.seconds(now), floor: 0, synchronised: self.synchronised }
    }

    /// Takes up a network that was written down before a restart.
    ///
    /// # Errors
    /// [`Refusal::BadDocument`] if what was written down is not readable; nothing is taken up then.
    pub fn restore(
        &mut self,
        network: NetworkId,
        stored: StoredNetwork,
        now: Instant,
    ) -> Result<(), Refusal> {
        let bad = |index, reason| Refusal::BadDocument { index, reason };
        let meta = Meta::parse(&stored.meta).ok_or(bad(0, "what was stored of the network is damaged"))?;
        let ticket = meta.ticket.clone();
        let mut state = Network::new(network, meta, self.rng.u64(), now);
        for bytes in &stored.documents {
            // The store is our own, but a damaged file must not make a member of anybody.
            let signed = Unverified::parse(bytes, &network).and_then(|doc| doc.verify(&mut self.keys));
            if let Ok(signed) = signed {
                state.insert(Arc::new(signed), None);
            }
        }
        for (key, value) in &stored.journal {
            state.restore_journal(key, value);
        }
        let written: Vec<DocumentId> = state.set.iter().map(|(_, signed)| signed.id).collect();
        state.fresh.clear();
        state.mark_written(written.into_iter(), stored.meta);
        state.resume(&ticket, now);
        self.networks.insert(network, state);
        self.peers.values_mut().for_each(|peer| peer.add(network, now));
        self.judge(&network, now);
        self.finish(now);
        Ok(())
    }

    /// Takes up a network from documents that say this node is a member: made by `network create`, or
    /// handed over by an owner.
    ///
    /// # Errors
    /// A [`Refusal`]; nothing is taken up then.
    pub fn adopt(&mut self, name: &str, documents: Vec<Vec<u8>>, now: Instant) -> Result<NetworkId, Refusal> {
        let name = Self::label(name)?;
        let bad = |reason| Refusal::BadDocument { index: 1, reason };
        let first = documents.first().ok_or(bad("there is none"))?;
        let document = sinew_wire::document::Document::parse(first).map_err(|_| bad("not a document"))?;
        let network = self.keys.node(&document.network).ok_or(bad("of no network"))?;
        let network = NetworkId::new(network);
        self.begin(network, name, (0, 0), now)?;
        let result = self.import(network, documents, now).and_then(|()| {
            let state = self.network(&network)?;
            state.me(&self.own).map(|_| ())
        });
        if result.is_err() {
            self.forget(&network, now);
        }
        self.finish(now);
        result.map(|()| network)
    }

    /// A name that people typed.
    pub(crate) fn label(text: &str) -> Result<Label, Refusal> {
        Label::parse(text).map_err(|reason| Refusal::BadName { text: text.to_owned(), reason })
    }

    /// Makes room for a network.
    pub(crate) fn begin(
        &mut self,
        id: NetworkId,
        name: Label,
        required: (u16, u64),
        now: Instant,
    ) -> Result<(), Refusal> {
        if let Some(known) = self.networks.get(&id) {
            return Err(Refusal::AlreadyHere { network: known.name() });
        }
        if self.networks.values().any(|known| known.meta.name == name) {
            return Err(Refusal::NetworkNameTaken { name });
        }
        if self.networks.len() >= NETWORKS_MAX {
            return Err(Refusal::TooManyNetworks { limit: NETWORKS_MAX });
        }
        let used: BTreeSet<Slot> = self.networks.values().map(|network| network.meta.slot).collect();
        let slot = (1..).find(|slot| !used.contains(slot)).unwrap_or(1);
        let meta = Meta {
            name,
            slot,
            floor: 0,
            head: (0, 0),
            required,
            ready: false,
            last_number: 0,
            intents: Vec::new(),
            exposures: Vec::new(),
            ticket: zeroize::Zeroizing::new(Vec::new()),
            contacts: Vec::new(),
        };
        let network = Network::new(id, meta, self.rng.u64(), now);
        self.networks.insert(id, network);
        self.peers.values_mut().for_each(|peer| peer.add(id, now));
        Ok(())
    }

    /// Adds documents that an operator brings: those that an owner's key has just signed, or a backup.
    ///
    /// # Errors
    /// [`Refusal::BadDocument`] with the number of the first bad one; the ones before it are taken.
    pub fn import(
        &mut self,
        network: NetworkId,
        documents: Vec<Vec<u8>>,
        now: Instant,
    ) -> Result<(), Refusal> {
        self.network(&network)?;
        let mut result = Ok(());
        for (bytes, index) in documents.iter().zip(1..) {
            let signed = Unverified::parse(bytes, &network).and_then(|doc| doc.verify(&mut self.keys));
            match (signed, self.networks.get_mut(&network)) {
                (Ok(signed), Some(state)) => _ = state.insert(Arc::new(signed), None),
                (Err(flaw), _) => {
                    let reason = flaw.describe();
                    result = Err(Refusal::BadDocument { index, reason });
                    break;
                }
                _ => {}
            }
        }
        self.judge(&network, now);
        self.finish(now);
        result
    }

    /// All documents of a network that members share, in the order of authority.
    ///
    /// # Errors
    /// [`Refusal::UnknownNetworkId`].
    pub fn export(&self, network: &NetworkId) -> Result<Vec<Vec<u8>>, Refusal> {
        let network = self.network(network)?;
        let shared = |id: &DocumentId| network.state.fates.get(id).is_some_and(|fate| fate.is_shared());
        let all = network.set.iter().filter(|(_, signed)| shared(&signed.id));
        Ok(all.map(|(_, signed)| signed.bytes.to_vec()).collect())
    }

    /// Leaves a network and forgets it. Its members are told if they are there; the membership itself
    /// ends when an admin revokes it or it expires.
    ///
    /// # Errors
    /// [`Refusal::UnknownNetworkId`].
    pub fn leave(&mut self, network: NetworkId, now: Instant) -> Result<(), Refusal> {
        self.network(&network)?;
        for peer in self.peers.values_mut() {
            if let Some(link) = peer.links.get(&network).filter(|link| link.is_bound()) {
                let tag = link.tag;
                peer.request(Request::Unbind { tag });
            }
        }
        self.forget(&network, now);
        self.finish(now);
        Ok(())
    }

    pub(crate) fn forget(&mut self, network: &NetworkId, _now: Instant) {
        let Some(state) = self.networks.remove(network) else { return };
        for (peer, own) in &mut self.peers {
            if own.drop_network(network).is_some_and(|link| link.is_bound()) {
                self.events.push_back(Event::Dead { peer: *peer, slot: state.meta.slot });
            }
        }
        self.reserved.retain(|_, reserved| reserved.network != *network);
        self.snapshot_stale = true;
        self.events.push_back(Event::Forget(*network));
    }

    pub(crate) fn network(&self, id: &NetworkId) -> Result<&Network, Refusal> {
        self.networks.get(id).ok_or(Refusal::UnknownNetworkId { network: *id })
    }

    pub(crate) fn network_mut(&mut self, id: &NetworkId) -> Result<&mut Network, Refusal> {
        self.networks.get_mut(id).ok_or(Refusal::UnknownNetworkId { network: *id })
    }

    /// A network by what this node calls it, or by its id.
    ///
    /// # Errors
    /// [`Refusal::UnknownNetwork`].
    pub fn find(&self, text: &str) -> Result<NetworkId, Refusal> {
        let id: Option<NetworkId> = text.parse().ok();
        self.networks
            .values()
            .find(|network| Some(network.id) == id || network.meta.name.as_str() == text)
            .map(|network| network.id)
            .ok_or_else(|| Refusal::UnknownNetwork { name: text.to_owned() })
    }

    /// What the documents of a network amount to.
    ///
    /// # Errors
    /// [`Refusal::UnknownNetworkId`].
    pub fn state(&self, network: &NetworkId) -> Result<&State, Refusal> {
        self.network(network).map(|network| &network.state)
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.events.push_back(event);
    }

    /// Adds a document that this node has just signed, and lets it take effect.
    pub(crate) fn publish(&mut self, network: &NetworkId, signed: Vec<Signed>, now: Instant) {
        let Some(state) = self.networks.get_mut(network) else { return };
        for one in signed {
            state.insert(Arc::new(one), None);
        }
        // What this node changes it puts under a HEAD at once, if it may.
        state.head_at.get_or_insert(now + Duration::from_secs(1));
        self.judge(network, now);
    }

    /// Judges a network's documents and lets the outcome take effect.
    pub(crate) fn judge(&mut self, network: &NetworkId, now: Instant) {
        let clock = self.clock(now);
        let Some(state) = self.networks.get_mut(network) else { return };
        let (head, published) = (state.meta.head, state.published_digest());
        let mut outcome = state.judge(&self.own, clock, now);
        if self.resign_workloads(network, now)
            && let Some(state) = self.networks.get_mut(network)
        {
            outcome.then(state.judge(&self.own, clock, now));
        }
        // Behind workloads: what is published names them.
        if self.resign_exposures(network, now)
            && let Some(state) = self.networks.get_mut(network)
        {
            outcome.then(state.judge(&self.own, clock, now));
        }
        if self.networks.get(network).is_some_and(|state| state.published_digest() != published) {
            self.events.push_back(Event::Published(*network));
        }
        let Outcome { news, mut changes, faults, changed, retry } = outcome;
        if let Some(state) = self.networks.get_mut(network) {
            changes.extend(state.prune_journal());
        }
        self.snapshot_stale |= changed;
        if retry && let Some(state) = self.networks.get_mut(network) {
            state.summary_at = state.summary_at.min(now + Duration::from_secs(1));
        }
        if !changes.is_empty() {
            self.events.push_back(Event::Store { network: *network, changes, token: None });
        }
        for fault in faults {
            self.events.push_back(Event::Alarm { network: *network, fault });
        }
        self.spread(network, &news, now);
        self.settle_links(network, now);
        self.report_head(network, head, now);
        self.plan_head(network, now);
        self.settle_joining(network, now);
    }

    /// Judges soon; at once if something was revoked.
    pub(crate) fn judge_soon(&mut self, network: &NetworkId, urgent: bool, now: Instant) {
        let Some(state) = self.networks.get_mut(network) else { return };
        let at = state.judged + JUDGE_EVERY;
        if urgent || at <= now {
            self.judge(network, now);
        } else {
            state.judge_at.get_or_insert(at);
        }
    }

    /// Tells peers of news: all of them what is urgent or our own, the chosen few the rest.
    fn spread(&mut self, network: &NetworkId, news: &[(DocumentId, Option<NodeId>)], now: Instant) {
        let Some(state) = self.networks.get(network) else { return };
        let bulk = news.len() > PUSH_MAX;
        for (node, peer) in &mut self.peers {
            let member = state.state.member(node).is_some();
            let Some(link) = peer.links.get_mut(network).filter(|link| link.is_bound()) else { continue };
            let partner = state.partners.contains(node);
            for (id, from) in news {
                let Some(signed) = state.set.get(id) else { continue };
                let urgent = signed.document.kind == kind::REVOKE;
                // Who was revoked is told so; nothing else is its business any more.
                let meant = if member { urgent || from.is_none() || partner && !bulk } else { urgent };
                if meant && *from != Some(*node) && !link.knows.contains(id) {
                    link.push.insert((priority(signed.document.kind), *id));
                }
            }
            if bulk && partner && member {
                link.summary.get_or_insert(now + Duration::from_millis(200));
            }
        }
    }

    /// Lets the admins we are bound to know that we hold a newer HEAD: they want to see who has what
    /// they signed, and not half a minute later.
    fn report_head(&mut self, network: &NetworkId, before: (u16, u64), now: Instant) {
        let Some(state) = self.networks.get(network).filter(|state| state.meta.head != before) else {
            return;
        };
        for (node, peer) in &mut self.peers {
            if state.state.admin(node).is_some()
                && let Some(link) = peer.links.get_mut(network).filter(|link| link.is_bound())
            {
                link.summary.get_or_insert(now + REPORT_AFTER);
            }
        }
    }

    /// When the next HEAD is due, if this node may sign one.
    fn plan_head(&mut self, network: &NetworkId, now: Instant) {
        let Some(state) = self.networks.get_mut(network) else { return };
        let may = state.meta.ready && state.rights(&self.own, Grant::HEAD).is_some();
        let due = match &state.state.head {
            None => true,
            Some(head) => {
                let old = state.state.at.saturating_sub(head.issued) >= RENEW_AFTER;
                old || head.digest != state.state.digest
            }
        };
        if !(may && due) {
            state.head_at = None;
        } else if state.head_at.is_none() {
            // Somebody else's change: give the others a chance to be first.
            let wait = 5000 + self.rng.below(10_000);
            state.head_at = Some(now + Duration::from_millis(wait));
        }
    }

    /// What the fast path reads.
    pub const fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// The next thing to do or to know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// What was dropped.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether a session with this node is to be kept up for the networks' sake.
    pub fn wants(&self, peer: &NodeId) -> bool {
        self.networks.values().any(|network| network.wanted.contains_key(peer))
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let ids: Vec<_> = self.networks.keys().copied().collect();
        for id in ids {
            let at = self.networks.get(&id).and_then(|network| network.judge_at);
            let over = self.expiry(&id, now).is_some_and(|at| at <= now);
            if at.is_some_and(|at| at <= now) || over {
                self.judge(&id, now);
            }
            self.head_due(&id, now);
            self.join_due(&id, now);
            self.partners_due(&id, now);
            self.summary_due(&id, now);
            self.bind_due(&id, now);
        }
        self.finish(now);
    }

    /// When time alone changes what the documents amount to; never more than once a second.
    fn expiry(&self, network: &NetworkId, now: Instant) -> Option<Instant> {
        let network = self.networks.get(network)?;
        let wait = network.state.next?.saturating_sub(self.seconds(now));
        let at = now + Duration::from_secs(wait.min(3600));
        Some(at.max(network.judged + Duration::from_secs(1)))
    }

    /// To be called last by everything that changes something.
    pub(crate) fn finish(&mut self, now: Instant) {
        if std::mem::take(&mut self.snapshot_stale) {
            self.snapshot = Arc::new(self.build_snapshot());
            // Before all else that waits: other events, and what is sent, may rely on it.
            self.events.retain(|event| *event != Event::Changed);
            self.events.push_front(Event::Changed);
        }
        let mut next: Option<Instant> = None;
        let mut at = |when: Option<Instant>| next = [next, when].into_iter().flatten().min();
        for (id, network) in &self.networks {
            at(network.judge_at);
            at(network.head_at);
            at(Some(network.partners_at));
            at(Some(network.summary_at));
            at(network.joining.as_ref().map(|joining| joining.at));
            at(self.expiry(id, now));
        }
        for link in self.peers.values().flat_map(|peer| peer.links.values()) {
            at(match link.ours {
                Ours::Asked(when) | Ours::Refused(when) => Some(when),
                Ours::None | Ours::Agreed => None,
            });
            // One that is due already waits for room in the stream, not for time.
            at(link.summary.filter(|due| *due > now));
        }
        self.deadline = next;
    }

    fn build_snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::new(self.networks.values().map(|network| Arc::clone(&network.view)));
        for (node, peer) in &self.peers {
            for (id, link) in &peer.links {
                let Some(network) = self.networks.get(id) else { continue };
                if let Some(handle) = link.handle {
                    snapshot.bind_incoming(node.address(), handle, network.meta.slot);
                }
                if link.ours == Ours::Agreed {
                    snapshot.bind_outgoing(node.address(), network.meta.slot);
                }
            }
        }
        snapshot
    }

    pub(crate) fn next_partners_at(&self, now: Instant) -> Instant {
        now + PARTNERS_EVERY
    }

    /// Tells the shell that a workload has other addresses.
    pub(crate) fn readdressed(&mut self, network: NetworkId, placed: Placed) {
        self.event(Event::Readdressed { network, placed });
    }

    pub(crate) fn store(&mut self, network: NetworkId, changes: Vec<Change>, token: Option<u64>) {
        self.event(Event::Store { network, changes, token });
    }
}

/// What is sent first. Authority before what rests on it, so that nothing has to wait at the other end.
pub(crate) const fn priority(kind: u8) -> u8 {
    match kind {
        kind::REVOKE => 0,
        kind::NET => 1,
        kind::GRANT => 2,
        kind::HEAD => 3,
        kind::INVITE => 4,
        kind::MEMBER => 5,
        kind::POLICY => 6,
        kind::WORKLOAD => 7,
        _ => 8,
    }
}
