//! Every dropped packet has a counted reason; this is the closed list of them.
//!
//! The word of a reason is part of the outside interface (metrics, `sinew drops`), so it is
//! never changed once released.

use core::fmt;

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $name:ident = $word:literal),+ $(,)?) => {
        /// Why a packet, record or message went no further.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum DropReason { $($(#[$doc])* $name),+ }

        impl DropReason {
            /// Every reason, in a fixed order.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The stable word for JSON and metrics.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word),+ }
            }
        }
    };
}

drop_reasons! {
    // --- from the wire, before anything is known of the sender ---
    /// Shorter, longer or otherwise not of its declared shape.
    Malformed = "malformed",
    /// A record type we do not know.
    UnknownType = "unknown_type",
    /// No session has this receiver index.
    UnknownIndex = "unknown_index",
    /// The AEAD tag did not verify.
    Forged = "forged",
    /// The counter was seen before or lies behind the window.
    Replayed = "replayed",
    /// The epoch's keys are erased or revoked.
    KeyExpired = "key_expired",
    /// A lane above the agreed maximum.
    BadLane = "bad_lane",
    /// A handshake whose mac1 does not verify.
    BadMac1 = "bad_mac1",
    /// Under load and without a valid cookie; a cookie was sent.
    CookieRequired = "cookie_required",
    /// More handshakes than the source may start.
    RateLimited = "rate_limited",
    /// A handshake that did not decrypt or proved an invalid identity.
    BadHandshake = "bad_handshake",
    /// A handshake from ourselves (a reflection, or our key on two hosts).
    SelfHandshake = "self_handshake",
    /// A stranger, and `accept = "listed"`.
    NotListed = "not_listed",
    /// A handshake older than one already confirmed.
    StaleHandshake = "stale_handshake",
    /// A bounded table has no room.
    TableFull = "table_full",
    // --- routed records ---
    /// The adjacency number is not the current one, or there is no adjacency.
    WrongAdjacency = "wrong_adjacency",
    /// The watermark did not fall: a loop or a stale table.
    Watermark = "watermark",
    /// The hop limit ran out.
    HopLimit = "hop_limit",
    /// No route to the destination.
    NoRoute = "no_route",
    /// This node is a stub and carries nothing for others.
    NotATransit = "not_a_transit",
    /// Larger than the next link carries.
    TooBig = "too_big",
    /// A routed record inside a routed record, or a body type not allowed there.
    Nested = "nested",
    /// A congestion mark on a flow that cannot answer it (RFC 6040).
    EcnDrop = "ecn_drop",
    /// Reassembly of a fragmented record failed or was crowded out.
    Fragment = "fragment",
    // --- inner packets ---
    /// The inner packet is not a well-formed IP packet.
    BadInner = "bad_inner",
    /// The inner source is not the sender's address.
    SourceSpoofed = "source_spoofed",
    /// The inner destination is not ours.
    NotForUs = "not_for_us",
    /// Inbound closed by `[tun] inbound`.
    InboundClosed = "inbound_closed",
    /// Checksum or segmentation metadata that does not fit the packet.
    BadOffload = "bad_offload",
    /// The local packet's source is not an address of the device it came from.
    NotOurSource = "not_our_source",
    /// The local packet's destination is outside the mesh.
    NotMesh = "not_mesh",
    // --- private networks ---
    /// A handle that the sender did not agree on with us: no member, or not any more.
    NotBound = "not_bound",
    /// The inner source is not placed on the node that sent it, as far as our documents say.
    NotPlaced = "not_placed",
    /// The inner destination belongs to nobody in the network.
    NoPlace = "no_place",
    /// Refused by the network's policy.
    Policy = "policy",
    /// A workload's packet to a group, a link-local address or everybody.
    NotUnicast = "not_unicast",
    /// A source route: where the packet would go in the end is not what its destination says.
    SourceRouted = "source_routed",
    /// From a device of no network that this node knows.
    NoNetwork = "no_network",
    // --- queues ---
    /// Waiting for a session or a route took too long or too much room.
    HoldQueue = "hold_queue",
    /// The carrier would not take more.
    SendQueue = "send_queue",
    /// The TUN would not take more.
    TunQueue = "tun_queue",
    /// Keys are used up; a rekey is under way.
    LaneExhausted = "lane_exhausted",
    /// No session with the peer yet.
    NoSession = "no_session",
    /// More for this peer than `limit` under `[[peer]]` or `[peering]` lets through.
    PeerLimit = "peer_limit",
    /// More for others than `[transit] limit` lets through.
    TransitLimit = "transit_limit",
    /// A kind or feature that this version does not carry.
    Unsupported = "unsupported",
    // --- control ---
    /// A routing claim whose signature does not verify.
    ForgedOrigin = "forged_origin",
    /// A metric that its chain value does not prove.
    UnprovenMetric = "unproven_metric",
    /// A control message outside the rules.
    BadControl = "bad_control",
    /// An error report that names no record of ours.
    UnmatchedError = "unmatched_error",
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Counters by reason; plain integers, one set per worker, summed when somebody asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drops([u64; DropReason::ALL.len()]);

impl Default for Drops {
    fn default() -> Self {
        Self([0; DropReason::ALL.len()])
    }
}

impl Drops {
    /// Counts one.
    pub fn count(&mut self, reason: DropReason) {
        self.add(reason, 1);
    }

    /// Counts `n`.
    pub fn add(&mut self, reason: DropReason, n: u64) {
        self.0[reason as usize] += n;
    }

    /// How many for `reason`.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// All reasons that happened, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().map(|&r| (r, self.get(r))).filter(|&(_, n)| n > 0)
    }

    /// Adds another set to this one.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const PAGE: &str = include_str!("../../../docs/operating/drops.md");

    /// The words that have a row of their own on the page: first cell, in backticks.
    fn explained() -> Vec<&'static str> {
        let cells = PAGE.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
        cells.map(|(word, _)| word).collect()
    }

    #[test]
    fn every_reason_is_explained_to_operators_once() {
        let explained = explained();
        for reason in DropReason::ALL {
            let rows = explained.iter().filter(|word| **word == reason.as_str()).count();
            assert_eq!(rows, 1, "docs/operating/drops.md has {rows} rows for `{reason}`");
        }
    }

    #[test]
    fn the_page_explains_no_reason_that_does_not_exist() {
        let words: BTreeSet<_> = DropReason::ALL.iter().map(|reason| reason.as_str()).collect();
        for word in explained() {
            assert!(words.contains(word), "docs/operating/drops.md explains `{word}`, which no code counts");
        }
    }

    #[test]
    fn every_reason_has_a_word_of_its_own() {
        let words: BTreeSet<_> = DropReason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words.len(), DropReason::ALL.len());
    }

    #[test]
    fn counts_of_two_sets_add_up() {
        let (mut a, mut b) = (Drops::default(), Drops::default());
        a.count(DropReason::Forged);
        b.add(DropReason::Forged, 2);
        b.count(DropReason::NoRoute);
        a.merge(&b);
        let counts: Vec<_> = a.iter().collect();
        assert_eq!(counts, [(DropReason::Forged, 3), (DropReason::NoRoute, 1)]);
    }
}
