//! Finding nodes to link with: what this node says of itself, what it hears of others, and the
//! automatic links that come of it (protocol A12).
//!
//! ```text
//!  shell: LAN, directory, disk ──handle_record──▶ book ──▶ peering ──▶ dialler ──▶ sessions
//!  neighbours: RECORDS ─────────────────────────▶  ▲         ▲                        │
//!                                                  └─────────┴──── adjacencies ◀──────┘
//! ```
//! Whatever is heard is a hint: it makes the dialler try places, and who answers there proves its key
//! in the handshake. Addresses are held to the same rules as those of direct paths (A10.4).

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use sinew_directory::peering::Group;
use sinew_directory::record::{self, LIFE};
use sinew_directory::{
    Book, Checked, Clockwork, Known, Order, Own, Peering, PeeringConfig, Refusal, Refusals, Source, View,
};
use sinew_path::punch;
use sinew_session::{Accept, StreamClass};
use sinew_types::{Budget, DropReason, Instant, NodeId, PeerUri, Rng, UnixMicros};
use sinew_wire::directory::{NodeRecord, Place};
use sinew_wire::request::Request;

use crate::config::PeerConfig;
use crate::event::Event;
use crate::node::Node;
use crate::spacing::Spacing;

/// Records given to a neighbour that asks, this node's own included.
const ANSWER: usize = 8;
/// One neighbour is answered at most so often.
const ANSWER_EVERY: Duration = Duration::from_secs(5);
/// Records of one neighbour that are looked at: so many a second, so many at once.
const HEARD: (u64, u64) = (1, 48);
/// Between two questions: while links are missing, and when none are.
const ASK: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(600));
/// A link that stands for so long is worth remembering; written again at most so often.
const GOOD: Duration = Duration::from_secs(10);
const REMEMBER_EVERY: Duration = Duration::from_secs(3600);
/// Whoever was not reached for so long takes no place of those who are remembered though they came by themselves.
const LATELY: Duration = Duration::from_secs(7 * 86_400);
/// A node that somebody wants and nobody reaches is looked up at most so often.
const LOOK_UP: Duration = Duration::from_secs(60);
/// Links with more lost probes than this, in thousandths, are bad ones.
const LOSSY: u16 = 250;

/// All of it.
#[derive(Debug)]
pub(crate) struct Finding {
    book: Book,
    peering: Peering,
    /// Nodes that are dialled because the peering machine says so.
    pub(crate) automatic: BTreeSet<NodeId>,
    own: Own,
    record: Option<NodeRecord>,
    refusals: Refusals,
    /// What each neighbour may still tell.
    heard: BTreeMap<NodeId, Budget>,
    answered: Spacing,
    looked_up: Spacing,
    ask: Instant,
    /// Only nodes that are listed may be neighbours.
    listed_only: bool,
    rng: Rng,
}

/// What people may see of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindingStatus {
    /// Links to keep.
    pub target: usize,
    /// Links that stand and that this node chose by itself.
    pub chosen: usize,
    /// Known nodes by where they were heard of.
    pub known: Vec<(&'static str, usize)>,
    /// Those that were reached, now or in an earlier run.
    pub proven: usize,
    /// Refused records by reason.
    pub refused: Refusals,
    /// Places in this node's own record.
    pub places: Vec<Place>,
    /// Whether others may pass that on.
    pub shared: bool,
}

impl Finding {
    pub(crate) fn new(peering: PeeringConfig, accept: Accept, mut rng: Rng, now: Instant) -> Self {
        Self {
            book: Book::default(),
            peering: Peering::new(peering, rng.fork(), now),
            automatic: BTreeSet::new(),
            own: Own::default(),
            record: None,
            refusals: Refusals::default(),
            heard: BTreeMap::new(),
            answered: Spacing::new(ANSWER_EVERY),
            looked_up: Spacing::new(LOOK_UP),
            ask: now + ASK.0,
            listed_only: accept == Accept::Listed,
            rng,
        }
    }

    /// Whether there is anything to do at all.
    const fn is_on(&self) -> bool {
        self.peering.poll_timeout().is_some()
    }

    pub(crate) const fn poll_timeout(&self) -> Option<Instant> {
        self.peering.poll_timeout()
    }

    /// Where a peer that nobody configured was heard of.
    pub(crate) fn source(&self, node: &NodeId) -> Option<Source> {
        self.book.get(node).map(|known| known.source)
    }
}

impl Node {
    // --- the shell ---

    /// What this node says of itself: where it listens, whether others may pass it on, and its key in
    /// the directory. News is told to neighbours, and to the shell by [`Event::OwnRecord`].
    pub fn set_own(&mut self, own: Own, now: Instant) {
        if self.finding.own != own {
            self.finding.own = own;
            self.sign_own(now);
        }
        self.pump(now);
    }

    /// This node's own record, as signed last.
    pub fn own_record(&self) -> Option<Vec<u8>> {
        self.finding.record.as_ref().map(NodeRecord::to_bytes)
    }

    /// A record came from the local network or the directory.
    ///
    /// # Errors
    /// Why it is of no use; it is counted.
    pub fn handle_record(&mut self, bytes: &[u8], source: Source, now: Instant) -> Result<NodeId, Refusal> {
        let result = self.take_record(bytes, source, now);
        self.pump(now);
        result
    }

    /// A record that an earlier run left, and when its node was reached last.
    pub fn handle_remembered(&mut self, bytes: &[u8], proven: UnixMicros, now: Instant) {
        match record::check(bytes, Clockwork::Lenient) {
            Ok(checked) if checked.node != self.identity.node_id() => {
                self.finding.book.remember(checked, proven, now);
                self.finding.peering.hurry(now);
            }
            Ok(_) => {}
            Err(refusal) => self.finding.refusals.count(refusal),
        }
        self.pump(now);
    }

    /// Other limits for automatic links.
    pub fn set_peering(&mut self, config: PeeringConfig, now: Instant) {
        self.finding.peering.set_config(config, now);
        self.pump(now);
    }

    /// What is known of others, for people.
    pub fn finding(&self) -> FindingStatus {
        let mut known: BTreeMap<_, usize> = BTreeMap::new();
        for (_, one) in self.finding.book.iter() {
            *known.entry(one.source.as_str()).or_default() += 1;
        }
        FindingStatus {
            target: self.finding.peering.config().target,
            chosen: self.finding.peering.chosen(),
            known: known.into_iter().collect(),
            proven: self.finding.book.iter().filter(|(_, one)| one.proven.is_some()).count(),
            refused: self.finding.refusals,
            places: self.finding.own.places.clone(),
            shared: self.finding.own.pass_on,
        }
    }

    // --- records ---

    fn unix(&self, now: Instant) -> UnixMicros {
        self.unix.0.saturating_add(now.since(self.unix.1).as_micros() as u64)
    }

    fn take_record(&mut self, bytes: &[u8], source: Source, now: Instant) -> Result<NodeId, Refusal> {
        let clock = match source {
            Source::Lan => Clockwork::Lenient,
            _ => Clockwork::Strict(self.unix(now)),
        };
        let own = self.identity.node_id();
        let taken = record::check(bytes, clock).and_then(|checked| {
            let Checked { node, .. } = checked;
            if node != own && self.finding.book.note(checked, source, &mut self.finding.rng, now)? {
                self.finding.peering.hurry(now);
            }
            Ok(node)
        });
        match taken {
            Ok(node) => self.try_places(node, now),
            Err(refusal) => self.finding.refusals.count(refusal),
        }
        taken
    }

    /// A peer of the operator's that is not reached where the operator said, may be where it says itself.
    fn try_places(&mut self, node: NodeId, now: Instant) {
        if self.is_configured(&node) && !self.links.contains_key(&node) && self.dialler.wants_more(&node) {
            self.dial_places(node, now);
        }
    }

    /// Whether a place that somebody else named may be dialled (protocol A10.4).
    fn fit(&self) -> impl Fn(SocketAddr) -> bool + use<> {
        let own = self.direct.own();
        move |addr| punch::fit(addr, &own, false).is_ok()
    }

    fn dial_places(&mut self, node: NodeId, now: Instant) {
        let fit = self.fit();
        let cost = self.dialler.cost(&node);
        let places: Vec<_> =
            self.finding.book.places(&node).iter().filter(|place| fit(place.addr)).cloned().collect();
        for Place { addr, carriers: via } in places {
            let uri = PeerUri { node, host: addr.ip().to_string(), port: addr.port(), via, path: None };
            self.dialler.add(PeerConfig { uri, cost }, now);
        }
        self.dialler.advance(now);
    }

    /// Signs what this node says of itself anew, and tells everybody.
    fn sign_own(&mut self, now: Instant) {
        let finding = &mut self.finding;
        let unix = self.unix.0.saturating_add(now.since(self.unix.1).as_micros() as u64);
        // A clock that was set back must not make what we say now older than what we said.
        let after = finding.record.as_ref().map_or(0, |last| last.seq + 1);
        let record = finding.own.sign(&self.identity, unix.max(after));
        let bytes = record.to_bytes();
        finding.record = Some(record);
        self.emit(Event::OwnRecord { record: bytes.clone() });
        let told: Vec<_> =
            self.links.iter().filter(|(_, link)| link.routing).map(|(peer, _)| *peer).collect();
        for peer in told {
            self.send_request(peer, &Request::Records(vec![bytes.clone()]), now);
        }
    }

    fn send_request(&mut self, peer: NodeId, request: &Request, now: Instant) {
        let mut message = Vec::new();
        request.emit(&mut message);
        if self.sessions.send(peer, StreamClass::Requests, &message, now).is_err() {
            self.drops.count(DropReason::BadControl);
        }
    }

    // --- neighbours ---

    /// Whether the operator has named a peer, and not this node found it.
    pub(crate) fn is_configured(&self, peer: &NodeId) -> bool {
        self.dialler.contains(peer) && !self.finding.automatic.contains(peer)
    }

    /// Who tells, and whom of ours we ask: neighbours that this node dialled. Those that came by
    /// themselves may be anybody's thousand faces.
    fn is_teller(&self, peer: &NodeId) -> bool {
        self.dialler.contains(peer) && self.links.get(peer).is_some_and(|link| link.routing)
    }

    /// Whether a peer that has become ready to be a neighbour is one too many (protocol A12.6).
    pub(crate) fn turns_away(&self, peer: &NodeId) -> bool {
        let Some(link) = self.links.get(peer).filter(|link| !link.routing) else { return false };
        !self.is_configured(peer) && self.finding.peering.turns_away(peer, link.path.remote.ip())
    }

    pub(crate) fn finding_neighbour_up(&mut self, peer: NodeId, now: Instant) {
        if !self.finding.is_on() {
            return;
        }
        let Some(link) = self.links.get(&peer) else { return };
        let lan = self.finding.source(&peer) == Some(Source::Lan);
        let (remote, configured) = (link.path.remote.ip(), self.is_configured(&peer));
        self.finding.peering.link_up(peer, remote, lan, configured, now);
        if let Some(record) = self.own_record() {
            self.send_request(peer, &Request::Records(vec![record]), now);
        }
        if self.is_teller(&peer) {
            self.send_request(peer, &Request::RecordsAsk { count: ANSWER as u8 }, now);
        }
    }

    pub(crate) fn finding_neighbour_down(&mut self, peer: NodeId, now: Instant) {
        self.finding.heard.remove(&peer);
        if let Some(order) = self.finding.peering.link_down(&peer, &mut self.finding.book, now) {
            self.obey(order, now);
        }
    }

    /// A neighbour asks whom we know. It gets those that agree to it and that this node has a link with,
    /// or had.
    pub(crate) fn on_records_ask(&mut self, peer: NodeId, count: u8, now: Instant) {
        let neighbour = self.links.get(&peer).is_some_and(|link| link.routing);
        if !neighbour || !self.finding.answered.allow(peer.address(), now) {
            return self.drops.count(DropReason::RateLimited);
        }
        let unix = self.unix(now);
        let Self { links, finding, .. } = self;
        let able = |node: &NodeId, known: &Known| {
            let met = known.proven.is_some() || links.get(node).is_some_and(|link| link.routing);
            *node != peer && met && known.record.pass_on && known.record.expires > unix
        };
        let count = usize::from(count).min(ANSWER);
        let chosen = finding.book.choose(count, able, &mut finding.rng);
        let records: Vec<_> = chosen.into_iter().map(NodeRecord::to_bytes).collect();
        if !records.is_empty() {
            self.send_request(peer, &Request::Records(records), now);
        }
    }

    pub(crate) fn on_records(&mut self, peer: NodeId, records: &[Vec<u8>], now: Instant) {
        if !self.finding.is_on() {
            return;
        }
        let teller = self.is_teller(&peer);
        for bytes in records {
            let budget = self.finding.heard.entry(peer).or_insert_with(|| Budget::new(HEARD.0, HEARD.1, now));
            if !budget.try_take(now) {
                return self.drops.count(DropReason::RateLimited);
            }
            let of_itself = NodeRecord::parse(bytes).is_ok_and(|record| record.node == *peer.as_bytes());
            let source = match (of_itself, teller) {
                (true, false) => Source::Caller,
                (_, true) => Source::Exchange(peer),
                // Of others we hear only from those that we asked.
                (false, false) => {
                    self.finding.refusals.count(Refusal::Misplaced);
                    continue;
                }
            };
            // Refusals are counted where they are found.
            let _ = self.take_record(bytes, source, now);
        }
    }

    /// Nobody answers what goes over relays to `peer`: the next hop may swallow it. After a second one of the
    /// same network, all that are there are doubted: an attacker has many names and few networks. Where
    /// the peer's own messages do arrive, over `ingress`, answers had better go back that way. Neighbours of the
    /// operator's choice are not doubted, nor anybody where links are not found by the node itself: a network
    /// that fails looks the same, and doubts are no help against it.
    pub(crate) fn on_unanswered(&mut self, peer: &NodeId, ingress: Option<NodeId>, now: Instant) {
        if !self.finding.is_on() {
            return;
        }
        let addr = peer.address();
        let Some(hop) = self.router.next_hop(&addr).filter(|hop| hop != peer) else { return };
        let group = |node: &NodeId| self.links.get(node).map(|link| Group::of(link.path.remote.ip()));
        let others = || self.links.keys().filter(|node| *node != peer && **node != hop);
        let crowd = || others().filter(|node| group(node) == group(&hop));
        let again = crowd().any(|one| self.router.is_doubted(&addr, one));
        let mut doubted = vec![hop];
        match ingress {
            Some(ingress) if ingress == hop => return,
            Some(ingress) => doubted.extend(others().filter(|node| **node != ingress)),
            None if again => doubted.extend(crowd()),
            None => {}
        }
        doubted.retain(|node| !self.is_configured(node));
        if !doubted.is_empty() {
            self.router.doubt(&addr, &doubted, ingress, now);
            self.apply_routes(now);
        }
    }

    // --- time ---

    /// Does what is due.
    pub(crate) fn tend_finding(&mut self, now: Instant) {
        if self.finding.poll_timeout().is_none_or(|at| at > now) {
            return;
        }
        self.renew_own(now);
        self.measure_neighbours(now);
        self.ask_neighbour(now);
        self.look_up_missing(now);
        let unix = self.unix(now);
        self.finding.book.expire(unix);
        let (fit, own) = (self.fit(), self.identity.node_id());
        let Self { finding, listed, barred, dialler, .. } = self;
        let (automatic, listed_only) = (&finding.automatic, finding.listed_only);
        let eligible = |node: &NodeId| {
            let ours = !dialler.contains(node) || automatic.contains(node);
            ours && !barred.contains_key(node) && (!listed_only || listed.contains(node))
        };
        let view = View { own, fit: &fit, eligible: &eligible };
        let orders = finding.peering.handle_timeout(&mut finding.book, &view, now);
        orders.into_iter().for_each(|order| self.obey(order, now));
    }

    fn renew_own(&mut self, now: Instant) {
        let half = LIFE.as_micros() as u64 / 2;
        let unix = self.unix(now);
        if self.finding.record.as_ref().is_some_and(|record| record.seq.saturating_add(half) < unix) {
            self.sign_own(now);
        }
    }

    /// How good the links are; those that deserve it are remembered. The first nodes of a small mesh are
    /// dialled by all others and dial nobody, so a few that came by themselves are remembered too: so few
    /// that they cannot be all that a node comes back with, once it has reached anybody itself.
    fn measure_neighbours(&mut self, now: Instant) {
        let unix = self.unix(now);
        let lately = |known: &Known| known.proven.is_some_and(|at| at + LATELY.as_micros() as u64 > unix);
        let proven = self.finding.book.iter().filter(|(_, known)| lately(known)).count();
        let mut callers = (self.finding.peering.config().target / 2).saturating_sub(proven);
        let mut good = Vec::new();
        for (peer, link) in self.links.iter().filter(|(_, link)| link.routing) {
            let lossy = link.quality.loss_permille() > LOSSY;
            self.finding.peering.measured(peer, link.quality.srtt(), lossy);
            let Some(known) = self.finding.book.get(peer) else { continue };
            let there = known.record.places.iter().any(|place| place.addr == link.path.remote);
            let due = known.proven.is_none_or(|last| last + REMEMBER_EVERY.as_micros() as u64 <= unix);
            if !there || !due || now.since(link.since) < GOOD {
                continue;
            }
            if !self.dialler.contains(peer) && known.proven.is_none() {
                let Some(left) = callers.checked_sub(1) else { continue };
                callers = left;
            }
            good.push((*peer, known.record.to_bytes()));
        }
        for (peer, record) in good {
            self.finding.book.succeeded(&peer, unix);
            self.emit(Event::Remember { node: peer, record, proven: unix });
        }
    }

    fn ask_neighbour(&mut self, now: Instant) {
        if self.finding.ask > now {
            return;
        }
        let PeeringConfig { target, .. } = self.finding.peering.config();
        let missing = self.links.values().filter(|link| link.routing).count() < target;
        let pause = if missing { ASK.0 } else { ASK.1 };
        self.finding.ask =
            now + pause + Duration::from_micros(self.finding.rng.below(pause.as_micros() as u64 / 4));
        let tellers: Vec<_> = self.links.keys().filter(|peer| self.is_teller(peer)).copied().collect();
        let chosen = self.finding.rng.below(tellers.len() as u64) as usize;
        if let Some(&peer) = tellers.get(chosen) {
            self.send_request(peer, &Request::RecordsAsk { count: ANSWER as u8 }, now);
        }
    }

    /// Configured peers that are not reached where they should be.
    fn look_up_missing(&mut self, now: Instant) {
        let missing = |peer: &&NodeId| {
            let tried = now.since(self.started) > ASK.0;
            tried && !self.links.contains_key(*peer) && !self.finding.automatic.contains(*peer)
        };
        let missing: Vec<_> = self.dialler.peers().filter(missing).copied().collect();
        for peer in missing {
            self.look_up(peer, now);
        }
    }

    /// Asks the shell's directory where a node is.
    pub(crate) fn look_up(&mut self, node: NodeId, now: Instant) {
        if self.finding.is_on() && self.finding.looked_up.allow(node.address(), now) {
            self.emit(Event::LookUp { node });
        }
    }

    fn obey(&mut self, order: Order, now: Instant) {
        match order {
            Order::Dial(node) => {
                self.finding.automatic.insert(node);
                self.dial_places(node, now);
            }
            Order::Undial(node) => {
                if self.finding.automatic.remove(&node) {
                    self.dialler.remove(&node);
                }
            }
            Order::Drop(node) => self.sessions.close(node, now),
        }
    }
}
