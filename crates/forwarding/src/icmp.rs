//! What the local system is told when its packet went no further: ICMP answers, few of them.
//!
//! A token bucket bounds all answers together (RFC 4443 §2.4f), and "too big" is said once in ten
//! seconds for each destination (protocol A4), unless the size fell again: the kernel remembers it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use sinew_types::{DropReason, Instant};
use sinew_wire::icmp::{V4Error, V6Error, build_v4_error, build_v6_error};
use sinew_wire::ip::PacketInfo;

/// Answers a second, and how many may come at once.
const RATE: u64 = 100;
const BURST: u64 = 100;
/// What one answer costs in the bucket, which counts microseconds.
const COST_US: u64 = 1_000_000 / RATE;
/// How often one destination's size is told.
const TOO_BIG_EVERY: Duration = Duration::from_secs(10);
/// Destinations remembered for that.
const TOLD_MAX: usize = 1024;
/// The least MTU an IPv6 link may have (RFC 8200 §5).
const V6_MTU_MIN: u16 = 1280;

/// What became of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// No route to the destination.
    NoRoute,
    /// A route, but the destination does not answer.
    Unreachable,
    /// Refused by policy.
    Prohibited,
    /// Larger than the path carries.
    TooBig {
        /// The largest inner packet that passes.
        mtu: u16,
    },
    /// The hop limit ran out.
    HopLimit,
}

impl Cause {
    /// The answer that goes with the drop of a local packet, if there is one. What was dropped on its
    /// way in gets none: silence is the policy's word.
    pub const fn of(reason: DropReason) -> Option<Self> {
        match reason {
            DropReason::NoRoute | DropReason::NotATransit => Some(Self::NoRoute),
            DropReason::NoSession | DropReason::HoldQueue => Some(Self::Unreachable),
            DropReason::HopLimit => Some(Self::HopLimit),
            _ => None,
        }
    }

    const fn v6(self) -> V6Error {
        match self {
            Self::NoRoute => V6Error::NoRoute,
            Self::Unreachable => V6Error::AddressUnreachable,
            Self::Prohibited => V6Error::Prohibited,
            Self::TooBig { mtu } => {
                let mtu = if mtu < V6_MTU_MIN { V6_MTU_MIN } else { mtu };
                V6Error::PacketTooBig { mtu: mtu as u32 }
            }
            Self::HopLimit => V6Error::HopLimit,
        }
    }

    const fn v4(self) -> V4Error {
        match self {
            Self::NoRoute => V4Error::NetUnreachable,
            Self::Unreachable => V4Error::HostUnreachable,
            Self::Prohibited => V4Error::Prohibited,
            Self::TooBig { mtu } => V4Error::FragNeeded { mtu },
            Self::HopLimit => V4Error::TimeExceeded,
        }
    }
}

/// Makes answers, at a bounded rate.
#[derive(Debug)]
pub struct Answers {
    v6: Ipv6Addr,
    v4: Ipv4Addr,
    /// Microseconds of credit, and when they were counted.
    credit: u64,
    counted: Instant,
    /// When which size was told about a destination.
    told: BTreeMap<IpAddr, (Instant, u16)>,
}

impl Answers {
    /// Answers that come from these addresses (for IPv4 without one of our own, give 192.0.0.8,
    /// the dummy address of RFC 7600).
    pub const fn new(v6: Ipv6Addr, v4: Ipv4Addr, now: Instant) -> Self {
        Self { v6, v4, credit: BURST * COST_US, counted: now, told: BTreeMap::new() }
    }

    /// The packet to write to the TUN because `offending`, read from it, met `cause`; `None` if
    /// there is nothing to say, or too much has been said.
    pub fn answer(&mut self, cause: Cause, offending: &[u8], now: Instant) -> Option<Vec<u8>> {
        let info = PacketInfo::parse_quote(offending).ok()?;
        if let Cause::TooBig { mtu } = cause
            && self.knows(info.dst, mtu, now)
        {
            return None;
        }
        if !self.spend(now) {
            return None;
        }
        let answer = match info.dst {
            IpAddr::V6(_) => build_v6_error(offending, self.v6, cause.v6()),
            IpAddr::V4(_) => build_v4_error(offending, self.v4, cause.v4()),
        }?;
        if let Cause::TooBig { mtu } = cause {
            self.remember(info.dst, mtu, now);
        }
        Some(answer)
    }

    fn knows(&self, dst: IpAddr, mtu: u16, now: Instant) -> bool {
        self.told.get(&dst).is_some_and(|&(at, told)| mtu >= told && now.since(at) < TOO_BIG_EVERY)
    }

    /// Remembers what was told; a full memory costs repeated answers, which the bucket bounds.
    fn remember(&mut self, dst: IpAddr, mtu: u16, now: Instant) {
        if self.told.len() >= TOLD_MAX {
            self.told.retain(|_, &mut (at, _)| now.since(at) < TOO_BIG_EVERY);
        }
        if self.told.len() < TOLD_MAX {
            self.told.insert(dst, (now, mtu));
        }
    }

    fn spend(&mut self, now: Instant) -> bool {
        let passed = u64::try_from(now.since(self.counted).as_micros()).unwrap_or(u64::MAX);
        self.credit = self.credit.saturating_add(passed).min(BURST * COST_US);
        self.counted = now;
        let enough = self.credit >= COST_US;
        if enough {
            self.credit -= COST_US;
        }
        enough
    }
}

#[cfg(test)]
mod tests;
