//! Where others see us, and what that tells of the translator in between (protocol A10.1, RFC 4787).
//!
//! Every neighbour says from which address our records come. One view gives an address to be reached
//! at; several views, from neighbours at several addresses, show whether the translator keeps one
//! outside for all far ends or makes a new one for each. All views are claims: a liar can add an
//! address that is not ours, which costs those who try it a few small packets and us nothing.
//!
//! What a neighbour sees of a connection is a view as well, for people: its port is another for each, so
//! it says nothing of mappings, and nobody could send a datagram there.

use std::net::{IpAddr, SocketAddr};

use sinew_types::{CarrierKind, Instant, NodeId};
use sinew_wire::punch::{Guess, Mapping};

/// Views kept at most; the oldest goes first.
const MAX_VIEWS: usize = 32;
/// Addresses told to others at most, of each family.
const MAX_TOLD: usize = 2;
/// Ports of a translator that counts are no further apart than this.
const MAX_STEP: u16 = 16;

/// One neighbour's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Whose.
    pub peer: NodeId,
    /// What it sees us by.
    pub carrier: CarrierKind,
    /// Where that neighbour is, as we send to it: the far end of the mapping.
    pub remote: SocketAddr,
    /// Our address, as it says.
    pub seen: SocketAddr,
    /// When it first said so.
    pub since: Instant,
}

/// All views.
#[derive(Debug, Default)]
pub struct Reflexive {
    views: Vec<View>,
}

impl Reflexive {
    /// `peer` at `remote` sees our datagrams come from `seen`. Whether that is news.
    pub fn note(&mut self, peer: NodeId, remote: SocketAddr, seen: SocketAddr, now: Instant) -> bool {
        self.keep(View { peer, carrier: CarrierKind::Udp, remote, seen, since: now })
    }

    /// `peer` sees a connection of ours come from there. Whether that is news.
    pub fn note_connection(&mut self, view: View) -> bool {
        view.carrier.has_connections() && self.keep(view)
    }

    fn keep(&mut self, view: View) -> bool {
        let View { seen, remote, .. } = view;
        if seen.port() == 0 || seen.ip().is_unspecified() || seen.is_ipv4() != remote.is_ipv4() {
            return false;
        }
        let of = |view: &View| (view.peer, view.carrier, view.remote);
        if let Some(at) = self.views.iter().position(|known| of(known) == of(&view)) {
            if self.views[at].seen == seen {
                return false;
            }
            self.views.remove(at);
        } else if self.views.len() >= MAX_VIEWS {
            // Those of connections first: only people look at them.
            let at = self.views.iter().position(|known| known.carrier.has_connections());
            self.views.remove(at.unwrap_or(0));
        }
        self.views.push(view);
        true
    }

    /// Every view, the oldest first.
    pub fn views(&self) -> &[View] {
        &self.views
    }

    /// Those of datagrams: what holds for one far end may hold for the next.
    fn datagrams(&self) -> impl DoubleEndedIterator<Item = &View> {
        self.views.iter().filter(|view| view.carrier == CarrierKind::Udp)
    }

    /// The link with `peer` is gone: its view ages from here on, and is soon worth nothing.
    pub fn forget(&mut self, peer: &NodeId) {
        self.views.retain(|view| view.peer != *peer);
    }

    /// The addresses at which others see us and that are none of `own`, those most often seen first.
    pub fn addresses(&self, own: &[SocketAddr]) -> Vec<SocketAddr> {
        let mut counted: Vec<(usize, SocketAddr)> = Vec::new();
        for view in self.datagrams().rev().filter(|view| !own.contains(&view.seen)) {
            match counted.iter_mut().find(|(_, seen)| *seen == view.seen) {
                Some((count, _)) => *count += 1,
                None => counted.push((1, view.seen)),
            }
        }
        // Stable: among equals the newest stays first.
        counted.sort_by_key(|&(count, _)| core::cmp::Reverse(count));
        let of_family = |ipv6: bool| {
            let same = counted.iter().map(|&(_, seen)| seen).filter(move |seen| seen.is_ipv6() == ipv6);
            same.take(MAX_TOLD).collect::<Vec<_>>()
        };
        [of_family(false), of_family(true)].concat()
    }

    /// Every address under which somebody sees us, our own ones included.
    pub fn seen(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.datagrams().map(|view| view.seen.ip())
    }

    /// How the translator in front of our sockets of one family maps.
    pub fn mapping(&self, ipv6: bool, own: &[SocketAddr]) -> Mapping {
        let views: Vec<_> = self.datagrams().filter(|view| view.seen.is_ipv6() == ipv6).collect();
        let translated: Vec<_> = views.iter().filter(|view| !own.contains(&view.seen)).collect();
        if translated.is_empty() {
            return if views.is_empty() { Mapping::Unknown } else { Mapping::Open };
        }
        let mut best = Mapping::Unknown;
        for (at, one) in translated.iter().enumerate() {
            // Two translators, as a neighbour on the inside of one would show, are not compared.
            for other in translated[..at].iter().filter(|other| other.seen.ip() == one.seen.ip()) {
                let same_far_end = other.remote.ip() == one.remote.ip();
                let found = match (other.seen == one.seen, same_far_end) {
                    (true, false) => Mapping::EndpointIndependent,
                    (true, true) => Mapping::Unknown,
                    (false, true) => Mapping::AddressAndPortDependent,
                    (false, false) => Mapping::AddressDependent,
                };
                best = best.max(found);
            }
        }
        best
    }

    /// The ports that the next mappings should get, if the last ones followed each other.
    pub fn guess(&self, ipv6: bool, own: &[SocketAddr]) -> Option<Guess> {
        if !self.mapping(ipv6, own).is_dependent() {
            return None;
        }
        let mut views: Vec<_> =
            self.datagrams().filter(|v| v.seen.is_ipv6() == ipv6 && !own.contains(&v.seen)).collect();
        views.sort_by_key(|view| view.since);
        let ip = views.last()?.seen.ip();
        let mut ports: Vec<u16> = views.iter().filter(|v| v.seen.ip() == ip).map(|v| v.seen.port()).collect();
        // Mappings are made in the order in which we dial, and views come in any: two that fall are two that
        // rise, the first of which came late. Translators that count downwards are rare.
        if ports.len() < 3 || !ports.is_sorted_by(|one, next| one > next) {
            ports.sort_unstable();
        }
        let steps: Vec<i32> = ports.windows(2).map(|two| i32::from(two[1]) - i32::from(two[0])).collect();
        // Others' mappings may lie in between, so the steps differ; but all go one way and are short.
        let near = |step: &i32| *step != 0 && step.unsigned_abs() <= u32::from(MAX_STEP);
        let one_way = steps.iter().all(|step| step.signum() == steps[0].signum());
        if steps.is_empty() || !one_way || !steps.iter().all(near) {
            return None;
        }
        let step = steps.iter().copied().min_by_key(|step| step.unsigned_abs())?;
        Some(Guess { ip, port: *ports.last()?, step: i8::try_from(step).ok()? })
    }
}

#[cfg(test)]
mod tests;
