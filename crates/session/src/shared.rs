//! What all associations share: who we are, randomness, the clock's last value, and the outputs.

use std::collections::{BTreeSet, VecDeque};

use sinew_noise::HandshakeMac;
use sinew_noise::mac::psk_id;
use sinew_types::{Class, Instant, NodeId, Rng, UnixMicros};
use zeroize::Zeroizing;

use crate::config::Config;
use crate::event::{Event, To};
use crate::indexes::Indexes;
use crate::keys::KeyTable;

/// Most mesh secrets that are looked at: one, and another while it is rotated (protocol A2).
const MAX_SECRETS: usize = 2;

/// A mesh secret and what follows from it for messages to us.
pub(crate) struct Secret {
    pub(crate) psk: Zeroizing<[u8; 32]>,
    pub(crate) id: u32,
    /// Verifies what is sent to us.
    pub(crate) to_us: HandshakeMac,
}

/// A datagram ready to go.
#[derive(Debug)]
pub(crate) struct Datagram {
    pub(crate) peer: Option<NodeId>,
    pub(crate) to: To,
    pub(crate) bytes: Vec<u8>,
}

/// Shared by all associations; the machine hands it to whichever one is at work.
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) own: NodeId,
    pub(crate) secrets: Vec<Secret>,
    pub(crate) rng: Rng,
    pub(crate) now: Instant,
    unix: (UnixMicros, Instant),
    pub(crate) keys: KeyTable,
    pub(crate) indexes: Indexes,
    pub(crate) events: VecDeque<Event>,
    pub(crate) out: VecDeque<Datagram>,
    /// Associations with control segments to send.
    pub(crate) ready: BTreeSet<NodeId>,
    next_id: u64,
    /// Bytes in control buffers, over all associations.
    pub(crate) buffered: usize,
}

impl Core {
    pub(crate) fn new(config: Config, seed: [u8; 32], unix: UnixMicros, now: Instant) -> Self {
        let own = config.identity.node_id();
        let none = [[0; 32]];
        let given = if config.secrets.is_empty() { &none[..] } else { &config.secrets[..] };
        let secrets = given.iter().take(MAX_SECRETS).map(|psk| Secret {
            psk: Zeroizing::new(*psk),
            id: psk_id(psk),
            to_us: HandshakeMac::new(&own, psk),
        });
        Self {
            own,
            secrets: secrets.collect(),
            config,
            rng: Rng::new(seed),
            now,
            unix: (unix, now),
            keys: KeyTable::default(),
            indexes: Indexes::default(),
            events: VecDeque::new(),
            out: VecDeque::new(),
            ready: BTreeSet::new(),
            next_id: 0,
            buffered: 0,
        }
    }

    /// Time never goes back for us, whatever the caller says.
    pub(crate) fn tick(&mut self, now: Instant) -> Instant {
        self.now = self.now.max(now);
        self.now
    }

    pub(crate) fn set_unix(&mut self, unix: UnixMicros, now: Instant) {
        self.unix = (unix, now);
    }

    /// The wall clock, which only orders handshakes.
    pub(crate) fn unix(&self, now: Instant) -> UnixMicros {
        let passed = u64::try_from(now.since(self.unix.1).as_micros()).unwrap_or(u64::MAX);
        self.unix.0.saturating_add(passed)
    }

    /// A number nothing else of this node has.
    pub(crate) fn next_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Half of an association id: random, never 0.
    pub(crate) fn association_id(&mut self) -> u64 {
        self.rng.u64().max(1)
    }

    pub(crate) fn is_stub(&self) -> bool {
        self.config.class == Class::Stub
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.events.push_back(event);
    }

    pub(crate) fn send(&mut self, peer: Option<NodeId>, to: To, bytes: Vec<u8>) {
        self.out.push_back(Datagram { peer, to, bytes });
    }
}

impl core::fmt::Debug for Core {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Core").field("own", &self.own).field("now", &self.now).finish_non_exhaustive()
    }
}
