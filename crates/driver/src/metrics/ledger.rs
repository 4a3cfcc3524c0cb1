//! Traffic of peers by carrier.
//!
//! A link counts what it carries, whichever carrier that is at the moment. A counter that moved from one label to
//! another with the link would be counted twice by whoever sums it up, so what a link has carried since the last look
//! is put down under the carrier in use. What passes between a change of carrier and the next look stands under the
//! later one.

use std::collections::{BTreeMap, BTreeSet};

use sinew_node::PeerStatus;
use sinew_types::{CarrierKind, NodeId};

/// Bytes and records, received and sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    pub(super) rx_bytes: u64,
    pub(super) tx_bytes: u64,
    pub(super) rx_packets: u64,
    pub(super) tx_packets: u64,
}

impl Traffic {
    const fn of(peer: &PeerStatus) -> Self {
        let PeerStatus { rx_bytes, tx_bytes, rx_packets, tx_packets, .. } = *peer;
        Self { rx_bytes, tx_bytes, rx_packets, tx_packets }
    }

    /// What came after `before`; all of it if this began anew.
    fn since(self, before: Self) -> Self {
        let less = || {
            Some(Self {
                rx_bytes: self.rx_bytes.checked_sub(before.rx_bytes)?,
                tx_bytes: self.tx_bytes.checked_sub(before.tx_bytes)?,
                rx_packets: self.rx_packets.checked_sub(before.rx_packets)?,
                tx_packets: self.tx_packets.checked_sub(before.tx_packets)?,
            })
        };
        less().unwrap_or(self)
    }

    const fn add(&mut self, more: Self) {
        self.rx_bytes += more.rx_bytes;
        self.tx_bytes += more.tx_bytes;
        self.rx_packets += more.rx_packets;
        self.tx_packets += more.tx_packets;
    }
}

#[derive(Debug, Default)]
struct Account {
    /// The link's counters at the last look.
    seen: Traffic,
    carriers: BTreeMap<CarrierKind, Traffic>,
}

/// An account for each peer that there is.
#[derive(Debug, Default)]
pub(super) struct Ledger(BTreeMap<NodeId, Account>);

impl Ledger {
    /// Takes down what has come since; forgets peers that are gone.
    pub(super) fn note(&mut self, peers: &[PeerStatus]) {
        let known: BTreeSet<_> = peers.iter().map(|peer| peer.node).collect();
        self.0.retain(|peer, _| known.contains(peer));
        for peer in peers {
            // Without a link there are no counters; the account stays for the next one.
            let Some(path) = peer.path else { continue };
            let account = self.0.entry(peer.node).or_default();
            let now = Traffic::of(peer);
            account.carriers.entry(path.carrier).or_default().add(now.since(account.seen));
            account.seen = now;
        }
    }

    /// What a peer's links have carried, by carrier.
    pub(super) fn of(&self, peer: &NodeId) -> impl Iterator<Item = (CarrierKind, Traffic)> + '_ {
        self.0
            .get(peer)
            .into_iter()
            .flat_map(|account| account.carriers.iter().map(|(kind, sum)| (*kind, *sum)))
    }
}

#[cfg(test)]
mod tests {
    use sinew_types::PathAddr;

    use super::super::page::samples::peer;
    use super::*;

    fn look(ledger: &mut Ledger, carrier: Option<CarrierKind>, bytes: u64) -> Vec<(CarrierKind, u64)> {
        let remote = "10.0.0.2:7463".parse().unwrap();
        let path = carrier.map(|carrier| PathAddr { carrier, local: 0, remote });
        let peer = PeerStatus { path, rx_bytes: bytes, tx_bytes: 2 * bytes, ..peer(1) };
        ledger.note(std::slice::from_ref(&peer));
        ledger.of(&peer.node).map(|(carrier, sum)| (carrier, sum.rx_bytes)).collect()
    }

    #[test]
    fn each_byte_stands_under_one_carrier_whatever_the_link_does() {
        use CarrierKind::{Tcp, Udp};
        let mut ledger = Ledger::default();
        for (what, carrier, counter, expected) in [
            ("the first look", Some(Udp), 100, vec![(Udp, 100)]),
            ("more", Some(Udp), 150, vec![(Udp, 150)]),
            ("another carrier goes on with the same counter", Some(Tcp), 170, vec![(Udp, 150), (Tcp, 20)]),
            ("no link", None, 0, vec![(Udp, 150), (Tcp, 20)]),
            ("the same link again", Some(Udp), 175, vec![(Udp, 155), (Tcp, 20)]),
            ("a new link from nothing", Some(Udp), 10, vec![(Udp, 165), (Tcp, 20)]),
        ] {
            assert_eq!(look(&mut ledger, carrier, counter), expected, "{what}");
        }
        ledger.note(&[]);
        assert_eq!(ledger.0.len(), 0, "a peer that is gone is kept");
    }
}
