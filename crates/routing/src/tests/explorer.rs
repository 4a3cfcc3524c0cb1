//! A random explorer over the real router (routing-model D11): everything that may happen at any
//! instant happens at some instant, and after each step the checkers look at every destination.
//!
//! `SINEW_ROUTING_RUNS=100000` explores longer; `SINEW_ROUTING_SEED=7` replays one schedule.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sinew_types::{Rank, Rng};

use crate::config::Significance;
use crate::rules::Rule;
use crate::tests::world::{Breach, World};
use crate::verifier::{SharedMemo, Verifier};

/// Links of a topology: node, node, cost.
type Links = &'static [(usize, usize, u16)];

/// The topologies of routing-model §3; node 0 is one origin among all.
const TRI: (usize, Links) = (3, &[(0, 1, 1), (1, 2, 1), (0, 2, 3)]);
const TAIL: (usize, Links) = (4, &[(0, 1, 1), (1, 2, 1), (2, 3, 1), (1, 3, 3)]);
const RING: (usize, Links) = (4, &[(0, 1, 1), (1, 2, 1), (2, 3, 1), (3, 0, 1)]);
const K4: (usize, Links) = (4, &[(0, 1, 1), (0, 2, 2), (0, 3, 3), (1, 2, 1), (2, 3, 1), (1, 3, 2)]);
const K5: (usize, Links) =
    (5, &[(0, 1, 2), (0, 2, 3), (0, 3, 1), (1, 2, 1), (1, 3, 2), (1, 4, 1), (2, 3, 1), (2, 4, 2), (3, 4, 1)]);

/// What may happen in a run.
#[derive(Clone, Copy, Debug)]
struct Plan {
    topology: (usize, Links),
    steps: u64,
    evictions: bool,
    restarts: bool,
    rule: Option<Rule>,
    breach: Option<Breach>,
    significance: Significance,
}

const PLAN: Plan = Plan {
    topology: K4,
    steps: 250,
    evictions: true,
    restarts: true,
    rule: None,
    breach: None,
    significance: Significance::EXACT,
};

/// A packet on its way, with what it has seen.
struct Packet {
    dest: usize,
    at: usize,
    watermark: Option<Rank>,
    /// Towards `at` over this wire and incarnation, or arrived.
    over: Option<(usize, u64)>,
    seen: BTreeSet<(usize, u64, u16)>,
}

struct Run {
    world: World,
    rng: Rng,
    plan: Plan,
    packets: Vec<Packet>,
}

impl Run {
    fn new(seed: u64, plan: Plan, memo: &Arc<SharedMemo>) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let (nodes, links) = plan.topology;
        let verifier: Arc<dyn Verifier> = Arc::clone(memo) as _;
        let mut world = World::with_memo(nodes, links, verifier);
        world.significance = plan.significance;
        world.floor = 1 + (seed % 3) as u16;
        if let Some(rule) = plan.rule {
            world.without(rule);
        }
        world.breach = plan.breach;
        for node in 0..nodes {
            world.restart(node, 0);
        }
        let mut run = Self { world, rng: Rng::new(key), plan, packets: Vec::new() };
        if run.rng.below(4) > 0 {
            run.world.open_all();
            run.world.run_for(Duration::from_secs(1));
        }
        run
    }

    fn pick(&mut self, bound: usize) -> usize {
        self.rng.below(bound as u64) as usize
    }

    fn end(&mut self) -> (usize, usize) {
        (self.pick(self.world.wires.len()), self.pick(2))
    }

    /// One thing happens.
    fn step(&mut self) -> Result<(), String> {
        let (wire, end) = self.end();
        let nodes = self.world.routers.len();
        match self.rng.below(100) {
            0..26 => drop(self.world.send(wire, end)),
            26..56 => drop(self.world.deliver(wire, end)),
            56..62 => drop(self.world.process_late(wire, end)),
            62..72 => drop(self.world.deliver_ack(wire, end)),
            72..76 => drop(self.world.notice(wire, end)),
            76..80 => self.disturb_link(wire, end),
            80..83 => {
                let cost = 1 + self.pick(5) as u16;
                self.world.set_cost(wire, end, cost);
            }
            83..86 if self.plan.evictions => {
                let (node, dest) = (self.pick(nodes), self.pick(nodes));
                self.world.evict(node, dest);
            }
            86..89 if self.plan.evictions => {
                let (node, dest) = (self.pick(nodes), self.pick(nodes));
                self.world.admit(node, dest);
            }
            89 if self.plan.restarts && self.rng.below(2) == 0 => {
                let (node, back) = (self.pick(nodes), self.pick(2) as u64 * 60_000_000);
                self.world.restart(node, back);
            }
            90..95 => self.let_time_pass(),
            _ => return self.move_packet(),
        }
        Ok(())
    }

    fn disturb_link(&mut self, wire: usize, end: usize) {
        if self.world.wires[wire].ends[end].up.is_some() {
            let lose = self.rng.below(2) == 0;
            self.world.close(wire, end, lose);
            if self.rng.below(3) == 0 {
                self.world.open(wire, end);
            }
        } else {
            self.world.open(wire, end);
        }
    }

    fn let_time_pass(&mut self) {
        let ms = [1, 51, 310, 1_100, 10_100, 15_100][self.pick(6)];
        self.world.pass(Duration::from_millis(ms));
        for node in 0..self.world.routers.len() {
            if self.rng.below(3) > 0 {
                self.world.tick(node);
            }
        }
    }

    /// A packet starts, or one on the way makes a step.
    fn move_packet(&mut self) -> Result<(), String> {
        if self.packets.len() < 4 {
            let nodes = self.world.routers.len();
            let (dest, at) = (self.pick(nodes), self.pick(nodes));
            self.packets.push(Packet { dest, at, watermark: None, over: None, seen: BTreeSet::new() });
        }
        let index = self.pick(self.packets.len());
        let packet = self.packets.swap_remove(index);
        if let Some(packet) = advance(&self.world, packet)? {
            self.packets.push(packet);
        }
        Ok(())
    }

    /// Events stop, most dead links come back; then the rest conditions must hold.
    fn rest(&mut self) -> Result<(), String> {
        for wire in 0..self.world.wires.len() {
            for end in 0..2 {
                if !self.world.wires[wire].live() && self.world.wires[wire].ends[end].up.is_some() {
                    self.world.close(wire, end, true);
                }
            }
            if !self.world.wires[wire].live() && self.rng.below(10) < 7 {
                let end = self.pick(2);
                self.world.open(wire, end);
            }
        }
        for _ in 0..200 {
            let (wire, end) = self.end();
            match self.rng.below(4) {
                0 => drop(self.world.send(wire, end)),
                1 => drop(self.world.deliver(wire, end)),
                2 => drop(self.world.process_late(wire, end)),
                _ => drop(self.world.deliver_ack(wire, end)),
            }
            self.world.check()?;
        }
        self.world.run_for(Duration::from_secs(150));
        self.world.check()?;
        self.world.check_rest()?;
        self.check_delivery()
    }

    /// Once all is quiet a packet passes every watermark.
    fn check_delivery(&self) -> Result<(), String> {
        for dest in 0..self.world.ids.len() {
            for at in 0..self.world.ids.len() {
                let mut packet = Packet { dest, at, watermark: None, over: None, seen: BTreeSet::new() };
                if self.world.live_next_hop(at, dest).is_none() {
                    continue;
                }
                while packet.at != dest || packet.over.is_some() {
                    packet = advance(&self.world, packet)?.ok_or("at rest a watermark drops a packet")?;
                }
            }
        }
        Ok(())
    }

    fn play(&mut self) -> Result<(), String> {
        for _ in 0..self.rng.below(self.plan.steps) + 20 {
            self.step()?;
            self.world.check()?;
        }
        self.rest()
    }
}

/// One step of a packet: accepted by the node it was sent to, or sent on. `None` when it is gone.
fn advance(world: &World, mut packet: Packet) -> Result<Option<Packet>, String> {
    if let Some((wire, incarnation)) = packet.over.take() {
        let ends = &world.wires[wire].ends;
        let mine = ends.iter().find(|end| end.node == packet.at).and_then(|end| end.up);
        // Keys of another incarnation are refused (D1).
        return Ok((mine == Some(incarnation)).then_some(packet));
    }
    if packet.at == packet.dest {
        return Ok(None);
    }
    let (Some(next), Some(fd)) = (world.next_hop(packet.at, packet.dest), world.fd(packet.at, packet.dest))
    else {
        return Ok(None);
    };
    if packet.watermark.is_some_and(|mark| !fd.better_than(mark)) {
        return Ok(None);
    }
    // D9: a packet may meet a node again, but never at the same feasibility distance.
    if !packet.seen.insert((packet.at, fd.seqno.value(), fd.metric.units())) {
        return Err(format!("D9: a packet for {} is twice at {} with {fd:?}", packet.dest, packet.at));
    }
    let (wire, end) = world.wire_between(packet.at, next);
    let Some(incarnation) = world.wires[wire].ends[end].up else { return Ok(None) };
    (packet.watermark, packet.over, packet.at) = (Some(fd), Some((wire, incarnation)), next);
    Ok(Some(packet))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Plays `runs` schedules; the first violation, with the seed that shows it again.
fn explore(plan: Plan, runs: u64) -> Result<(), (u64, String, Vec<String>)> {
    let memo = Arc::new(SharedMemo::default());
    let runs = number("SINEW_ROUTING_RUNS").unwrap_or(runs);
    let seeds = number("SINEW_ROUTING_SEED").map_or(0..runs, |seed| seed..seed + 1);
    for seed in seeds {
        let mut run = Run::new(seed, plan, &memo);
        if let Err(what) = run.play() {
            run.world.dump();
            return Err((seed, what, run.world.trace));
        }
    }
    Ok(())
}

fn must_hold(plan: Plan, runs: u64) {
    if let Err((seed, what, trace)) = explore(plan, runs) {
        let tail = trace.len().saturating_sub(150);
        panic!("{what}\nSINEW_ROUTING_SEED={seed} {plan:?}\n{}", trace[tail..].join("\n"));
    }
}

/// Some schedule shows the violation `what` stands for.
fn must_be_noticed(plan: Plan, what: &str, runs: u64) {
    let memo = Arc::new(SharedMemo::default());
    let shows = |seed| Run::new(seed, plan, &memo).play().is_err_and(|found| found.contains(what));
    assert!((0..runs).any(shows), "{runs} runs never showed {what}: {plan:?}");
}

#[test]
fn every_rule_in_force_nothing_loops_and_everything_heals() {
    for topology in [TRI, TAIL, RING, K4, K5] {
        must_hold(Plan { topology, ..PLAN }, 150);
    }
}

#[test]
fn damped_metrics_loop_no_more_than_exact_ones() {
    for topology in [TAIL, K5] {
        must_hold(Plan { topology, significance: Significance::DAMPED, ..PLAN }, 150);
    }
}

#[test]
fn equal_is_not_better_and_the_checker_knows() {
    must_be_noticed(Plan { topology: TAIL, rule: Some(Rule::StrictFeasibility), ..PLAN }, "S1", 2000);
}

#[test]
fn eviction_without_a_tombstone_is_noticed() {
    must_be_noticed(Plan { topology: TAIL, rule: Some(Rule::Tombstone), ..PLAN }, "S1", 2000);
}

#[test]
fn a_flag_in_place_of_a_position_is_noticed() {
    must_be_noticed(Plan { topology: TAIL, rule: Some(Rule::AckIsPosition), ..PLAN }, "S2", 4000);
}

#[test]
fn an_adjacency_that_keeps_its_former_state_is_noticed() {
    must_be_noticed(Plan { topology: TAIL, rule: Some(Rule::FreshIncarnation), ..PLAN }, "S2", 2000);
}

#[test]
fn not_asking_for_better_routes_is_noticed() {
    must_be_noticed(Plan { topology: K5, rule: Some(Rule::AskForBetter), ..PLAN }, "at rest", 1000);
}

#[test]
fn confirming_a_frame_before_it_is_processed_is_noticed() {
    must_be_noticed(Plan { topology: TAIL, breach: Some(Breach::AckOnReceipt), ..PLAN }, "S2", 4000);
}

#[test]
fn a_restart_that_keeps_its_adjacencies_is_noticed() {
    must_be_noticed(Plan { topology: TAIL, breach: Some(Breach::RestartKeepsLinks), ..PLAN }, "S2", 2000);
}

/// The highest metric an island cut off from node 0 believes in before it gives up.
fn climb(seed: u64, rule: Option<Rule>, memo: &Arc<SharedMemo>) -> u16 {
    let links: Links = &[(0, 1, 1), (1, 2, 1), (2, 3, 1), (3, 4, 1), (4, 1, 1), (1, 3, 2), (2, 4, 2)];
    let plan = Plan { topology: (5, links), rule, ..PLAN };
    let mut run = Run::new(seed, plan, memo);
    run.world.open_all();
    run.world.run_for(Duration::from_secs(1));
    run.world.close(0, 0, true);
    run.world.close(0, 1, true);
    let mut highest = 0;
    for _ in 0..3_000 {
        let (wire, end) = run.end();
        match run.rng.below(10) {
            0..4 => drop(run.world.send(wire, end)),
            4..7 => drop(run.world.deliver(wire, end)),
            7..9 => drop(run.world.deliver_ack(wire, end)),
            _ => {
                run.world.pass(Duration::from_millis(3));
                (0..5).for_each(|node| run.world.tick(node));
            }
        }
        assert_eq!(run.world.check(), Ok(()));
        highest = (1..5).filter_map(|node| run.world.metric(node, 0)).fold(highest, u16::max);
    }
    highest
}

#[test]
fn an_island_counts_up_only_without_the_silence_before_forgetting() {
    let memo = Arc::new(SharedMemo::default());
    let highest = |rule| (0..30).map(|seed| climb(seed, rule, &memo)).max();
    let (with, without) = (highest(None), highest(Some(Rule::SilenceBeforeForgetting)));
    assert!(with <= Some(8), "with the rule {with:?}, without {without:?}");
    assert!(without >= Some(14), "with the rule {with:?}, without {without:?}");
}

/// The shortest trace of routing-model §4 for a forgetful eviction. At rest 1 → 0, 2 → 1, 3 → 2.
fn eviction_race(rule: Option<Rule>) -> Result<(), String> {
    let (nodes, links) = TAIL;
    let mut world = World::new(nodes, links);
    if let Some(rule) = rule {
        world.without(rule);
    }
    world.open_all();
    world.run_for(Duration::from_secs(1));
    world.check_rest()?;
    // 0 leaves 1; 1 evicts it, its retractions to 2 and 3 are on the way.
    world.close(0, 0, true);
    world.evict(1, 0);
    world.close(0, 1, true);
    world.send(1, 0);
    world.send(3, 0);
    // 2 hears of it and tells 3, who falls back to 1: 1's own word is not there yet.
    world.deliver(1, 0);
    world.send(2, 0);
    world.deliver(2, 0);
    assert_eq!(world.next_hop(3, 0), Some(1));
    // 1 wants 0 again and knows only what 3 said when all was well.
    world.admit(1, 0);
    world.check()
}

#[test]
fn an_evicted_origin_taken_back_at_once_makes_no_loop() {
    assert_eq!(eviction_race(None), Ok(()));
    let broken = eviction_race(Some(Rule::Tombstone));
    assert!(broken.as_ref().is_err_and(|what| what.contains("S1")), "{broken:?}");
}
