//! What a run is drawn from, and what is drawn.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use sinew_types::{Class, Instant, Rng};

use crate::fault::{self, Fault, Faults};
use crate::finding::Finding;
use crate::liar::Lie;
use crate::link::{Direction, Link};
use crate::nat::Realms;
use crate::topology::{Edge, Topology};

/// A run in four words; everything else follows from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// The seed.
    pub seed: u64,
    /// Hosts.
    pub nodes: usize,
    /// Links.
    pub topology: Topology,
    /// What goes wrong.
    pub faults: Faults,
}

/// When late links come up.
const JOIN_AT: Instant = Instant::from_micros(10_000_000);
/// When the first fault may happen.
const FAULTS_FROM: Instant = Instant::from_micros(3_000_000);
/// Underlay MTUs: half of all links are Ethernet.
const MTUS: [usize; 8] = [1280, 1344, 1420, 1452, 1500, 1500, 1500, 9000];

/// A network drawn from [`Params`], or put together by a test.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Seeds everything that the plan leaves open.
    pub seed: [u8; 32],
    /// Hosts.
    pub nodes: usize,
    /// Class of each host.
    pub classes: Vec<Class>,
    /// The links.
    pub links: Vec<Link>,
    /// Numbers of the links that are dialled as streams.
    pub streams: BTreeSet<usize>,
    /// What goes wrong, and when.
    pub faults: Vec<(Instant, Fault)>,
    /// Hosts that lie to their neighbours.
    pub liars: BTreeMap<usize, Lie>,
    /// By then every fault is mended.
    pub faults_end: Instant,
    /// Translators, where there are any: then hosts look for direct paths.
    pub realms: Option<Realms>,
    /// Who finds whom, where links are not peers.
    pub finding: Option<Finding>,
    /// The higher end keeps each link, rather than one that is drawn.
    pub dialled_from_high_end: bool,
}

impl Params {
    /// How long faults go on.
    fn safety_phase(&self) -> Duration {
        match self.nodes {
            0..=50 => Duration::from_secs(60),
            51..=200 => Duration::from_secs(30),
            _ => Duration::from_secs(15),
        }
    }

    /// The seed as the core's generator takes it.
    pub fn rng(&self) -> Rng {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.seed.to_le_bytes());
        Rng::new(seed)
    }

    /// Draws the network.
    pub fn plan(&self) -> Plan {
        let mut rng = self.rng();
        let edges = self.topology.edges(self.nodes, &mut rng.fork());
        let noisy = self.faults.noisy();
        let mut draw = rng.fork();
        let links: Vec<_> = edges.iter().map(|edge| link(edge, noisy, &mut draw)).collect();
        let streams = (0..links.len()).filter(|_| noisy && draw.below(10) == 0).collect();
        let faults_end = Instant::ZERO + self.safety_phase();
        let span = (FAULTS_FROM, faults_end);
        let mut faults = fault::draw(self.faults, self.nodes, &edges, span, &mut rng.fork());
        let late = edges.iter().enumerate().filter(|(_, edge)| edge.late);
        faults.extend(late.map(|(link, _)| (JOIN_AT, Fault::LinkUp(link))));
        faults.sort_by_key(|&(at, _)| at);
        let classes = classes(self.nodes, &edges, noisy, &mut draw);
        let liars = BTreeMap::new();
        Plan {
            seed: rng.array(),
            nodes: self.nodes,
            classes,
            links,
            streams,
            faults,
            liars,
            faults_end,
            realms: None,
            finding: None,
            dialled_from_high_end: false,
        }
    }
}

impl Plan {
    /// A clean network in which hosts are behind translators.
    pub fn behind(seed: u64, edges: &[Edge], realms: Realms) -> Self {
        let clean = Self::clean(seed, realms.hosts.len(), edges, realms.latency);
        Self { realms: Some(realms), ..clean }
    }

    /// A clean network: every link with this latency, all hosts routers, no faults.
    pub fn clean(seed: u64, nodes: usize, edges: &[Edge], latency: Duration) -> Self {
        let latency_us = latency.as_micros() as u64;
        let links = edges.iter().map(|edge| {
            let mut link = Link::new([edge.a, edge.b], [Direction::clean(latency_us); 2], 1500, true);
            link.up = !edge.late;
            link
        });
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Self {
            seed: bytes,
            nodes,
            classes: vec![Class::Router; nodes],
            links: links.collect(),
            streams: BTreeSet::new(),
            faults: Vec::new(),
            liars: BTreeMap::new(),
            faults_end: Instant::ZERO,
            realms: None,
            finding: None,
            dialled_from_high_end: false,
        }
    }
}

/// Latency 1 to 20 ms each way; noise is up to 2 % of loss, and sometimes all of it is none.
fn link(edge: &Edge, noisy: bool, rng: &mut Rng) -> Link {
    let mut direction = Direction::clean(1_000 + rng.below(19_000));
    if noisy {
        direction.jitter_us = rng.below(direction.latency_us);
        direction.loss = rng.below(3) * rng.below(10_000);
        direction.reorder = rng.below(2) * rng.below(10_000);
        direction.duplicate = rng.below(2) * rng.below(10_000);
    }
    let mtu = if noisy { MTUS[rng.below(MTUS.len() as u64) as usize] } else { 1500 };
    let mut link = Link::new([edge.a, edge.b], [direction; 2], mtu, rng.below(2) == 0);
    link.up = !edge.late;
    link
}

/// In noisy networks a third of the hosts with one link are stubs: they carry nothing for others.
fn classes(nodes: usize, edges: &[Edge], noisy: bool, rng: &mut Rng) -> Vec<Class> {
    let mut degrees = vec![0; nodes];
    for edge in edges {
        degrees[edge.a] += 1;
        degrees[edge.b] += 1;
    }
    let mut classes = vec![Class::Router; nodes];
    for edge in edges.iter().filter(|edge| noisy && !edge.late) {
        for (leaf, hub) in [(edge.a, edge.b), (edge.b, edge.a)] {
            if degrees[leaf] == 1 && degrees[hub] > 1 && rng.below(3) == 0 {
                classes[leaf] = Class::Stub;
            }
        }
    }
    classes
}

impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, nodes, topology, faults } = self;
        write!(f, "--seed {seed} --nodes {nodes} --topology {topology} --faults {faults}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARAMS: Params =
        Params { seed: 7, nodes: 30, topology: Topology::Random { degree: 3 }, faults: Faults::All };

    #[test]
    fn the_same_words_draw_the_same_plan() {
        assert_eq!(format!("{:?}", PARAMS.plan()), format!("{:?}", PARAMS.plan()));
        let other = Params { seed: 8, ..PARAMS };
        assert_ne!(format!("{:?}", PARAMS.plan()), format!("{:?}", other.plan()));
    }

    #[test]
    fn late_links_come_up_and_stubs_are_leaves() {
        let plan = Params { topology: Topology::Islands, ..PARAMS }.plan();
        let late: Vec<_> = plan.links.iter().enumerate().filter(|(_, link)| !link.up).collect();
        assert_eq!(late.len(), 1);
        assert!(plan.faults.contains(&(JOIN_AT, Fault::LinkUp(late[0].0))));
        let star = Params { topology: Topology::Star, ..PARAMS }.plan();
        assert_eq!(star.classes[0], Class::Router);
        assert!(star.classes.contains(&Class::Stub));
    }
}
