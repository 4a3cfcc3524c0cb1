//! A node we have a session with, and what is agreed with it for each network.
//!
//! Nothing here is a queue of messages: what a peer is owed are *sets* (documents to push, ids to ask
//! for, buckets to list), and a message is composed when the stream has room for it. So however fast
//! things change, memory is bounded by the documents there are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use sha2::{Digest, Sha256};
use sinew_types::{Budget, Instant, NetworkId};
use sinew_wire::request::{Bind, Request};
use sinew_wire::sync::BlindTag;

use crate::document::DocumentId;
use crate::memory::Memory;

/// Most requests that wait for room in the stream. Each is the answer to one of the peer's, or one of a
/// handful of our own, so a peer that does not read cannot make it longer.
const REQUESTS_MAX: usize = 256;
/// Ids that a peer is known to have.
const KNOWN_MAX: usize = 4096;

/// How far our own handle has come with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ours {
    /// Not announced.
    None,
    /// Announced; asked again then.
    Asked(Instant),
    /// Understood there.
    Agreed,
    /// Not understood there; announced again then.
    Refused(Instant),
}

/// One network with one peer.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) tag: BlindTag,
    /// The handle that the peer uses, once agreed.
    pub(crate) handle: Option<u32>,
    /// Its BIND, while it cannot be granted.
    pub(crate) asks: Option<Bind>,
    pub(crate) ours: Ours,
    /// Pauses between attempts.
    pub(crate) pause: Duration,
    /// The HEAD that the peer last said it holds.
    pub(crate) head: Option<(u16, u64)>,
    /// Documents to send, the urgent ones first.
    pub(crate) push: BTreeSet<(u8, DocumentId)>,
    /// Documents to ask for.
    pub(crate) want: BTreeSet<DocumentId>,
    /// Buckets to list.
    pub(crate) inventory: u64,
    /// Where the listing goes on.
    pub(crate) told_up_to: DocumentId,
    /// Whether to send a summary, and not before when.
    pub(crate) summary: Option<Instant>,
    pub(crate) knows: Memory,
    pub(crate) documents: Budget,
    pub(crate) urgent: Budget,
    pub(crate) inventories: Budget,
    pub(crate) summaries: Budget,
}

impl Link {
    fn new(tag: BlindTag, now: Instant) -> Self {
        Self {
            tag,
            handle: None,
            asks: None,
            ours: Ours::None,
            pause: Duration::from_millis(500),
            head: None,
            push: BTreeSet::new(),
            want: BTreeSet::new(),
            inventory: 0,
            told_up_to: [0; 32],
            summary: None,
            knows: Memory::new(KNOWN_MAX),
            documents: Budget::new(1000, 4000, now),
            urgent: Budget::new(200, 1000, now),
            inventories: Budget::new(20, 256, now),
            summaries: Budget::new(2, 16, now),
        }
    }

    /// Whether both sides agreed on something.
    pub(crate) fn is_bound(&self) -> bool {
        self.handle.is_some() || self.ours == Ours::Agreed
    }

    /// The next pause before our handle is announced again, up to half a minute.
    pub(crate) fn next_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(Duration::from_secs(30));
        pause
    }

    /// Whether there is something to send on class 1.
    pub(crate) fn owes(&self, now: Instant) -> bool {
        let summary = self.summary.is_some_and(|at| at <= now);
        summary || self.inventory != 0 || !self.want.is_empty() || !self.push.is_empty()
    }
}

/// A session's other end.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) binding: [u8; 32],
    pub(crate) tags: BTreeMap<BlindTag, NetworkId>,
    pub(crate) links: BTreeMap<NetworkId, Link>,
    pub(crate) requests: VecDeque<Request>,
    pub(crate) redeems: Budget,
    pub(crate) binds: Budget,
}

impl Peer {
    pub(crate) fn new(binding: [u8; 32], now: Instant) -> Self {
        Self {
            binding,
            tags: BTreeMap::new(),
            links: BTreeMap::new(),
            requests: VecDeque::new(),
            redeems: Budget::new(1, 5, now),
            binds: Budget::new(20, 200, now),
        }
    }

    /// Prepares for a network.
    pub(crate) fn add(&mut self, network: NetworkId, now: Instant) {
        let tag = blind_tag(&network, &self.binding);
        self.tags.insert(tag, network);
        self.links.entry(network).or_insert_with(|| Link::new(tag, now));
    }

    /// Forgets a network.
    pub(crate) fn drop_network(&mut self, network: &NetworkId) -> Option<Link> {
        let link = self.links.remove(network)?;
        self.tags.remove(&link.tag);
        Some(link)
    }

    pub(crate) fn request(&mut self, request: Request) {
        if self.requests.len() < REQUESTS_MAX {
            self.requests.push_back(request);
        }
    }
}

/// Names a network to who knows it, within one association (protocol A7.7).
pub(crate) fn blind_tag(network: &NetworkId, binding: &[u8; 32]) -> BlindTag {
    let hash: [u8; 32] = Sha256::new()
        .chain_update(b"sinew/bind/v1\0")
        .chain_update(network.as_bytes())
        .chain_update(binding)
        .finalize()
        .into();
    let mut tag = [0; 16];
    tag.copy_from_slice(&hash[..16]);
    tag
}
