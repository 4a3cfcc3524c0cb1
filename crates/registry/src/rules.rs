//! What the operator of a gateway has decided.

use std::collections::BTreeSet;

use sinew_types::NodeId;

/// How long a name or port stays with its network after its last valid claim (protocol A8), seconds.
pub(crate) const HOLD: u64 = 30 * DAY;
/// Notice before a name changes hands by the operator's word, seconds.
pub(crate) const NOTICE: u64 = 7 * DAY;
/// How long a tombstone is kept after the claim that it ends has run out, seconds.
pub(crate) const TOMBSTONE: u64 = DAY;
/// Longest life of a claim, and what the publisher's clock may be ahead, seconds.
pub(crate) const LIFE_MAX: u64 = 7 * DAY + 3600;
/// A day, seconds.
pub(crate) const DAY: u64 = 86_400;

/// Services of one network, living or withdrawn a short while ago.
pub(crate) const PER_NETWORK: usize = 64;
/// Own domains of one network, proved or not.
pub(crate) const DOMAINS_PER_NETWORK: usize = 32;
/// Services of all networks, names that are held, proofs: each at most so many, since keys cost nothing.
pub(crate) const TOTAL: usize = 8192;

/// Whose services are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accept {
    /// Everybody's.
    Any,
    /// Those of these keys: of a network, whoever in it publishes, or of who publishes, in whatever network.
    Keys(BTreeSet<NodeId>),
}

/// A range of ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// Lowest.
    pub first: u16,
    /// Highest; not below `first`.
    pub last: u16,
}

impl PortRange {
    /// How many there are.
    pub const fn count(self) -> u32 {
        self.last as u32 - self.first as u32 + 1
    }

    /// The port at a place counted from the first, round and round.
    pub(crate) fn at(self, place: u32) -> u16 {
        self.first + u16::try_from(place % self.count()).unwrap_or(0)
    }

    /// Whether the port is one of them.
    pub(crate) const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

/// What a gateway takes, and under which domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The gateway's own domain, in lower case: names are handed out below it. None: only own domains and ports.
    pub domain: Option<String>,
    /// The gateway that decides on these names, if it is another: its list is followed.
    pub registrar: Option<NodeId>,
    /// Domains that are nobody's to publish, as the gateway answers them itself inside the mesh.
    pub internal: Vec<String>,
    /// Labels below the domain that nobody gets, beside [`crate::RESERVED`].
    pub reserved: BTreeSet<String>,
    /// Whose services are taken.
    pub accept: Accept,
    /// Names that one network may hold, and ports.
    pub per_network: u32,
    /// Ports for services over TCP.
    pub tcp: Option<PortRange>,
    /// Ports for services over UDP.
    pub udp: Option<PortRange>,
}
