//! How large packets may be toward peers behind relays: one search for each session that has no
//! direct path, begun anew when the way changes.

use sinew_path::Search;
use sinew_session::Target;
use sinew_types::{Instant, MeshAddr, NodeId};

use crate::node::{Node, RoutedSearch};
use crate::worker::MIN_INNER_MTU;

const ROUTED_OVERHEAD: u16 = sinew_wire::routed::ROUTED_OVERHEAD as u16;

impl Node {
    /// Begins the size search toward a peer that is reached through `via` and no direct path.
    pub(crate) fn start_search(&mut self, peer: NodeId, now: Instant) {
        let addr = peer.address();
        let Some(entry) = self.fib.get(&addr) else { return };
        let via = entry.next_hop;
        // While a direct path is tried, there is no telling whether records will go over relays at all.
        if self.links.contains_key(&peer) || !self.is_up(&peer) || self.sessions.is_trying(&peer) {
            return;
        }
        if self.searches.get(&peer).is_some_and(|routed| routed.via == via) {
            return;
        }
        let Some(link) = self.link_info.get(&via) else { return };
        let ceiling = (link.payload() as u16).saturating_sub(ROUTED_OVERHEAD);
        let search = Search::new(28 + ROUTED_OVERHEAD, ceiling, now);
        self.searches.insert(peer, RoutedSearch { search, via, probe: None });
    }

    pub(crate) fn tend_searches(&mut self, now: Instant) {
        let due = |routed: &RoutedSearch| routed.search.poll_timeout().is_some_and(|(at, _)| at <= now);
        let peers: Vec<_> = self.searches.iter().filter(|(_, routed)| due(routed)).map(|(p, _)| *p).collect();
        for peer in peers {
            self.tend_search(peer, now);
        }
    }

    pub(crate) fn tend_search(&mut self, peer: NodeId, now: Instant) {
        let Some(routed) = self.searches.get_mut(&peer) else { return };
        let changed = routed.search.handle_timeout(now);
        if let Some(size) = routed.search.poll_probe(now) {
            let id = self.sessions.mtu_probe(peer, Target::Routed, size, now);
            routed.probe = Some((id, size));
        }
        if changed {
            self.publish_mtu(peer);
        }
    }

    pub(crate) fn on_mtu_ack(&mut self, peer: NodeId, id: u32, now: Instant) {
        if let Some(link) = self.links.get_mut(&peer)
            && link.on_mtu_ack(id, now)
        {
            self.restart_searches_via(&peer.address(), now);
            self.tend_link(peer, now);
            return;
        }
        let Some(routed) = self.searches.get_mut(&peer) else { return };
        if let Some((probe, size)) = routed.probe
            && probe == id
            && routed.search.on_acked(size, now)
        {
            self.publish_mtu(peer);
        }
        self.tend_search(peer, now);
    }

    /// A relay says that the probe `id` was too big for it, and that `hint` bytes pass.
    pub(crate) fn on_probe_too_big(&mut self, peer: NodeId, id: u32, hint: u16, now: Instant) {
        let Some(routed) = self.searches.get_mut(&peer) else { return };
        let Some((_, size)) = routed.probe.filter(|&(probe, _)| probe == id) else { return };
        if routed.search.on_probe_too_big(size, hint, now) {
            self.publish_mtu(peer);
        }
        self.tend_search(peer, now);
    }

    pub(crate) fn publish_mtu(&mut self, peer: NodeId) {
        let Some(routed) = self.searches.get(&peer) else { return };
        let inner = routed.search.payload().saturating_sub(sinew_wire::record::DATA_OVERHEAD as u16);
        self.fib.set_mtu(&peer.address(), inner.max(MIN_INNER_MTU));
    }

    /// The first link's size changed: what lies behind it may carry more, or less.
    pub(crate) fn restart_searches_via(&mut self, via: &MeshAddr, now: Instant) {
        let behind = |routed: &RoutedSearch| routed.via == *via;
        let peers: Vec<_> = self.searches.iter().filter(|(_, r)| behind(r)).map(|(p, _)| *p).collect();
        for peer in peers {
            self.searches.remove(&peer);
            self.start_search(peer, now);
        }
    }
}
