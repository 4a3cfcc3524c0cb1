//! First fragments that were let through, so that the rest of their packets may follow.
//!
//! Only a first fragment has the ports that a filter judges by. The later ones pass for a second
//! behind an accepted first one (protocol A7), and are refused before it or without it, or if they would
//! overwrite a part of it: what was judged is what must arrive (RFC 1858 §4, RFC 5722).

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use sinew_types::Instant;
use sinew_wire::ip::{PacketInfo, Version};

/// First fragments remembered, and for how long.
pub(crate) const FRAGMENTS_MAX: usize = 1024;
const FRAGMENT_LIFE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Key {
    src: IpAddr,
    dst: IpAddr,
    protocol: u8,
    id: u32,
}

impl Key {
    /// RFC 791 §3.2 names a fragmented packet with its protocol, RFC 8200 §4.5 without.
    fn of(info: &PacketInfo) -> Self {
        let protocol = if info.version == Version::V4 { info.protocol } else { 0 };
        Self { src: info.src, dst: info.dst, protocol, id: info.fragment_id }
    }
}

#[derive(Clone, Copy, Debug)]
struct Accepted {
    until: Instant,
    /// How much of the packet it held, bytes.
    end: u32,
}

/// The memory.
#[derive(Debug, Default)]
pub(crate) struct Fragments {
    accepted: BTreeMap<Key, Accepted>,
    /// The keys above in the order of their age.
    ages: VecDeque<Key>,
}

impl Fragments {
    /// Whether a first fragment of this packet was accepted lately.
    pub(crate) fn follows(&self, info: &PacketInfo, now: Instant) -> bool {
        let first = self.accepted.get(&Key::of(info));
        first.is_some_and(|first| now < first.until && info.fragment_range.0 >= first.end)
    }

    /// Remembers an accepted first fragment.
    pub(crate) fn remember(&mut self, info: &PacketInfo, now: Instant) {
        let key = Key::of(info);
        while let Some(oldest) = self.ages.front() {
            let expired = self.accepted.get(oldest).is_none_or(|first| first.until <= now);
            if !expired && self.accepted.len() < FRAGMENTS_MAX {
                break;
            }
            self.accepted.remove(oldest);
            self.ages.pop_front();
        }
        let first = Accepted { until: now + FRAGMENT_LIFE, end: info.fragment_range.1 };
        if self.accepted.insert(key, first).is_none() {
            self.ages.push_back(key);
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.accepted.len()
    }
}
