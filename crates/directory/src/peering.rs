//! Which of the known nodes to link with, so that nobody has to list peers.
//!
//! ```text
//!              room, and a candidate            a link
//!   (idle) ───────────────────────▶ dialling ─────────▶ linked ──── fell silent ──▶ dialling
//!      ▲                               │ nothing answered  │ worse than a trial, or too many
//!      └───────────────────────────────┴───────────────────┘
//! ```
//! Links of a node's own choice are what an attacker cannot take from it, so links that others opened
//! fill at most half of the places. Of candidates those win whose network and whose teller have the
//! fewest links already, then those that were good before. What works is kept: only every ten
//! minutes one new node is tried beside the others, and takes the place of the slowest if it is clearly
//! nearer. One half of the places is for near nodes, the other stays with whoever has it, near or far, so
//! that islands of neighbours do not close themselves off. Links on local networks have places of their own.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sinew_types::{Instant, NodeId, Rng};

use crate::book::{Book, Known, Source};

/// How often the state is looked at: in need, and at rest.
const LOOK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));
/// Dialled at the same time.
const AT_ONCE: usize = 4;
/// How long an answer may take; a peer behind several carriers is through with all of them by then.
const PATIENCE: Duration = Duration::from_secs(10);
/// A link of ours that falls silent is dialled for so long before another takes its place.
const GRACE: Duration = Duration::from_secs(20);
/// A link that lived less was ended by a peer that does not want it.
const WANTED: Duration = Duration::from_secs(10);
/// Between two trials of somebody new when all places are taken, and how long each lasts.
const REVIEW: Duration = Duration::from_secs(600);
const TRIAL: Duration = Duration::from_secs(60);
/// On a local network the one with the lower key dials first, and the other if nothing comes of it.
const POLITE: Duration = Duration::from_millis(700);

/// How many links, and of what kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeeringConfig {
    /// Links to keep, and as many again on local networks; 0 = only configured ones.
    pub target: usize,
    /// Links at most, those that others opened included; these are refused beyond it.
    pub max: usize,
    /// This node carries nothing for others, so that no other such node is of use to it.
    pub stub: bool,
}

impl PeeringConfig {
    /// No links but those that are configured or come in, however many.
    pub const OFF: Self = Self { target: 0, max: usize::MAX, stub: false };
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// Dial it at the places that it names.
    Dial(NodeId),
    /// Do not dial it any more.
    Undial(NodeId),
    /// End the link.
    Drop(NodeId),
}

/// What the machine has to know of the node around it, at each look.
pub struct View<'a> {
    /// This node.
    pub own: NodeId,
    /// Whether a place may be dialled from here.
    pub fit: &'a dyn Fn(SocketAddr) -> bool,
    /// Whether a node may be a neighbour at all.
    pub eligible: &'a dyn Fn(&NodeId) -> bool,
}

/// Addresses that are likely to be one party's: an IPv4 /16, an IPv6 /48.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group(u64);

impl Group {
    /// The group of an address.
    pub fn of(ip: IpAddr) -> Self {
        Self(match ip {
            IpAddr::V4(v4) => u64::from(v4.to_bits() >> 16),
            IpAddr::V6(v6) => (v6.to_bits() >> 80) as u64 | 1 << 63,
        })
    }
}

#[derive(Clone, Copy, Debug)]
struct Link {
    group: Group,
    since: Instant,
    /// Chosen by this machine, by the operator, or not by this node.
    origin: Origin,
    lan: bool,
    rtt: Option<Duration>,
    lossy: bool,
}

/// Who wanted a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This machine.
    Chosen,
    /// The configuration.
    Configured,
    /// The other side.
    Theirs,
}

#[derive(Clone, Copy, Debug)]
struct Attempt {
    until: Instant,
    lan: bool,
    group: Group,
}

/// The machine.
#[derive(Debug)]
pub struct Peering {
    config: PeeringConfig,
    links: BTreeMap<NodeId, Link>,
    attempts: BTreeMap<NodeId, Attempt>,
    /// Somebody new beside the others, until when.
    trial: Option<(NodeId, Instant)>,
    review: Instant,
    look: Instant,
    rng: Rng,
}

impl Peering {
    /// A node without links.
    pub fn new(config: PeeringConfig, rng: Rng, now: Instant) -> Self {
        let (links, attempts) = (BTreeMap::new(), BTreeMap::new());
        Self { config, links, attempts, trial: None, review: now + REVIEW, look: now, rng }
    }

    /// Other limits, from the next look on.
    pub const fn set_config(&mut self, config: PeeringConfig, now: Instant) {
        self.config = config;
        self.look = now;
    }

    /// The limits.
    pub const fn config(&self) -> PeeringConfig {
        self.config
    }

    /// When [`Peering::handle_timeout`] has something to do.
    pub const fn poll_timeout(&self) -> Option<Instant> {
        if self.config.target == 0 && self.config.max == usize::MAX { None } else { Some(self.look) }
    }

    /// Something was heard, or has changed: look soon.
    pub fn hurry(&mut self, now: Instant) {
        self.look = self.look.min(now + Duration::from_millis(20));
    }

    /// Whether this machine wants, or has, a link to `node`.
    pub fn wants(&self, node: &NodeId) -> bool {
        self.attempts.contains_key(node)
            || self.links.get(node).is_some_and(|link| link.origin == Origin::Chosen)
    }

    /// Whether a caller who has just come would be the first to go. He never becomes a neighbour then:
    /// every coming and going of one is told to the whole mesh, and names cost nothing.
    pub fn turns_away(&self, node: &NodeId, remote: IpAddr) -> bool {
        if self.links.len() < self.config.max || self.links.contains_key(node) || self.wants(node) {
            return false;
        }
        let own = Group::of(remote);
        self.links.values().all(|link| self.callers_of(link.group) <= self.callers_of(own) + 1)
    }

    fn callers_of(&self, group: Group) -> usize {
        self.links.values().filter(|link| link.origin == Origin::Theirs && link.group == group).count()
    }

    /// A link stands. `lan`: on a network that this host is on.
    pub fn link_up(&mut self, node: NodeId, remote: IpAddr, lan: bool, configured: bool, now: Instant) {
        let chosen = self.attempts.remove(&node).is_some();
        let origin = match (configured, chosen) {
            (true, _) => Origin::Configured,
            (_, true) => Origin::Chosen,
            _ => Origin::Theirs,
        };
        // The same link over a better path is as old as it was.
        let known = self.links.get(&node).map(|link| (link.since, link.origin));
        let (since, origin) = known.unwrap_or((now, origin));
        let link = Link { group: Group::of(remote), since, origin, lan, rtt: None, lossy: false };
        self.links.insert(node, link);
        self.hurry(now);
    }

    /// A link is gone; the order that follows, if any.
    pub fn link_down(&mut self, node: &NodeId, book: &mut Book, now: Instant) -> Option<Order> {
        let link = self.links.remove(node)?;
        self.hurry(now);
        if link.origin != Origin::Chosen {
            return None;
        }
        if now.since(link.since) < WANTED {
            book.failed(node, true, &mut self.rng, now);
            return Some(Order::Undial(*node));
        }
        let attempt = Attempt { until: now + GRACE, lan: link.lan, group: link.group };
        self.attempts.insert(*node, attempt);
        None
    }

    /// What was measured of a link.
    pub fn measured(&mut self, node: &NodeId, rtt: Option<Duration>, lossy: bool) {
        if let Some(link) = self.links.get_mut(node) {
            (link.rtt, link.lossy) = (rtt, lossy);
        }
    }

    /// Links that stand and are of this machine's choice.
    pub fn chosen(&self) -> usize {
        self.links.values().filter(|link| link.origin == Origin::Chosen).count()
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, book: &mut Book, view: &View<'_>, now: Instant) -> Vec<Order> {
        if self.look > now {
            return Vec::new();
        }
        let mut orders = Vec::new();
        self.give_up(book, now, &mut orders);
        self.end_trial(now, &mut orders);
        self.refuse(&mut orders);
        let lan = self.fill(true, book, view, now, &mut orders);
        let wide = self.fill(false, book, view, now, &mut orders);
        if !wide {
            self.begin_trial(book, view, now, &mut orders);
        }
        let rest = if lan || wide || !self.attempts.is_empty() { LOOK.0 } else { LOOK.1 };
        self.look = now + rest + Duration::from_micros(self.rng.below(rest.as_micros() as u64 / 4));
        orders
    }

    fn give_up(&mut self, book: &mut Book, now: Instant, orders: &mut Vec<Order>) {
        let late: Vec<_> = self.attempts.iter().filter(|(_, a)| a.until <= now).map(|(n, _)| *n).collect();
        for node in late {
            self.attempts.remove(&node);
            book.failed(&node, false, &mut self.rng, now);
            orders.push(Order::Undial(node));
        }
    }

    /// Of those that others opened, the newest of whoever has the most goes first: nobody who has many
    /// addresses of one network crowds out all others.
    fn refuse(&mut self, orders: &mut Vec<Order>) {
        while self.links.len() > self.config.max {
            let theirs = self.links.iter().filter(|(_, link)| link.origin == Origin::Theirs);
            let newest = theirs.max_by_key(|(_, link)| (self.callers_of(link.group), link.since));
            let Some((&node, _)) = newest else { return };
            self.links.remove(&node);
            orders.push(Order::Drop(node));
        }
    }

    /// How many links are missing.
    fn missing(&self, lan: bool) -> usize {
        let of = |origin| move |link: &&Link| link.lan == lan && link.origin == origin;
        let count = |origin| self.links.values().filter(of(origin)).count();
        let dialled = self.attempts.values().filter(|attempt| attempt.lan == lan).count();
        let own = count(Origin::Chosen) + count(Origin::Configured) + dialled;
        let theirs = count(Origin::Theirs);
        let theirs = if lan { theirs } else { theirs.min(self.config.target / 2) };
        self.config.target.saturating_sub(own + theirs)
    }

    /// Dials whom it takes to have all links; whether some are missing and there is somebody to dial, now
    /// or soon.
    fn fill(
        &mut self,
        lan: bool,
        book: &Book,
        view: &View<'_>,
        now: Instant,
        orders: &mut Vec<Order>,
    ) -> bool {
        let missing = self.missing(lan);
        for _ in 0..missing.min(AT_ONCE.saturating_sub(self.attempts.len())) {
            let Some(node) = self.best(lan, book, view, now) else { break };
            self.dial(node, lan, book, view, now, orders);
        }
        let soon = now + LOOK.1;
        missing > 0
            && book.iter().any(|(node, known)| self.may(node, known, lan, view) && known.after <= soon)
    }

    fn dial(
        &mut self,
        node: NodeId,
        lan: bool,
        book: &Book,
        view: &View<'_>,
        now: Instant,
        orders: &mut Vec<Order>,
    ) {
        let Some(group) = book.get(&node).and_then(|known| group_of(known, view)) else { return };
        self.attempts.insert(node, Attempt { until: now + PATIENCE, lan, group });
        orders.push(Order::Dial(node));
    }

    fn may(&self, node: &NodeId, known: &Known, lan: bool, view: &View<'_>) -> bool {
        (known.source == Source::Lan) == lan
            && *node != view.own
            && !(self.config.stub && known.record.stub)
            // A stub looks for routers; if both did, it would have more than it can use.
            && (!known.record.stub || lan)
            && !self.links.contains_key(node)
            && !self.attempts.contains_key(node)
            && (view.eligible)(node)
            && group_of(known, view).is_some()
    }

    fn best(&mut self, lan: bool, book: &Book, view: &View<'_>, now: Instant) -> Option<NodeId> {
        let waits = |node: &NodeId, known: &Known| {
            let polite = lan && view.own > *node && known.failures == 0;
            known.after + if polite { POLITE } else { Duration::ZERO } > now
        };
        let able: Vec<_> = book
            .iter()
            .filter(|(node, known)| self.may(node, known, lan, view) && !waits(node, known))
            .map(|(node, known)| (*node, self.weight(known, book, view)))
            .collect();
        let chance = |rng: &mut Rng| rng.below(40);
        let weighed: Vec<_> = able.into_iter().map(|(node, w)| (w + chance(&mut self.rng), node)).collect();
        weighed.into_iter().min().map(|(_, node)| node)
    }

    /// The less the better.
    fn weight(&self, known: &Known, book: &Book, view: &View<'_>) -> u64 {
        let group = group_of(known, view);
        let links = self.links.values().map(|link| link.group);
        let groups = links.chain(self.attempts.values().map(|attempt| attempt.group));
        let crowd = groups.filter(|one| Some(*one) == group).count() as u64;
        let told = self.links.keys().chain(self.attempts.keys());
        let told = told.filter_map(|node| book.get(node)).filter(|one| one.source == known.source);
        let fresh = if known.proven.is_some() { 0 } else { 80 };
        100 * crowd + 30 * told.count() as u64 + fresh + 20 * u64::from(known.failures)
    }

    // --- slowly for the better ---

    fn begin_trial(&mut self, book: &Book, view: &View<'_>, now: Instant, orders: &mut Vec<Order>) {
        if self.review > now || self.trial.is_some() || self.config.target == 0 || self.missing(false) > 0 {
            return;
        }
        self.review = now + REVIEW + Duration::from_micros(self.rng.below(REVIEW.as_micros() as u64 / 4));
        if let Some(node) = self.best(false, book, view, now) {
            self.trial = Some((node, now + TRIAL));
            self.dial(node, false, book, view, now, orders);
        }
    }

    /// The new one takes the place of the worst, or goes itself.
    fn end_trial(&mut self, now: Instant, orders: &mut Vec<Order>) {
        let Some((tried, _)) = self.trial.filter(|(_, until)| *until <= now) else { return };
        self.trial = None;
        let Some(new) = self.links.get(&tried).copied() else { return };
        if self.missing(false) > 0 || new.origin != Origin::Chosen {
            return;
        }
        let gone = self.worst(&tried, &new).unwrap_or(tried);
        self.links.remove(&gone);
        orders.extend([Order::Undial(gone), Order::Drop(gone)]);
    }

    /// Whose place `new` should have, if anybody's.
    fn worst(&self, tried: &NodeId, new: &Link) -> Option<NodeId> {
        let own =
            |(node, link): &(&NodeId, &Link)| *node != tried && link.origin == Origin::Chosen && !link.lan;
        let mut own: Vec<_> = self.links.iter().filter(own).collect();
        if let Some((node, _)) = own.iter().find(|(_, link)| link.lossy && !new.lossy) {
            return Some(**node);
        }
        let crowd = |group: Group| own.iter().filter(|(_, link)| link.group == group).count();
        let crowded = own.iter().max_by_key(|(_, link)| (crowd(link.group), link.since));
        if let Some((node, link)) = crowded
            && crowd(link.group) >= crowd(new.group) + 2
        {
            return Some(**node);
        }
        // The far half is not looked at: by age, the oldest keep their places.
        own.sort_by_key(|(_, link)| std::cmp::Reverse(link.since));
        own.truncate(self.config.target.div_ceil(2));
        let (node, slowest) = own.into_iter().max_by_key(|(_, link)| link.rtt)?;
        let better = new.rtt.zip(slowest.rtt).is_some_and(|(new, old)| new * 4 < old * 3);
        better.then_some(*node)
    }
}

/// The group of the first place that may be dialled.
fn group_of(known: &Known, view: &View<'_>) -> Option<Group> {
    let place = known.record.places.iter().find(|place| (view.fit)(place.addr))?;
    Some(Group::of(place.addr.ip()))
}

#[cfg(test)]
mod tests;
