//! A link: the validated direct path to a peer, watched, measured and sized while it lives.
//!
//! It ties three small machines of `sinew-path` to one peer. The fast path only counts what it
//! sends and receives; a link that carries data is looked at every 50 ms until it rests, so that
//! silence is noticed well under a second, and an idle link costs a hello every few seconds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sinew_path::{Action, BASE_PAYLOAD, Liveness, Quality, Search, Upkeep};
use sinew_types::{CarrierKind, Instant, Metric, PathAddr, Rng};

use crate::worker::LinkInfo;

/// How often a link in use is looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(50);
/// Without data for so long, a link is no longer watched closely.
const REST_AFTER: Duration = Duration::from_secs(2);
/// Largest record on a stream: a device MTU with every header, and room to grow.
const STREAM_PAYLOAD: u16 = 16_000;
/// What QUIC adds to a record.
const QUIC_OVERHEAD: u16 = 38;
/// Largest datagram we ever try: jumbo frames.
const DATAGRAM_CEILING: u16 = 8_952;
/// Bulk traffic fills at least so many packets between two looks; once it does not for so long, packets
/// of its size may be vanishing.
const BULK: u64 = 4;
const HUSH: Duration = Duration::from_millis(150);
/// Pings whose answers are still of interest.
const MAX_PINGS: usize = 16;

/// What a link wants sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkAction {
    Ping,
    ProbeMtu(u16),
    Dead,
    /// It carries less than a link must.
    Narrow,
}

/// One link.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) path: PathAddr,
    pub(crate) since: Instant,
    /// The adjacency's number while routing speaks over this link.
    pub(crate) adj: Option<u8>,
    /// Whether the router knows of this neighbour.
    pub(crate) routing: bool,
    pub(crate) quality: Quality,
    pub(crate) info: Arc<LinkInfo>,
    liveness: Liveness,
    mtu: Option<Search>,
    watch: Option<Instant>,
    last_data: Instant,
    /// Packets sent when last looked.
    sent: u64,
    /// Bytes sent when last watched, and when there was last bulk among them.
    watched: u64,
    bulk: Option<Instant>,
    pings: BTreeMap<u32, Instant>,
    mtu_probe: Option<(u32, u16)>,
    upkeep: Upkeep,
    /// When something was sent that we know of, and the silence before it.
    last_sent: Instant,
    silence: Duration,
    /// The peer has said where it sees us.
    observed: bool,
    /// A path in reserve that was nearer at the last measurements, and at how many of them.
    pub(crate) nearer: Option<(PathAddr, u32)>,
}

impl Link {
    pub(crate) fn new(path: PathAddr, cost: Metric, rng: Rng, now: Instant) -> Self {
        let overhead = if path.remote.is_ipv6() { 48 } else { 28 };
        let mtu = match path.carrier {
            CarrierKind::Udp => Some(Search::new(overhead, DATAGRAM_CEILING, now)),
            // Until it has said what it carries, it is what every link must.
            CarrierKind::Quic => Some(Search::new(overhead + QUIC_OVERHEAD, BASE_PAYLOAD, now)),
            CarrierKind::Tcp | CarrierKind::Wss => None,
        };
        let payload = mtu.as_ref().map_or(STREAM_PAYLOAD, Search::payload);
        Self {
            path,
            since: now,
            adj: None,
            routing: false,
            quality: Quality::new(Duration::from_millis(cost.millis())),
            info: Arc::new(LinkInfo::new(payload)),
            liveness: Liveness::new(rng, now),
            mtu,
            watch: None,
            last_data: now,
            sent: 0,
            watched: 0,
            bulk: None,
            pings: BTreeMap::new(),
            mtu_probe: None,
            upkeep: Upkeep::new(now),
            last_sent: now,
            silence: Duration::ZERO,
            observed: false,
            nearer: None,
        }
    }

    /// The fast path sent data after a rest.
    pub(crate) fn on_active(&mut self, now: Instant) {
        self.last_data = now;
        self.watch.get_or_insert(now + WATCH_INTERVAL);
    }

    pub(crate) fn on_ping_sent(&mut self, id: u32, now: Instant) {
        if self.pings.len() >= MAX_PINGS {
            self.pings.pop_first();
        }
        self.pings.insert(id, now);
        let last = self.last_sent.max(self.last_data);
        (self.silence, self.last_sent) = (now.since(last), now);
        self.liveness.set_rest(self.upkeep.interval(now));
        self.quality.on_probe_sent(id, now);
    }

    /// An answer to one of this link's pings; the cost, if routing must be told a new one.
    pub(crate) fn on_pong(&mut self, id: u32, rtt: Duration, now: Instant) -> Option<Option<Metric>> {
        self.pings.remove(&id)?;
        if self.liveness.is_asking_for_traffic()
            && let Some(search) = &mut self.mtu
        {
            // Traffic is not answered, and this small question is.
            search.on_suspected(now);
        }
        self.liveness.on_answered(now);
        let change = self.quality.on_probe_answered(id, rtt, now);
        self.liveness.set_loss(self.quality.loss_permille());
        if let Some(srtt) = self.quality.srtt() {
            self.liveness.set_rtt(srtt);
            if let Some(search) = &mut self.mtu {
                search.set_rtt(srtt);
            }
        }
        Some(change)
    }

    /// Whether traffic goes unanswered.
    pub(crate) const fn is_silent(&self) -> bool {
        self.liveness.is_asking_for_traffic()
    }

    /// The far end asks whether we are still there.
    pub(crate) fn on_doubted(&mut self, now: Instant) {
        self.liveness.on_doubted(now);
    }

    /// The host's network is another one: whether the path is still there, and how wide it is, is asked
    /// at once.
    pub(crate) fn on_network_changed(&mut self, now: Instant) {
        self.liveness.on_doubted(now);
        if let Some(search) = &mut self.mtu {
            search.on_network_changed(now);
        }
    }

    /// The peer says where it sees us: at first when the path comes up, and again if it had lost us or
    /// met us elsewhere. Then a translator has forgotten us while we were silent (protocol A10.7).
    pub(crate) fn on_observed(&mut self, now: Instant) {
        if std::mem::replace(&mut self.observed, true) {
            self.upkeep.on_lost(self.silence, now);
            self.liveness.set_rest(self.upkeep.interval(now));
        }
    }

    pub(crate) fn on_mtu_probe_sent(&mut self, id: u32, size: u16) {
        self.mtu_probe = Some((id, size));
    }

    /// An answered packet size probe; whether the usable size changed.
    pub(crate) fn on_mtu_ack(&mut self, id: u32, now: Instant) -> bool {
        let Some((_, size)) = self.mtu_probe.filter(|&(probe, _)| probe == id) else { return false };
        self.mtu.as_mut().is_some_and(|search| search.on_acked(size, now)) && self.publish_payload()
    }

    /// The local kernel refused a datagram of this size.
    pub(crate) fn on_refused(&mut self, size: u16, now: Instant) -> bool {
        self.mtu.as_mut().is_some_and(|search| search.on_refused(size, now)) && self.publish_payload()
    }

    /// What QUIC found out by itself; whether the usable size changed.
    pub(crate) fn on_payload(&mut self, payload: u16, now: Instant) -> bool {
        let search = self.mtu.as_mut().filter(|_| self.path.carrier == CarrierKind::Quic);
        search.is_some_and(|search| search.on_carrier_payload(payload, now)) && self.publish_payload()
    }

    fn publish_payload(&self) -> bool {
        if let Some(search) = &self.mtu {
            self.info.set_payload(search.payload());
        }
        true
    }

    /// Does what is due; call until it gives `None`.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<LinkAction> {
        self.read_counters(now);
        match self.liveness.poll(now) {
            Action::SendProbe => return Some(LinkAction::Ping),
            Action::Dead => return Some(LinkAction::Dead),
            Action::None => {}
        }
        let search = self.mtu.as_mut()?;
        let changed = search.handle_timeout(now);
        let probe = search.poll_probe(now);
        if search.is_too_narrow() {
            return Some(LinkAction::Narrow);
        }
        if changed {
            self.publish_payload();
        }
        probe.map(LinkAction::ProbeMtu)
    }

    /// Time passed for the measurements; the cost, if routing must be told a new one.
    pub(crate) fn settle(&mut self, now: Instant) -> Option<Metric> {
        self.quality.handle_timeout(now)
    }

    fn read_counters(&mut self, now: Instant) {
        let traffic = &self.info.traffic;
        let heard = Instant::from_micros(traffic.last_rx_us());
        if heard > self.liveness.last_heard() {
            self.liveness.on_received(heard);
        }
        if let Some(since) = traffic.unanswered_since_us() {
            self.liveness.on_sent(Instant::from_micros(since));
        }
        let counts = traffic.counts();
        if counts.tx_packets != self.sent {
            self.sent = counts.tx_packets;
            self.last_data = now;
            if let Some(search) = &mut self.mtu {
                search.on_used(now);
            }
        }
        if self.watch.is_some_and(|due| due <= now) {
            let bytes = counts.tx_bytes - std::mem::replace(&mut self.watched, counts.tx_bytes);
            self.watch_bulk(bytes, now);
        }
        if self.watch.is_some_and(|due| due <= now) {
            let resting = now.since(self.last_data) >= REST_AFTER;
            self.watch = (!resting).then(|| now + WATCH_INTERVAL);
            if resting {
                self.info.rest();
            }
        }
    }

    /// A bulk flow that falls silent has ended, or its packets are lost for their size: the sender is
    /// waiting for answers that do not come, while all that is small still passes.
    fn watch_bulk(&mut self, bytes: u64, now: Instant) {
        let Some(search) = &mut self.mtu else { return };
        let full = u64::from(search.payload());
        let patience = self.quality.srtt().unwrap_or_default().max(HUSH);
        if bytes >= BULK * full {
            self.bulk = Some(now);
        } else if bytes < 2 * full && self.bulk.take_if(|last| now.since(*last) >= patience).is_some() {
            search.on_suspected(now);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let timers = [
            self.watch.map(|at| (at, "link watch")),
            self.liveness.poll_timeout(),
            self.quality.poll_timeout(),
            self.mtu.as_ref().and_then(Search::poll_timeout),
        ];
        timers.into_iter().flatten().min_by_key(|&(at, _)| at)
    }
}
