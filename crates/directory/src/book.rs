//! The nodes that this one has heard of: a bounded number, by where it heard of them.
//!
//! Anybody can make identities by the thousand and tell of them. So every source has room of its own,
//! and one neighbour can use only a small part of the neighbours' room: whoever fills his share pushes out
//! what he said himself, never what somebody else said. What this node has itself reached
//! (`proven`) has room that nobody can fill by talking: what came by itself is among it a few times a week at most.

use std::collections::BTreeMap;
use std::time::Duration;

use sinew_types::{Instant, NodeId, Rng, UnixMicros};
use sinew_wire::directory::{NodeRecord, Place};

use crate::peering::Group;
use crate::record::{Checked, Refusal};

/// Where a node was heard of first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// It speaks on a network that this host is on.
    Lan,
    /// This node linked with it in an earlier run.
    Remembered,
    /// A neighbour of this node's choice told of it.
    Exchange(NodeId),
    /// It linked with this node, and said so itself.
    Caller,
    /// The directory.
    Directory,
}

impl Source {
    /// The word for people and programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lan => "lan",
            Self::Remembered => "remembered",
            Self::Exchange(_) => "exchange",
            Self::Caller => "caller",
            Self::Directory => "directory",
        }
    }

    /// Most nodes known from it: from one teller, and from all tellers of its kind.
    const fn room(self) -> (usize, usize) {
        match self {
            Self::Lan => (64, 64),
            Self::Remembered => (REMEMBERED_MAX, REMEMBERED_MAX),
            Self::Exchange(_) => (16, 128),
            Self::Directory | Self::Caller => (64, 64),
        }
    }
}

/// Most nodes that are remembered over a restart.
pub const REMEMBERED_MAX: usize = 64;

/// Pauses after failures: first and longest. On a local network trying costs nothing.
const PAUSE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(3600));
const PAUSE_LAN: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(60));

/// What is known of one node.
#[derive(Clone, Debug)]
pub struct Known {
    /// Where it was heard of.
    pub source: Source,
    /// What it says of itself.
    pub record: NodeRecord,
    /// When this node last had a link to it that it had dialled, or that is remembered though the other had; it survives
    /// restarts.
    pub proven: Option<UnixMicros>,
    /// Tries since that came to nothing.
    pub failures: u32,
    /// Not dialled before.
    pub after: Instant,
    heard: Instant,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Book(BTreeMap<NodeId, Known>);

impl Book {
    /// Takes what is said of a node. Whether it is news: another record than the one that was known.
    ///
    /// # Errors
    /// [`Refusal::Older`]: what is known is newer, or says something else under the same number.
    pub fn note(
        &mut self,
        checked: Checked,
        source: Source,
        rng: &mut Rng,
        now: Instant,
    ) -> Result<bool, Refusal> {
        let Checked { node, record } = checked;
        if let Some(known) = self.0.get_mut(&node) {
            if record.seq < known.record.seq || record.seq == known.record.seq && record != known.record {
                return Err(Refusal::Older);
            }
            known.heard = now;
            // Nearer is better known: what speaks on the local network is there.
            if source == Source::Lan {
                known.source = source;
            }
            let moved = known.record.places != record.places;
            if moved {
                (known.failures, known.after) = (0, now);
            }
            let news = known.record.seq != record.seq;
            known.record = record;
            return Ok(news);
        }
        self.make_room(source, rng);
        let known = Known { source, record, proven: None, failures: 0, after: now, heard: now };
        self.0.insert(node, known);
        Ok(true)
    }

    /// Takes what an earlier run had proven. Its record may have expired: an outage can last.
    pub fn remember(&mut self, checked: Checked, proven: UnixMicros, now: Instant) {
        let of_us = self.0.values().filter(|known| known.source == Source::Remembered).count();
        if of_us < REMEMBERED_MAX {
            let (node, record, source) = (checked.node, checked.record, Source::Remembered);
            let known = Known { source, record, proven: Some(proven), failures: 0, after: now, heard: now };
            self.0.entry(node).or_insert(known);
        }
    }

    fn make_room(&mut self, source: Source, rng: &mut Rng) {
        let (one, all) = source.room();
        let same = |known: &Known| known.source.as_str() == source.as_str();
        // What is proven does not count: nobody got it in by talking alone.
        let loose = |known: &Known| known.proven.is_none();
        let of_one: Vec<_> = self.nodes(|known| known.source == source && loose(known));
        let of_all: Vec<_> = self.nodes(|known| same(known) && loose(known));
        let full = match (of_one.len() >= one, of_all.len() >= all) {
            (true, _) => of_one,
            (false, true) => of_all,
            (false, false) => return,
        };
        // By chance, so that no order of telling keeps or removes a certain one.
        if let Some(gone) = full.get(rng.below(full.len() as u64) as usize) {
            self.0.remove(gone);
        }
    }

    fn nodes(&self, which: impl Fn(&Known) -> bool) -> Vec<NodeId> {
        self.0.iter().filter(|(_, known)| which(known)).map(|(node, _)| *node).collect()
    }

    /// What is known of `node`.
    pub fn get(&self, node: &NodeId) -> Option<&Known> {
        self.0.get(node)
    }

    /// Every node.
    pub fn iter(&self) -> impl Iterator<Item = (&NodeId, &Known)> {
        self.0.iter()
    }

    /// How many nodes are known.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where `node` says it may be reached.
    pub fn places(&self, node: &NodeId) -> &[Place] {
        self.0.get(node).map_or(&[], |known| &known.record.places)
    }

    /// A link worth remembering stands: at `unix`, by our own clock.
    pub fn succeeded(&mut self, node: &NodeId, unix: UnixMicros) {
        if let Some(known) = self.0.get_mut(node) {
            (known.proven, known.failures) = (Some(unix), 0);
        }
    }

    /// A try came to nothing, or the other did not want us: `refused` asks for the longest pause.
    pub fn failed(&mut self, node: &NodeId, refused: bool, rng: &mut Rng, now: Instant) {
        let Some(known) = self.0.get_mut(node) else { return };
        let (first, longest) = if known.source == Source::Lan { PAUSE_LAN } else { PAUSE };
        let pause = (first * 2u32.saturating_pow(known.failures.min(16))).min(longest);
        let pause = if refused { longest / 4 } else { pause };
        known.failures += 1;
        known.after = now + pause + Duration::from_micros(rng.below(pause.as_micros() as u64 / 4 + 1));
        // What was never reached, and said by others only, need not be kept for ever.
        if known.failures > 5 && known.proven.is_none() && known.source != Source::Lan {
            self.0.remove(node);
        }
    }

    /// At most `count` records to give to somebody who asks: of `able` nodes, each network's turn in the
    /// same measure, however many nodes it has.
    pub fn choose(
        &self,
        count: usize,
        able: impl Fn(&NodeId, &Known) -> bool,
        rng: &mut Rng,
    ) -> Vec<&NodeRecord> {
        let mut groups: BTreeMap<Option<Group>, Vec<&NodeRecord>> = BTreeMap::new();
        for (_, known) in self.0.iter().filter(|(node, known)| able(node, known)) {
            let group = known.record.places.first().map(|place| Group::of(place.addr.ip()));
            groups.entry(group).or_default().push(&known.record);
        }
        let mut chosen = Vec::new();
        while chosen.len() < count && !groups.is_empty() {
            let turn = rng.below(groups.len() as u64) as usize;
            let Some((&group, records)) = groups.iter_mut().nth(turn) else { break };
            chosen.push(records.swap_remove(rng.below(records.len() as u64) as usize));
            if records.is_empty() {
                groups.remove(&group);
            }
        }
        chosen
    }

    /// Forgets what is void by `unix`, and was not proven.
    pub fn expire(&mut self, unix: UnixMicros) {
        self.0.retain(|_, known| {
            known.proven.is_some() || known.source == Source::Lan || known.record.expires > unix
        });
    }
}

#[cfg(test)]
mod tests;
