//! Scattered knocks: the search for a path to or from a place whose ports nobody can know (protocol A10.8).
//!
//! ```text
//!   the side with one place (Tries)                    the side with many ports (Opens)
//!   round: four knocks, nothing
//!   Asking    witnesses: is the peer at its address?
//!   Agreeing  ── SCATTER 0 ports ──────────────────▶   Asking   witnesses: is the peer at its address?
//!   Working   ◀────────────────── SCATTER 256 ports ── Working  opens ports, knocks from each
//!             tries ports at random ─ ─ ─ ─ ─ ─ ─ ─▶            one is hit: a source like any other
//!   found, or Ending                                   Ending   closes all but the port that was hit
//! ```
//! One search runs at a time in a node, whoever wants it. What may be searched, and how much is sent,
//! is in `sinew_path::scatter`. Sockets are the shell's: it is asked by events, and names those it
//! has opened by their numbers in paths.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sinew_path::scatter::{self, Searched, Side};
use sinew_types::{Budget, CarrierKind, DropReason, Instant, NodeId, PathAddr};
use sinew_wire::request::Request;

use crate::event::Event;
use crate::node::Node;

/// Knocks of a round that go unanswered before more is tried: the fourth is sent after 0.7 s.
pub(super) const AFTER: usize = 4;
/// Both sides may have met at different ports at first: what was opened stays for a moment.
const LINGER: Duration = Duration::from_secs(2);
/// Witnesses asked at most.
const MAX_ASKED: usize = 8;
/// Questions to us as a witness: so many a second, so many at once, all neighbours together.
const ANSWERS: (u64, u64) = (10, 20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Neighbours are asked for the peer's address.
    Asking,
    /// The peer is asked to open ports.
    Agreeing,
    /// Ports are opened, or tried.
    Working,
    /// All is sent; what comes of it is waited for.
    Ending,
}

/// The search under way.
#[derive(Debug)]
struct Search {
    peer: NodeId,
    round: u32,
    side: Side,
    /// The peer's place, or where its ports are.
    target: SocketAddr,
    step: Step,
    /// When the step goes on, or is given up.
    due: Instant,
    /// When the whole search is given up, once it works.
    end: Instant,
    /// Names the question to the witnesses.
    question: u32,
    /// Who has not answered it.
    asked: Vec<NodeId>,
    /// How many see the peer there.
    witnesses: usize,
    /// Ports tried, or asked for.
    done: u32,
    /// Sockets that are open for it.
    opened: Vec<u32>,
}

/// What a node knows of scattered knocks.
#[derive(Debug)]
pub(super) struct Scatter {
    search: Option<Search>,
    searched: Searched,
    /// Sockets that a path was found with, and whose.
    kept: BTreeMap<u32, NodeId>,
    /// What we answer as a witness.
    answers: Budget,
}

impl Scatter {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            search: None,
            searched: Searched::default(),
            kept: BTreeMap::new(),
            answers: Budget::new(ANSWERS.0, ANSWERS.1, now),
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.search.as_ref().map(|search| search.due)
    }

    /// Whether the search under way is for `peer`.
    pub(super) fn is_for(&self, peer: &NodeId) -> bool {
        self.search.as_ref().is_some_and(|search| search.peer == *peer)
    }
}

impl Node {
    /// The sockets asked for by [`Event::OpenSockets`], by their numbers in paths; none: there are no more.
    pub fn handle_opened(&mut self, locals: &[u32], now: Instant) {
        let working = |search: &&mut Search| search.side == Side::Opens && search.step == Step::Working;
        let Some(search) = self.direct.scatter.search.as_mut().filter(working) else {
            return self.close_sockets(locals.to_vec());
        };
        let first = search.opened.is_empty();
        search.opened.extend_from_slice(locals);
        if locals.is_empty() {
            search.done = scatter::PORTS.into();
        }
        let (peer, round, remote) = (search.peer, search.round, search.target);
        let path = |&local: &u32| PathAddr { carrier: CarrierKind::Udp, local, remote };
        let paths: Vec<_> = locals.iter().map(path).collect();
        self.sessions.knock(peer, &paths, now);
        // The rest is open before more than a few ports have been tried.
        if first && !locals.is_empty() {
            self.tell(peer, &Request::Scatter { round, ports: scatter::PORTS }, now);
        }
        self.pump(now);
    }

    fn close_sockets(&mut self, locals: Vec<u32>) {
        if !locals.is_empty() {
            self.emit(Event::CloseSockets { locals });
        }
    }

    // --- agreeing on a search ---

    /// Begins a search by asking those who should see the peer. The peer's own word counts for nothing
    /// here: it may name anybody's address (protocol A10.4).
    pub(super) fn begin_search(
        &mut self,
        peer: NodeId,
        round: u32,
        (side, target): (Side, SocketAddr),
        now: Instant,
    ) {
        let scatter = &self.direct.scatter;
        if scatter.search.is_some() || !scatter.searched.allows(target.ip(), now) {
            return;
        }
        let asked = self.witnesses(&peer, target.ip());
        if asked.len() < scatter::WITNESSES {
            return;
        }
        let question = self.direct.rng.u32();
        let ask = Request::Witness { id: question, node: *peer.as_bytes(), ip: target.ip() };
        asked.iter().for_each(|witness| self.tell(*witness, &ask, now));
        let due = now + scatter::PATIENCE;
        self.direct.scatter.search = Some(Search {
            peer,
            round,
            side,
            target,
            step: Step::Asking,
            due,
            end: due,
            question,
            asked,
            witnesses: 0,
            done: 0,
            opened: Vec::new(),
        });
    }

    /// Neighbours that we chose ourselves, each at another address, and none at the one in question. Others
    /// could be the peer's own, made for this.
    fn witnesses(&self, peer: &NodeId, ip: IpAddr) -> Vec<NodeId> {
        let mut found: BTreeMap<IpAddr, NodeId> = BTreeMap::new();
        for (node, link) in &self.links {
            let at = link.path.remote.ip();
            if self.is_configured(node) && node != peer && link.path.carrier == CarrierKind::Udp && at != ip {
                found.entry(at).or_insert(*node);
            }
        }
        found.into_values().take(MAX_ASKED).collect()
    }

    /// A neighbour asks whether we see somebody at an address. It learns no more than it knew: that is why
    /// the address is in the question and not in the answer.
    pub(crate) fn on_witness(&mut self, peer: NodeId, id: u32, node: &[u8; 32], ip: IpAddr, now: Instant) {
        if !self.links.contains_key(&peer) {
            return self.drops.count(DropReason::BadControl);
        }
        if !self.direct.scatter.answers.try_take(now) {
            return self.drops.count(DropReason::RateLimited);
        }
        let link = NodeId::parse(node).ok().and_then(|node| self.links.get(&node));
        let seen =
            link.is_some_and(|link| link.path.carrier == CarrierKind::Udp && link.path.remote.ip() == ip);
        self.tell(peer, &Request::WitnessReply { id, seen }, now);
    }

    pub(crate) fn on_witness_reply(&mut self, peer: NodeId, id: u32, seen: bool, now: Instant) {
        // Answers that come late are nobody's fault.
        let Some(search) = self.direct.scatter.search.as_mut() else { return };
        let Some(at) = search.asked.iter().position(|asked| *asked == peer) else { return };
        if search.question != id || search.step != Step::Asking {
            return;
        }
        search.asked.swap_remove(at);
        search.witnesses += usize::from(seen);
        if search.witnesses >= scatter::WITNESSES {
            self.on_witnessed(now);
        }
    }

    /// The peer is where it says.
    fn on_witnessed(&mut self, now: Instant) {
        let Scatter { search: current, searched, .. } = &mut self.direct.scatter;
        let Some(search) = current else { return };
        if !searched.begin(search.target.ip(), now) {
            *current = None;
            return;
        }
        match search.side {
            Side::Tries => {
                (search.step, search.due) = (Step::Agreeing, now + scatter::PATIENCE);
                let (peer, round) = (search.peer, search.round);
                self.tell(peer, &Request::Scatter { round, ports: 0 }, now);
            }
            Side::Opens => self.begin_work(now),
        }
    }

    pub(crate) fn on_scatter(&mut self, peer: NodeId, round: u32, ports: u16, now: Instant) {
        if ports == 0 {
            let apart = !self.links.contains_key(&peer);
            let pair = self.direct.pairs.get(&peer).filter(|_| apart);
            let ours = pair.and_then(|pair| pair.round.as_ref()).filter(|ours| ours.id == round);
            if let Some(plan) = ours.and_then(|ours| ours.plan).filter(|(side, _)| *side == Side::Opens) {
                self.begin_search(peer, round, plan, now);
            }
            return;
        }
        let agreed = self.direct.scatter.search.as_ref().is_some_and(|search| {
            search.peer == peer && search.round == round && search.step == Step::Agreeing
        });
        if agreed {
            self.begin_work(now);
        }
    }

    // --- the search ---

    fn begin_work(&mut self, now: Instant) {
        if let Some(search) = &mut self.direct.scatter.search {
            (search.step, search.due, search.end) = (Step::Working, now, now + scatter::OPEN_FOR);
            self.step_search(now);
        }
    }

    pub(super) fn step_search(&mut self, now: Instant) {
        let Some(search) = self.direct.scatter.search.as_mut().filter(|search| search.due <= now) else {
            return;
        };
        match (search.step, search.side) {
            (Step::Working, Side::Tries) if search.done < scatter::KNOCKS => {
                (search.done, search.due) = (search.done + scatter::KNOCKED, now + scatter::KNOCK_EVERY);
                let (peer, ip) = (search.peer, search.target.ip());
                self.try_ports(peer, ip, now);
            }
            (Step::Working, Side::Opens) if search.done < scatter::PORTS.into() => {
                search.done += u32::from(scatter::OPENED);
                search.due = now + scatter::OPEN_EVERY;
                self.emit(Event::OpenSockets { count: scatter::OPENED });
            }
            (Step::Working, _) if search.end > now => (search.step, search.due) = (Step::Ending, search.end),
            _ => self.end_search(now),
        }
    }

    fn try_ports(&mut self, peer: NodeId, ip: IpAddr, now: Instant) {
        let Some(local) = self.uplinks.first(ip.is_ipv6()) else { return };
        let rng = &mut self.direct.rng;
        let path = |_| {
            let remote = SocketAddr::new(ip, scatter::port(rng));
            PathAddr { carrier: CarrierKind::Udp, local, remote }
        };
        let paths: Vec<_> = (0..scatter::KNOCKED).map(path).collect();
        self.sessions.knock(peer, &paths, now);
    }

    /// A path carries the pair: nothing is tried any more.
    pub(super) fn on_search_linked(&mut self, peer: &NodeId, path: PathAddr, now: Instant) {
        let Scatter { search: current, searched, .. } = &mut self.direct.scatter;
        let Some(search) = current.as_mut().filter(|search| search.peer == *peer) else { return };
        if path.remote.ip() == search.target.ip() {
            searched.proved(path.remote.ip());
        }
        if search.opened.is_empty() {
            *current = None;
        } else if search.step != Step::Ending {
            (search.step, search.due) = (Step::Ending, now + LINGER);
        }
    }

    /// Ends the search; sockets that a path goes through stay.
    fn end_search(&mut self, now: Instant) {
        let Some(search) = self.direct.scatter.search.take() else { return };
        let linked = self.links.contains_key(&search.peer);
        let info = self.sessions.info(&search.peer, now).filter(|_| linked);
        let paths = info.map(|info| info.paths).unwrap_or_default();
        let used = |local: &u32| paths.iter().any(|known| known.validated && known.path.local == *local);
        let (kept, closed): (Vec<_>, Vec<_>) = search.opened.into_iter().partition(used);
        self.direct.scatter.kept.extend(kept.into_iter().map(|local| (local, search.peer)));
        self.close_sockets(closed);
    }

    /// The pair has no path any more. A search that goes on is left alone, unless the peer is `gone`.
    pub(super) fn on_search_unlinked(&mut self, peer: &NodeId, gone: bool, now: Instant) {
        let scatter = &mut self.direct.scatter;
        let closed: Vec<_> =
            scatter.kept.iter().filter(|(_, of)| *of == peer).map(|(&local, _)| local).collect();
        scatter.kept.retain(|_, of| of != peer);
        self.close_sockets(closed);
        if gone && self.direct.scatter.search.as_ref().is_some_and(|search| search.peer == *peer) {
            self.end_search(now);
        }
    }
}
